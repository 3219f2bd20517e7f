//! The engine on SQLite: a device's local store, which several processes of the device open at once.
//!
//! All that a commit decides on is read inside its own transaction, which takes the write lock when it begins; nothing
//! is cached that another process could make stale. Reads have connections of their own, so they do not wait for a sync.
//! SQLite keeps no checksums: whoever reads a record checks it against its sha, as with a record from a peer.

use std::path::{Path as FilePath, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use gigfs_core::api::LogHeader;
use gigfs_core::{Base, ChannelName, Date, Incarnation, LogName, Path, PathPrefix, Sha, StoreId, TypeName, UserName};
use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior, params};

use crate::base;
use crate::engine::{Appended, Arrival, Batch, Engine, LogTail, Page, StorageError, StoredOp};
use crate::home;
use crate::listing::{self, Step};
use crate::tail::Filled;

pub(crate) mod decoding;
mod lease;
mod open;
mod prune;
mod row;
mod write;

pub use lease::ActorLease;

/// An [`Engine`] in one SQLite file.
#[derive(Debug)]
pub struct Sqlite {
    file: PathBuf,
    store: StoreId,
    incarnation: Incarnation,
    restored: bool,
    writer: Mutex<Connection>,
    readers: Mutex<Vec<Connection>>,
}

/// How long one process waits for another's transaction.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// Reading connections kept open between reads.
const READERS_KEPT_MAX: usize = 4;

impl Sqlite {
    /// Opens the database in `file`, and makes it and its folder if it is not there.
    ///
    /// # Errors
    /// [`StorageError`]: damaged, not one of ours, of a newer format, or not to be opened at all.
    pub fn open(file: &FilePath) -> Result<Self, StorageError> {
        open::open(file)
    }

    /// Tells whether opening found the file copied or restored from a backup, and began a new incarnation.
    pub fn restored(&self) -> bool {
        self.restored
    }

    /// Returns a number that changes whenever another process has written. Cheap enough to ask every few milliseconds.
    ///
    /// # Errors
    /// [`StorageError`] if the data cannot be read.
    pub fn version(&self) -> Result<u64, StorageError> {
        let writer = self.writer.lock();
        let version: i64 = self.said("read", writer.query_row("PRAGMA data_version", [], |row| row.get(0)))?;
        Ok(version.cast_unsigned())
    }

    /// Takes the identity of an author for as long as the lease is held: one that no other process holds.
    ///
    /// It is one that wrote here before in this incarnation, if one is free, and so knows all that it wrote.
    ///
    /// # Errors
    /// [`StorageError`] if the lock files beside the database cannot be used.
    pub fn lease_actor(&self) -> Result<ActorLease, StorageError> {
        lease::take(home::parent(&self.file), self.incarnation)
    }

    fn said<T>(&self, action: &'static str, result: rusqlite::Result<T>) -> Result<T, StorageError> {
        result.map_err(|error| open::storage_error(action, &self.file, &error))
    }

    /// Runs `write` in a transaction of its own, which is on disk when this returns.
    fn writing<T>(&self, write: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>) -> Result<T, StorageError> {
        let mut writer = self.writer.lock();
        let result = writer.transaction_with_behavior(TransactionBehavior::Immediate).and_then(|transaction| {
            let written = write(&transaction)?;
            transaction.commit()?;
            Ok(written)
        });
        self.said("write", result)
    }

    /// Runs `read` on a connection of its own, in one consistent view.
    fn reading<T>(&self, read: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>) -> Result<T, StorageError> {
        let kept = self.readers.lock().pop();
        let mut connection = match kept {
            Some(connection) => connection,
            None => self.said("open", open::connect(&self.file))?,
        };
        let result = connection.transaction().and_then(|view| read(&view));
        let value = self.said("read", result)?;
        let mut readers = self.readers.lock();
        if readers.len() < READERS_KEPT_MAX {
            readers.push(connection);
        }
        Ok(value)
    }
}

impl Engine for Sqlite {
    fn store_id(&self) -> StoreId {
        self.store
    }

    fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    fn commit(&self, batch: &Batch) -> Result<Vec<Appended>, StorageError> {
        let checkpoints = base::checkpoints(batch, self.file.display())?;
        self.writing(|transaction| write::write(transaction, self.store, batch, &checkpoints))
    }

