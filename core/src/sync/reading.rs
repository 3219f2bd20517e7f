//! Reading logs from stores: what was missed, by index; what is missing, by inventory; what happens, by events.

use std::collections::BTreeSet;

use super::link::Request;
use super::log::{Interest, Loaded, Peer, Reading, Taken, can_tell};
use super::{LinkId, Notice, Origin, Output, Record, Replica, Seen};
use crate::api::LogHeader;
use crate::date::Date;
use crate::error::{ErrorKind, Refusal};
use crate::id::Sha;
use crate::limits::WATCHED_LOGS_MAX;
use crate::name::{LogName, PathPrefix};
use crate::op::{Op, OrderKey};
use crate::wire::{ClientMessage, Event, LogRef, Tag, Watched, Which, WireOp};

impl Replica {
    /// Starts everything that a stream that has come up is for.
    pub(super) fn begin_all(&mut self, id: &LinkId) {
        let names = self.go_on(id);
        if self.mode.receives() {
            let watched = names.iter().filter(|(_, interest)| *interest == Interest::Watch);
            let watched: Vec<LogName> = watched.map(|(name, _)| name.clone()).collect();
            self.watch(id, &watched);
        }
        for (name, _) in &names {
            self.begin(id, name);
        }
        self.start_reads(id);
        self.pump(id);
    }

    /// Starts on every open stream what a log is wanted for.
    pub(super) fn begin_everywhere(&mut self, name: &LogName) {
        let stores: Vec<_> = self.logs[name].peers.keys().copied().collect();
        for store in stores {
            let id = LinkId { channel: name.channel.clone(), store };
            if self.links.get(&id).is_some_and(|link| link.up.is_some()) {
                self.begin(&id, name);
                self.start_reads(&id);
                self.pump(&id);
            }
        }
    }

    /// Asks a store to tell of changes of logs that it was not asked to tell of before. They are to be read after this:
    /// what happened until now was not told.
    fn watch(&mut self, id: &LinkId, names: &[LogName]) {
        let fresh = |name: &&LogName| {
            let log = self.logs.get_mut(name);
            let Some(peer) = log.and_then(|log| log.peers.get_mut(&id.store)) else { return false };
            if peer.watched {
                return false;
            }
            peer.stop_reading(false);
            peer.unsettle();
            peer.watched = true;
            true
        };
        let fresh: Vec<LogRef> = names.iter().filter(fresh).map(LogRef::from).collect();
        let up = self.up_mut(id);
        if fresh.is_empty() || up.watches_all {
            return;
        }
        up.watched_logs += fresh.len();
        up.watches_all = up.watched_logs > WATCHED_LOGS_MAX;
        let watched = match up.watches_all {
            true => Watched::Prefix(PathPrefix::default()),
            false => Watched::Logs(fresh),
        };
        let tag = up.ask_to_tell(false);
        self.send(id, ClientMessage::Watch { tag, watched, after: None });
    }

    /// Lines up a log to be read from a store, if it is wanted and not read already, and to send what it may.
    pub(super) fn begin(&mut self, id: &LinkId, name: &LogName) {
        let online = self.mode.receives();
        let Some(log) = self.logs.get_mut(name).filter(|log| log.is_in_use()) else { return };
        let wanted = online && log.interest >= Interest::Compare;
        if wanted && log.interest == Interest::Watch {
            self.watch(id, std::slice::from_ref(name));
        }
        let Some(peer) = self.log_mut(name).peers.get_mut(&id.store) else { return };
        let reads = wanted && matches!(peer.reading, Reading::Idle) && !peer.current && peer.left_off.is_none();
        if reads {
            peer.reading = Reading::Waiting;
            peer.read_again_at = None;
        }
        let sends = !peer.backlog.is_empty() || peer.backlog.next_at().is_some();
        if let Some(link) = self.links.get_mut(id) {
            if reads {
                link.reading.enqueue(name);
            }
            if sends {
                link.may_send(name);
            }
        }
    }

