//! Writes, devices and processes.

use std::collections::BTreeSet;

use gigfs_core::sync::{Mode, Standing};
use serde_json::json;

use super::script::{ANNA, BERT, DISK, HOME, LOG, MEMORY, RENTED, add, append, ops, queued, receipt, world};

#[test]
fn what_two_clients_write_offline_merges() {
    let mut w = world("concat", &[DISK, MEMORY], 1);
    w.set_mode(ANNA, Mode::Offline);
    w.set_mode(BERT, Mode::Offline);
    w.push(ANNA, LOG, &append("anna"));
    w.run_for(1_000);
    w.push(BERT, LOG, &append("bert"));
    w.set_mode(ANNA, Mode::Online);
    w.set_mode(BERT, Mode::Online);
    w.converged().unwrap();
    assert_eq!(w.value(ANNA, LOG), json!("anna bert "));
}

#[test]
fn a_refused_operation_does_not_block_those_behind_it() {
    let mut w = world("register", &[MEMORY, MEMORY], 1);
    w.set_clock(ANNA, 400);
    w.partition(ANNA, HOME);
    let ahead = w.push(ANNA, LOG, &json!({ "set": "w1" }));
    // Somebody else builds on it, so it keeps its date; the store refuses it for a while.
    w.stores[HOME].skew = 300_000_000;
    w.heal(ANNA, HOME);
    w.run_for(5_000);
    w.stores[HOME].skew = 0;
    w.set_clock(BERT, 0);
    let behind = w.push(BERT, LOG, &json!({ "set": "w2" }));
    w.run_for(2_000);
    assert_eq!(receipt(&w, ANNA, ahead).accepted(), 1);
    assert!(matches!(receipt(&w, BERT, behind).stores.values().next(), Some(Standing::Refused(_))));
    let later = w.push(BERT, LOG, &json!({ "set": "w3" }));
    w.converged().unwrap();
    assert_eq!(receipt(&w, BERT, later).accepted(), 1);
    assert_eq!(w.value(ANNA, LOG), json!("w3"));
}

#[test]
fn an_operation_is_sent_only_after_the_disk_has_it() {
    // The world itself checks each message; here the disk dies before it could answer.
    let mut w = world("counter", &[DISK, MEMORY], 1);
    w.push(ANNA, LOG, &add(1));
    w.crash(ANNA);
    w.restart(ANNA);
    w.open(ANNA, LOG);
    w.converged().unwrap();
    assert_eq!((ops(&w, ANNA), ops(&w, BERT)), (0, 0));
}

#[test]
fn what_was_durable_survives_a_crash_and_goes_out_after_it() {
    let mut w = world("counter", &[DISK, MEMORY], 2);
    w.partition(ANNA, HOME);
    w.partition(ANNA, RENTED);
    w.push(ANNA, LOG, &add(1));
    w.run_for(100);
    w.cut_power(ANNA);
    w.heal(ANNA, HOME);
    w.heal(ANNA, RENTED);
    w.restart(ANNA);
    w.open(ANNA, LOG);
    w.converged().unwrap();
    assert_eq!(w.value(BERT, LOG), json!(1));
}

#[test]
fn a_client_that_only_sends_takes_nothing_in() {
    let mut w = world("counter", &[MEMORY, MEMORY], 1);
    w.set_mode(ANNA, Mode::SendOnly);
    w.push(BERT, LOG, &add(1));
    w.push(ANNA, LOG, &add(2));
    w.drive().unwrap();
    assert_eq!((w.value(ANNA, LOG), w.value(BERT, LOG)), (json!(2), json!(3)));
    w.set_mode(ANNA, Mode::Online);
    w.converged().unwrap();
}

#[test]
fn what_was_written_offline_goes_out_in_whatever_mode_follows() {
    let mut w = world("counter", &[MEMORY, MEMORY], 1);
    // The machine goes offline and on before its streams are closed.
    for mode in [Mode::SendOnly, Mode::Online] {
        let replica = |mode| move |replica: &mut gigfs_core::sync::Replica, now| replica.set_mode(now, mode);
        w.with_replica(ANNA, replica(Mode::Offline));
        w.push(ANNA, LOG, &add(1));
        w.with_replica(ANNA, replica(mode));
        w.drive().unwrap();
        assert_eq!(queued(&w, ANNA), 0, "{mode:?}");
    }
}

