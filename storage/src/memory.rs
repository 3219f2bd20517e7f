//! The engine in memory: for tests, for the simulator, and for clients that keep nothing.
//!
//! It is the plainest of the engines, and the others are checked against it.

use std::ops::Bound::{Excluded, Unbounded};

use bytes::Bytes;
use gigfs_core::api::LogHeader;
use gigfs_core::{Base, ChannelName, Date, Incarnation, LogName, Path, PathPrefix, Sha, StoreId, TypeName, UserName};
use parking_lot::Mutex;

use crate::base;
use crate::engine::{Appended, Arrival, Batch, Engine, LogTail, Page, StorageError, StoredOp};
use crate::tail::Filled;
use state::{Log, State};

mod state;

/// An [`Engine`] whose data ends with it.
#[derive(Debug)]
pub struct Memory {
    store: StoreId,
    incarnation: Incarnation,
    state: Mutex<State>,
}

impl Memory {
    /// Makes an empty engine with these identities. Whoever wants fresh ones calls [`Memory::fresh`].
    pub fn new(store: StoreId, incarnation: Incarnation) -> Self {
        Self { store, incarnation, state: Mutex::default() }
    }

    /// Makes an empty engine with identities of its own.
    ///
    /// # Errors
    /// [`StorageError::Io`] if the system has no randomness.
    pub fn fresh() -> Result<Self, StorageError> {
        Ok(Self::new(StoreId::from_bytes(crate::mint()?), Incarnation::from_bytes(crate::mint()?)))
    }

    /// Returns an engine of its own with the same data, living as `incarnation`.
    pub(crate) fn copy(&self, incarnation: Incarnation) -> Self {
        Self { store: self.store, incarnation, state: Mutex::new(self.state.lock().clone()) }
    }

    fn read_log<T: Default>(&self, log: &LogName, read: impl FnOnce(&Log) -> T) -> T {
        let state = self.state.lock();
        state.log(log).map(read).unwrap_or_default()
    }
}

impl Engine for Memory {
    fn store_id(&self) -> StoreId {
        self.store
    }

    fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    fn commit(&self, batch: &Batch) -> Result<Vec<Appended>, StorageError> {
        let checkpoints = base::checkpoints(batch, "an engine in memory")?;
        let mut state = self.state.lock();
        let appended = batch.appends.iter().map(|append| state.append(self.store, append)).collect();
        for (install, checkpoint) in batch.installs.iter().zip(&checkpoints) {
            state.install(install, checkpoint);
        }
        for (log, sha) in &batch.disputes {
            state.dispute(log, sha);
        }
        for (log, sha) in &batch.removes {
            state.remove(log, sha);
        }
        for log in &batch.restores {
            state.restore(log);
        }
        for (key, value) in &batch.notes {
            match value {
                Some(value) => state.notes.insert(key.clone(), value.clone()),
                None => state.notes.remove(key),
            };
        }
        Ok(appended)
    }

    fn tail(&self, log: &LogName) -> Result<Option<LogTail>, StorageError> {
        Ok(self.read_log(log, |kept| Some(kept.tail.clone())))
    }

    fn read(&self, log: &LogName, after: u64, page: Page) -> Result<Vec<StoredOp>, StorageError> {
        Ok(self.read_log(log, |kept| {
            let mut ops = Vec::new();
            let mut filled = Filled::default();
            for op in kept.ops.range((Excluded(after), Unbounded)).map(|(_, op)| &op.stored) {
                ops.push(op.clone());
                if filled.add(page, op.record.len()) {
                    break;
                }
            }
            ops
        }))
    }

    fn inventory(&self, log: &LogName, after: u64, max: usize) -> Result<Vec<(u64, Sha)>, StorageError> {
        Ok(self.read_log(log, |kept| {
            let ops = kept.ops.range((Excluded(after), Unbounded)).take(max);
            ops.map(|(&index, op)| (index, op.stored.sha)).collect()
        }))
    }

    fn find(&self, log: &LogName, sha: &Sha) -> Result<Option<StoredOp>, StorageError> {
        Ok(self.read_log(log, |kept| {
            let op = kept.shas.get(sha).and_then(|index| kept.ops.get(index));
            op.map(|op| op.stored.clone())
        }))
    }

    fn base(&self, log: &LogName) -> Result<Option<Base>, StorageError> {
        Ok(self.read_log(log, |kept| kept.base.clone()))
    }