    /// Reads the logs whose turn it is, as far as the stream has room.
    pub(super) fn start_reads(&mut self, id: &LinkId) {
        while self.links.get(id).and_then(|link| link.up.as_ref()).is_some_and(super::Up::may_read)
            && let Some(name) = self.next_to_read(id)
        {
            let incarnation = self.up_mut(id).incarnation;
            let Some(peer) = self.log_mut(&name).peers.get(&id.store) else { continue };
            if matches!(peer.reading, Reading::Waiting) {
                let same_life = peer.seen.filter(|seen| seen.incarnation == incarnation);
                let before = peer.seen.filter(|seen| seen.incarnation != incarnation);
                self.get(id, &name, same_life.map_or(0, |seen| seen.index), before, false);
            }
        }
    }

    /// Takes the log that is to be read next. As long as a channel's roster is not read, that is the only one: without it
    /// nothing that others wrote would be believed.
    fn next_to_read(&mut self, id: &LinkId) -> Option<LogName> {
        let roster = self.sealed.get(&id.channel).map(|sealed| &sealed.roster_log);
        let at_store = |roster: &LogName| self.logs.get(roster).and_then(|log| log.peers.get(&id.store));
        if roster.and_then(at_store).is_some_and(|peer| peer.left_off.is_some()) {
            // The store is telling what was missed of it.
            return None;
        }
        let is_read = |roster: &LogName| at_store(roster).is_none_or(|peer| matches!(peer.reading, Reading::Idle));
        let unread = roster.filter(|roster| !is_read(roster));
        let turns = &mut self.links.get_mut(id)?.reading;
        match unread {
            Some(roster) => turns.dequeue_only(roster),
            None => turns.dequeue(),
        }
    }

    pub(super) fn get(&mut self, id: &LinkId, name: &LogName, after: u64, before: Option<Seen>, last_try: bool) {
        let up = self.up_mut(id);
        let (tag, incarnation) = (up.ask(Request::Get { log: name.clone() }), up.incarnation);
        let seen = self.log_mut(name).peers.get(&id.store).and_then(|peer| peer.seen);
        let seen = seen.filter(|seen| seen.incarnation == incarnation).map_or(0, |seen| seen.index);
        self.set_reading(id, name, Reading::Getting { tag, before, seen, last_try });
        let base = self.log_mut(name).base_id();
        self.send(id, ClientMessage::Get { tag, log: name.into(), after, base });
    }

    pub(super) fn set_reading(&mut self, id: &LinkId, name: &LogName, reading: Reading) {
        if let Some(peer) = self.log_mut(name).peers.get_mut(&id.store) {
            peer.reading = reading;
        }
    }

    /// Stops being told and forgets what is being read; own operations go on going out.
    pub(super) fn stop_reading(&mut self, id: &LinkId) {
        let up = self.up_mut(id);
        up.unwatch();
        let tag = up.ask(Request::Other);
        self.send(id, ClientMessage::Unwatch { tag });
        let Some(link) = self.links.get_mut(id) else { return };
        link.reading.clear();
        let has_cursor = link.cursor.is_some();
        self.lose_step(id, has_cursor, |peer| peer.stop_reading(has_cursor));
    }

    /// Notes that a store would not tell of changes, and asks it again a little later.
    pub(super) fn watch_failed(&mut self, id: &LinkId) {
        let up = self.up_mut(id);
        (up.watched_logs, up.watches_all) = (0, false);
        self.logs.wake(id);
        let forgotten = |(name, peer): (&LogName, &mut Peer)| std::mem::take(&mut peer.watched).then(|| name.clone());
        let watched: Vec<LogName> = self.peers_mut(id).filter_map(forgotten).collect();
        let at = self.retry_at();
        watched.iter().for_each(|name| self.read_again(id, name, at));
    }

    pub(super) fn read_again(&mut self, id: &LinkId, name: &LogName, at: Date) {
        if let Some(peer) = self.log_mut(name).peers.get_mut(&id.store) {
            peer.read_again_at = Some(at);
        }
        self.wake(id, name, at);
    }

