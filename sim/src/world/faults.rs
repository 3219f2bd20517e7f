//! What goes wrong in a world: crashes, full disks, restored backups.

use std::collections::BTreeSet;

use gigfs_core::{Incarnation, LogName, Op, Sha};
use gigfs_storage::{Engine as _, Fault, Faulty};

use super::World;
use crate::{disk, payload};

impl World {
    /// Ends a client's process at once.
    pub fn crash(&mut self, client: usize) {
        self.lose_client(client);
        self.clients[client].end();
        self.forgive();
    }

    /// Cuts the power of a client's device: all of its processes end, and the disk keeps what was synced.
    pub fn cut_power(&mut self, client: usize) {
        let Some(disk) = self.clients[client].disk else { return self.crash(client) };
        for other in 0..self.clients.len() {
            if self.clients[other].disk == Some(disk) {
                self.crash(other);
            }
        }
        self.disks[disk].engine = self.disks[disk].engine.crash();
        self.forgive();
    }

    /// Ends a store's process at once. What it committed stays.
    pub fn crash_store(&mut self, store: usize) {
        // Somebody may have read what goes.
        self.restored |= self.stores[store].engine.is_unsynced();
        self.stores[store].crash();
        self.lose_store(store);
        self.forgive();
    }

    /// Starts a store's process.
    pub fn start_store(&mut self, store: usize) {
        self.stores[store].up = true;
    }

    /// Has every read of a store fail, or none any more.
    pub fn deny_reads(&mut self, store: usize, denied: bool) {
        self.stores[store].engine.deny_reads(denied);
        for channel in self.table.keys().cloned().collect::<Vec<_>>() {
            let messages = self.stores[store].tell_watchers(&self.user, &channel, None);
            messages.into_iter().for_each(|(to, message)| self.send_to_client(to, message));
        }
    }

    /// Has so many writes of a client's disk fail.
    pub fn fail_disk(&mut self, client: usize, fault: Fault, times: usize) {
        if let Some(disk) = self.clients[client].disk {
            self.disks[disk].engine.fail(std::iter::repeat_n(fault, times));
        }
    }

    /// Keeps a copy of a store's data.
    pub fn back_up(&mut self, store: usize) {
        let store = &mut self.stores[store];
        store.backup = Some(store.engine.restored(store.engine.incarnation()));
    }

    /// Puts a store's data back to what the copy holds, or to nothing if there is none. Whoever restores says so, and the
    /// data begins a new life, unless it happens `silently`. What nobody else has is lost with it.
    pub fn restore(&mut self, store: usize, silently: bool) {
        self.crash_store(store);
        let fresh = Incarnation::from_bytes(self.rng.id());
        let this = &mut self.stores[store];
        let incarnation = if silently { this.engine.incarnation() } else { fresh };
        this.engine = match &this.backup {
            Some(backup) => backup.restored(incarnation),
            None => gigfs_storage::Faulty::new(this.id(), incarnation),
        };
        this.up = true;
        self.lose_what_is_gone();
    }

    /// Keeps a copy of a client's device.
    pub fn back_up_device(&mut self, client: usize) {
        if let Some(disk) = self.clients[client].disk {
            let disk = &mut self.disks[disk];
            disk.backup = Some(disk.engine.restored(disk.engine.incarnation()));
        }
    }

    /// Puts a client's device back to what the copy holds. Its processes end; when they start again they write as new
    /// actors if the device has `noticed`, and otherwise as before, so that they use seqs a second time. Nothing happens if
    /// something that the copy holds was dated again since: the device would bring it a second time, and nobody can tell.
    pub fn restore_device(&mut self, client: usize, noticed: bool) {
        let Some(disk) = self.clients[client].disk else { return };
        let Some(backup) = &self.disks[disk].backup else { return };
        if self.logs.iter().any(|log| self.was_dated_again(log, backup)) {
            return;
        }
        let engine = backup.restored(self.disks[disk].engine.incarnation());
        for other in 0..self.clients.len() {
            if self.clients[other].disk == Some(disk) {
                self.crash(other);
                if noticed {
                    self.clients[other].actor = gigfs_core::ActorId::from_bytes(self.rng.id());
                }
            }
        }
        self.disks[disk].engine = engine;
        self.lose_what_is_gone();
    }

    /// Tells whether a write that an engine holds is known under another name, too, which the engine does not hold.
    fn was_dated_again(&self, log: &LogName, engine: &Faulty) -> bool {
        let held = disk::ops(engine, log);
        let ids: BTreeSet<u64> = held.iter().filter_map(|op| self.ledger.number(op)).collect();
        let held: BTreeSet<Sha> = held.iter().map(Op::sha).collect();
        let written = self.ledger.written(log);
        let again = |op: &Op| self.ledger.number(op).is_some_and(|id| ids.contains(&id)) && !held.contains(&op.sha());
        written.iter().any(again)
    }

    /// Has a store forget what it kept of what its bases cover: the grace period is over.
    pub fn forget_retained(&mut self, store: usize) {
        // A store whose disk fails keeps it a while longer.
        _ = self.stores[store].engine.forget_retained(gigfs_core::Date::saturating(u64::MAX), usize::MAX);
    }

    /// Takes note that something was lost that somebody said to have.
    pub(crate) fn lose_what_is_gone(&mut self) {
        self.restored = true;
        self.forgive();
    }

    /// No longer expects what nobody holds, if a store once lost what it had said to have: what it lost may have been with
    /// one client alone, or on a disk that has not synced it.
    fn forgive(&mut self) {
        if self.restored {
            let left = self.held();
            self.owed.retain(|id| left.contains(id));
        }
    }

    /// Returns the numbers of the writes that a client, a disk or a mounted store holds.
    pub(crate) fn held(&self) -> BTreeSet<u64> {
        let mut held = BTreeSet::new();
        for log in &self.logs {
            let covered = |base| {
                let covered = self.ledger.covered(base).into_iter();
                covered.filter_map(|sha| self.ledger.op(log, &sha).and_then(payload::write_id)).collect::<Vec<_>>()
            };
            for store in &self.table[&log.channel] {
                held.extend(self.stores[*store].ops(log).iter().filter_map(|op| self.ledger.number(op)));
                held.extend(covered(self.stores[*store].base(log)));
            }
            for disk in &self.disks {
                let kept = disk.read(log);
                held.extend(kept.ops.iter().filter_map(|op| self.ledger.number(op)));
                held.extend(covered(disk.base(log)));
            }
            for replica in self.clients.iter().filter_map(|client| client.replica.as_ref()) {
                held.extend(
                    replica.oplog(log).into_iter().flat_map(|oplog| oplog.iter().filter_map(payload::write_id)),
                );
                held.extend(covered(replica.base(log)));
            }
        }
        held
    }
}
