//! What a world knows of all that was ever written and committed, to check what its replicas make of it.

use std::collections::{BTreeMap, BTreeSet};

use gigfs_core::commit::with_all;
use gigfs_core::{BaseId, Checkpoint, Digest, Kind, LogName, Op, Oplog, Payload, Sha};

use crate::payload::write_id;

/// Everything that was written, and what each checkpoint covers.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    ops: BTreeMap<LogName, BTreeMap<Sha, Op>>,
    /// What they were numbered.
    numbers: BTreeMap<Sha, u64>,
    /// Checkpoints that clients proposed, with what each newly covers.
    proposed: BTreeMap<Sha, (Checkpoint, BTreeSet<Sha>)>,
    covered: BTreeMap<Sha, BTreeSet<Sha>>,
    /// Logs that began with the state of another one's base.
    copies: BTreeMap<LogName, Sha>,
}

impl Ledger {
    /// Notes operations that were written or dated again.
    pub(crate) fn note(&mut self, log: &LogName, ops: Vec<Op>) {
        self.numbers.extend(ops.iter().filter_map(|op| Some((op.sha(), write_id(op)?))));
        let known = self.ops.entry(log.clone()).or_default();
        known.extend(ops.into_iter().map(|op| (op.sha(), op)));
    }

    /// Notes a checkpoint that a client proposes who holds `oplog` on top of its base.
    pub(crate) fn propose(&mut self, log: &LogName, sha: Sha, record: &[u8], oplog: &Oplog) {
        if let Ok((checkpoint, _)) = Checkpoint::from_record(log, record, sha) {
            let deps = |sha: &Sha| Ok::<_, ()>(oplog.get(sha).map(|op| op.deps().to_vec()));
            let newly = checkpoint.follow(true, Digest::default(), deps).unwrap_or_default();
            self.proposed.insert(sha, (checkpoint, newly));
        }
    }

    /// Returns the logs that were begun as copies.
    pub(crate) fn copies(&self) -> impl Iterator<Item = &LogName> {
        self.copies.keys()
    }

    /// Notes that a base lives on in a log of its own.
    pub(crate) fn copied(&mut self, base: BaseId, copy: Option<LogName>) {
        self.copies.extend(copy.map(|copy| (copy, base.sha)));
    }

    /// Returns what a committed checkpoint covers.
    pub(crate) fn covered(&self, base: Option<BaseId>) -> BTreeSet<Sha> {
        base.and_then(|base| self.covered.get(&base.sha)).cloned().unwrap_or_default()
    }

    /// Returns a committed checkpoint as it is.
    pub(crate) fn checkpoint(&self, base: Option<BaseId>) -> Option<&Checkpoint> {
        self.proposed.get(&base?.sha).map(|(checkpoint, _)| checkpoint)
    }

    /// Returns every checkpoint of a log that was ever proposed, in the order of their shas.
    pub(crate) fn proposed(&self, log: &LogName) -> Vec<Checkpoint> {
        let of_log = self.proposed.iter().filter(|(sha, (checkpoint, _))| checkpoint.sha(log) == **sha);
        of_log.map(|(_, (checkpoint, _))| checkpoint.clone()).collect()
    }

    /// Returns the number of the write that an operation carries, sealed or not.
    pub(crate) fn number(&self, op: &Op) -> Option<u64> {
        self.numbers.get(&op.sha()).copied()
    }

    /// Returns everything that was ever written to a log.
    pub(crate) fn written(&self, log: &LogName) -> Oplog {
        self.ops.get(log).into_iter().flat_map(BTreeMap::values).cloned().collect()
    }

    /// Returns an operation by its identity.
    pub(crate) fn op(&self, log: &LogName, sha: &Sha) -> Option<&Op> {
        self.ops.get(log)?.get(sha)
    }

    /// Returns what all bases cover that live on in logs of their own.
    pub(crate) fn in_copies(&self) -> BTreeSet<Sha> {
        self.copies.values().filter_map(|base| self.covered.get(base)).flatten().copied().collect()
    }

    /// Checks a checkpoint that the table is about to commit: it names what it covers exactly, and its state is the fold of
    /// that on top of its parent's, unless `any_state` is fine.
    pub(crate) fn commit(
        &mut self,
        kind: &dyn Kind,
        readable: impl Fn(&Checkpoint) -> Checkpoint,
        log: &LogName,
        sha: Sha,
        any_state: bool,
    ) -> Result<(), String> {
        if self.covered.contains_key(&sha) {
            return Ok(());
        }
        let (checkpoint, newly) = self.proposed.get(&sha).ok_or("nobody proposed it")?;
        if self.copies.contains_key(log) && checkpoint.parent.is_none() {
            self.covered.insert(sha, BTreeSet::new());
            return Ok(());
        }
        let before = match checkpoint.parent {
            Some(parent) => self.covered.get(&parent).cloned().ok_or("its parent was never committed")?,
            None => BTreeSet::new(),
        };
        let all: BTreeSet<Sha> = before.union(newly).copied().collect();
        if with_all(Digest::default(), &all) != checkpoint.digest {
            return Err("its digest is not that of what it covers".to_owned());
        }
        let newly: Oplog = newly.iter().filter_map(|sha| self.op(log, sha)).cloned().collect();
        if !any_state && !newly.is_empty() {
            let mut fold = kind.fold();
            let parent = checkpoint.parent.and_then(|parent| self.proposed.get(&parent));
            fold.rebase(parent.map(|(parent, _)| readable(parent)).as_ref());
            newly.iter().for_each(|op| fold.inserted(&newly, op));
            if Payload::Plain(fold.state(&newly)?.state.into()) != readable(checkpoint).state {
                return Err("its state is not the fold of what it covers".to_owned());
            }
        }
        self.covered.insert(sha, all);
        Ok(())
    }
}