    pub(super) fn read_ops(&mut self, id: &LinkId, tag: Tag, ops: &[(u64, WireOp)], header: &LogHeader, more: bool) {
        let Some(Request::Get { log }) = self.up_mut(id).asked(tag) else { return };
        let name = log.clone();
        if !more {
            self.up_mut(id).answered(tag);
        }
        let peer = self.logs.get(&name).and_then(|log| log.peers.get(&id.store));
        if let Some(Reading::Getting { tag: current, before, seen, last_try }) = peer.map(|peer| &peer.reading)
            && *current == tag
        {
            let (before, seen, last_try) = (*before, *seen, *last_try);
            if let Some(peer) = self.log_mut(&name).peers.get_mut(&id.store) {
                // What it tells is what it has beside this base.
                peer.base = header.base;
            }
            self.take_in(id, &name, ops, true);
            if !more {
                self.set_reading(id, &name, Reading::Idle);
                self.note_rollback(id, &name, header, before, seen);
                self.read_through(id, &name, header, last_try);
            }
        }
        self.start_reads(id);
    }

    /// Compares what a store has of a log with what is here, after everything that it had to tell was read.
    pub(super) fn read_through(&mut self, id: &LinkId, name: &LogName, header: &LogHeader, last_try: bool) {
        self.log_mut(name).known = true;
        if !self.settle_base(id, name, header, last_try) {
            self.compare_digests(id, name, header, last_try);
        }
    }

    pub(super) fn compare_digests(&mut self, id: &LinkId, name: &LogName, header: &LogHeader, last_try: bool) {
        let log = self.log_mut(name);
        let equal = log.digest_at(id.store) == header.digest;
        if equal || last_try {
            self.become_current(id, name);
        } else if header.digest.count == 0 {
            self.set_held(id, name, &BTreeSet::new(), false);
            self.become_current(id, name);
        } else {
            let tag = self.up_mut(id).ask(Request::Inventory { log: name.clone() });
            self.set_reading(id, name, Reading::Inventory { tag, shas: BTreeSet::new(), sure: true });
            self.send(id, ClientMessage::Inventory { tag, log: name.into(), which: Which::Live });
        }
    }

    /// Reports a store whose data is not what this replica has read from it: it began a new life, or holds less.
    fn note_rollback(
        &mut self,
        id: &LinkId,
        name: &LogName,
        header: &LogHeader,
        before: Option<Seen>,
        seen_when_asked: u64,
    ) {
        let incarnation = self.up_mut(id).incarnation;
        let Some(peer) = self.log_mut(name).peers.get_mut(&id.store) else { return };
        let ahead = peer.seen.filter(|_| seen_when_asked > header.last_index);
        let Some(seen) = before.or(ahead) else { return };
        let now = Seen { incarnation, index: header.last_index };
        peer.seen = Some(now);
        self.persist_lazily(Record::Seen { log: name.clone(), store: id.store, seen: now });
        if seen.index > 0 {
            let life = if before.is_some() { "in an earlier life of its data" } else { "before" };
            let what = format!(
                "the store showed {} operations {life} and has {} now; what is here and not there is pushed again",
                seen.index, header.last_index
            );
            self.notify(Notice::Suspicion { link: id.clone(), log: name.clone(), what });
        }
    }

    pub(super) fn read_shas(&mut self, id: &LinkId, tag: Tag, shas: Vec<Sha>, header: &LogHeader, more: bool) {
        let (name, to) = match self.up_mut(id).asked(tag) {
            Some(Request::Inventory { log }) => (log.clone(), None),
            Some(Request::List { log, to }) => (log.clone(), Some(*to)),
            _ => return,
        };
        if !more {
            self.up_mut(id).answered(tag);
        }
        if let Some(to) = to {
            let base = header.base.filter(|base| base.complete).map(|base| base.id);
            return self.hand_on(&name, to, base, shas, more);
        }
        let log = self.log_mut(&name);
        let tells = can_tell(header.base.as_ref(), log.base.as_deref());
        let reading = log.peers.get_mut(&id.store).map(|peer| &mut peer.reading);
        if let Some(Reading::Inventory { tag: current, shas: held, sure }) = reading
            && *current == tag
        {
            held.extend(shas);
            *sure &= tells;
            if !more {
                let (held, sure) = (std::mem::take(held), *sure);
                self.set_reading(id, &name, Reading::Idle);
                self.compare_with(id, &name, &held, sure);
            }
        }
        self.start_reads(id);
    }

