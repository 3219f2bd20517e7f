//! What the shell around a replica does: hands out what it decides, wakes it, and uses its disk.

use std::collections::BTreeMap;

use gigfs_core::sync::{Config, Event as SyncEvent, Notice, Origin, Output, PersistId, Record, Replica};
use gigfs_core::wire::{ClientMessage, Which};
use gigfs_core::{Date, LogName, Op};
use gigfs_storage::{Appended, Engine as _, Page};

use super::{Event, World};
use crate::client::Job;
use crate::disk;

impl World {
    /// Calls into a client's replica, if it runs, and hands out what it decided.
    pub(crate) fn act<T>(&mut self, client: usize, call: impl FnOnce(&mut Replica, Date) -> T) -> Option<T> {
        let now = self.clock_of(client);
        let replica = self.clients[client].replica.as_mut()?;
        let result = call(replica, now);
        let mut outputs = Vec::new();
        while let Some(output) = replica.poll() {
            outputs.push(output);
        }
        for output in outputs {
            self.hand_out(client, output);
        }
        self.plan_tick(client, now);
        Some(result)
    }

    fn plan_tick(&mut self, client: usize, now: Date) {
        let this = &mut self.clients[client];
        let wake_at = this.replica.as_ref().and_then(Replica::wake_at);
        let at = wake_at.map(|wake_at| self.now + wake_at.since(now).max(1));
        // One that is planned earlier does no harm, but it would keep the world from coming to rest.
        if this.tick_at != at {
            this.tick_at = at;
            if let Some(at) = at {
                self.plan_at(at, Event::Tick { client, at });
            }
        }
    }

    fn hand_out(&mut self, client: usize, output: Output) {
        match output {
            Output::Load(log) => self.queue_job(client, Job::Load(log)),
            Output::Persist { id, records } => self.queue_job(client, Job::Persist { id, records }),
            Output::Send { link, message } => {
                self.check_sent(client, &message, &link.channel);
                self.send_to_store(client, &link, message);
            }
            Output::Commit { log, proposal } => self.ask_table(client, log, proposal),
            Output::List { log } => self.queue_job(client, Job::List(log)),
            Output::Notify(notice) => self.notice(client, notice),
        }
    }

    /// Checks that what is sent may be sent.
    fn check_sent(&mut self, client: usize, message: &ClientMessage, channel: &gigfs_core::ChannelName) {
        let mode = self.clients[client].mode;
        match message {
            ClientMessage::Push { log, ops, .. } => {
                self.counts.ops_pushed += ops.len() as u64;
                let name = log.log(&self.user, channel);
                for op in ops.iter().filter_map(|op| op.open(&name).ok()) {
                    let this = &mut self.clients[client];
                    *this.sent.entry(op.sha()).or_default() += 1;
                    if this.disk.is_some() && this.unanswered.contains(&op.sha()) {
                        self.break_law(format!("client {client} sent {:?} before its disk had it", op.sha()));
                    }
                }
            }
            ClientMessage::Checkpoint { log, sha, record, .. } => {
                let name = log.log(&self.user, channel);
                let oplog = self.clients[client].replica.as_ref().and_then(|replica| replica.oplog(&name));
                if let Some(oplog) = oplog {
                    self.ledger.propose(&name, *sha, record, oplog);
                }
            }
            ClientMessage::Get { .. }
            | ClientMessage::Inventory { which: Which::Live, .. }
            | ClientMessage::Watch { .. }
                if !mode.receives() =>
            {
                self.break_law(format!("client {client} asked to read while it only sends"));
            }
            _ => {}
        }
    }

    fn notice(&mut self, client: usize, notice: Notice) {
        let this = &mut self.clients[client];
        match notice {
            Notice::Receipt(receipt) => {
                let sha = receipt.sha;
                if receipt.local_error.is_some() {
                    this.unanswered.remove(&sha);
                }
                let before = this.receipts.insert(receipt.id, receipt);
                self.counts.dated_again += u64::from(before.is_some_and(|before| before.sha != sha));
            }
            Notice::Suspicion { link, what, .. } => {
                this.suspicions.push((link, what));
                self.counts.suspicions += 1;
            }
            Notice::Changed { log, origin: Origin::Here, ops } => {
                this.unanswered.extend(ops.iter().map(Op::sha));
                self.ledger.note(&log, ops);
            }
            Notice::Conflict { base, copy, .. } => {
                this.conflicts.push((base, copy.clone()));
                if let Some(copy) = &copy
                    && let Some(clear) = this.replica.as_ref().and_then(|replica| replica.clear_name(copy))
                {
                    self.keys.learn(copy, clear);
                }
                self.ledger.copied(base, copy);
            }
            Notice::Disputed { log, base } => {
                this.disputes.push((log, base));
                self.counts.disputes += 1;
            }
            Notice::NotPruned { log, hold } => this.holds.push((log, hold)),
            Notice::Pruned { .. } => self.counts.pruned += 1,
            Notice::Changed { origin: Origin::Store(_), ops, .. }
                if !this.mode.receives() && !ops.iter().all(|op| this.sent.contains_key(&op.sha())) =>
            {
                self.break_law(format!("client {client} took operations in while it only sends"));
            }
            Notice::Changed { .. } | Notice::Read { .. } | Notice::Link { .. } => {}
            Notice::Resumed { .. } => self.counts.resumed += 1,
            Notice::Drained { .. } => {}
        }
    }

    fn queue_job(&mut self, client: usize, job: Job) {
        let life = self.clients[client].life;
        if self.clients[client].jobs.is_empty() {
            let after = self.rng.between(100, 20_000);
            self.plan(after, Event::Disk { client, life });
        }
        self.clients[client].jobs.push_back(job);
    }

