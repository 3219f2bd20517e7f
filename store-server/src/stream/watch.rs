//! The watching part of a stream: everything that arrives in the channel and is watched, in order, nothing missed.
//!
//! There is one cursor: all that arrived up to it and is watched has been sent. It moves along the channel's queue as
//! long as the next event follows on it, and along the engine's feed when the queue has forgotten what comes next.

use std::collections::BTreeSet;
use std::sync::Arc;

use gigfs_core::limits::{READ_BYTES_MAX, WATCHED_LOGS_MAX};
use gigfs_core::wire::{LogRef, ServerMessage, Tag, Watched};
use gigfs_core::{ErrorCode, PathPrefix, Refusal};
use gigfs_storage::{Arrival, Page};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, broadcast, mpsc, oneshot};

use super::{Context, Gone, Message, Outgoing};
use crate::feed::{self, Published, What};

/// A change of what is watched.
pub(super) enum Order {
    /// `placed` is dropped once nothing that arrives from then on will be missed.
    Watch {
        tag: Tag,
        watched: Watched,
        after: Option<u64>,
        permit: OwnedSemaphorePermit,
        placed: oneshot::Sender<()>,
    },
    Unwatch {
        tag: Tag,
        permit: OwnedSemaphorePermit,
    },
}

/// Follows the channel until the stream ends.
pub(super) async fn run(context: &Context, mut orders: mpsc::Receiver<Order>) {
    let mut watch = Watch { context, filter: Filter::default(), live: None };
    let following = async {
        loop {
            let went = tokio::select! {
                order = orders.recv() => match order {
                    Some(order) => watch.take(order).await,
                    None => return,
                },
                event = next(&mut watch.live) => watch.follow(event).await,
            };
            if went.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = context.end.cancelled.cancelled() => {}
        () = following => {}
    }
}

struct Watch<'a> {
    context: &'a Context,
    filter: Filter,
    live: Option<Live>,
}

struct Live {
    queue: broadcast::Receiver<Arc<Published>>,
    cursor: u64,
}

async fn next(live: &mut Option<Live>) -> Result<Arc<Published>, RecvError> {
    match live {
        Some(live) => live.queue.recv().await,
        None => std::future::pending().await,
    }
}

