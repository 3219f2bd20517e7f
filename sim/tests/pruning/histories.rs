//! Epochs, and tables and stores that were restored: histories that part.

use std::collections::BTreeSet;

use gigfs_core::sync::PruneHold;
use gigfs_core::{Date, ErrorCode, Sha};
use gigfs_sim::World;
use gigfs_storage::{Fault, pruning};
use serde_json::json;

use super::script::{
    ANNA, BERT, CARL, COPY, DISK, HOME, LOG, MEMORY, OTHER_DISK, RENTED, away, back, base, converge, covered,
    generation, live, name, prune, say, world,
};

#[test]
fn acknowledgements_of_an_old_epoch_do_not_count() {
    let mut w = world("concat", &[DISK, MEMORY], 2);
    say(&mut w, ANNA, 1);
    w.drive().unwrap();
    w.back_up_device(ANNA);
    say(&mut w, ANNA, 2);
    w.drive().unwrap();
    w.table_held = true;
    assert_eq!(w.prune(ANNA, LOG), None);
    w.run_for(1_000);
    assert_eq!(w.waiting_for_table(), 1);
    w.leave(0, RENTED);
    w.restore_device(ANNA, false);
    w.release_table();
    w.run_for(1_000);
    assert_eq!((w.registered(LOG), w.counts.committed), (None, 0), "the store that left is named in the old epoch");
    w.restart(ANNA);
    w.open(ANNA, LOG);
    w.drive().unwrap();
    prune(&mut w, ANNA);
    w.join(0, RENTED);
    converge(&mut w);
    assert_eq!((w.value(ANNA, LOG), w.value(BERT, LOG)), (json!("w1 w2 "), json!("w1 w2 ")));
    assert_eq!((covered(&mut w, BERT), live(&w, RENTED)), (2, vec![]));
}

#[test]
fn a_table_restored_from_a_backup_follows_the_stores_and_they_refuse_another_branch() {
    for stores in [1, 2] {
        for backed_up in [0, 1] {
            let mut w = world("concat", &[DISK, MEMORY], stores);
            let mut branch: Option<(Sha, bytes::Bytes)> = None;
            for round in 1..=3 {
                say(&mut w, ANNA, round);
                w.drive().unwrap();
                if round == backed_up + 1 {
                    w.back_up_table();
                    // Two clients propose on the base at which the backup stands, and one of them is committed.
                    w.table_held = true;
                    assert_eq!((w.prune(ANNA, LOG), w.prune(BERT, LOG)), (None, None));
                    w.run_for(1_000);
                    w.release_table();
                    w.drive().unwrap();
                    let log = name(&w);
                    let of_round = |made: &&gigfs_core::Checkpoint| made.generation.get() == round;
                    let proposed = w.proposed(LOG);
                    let lost = proposed.iter().filter(of_round).find(|made| Some(made.id(&log)) != w.registered(LOG));
                    branch = lost.map(|made| (made.sha(&log), made.to_record(None).into()));
                } else {
                    prune(&mut w, ANNA);
                }
            }
            let at = w.registered(LOG);
            w.restore_table();
            assert_eq!((generation(w.registered(LOG)), generation(at)), (backed_up, 3));
            let (sha, record) = branch.unwrap();
            for store in &w.stores {
                let now = Date::saturating(w.now);
                let refused = pruning::judge(&store.engine, &name(&w), sha, &record, now).unwrap();
                assert_eq!(refused.unwrap_err().code, ErrorCode::StaleBase);
            }
            converge(&mut w);
            assert_eq!((base(&w, ANNA), base(&w, BERT)), (at, at), "nobody goes back with the table");
            say(&mut w, BERT, 4);
            w.drive().unwrap();
            assert_eq!(generation(Some(prune(&mut w, BERT))), 4);
            converge(&mut w);
            assert_eq!((w.value(ANNA, LOG), covered(&mut w, ANNA)), (json!("w1 w2 w3 w4 "), 4));
        }
    }
}

