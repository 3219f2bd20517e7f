//! What one commit writes: worked out first against the data and the batch so far, then written at once.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ::fjall::{Guard, PersistMode};
use bytes::Bytes;
use gigfs_core::{ChannelName, Checkpoint, Covers, Date, LogName, Sha, UserName};

use super::row::{ChannelRow, LogRow, OpRow};
use super::{Db, Failure, Fjall, Space, Touched, View, key, named};
use crate::engine::{Append, Appended, Arrival, Batch, LogTail, StoredOp};

/// Rows as the last commits left them. One process has the data open, so nothing else changes them.
#[derive(Debug, Default)]
pub(super) struct Cache {
    logs: HashMap<LogName, LogRow>,
    channels: HashMap<(UserName, ChannelName), ChannelRow>,
    usage: HashMap<UserName, u64>,
}

/// Logs in the cache, after which it starts afresh.
const CACHED_LOGS_MAX: usize = 1 << 16;

impl Cache {
    pub(super) fn keep(&mut self, (logs, channels, usage): Touched) {
        if self.logs.len() + logs.len() > CACHED_LOGS_MAX {
            self.clear();
        }
        self.logs.extend(logs);
        self.channels.extend(channels);
        self.usage.extend(usage);
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// A batch that is worked out and not yet written.
pub(super) struct Prepared<T> {
    answer: T,
    staged: Staged,
    touched: Touched,
}

/// What is to be written, and deleted where there is no value.
pub(super) type Staged = BTreeMap<(Space, Vec<u8>), Option<Vec<u8>>>;

impl<T> Prepared<T> {
    /// Writes it and syncs the journal.
    pub(super) fn write(self, db: &Db) -> Result<(T, Touched), Failure> {
        if self.staged.is_empty() {
            return Ok((self.answer, self.touched));
        }
        let mut batch = db.database.batch().durability(Some(PersistMode::SyncData));
        for ((space, key), value) in self.staged {
            match value {
                Some(value) => batch.insert(db.space(space), key, value),
                None => batch.remove(db.space(space), key),
            }
        }
        batch.commit()?;
        Ok((self.answer, self.touched))
    }
}

/// Works out what the batch writes; `checkpoints` are those that it installs. Nothing is changed yet.
pub(super) fn prepare(
    engine: &Fjall,
    db: &Db,
    cache: &Cache,
    batch: &Batch,
    checkpoints: &[Checkpoint],
) -> Result<Prepared<Vec<Appended>>, Failure> {
    let mut work = Work::over(engine, db, cache);
    let appended = batch.appends.iter().map(|append| work.append(append).map_err(|failure| failure.of(append.log())));
    let appended = appended.collect::<Result<_, _>>()?;
    for (install, checkpoint) in batch.installs.iter().zip(checkpoints) {
        work.install(install, checkpoint).map_err(|failure| failure.of(&install.log))?;
    }
    for (log, sha) in &batch.disputes {
        work.dispute(log, sha)?;
    }
    for (log, sha) in &batch.removes {
        work.remove(log, sha)?;
    }
    for log in &batch.restores {
        work.restore(log).map_err(|failure| failure.of(log))?;
    }
    for (note, value) in &batch.notes {
        work.put(Space::Notes, key::note(note), value.as_ref().map(|value| value.to_vec()));
    }
    work.finish(appended)
}

/// Works out what forgetting writes, and how much it forgets. Nothing is changed yet.
pub(super) fn prepare_to_forget(
    engine: &Fjall,
    db: &Db,
    cache: &Cache,
    before: Date,
    max: usize,
) -> Result<Prepared<usize>, Failure> {
    let mut work = Work::over(engine, db, cache);
    let forgotten = work.forget(before, max)?;
    work.finish(forgotten)
}

pub(super) struct Work<'w> {
    engine: &'w Fjall,
    pub(super) view: View<'w>,
    cache: &'w Cache,
    pub(super) staged: Staged,
    pub(super) touched: Touched,
    /// Logs whose newest record is removed.
    pub(super) tips_gone: BTreeSet<LogName>,
    /// What bases cover whose operations are not all known, by the logs' ids, while the batch appends.
    pub(super) covers: BTreeMap<u64, Covers>,
}

impl<'w> Work<'w> {
    fn over(engine: &'w Fjall, db: &'w Db, cache: &'w Cache) -> Self {
        Self {
            engine,
            view: db.view(),
            cache,
            staged: BTreeMap::new(),
            touched: Touched::default(),
            tips_gone: BTreeSet::new(),
            covers: BTreeMap::new(),
        }
    }

