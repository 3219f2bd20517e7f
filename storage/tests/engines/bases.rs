//! The claims that every engine keeps about bases: what they cover, what is retained, how they are taken back.

use std::collections::BTreeSet;

use bytes::Bytes;
use gigfs_core::api::{BaseHeader, LogHeader};
use gigfs_core::{Date, LogName, Op, PathPrefix, Payload, Sha};
use gigfs_storage::{Append, Appended, Batch, Engine, Install, Page, StorageError};
use serde_json::json;

use crate::script::{
    append, arrival, base, channel, digest, dispute, install, live, log, op, op_with, prune, push, remove, restore,
    shas, user,
};

fn ops(log: &LogName, count: u64) -> Vec<Op> {
    (1..=count).map(|seq| op(log, seq)).collect()
}

/// Operations of which each depends on the one before, so that heads do not name them all.
fn chain(log: &LogName, count: u64) -> Vec<Op> {
    let mut ops: Vec<Op> = Vec::new();
    for seq in 1..=count {
        let deps: Vec<Sha> = ops.last().map(Op::sha).into_iter().collect();
        ops.push(op_with(log, seq, &deps, &json!(seq)));
    }
    ops
}

fn header(engine: &dyn Engine, log: &LogName) -> LogHeader {
    engine.tail(log).unwrap().unwrap().header
}

fn base_header(engine: &dyn Engine, log: &LogName) -> BaseHeader {
    header(engine, log).base.unwrap()
}

fn bytes(ops: &[Op]) -> u64 {
    ops.iter().map(|op| op.to_record().len() as u64).sum()
}

fn retained(engine: &dyn Engine, log: &LogName) -> Vec<(u64, Sha)> {
    let kept = engine.retained(log, 0, Page::ALL).unwrap();
    kept.into_iter().map(|(generation, stored)| (generation, stored.sha)).collect()
}

fn usage(engine: &dyn Engine) -> u64 {
    engine.usage(&user("me")).unwrap()
}

fn forget(engine: &dyn Engine, before: u64, max: usize) -> usize {
    engine.forget_retained(Date::saturating(before), max).unwrap()
}

pub(crate) fn an_operation_that_a_base_covers_is_answered_covered_and_not_written(engine: &dyn Engine) {
    let a = log("/a");
    let ops = ops(&a, 4);
    push(engine, &a, &ops[..3]);
    let first = install(&a, 1, &ops[..2]);
    prune(engine, &first);

    let before = engine.tail(&a).unwrap().unwrap();
    let appended = push(engine, &a, &ops[..3]);
    let covered = |at: usize| Appended::Covered { sha: ops[at].sha() };
    assert_eq!(appended, [covered(0), covered(1), Appended::Known { sha: ops[2].sha(), index: 3 }]);
    assert_eq!(engine.tail(&a).unwrap().unwrap(), before);
    assert_eq!(live(engine, &a).iter().map(|op| op.sha).collect::<Vec<_>>(), [ops[2].sha()]);
    assert_eq!(engine.feed(&user("me"), &channel("home"), 0, Page::ALL).unwrap()[0].position, 3);
    assert_eq!(engine.inventory(&a, 0, 9).unwrap(), [(3, ops[2].sha())]);

    assert_eq!(engine.find(&a, &ops[0].sha()).unwrap(), None);
    assert_eq!(engine.find(&a, &ops[2].sha()).unwrap().unwrap().index, 3);
    assert!(engine.is_covered(&a, &ops[0].sha()).unwrap() && !engine.is_covered(&a, &ops[2].sha()).unwrap());
    assert_eq!(engine.base(&a).unwrap(), Some(first.base.clone()));

    assert_eq!((before.header.digest, before.header.bytes), (digest(&[ops[2].sha()]), bytes(&ops[2..3])));
    assert_eq!((before.header.last_index, before.heads), (3, vec![ops[2].sha()]));
    assert_eq!(before.max_date, Date::saturating(5_001));
    let own = before.header.base.unwrap();
    assert_eq!((own.id.generation.get(), own.id.sha), (1, first.base.sha));
    assert_eq!((own.covered, own.complete, own.disputed), (digest(&first.covered), true, false));
    assert_eq!((own.bytes, own.retained_bytes), (first.base.record.len() as u64, bytes(&ops[..2])));
    let listed = engine.list(&user("me"), &channel("home"), &PathPrefix::default(), None, 9).unwrap();
    assert_eq!(listed, [(a.clone(), before.header)]);
    assert_eq!(usage(engine), bytes(&ops[..3]) + own.bytes + 64);
}

