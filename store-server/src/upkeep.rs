//! What a store's owner has it do with all its data: looking at every byte of it, copying it, and putting a copy in place.
//!
//! A copy is a data folder like the store's own, with `backup.json` in it, which is written last.

use std::fmt::Display;
use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use gigfs_core::api::{Backup, DamageFound, StoreVerified, UpkeepProgress};
use gigfs_core::{ErrorCode, Refusal};
use gigfs_serve::{Event, files};
use gigfs_storage::{Damage, Engine as _, Fjall, Progress, StorageError, Verified, home};

use crate::blob::Blobs;
use crate::clock;
use crate::keys;
use crate::mirror;
use crate::refusal;
use crate::server::{BLOBS, OPLOGS};
use crate::store::Inner;
use crate::token::Signer;

/// Why a store's data folder could not be looked at, or put in place.
#[derive(Debug, thiserror::Error)]
pub enum UpkeepError {
    /// The oplogs cannot be opened.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A folder or a file in it cannot be used.
    #[error("{path} cannot be used: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The folder is not what `gig store backup` wrote, or not to its end.
    #[error("{path} holds no whole backup: its file \"{MANIFEST}\" {why}; take another one")]
    NoBackup {
        /// The folder.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// There is something where the data is to go.
    #[error("{path} is not empty; name a folder that is not there, or move what is there away")]
    NotEmpty {
        /// The folder.
        path: PathBuf,
    },
    /// The copy is damaged.
    #[error(
        "the backup in {path} is damaged: {first}, and {more} more; take another one, or copy it by hand and start \
        the store on it: it mends what it can"
    )]
    Damaged {
        /// The folder.
        path: PathBuf,
        /// The first thing.
        first: String,
        /// How many more there are.
        more: usize,
    },
}

/// Looks at everything in a store's data folder, or in a copy of it, that no server has open.
///
/// # Errors
/// [`UpkeepError`] if it cannot be looked at. What is damaged is in the answer.
pub fn verify(folder: &Path, mut progress: impl FnMut(UpkeepProgress)) -> Result<StoreVerified, UpkeepError> {
    let mut known = None;
    let look = |engine: &Fjall| {
        known = engine.note(keys::KNOWN_KEY)?;
        Ok(())
    };
    let oplogs = Fjall::verify_folder(&folder.join(OPLOGS), |at| progress(told(at)), look)?;
    let damage = own_files(folder, known.as_deref());
    let blobs = folder.join(BLOBS);
    let blobs = Blobs::at(&blobs);
    let told = |at| {
        progress(at);
        ControlFlow::Continue(())
    };
    verified(oplogs, damage, &blobs, told).map_err(|source| UpkeepError::Io { path: folder.join(BLOBS), source })
}

/// Puts a copy that a store made in the place of its data folder, which is not there or empty. The store that is started on it
/// begins a new incarnation, so that everybody compares what it has.
///
/// # Errors
/// [`UpkeepError`]; nothing is in place then.
pub fn restore(backup: &Path, folder: &Path, progress: impl FnMut(UpkeepProgress)) -> Result<Backup, UpkeepError> {
    let manifest = files::read_if_there(&backup.join(MANIFEST)).map_err(io_at(backup))?;
    let manifest = manifest.ok_or_else(|| "is not there".to_owned());
    let manifest: Result<Backup, String> =
        manifest.and_then(|json| serde_json::from_str(&json).map_err(|error| format!("cannot be read ({error})")));
    let manifest = manifest.map_err(|why| UpkeepError::NoBackup { path: backup.to_owned(), why })?;
    let draft = home::beside(folder, "new");
    for place in [folder, &draft] {
        if fs::read_dir(place).is_ok_and(|mut entries| entries.next().is_some()) {
            return Err(UpkeepError::NotEmpty { path: place.to_owned() });
        }
    }
    let restored = copy_and_look(backup, &draft, progress).and_then(|()| {
        // An empty folder may be there.
        _ = fs::remove_dir(folder);
        fs::rename(&draft, folder).map_err(io_at(folder))?;
        Ok(home::sync_folder(home::parent(folder))?)
    });
    if restored.is_err() {
        // What cannot be removed either is named by the next restore.
        _ = fs::remove_dir_all(&draft);
    }
    restored.map(|()| manifest)
}

