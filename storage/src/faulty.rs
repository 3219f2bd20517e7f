//! An engine that fails as it is told to, for tests and the simulator. It has no randomness of its own.

use std::collections::VecDeque;

use bytes::Bytes;
use gigfs_core::api::LogHeader;
use gigfs_core::{Base, ChannelName, Date, Incarnation, LogName, Path, PathPrefix, Sha, StoreId, TypeName, UserName};
use parking_lot::Mutex;

use crate::engine::{Appended, Arrival, Batch, Engine, LogTail, Page, StorageError, StoredOp};
use crate::memory::Memory;

/// One way for a write to fail: a commit, or forgetting what was retained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The disk is full; nothing is written.
    Full,
    /// The disk fails before anything is written.
    Io,
    /// The batch is written and on disk, and yet the caller is told that it failed.
    Unacknowledged,
    /// The batch is written, the caller is told that it failed, and a crash before the next good commit takes it away.
    Unsynced,
}

/// An [`Engine`] in memory with faults. A crash leaves what was on disk and nothing else.
#[derive(Debug)]
pub struct Faulty {
    live: Memory,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    faults: VecDeque<Fault>,
    reads_denied: bool,
    crashed: bool,
    /// What is on disk, where that is less than what is seen.
    synced: Option<Memory>,
    commits: u64,
}

impl Faulty {
    /// Makes an empty engine with these identities and no faults.
    pub fn new(store: StoreId, incarnation: Incarnation) -> Self {
        Self::over(Memory::new(store, incarnation))
    }

    fn over(live: Memory) -> Self {
        Self { live, state: Mutex::default() }
    }

    /// Has the writes to come fail, each in its way, after those that were told before.
    pub fn fail(&self, faults: impl IntoIterator<Item = Fault>) {
        self.state.lock().faults.extend(faults);
    }

    /// Has every read fail, or none any more.
    pub fn deny_reads(&self, denied: bool) {
        self.state.lock().reads_denied = denied;
    }

    /// Tells whether a crash would take away something that can be read.
    pub fn is_unsynced(&self) -> bool {
        self.state.lock().synced.is_some()
    }

    /// Returns how many writes went through.
    pub fn commits(&self) -> u64 {
        self.state.lock().commits
    }

    /// Ends this engine, whose every call fails from now on, and returns what a new process finds on the disk.
    #[must_use]
    pub fn crash(&self) -> Self {
        let mut state = self.state.lock();
        state.crashed = true;
        let disk = state.synced.as_ref().unwrap_or(&self.live);
        Self::over(disk.copy(self.live.incarnation()))
    }

    /// Returns an engine of its own with what is on disk now, living as `incarnation`: a backup that is restored.
    #[must_use]
    pub fn restored(&self, incarnation: Incarnation) -> Self {
        let state = self.state.lock();
        Self::over(state.synced.as_ref().unwrap_or(&self.live).copy(incarnation))
    }

    fn writing<T>(&self, write: impl FnOnce(&Memory) -> Result<T, StorageError>) -> Result<T, StorageError> {
        let mut state = self.state.lock();
        if state.crashed {
            return Err(failed("write"));
        }
        match state.faults.pop_front() {
            None => {
                let written = write(&self.live)?;
                state.synced = None;
                state.commits += 1;
                Ok(written)
            }
            Some(Fault::Full) => Err(StorageError::Full { place: "a faulty engine".to_owned() }),
            Some(Fault::Io) => Err(failed("write")),
            Some(Fault::Unacknowledged) => {
                write(&self.live)?;
                state.synced = None;
                Err(failed("sync"))
            }
            Some(Fault::Unsynced) => {
                let before = self.live.copy(self.live.incarnation());
                write(&self.live)?;
                state.synced.get_or_insert(before);
                Err(failed("sync"))
            }
        }
    }

    fn reading(&self) -> Result<&Memory, StorageError> {
        let state = self.state.lock();
        match state.crashed || state.reads_denied {
            true => Err(failed("read")),
            false => Ok(&self.live),
        }
    }
}

fn failed(action: &'static str) -> StorageError {
    StorageError::Io { action, place: "a faulty engine".to_owned(), why: "it was told to fail".to_owned() }
}

impl Engine for Faulty {
    fn store_id(&self) -> StoreId {
        self.live.store_id()
    }

    fn incarnation(&self) -> Incarnation {
        self.live.incarnation()
    }

    fn commit(&self, batch: &Batch) -> Result<Vec<Appended>, StorageError> {
        self.writing(|live| live.commit(batch))
    }

    fn tail(&self, log: &LogName) -> Result<Option<LogTail>, StorageError> {
        self.reading()?.tail(log)
    }

    fn read(&self, log: &LogName, after: u64, page: Page) -> Result<Vec<StoredOp>, StorageError> {
        self.reading()?.read(log, after, page)
    }

    fn inventory(&self, log: &LogName, after: u64, max: usize) -> Result<Vec<(u64, Sha)>, StorageError> {
        self.reading()?.inventory(log, after, max)
    }

    fn find(&self, log: &LogName, sha: &Sha) -> Result<Option<StoredOp>, StorageError> {
        self.reading()?.find(log, sha)
    }

    fn base(&self, log: &LogName) -> Result<Option<Base>, StorageError> {
        self.reading()?.base(log)
    }

    fn is_covered(&self, log: &LogName, sha: &Sha) -> Result<bool, StorageError> {
        self.reading()?.is_covered(log, sha)
    }

    fn covered(&self, log: &LogName, after: Option<&Sha>, max: usize) -> Result<Vec<Sha>, StorageError> {
        self.reading()?.covered(log, after, max)
    }

    fn retained(&self, log: &LogName, after: u64, page: Page) -> Result<Vec<(u64, StoredOp)>, StorageError> {
        self.reading()?.retained(log, after, page)
    }

    fn base_of(&self, log: &LogName, generation: u64) -> Result<Option<Base>, StorageError> {
        self.reading()?.base_of(log, generation)
    }

    fn forget_retained(&self, before: Date, max: usize) -> Result<usize, StorageError> {
        self.writing(|live| live.forget_retained(before, max))
    }

    fn list(
        &self,
        user: &UserName,
        channel: &ChannelName,
        prefix: &PathPrefix,
        after: Option<(&TypeName, &Path)>,
        max: usize,
    ) -> Result<Vec<(LogName, LogHeader)>, StorageError> {
        self.reading()?.list(user, channel, prefix, after, max)
    }

    fn position(&self, user: &UserName, channel: &ChannelName) -> Result<u64, StorageError> {
        self.reading()?.position(user, channel)
    }

    fn feed(
        &self,
        user: &UserName,
        channel: &ChannelName,
        after: u64,
        page: Page,
    ) -> Result<Vec<Arrival>, StorageError> {
        self.reading()?.feed(user, channel, after, page)
    }

    fn note(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        self.reading()?.note(key)
    }

    fn notes(&self, prefix: &[u8]) -> Result<Vec<(Bytes, Bytes)>, StorageError> {
        self.reading()?.notes(prefix)
    }

    fn usage(&self, user: &UserName) -> Result<u64, StorageError> {
        self.reading()?.usage(user)
    }
}
