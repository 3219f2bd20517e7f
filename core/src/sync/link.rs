//! The state of one stream: what is unanswered on it, and whose turn it is.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::resuming::Cursor;
use crate::checkpoint::BaseId;
use crate::date::Date;
use crate::error::Refusal;
use crate::id::{Incarnation, RunId, Sha, StoreId};
use crate::limits::{IN_FLIGHT_BYTES_MAX, IN_FLIGHT_OPS_MAX};
use crate::name::LogName;
use crate::op::OrderKey;
use crate::wire::{Tag, Welcome};

/// A stream of a channel to a store.
#[derive(Default)]
pub(super) struct Link {
    pub(super) up: Option<Up>,
    /// Why it is down, if it ever was.
    pub(super) down: Option<Refusal>,
    /// Up to where everything was told of what is watched.
    pub(super) cursor: Option<Cursor>,
    /// Logs that may have something to send, in turn.
    pub(super) sending: Turns,
    /// Logs that are to be read, in turn.
    pub(super) reading: Turns,
    /// Whether the app was told that all was answered that could be sent, and nothing came since.
    pub(super) drained: bool,
}

/// Logs that wait for their turn, each once.
#[derive(Default)]
pub(super) struct Turns {
    order: VecDeque<LogName>,
    queued: BTreeSet<LogName>,
}

/// What a stream has while it is up.
pub(super) struct Up {
    pub(super) incarnation: Incarnation,
    /// The run of the store, if it says which one.
    pub(super) run: Option<RunId>,
    /// The store's clock less ours when the stream came up, in microseconds.
    pub(super) clock_offset: i64,
    /// How many logs the store was asked by name to tell of.
    pub(super) watched_logs: usize,
    /// Whether the store was asked to tell of all logs of the channel.
    pub(super) watches_all: bool,
    /// How often watching ended on this stream: answers to what was asked before say nothing of what is told now.
    pub(super) unwatched: u32,
    /// Whether the store tells what happens, and has told what was missed.
    pub(super) follows: bool,
    next_tag: Tag,
    requests: BTreeMap<Tag, Request>,
    /// How many pushes of a log are unanswered, where there are any.
    pushes: BTreeMap<LogName, usize>,
    in_flight_ops: usize,
    in_flight_bytes: usize,
    reads: usize,
}

/// A request without an answer.
pub(super) enum Request {
    /// Operations, with the base of which the store could tell what it covers when they were sent.
    Push {
        log: LogName,
        keys: Vec<OrderKey>,
        bytes: usize,
        told: Option<BaseId>,
    },
    Get {
        log: LogName,
    },
    Inventory {
        log: LogName,
    },
    /// A checkpoint to be acknowledged.
    Checkpoint {
        log: LogName,
        sha: Sha,
    },
    /// A base to be installed, before the log is compared further.
    Install {
        log: LogName,
    },
    /// A store's base that is not part of the log's history.
    Foreign {
        log: LogName,
    },
    /// A base that was just committed, to be installed.
    Adopt {
        log: LogName,
    },
    /// The list of what the base covers, for another store.
    List {
        log: LogName,
        to: StoreId,
    },
    /// A part of that list.
    Cover {
        log: LogName,
    },
    /// What is still kept of what the base covers.
    Retained {
        log: LogName,
    },
    /// To be told of logs, asked when watching had ended so often on this stream.
    Watch {
        unwatched: u32,
        /// Whether what was missed is told first.
        resumes: bool,
    },
    Other,
}

/// Logs that are read at once on one stream. It bounds the unanswered requests, of which a store allows so many.
const READS_MAX: usize = 256;
/// Pushes of one log that are unanswered at a time. Enough that a store always has the next one while it writes one; few
/// enough that a busy log fills its messages instead of sending each operation alone.
const PUSHES_OF_LOG_MAX: usize = 4;

