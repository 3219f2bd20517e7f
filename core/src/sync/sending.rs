//! Sending own operations, and what stores say to them.

use super::backlog::Fate;
use super::link::Request;
use super::log::Log;
use super::{LinkId, Notice, Record, Replica, Standing};
use crate::api::PushResult;
use crate::date::Date;
use crate::error::{ErrorCode, ErrorKind, Refusal};
use crate::id::StoreId;
use crate::limits::{CLIENT_PUSH_BYTES_MAX, CLIENT_PUSH_OPS_MAX, CLOCK_AHEAD_MICROS_MAX};
use crate::name::{ChannelName, LogName};
use crate::op::OrderKey;
use crate::wire::{ClientMessage, Tag, WireOp};

impl Replica {
    /// Lets own operations go out, because nothing more has to happen here first.
    pub(super) fn may_send(&mut self, name: &LogName, keys: &[OrderKey]) {
        let now = self.now;
        let log = self.log_mut(name);
        let wanted: Vec<OrderKey> = keys.iter().filter(|key| log.pending.contains(key)).copied().collect();
        let mut stores = Vec::new();
        for (store, peer) in log.peers.iter_mut() {
            wanted.iter().for_each(|key| peer.backlog.offer(*key, now, now));
            stores.push(*store);
        }
        if stores.is_empty() && self.config.durable {
            // Nobody else will ever say anything to these pushes: they are as far as they get.
            wanted.iter().for_each(|key| self.drop_receipt(name, key));
        }
        for store in stores {
            let id = LinkId { channel: name.channel.clone(), store };
            if let Some(link) = self.links.get_mut(&id) {
                link.may_send(name);
            }
            self.pump(&id);
        }
    }

    /// Sends everything that may wait at once, and tries again what was refused for now, so that a flush ends soon.
    pub fn hurry(&mut self, now: Date, channel: Option<&ChannelName>) {
        self.observe(now);
        let mut hurried = Vec::new();
        for (name, log) in self.logs.awake_mut() {
            if channel.is_some_and(|channel| *channel != name.channel) {
                continue;
            }
            for (store, peer) in log.peers.iter_mut().filter(|(_, peer)| !peer.backlog.is_empty()) {
                peer.backlog.hurry();
                hurried.push((LinkId { channel: name.channel.clone(), store: *store }, name.clone()));
            }
        }
        for (id, name) in hurried {
            if let Some(link) = self.links.get_mut(&id) {
                link.may_send(&name);
            }
            self.pump(&id);
        }
    }

    /// Sends what is due on a stream, as far as it has room.
    pub(super) fn pump(&mut self, id: &LinkId) {
        if !self.mode.sends() {
            return;
        }
        loop {
            let Some(link) = self.links.get(id) else { return };
            if !link.up.as_ref().is_some_and(super::Up::has_room) {
                return;
            }
            let Some(name) = self.next_to_send(id) else { break };
            if self.send_batch(id, &name)
                && let Some(link) = self.links.get_mut(id)
            {
                link.may_send(&name);
            }
        }
        if let Some(link) = self.links.get_mut(id)
            && !link.drained
            && link.up.as_ref().is_some_and(|up| up.in_flight() == 0)
        {
            link.drained = true;
            self.notify(Notice::Drained { link: id.clone() });
        }
    }

    /// Takes the log whose turn it is. As long as a store lacks what this replica wrote in a channel's roster, that goes out
    /// alone: the store shall hold nothing of an actor on whose behalf it cannot show others the device's word.
    fn next_to_send(&mut self, id: &LinkId) -> Option<LogName> {
        let owed = self.owed_roster(id).cloned();
        let turns = &mut self.links.get_mut(id)?.sending;
        match owed {
            Some(roster) => turns.dequeue_only(&roster),
            None => turns.dequeue(),
        }
    }

