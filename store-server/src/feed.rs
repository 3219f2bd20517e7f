//! Arrivals on their way to the streams that watch: one short queue a channel, each event encoded once an encoding.
//!
//! The queue forgets what a slow stream has not taken, and holds no large operations: a stream that misses something
//! reads it from the engine's feed, where it left off, and which logs have another base from [`Rebased`]. So no stream makes the server hold memory, and none misses anything.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use gigfs_core::api::LogHeader;
use gigfs_core::wire::{Event, LogRef, Message as _, ServerMessage, WireOp};
use gigfs_core::{ChannelName, LogName, UserName};
use gigfs_storage::{Appended, Arrival};
use parking_lot::Mutex;
use tokio::sync::broadcast;

use crate::rebased::Rebased;
use crate::stream::{Encoding, Frame};

/// The queues of the channels that somebody watches.
#[derive(Default)]
pub(crate) struct Hub {
    channels: Mutex<BTreeMap<(UserName, ChannelName), Queue>>,
    pub(crate) rebased: Rebased,
}

type Queue = broadcast::Sender<Arc<Published>>;

/// Something that happened to one log.
pub(crate) struct Published {
    /// What happened.
    pub(crate) what: What,
    /// The log.
    pub(crate) log: LogRef,
    /// Nothing where it is too large to be held here.
    message: Option<ServerMessage>,
    cbor: OnceLock<Frame>,
    json: OnceLock<Frame>,
}

/// What happens to a log.
#[derive(Debug, Clone, Copy)]
pub(crate) enum What {
    /// Operations arrived at consecutive positions, from the first to the last.
    Arrived { first: u64, last: u64 },
    /// It has another base, since the channel's last arrival was at this position. This has no position of its own: a
    /// stream that misses it is told by [`Rebased`].
    Pruned { at: u64 },
}

impl Hub {
    /// Returns the queue of a channel, from now on.
    pub(crate) fn subscribe(&self, user: &UserName, channel: &ChannelName) -> broadcast::Receiver<Arc<Published>> {
        let mut channels = self.channels.lock();
        let queue = channels.entry((user.clone(), channel.clone()));
        queue.or_insert_with(|| broadcast::channel(QUEUED_EVENTS_MAX).0).subscribe()
    }

    /// Tells the streams of arrivals, in the order of their positions.
    pub(crate) fn publish(&self, appended: &[Appended]) {
        let mut channels = self.channels.lock();
        channels.retain(|_, queue| queue.receiver_count() > 0);
        if channels.is_empty() {
            return;
        }
        let arrivals = appended.iter().filter_map(|appended| match appended {
            Appended::New(arrival) => Some(arrival),
            Appended::Known { .. } | Appended::Covered { .. } | Appended::Doubtful { .. } | Appended::Refused(_) => {
                None
            }
        });
        // Several channels may take turns in one commit.
        let mut by_channel: BTreeMap<_, Vec<&Arrival>> = BTreeMap::new();
        for arrival in arrivals {
            by_channel.entry((arrival.log.user.clone(), arrival.log.channel.clone())).or_default().push(arrival);
        }
        for (channel, arrivals) in by_channel {
            let Some(queue) = channels.get(&channel) else { continue };
            for run in runs(&arrivals, EVENT_BYTES_MAX) {
                // Nobody is there to hear it; then nobody is.
                drop(queue.send(Arc::new(Published::arrived(run))));
            }
        }
    }

    /// Tells the streams that a log has another base, after the arrivals that were published before.
    pub(crate) fn prune(&self, log: &LogName, header: LogHeader, position: u64) {
        let channels = self.channels.lock();
        if let Some(queue) = channels.get(&(log.user.clone(), log.channel.clone())) {
            drop(queue.send(Arc::new(Published::pruned(log, header, position))));
        }
    }
}

impl Published {
    fn new(what: What, log: LogRef, message: Option<ServerMessage>) -> Self {
        Self { what, log, message, cbor: OnceLock::new(), json: OnceLock::new() }
    }

    fn arrived(run: &[&Arrival]) -> Self {
        let size: usize = run.iter().map(|arrival| arrival.stored.record.len()).sum();
        let (first, last) = (run[0], run[run.len() - 1]);
        let what = What::Arrived { first: first.position, last: last.position };
        Self::new(what, LogRef::from(&first.log), (size <= EVENT_BYTES_MAX).then(|| event(run)))
    }

    fn pruned(log: &LogName, header: LogHeader, at: u64) -> Self {
        let log = LogRef::from(log);
        let message = ServerMessage::Pruned { log: log.clone(), header };
        Self::new(What::Pruned { at }, log, Some(message))
    }

    /// Returns the message as a frame, encoded the first time; nothing if it is to be read from the engine.
    pub(crate) fn frame(&self, encoding: Encoding) -> Option<Frame> {
        let message = self.message.as_ref()?;
        let cell = match encoding {
            Encoding::Cbor => &self.cbor,
            Encoding::Json => &self.json,
        };
        if cell.get().is_none() {
            let frame = match encoding {
                Encoding::Cbor => Frame::from_cbor(message.to_cbor()),
                Encoding::Json => Frame::from_json(message.to_json().ok()?),
            };
            return Some(cell.get_or_init(|| frame).clone());
        }
        cell.get().cloned()
    }
}

/// Returns an event of arrivals of one log.
pub(crate) fn event(run: &[&Arrival]) -> ServerMessage {
    let last = run[run.len() - 1];
    let wire = |arrival: &&Arrival| {
        (arrival.stored.index, WireOp { sha: arrival.stored.sha, record: arrival.stored.record.clone() })
    };
    let ops = run.iter().map(wire).collect();
    ServerMessage::Event(Event { position: last.position, log: LogRef::from(&last.log), ops })
}

/// Divides arrivals into runs of one log at consecutive positions, none of more than `bytes` but for a single one.
pub(crate) fn runs<'a, 'b>(arrivals: &'a [&'b Arrival], bytes: usize) -> impl Iterator<Item = &'a [&'b Arrival]> {
    let mut rest = arrivals;
    std::iter::from_fn(move || {
        let first = rest.first()?;
        let mut size = first.stored.record.len();
        let mut end = 1;
        while let Some(next) = rest.get(end) {
            size += next.stored.record.len();
            if next.log != first.log || next.position != rest[end - 1].position + 1 || size > bytes {
                break;
            }
            end += 1;
        }
        let (run, others) = rest.split_at(end);
        rest = others;
        Some(run)
    })
}

/// Events that a channel's queue holds.
const QUEUED_EVENTS_MAX: usize = 256;
/// Bytes of records in an event that a queue holds.
const EVENT_BYTES_MAX: usize = 16 * 1024;
