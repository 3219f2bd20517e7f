//! Dating operations again whose author's clock was ahead.

use std::collections::{BTreeMap, BTreeSet};

use super::log::Log;
use super::{Notice, Origin, Record, Replica, Standing};
use crate::date::Date;
use crate::id::{ActorId, Sha};
use crate::name::LogName;
use crate::op::{Op, OrderKey};

impl Replica {
    /// Dates own operations of a log again by a store's clock, if their dates are ahead of it and nobody else has seen
    /// them: no store can hold them, and nobody else's operation depends on them.
    pub(super) fn date_again(&mut self, name: &LogName, store_now: Date) {
        self.clock_offset = store_now.micros() as i64 - self.now.micros() as i64;
        let actor = self.config.actor;
        let log = self.log_mut(name);
        let ahead = log.private_after(actor, store_now);
        if ahead.is_empty() {
            return;
        }
        let dated = log.date_again(name, &ahead, store_now);
        let mut records = Vec::new();
        for (old, again) in &dated {
            let log = name.clone();
            records.push(Record::Forget { log: log.clone(), sha: old.sha });
            records.push(Record::Pending { log: log.clone(), sha: old.sha, pending: false });
            records.push(Record::Op { log: log.clone(), op: again.clone() });
            records.push(Record::Pending { log, sha: again.sha(), pending: true });
            let push = self.log_mut(name).pushes.get(&again.sha()).copied();
            if let Some(receipt) = push.and_then(|push| self.receipts.get_mut(&push)) {
                receipt.sha = again.sha();
                receipt.durable = false;
                receipt.stores.values_mut().for_each(|standing| *standing = Standing::Queued);
            }
        }
        let ops: Vec<Op> = dated.into_iter().map(|(_, op)| op).collect();
        let keys: Vec<OrderKey> = ops.iter().map(Op::key).collect();
        self.notify(Notice::Changed { log: name.clone(), ops, origin: Origin::Here });
        if self.config.durable {
            self.log_mut(name).unsaved.extend(keys.iter().map(|key| key.sha));
            self.persist(records);
        } else {
            self.may_send(name, &keys);
        }
    }
}

impl Log {
    /// Returns the actor's operations dated after `date`, if nobody else has seen any of them.
    fn private_after(&self, actor: ActorId, date: Date) -> BTreeSet<OrderKey> {
        let own = |key: &&OrderKey| key.date > date && key.actor == actor && self.is_private(key);
        let ahead: BTreeSet<OrderKey> = self.pending.iter().filter(own).copied().collect();
        let others = self.oplog.iter_after(ahead.first()).filter(|op| !ahead.contains(&op.key()));
        let seen = others.flat_map(Op::deps).any(|dep| ahead.iter().any(|key| key.sha == *dep));
        if seen { BTreeSet::new() } else { ahead }
    }

    /// Replaces operations by ones with dates from `date` on, in the same order. Returns the old places and the new
    /// operations.
    fn date_again(&mut self, name: &LogName, ahead: &BTreeSet<OrderKey>, date: Date) -> Vec<(OrderKey, Op)> {
        let shas: Vec<Sha> = ahead.iter().map(|key| key.sha).collect();
        let mut renamed: BTreeMap<Sha, Sha> = BTreeMap::new();
        let mut dated = Vec::with_capacity(shas.len());
        for op in self.oplog.remove_all(&shas) {
            let mut draft = op.draft().clone();
            draft.date = Date::after(date, self.oplog.max_date());
            draft.deps.iter_mut().for_each(|dep| *dep = renamed.get(dep).copied().unwrap_or(*dep));
            draft.deps.sort_unstable();
            let again =
                draft.finish(name).expect("only the date and hashes of an operation changed that was well formed");
            self.oplog.insert(again.clone());
            renamed.insert(op.sha(), again.sha());
            dated.push((op.key(), again));
        }
        for (old, again) in &dated {
            self.pending.remove(old);
            self.pending.insert(again.key());
            self.unsaved.remove(&old.sha);
            self.peers.values_mut().for_each(|peer| peer.forget(old));
            if let Some(push) = self.pushes.remove(&old.sha) {
                self.pushes.insert(again.sha(), push);
            }
        }
        self.refold();
        dated
    }
}
