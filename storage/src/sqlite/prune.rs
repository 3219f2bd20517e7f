//! What a commit does about bases, and how what they cover is forgotten.

use std::collections::BTreeMap;

use gigfs_core::{Checkpoint, Date, LogName, Op, Sha};
use rusqlite::{OptionalExtension as _, Transaction, params};

use super::row;
use super::write::Work;
use crate::base;
use crate::engine::{Append, Appended, Install, LogTail};

impl Work<'_> {
    /// Answers an append to a log that has a base, of an operation that is not live, if it writes nothing.
    pub(super) fn answer(
        &mut self,
        row: i64,
        tail: &LogTail,
        append: &Append,
        op: &Op,
    ) -> rusqlite::Result<Option<Appended>> {
        let sha = op.sha();
        if row::is_covered(self.to, row, &sha)? {
            return Ok(Some(Appended::Covered { sha }));
        }
        let Some(own) = tail.header.base.filter(|_| append.is_doubted(tail)) else { return Ok(None) };
        if !self.covers.contains_key(&row) {
            let record = row::own_base(self.to, row, &own.id)?.record;
            let checkpoint = Checkpoint::from_trusted(&record).map_err(|error| row::damaged(2, error))?;
            self.covers.insert(row, checkpoint.covers);
        }
        Ok(self.covers.get(&row).and_then(|covers| base::doubt(covers, op)))
    }

    pub(super) fn install(&mut self, install: &Install, checkpoint: &Checkpoint) -> rusqlite::Result<()> {
        let log = &install.log;
        let (row, mut tail) = match self.log(log)? {
            Some(found) => found,
            None => {
                let (channel, _) = self.channel(&log.user, &log.channel)?;
                (self.create_log(channel, log)?, LogTail::default())
            }
        };
        let held = tail.held();
        if !tail.stands_on(&install.base.sha) {
            self.replace_base(row, &mut tail, install, checkpoint)?;
        }
        let mut cover = self.to.prepare_cached("INSERT OR IGNORE INTO covered (log, sha) VALUES (?1, ?2)")?;
        let mut retain = self.to.prepare_cached(
            "INSERT INTO retained (log, idx, generation, since, sha, record) \
             SELECT log, idx, ?2, ?3, sha, record FROM ops WHERE id = ?1",
        )?;
        let mut delete = self.to.prepare_cached("DELETE FROM ops WHERE id = ?1")?;
        let (generation, since) = (row::number(checkpoint.generation.get()), row::number(install.at.micros()));
        for sha in &install.covered {
            if cover.execute(params![row, sha.as_bytes()])? == 0 {
                continue;
            }
            tail.cover(sha);
            let Some((_, id, bytes)) = self.find(row, sha)? else { continue };
            if install.retain {
                retain.execute(params![id, generation, since])?;
                tail.retain(bytes as u64);
            }
            delete.execute([id])?;
            tail.remove(sha, bytes);
        }
        tail.compare(checkpoint);
        self.account(&log.user, held, tail.held())?;
        self.logs.insert(log.clone(), (row, tail));
        Ok(())
    }

    /// Puts the installed base in the place of the one before.
    fn replace_base(
        &self,
        row: i64,
        tail: &mut LogTail,
        install: &Install,
        checkpoint: &Checkpoint,
    ) -> rusqlite::Result<()> {
        let (base, generation) = (&install.base, row::number(checkpoint.generation.get()));
        if let Some(before) = tail.header.base {
            let (of, sha) = (row::number(before.id.generation.get()), before.id.sha.as_bytes());
            if install.retain {
                let sql = "UPDATE bases SET since = ?4 WHERE log = ?1 AND generation = ?2 AND sha = ?3";
                self.to.prepare_cached(sql)?.execute(params![row, of, sha, row::number(install.at.micros())])?;
                tail.retain(before.bytes);
            } else {
                self.to.prepare_cached(DELETE_BASE)?.query_row(params![row, of, sha], |_| Ok(()))?;
            }
        }
        // It may have been the log's base before, and be retained as that.
        let mut again = self.to.prepare_cached(DELETE_BASE)?;
        let again = again.query_row(params![row, generation, base.sha.as_bytes()], |row| row::unsigned(row, 0));
        tail.release(again.optional()?.unwrap_or(0));
        let sql = "INSERT INTO bases (log, generation, sha, certificate, record) VALUES (?1, ?2, ?3, ?4, ?5)";
        self.to.prepare_cached(sql)?.execute(params![
            row,
            generation,
            base.sha.as_bytes(),
            base.certificate,
            &base.record[..]
        ])?;
        tail.rebase(base, checkpoint);
        Ok(())
    }

    pub(super) fn dispute(&mut self, log: &LogName, sha: &Sha) -> rusqlite::Result<()> {
        let Some((row, mut tail)) = self.log(log)? else { return Ok(()) };
        if tail.dispute(sha) {
            self.logs.insert(log.clone(), (row, tail));
        }
        Ok(())
    }

    pub(super) fn restore(&mut self, log: &LogName) -> rusqlite::Result<()> {
        let Some((row, mut tail)) = self.log(log)? else { return Ok(()) };
        if tail.header.base.is_none() {
            return Ok(());
        }
        let held = tail.held();
        let mut retained = self.to.prepare_cached("SELECT id FROM retained WHERE log = ?1 ORDER BY idx")?;
        let retained: Vec<i64> = retained.query_map([row], |row| row.get(0))?.collect::<Result<_, _>>()?;
        let mut revive = self.to.prepare_cached(
            "INSERT INTO ops (log, idx, channel, position, sha, record) \
             SELECT log, idx, ?2, ?3, sha, record FROM retained WHERE id = ?1",
        )?;
        for id in retained {
            let (channel, position) = self.arrive(&log.user, &log.channel)?;
            revive.execute(params![id, channel, row::number(position)])?;
        }
        for sql in ["DELETE FROM retained WHERE log = ?1", "DELETE FROM covered WHERE log = ?1"] {
            self.to.prepare_cached(sql)?.execute([row])?;
        }
        self.to.prepare_cached("DELETE FROM bases WHERE log = ?1")?.execute([row])?;
        let mut live = self.to.prepare_cached("SELECT idx, sha, record FROM ops WHERE log = ?1 ORDER BY idx")?;
        let live: Vec<_> = live.query_map([row], |row| row::stored(row, 0))?.collect::<Result<_, _>>()?;
        tail.restore(live.iter().map(|op| (op.sha, &op.record[..]))).map_err(|error| row::damaged(2, error))?;
        self.account(&log.user, held, tail.held())?;
        self.logs.insert(log.clone(), (row, tail));
        Ok(())
    }
}

