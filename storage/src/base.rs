//! What every engine does to a log's tail when a base comes, covers operations, and goes.
//!
//! Here is no storage: an engine reads a tail, changes it here, and writes it in the same atomic batch as the records.

use std::collections::BTreeSet;
use std::fmt::Display;

use gigfs_core::api::BaseHeader;
use gigfs_core::limits::OP_DEPS_MAX;
use gigfs_core::{Base, BaseId, Checkpoint, Covers, DecodeError, Digest, Draft, Op, Place, Sha};

use crate::engine::{Appended, Batch, Install, LogTail, StorageError};

/// Bytes that a covered sha counts for.
const COVERED_BYTES: u64 = 32;

impl LogTail {
    /// Returns the bytes that the log counts for in its user's usage.
    pub(crate) fn held(&self) -> u64 {
        let of_base = |base: BaseHeader| base.bytes + base.retained_bytes + COVERED_BYTES * base.covered.count;
        self.header.bytes + self.header.base.map_or(0, of_base)
    }

    /// Tells whether the log's base is this one.
    pub(crate) fn stands_on(&self, base: &Sha) -> bool {
        self.header.base.is_some_and(|own| own.id.sha == *base)
    }

    /// Notes that `base` takes the place of the one before. What is covered and what is retained stays.
    pub(crate) fn rebase(&mut self, base: &Base, checkpoint: &Checkpoint) {
        let before = self.header.base;
        self.header.base = Some(BaseHeader {
            id: BaseId { generation: checkpoint.generation, sha: base.sha },
            covered: before.map(|before| before.covered).unwrap_or_default(),
            complete: false,
            disputed: false,
            bytes: base.record.len() as u64,
            retained_bytes: before.map_or(0, |before| before.retained_bytes),
        });
        self.max_date = self.max_date.max(checkpoint.date);
    }

    /// Notes that an operation is known to be covered that was not before.
    pub(crate) fn cover(&mut self, sha: &Sha) {
        if let Some(base) = &mut self.header.base {
            base.covered.add(sha);
        }
    }

    /// Notes whether all is known that the base covers, after an install.
    pub(crate) fn compare(&mut self, checkpoint: &Checkpoint) {
        if let Some(base) = &mut self.header.base {
            base.complete = base.covered == checkpoint.digest;
        }
    }

    /// Notes that the log's base is disputed, if it is this one. Tells whether it is.
    pub(crate) fn dispute(&mut self, sha: &Sha) -> bool {
        match &mut self.header.base {
            Some(base) if base.id.sha == *sha => {
                base.disputed = true;
                true
            }
            _ => false,
        }
    }

    /// Notes that a covered operation or a superseded base of `bytes` is kept for a while.
    pub(crate) fn retain(&mut self, bytes: u64) {
        if let Some(base) = &mut self.header.base {
            base.retained_bytes += bytes;
        }
    }

    /// Notes that `bytes` of what was retained are kept no more.
    pub(crate) fn release(&mut self, bytes: u64) {
        if let Some(base) = &mut self.header.base {
            base.retained_bytes = base.retained_bytes.saturating_sub(bytes);
        }
    }

    /// Takes the base back. `live` are all operations from now on, each with its record, in order of their indexes.
    ///
    /// # Errors
    /// [`DecodeError`] if a record is damaged.
    pub(crate) fn restore<'r>(&mut self, live: impl IntoIterator<Item = (Sha, &'r [u8])>) -> Result<(), DecodeError> {
        let (mut digest, mut bytes) = (Digest::default(), 0);
        let (mut heads, mut depended) = (Vec::new(), BTreeSet::new());
        for (sha, record) in live {
            digest.add(&sha);
            bytes += record.len() as u64;
            heads.push(sha);
            depended.extend(Draft::from_record(record)?.0.deps);
        }
        heads.retain(|head| !depended.contains(head));
        heads.drain(..heads.len().saturating_sub(OP_DEPS_MAX));
        self.heads = heads;
        self.header.base = None;
        (self.header.digest, self.header.bytes) = (digest, bytes);
        Ok(())
    }
}

/// Answers for an operation that is neither live nor known to be covered, where not all is known that the base covers.
/// Nothing if it is new.
pub(crate) fn doubt(covers: &Covers, op: &Op) -> Option<Appended> {
    match covers.place_of(op) {
        Place::Inside => Some(Appended::Covered { sha: op.sha() }),
        Place::Doubtful => Some(Appended::Doubtful { sha: op.sha() }),
        Place::Outside => None,
    }
}

/// Decodes the bases that a batch installs, in order.
///
/// # Errors
/// [`StorageError::Damaged`] names the log of one that is no checkpoint.
pub(crate) fn checkpoints(batch: &Batch, place: impl Display) -> Result<Vec<Checkpoint>, StorageError> {
    let decode = |install: &Install| {
        Checkpoint::from_trusted(&install.base.record).map_err(|error| StorageError::Damaged {
            place: place.to_string(),
            what: format!("the base to install for the log {} of {}", install.log, install.log.user),
            why: error.to_string(),
        })
    };
    batch.installs.iter().map(decode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use gigfs_core::{ActorId, Date, Payload, Seq};

    #[test]
    fn heads_after_a_restore_are_the_newest_that_nothing_depends_on() {
        let log = gigfs_core::LogName::parse("me", "home", "list", "/a").unwrap();
        let mut ops: Vec<Op> = Vec::new();
        for seq in 1..=OP_DEPS_MAX as u64 + 4 {
            let draft = Draft {
                actor: ActorId::from_bytes([7; 16]),
                seq: Seq::new(seq).unwrap(),
                date: Date::saturating(seq),
                deps: ops.first().map(Op::sha).into_iter().collect(),
                payload: Payload::plain(&serde_json::json!(seq)),
            };
            ops.push(draft.finish(&log).unwrap());
        }
        let records: Vec<_> = ops.iter().map(|op| (op.sha(), op.to_record())).collect();
        let mut tail = LogTail::default();
        tail.restore(records.iter().map(|(sha, record)| (*sha, &record[..]))).unwrap();
        assert_eq!(tail.heads, records[4..].iter().map(|(sha, _)| *sha).collect::<Vec<_>>());
        assert_eq!(tail.header.digest.count, records.len() as u64);
        assert_eq!(tail.header.bytes, records.iter().map(|(_, record)| record.len() as u64).sum::<u64>());
        assert!(tail.restore([(records[0].0, &b"no record"[..])]).is_err());
    }
}
