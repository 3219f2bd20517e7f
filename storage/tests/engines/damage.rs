//! Damage as a product: {delete, truncate, flip, zero} × every kind of file × {head, middle, tail}.
//!
//! Whatever is damaged, the store opens as the same store, names the file or the log, serves nothing but what was written,
//! and has everything once it is brought back as a client brings it from another store.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use gigfs_core::{Base, LogName, Op, Sha};
use gigfs_storage::{Batch, Engine, Fjall, Install, Page, StorageError, StoredOp};
use serde_json::json;
use tempfile::TempDir;

use crate::disk::{copy, files};
use crate::script::{append, base, digest, go_on, install, log, op_with, prune, push, shas};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Harm {
    Delete,
    Truncate,
    Flip,
    Zero,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Head,
    Middle,
    Tail,
}

const HARMS: [Harm; 4] = [Harm::Delete, Harm::Truncate, Harm::Flip, Harm::Zero];
const PLACES: [Place; 3] = [Place::Head, Place::Middle, Place::Tail];

/// How the store ended before its disk was damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    InGoodOrder,
    Killed,
}

/// What a store has of a log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Held {
    live: BTreeMap<Sha, Bytes>,
    base: Option<Base>,
    covered: BTreeSet<Sha>,
    retained: BTreeMap<Sha, Bytes>,
}

impl Held {
    /// Tells whether all of this was written.
    fn is_part_of(&self, whole: &Self) -> bool {
        let all: BTreeMap<_, _> = whole.live.iter().chain(&whole.retained).collect();
        let known = |(sha, record): (&Sha, &Bytes)| all.get(sha) == Some(&record);
        self.live.iter().all(known)
            && self.retained.iter().all(known)
            && self.base.as_ref().is_none_or(|base| whole.base.as_ref() == Some(base))
            && self.covered.is_subset(&whole.covered)
    }
}

fn logs() -> [LogName; 4] {
    ["/a", "/b", "/c", "/d"].map(log)
}

fn held(engine: &dyn Engine, log: &LogName) -> Result<Held, StorageError> {
    let records = |ops: Vec<StoredOp>| ops.into_iter().map(|op| (op.sha, op.record)).collect();
    engine.inventory(log, 0, usize::MAX)?;
    Ok(Held {
        live: records(engine.read(log, 0, Page::ALL)?),
        base: engine.base(log)?,
        covered: engine.covered(log, None, usize::MAX)?.into_iter().collect(),
        retained: records(engine.retained(log, 0, Page::ALL)?.into_iter().map(|(_, op)| op).collect()),
    })
}

/// Makes a store with records in tables, packed and not, and in journals, and what it has.
fn store(folder: &Path) -> BTreeMap<LogName, Held> {
    let engine = Fjall::open(folder).unwrap();
    let logs = logs();
    let ops = |log: &LogName, seqs: std::ops::RangeInclusive<u64>| -> Vec<Op> {
        seqs.map(|seq| op_with(log, seq, &[], &json!({"n": seq, "text": "what is written here ".repeat(9)}))).collect()
    };
    for log in &logs {
        push(&engine, log, &ops(log, 1..=60));
    }
    let covered = ops(&logs[1], 1..=20);
    prune(&engine, &install(&logs[1], 1, &covered));
    prune(&engine, &install(&logs[1], 2, &ops(&logs[1], 1..=40)));
    engine.compact().unwrap();
    for log in &logs {
        push(&engine, log, &ops(log, 61..=70));
    }
    prune(&engine, &install(&logs[2], 1, &ops(&logs[2], 1..=10)));
    let note = (Bytes::from_static(b"user/me"), Some(Bytes::from_static(b"{}")));
    engine.commit(&Batch { notes: vec![note], ..Batch::default() }).unwrap();
    // Opening again cuts what is allotted to the journal and not used.
    drop(engine);
    let engine = Fjall::open(folder).unwrap();
    assert!(engine.mended().is_none());
    push(&engine, &logs[0], &ops(&logs[0], 71..=72));
    logs.map(|log| (log.clone(), held(&engine, &log).unwrap())).into()
}