pub(crate) fn a_late_operation_stays_beside_the_base(engine: &dyn Engine) {
    let a = log("/a");
    let ops = ops(&a, 3);
    // The same seq and another payload: an index is no identity.
    let late = op_with(&a, 2, &[ops[0].sha()], &json!("late"));
    push(engine, &a, &ops[..2]);
    prune(engine, &install(&a, 1, &ops[..2]));
    let appended = push(engine, &a, &[late.clone(), ops[2].clone()]);
    assert_eq!((arrival(&appended[0]).stored.index, arrival(&appended[0]).position), (3, 3));

    prune(engine, &install(&a, 2, &ops));
    assert_eq!(live(engine, &a).iter().map(|op| op.sha).collect::<Vec<_>>(), [late.sha()]);
    assert_eq!(engine.tail(&a).unwrap().unwrap().heads, [late.sha()]);
    assert_eq!(header(engine, &a).digest, digest(&[late.sha()]));
    assert!(base_header(engine, &a).complete);
}

pub(crate) fn a_base_without_its_operations_leaves_doubtful_what_it_may_cover(engine: &dyn Engine) {
    let a = log("/a");
    let ops = chain(&a, 4);
    let whole = install(&a, 1, &ops[..3]);
    prune(engine, &Install { covered: vec![ops[0].sha()], ..whole.clone() });
    assert!(!base_header(engine, &a).complete);
    assert_eq!(base_header(engine, &a).covered, digest(&[ops[0].sha()]));

    let stamp = Append::Stamp { log: a.clone(), payload: Payload::plain(&json!("hi")), wall: Date::EPOCH };
    let mut appends: Vec<_> = ops.iter().map(|op| append(&a, op)).collect();
    appends.extend([append(&a, &ops[3]), stamp]);
    let appended = engine.commit(&Batch { appends, ..Batch::default() }).unwrap();
    // Known to be covered; perhaps; the head; after all that is covered.
    assert_eq!(appended[0], Appended::Covered { sha: ops[0].sha() });
    assert_eq!(appended[1], Appended::Doubtful { sha: ops[1].sha() });
    assert_eq!(appended[2], Appended::Covered { sha: ops[2].sha() });
    assert_eq!(arrival(&appended[3]).stored.index, 1);
    assert_eq!(appended[4], Appended::Known { sha: ops[3].sha(), index: 1 });
    assert_eq!(arrival(&appended[5]).stored.index, 2);
    assert!(!engine.is_covered(&a, &ops[2].sha()).unwrap());
}

pub(crate) fn what_a_base_covers_can_be_learned_later(engine: &dyn Engine) {
    let a = log("/a");
    let ops = chain(&a, 3);
    let late = op_with(&a, 2, &[], &json!("late"));
    push(engine, &a, &ops[..2]);
    let whole = install(&a, 1, &ops);
    let learn = |covered| prune(engine, &Install { covered, ..whole.clone() });
    learn(vec![]);
    assert_eq!(live(engine, &a).len(), 2);
    learn(vec![ops[0].sha(), ops[2].sha(), ops[2].sha()]);
    assert_eq!(live(engine, &a).len(), 1);
    assert_eq!(push(engine, &a, std::slice::from_ref(&late)), [Appended::Doubtful { sha: late.sha() }]);
    learn(shas(&ops));
    assert!(base_header(engine, &a).complete && live(engine, &a).is_empty());
    assert_eq!(base_header(engine, &a).covered, digest(&shas(&ops)));
    assert_eq!(retained(engine, &a), [(1, ops[0].sha()), (1, ops[1].sha())]);
    assert_eq!(base_header(engine, &a).retained_bytes, bytes(&ops[..2]));
    assert_eq!(arrival(&push(engine, &a, &[late])[0]).stored.index, 3);
}

