//! Opening: made whole under another name first, so that a folder with our name is never half made.
//!
//! The files are looked at before fjall is, which deletes what it cannot place. What is damaged is mended, and only a store
//! whose id is gone altogether does not open.

use std::fs;
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32};

use ::fjall::{Database, Error, KeyspaceCreateOptions, LsmError, PersistMode};
use gigfs_core::{Incarnation, StoreId};
use parking_lot::{Mutex, RwLock};

use super::files::{self, Depth};
use super::{Db, Failure, Fjall, Space, identity, key, mend};
use crate::damage::{Damage, MENDED, Mended};
use crate::engine::StorageError;
use crate::home::{self, io_error};

/// The format of keys and values. Format 1 knew no bases; all that it holds stands as it is in format 2. // persisted
const FORMAT: u64 = 2;
/// Bytes of blocks kept in memory.
const CACHE_BYTES: u64 = 64 * 1024 * 1024;
/// Bytes of journals, which opening reads all through.
const JOURNAL_BYTES_MAX: u64 = 128 * 1024 * 1024;
/// Threads that flush and compact. Of several, fjall's first never compacts, and spins while others do and more waits.
const WORKERS: usize = 1;

pub(super) fn open(folder: &Path) -> Result<Fjall, StorageError> {
    mend::settle(folder)?;
    let mut mended = None;
    if is_absent(folder)? {
        match identity::read(folder)? {
            None => create(folder, mint()?, Past::None)?,
            Some(store) => mended = Some(begin_again(folder, store)?),
        }
    } else if !is_ours(folder) {
        let why = format!("its file {:?} is missing", files::MARKER);
        return Err(storage_error("open", folder, Failure::damaged("the folder", why)));
    } else {
        let lock = files::Lock::take(folder)?;
        let damage = files::check(folder, Depth::Opening, |_| ())?;
        if !damage.is_empty() {
            mended = Some(mend::mend(folder, damage)?);
        }
        drop(lock);
    }
    let mut opened = match open_sound(folder) {
        Err(StorageError::Damaged { what, why, .. }) if mended.is_none() => {
            let lock = files::Lock::take(folder)?;
            mended = Some(mend::mend(folder, vec![Damage { what, why }])?);
            drop(lock);
            open_sound(folder)?
        }
        opened => opened?,
    };
    identity::keep(folder, opened.store)?;
    opened.mended = mended;
    Ok(opened)
}

/// Makes the data of a store that was here and is gone.
fn begin_again(folder: &Path, store: StoreId) -> Result<Mended, StorageError> {
    let damage = Damage::new(folder.display(), "it is gone");
    tracing::error!(folder = %folder.display(), %store, "the data is gone; the store begins again, with nothing");
    create(folder, store, Past::Damaged)?;
    Ok(Mended { damage: vec![damage], lost: Vec::new(), nameless: 0, kept_in: None })
}

/// Opens data whose files were looked at.
pub(super) fn open_sound(folder: &Path) -> Result<Fjall, StorageError> {
    let failed = |failure: Failure| storage_error("open", folder, failure);
    files::forget_lengths(folder)?;
    let db = database(folder).map_err(failed)?;
    let meta = db.space(Space::Meta);
    let get = |name: &str| {
        let value = meta.get(name).map_err(|error| failed(error.into()))?;
        value.ok_or_else(|| failed(Failure::damaged("the identity", format!("{name:?} is missing"))))
    };
    let format = key::last_number(&get("format")?).unwrap_or(0);
    if !(1..=FORMAT).contains(&format) {
        return Err(StorageError::UnknownFormat { place: folder.display().to_string(), found: format, known: FORMAT });
    }
    let identity = home::identity(&folder.join(files::MARKER))?;
    let before = meta.get("home").map_err(|error| failed(error.into()))?;
    let restored = before.as_ref().is_some_and(|before| **before != *identity);
    if before.is_none() || restored || format < FORMAT {
        let mut batch = db.database.batch().durability(Some(PersistMode::SyncData));
        if restored {
            tracing::warn!(folder = %folder.display(), "the data was copied or restored; it begins a new incarnation");
            batch.insert(meta, "incarnation", crate::mint::<16>()?);
        }
        batch.insert(meta, "home", identity);
        batch.insert(meta, "format", FORMAT.to_be_bytes());
        batch.commit().map_err(|error| failed(error.into()))?;
    }
    let store = StoreId::from_slice(&get("store")?);
    let incarnation = Incarnation::from_slice(&get("incarnation")?);
    let (Some(store), Some(incarnation)) = (store, incarnation) else {
        return Err(failed(Failure::damaged("the identity", "it has not 16 bytes")));
    };
    Ok(Fjall {
        folder: folder.to_owned(),
        store,
        incarnation,
        restored,
        mended: None,
        open: RwLock::new(Some(db)),
        is_stuck: AtomicBool::new(false),
        failed_behind: AtomicU32::new(0),
        cache: Mutex::default(),
        verified: Mutex::default(),
        noted: Mutex::default(),
    })
}

