//! What every engine does to a log's tail: append, remove, stamp.
//!
//! Here is no storage: an engine reads a tail, changes it here, and writes it in the same atomic batch as the records.

use gigfs_core::limits::{INTEGER_MAX, OP_DEPS_MAX};
use gigfs_core::{ActorId, Date, Draft, LogName, Op, OpError, Payload, Seq, Sha, StoreId};

use crate::engine::{Append, LogTail, Page};

impl LogTail {
    /// Notes that `op` arrives with a record of `bytes`, and returns its index.
    pub(crate) fn append(&mut self, op: &Op, bytes: usize) -> u64 {
        self.header.digest.add(&op.sha());
        self.header.last_index += 1;
        self.header.bytes += bytes as u64;
        self.max_date = self.max_date.max(op.date());
        self.heads.retain(|head| !op.deps().contains(head));
        if self.heads.len() == OP_DEPS_MAX {
            self.heads.remove(0);
        }
        self.heads.push(op.sha());
        self.header.last_index
    }

    /// Tells whether the log may hold an operation already. It does not if everything that ever arrived is older.
    pub(crate) fn may_hold(&self, op: &Op) -> bool {
        op.date() <= self.max_date
    }

    /// Notes that an operation with a record of `bytes` is taken out.
    pub(crate) fn remove(&mut self, sha: &Sha, bytes: usize) {
        self.header.digest.remove(sha);
        self.header.bytes = self.header.bytes.saturating_sub(bytes as u64);
        self.heads.retain(|head| head != sha);
    }

    /// Writes `payload` as the store's own operation, after all that the log holds.
    ///
    /// The tail counts the stamp; the operation is still to be appended.
    fn stamp(&mut self, store: StoreId, log: &LogName, payload: Payload, wall: Date) -> Result<Op, OpError> {
        let seq = Seq::new(self.stamped.saturating_add(1).min(INTEGER_MAX)).expect("from 1 to the greatest seq");
        let mut deps = self.heads.clone();
        deps.sort_unstable();
        deps.dedup();
        let actor = ActorId::from_bytes(*store.as_bytes());
        let draft = Draft { actor, seq, date: Date::after(wall, Some(self.max_date)), deps, payload };
        let op = draft.finish(log)?;
        self.stamped = seq.get();
        Ok(op)
    }

    /// Returns the operation that an append writes, stamped if it has no identity yet.
    pub(crate) fn resolve(&mut self, store: StoreId, append: &Append) -> Result<Op, OpError> {
        match append {
            Append::Op { op, .. } | Append::Vouched { op, .. } => Ok(op.clone()),
            Append::Stamp { log, payload, wall } => self.stamp(store, log, payload.clone(), *wall),
        }
    }
}

impl Append {
    /// Returns the log that it belongs to.
    pub fn log(&self) -> &LogName {
        match self {
            Self::Op { log, .. } | Self::Vouched { log, .. } | Self::Stamp { log, .. } => log,
        }
    }

    /// Returns the operation, unless the store is still to make it.
    pub fn op(&self) -> Option<&Op> {
        match self {
            Self::Op { op, .. } | Self::Vouched { op, .. } => Some(op),
            Self::Stamp { .. } => None,
        }
    }

    /// Tells whether the heads of the log's base have to be asked about an operation that is not known to be covered.
    ///
    /// A stamp is written now, so nothing can cover it.
    pub(crate) fn is_doubted(&self, tail: &LogTail) -> bool {
        let Some(own) = tail.header.base.filter(|base| !base.complete) else { return false };
        match self {
            Self::Op { .. } => true,
            Self::Vouched { base, .. } => *base != own.id.sha,
            Self::Stamp { .. } => false,
        }
    }
}

/// Counts what a page holds while it is filled.
#[derive(Debug, Default)]
pub(crate) struct Filled {
    ops: usize,
    bytes: usize,
}

impl Filled {
    /// Counts a record of `bytes` and tells whether `page` ends with it.
    pub(crate) fn add(&mut self, page: Page, bytes: usize) -> bool {
        self.ops += 1;
        self.bytes = self.bytes.saturating_add(bytes);
        self.ops >= page.ops || self.bytes >= page.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn log() -> LogName {
        LogName::parse("me", "home", "list", "/a").unwrap()
    }

    fn op(tail: &mut LogTail, seq: u64, deps: Vec<Sha>) -> Op {
        let draft = Draft {
            actor: ActorId::from_bytes([7; 16]),
            seq: Seq::new(seq).unwrap(),
            date: Date::saturating(seq),
            deps,
            payload: Payload::plain(&json!(seq)),
        };
        let op = draft.finish(&log()).unwrap();
        tail.append(&op, 10);
        op
    }

    #[test]
    fn heads_are_what_nothing_depends_on_newest_last() {
        let mut tail = LogTail::default();
        let (a, b) = (op(&mut tail, 1, vec![]), op(&mut tail, 2, vec![]));
        assert_eq!(tail.heads, [a.sha(), b.sha()]);
        let c = op(&mut tail, 3, vec![a.sha()]);
        assert_eq!(tail.heads, [b.sha(), c.sha()]);
    }

    #[test]
    fn heads_never_outgrow_what_an_operation_can_name() {
        let mut tail = LogTail::default();
        let ops: Vec<_> = (1..=OP_DEPS_MAX as u64 + 3).map(|seq| op(&mut tail, seq, vec![]).sha()).collect();
        assert_eq!(tail.heads, ops[3..]);
    }

    #[test]
    fn a_stamp_comes_after_all_that_the_log_holds() {
        let mut tail = LogTail::default();
        let (a, b) = (op(&mut tail, 90, vec![]), op(&mut tail, 50, vec![]));
        let stamp = Append::Stamp { log: log(), payload: Payload::plain(&json!(null)), wall: Date::saturating(3) };
        let stamped = tail.resolve(StoreId::from_bytes([9; 16]), &stamp).unwrap();
        assert_eq!((stamped.seq(), stamped.date().micros()), (Seq::FIRST, 91));
        assert!(stamped.deps().contains(&a.sha()) && stamped.deps().contains(&b.sha()));
        tail.append(&stamped, 1);
        let next = tail.resolve(StoreId::from_bytes([9; 16]), &stamp).unwrap();
        assert_eq!((next.seq().get(), next.deps()), (2, &[stamped.sha()][..]));
    }
}