pub(crate) fn a_base_comes_to_a_log_that_has_no_records(engine: &dyn Engine) {
    let a = log("/a");
    let ops = ops(&a, 2);
    let first = install(&a, 1, &ops);
    prune(engine, &first);
    let tail = engine.tail(&a).unwrap().unwrap();
    assert_eq!((tail.header.last_index, tail.header.digest.count, tail.max_date.micros()), (0, 0, 5_001));
    let listed = engine.list(&user("me"), &channel("home"), &PathPrefix::default(), None, 9).unwrap();
    assert_eq!(listed, [(a.clone(), tail.header)]);
    assert_eq!(engine.position(&user("me"), &channel("home")).unwrap(), 0);
    assert!(live(engine, &a).is_empty() && retained(engine, &a).is_empty());
    assert_eq!(usage(engine), first.base.record.len() as u64 + 64);
    assert_eq!(push(engine, &a, &ops[..1]), [Appended::Covered { sha: ops[0].sha() }]);
    assert_eq!(arrival(&push(engine, &a, &[op(&a, 3)])[0]).position, 1);
}

pub(crate) fn the_first_base_of_a_log_leaves_its_indexes_positions_and_stamps_as_they_are(engine: &dyn Engine) {
    let a = log("/a");
    let stamp = |wall| {
        let stamp = Append::Stamp { log: a.clone(), payload: Payload::plain(&json!(1)), wall: Date::saturating(wall) };
        let appended = engine.commit(&Batch { appends: vec![stamp], ..Batch::default() }).unwrap();
        let stored = arrival(&appended[0]).stored.clone();
        (arrival(&appended[0]).position, stored.index, Op::from_record(&a, &stored.record, None).unwrap())
    };
    let (_, _, first) = stamp(3);
    prune(engine, &install(&a, 1, std::slice::from_ref(&first)));
    assert_eq!(engine.position(&user("me"), &channel("home")).unwrap(), 1);
    let tail = engine.tail(&a).unwrap().unwrap();
    assert_eq!((tail.stamped, tail.header.last_index, tail.heads.len()), (1, 1, 0));
    let (position, index, second) = stamp(3);
    assert_eq!((position, index, second.seq().get(), second.deps().len()), (2, 2, 2, 0));
    assert_eq!(second.date().micros(), 5_002);
}

pub(crate) fn covered_operations_are_retained_until_they_are_forgotten(engine: &dyn Engine) {
    let a = log("/a");
    let ops = ops(&a, 4);
    push(engine, &a, &ops);
    let bases: Vec<Install> = (1..=3).map(|at| install(&a, at as u64, &ops[..at])).collect();
    bases.iter().for_each(|base| prune(engine, base));
    let all: Vec<_> = (1..=3).map(|at| (at as u64, ops[at - 1].sha())).collect();
    assert_eq!(retained(engine, &a), all);
    let kept = engine.retained(&a, 1, Page { ops: 1, bytes: 9_999 }).unwrap();
    assert_eq!((kept.len(), kept[0].1.index, &kept[0].1.record[..]), (1, 2, &ops[1].to_record()[..]));
    for base in &bases {
        let generation = base.at.micros();
        assert_eq!(engine.base_of(&a, generation).unwrap().as_ref(), Some(&base.base), "{generation}");
    }
    assert_eq!(engine.base_of(&a, 4).unwrap(), None);
    let of_bases: Vec<u64> = bases.iter().map(|install| install.base.record.len() as u64).collect();
    assert_eq!(base_header(engine, &a).retained_bytes, bytes(&ops[..3]) + of_bases[0] + of_bases[1]);
    assert_eq!(usage(engine), bytes(&ops) + of_bases.iter().sum::<u64>() + 96);

    // The bases of 1 and 2 were superseded at 2 and 3; operations go first.
    assert_eq!(forget(engine, 1, 9), 0);
    assert_eq!(forget(engine, 3, 1), 1);
    assert_eq!(retained(engine, &a), all[1..]);
    assert_eq!(forget(engine, 3, 1), 1);
    assert_eq!((retained(engine, &a), engine.base_of(&a, 1).unwrap().is_some()), (all[2..].to_vec(), true));
    assert_eq!(forget(engine, 3, 9), 1);
    assert_eq!(engine.base_of(&a, 1).unwrap(), None);
    assert_eq!(base_header(engine, &a).retained_bytes, bytes(&ops[2..3]) + of_bases[1]);
    assert_eq!(forget(engine, 4, 9), 2);
    assert_eq!(forget(engine, u64::MAX, 9), 0);

    assert!(retained(engine, &a).is_empty());
    assert_eq!(engine.base(&a).unwrap().as_ref(), Some(&bases[2].base));
    assert_eq!(base_header(engine, &a).retained_bytes, 0);
    assert_eq!(usage(engine), bytes(&ops[3..]) + of_bases[2] + 96);
    assert_eq!(push(engine, &a, &ops[..1]), [Appended::Covered { sha: ops[0].sha() }]);
}

