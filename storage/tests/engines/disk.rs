//! What only engines on a disk do: open again, be copied, be locked, be damaged, fail.

use std::fs;
use std::path::Path;

use gigfs_core::{Date, Incarnation, StoreId};
use gigfs_storage::{Append, Appended, Batch, Engine, Fault, Faulty, Fjall, Page, Sqlite, StorageError};

use crate::script::{arrival, channel, dispute, install, live, log, op, prune, push, remove, restore, user};

type Open = fn(&Path) -> Result<Box<dyn Engine>, StorageError>;

const ENGINES: [(&str, Open); 2] = [
    ("sqlite", |folder| Sqlite::open(&folder.join("store.db")).map(|engine| Box::new(engine) as Box<dyn Engine>)),
    ("fjall", |folder| Fjall::open(&folder.join("data")).map(|engine| Box::new(engine) as Box<dyn Engine>)),
];

pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to),
            false => drop(fs::copy(entry.path(), to).unwrap()),
        }
    }
}

pub(crate) fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push(path),
        }
    }
    found.sort();
    found
}

#[test]
fn what_was_acknowledged_is_there_after_a_crash_at_any_commit() {
    for (name, open) in ENGINES {
        let folder = tempfile::tempdir().unwrap();
        let engine = open(folder.path()).unwrap();
        let a = log("/a");
        for seq in 1..=5 {
            push(&*engine, &a, &[op(&a, seq)]);
            // What is on the disk while the process still runs is what a process that was killed here would leave.
            let crashed = tempfile::tempdir().unwrap();
            copy(folder.path(), crashed.path());
            let again = open(crashed.path()).unwrap();
            assert_eq!(again.read(&a, 0, Page::ALL).unwrap().len() as u64, seq, "{name}");
            assert_eq!(again.tail(&a).unwrap(), engine.tail(&a).unwrap());
        }
    }
}

#[test]
fn data_opens_again_as_it_was_and_goes_on() {
    for (name, open) in ENGINES {
        let folder = tempfile::tempdir().unwrap();
        let a = log("/a");
        let (before, ids) = {
            let engine = open(folder.path()).unwrap();
            push(&*engine, &a, &[op(&a, 1), op(&a, 2), op(&a, 3)]);
            remove(&*engine, &a, &[op(&a, 3).sha()]);
            (engine.tail(&a).unwrap(), (engine.store_id(), engine.incarnation()))
        };
        let engine = open(folder.path()).unwrap();
        assert_eq!((engine.store_id(), engine.incarnation()), ids, "{name}");
        assert_eq!(engine.tail(&a).unwrap(), before);
        let next = push(&*engine, &a, &[op(&a, 4)]);
        assert_eq!((arrival(&next[0]).stored.index, arrival(&next[0]).position), (4, 4));
    }
}

#[test]
fn bases_and_what_they_cover_are_there_after_a_crash_at_any_commit() {
    for (name, open) in ENGINES {
        let folder = tempfile::tempdir().unwrap();
        let engine = open(folder.path()).unwrap();
        let a = log("/a");
        let ops: Vec<_> = (1..=4).map(|seq| op(&a, seq)).collect();
        push(&*engine, &a, &ops);
        let (first, second) = (install(&a, 1, &ops[..2]), install(&a, 2, &ops[..3]));
        for at in 0..5 {
            match at {
                0 => prune(&*engine, &first),
                1 => prune(&*engine, &second),
                2 => dispute(&*engine, &a, &second.base),
                3 => prune(&*engine, &install(&a, 3, &ops[..3])),
                _ => assert_eq!(engine.forget_retained(Date::saturating(2), 1).unwrap(), 1),
            }
            let crashed = tempfile::tempdir().unwrap();
            copy(folder.path(), crashed.path());
            let again = open(crashed.path()).unwrap();
            let seen = |engine: &dyn Engine| {
                let bases: Vec<_> = (1..4).map(|generation| engine.base_of(&a, generation).unwrap()).collect();
                let kept = (engine.retained(&a, 0, Page::ALL).unwrap(), engine.covered(&a, None, 9).unwrap());
                let live = (engine.tail(&a).unwrap(), live(engine, &a), engine.usage(&user("me")).unwrap());
                (bases, kept, live)
            };
            assert_eq!(seen(&*again), seen(&*engine), "{name} after commit {at}");
            assert!(push(&*again, &a, &ops[..2]).iter().all(|answer| matches!(answer, Appended::Covered { .. })));
            restore(&*again, &a);
            drop(again);
            let again = open(crashed.path()).unwrap();
            let indexes: Vec<_> = live(&*again, &a).iter().map(|op| op.index).collect();
            assert_eq!(indexes, (1 + u64::from(at == 4)..=4).collect::<Vec<_>>(), "{name} after commit {at}");
        }
    }
}

