//! What a checkpoint has not seen is late, whatever its date.

use std::collections::BTreeSet;

use gigfs_core::sync::Standing;
use gigfs_sim::Spec;
use serde_json::json;

use super::script::{
    ANNA, BERT, CARL, DISK, HOME, LOG, MEMORY, OTHER_DISK, ask, away, back, base, begin, converge, covered, known,
    live, name, ops, propose, prune, say, spec, standing, world, written,
};

#[test]
fn an_operation_written_offline_with_an_older_date_is_on_top_of_the_checkpoint_that_never_saw_it() {
    for stores in [1, 2] {
        let mut w = world("concat", &[DISK, MEMORY], stores);
        say(&mut w, BERT, 1);
        w.drive().unwrap();
        away(&mut w, ANNA);
        say(&mut w, ANNA, 2);
        w.run_for(1_000);
        say(&mut w, BERT, 3);
        w.run_for(10_000);
        let at = prune(&mut w, BERT);
        assert!(written(&w, ANNA, 2).date() < w.proposed(LOG)[0].date);
        back(&mut w, ANNA);
        converge(&mut w);
        for client in [ANNA, BERT] {
            assert_eq!((w.value(client, LOG), base(&w, client)), (json!("w1 w3 w2 "), Some(at)));
            assert_eq!(covered(&mut w, client), 2);
        }
        (0..stores).for_each(|store| assert_eq!(live(&w, store), [Some(2)]));
        prune(&mut w, ANNA);
        converge(&mut w);
        assert_eq!((w.value(BERT, LOG), covered(&mut w, BERT)), (json!("w1 w3 w2 "), 3));
    }
}

#[test]
fn of_two_incomparable_checkpoints_on_one_parent_one_is_committed_and_the_other_client_installs_it() {
    // Clients that are in step with all stores hold sets of which one includes the other, so a store has to forget between.
    let mut winners = BTreeSet::new();
    for seed in 1..=12 {
        let stores = 1 + seed as usize % 2;
        let mut w = begin(Spec { seed, ..spec("concat", &[DISK, MEMORY, MEMORY], stores) });
        away(&mut w, BERT);
        w.table_held = true;
        say(&mut w, ANNA, 1);
        w.run_for(1_000);
        assert_eq!(w.prune(ANNA, LOG), None);
        w.run_for(1_000);
        away(&mut w, ANNA);
        w.crash(CARL);
        (0..stores).for_each(|store| w.restore(store, true));
        back(&mut w, BERT);
        say(&mut w, BERT, 2);
        w.run_for(10_000);
        assert_eq!(w.prune(BERT, LOG), None);
        w.run_for(1_000);
        let proposed = w.proposed(LOG);
        assert_eq!((proposed.len(), w.waiting_for_table()), (2, 2));
        assert!(!proposed[0].covers.includes(&proposed[1].covers));
        assert!(!proposed[1].covers.includes(&proposed[0].covers));
        converge(&mut w);
        assert_eq!((w.counts.committed, w.clients[CARL].conflicts.len()), (1, 0));
        for client in [ANNA, BERT, CARL] {
            assert_eq!((base(&w, client), covered(&mut w, client)), (w.registered(LOG), 1));
            assert_eq!(ops(&w, client), 1);
        }
        winners.insert(w.value(CARL, LOG).to_string());
        prune(&mut w, CARL);
        converge(&mut w);
        assert_eq!(covered(&mut w, ANNA), 2);
    }
    assert_eq!(winners, [json!("w1 w2 ").to_string(), json!("w2 w1 ").to_string()].into());
}

#[test]
fn of_two_checkpoints_at_once_the_smaller_may_win_and_takes_nothing_away() {
    let mut overtaken = 0;
    for seed in 1..=12 {
        let mut w = begin(Spec { seed, delay: 100_000, ..spec("concat", &[DISK, MEMORY, MEMORY], 2) });
        w.table_held = true;
        say(&mut w, CARL, 1);
        w.run_for(2_000);
        propose(&mut w, ANNA);
        w.run_for(1_000);
        say(&mut w, CARL, 2);
        w.run_for(2_000);
        propose(&mut w, BERT);
        assert_eq!(covered(&mut w, BERT), 0);
        w.run_for(1_000);
        converge(&mut w);
        assert_eq!((w.counts.committed, base(&w, ANNA)), (1, base(&w, BERT)));
        assert_eq!((w.value(ANNA, LOG), w.value(BERT, LOG)), (json!("w1 w2 "), json!("w1 w2 ")));
        assert_eq!(covered(&mut w, CARL) as usize + ops(&w, CARL), 2);
        overtaken += u32::from(covered(&mut w, CARL) == 1);
    }
    assert!((1..12).contains(&overtaken), "the smaller one wins sometimes: {overtaken}");
}

