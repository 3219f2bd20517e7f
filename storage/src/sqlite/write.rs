//! What one commit does inside its transaction.

use std::collections::BTreeMap;

use bytes::Bytes;
use gigfs_core::{ChannelName, Checkpoint, Covers, LogName, Sha, StoreId, UserName};
use rusqlite::{OptionalExtension as _, Transaction, params};

use super::row;
use crate::engine::{Append, Appended, Arrival, Batch, LogTail, StoredOp};

/// Writes the batch into the open transaction. `checkpoints` are those that it installs.
pub(super) fn write(
    to: &Transaction<'_>,
    store: StoreId,
    batch: &Batch,
    checkpoints: &[Checkpoint],
) -> rusqlite::Result<Vec<Appended>> {
    let (logs, channels, usage, covers) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    let mut work = Work { to, store, logs, channels, usage, covers };
    let appended = batch.appends.iter().map(|append| work.append(append)).collect::<Result<_, _>>()?;
    for (install, checkpoint) in batch.installs.iter().zip(checkpoints) {
        work.install(install, checkpoint)?;
    }
    for (log, sha) in &batch.disputes {
        work.dispute(log, sha)?;
    }
    for (log, sha) in &batch.removes {
        work.remove(log, sha)?;
    }
    for log in &batch.restores {
        work.restore(log)?;
    }
    work.finish()?;
    for (key, value) in &batch.notes {
        note(to, key, value.as_ref())?;
    }
    Ok(appended)
}

/// The rows that the batch has touched, written once at its end.
pub(super) struct Work<'t> {
    pub(super) to: &'t Transaction<'t>,
    store: StoreId,
    pub(super) logs: BTreeMap<LogName, (i64, LogTail)>,
    channels: BTreeMap<(UserName, ChannelName), (i64, u64)>,
    usage: BTreeMap<UserName, u64>,
    /// What bases cover whose operations are not all known, by the logs' rows, while the batch appends.
    pub(super) covers: BTreeMap<i64, Covers>,
}