#[test]
fn data_of_the_first_format_opens_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let (file, data) = (folder.path().join("store.db"), folder.path().join("data"));
    let a = log("/a");
    let ops: Vec<_> = (1..=3).map(|seq| op(&a, seq)).collect();
    push(&Sqlite::open(&file).unwrap(), &a, &ops);
    push(&Fjall::open(&data).unwrap(), &a, &ops);
    {
        let database = rusqlite::Connection::open(&file).unwrap();
        database.execute_batch("DROP TABLE bases; DROP TABLE covered; DROP TABLE retained;").unwrap();
        for column in [
            "base_generation",
            "base_sha",
            "base_bytes",
            "covered_count",
            "covered_xor",
            "complete",
            "disputed",
            "retained_bytes",
        ] {
            database.execute_batch(&format!("ALTER TABLE logs DROP COLUMN {column}")).unwrap();
        }
        database.pragma_update(None, "user_version", 1).unwrap();
        // As it was before it knew of the others.
        let new = folder.path().join("new");
        fs::rename(&data, &new).unwrap();
        let [from, to] = [&new, &data].map(|folder| fjall::Database::builder(folder).open().unwrap());
        for space in ["meta", "channels", "logs", "names", "ops", "shas", "feed", "notes"] {
            let [from, to] = [&from, &to].map(|database| database.keyspace(space, Default::default).unwrap());
            for guard in from.iter() {
                let (key, value) = guard.into_inner().unwrap();
                to.insert(key, value).unwrap();
            }
        }
        to.keyspace("meta", Default::default).unwrap().insert("format", 1_u64.to_be_bytes()).unwrap();
        to.persist(fjall::PersistMode::SyncAll).unwrap();
    }
    for (name, open) in ENGINES {
        let engine = open(folder.path()).unwrap();
        assert_eq!(live(&*engine, &a).len(), 3, "{name}");
        prune(&*engine, &install(&a, 1, &ops[..2]));
        drop(engine);
        let engine = open(folder.path()).unwrap();
        assert_eq!(live(&*engine, &a).len(), 1, "{name}");
        assert!(matches!(push(&*engine, &a, &ops[..1])[0], Appended::Covered { .. }), "{name}");
    }
}

#[test]
fn a_copy_begins_a_new_incarnation_and_the_original_does_not() {
    for (name, open) in ENGINES {
        let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let first = open(folder.path()).unwrap();
        let (store, incarnation) = (first.store_id(), first.incarnation());
        drop(first);
        copy(folder.path(), other.path());
        let copied = open(other.path()).unwrap();
        assert_eq!(copied.store_id(), store, "{name}");
        assert_ne!(copied.incarnation(), incarnation, "{name}");
        let second = copied.incarnation();
        drop(copied);
        assert_eq!(open(other.path()).unwrap().incarnation(), second, "{name}");
        assert_eq!(open(folder.path()).unwrap().incarnation(), incarnation, "{name}");
    }
}

