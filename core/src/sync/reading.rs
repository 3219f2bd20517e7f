//! Reading logs from stores: what was missed, by index; what is missing, by inventory; what happens, by events.

use std::collections::BTreeSet;

use super::link::Request;
use super::log::{Interest, Loaded, Reading};
use super::{LinkId, Notice, Origin, Output, Record, Replica, Seen};
use crate::api::LogHeader;
use crate::date::Date;
use crate::error::{ErrorKind, Refusal};
use crate::id::Sha;
use crate::limits::WATCHED_LOGS_MAX;
use crate::name::{LogName, PathPrefix};
use crate::op::{Op, OrderKey};
use crate::wire::{ClientMessage, Event, LogRef, Tag, Watched, WireOp};

impl Replica {
    /// Starts everything that a stream that has come up is for.
    pub(super) fn begin_all(&mut self, id: &LinkId) {
        let of_channel =
            |(name, log): &(&LogName, &super::Log)| name.channel == id.channel && log.loaded == Loaded::Yes;
        let names: Vec<(LogName, Interest)> =
            self.logs.iter().filter(of_channel).map(|(name, log)| (name.clone(), log.interest)).collect();
        if self.mode.receives() {
            let watched: Vec<LogRef> = names
                .iter()
                .filter(|(_, interest)| *interest == Interest::Watch)
                .map(|(name, _)| name.into())
                .collect();
            if watched.len() > WATCHED_LOGS_MAX {
                self.watch(id, Watched::Prefix(PathPrefix::default()));
            } else if !watched.is_empty() {
                self.watch(id, Watched::Logs(watched));
            }
        }
        for (name, _) in &names {
            self.begin(id, name);
        }
        self.pump(id);
    }

    /// Starts on every open stream what a log is wanted for.
    pub(super) fn begin_everywhere(&mut self, name: &LogName) {
        let log = &self.logs[name];
        let watch = log.interest == Interest::Watch && log.loaded == Loaded::Yes;
        let stores: Vec<_> = log.peers.keys().copied().collect();
        for store in stores {
            let id = LinkId { channel: name.channel.clone(), store };
            if self.links.get(&id).is_none_or(|link| link.up.is_none()) {
                continue;
            }
            if watch && self.mode.receives() {
                self.watch(&id, Watched::Logs(vec![name.into()]));
            }
            self.begin(&id, name);
            self.pump(&id);
        }
    }

    fn watch(&mut self, id: &LinkId, watched: Watched) {
        let tag = self.up_mut(id).ask(Request::Other);
        self.send(id, ClientMessage::Watch { tag, watched, after: None });
    }

    /// Begins to read a log from a store, if it is wanted and not read already, and lets it send.
    fn begin(&mut self, id: &LinkId, name: &LogName) {
        let incarnation = self.up_mut(id).incarnation;
        let online = self.mode.receives();
        let log = self.log_mut(name);
        let wanted = online && log.loaded == Loaded::Yes && log.interest >= Interest::Compare;
        let Some(peer) = log.peers.get(&id.store) else { return };
        let (idle, has_more) = (matches!(peer.reading, Reading::Idle) && !peer.current, !peer.lacks.is_empty());
        let after = peer.seen.filter(|seen| seen.incarnation == incarnation).map_or(0, |seen| seen.index);
        if wanted && idle {
            self.get(id, name, after, false);
        }
        if has_more && let Some(link) = self.links.get_mut(id) {
            link.enqueue(name);
        }
    }

    fn get(&mut self, id: &LinkId, name: &LogName, after: u64, last_try: bool) {
        let tag = self.up_mut(id).ask(Request::Get { log: name.clone() });
        self.set_reading(id, name, Reading::Getting { tag, last_try });
        self.send(id, ClientMessage::Get { tag, log: name.into(), after });
    }

    fn set_reading(&mut self, id: &LinkId, name: &LogName, reading: Reading) {
        if let Some(peer) = self.log_mut(name).peers.get_mut(&id.store) {
            peer.reading = reading;
        }
    }

    /// Stops being told and forgets what is being read; own operations go on going out.
    pub(super) fn stop_reading(&mut self, id: &LinkId) {
        let tag = self.up_mut(id).ask(Request::Other);
        self.send(id, ClientMessage::Unwatch { tag });
        for (name, log) in &mut self.logs {
            if name.channel == id.channel
                && let Some(peer) = log.peers.get_mut(&id.store)
            {
                peer.reading = Reading::Idle;
                peer.current = false;
            }
        }
    }