    /// Takes note of all that a store holds of a log, and reads what is missing here.
    fn compare_with(&mut self, id: &LinkId, name: &LogName, held: &BTreeSet<Sha>, sure: bool) {
        self.set_held(id, name, held, sure);
        let log = self.log_mut(name);
        let unreadable = log.peers.get(&id.store).map(|peer| &peer.unreadable);
        let missing =
            held.iter().any(|sha| !log.has(sha) && unreadable.is_none_or(|unreadable| !unreadable.contains(sha)));
        match missing {
            true => self.get(id, name, 0, None, true),
            false => self.become_current(id, name),
        }
    }

    /// Notes exactly which operations of a log a store holds.
    fn set_held(&mut self, id: &LinkId, name: &LogName, held: &BTreeSet<Sha>, sure: bool) {
        let (now, later) = (self.now, self.forward_at());
        let at_once = self.is_roster(name);
        let log = self.log_mut(name);
        let Some(peer) = log.peers.get_mut(&id.store) else { return };
        peer.unreadable.retain(|sha| held.contains(sha));
        let known: Vec<OrderKey> = peer.backlog.keys().filter(|key| held.contains(&key.sha)).copied().collect();
        let absent = log.oplog.iter().filter(|op| !held.contains(&op.sha()) && !log.unsaved.contains(&op.sha()));
        for key in absent.map(Op::key) {
            let at = if at_once || log.pending.contains(&key) { now } else { later };
            peer.backlog.offer(key, at, now);
        }
        if sure {
            let doubtful = log.doubtful.keys().filter(|key| held.contains(&key.sha));
            let doubtful: Vec<OrderKey> = doubtful.copied().collect();
            self.not_covered(id, name, &doubtful);
        }
        self.hold(id, name, &known, super::Standing::Accepted);
    }

    fn become_current(&mut self, id: &LinkId, name: &LogName) {
        let later = self.retry_at();
        let log = self.log_mut(name);
        let ours = log.base_id();
        let Some(peer) = log.peers.get_mut(&id.store) else { return };
        if peer.base.map(|base| base.id) > ours {
            // It was pruned once more, or its base cannot be read.
            return self.read_again(id, name, later);
        }
        peer.current = true;
        if let Some(link) = self.links.get_mut(id) {
            link.may_send(name);
        }
        self.notify(Notice::Read { log: name.clone() });
        self.pump(id);
        self.plant(name);
    }

    /// Gives up reading a log from a store for now, or for as long as the stream lasts.
    pub(super) fn reading_failed(&mut self, id: &LinkId, name: &LogName, refusal: Refusal) {
        self.set_reading(id, name, Reading::Idle);
        match refusal.code.kind() {
            ErrorKind::Retry | ErrorKind::LogIn => {
                let at = self.retry_at();
                self.read_again(id, name, at);
            }
            ErrorKind::FixInput | ErrorKind::GiveUp => {
                self.notify(Notice::Suspicion { link: id.clone(), log: name.clone(), what: refusal.to_string() });
            }
        }
        self.notify(Notice::Read { log: name.clone() });
        self.start_reads(id);
    }

    pub(super) fn told(&mut self, id: &LinkId, event: &Event) {
        let name = event.log.log(&self.config.user, &id.channel);
        let loaded = self.logs.get(&name).is_some_and(|log| log.loaded == Loaded::Yes);
        if !self.mode.receives() {
            return;
        }
        self.move_cursor(id, event.position);
        if !loaded {
            return;
        }
        let whole = self.take_in(id, &name, &event.ops, false);
        let last = event.ops.last().map_or(0, |(index, _)| *index);
        let Some(peer) = self.log_mut(&name).peers.get_mut(&id.store) else { return };
        let missed = peer.seen.is_none_or(|seen| seen.index < last);
        if (peer.current || peer.left_off.is_some()) && (missed || !whole) {
            // Something before it was not told, or it came damaged.
            peer.unsettle();
            self.begin(id, &name);
            self.start_reads(id);
        }
    }