    fn tail(&self, log: &LogName) -> Result<Option<LogTail>, StorageError> {
        self.reading(|view| Ok(row::log(view, log)?.map(|(_, tail)| tail)))
    }

    fn read(&self, log: &LogName, after: u64, page: Page) -> Result<Vec<StoredOp>, StorageError> {
        self.reading(|view| {
            let mut ops = Vec::new();
            let Some((id, _)) = row::log(view, log)? else { return Ok(ops) };
            let mut query =
                view.prepare_cached("SELECT idx, sha, record FROM ops WHERE log = ?1 AND idx > ?2 ORDER BY idx")?;
            let mut rows = query.query(params![id, row::number(after)])?;
            let mut filled = Filled::default();
            while let Some(row) = rows.next()? {
                let op = row::stored(row, 0)?;
                let full = filled.add(page, op.record.len());
                ops.push(op);
                if full {
                    break;
                }
            }
            Ok(ops)
        })
    }

    fn inventory(&self, log: &LogName, after: u64, max: usize) -> Result<Vec<(u64, Sha)>, StorageError> {
        self.reading(|view| {
            let Some((id, _)) = row::log(view, log)? else { return Ok(Vec::new()) };
            let mut query =
                view.prepare_cached("SELECT idx, sha FROM ops WHERE log = ?1 AND idx > ?2 ORDER BY idx LIMIT ?3")?;
            let rows = query.query_map(params![id, row::number(after), row::number(max as u64)], |row| {
                Ok((row::unsigned(row, 0)?, row::sha(row, 1)?))
            })?;
            rows.collect()
        })
    }

    fn find(&self, log: &LogName, sha: &Sha) -> Result<Option<StoredOp>, StorageError> {
        self.reading(|view| {
            let Some((id, _)) = row::log(view, log)? else { return Ok(None) };
            let mut query = view.prepare_cached("SELECT idx, sha, record FROM ops WHERE log = ?1 AND sha = ?2")?;
            query.query_row(params![id, sha.as_bytes()], |row| row::stored(row, 0)).optional()
        })
    }

    fn base(&self, log: &LogName) -> Result<Option<Base>, StorageError> {
        self.reading(|view| {
            let Some((id, tail)) = row::log(view, log)? else { return Ok(None) };
            tail.header.base.map(|own| row::own_base(view, id, &own.id)).transpose()
        })
    }

    fn is_covered(&self, log: &LogName, sha: &Sha) -> Result<bool, StorageError> {
        self.reading(|view| match row::log(view, log)? {
            Some((id, _)) => row::is_covered(view, id, sha),
            None => Ok(false),
        })
    }

    fn covered(&self, log: &LogName, after: Option<&Sha>, max: usize) -> Result<Vec<Sha>, StorageError> {
        self.reading(|view| {
            let Some((id, _)) = row::log(view, log)? else { return Ok(Vec::new()) };
            let mut query =
                view.prepare_cached("SELECT sha FROM covered WHERE log = ?1 AND sha > ?2 ORDER BY sha LIMIT ?3")?;
            let after = after.map_or(&[][..], |sha| sha.as_bytes());
            query.query_map(params![id, after, row::number(max as u64)], |row| row::sha(row, 0))?.collect()
        })
    }

    fn retained(&self, log: &LogName, after: u64, page: Page) -> Result<Vec<(u64, StoredOp)>, StorageError> {
        self.reading(|view| {
            let mut ops = Vec::new();
            let Some((id, _)) = row::log(view, log)? else { return Ok(ops) };
            let mut query = view.prepare_cached(
                "SELECT generation, idx, sha, record FROM retained WHERE log = ?1 AND idx > ?2 ORDER BY idx",
            )?;
            let mut rows = query.query(params![id, row::number(after)])?;
            let mut filled = Filled::default();
            while let Some(row) = rows.next()? {
                let op = row::stored(row, 1)?;
                let full = filled.add(page, op.record.len());
                ops.push((row::unsigned(row, 0)?, op));
                if full {
                    break;
                }
            }
            Ok(ops)
        })
    }

