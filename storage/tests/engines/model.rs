//! Any sequence of batches gets equal answers from every engine.

use bytes::Bytes;
use gigfs_core::{Date, LogName, Op, PathPrefix, Payload};
use gigfs_storage::{Append, Batch, Engine, Memory, Page};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::json;

use crate::Opened;
use crate::script::{op_with, user};

#[derive(Debug, Clone)]
enum Step {
    Push { log: usize, seq: u64, deps: bool },
    Stamp { log: usize, wall: u64 },
    Remove { log: usize, nth: usize },
    Note { key: u8, value: Option<u8> },
}

fn steps() -> impl Strategy<Value = Vec<Vec<Step>>> {
    let log = 0..6_usize;
    let step = prop_oneof![
        4 => (log.clone(), 1..12_u64, any::<bool>()).prop_map(|(log, seq, deps)| Step::Push { log, seq, deps }),
        2 => (log.clone(), 0..2_000_u64).prop_map(|(log, wall)| Step::Stamp { log, wall }),
        2 => (log, 0..8_usize).prop_map(|(log, nth)| Step::Remove { log, nth }),
        1 => (0..4_u8, any::<Option<u8>>()).prop_map(|(key, value)| Step::Note { key, value }),
    ];
    proptest::collection::vec(proptest::collection::vec(step, 0..10), 1..12)
}

fn logs() -> [LogName; 6] {
    let name = |user, channel, kind, path| LogName::parse(user, channel, kind, path).unwrap();
    [
        name("me", "home", "list", "/a"),
        name("me", "home", "list", "/a/b"),
        name("me", "home", "list", "/a-b"),
        name("me", "home", "text", "/a"),
        name("me", "work", "list", "/a"),
        name("you", "home", "list", "/a"),
    ]
}

fn batch(steps: &[Step], model: &Memory) -> Batch {
    let logs = logs();
    let mut batch = Batch::default();
    for step in steps {
        match *step {
            Step::Push { log, seq, deps } => {
                let heads = model.tail(&logs[log]).unwrap().map(|tail| tail.heads).unwrap_or_default();
                let deps = if deps { heads.iter().copied().take(2).collect() } else { vec![] };
                let op = op_with(&logs[log], seq, &deps, &json!({ "n": seq }));
                batch.appends.push(Append::Op { log: logs[log].clone(), op });
            }
            Step::Stamp { log, wall } => batch.appends.push(Append::Stamp {
                log: logs[log].clone(),
                payload: Payload::plain(&json!(wall)),
                wall: Date::saturating(wall),
            }),
            Step::Remove { log, nth } => {
                let there = model.inventory(&logs[log], 0, usize::MAX).unwrap();
                let from_batch = batch.appends.iter().filter_map(|append| match append {
                    Append::Op { log: of, op } if *of == logs[log] => Some(op.sha()),
                    _ => None,
                });
                let sha = there.iter().map(|(_, sha)| *sha).chain(from_batch).nth(nth);
                batch.removes.extend(sha.map(|sha| (logs[log].clone(), sha)));
            }
            Step::Note { key, value } => {
                batch.notes.push((vec![b'k', key].into(), value.map(|value| Bytes::from(vec![value]))));
            }
        }
    }
    batch
}

fn same(engine: &dyn Engine, model: &Memory) {
    let page = Page { ops: 3, bytes: 400 };
    for log in logs() {
        assert_eq!(engine.tail(&log).unwrap(), model.tail(&log).unwrap());
        assert_eq!(engine.read(&log, 0, Page::ALL).unwrap(), model.read(&log, 0, Page::ALL).unwrap());
        assert_eq!(engine.read(&log, 2, page).unwrap(), model.read(&log, 2, page).unwrap());
        assert_eq!(engine.inventory(&log, 1, 3).unwrap(), model.inventory(&log, 1, 3).unwrap());
        for stored in engine.read(&log, 0, Page::ALL).unwrap() {
            Op::from_record(&log, &stored.record, Some(stored.sha)).unwrap();
        }
        let (user, channel) = (&log.user, &log.channel);
        assert_eq!(engine.position(user, channel).unwrap(), model.position(user, channel).unwrap());
        assert_eq!(engine.feed(user, channel, 0, Page::ALL).unwrap(), model.feed(user, channel, 0, Page::ALL).unwrap());
        assert_eq!(engine.feed(user, channel, 2, page).unwrap(), model.feed(user, channel, 2, page).unwrap());
        for prefix in ["/", "/a", "/a/b", "/c"] {
            let prefix = PathPrefix::parse(prefix).unwrap();
            let after = Some((&log.kind, &log.path));
            assert_eq!(
                engine.list(user, channel, &prefix, after, 9).unwrap(),
                model.list(user, channel, &prefix, after, 9).unwrap()
            );
        }
    }
    for name in ["me", "you"] {
        assert_eq!(engine.usage(&user(name)).unwrap(), model.usage(&user(name)).unwrap());
    }
    assert_eq!(engine.notes(b"k").unwrap(), model.notes(b"k").unwrap());
}

pub(crate) fn answers_as_the_one_in_memory_does(open: fn() -> Opened) {
    let mut runner = TestRunner::new(Config { cases: 24, failure_persistence: None, ..Config::default() });
    let law = |batches: Vec<Vec<Step>>| {
        let opened = open();
        let model = Memory::new(opened.engine.store_id(), opened.engine.incarnation());
        for steps in batches {
            let batch = batch(&steps, &model);
            assert_eq!(opened.engine.commit(&batch).unwrap(), model.commit(&batch).unwrap());
        }
        same(&*opened.engine, &model);
        Ok(())
    };
    runner.run(&steps(), law).unwrap();
}
