//! Mending: what can be read of damaged data is written anew, as if it came from somewhere else, and takes its place.
//!
//! Every operation is checked against its sha and every base against its own before it is taken over. All else, the indexes,
//! the feed, the sums, comes to be as it did the first time. A new incarnation begins, so clients compare what they know of
//! with what is here and bring back the rest. The damaged files are put aside and never changed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use gigfs_core::{Base, Checkpoint, Date, Digest, LogName, Op, Sha, StoreId};

use super::row::{BaseRow, LogRow, OpRow, RetainedRow};
use super::salvage::Salvage;
use super::{Failure, Fjall, Space, identity, key, open};
use crate::damage::{Damage, Lost, Mended};
use crate::engine::{Append, Batch, Engine as _, Install, StorageError};
use crate::home::{self, io_error};

/// Writes anew what can be read of a folder, and puts it in the folder's place.
///
/// # Errors
/// [`StorageError::Damaged`] if nothing says any more which store this is; any other if the disk fails. The folder is then
/// as it was.
pub(super) fn mend(folder: &Path, mut damage: Vec<Damage>) -> Result<Mended, StorageError> {
    for damaged in &damage {
        tracing::error!(folder = %folder.display(), what = damaged.what, why = damaged.why, "damaged");
    }
    tracing::warn!(folder = %folder.display(), "what can still be read is written anew; this takes a while");
    let (scratch, draft) = (home::beside(folder, "scratch"), home::beside(folder, "draft"));
    for old in [&scratch, &draft] {
        remove(old)?;
    }
    let salvage = Salvage::read(folder, &scratch, &mut damage)?;
    let failed = |failure| open::storage_error("mend", folder, failure);
    let inside = salvage.get(Space::Meta, b"store").map_err(failed)?;
    let store = match inside.as_deref().and_then(StoreId::from_slice) {
        Some(store) => store,
        None => identity::read(folder)?.ok_or_else(|| {
            failed(Failure::damaged("the store's id", "it is gone, in the data and in the file beside it"))
        })?,
    };
    let mut mended = Mended { damage, lost: Vec::new(), nameless: 0, kept_in: None };
    open::create_at(&draft, store, open::Past::Damaged)?;
    let fresh = open::open_sound(&draft)?;
    Mending { salvage: &salvage, fresh: &fresh, failed: &failed }.write(&mut mended)?;
    drop((salvage, fresh));
    remove(&scratch)?;
    let kept = put_aside_in(folder)?;
    mended.kept_in = Some(kept.clone());
    let report = serde_json::to_vec_pretty(&mended).expect("names and numbers are plain JSON");
    home::create_folder(&kept)?;
    super::files::write(&kept.join("report.json"), &report)?;
    fs::rename(&draft, home::beside(folder, READY)).map_err(|error| io_error("mend", folder, &error))?;
    settle(folder)?;
    Ok(mended)
}

/// Puts what was mended in the folder's place, also where a crash came in between.
pub(super) fn settle(folder: &Path) -> Result<(), StorageError> {
    let ready = home::beside(folder, READY);
    if !ready.exists() {
        return Ok(());
    }
    let failed = |error| io_error("mend", folder, &error);
    if folder.exists() {
        let kept = put_aside_in(folder)?;
        home::create_folder(&kept)?;
        fs::rename(folder, kept.join(folder.file_name().unwrap_or_default())).map_err(failed)?;
        // The folders for it may be new, too.
        for made in [&*kept, home::parent(&kept)] {
            home::sync_folder(made)?;
        }
    }
    fs::rename(&ready, folder).map_err(failed)?;
    home::sync_folder(home::parent(folder))
}

/// Returns the first folder for damaged files that holds none of this folder yet.
fn put_aside_in(folder: &Path) -> Result<PathBuf, StorageError> {
    let name = folder.file_name().unwrap_or_default();
    let all = home::parent(folder).join(PUT_ASIDE);
    let taken = |kept: &PathBuf| kept.join(name).exists();
    let mut numbered = (1_u32..).map(|number| all.join(format!("{}-{number}", name.to_string_lossy())));
    Ok(numbered.find(|kept| !taken(kept)).unwrap_or(all))
}

fn remove(folder: &Path) -> Result<(), StorageError> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(io_error("remove", folder, &error)),
        _ => Ok(()),
    }
}

/// The folder for damaged files, beside the data.
const PUT_ASIDE: &str = "damaged";
/// What is mended and waits to take the folder's place. // persisted
const READY: &str = "mended";
/// Bytes of records that are written at once.
const WRITTEN_AT_ONCE_BYTES: usize = 4 * 1024 * 1024;

struct Mending<'m> {
    salvage: &'m Salvage,
    fresh: &'m Fjall,
    failed: &'m dyn Fn(Failure) -> StorageError,
}

/// An operation that can be read, and where it stands.
enum Kept {
    Live,
    Retained { generation: u64, since: u64 },
}