    /// Takes in operations that a store holds: inserts, persists, tells the app, and has the other stores follow. Returns
    /// whether all of them can be read.
    fn take_in(&mut self, id: &LinkId, name: &LogName, ops: &[(u64, WireOp)], reading: bool) -> bool {
        let incarnation = self.up_mut(id).incarnation;
        let log = self.log_mut(name);
        let Some(peer) = log.peers.get_mut(&id.store) else { return true };
        let mut index = peer.seen.filter(|seen| seen.incarnation == incarnation).map_or(0, |seen| seen.index);
        let before = index;
        let (mut opened, mut bad) = (Vec::with_capacity(ops.len()), Vec::new());
        for (at, op) in ops {
            // A store tells this replica of its own operations too. What is read is opened, to see whether it is whole there.
            let known = log.oplog.get(&op.sha).filter(|_| !reading);
            match known.map_or_else(|| op.open(name), |op| Ok(op.clone())) {
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
        let (tells, own) = (peer.can_tell(log.base.as_deref()), self.config.actor);
        self.meet_epochs(name, opened.iter().map(Op::payload));
        let log = self.log_mut(name);
        let keys: Vec<OrderKey> = opened.iter().map(Op::key).collect();
        let (mut gained, mut doubtful) = (Vec::new(), Vec::new());
        let all_kept = log.unproven.is_empty();
        // What waited for somebody to vouch for it may come from a store that could not tell.
        let told: BTreeSet<Sha> = ops.iter().filter(|_| !all_kept).map(|(_, op)| op.sha).collect();
        let is_told = |op: &Op| all_kept || told.contains(&op.sha());
        for op in log.believe(opened) {
            // What a store that can tell still has beside the base is not covered.
            match if tells && is_told(&op) { log.admit(&op) } else { log.take(&op) } {
                Taken::New => gained.push(op),
                Taken::Doubtful => doubtful.push(op),
                Taken::Known | Taken::Covered => {}
            }
        }
        let (asked, own_waits) = (doubtful.iter().all(is_told), log.unproven.has_of(own));
        self.hold(id, name, &keys, super::Standing::Accepted);
        self.gained(name, gained, doubtful, Some(id), Origin::Store(id.store));
        if !asked {
            self.ask_about_doubts(name);
        }
        if own_waits {
            // The roster has lost what it said of this device.
            self.certify(name, own);
        }
        if !all_kept {
            self.keep_seen(name, None);
        } else if index != before {
            self.keep_seen(name, Some(id.store));
        }
        let whole = bad.is_empty();
        for what in bad {
            self.notify(Notice::Suspicion { link: id.clone(), log: name.clone(), what });
        }
        whole
    }

    /// Notes operations that others wrote for the stores that lack them, each after a while: most likely their author or
    /// another client brings them first.
    pub(super) fn offer_later(&mut self, name: &LogName, keys: &[OrderKey], from: Option<&LinkId>) {
        if keys.is_empty() {
            return;
        }
        let (now, at) = (self.now, self.forward_at());
        let others = self.log_mut(name).peers.iter_mut();
        let mut stores = Vec::new();
        for (store, peer) in others.filter(|(store, _)| from.is_none_or(|id| id.store != **store)) {
            if peer.current {
                keys.iter().for_each(|key| peer.backlog.offer(*key, at, now));
            }
            peer.gained_elsewhere(keys);
            if peer.current || peer.backlog.has_ready() {
                stores.push(*store);
            }
        }
        for store in stores {
            let id = LinkId { channel: name.channel.clone(), store };
            if let Some(link) = self.links.get_mut(&id) {
                link.drained = false;
            }
            self.wake(&id, name, at);
        }
    }

    /// Returns when an operation that somebody else wrote is forwarded: in one to three seconds.
    pub(super) fn forward_at(&mut self) -> Date {
        let jitter = self.random_below(2_000_000) as i64;
        self.now.plus(1_000_000 + jitter)
    }

    pub(super) fn send(&mut self, id: &LinkId, message: ClientMessage) {
        self.outputs.push_back(Output::Send { link: id.clone(), message });
    }
}

#[cfg(test)]
mod tests;
