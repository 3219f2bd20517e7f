//! What must hold when things go wrong one at a time, as scripts.

use std::collections::BTreeSet;

use gigfs_core::sync::{Mode, PrunePolicy, PushId, Receipt, Standing};
use gigfs_core::{ErrorCode, Oplog};
use gigfs_sim::{Manners, Spec, World};
use gigfs_storage::Fault;
use serde_json::{Value, json};

const MEMORY: Option<usize> = None;
const DISK: Option<usize> = Some(0);
const OTHER_DISK: Option<usize> = Some(1);

/// Clients and stores by number; the log is the only one.
const ANNA: usize = 0;
const BERT: usize = 1;
const HOME: usize = 0;
const RENTED: usize = 1;
const LOG: usize = 0;

/// Makes a world of one log, whose stores are all of its channel's.
fn world(kind: &'static str, clients: &[Option<usize>], stores: usize) -> World {
    let spec = Spec {
        seed: 1,
        clients: clients.to_vec(),
        skews: vec![0; stores],
        channels: vec![(0..stores).collect::<BTreeSet<usize>>()],
        logs: vec![(0, kind)],
        manners: Manners { page: 7, echo: true, events_first: false, forgetful: false },
        delay: 5_000,
        prune: PrunePolicy::OnDemand,
        sealed: false,
    };
    let mut world = World::new(spec);
    (0..clients.len()).for_each(|client| world.open(client, LOG));
    world.drive().expect("nothing has gone wrong yet");
    world
}

fn receipt(world: &World, client: usize, push: PushId) -> &Receipt {
    &world.clients[client].receipts[&push]
}

fn ops(world: &World, client: usize) -> usize {
    world.clients[client].replica.as_ref().and_then(|replica| replica.oplog(&world.logs[LOG])).map_or(0, Oplog::len)
}

fn queued(world: &World, client: usize) -> usize {
    world.clients[client].replica.as_ref().map_or(0, |replica| replica.queued(None))
}

fn add(number: i64) -> Value {
    json!({ "add": number })
}

fn append(text: &str) -> Value {
    json!({ "append": text })
}

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
fn a_full_store_keeps_the_operation_queued_and_takes_it_later() {
    let mut w = world("counter", &[DISK, MEMORY], 2);
    w.stores[RENTED].full = true;
    let push = w.push(ANNA, LOG, &add(1));
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