impl Work<'_> {
    fn append(&mut self, append: &Append) -> rusqlite::Result<Appended> {
        let log = append.log();
        let (row, mut tail) = self.log(log)?.map_or((None, LogTail::default()), |(row, tail)| (Some(row), tail));
        let op = match tail.resolve(self.store, append) {
            Ok(op) => op,
            Err(error) => return Ok(Appended::Refused(error)),
        };
        let sha = op.sha();
        if let Some(row) = row {
            if let Some((index, _, _)) = self.find(row, &sha)? {
                return Ok(Appended::Known { sha, index });
            }
            if tail.header.base.is_some()
                && let Some(answer) = self.answer(row, &tail, append, &op)?
            {
                return Ok(answer);
            }
        }
        let (channel, position) = self.arrive(&log.user, &log.channel)?;
        let row = match row {
            Some(row) => row,
            None => self.create_log(channel, log)?,
        };
        let record = Bytes::from(op.to_record());
        let index = tail.append(&op, record.len());
        let mut insert = self.to.prepare_cached(
            "INSERT INTO ops (log, idx, channel, position, sha, record) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?;
        insert.execute(params![
            row,
            row::number(index),
            channel,
            row::number(position),
            sha.as_bytes(),
            &record[..]
        ])?;
        self.logs.insert(log.clone(), (row, tail));
        *self.usage_of(&log.user)? += record.len() as u64;
        Ok(Appended::New(Arrival { position, log: log.clone(), stored: StoredOp { index, sha, record } }))
    }

    fn remove(&mut self, log: &LogName, sha: &Sha) -> rusqlite::Result<()> {
        let Some((row, mut tail)) = self.log(log)? else { return Ok(()) };
        let Some((_, id, bytes)) = self.find(row, sha)? else { return Ok(()) };
        self.to.prepare_cached("DELETE FROM ops WHERE id = ?1")?.execute([id])?;
        tail.remove(sha, bytes);
        self.logs.insert(log.clone(), (row, tail));
        self.account(&log.user, bytes as u64, 0)
    }

    /// Returns a log's row and its tail as the batch has left them so far.
    pub(super) fn log(&self, log: &LogName) -> rusqlite::Result<Option<(i64, LogTail)>> {
        match self.logs.get(log) {
            Some(touched) => Ok(Some(touched.clone())),
            None => row::log(self.to, log),
        }
    }

    /// Returns index, row and size of a record.
    pub(super) fn find(&self, log: i64, sha: &Sha) -> rusqlite::Result<Option<(u64, i64, usize)>> {
        let mut query =
            self.to.prepare_cached("SELECT idx, id, length(record) FROM ops WHERE log = ?1 AND sha = ?2")?;
        let found = query.query_row(params![log, sha.as_bytes()], |row| {
            Ok((row::unsigned(row, 0)?, row.get(1)?, row::unsigned(row, 2)? as usize))
        });
        found.optional()
    }

    /// Takes the next position of a channel.
    pub(super) fn arrive(&mut self, user: &UserName, channel: &ChannelName) -> rusqlite::Result<(i64, u64)> {
        let (id, position) = self.channel(user, channel)?;
        self.channels.insert((user.clone(), channel.clone()), (id, position + 1));
        Ok((id, position + 1))
    }

    /// Returns a channel's row and its position. It comes to be if it is not there.
    pub(super) fn channel(&self, user: &UserName, channel: &ChannelName) -> rusqlite::Result<(i64, u64)> {
        if let Some(touched) = self.channels.get(&(user.clone(), channel.clone())) {
            return Ok(*touched);
        }
        if let Some(found) = row::channel(self.to, user, channel)? {
            return Ok(found);
        }
        let sql = "INSERT INTO channels (user, channel, position) VALUES (?1, ?2, 0)";
        self.to.execute(sql, params![user.as_str(), channel.as_str()])?;
        Ok((self.to.last_insert_rowid(), 0))
    }

    pub(super) fn create_log(&self, channel: i64, log: &LogName) -> rusqlite::Result<i64> {
        let sql = "INSERT INTO logs (channel, type, path, last_index, bytes, count, xor, max_date, stamped, heads) \
                   VALUES (?1, ?2, ?3, 0, 0, 0, zeroblob(32), 0, 0, x'')";
        self.to.prepare_cached(sql)?.execute(params![channel, log.kind.as_str(), log.path.as_str()])?;
        Ok(self.to.last_insert_rowid())
    }

    fn usage_of(&mut self, user: &UserName) -> rusqlite::Result<&mut u64> {
        let before = match self.usage.get(user) {
            Some(usage) => *usage,
            None => row::usage(self.to, user)?,
        };
        Ok(self.usage.entry(user.clone()).or_insert(before))
    }

    /// Notes that a user has `after` bytes where there were `before`.
    pub(super) fn account(&mut self, user: &UserName, before: u64, after: u64) -> rusqlite::Result<()> {
        let usage = self.usage_of(user)?;
        *usage = usage.saturating_sub(before) + after;
        Ok(())
    }

    fn finish(self) -> rusqlite::Result<()> {
        let mut update = self.to.prepare_cached(
            "UPDATE logs SET last_index = ?2, bytes = ?3, count = ?4, xor = ?5, max_date = ?6, stamped = ?7, \
             heads = ?8, base_generation = ?9, base_sha = ?10, base_bytes = ?11, covered_count = ?12, \
             covered_xor = ?13, complete = ?14, disputed = ?15, retained_bytes = ?16 WHERE id = ?1",
        )?;
        for (row, tail) in self.logs.values() {
            let header = &tail.header;
            let base = header.base.as_ref();
            let heads: Vec<u8> = tail.heads.iter().flat_map(|head| *head.as_bytes()).collect();
            update.execute(params![
                row,
                row::number(header.last_index),
                row::number(header.bytes),
                row::number(header.digest.count),
                header.digest.xor,
                row::number(tail.max_date.micros()),
                row::number(tail.stamped),
                heads,
                base.map(|base| row::number(base.id.generation.get())),
                base.map(|base| base.id.sha.as_bytes()),
                base.map_or(0, |base| row::number(base.bytes)),
                base.map_or(0, |base| row::number(base.covered.count)),
                base.map(|base| base.covered.xor),
                base.is_some_and(|base| base.complete),
                base.is_some_and(|base| base.disputed),
                base.map_or(0, |base| row::number(base.retained_bytes))
            ])?;
        }
        let mut update = self.to.prepare_cached("UPDATE channels SET position = ?2 WHERE id = ?1")?;
        for (id, position) in self.channels.values() {
            update.execute(params![id, row::number(*position)])?;
        }
        let mut update = self.to.prepare_cached("INSERT OR REPLACE INTO users (user, bytes) VALUES (?1, ?2)")?;
        for (user, bytes) in &self.usage {
            update.execute(params![user.as_str(), row::number(*bytes)])?;
        }
        Ok(())
    }
}

fn note(to: &Transaction<'_>, key: &[u8], value: Option<&Bytes>) -> rusqlite::Result<()> {
    match value {
        Some(value) => {
            let sql = "INSERT OR REPLACE INTO notes (key, value) VALUES (?1, ?2)";
            to.prepare_cached(sql)?.execute(params![key, &value[..]])?
        }
        None => to.prepare_cached("DELETE FROM notes WHERE key = ?1")?.execute([key])?,
    };
    Ok(())
}
