//! The mount table: which stores a channel has, and how clients learn of it.

use std::collections::{BTreeMap, BTreeSet};

use gigfs_core::sync::{Event as SyncEvent, LinkId};
use gigfs_core::{ChannelName, LogName, StoreId};
use gigfs_storage::{Append, Batch, Engine as _};

use super::{Event, World};

impl World {
    /// Adds a store to a channel. Clients learn of it one by one.
    pub fn join(&mut self, channel: usize, store: usize) {
        let Some(stores) = self.table.values_mut().nth(channel) else { return };
        if stores.insert(store) {
            self.announce();
        }
    }

    /// Drains a store into the others of a channel, and takes it out. Nothing happens if it is the last one, or one of
    /// them does not run.
    pub fn leave(&mut self, channel: usize, store: usize) {
        let Some((name, stores)) = self.table.iter().nth(channel) else { return };
        let (name, others): (ChannelName, Vec<usize>) =
            (name.clone(), stores.iter().copied().filter(|other| *other != store).collect());
        let down = |at: &usize| !self.stores[*at].up || self.stores[*at].full || !self.stores[*at].can_read();
        if !stores.contains(&store) || others.is_empty() || others.iter().chain([&store]).any(down) {
            return;
        }
        let logs: Vec<LogName> = self.logs.iter().filter(|log| log.channel == name).cloned().collect();
        for log in logs {
            let appends = self.stores[store].ops(&log).into_iter();
            let appends: Vec<_> = appends.map(|op| Append::Op { log: log.clone(), op }).collect();
            for other in &others {
                let batch = Batch { appends: appends.clone(), ..Batch::default() };
                if self.stores[*other].engine.commit(&batch).is_err() {
                    return;
                }
            }
        }
        for other in &others {
            let messages = self.stores[*other].tell_watchers(&self.user, &name, None);
            messages.into_iter().for_each(|(to, message)| self.send_to_client(to, message));
        }
        self.table.entry(name.clone()).or_default().remove(&store);
        for id in self.open_streams(|stream| stream.store == store && stream.link.channel == name) {
            self.store_loses(id);
            let after = self.rng.below(300_000);
            self.plan(after, Event::ClientLoses { stream: id });
        }
        self.announce();
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
        self.act(client, |replica, now| {
            for (channel, stores) in table {
                replica.handle(now, SyncEvent::Mounted { channel, stores });
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