/// Copies a backup to where nothing is. The copy is looked at, not the backup, which stays as it is.
fn copy_and_look(backup: &Path, to: &Path, mut progress: impl FnMut(UpkeepProgress)) -> Result<(), UpkeepError> {
    let (of, mut done) = (size(backup).map_err(io_at(backup))?, 0);
    let copied = copy(backup, to, &mut |bytes| {
        done += bytes;
        progress(UpkeepProgress { step: "bytes copied".to_owned(), done, of });
    });
    copied.map_err(io_at(to))?;
    let mut damage = verify(to, progress)?.damage.into_iter();
    if let Some(first) = damage.next() {
        let first = format!("{}: {}", first.what, first.why);
        return Err(UpkeepError::Damaged { path: backup.to_owned(), first, more: damage.len() });
    }
    fs::remove_file(to.join(MANIFEST)).map_err(io_at(to))?;
    Ok(home::sync_folder(to)?)
}

fn io_at(path: &Path) -> impl FnOnce(io::Error) -> UpkeepError {
    let path = path.to_owned();
    move |source| UpkeepError::Io { path, source }
}

impl Inner {
    /// Looks at everything while the store runs, as long as it is told to go on. Blocks the thread.
    pub(crate) fn verify(
        &self,
        mut progress: impl FnMut(UpkeepProgress) -> ControlFlow<()>,
    ) -> Result<StoreVerified, Refusal> {
        let verified = self.disk()?.verify(|at| progress(told(at))).map_err(|error| refusal::storage(&error))?;
        let damage = own_files(&self.data_dir, Some(self.signer.public().as_bytes()));
        self::verified(verified, damage, &self.blobs, progress).map_err(failed("the store's blobs"))
    }

    /// Copies everything into a folder while the store runs, as long as it is told to go on. Blocks the thread. Nothing is
    /// left in the folder if that fails.
    pub(crate) fn back_up(
        &self,
        folder: &Path,
        progress: impl FnMut(UpkeepProgress) -> ControlFlow<()>,
    ) -> Result<Backup, Refusal> {
        let disk = self.disk()?;
        let refused = |why: &str| {
            let message = format!("{} {why}", folder.display());
            Refusal::new(ErrorCode::BadRequest, message).hint("name a folder that is not there, as a whole path")
        };
        if !folder.is_absolute() {
            return Err(refused("is no whole path"));
        }
        if fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()) {
            return Err(refused("is not empty"));
        }
        if folder.starts_with(&self.data_dir) {
            return Err(refused("is in the store's own data folder"));
        }
        let was_there = folder.exists();
        files::create_private_dir(folder).map_err(failed(folder.display()))?;
        let copied = self.copy_all(disk, folder, progress);
        match &copied {
            Ok(_) => self.audit.note(Event::BackedUp { folder }),
            Err(_) => drop(clear(folder, was_there).inspect_err(|error| {
                tracing::warn!(folder = %folder.display(), %error, "what a failed backup left behind was not removed");
            })),
        }
        copied
    }

    fn copy_all(
        &self,
        disk: &Fjall,
        folder: &Path,
        mut progress: impl FnMut(UpkeepProgress) -> ControlFlow<()>,
    ) -> Result<Backup, Refusal> {
        let at = clock::date().micros();
        let records = disk.backup(&folder.join(OPLOGS), |at| progress(told(at)));
        let records = records.map_err(|error| refusal::storage(&error))?;
        // Blobs come before the operations that name them, so all that are named are there by now.
        let (mut blobs, mut damage) = (0, own_files(&self.data_dir, Some(self.signer.public().as_bytes())));
        let copy = Blobs::open(&folder.join(BLOBS)).map_err(failed(folder.display()))?;
        let each = self.blobs.each(|user, name, bytes| {
            match bytes {
                Some(bytes) => copy.put(user, name, bytes, |_| Ok(())).map(drop).map_err(io::Error::other)?,
                None => damage.push(found(format!("the blob {name} of {user}"), "it is not what was written")),
            }
            blobs += 1;
            unless_stopped(progress(UpkeepProgress { step: "blobs".to_owned(), done: blobs, of: blobs }))
        });
        each.map_err(failed("the store's blobs"))?;
        let backup = Backup { store: self.engine.store_id(), at, records, blobs, damage };
        self.copy_own_files(folder, &backup).map_err(failed("the files beside the store's data"))?;
        home::sync_folder(home::parent(folder)).map_err(|error| refusal::storage(&error))?;
        Ok(backup)
    }

    /// Copies the files that stand beside the data, and says last that the copy is whole.
    fn copy_own_files(&self, folder: &Path, backup: &Backup) -> io::Result<()> {
        for entry in fs::read_dir(&self.data_dir)? {
            let entry = entry?;
            let to = folder.join(entry.file_name());
            let is_draft = to.extension().is_some_and(|kind| kind == "new");
            if is_draft || to.exists() || !entry.file_type()?.is_file() {
                continue;
            }
            match fs::read(entry.path()) {
                Ok(bytes) => files::write_private(&to, &bytes)?,
                // The audit log was just put aside under another name.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        let json = serde_json::to_vec_pretty(backup).map_err(io::Error::other)?;
        files::write_private(&folder.join(MANIFEST), &json)
    }

    fn disk(&self) -> Result<&Fjall, Refusal> {
        let message = "this store keeps everything in memory";
        self.disk.as_deref().ok_or_else(|| Refusal::new(ErrorCode::BadRequest, message))
    }
}

/// Removes what is in a folder, and the folder itself unless it is to stay.
fn clear(folder: &Path, stays: bool) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() { fs::remove_dir_all(path)? } else { fs::remove_file(path)? }
    }
    if stays { Ok(()) } else { fs::remove_dir(folder) }
}

