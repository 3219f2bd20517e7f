//! The worlds that break the simpler rules of pruning, as scripts. `docs/pruning.md` tells the rule.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;
use std::sync::Arc;

use gigfs_core::sync::{Mode, PruneHold, PrunePolicy, PushId, Standing};
use gigfs_core::{
    Author, BaseId, Date, ErrorCode, IntentError, Kind, LogName, Meta, Op, Oplog, PayloadError, Reduced, Reducer, Sha,
    StateError, TypeName,
};
use gigfs_sim::{Manners, Spec, World, write_id};
use gigfs_storage::{Append, Appended, Batch, Engine as _, pruning};
use serde_json::{Value, json};

const MEMORY: Option<usize> = None;
const DISK: Option<usize> = Some(0);
const OTHER_DISK: Option<usize> = Some(1);
const THIRD_DISK: Option<usize> = Some(2);

/// Clients and stores by number; the log is the only one, but for copies.
const ANNA: usize = 0;
const BERT: usize = 1;
const CARL: usize = 2;
const HOME: usize = 0;
const RENTED: usize = 1;
const LOG: usize = 0;
const COPY: usize = 1;

/// A world of one log, all of whose stores are its channel's.
fn spec(kind: &'static str, clients: &[Option<usize>], stores: usize) -> Spec {
    Spec {
        seed: 1,
        clients: clients.to_vec(),
        skews: vec![0; stores],
        channels: vec![(0..stores).collect::<BTreeSet<usize>>()],
        logs: vec![(0, kind)],
        manners: Manners { page: 7, echo: true, events_first: false, forgetful: false },
        delay: 5_000,
        prune: PrunePolicy::OnDemand,
        sealed: false,
    }
}

/// Begins a world in which every client follows the log.
fn begin(spec: Spec) -> World {
    let clients = spec.clients.len();
    let mut w = World::new(spec);
    w.table_loses = 0;
    (0..clients).for_each(|client| w.open(client, LOG));
    w.drive().expect("nothing has gone wrong yet");
    w
}

fn world(kind: &'static str, clients: &[Option<usize>], stores: usize) -> World {
    begin(spec(kind, clients, stores))
}

/// Writes a word with the number `id`.
fn say(w: &mut World, client: usize, id: u64) -> PushId {
    w.push(client, LOG, &json!({ "append": format!("w{id}") }))
}

/// Has a client prune the log, and returns the base that comes of it.
fn prune(w: &mut World, client: usize) -> BaseId {
    let before = w.registered(LOG);
    assert_eq!(w.prune(client, LOG), None);
    w.run_for(10_000);
    let after = w.registered(LOG);
    assert!(after != before, "the register stands at {before:?}; {:?}", w.clients[client].holds);
    assert_eq!(base(w, client), after);
    after.expect("the register stands somewhere now")
}

/// Makes everything whole and checks it.
fn converge(w: &mut World) {
    w.heal_all();
    w.converged().expect("nothing is lost or doubled");
}

/// Takes a client off every store, so that what it writes stays with it.
fn away(w: &mut World, client: usize) {
    for store in 0..w.stores.len() {
        w.partition(client, store);
        w.cut(client, store, true);
    }
    w.run_for(2_000);
}

/// Lets a client reach every store again.
fn back(w: &mut World, client: usize) {
    (0..w.stores.len()).for_each(|store| w.heal(client, store));
}

fn name(w: &World) -> LogName {
    w.logs[LOG].clone()
}

fn oplog(w: &World, client: usize) -> &Oplog {
    w.clients[client].replica.as_ref().and_then(|replica| replica.oplog(&w.logs[LOG])).expect("the log is open")
}

fn written(w: &World, client: usize, id: u64) -> Op {
    oplog(w, client).iter().find(|op| write_id(op) == Some(id)).expect("the client holds the write").clone()
}

fn base(w: &World, client: usize) -> Option<BaseId> {
    w.clients[client].replica.as_ref().and_then(|replica| replica.base(&w.logs[LOG]))
}

/// Returns how many operations a client's base covers.
fn covered(w: &mut World, client: usize) -> u64 {
    let log = name(w);
    w.clients[client].replica.as_mut().and_then(|replica| replica.base_status(&log)).map_or(0, |status| status.covered)
}

