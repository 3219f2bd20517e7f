//! What a world knows of all that was ever written and committed, to check what its replicas make of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use gigfs_core::commit::with_all;
use gigfs_core::{BaseId, Checkpoint, Closure, Digest, Kind, LogName, Op, Oplog, Payload, Sha, TypeName};

/// Everything that was written, and what each checkpoint covers.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    ops: BTreeMap<LogName, BTreeMap<Sha, Op>>,
    proposed: BTreeMap<Sha, Checkpoint>,
    covered: BTreeMap<Sha, BTreeSet<Sha>>,
    /// Logs that began with the state of another one's base.
    copies: BTreeMap<LogName, Sha>,
}

impl Ledger {
    /// Notes operations that were written or dated again.
    pub(crate) fn note(&mut self, log: &LogName, ops: Vec<Op>) {
        let known = self.ops.entry(log.clone()).or_default();
        known.extend(ops.into_iter().map(|op| (op.sha(), op)));
    }

    /// Notes a checkpoint that a client proposes.
    pub(crate) fn propose(&mut self, log: &LogName, sha: Sha, record: &[u8]) {
        if let Ok((checkpoint, _)) = Checkpoint::from_record(log, record, sha) {
            self.proposed.insert(sha, checkpoint);
        }
    }

    /// Notes that a base lives on in a log of its own.
    pub(crate) fn copied(&mut self, base: BaseId, copy: Option<LogName>) {
        self.copies.extend(copy.map(|copy| (copy, base.sha)));
    }

    /// Returns what a committed checkpoint covers.
    pub(crate) fn covered(&self, base: Option<BaseId>) -> BTreeSet<Sha> {
        base.and_then(|base| self.covered.get(&base.sha)).cloned().unwrap_or_default()
    }

    /// Returns a committed checkpoint.
    pub(crate) fn checkpoint(&self, base: Option<BaseId>) -> Option<&Checkpoint> {
        self.proposed.get(&base?.sha)
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
        kinds: &BTreeMap<TypeName, Arc<dyn Kind>>,
        log: &LogName,
        sha: Sha,
        any_state: bool,
    ) -> Result<(), String> {
        if self.covered.contains_key(&sha) {
            return Ok(());
        }
        let checkpoint = self.proposed.get(&sha).ok_or("nobody proposed it")?;
        if self.copies.contains_key(log) && checkpoint.parent.is_none() {
            self.covered.insert(sha, BTreeSet::new());
            return Ok(());
        }
        let before = match checkpoint.parent {
            Some(parent) => self.covered.get(&parent).cloned().ok_or("its parent was never committed")?,
            None => BTreeSet::new(),
        };
        let ops = self.ops.get(log).cloned().unwrap_or_default();
        let deps = |sha: &Sha| {
            let op = ops.get(sha).filter(|_| !before.contains(sha));
            Ok::<_, String>(op.map(|op| op.deps().to_vec()))
        };
        let closure = Closure::of(&checkpoint.covers, |sha| Ok(before.contains(sha)), deps)?;
        if !closure.missing.is_empty() {
            return Err(format!("it covers {} operations that were never written", closure.missing.len()));
        }
        let all: BTreeSet<Sha> = before.union(&closure.held).copied().collect();
        if with_all(Digest::default(), &all) != checkpoint.digest {
            return Err("its digest is not that of what it covers".to_owned());
        }
        let newly: Oplog = closure.held.iter().filter_map(|sha| ops.get(sha)).cloned().collect();
        if !any_state && !newly.is_empty() {
            let kind = kinds.get(&log.kind).ok_or("nothing reads the type")?;
            let mut fold = kind.fold();
            fold.rebase(checkpoint.parent.and_then(|parent| self.proposed.get(&parent)));
            newly.iter().for_each(|op| fold.inserted(&newly, op));
            if Payload::Plain(fold.state(&newly)?.state.into()) != checkpoint.state {
                return Err("its state is not the fold of what it covers".to_owned());
            }
        }
        self.covered.insert(sha, all);
        Ok(())
    }
}
