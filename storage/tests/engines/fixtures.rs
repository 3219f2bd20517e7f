//! Stores as released versions wrote them, in `testdata/vN/`: each is read by every later version, and goes on.

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use gigfs_core::Op;
use gigfs_storage::{Append, Batch, Engine, Fjall, Page, Sqlite};
use serde_json::json;

use crate::disk::copy;
use crate::script::{channel, go_on, install, live, log, op_with, prune, push, remove, user};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata")
}

fn ops(path: &str) -> Vec<Op> {
    let log = log(path);
    let mut ops: Vec<Op> = Vec::new();
    for seq in 1..=12 {
        let deps: Vec<_> = ops.last().map(Op::sha).into_iter().collect();
        ops.push(op_with(&log, seq, &deps, &json!({"n": seq, "text": "as it was written ".repeat(seq as usize * 20)})));
    }
    ops
}

/// Writes what a fixture holds: logs, one of them pruned twice with late operations, a note, and something taken out.
fn write(engine: &dyn Engine, flush: impl FnOnce()) {
    for path in ["/a", "/b", "/c/d"] {
        push(engine, &log(path), &ops(path));
    }
    prune(engine, &install(&log("/b"), 1, &ops("/b")[..4]));
    prune(engine, &install(&log("/b"), 2, &ops("/b")[..8]));
    remove(engine, &log("/c/d"), &[ops("/c/d")[11].sha()]);
    flush();
    let note = (Bytes::from_static(b"user/me"), Some(Bytes::from_static(b"{\"a\":1}")));
    engine.commit(&Batch { notes: vec![note], ..Batch::default() }).unwrap();
}

/// Checks that an engine holds that, and writes on.
fn check(engine: &dyn Engine, name: &str) {
    let shas = |path: &str| -> Vec<_> { live(engine, &log(path)).iter().map(|op| op.sha).collect() };
    let written = |path: &str| -> Vec<_> { ops(path).iter().map(Op::sha).collect() };
    assert_eq!(shas("/a"), written("/a"), "{name}");
    assert_eq!(shas("/b"), written("/b")[8..], "{name}");
    assert_eq!(shas("/c/d"), written("/c/d")[..11], "{name}");
    for stored in live(engine, &log("/a")) {
        Op::from_record(&log("/a"), &stored.record, Some(stored.sha)).unwrap();
    }
    let second = install(&log("/b"), 2, &ops("/b")[..8]).base;
    assert_eq!(engine.base(&log("/b")).unwrap(), Some(second), "{name}");
    assert_eq!(engine.base_of(&log("/b"), 1).unwrap().unwrap().sha, install(&log("/b"), 1, &ops("/b")[..4]).base.sha);
    assert_eq!(engine.retained(&log("/b"), 0, Page::ALL).unwrap().len(), 8, "{name}");
    let mut covered = written("/b")[..8].to_vec();
    covered.sort_unstable();
    assert_eq!(engine.covered(&log("/b"), None, 99).unwrap(), covered, "{name}");
    assert_eq!(engine.note(b"user/me").unwrap().unwrap(), "{\"a\":1}", "{name}");
    assert_eq!(engine.position(&user("me"), &channel("home")).unwrap(), 36, "{name}");
    assert_eq!(engine.feed(&user("me"), &channel("home"), 0, Page::ALL).unwrap().len(), 27, "{name}");
    let next = op_with(&log("/a"), 13, &[], &json!("and on"));
    let appended = engine.commit(&Batch { appends: vec![Append::Op { log: log("/a"), op: next }], ..Batch::default() });
    assert_eq!(appended.unwrap().len(), 1, "{name}");
}

#[test]
fn what_every_released_version_wrote_is_read_and_goes_on() {
    let mut read = 0;
    for version in fs::read_dir(fixtures()).unwrap().map(|entry| entry.unwrap().path()) {
        let name = version.file_name().unwrap().to_string_lossy().into_owned();
        let folder = tempfile::tempdir().unwrap();
        copy(&version, folder.path());
        let engine = Fjall::open(&folder.path().join("data")).unwrap();
        assert!(engine.mended().is_none(), "{name}: {:?}", engine.mended());
        assert!(engine.restored(), "{name} stands in another place");
        check(&engine, &format!("{name} fjall"));
        assert_eq!(engine.verify(go_on).unwrap().damage, [], "{name}");
        check(&Sqlite::open(&folder.path().join("store.db")).unwrap(), &format!("{name} sqlite"));
        read += 1;
    }
    assert!(read > 0, "there are no fixtures");
}

#[test]
#[ignore = "writes the fixtures of a new format: GIGFS_FIXTURES=v2 cargo test -p gigfs-storage --test engines writes_the_fixtures -- --ignored"]
fn writes_the_fixtures_of_a_version() {
    let folder = fixtures().join(std::env::var("GIGFS_FIXTURES").unwrap());
    assert!(!folder.exists(), "fixtures are never changed");
    let (data, file) = (folder.join("data"), folder.join("store.db"));
    let engine = Fjall::open(&data).unwrap();
    write(&engine, || engine.compact().unwrap());
    drop(engine);
    // Once more, so that what is allotted to a journal and not used is given back.
    drop(Fjall::open(&data).unwrap());
    write(&Sqlite::open(&file).unwrap(), || {});
}