#[test]
fn a_base_of_another_history_is_kept_as_a_conflict_copy() {
    two_histories(2);
}

#[test]
fn of_two_histories_of_one_length_one_is_kept_as_a_conflict_copy() {
    two_histories(1);
}

#[test]
fn a_conflict_copy_is_made_though_the_client_crashes_before_every_store_can_be_asked() {
    let mut w = diverged(1, 2);
    w.table_down = true;
    back(&mut w, ANNA);
    w.run_for(30_000);
    assert_eq!(base(&w, ANNA), base(&w, CARL), "the history goes on");
    let copy = w.clients[ANNA].conflicts[0].1.clone().unwrap();
    w.crash(ANNA);
    w.crash(BERT);
    w.restart(ANNA);
    w.open(ANNA, LOG);
    converge(&mut w);
    w.logs.insert(COPY, copy);
    converge(&mut w);
    assert_eq!(w.value(CARL, COPY), json!("w1 w2 "));
}

#[test]
fn a_store_gives_up_its_base_only_once_the_copy_is_on_a_disk() {
    let mut w = diverged(2, 1);
    let (ours, theirs) = (base(&w, ANNA), base(&w, CARL));
    assert!(ours > theirs);
    w.crash(BERT);
    away(&mut w, CARL);
    w.fail_disk(ANNA, Fault::Io, 3);
    back(&mut w, ANNA);
    w.run_for(8_000);
    let copy = w.clients[ANNA].conflicts[0].1.clone().unwrap();
    assert_eq!(w.stores[HOME].base(&name(&w)), theirs, "nobody has it but in memory");
    w.run_for(60_000);
    assert_eq!(w.stores[HOME].base(&name(&w)), ours);
    converge(&mut w);
    w.logs.insert(COPY, copy);
    converge(&mut w);
    assert_eq!((w.value(CARL, LOG), w.value(CARL, COPY)), (json!("w1 w2 w12 w3 "), json!("w1 w3 ")));
}

#[test]
fn a_copy_is_not_pruned_before_it_has_begun() {
    let mut w = diverged(1, 2);
    w.table_down = true;
    back(&mut w, ANNA);
    w.run_for(30_000);
    let copy = w.clients[ANNA].conflicts[0].1.clone().unwrap();
    w.logs.insert(COPY, copy);
    w.open(ANNA, COPY);
    w.run_for(1_000);
    w.push(ANNA, COPY, &json!({ "append": "w8" }));
    w.run_for(1_000);
    assert!(matches!(w.prune(ANNA, COPY), Some(PruneHold::UnderWay { .. })));
    converge(&mut w);
    assert_eq!(w.value(CARL, COPY), json!("w1 w2 w8 "));
    // The first may ask the table once more about the beginning, which was somebody else's.
    for _ in 0..2 {
        _ = w.prune(ANNA, COPY);
        w.run_for(10_000);
    }
    converge(&mut w);
    assert_eq!((generation(w.registered(COPY)), w.value(CARL, COPY)), (2, json!("w1 w2 w8 ")));
}