/// Tells whether a folder that is there may be fjall's.
pub(super) fn is_ours(folder: &Path) -> bool {
    folder.join(files::MARKER).is_file() || folder.join("keyspaces").is_dir()
}

fn mint() -> Result<StoreId, StorageError> {
    crate::mint().map(StoreId::from_bytes)
}

/// Tells whether there is no folder, or an empty one.
fn is_absent(folder: &Path) -> Result<bool, StorageError> {
    match fs::read_dir(folder) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(true),
        Err(error) => Err(io_error("open", folder, &error)),
    }
}

fn create(folder: &Path, store: StoreId, past: Past) -> Result<(), StorageError> {
    let (parent, draft) = (home::parent(folder), home::beside(folder, "new"));
    let failed = |error: std::io::Error| io_error("create", folder, &error);
    if draft.exists() {
        fs::remove_dir_all(&draft).map_err(failed)?;
    }
    home::create_folder(parent)?;
    create_at(&draft, store, past)?;
    fs::rename(&draft, folder).map_err(failed)?;
    home::sync_folder(parent)
}

/// What was there before data that is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Past {
    None,
    /// Data that was damaged or is gone, so that notes may be missing: [`MENDED`] says so until somebody has looked.
    Damaged,
}

/// Makes the empty data of a store in a folder that is not there.
pub(super) fn create_at(folder: &Path, store: StoreId, past: Past) -> Result<(), StorageError> {
    home::create_folder(folder)?;
    let failed = |failure| storage_error("create", folder, failure);
    let db = database(folder).map_err(failed)?;
    let mut batch = db.database.batch().durability(Some(PersistMode::SyncAll));
    let meta = db.space(Space::Meta);
    batch.insert(meta, "format", FORMAT.to_be_bytes());
    batch.insert(meta, "store", store.as_bytes());
    batch.insert(meta, "incarnation", crate::mint::<16>()?);
    if past == Past::Damaged {
        batch.insert(db.space(Space::Notes), key::note(MENDED), []);
    }
    batch.commit().map_err(|error| failed(error.into()))
}

/// Opens fjall itself. What it meets in damaged files may make it panic, which is damage and no more.
pub(super) fn database(folder: &Path) -> Result<Db, Failure> {
    let open = || -> Result<Db, Failure> {
        let builder = Database::builder(folder).cache_size(CACHE_BYTES).max_journaling_size(JOURNAL_BYTES_MAX);
        let database = builder.worker_threads(WORKERS).open()?;
        let spaces = Space::ALL.map(|(_, name)| database.keyspace(name, KeyspaceCreateOptions::default));
        let [a, b, c, d, e, f, g, h, i, j, k, l] = spaces;
        Ok(Db { spaces: [a?, b?, c?, d?, e?, f?, g?, h?, i?, j?, k?, l?], database })
    };
    match catch_unwind(AssertUnwindSafe(open)) {
        Ok(result) => result,
        Err(_) => Err(Failure::damaged("the database", "it cannot be opened")),
    }
}

/// Tells whether fjall failed because of what it read.
pub(super) fn is_damage(error: &Error) -> bool {
    match error {
        Error::Io(error) | Error::Storage(LsmError::Io(error)) => is_damage_by(error.kind()),
        Error::Locked | Error::InvalidVersion(Some(_)) | Error::Poisoned => false,
        _ => true,
    }
}

/// Tells whether the system says that a file is not what it was, rather than that it cannot be read.
pub(super) fn is_damage_by(kind: ErrorKind) -> bool {
    // A place before the beginning of a file that was cut off is an invalid input.
    matches!(kind, ErrorKind::UnexpectedEof | ErrorKind::InvalidData | ErrorKind::InvalidInput | ErrorKind::NotFound)
}

impl Drop for Fjall {
    fn drop(&mut self) {
        let open = self.open.get_mut().take();
        let was_open = open.is_some();
        drop(open);
        if was_open && let Err(error) = files::note_lengths(&self.folder) {
            tracing::warn!(%error, "what is cut off the files now is not noticed when they are opened again");
        }
    }
}

/// Turns a failure of fjall into ours.
pub(super) fn storage_error(action: &'static str, folder: &Path, failure: Failure) -> StorageError {
    let place = folder.display().to_string();
    match failure {
        Failure::Damaged { what, why } => StorageError::Damaged { place, what, why },
        Failure::Stopped => StorageError::Stopped { place },
        Failure::Fjall(error) if is_damage(&error) => {
            StorageError::Damaged { place, what: "the database".to_owned(), why: error.to_string() }
        }
        Failure::Fjall(Error::Io(error) | Error::Storage(LsmError::Io(error))) => io_error(action, folder, &error),
        Failure::Fjall(Error::Locked) => StorageError::Locked { place },
        Failure::Fjall(Error::InvalidVersion(Some(version))) => {
            StorageError::UnknownFormat { place, found: u64::from(u8::from(version)), known: 3 }
        }
        Failure::Fjall(Error::Poisoned) => StorageError::Io {
            action,
            place,
            why: "a write in the background failed, for lack of room or by the disk".to_owned(),
        },
        Failure::Fjall(error) => StorageError::Io { action, place, why: error.to_string() },
    }
}
