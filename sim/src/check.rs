//! What must hold of a world once everything is whole again and nothing is left to happen.

use std::collections::{BTreeMap, BTreeSet};

use gigfs_core::sync::Mode;
use gigfs_core::{BaseId, Checkpoint, Digest, LogName, Op, Oplog, Payload, Sha, json};
use gigfs_storage::Engine as _;

use crate::payload;
use crate::store::Store;
use crate::world::{Violation, World};

impl World {
    /// Makes everything whole: all processes run, all disks have room, the clients' clocks are right, everybody reaches everybody,
    /// and every client follows every log.
    pub fn heal_all(&mut self) {
        for client in 0..self.clients.len() {
            self.clients[client].skew = 0;
            if std::mem::take(&mut self.clients[client].keeps_table) {
                self.remount(client);
            }
            (0..self.stores.len()).for_each(|store| self.heal(client, store));
        }
        for store in &mut self.stores {
            (store.up, store.full) = (true, false);
        }
        self.table_down = false;
        self.release_table();
        (0..self.stores.len()).for_each(|store| self.deny_reads(store, false));
        for channel in 0..self.table.len() {
            // On this day at the latest, it meets a table.
            if self.table.values().nth(channel).is_some_and(BTreeSet::is_empty) {
                self.join(channel, 0);
            }
        }
        self.run_for(5_000);
        for client in 0..self.clients.len() {
            self.restart(client);
            self.set_mode(client, Mode::Online);
            (0..self.logs.len()).for_each(|log| self.open(client, log));
        }
    }

    /// Drives the world to rest and checks everything that must hold then.
    ///
    /// # Errors
    /// [`Violation`] says what does not.
    pub fn converged(&mut self) -> Result<(), Violation> {
        self.drive()?;
        for log in self.logs.clone() {
            self.check_log(&log)?;
        }
        (0..self.clients.len()).try_for_each(|client| self.check_client(client))?;
        self.ledger.copies().try_for_each(|copy| self.check_copy(copy))
    }

    /// Loses every stream once, and checks that clients which come back read next to nothing again.
    ///
    /// # Errors
    /// [`Violation`] says what does not hold.
    pub fn returns_cheaply(&mut self) -> Result<(), Violation> {
        let (read, pushed) = (self.counts.ops_read, self.counts.ops_pushed);
        let answers = |world: &Self| world.clients.iter().map(|client| client.answers_read).sum::<u64>();
        let answered = answers(self);
        for client in 0..self.clients.len() {
            (0..self.stores.len()).for_each(|store| self.cut(client, store, false));
        }
        self.converged()?;
        let (read, pushed) = (self.counts.ops_read - read, self.counts.ops_pushed - pushed);
        if (self.spec.manners.echo && read > 0) || pushed > 0 {
            return Err(Violation(format!("clients that came back read {read} and sent {pushed} operations again")));
        }
        let asked = answers(self) - answered;
        let settled = self.logs.iter().all(|log| !self.lists_are_lost(log)) && !self.has_lost_data();
        let remembered = self.stores.iter().all(Store::remembers);
        // Whoever made a copy of another history compares it with the stores each time, as nobody watches it.
        let copies: usize = self.clients.iter().map(|client| client.conflicts.len()).sum();
        let compared = (copies * self.stores.len()) as u64;
        if self.spec.manners.echo && remembered && settled && asked > compared {
            return Err(Violation(format!("clients that came back read {asked} logs that had not changed")));
        }
        Ok(())
    }

