//! What is written offline, locally, or removed, and logs that are pruned by themselves.

use std::collections::BTreeSet;

use gigfs_core::sync::PrunePolicy;
use gigfs_sim::{Manners, Spec};
use gigfs_storage::Engine as _;
use serde_json::json;

use super::SEALED;
use super::script::{
    ANNA, BERT, CARL, DISK, HOME, LOG, MEMORY, OTHER_DISK, RENTED, THIRD_DISK, away, back, base, begin, converge,
    covered, generation, live, name, oplog, ops, prune, say, spec, world,
};

// Late operations and the stock reducers

#[test]
fn what_was_written_offline_before_a_prune_counts_once_for_every_reducer() {
    for kind in ["register", "counter", "set", "map", "list", "text"] {
        for seed in 1..=3 {
            let mut w = begin(Spec { seed, ..spec(kind, &[DISK, MEMORY, OTHER_DISK, THIRD_DISK], 2) });
            const AWAY: usize = 3;
            for round in 0..2 {
                away(&mut w, AWAY);
                // The offline writes lie between the first and the last of the others.
                for at in 0..50u64 {
                    w.write_some(at as usize % 3, LOG, seed * 1_000 + at).unwrap();
                    w.run_for(if at % 5 == 0 { 500 } else { 3 });
                    if (10..30).contains(&at) {
                        w.write_some(AWAY, LOG, seed * 2_000 + at).unwrap();
                    }
                }
                w.run_for(10_000);
                prune(&mut w, round);
                let made = w.proposed(LOG).into_iter().map(|made| made.date).max().unwrap();
                let late = oplog(&w, AWAY).iter().filter(|op| op.date() < made && w.clients[AWAY].actor == op.actor());
                assert_eq!(late.count(), 20, "all of them are dated before the prune");
                back(&mut w, AWAY);
                converge(&mut w);
                assert_eq!(w.value(AWAY, LOG), w.unpruned(LOG), "{kind}, seed {seed}, round {round}");
                assert_eq!((ops(&w, ANNA), covered(&mut w, ANNA)), (20, 50 + 70 * round as u64));
                prune(&mut w, 2);
                converge(&mut w);
                assert_eq!(w.value(ANNA, LOG), w.unpruned(LOG), "{kind}, seed {seed}, round {round}");
                assert_eq!((ops(&w, AWAY), covered(&mut w, AWAY)), (0, 70 + 70 * round as u64));
            }
        }
    }
}

#[test]
fn a_hundred_offline_writes_dated_before_many_prunes_are_all_there_once() {
    let mut w = world("counter", &[DISK, MEMORY, OTHER_DISK], 2);
    away(&mut w, ANNA);
    (0..100).for_each(|shape| _ = w.write_some(ANNA, LOG, shape).unwrap());
    for round in 0..5 {
        (0..40).for_each(|shape| _ = w.write_some(1 + shape as usize % 2, LOG, shape).unwrap());
        w.run_for(10_000);
        prune(&mut w, 1 + round % 2);
    }
    back(&mut w, ANNA);
    converge(&mut w);
    // Each write adds its own number.
    assert_eq!(w.value(BERT, LOG), json!((1..=300).sum::<u64>()));
    assert_eq!((live(&w, HOME).len(), live(&w, RENTED).len()), (100, 100));
}

// Channels that no table knows

#[test]
fn a_channel_that_was_local_archives_and_merges_as_ordinary_operations_when_it_meets_a_table() {
    let spec = Spec { channels: vec![BTreeSet::new()], ..spec("concat", &[DISK, OTHER_DISK], 1) };
    let mut w = begin(spec);
    (1..=5).for_each(|id| _ = say(&mut w, ANNA, id));
    w.run_for(100);
    (6..=7).for_each(|id| _ = say(&mut w, BERT, id));
    w.drive().unwrap();
    assert_eq!(w.prune(ANNA, LOG), None);
    w.drive().unwrap();
    assert_eq!((ops(&w, ANNA), covered(&mut w, ANNA), w.counts.committed), (0, 5, 0));
    say(&mut w, ANNA, 8);
    w.drive().unwrap();
    // It is kept over a restart, and pruned once more.
    w.crash(ANNA);
    w.restart(ANNA);
    w.open(ANNA, LOG);
    w.drive().unwrap();
    assert_eq!((w.value(ANNA, LOG), ops(&w, ANNA)), (json!("w1 w2 w3 w4 w5 w8 "), 1));
    assert_eq!(w.prune(ANNA, LOG), None);
    w.drive().unwrap();
    assert_eq!((ops(&w, ANNA), generation(base(&w, ANNA))), (0, 2));
    w.join(0, HOME);
    converge(&mut w);
    assert_eq!((base(&w, ANNA), base(&w, BERT), w.stores[HOME].base(&name(&w))), (None, None, None));
    assert_eq!((live(&w, HOME).len(), ops(&w, ANNA), ops(&w, BERT)), (8, 8, 8));
    assert_eq!(w.value(ANNA, LOG), json!("w1 w2 w3 w4 w5 w6 w7 w8 "));
    prune(&mut w, BERT);
    converge(&mut w);
    assert_eq!((covered(&mut w, ANNA), live(&w, HOME)), (8, vec![]));
}

