//! Which operations a checkpoint stands for.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::{ActorId, Seq, Sha};
use crate::op::Op;

/// An actor's entries in a covered set, ascending and at least one: its last operation, and those of its operations on
/// which nothing in the set depends.
pub type Heads = Vec<(Seq, Sha)>;

/// A set of operations that is closed under `deps`, named by its heads: what the parent checkpoint covers, these
/// operations, and all that they depend on.
///
/// For each actor it names the last operation, so whoever does not hold the set can tell of most operations whether they
/// are in it: see [`Covers::place`]. Only a store that has the shas of the whole set can tell of all.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Covers(BTreeMap<ActorId, Heads>);

/// What the heads of a covered set say about one operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// It is one of the heads.
    Inside,
    /// It comes after all that the set has of its actor.
    Outside,
    /// It is in the set unless its actor used one seq twice, as a device does that was restored from a backup unawares.
    Doubtful,
}

impl Covers {
    /// Makes a covered set of its entries as they stand in a record. [`crate::Checkpoint::check`] says whether they are
    /// well formed.
    pub fn from_entries(entries: impl IntoIterator<Item = (ActorId, Heads)>) -> Self {
        Self(entries.into_iter().collect())
    }

    /// Iterates over the actors and their entries.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = (&ActorId, &Heads)> {
        self.0.iter()
    }

    /// Iterates over the shas of all entries.
    pub fn shas(&self) -> impl Iterator<Item = &Sha> {
        self.0.values().flatten().map(|(_, sha)| sha)
    }

    /// Returns the last seq of an actor in the set.
    pub fn last_seq(&self, actor: ActorId) -> Option<Seq> {
        self.0.get(&actor)?.last().map(|(seq, _)| *seq)
    }

    /// Tells where an operation stands.
    pub fn place(&self, actor: ActorId, seq: Seq, sha: &Sha) -> Place {
        match self.0.get(&actor) {
            Some(heads) if heads.contains(&(seq, *sha)) => Place::Inside,
            Some(heads) if heads.last().is_some_and(|(last, _)| seq <= *last) => Place::Doubtful,
            _ => Place::Outside,
        }
    }

    /// Tells where an operation stands.
    pub fn place_of(&self, op: &Op) -> Place {
        self.place(op.actor(), op.seq(), &op.sha())
    }

    /// Tells whether the set has all that another one has, as far as heads can tell.
    pub fn includes(&self, other: &Self) -> bool {
        let has = |actor: &ActorId, (seq, sha): &(Seq, Sha)| self.place(*actor, *seq, sha) != Place::Outside;
        let beyond = |actor: &ActorId, heads: &Heads| {
            // The last operation of an actor is named on both sides.
            let last = heads.last();
            let same = last.zip(self.0.get(actor)).is_some_and(|(last, own)| own.contains(last));
            same || self.last_seq(*actor) > last.map(|(seq, _)| *seq)
        };
        other.0.iter().all(|(actor, heads)| beyond(actor, heads) && heads.iter().all(|head| has(actor, head)))
    }

    /// Returns the set with operations added that are closed under `deps` together with it.
    #[must_use]
    pub fn with<'a>(&self, ops: impl IntoIterator<Item = &'a Op>) -> Self {
        let mut depended: BTreeSet<&Sha> = BTreeSet::new();
        let mut added: BTreeMap<ActorId, Heads> = BTreeMap::new();
        for op in ops {
            depended.extend(op.deps());
            added.entry(op.actor()).or_default().push((op.seq(), op.sha()));
        }
        let mut entries = added;
        for (actor, heads) in &self.0 {
            let last = heads.last().map(|(seq, _)| *seq);
            entries.entry(*actor).or_default().extend(heads.iter().filter(|(seq, _)| Some(*seq) == last));
        }
        for (actor, heads) in &mut entries {
            heads.sort_unstable();
            heads.dedup();
            let last = heads.last().map(|(seq, _)| *seq);
            let before = self.0.get(actor);
            let is_new = |head: &(Seq, Sha)| before.is_none_or(|before| !before.contains(head));
            heads.retain(|head| Some(head.0) == last || (is_new(head) && !depended.contains(&head.1)));
        }
        Self(entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::Checkpoint;
    use crate::date::Date;
    use crate::id::Digest;
    use crate::name::TypeName;
    use crate::op::Payload;
    use crate::oplog::Oplog;
    use crate::oplog::tests::write;
    use proptest::prelude::*;
    use serde_json::json;

    /// Returns what a checkpoint with these heads newly covers for somebody who holds `held`.
    fn reached(covers: &Covers, absent: &[Op], held: &Oplog) -> BTreeSet<Sha> {
        let mut absent: Vec<Sha> = absent.iter().map(Op::sha).collect();
        absent.sort_unstable();
        let checkpoint = Checkpoint {
            generation: Seq::FIRST,
            parent: None,
            covers: covers.clone(),
            absent,
            digest: Digest::default(),
            reducer: TypeName::parse("test").unwrap(),
            version: 1,
            state: Payload::plain(&json!(null)),
            date: Date::EPOCH,
            author: ActorId::from_bytes([0; 16]),
        };
        let deps = |sha: &Sha| Ok::<_, ()>(held.get(sha).map(|op| op.deps().to_vec()));
        checkpoint.follow(true, Digest::default(), deps).unwrap()
    }

    #[test]
    fn an_operation_is_inside_outside_or_in_doubt() {
        let mut log = Oplog::new();
        let ops: Vec<Op> = (0..3).map(|at| write(&mut log, 1, 1_000 + at, &json!(at))).collect();
        let covers = Covers::default().with(&ops[..2]);
        assert_eq!(covers.place_of(&ops[1]), Place::Inside);
        assert_eq!(covers.place_of(&ops[0]), Place::Doubtful);
        assert_eq!(covers.place_of(&ops[2]), Place::Outside);
        assert_eq!(covers.place(ActorId::from_bytes([9; 16]), Seq::FIRST, &ops[0].sha()), Place::Outside);
    }

    #[test]
    fn of_a_seq_that_was_used_twice_both_operations_are_named() {
        let (mut log, mut restored) = (Oplog::new(), Oplog::new());
        let first = write(&mut log, 1, 1_000, &json!("before"));
        let second = write(&mut restored, 1, 1_000, &json!("after"));
        log.insert(second.clone());
        let covers = Covers::default().with(log.iter());
        assert_eq!((covers.place_of(&first), covers.place_of(&second)), (Place::Inside, Place::Inside));
    }

    /// Histories of three writers who now and then see what the others wrote.
    fn histories() -> impl Strategy<Value = Vec<(u8, bool)>> {
        prop::collection::vec((0..3u8, any::<bool>()), 1..40)
    }

    fn played(history: &[(u8, bool)]) -> Oplog {
        let mut logs: Vec<Oplog> = (0..3).map(|_| Oplog::new()).collect();
        for (at, (writer, meet)) in history.iter().enumerate() {
            write(&mut logs[usize::from(*writer)], *writer, 1_000 + at as u64, &json!(at));
            if *meet {
                let other = usize::from(*writer + 1) % 3;
                let ops: Vec<Op> = logs[usize::from(*writer)].iter().cloned().collect();
                ops.into_iter().for_each(|op| _ = logs[other].insert(op));
            }
        }
        logs.into_iter().flat_map(|log| log.iter().cloned().collect::<Vec<_>>()).collect()
    }

    proptest! {
        #[test]
        fn heads_name_the_set_exactly_however_often_it_grew(history in histories(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..4)) {
            let log = played(&history);
            let all: Vec<Op> = log.iter().cloned().collect();
            // Replay order extends causality, so every prefix is closed under deps.
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(all.len() + 1)).collect();
            cuts.sort_unstable();
            let (mut covers, mut from) = (Covers::default(), 0);
            for cut in cuts {
                let grown = covers.with(&all[from..cut]);
                prop_assert!(grown.includes(&covers));
                prop_assert_eq!(covers.includes(&grown), from == cut);
                let expected: BTreeSet<Sha> = all[from..cut].iter().map(Op::sha).collect();
                // Whoever still holds what is covered already, or lacks some of it, comes to no other set.
                prop_assert_eq!(&reached(&grown, &all[..from], &log), &expected);
                let some: Oplog = all.iter().filter(|op| op.date().micros() % 3 != 0).cloned().collect();
                prop_assert!(reached(&grown, &all[..from], &some).is_subset(&expected));
                (covers, from) = (grown, cut);
                prop_assert!(all[..cut].iter().all(|op| covers.place_of(op) != Place::Outside));
                prop_assert!(all[cut..].iter().all(|op| covers.place_of(op) != Place::Inside));
            }
        }
    }
}