#[test]
fn damage_of_a_local_store_is_an_error_or_is_not_seen_but_never_a_panic_or_another_record() {
    // `damage.rs` says what a store server does.
    for (name, open) in &ENGINES[..1] {
        let folder = tempfile::tempdir().unwrap();
        let a = log("/a");
        let engine = open(folder.path()).unwrap();
        push(&*engine, &a, &(1..=20).map(|seq| op(&a, seq)).collect::<Vec<_>>());
        let whole = engine.read(&a, 0, Page::ALL).unwrap();
        drop(engine);
        for file in files(folder.path()) {
            let relative = file.strip_prefix(folder.path()).unwrap();
            for damage in ["delete", "truncate", "garbage", "flip"] {
                let other = tempfile::tempdir().unwrap();
                copy(folder.path(), other.path());
                let target = other.path().join(relative);
                let mut bytes = fs::read(&target).unwrap();
                match damage {
                    "delete" => fs::remove_file(&target).unwrap(),
                    "truncate" => fs::write(&target, &bytes[..bytes.len().min(64 * 1024) / 2]).unwrap(),
                    "garbage" => fs::write(&target, vec![0xa5; 8192]).unwrap(),
                    _ => {
                        let at = bytes.len().min(2048) / 2;
                        if let Some(byte) = bytes.get_mut(at) {
                            *byte ^= 0x40;
                        }
                        fs::write(&target, bytes).unwrap();
                    }
                }
                let Ok(engine) = open(other.path()) else { continue };
                for read in engine.read(&a, 0, Page::ALL).unwrap_or_default() {
                    let sound = gigfs_core::Op::from_record(&a, &read.record, Some(read.sha)).is_ok();
                    assert!(!sound || whole.contains(&read), "{name}: {relative:?} {damage}");
                }
                let _ = engine.feed(&user("me"), &channel("home"), 0, Page::ALL);
            }
        }
    }
}

#[test]
fn what_is_not_ours_is_named_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("store.db");
    fs::write(&file, "this is somebody's diary, which is no database at all, but long enough to look like a file")
        .unwrap();
    let before = fs::read(&file).unwrap();
    let error = Sqlite::open(&file).unwrap_err();
    assert!(matches!(error, StorageError::Damaged { .. }), "{error}");
    assert!(error.to_string().contains("store.db"), "{error}");
    assert_eq!(fs::read(&file).unwrap(), before);

    let data = folder.path().join("data");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("diary"), "dear diary").unwrap();
    let error = Fjall::open(&data).unwrap_err();
    assert!(matches!(error, StorageError::Damaged { .. }), "{error}");
    assert_eq!(files(&data).len(), 1);
}

#[test]
fn data_of_a_newer_format_is_not_touched() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("store.db");
    drop(Sqlite::open(&file).unwrap());
    rusqlite::Connection::open(&file).unwrap().pragma_update(None, "user_version", 3).unwrap();
    let error = Sqlite::open(&file).unwrap_err();
    assert!(matches!(error, StorageError::UnknownFormat { found: 3, known: 2, .. }), "{error}");

    let data = folder.path().join("data");
    drop(Fjall::open(&data).unwrap());
    let database = fjall::Database::builder(&data).open().unwrap();
    let meta = database.keyspace("meta", Default::default).unwrap();
    meta.insert("format", 7_u64.to_be_bytes()).unwrap();
    drop((meta, database));
    let error = Fjall::open(&data).unwrap_err();
    assert!(matches!(error, StorageError::UnknownFormat { found: 7, known: 2, .. }), "{error}");
}

#[test]
fn a_log_whose_base_is_gone_is_named_and_others_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (log("/a"), log("/b"));
    for (_, open) in ENGINES {
        let engine = open(folder.path()).unwrap();
        for log in [&a, &b] {
            push(&*engine, log, &[op(log, 1)]);
            prune(&*engine, &install(log, 1, &[op(log, 1)]));
        }
    }
    let database = rusqlite::Connection::open(folder.path().join("store.db")).unwrap();
    assert_eq!(database.execute("DELETE FROM bases WHERE log = 1", []).unwrap(), 1);
    let database = fjall::Database::builder(folder.path().join("data")).open().unwrap();
    let bases = database.keyspace("bases", Default::default).unwrap();
    for guard in bases.prefix(1_u64.to_be_bytes()) {
        bases.remove(guard.key().unwrap()).unwrap();
    }
    drop((bases, database));
    for (name, open) in ENGINES {
        let engine = open(folder.path()).unwrap();
        let error = engine.base(&a).unwrap_err();
        assert!(
            matches!(&error, StorageError::Damaged { .. }) && error.to_string().contains("base"),
            "{name}: {error}"
        );
        assert!(engine.forget_retained(Date::saturating(2), 9).unwrap() > 0, "{name}");
        assert!(engine.retained(&b, 0, Page::ALL).unwrap().is_empty() && engine.base(&b).unwrap().is_some(), "{name}");
    }
}

