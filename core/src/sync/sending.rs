//! Sending own operations, and what stores say to them.

use super::link::Request;
use super::log::Loaded;
use super::{LinkId, Notice, Record, Replica, Standing};
use crate::api::PushResult;
use crate::date::Date;
use crate::error::{ErrorCode, ErrorKind, Refusal};
use crate::id::StoreId;
use crate::limits::{CLIENT_PUSH_BYTES_MAX, CLIENT_PUSH_OPS_MAX};
use crate::name::{ChannelName, LogName};
use crate::op::OrderKey;
use crate::wire::{ClientMessage, Tag, WireOp};

/// How long a store that is full, failing or busy is left alone with an operation, in microseconds.
const RETRY_PUSH_MICROS: u64 = 10_000_000;

impl Replica {
    /// Lets own operations go out, because nothing more has to happen here first.
    pub(super) fn may_send(&mut self, name: &LogName, keys: &[OrderKey]) {
        let now = self.now;
        let log = self.log_mut(name);
        let mut stores = Vec::new();
        for (store, peer) in &mut log.peers {
            let wanted = keys.iter().filter(|key| !peer.refused.contains_key(key));
            peer.lacks.extend(wanted.map(|key| (*key, now)));
            stores.push(*store);
        }
        if stores.is_empty() && self.config.durable {
            // Nobody else will ever say anything to these pushes: they are as far as they get.
            for key in keys {
                self.log_mut(name).pushes.remove(&key.sha).map(|push| self.receipts.remove(&push));
            }
        }
        for store in stores {
            let id = LinkId { channel: name.channel.clone(), store };
            if let Some(link) = self.links.get_mut(&id) {
                link.enqueue(name);
            }
            self.pump(&id);
        }
    }

    /// Sends everything that may wait at once, and tries again what was refused for now, so that a flush ends soon.
    pub fn hurry(&mut self, now: Date, channel: Option<&ChannelName>) {
        self.now = now;
        let mut hurried = Vec::new();
        for (name, log) in &mut self.logs {
            if channel.is_some_and(|channel| *channel != name.channel) {
                continue;
            }
            for (store, peer) in log.peers.iter_mut().filter(|(_, peer)| !peer.lacks.is_empty()) {
                peer.lacks.values_mut().for_each(|at| *at = (*at).min(now));
                hurried.push((LinkId { channel: name.channel.clone(), store: *store }, name.clone()));
            }
        }
        for (id, name) in hurried {
            if let Some(link) = self.links.get_mut(&id) {
                link.enqueue(&name);
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
            let Some(link) = self.links.get_mut(id) else { return };
            if !link.up.as_ref().is_some_and(super::Up::has_room) {
                return;
            }
            let Some(name) = link.dequeue() else { break };
            if self.send_batch(id, &name)
                && let Some(link) = self.links.get_mut(id)
            {
                link.enqueue(&name);
            }
        }
        if self.is_drained(id) {
            self.notify(Notice::Drained { link: id.clone() });
        }
    }

    /// Sends the next operations of one log that are due. Returns whether more of it are.
    fn send_batch(&mut self, id: &LinkId, name: &LogName) -> bool {
        let now = self.now;
        let Some(log) = self.logs.get_mut(name).filter(|log| log.loaded == Loaded::Yes) else { return false };
        let Some(peer) = log.peers.get_mut(&id.store) else { return false };
        let (mut ops, mut keys, mut bytes) = (Vec::new(), Vec::new(), 0);
        let (mut more, mut later) = (false, None::<Date>);
        for (key, at) in &peer.lacks {
            if peer.in_flight.contains(key) {
                continue;
            }
            if *at > now {
                later = Some(later.map_or(*at, |earliest| earliest.min(*at)));
                continue;
            }
            if keys.len() >= CLIENT_PUSH_OPS_MAX || bytes >= CLIENT_PUSH_BYTES_MAX {
                more = true;
                break;
            }
            if let Some(op) = log.oplog.at(key) {
                bytes += op.size();
                ops.push(WireOp::from(op));
                keys.push(*key);
            }
        }
        peer.in_flight.extend(keys.iter().copied());
        if let Some(at) = later {
            self.timers.insert((at, id.clone(), name.clone()));
        }
        if !keys.is_empty() {
            let tag = self.up_mut(id).ask(Request::Push { log: name.clone(), keys, bytes });
            self.send(id, ClientMessage::Push { tag, log: name.into(), ops });
        }
        more
    }

    pub(super) fn pushed(&mut self, id: &LinkId, tag: Tag, results: Vec<PushResult>) {
        let Some(Request::Push { log: name, keys, .. }) = self.up_mut(id).answered(tag) else { return };
        let (mut accepted, mut covered, mut refused) = (Vec::new(), Vec::new(), Vec::new());
        for (key, result) in keys.iter().zip(results) {
            match result {
                PushResult::Accepted { .. } | PushResult::Known { .. } => accepted.push(*key),
                PushResult::Covered { .. } => covered.push(*key),
                PushResult::Refused(refusal) => refused.push((*key, refusal)),
            }
        }
        self.hold(id, &name, &accepted, Standing::Accepted);
        self.hold(id, &name, &covered, Standing::Covered);
        self.refused(id, &name, refused);
        self.pump(id);
    }

    /// Notes that a store holds operations, and tells those who wait for it.
    pub(super) fn hold(&mut self, id: &LinkId, name: &LogName, keys: &[OrderKey], standing: Standing) {
        for key in keys {
            let log = self.log_mut(name);
            log.held(id.store, key);
            let everywhere = log.pending.contains(key) && log.is_everywhere(key);
            if everywhere {
                log.pending.remove(key);
            }
            self.tell(id.store, name, key, standing.clone());
            if everywhere {
                self.log_mut(name).pushes.remove(&key.sha).map(|push| self.receipts.remove(&push));
                self.persist_lazily(Record::Pending { log: name.clone(), sha: key.sha, pending: false });
            }
        }
    }

    /// Brings a store's word into the receipt of a push.
    fn tell(&mut self, store: StoreId, name: &LogName, key: &OrderKey, standing: Standing) {
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
        let mut ahead = None;
        for (key, refusal) in refused {
            if refusal.code == ErrorCode::ClockAhead {
                ahead = refusal.now.or(ahead);
            }
            let retry_at = matches!(refusal.code.kind(), ErrorKind::Retry | ErrorKind::LogIn)
                .then(|| self.now.plus((RETRY_PUSH_MICROS + self.random_below(RETRY_PUSH_MICROS)) as i64));
            let Some(peer) = self.log_mut(name).peers.get_mut(&id.store) else { return };
            peer.forget(&key);
            match retry_at {
                Some(at) => {
                    peer.lacks.insert(key, at);
                    self.timers.insert((at, id.clone(), name.clone()));
                }
                None => {
                    peer.refused.insert(key, refusal.clone());
                }
            }
            self.tell(id.store, name, &key, Standing::Refused(refusal));
        }
        if let Some(store_now) = ahead {
            self.date_again(name, store_now);
        }
    }

    /// Tells whether a store has nothing more to be told of any log.
    pub(super) fn is_drained(&self, id: &LinkId) -> bool {
        let mut peers = self.logs.iter().filter(|(name, _)| name.channel == id.channel);
        peers
            .all(|(_, log)| log.unsaved.is_empty() && log.peers.get(&id.store).is_none_or(|peer| peer.lacks.is_empty()))
    }
}
