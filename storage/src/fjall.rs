//! The engine on fjall, a log-structured tree: the store server's.
//!
//! A commit is one write batch, and the journal is synced before it returns (`SyncData`; without it a batch is not
//! durable). A log's tail is verified when the log is first touched after opening, so that a journal which was cut in the
//! middle is noticed; a damaged log is named, and the others go on being served. A write that fails leaves fjall refusing
//! all others, so the database is then opened again, and later commits go on once the disk does.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path as FilePath, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use ::fjall::{Database, Keyspace, Readable as _};
use bytes::Bytes;
use gigfs_core::api::LogHeader;
use gigfs_core::{Base, ChannelName, Date, Incarnation, LogName, Path, PathPrefix, Sha, StoreId, TypeName, UserName};
use parking_lot::{Mutex, RwLock};

use crate::base;
use crate::damage::{Damage, Mended};
use crate::engine::{Appended, Arrival, Batch, Engine, LogTail, Page, StorageError, StoredOp};
use crate::listing::{self, Step};
use crate::tail::Filled;
use failure::{Failure, named};
use row::{ChannelRow, LogRow, OpRow, RetainedRow};
use view::View;

mod backup;
pub(crate) mod decoding;
mod failure;
mod files;
mod identity;
mod journal;
mod key;
mod mend;
mod open;
mod prune;
mod reopen;
mod row;
mod salvage;
mod table;
mod verify;
mod view;
mod write;

/// An [`Engine`] in one fjall folder, which one process opens at a time.
#[derive(Debug)]
pub struct Fjall {
    folder: PathBuf,
    store: StoreId,
    incarnation: Incarnation,
    restored: bool,
    mended: Option<Mended>,
    /// Nothing while it could not be opened again after a failed write.
    open: RwLock<Option<Db>>,
    /// Whether a write has failed since it was opened, so that it takes no more.
    is_stuck: AtomicBool,
    /// Whether something failed in the background, which may be damage that nobody else has met.
    failed_behind: AtomicU32,
    /// Held through a commit.
    cache: Mutex<write::Cache>,
    /// Logs whose tails were found whole.
    verified: Mutex<HashSet<u64>>,
    /// Damage that was met since, and is written down for the next opening.
    noted: Mutex<Vec<Damage>>,
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
    Bases,
    Covered,
    Retained,
    Since,
}

impl Space {
    /// With their names on disk. // persisted
    const ALL: [(Self, &'static str); 12] = [
        (Self::Meta, "meta"),
        (Self::Channels, "channels"),
        (Self::Logs, "logs"),
        (Self::Names, "names"),
        (Self::Ops, "ops"),
        (Self::Shas, "shas"),
        (Self::Feed, "feed"),
        (Self::Notes, "notes"),
        (Self::Bases, "bases"),
        (Self::Covered, "covered"),
        (Self::Retained, "retained"),
        (Self::Since, "since"),
    ];
}

/// Logs remembered as verified, after which the memory starts afresh.
const VERIFIED_LOGS_MAX: usize = 1 << 20;
/// Damages that are written down: all of them lead to the same.
const NOTED_MAX: usize = 64;

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

    /// Returns what was damaged when this was opened, and what became of it; nothing if it was all whole.
    pub fn mended(&self) -> Option<&Mended> {
        self.mended.as_ref()
    }

    /// Tells whether damage was met since this was opened. Opening it again mends it.
    pub fn is_damaged(&self) -> bool {
        !self.noted.lock().is_empty()
    }

    /// Gives back to the disk what removed records took. Worth its while after large prunes; takes a while itself.
    ///
    /// # Errors
    /// [`StorageError`] if the data cannot be read or written.
    pub fn compact(&self) -> Result<(), StorageError> {
        self.using(|db| {
            for space in
                [Space::Ops, Space::Shas, Space::Feed, Space::Bases, Space::Covered, Space::Retained, Space::Since]
            {
                db.space(space).rotate_memtable_and_wait()?;
                db.space(space).major_compact()?;
            }
            Ok(())
        })
    }