    /// Does the first job.
    pub(super) fn use_disk(&mut self, client: usize) {
        match self.clients[client].jobs.pop_front() {
            Some(Job::Load(log)) => self.load(client, log),
            Some(Job::List(log)) => self.list(client, log),
            Some(Job::Persist { id, records }) => self.write(client, id, records),
            None => {}
        }
        if !self.clients[client].jobs.is_empty() {
            let (life, after) = (self.clients[client].life, self.rng.between(100, 20_000));
            self.plan(after, Event::Disk { client, life });
        }
    }

    fn load(&mut self, client: usize, log: LogName) {
        let Some(disk) = self.clients[client].disk else { return };
        let position = self.disks[disk].engine.position(&self.user, &log.channel).unwrap_or(0);
        self.clients[client].positions.entry(log.channel.clone()).or_insert(position);
        let kept = self.disks[disk].read(&log);
        self.act(client, |replica, now| replica.handle(now, SyncEvent::Loaded { log, kept }));
    }

    fn list(&mut self, client: usize, log: LogName) {
        let Some(disk) = self.clients[client].disk else { return };
        let base = self.disks[disk].base(&log);
        let shas = self.disks[disk].engine.covered(&log, None, usize::MAX).unwrap_or_default();
        self.act(client, |replica, now| replica.handle(now, SyncEvent::Listed { log, base, shas }));
    }

    fn write(&mut self, client: usize, id: PersistId, records: Vec<Record>) {
        let Some(disk) = self.clients[client].disk else { return };
        let ops: Vec<Op> = records.iter().filter_map(op_of).cloned().collect();
        let committed = disk::write(&self.disks[disk].engine, records);
        for appended in committed.iter().flatten() {
            if let Appended::New(arrival) = appended
                && let Some(position) = self.clients[client].positions.get_mut(&arrival.log.channel)
                && arrival.position == *position + 1
            {
                *position = arrival.position;
            }
        }
        ops.iter().for_each(|op| _ = self.clients[client].unanswered.remove(&op.sha()));
        if committed.is_ok() {
            self.owe(&ops);
            self.wake_neighbours(client, disk);
        }
        let failed = committed.err().map(|error| error.to_string());
        self.act(client, |replica, now| replica.handle(now, SyncEvent::Persisted { id, failed }));
    }

    fn wake_neighbours(&mut self, client: usize, disk: usize) {
        for other in 0..self.clients.len() {
            if other != client && self.clients[other].disk == Some(disk) && self.clients[other].replica.is_some() {
                let (life, after) = (self.clients[other].life, self.rng.between(100, 50_000));
                self.plan(after, Event::Poll { client: other, life });
            }
        }
    }

    /// Tells a client what other processes of its device wrote.
    pub(super) fn poll_disk(&mut self, client: usize) {
        let Some(disk) = self.clients[client].disk else { return };
        let positions = self.clients[client].positions.clone();
        for (channel, after) in positions {
            let arrivals = self.disks[disk].engine.feed(&self.user, &channel, after, Page::ALL).unwrap_or_default();
            let Some(last) = arrivals.last() else { continue };
            self.clients[client].positions.insert(channel, last.position);
            let mut by_log: BTreeMap<LogName, Vec<Op>> = BTreeMap::new();
            for arrival in arrivals {
                if let Ok(op) = Op::from_record(&arrival.log, &arrival.stored.record, Some(arrival.stored.sha)) {
                    by_log.entry(arrival.log).or_default().push(op);
                }
            }
            self.act(client, |replica, now| {
                for (log, ops) in by_log {
                    replica.handle(now, SyncEvent::Neighbour { log, ops });
                }
            });
        }
    }

    /// Starts a client's process.
    pub fn restart(&mut self, client: usize) {
        if self.clients[client].replica.is_some() {
            return;
        }
        let durable = self.clients[client].disk.is_some();
        if !durable {
            self.clients[client].actor = gigfs_core::ActorId::from_bytes(self.rng.id());
            self.clients[client].mounts.clear();
        }
        let this = &mut self.clients[client];
        let (actor, mode) = (this.actor, this.mode);
        let (prune, seed) = (self.spec.prune, self.rng.draw());
        let mut replica = Replica::new(Config { user: self.user.clone(), actor, durable, seed, prune });
        for (name, kind) in &self.clients[client].kinds {
            replica.register(name.clone(), kind.clone());
        }
        let device = self.clients[client].disk.map_or(100 + client, |disk| disk);
        self.keys.give(&mut replica, device as u8);
        self.clients[client].replica = Some(replica);
        self.act(client, |replica, now| replica.set_mode(now, mode));
        if let Some(disk) = self.clients[client].disk {
            let pending = self.disks[disk].pending_logs(&self.user, &self.logs);
            self.act(client, |replica, now| pending.iter().for_each(|log| replica.resume(now, log)));
            let kept = std::mem::take(&mut self.clients[client].mounts);
            let compares = self.rng.chance(50);
            self.apply_mounts(client, kept, compares);
        }
        let (life, after) = (self.clients[client].life, self.rng.below(200_000));
        self.plan(after, Event::Mounted { client, life });
    }
}

fn op_of(record: &Record) -> Option<&Op> {
    match record {
        Record::Op { op, .. } => Some(op),
        Record::Base { .. } | Record::Restore { .. } => None,
        Record::Forget { .. }
        | Record::Seen { .. }
        | Record::Pending { .. }
        | Record::Shown { .. }
        | Record::Name { .. }
        | Record::Seed { .. } => None,
    }
}
