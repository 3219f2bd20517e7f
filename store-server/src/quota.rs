//! How much each user may keep here, set by the store's owner. On disk as notes of the engine, and all in memory.
//!
//! A quota is looked at before anything is written. Operations, blobs, and what is noted about logs count together; what
//! is here already stays here, whatever is set later. A base, a checkpoint that waits and the name of a log may go a
//! quarter beyond it, because pruning is how a user makes room.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use gigfs_core::api::{PushResult, UserRoom};
use gigfs_core::{ErrorCode, Refusal, UserName};
use gigfs_storage::{Append, Batch, Engine, StorageError};
use parking_lot::{Mutex, RwLock};

use crate::blob::Blobs;
use crate::commit::Commits;
use crate::push::Admitted;
use crate::refusal;

mod noted;

/// The quotas of all users.
#[derive(Clone)]
pub(crate) struct Quotas {
    of_users: Arc<RwLock<BTreeMap<UserName, u64>>>,
    /// Held through a change, on a thread that may block. Never `of_users`, which the thread reads that writes the change.
    changing: Arc<Mutex<()>>,
    /// Of users for whom nothing else is set.
    of_others: Option<u64>,
    blobs: Arc<Blobs>,
    /// Bytes of the notes about each user's logs.
    noted: Arc<Mutex<BTreeMap<UserName, u64>>>,
}

impl Quotas {
    /// Reads the quotas.
    pub(crate) fn load(engine: &dyn Engine, of_others: Option<u64>, blobs: Arc<Blobs>) -> Result<Self, StorageError> {
        let of_users = Arc::new(RwLock::new(of_users_in(engine)?));
        let noted = Arc::new(Mutex::new(noted::load(engine)?));
        Ok(Self { of_users, changing: Arc::default(), of_others, blobs, noted })
    }

    /// Returns the bytes that a user may keep, if there is a limit.
    pub(crate) fn of(&self, user: &UserName) -> Option<u64> {
        self.of_users.read().get(user).copied().or(self.of_others)
    }

    /// Sets a user's quota, or the one of those for whom nothing is set. Blocks the thread.
    pub(crate) fn set(&self, user: &UserName, bytes: Option<u64>, commits: &Commits) -> Result<(), Refusal> {
        let key = [QUOTA, user.as_str().as_bytes()].concat().into();
        let _changing = self.changing.lock();
        commits.notes(vec![(key, bytes.map(|bytes| Bytes::copy_from_slice(&bytes.to_be_bytes())))])?;
        let mut of_users = self.of_users.write();
        match bytes {
            Some(bytes) => drop(of_users.insert(user.clone(), bytes)),
            None => drop(of_users.remove(user)),
        }
        Ok(())
    }

    /// Returns what a user keeps here and may keep. Blocks the thread.
    pub(crate) fn room(&self, user: &UserName, engine: &dyn Engine) -> Result<UserRoom, Refusal> {
        let oplogs = self.of_logs(user, engine).map_err(|error| refusal::storage(&error))?;
        Ok(UserRoom { quota: self.of(user), oplogs, blobs: self.blobs.used(user)? })
    }

    /// Returns the bytes of operations, bases and notes that a user has here.
    fn of_logs(&self, user: &UserName, engine: &dyn Engine) -> Result<u64, StorageError> {
        let noted = self.noted.lock().get(user).copied().unwrap_or(0);
        Ok(engine.usage(user)?.saturating_add(noted))
    }

    /// Counts what a commit does to the notes about logs, and adds the new sums to it. They count once it is on disk.
    pub(crate) fn count_notes(&self, batch: &mut Batch, engine: &dyn Engine) -> Result<Counted, StorageError> {
        let counted = noted::after(&batch.notes, &self.noted.lock(), engine)?;
        batch.notes.extend(counted.iter().map(noted::note));
        Ok(Counted(counted))
    }

    /// Takes over what a commit did to the notes, which is on disk now.
    pub(crate) fn counted(&self, Counted(counted): Counted) {
        self.noted.lock().extend(counted);
    }

