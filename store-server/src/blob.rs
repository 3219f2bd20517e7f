//! Blobs in a local folder, each a file named by the BLAKE3 of its bytes, apart for each user.
//!
//! A blob is under its name only whole and synced: it is written beside, synced, renamed, and the folder synced. What is
//! read is checked against its name, so rot is found and never served; sending the blob again heals it.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use gigfs_core::{BlobName, ErrorCode, Refusal, UserName};
use gigfs_serve::files;
use parking_lot::Mutex;

/// The folder of blobs. Every call blocks.
pub(crate) struct Blobs {
    folder: PathBuf,
    writing: PathBuf,
    written: AtomicU64,
    /// Bytes of each user's blobs, counted when somebody asks for the first time.
    used: Mutex<BTreeMap<UserName, u64>>,
}

impl Blobs {
    /// Opens the folder, makes it if it is not there, and clears what was being written when a server died.
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        let writing = folder.join("writing");
        if writing.exists() {
            fs::remove_dir_all(&writing)?;
        }
        files::create_private_dir(&writing)?;
        Ok(Self::at(folder))
    }

    /// Names a folder, to look at it alone.
    pub(crate) fn at(folder: &Path) -> Self {
        let writing = folder.join("writing");
        Self { folder: folder.to_owned(), writing, written: AtomicU64::new(0), used: Mutex::default() }
    }

    /// Returns the bytes of a user's blobs.
    pub(crate) fn used(&self, user: &UserName) -> Result<u64, Refusal> {
        let mut used = self.used.lock();
        self.count(&mut used, user).map(|used| *used)
    }

    /// Returns the count of a user, after looking at the disk the first time.
    fn count<'u>(&self, used: &'u mut BTreeMap<UserName, u64>, user: &UserName) -> Result<&'u mut u64, Refusal> {
        match used.entry(user.clone()) {
            Entry::Occupied(counted) => Ok(counted.into_mut()),
            Entry::Vacant(new) => {
                let on_disk = count(&self.folder.join("of").join(user.as_str()));
                Ok(new.insert(on_disk.map_err(|error| failed("counted", &error))?))
            }
        }
    }

    /// Stores a blob under its name, and tells whether it is new. It is on disk when this returns. `check` says whether
    /// there is room, and is told what the user's blobs will come to. Of one blob that is sent twice at once both count
    /// until the next start.
    pub(crate) fn put(
        &self,
        user: &UserName,
        name: &BlobName,
        bytes: &[u8],
        check: impl FnOnce(u64) -> Result<(), Refusal>,
    ) -> Result<bool, Refusal> {
        let actual = name_of(bytes);
        if actual != *name {
            let message = format!("the bytes hash to {actual} and were sent as {name}");
            return Err(Refusal::new(ErrorCode::ShaMismatch, message).hint("name a blob by the BLAKE3 of its bytes"));
        }
        let path = self.path(user, name);
        if fs::read(&path).is_ok_and(|there| name_of(&there) == *name) {
            return Ok(false);
        }
        let replaced = fs::metadata(&path).map_or(0, |there| there.len());
        {
            let mut used = self.used.lock();
            let used = self.count(&mut used, user)?;
            let will_be = used.saturating_sub(replaced) + bytes.len() as u64;
            check(will_be)?;
            *used = will_be;
        }
        self.write(&path, bytes).map_err(|error| {
            if let Some(used) = self.used.lock().get_mut(user) {
                *used = used.saturating_sub(bytes.len() as u64) + replaced;
            }
            failed("stored", &error)
        })?;
        Ok(true)
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let draft = self.writing.join(self.written.fetch_add(1, Ordering::Relaxed).to_string());
        let written = (|| {
            let mut file = files::open_private(&draft)?;
            file.write_all(bytes)?;
            file.sync_data()?;
            let folder = path.parent().unwrap_or(&self.folder);
            self.create_folder(folder)?;
            fs::rename(&draft, path)?;
            File::open(folder)?.sync_all()
        })();
        if written.is_err() {
            // What is left there is cleared at the next start at the latest.
            drop(fs::remove_file(&draft));
        }
        written
    }

    /// Makes a folder and those above it, and has each be there after a crash.
    fn create_folder(&self, folder: &Path) -> io::Result<()> {
        if folder.exists() {
            return Ok(());
        }
        let above = folder.parent().unwrap_or(&self.folder);
        if folder != self.folder {
            self.create_folder(above)?;
        }
        files::create_private_dir(folder)?;
        File::open(above)?.sync_all()
    }

    /// Returns a blob, checked against its name; nothing if it is not there.
    pub(crate) fn get(&self, user: &UserName, name: &BlobName) -> Result<Option<Bytes>, Refusal> {
        match fs::read(self.path(user, name)) {
            Ok(bytes) if name_of(&bytes) == *name => Ok(Some(bytes.into())),
            Ok(_) => {
                tracing::error!(%user, %name, "a blob is damaged");
                Err(Refusal::new(ErrorCode::StorageFailed, format!("the blob {name} is damaged in this store"))
                    .hint("read it from another store, and send it here again"))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("read", &error)),
        }
    }

    /// Returns a blob's size; nothing if it is not there.
    pub(crate) fn size(&self, user: &UserName, name: &BlobName) -> Result<Option<u64>, Refusal> {
        match fs::metadata(self.path(user, name)) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("read", &error)),
        }
    }

    /// Looks at every blob: hands over its user and name, and its bytes if they are the ones that the name says.
    ///
    /// # Errors
    /// What the system says, or `each`.
    pub(crate) fn each(
        &self,
        mut each: impl FnMut(&UserName, &BlobName, Option<&[u8]>) -> io::Result<()>,
    ) -> io::Result<()> {
        for user in names_in(&self.folder.join("of"))? {
            let Ok(user) = UserName::parse(&user) else { continue };
            let of_user = self.folder.join("of").join(user.as_str());
            for first in names_in(&of_user)? {
                for name in names_in(&of_user.join(&first))? {
                    let Ok(name) = name.parse::<BlobName>() else { continue };
                    let bytes = fs::read(self.path(&user, &name))?;
                    each(&user, &name, Some(&bytes[..]).filter(|bytes| name_of(bytes) == name))?;
                }
            }
        }
        Ok(())
    }

    /// User names hold no slash and begin with a letter or digit, and a blob's name is hexadecimal.
    fn path(&self, user: &UserName, name: &BlobName) -> PathBuf {
        let name = name.to_string();
        self.folder.join("of").join(user.as_str()).join(&name[..2]).join(&name)
    }
}

