//! Removing a whole log: an operation that takes away what its author had seen of it, whatever the reducer.
//!
//! It takes away the operations that it depends on, directly or not, and the base that its author stood on, or one that covers
//! exactly what its author had seen. What others wrote meanwhile stays, so a late operation brings back itself and nothing
//! else. Once it is covered by a checkpoint, nothing of what it took away is left.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::id::{Digest, Sha};
use crate::op::{Op, OrderKey, Payload};
use crate::oplog::Oplog;

/// The one member of the payload. No reducer may use it. // persisted
pub(crate) const MEMBER: &str = "gigfs.remove";

/// Why a removal left the base as it is.
pub(crate) const TOO_LATE: &str =
    "the removal left the log's base as it is, because the log was pruned before it arrived; remove the log again";

/// What the author of a removal had seen. Whether a set of operations is this one is told by its digest: an actor's last
/// operation says nothing about those before it, which may come later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seen {
    /// What the author's base covered.
    pub(crate) base: Digest,
    /// That, and all operations on top of it.
    pub(crate) all: Digest,
}

impl Seen {
    /// Tells whether a base that covers this set is taken away.
    pub(crate) fn takes(&self, covered: Digest) -> bool {
        covered == self.base || covered == self.all
    }
}

/// Makes the payload of a removal.
pub(crate) fn payload(seen: Seen) -> Value {
    json!({ MEMBER: seen })
}

/// Returns what the author of a removal had seen, if the payload is one.
pub(crate) fn seen(payload: &Payload) -> Option<Seen> {
    const BEGINNING: &[u8] = b"{\"gigfs.remove\":";
    let Payload::Plain(bytes) = payload else { return None };
    if !bytes.starts_with(BEGINNING) {
        return None;
    }
    let mut value: Value = serde_json::from_slice(bytes).ok()?;
    let seen = value.as_object_mut().filter(|members| members.len() == 1)?.remove(MEMBER)?;
    serde_json::from_value(seen).ok()
}

/// Returns the operations of a log that removals take away.
pub(crate) fn removed<'a>(oplog: &Oplog, removals: impl Iterator<Item = &'a OrderKey>) -> BTreeSet<Sha> {
    let mut removed = BTreeSet::new();
    let mut next: Vec<Sha> = removals.filter_map(|key| oplog.at(key)).flat_map(Op::deps).copied().collect();
    while let Some(sha) = next.pop() {
        if removed.insert(sha) {
            next.extend(oplog.get(&sha).into_iter().flat_map(Op::deps));
        }
    }
    removed
}
