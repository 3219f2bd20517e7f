//! What the scripts are written with: clients and stores by number, and one log.

use gigfs_core::sync::{PruneHold, PushId, Standing};
use gigfs_core::{BaseId, LogName, Op, Oplog};
use gigfs_sim::{Spec, World};
use gigfs_storage::{Append, Appended, Batch, Engine as _};
use serde_json::json;

use super::SEALED;

pub(crate) const MEMORY: Option<usize> = None;
pub(crate) const DISK: Option<usize> = Some(0);
pub(crate) const OTHER_DISK: Option<usize> = Some(1);
pub(crate) const THIRD_DISK: Option<usize> = Some(2);

/// Clients and stores by number; the log is the only one, but for copies.
pub(crate) const ANNA: usize = 0;
pub(crate) const BERT: usize = 1;
pub(crate) const CARL: usize = 2;
pub(crate) const HOME: usize = 0;
pub(crate) const RENTED: usize = 1;
pub(crate) const LOG: usize = 0;
pub(crate) const COPY: usize = 1;
const GREETINGS: usize = 1;

/// A world of one log, all of whose stores are its channel's.
pub(crate) fn spec(kind: &'static str, clients: &[Option<usize>], stores: usize) -> Spec {
    let one = Spec::of_one_log(kind, clients, stores, SEALED);
    match SEALED {
        true => Spec { logs: vec![(0, kind), (0, "concat")], ..one },
        false => one,
    }
}

/// Begins a world in which every client follows the log.
pub(crate) fn begin(spec: Spec) -> World {
    let clients = spec.clients.len();
    let mut w = World::new(spec);
    w.table_loses = 0;
    let followed = if SEALED { &[LOG, GREETINGS][..] } else { &[LOG] };
    (0..clients).for_each(|client| followed.iter().for_each(|log| w.open(client, *log)));
    w.drive().expect("nothing has gone wrong yet");
    if SEALED {
        // Everybody is in the roster.
        let greeting = |client| json!({ "append": format!("w{}", 1_000_000 + client) });
        (0..clients).for_each(|client| _ = w.push(client, GREETINGS, &greeting(client)));
        w.drive().expect("nothing has gone wrong yet");
    }
    w
}

pub(crate) fn world(kind: &'static str, clients: &[Option<usize>], stores: usize) -> World {
    begin(spec(kind, clients, stores))
}

/// Writes a word with the number `id`.
pub(crate) fn say(w: &mut World, client: usize, id: u64) -> PushId {
    w.push(client, LOG, &json!({ "append": format!("w{id}") }))
}

/// Has a client propose a checkpoint of the log, once the stores have all that it has, the roster too.
pub(crate) fn propose(w: &mut World, client: usize) {
    let is_behind = |hold: &Option<PruneHold>| matches!(hold, Some(PruneHold::Behind { .. }));
    let mut hold = w.prune(client, LOG);
    for _ in 0..5 {
        if is_behind(&hold) {
            w.run_for(1_000);
            hold = w.prune(client, LOG);
        }
    }
    assert_eq!(hold, None);
}

/// Has a client prune the log, and returns the base that comes of it.
pub(crate) fn prune(w: &mut World, client: usize) -> BaseId {
    let before = w.registered(LOG);
    propose(w, client);
    w.run_for(10_000);
    let after = w.registered(LOG);
    assert!(after != before, "the register stands at {before:?}; {:?}", w.clients[client].holds);
    assert_eq!(base(w, client), after);
    after.expect("the register stands somewhere now")
}

/// Makes everything whole and checks it.
pub(crate) fn converge(w: &mut World) {
    w.heal_all();
    w.converged().expect("nothing is lost or doubled");
}

/// Takes a client off every store, so that what it writes stays with it.
pub(crate) fn away(w: &mut World, client: usize) {
    for store in 0..w.stores.len() {
        w.partition(client, store);
        w.cut(client, store, true);
    }
    w.run_for(2_000);
}

/// Lets a client reach every store again.
pub(crate) fn back(w: &mut World, client: usize) {
    (0..w.stores.len()).for_each(|store| w.heal(client, store));
}

pub(crate) fn name(w: &World) -> LogName {
    w.logs[LOG].clone()
}

pub(crate) fn oplog(w: &World, client: usize) -> &Oplog {
    w.clients[client].replica.as_ref().and_then(|replica| replica.oplog(&w.logs[LOG])).expect("the log is open")
}

pub(crate) fn written(w: &World, client: usize, id: u64) -> Op {
    oplog(w, client).iter().find(|op| w.number(op) == Some(id)).expect("the client holds the write").clone()
}

pub(crate) fn base(w: &World, client: usize) -> Option<BaseId> {
    w.clients[client].replica.as_ref().and_then(|replica| replica.base(&w.logs[LOG]))
}

/// Returns how many operations a client's base covers.
pub(crate) fn covered(w: &mut World, client: usize) -> u64 {
    let log = name(w);
    w.clients[client].replica.as_mut().and_then(|replica| replica.base_status(&log)).map_or(0, |status| status.covered)
}

/// Returns the numbers of the writes that a store holds beside its base.
pub(crate) fn live(w: &World, store: usize) -> Vec<Option<u64>> {
    w.stores[store].ops(&w.logs[LOG]).iter().map(|op| w.number(op)).collect()
}

pub(crate) fn generation(id: Option<BaseId>) -> u64 {
    id.map_or(0, |id| id.generation.get())
}

pub(crate) fn standing(w: &World, client: usize, push: PushId, store: usize) -> Standing {
    w.clients[client].receipts[&push].stores[&w.stores[store].id()].clone()
}

/// Has a store asked about an operation as a push would ask it.
pub(crate) fn ask(w: &World, store: usize, op: &Op) -> Appended {
    let append = Append::Op { log: w.logs[LOG].clone(), op: op.clone() };
    let batch = Batch { appends: vec![append], ..Batch::default() };
    w.stores[store].engine.commit(&batch).expect("the engine takes it").remove(0)
}

pub(crate) fn known(op: &Op) -> Appended {
    Appended::Covered { sha: op.sha() }
}

pub(crate) fn ops(w: &World, client: usize) -> usize {
    oplog(w, client).len()
}
