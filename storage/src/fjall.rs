//! The engine on fjall, a log-structured tree: the store server's.
//!
//! A commit is one write batch, and the journal is synced before it returns (`SyncData`; without it a batch is not
//! durable). A log's tail is verified when the log is first touched after opening, so that a journal which was cut in the
//! middle is noticed; a damaged log is named, and the others go on being served. A write that fails leaves fjall refusing
//! all others, so the database is then opened again, and later commits go on once the disk does.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path as FilePath, PathBuf};

use ::fjall::{Database, Guard, Keyspace, Readable as _, Snapshot};
use bytes::Bytes;
use gigfs_core::api::LogHeader;
use gigfs_core::{ChannelName, Incarnation, LogName, Op, Path, PathPrefix, Sha, StoreId, TypeName, UserName};
use parking_lot::{Mutex, RwLock};

use crate::engine::{Appended, Arrival, Batch, Engine, LogTail, Page, StorageError, StoredOp};
use crate::listing::{self, Step};
use crate::tail::Filled;
use row::{ChannelRow, LogRow, OpRow};

mod key;
mod open;
mod row;
mod write;

/// An [`Engine`] in one fjall folder, which one process opens at a time.
#[derive(Debug)]
pub struct Fjall {
    folder: PathBuf,
    store: StoreId,
    incarnation: Incarnation,
    restored: bool,
    /// Nothing while it could not be opened again after a failed write.
    open: RwLock<Option<Db>>,
    /// Held through a commit.
    cache: Mutex<write::Cache>,
    /// Logs whose tails were found whole.
    verified: Mutex<HashSet<u64>>,
}

/// The open database and its keyspaces.
struct Db {
    database: Database,
    spaces: [Keyspace; Space::ALL.len()],
}

/// The keyspaces; `fjall/key.rs` says what their keys are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Space {
    Meta,
    Channels,
    Logs,
    Names,
    Ops,
    Shas,
    Feed,
    Notes,
}

impl Space {
    /// With their names on disk. // persisted
    const ALL: [(Self, &'static str); 8] = [
        (Self::Meta, "meta"),
        (Self::Channels, "channels"),
        (Self::Logs, "logs"),
        (Self::Names, "names"),
        (Self::Ops, "ops"),
        (Self::Shas, "shas"),
        (Self::Feed, "feed"),
        (Self::Notes, "notes"),
    ];
}

/// Logs remembered as verified, after which the memory starts afresh.
const VERIFIED_LOGS_MAX: usize = 1 << 20;

impl Db {
    fn space(&self, space: Space) -> &Keyspace {
        &self.spaces[space as usize]
    }

    fn view(&self) -> View<'_> {
        View { db: self, snapshot: self.database.snapshot() }
    }
}

impl std::fmt::Debug for Db {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Db").finish_non_exhaustive()
    }
}

/// Why a call failed, before it is told to whoever asked.
#[derive(Debug)]
enum Failure {
    Fjall(::fjall::Error),
    Damaged { what: String, why: String },
}

impl From<::fjall::Error> for Failure {
    fn from(error: ::fjall::Error) -> Self {
        Self::Fjall(error)
    }
}

impl Failure {
    fn damaged(what: impl ToString, why: impl ToString) -> Self {
        Self::Damaged { what: what.to_string(), why: why.to_string() }
    }
}

/// The data at one moment.
struct View<'d> {
    db: &'d Db,
    snapshot: Snapshot,
}

