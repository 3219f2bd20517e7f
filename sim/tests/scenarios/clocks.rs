//! Clocks that are wrong, and what is dated again.

use gigfs_storage::Fault;
use serde_json::json;

use super::script::{ANNA, BERT, DISK, HOME, LOG, MEMORY, RENTED, add, append, queued, receipt, world};
use gigfs_core::sync::PushId;

#[test]
fn a_clock_far_ahead_is_dated_again_once() {
    for disk in [MEMORY, DISK] {
        let mut w = world("counter", &[disk, MEMORY], 2);
        w.set_clock(ANNA, 3_600);
        let pushes: Vec<PushId> = (1..=5).map(|number| w.push(ANNA, LOG, &add(number))).collect();
        w.converged().unwrap();
        assert_eq!((w.value(BERT, LOG), w.counts.dated_again), (json!(15), 5));
        assert!(pushes.iter().all(|push| receipt(&w, ANNA, *push).accepted() == 2));
        // What follows is dated right at once.
        w.push(ANNA, LOG, &add(6));
        w.converged().unwrap();
        assert_eq!((w.value(BERT, LOG), w.counts.dated_again), (json!(21), 5));
    }
}

#[test]
fn a_clock_far_ahead_doubles_nothing_when_answers_are_lost() {
    for at in 0..40 {
        for disk in [MEMORY, DISK] {
            let mut w = world("counter", &[disk, MEMORY], 2);
            w.set_clock(ANNA, 3_600);
            w.stores[RENTED].skew = 3_600_000_000;
            (1..=5).for_each(|number| _ = w.push(ANNA, LOG, &add(number)));
            w.run_for(at);
            w.cut(ANNA, HOME, at % 2 == 0);
            w.cut(ANNA, RENTED, at % 3 == 0);
            w.converged().unwrap();
            assert_eq!((w.value(ANNA, LOG), w.value(BERT, LOG)), (json!(15), json!(15)), "cut after {at} ms");
        }
    }
}

#[test]
fn an_operation_that_one_store_has_accepted_keeps_its_date() {
    let mut w = world("counter", &[MEMORY, MEMORY], 2);
    w.stores[RENTED].skew = 600_000_000;
    w.set_clock(ANNA, 600);
    w.partition(ANNA, HOME);
    w.push(ANNA, LOG, &add(7));
    w.run_for(1_000);
    w.heal(ANNA, HOME);
    w.converged().unwrap();
    assert_eq!((w.value(BERT, LOG), w.counts.dated_again), (json!(7), 0));
}

#[test]
fn an_operation_that_others_have_read_keeps_its_date_even_when_its_store_has_lost_it() {
    for disk in [MEMORY, DISK] {
        let mut w = world("counter", &[disk, MEMORY], 2);
        w.stores[HOME].skew = 600_000_000;
        w.set_clock(ANNA, 600);
        w.partition(ANNA, RENTED);
        w.partition(BERT, RENTED);
        w.push(ANNA, LOG, &add(7));
        w.run_for(5_000);
        assert_eq!(w.value(BERT, LOG), json!(7));
        w.partition(BERT, HOME);
        w.restore(HOME, true);
        w.stores[HOME].full = true;
        w.run_for(5_000);
        if disk.is_some() {
            // Not even a restart makes the author forget it.
            w.crash(ANNA);
            w.restart(ANNA);
            w.open(ANNA, LOG);
            w.partition(ANNA, HOME);
        }
        w.heal(ANNA, RENTED);
        w.run_for(5_000);
        w.stores[HOME].full = false;
        w.heal(ANNA, HOME);
        (0..2).for_each(|store| w.heal(BERT, store));
        w.converged().unwrap();
        assert_eq!((w.value(ANNA, LOG), w.value(BERT, LOG), w.counts.dated_again), (json!(7), json!(7), 0));
    }
}

#[test]
fn a_remove_still_takes_out_what_was_dated_again() {
    let mut w = world("set", &[DISK, MEMORY], 1);
    w.set_clock(ANNA, 3_600);
    w.push(ANNA, LOG, &add(1));
    w.push(ANNA, LOG, &add(2));
    w.push(ANNA, LOG, &json!({ "remove": 1 }));
    assert_eq!(w.value(ANNA, LOG), json!([2]));
    w.converged().unwrap();
    assert_eq!((w.value(ANNA, LOG), w.value(BERT, LOG)), (json!([2]), json!([2])));
    assert_eq!(w.counts.dated_again, 3);
}

#[test]
fn a_remove_that_was_dated_again_takes_out_nothing_that_is_added_later() {
    let mut w = world("set", &[DISK, MEMORY], 1);
    w.set_clock(ANNA, 3_600);
    w.push(ANNA, LOG, &add(1));
    w.push(ANNA, LOG, &json!({ "remove": 1 }));
    w.drive().unwrap();
    w.push(ANNA, LOG, &add(1));
    assert_eq!(w.value(ANNA, LOG), json!([1]));
    w.drive().unwrap();
    assert_eq!((w.value(ANNA, LOG), w.value(BERT, LOG)), (json!([1]), json!([1])));
}

#[test]
fn an_element_of_a_list_is_removed_and_followed_under_its_new_name() {
    let mut w = world("list", &[DISK, MEMORY], 1);
    w.set_clock(ANNA, 3_600);
    ["a", "b"].into_iter().for_each(|text| _ = w.push(ANNA, LOG, &append(text)));
    w.push(ANNA, LOG, &json!({ "insert": [1, "between"] }));
    w.push(ANNA, LOG, &json!({ "remove": 0 }));
    assert_eq!(w.value(ANNA, LOG), json!(["between", "b"]));
    w.drive().unwrap();
    assert_eq!((w.value(ANNA, LOG), w.counts.dated_again), (json!(["between", "b"]), 4));
    assert_eq!(w.value(BERT, LOG), json!(["between", "b"]));
}

#[test]
fn dating_again_that_the_disk_refuses_doubles_nothing_after_a_crash() {
    let mut w = world("counter", &[DISK, MEMORY], 1);
    w.set_clock(ANNA, 3_600);
    w.push(ANNA, LOG, &add(4));
    // The disk has it before the store can answer; then it takes nothing more.
    w.run_for(25);
    w.fail_disk(ANNA, Fault::Full, 2);
    w.run_for(3_000);
    w.crash(ANNA);
    w.restart(ANNA);
    w.open(ANNA, LOG);
    w.converged().unwrap();
    assert_eq!((w.value(ANNA, LOG), w.value(BERT, LOG)), (json!(4), json!(4)));
}

#[test]
fn a_clock_that_is_put_back_delays_nothing() {
    let mut w = world("counter", &[MEMORY, MEMORY], 2);
    w.set_clock(ANNA, 100);
    w.stores[HOME].full = true;
    w.push(ANNA, LOG, &add(1));
    w.run_for(1_000);
    w.stores[HOME].full = false;
    w.set_clock(ANNA, -86_400);
    w.push(ANNA, LOG, &add(2));
    w.run_for(60_000);
    assert_eq!(queued(&w, ANNA), 0);
    w.converged().unwrap();
}