    pub(super) fn read_ops(&mut self, id: &LinkId, tag: Tag, ops: &[(u64, WireOp)], header: &LogHeader, more: bool) {
        let Some(Request::Get { log }) = self.up_mut(id).asked(tag) else { return };
        let name = log.clone();
        if !more {
            self.up_mut(id).answered(tag);
        }
        let peer = self.logs.get(&name).and_then(|log| log.peers.get(&id.store));
        let Some(Reading::Getting { tag: current, last_try }) = peer.map(|peer| &peer.reading) else { return };
        if *current != tag {
            return;
        }
        let last_try = *last_try;
        self.take_in(id, &name, ops, true);
        if !more {
            self.set_reading(id, &name, Reading::Idle);
            self.read_through(id, &name, header, last_try);
        }
    }

    /// Compares what a store has of a log with what is here, after everything that it had to tell was read.
    fn read_through(&mut self, id: &LinkId, name: &LogName, header: &LogHeader, last_try: bool) {
        self.note_rollback(id, name, header);
        let log = self.log_mut(name);
        log.known = true;
        let equal = log.digest_at(id.store) == header.digest;
        if equal || last_try {
            self.become_current(id, name);
        } else if header.digest.count == 0 {
            self.set_held(id, name, &BTreeSet::new());
            self.become_current(id, name);
        } else {
            let tag = self.up_mut(id).ask(Request::Inventory { log: name.clone() });
            self.set_reading(id, name, Reading::Inventory { tag, shas: BTreeSet::new() });
            self.send(id, ClientMessage::Inventory { tag, log: name.into() });
        }
    }

    /// Reports a store that holds less than this replica has read from it.
    fn note_rollback(&mut self, id: &LinkId, name: &LogName, header: &LogHeader) {
        let incarnation = self.up_mut(id).incarnation;
        let Some(peer) = self.log_mut(name).peers.get_mut(&id.store) else { return };
        let Some(seen) = peer.seen.filter(|seen| seen.index > header.last_index) else { return };
        peer.seen = Some(Seen { incarnation, index: header.last_index });
        let what = format!(
            "the store showed {} operations before and has {} now; what is here is pushed again",
            seen.index, header.last_index
        );
        self.notify(Notice::Suspicion { link: id.clone(), log: name.clone(), what });
    }

    pub(super) fn read_shas(&mut self, id: &LinkId, tag: Tag, shas: Vec<Sha>, more: bool) {
        let Some(Request::Inventory { log }) = self.up_mut(id).asked(tag) else { return };
        let name = log.clone();
        if !more {
            self.up_mut(id).answered(tag);
        }
        let Some(peer) = self.log_mut(&name).peers.get_mut(&id.store) else { return };
        let Reading::Inventory { tag: current, shas: held } = &mut peer.reading else { return };
        if *current != tag {
            return;
        }
        held.extend(shas);
        if more {
            return;
        }
        let held = std::mem::take(held);
        peer.reading = Reading::Idle;
        self.set_held(id, &name, &held);
        let log = self.log_mut(&name);
        let unreadable = log.peers.get(&id.store).map(|peer| &peer.unreadable);
        let missing = held
            .iter()
            .any(|sha| !log.oplog.contains(sha) && unreadable.is_none_or(|unreadable| !unreadable.contains(sha)));
        match missing {
            true => self.get(id, &name, 0, true),
            false => self.become_current(id, &name),
        }
    }

    /// Notes exactly which operations of a log a store holds.
    fn set_held(&mut self, id: &LinkId, name: &LogName, held: &BTreeSet<Sha>) {
        let (now, later) = (self.now, self.forward_at());
        let log = self.log_mut(name);
        let absent: Vec<OrderKey> = log.oplog.iter().filter(|op| !held.contains(&op.sha())).map(Op::key).collect();
        let own: BTreeSet<OrderKey> = log.pending.clone();
        let Some(peer) = log.peers.get_mut(&id.store) else { return };
        peer.in_doubt.clear();
        let known: Vec<OrderKey> = peer.lacks.keys().filter(|key| held.contains(&key.sha)).copied().collect();
        for key in absent {
            let unsaved = log.unsaved.contains(&key.sha);
            if !unsaved && !peer.refused.contains_key(&key) {
                let at = if own.contains(&key) { now } else { later };
                peer.lacks.entry(key).or_insert(at);
            }
        }
        self.hold(id, name, &known, super::Standing::Accepted);
    }