    /// Refuses a base, or a note about a log, that goes too far beyond a user's quota. Blocks the thread.
    pub(crate) fn check_base(&self, user: &UserName, bytes: usize, engine: &dyn Engine) -> Result<(), Refusal> {
        let Some(quota) = self.of(user) else { return Ok(()) };
        let used = self.used(user, engine)?;
        match used.saturating_add(bytes as u64) <= quota.saturating_add(quota / 4) {
            true => Ok(()),
            false => Err(full(user, used, quota)),
        }
    }

    /// Refuses those operations of a push that are new here and do not fit beside what the user has, and `waiting` bytes
    /// that are written with it. Once one does not fit, none that comes after it does: it may depend on it. Returns the
    /// bytes that are to be written.
    pub(crate) fn keep_to(
        &self,
        admitted: &mut Admitted,
        waiting: u64,
        engine: &dyn Engine,
    ) -> Result<u64, StorageError> {
        let size = admitted.size() as u64;
        let Some(log) = admitted.log().cloned() else { return Ok(0) };
        let Some(quota) = self.of(&log.user) else { return Ok(size) };
        // Whoever asks for blobs is told of a disk that fails; operations are counted without them then.
        let used = self.of_logs(&log.user, engine)?.saturating_add(self.blobs.used(&log.user).unwrap_or(0));
        let mut left = quota.saturating_sub(used.saturating_add(waiting));
        if size <= left {
            return Ok(size);
        }
        let (mut taken, mut is_full) = (0, false);
        admitted.refuse_some(|append| {
            let is_here = match append {
                Append::Op { op, .. } | Append::Vouched { op, .. } => {
                    engine.find(&log, &op.sha())?.is_some() || engine.is_covered(&log, &op.sha())?
                }
                Append::Stamp { .. } => false,
            };
            if is_here {
                return Ok(None);
            }
            let size = Admitted::size_of(append) as u64;
            is_full |= size > left;
            if is_full {
                return Ok(Some(PushResult::Refused(full(&log.user, used, quota))));
            }
            (left, taken) = (left - size, taken + size);
            Ok(None)
        })?;
        admitted.refuse_unsigned();
        Ok(taken)
    }

    fn used(&self, user: &UserName, engine: &dyn Engine) -> Result<u64, Refusal> {
        let room = self.room(user, engine)?;
        Ok(room.oplogs.saturating_add(room.blobs))
    }
}

/// What a commit does to the notes about logs: the users whom it touches, and what they have then.
#[must_use]
pub(crate) struct Counted(BTreeMap<UserName, u64>);

/// Reads the quotas that are set.
fn of_users_in(engine: &dyn Engine) -> Result<BTreeMap<UserName, u64>, StorageError> {
    let mut of_users = BTreeMap::new();
    for (key, value) in engine.notes(QUOTA)? {
        let user = str::from_utf8(&key[QUOTA.len()..]).ok().and_then(|name| UserName::parse(name).ok());
        match (user, <[u8; 8]>::try_from(&value[..])) {
            (Some(user), Ok(bytes)) => drop(of_users.insert(user, u64::from_be_bytes(bytes))),
            (user, _) => tracing::error!(?user, "a quota cannot be read and is left out"),
        }
    }
    Ok(of_users)
}

/// Reads all that is kept about quotas, for the fuzzer alone.
pub(crate) fn read(engine: &dyn Engine) -> Result<(), StorageError> {
    of_users_in(engine)?;
    noted::load(engine).map(drop)
}

/// Says that a user's quota is full.
pub(crate) fn full(user: &UserName, used: u64, quota: u64) -> Refusal {
    let message =
        format!("the user {user} keeps {used} of {quota} bytes at this store, and this does not fit beside them");
    Refusal::new(ErrorCode::InsufficientStorage, message)
        .hint("nothing is lost: it stays queued, and goes out once the store's owner has made room (`gig store quota`)")
}

/// Begins the keys of quotas' notes. // persisted
pub(crate) const QUOTA: &[u8] = b"quota/";
