//! A second copy of the notes without which a store serves nobody: its users and their tables, their quotas, what was revoked
//! and sealed, and which key is its own.
//!
//! They are few and seldom change, so the whole file is written anew when some do, and only then is their change confirmed: what
//! is confirmed is in both. It is read only after the data was mended, which a note in the data says until these notes are what
//! they are in the file: what was salvaged may be missing, or older.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use gigfs_core::{ErrorCode, Refusal, base64_text};
use gigfs_serve::files;
use gigfs_storage::{Batch, Engine, MENDED, StorageError};

use crate::commit::{Done, Notes};
use crate::server::BindError;
use crate::{keys, quota, revocation, seal, user};

/// The file. Every call blocks.
pub(crate) struct Mirror {
    file: PathBuf,
}

impl Mirror {
    /// Opens the file in a data folder, and brings it up to date. If the data was mended, the notes are first taken from it.
    ///
    /// # Errors
    /// [`BindError`] if the data was mended and the file is there and cannot be read: it is not written over then.
    pub(crate) fn open(folder: &Path, engine: &dyn Engine) -> Result<Self, BindError> {
        let mirror = Self { file: folder.join(FILE) };
        if engine.note(MENDED)?.is_some() {
            mirror.give_back(engine)?;
        }
        // If it cannot be, the follower tries again.
        _ = mirror.write(engine);
        Ok(mirror)
    }

    /// Makes the notes what they are in the file, and forgets in the same commit that this was to be done.
    fn give_back(&self, engine: &dyn Engine) -> Result<(), BindError> {
        let kept = self.read().map_err(|source| BindError::Notes { path: self.file.clone(), source })?;
        let mut notes = match kept {
            Some(kept) => differences(engine, &kept)?,
            None => {
                let file = self.file.display();
                tracing::error!(%file, "it is gone or damaged, so notes that are lost cannot be given back");
                Notes::new()
            }
        };
        if !notes.is_empty() {
            tracing::warn!(notes = notes.len(), "lost with the data, and given back");
        }
        notes.push((Bytes::from_static(MENDED), None));
        engine.commit(&Batch { notes, ..Batch::default() })?;
        Ok(())
    }