#[test]
fn one_covered_set_that_came_in_in_different_orders_has_one_state() {
    let mut w = world("concat", &[DISK, OTHER_DISK], 1);
    away(&mut w, ANNA);
    away(&mut w, BERT);
    for turn in 0..5 {
        say(&mut w, ANNA, 2 * turn + 1);
        w.run_for(10);
        say(&mut w, BERT, 2 * turn + 2);
        w.run_for(10);
    }
    back(&mut w, BERT);
    w.run_for(10_000);
    back(&mut w, ANNA);
    w.drive().unwrap();
    w.table_held = true;
    assert_eq!((w.prune(ANNA, LOG), w.prune(BERT, LOG)), (None, None));
    w.run_for(5_000);
    assert_eq!(w.waiting_for_table(), 2);
    let proposed = w.proposed(LOG);
    assert_eq!((proposed[0].digest, &proposed[0].state), (proposed[1].digest, &proposed[1].state));
    assert_ne!(proposed[0].sha(&name(&w)), proposed[1].sha(&name(&w)));
    converge(&mut w);
    assert_eq!((w.counts.committed, w.counts.disputes, covered(&mut w, ANNA)), (1, 0, 10));
    assert_eq!(w.value(ANNA, LOG), w.unpruned(LOG));
}

#[test]
fn a_restored_device_loses_and_hides_nothing_though_it_uses_a_seq_twice() {
    for noticed in [true, false] {
        for pruned in [true, false] {
            let mut w = world("concat", &[DISK, MEMORY], 2);
            say(&mut w, ANNA, 1);
            w.drive().unwrap();
            w.back_up_device(ANNA);
            say(&mut w, ANNA, 2);
            w.drive().unwrap();
            let first = written(&w, BERT, 2);
            if pruned {
                prune(&mut w, BERT);
            }
            away(&mut w, ANNA);
            w.restore_device(ANNA, noticed);
            w.restart(ANNA);
            w.open(ANNA, LOG);
            w.run_for(1_000);
            say(&mut w, ANNA, 3);
            w.run_for(1_000);
            let again = written(&w, ANNA, 3);
            assert_eq!((first.actor(), first.seq()) == (again.actor(), again.seq()), !noticed);
            back(&mut w, ANNA);
            w.drive().unwrap();
            prune(&mut w, BERT);
            converge(&mut w);
            assert_eq!((w.value(ANNA, LOG), covered(&mut w, ANNA)), (json!("w1 w2 w3 "), 3));
            assert_eq!((ask(&w, HOME, &first), ask(&w, HOME, &again)), (known(&first), known(&again)));
            // And it goes on.
            say(&mut w, ANNA, 4);
            w.converged().unwrap();
            assert_eq!(w.value(BERT, LOG), json!("w1 w2 w3 w4 "));
        }
    }
}

#[test]
fn an_operation_that_a_store_refused_is_late_though_the_one_behind_it_is_covered() {
    for both_stores in [true, false] {
        let mut w = world("concat", &[DISK, MEMORY], if both_stores { 2 } else { 1 });
        let stores = 0..w.stores.len();
        stores.clone().for_each(|store| w.stores[store].full = true);
        let first = say(&mut w, ANNA, 1);
        w.run_for(500);
        for store in stores.clone() {
            assert!(matches!(standing(&w, ANNA, first, store), Standing::Refused(_)));
            w.stores[store].full = false;
        }
        let second = say(&mut w, ANNA, 2);
        while w.clients[ANNA].receipts[&second].accepted() < stores.len() {
            w.run_for(1);
        }
        assert!(matches!(standing(&w, ANNA, first, HOME), Standing::Refused(_)), "it is not tried again yet");
        away(&mut w, ANNA);
        let missing = written(&w, ANNA, 1);
        assert_eq!((written(&w, ANNA, 2).deps(), live(&w, HOME)), (&[missing.sha()][..], vec![Some(2)]));
        w.run_for(10_000);
        prune(&mut w, BERT);
        assert_eq!((covered(&mut w, BERT), w.proposed(LOG)[0].absent.as_slice()), (1, &[missing.sha()][..]));
        assert_eq!(ops(&w, ANNA), 2);
        back(&mut w, ANNA);
        converge(&mut w);
        assert_eq!((w.value(ANNA, LOG), covered(&mut w, ANNA), ops(&w, ANNA)), (json!("w2 w1 "), 1, 1));
        stores.for_each(|store| assert_eq!(live(&w, store), [Some(1)]));
        prune(&mut w, ANNA);
        converge(&mut w);
        assert_eq!((w.value(BERT, LOG), covered(&mut w, BERT)), (json!("w2 w1 "), 2));
    }
}
