//! Any sequence of batches gets equal answers from every engine.

use std::collections::BTreeSet;

use bytes::Bytes;
use gigfs_core::{Date, LogName, Op, PathPrefix, Payload, Sha};
use gigfs_storage::{Append, Batch, Engine, Install, Memory, Page, StoredOp};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::json;

use crate::Opened;
use crate::script::{base, digest, op_with, shas, user};

#[derive(Debug, Clone)]
enum Step {
    Push {
        log: usize,
        seq: u64,
        deps: bool,
    },
    Stamp {
        log: usize,
        wall: u64,
    },
    Remove {
        log: usize,
        nth: usize,
    },
    Note {
        key: u8,
        value: Option<u8>,
    },
    /// Covers the first of what is live or pushed, and some that nobody has, by a base that claims to cover no more, or more.
    Install {
        log: usize,
        generation: u64,
        live: usize,
        unknown: usize,
        whole: bool,
        retain: bool,
    },
    Dispute {
        log: usize,
    },
    Restore {
        log: usize,
    },
}

/// One batch, and whether what was covered before a time, so many times ago, is forgotten after it.
type Turn = (Vec<Step>, Option<(u64, usize)>);

fn turns() -> impl Strategy<Value = Vec<Turn>> {
    let log = 0..6_usize;
    let step = prop_oneof![
        4 => (log.clone(), 1..12_u64, any::<bool>()).prop_map(|(log, seq, deps)| Step::Push { log, seq, deps }),
        2 => (log.clone(), 0..2_000_u64).prop_map(|(log, wall)| Step::Stamp { log, wall }),
        2 => (log.clone(), 0..8_usize).prop_map(|(log, nth)| Step::Remove { log, nth }),
        3 => (log.clone(), 1..5_u64, 0..4_usize, 0..3_usize, any::<bool>(), any::<bool>()).prop_map(
            |(log, generation, live, unknown, whole, retain)| Step::Install {
                log, generation, live, unknown, whole, retain
            }
        ),
        1 => log.clone().prop_map(|log| Step::Dispute { log }),
        1 => log.prop_map(|log| Step::Restore { log }),
        1 => (0..4_u8, any::<Option<u8>>()).prop_map(|(key, value)| Step::Note { key, value }),
    ];
    let forget = proptest::option::of((0..6_u64, prop_oneof![0..4_usize, Just(usize::MAX)]));
    proptest::collection::vec((proptest::collection::vec(step, 0..10), forget), 1..12)
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

/// Makes a batch of the steps. Each install has a time of its own.
fn batch(steps: &[Step], model: &Memory, now: &mut u64) -> Batch {
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
                let sha = there(&logs[log], &batch, model).get(nth).map(Op::sha);
                batch.removes.extend(sha.map(|sha| (logs[log].clone(), sha)));
            }
            Step::Install { log, generation, live, unknown, whole, retain } => {
                let log = &logs[log];
                let mut ops = there(log, &batch, model);
                ops.truncate(live);
                ops.extend((0..unknown).map(|at| op_with(log, 20 + at as u64, &[], &json!("unknown"))));
                let known = model.covered(log, None, usize::MAX).unwrap();
                let all: BTreeSet<Sha> = known.into_iter().chain(ops.iter().map(Op::sha)).collect();
                let all: Vec<Sha> = all.into_iter().chain((!whole).then_some(Sha::of(b"more"))).collect();
                *now += 1;
                batch.installs.push(Install {
                    log: log.clone(),
                    base: base(log, generation, &ops, digest(&all)),
                    covered: shas(&ops),
                    retain,
                    at: Date::saturating(*now),
                });
            }
            Step::Dispute { log } => {
                let own = model.base(&logs[log]).unwrap();
                let own = own.or_else(|| batch.installs.last().map(|install| install.base.clone()));
                batch.disputes.extend(own.map(|base| (logs[log].clone(), base.sha)));
            }
            Step::Restore { log } => batch.restores.push(logs[log].clone()),
            Step::Note { key, value } => {
                batch.notes.push((vec![b'k', key].into(), value.map(|value| Bytes::from(vec![value]))));
            }
        }
    }
    batch
}