/// Damages a file. A file of few bytes is damaged all the same.
fn harm(file: &Path, harm: Harm, place: Place) -> bool {
    let mut bytes = fs::read(file).unwrap();
    let at = match place {
        Place::Head => 0,
        Place::Middle => bytes.len() / 2,
        Place::Tail => bytes.len().saturating_sub(1),
    };
    let before = bytes.clone();
    match harm {
        Harm::Delete => {
            fs::remove_file(file).unwrap();
            return true;
        }
        Harm::Truncate => bytes.truncate(at),
        Harm::Flip => drop(bytes.get_mut(at).map(|byte| *byte ^= 0x10)),
        Harm::Zero => bytes.iter_mut().skip(at.saturating_sub(64)).take(128).for_each(|byte| *byte = 0),
    }
    fs::write(file, &bytes).unwrap();
    bytes != before
}

/// Brings to a store what another one has, as clients do.
fn bring(engine: &dyn Engine, log: &LogName, whole: &Held) -> Result<(), StorageError> {
    let op = |(sha, record): (&Sha, &Bytes)| Op::from_record(log, record, Some(*sha)).unwrap();
    let ops: Vec<_> = whole.live.iter().chain(&whole.retained).map(op).collect();
    engine.commit(&Batch { appends: ops.iter().map(|op| append(log, op)).collect(), ..Batch::default() })?;
    if let Some(base) = &whole.base {
        let covered = whole.covered.iter().copied().collect();
        let install = Install { base: base.clone(), covered, ..install(log, 1, &[]) };
        engine.commit(&Batch { installs: vec![install], ..Batch::default() })?;
    }
    Ok(())
}

/// Damages one file of a copy of the store and checks all that is promised.
fn check(original: &Path, whole: &BTreeMap<LogName, Held>, file: &Path, how: (Harm, Place), ended: Ended) {
    let case = format!("{} {how:?} {ended:?}", file.display());
    let folder = TempDir::new().unwrap();
    copy(original, folder.path());
    let data = folder.path().join("data");
    if ended == Ended::Killed {
        fs::remove_file(data.join("closed")).unwrap();
    }
    if !harm(&folder.path().join(file), how.0, how.1) {
        return;
    }
    let found = Fjall::verify_folder(&data, |_| (), |_| Ok(())).unwrap().damage;
    let mut engine = Fjall::open(&data).unwrap_or_else(|error| panic!("{case}: {error}"));
    let mut mended = engine.mended().cloned();
    let failed: Vec<_> = whole.keys().filter_map(|log| Some((log, held(&engine, log).err()?))).collect();
    if !failed.is_empty() {
        assert!(mended.is_none(), "{case}: mended, and yet {failed:?}");
        for (log, error) in failed {
            let is_named = matches!(&error, StorageError::Damaged { what, .. } if what.contains(&log.to_string()));
            assert!(is_named, "{case}: {error}");
        }
        drop(engine);
        engine = Fjall::open(&data).unwrap();
        mended = engine.mended().cloned();
        assert!(mended.is_some(), "{case}: not mended");
    }
    let now: BTreeMap<_, _> = whole.keys().map(|log| (log.clone(), held(&engine, log).unwrap())).collect();
    for (log, held) in &now {
        assert!(held.is_part_of(&whole[log]), "{case}: {log} has what was never written");
    }
    let is_cut_journal = file.extension().is_some_and(|kind| kind == "jnl") && ended == Ended::Killed;
    if now != *whole && !is_cut_journal {
        assert!(!found.is_empty(), "{case}: something is missing and verifying does not say so");
        let mended = mended.unwrap_or_else(|| panic!("{case}: something is missing and nobody says so"));
        assert!(!mended.damage.is_empty(), "{case}");
        assert!(mended.kept_in.is_none_or(|kept| kept.join("data").is_dir() && kept.join("report.json").is_file()));
    }
    let brought = whole.iter().map(|(log, whole)| bring(&engine, log, whole)).collect::<Result<Vec<_>, _>>();
    if brought.is_err() {
        // In an index that is looked at when something is written.
        assert!(is_cut_journal || !found.is_empty(), "{case}: {brought:?}");
        drop(engine);
        engine = Fjall::open(&data).unwrap();
        assert!(engine.mended().is_some(), "{case}");
        whole.iter().for_each(|(log, whole)| bring(&engine, log, whole).unwrap());
    }
    drop(engine);
    let engine = Fjall::open(&data).unwrap();
    assert!(engine.mended().is_none(), "{case}: {:?}", engine.mended());
    for (log, whole) in whole {
        let held = held(&engine, log).unwrap();
        let of = |held: &Held| (held.live.clone(), held.base.clone(), held.covered.clone());
        assert!(of(&held) == of(whole), "{case}: {log}");
    }
    assert_eq!(engine.store_id(), id_of(original), "{case}");
    let verified = engine.verify(go_on).unwrap();
    assert_eq!(verified.logs, whole.len() as u64, "{case}");
    if !verified.damage.is_empty() {
        // In what nobody has read: verifying finds it, and has it mended.
        assert!(!found.is_empty(), "{case}");
        drop(engine);
        let engine = Fjall::open(&data).unwrap();
        assert!(engine.mended().is_some(), "{case}");
        assert_eq!(engine.verify(go_on).unwrap().damage, [], "{case}");
    }
}

