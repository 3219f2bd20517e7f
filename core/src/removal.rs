//! Removing a whole log: an operation that takes away what its author had seen of it, whatever the reducer.
//!
//! It takes away the operations that it depends on, directly or not, and the base if its author had seen all that the base
//! covers. What others wrote meanwhile stays, so a late operation brings back itself and nothing else. Once it is covered
//! by a checkpoint, nothing of what it took away is left.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::covers::Covers;
use crate::id::Sha;
use crate::op::{Op, OrderKey, Payload};
use crate::oplog::Oplog;

/// The one member of the payload. No reducer may use it. // persisted
pub(crate) const MEMBER: &str = "gigfs.remove";

/// Why a removal left the base as it is.
pub(crate) const TOO_LATE: &str = "the removal left the log's base as it is, because the base covers what its author had not seen; remove the log again";

/// Makes the payload of a removal by an author who has seen `seen`.
pub(crate) fn payload(seen: &Covers) -> Value {
    json!({ MEMBER: seen })
}

/// Returns what the author of a removal had seen, if the payload is one.
pub(crate) fn seen(payload: &Payload) -> Option<Covers> {
    const BEGINNING: &[u8] = b"{\"gigfs.remove\":";
    let Payload::Plain(bytes) = payload else { return None };
    if !bytes.starts_with(BEGINNING) {
        return None;
    }
    let mut value: Value = serde_json::from_slice(bytes).ok()?;
    let covers = value.as_object_mut().filter(|members| members.len() == 1)?.remove(MEMBER)?;
    serde_json::from_value(covers).ok()
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