#[test]
fn fjall_opens_in_one_process_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let first = Fjall::open(&data).unwrap();
    assert!(matches!(Fjall::open(&data), Err(StorageError::Locked { .. })));
    drop(first);
    Fjall::open(&data).unwrap();
}

#[test]
fn fjall_names_a_damaged_log_and_serves_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let (a, b) = (log("/a"), log("/b"));
    {
        let engine = Fjall::open(&data).unwrap();
        push(&engine, &a, &[op(&a, 1), op(&a, 2)]);
        push(&engine, &b, &[op(&b, 1)]);
    }
    {
        let database = fjall::Database::builder(&data).open().unwrap();
        // It would tell that somebody else has opened the data.
        fs::remove_file(data.join("closed")).unwrap();
        let ops = database.keyspace("ops", Default::default).unwrap();
        let last_of_a = [1_u64.to_be_bytes(), 2_u64.to_be_bytes()].concat();
        assert!(ops.contains_key(&last_of_a).unwrap());
        ops.remove(last_of_a).unwrap();
    }
    let engine = Fjall::open(&data).unwrap();
    let error = engine.read(&a, 0, Page::ALL).unwrap_err();
    assert!(matches!(&error, StorageError::Damaged { what, .. } if what.contains("/a")), "{error}");
    let append = Append::Op { log: a.clone(), op: op(&a, 3) };
    assert!(engine.commit(&Batch { appends: vec![append], ..Batch::default() }).is_err());
    assert_eq!(engine.read(&b, 0, Page::ALL).unwrap().len(), 1);
    push(&engine, &b, &[op(&b, 2)]);
    drop(engine);
    let engine = Fjall::open(&data).unwrap();
    let lost = &engine.mended().unwrap().lost;
    assert_eq!((lost.len(), &lost[0].log, lost[0].operations), (1, &a, 1));
    assert_eq!((live(&engine, &a).len(), live(&engine, &b).len()), (1, 2));
    push(&engine, &a, &[op(&a, 2)]);
}

#[test]
fn fjall_gives_space_back_after_a_prune_and_keeps_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Fjall::open(&folder.path().join("data")).unwrap();
    let a = log("/a");
    let ops: Vec<_> = (1..=50).map(|seq| op(&a, seq)).collect();
    push(&engine, &a, &ops);
    remove(&engine, &a, &ops[..49].iter().map(|op| op.sha()).collect::<Vec<_>>());
    engine.compact().unwrap();
    assert_eq!(engine.read(&a, 0, Page::ALL).unwrap()[0].index, 50);
    prune(&engine, &install(&a, 1, &ops));
    engine.compact().unwrap();
    assert_eq!((engine.retained(&a, 0, Page::ALL).unwrap().len(), live(&engine, &a).len()), (1, 0));
}

#[test]
fn two_openers_of_one_sqlite_file_see_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("deep/er/store.db");
    let (one, two) = (Sqlite::open(&file).unwrap(), Sqlite::open(&file).unwrap());
    assert_eq!((one.store_id(), one.restored()), (two.store_id(), false));
    let a = log("/a");
    let version = two.version().unwrap();
    assert_eq!(two.version().unwrap(), version);
    push(&one, &a, &[op(&a, 1)]);
    assert_ne!(two.version().unwrap(), version);
    assert_eq!(arrival(&push(&two, &a, &[op(&a, 2)])[0]).stored.index, 2);
    assert_eq!(one.read(&a, 0, Page::ALL).unwrap().len(), 2);
    std::thread::scope(|scope| {
        for (engine, path) in [(&one, "/x"), (&two, "/y")] {
            scope.spawn(move || {
                let log = log(path);
                (1..=20).for_each(|seq| drop(push(engine, &log, &[op(&log, seq)])));
            });
        }
    });
    assert_eq!(one.position(&user("me"), &channel("home")).unwrap(), 42);
}

