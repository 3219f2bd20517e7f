//! Looking at everything that is kept: every byte of every file, every record against its sha, every sum and every index
//! against what it is made of.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

use gigfs_core::{Checkpoint, Digest, LogName, Op, UserName};

use super::files::{self, Depth};
use super::row::{BaseRow, ChannelRow, LogRow, OpRow, RetainedRow};
use super::{Failure, Fjall, Space, View, key, open};
use crate::damage::{Damage, Progress, Verified};
use crate::engine::StorageError;

impl Fjall {
    /// Looks at all data in `folder` that no process has open, and changes none of it but what opening it does.
    ///
    /// What is damaged is told and left as it is: [`Fjall::open`] mends it. `look` is shown the data once its files are found
    /// whole.
    ///
    /// # Errors
    /// [`StorageError`]: open in another process, of a newer format, not ours, or the disk fails.
    pub fn verify_folder(
        folder: &Path,
        mut progress: impl FnMut(Progress),
        look: impl FnOnce(&Self) -> Result<(), StorageError>,
    ) -> Result<Verified, StorageError> {
        if !open::is_ours(folder) {
            return Ok(Verified { damage: vec![Damage::new(folder.display(), "it is gone")], ..Verified::default() });
        }
        let lock = files::Lock::take(folder)?;
        let (of, mut done) = (files::size(folder)?, 0);
        let seen = |bytes| {
            done += bytes;
            progress(Progress { step: "bytes of files", done: done.min(of), of });
        };
        let damage = files::check(folder, Depth::Everything, seen)?;
        drop(lock);
        if !damage.is_empty() {
            return Ok(Verified { bytes: of, damage, ..Verified::default() });
        }
        match open::open_sound(folder) {
            Ok(engine) => {
                look(&engine)?;
                let told = |at| {
                    progress(at);
                    ControlFlow::Continue(())
                };
                Ok(Verified { bytes: of, ..engine.verify(told)? })
            }
            Err(StorageError::Damaged { what, why, .. }) => {
                Ok(Verified { bytes: of, damage: vec![Damage { what, why }], ..Verified::default() })
            }
            Err(error) => Err(error),
        }
    }

    /// Looks at all data as it is at this moment, while it is open, as long as it is told to go on.
    ///
    /// # Errors
    /// [`StorageError`] if the disk fails, or it was told to stop. What is damaged is in the answer.
    pub fn verify(&self, mut progress: impl FnMut(Progress) -> ControlFlow<()>) -> Result<Verified, StorageError> {
        let verified = self.reading(|view| {
            let logs = view.get(Space::Meta, b"logs")?.and_then(|value| key::last_number(&value)).unwrap_or(0);
            let (verified, usage, progress) = (Verified::default(), BTreeMap::new(), &mut progress);
            let mut look = Look { view, progress, logs, records: 0, verified, more: 0, usage, feed: 0, due: 0 };
            look.at_everything()?;
            if look.more > 0 {
                look.verified
                    .damage
                    .push(Damage::new(format!("{} other things", look.more), "they are not named one by one"));
            }
            Ok(look.verified)
        })?;
        verified.damage.iter().for_each(|damage| self.note_damage(damage.clone()));
        Ok(verified)
    }
}

struct Look<'v, 'd> {
    view: &'v View<'d>,
    progress: &'v mut dyn FnMut(Progress) -> ControlFlow<()>,
    /// As many as there were ever.
    logs: u64,
    /// Records that were looked at.
    records: u64,
    verified: Verified,
    /// Damaged things that are not named.
    more: u64,
    /// What the logs of each user come to.
    usage: BTreeMap<UserName, u64>,
    /// Records that are in the feed.
    feed: u64,
    /// What is retained.
    due: u64,
}

impl Look<'_, '_> {
    fn at_everything(&mut self) -> Result<(), Failure> {
        for guard in self.view.range::<&[u8], _>(Space::Logs, ..) {
            let Some((name, value)) = self.sound("the list of logs", guard.into_inner())? else { break };
            let Some(log) = self.sound("the list of logs", key::log_name(&name))? else { continue };
            let looked = self.at_log(&log, &value).map_err(|failure| failure.of(&log));
            self.sound("a log", looked)?;
            self.verified.logs += 1;
            self.tell()?;
        }
        self.compare("the index of shas", Space::Shas, self.verified.operations)?;
        self.compare("the feed", Space::Feed, self.feed)?;
        self.compare("the index of what is retained", Space::Since, self.due)?;
        for (user, bytes) in std::mem::take(&mut self.usage) {
            let noted = self.view.get(Space::Meta, &key::usage(&user))?.and_then(|value| key::last_number(&value));
            if noted.unwrap_or(0) != bytes {
                self.damaged(format!("the usage of {user}"), format!("{noted:?} is noted and it is {bytes}"));
            }
        }
        for guard in self.view.range::<&[u8], _>(Space::Notes, ..) {
            if self.sound("the notes", guard.into_inner())?.is_none() {
                break;
            }
        }
        Ok(())
    }

    fn at_log(&mut self, log: &LogName, row: &[u8]) -> Result<(), Failure> {
        let row = LogRow::decode(row, log)?;
        self.view.verify(log, &row)?;
        let name = self.view.get(Space::Names, &row.id.to_be_bytes())?;
        if name.is_none_or(|name| *name != key::log(log)) {
            self.damaged_log(log, "its name is not in the list of names");
        }
        let operations = self.at_operations(log, &row)?;
        let header = &row.tail.header;
        if operations != (header.digest, header.bytes) {
            self.damaged_log(log, "its operations are not those that were counted");
        }
        let retained = self.at_retained(log, &row)? + self.at_bases(log, &row)?;
        let mut covered = Digest::default();
        for guard in self.view.range(Space::Covered, prefix(row.id)) {
            match key::last_sha(&guard.key()?) {
                Some(sha) => covered.add(&sha),
                None => self.damaged_log(log, "a covered sha of it cannot be read"),
            }
        }
        let base = header.base.map(|base| (base.covered, base.retained_bytes)).unwrap_or_default();
        if (covered, retained) != base {
            self.damaged_log(log, "what is covered or retained is not what was counted");
        }
        *self.usage.entry(log.user.clone()).or_default() += row.tail.held();
        Ok(())
    }