/// Returns the numbers of the writes that a store holds beside its base.
fn live(w: &World, store: usize) -> Vec<Option<u64>> {
    w.stores[store].ops(&w.logs[LOG]).iter().map(write_id).collect()
}

fn generation(id: Option<BaseId>) -> u64 {
    id.map_or(0, |id| id.generation.get())
}

fn standing(w: &World, client: usize, push: PushId, store: usize) -> Standing {
    w.clients[client].receipts[&push].stores[&w.stores[store].id()].clone()
}

/// Has a store asked about an operation as a push would ask it.
fn ask(w: &World, store: usize, op: &Op) -> Appended {
    let append = Append::Op { log: w.logs[LOG].clone(), op: op.clone() };
    let batch = Batch { appends: vec![append], ..Batch::default() };
    w.stores[store].engine.commit(&batch).expect("the engine takes it").remove(0)
}

// (a)

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

// (b)

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
        assert_eq!(w.prune(ANNA, LOG), None);
        w.run_for(1_000);
        say(&mut w, CARL, 2);
        w.run_for(2_000);
        assert_eq!((w.prune(BERT, LOG), covered(&mut w, BERT)), (None, 0));
        w.run_for(1_000);
        converge(&mut w);
        assert_eq!((w.counts.committed, base(&w, ANNA)), (1, base(&w, BERT)));
        assert_eq!((w.value(ANNA, LOG), w.value(BERT, LOG)), (json!("w1 w2 "), json!("w1 w2 ")));
        assert_eq!(covered(&mut w, CARL) as usize + ops(&w, CARL), 2);
        overtaken += u32::from(covered(&mut w, CARL) == 1);
    }
    assert!((1..12).contains(&overtaken), "the smaller one wins sometimes: {overtaken}");
}

// (c)

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

// (d)

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

fn known(op: &Op) -> Appended {
    Appended::Covered { sha: op.sha() }
}

// (e)

#[test]
fn a_store_that_joins_after_the_prune_gets_the_base_the_list_and_late_operations() {
    for forgotten in [true, false] {
        let mut w = begin(Spec { channels: vec![[HOME].into()], ..spec("concat", &[DISK, MEMORY, OTHER_DISK], 2) });
        (1..=9).for_each(|id| _ = say(&mut w, BERT, id));
        w.drive().unwrap();
        let early = written(&w, BERT, 4);
        away(&mut w, CARL);
        say(&mut w, CARL, 10);
        w.run_for(1_000);
        let at = prune(&mut w, ANNA);
        say(&mut w, BERT, 11);
        w.run_for(10_000);
        if forgotten {
            w.forget_retained(HOME);
        }
        w.join(0, RENTED);
        w.run_for(10_000);
        assert!(w.stores[RENTED].is_complete(&name(&w)));
        assert_eq!(ask(&w, RENTED, &early), known(&early));
        back(&mut w, CARL);
        converge(&mut w);
        assert_eq!(w.stores[RENTED].base(&name(&w)), Some(at));
        assert_eq!(w.stores[RENTED].covered(&name(&w)), w.stores[HOME].covered(&name(&w)));
        assert_eq!(live(&w, RENTED).into_iter().collect::<BTreeSet<_>>(), [Some(10), Some(11)].into());
        prune(&mut w, CARL);
        converge(&mut w);
        assert_eq!((covered(&mut w, ANNA), live(&w, RENTED)), (11, vec![]));
    }
}

#[test]
fn a_client_that_never_heard_of_the_prune_is_told_covered_by_a_store_that_never_saw_the_operation() {
    let mut w = begin(Spec { delay: 50_000, ..spec("concat", &[DISK, MEMORY], 1) });
    let push = say(&mut w, ANNA, 1);
    while w.stores[HOME].ops(&name(&w)).is_empty() {
        w.run_for(1);
    }
    // The answer is lost, and the client only sends from now on.
    away(&mut w, ANNA);
    assert_eq!(standing(&w, ANNA, push, HOME), Standing::Queued);
    prune(&mut w, BERT);
    w.set_mode(ANNA, Mode::SendOnly);
    back(&mut w, ANNA);
    w.run_for(30_000);
    assert_eq!(standing(&w, ANNA, push, HOME), Standing::Covered);
    w.set_mode(ANNA, Mode::Online);
    converge(&mut w);
    assert_eq!((w.value(ANNA, LOG), ops(&w, ANNA)), (json!("w1 "), 0));
}