    fn become_current(&mut self, id: &LinkId, name: &LogName) {
        if let Some(peer) = self.log_mut(name).peers.get_mut(&id.store) {
            peer.current = true;
        }
        if let Some(link) = self.links.get_mut(id) {
            link.enqueue(name);
        }
        self.notify(Notice::Read { log: name.clone() });
        self.pump(id);
    }

    pub(super) fn reading_failed(&mut self, id: &LinkId, name: &LogName, refusal: Refusal) {
        self.set_reading(id, name, Reading::Idle);
        if refusal.code.kind() != ErrorKind::Retry {
            self.notify(Notice::Suspicion { link: id.clone(), log: name.clone(), what: refusal.to_string() });
        }
        self.notify(Notice::Read { log: name.clone() });
    }

    pub(super) fn told(&mut self, id: &LinkId, event: &Event) {
        let name = event.log.log(&self.config.user, &id.channel);
        let loaded = self.logs.get(&name).is_some_and(|log| log.loaded == Loaded::Yes);
        if loaded && self.mode.receives() {
            self.take_in(id, &name, &event.ops, false);
        }
    }

    /// Takes in operations that a store holds: inserts, persists, tells the app, and has the other stores follow.
    fn take_in(&mut self, id: &LinkId, name: &LogName, ops: &[(u64, WireOp)], reading: bool) {
        let incarnation = self.up_mut(id).incarnation;
        let log = self.log_mut(name);
        let Some(peer) = log.peers.get_mut(&id.store) else { return };
        let mut index = peer.seen.filter(|seen| seen.incarnation == incarnation).map_or(0, |seen| seen.index);
        let before = index;
        let (mut opened, mut bad) = (Vec::with_capacity(ops.len()), Vec::new());
        for (at, op) in ops {
            match op.open(name) {
                Ok(op) => opened.push(op),
                Err(error) => {
                    peer.unreadable.insert(op.sha);
                    bad.push(format!("operation {} at index {at}: {error}", op.sha));
                }
            }
            if reading || *at == index + 1 {
                index = index.max(*at);
            }
        }
        if index != before {
            peer.seen = Some(Seen { incarnation, index });
        }
        let keys: Vec<OrderKey> = opened.iter().map(Op::key).collect();
        let gained: Vec<Op> = opened.into_iter().filter(|op| log.insert(op)).collect();
        let new_keys: Vec<OrderKey> = gained.iter().map(Op::key).collect();

        self.hold(id, name, &keys, super::Standing::Accepted);
        self.offer_later(name, &new_keys, Some(id));
        if index != before {
            let seen = Seen { incarnation, index };
            self.persist_lazily(Record::Seen { log: name.clone(), store: id.store, seen });
        }
        if !gained.is_empty() {
            self.persist(gained.iter().map(|op| Record::Op { log: name.clone(), op: op.clone() }).collect());
            self.notify(Notice::Changed { log: name.clone(), ops: gained, origin: Origin::Store(id.store) });
        }
        for what in bad {
            self.notify(Notice::Suspicion { link: id.clone(), log: name.clone(), what });
        }
    }

    /// Notes operations that others wrote for the stores that lack them, each after a while: most likely their author or
    /// another client brings them first.
    pub(super) fn offer_later(&mut self, name: &LogName, keys: &[OrderKey], from: Option<&LinkId>) {
        if keys.is_empty() {
            return;
        }
        let at = self.forward_at();
        let mut timers = Vec::new();
        for (store, peer) in &mut self.log_mut(name).peers {
            if from.is_some_and(|id| id.store == *store) || !peer.current {
                continue;
            }
            peer.lacks.extend(keys.iter().map(|key| (*key, at)));
            timers.push((at, LinkId { channel: name.channel.clone(), store: *store }, name.clone()));
        }
        self.timers.extend(timers);
    }

    /// Returns when an operation that somebody else wrote is forwarded: in one to three seconds.
    fn forward_at(&mut self) -> Date {
        let jitter = self.random_below(2_000_000) as i64;
        self.now.plus(1_000_000 + jitter)
    }

    pub(super) fn send(&mut self, id: &LinkId, message: ClientMessage) {
        self.outputs.push_back(Output::Send { link: id.clone(), message });
    }
}