    /// Reads the file. Nothing if it is not there or not whole.
    fn read(&self) -> io::Result<Option<BTreeMap<Bytes, Bytes>>> {
        match files::read_if_there(&self.file) {
            Ok(text) => Ok(text.and_then(|text| parse(&text))),
            // It is no text any more.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes the file. If it cannot be, the notes themselves are on disk all the same.
    fn write(&self, engine: &dyn Engine) -> Result<(), Refusal> {
        self.try_to_write(engine).map_err(|error| {
            tracing::error!(file = %self.file.display(), %error, "the second copy of the notes is not up to date");
            Refusal::new(ErrorCode::StorageFailed, "a file of the store cannot be written; nothing was acknowledged")
                .hint("try again; the store's log names the file")
        })
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

/// Keeps the file up to date on a thread of its own, so that no push waits for it.
pub(crate) struct Follower {
    /// Nothing once it ends.
    queue: Option<mpsc::Sender<Vec<Done>>>,
    thread: Option<JoinHandle<()>>,
}

impl Follower {
    pub(crate) fn start(mirror: Mirror, engine: Arc<dyn Engine>) -> Self {
        let (queue, written) = mpsc::channel::<Vec<Done>>();
        let run = move || {
            // What the start could not write is written once it can be.
            let mut is_behind = true;
            loop {
                let first = match is_behind {
                    true => match written.recv_timeout(RETRY) {
                        Err(RecvTimeoutError::Disconnected) => return,
                        came => came.unwrap_or_default(),
                    },
                    false => match written.recv() {
                        Err(_) => return,
                        Ok(came) => came,
                    },
                };
                let waiting: Vec<_> = std::iter::once(first).chain(written.try_iter()).flatten().collect();
                let started = Instant::now();
                let outcome = mirror.write(&*engine);
                is_behind = outcome.is_err();
                waiting.into_iter().for_each(|done| drop(done.send(outcome.clone())));
                // The more there is to write, the more of what comes is written at once.
                std::thread::sleep(started.elapsed());
            }
        };
        let thread = std::thread::Builder::new().name("gigfs-notes".to_owned()).spawn(run);
        let thread = thread.expect("the system starts one more thread at the start");
        Self { queue: Some(queue), thread: Some(thread) }
    }

    /// Follows what was just written, and tells those who wait that both copies have it.
    pub(crate) fn follow(&self, waiting: Vec<Done>) {
        let queue = self.queue.as_ref().expect("it has not ended");
        // The thread ends with this only; if it failed, those who wait are refused.
        _ = queue.send(waiting);
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.queue = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the second copy of the notes may not be up to date");
        }
    }
}

/// Looks at the file in a data folder, and says what is wrong with it. One that is not there is made at the next start.
pub(crate) fn damage(folder: &Path) -> Option<String> {
    let mirror = Mirror { file: folder.join(FILE) };
    match mirror.read() {
        Ok(None) if mirror.file.exists() => Some("it is not what was written".to_owned()),
        Ok(_) => None,
        Err(error) => Some(error.to_string()),
    }
}

/// Tells whether some of these are notes of which there is a second copy.
pub(crate) fn keeps(notes: &Notes) -> bool {
    notes.iter().any(|(key, _)| KEPT.iter().any(|prefix| key.starts_with(prefix)))
}

/// Returns what is to be written for the engine's notes of these kinds to be `kept` and no others.
fn differences(engine: &dyn Engine, kept: &BTreeMap<Bytes, Bytes>) -> Result<Notes, StorageError> {
    let mut notes = Notes::new();
    for (key, value) in kept {
        if engine.note(key)?.as_ref() != Some(value) {
            notes.push((key.clone(), Some(value.clone())));
        }
    }
    for prefix in KEPT {
        let salvaged = engine.notes(prefix)?.into_iter().map(|(key, _)| key);
        notes.extend(salvaged.filter(|key| !kept.contains_key(key)).map(|key| (key, None)));
    }
    Ok(notes)
}

/// Reads the notes of a file that is whole: the BLAKE3 of the lines, and a line a note, key and value. // persisted
fn parse(text: &str) -> Option<BTreeMap<Bytes, Bytes>> {
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

/// How long until a file that could not be written is tried again, if nothing is to be written before.
const RETRY: Duration = Duration::from_secs(10);
/// The file, in the data folder.
pub(crate) const FILE: &str = "notes";
/// Begins the keys of the notes that are kept here.
const KEPT: [&[u8]; 5] = [user::USER, revocation::REVOKED, seal::SEALED, quota::QUOTA, keys::KNOWN_KEY];

#[cfg(test)]
mod tests {
    use super::*;
    use gigfs_storage::Memory;
    use tokio::sync::oneshot;

    fn note(key: &'static str, value: Option<&'static str>) -> (Bytes, Option<Bytes>) {
        (Bytes::from_static(key.as_bytes()), value.map(|value| Bytes::from_static(value.as_bytes())))
    }

    /// An engine that was mended and has these notes left.
    fn mended(notes: &[(Bytes, Option<Bytes>)]) -> Memory {
        let engine = Memory::fresh().unwrap();
        let notes = [notes, &[(Bytes::from_static(MENDED), Some(Bytes::new()))]].concat();
        engine.commit(&Batch { notes, ..Batch::default() }).unwrap();
        engine
    }

    #[test]
    fn mended_data_has_the_notes_of_the_file_and_no_older_ones() {
        let folder = tempfile::tempdir().unwrap();
        let engine = Arc::new(Memory::fresh().unwrap());
        let follower = Follower::start(Mirror::open(folder.path(), &*engine).unwrap(), engine.clone());
        for notes in [
            vec![note("user/a", Some("1")), note("sealed/x", Some("2")), note("name/n", Some("3"))],
            vec![note("user/a", Some("4")), note("sealed/x", None)],
        ] {
            engine.commit(&Batch { notes: notes.clone(), ..Batch::default() }).unwrap();
            assert!(keeps(&notes));
            let (done, written) = oneshot::channel();
            follower.follow(vec![done]);
            written.blocking_recv().unwrap().unwrap();
        }
        let whole = [(Bytes::from("user/a"), Bytes::from("4"))];
        for left in [vec![], vec![note("user/a", Some("1")), note("sealed/x", Some("2"))]] {
            let lost = mended(&left);
            Mirror::open(folder.path(), &lost).unwrap();
            assert_eq!(lost.notes(b"").unwrap(), whole, "{left:?}");
        }
        drop(follower);
        Mirror::open(folder.path(), &*engine).unwrap();
        assert_eq!(engine.note(b"name/n").unwrap(), Some(Bytes::from("3")), "what was not mended stays as it is");
    }

    #[test]
    fn a_damaged_file_gives_nothing_back_and_is_written_anew() {
        let folder = tempfile::tempdir().unwrap();
        let engine = Memory::fresh().unwrap();
        engine.commit(&Batch { notes: vec![note("user/a", Some("1"))], ..Batch::default() }).unwrap();
        drop(Mirror::open(folder.path(), &engine).unwrap());
        let file = folder.path().join("notes");
        let whole = std::fs::read(&file).unwrap();
        for at in 0..whole.len() {
            for bit in [0, 7] {
                let mut bytes = whole.clone();
                bytes[at] ^= 1 << bit;
                std::fs::write(&file, bytes).unwrap();
                let lost = mended(&[note("user/b", Some("1"))]);
                Mirror::open(folder.path(), &lost).unwrap();
                assert_eq!(lost.notes(b"").unwrap(), [(Bytes::from("user/b"), Bytes::from("1"))], "byte {at}");
            }
        }
        drop(Mirror::open(folder.path(), &engine).unwrap());
        assert_eq!(std::fs::read(&file).unwrap(), whole);
    }

    #[test]
    fn a_file_that_cannot_be_read_is_not_written_over_while_the_data_lacks_what_is_in_it() {
        let folder = tempfile::tempdir().unwrap();
        // Reading a folder fails, for root too.
        std::fs::create_dir(folder.path().join("notes")).unwrap();
        let lost = mended(&[]);
        let refused = Mirror::open(folder.path(), &lost).err().unwrap();
        assert!(matches!(refused, BindError::Notes { .. }), "{refused}");
        assert!(lost.note(MENDED).unwrap().is_some(), "the next start tries it again");
    }

    #[test]
    fn a_change_that_the_file_does_not_have_is_not_confirmed() {
        let folder = tempfile::tempdir().unwrap();
        let engine: Arc<dyn Engine> = Arc::new(Memory::fresh().unwrap());
        let follower = Follower::start(Mirror::open(folder.path(), &*engine).unwrap(), engine.clone());
        let confirmed = |key: &'static str| {
            engine.commit(&Batch { notes: vec![note(key, Some("ann"))], ..Batch::default() }).unwrap();
            let (done, confirmed) = oneshot::channel();
            follower.follow(vec![done]);
            confirmed.blocking_recv().unwrap()
        };
        // Something is in the way of the draft.
        std::fs::create_dir(folder.path().join("notes.new")).unwrap();
        assert_eq!(confirmed("user/one").unwrap_err().code, ErrorCode::StorageFailed);
        std::fs::remove_dir(folder.path().join("notes.new")).unwrap();
        confirmed("user/two").unwrap();
        let kept = Mirror { file: folder.path().join(FILE) }.read().unwrap().unwrap();
        assert_eq!(kept.len(), 2, "the one before is made good");
    }
}
