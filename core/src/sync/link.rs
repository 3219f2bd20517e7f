//! The state of one stream: what is unanswered on it, and whose turn it is.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::date::Date;
use crate::error::Refusal;
use crate::id::Incarnation;
use crate::limits::{IN_FLIGHT_BYTES_MAX, IN_FLIGHT_OPS_MAX};
use crate::name::LogName;
use crate::op::OrderKey;
use crate::wire::Tag;

/// A stream of a channel to a store.
#[derive(Default)]
pub(super) struct Link {
    pub(super) up: Option<Up>,
    /// Why it is down, if it ever was.
    pub(super) down: Option<Refusal>,
    /// Logs that may have something to send, in turn.
    ready: VecDeque<LogName>,
    queued: BTreeSet<LogName>,
}

/// What a stream has while it is up.
pub(super) struct Up {
    pub(super) incarnation: Incarnation,
    /// The store's clock less ours when the stream came up, in microseconds.
    pub(super) clock_offset: i64,
    next_tag: Tag,
    requests: BTreeMap<Tag, Request>,
    in_flight_ops: usize,
    in_flight_bytes: usize,
}

/// A request without an answer.
pub(super) enum Request {
    Push { log: LogName, keys: Vec<OrderKey>, bytes: usize },
    Get { log: LogName },
    Inventory { log: LogName },
    Other,
}

impl Up {
    pub(super) fn new(incarnation: Incarnation, store_now: Date, now: Date) -> Self {
        Self {
            incarnation,
            clock_offset: store_now.micros() as i64 - now.micros() as i64,
            next_tag: 1,
            requests: BTreeMap::new(),
            in_flight_ops: 0,
            in_flight_bytes: 0,
        }
    }

    /// Notes a request and gives it a tag.
    pub(super) fn ask(&mut self, request: Request) -> Tag {
        let tag = self.next_tag;
        self.next_tag += 1;
        if let Request::Push { keys, bytes, .. } = &request {
            self.in_flight_ops += keys.len();
            self.in_flight_bytes += bytes;
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
        if let Request::Push { keys, bytes, .. } = &request {
            self.in_flight_ops -= keys.len();
            self.in_flight_bytes -= bytes;
        }
        Some(request)
    }

    /// Tells whether another push may go out.
    pub(super) fn has_room(&self) -> bool {
        self.in_flight_ops < IN_FLIGHT_OPS_MAX && self.in_flight_bytes < IN_FLIGHT_BYTES_MAX
    }

    /// Returns how many pushed operations are unanswered.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight_ops
    }
}

impl Link {
    /// Puts a log last in the queue, if it is not in it.
    pub(super) fn enqueue(&mut self, log: &LogName) {
        if self.queued.insert(log.clone()) {
            self.ready.push_back(log.clone());
        }
    }

    /// Takes the log whose turn it is.
    pub(super) fn dequeue(&mut self) -> Option<LogName> {
        let log = self.ready.pop_front()?;
        self.queued.remove(&log);
        Some(log)
    }
}