#[test]
fn a_client_restarted_amid_a_thousand_offline_writes_brings_each_once() {
    let mut w = world("counter", &[DISK, MEMORY], 2);
    w.partition(ANNA, HOME);
    w.partition(ANNA, RENTED);
    w.run_for(1_000);
    for number in 1..=1_000 {
        w.push(ANNA, LOG, &add(number));
        w.run_for(1);
    }
    w.run_for(100);
    w.heal(ANNA, HOME);
    w.heal(ANNA, RENTED);
    while w.stores[HOME].ops(&w.logs[LOG]).is_empty() {
        w.run_for(1);
    }
    w.crash(ANNA);
    w.restart(ANNA);
    w.open(ANNA, LOG);
    w.converged().unwrap();
    assert_eq!((w.value(ANNA, LOG), w.value(BERT, LOG)), (json!(500_500), json!(500_500)));
    assert_eq!(w.stores.iter().map(|store| store.ops(&w.logs[LOG]).len()).collect::<Vec<_>>(), [1_000, 1_000]);
    // What was not answered before the crash is sent a second time to each store, and nothing a third time.
    let times: BTreeSet<u64> = w.clients[ANNA].sent.values().copied().collect();
    assert!(times.iter().all(|times| *times <= 4), "{times:?}");
}

#[test]
fn a_client_that_comes_back_reads_what_it_missed_and_not_the_whole_log() {
    let mut w = world("counter", &[DISK, MEMORY], 2);
    (1..=500).for_each(|number| _ = w.push(BERT, LOG, &add(number)));
    w.converged().unwrap();
    w.crash(ANNA);
    (501..=530).for_each(|number| _ = w.push(BERT, LOG, &add(number)));
    w.drive().unwrap();
    let before = w.clients[ANNA].ops_read;
    w.restart(ANNA);
    w.open(ANNA, LOG);
    w.converged().unwrap();
    let read = w.clients[ANNA].ops_read - before;
    assert!(read <= 60, "it read {read} operations; 30 came to each of two stores");
    w.returns_cheaply().unwrap();
}

#[test]
fn payloads_that_look_like_nothing_are_writes_like_any_other() {
    let mut w = world("raw", &[DISK, MEMORY], 2);
    let nothing = [json!(null), json!(false), json!(0), json!(""), json!([]), json!({})];
    nothing.iter().for_each(|payload| _ = w.push(ANNA, LOG, payload));
    w.converged().unwrap();
    assert_eq!((w.value(BERT, LOG), ops(&w, BERT)), (json!(nothing), 6));
}

#[test]
fn writes_within_one_microsecond_are_all_kept() {
    let mut w = world("counter", &[DISK, MEMORY, MEMORY], 2);
    for client in 0..3 {
        (1..=10).for_each(|number| _ = w.push(client, LOG, &add(10 * client as i64 + number)));
    }
    w.converged().unwrap();
    assert_eq!((w.value(BERT, LOG), ops(&w, BERT)), (json!(465), 30));
}

#[test]
fn a_log_that_was_compared_before_it_was_opened_misses_nothing() {
    let mut w = world("counter", &[MEMORY, MEMORY], 1);
    w.crash(BERT);
    w.restart(BERT);
    w.compare(BERT, LOG);
    w.drive().unwrap();
    w.push(ANNA, LOG, &add(1));
    w.drive().unwrap();
    assert_eq!(ops(&w, BERT), 0);
    w.open(BERT, LOG);
    w.converged().unwrap();
}

#[test]
fn two_processes_of_one_device_see_each_others_writes_without_a_network() {
    let mut w = world("counter", &[DISK, DISK], 1);
    w.partition(ANNA, HOME);
    w.partition(BERT, HOME);
    w.push(ANNA, LOG, &add(1));
    w.run_for(1_000);
    assert_eq!(w.value(BERT, LOG), json!(1));
    w.heal(BERT, HOME);
    w.run_for(10_000);
    assert_eq!(w.stores[HOME].ops(&w.logs[LOG]).len(), 1, "the other process brings it");
    w.heal(ANNA, HOME);
    w.converged().unwrap();
}