    /// Returns the digest of a log's operations, and their bytes.
    fn at_operations(&mut self, log: &LogName, row: &LogRow) -> Result<(Digest, u64), Failure> {
        let (mut digest, mut bytes) = (Digest::default(), 0);
        let channel = self.view.channel(&log.user, &log.channel)?.unwrap_or(ChannelRow { id: 0, position: 0 });
        for guard in self.view.ops(row.id, 0) {
            let (at, value) = guard.into_inner()?;
            let op = OpRow::decode(&value, log)?;
            self.verified.operations += 1;
            self.count()?;
            if let Err(error) = Op::from_record(log, op.record, Some(op.sha)) {
                self.damaged_log(log, error);
                continue;
            }
            digest.add(&op.sha);
            bytes += op.record.len() as u64;
            let index = self.view.get(Space::Shas, &key::sha(row.id, &op.sha))?;
            let feed = self.view.get(Space::Feed, &key::feed(channel.id, op.position))?;
            if index.as_deref() != at.get(8..) || feed.as_deref() != Some(&*at) || op.position > channel.position {
                self.damaged_log(log, format!("the operation {} is missing from an index", op.sha));
            }
            self.feed += 1;
        }
        Ok((digest, bytes))
    }

    /// Returns the bytes of a log's retained operations.
    fn at_retained(&mut self, log: &LogName, row: &LogRow) -> Result<u64, Failure> {
        let mut bytes = 0;
        for guard in self.view.range(Space::Retained, prefix(row.id)) {
            let kept = guard.into_inner()?.1;
            let kept = RetainedRow::decode(&kept, log)?;
            if let Err(error) = Op::from_record(log, kept.record, Some(kept.sha)) {
                self.damaged_log(log, error);
            }
            bytes += kept.record.len() as u64;
            self.due += 1;
        }
        Ok(bytes)
    }

    /// Returns the bytes of a log's superseded bases.
    fn at_bases(&mut self, log: &LogName, row: &LogRow) -> Result<u64, Failure> {
        let mut bytes = 0;
        let own = row.tail.header.base.map(|base| base.id.sha);
        for guard in self.view.range(Space::Bases, prefix(row.id)) {
            let (at, value) = guard.into_inner()?;
            let base = BaseRow::decode(&value, log)?;
            let Some(sha) = key::last_sha(&at) else { continue };
            if let Err(error) = Checkpoint::from_record(log, base.record, sha) {
                self.damaged_log(log, error);
            }
            if own != Some(sha) {
                bytes += base.record.len() as u64;
                self.due += 1;
            }
        }
        Ok(bytes)
    }

    /// Compares how much a keyspace holds with how much it should.
    fn compare(&mut self, what: &str, space: Space, count: u64) -> Result<(), Failure> {
        let mut found = 0;
        for guard in self.view.range::<&[u8], _>(space, ..) {
            if self.sound(what, guard.key())?.is_none() {
                return Ok(());
            }
            found += 1;
            self.count()?;
        }
        if found != count {
            self.damaged(what, format!("it has {found} entries and should have {count}"));
        }
        Ok(())
    }

    /// Counts a record, and tells of it now and then.
    fn count(&mut self) -> Result<(), Failure> {
        self.records += 1;
        match self.records.is_multiple_of(RECORDS_BETWEEN_WORDS) {
            true => self.tell(),
            false => Ok(()),
        }
    }

    /// Tells how far it is.
    fn tell(&mut self) -> Result<(), Failure> {
        let at = Progress { step: "logs", done: self.verified.logs.min(self.logs), of: self.logs };
        match (self.progress)(at) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Failure::Stopped),
        }
    }

    /// Passes on what was read. Damage is told and is nothing; other failures end the look.
    fn sound<T, E: Into<Failure>>(&mut self, what: &str, read: Result<T, E>) -> Result<Option<T>, Failure> {
        match read.map_err(Into::into) {
            Ok(read) => Ok(Some(read)),
            Err(Failure::Damaged { what, why }) => {
                self.damaged(what, why);
                Ok(None)
            }
            Err(Failure::Fjall(error)) if open::is_damage(&error) => {
                self.damaged(what, error);
                Ok(None)
            }
            Err(failure) => Err(failure),
        }
    }

    fn damaged_log(&mut self, log: &LogName, why: impl ToString) {
        self.damaged(super::named(log), why);
    }

    fn damaged(&mut self, what: impl ToString, why: impl ToString) {
        match self.verified.damage.len() < NAMED_MAX {
            true => self.verified.damage.push(Damage::new(what.to_string(), why.to_string())),
            false => self.more += 1,
        }
    }
}

/// Damaged things that are named. All of them lead to the same.
const NAMED_MAX: usize = 1000;
/// Between two words about progress.
pub(super) const RECORDS_BETWEEN_WORDS: u64 = 4096;

/// All keys that begin with a log's id.
fn prefix(log: u64) -> std::ops::RangeInclusive<Vec<u8>> {
    let end = [&log.to_be_bytes()[..], &[0xff; 48]].concat();
    log.to_be_bytes().to_vec()..=end
}