impl Watch<'_> {
    async fn take(&mut self, order: Order) -> Result<(), Gone> {
        match order {
            Order::Watch { tag, watched, after, permit, placed } => match self.watch(watched, after, placed).await? {
                Ok(position) => self.context.answer(ServerMessage::Watching { tag, position }, permit).await,
                Err(refusal) => self.context.fail(tag, refusal, permit).await,
            },
            Order::Unwatch { tag, permit } => {
                self.live = None;
                self.filter = Filter::default();
                self.context.answer(ServerMessage::Unwatched { tag }, permit).await
            }
        }
    }

    /// Watches more, after sending what a cursor missed of it. Returns the position up to which everything is sent.
    async fn watch(
        &mut self,
        watched: Watched,
        after: Option<u64>,
        placed: oneshot::Sender<()>,
    ) -> Result<Result<u64, Refusal>, Gone> {
        if let Err(refusal) = self.filter.has_room_for(&watched) {
            return Ok(Err(refusal));
        }
        let cursor = match &self.live {
            Some(live) => live.cursor,
            None => {
                let Context { store, user, channel, .. } = self.context;
                // First the queue and then the position: nothing falls in between.
                let queue = store.inner.hub.subscribe(user, channel);
                match self.position().await {
                    Ok(cursor) => {
                        self.live = Some(Live { queue, cursor });
                        cursor
                    }
                    Err(refusal) => return Ok(Err(refusal)),
                }
            }
        };
        // This task handles what comes after the cursor only once the filter has what is watched.
        drop(placed);
        let mut own = Filter::default();
        own.add(watched.clone());
        if let Some(after) = after
            && let Err(refusal) = self.replay(&own, after, cursor).await?
        {
            return Ok(Err(refusal));
        }
        self.filter.add(watched);
        Ok(Ok(cursor))
    }

    /// Goes on with the next event, or with the feed if the next event is not the next arrival.
    async fn follow(&mut self, event: Result<Arc<Published>, RecvError>) -> Result<(), Gone> {
        let Some(live) = &mut self.live else { return Ok(()) };
        let event = match event {
            Ok(event) => event,
            Err(RecvError::Lagged(_)) => return self.catch_up().await,
            // The queue outlives its readers.
            Err(RecvError::Closed) => return Ok(()),
        };
        let is_watched = self.filter.covers(&event.log);
        match event.what {
            What::Arrived { last, .. } if last <= live.cursor => Ok(()),
            What::Arrived { first, last } if first == live.cursor + 1 && !is_watched => {
                live.cursor = last;
                Ok(())
            }
            What::Arrived { first, last } => {
                match event.frame(self.context.encoding).filter(|_| first == live.cursor + 1) {
                    Some(frame) => {
                        live.cursor = last;
                        self.send(Message::Event(frame)).await
                    }
                    None => self.catch_up().await,
                }
            }
            What::Pruned { at } => {
                if live.cursor < at {
                    self.catch_up().await?;
                }
                match event.frame(self.context.encoding).filter(|_| is_watched) {
                    Some(frame) => self.send(Message::Event(frame)).await,
                    None => Ok(()),
                }
            }
        }
    }

    /// Sends everything that happened after the cursor, from the engine.
    async fn catch_up(&mut self) -> Result<(), Gone> {
        let Some(live) = &self.live else { return Ok(()) };
        let cursor = live.cursor;
        let filter = std::mem::take(&mut self.filter);
        let replayed = match self.position().await {
            Ok(until) => self.replay(&filter, cursor, until).await?.map(|()| until),
            Err(refusal) => Err(refusal),
        };
        self.filter = filter;
        match (replayed, &mut self.live) {
            (Ok(reached), Some(live)) => live.cursor = reached.max(cursor),
            (Ok(_), None) => {}
            // What was missed cannot be read: the client has to know, and begins again from its own cursor.
            (Err(refusal), _) => self.context.end.because(refusal),
        }
        Ok(())
    }

    async fn position(&self) -> Result<u64, Refusal> {
        let Context { store, user, channel, .. } = self.context;
        let (user, channel) = (user.clone(), channel.clone());
        store.read(move |engine| engine.position(&user, &channel)).await
    }

    /// Sends what arrived after one position up to another and is covered, from the engine, and which of the logs have had
    /// another base since. That `until` was read before is what makes it safe: a base that changes while this looks has a
    /// position that is no less, so nobody's cursor goes past it untold.
    async fn replay(&self, filter: &Filter, mut after: u64, until: u64) -> Result<Result<(), Refusal>, Gone> {
        let Context { store, user, channel, .. } = self.context;
        let Some(rebased) = store.inner.hub.rebased.since(user, channel, after) else {
            return Ok(Err(stale(after)));
        };
        let mut rebased = rebased.into_iter().filter(|(_, log)| filter.covers(log)).peekable();
        while after < until {
            let (user, channel) = (user.clone(), channel.clone());
            let page = Page { ops: REPLAYED_OPS_MAX, bytes: READ_BYTES_MAX };
            let arrivals = match store.read(move |engine| engine.feed(&user, &channel, after, page)).await {
                Ok(arrivals) => arrivals,
                Err(refusal) => return Ok(Err(refusal)),
            };
            let Some(last) = arrivals.last() else { break };
            after = last.position;
            let covered = |arrival: &&Arrival| arrival.position <= until && filter.covers(&LogRef::from(&arrival.log));
            let covered: Vec<_> = arrivals.iter().filter(covered).collect();
            for run in feed::runs(&covered, READ_BYTES_MAX) {
                let last = run[run.len() - 1].position;
                while let Some((_, log)) = rebased.next_if(|(at, _)| *at < last) {
                    if let Err(refusal) = self.tell_of_base(log).await? {
                        return Ok(Err(refusal));
                    }
                }
                self.send(Message::Plain(Box::new(feed::event(run)))).await?;
            }
        }
        for (_, log) in rebased {
            if let Err(refusal) = self.tell_of_base(log).await? {
                return Ok(Err(refusal));
            }
        }
        Ok(Ok(()))
    }

    async fn tell_of_base(&self, log: LogRef) -> Result<Result<(), Refusal>, Gone> {
        let Context { store, user, channel, .. } = self.context;
        let name = log.log(user, channel);
        match store.read(move |engine| engine.tail(&name)).await {
            Ok(tail) => {
                let header = tail.unwrap_or_default().header;
                self.send(Message::Plain(Box::new(ServerMessage::Pruned { log, header }))).await.map(Ok)
            }
            Err(refusal) => Ok(Err(refusal)),
        }
    }

    async fn send(&self, message: Message) -> Result<(), Gone> {
        self.context.store.inner.metrics.events.increment(1);
        self.context.send(Outgoing { message, permit: None, room: None }).await
    }
}

/// Says that nobody knows any more all that has changed since a position.
fn stale(position: u64) -> Refusal {
    let message = format!("what has changed since the position {position} is not all known here any more");
    Refusal::new(ErrorCode::StaleCursor, message).hint("watch without a position, and read what is watched")
}

/// What is watched.
#[derive(Debug, Default)]
struct Filter {
    logs: BTreeSet<LogRef>,
    prefixes: BTreeSet<PathPrefix>,
}

impl Filter {
    fn add(&mut self, watched: Watched) {
        match watched {
            Watched::Logs(logs) => self.logs.extend(logs),
            Watched::Prefix(prefix) => {
                self.logs.retain(|log| !prefix.covers(&log.path));
                self.prefixes.insert(prefix);
            }
        }
    }

    fn covers(&self, log: &LogRef) -> bool {
        self.logs.contains(log) || self.prefixes.iter().any(|prefix| prefix.covers(&log.path))
    }

    fn has_room_for(&self, watched: &Watched) -> Result<(), Refusal> {
        let logs = match watched {
            Watched::Logs(logs) => self.logs.len() + logs.iter().filter(|log| !self.logs.contains(log)).count(),
            // Who names logs until there are too many, and then watches all, has room for that.
            Watched::Prefix(prefix) => 1 + self.logs.iter().filter(|log| !prefix.covers(&log.path)).count(),
        };
        if logs + self.prefixes.len() <= WATCHED_LOGS_MAX {
            return Ok(());
        }
        let message = format!("a stream watches at most {WATCHED_LOGS_MAX} logs and prefixes");
        Err(Refusal::new(ErrorCode::TooMany, message).hint("watch a prefix, such as \"/\" for the whole channel"))
    }
}

/// Operations read at once from the feed.
const REPLAYED_OPS_MAX: usize = 1024;
