//! Opening the database again after a failed write: fjall takes no more of them then.
//!
//! Before it is closed, the disk has to take as much as opening it again takes: as long as it does not, what is there can be read.
//! For the same reason nothing waits for long for those who read. Those who read wait while every byte is looked at, which happens
//! only if opening again did not help.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::files::{self, Depth};
use super::{Fjall, open};
use crate::engine::StorageError;

impl Fjall {
    /// Opens the database again, unless somebody else has.
    ///
    /// What a failed sync has left in the journal may be in the system's memory alone, and look as if it were on the disk. So
    /// the journals are written anew first.
    pub(super) fn get_unstuck(&self) -> Result<(), StorageError> {
        files::probe(&self.folder, files::longest_journal(&self.folder)? + ROOM_BYTES)?;
        // Whoever reads anew waits for whoever waits to write.
        let Some(mut open) = self.open.try_write_for(READERS_WAITED_FOR_MAX) else {
            let why = "something that takes long reads it".to_owned();
            return Err(StorageError::Io { action: "open again", place: self.folder.display().to_string(), why });
        };
        if open.is_some() && !self.is_stuck.load(Ordering::Relaxed) {
            return Ok(());
        }
        *open = None;
        self.verified.lock().clear();
        let lock = files::Lock::take(&self.folder)?;
        if self.failed_behind.load(Ordering::Relaxed) >= FAILED_BEHIND_MAX {
            self.failed_behind.store(0, Ordering::Relaxed);
            self.look_at_files();
        }
        files::rewrite_journals(&self.folder)?;
        drop(lock);
        *open = Some(open::database(&self.folder).map_err(|failure| self.failed("open", failure))?);
        self.is_stuck.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Notes what is damaged in the files. Compaction reads blocks that nobody else may read for long, and says of one that is
    /// damaged nothing but that it failed.
    fn look_at_files(&self) {
        tracing::warn!(folder = %self.folder.display(), "something fails in the background; every byte is looked at");
        match files::check(&self.folder, Depth::Everything, |_| ()) {
            Ok(found) => {
                for damage in found {
                    tracing::error!(%damage, "damaged");
                    self.note_damage(damage);
                }
            }
            // Whoever needs that file is told the same.
            Err(error) => tracing::error!(%error, "the look ended there"),
        }
    }
}

/// After so many failures in the background, one after the other, it is no full disk that made room again.
const FAILED_BEHIND_MAX: u32 = 2;
/// Room beside the journals that opening takes.
const ROOM_BYTES: u64 = 1024 * 1024;
/// How long a write waits for those who read; they are quick, but for whoever reads everything.
const READERS_WAITED_FOR_MAX: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::fs;
    use std::ops::ControlFlow;
    use std::path::{Path, PathBuf};
    use std::time::Instant;

    use bytes::Bytes;

    use super::super::{Space, files::number};
    use super::*;
    use crate::engine::{Batch, Engine as _};

    fn write(engine: &Fjall, note: &str) -> Result<(), StorageError> {
        let note = (Bytes::copy_from_slice(note.as_bytes()), Some(Bytes::from(note.repeat(99))));
        engine.commit(&Batch { notes: vec![note], ..Batch::default() }).map(drop)
    }

    /// Has what was written of the notes go into a table of its own, in the background. Compaction follows by itself.
    fn flush(engine: &Fjall) {
        let rotated = engine.using(|db| Ok(db.space(Space::Notes).rotate_memtable()?));
        rotated.map(drop).unwrap();
    }

    fn until(mut done: impl FnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !done() {
            assert!(Instant::now() < deadline, "it takes too long");
            std::thread::yield_now();
        }
    }

    fn tables_of_notes(data: &Path) -> Vec<PathBuf> {
        let tables = data.join(format!("keyspaces/{}/tables", number(Space::Notes)));
        fs::read_dir(tables).unwrap().map(|table| table.unwrap().path()).collect()
    }

    #[test]
    fn damage_that_only_compaction_meets_is_named_and_writes_go_on() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let engine = Fjall::open(&data).unwrap();
        write(&engine, "note").unwrap();
        flush(&engine);
        until(|| tables_of_notes(&data).len() == 1);
        drop(engine);
        let table = tables_of_notes(&data).remove(0);
        let mut bytes = fs::read(&table).unwrap();
        bytes[60] ^= 1;
        fs::write(&table, bytes).unwrap();

        let engine = Fjall::open(&data).unwrap();
        assert!(engine.mended().is_none(), "no block is looked at when it is opened");
        until(|| {
            // What is refused is tried again, as a client does.
            _ = write(&engine, "note");
            flush(&engine);
            engine.is_damaged()
        });
        // Compaction meets it again before the data is mended, and refuses a write by that.
        until(|| write(&engine, "after").is_ok());
        drop(engine);
        let engine = Fjall::open(&data).unwrap();
        let found = &engine.mended().unwrap().damage;
        assert!(found.iter().any(|damage| table.ends_with(&damage.what)), "{found:?}");
        assert!(engine.note(b"after").unwrap().is_some());
    }

    #[test]
    fn who_reads_everything_holds_up_no_other_reader_when_a_write_has_failed() {
        let folder = tempfile::tempdir().unwrap();
        let engine = Fjall::open(&folder.path().join("data")).unwrap();
        write(&engine, "before").unwrap();
        engine.is_stuck.store(true, Ordering::Relaxed);
        let mut looked = false;
        engine
            .using(|_| {
                // What a verify or a backup does meanwhile.
                std::thread::scope(|scope| {
                    let refused = scope.spawn(|| write(&engine, "during")).join().unwrap();
                    assert!(matches!(refused, Err(StorageError::Io { action: "open again", .. })), "{refused:?}");
                    assert!(scope.spawn(|| engine.note(b"before")).join().unwrap().unwrap().is_some());
                    looked = true;
                });
                Ok(())
            })
            .unwrap();
        assert!(looked);
        write(&engine, "after").unwrap();
        assert_eq!(engine.verify(|_| ControlFlow::Continue(())).unwrap().damage, []);
    }

    #[test]
    fn data_is_not_closed_before_the_disk_takes_a_second_journal() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let engine = Fjall::open(&data).unwrap();
        (0..100).for_each(|number| write(&engine, &format!("note/{number}")).unwrap());
        let longest = files::longest_journal(&data).unwrap();
        assert!((10_000..2_000_000).contains(&longest), "what is allotted takes no room: {longest}");
        // Something is in the way of every draft, and stays there.
        fs::create_dir(data.join("probe.new")).unwrap();
        engine.is_stuck.store(true, Ordering::Relaxed);
        assert!(write(&engine, "during").is_err());
        assert!(engine.note(b"note/1").unwrap().is_some(), "reads go on");
        fs::remove_dir(data.join("probe.new")).unwrap();
        write(&engine, "after").unwrap();
    }
}