    /// Sends the next operations of one log that are due. Returns whether more of it are.
    fn send_batch(&mut self, id: &LinkId, name: &LogName) -> bool {
        if !self.up_mut(id).may_push(name) {
            return false;
        }
        let now = self.now;
        let Some(log) = self.logs.get_mut(name).filter(|log| log.is_in_use()) else { return false };
        let Some(peer) = log.peers.get_mut(&id.store) else { return false };
        let can_tell = peer.can_tell(log.base.as_deref());
        let (oplog, doubtful) = (&log.oplog, &log.doubtful);
        let fate = |key: &OrderKey| match (oplog.at(key), doubtful.get(key)) {
            (Some(op), _) => Fate::Goes { size: op.size() },
            (None, Some(op)) if can_tell => Fate::Goes { size: op.size() },
            (None, Some(_)) => Fate::Parks,
            (None, None) => Fate::Gone,
        };
        let full = |ops, bytes| ops >= CLIENT_PUSH_OPS_MAX || bytes >= CLIENT_PUSH_BYTES_MAX;
        let (keys, bytes) = peer.backlog.take(now, fate, full);
        let told = log.base_id().filter(|_| can_tell);
        let beyond =
            log.base_id().filter(|_| !keys.iter().any(|key| log.doubtful.contains_key(key))).map(|base| base.sha);
        let Some(peer) = log.peers.get_mut(&id.store) else { return false };
        let (more, later) = (peer.backlog.has_ready(), peer.backlog.next_at());
        self.sign_last(name, &keys);
        let log = self.log_mut(name);
        let ops: Vec<WireOp> = keys.iter().filter_map(|key| log.op_at(key)).map(WireOp::from).collect();
        if let Some(at) = later {
            self.wake(id, name, at);
        }
        if !keys.is_empty() {
            let tag = self.up_mut(id).ask(Request::Push { log: name.clone(), keys, bytes, told });
            self.send(id, ClientMessage::Push { tag, log: name.into(), ops, beyond });
        }
        more
    }

    pub(super) fn pushed(&mut self, id: &LinkId, tag: Tag, results: Vec<PushResult>) {
        let Some(Request::Push { log: name, keys, told, .. }) = self.up_mut(id).answered(tag) else { return };
        let (mut accepted, mut covered, mut refused) = (Vec::new(), Vec::new(), Vec::new());
        let mut results = results.into_iter();
        for key in keys {
            match results.next() {
                Some(PushResult::Accepted { sha } | PushResult::Known { sha }) if sha == key.sha => accepted.push(key),
                Some(PushResult::Covered { sha }) if sha == key.sha => covered.push(key),
                Some(PushResult::Refused(refusal)) => refused.push((key, refusal)),
                _ => refused.push((key, Refusal::new(ErrorCode::Internal, "the store's answer is to something else"))),
            }
        }
        if told.is_some() && told == self.log_mut(&name).base_id() {
            self.not_covered(id, &name, &accepted);
        }
        if !accepted.is_empty() {
            self.tell_name(id, &name);
        }
        self.hold(id, &name, &accepted, Standing::Accepted);
        self.hold(id, &name, &covered, Standing::Covered);
        self.covered(id, &name, &covered);
        let log = self.log_mut(&name);
        if accepted.iter().any(|key| log.doubtful.contains_key(key)) {
            // The base came while the answer was on its way, which says nothing about that.
            self.ask_about_doubts(&name);
        }
        self.refused(id, &name, refused);
        self.push_on(id, &name);
    }

    /// Sends what may have waited for the answer to a push of a log.
    pub(super) fn push_on(&mut self, id: &LinkId, name: &LogName) {
        let has_ready = |log: &Log| log.peers.get(&id.store).is_some_and(|peer| peer.backlog.has_ready());
        if self.logs.get(name).is_some_and(has_ready)
            && let Some(link) = self.links.get_mut(id)
        {
            link.may_send(name);
        }
        self.pump(id);
    }

    /// Notes that a store holds operations, and tells those who wait for it.
    pub(super) fn hold(&mut self, id: &LinkId, name: &LogName, keys: &[OrderKey], standing: Standing) {
        for key in keys {
            let log = self.log_mut(name);
            if let Some(peer) = log.peers.get_mut(&id.store) {
                peer.backlog.remove(key);
                peer.held_already(key);
            }
            let pending = log.pending.contains(key);
            let everywhere = pending && log.is_everywhere(key);
            let shown = pending && !everywhere && log.shown.insert(*key);
            self.tell(id.store, name, key, standing.clone());
            if everywhere {
                self.is_everywhere_now(name, key);
            } else if shown {
                self.persist_lazily(Record::Shown { log: name.clone(), sha: key.sha });
            }
        }
    }

