//! The operations of one log, as a replica holds them: a set, kept in the order of replay.
//!
//! Inserting is idempotent, commutes and associates, so replicas that hold the same operations hold equal oplogs,
//! whatever way they came.

use std::collections::BTreeSet;

use crate::date::Date;
use crate::few::{FewMap, FewSet};
use crate::id::{ActorId, Digest, Seq, Sha};
use crate::limits::OP_DEPS_MAX;
use crate::op::{Op, OrderKey};

/// A set of operations of one log, ordered by (date, actor, seq, sha).
#[derive(Debug, Clone, Default)]
pub struct Oplog {
    ops: FewMap<OrderKey, Op>,
    by_sha: FewMap<Sha, Op>,
    heads: FewSet<Sha>,
    /// Shas that operations here depend on and that are not here.
    awaited: FewSet<Sha>,
    /// The last operation of each actor.
    lasts: FewMap<ActorId, Op>,
    digest: Digest,
    bytes: usize,
}

impl Oplog {
    /// Makes an empty log.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an operation. Returns whether it is new here.
    pub fn insert(&mut self, op: Op) -> bool {
        let sha = op.sha();
        if self.by_sha.insert(sha, op.clone()).is_some() {
            return false;
        }
        for dep in op.deps() {
            self.heads.remove(dep);
            if !self.by_sha.contains_key(dep) {
                self.awaited.insert(*dep);
            }
        }
        if !self.awaited.remove(&sha) {
            self.heads.insert(sha);
        }
        if self.last_of(op.actor()) < Some((op.seq(), sha)) {
            self.lasts.insert(op.actor(), op.clone());
        }
        self.digest.add(&sha);
        self.bytes += op.size();
        self.ops.insert(op.key(), op);
        true
    }

    /// Takes operations out again, as if they had never been inserted.
    pub fn remove_all(&mut self, shas: &[Sha]) -> Vec<Op> {
        let removed: Vec<Op> = shas.iter().filter_map(|sha| self.get(sha)).cloned().collect();
        if !removed.is_empty() {
            let gone: BTreeSet<Sha> = removed.iter().map(Op::sha).collect();
            let kept = std::mem::take(self).ops.into_values().filter(|op| !gone.contains(&op.sha()));
            kept.for_each(|op| _ = self.insert(op));
        }
        removed
    }

    /// Tells whether an operation is here.
    pub fn contains(&self, sha: &Sha) -> bool {
        self.by_sha.contains_key(sha)
    }

    /// Returns an operation by its identity.
    pub fn get(&self, sha: &Sha) -> Option<&Op> {
        self.by_sha.get(sha)
    }

    /// Returns an operation by its place.
    pub fn at(&self, key: &OrderKey) -> Option<&Op> {
        self.ops.get(key)
    }

    /// Iterates over the operations in the order of replay.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Op> {
        self.ops.values()
    }

    /// Iterates over the operations after a place, or over all.
    pub fn iter_after(&self, key: Option<&OrderKey>) -> impl Iterator<Item = &Op> + use<'_> {
        self.ops.after(key).map(|(_, op)| op)
    }

    /// Returns the operations in the order of replay.
    pub fn into_ops(self) -> impl Iterator<Item = Op> {
        self.ops.into_values()
    }

    /// Returns about how many bytes the operations have.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns how many operations are here.
    pub fn len(&self) -> usize {
        self.ops.len()
    }

    /// Tells whether the log is still `null`.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// Returns the digest of the set.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Returns the greatest date here.
    pub fn max_date(&self) -> Option<Date> {
        self.ops.last_key_value().map(|(key, _)| key.date)
    }

    /// Returns the seq that the actor's next operation takes.
    pub fn next_seq(&self, actor: ActorId) -> Seq {
        self.lasts.get(&actor).map_or(Seq::FIRST, |last| last.seq().next())
    }

    /// Returns the last operation of an actor.
    pub(crate) fn last_of(&self, actor: ActorId) -> Option<(Seq, Sha)> {
        self.lasts.get(&actor).map(|last| (last.seq(), last.sha()))
    }

    /// Tells whether something here depends on an operation that is not here.
    pub(crate) fn is_awaited(&self, sha: &Sha) -> bool {
        self.awaited.contains(sha)
    }

    /// Returns the operations that something here depends on and that are not here, ascending.
    pub fn absent(&self) -> Vec<Sha> {
        let depended: BTreeSet<&Sha> = self.iter().flat_map(Op::deps).collect();
        depended.into_iter().filter(|sha| !self.contains(sha)).copied().collect()
    }

    /// Returns the operations that nothing here depends on, ascending.
    pub fn heads(&self) -> impl Iterator<Item = &Sha> {
        self.heads.iter()
    }

    /// Returns the heads that a new operation names: all of them, or the latest [`OP_DEPS_MAX`] in the order of replay.
    ///
    /// What is left out stays a head and is named by a later operation; the order of replay does not depend on it.
    pub fn deps(&self) -> Vec<Sha> {
        self.deps_with(None)
    }

    /// Returns the heads that a new operation names, and what its author wrote before.
    pub(crate) fn deps_with(&self, before: Option<Sha>) -> Vec<Sha> {
        let other = |sha: &&Sha| Some(**sha) != before;
        let room = OP_DEPS_MAX - usize::from(before.is_some());
        let mut deps: Vec<Sha> = if self.heads.len() <= room {
            self.heads.iter().filter(other).copied().collect()
        } else {
            let heads = self.heads.iter().filter(other);
            let mut keys: Vec<OrderKey> = heads.filter_map(|sha| self.get(sha)).map(Op::key).collect();
            keys.sort_unstable();
            keys.iter().rev().take(room).map(|key| key.sha).collect()
        };
        deps.extend(before);
        deps.sort_unstable();
        deps
    }
}