/// Forgets the oldest operations first, then the oldest bases.
pub(super) fn forget(to: &Transaction<'_>, before: Date, max: usize) -> rusqlite::Result<usize> {
    let mut freed: BTreeMap<i64, u64> = BTreeMap::new();
    let due = [
        (
            "SELECT old.id, old.log, length(old.record) FROM retained AS old CROSS JOIN logs ON logs.id = old.log \
             WHERE old.since < ?1 AND logs.disputed = 0 ORDER BY old.since, old.log, old.idx LIMIT ?2",
            "DELETE FROM retained WHERE id = ?1",
        ),
        (
            "SELECT old.id, old.log, length(old.record) FROM bases AS old CROSS JOIN logs ON logs.id = old.log \
             WHERE old.since IS NOT NULL AND old.since < ?1 AND logs.disputed = 0 \
             ORDER BY old.since, old.log, old.generation, old.sha LIMIT ?2",
            "DELETE FROM bases WHERE id = ?1",
        ),
    ];
    let mut forgotten = 0;
    for (select, delete) in due {
        let left = row::number((max - forgotten) as u64);
        let mut select = to.prepare_cached(select)?;
        let found = select.query_map(params![row::number(before.micros()), left], |row| {
            Ok((row.get(0)?, row.get(1)?, row::unsigned(row, 2)?))
        })?;
        let found: Vec<(i64, i64, u64)> = found.collect::<Result<_, _>>()?;
        let mut delete = to.prepare_cached(delete)?;
        for (id, log, bytes) in &found {
            delete.execute([id])?;
            *freed.entry(*log).or_default() += bytes;
        }
        forgotten += found.len();
    }
    let mut log = to.prepare_cached("UPDATE logs SET retained_bytes = max(retained_bytes - ?2, 0) WHERE id = ?1")?;
    let mut user = to.prepare_cached(
        "UPDATE users SET bytes = max(bytes - ?2, 0) WHERE user = \
         (SELECT channels.user FROM logs JOIN channels ON channels.id = logs.channel WHERE logs.id = ?1)",
    )?;
    for (id, bytes) in freed {
        log.execute(params![id, row::number(bytes)])?;
        user.execute(params![id, row::number(bytes)])?;
    }
    Ok(forgotten)
}

const DELETE_BASE: &str = "DELETE FROM bases WHERE log = ?1 AND generation = ?2 AND sha = ?3 RETURNING length(record)";