impl View<'_> {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<::fjall::UserValue>, Failure> {
        Ok(self.snapshot.get(self.db.space(space), key)?)
    }

    fn channel(&self, user: &UserName, channel: &ChannelName) -> Result<Option<ChannelRow>, Failure> {
        let value = self.get(Space::Channels, &key::channel(user, channel))?;
        value.map(|value| ChannelRow::decode(&value, user, channel)).transpose()
    }

    fn log(&self, log: &LogName) -> Result<Option<LogRow>, Failure> {
        let value = self.get(Space::Logs, &key::log(log))?;
        value.map(|value| LogRow::decode(&value, log)).transpose()
    }

    /// Returns the records of a log after an index, in order.
    fn ops(&self, log: u64, after: u64) -> impl DoubleEndedIterator<Item = Guard> {
        let from = key::op(log, after.saturating_add(1));
        self.snapshot.range(self.db.space(Space::Ops), from..=key::op(log, u64::MAX))
    }

    /// Checks that the newest record is the one that the log's row names, and is whole.
    fn verify(&self, log: &LogName, row: &LogRow) -> Result<(), Failure> {
        let newest = self.ops(row.id, 0).next_back().map(Guard::into_inner).transpose()?;
        let Some((key, value)) = newest else {
            return match row.tip {
                0 => Ok(()),
                tip => Err(Failure::damaged(named(log), format!("its newest record, {tip}, is missing"))),
            };
        };
        let index = key::last_number(&key).unwrap_or(0);
        if index != row.tip || row.tip > row.tail.header.last_index {
            let why = format!("its newest record is {index} and should be {}", row.tip);
            return Err(Failure::damaged(named(log), why));
        }
        let op = OpRow::decode(&value, log)?;
        Op::from_record(log, op.record, Some(op.sha)).map_err(|error| Failure::damaged(named(log), error))?;
        match self.get(Space::Shas, &key::sha(row.id, &op.sha))? {
            Some(known) if key::last_number(&known) == Some(index) => Ok(()),
            _ => Err(Failure::damaged(named(log), format!("its record {index} is not in the index of shas"))),
        }
    }
}

fn named(log: &LogName) -> String {
    format!("the log {log} of {}", log.user)
}

impl Fjall {
    /// Opens the data in `folder`, and makes it if it is not there.
    ///
    /// # Errors
    /// [`StorageError`]: open in another process, damaged, of a newer format, or not to be opened at all.
    pub fn open(folder: &FilePath) -> Result<Self, StorageError> {
        open::open(folder)
    }

    /// Tells whether opening found the data copied or restored from a backup, and began a new incarnation.
    pub fn restored(&self) -> bool {
        self.restored
    }

    /// Gives back to the disk what removed records took. Worth its while after large prunes; takes a while itself.
    ///
    /// # Errors
    /// [`StorageError`] if the data cannot be read or written.
    pub fn compact(&self) -> Result<(), StorageError> {
        self.using(|db| {
            for space in [Space::Ops, Space::Shas, Space::Feed] {
                db.space(space).rotate_memtable_and_wait()?;
                db.space(space).major_compact()?;
            }
            Ok(())
        })
    }

    /// Runs `read` over the data as it is at this moment.
    fn reading<T>(&self, read: impl FnOnce(&View<'_>) -> Result<T, Failure>) -> Result<T, StorageError> {
        self.using(|db| read(&db.view()))
    }

    /// Runs `work` over the open database, opening it again first if it had to be closed.
    fn using<T>(&self, work: impl FnOnce(&Db) -> Result<T, Failure>) -> Result<T, StorageError> {
        if self.open.read().is_none() {
            self.reopen(|| false)?;
        }
        match &*self.open.read() {
            Some(db) => work(db).map_err(|failure| self.failed("use", failure)),
            None => Err(self.failed("use", Failure::Fjall(::fjall::Error::Poisoned))),
        }
    }

    /// Closes the database if it is open and `close` says so, and opens it if it is closed.
    fn reopen(&self, close: impl FnOnce() -> bool) -> Result<(), StorageError> {
        let mut open = self.open.write();
        if open.is_some() && !close() {
            return Ok(());
        }
        *open = None;
        self.verified.lock().clear();
        *open = Some(open::database(&self.folder).map_err(|failure| self.failed("open", failure))?);
        Ok(())
    }

    fn failed(&self, action: &'static str, failure: Failure) -> StorageError {
        open::storage_error(action, &self.folder, failure)
    }

    /// Returns a log's row, its tail verified.
    fn log(&self, view: &View<'_>, log: &LogName) -> Result<Option<LogRow>, Failure> {
        let Some(row) = view.log(log)? else { return Ok(None) };
        if !self.verified.lock().contains(&row.id) {
            view.verify(log, &row)?;
            let mut verified = self.verified.lock();
            if verified.len() >= VERIFIED_LOGS_MAX {
                verified.clear();
            }
            verified.insert(row.id);
        }
        Ok(Some(row))
    }
}

impl Engine for Fjall {
    fn store_id(&self) -> StoreId {
        self.store
    }

    fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    fn commit(&self, batch: &Batch) -> Result<Vec<Appended>, StorageError> {
        let mut cache = self.cache.lock();
        let mut broken = false;
        let result = self.using(|db| {
            let prepared = write::prepare(self, db, &cache, batch)?;
            let (appended, touched) = prepared.write(db).inspect_err(|_| broken = true)?;
            cache.keep(touched);
            Ok(appended)
        });
        if broken {
            cache.clear();
            if let Err(error) = self.reopen(|| true) {
                tracing::error!(%error, "the database stays closed until it can be opened again");
            }
        }
        result
    }