fn ops(w: &World, client: usize) -> usize {
    oplog(w, client).len()
}

// (f)

#[test]
fn a_store_restored_from_an_old_backup_is_brought_forward_even_if_it_is_the_only_one() {
    for stores in [1, 2] {
        for generations in 0..=2 {
            for silently in [true, false] {
                let mut w = world("concat", &[DISK, MEMORY], stores);
                if generations == 0 {
                    w.back_up(HOME);
                }
                for round in 1..=3 {
                    say(&mut w, ANNA, 10 * round + 1);
                    say(&mut w, ANNA, 10 * round + 2);
                    w.drive().unwrap();
                    if round == 3 {
                        break;
                    }
                    if round == generations {
                        // Before it has the base of this round, but with what the base covers.
                        w.back_up(HOME);
                    }
                    prune(&mut w, if round == 1 { ANNA } else { BERT });
                }
                let (at, expected) = (w.registered(LOG), json!("w11 w12 w21 w22 w31 w32 "));
                w.restore(HOME, silently);
                assert!(w.stores[HOME].base(&name(&w)) < at);
                converge(&mut w);
                assert_eq!((w.value(ANNA, LOG), w.value(BERT, LOG)), (expected.clone(), expected.clone()));
                assert_eq!((w.stores[HOME].base(&name(&w)), covered(&mut w, BERT)), (at, 4));
                assert!(w.stores[HOME].is_complete(&name(&w)));
                assert_eq!(live(&w, HOME).into_iter().collect::<BTreeSet<_>>(), [Some(31), Some(32)].into());
                prune(&mut w, BERT);
                converge(&mut w);
                assert_eq!((w.value(ANNA, LOG), covered(&mut w, ANNA)), (expected, 6));
            }
        }
    }
}

#[test]
fn a_store_whose_list_nobody_has_any_more_holds_pruning_and_nothing_else() {
    let mut w = world("concat", &[MEMORY, MEMORY], 1);
    w.back_up(HOME);
    say(&mut w, ANNA, 1);
    say(&mut w, BERT, 2);
    w.drive().unwrap();
    prune(&mut w, ANNA);
    // A client that began later knows the base and not the list; it is the only one that is left.
    w.crash(ANNA);
    w.crash(BERT);
    w.restart(BERT);
    w.open(BERT, LOG);
    w.drive().unwrap();
    w.restore(HOME, false);
    w.drive().unwrap();
    say(&mut w, BERT, 3);
    converge(&mut w);
    assert!(!w.stores[HOME].is_complete(&name(&w)));
    assert!(matches!(w.prune(BERT, LOG), Some(PruneHold::NoList { .. })));
    assert_eq!((covered(&mut w, BERT), ops(&w, ANNA), ops(&w, BERT)), (2, 1, 1));
}

// (g)

#[test]
fn a_swap_of_stores_loses_nothing_that_a_client_with_the_old_table_was_acknowledged() {
    let mut w = begin(Spec { channels: vec![[HOME].into()], ..spec("concat", &[DISK, MEMORY], 2) });
    say(&mut w, BERT, 1);
    w.drive().unwrap();
    prune(&mut w, BERT);
    w.clients[ANNA].keeps_table = true;
    w.join(0, RENTED);
    w.run_for(10_000);
    let before = say(&mut w, ANNA, 2);
    while w.clients[ANNA].receipts[&before].accepted() == 0 {
        w.run_for(1);
    }
    w.leave(0, HOME);
    // The old table says that the sealed store is the channel's.
    let after = say(&mut w, ANNA, 3);
    w.run_for(10_000);
    let refused = standing(&w, ANNA, after, HOME);
    assert!(matches!(&refused, Standing::Refused(refusal) if refusal.code == ErrorCode::Sealed), "{refused:?}");
    assert_eq!(w.value(BERT, LOG), json!("w1 w2 "));
    // Meanwhile the log is pruned without the old store.
    prune(&mut w, BERT);
    assert_eq!((covered(&mut w, BERT), live(&w, RENTED)), (2, vec![]));
    converge(&mut w);
    assert_eq!((w.value(ANNA, LOG), w.value(BERT, LOG)), (json!("w1 w2 w3 "), json!("w1 w2 w3 ")));
    assert_eq!((live(&w, RENTED), covered(&mut w, ANNA)), (vec![Some(3)], 2));
}