/// What is live in a log, and what the batch pushes there.
fn there(log: &LogName, batch: &Batch, model: &Memory) -> Vec<Op> {
    let open = |stored: StoredOp| Op::from_record(log, &stored.record, Some(stored.sha)).unwrap();
    let mut ops: Vec<Op> = model.read(log, 0, Page::ALL).unwrap().into_iter().map(open).collect();
    ops.extend(batch.appends.iter().filter_map(|append| match append {
        Append::Op { log: of, op } if of == log => Some(op.clone()),
        _ => None,
    }));
    ops
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
            assert_eq!(engine.find(&log, &stored.sha).unwrap(), Some(stored));
        }
        assert_eq!(engine.base(&log).unwrap(), model.base(&log).unwrap());
        let covered = model.covered(&log, None, usize::MAX).unwrap();
        assert_eq!(engine.covered(&log, None, usize::MAX).unwrap(), covered);
        assert_eq!(engine.covered(&log, covered.first(), 2).unwrap(), model.covered(&log, covered.first(), 2).unwrap());
        assert!(covered.iter().all(|sha| engine.is_covered(&log, sha).unwrap()));
        assert!(covered.iter().all(|sha| engine.find(&log, sha).unwrap().is_none()));
        for page in [Page::ALL, page] {
            assert_eq!(engine.retained(&log, 1, page).unwrap(), model.retained(&log, 1, page).unwrap());
        }
        for generation in 1..5 {
            assert_eq!(engine.base_of(&log, generation).unwrap(), model.base_of(&log, generation).unwrap());
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
        let held = logs().into_iter().filter(|log| log.user == user(name)).map(|log| held(model, &log)).sum::<u64>();
        assert_eq!((engine.usage(&user(name)).unwrap(), model.usage(&user(name)).unwrap()), (held, held));
    }
    assert_eq!(engine.notes(b"k").unwrap(), model.notes(b"k").unwrap());
}

/// The bytes that a log counts for, as its header has them, which is checked against its records.
fn held(model: &Memory, log: &LogName) -> u64 {
    let Some(tail) = model.tail(log).unwrap() else { return 0 };
    let live = model.read(log, 0, Page::ALL).unwrap();
    assert_eq!(tail.header.digest, digest(&live.iter().map(|op| op.sha).collect::<Vec<_>>()));
    assert_eq!(tail.header.bytes, live.iter().map(|op| op.record.len() as u64).sum::<u64>());
    let Some(base) = tail.header.base else { return tail.header.bytes };
    assert_eq!(base.covered, digest(&model.covered(log, None, usize::MAX).unwrap()));
    let retained = model.retained(log, 0, Page::ALL).unwrap();
    assert!(base.retained_bytes >= retained.iter().map(|(_, op)| op.record.len() as u64).sum());
    tail.header.bytes + base.bytes + base.retained_bytes + 32 * base.covered.count
}

pub(crate) fn answers_as_the_one_in_memory_does(open: fn() -> Opened) {
    let mut runner = TestRunner::new(Config { cases: 48, failure_persistence: None, ..Config::default() });
    let law = |turns: Vec<Turn>| {
        let opened = open();
        let model = Memory::new(opened.engine.store_id(), opened.engine.incarnation());
        let mut now = 0;
        for (steps, forget) in turns {
            let batch = batch(&steps, &model, &mut now);
            assert_eq!(opened.engine.commit(&batch).unwrap(), model.commit(&batch).unwrap());
            if let Some((ago, max)) = forget {
                let before = Date::saturating(now.saturating_sub(ago) + 1);
                let forgotten = model.forget_retained(before, max).unwrap();
                assert_eq!(opened.engine.forget_retained(before, max).unwrap(), forgotten);
            }
        }
        same(&*opened.engine, &model);
        Ok(())
    };
    runner.run(&turns(), law).unwrap();
}
