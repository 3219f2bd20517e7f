//! The network: streams that come up, carry messages in order, and are lost with all that is on its way.

use gigfs_core::api::PushResult;
use gigfs_core::sync::{Event as SyncEvent, LinkId, Mode};
use gigfs_core::wire::{ClientMessage, ServerMessage};
use gigfs_core::{ErrorCode, Refusal};

use super::{Event, Stream, StreamId, World};

impl World {
    /// Plans to open a stream, unless that is planned already.
    pub(super) fn connect_soon(&mut self, client: usize, link: &LinkId, after: u64) {
        let life = self.clients[client].life;
        if self.clients[client].replica.is_some() && self.clients[client].connecting.insert(link.clone()) {
            self.plan(after, Event::Connect { client, life, link: link.clone() });
        }
    }

    pub(super) fn connect(&mut self, client: usize, link: LinkId) {
        let this = &mut self.clients[client];
        this.connecting.remove(&link);
        let mounted = this.mounts.get(&link.channel).is_some_and(|stores| stores.contains(&link.store));
        if this.mode == Mode::Offline || !mounted || this.links.contains_key(&link) {
            return;
        }
        let store = self.store_at(link.store);
        let cut = self.partitions.contains(&(client, store)) || !self.stores[store].up;
        if cut {
            let reason = Refusal::new(ErrorCode::Unreachable, "the store cannot be reached");
            self.act(client, |replica, now| replica.handle(now, SyncEvent::Lost { link: link.clone(), reason }));
            let after = self.rng.between(300_000, 3_000_000);
            self.connect_soon(client, &link, after);
            return;
        }
        let stream = StreamId(self.next_stream);
        self.next_stream += 1;
        self.clients[client].links.insert(link.clone(), stream);
        let channel = link.channel.clone();
        let open = Stream { client, store, link, client_end: true, store_end: true, to_store_at: 0, to_client_at: 0 };
        self.streams.insert(stream, open);
        let now = self.clock_of_store(store);
        let welcome = self.stores[store].open(stream, &self.user, &channel, now);
        self.send_to_client(stream, welcome);
    }

    /// Puts a message of a client on its way.
    pub(super) fn send_to_store(&mut self, client: usize, link: &LinkId, message: ClientMessage) {
        let Some(id) = self.clients[client].links.get(link).copied() else { return };
        let delay = self.rng.below(self.spec.delay + 1);
        let Some(stream) = self.streams.get_mut(&id) else { return };
        stream.to_store_at = stream.to_store_at.max(self.now + delay);
        let at = stream.to_store_at;
        self.plan_at(at, Event::ToStore { stream: id, message });
    }

    /// Puts a message of a store on its way.
    pub(super) fn send_to_client(&mut self, id: StreamId, message: ServerMessage) {
        let delay = self.rng.below(self.spec.delay + 1);
        let Some(stream) = self.streams.get_mut(&id) else { return };
        stream.to_client_at = stream.to_client_at.max(self.now + delay);
        let at = stream.to_client_at;
        self.plan_at(at, Event::ToClient { stream: id, message });
    }

    pub(super) fn arrive_at_store(&mut self, id: StreamId, message: ClientMessage) {
        let Some(store) = self.streams.get(&id).filter(|stream| stream.store_end).map(|stream| stream.store) else {
            return;
        };
        let now = self.clock_of_store(store);
        let reaction = self.stores[store].receive(&self.user, id, message, now);
        self.react(id, reaction);
    }

    pub(super) fn arrive_at_client(&mut self, id: StreamId, message: ServerMessage) {
        let Some(stream) = self.streams.get(&id).filter(|stream| stream.client_end) else { return };
        let (client, link) = (stream.client, stream.link.clone());
        if let ServerMessage::Ops { ops, .. } = &message {
            self.counts.ops_read += ops.len() as u64;
            self.clients[client].ops_read += ops.len() as u64;
            self.clients[client].answers_read += 1;
        }
        if let ServerMessage::Pushed { results, .. } = &message {
            let refused = results.iter().filter(|result| matches!(result, PushResult::Refused(_)));
            self.counts.refused += refused.count() as u64;
        }
        let event = match message {
            ServerMessage::Welcome(welcome) => SyncEvent::Connected { link, welcome },
            message => SyncEvent::Received { link, message },
        };
        self.act(client, |replica, now| replica.handle(now, event));
    }

    /// Cuts every stream between a client and a store, and has no other come up.
    pub fn partition(&mut self, client: usize, store: usize) {
        self.partitions.insert((client, store));
        self.cut(client, store, false);
    }

    /// Lets a client and a store reach each other again.
    pub fn heal(&mut self, client: usize, store: usize) {
        self.partitions.remove(&(client, store));
    }

    /// Loses every stream between a client and a store with all that is on its way. If only the client knows of it at
    /// first, what it sent may still arrive, and the answers do not.
    pub fn cut(&mut self, client: usize, store: usize, client_first: bool) {
        let ids: Vec<StreamId> = self.open_streams(|stream| stream.client == client && stream.store == store);
        for id in ids {
            match client_first {
                true => {
                    self.client_loses(id);
                    let after = self.rng.below(2_000_000);
                    self.plan(after, Event::StoreLoses { stream: id });
                }
                false => {
                    self.store_loses(id);
                    let after = self.rng.below(300_000);
                    self.plan(after, Event::ClientLoses { stream: id });
                }
            }
        }
    }

    /// Has every client of a store that has ended find out.
    pub(super) fn lose_store(&mut self, store: usize) {
        for id in self.open_streams(|stream| stream.store == store) {
            self.store_loses(id);
            let after = self.rng.below(300_000);
            self.plan(after, Event::ClientLoses { stream: id });
        }
    }

    /// Has every store find out that a client is gone. What it sent before may still arrive.
    pub(super) fn lose_client(&mut self, client: usize) {
        for id in self.open_streams(|stream| stream.client == client) {
            if let Some(stream) = self.streams.get_mut(&id) {
                stream.client_end = false;
            }
            let after = self.rng.below(500_000);
            self.plan(after, Event::StoreLoses { stream: id });
        }
    }

    pub(super) fn open_streams(&self, wanted: impl Fn(&Stream) -> bool) -> Vec<StreamId> {
        self.streams.iter().filter(|(_, stream)| wanted(stream)).map(|(id, _)| *id).collect()
    }

    pub(super) fn store_loses(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        stream.store_end = false;
        self.stores[stream.store].close(id);
        if !stream.client_end {
            self.streams.remove(&id);
        }
    }

    pub(super) fn client_loses(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if !std::mem::replace(&mut stream.client_end, false) {
            return;
        }
        let (client, link, over) = (stream.client, stream.link.clone(), !stream.store_end);
        if over {
            self.streams.remove(&id);
        }
        if self.clients[client].links.get(&link) != Some(&id) {
            return;
        }
        self.clients[client].links.remove(&link);
        let reason = Refusal::new(ErrorCode::Unreachable, "the stream was lost");
        self.act(client, |replica, now| replica.handle(now, SyncEvent::Lost { link: link.clone(), reason }));
        let after = self.rng.between(100_000, 2_000_000);
        self.connect_soon(client, &link, after);
    }
}