    fn tail(&self, log: &LogName) -> Result<Option<LogTail>, StorageError> {
        self.reading(|view| Ok(self.log(view, log)?.map(|row| row.tail)))
    }

    fn read(&self, log: &LogName, after: u64, page: Page) -> Result<Vec<StoredOp>, StorageError> {
        self.reading(|view| {
            let mut ops = Vec::new();
            let Some(row) = self.log(view, log)? else { return Ok(ops) };
            let mut filled = Filled::default();
            for guard in view.ops(row.id, after) {
                let (key, value) = guard.into_inner()?;
                let op = row::stored(&key, &value, log)?;
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
            let Some(row) = self.log(view, log)? else { return Ok(Vec::new()) };
            let ops = view.ops(row.id, after).take(max).map(|guard| {
                let (key, value) = guard.into_inner()?;
                let op = OpRow::decode(&value, log)?;
                Ok((key::last_number(&key).unwrap_or(0), op.sha))
            });
            ops.collect()
        })
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
            let mut from = listing::start(after);
            let all = key::logs_of(user, channel);
            'leap: while logs.len() < max {
                let range = key::log_bound(user, channel, &from)..;
                for guard in view.snapshot.range(view.db.space(Space::Logs), range) {
                    let (key, value) = guard.into_inner()?;
                    if !key.starts_with(&all) {
                        break;
                    }
                    let log = key::log_name(&key)?;
                    match listing::step(prefix, &log.kind, &log.path) {
                        Step::Take => {
                            let header = LogRow::decode(&value, &log)?.tail.header;
                            logs.push((log, header));
                        }
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
        self.reading(|view| Ok(view.channel(user, channel)?.map_or(0, |row| row.position)))
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
            let Some(row) = view.channel(user, channel)? else { return Ok(arrivals) };
            let mut names: HashMap<u64, LogName> = HashMap::new();
            let mut filled = Filled::default();
            let range = key::feed(row.id, after.saturating_add(1))..=key::feed(row.id, u64::MAX);
            for guard in view.snapshot.range(view.db.space(Space::Feed), range) {
                let (key, value) = guard.into_inner()?;
                let damaged = |why: &str| Failure::damaged(format!("the feed of {channel} of {user}"), why);
                let position = key::last_number(&key).ok_or_else(|| damaged("a key is too short"))?;
                let (id, index) = key::two_numbers(&value).ok_or_else(|| damaged("an entry is too short"))?;
                let log = match names.get(&id) {
                    Some(log) => log.clone(),
                    None => {
                        let name = view.get(Space::Names, &id.to_be_bytes())?;
                        let name = name.ok_or_else(|| damaged("it names a log that is not there"))?;
                        let log = key::log_name(&name)?;
                        names.insert(id, log.clone());
                        log
                    }
                };
                let key = key::op(id, index);
                let value = view.get(Space::Ops, &key)?.ok_or_else(|| {
                    Failure::damaged(named(&log), format!("record {index} is missing, which arrived at {position}"))
                })?;
                let stored = row::stored(&key, &value, &log)?;
                let full = filled.add(page, stored.record.len());
                arrivals.push(Arrival { position, log, stored });
                if full {
                    break;
                }
            }
            Ok(arrivals)
        })
    }

    fn note(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        self.reading(|view| Ok(view.get(Space::Notes, &key::note(key))?.map(|value| Bytes::copy_from_slice(&value))))
    }

    fn notes(&self, prefix: &[u8]) -> Result<Vec<(Bytes, Bytes)>, StorageError> {
        self.reading(|view| {
            let found = view.snapshot.prefix(view.db.space(Space::Notes), key::note(prefix)).map(|guard| {
                let (key, value) = guard.into_inner()?;
                Ok((Bytes::copy_from_slice(&key[1..]), Bytes::copy_from_slice(&value)))
            });
            found.collect()
        })
    }

    fn usage(&self, user: &UserName) -> Result<u64, StorageError> {
        self.reading(|view| {
            let value = view.get(Space::Meta, &key::usage(user))?;
            Ok(value.and_then(|value| key::last_number(&value)).unwrap_or(0))
        })
    }
}

/// Rows that a commit read and wrote, for the next one.
type Touched = (BTreeMap<LogName, LogRow>, BTreeMap<(UserName, ChannelName), ChannelRow>, BTreeMap<UserName, u64>);