fn id_of(original: &Path) -> gigfs_core::StoreId {
    let text = fs::read_to_string(original.join("data.store-id")).unwrap();
    text.lines().next().unwrap().parse().unwrap()
}

/// Returns the kind of a file: its path without the numbers in it.
fn kind_of(file: &Path) -> String {
    file.display().to_string().chars().filter(|char| !char.is_ascii_digit()).collect()
}

fn all(original: &Path) -> Vec<PathBuf> {
    files(original).into_iter().map(|file| file.strip_prefix(original).unwrap().to_owned()).collect()
}

#[test]
fn damage_to_one_file_of_each_kind_is_named_and_mended() {
    let original = TempDir::new().unwrap();
    let whole = store(&original.path().join("data"));
    let files = all(original.path());
    let kinds: BTreeSet<_> = files.iter().map(|file| kind_of(file)).collect();
    let mut turn = 0;
    for kind in kinds {
        // The largest has what is worth damaging.
        let size = |file: &&PathBuf| fs::metadata(original.path().join(file)).unwrap().len();
        let file = files.iter().filter(|file| kind_of(file) == kind).max_by_key(size).unwrap();
        for harm in HARMS {
            turn += 1;
            check(original.path(), &whole, file, (harm, PLACES[turn % PLACES.len()]), Ended::InGoodOrder);
        }
    }
}

#[test]
#[ignore = "long: cargo test -p gigfs-storage --test engines damage_to_every_file -- --ignored"]
fn damage_to_every_file_is_named_and_mended() {
    let original = TempDir::new().unwrap();
    let whole = store(&original.path().join("data"));
    for file in all(original.path()) {
        for (harm, place) in HARMS.iter().flat_map(|harm| PLACES.map(|place| (*harm, place))) {
            for ended in [Ended::InGoodOrder, Ended::Killed] {
                let is_gone = ended == Ended::Killed && file.ends_with("closed");
                if !is_gone {
                    check(original.path(), &whole, &file, (harm, place), ended);
                }
            }
        }
    }
}

#[test]
fn a_byte_that_is_flipped_anywhere_in_a_table_is_found_by_verifying() {
    let original = TempDir::new().unwrap();
    store(&original.path().join("data"));
    let is_table = |file: &PathBuf| file.starts_with("data/keyspaces/5/tables");
    let table = all(original.path()).into_iter().find(is_table).unwrap();
    let table = original.path().join(table);
    let whole = fs::read(&table).unwrap();
    for at in (0..whole.len()).step_by(whole.len() / 40) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        fs::write(&table, bytes).unwrap();
        let verified = Fjall::verify_folder(&original.path().join("data"), |_| (), |_| Ok(())).unwrap();
        assert_eq!(verified.damage.len(), 1, "byte {at}");
        assert!(table.ends_with(&verified.damage[0].what), "byte {at}: {:?}", verified.damage);
    }
    fs::write(&table, whole).unwrap();
    let mut last = None;
    let data = original.path().join("data");
    let verified = Fjall::verify_folder(&data, |progress| last = Some(progress), |_| Ok(())).unwrap();
    assert_eq!((verified.damage, verified.logs), (vec![], 4));
    assert!(last.is_some_and(|last| last.done == last.of));
}

