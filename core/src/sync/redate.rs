//! Dating operations again whose author's clock was ahead.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde_json::{Value, json};

use super::log::Log;
use super::{Notice, Origin, Record, Replica, Standing};
use crate::date::Date;
use crate::id::{ActorId, Sha};
use crate::name::LogName;
use crate::op::{Draft, Op, OrderKey, Payload};

impl Replica {
    /// Dates own operations of a log again by a store's clock, if their dates are ahead of it and nobody else has seen
    /// them: no store can hold them, and nobody else's operation depends on them.
    pub(super) fn date_again(&mut self, name: &LogName, store_now: Date) {
        self.clock_offset = (store_now.micros() as i64 - self.now.micros() as i64).min(0);
        let actor = self.config.actor;
        let log = self.log_mut(name);
        let ahead = log.private_after(actor, store_now);
        let dated = log.date_again(name, &ahead, store_now);
        if dated.is_empty() {
            return;
        }
        self.wake_when_due(name);
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
                let receipt = receipt.clone();
                self.notify(Notice::Receipt(receipt));
            }
        }
        let ops: Vec<Op> = dated.into_iter().map(|(_, op)| op).collect();
        let keys: Vec<OrderKey> = ops.iter().map(Op::key).collect();
        self.notify(Notice::Changed { log: name.clone(), ops, origin: Origin::Here });
        if self.config.durable {
            let log = self.log_mut(name);
            log.unsaved.extend(keys.iter().map(|key| key.sha));
            log.replacing.extend(keys.iter().map(|key| key.sha));
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
        let shas: BTreeSet<Sha> = ahead.iter().map(|key| key.sha).collect();
        let others = self.oplog.iter_after(ahead.first()).filter(|op| !ahead.contains(&op.key()));
        let seen = others.flat_map(Op::deps).any(|dep| shas.contains(dep));
        // What cannot be opened here could not be sealed again.
        let closed = ahead.iter().filter_map(|key| self.oplog.at(key)).any(|op| op.content().is_err());
        if seen || closed { BTreeSet::new() } else { ahead }
    }

    /// Gives operations dates from `date` on, in the same order and each after what it depends on. Returns the old places
    /// and the new operations. Those stay as they are which would have the dates that they have.
    fn date_again(&mut self, name: &LogName, ahead: &BTreeSet<OrderKey>, date: Date) -> Vec<(OrderKey, Op)> {
        let mut renamed: BTreeMap<Sha, Op> = BTreeMap::new();
        let mut dated: Vec<(OrderKey, Op)> = Vec::new();
        let mut last = None;
        let sealer = self.sealer.clone();
        for op in ahead.iter().filter_map(|key| self.oplog.at(key)) {
            let deps = op.deps().iter().filter_map(|dep| renamed.get(dep).or_else(|| self.oplog.get(dep)));
            let seen = deps.map(Op::date).max().max(last).max(self.base.as_ref().map(|base| base.checkpoint.date));
            let mut draft = op.draft().clone();
            // What a crash took from the local disk and is still to be read again may be dated later than all else.
            if op.deps().iter().all(|dep| self.oplog.contains(dep)) {
                draft.date = Date::after(date, seen).min(draft.date);
            }
            draft.deps.iter_mut().for_each(|dep| *dep = renamed.get(dep).map_or(*dep, Op::sha));
            draft.deps.sort_unstable();
            let content = op.content().ok().map(|content| renamed_payload(content, &renamed));
            last = Some(draft.date);
            let moved = draft != *op.draft();
            match (content, &sealer) {
                (Some((content, renames)), None) if renames => draft.payload = Payload::Plain(content),
                // The payload is bound to the date and to what it depends on.
                (Some((content, renames)), Some(sealer)) if renames || moved => {
                    let plain = Draft { payload: Payload::Plain(content), ..draft };
                    draft = sealer.seal(plain).expect("no longer than what was sealed before");
                }
                _ => {}
            }
            if draft == *op.draft() {
                continue;
            }
            let again = draft.finish(name).expect("only dates and hashes changed of an operation that was well formed");
            renamed.insert(op.sha(), again.clone());
            dated.push((op.key(), again));
        }
        if !dated.is_empty() {
            let shas: Vec<Sha> = dated.iter().map(|(old, _)| old.sha).collect();
            self.oplog.remove_all(&shas);
            dated.iter().for_each(|(old, again)| self.replace(old, again));
            self.refold();
        }
        dated
    }

    /// Puts an operation where another was.
    fn replace(&mut self, old: &OrderKey, again: &Op) {
        self.open(again);
        self.oplog.insert(again.clone());
        self.pending.remove(old);
        self.pending.insert(again.key());
        self.unsaved.remove(&old.sha);
        self.replacing.remove(&old.sha);
        self.peers.values_mut().for_each(|peer| peer.backlog.remove(old));
        if let Some(push) = self.pushes.remove(&old.sha) {
            self.pushes.insert(again.sha(), push);
        }
    }
}

/// Returns a payload's content in which operations that were dated again are named as they are now. Reducers name what a person
/// saw, such as the elements that a remove takes out, by the shas of operations, or by their places in the order of
/// replay, `[date, actor, seq, sha]`. Tells whether there was one.
fn renamed_payload(content: &Bytes, renamed: &BTreeMap<Sha, Op>) -> (Bytes, bool) {
    if renamed.is_empty() {
        return (content.clone(), false);
    }
    let Ok(mut value) = serde_json::from_slice::<Value>(content) else { return (content.clone(), false) };
    match rename(&mut value, renamed) {
        true => (crate::json::canonical(&value).into(), true),
        false => (content.clone(), false),
    }
}

/// Renames in all strings and names of a value. Returns whether there was one.
fn rename(value: &mut Value, renamed: &BTreeMap<Sha, Op>) -> bool {
    let now = |text: &str| Some(renamed.get(&text.parse().ok()?)?.sha().to_string());
    match value {
        Value::String(text) => match now(text) {
            Some(again) => {
                *text = again;
                true
            }
            None => false,
        },
        Value::Array(items) => {
            if let [date, actor, seq, Value::String(sha)] = items.as_mut_slice()
                && let Some(again) = sha.parse().ok().and_then(|sha| renamed.get(&sha))
                && *actor == json!(again.actor())
                && *seq == json!(again.seq())
            {
                *date = json!(again.date());
            }
            items.iter_mut().fold(false, |found, item| rename(item, renamed) | found)
        }
        Value::Object(members) => {
            let names: Vec<(String, String)> =
                members.keys().filter_map(|name| Some((name.clone(), now(name)?))).collect();
            let mut found = !names.is_empty();
            for (old, again) in names {
                let member = members.remove(&old);
                members.extend(member.map(|member| (again, member)));
            }
            members.values_mut().for_each(|member| found |= rename(member, renamed));
            found
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}