    pub(super) fn put(&mut self, space: Space, key: impl Into<Vec<u8>>, value: Option<Vec<u8>>) {
        self.staged.insert((space, key.into()), value);
    }

    pub(super) fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, Failure> {
        match self.staged.get(&(space, key.to_vec())) {
            Some(staged) => Ok(staged.clone()),
            None => Ok(self.view.get(space, key)?.map(|value| value.to_vec())),
        }
    }

    fn append(&mut self, append: &Append) -> Result<Appended, Failure> {
        let log = append.log();
        let row = self.log(log)?;
        let mut tail = row.as_ref().map_or_else(LogTail::default, |row| row.tail.clone());
        let op = match tail.resolve(self.engine.store, append) {
            Ok(op) => op,
            Err(error) => return Ok(Appended::Refused(error)),
        };
        let sha = op.sha();
        if let Some(row) = &row {
            if row.tail.may_hold(&op)
                && let Some(index) = self.find(row.id, &sha)?
            {
                return Ok(Appended::Known { sha, index });
            }
            if row.tail.header.base.is_some()
                && let Some(answer) = self.answer(row, append, &op)?
            {
                return Ok(answer);
            }
        }
        let channel = self.arrive(&log.user, &log.channel)?;
        let id = match row {
            Some(row) => row.id,
            None => self.create_log(log)?,
        };
        let record = Bytes::from(op.to_record());
        let index = tail.append(&op, record.len());
        let position = channel.position;
        self.put(Space::Ops, key::op(id, index), Some(OpRow { sha, position, record: &record }.encode()));
        self.put(Space::Shas, key::sha(id, &sha), Some(index.to_be_bytes().to_vec()));
        self.put(Space::Feed, key::feed(channel.id, position), Some(key::pair(id, index).to_vec()));
        self.touched.0.insert(log.clone(), LogRow { id, tip: index, tail });
        *self.usage_of(&log.user)? += record.len() as u64;
        Ok(Appended::New(Arrival { position, log: log.clone(), stored: StoredOp { index, sha, record } }))
    }

    fn remove(&mut self, log: &LogName, sha: &Sha) -> Result<(), Failure> {
        let Some(mut row) = self.log(log)? else { return Ok(()) };
        let held = row.tail.held();
        self.take_out(log, &mut row, sha)?;
        self.account(&log.user, held, row.tail.held())?;
        self.touched.0.insert(log.clone(), row);
        Ok(())
    }

    /// Takes a live operation out of its log and the feed, and returns its index and the value that it had.
    pub(super) fn take_out(
        &mut self,
        log: &LogName,
        row: &mut LogRow,
        sha: &Sha,
    ) -> Result<Option<(u64, Vec<u8>)>, Failure> {
        let Some(index) = self.find(row.id, sha)? else { return Ok(None) };
        let Some(channel) = self.channel(&log.user, &log.channel)? else { return Ok(None) };
        let at = key::op(row.id, index);
        let value = self.get(Space::Ops, &at)?;
        let value = value.ok_or_else(|| Failure::damaged(named(log), format!("the operation {sha} is missing")))?;
        let op = OpRow::decode(&value, log)?;
        row.tail.remove(sha, op.record.len());
        self.put(Space::Feed, key::feed(channel.id, op.position), None);
        self.put(Space::Ops, at, None);
        self.put(Space::Shas, key::sha(row.id, sha), None);
        if index == row.tip {
            self.tips_gone.insert(log.clone());
        }
        Ok(Some((index, value)))
    }

    pub(super) fn log(&self, log: &LogName) -> Result<Option<LogRow>, Failure> {
        match self.touched.0.get(log).or_else(|| self.cache.logs.get(log)) {
            Some(row) => Ok(Some(row.clone())),
            None => self.engine.log(&self.view, log),
        }
    }

    fn channel(&self, user: &UserName, channel: &ChannelName) -> Result<Option<ChannelRow>, Failure> {
        let key = (user.clone(), channel.clone());
        match self.touched.1.get(&key).or_else(|| self.cache.channels.get(&key)) {
            Some(row) => Ok(Some(*row)),
            None => self.view.channel(user, channel),
        }
    }

