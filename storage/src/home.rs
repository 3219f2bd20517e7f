//! Where an engine's data stands on a disk, and how to tell that it was put there by copying.
//!
//! Data that was copied or restored from a backup has a past that others may have gone beyond, so it begins a new life
//! ([`gigfs_core::Incarnation`]). A copied file is another inode, born at another time. What is restored over the very
//! file, or with the whole file system, cannot be told from here.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use crate::engine::StorageError;

/// Returns what tells this file from every copy of it.
///
/// The inode and the time of its birth; where the file system keeps none, the inode and the device, whose number may
/// change when a machine starts again: the data then begins a new life without need, which costs a comparison of digests.
pub(crate) fn identity(file: &Path) -> Result<Vec<u8>, StorageError> {
    let metadata = fs::metadata(file).map_err(|error| io_error("look at", file, &error))?;
    let born = metadata.created().ok().and_then(|born| born.duration_since(UNIX_EPOCH).ok());
    let (inode, device) = inode_and_device(&metadata);
    let since = born.map_or(u128::from(device), |born| born.as_nanos());
    Ok([&inode.to_be_bytes()[..], &since.to_be_bytes()[..]].concat())
}

#[cfg(unix)]
fn inode_and_device(metadata: &fs::Metadata) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt as _;
    (metadata.ino(), metadata.dev())
}

#[cfg(not(unix))]
fn inode_and_device(_: &fs::Metadata) -> (u64, u64) {
    (0, 0)
}

/// Makes a folder and those above it, for its owner only.
pub(crate) fn create_folder(folder: &Path) -> Result<(), StorageError> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder).map_err(|error| io_error("create", folder, &error))
}

/// Opens a file for reading and writing, for its owner only, and makes it if it is not there.
pub(crate) fn create_file(file: &Path) -> Result<File, StorageError> {
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(file).map_err(|error| io_error("open", file, &error))
}

/// Makes durable which files a folder holds.
///
/// # Errors
/// [`StorageError`]: what the system says.
pub fn sync_folder(folder: &Path) -> Result<(), StorageError> {
    File::open(folder).and_then(|open| open.sync_all()).map_err(|error| io_error("sync", folder, &error))
}

/// Returns the folder that a file stands in.
pub fn parent(file: &Path) -> &Path {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Returns the file or folder of the same name, a dot and `what`, where this one stands.
pub fn beside(file: &Path, what: &str) -> PathBuf {
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(what);
    file.with_file_name(name)
}

/// Turns a failure of the system into ours.
pub(crate) fn io_error(action: &'static str, place: &Path, error: &io::Error) -> StorageError {
    let place = place.display().to_string();
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StorageError::Full { place },
        _ => StorageError::Io { action, place, why: error.to_string() },
    }
}