/// Returns the names in a folder, in order; none if there is no folder.
fn names_in(folder: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut names: Vec<String> =
        entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect::<io::Result<_>>()?;
    names.sort();
    Ok(names)
}

/// Adds up the files of a folder and those below it; nothing if there is none.
fn count(folder: &Path) -> io::Result<u64> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    let mut bytes = 0;
    for entry in entries {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() { count(&entry.path())? } else { metadata.len() };
    }
    Ok(bytes)
}

fn name_of(bytes: &[u8]) -> BlobName {
    BlobName::from_bytes(*blake3::hash(bytes).as_bytes())
}

fn failed(what: &str, error: &io::Error) -> Refusal {
    tracing::error!(%error, "a blob cannot be {what}");
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Refusal::new(ErrorCode::InsufficientStorage, "the store's disk is full; the blob was not stored")
                .hint("send it again later; the store's owner has to make room")
        }
        _ => Refusal::new(ErrorCode::StorageFailed, format!("the blob cannot be {what}: the store's disk failed"))
            .hint("try again later; the store's log says more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user() -> UserName {
        UserName::parse("me").unwrap()
    }

    #[test]
    fn a_damaged_blob_is_not_served_and_sending_it_again_heals_it() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(folder.path()).unwrap();
        let name = name_of(b"abc");
        assert!(blobs.put(&user(), &name, b"abc", |_| Ok(())).unwrap());
        assert!(!blobs.put(&user(), &name, b"abc", |_| Ok(())).unwrap());
        fs::write(blobs.path(&user(), &name), b"abX").unwrap();
        assert_eq!(blobs.get(&user(), &name).unwrap_err().code, ErrorCode::StorageFailed);
        assert!(blobs.put(&user(), &name, b"abc", |_| Ok(())).unwrap());
        assert_eq!(blobs.get(&user(), &name).unwrap().unwrap(), "abc");
    }

    #[test]
    fn bytes_under_a_wrong_name_are_refused_and_leave_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(folder.path()).unwrap();
        let name = name_of(b"abc");
        assert_eq!(blobs.put(&user(), &name, b"abd", |_| Ok(())).unwrap_err().code, ErrorCode::ShaMismatch);
        assert_eq!(blobs.size(&user(), &name).unwrap(), None);
        assert_eq!(fs::read_dir(&blobs.writing).unwrap().count(), 0);
    }
}