#[test]
fn a_checkpoint_acknowledged_by_a_sealed_store_alone_is_not_committed() {
    let mut w = begin(Spec { channels: vec![[HOME].into()], ..spec("concat", &[DISK, MEMORY], 2) });
    say(&mut w, ANNA, 1);
    w.drive().unwrap();
    w.clients[ANNA].keeps_table = true;
    w.join(0, RENTED);
    w.run_for(10_000);
    w.leave(0, HOME);
    w.run_for(10_000);
    assert_eq!(w.prune(ANNA, LOG), None);
    w.run_for(10_000);
    let held = &w.clients[ANNA].holds.last().unwrap().1;
    assert!(matches!(held, PruneHold::NotCommitted { refusal } if refusal.code == ErrorCode::MissingOps), "{held:?}");
    assert_eq!((w.registered(LOG), w.counts.committed), (None, 0));
    converge(&mut w);
    prune(&mut w, ANNA);
    converge(&mut w);
    assert_eq!(w.value(BERT, LOG), json!("w1 "));
}

// (h)

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

// (i)

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

// (j)

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
#[ignore = "the state that the copy is to begin with is kept in memory alone until every store has acknowledged it"]
fn a_conflict_copy_is_made_though_the_client_crashes_before_every_store_can_be_asked() {
    let mut w = diverged(2);
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
    w.logs.push(copy);
    converge(&mut w);
    assert_eq!(w.value(CARL, COPY), json!("w1 w2 "));
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

/// Has a table and its store restored together after a generation that Anna and Bert keep, while Carl, who never saw it,
/// makes so many others.
fn diverged(generations: u64) -> World {
    let mut w = world("concat", &[DISK, MEMORY, OTHER_DISK], 1);
    say(&mut w, ANNA, 1);
    w.drive().expect("nothing has gone wrong yet");
    prune(&mut w, ANNA);
    w.back_up_table();
    w.back_up(HOME);
    away(&mut w, CARL);
    say(&mut w, ANNA, 2);
    w.run_for(10_000);
    prune(&mut w, ANNA);
    away(&mut w, ANNA);
    away(&mut w, BERT);
    w.restore(HOME, true);
    w.restore_table();
    back(&mut w, CARL);
    w.run_for(10_000);
    for id in 3..3 + generations {
        say(&mut w, CARL, id);
        w.run_for(10_000);
        prune(&mut w, CARL);
    }
    w
}

fn two_histories(generations: u64) {
    let mut w = diverged(generations);
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
    assert!(
        copies
            .iter()
            .all(|(base, copy)| *base == other && copy.as_ref().expect("its name is short").path.as_str() == path)
    );
    let copy = copies.into_iter().find_map(|(_, copy)| copy).expect("there is a copy");
    w.logs.push(copy);
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

// (k)

/// Words one behind the other, as `concat` folds them; from version 2 on the state begins with their count.
struct Words {
    version: u32,
    separator: char,
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Word {
    append: String,
}

impl Words {
    fn kind(version: u32, separator: char) -> Arc<dyn Kind> {
        Arc::new(Reduced::new(Self { version, separator }))
    }
}

impl Reducer for Words {
    type Intent = Word;
    type Payload = Word;
    type State = (u64, String);

    fn name(&self) -> &str {
        "concat"
    }

    fn version(&self) -> u32 {
        self.version
    }

    fn initial(&self) -> (u64, String) {
        (0, String::new())
    }

    fn prepare(&self, _: &(u64, String), intent: Word, _: &Author) -> Result<Word, IntentError> {
        Ok(intent)
    }

    fn apply(&self, state: &mut (u64, String), payload: Word, _: &Meta) -> Result<(), PayloadError> {
        state.0 += 1;
        state.1.push_str(&payload.append);
        state.1.push(self.separator);
        Ok(())
    }

    fn view(&self, state: &(u64, String)) -> Value {
        json!(state.1)
    }

    fn encode_state(&self, (count, words): &(u64, String)) -> Vec<u8> {
        match self.version {
            1 => words.clone().into_bytes(),
            _ => format!("{count}:{words}").into_bytes(),
        }
    }

    fn decode_state(&self, bytes: &[u8]) -> Result<(u64, String), StateError> {
        self.decode_state_of(self.version, bytes)
    }

    fn decode_state_of(&self, version: u32, bytes: &[u8]) -> Result<(u64, String), StateError> {
        let text = String::from_utf8(bytes.to_vec()).map_err(|error| StateError(error.to_string()))?;
        if version == 1 {
            return Ok((text.matches(self.separator).count() as u64, text));
        }
        let (count, words) = text.split_once(':').ok_or_else(|| StateError("there is no count".into()))?;
        let count = count.parse().map_err(|_| StateError("the count is no number".into()))?;
        Ok((count, words.to_owned()))
    }
}

fn concat() -> TypeName {
    TypeName::parse("concat").expect("the name is well formed")
}

#[test]
fn a_client_with_an_older_reducer_takes_part_but_does_not_prune_until_it_is_upgraded() {
    let mut w = world("concat", &[DISK, OTHER_DISK], 2);
    say(&mut w, ANNA, 1);
    w.drive().unwrap();
    prune(&mut w, BERT);
    // Version 2 reads the state of version 1, and goes on from it.
    w.equip(ANNA, &concat(), &Words::kind(2, ' '));
    w.judge_by(&concat(), &Words::kind(2, ' '));
    assert_eq!(w.value(ANNA, LOG), json!("w1 "));
    // Before it meets the new base, the old client notices nothing.
    away(&mut w, BERT);
    say(&mut w, BERT, 2);
    say(&mut w, ANNA, 3);
    w.run_for(10_000);
    prune(&mut w, ANNA);
    back(&mut w, BERT);
    w.drive().unwrap();
    let log = name(&w);
    let trouble = w.clients[BERT].replica.as_ref().unwrap().trouble(&log).unwrap().to_owned();
    assert!(trouble.contains("version 2"), "{trouble}");
    assert_eq!((base(&w, BERT), ops(&w, BERT)), (base(&w, ANNA), 1));
    assert_eq!(w.value(ANNA, LOG), json!("w1 w3 w2 "), "what the old client wrote is here");
    assert!(matches!(w.prune(BERT, LOG), Some(PruneHold::NoState { .. })));
    // It still reads what others write, keeps it, and brings it to stores that they do not reach.
    w.partition(ANNA, RENTED);
    say(&mut w, ANNA, 4);
    w.run_for(20_000);
    assert_eq!((live(&w, RENTED), ops(&w, BERT)), (vec![Some(2), Some(4)], 2));
    w.restore(RENTED, false);
    w.run_for(20_000);
    assert_eq!((w.stores[RENTED].base(&log), w.stores[RENTED].is_complete(&log)), (base(&w, ANNA), true));
    w.heal(ANNA, RENTED);
    w.equip(BERT, &concat(), &Words::kind(2, ' '));
    converge(&mut w);
    assert_eq!(w.value(BERT, LOG), json!("w1 w3 w2 w4 "));
    prune(&mut w, BERT);
    converge(&mut w);
    assert_eq!((w.value(ANNA, LOG), covered(&mut w, ANNA)), (json!("w1 w3 w2 w4 "), 4));
}

// (l)

/// Makes a world in which Bert, who folds wrongly, has pruned the log.
fn poisoned(stores: usize) -> World {
    let mut w = world("concat", &[DISK, OTHER_DISK, MEMORY], stores);
    w.any_state = true;
    w.equip(BERT, &concat(), &Words::kind(1, '?'));
    (1..=3).for_each(|id| _ = say(&mut w, ANNA, id));
    w.drive().expect("nothing has gone wrong yet");
    prune(&mut w, BERT);
    w.drive().expect("nothing has gone wrong yet");
    assert_eq!((w.value(ANNA, LOG), base(&w, ANNA)), (json!("w1?w2?w3?"), w.registered(LOG)));
    w
}

#[test]
fn a_wrong_state_is_found_by_others_and_undone_while_what_it_was_made_of_is_kept() {
    for stores in [1, 2] {
        let mut w = poisoned(stores);
        let log = name(&w);
        assert_eq!(w.clients[ANNA].disputes, [(log.clone(), w.registered(LOG).unwrap())]);
        assert!(w.stores.iter().all(|store| store.is_disputed(&log)));
        // Everybody still writes and reads, and nobody prunes.
        say(&mut w, CARL, 4);
        w.drive().unwrap();
        for client in [ANNA, BERT, CARL] {
            assert_eq!(w.prune(client, LOG), Some(PruneHold::Disputed));
        }
        assert_eq!(w.repair(ANNA, LOG), None);
        w.drive().unwrap();
        assert_eq!((generation(w.registered(LOG)), covered(&mut w, ANNA)), (2, 3));
        assert!(w.stores.iter().all(|store| !store.is_disputed(&log)));
        assert_eq!((w.value(ANNA, LOG), w.value(CARL, LOG)), (json!("w1 w2 w3 w4 "), json!("w1 w2 w3 w4 ")));
        // Once the wrong client is right, all is as it should be, and pruning goes on.
        w.equip(BERT, &concat(), &Words::kind(1, ' '));
        converge(&mut w);
        w.any_state = false;
        prune(&mut w, BERT);
        converge(&mut w);
        assert_eq!((w.value(ANNA, LOG), covered(&mut w, ANNA)), (json!("w1 w2 w3 w4 "), 4));
    }
}

#[test]
fn what_a_disputed_base_was_made_of_is_kept_beyond_the_grace_period() {
    let mut w = poisoned(2);
    w.forget_retained(HOME);
    w.forget_retained(RENTED);
    assert_eq!(w.repair(ANNA, LOG), None);
    w.drive().unwrap();
    assert_eq!((generation(w.registered(LOG)), w.value(CARL, LOG)), (2, json!("w1 w2 w3 ")));
    w.equip(BERT, &concat(), &Words::kind(1, ' '));
    converge(&mut w);
}

#[test]
fn a_wrong_state_that_nobody_found_in_time_cannot_be_undone() {
    let mut w = world("concat", &[DISK, OTHER_DISK], 2);
    w.any_state = true;
    w.equip(BERT, &concat(), &Words::kind(1, '?'));
    away(&mut w, ANNA);
    say(&mut w, BERT, 1);
    say(&mut w, BERT, 2);
    w.run_for(10_000);
    prune(&mut w, BERT);
    back(&mut w, ANNA);
    w.drive().unwrap();
    // Who did not hold the operations cannot know.
    assert_eq!((w.counts.disputes, w.value(ANNA, LOG)), (0, json!("w1?w2?")));
    w.forget_retained(HOME);
    w.forget_retained(RENTED);
    assert_eq!(w.repair(ANNA, LOG), None);
    w.drive().unwrap();
    assert_eq!(w.clients[ANNA].holds.last().unwrap().1, PruneHold::NotKept);
    assert_eq!(generation(w.registered(LOG)), 1);
    // The log goes on.
    w.equip(BERT, &concat(), &Words::kind(1, ' '));
    say(&mut w, ANNA, 3);
    converge(&mut w);
    assert_eq!(w.value(BERT, LOG), json!("w1?w2?w3 "));
}

#[test]
fn a_right_state_needs_no_repair() {
    let mut w = world("concat", &[DISK, MEMORY], 1);
    say(&mut w, ANNA, 1);
    w.drive().unwrap();
    prune(&mut w, ANNA);
    assert_eq!(w.repair(BERT, LOG), None);
    w.drive().unwrap();
    assert_eq!(w.clients[BERT].holds.last().unwrap().1, PruneHold::NothingToRepair);
}

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
    assert_eq!((client.ops_read - ops_before, client.answers_read - answers_before), (0, 1));
    assert!(w.stores[HOME].engine.base(&name(&w)).unwrap().unwrap().record.len() < 1_000);
}
