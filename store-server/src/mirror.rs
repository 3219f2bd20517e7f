//! A second copy of the notes without which a store serves nobody: its users and their tables, their quotas, what was revoked
//! and sealed, and which key is its own.
//!
//! They are few and seldom change, so the whole file is written anew when one does. It is read only after the data was mended,
//! and gives back those notes that are missing then.

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use gigfs_core::base64_text;
use gigfs_serve::files;
use gigfs_storage::{Batch, Engine, StorageError};

use crate::commit::Notes;
use crate::{keys, quota, revocation, seal, user};

/// The file. Every call blocks.
pub(crate) struct Mirror {
    file: PathBuf,
}

impl Mirror {
    /// Opens the file in a data folder, and brings it up to date. After mending, what is missing is first taken from it.
    pub(crate) fn open(folder: &Path, engine: &dyn Engine, mended: bool) -> Result<Self, StorageError> {
        let mirror = Self { file: folder.join("notes") };
        if mended {
            mirror.give_back(engine)?;
        }
        mirror.write(engine);
        Ok(mirror)
    }

    /// Follows what was just written.
    pub(crate) fn follow(&self, engine: &dyn Engine, written: &Notes) {
        let is_kept = |key: &Bytes| KEPT.iter().any(|prefix| key.starts_with(prefix));
        if written.iter().any(|(key, _)| is_kept(key)) {
            self.write(engine);
        }
    }

    fn give_back(&self, engine: &dyn Engine) -> Result<(), StorageError> {
        let Some(kept) = files::read_if_there(&self.file).ok().flatten().and_then(|text| parse(&text)) else {
            tracing::warn!(file = %self.file.display(), "it cannot be read, so notes that are lost cannot be given back");
            return Ok(());
        };
        let mut notes = Vec::new();
        for (key, value) in kept {
            if engine.note(&key)?.is_none() {
                notes.push((key, Some(value)));
            }
        }
        if !notes.is_empty() {
            tracing::warn!(notes = notes.len(), "lost with the data, and given back");
            engine.commit(&Batch { notes, ..Batch::default() })?;
        }
        Ok(())
    }

    /// Writes the file. If it cannot be, the notes themselves are on disk all the same.
    fn write(&self, engine: &dyn Engine) {
        if let Err(error) = self.try_to_write(engine) {
            tracing::error!(file = %self.file.display(), %error, "the second copy of the notes is not up to date");
        }
    }

    fn try_to_write(&self, engine: &dyn Engine) -> io::Result<()> {
        let mut lines = String::new();
        for prefix in KEPT {
            for (key, value) in engine.notes(prefix).map_err(io::Error::other)? {
                lines.push_str(&format!("{} {}\n", base64_text::encode(&key), base64_text::encode(&value)));
            }
        }
        let text = format!("{}\n{lines}", blake3::hash(lines.as_bytes()));
        match files::read_if_there(&self.file) {
            Ok(Some(before)) if before == text => Ok(()),
            _ => files::write_private(&self.file, text.as_bytes()),
        }
    }
}

/// Reads the notes of a file that is whole: the BLAKE3 of the lines, and a line a note, key and value. // persisted
fn parse(text: &str) -> Option<Vec<(Bytes, Bytes)>> {
    let (hash, lines) = text.split_once('\n')?;
    if hash != blake3::hash(lines.as_bytes()).to_string() {
        return None;
    }
    let note = |line: &str| {
        let (key, value) = line.split_once(' ')?;
        Some((base64_text::decode(key).ok()?.into(), base64_text::decode(value).ok()?.into()))
    };
    lines.lines().map(note).collect()
}

/// Begins the keys of the notes that are kept here.
const KEPT: [&[u8]; 5] = [user::USER, revocation::REVOKED, seal::SEALED, quota::QUOTA, keys::KNOWN_KEY];

#[cfg(test)]
mod tests {
    use super::*;
    use gigfs_storage::Memory;

    fn note(key: &'static str, value: Option<&'static str>) -> (Bytes, Option<Bytes>) {
        (Bytes::from_static(key.as_bytes()), value.map(|value| Bytes::from_static(value.as_bytes())))
    }

    #[test]
    fn what_is_lost_is_given_back_and_what_was_deleted_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let engine = Memory::fresh().unwrap();
        let mirror = Mirror::open(folder.path(), &engine, false).unwrap();
        for notes in [
            vec![note("user/a", Some("1")), note("sealed/x", Some("2")), note("name/n", Some("3"))],
            vec![note("sealed/x", None)],
        ] {
            engine.commit(&Batch { notes: notes.clone(), ..Batch::default() }).unwrap();
            mirror.follow(&engine, &notes);
        }
        let lost = Memory::fresh().unwrap();
        Mirror::open(folder.path(), &lost, true).unwrap();
        assert_eq!(lost.notes(b"").unwrap(), [(Bytes::from("user/a"), Bytes::from("1"))]);
    }

    #[test]
    fn a_damaged_file_gives_nothing_back_and_is_written_anew() {
        let folder = tempfile::tempdir().unwrap();
        let engine = Memory::fresh().unwrap();
        engine.commit(&Batch { notes: vec![note("user/a", Some("1"))], ..Batch::default() }).unwrap();
        drop(Mirror::open(folder.path(), &engine, false).unwrap());
        let file = folder.path().join("notes");
        let whole = std::fs::read(&file).unwrap();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            std::fs::write(&file, bytes).unwrap();
            let lost = Memory::fresh().unwrap();
            Mirror::open(folder.path(), &lost, true).unwrap();
            assert_eq!(lost.notes(b"").unwrap(), [], "byte {at}");
        }
        drop(Mirror::open(folder.path(), &engine, false).unwrap());
        assert_eq!(std::fs::read(&file).unwrap(), whole);
    }
}