    /// Runs `read` over the data of a log as it is at this moment.
    fn reading_log<T>(
        &self,
        log: &LogName,
        read: impl FnOnce(&View<'_>) -> Result<T, Failure>,
    ) -> Result<T, StorageError> {
        self.reading(|view| read(view).map_err(|failure| failure.of(log)))
    }

    /// Runs `read` over the data as it is at this moment.
    fn reading<T>(&self, read: impl FnOnce(&View<'_>) -> Result<T, Failure>) -> Result<T, StorageError> {
        self.using(|db| read(&db.view()))
    }

    /// Writes what `prepare` works out, all of it or nothing; it is on disk when this returns.
    fn writing<T>(
        &self,
        prepare: impl FnOnce(&Db, &write::Cache) -> Result<write::Prepared<T>, Failure>,
    ) -> Result<T, StorageError> {
        let mut cache = self.cache.lock();
        if self.is_stuck.load(Ordering::Relaxed) {
            self.get_unstuck()?;
        }
        let mut broken = false;
        let result = self.using(|db| {
            let prepared = prepare(db, &cache)?;
            let (answer, touched) = prepared.write(db).inspect_err(|failure| {
                broken = true;
                self.failed_behind.fetch_add(u32::from(failure.is_of_the_background()), Ordering::Relaxed);
            })?;
            cache.keep(touched);
            Ok(answer)
        });
        if broken {
            cache.clear();
            self.is_stuck.store(true, Ordering::Relaxed);
            if let Err(error) = self.get_unstuck() {
                tracing::error!(%error, "nothing is written before the disk takes something again; reads go on");
            }
        }
        result
    }

    /// Runs `work` over the open database, opening it again first if it had to be closed.
    fn using<T>(&self, work: impl FnOnce(&Db) -> Result<T, Failure>) -> Result<T, StorageError> {
        if self.open.read().is_none() {
            self.get_unstuck()?;
        }
        match &*self.open.read() {
            Some(db) => work(db).map_err(|failure| self.failed("use", failure)),
            None => Err(self.failed("use", Failure::Fjall(::fjall::Error::Poisoned))),
        }
    }

    fn failed(&self, action: &'static str, failure: Failure) -> StorageError {
        let error = open::storage_error(action, &self.folder, failure);
        if let StorageError::Damaged { what, why, .. } = &error {
            self.note_damage(Damage::new(what, why));
        }
        error
    }

    /// Writes damage down, so that the next opening mends it.
    fn note_damage(&self, damage: Damage) {
        let mut noted = self.noted.lock();
        if noted.len() >= NOTED_MAX || noted.contains(&damage) {
            return;
        }
        if let Err(error) = files::note(&self.folder, &damage) {
            tracing::warn!(%error, %damage, "this will not be mended at the next start");
        }
        noted.push(damage);
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
        let checkpoints = base::checkpoints(batch, self.folder.display())?;
        self.writing(|db, cache| write::prepare(self, db, cache, batch, &checkpoints))
    }

    fn tail(&self, log: &LogName) -> Result<Option<LogTail>, StorageError> {
        self.reading_log(log, |view| Ok(self.log(view, log)?.map(|row| row.tail)))
    }

    fn read(&self, log: &LogName, after: u64, page: Page) -> Result<Vec<StoredOp>, StorageError> {
        self.reading_log(log, |view| {
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
        self.reading_log(log, |view| {
            let Some(row) = self.log(view, log)? else { return Ok(Vec::new()) };
            let ops = view.ops(row.id, after).take(max).map(|guard| {
                let (key, value) = guard.into_inner()?;
                let op = OpRow::decode(&value, log)?;
                Ok((key::last_number(&key).unwrap_or(0), op.sha))
            });
            ops.collect()
        })
    }

    fn find(&self, log: &LogName, sha: &Sha) -> Result<Option<StoredOp>, StorageError> {
        self.reading_log(log, |view| {
            let Some(row) = self.log(view, log)? else { return Ok(None) };
            let Some(index) = view.get(Space::Shas, &key::sha(row.id, sha))? else { return Ok(None) };
            let at = key::op(row.id, key::last_number(&index).unwrap_or(0));
            let value = view.get(Space::Ops, &at)?;
            let value = value.ok_or_else(|| Failure::damaged(named(log), format!("the operation {sha} is missing")))?;
            row::stored(&at, &value, log).map(Some)
        })
    }

    fn base(&self, log: &LogName) -> Result<Option<Base>, StorageError> {
        self.reading_log(log, |view| match self.log(view, log)? {
            Some(row) => view.base(log, &row),
            None => Ok(None),
        })
    }

    fn is_covered(&self, log: &LogName, sha: &Sha) -> Result<bool, StorageError> {
        self.reading_log(log, |view| match self.log(view, log)? {
            Some(row) => Ok(view.get(Space::Covered, &key::sha(row.id, sha))?.is_some()),
            None => Ok(false),
        })
    }

    fn covered(&self, log: &LogName, after: Option<&Sha>, max: usize) -> Result<Vec<Sha>, StorageError> {
        self.reading_log(log, |view| {
            let Some(row) = self.log(view, log)? else { return Ok(Vec::new()) };
            let [from, to] = [[0; 32], [0xff; 32]].map(Sha::from_bytes);
            let (from, to) = (key::sha(row.id, after.unwrap_or(&from)), key::sha(row.id, &to));
            let shas = view.range(Space::Covered, from..=to).map(|guard| {
                let sha = key::last_sha(&guard.key()?);
                sha.ok_or_else(|| Failure::damaged(named(log), "a covered sha of it cannot be read"))
            });
            shas.filter(|sha| !matches!(sha, Ok(sha) if Some(sha) == after)).take(max).collect()
        })
    }

    fn retained(&self, log: &LogName, after: u64, page: Page) -> Result<Vec<(u64, StoredOp)>, StorageError> {
        self.reading_log(log, |view| {
            let mut ops = Vec::new();
            let Some(row) = self.log(view, log)? else { return Ok(ops) };
            let mut filled = Filled::default();
            let (from, to) = (key::op(row.id, after.saturating_add(1)), key::op(row.id, u64::MAX));
            for guard in view.range(Space::Retained, from..=to) {
                let (key, value) = guard.into_inner()?;
                let kept = RetainedRow::decode(&value, log)?;
                let full = filled.add(page, kept.record.len());
                ops.push((kept.generation, kept.stored(&key)));
                if full {
                    break;
                }
            }
            Ok(ops)
        })
    }

    fn base_of(&self, log: &LogName, generation: u64) -> Result<Option<Base>, StorageError> {
        self.reading_log(log, |view| match self.log(view, log)? {
            Some(row) => view.base_of(log, &row, generation),
            None => Ok(None),
        })
    }

    fn forget_retained(&self, before: Date, max: usize) -> Result<usize, StorageError> {
        self.writing(|db, cache| write::prepare_to_forget(self, db, cache, before, max))
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
                for guard in view.range(Space::Logs, range) {
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
            for guard in view.range(Space::Feed, range) {
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
