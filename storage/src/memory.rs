//! The engine in memory: for tests, for the simulator, and for clients that keep nothing.
//!
//! It is the plainest of the engines, and the others are checked against it.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};

use bytes::Bytes;
use gigfs_core::api::LogHeader;
use gigfs_core::{ChannelName, Incarnation, LogName, Path, PathPrefix, Sha, StoreId, TypeName, UserName};
use parking_lot::Mutex;

use crate::engine::{Append, Appended, Arrival, Batch, Engine, LogTail, Page, StorageError, StoredOp};
use crate::tail::Filled;

/// An [`Engine`] whose data ends with it.
#[derive(Debug)]
pub struct Memory {
    store: StoreId,
    incarnation: Incarnation,
    state: Mutex<State>,
}

#[derive(Debug, Clone, Default)]
struct State {
    channels: BTreeMap<(UserName, ChannelName), Channel>,
    usage: BTreeMap<UserName, u64>,
    notes: BTreeMap<Bytes, Bytes>,
}

#[derive(Debug, Clone, Default)]
struct Channel {
    position: u64,
    logs: BTreeMap<(TypeName, Path), Log>,
    feed: BTreeMap<u64, (LogName, u64)>,
}

#[derive(Debug, Clone, Default)]
struct Log {
    tail: LogTail,
    ops: BTreeMap<u64, Kept>,
    shas: BTreeMap<Sha, u64>,
}

#[derive(Debug, Clone)]
struct Kept {
    position: u64,
    stored: StoredOp,
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

impl State {
    fn log(&self, log: &LogName) -> Option<&Log> {
        let channel = self.channels.get(&(log.user.clone(), log.channel.clone()))?;
        channel.logs.get(&(log.kind.clone(), log.path.clone()))
    }

    fn append(&mut self, store: StoreId, append: &Append) -> Appended {
        let log = append.log();
        let channel = self.channels.entry((log.user.clone(), log.channel.clone())).or_default();
        let key = (log.kind.clone(), log.path.clone());
        let mut tail = channel.logs.get(&key).map(|kept| kept.tail.clone()).unwrap_or_default();
        let op = match tail.resolve(store, append) {
            Ok(op) => op,
            Err(error) => return Appended::Refused(error),
        };
        let kept = channel.logs.entry(key).or_default();
        let sha = op.sha();
        if let Some(&index) = kept.shas.get(&sha) {
            return Appended::Known { sha, index };
        }
        let record = Bytes::from(op.to_record());
        let index = tail.append(&op, record.len());
        channel.position += 1;
        *self.usage.entry(log.user.clone()).or_default() += record.len() as u64;
        let stored = StoredOp { index, sha, record };
        kept.tail = tail;
        kept.shas.insert(sha, index);
        kept.ops.insert(index, Kept { position: channel.position, stored: stored.clone() });
        channel.feed.insert(channel.position, (log.clone(), index));
        Appended::New(Arrival { position: channel.position, log: log.clone(), stored })
    }

    fn remove(&mut self, log: &LogName, sha: &Sha) {
        let Some(channel) = self.channels.get_mut(&(log.user.clone(), log.channel.clone())) else { return };
        let Some(kept) = channel.logs.get_mut(&(log.kind.clone(), log.path.clone())) else { return };
        let Some(op) = kept.shas.remove(sha).and_then(|index| kept.ops.remove(&index)) else { return };
        channel.feed.remove(&op.position);
        kept.tail.remove(sha, op.stored.record.len());
        if let Some(usage) = self.usage.get_mut(&log.user) {
            *usage -= op.stored.record.len() as u64;
        }
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
        let mut state = self.state.lock();
        let appended = batch.appends.iter().map(|append| state.append(self.store, append)).collect();
        for (log, sha) in &batch.removes {
            state.remove(log, sha);
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