    fn check_log(&mut self, log: &LogName) -> Result<(), Violation> {
        let mut stands: BTreeMap<String, (Option<BaseId>, Digest)> = BTreeMap::new();
        let excused = self.excused(log);
        for store in &self.table[&log.channel] {
            let mut oplog: Oplog = self.stores[*store].ops(log).into_iter().collect();
            oplog.remove_all(&excused);
            if self.spec.sealed && oplog.iter().any(|op| matches!(op.payload(), Payload::Plain(_))) {
                return Err(Violation(format!("store {store} can read an operation of {log}")));
            }
            stands.insert(format!("store {store}"), (self.stores[*store].base(log), oplog.digest()));
        }
        let mut value: Option<Vec<u8>> = None;
        for client in 0..self.clients.len() {
            let Some(replica) = self.clients[client].replica.as_mut() else { continue };
            let shown = replica.value(log).map(|value| json::canonical(&value));
            let base = replica.base(log);
            let doubtful = replica.doubtful(log).map(gigfs_core::Op::sha).next();
            if let Some(sha) = doubtful {
                // Nobody can say any more, if a store lost the list and no other had it.
                if !self.lists_are_lost(log) {
                    return Err(Violation(format!("client {client} is left in doubt about {sha:?} of {log}")));
                }
            }
            if self.has_lost_data() && self.clients[client].replica.as_ref().is_some_and(|it| it.trouble(log).is_some())
            {
                // Nobody is left to vouch for the base: a store lost what the roster said of its author.
                continue;
            }
            let Some(replica) = self.clients[client].replica.as_ref() else { continue };
            let Some(oplog) = replica.oplog(log) else {
                return Err(Violation(format!("client {client} has not loaded {log}")));
            };
            stands.insert(format!("client {client}"), (base, oplog.digest()));
            self.check_oplog(client, log, base, oplog)?;
            let kind = &self.kinds[self.keys.kind(log)];
            let mut fresh = kind.fold();
            fresh.rebase(self.ledger.checkpoint(base).map(|base| self.keys.open(log, base, kind)).as_ref());
            oplog.iter().for_each(|op| fresh.inserted(oplog, op));
            let again = Some(json::canonical(&fresh.view(oplog)));
            if shown != again {
                return Err(Violation(format!("client {client} shows another value of {log} than a fresh fold of it")));
            }
            // Where nobody can say any more what is covered, some are in doubt about what others were told.
            if value.is_some() && value != shown && !self.lists_are_lost(log) {
                return Err(Violation(format!("client {client} shows another value of {log} than those before it")));
            }
            value = shown;
        }
        let mut distinct: Vec<_> = stands.values().copied().collect();
        distinct.dedup();
        if distinct.len() > 1 && !self.lists_are_lost(log) {
            return Err(Violation(format!("the replicas of {log} differ: {stands:?}")));
        }
        Ok(())
    }

    /// Checks that the copy of another history can be read at every store that has it.
    fn check_copy(&self, copy: &LogName) -> Result<(), Violation> {
        for store in &self.table[&copy.channel] {
            let base = self.stores[*store].engine.base(copy).unwrap_or_default();
            let base = base.and_then(|base| Checkpoint::from_trusted(&base.record).ok());
            if base.is_some_and(|base| !self.keys.can_open(copy, &base)) {
                return Err(Violation(format!("the copy {copy} at store {store} opens with nobody's keys")));
            }
        }
        Ok(())
    }

    /// Returns the operations for which nobody is left to vouch: a store lost what the roster said of their actor, which
    /// wrote on a device without a disk and is no more.
    fn excused(&self, log: &LogName) -> Vec<Sha> {
        if !self.has_lost_data() {
            return Vec::new();
        }
        let lives = |op: &Op| self.clients.iter().any(|client| client.actor == op.actor());
        let unproven = self.clients.iter().filter_map(|client| client.replica.as_ref());
        let unproven: BTreeSet<Sha> =
            unproven.flat_map(|replica| replica.unproven(log).map(|(op, _)| op.sha())).collect();
        let held = self.table[&log.channel].iter().flat_map(|store| self.stores[*store].ops(log));
        held.filter(|op| unproven.contains(&op.sha()) && !lives(op)).map(|op| op.sha()).collect()
    }

    /// Tells whether no store of a log's channel knows all that its base covers.
    fn lists_are_lost(&self, log: &LogName) -> bool {
        let complete = |store: &usize| self.stores[*store].is_complete(log);
        !self.table[&log.channel].iter().any(complete)
    }