pub(crate) fn what_is_not_retained_is_gone_at_once(engine: &dyn Engine) {
    let a = log("/a");
    let ops = ops(&a, 2);
    push(engine, &a, &ops);
    prune(engine, &Install { retain: false, ..install(&a, 1, &ops[..1]) });
    let second = Install { retain: false, ..install(&a, 2, &ops) };
    prune(engine, &second);
    assert!(retained(engine, &a).is_empty());
    assert_eq!(engine.base_of(&a, 1).unwrap(), None);
    assert_eq!(engine.base_of(&a, 2).unwrap().as_ref(), Some(&second.base));
    assert_eq!(usage(engine), second.base.record.len() as u64 + 64);
    assert_eq!(push(engine, &a, &ops), shas(&ops).iter().map(|&sha| Appended::Covered { sha }).collect::<Vec<_>>());
    assert_eq!(forget(engine, u64::MAX, 9), 0);
}

pub(crate) fn a_log_whose_base_is_disputed_forgets_nothing(engine: &dyn Engine) {
    let logs = [log("/a"), log("/b"), log("/c")];
    for log in &logs {
        let ops = ops(log, 3);
        push(engine, log, &ops);
        prune(engine, &install(log, 1, &ops[..2]));
    }
    let [a, b, _] = &logs;
    let first = install(a, 1, &ops(a, 2)).base;
    dispute(engine, a, &base(a, 9, &[], Default::default()));
    assert!(!base_header(engine, a).disputed);
    dispute(engine, a, &first);
    dispute(engine, &log("/nowhere"), &first);
    assert!(base_header(engine, a).disputed);
    assert_eq!(engine.tail(&log("/nowhere")).unwrap(), None);

    assert_eq!(forget(engine, u64::MAX, 3), 3);
    assert_eq!(forget(engine, u64::MAX, 9), 1);
    assert_eq!((retained(engine, a).len(), retained(engine, b).len()), (2, 0));
    // To learn more of what it covers settles nothing; the next base does.
    prune(engine, &install(a, 1, &ops(a, 2)));
    assert!(base_header(engine, a).disputed);
    prune(engine, &install(a, 2, &ops(a, 3)));
    assert!(!base_header(engine, a).disputed);
    assert_eq!(forget(engine, u64::MAX, 9), 4);
}

pub(crate) fn a_base_that_comes_back_is_the_logs_own_again(engine: &dyn Engine) {
    let a = log("/a");
    let ops = ops(&a, 2);
    push(engine, &a, &ops);
    let (first, second) = (install(&a, 1, &ops), install(&a, 2, &ops));
    prune(engine, &first);
    prune(engine, &second);
    prune(engine, &Install { at: Date::saturating(3), ..first.clone() });
    assert_eq!(engine.base(&a).unwrap(), Some(first.base.clone()));
    assert_eq!(engine.base_of(&a, 2).unwrap().as_ref(), Some(&second.base));
    let of_second = second.base.record.len() as u64;
    assert_eq!(base_header(engine, &a).retained_bytes, bytes(&ops) + of_second);
    assert_eq!(usage(engine), bytes(&ops) + first.base.record.len() as u64 + of_second + 64);
    assert_eq!(forget(engine, u64::MAX, 9), 3);
    assert_eq!(engine.base_of(&a, 1).unwrap(), Some(first.base));
    assert_eq!(base_header(engine, &a).retained_bytes, 0);
}