impl Mending<'_> {
    fn write(&self, mended: &mut Mended) -> Result<(), StorageError> {
        self.write_notes()?;
        let names = self.names().map_err(self.failed)?;
        for (done, (id, log)) in names.iter().enumerate() {
            if done > 0 && done.is_multiple_of(LOGS_BETWEEN_WORDS) {
                tracing::info!(done, of = names.len(), "logs written anew");
            }
            mended.lost.extend(self.write_log(*id, log)?);
        }
        mended.nameless = self.nameless(&names).map_err(self.failed)?;
        Ok(())
    }

    fn write_notes(&self) -> Result<(), StorageError> {
        let mut batch = Batch::default();
        for note in self.salvage.all(Space::Notes, b"n") {
            let (key, value) = note.map_err(self.failed)?;
            batch.notes.push((Bytes::from(key).slice(1..), Some(Bytes::from(value))));
        }
        self.fresh.commit(&batch).map(drop)
    }

    /// Returns the names of all logs, by their ids.
    fn names(&self) -> Result<BTreeMap<u64, LogName>, Failure> {
        let mut names = BTreeMap::new();
        for entry in self.salvage.all(Space::Names, b"") {
            let (id, name) = entry?;
            if let (Some(id), Ok(log)) = (key::last_number(&id), key::log_name(&name)) {
                names.insert(id, log);
            }
        }
        for entry in self.salvage.all(Space::Logs, b"") {
            let (name, row) = entry?;
            if let Ok(log) = key::log_name(&name)
                && let Ok(row) = LogRow::decode(&row, &log)
            {
                names.insert(row.id, log);
            }
        }
        Ok(names)
    }

    /// Counts the operations of logs without a name.
    fn nameless(&self, names: &BTreeMap<u64, LogName>) -> Result<u64, Failure> {
        let mut count = 0;
        for entry in self.salvage.all(Space::Ops, b"") {
            let (at, _) = entry?;
            count += u64::from(!key::two_numbers(&at).is_some_and(|(log, _)| names.contains_key(&log)));
        }
        Ok(count)
    }

    /// Writes a log and returns what it lost, if it did.
    fn write_log(&self, id: u64, log: &LogName) -> Result<Option<Lost>, StorageError> {
        let row = self.salvage.get(Space::Logs, &key::log(log)).map_err(self.failed)?;
        let row = row.and_then(|row| LogRow::decode(&row, log).ok());
        let places = self.places(id, log).map_err(self.failed)?;
        let bases = self.bases(id, log, row.as_ref()).map_err(self.failed)?;
        let (kept, damaged) = self.append(id, log, &places)?;
        let covered = self.install(id, log, row.as_ref(), &bases, &places)?;
        let live = |sha: &&Sha| !covered.contains(*sha);
        let mut digest = Digest::default();
        kept.iter().filter(live).for_each(|sha| digest.add(sha));
        let Some(row) = row else {
            return Ok(Some(Lost { log: log.clone(), operations: damaged, base: false, uncounted: true }));
        };
        let base = row.tail.header.base.is_some() && bases.own.is_none();
        let before = row.tail.header.digest;
        let is_whole = !base && digest == before;
        let operations = match base {
            // What it covered stands in the log again, and is not to be counted against what is missing.
            true => damaged,
            false => before.count.saturating_sub(digest.count).max(damaged),
        };
        Ok((!is_whole).then(|| Lost { log: log.clone(), operations, base, uncounted: digest.count > before.count }))
    }

    /// Returns the places of a log's operations, live and retained, in order of arrival.
    fn places(&self, id: u64, log: &LogName) -> Result<BTreeMap<u64, Kept>, Failure> {
        let mut places = BTreeMap::new();
        for entry in self.salvage.all(Space::Retained, &id.to_be_bytes()) {
            let (at, value) = entry?;
            if let (Some((_, index)), Ok(row)) = (key::two_numbers(&at), RetainedRow::decode(&value, log)) {
                places.insert(index, Kept::Retained { generation: row.generation, since: row.since });
            }
        }
        for entry in self.salvage.all(Space::Ops, &id.to_be_bytes()) {
            if let Some((_, index)) = key::two_numbers(&entry?.0) {
                places.insert(index, Kept::Live);
            }
        }
        Ok(places)
    }

    /// Appends all operations that are sound. Returns their shas, and how many were not.
    fn append(
        &self,
        id: u64,
        log: &LogName,
        places: &BTreeMap<u64, Kept>,
    ) -> Result<(BTreeSet<Sha>, u64), StorageError> {
        let (mut kept, mut damaged, mut batch, mut bytes) = (BTreeSet::new(), 0, Batch::default(), 0);
        for (index, place) in places {
            match self.operation(id, log, *index, place).map_err(self.failed)? {
                Some(op) => {
                    kept.insert(op.sha());
                    bytes += op.size();
                    batch.appends.push(Append::Op { log: log.clone(), op });
                }
                None => damaged += 1,
            }
            if bytes >= WRITTEN_AT_ONCE_BYTES {
                self.fresh.commit(&std::mem::take(&mut batch))?;
                bytes = 0;
            }
        }
        self.fresh.commit(&batch)?;
        Ok((kept, damaged))
    }

    /// Returns an operation, if it is the one that it is said to be.
    fn operation(&self, id: u64, log: &LogName, index: u64, place: &Kept) -> Result<Option<Op>, Failure> {
        let at = key::op(id, index);
        let space = match place {
            Kept::Live => Space::Ops,
            Kept::Retained { .. } => Space::Retained,
        };
        let Some(value) = self.salvage.get(space, &at)? else { return Ok(None) };
        let row = match place {
            Kept::Live => OpRow::decode(&value, log).map(|row| (row.sha, row.record)),
            Kept::Retained { .. } => RetainedRow::decode(&value, log).map(|row| (row.sha, row.record)),
        };
        Ok(row.ok().and_then(|(sha, record)| Op::from_record(log, record, Some(sha)).ok()))
    }

    /// Returns the log's bases that are sound.
    fn bases(&self, id: u64, log: &LogName, row: Option<&LogRow>) -> Result<Bases, Failure> {
        let mut bases = Bases::default();
        let named = row.map(|row| row.tail.header.base.map(|base| base.id.sha));
        for entry in self.salvage.all(Space::Bases, &id.to_be_bytes()) {
            let (at, value) = entry?;
            let (Some((generation, sha)), Ok(row)) = (key::base_id(&at), BaseRow::decode(&value, log)) else {
                continue;
            };
            if Checkpoint::from_record(log, row.record, sha).is_err() {
                continue;
            }
            let found = Found { generation, since: row.since, base: row.base(sha) };
            let is_own = match named {
                Some(own) => own == Some(sha),
                None => row.since == 0,
            };
            match is_own {
                true => bases.own = Some(found),
                false => bases.superseded.push(found),
            }
        }
        bases.superseded.sort_by_key(|found| (found.since, found.generation));
        Ok(bases)
    }

    /// Installs the bases in the order in which they were installed, and returns what they cover. If the log's own is
    /// missing, there is none: what is not the committed one would have to be taken back.
    fn install(
        &self,
        id: u64,
        log: &LogName,
        row: Option<&LogRow>,
        bases: &Bases,
        places: &BTreeMap<u64, Kept>,
    ) -> Result<BTreeSet<Sha>, StorageError> {
        let mut covered = BTreeSet::new();
        let Some(own) = &bases.own else { return Ok(covered) };
        for entry in self.salvage.all(Space::Covered, &id.to_be_bytes()) {
            let (at, _) = entry.map_err(self.failed)?;
            covered.extend(key::last_sha(&at));
        }
        let retained = self.retained(id, log, places).map_err(self.failed)?;
        let mut since = 0;
        for found in bases.superseded.iter().chain([own]) {
            let of_it = retained.iter().filter(|(_, (generation, _))| *generation == found.generation);
            let at = Date::saturating(of_it.clone().map(|(_, (_, since))| *since).max().unwrap_or(since));
            since = found.since;
            let covered = match found.base.sha == own.base.sha {
                true => covered.iter().copied().collect(),
                false => of_it.map(|(sha, _)| *sha).collect(),
            };
            let install = Install { log: log.clone(), base: found.base.clone(), covered, retain: true, at };
            self.fresh.commit(&Batch { installs: vec![install], ..Batch::default() })?;
        }
        if row.and_then(|row| row.tail.header.base).is_some_and(|base| base.disputed) {
            let disputes = vec![(log.clone(), own.base.sha)];
            self.fresh.commit(&Batch { disputes, ..Batch::default() })?;
        }
        Ok(covered)
    }

    /// Returns the retained operations, each with the generation that covered it and since when.
    fn retained(
        &self,
        id: u64,
        log: &LogName,
        places: &BTreeMap<u64, Kept>,
    ) -> Result<BTreeMap<Sha, (u64, u64)>, Failure> {
        let mut retained = BTreeMap::new();
        for (index, place) in places {
            let Kept::Retained { generation, since } = place else { continue };
            if let Some(value) = self.salvage.get(Space::Retained, &key::op(id, *index))? {
                retained.insert(RetainedRow::decode(&value, log)?.sha, (*generation, *since));
            }
        }
        Ok(retained)
    }
}

/// The sound bases of a log.
#[derive(Default)]
struct Bases {
    own: Option<Found>,
    /// In the order in which they were superseded.
    superseded: Vec<Found>,
}

struct Found {
    generation: u64,
    since: u64,
    base: Base,
}

/// Between two lines in the server's own log.
const LOGS_BETWEEN_WORDS: usize = 10_000;
