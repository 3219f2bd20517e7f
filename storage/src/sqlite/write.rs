//! What one commit does inside its transaction.

use std::collections::BTreeMap;

use bytes::Bytes;
use gigfs_core::{ChannelName, LogName, Sha, StoreId, UserName};
use rusqlite::{OptionalExtension as _, Transaction, params};

use super::row;
use crate::engine::{Append, Appended, Arrival, Batch, LogTail, StoredOp};

/// Writes the batch into the open transaction.
pub(super) fn write(to: &Transaction<'_>, store: StoreId, batch: &Batch) -> rusqlite::Result<Vec<Appended>> {
    let mut work = Work { to, store, logs: BTreeMap::new(), channels: BTreeMap::new(), usage: BTreeMap::new() };
    let appended = batch.appends.iter().map(|append| work.append(append)).collect::<Result<_, _>>()?;
    for (log, sha) in &batch.removes {
        work.remove(log, sha)?;
    }
    work.finish()?;
    for (key, value) in &batch.notes {
        note(to, key, value.as_ref())?;
    }
    Ok(appended)
}

/// The rows that the batch has touched, written once at its end.
struct Work<'t> {
    to: &'t Transaction<'t>,
    store: StoreId,
    logs: BTreeMap<LogName, (i64, LogTail)>,
    channels: BTreeMap<(UserName, ChannelName), (i64, u64)>,
    usage: BTreeMap<UserName, u64>,
}

impl Work<'_> {
    fn append(&mut self, append: &Append) -> rusqlite::Result<Appended> {
        let log = append.log();
        let touched = match self.logs.get(log) {
            Some(touched) => Some(touched.clone()),
            None => row::log(self.to, log)?,
        };
        let (row, mut tail) = touched.map_or((None, LogTail::default()), |(row, tail)| (Some(row), tail));
        let op = match tail.resolve(self.store, append) {
            Ok(op) => op,
            Err(error) => return Ok(Appended::Refused(error)),
        };
        let sha = op.sha();
        if let Some(row) = row
            && let Some((index, _, _)) = self.find(row, &sha)?
        {
            return Ok(Appended::Known { sha, index });
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
        let touched = match self.logs.get(log) {
            Some(touched) => Some(touched.clone()),
            None => row::log(self.to, log)?,
        };
        let Some((row, mut tail)) = touched else { return Ok(()) };
        let Some((_, id, bytes)) = self.find(row, sha)? else { return Ok(()) };
        self.to.prepare_cached("DELETE FROM ops WHERE id = ?1")?.execute([id])?;
        tail.remove(sha, bytes);
        self.logs.insert(log.clone(), (row, tail));
        let usage = self.usage_of(&log.user)?;
        *usage = usage.saturating_sub(bytes as u64);
        Ok(())
    }

    /// Returns index, row and size of a record.
    fn find(&self, log: i64, sha: &Sha) -> rusqlite::Result<Option<(u64, i64, usize)>> {
        let mut query =
            self.to.prepare_cached("SELECT idx, id, length(record) FROM ops WHERE log = ?1 AND sha = ?2")?;
        let found = query.query_row(params![log, sha.as_bytes()], |row| {
            Ok((row::unsigned(row, 0)?, row.get(1)?, row::unsigned(row, 2)? as usize))
        });
        found.optional()
    }

    /// Takes the next position of a channel, which comes to be with its first arrival.
    fn arrive(&mut self, user: &UserName, channel: &ChannelName) -> rusqlite::Result<(i64, u64)> {
        let key = (user.clone(), channel.clone());
        let (id, position) = match self.channels.get(&key) {
            Some(touched) => *touched,
            None => match row::channel(self.to, user, channel)? {
                Some(found) => found,
                None => {
                    let sql = "INSERT INTO channels (user, channel, position) VALUES (?1, ?2, 0)";
                    self.to.execute(sql, params![user.as_str(), channel.as_str()])?;
                    (self.to.last_insert_rowid(), 0)
                }
            },
        };
        self.channels.insert(key, (id, position + 1));
        Ok((id, position + 1))
    }

    fn create_log(&self, channel: i64, log: &LogName) -> rusqlite::Result<i64> {
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

    fn finish(self) -> rusqlite::Result<()> {
        let mut update = self.to.prepare_cached(
            "UPDATE logs SET last_index = ?2, bytes = ?3, count = ?4, xor = ?5, max_date = ?6, stamped = ?7, \
             heads = ?8 WHERE id = ?1",
        )?;
        for (row, tail) in self.logs.values() {
            let header = &tail.header;
            let heads: Vec<u8> = tail.heads.iter().flat_map(|head| *head.as_bytes()).collect();
            update.execute(params![
                row,
                row::number(header.last_index),
                row::number(header.bytes),
                row::number(header.digest.count),
                header.digest.xor,
                row::number(tail.max_date.micros()),
                row::number(tail.stamped),
                heads
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
