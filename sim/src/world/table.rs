//! The mount table: which stores a channel has, and how clients learn of it.

use std::collections::{BTreeMap, BTreeSet};

use gigfs_core::sync::{Event as SyncEvent, LinkId};
use gigfs_core::wire::WireBase;
use gigfs_core::{ChannelName, LogName, StoreId};
use gigfs_storage::{Append, Appended, Batch, Engine as _, pruning};

use super::{Event, World};

impl World {
    /// Adds a store to a channel. Clients learn of it one by one.
    pub fn join(&mut self, channel: usize, store: usize) {
        let Some(stores) = self.table.values_mut().nth(channel) else { return };
        if stores.insert(store) {
            let name = self.table.keys().nth(channel).cloned();
            self.stores[store].sealed.retain(|sealed| Some(sealed) != name.as_ref());
            self.move_epoch(channel);
        }
    }

    fn move_epoch(&mut self, channel: usize) {
        self.epochs.values_mut().nth(channel).into_iter().for_each(|epoch| *epoch += 1);
        self.announce();
    }

    /// Takes out a store that will never answer again. What nobody else has is lost with it. Nothing happens if it is the
    /// last one.
    pub fn abandon(&mut self, channel: usize, store: usize) {
        let Some(stores) = self.table.values_mut().nth(channel) else { return };
        if stores.len() > 1 && stores.remove(&store) {
            self.crash_store(store);
            self.lose_what_is_gone();
            self.move_epoch(channel);
        }
    }

    /// Seals a store, drains it into the others of a channel, and takes it out. Nothing happens if it is the last one, or
    /// one of them does not run, or cannot tell what is covered.
    pub fn leave(&mut self, channel: usize, store: usize) {
        let Some((name, stores)) = self.table.iter().nth(channel) else { return };
        let (name, others): (ChannelName, Vec<usize>) =
            (name.clone(), stores.iter().copied().filter(|other| *other != store).collect());
        let down = |at: &usize| !self.stores[*at].up || self.stores[*at].full || !self.stores[*at].can_read();
        if !stores.contains(&store) || others.is_empty() || others.iter().chain([&store]).any(down) {
            return;
        }
        self.stores[store].sealed.insert(name.clone());
        let logs: Vec<LogName> = self.logs.iter().filter(|log| log.channel == name).cloned().collect();
        let drained = logs.iter().all(|log| others.iter().all(|other| self.drain(log, store, *other)));
        for other in &others {
            let messages = self.stores[*other].tell_watchers(&self.user, &name, None);
            messages.into_iter().for_each(|(to, message)| self.send_to_client(to, message));
        }
        if !drained {
            self.stores[store].sealed.remove(&name);
            return;
        }
        self.table.entry(name).or_default().remove(&store);
        self.move_epoch(channel);
    }

    /// Brings all that a store has of a log to another one. Returns whether that has everything now.
    fn drain(&mut self, log: &LogName, from: usize, to: usize) -> bool {
        let now = self.clock_of_store(to);
        let (source, target) = (&self.stores[from], &self.stores[to]);
        let write = |batch: Batch| target.engine.commit(&batch).ok();
        if let Ok(Some(base)) = source.engine.base(log) {
            loop {
                match pruning::install(&target.engine, log, &WireBase::from(&base), None, now) {
                    Ok(Ok(None)) => break,
                    Ok(Ok(Some(batch))) if write(batch.clone()).is_some() => {}
                    _ => return false,
                }
            }
            if source.base(log) == target.base(log) {
                let covered = pruning::cover(&target.engine, log, base.sha, source.covered(log), now);
                if !covered.is_ok_and(|covered| covered.is_ok_and(|batch| write(batch).is_some())) {
                    return false;
                }
            }
        }
        let ops = source.ops(log).into_iter();
        let appends: Vec<_> = ops.map(|op| Append::Op { log: log.clone(), op }).collect();
        let appended = write(Batch { appends, ..Batch::default() });
        let taken = |appended: &Appended| !matches!(appended, Appended::Doubtful { .. } | Appended::Refused(_));
        appended.is_some_and(|appended| appended.iter().all(taken))
    }

    /// Has every client learn of the present table, each after a while.
    pub(super) fn announce(&mut self) {
        for client in 0..self.clients.len() {
            let (life, after) = (self.clients[client].life, self.rng.below(3_000_000));
            self.plan(after, Event::Mounted { client, life });
        }
    }

    /// Has a client fetch the table again, as it does to renew its tokens.
    pub fn remount(&mut self, client: usize) {
        let life = self.clients[client].life;
        self.plan(1_000, Event::Mounted { client, life });
    }

    /// Makes the present table the one that a client works with.
    pub(super) fn mount(&mut self, client: usize) {
        let table: BTreeMap<ChannelName, BTreeSet<StoreId>> = self
            .table
            .iter()
            .map(|(channel, stores)| (channel.clone(), stores.iter().map(|store| self.stores[*store].id()).collect()))
            .collect();
        self.clients[client].epochs = self.epochs.clone();
        self.apply_mounts(client, table, true);
    }

    /// Tells a replica of the stores of each channel, and opens and ends streams as they say.
    pub(super) fn apply_mounts(
        &mut self,
        client: usize,
        table: BTreeMap<ChannelName, BTreeSet<StoreId>>,
        compares: bool,
    ) {
        let links = |table: &BTreeMap<ChannelName, BTreeSet<StoreId>>| -> BTreeSet<LinkId> {
            let of = |(channel, stores): (&ChannelName, &BTreeSet<StoreId>)| {
                let link = |store: &StoreId| LinkId { channel: channel.clone(), store: *store };
                stores.iter().map(link).collect::<Vec<_>>()
            };
            table.iter().flat_map(of).collect()
        };
        let old = links(&std::mem::replace(&mut self.clients[client].mounts, table.clone()));
        let new = links(&table);
        let epochs = self.clients[client].epochs.clone();
        self.act(client, |replica, now| {
            for (channel, stores) in table {
                let epoch = epochs.get(&channel).copied().unwrap_or(0);
                replica.handle(now, SyncEvent::Mounted { channel, stores, epoch });
            }
        });
        for gone in old.difference(&new) {
            if let Some(stream) = self.clients[client].links.remove(gone)
                && let Some(open) = self.streams.get_mut(&stream)
            {
                open.client_end = false;
                let after = self.rng.below(500_000);
                self.plan(after, Event::StoreLoses { stream });
            }
        }
        for link in new.difference(&old) {
            let after = self.rng.below(100_000);
            self.connect_soon(client, link, after);
            if let (Some(disk), true) = (self.clients[client].disk, compares) {
                let logs = self.disks[disk].logs(&self.user, &link.channel);
                self.act(client, |replica, now| logs.iter().for_each(|log| replica.compare(now, log)));
            }
        }
    }
}