pub(crate) fn of_two_bases_of_one_generation_the_last_one_is_shown(engine: &dyn Engine) {
    let a = log("/a");
    let ops = ops(&a, 3);
    push(engine, &a, &ops);
    let (foreign, committed) = (install(&a, 1, &ops[..1]), install(&a, 1, &ops[..2]));
    prune(engine, &foreign);
    prune(engine, &Install { at: Date::saturating(7), ..committed.clone() });
    assert_eq!(engine.base_of(&a, 1).unwrap().as_ref(), Some(&committed.base));
    prune(engine, &Install { at: Date::saturating(8), ..install(&a, 2, &ops) });
    assert_eq!(engine.base_of(&a, 1).unwrap().as_ref(), Some(&committed.base));
    let kept = bytes(&ops) + (foreign.base.record.len() + committed.base.record.len()) as u64;
    assert_eq!(base_header(engine, &a).retained_bytes, kept);
    assert_eq!(forget(engine, u64::MAX, 9), 5);
}

pub(crate) fn a_restore_brings_everything_back_live(engine: &dyn Engine) {
    let a = log("/a");
    let ops: Vec<Op> = ops(&a, 3);
    let last = op_with(&a, 4, &[ops[1].sha()], &json!("last"));
    push(engine, &a, &ops);
    push(engine, &a, std::slice::from_ref(&last));
    let (all, everything) = (live(engine, &a), usage(engine));
    prune(engine, &install(&a, 1, &ops[..1]));
    prune(engine, &install(&a, 2, &ops[..2]));
    restore(engine, &a);

    assert_eq!(live(engine, &a), all);
    let feed = engine.feed(&user("me"), &channel("home"), 2, Page::ALL).unwrap();
    let places: Vec<_> = feed.iter().map(|arrival| (arrival.position, arrival.stored.index)).collect();
    assert_eq!(places, [(3, 3), (4, 4), (5, 1), (6, 2)]);
    assert_eq!(engine.position(&user("me"), &channel("home")).unwrap(), 6);
    let tail = engine.tail(&a).unwrap().unwrap();
    assert_eq!((tail.header.base, tail.header.last_index), (None, 4));
    let whole: Vec<Sha> = all.iter().map(|op| op.sha).collect();
    assert_eq!((tail.header.digest, tail.header.bytes), (digest(&whole), everything));
    assert_eq!(tail.heads, [ops[0].sha(), ops[2].sha(), last.sha()]);
    assert_eq!(usage(engine), everything);
    assert!(retained(engine, &a).is_empty() && engine.covered(&a, None, 9).unwrap().is_empty());
    assert_eq!((engine.base(&a).unwrap(), engine.base_of(&a, 1).unwrap()), (None, None));
    assert_eq!(push(engine, &a, &ops[..1]), [Appended::Known { sha: ops[0].sha(), index: 1 }]);
    assert_eq!(forget(engine, u64::MAX, 9), 0);

    restore(engine, &a);
    restore(engine, &log("/nowhere"));
    assert_eq!(engine.tail(&a).unwrap().unwrap(), tail);
    assert_eq!(engine.tail(&log("/nowhere")).unwrap(), None);
}

pub(crate) fn a_restored_log_can_be_pruned_again(engine: &dyn Engine) {
    let a = log("/a");
    let ops = ops(&a, 3);
    push(engine, &a, &ops);
    prune(engine, &install(&a, 1, &ops));
    assert_eq!(forget(engine, 2, 1), 1);
    restore(engine, &a);
    // What was forgotten is not covered any more, and may come again.
    assert_eq!(live(engine, &a).iter().map(|op| op.index).collect::<Vec<_>>(), [2, 3]);
    assert_eq!(arrival(&push(engine, &a, &ops[..1])[0]).stored.index, 4);
    let again = install(&a, 2, &ops);
    prune(engine, &again);
    assert_eq!(base_header(engine, &a).retained_bytes, bytes(&ops));
    assert_eq!(retained(engine, &a).len(), 3);
    assert_eq!(usage(engine), bytes(&ops) + again.base.record.len() as u64 + 96);
}

pub(crate) fn a_remove_passes_over_what_is_retained(engine: &dyn Engine) {
    let a = log("/a");
    let ops = ops(&a, 2);
    push(engine, &a, &ops);
    prune(engine, &install(&a, 1, &ops[..1]));
    let before = engine.tail(&a).unwrap();
    remove(engine, &a, &shas(&ops[..1]));
    assert_eq!(engine.tail(&a).unwrap(), before);
    assert_eq!(retained(engine, &a), [(1, ops[0].sha())]);
}