/// Looks at what stands beside the data: the signing key, which is to be `known` if that is known, and the second copy of
/// the notes.
fn own_files(folder: &Path, known: Option<&[u8]>) -> Vec<DamageFound> {
    let key = match files::read_if_there(&folder.join(keys::SIGNING_KEY)) {
        Ok(Some(pem)) => match Signer::open(&pem) {
            Ok(signer) if known.is_none_or(|known| known == signer.public().as_bytes()) => None,
            Ok(_) => Some("it is not the key that the store signs with".to_owned()),
            Err(why) => Some(why),
        },
        Ok(None) => Some("it is gone".to_owned()),
        Err(error) => Some(error.to_string()),
    };
    let notes = mirror::damage(folder);
    let key = key.map(|why| found(keys::SIGNING_KEY, why));
    key.into_iter().chain(notes.map(|why| found(mirror::FILE, why))).collect()
}

fn verified(
    oplogs: Verified,
    damage: Vec<DamageFound>,
    blobs: &Blobs,
    mut progress: impl FnMut(UpkeepProgress) -> ControlFlow<()>,
) -> io::Result<StoreVerified> {
    let of_oplogs = oplogs.damage.into_iter().map(|Damage { what, why }| DamageFound { what, why });
    let mut all =
        StoreVerified { logs: oplogs.logs, operations: oplogs.operations, blobs: 0, damage: of_oplogs.collect() };
    all.damage.extend(damage);
    blobs.each(|user, name, bytes| {
        all.blobs += 1;
        if bytes.is_none() {
            all.damage.push(found(format!("the blob {name} of {user}"), "it is not what was written"));
        }
        unless_stopped(progress(UpkeepProgress { step: "blobs".to_owned(), done: all.blobs, of: all.blobs }))
    })?;
    Ok(all)
}

fn found(what: impl ToString, why: impl ToString) -> DamageFound {
    DamageFound { what: what.to_string(), why: why.to_string() }
}

fn told(at: Progress) -> UpkeepProgress {
    UpkeepProgress { step: at.step.to_owned(), done: at.done, of: at.of }
}

fn unless_stopped(told: ControlFlow<()>) -> io::Result<()> {
    match told {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(io::ErrorKind::Interrupted.into()),
    }
}

/// Says that something cannot be read or written, and why.
fn failed(what: impl Display) -> impl FnOnce(io::Error) -> Refusal {
    move |error| {
        tracing::error!(%what, %error, "upkeep failed");
        match error.kind() {
            io::ErrorKind::Interrupted => refusal::stopping(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                let message = format!("there is no room for {what}: {error}");
                Refusal::new(ErrorCode::InsufficientStorage, message).hint("make room first")
            }
            _ => Refusal::new(ErrorCode::StorageFailed, format!("{what}: {error}")).hint("the store's log says more"),
        }
    }
}

fn size(folder: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        bytes += match entry.file_type()?.is_dir() {
            true => size(&entry.path())?,
            false => entry.metadata()?.len(),
        };
    }
    Ok(bytes)
}

/// Copies a folder, all of it on disk.
fn copy(from: &Path, to: &Path, seen: &mut impl FnMut(u64)) -> io::Result<()> {
    files::create_private_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &to, seen)?;
        } else {
            seen(fs::copy(entry.path(), &to)?);
            sync(&to)?;
        }
    }
    sync(to)
}

fn sync(path: &Path) -> io::Result<()> {
    fs::File::open(path)?.sync_all()
}

/// What says that a copy is whole.
const MANIFEST: &str = "backup.json";