    fn find(&self, log: u64, sha: &Sha) -> Result<Option<u64>, Failure> {
        Ok(self.get(Space::Shas, &key::sha(log, sha))?.and_then(|value| key::last_number(&value)))
    }

    /// Takes the next position of a channel.
    pub(super) fn arrive(&mut self, user: &UserName, channel: &ChannelName) -> Result<ChannelRow, Failure> {
        let mut row = self.ensure_channel(user, channel)?;
        row.position += 1;
        self.touched.1.insert((user.clone(), channel.clone()), row);
        Ok(row)
    }

    /// Returns a channel's row. It comes to be if it is not there.
    pub(super) fn ensure_channel(&mut self, user: &UserName, channel: &ChannelName) -> Result<ChannelRow, Failure> {
        if let Some(row) = self.channel(user, channel)? {
            return Ok(row);
        }
        let row = ChannelRow { id: self.count(b"channels")?, position: 0 };
        self.touched.1.insert((user.clone(), channel.clone()), row);
        Ok(row)
    }

    pub(super) fn create_log(&mut self, log: &LogName) -> Result<u64, Failure> {
        let id = self.count(b"logs")?;
        if self.get(Space::Names, &id.to_be_bytes())?.is_some() || self.view.ops(id, 0).next().is_some() {
            return Err(Failure::damaged("the count of logs", format!("the id {id} is of another log than {log}")));
        }
        self.put(Space::Names, id.to_be_bytes(), Some(key::log(log)));
        Ok(id)
    }

    /// Returns the next id of a kind.
    fn count(&mut self, what: &[u8]) -> Result<u64, Failure> {
        let last = self.get(Space::Meta, what)?.and_then(|value| key::last_number(&value)).unwrap_or(0);
        self.put(Space::Meta, what, Some((last + 1).to_be_bytes().to_vec()));
        Ok(last + 1)
    }

    fn usage_of(&mut self, user: &UserName) -> Result<&mut u64, Failure> {
        let before = match self.touched.2.get(user).or_else(|| self.cache.usage.get(user)) {
            Some(usage) => *usage,
            None => self.get(Space::Meta, &key::usage(user))?.and_then(|value| key::last_number(&value)).unwrap_or(0),
        };
        Ok(self.touched.2.entry(user.clone()).or_insert(before))
    }

    /// Notes that a user has `after` bytes where there were `before`.
    pub(super) fn account(&mut self, user: &UserName, before: u64, after: u64) -> Result<(), Failure> {
        let usage = self.usage_of(user)?;
        *usage = usage.saturating_sub(before) + after;
        Ok(())
    }

    /// Returns the index of the newest record that is left; 0 if there is none.
    fn newest_left(&self, row: &LogRow) -> Result<u64, Failure> {
        let staged = self
            .staged
            .range((Space::Ops, key::op(row.id, 0).to_vec())..=(Space::Ops, key::op(row.id, u64::MAX).to_vec()));
        let staged = staged.rev().find(|(_, value)| value.is_some()).and_then(|((_, key), _)| key::last_number(key));
        for guard in self.view.ops(row.id, 0).rev() {
            let key = Guard::key(guard)?;
            if !matches!(self.staged.get(&(Space::Ops, key.to_vec())), Some(None)) {
                return Ok(staged.max(key::last_number(&key)).unwrap_or(0));
            }
        }
        Ok(staged.unwrap_or(0))
    }

    fn finish<T>(mut self, answer: T) -> Result<Prepared<T>, Failure> {
        for log in std::mem::take(&mut self.tips_gone) {
            if let Some(row) = self.touched.0.get(&log) {
                let tip = self.newest_left(row)?;
                self.touched.0.entry(log).and_modify(|row| row.tip = tip);
            }
        }
        let (logs, channels, usage) = &self.touched;
        let logs = logs.iter().map(|(log, row)| ((Space::Logs, key::log(log)), Some(row.encode())));
        let channels = channels
            .iter()
            .map(|((user, channel), row)| ((Space::Channels, key::channel(user, channel)), Some(row.encode())));
        let usage =
            usage.iter().map(|(user, bytes)| ((Space::Meta, key::usage(user)), Some(bytes.to_be_bytes().to_vec())));
        self.staged.extend(logs.chain(channels).chain(usage));
        Ok(Prepared { answer, staged: self.staged, touched: self.touched })
    }
}