pub(crate) fn an_install_is_atomic_with_its_batch(engine: &dyn Engine) {
    let (a, b) = (log("/a"), log("/b"));
    let ops = ops(&a, 2);
    push(engine, &a, &ops[..1]);
    let before = (engine.tail(&a).unwrap(), usage(engine));
    let good = install(&a, 1, &ops);
    let mut bad = install(&b, 1, &[]);
    bad.base.record = Bytes::from_static(b"this is no checkpoint");
    let batch = |installs| Batch {
        appends: vec![append(&a, &ops[1])],
        installs,
        notes: vec![(Bytes::from_static(b"k"), Some(Bytes::from_static(b"v")))],
        ..Batch::default()
    };
    let error = engine.commit(&batch(vec![good.clone(), bad])).unwrap_err();
    assert!(matches!(&error, StorageError::Damaged { what, .. } if what.contains("/b")), "{error}");
    assert_eq!((engine.tail(&a).unwrap(), usage(engine)), before);
    assert_eq!((engine.tail(&b).unwrap(), engine.note(b"k").unwrap()), (None, None));

    engine.commit(&batch(vec![good])).unwrap();
    assert!(live(engine, &a).is_empty() && engine.note(b"k").unwrap().is_some());
}

pub(crate) fn appends_and_installs_of_one_batch_see_each_other_in_order(engine: &dyn Engine) {
    let a = log("/a");
    let ops = ops(&a, 3);
    let batch = Batch {
        appends: ops.iter().map(|op| append(&a, op)).collect(),
        installs: vec![install(&a, 1, &ops[..1]), install(&a, 2, &ops[..2])],
        disputes: vec![(a.clone(), install(&a, 2, &ops[..2]).base.sha)],
        removes: vec![(a.clone(), ops[2].sha()), (a.clone(), ops[1].sha())],
        ..Batch::default()
    };
    let appended = engine.commit(&batch).unwrap();
    assert_eq!(appended.iter().map(|new| arrival(new).position).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(live(engine, &a).is_empty() && base_header(engine, &a).disputed);
    assert_eq!(retained(engine, &a), [(1, ops[0].sha()), (2, ops[1].sha())]);

    let batch = Batch { installs: vec![install(&a, 3, &ops)], restores: vec![a.clone()], ..Batch::default() };
    engine.commit(&batch).unwrap();
    assert_eq!(live(engine, &a).iter().map(|op| op.index).collect::<Vec<_>>(), [1, 2]);
    assert_eq!((header(engine, &a).base, usage(engine)), (None, bytes(&ops[..2])));
    assert_eq!(engine.position(&user("me"), &channel("home")).unwrap(), 5);
    assert_eq!(arrival(&push(engine, &a, &ops[2..])[0]).stored.index, 4);
}

pub(crate) fn shas_that_are_covered_are_read_in_pages(engine: &dyn Engine) {
    let (a, b) = (log("/a"), log("/b"));
    for log in [&a, &b] {
        prune(engine, &install(log, 1, &ops(log, 5)));
    }
    let all: Vec<Sha> = shas(&ops(&a, 5)).into_iter().collect::<BTreeSet<_>>().into_iter().collect();
    assert_eq!(engine.covered(&a, None, 9).unwrap(), all);
    assert_eq!(engine.covered(&a, None, 2).unwrap(), all[..2]);
    assert_eq!(engine.covered(&a, Some(&all[1]), 2).unwrap(), all[2..4]);
    assert_eq!(engine.covered(&a, Some(&all[4]), 2).unwrap(), []);
    assert_eq!(engine.covered(&a, Some(&Sha::from_bytes([0; 32])), 9).unwrap(), all);
    assert_eq!(engine.covered(&a, Some(&Sha::from_bytes([0xff; 32])), 9).unwrap(), []);
    assert_eq!(engine.covered(&a, None, 0).unwrap(), []);
    assert!(!engine.is_covered(&a, &shas(&ops(&b, 1))[0]).unwrap());
}