#[cfg(unix)]
#[test]
fn a_sqlite_file_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("new/store.db");
    let engine = Sqlite::open(&file).unwrap();
    push(&engine, &log("/a"), &[op(&log("/a"), 1)]);
    for entry in fs::read_dir(file.parent().unwrap()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o077, 0, "{:?}", entry.path());
    }
}

#[test]
fn an_actor_is_leased_once_at_a_time_and_never_across_incarnations() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let file = folder.path().join("store.db");
    let (one, two) = (Sqlite::open(&file).unwrap(), Sqlite::open(&file).unwrap());
    let first = one.lease_actor().unwrap();
    let second = two.lease_actor().unwrap();
    assert_ne!(first.actor(), second.actor());
    let freed = first.actor();
    drop(first);
    assert_eq!(two.lease_actor().unwrap().actor(), freed);
    let known = [freed, second.actor()];
    drop((one, two, second));
    copy(folder.path(), other.path());
    let restored = Sqlite::open(&other.path().join("store.db")).unwrap();
    assert!(restored.restored());
    assert!(!known.contains(&restored.lease_actor().unwrap().actor()));
}

#[test]
fn a_faulty_engine_fails_as_told_and_a_crash_keeps_what_was_on_disk() {
    let engine = Faulty::new(StoreId::from_bytes([1; 16]), Incarnation::from_bytes([2; 16]));
    let a = log("/a");
    let attempt = |engine: &Faulty, seq| {
        engine.commit(&Batch { appends: vec![Append::Op { log: a.clone(), op: op(&a, seq) }], ..Batch::default() })
    };
    let count = |engine: &Faulty| engine.read(&a, 0, Page::ALL).unwrap().len();
    engine.fail([Fault::Full, Fault::Io, Fault::Unacknowledged]);
    assert!(matches!(attempt(&engine, 1), Err(StorageError::Full { .. })));
    assert!(attempt(&engine, 1).is_err());
    assert_eq!(count(&engine), 0);
    assert!(attempt(&engine, 1).is_err());
    assert_eq!(count(&engine), 1);
    engine.deny_reads(true);
    assert!(engine.tail(&a).is_err());
    engine.deny_reads(false);
    engine.fail([Fault::Unsynced]);
    assert!(attempt(&engine, 2).is_err());
    assert_eq!(count(&engine), 2);
    let after = engine.crash();
    assert!(engine.tail(&a).is_err() && attempt(&engine, 3).is_err());
    assert_eq!(count(&after), 1);
    assert_eq!(after.incarnation(), Incarnation::from_bytes([2; 16]));
    assert!(attempt(&after, 2).is_ok());
    assert_eq!((count(&after), after.commits()), (2, 1));
    prune(&after, &install(&a, 1, &[op(&a, 1)]));
    after.fail([Fault::Io, Fault::Unsynced]);
    let forget = |engine: &Faulty| engine.forget_retained(Date::saturating(2), 9);
    assert!(forget(&after).is_err());
    assert_eq!(after.retained(&a, 0, Page::ALL).unwrap().len(), 1);
    assert!(forget(&after).is_err());
    assert_eq!(after.retained(&a, 0, Page::ALL).unwrap().len(), 0);
    let after = after.crash();
    assert_eq!((forget(&after).unwrap(), after.commits()), (1, 1));
    restore(&after, &a);
    let restored = after.restored(Incarnation::from_bytes([3; 16]));
    assert_eq!((count(&restored), restored.incarnation()), (1, Incarnation::from_bytes([3; 16])));
}
