//! What the scripts are written with: clients and stores by number, and one log.

use gigfs_core::Oplog;
use gigfs_core::sync::{PushId, Receipt};
use gigfs_sim::{Spec, World};
use serde_json::{Value, json};

use super::SEALED;

pub(crate) const MEMORY: Option<usize> = None;
pub(crate) const DISK: Option<usize> = Some(0);
pub(crate) const OTHER_DISK: Option<usize> = Some(1);

/// Clients and stores by number; the log is the only one.
pub(crate) const ANNA: usize = 0;
pub(crate) const BERT: usize = 1;
pub(crate) const HOME: usize = 0;
pub(crate) const RENTED: usize = 1;
pub(crate) const LOG: usize = 0;

/// Makes a world of one log, whose stores are all of its channel's.
pub(crate) fn world(kind: &'static str, clients: &[Option<usize>], stores: usize) -> World {
    let mut world = World::new(Spec::of_one_log(kind, clients, stores, SEALED));
    (0..clients.len()).for_each(|client| world.open(client, LOG));
    world.drive().expect("nothing has gone wrong yet");
    world
}

pub(crate) fn receipt(world: &World, client: usize, push: PushId) -> &Receipt {
    &world.clients[client].receipts[&push]
}

pub(crate) fn ops(world: &World, client: usize) -> usize {
    world.clients[client].replica.as_ref().and_then(|replica| replica.oplog(&world.logs[LOG])).map_or(0, Oplog::len)
}

pub(crate) fn queued(world: &World, client: usize) -> usize {
    world.clients[client].replica.as_ref().map_or(0, |replica| replica.queued(None))
}

pub(crate) fn add(number: i64) -> Value {
    json!({ "add": number })
}

pub(crate) fn append(text: &str) -> Value {
    json!({ "append": text })
}
