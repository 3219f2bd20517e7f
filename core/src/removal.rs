//! Removing a whole log: an operation that takes away what its author had seen of it, whatever the reducer.
//!
//! It takes away the operations that it depends on, directly or not, and the base that its author stood on, or one that covers
//! exactly what its author had seen. What others wrote meanwhile stays, so a late operation brings back itself and nothing
//! else. Once it is covered by a checkpoint, nothing of what it took away is left.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::id::{Digest, Sha};
use crate::op::{Op, OrderKey};
use crate::oplog::Oplog;

/// The one member of the payload. No reducer may use it. // persisted
pub(crate) const MEMBER: &str = "gigfs.remove";

/// Why a removal left the base as it is.
pub(crate) const TOO_LATE: &str =
    "the removal left the log's base as it is, because the log was pruned before it arrived; remove the log again";

/// What the author of a removal had seen. Whether a set of operations is this one is told by its digest: an actor's last
/// operation says nothing about those before it, which may come later.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Seen {
    /// What the author's base covered.
    pub(crate) base: Digest,
    /// That, and all operations on top of it.
    pub(crate) all: Digest,
    /// Operations on which those depend, and that the author did not hold: they were on their way, or its base covered them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) absent: Vec<Sha>,
}

impl Seen {
    /// Tells whether a base that covers this set is taken away.
    pub(crate) fn takes(&self, covered: Digest) -> bool {
        covered == self.base || covered == self.all
    }
}

/// Makes the payload of a removal.
pub(crate) fn payload(seen: &Seen) -> Value {
    json!({ MEMBER: seen })
}

/// Returns what the author of a removal had seen, if the operation is one.
pub(crate) fn seen(op: &Op) -> Option<Seen> {
    const BEGINNING: &[u8] = b"{\"gigfs.remove\":";
    let bytes = op.content().ok()?;
    if !bytes.starts_with(BEGINNING) {
        return None;
    }
    let mut value: Value = serde_json::from_slice(bytes).ok()?;
    let seen = value.as_object_mut().filter(|members| members.len() == 1)?.remove(MEMBER)?;
    serde_json::from_value(seen).ok()
}

/// Returns the operations of a log that removals take away.
pub(crate) fn removed<'a>(oplog: &Oplog, removals: impl Iterator<Item = (&'a OrderKey, &'a Seen)>) -> BTreeSet<Sha> {
    let mut removed = BTreeSet::new();
    for (key, seen) in removals {
        let mut reached = BTreeSet::new();
        let mut next: Vec<Sha> = oplog.at(key).into_iter().flat_map(Op::deps).copied().collect();
        while let Some(sha) = next.pop() {
            if !seen.absent.contains(&sha) && reached.insert(sha) {
                next.extend(oplog.get(&sha).into_iter().flat_map(Op::deps));
            }
        }
        removed.extend(reached);
    }
    removed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oplog::tests::write;

    #[test]
    fn what_its_author_did_not_hold_is_not_taken_away_although_what_it_held_depends_on_it() {
        let mut log = Oplog::new();
        let first = write(&mut log, 1, 1_000, &json!(1));
        let second = write(&mut log, 1, 1_001, &json!(2));
        let mut remover = Oplog::new();
        remover.insert(second.clone());
        let seen = Seen { absent: vec![first.sha()], ..Seen::default() };
        let removal = write(&mut remover, 2, 1_002, &payload(&seen));
        assert_eq!(super::seen(&removal), Some(seen.clone()));
        log.insert(removal.clone());
        assert_eq!(removed(&log, [(&removal.key(), &seen)].into_iter()), [second.sha()].into());
    }
}