#[test]
fn a_store_whose_data_is_gone_altogether_begins_again_as_the_same_store() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    let id = Fjall::open(&data).unwrap().store_id();
    fs::remove_dir_all(&data).unwrap();
    let engine = Fjall::open(&data).unwrap();
    assert_eq!(engine.store_id(), id);
    assert!(engine.mended().is_some());
}

#[test]
fn a_store_whose_id_is_gone_twice_does_not_open_and_is_left_as_it_is() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    drop(Fjall::open(&data).unwrap());
    fs::remove_file(folder.path().join("data.store-id")).unwrap();
    for journal in files(&data).into_iter().filter(|file| file.extension().is_some_and(|kind| kind == "jnl")) {
        fs::remove_file(journal).unwrap();
    }
    let before = files(&data);
    let error = Fjall::open(&data).unwrap_err();
    assert!(matches!(&error, StorageError::Damaged { what, .. } if what.contains("id")), "{error}");
    assert_eq!(files(&data), before);
}

#[test]
fn what_a_disputed_base_superseded_is_still_retained_after_mending() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    let a = log("/a");
    let ops: Vec<_> = (1..=6).map(|seq| op_with(&a, seq, &[], &json!(seq))).collect();
    let engine = Fjall::open(&data).unwrap();
    push(&engine, &a, &ops);
    prune(&engine, &install(&a, 1, &ops[..2]));
    prune(&engine, &install(&a, 2, &ops[..4]));
    let own = base(&a, 2, &ops[..4], digest(&shas(&ops[..4])));
    engine.commit(&Batch { disputes: vec![(a.clone(), own.sha)], ..Batch::default() }).unwrap();
    let seen = |engine: &Fjall| {
        let retained: Vec<_> = engine.retained(&a, 0, Page::ALL).unwrap();
        let of_each: Vec<_> = retained.into_iter().map(|(generation, op)| (generation, op.sha)).collect();
        (
            engine.base_of(&a, 1).unwrap(),
            engine.base(&a).unwrap(),
            engine.tail(&a).unwrap().unwrap().header.base,
            of_each,
        )
    };
    let before = seen(&engine);
    drop(engine);
    fs::remove_file(data.join("version")).unwrap();
    let engine = Fjall::open(&data).unwrap();
    assert_eq!(seen(&engine), before);
    assert_eq!(engine.mended().unwrap().lost, []);
}

#[test]
fn a_look_and_a_copy_end_when_they_are_told_to_and_leave_nothing_behind() {
    let folder = TempDir::new().unwrap();
    let engine = Fjall::open(&folder.path().join("data")).unwrap();
    for first in (1..=6000).step_by(1000) {
        let ops: Vec<_> = (first..first + 1000).map(|seq| op_with(&log("/a"), seq, &[], &json!(seq))).collect();
        push(&engine, &log("/a"), &ops);
    }
    let copy = folder.path().join("copy");
    let mut told = 0;
    let mut stop = |_| {
        told += 1;
        ControlFlow::Break(())
    };
    assert!(matches!(engine.verify(&mut stop), Err(StorageError::Stopped { .. })));
    assert!(matches!(engine.backup(&copy, &mut stop), Err(StorageError::Stopped { .. })));
    assert_eq!(told, 2, "nothing is looked at after that");
    let names: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(names.iter().all(|name| ["data", "data.store-id"].iter().any(|own| name == own)), "{names:?}");
    assert!(engine.backup(&copy, go_on).unwrap() > 6000);
    assert_eq!(engine.verify(go_on).unwrap().operations, 6000);
}

#[test]
fn a_look_names_a_thousand_damaged_things_and_counts_the_rest() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    let ops: Vec<_> = (1..=1200).map(|seq| op_with(&log("/a"), seq, &[], &json!(seq))).collect();
    push(&Fjall::open(&data).unwrap(), &log("/a"), &ops);
    fs::remove_file(data.join("closed")).unwrap();
    let database = fjall::Database::builder(&data).open().unwrap();
    let feed = database.keyspace("feed", Default::default).unwrap();
    for guard in feed.iter() {
        feed.remove(guard.key().unwrap()).unwrap();
    }
    drop((feed, database));
    let damage = Fjall::open(&data).unwrap().verify(go_on).unwrap().damage;
    // Every operation, and the feed itself.
    assert_eq!(damage.len(), 1001);
    assert_eq!(damage[1000].what, "201 other things");
}