// Removing a log

#[test]
fn a_removed_log_is_a_base_at_every_store_and_a_late_operation_brings_back_itself_alone() {
    let mut w = world("concat", &[DISK, MEMORY, OTHER_DISK], 2);
    (1..=6).for_each(|id| _ = say(&mut w, ANNA, id));
    w.drive().unwrap();
    away(&mut w, CARL);
    say(&mut w, CARL, 7);
    w.run_for(1_000);
    w.remove(BERT, LOG);
    w.run_for(10_000);
    assert_eq!(w.value(ANNA, LOG), json!(""));
    prune(&mut w, BERT);
    assert_eq!((live(&w, HOME), live(&w, RENTED)), (vec![], vec![]));
    back(&mut w, CARL);
    converge(&mut w);
    assert_eq!((w.value(ANNA, LOG), w.value(CARL, LOG)), (json!("w7 "), json!("w7 ")));
    assert_eq!((live(&w, HOME), live(&w, RENTED)), (vec![Some(7)], vec![Some(7)]));
    // A second removal takes the base with it, which its author has seen.
    w.remove(CARL, LOG);
    w.drive().unwrap();
    prune(&mut w, ANNA);
    converge(&mut w);
    assert_eq!((w.value(BERT, LOG), live(&w, HOME)), (json!(""), vec![]));
}

// Automatic pruning

#[test]
fn a_long_log_is_pruned_without_anybody_asking_once_a_round() {
    let prune = PrunePolicy::Automatic { ops: 100, bytes: usize::MAX, quiet: 10_000_000 };
    let mut rounds = 0;
    for seed in 1..=10 {
        let mut w = begin(Spec { seed, prune, ..spec("counter", &[DISK, MEMORY, OTHER_DISK, MEMORY, MEMORY], 2) });
        for round in 1..=3u64 {
            let before = w.counts.committed;
            for shape in 0..150 {
                w.write_some(shape as usize % 5, LOG, shape).unwrap();
                w.run_for(10);
            }
            w.drive().unwrap();
            rounds += u64::from(w.counts.committed == before + 1);
            assert_eq!((ops(&w, ANNA), covered(&mut w, BERT)), (0, 150 * round), "seed {seed}");
        }
        converge(&mut w);
        assert_eq!((live(&w, HOME), live(&w, RENTED)), (vec![], vec![]));
    }
    assert!(rounds >= 27, "in {rounds} of 30 rounds one checkpoint was committed, and no other");
}

#[test]
fn a_log_of_ten_thousand_operations_is_read_cold_in_one_answer_after_a_prune() {
    let manners = Manners { page: 1_000, echo: false, events_first: false, forgetful: false };
    let mut w = begin(Spec { manners, ..spec("counter", &[MEMORY, MEMORY], 1) });
    away(&mut w, ANNA);
    w.crash(BERT);
    (0..10_000).for_each(|shape| _ = w.write_some(ANNA, LOG, shape).unwrap());
    back(&mut w, ANNA);
    w.drive().unwrap();
    prune(&mut w, ANNA);
    let (ops_before, answers_before) = (w.clients[BERT].ops_read, w.clients[BERT].answers_read);
    w.restart(BERT);
    w.open(BERT, LOG);
    w.drive().unwrap();
    assert_eq!(w.value(BERT, LOG), json!((1..=10_000).sum::<u64>()));
    let client = &w.clients[BERT];
    // The roster is read too, where there is one: an entry for each client.
    let of_roster = if SEALED { (2, 1) } else { (0, 0) };
    let read = (client.ops_read - ops_before, client.answers_read - answers_before);
    assert_eq!(read, (of_roster.0, of_roster.1 + 1));
    assert!(w.stores[HOME].engine.base(&name(&w)).unwrap().unwrap().record.len() < 1_000);
}
