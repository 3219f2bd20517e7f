//! Authors' identities for the processes of one device that share a store.
//!
//! Beside the database, `actors/<incarnation>/` has one empty file an author, and a process that writes as this author
//! holds the file's lock, which ends with the process however it ends. What an author wrote is in the database, so
//! whoever takes the lock next can go on as that author. An author of an older incarnation is never taken again: the
//! database may have lost what it wrote.

use std::fs::{self, File, TryLockError};
use std::path::Path;

use gigfs_core::{ActorId, Incarnation};

use crate::engine::StorageError;
use crate::home::{self, io_error};

/// The right to write as one author, until it is dropped or the process ends.
#[derive(Debug)]
pub struct ActorLease {
    actor: ActorId,
    /// Unlocks when it is closed.
    _lock: File,
}

impl ActorLease {
    /// Returns the author.
    pub fn actor(&self) -> ActorId {
        self.actor
    }
}

/// Takes a free author of this incarnation, or makes a new one.
pub(super) fn take(folder: &Path, incarnation: Incarnation) -> Result<ActorLease, StorageError> {
    let folder = folder.join("actors").join(incarnation.to_string());
    home::create_folder(&folder)?;
    let mut known = Vec::new();
    for entry in fs::read_dir(&folder).map_err(|error| io_error("list", &folder, &error))? {
        let entry = entry.map_err(|error| io_error("list", &folder, &error))?;
        known.extend(entry.file_name().to_str().and_then(|name| name.parse::<ActorId>().ok()));
    }
    known.sort_unstable();
    for actor in known {
        if let Some(lease) = lock(&folder, actor)? {
            return Ok(lease);
        }
    }
    loop {
        // Another process may see the file and lock it before this one does; then make another.
        if let Some(lease) = lock(&folder, ActorId::from_bytes(crate::mint()?))? {
            home::sync_folder(&folder)?;
            return Ok(lease);
        }
    }
}

fn lock(folder: &Path, actor: ActorId) -> Result<Option<ActorLease>, StorageError> {
    let path = folder.join(actor.to_string());
    let file = home::create_file(&path)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(ActorLease { actor, _lock: file })),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(io_error("lock", &path, &error)),
    }
}
