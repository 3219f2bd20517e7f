//! Copying all data as it is at one moment, while it is open.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use ::fjall::PersistMode;

use super::verify::RECORDS_BETWEEN_WORDS;
use super::{Failure, Fjall, Space, files, identity, open};
use crate::damage::Progress;
use crate::engine::StorageError;
use crate::home::{self, io_error};

impl Fjall {
    /// Writes all data into a folder that is not there yet, and returns how many keys and values that are. Commits go on
    /// meanwhile and are not in the copy. Whoever opens the copy finds it restored: it begins a new incarnation.
    ///
    /// # Errors
    /// [`StorageError`] if the data is damaged, a disk fails, or it was told to stop. There is no such folder then.
    pub fn backup(&self, to: &Path, progress: impl FnMut(Progress) -> ControlFlow<()>) -> Result<u64, StorageError> {
        let draft = home::beside(to, "new");
        let copied = self.copy(&draft, progress).and_then(|records| {
            fs::rename(&draft, to).map_err(|error| io_error("write", to, &error))?;
            identity::keep(to, self.store)?;
            Ok(records)
        });
        if copied.is_err() {
            // What cannot be removed either is in nobody's way but the next backup's, which says so.
            _ = fs::remove_dir_all(&draft);
        }
        copied
    }

    fn copy(&self, to: &Path, mut progress: impl FnMut(Progress) -> ControlFlow<()>) -> Result<u64, StorageError> {
        let of = files::size(&self.folder)?;
        open::create_at(to, self.store, open::Past::None)?;
        let failed = |failure| open::storage_error("write", to, failure);
        let copy = open::database(to).map_err(failed)?;
        let (mut records, mut bytes) = (0_u64, 0);
        let mut writing: Result<(), Failure> = Ok(());
        self.reading(|view| {
            for (space, _) in Space::ALL {
                for guard in view.range::<&[u8], _>(space, ..) {
                    let (key, value) = guard.into_inner()?;
                    bytes += (key.len() + value.len()) as u64;
                    records += 1;
                    if let Err(error) = copy.space(space).insert(key, value) {
                        writing = Err(error.into());
                        return Ok(());
                    }
                    let at = Progress { step: "bytes of logs", done: bytes.min(of), of };
                    if records.is_multiple_of(RECORDS_BETWEEN_WORDS) && progress(at).is_break() {
                        return Err(Failure::Stopped);
                    }
                }
            }
            Ok(())
        })?;
        // No file has this identity, so whatever file the copy stands in, it was put there by copying.
        let finish = || -> Result<(), Failure> {
            writing?;
            copy.space(Space::Meta).insert("home", [])?;
            Ok(copy.database.persist(PersistMode::SyncAll)?)
        };
        finish().map_err(failed)?;
        drop(copy);
        files::note_lengths(to)?;
        home::sync_folder(home::parent(to))?;
        Ok(records)
    }
}