impl FromIterator<Op> for Oplog {
    fn from_iter<I: IntoIterator<Item = Op>>(ops: I) -> Self {
        let mut log = Self::new();
        ops.into_iter().for_each(|op| _ = log.insert(op));
        log
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::name::LogName;
    use crate::op::{Draft, Payload};
    use proptest::prelude::*;
    use serde_json::{Value, json};

    pub(crate) fn log_name() -> LogName {
        LogName::parse("me", "home", "test", "/a").unwrap()
    }

    /// Writes as `actor` onto what `log` holds, at `wall`, and inserts it.
    pub(crate) fn write(log: &mut Oplog, actor: u8, wall: u64, payload: &Value) -> Op {
        let actor = ActorId::from_bytes([actor; 16]);
        let draft = Draft {
            actor,
            seq: log.next_seq(actor),
            date: Date::after(Date::saturating(wall), log.max_date()),
            deps: log.deps(),
            payload: Payload::plain(payload),
        };
        let op = draft.finish(&log_name()).unwrap();
        assert!(log.insert(op.clone()));
        op
    }

    fn same(a: &Oplog, b: &Oplog) -> bool {
        a.iter().eq(b.iter()) && a.heads().eq(b.heads()) && a.digest() == b.digest() && a.awaited == b.awaited
    }

    #[test]
    fn equal_milliseconds_do_not_collide() {
        let mut log = Oplog::new();
        for actor in 0..4 {
            let mut alone = Oplog::new();
            log.insert(write(&mut alone, actor, 5_000, &json!(1)));
        }
        assert_eq!(log.len(), 4);
    }

    #[test]
    fn one_place_of_one_actor_may_hold_two_operations() {
        let (mut log, mut restored) = (Oplog::new(), Oplog::new());
        let first = write(&mut log, 1, 5_000, &json!("before the restore"));
        let second = write(&mut restored, 1, 5_000, &json!("after the restore"));
        assert_eq!((first.actor(), first.seq()), (second.actor(), second.seq()));
        assert!(log.insert(second));
        assert_eq!(log.len(), 2);
    }

    #[test]
    fn the_order_of_replay_extends_causality_under_wrong_clocks() {
        let mut log = Oplog::new();
        let first = write(&mut log, 9, 1_000_000, &json!(1));
        let second = write(&mut log, 1, 5, &json!(2));
        assert!(first.key() < second.key());
        assert_eq!(second.deps(), [first.sha()]);
    }

    #[test]
    fn more_heads_than_an_operation_can_name_are_named_by_later_ones() {
        let mut log = Oplog::new();
        for actor in 0..=OP_DEPS_MAX as u8 + 5 {
            log.insert(write(&mut Oplog::new(), actor, u64::from(actor), &json!(1)));
        }
        assert_eq!(write(&mut log, 200, 1_000, &json!(2)).deps().len(), OP_DEPS_MAX);
        assert_eq!(write(&mut log, 200, 1_001, &json!(3)).deps().len(), 7);
        assert_eq!(log.heads().count(), 1);
    }

    /// Histories of three writers who now and then see what the others wrote.
    pub(crate) fn history() -> impl Strategy<Value = Vec<Op>> {
        prop::collection::vec((0..3u8, 0..50u64, any::<bool>()), 1..40).prop_map(|steps| {
            let mut replicas = vec![Oplog::new(); 3];
            let mut all = Oplog::new();
            for (at, (actor, wall, meets)) in steps.into_iter().enumerate() {
                let replica = &mut replicas[actor as usize];
                if meets {
                    all.iter().for_each(|op| _ = replica.insert(op.clone()));
                }
                all.insert(write(replica, actor, wall, &json!(at)));
            }
            all.iter().cloned().collect()
        })
    }

    proptest! {
        #[test]
        fn merging_commutes_associates_and_is_idempotent(ops in history(), order in any::<prop::sample::Index>()) {
            let forward: Oplog = ops.iter().cloned().collect();
            let backward: Oplog = ops.iter().rev().cloned().collect();
            prop_assert!(same(&forward, &backward));
            let turn = order.index(ops.len());
            let rotated: Oplog = ops[turn..].iter().chain(&ops[..turn]).chain(&ops).cloned().collect();
            prop_assert!(same(&forward, &rotated));
        }

        #[test]
        fn an_operation_comes_after_all_that_its_author_saw(ops in history()) {
            let log: Oplog = ops.into_iter().collect();
            for op in log.iter() {
                prop_assert!(op.deps().iter().all(|dep| log.get(dep).unwrap().key() < op.key()));
            }
        }

        #[test]
        fn removing_leaves_the_log_as_if_it_had_never_been_inserted(ops in history(), which in any::<prop::sample::Index>()) {
            let gone = which.get(&ops).sha();
            let mut log: Oplog = ops.iter().cloned().collect();
            log.remove_all(&[gone]);
            let without: Oplog = ops.into_iter().filter(|op| op.sha() != gone).collect();
            prop_assert!(same(&log, &without));
        }
    }
}
