//! The store's id, kept a second time beside the data: whoever has lost everything else is still the same store, to which
//! others bring back what it lost.

use std::path::{Path, PathBuf};

use gigfs_core::{Sha, StoreId};

use super::files;
use crate::engine::StorageError;
use crate::home;

/// Returns the id that stands beside a folder, if it can be read.
pub(super) fn read(folder: &Path) -> Result<Option<StoreId>, StorageError> {
    let text = files::read(&file(folder))?.unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let id = || {
        let (id, check) = text.trim_end().split_once('\n')?;
        (check == Sha::of(id.as_bytes()).to_string()).then(|| id.parse().ok())?
    };
    Ok(id())
}

/// Writes the id beside a folder unless it stands there.
pub(super) fn keep(folder: &Path, store: StoreId) -> Result<(), StorageError> {
    if read(folder)? == Some(store) {
        return Ok(());
    }
    let id = store.to_string();
    files::write(&file(folder), format!("{id}\n{}\n", Sha::of(id.as_bytes())).as_bytes())
}

/// The id and its SHA-256, a line each. // persisted
fn file(folder: &Path) -> PathBuf {
    home::beside(folder, "store-id")
}
