//! The worlds that break the simpler rules of pruning, as scripts. `docs/pruning.md` tells the rule.

use std::collections::BTreeSet;
use std::sync::Arc;

use gigfs_core::sync::{Mode, PruneHold, PrunePolicy, PushId, Standing};
use gigfs_core::{
    Author, BaseId, Date, ErrorCode, IntentError, Kind, LogName, Meta, Op, Oplog, PayloadError, Reduced, Reducer, Sha,
    StateError, TypeName,
};
use gigfs_sim::{Manners, Spec, World, write_id};
use gigfs_storage::{Append, Appended, Batch, Engine as _, Fault, pruning};
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
        manners: Manners { page: 7, echo: true, events_first: false },
        delay: 5_000,
        prune: PrunePolicy::OnDemand,
    }
}

/// Begins a world in which every client follows the log.
fn begin(spec: Spec) -> World {
    let clients = spec.clients.len();
    let mut w = World::new(spec);
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

/// Has a client prune the log, again if the table's answer is lost. Returns the base that the client has then.
fn prune(w: &mut World, client: usize) -> BaseId {
    let before = base(w, client);
    for _ in 0..5 {
        let hold = w.prune(client, LOG);
        assert!(hold.is_none(), "client {client} cannot prune: {hold:?}");
        w.run_for(10_000);
        match base(w, client) {
            Some(after) if Some(after) > before => {
                assert_eq!(w.registered(LOG), Some(after));
                return after;
            }
            _ => {}
        }
    }
    panic!("client {client} does not come to prune: {:?}", w.clients[client].holds);
}

/// Makes everything whole and checks it.
fn converge(w: &mut World) {
    w.heal_all();
    w.converged().unwrap();
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
    w.stores[store].engine.commit(&batch).unwrap().remove(0)
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
    // How many generations the second history has after the point at which it began, against one in the first.
    for generations in [1, 2] {
        let mut w = world("concat", &[DISK, MEMORY, OTHER_DISK], 1);
        say(&mut w, ANNA, 1);
        w.drive().unwrap();
        prune(&mut w, ANNA);
        w.back_up_table();
        w.back_up(HOME);
        away(&mut w, CARL);
        say(&mut w, ANNA, 2);
        w.run_for(10_000);
        prune(&mut w, ANNA);
        let first = base(&w, ANNA);
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
        let second = base(&w, CARL);
        assert_eq!((generation(first), generation(second)), (2, 1 + generations));
        back(&mut w, ANNA);
        back(&mut w, BERT);
        w.heal_all(); println!("{:?} first {first:?} second {second:?}", w.converged()); w.dump(); for c in 0..3 { let v = w.value(c, LOG); println!("{:?} {:?} {}", w.clients[c].conflicts, w.clients[c].suspicions, v); }
        converge(&mut w);
        let (kept, other) = if first > second { (first, second) } else { (second, first) };
        assert_eq!((base(&w, ANNA), base(&w, BERT), base(&w, CARL)), (kept, kept, kept));
        let copies: BTreeSet<_> = w.clients.iter().flat_map(|client| client.conflicts.clone()).collect();
        let other = other.unwrap();
        let path = format!("/log0.conflict-{}-{}", other.generation, &other.sha.to_string()[..8]);
        assert!(copies.iter().all(|(base, copy)| *base == other && copy.as_ref().unwrap().path.as_str() == path));
        let copy = copies.into_iter().find_map(|(_, copy)| copy).unwrap();
        w.logs.push(copy);
        converge(&mut w);
        let values = [w.value(BERT, LOG), w.value(BERT, COPY)];
        let (left, right) = (json!("w1 w2 "), json!(if generations == 1 { "w1 w3 " } else { "w1 w3 w4 " }));
        match Some(kept) == Some(first) {
            true => assert_eq!(values, [left, right]),
            false => assert_eq!(values, [right, left]),
        }
        // Both go on, and are pruned.
        say(&mut w, BERT, 7);
        w.push(ANNA, COPY, &json!({ "append": "w8" }));
        w.drive().unwrap();
        prune(&mut w, BERT);
        assert_eq!(w.prune(ANNA, COPY), None);
        converge(&mut w);
        assert_eq!(generation(w.registered(COPY)), 2);
    }
}