    /// Checks that a log has no write twice, in its base or beside it, and each operation after all that it depends on.
    fn check_oplog(&self, client: usize, log: &LogName, base: Option<BaseId>, oplog: &Oplog) -> Result<(), Violation> {
        let covered = self.ledger.covered(base);
        if let Some(op) = oplog.iter().find(|op| covered.contains(&op.sha())) {
            return Err(Violation(format!(
                "client {client} folds {:?} of {log} on top of a base that has it",
                op.sha()
            )));
        }
        if let Some(why) = oplog.iter().find_map(|op| op.content().err()) {
            return Err(Violation(format!("client {client} cannot read an operation of {log}: {why}")));
        }
        let mut counted: BTreeMap<u64, u32> = BTreeMap::new();
        let below = covered.iter().filter_map(|sha| self.ledger.op(log, sha));
        below.chain(oplog.iter()).filter_map(payload::write_id).for_each(|id| *counted.entry(id).or_default() += 1);
        if let Some((id, times)) = counted.iter().find(|(_, times)| **times > 1) {
            return Err(Violation(format!("client {client} has write {id} of {log} {times} times")));
        }
        let late = |op: &&Op| op.deps().iter().filter_map(|dep| oplog.get(dep)).any(|dep| dep.key() >= op.key());
        if let Some(op) = oplog.iter().find(late) {
            return Err(Violation(format!(
                "client {client} replays {:?} of {log} before what it depends on",
                op.sha()
            )));
        }
        Ok(())
    }

    fn check_client(&mut self, client: usize) -> Result<(), Violation> {
        let mut missing = self.owed.clone();
        let Some(replica) = &self.clients[client].replica else { return Ok(()) };
        for log in &self.logs {
            let ops = replica.oplog(log).into_iter().flat_map(Oplog::iter);
            ops.chain(replica.doubtful(log)).filter_map(payload::write_id).for_each(|id| _ = missing.remove(&id));
            let mut below = self.ledger.covered(replica.base(log));
            below.extend(self.ledger.in_copies());
            let below = below.iter().filter_map(|sha| self.ledger.op(log, sha));
            below.filter_map(payload::write_id).for_each(|id| _ = missing.remove(&id));
        }
        // What some client holds in doubt, and nobody can tell about any more, stays with it.
        for log in self.logs.iter().filter(|log| self.lists_are_lost(log)) {
            let replicas = self.clients.iter().filter_map(|client| client.replica.as_ref());
            let doubtful = replicas.flat_map(|replica| replica.doubtful(log));
            doubtful.filter_map(payload::write_id).for_each(|id| _ = missing.remove(&id));
        }
        for log in &self.logs {
            let excused = self.excused(log);
            let excused = excused.iter().filter_map(|sha| self.ledger.op(log, sha));
            excused.filter_map(payload::write_id).for_each(|id| _ = missing.remove(&id));
        }
        if !missing.is_empty() {
            return Err(Violation(format!("client {client} does not have the writes {missing:?}")));
        }
        let in_doubt = self.logs.iter().any(|log| replica.doubtful(log).next().is_some());
        if in_doubt {
            // The check of the log has found that nobody can help.
            return Ok(());
        }
        if replica.queued(None) > 0 {
            return Err(Violation(format!("client {client} still has {} operations queued", replica.queued(None))));
        }
        let busy = |status: &gigfs_core::sync::LinkStatus| {
            status.up.is_none() || status.in_flight > 0 || !status.queued.is_empty() || !status.refused.is_empty()
        };
        if let Some(status) = replica.status().into_iter().find(busy) {
            return Err(Violation(format!("client {client} is not done with a store: {status:?}")));
        }
        for receipt in self.clients[client].receipts.values() {
            if receipt.accepted() != receipt.stores.len() {
                return Err(Violation(format!(
                    "client {client} has a receipt that is not accepted by all: {receipt:?}"
                )));
            }
            if replica.receipt(receipt.id).is_some() {
                return Err(Violation(format!("client {client} keeps a receipt that is done: {receipt:?}")));
            }
        }
        match replica.is_saved() {
            true => Ok(()),
            false => Err(Violation(format!("client {client} waits for its disk for ever"))),
        }
    }
}