    fn is_covered(&self, log: &LogName, sha: &Sha) -> Result<bool, StorageError> {
        Ok(self.read_log(log, |kept| kept.covered.contains(sha)))
    }

    fn covered(&self, log: &LogName, after: Option<&Sha>, max: usize) -> Result<Vec<Sha>, StorageError> {
        let from = after.map_or(Unbounded, Excluded);
        Ok(self.read_log(log, |kept| kept.covered.range((from, Unbounded)).take(max).copied().collect()))
    }

    fn retained(&self, log: &LogName, after: u64, page: Page) -> Result<Vec<(u64, StoredOp)>, StorageError> {
        Ok(self.read_log(log, |kept| {
            let mut ops = Vec::new();
            let mut filled = Filled::default();
            for op in kept.retained.range((Excluded(after), Unbounded)).map(|(_, op)| op) {
                ops.push((op.generation, op.stored.clone()));
                if filled.add(page, op.stored.record.len()) {
                    break;
                }
            }
            ops
        }))
    }

    fn base_of(&self, log: &LogName, generation: u64) -> Result<Option<Base>, StorageError> {
        Ok(self.read_log(log, |kept| {
            if kept.tail.header.base.is_some_and(|own| own.id.generation.get() == generation) {
                return kept.base.clone();
            }
            let of_generation = kept.superseded.iter().filter(|((of, _), _)| *of == generation);
            of_generation.max_by_key(|((_, sha), kept)| (kept.since, *sha)).map(|(_, kept)| kept.base.clone())
        }))
    }

    fn forget_retained(&self, before: Date, max: usize) -> Result<usize, StorageError> {
        Ok(self.state.lock().forget_retained(before, max))
    }

    fn list(
        &self,
        user: &UserName,
        channel: &ChannelName,
        prefix: &PathPrefix,
        after: Option<(&TypeName, &Path)>,
        max: usize,
    ) -> Result<Vec<(LogName, LogHeader)>, StorageError> {
        let state = self.state.lock();
        let Some(found) = state.channels.get(&(user.clone(), channel.clone())) else { return Ok(Vec::new()) };
        let listed = found.logs.iter().filter(|((kind, path), _)| after.is_none_or(|after| (kind, path) > after));
        let covered = listed.filter(|((_, path), _)| prefix.covers(path)).take(max);
        let name = |kind: &TypeName, path: &Path| LogName {
            user: user.clone(),
            channel: channel.clone(),
            kind: kind.clone(),
            path: path.clone(),
        };
        Ok(covered.map(|((kind, path), log)| (name(kind, path), log.tail.header)).collect())
    }

    fn position(&self, user: &UserName, channel: &ChannelName) -> Result<u64, StorageError> {
        let state = self.state.lock();
        Ok(state.channels.get(&(user.clone(), channel.clone())).map_or(0, |channel| channel.position))
    }

    fn feed(
        &self,
        user: &UserName,
        channel: &ChannelName,
        after: u64,
        page: Page,
    ) -> Result<Vec<Arrival>, StorageError> {
        let state = self.state.lock();
        let Some(found) = state.channels.get(&(user.clone(), channel.clone())) else { return Ok(Vec::new()) };
        let mut arrivals = Vec::new();
        let mut filled = Filled::default();
        for (&position, (log, index)) in found.feed.range((Excluded(after), Unbounded)) {
            let kept = state.log(log).and_then(|kept| kept.ops.get(index)).expect("the feed names what is kept");
            arrivals.push(Arrival { position, log: log.clone(), stored: kept.stored.clone() });
            if filled.add(page, kept.stored.record.len()) {
                break;
            }
        }
        Ok(arrivals)
    }

    fn note(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        Ok(self.state.lock().notes.get(key).cloned())
    }

    fn notes(&self, prefix: &[u8]) -> Result<Vec<(Bytes, Bytes)>, StorageError> {
        let state = self.state.lock();
        let from = state.notes.range(Bytes::copy_from_slice(prefix)..);
        let found = from.take_while(|(key, _)| key.starts_with(prefix));
        Ok(found.map(|(key, value)| (key.clone(), value.clone())).collect())
    }

    fn usage(&self, user: &UserName) -> Result<u64, StorageError> {
        Ok(self.state.lock().usage.get(user).copied().unwrap_or(0))
    }
}