#[test]
fn a_checkpoint_from_before_the_table_was_restored_is_committed_late_and_loses_nothing() {
    let mut w = world("concat", &[DISK, MEMORY], 2);
    say(&mut w, ANNA, 1);
    w.drive().unwrap();
    prune(&mut w, ANNA);
    w.back_up_table();
    say(&mut w, ANNA, 2);
    w.drive().unwrap();
    // All stores have acknowledged it when others are committed instead of it, and then the table is as it was.
    w.table_held = true;
    assert_eq!(w.prune(ANNA, LOG), None);
    w.run_for(1_000);
    assert_eq!(w.waiting_for_table(), 1);
    away(&mut w, ANNA);
    say(&mut w, ANNA, 3);
    say(&mut w, BERT, 4);
    w.run_for(10_000);
    w.table_held = false;
    prune(&mut w, BERT);
    say(&mut w, BERT, 5);
    w.run_for(10_000);
    prune(&mut w, BERT);
    w.restore_table();
    w.release_table();
    w.run_for(10_000);
    assert_eq!((generation(w.registered(LOG)), generation(base(&w, ANNA)), generation(base(&w, BERT))), (2, 2, 3));
    back(&mut w, ANNA);
    converge(&mut w);
    assert_eq!((w.value(ANNA, LOG), covered(&mut w, ANNA)), (json!("w1 w2 w4 w5 w3 "), 4));
    assert_eq!(generation(Some(prune(&mut w, BERT))), 4);
    converge(&mut w);
    assert_eq!(covered(&mut w, ANNA), 5);
}

/// Has a table and its store restored together after so many generations that Anna and Bert keep, while Carl, who never saw
/// them, makes so many others.
fn diverged(ours: u64, theirs: u64) -> World {
    let mut w = world("concat", &[DISK, MEMORY, OTHER_DISK], 1);
    say(&mut w, ANNA, 1);
    w.drive().expect("nothing has gone wrong yet");
    prune(&mut w, ANNA);
    w.back_up_table();
    w.back_up(HOME);
    away(&mut w, CARL);
    for id in (0..ours).map(|round| 2 + 10 * round) {
        say(&mut w, ANNA, id);
        w.run_for(10_000);
        prune(&mut w, ANNA);
    }
    away(&mut w, ANNA);
    away(&mut w, BERT);
    w.restore(HOME, true);
    w.restore_table();
    back(&mut w, CARL);
    w.run_for(10_000);
    for id in 3..3 + theirs {
        say(&mut w, CARL, id);
        w.run_for(10_000);
        prune(&mut w, CARL);
    }
    w
}

fn two_histories(generations: u64) {
    let mut w = diverged(1, generations);
    let (first, second) = (base(&w, ANNA), base(&w, CARL));
    assert_eq!((generation(first), generation(second)), (2, 1 + generations));
    back(&mut w, ANNA);
    back(&mut w, BERT);
    converge(&mut w);
    let (kept, other) = if first > second { (first, second) } else { (second, first) };
    assert_eq!((base(&w, ANNA), base(&w, BERT), base(&w, CARL)), (kept, kept, kept));
    let copies: BTreeSet<_> = w.clients.iter().flat_map(|client| client.conflicts.clone()).collect();
    let other = other.expect("there is another base");
    let path = format!("/log0.conflict-{}-{}", other.generation, &other.sha.to_string()[..8]);
    let copy = copies.iter().find_map(|(_, copy)| copy.clone()).expect("there is a copy, and its name is short");
    assert_eq!(copies, BTreeSet::from([(other, Some(copy.clone()))]));
    let clear = w.clients[BERT].replica.as_ref().and_then(|replica| replica.clear_name(&copy));
    assert_eq!(clear.map(|clear| clear.path.as_str()), Some(path.as_str()));
    w.logs.insert(COPY, copy);
    converge(&mut w);
    let values = [w.value(BERT, LOG), w.value(BERT, COPY)];
    match kept == first {
        // The store still kept what the second history covers, so that is late in the first one.
        true => assert_eq!(values, [json!("w1 w2 w3 "), json!("w1 w3 ")]),
        false => assert_eq!(values, [json!(if generations == 1 { "w1 w3 " } else { "w1 w3 w4 " }), json!("w1 w2 ")]),
    }
    // Both go on, and are pruned.
    say(&mut w, BERT, 7);
    w.push(ANNA, COPY, &json!({ "append": "w8" }));
    w.drive().expect("nothing is lost or doubled");
    prune(&mut w, BERT);
    assert_eq!(w.prune(ANNA, COPY), None);
    converge(&mut w);
    assert_eq!(generation(w.registered(COPY)), 2);
}