    fn base_of(&self, log: &LogName, generation: u64) -> Result<Option<Base>, StorageError> {
        self.reading(|view| {
            let Some((id, _)) = row::log(view, log)? else { return Ok(None) };
            // The log's own first, then the one that was superseded last.
            let mut query = view.prepare_cached(
                "SELECT sha, certificate, record FROM bases WHERE log = ?1 AND generation = ?2 \
                 ORDER BY since IS NOT NULL, since DESC, sha DESC LIMIT 1",
            )?;
            query.query_row(params![id, row::number(generation)], row::base).optional()
        })
    }

    fn forget_retained(&self, before: Date, max: usize) -> Result<usize, StorageError> {
        self.writing(|transaction| prune::forget(transaction, before, max))
    }

    fn list(
        &self,
        user: &UserName,
        channel: &ChannelName,
        prefix: &PathPrefix,
        after: Option<(&TypeName, &Path)>,
        max: usize,
    ) -> Result<Vec<(LogName, LogHeader)>, StorageError> {
        self.reading(|view| {
            let mut logs = Vec::new();
            let Some((id, _)) = row::channel(view, user, channel)? else { return Ok(logs) };
            let mut from = listing::start(after);
            let mut query = view.prepare_cached(row::LIST)?;
            'leap: while logs.len() < max {
                let mut rows = query.query(params![id, from.kind, from.path])?;
                while let Some(row) = rows.next()? {
                    let (log, tail) = row::named(row, user, channel)?;
                    match listing::step(prefix, &log.kind, &log.path) {
                        Step::Take => logs.push((log, tail.header)),
                        Step::Leap(next) => {
                            from = next;
                            continue 'leap;
                        }
                    }
                    if logs.len() >= max {
                        break;
                    }
                }
                break;
            }
            Ok(logs)
        })
    }

    fn position(&self, user: &UserName, channel: &ChannelName) -> Result<u64, StorageError> {
        self.reading(|view| Ok(row::channel(view, user, channel)?.map_or(0, |(_, position)| position)))
    }

    fn feed(
        &self,
        user: &UserName,
        channel: &ChannelName,
        after: u64,
        page: Page,
    ) -> Result<Vec<Arrival>, StorageError> {
        self.reading(|view| {
            let mut arrivals = Vec::new();
            let Some((id, _)) = row::channel(view, user, channel)? else { return Ok(arrivals) };
            let mut query = view.prepare_cached(
                "SELECT ops.position, logs.type, logs.path, ops.idx, ops.sha, ops.record \
                 FROM ops JOIN logs ON logs.id = ops.log WHERE ops.channel = ?1 AND ops.position > ?2 \
                 ORDER BY ops.position",
            )?;
            let mut rows = query.query(params![id, row::number(after)])?;
            let mut filled = Filled::default();
            while let Some(row) = rows.next()? {
                let log = row::log_name(row, 1, user, channel)?;
                let stored = row::stored(row, 3)?;
                let full = filled.add(page, stored.record.len());
                arrivals.push(Arrival { position: row::unsigned(row, 0)?, log, stored });
                if full {
                    break;
                }
            }
            Ok(arrivals)
        })
    }

    fn note(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        self.reading(|view| {
            let mut query = view.prepare_cached("SELECT value FROM notes WHERE key = ?1")?;
            query.query_row([key], |row| Ok(Bytes::from(row.get::<_, Vec<u8>>(0)?))).optional()
        })
    }

    fn notes(&self, prefix: &[u8]) -> Result<Vec<(Bytes, Bytes)>, StorageError> {
        self.reading(|view| {
            let mut query = view.prepare_cached("SELECT key, value FROM notes WHERE key >= ?1 ORDER BY key")?;
            let rows = query.query_map([prefix], |row| Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, Vec<u8>>(1)?)))?;
            let mut notes = Vec::new();
            for row in rows {
                let (key, value) = row?;
                if !key.starts_with(prefix) {
                    break;
                }
                notes.push((Bytes::from(key), Bytes::from(value)));
            }
            Ok(notes)
        })
    }

    fn usage(&self, user: &UserName) -> Result<u64, StorageError> {
        self.reading(|view| row::usage(view, user))
    }
}