    /// Forgets what is kept of an own operation for as long as some store may lack it.
    pub(super) fn is_everywhere_now(&mut self, name: &LogName, key: &OrderKey) {
        let log = self.log_mut(name);
        log.pending.remove(key);
        log.shown.remove(key);
        self.drop_receipt(name, key);
        self.persist_lazily(Record::Pending { log: name.clone(), sha: key.sha, pending: false });
    }

    pub(super) fn drop_receipt(&mut self, name: &LogName, key: &OrderKey) {
        if let Some(push) = self.log_mut(name).pushes.remove(&key.sha) {
            self.receipts.remove(&push);
        }
    }

    /// Brings a store's word into the receipt of a push.
    pub(super) fn tell(&mut self, store: StoreId, name: &LogName, key: &OrderKey, standing: Standing) {
        let push = self.logs.get(name).and_then(|log| log.pushes.get(&key.sha));
        let Some(receipt) = push.and_then(|push| self.receipts.get_mut(push)) else { return };
        if let Some(known) = receipt.stores.get_mut(&store)
            && *known != standing
        {
            *known = standing;
            let receipt = receipt.clone();
            self.notify(Notice::Receipt(receipt));
        }
    }

    /// Does with each refused operation what its reason asks for. The operations behind it are not held up.
    pub(super) fn refused(&mut self, id: &LinkId, name: &LogName, refused: Vec<(OrderKey, Refusal)>) {
        let (now, retry_at) = (self.now, self.retry_at());
        let mut ahead = None;
        for (key, refusal) in refused {
            let Some(peer) = self.log_mut(name).peers.get_mut(&id.store) else { return };
            if !peer.backlog.contains(&key) {
                // The store has shown meanwhile that it holds it.
                continue;
            }
            match (refusal.code, refusal.code.kind()) {
                (ErrorCode::ClockAhead, _) => {
                    ahead = refusal.now.or(ahead);
                    let again = refusal.now.map(|store_now| now.plus(wait_for(key.date, store_now)));
                    peer.backlog.refuse(key, refusal.clone(), again);
                }
                (ErrorCode::Unsigned, _) => {
                    let at = if self.sign_alone(name, &key) { now } else { retry_at };
                    let Some(peer) = self.log_mut(name).peers.get_mut(&id.store) else { return };
                    peer.backlog.put_off(key, at, false);
                }
                // It is asked again when the store has been told what its base covers.
                (ErrorCode::CoverageUnknown, _) => peer.backlog.park(key),
                (code, ErrorKind::Retry | ErrorKind::LogIn) => {
                    // A disk that fails says so of what it may have written, too.
                    use ErrorCode::{InsufficientStorage, Sealed, TooMany};
                    let in_doubt = !matches!(code, InsufficientStorage | TooMany | Sealed);
                    peer.backlog.put_off(key, retry_at, in_doubt);
                }
                (_, ErrorKind::FixInput | ErrorKind::GiveUp) => peer.backlog.refuse(key, refusal.clone(), None),
            }
            self.tell(id.store, name, &key, Standing::Refused(refusal));
        }
        if let Some(store_now) = ahead {
            self.date_again(name, store_now);
        }
        let later = self.logs.get(name).and_then(|log| log.peers.get(&id.store)?.backlog.next_at());
        if let Some(at) = later {
            self.wake(id, name, at);
        }
    }
}

/// Returns how many microseconds a store will go on finding a date too far ahead.
fn wait_for(date: Date, store_now: Date) -> i64 {
    const MARGIN_MICROS: u64 = 1_000_000;
    (date.since(store_now).saturating_sub(CLOCK_AHEAD_MICROS_MAX) + MARGIN_MICROS) as i64
}