impl Up {
    pub(super) fn new(welcome: &Welcome, now: Date) -> Self {
        Self {
            incarnation: welcome.incarnation,
            run: welcome.run,
            clock_offset: welcome.now.micros() as i64 - now.micros() as i64,
            watched_logs: 0,
            watches_all: false,
            unwatched: 0,
            follows: false,
            next_tag: 1,
            requests: BTreeMap::new(),
            pushes: BTreeMap::new(),
            in_flight_ops: 0,
            in_flight_bytes: 0,
            reads: 0,
        }
    }

    /// Takes note that the store tells of nothing any more.
    pub(super) fn unwatch(&mut self) {
        (self.watched_logs, self.watches_all, self.follows) = (0, false, false);
        self.unwatched += 1;
    }

    /// Notes that the store was asked to tell of logs, and gives the request a tag.
    pub(super) fn ask_to_tell(&mut self, resumes: bool) -> Tag {
        self.ask(Request::Watch { unwatched: self.unwatched, resumes })
    }

    /// Notes a request and gives it a tag.
    pub(super) fn ask(&mut self, request: Request) -> Tag {
        let tag = self.next_tag;
        self.next_tag += 1;
        match &request {
            Request::Push { log, keys, bytes, .. } => {
                *self.pushes.entry(log.clone()).or_default() += 1;
                self.in_flight_ops += keys.len();
                self.in_flight_bytes += bytes;
            }
            Request::Get { .. } | Request::Inventory { .. } | Request::Install { .. } => self.reads += 1,
            _ => {}
        }
        self.requests.insert(tag, request);
        tag
    }

    /// Returns an unanswered request.
    pub(super) fn asked(&self, tag: Tag) -> Option<&Request> {
        self.requests.get(&tag)
    }

    /// Takes a request that has its last answer.
    pub(super) fn answered(&mut self, tag: Tag) -> Option<Request> {
        let request = self.requests.remove(&tag)?;
        match &request {
            Request::Push { log, keys, bytes, .. } => {
                if let Some(unanswered) = self.pushes.get_mut(log) {
                    *unanswered -= 1;
                    if *unanswered == 0 {
                        self.pushes.remove(log);
                    }
                }
                self.in_flight_ops -= keys.len();
                self.in_flight_bytes -= bytes;
            }
            Request::Get { .. } | Request::Inventory { .. } | Request::Install { .. } => self.reads -= 1,
            _ => {}
        }
        Some(request)
    }

    /// Tells whether another push may go out.
    pub(super) fn has_room(&self) -> bool {
        self.in_flight_ops < IN_FLIGHT_OPS_MAX && self.in_flight_bytes < IN_FLIGHT_BYTES_MAX
    }

    /// Tells whether another push of a log may go out. What is written meanwhile goes out together with the next one.
    pub(super) fn may_push(&self, log: &LogName) -> bool {
        self.pushes.get(log).is_none_or(|unanswered| *unanswered < PUSHES_OF_LOG_MAX)
    }

    /// Tells whether another log may be read.
    pub(super) fn may_read(&self) -> bool {
        self.reads < READS_MAX
    }

    /// Returns how many pushed operations are unanswered.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight_ops
    }
}

impl Link {
    /// Gives a log its turn to send.
    pub(super) fn may_send(&mut self, log: &LogName) {
        self.sending.enqueue(log);
        self.drained = false;
    }
}

impl Turns {
    /// Puts a log last, if it is not waiting already.
    pub(super) fn enqueue(&mut self, log: &LogName) {
        if self.queued.insert(log.clone()) {
            self.order.push_back(log.clone());
        }
    }

    /// Takes the log whose turn it is.
    pub(super) fn dequeue(&mut self) -> Option<LogName> {
        let log = self.order.pop_front()?;
        self.queued.remove(&log);
        if self.order.is_empty() {
            // Of many that waited at once, nothing stays reserved.
            *self = Self::default();
        }
        Some(log)
    }

    /// Takes one log out of turn.
    pub(super) fn dequeue_only(&mut self, log: &LogName) -> Option<LogName> {
        let log = self.queued.take(log)?;
        self.order.retain(|queued| *queued != log);
        Some(log)
    }

    /// Forgets all of them.
    pub(super) fn clear(&mut self) {
        self.order.clear();
        self.queued.clear();
    }
}
