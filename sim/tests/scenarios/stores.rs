//! Stores that fail, lose data, come and go.

use gigfs_core::ErrorCode;
use gigfs_core::sync::Standing;
use gigfs_storage::Fault;
use serde_json::json;

use super::script::{ANNA, BERT, DISK, HOME, LOG, MEMORY, OTHER_DISK, RENTED, add, queued, receipt, world};

#[test]
fn a_lost_acknowledgement_leads_to_known_and_the_operation_counts_once() {
    let mut w = world("counter", &[MEMORY, MEMORY], 1);
    let push = w.push(ANNA, LOG, &add(3));
    while w.stores[HOME].ops(&w.logs[LOG]).is_empty() {
        w.run_for(1);
    }
    w.cut(ANNA, HOME, false);
    assert_eq!(receipt(&w, ANNA, push).accepted(), 0);
    w.converged().unwrap();
    assert_eq!(receipt(&w, ANNA, push).accepted(), 1);
    assert_eq!((w.value(ANNA, LOG), w.value(BERT, LOG)), (json!(3), json!(3)));
}

#[test]
fn a_store_that_lost_its_data_is_filled_again_and_reported() {
    let mut w = world("counter", &[DISK, OTHER_DISK], 1);
    (1..=20).for_each(|number| _ = w.push(ANNA, LOG, &add(number)));
    w.converged().unwrap();
    w.restore(HOME, false);
    w.converged().unwrap();
    assert_eq!(w.stores[HOME].ops(&w.logs[LOG]).len(), 20);
    assert!(!w.clients[ANNA].suspicions.is_empty() && !w.clients[BERT].suspicions.is_empty());
}

#[test]
fn a_store_that_went_back_to_an_old_state_is_filled_again_and_reported() {
    for silently in [true, false] {
        let mut w = world("counter", &[DISK, MEMORY], 1);
        (1..=10).for_each(|number| _ = w.push(ANNA, LOG, &add(number)));
        w.converged().unwrap();
        w.back_up(HOME);
        (11..=30).for_each(|number| _ = w.push(BERT, LOG, &add(number)));
        w.converged().unwrap();
        w.restore(HOME, silently);
        w.converged().unwrap();
        assert_eq!(w.stores[HOME].ops(&w.logs[LOG]).len(), 30);
        assert!(!w.clients[ANNA].suspicions.is_empty(), "silently: {silently}");
    }
}

#[test]
fn a_store_that_was_filled_again_by_others_is_still_reported() {
    let mut w = world("counter", &[DISK, OTHER_DISK], 1);
    (1..=20).for_each(|number| _ = w.push(ANNA, LOG, &add(number)));
    w.converged().unwrap();
    w.partition(ANNA, HOME);
    w.restore(HOME, false);
    w.run_for(60_000);
    assert_eq!(w.stores[HOME].ops(&w.logs[LOG]).len(), 20);
    w.heal(ANNA, HOME);
    w.converged().unwrap();
    assert!(!w.clients[ANNA].suspicions.is_empty());
}

#[test]
fn operations_of_one_store_reach_the_other_through_any_client() {
    let mut w = world("counter", &[MEMORY, DISK], 2);
    w.partition(ANNA, RENTED);
    w.push(ANNA, LOG, &add(5));
    w.run_for(10_000);
    assert_eq!(w.stores[RENTED].ops(&w.logs[LOG]).len(), 1);
    w.heal(ANNA, RENTED);
    w.converged().unwrap();
    assert_eq!(w.counts.dated_again, 0);
}

#[test]
fn a_failing_store_that_has_written_all_the_same_doubles_nothing() {
    let mut w = world("counter", &[MEMORY, MEMORY], 2);
    w.stores[RENTED].skew = 600_000_000;
    w.set_clock(ANNA, 600);
    w.stores[RENTED].engine.fail([Fault::Unacknowledged]);
    w.partition(BERT, RENTED);
    w.push(ANNA, LOG, &add(7));
    w.run_for(30_000);
    w.heal(BERT, RENTED);
    w.converged().unwrap();
    assert_eq!((w.value(ANNA, LOG), w.value(BERT, LOG)), (json!(7), json!(7)));
}

#[test]
fn a_full_store_keeps_the_operation_queued_and_takes_it_later() {
    let mut w = world("counter", &[DISK, MEMORY], 2);
    w.push(ANNA, LOG, &add(1));
    w.drive().unwrap();
    w.stores[RENTED].full = true;
    let push = w.push(ANNA, LOG, &add(2));
    w.run_for(30_000);
    let rented = w.stores[RENTED].id();
    assert!(matches!(
        &receipt(&w, ANNA, push).stores[&rented],
        Standing::Refused(refusal) if refusal.code == ErrorCode::InsufficientStorage
    ));
    assert_eq!((receipt(&w, ANNA, push).accepted(), queued(&w, ANNA)), (1, 1));
    w.stores[RENTED].full = false;
    w.converged().unwrap();
    assert_eq!(receipt(&w, ANNA, push).accepted(), 2);
}

#[test]
fn what_a_full_local_disk_refuses_still_goes_to_the_stores() {
    let mut w = world("counter", &[DISK, MEMORY], 1);
    w.fail_disk(ANNA, Fault::Full, 3);
    let push = w.push(ANNA, LOG, &add(1));
    w.run_for(1_000);
    assert_eq!((receipt(&w, ANNA, push).durable, receipt(&w, ANNA, push).accepted()), (false, 1));
    assert!(receipt(&w, ANNA, push).local_error.is_some());
    w.converged().unwrap();
    // The disk has room again and has it too.
    w.partition(ANNA, HOME);
    w.crash(ANNA);
    w.restart(ANNA);
    w.open(ANNA, LOG);
    w.run_for(1_000);
    assert_eq!(w.value(ANNA, LOG), json!(1));
}

#[test]
fn a_store_that_joins_is_filled_and_one_that_leaves_takes_nothing_along() {
    let mut w = world("counter", &[DISK, MEMORY], 2);
    w.leave(0, RENTED);
    w.push(ANNA, LOG, &add(1));
    w.converged().unwrap();
    w.join(0, RENTED);
    w.converged().unwrap();
    assert_eq!(w.stores[RENTED].ops(&w.logs[LOG]).len(), 1);
    w.push(BERT, LOG, &add(2));
    w.converged().unwrap();
    w.leave(0, HOME);
    w.converged().unwrap();
    assert_eq!(w.value(ANNA, LOG), json!(3));
}
