//! Who wrote what, in sealed channels: signing what goes out, and believing of what comes in only what is vouched for.
//!
//! An operation is believed if a device of somebody who may write signed it, or signed one that names it as what the same
//! actor wrote before. What is not believed is kept apart: it is not folded, nothing here depends on it, it is handed to
//! nobody, and it is believed as soon as a signature or the roster says so. The device's own disk is believed.
//! `docs/crypto.md` §7 tells why that suffices.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Deserialize;

use super::log::{Installed, Log, Taken};
use super::{LinkId, Notice, Origin, PushError, Receipt, Record, Replica, Seen};
use crate::checkpoint::Checkpoint;
use crate::covers::{Covers, Place};
use crate::date::Date;
use crate::id::{ActorId, Seq, Sha, StoreId};
use crate::name::{ChannelName, LogName};
use crate::op::{Op, OrderKey, Signature};
use crate::seal::{Roster, RosterEntry, Unvouched, roster_log};

/// Operations that nobody vouches for yet, of one log.
#[derive(Default)]
pub(super) struct Unproven {
    ops: BTreeMap<ActorId, BTreeMap<OrderKey, Waiting>>,
    shas: BTreeSet<Sha>,
}

struct Waiting {
    op: Op,
    /// What the roster that there is says to its signature.
    why: Option<Unvouched>,
}

impl Unproven {
    pub(super) fn contains(&self, sha: &Sha) -> bool {
        self.shas.contains(sha)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.shas.is_empty()
    }

    /// Tells whether anything that waits was written by an actor.
    pub(super) fn has_of(&self, actor: ActorId) -> bool {
        self.ops.contains_key(&actor)
    }

    fn insert(&mut self, op: Op) {
        self.shas.insert(op.sha());
        self.ops.entry(op.actor()).or_default().insert(op.key(), Waiting { op, why: None });
    }

    /// Forgets what was said of signatures by a roster that has changed.
    fn forget_verdicts(&mut self) {
        self.ops.values_mut().flat_map(BTreeMap::values_mut).for_each(|waiting| waiting.why = None);
    }

    /// Forgets an operation that is believed for another reason.
    pub(super) fn remove(&mut self, op: &Op) {
        if self.shas.remove(&op.sha())
            && let Some(ops) = self.ops.get_mut(&op.actor())
        {
            ops.remove(&op.key());
            self.ops.retain(|_, ops| !ops.is_empty());
            self.shrink();
        }
    }

    /// Keeps nothing reserved once nothing waits any more.
    fn shrink(&mut self) {
        if self.is_empty() {
            *self = Self::default();
        }
    }

    fn iter(&self) -> impl Iterator<Item = &Waiting> {
        self.ops.values().flat_map(BTreeMap::values)
    }

    /// Forgets what a base covers.
    pub(super) fn drop_covered(&mut self, covers: &Covers) {
        self.ops.values_mut().for_each(|ops| ops.retain(|_, waiting| covers.place_of(&waiting.op) != Place::Inside));
        self.ops.retain(|_, ops| !ops.is_empty());
        self.shas = self.iter().map(|waiting| waiting.op.sha()).collect();
        self.shrink();
    }

    /// Takes out what an actor wrote and is vouched for. `named` tells of what is believed already whether it names an
    /// operation as what its author wrote before.
    fn take_vouched(&mut self, actor: ActorId, roster: &Roster, named: impl Fn(&Op) -> bool) -> Vec<Op> {
        let mut vouched = Vec::new();
        let mut before: BTreeMap<Sha, Seq> = BTreeMap::new();
        let mut rest = BTreeMap::new();
        for (key, mut waiting) in self.ops.remove(&actor).unwrap_or_default().into_iter().rev() {
            let op = &waiting.op;
            let is_named = before.get(&op.sha()) == Some(&op.seq().next()) || named(op);
            if !is_named && waiting.why.is_none() {
                waiting.why = roster.check_op(op).err();
            }
            if is_named || waiting.why.is_none() {
                before.extend(op.deps().iter().map(|dep| (*dep, op.seq())));
                self.shas.remove(&op.sha());
                vouched.push(waiting.op);
            } else {
                rest.insert(key, waiting);
            }
        }
        if !rest.is_empty() {
            self.ops.insert(actor, rest);
        }
        self.shrink();
        vouched
    }
}

impl Log {
    /// Returns of operations that a store told of what is believed, with what is believed now that they came, in the
    /// order of replay.
    pub(super) fn believe(&mut self, ops: Vec<Op>) -> Vec<Op> {
        let Some(roster) = self.roster().cloned() else { return ops };
        let (mut believed, new): (Vec<Op>, Vec<Op>) =
            ops.into_iter().partition(|op| self.oplog.contains(&op.sha()) || self.doubtful.contains_key(&op.key()));
        let actors: BTreeSet<ActorId> = new.iter().map(Op::actor).collect();
        new.into_iter().for_each(|op| self.unproven.insert(op));
        actors.into_iter().for_each(|actor| believed.extend(self.take_vouched(actor, &roster)));
        believed.sort_by_key(Op::key);
        believed
    }

    /// Returns of what waits what is believed by now, in the order of replay.
    fn believed_now(&mut self) -> Vec<Op> {
        let Some(roster) = self.roster().cloned() else { return Vec::new() };
        let actors: Vec<ActorId> = self.unproven.ops.keys().copied().collect();
        let mut believed: Vec<Op> = actors.into_iter().flat_map(|actor| self.take_vouched(actor, &roster)).collect();
        believed.sort_by_key(Op::key);
        believed
    }

    fn take_vouched(&mut self, actor: ActorId, roster: &Roster) -> Vec<Op> {
        let Self { unproven, oplog, doubtful, base, .. } = self;
        // What a base covers names what its author did not hold: whoever wrote that believed it.
        let is_absent = |op: &Op| {
            let base = base.as_ref().map(|base| &base.checkpoint);
            let before = |base: &&Arc<Checkpoint>| base.covers.last_seq(op.actor()) > Some(op.seq());
            base.filter(before).is_some_and(|base| base.absent.binary_search(&op.sha()).is_ok())
        };
        unproven.take_vouched(actor, roster, |op| {
            let names = |next: &Op| {
                next.actor() == op.actor() && next.seq() == op.seq().next() && next.deps().contains(&op.sha())
            };
            oplog.is_awaited(&op.sha()) && oplog.iter_after(Some(&op.key())).any(names)
                || doubtful.values().any(names)
                || is_absent(op)
        })
    }

    /// Returns the base's checkpoint as the fold reads it.
    ///
    /// # Errors
    /// A sentence that says why it is not to be read: nobody who may write has signed it, or it does not open.
    pub(super) fn believed(&self, base: &Installed) -> Result<Checkpoint, String> {
        if let Some((roster, log)) = self.roster().zip(self.sealer.as_ref().map(super::sealed::Sealer::log)) {
            let signature = Checkpoint::signature_in(&base.base.record);
            roster.check_checkpoint(log, &base.checkpoint, signature.as_ref()).map_err(|why| why.to_string())?;
        }
        self.readable(&base.checkpoint).map_err(|why| why.to_string())
    }

    pub(super) fn roster(&self) -> Option<&Arc<Roster>> {
        self.sealer.as_ref().and_then(super::sealed::Sealer::roster)
    }

    /// Returns what a new operation of an actor names as seen: the heads, and what the actor wrote before.
    pub(super) fn deps(&self, actor: ActorId) -> Vec<Sha> {
        let doubtful = self.doubtful.keys().filter(|key| key.actor == actor).map(|key| (key.seq, key.sha));
        let before = doubtful.chain(self.oplog.last_of(actor)).max_by_key(|(seq, _)| *seq);
        self.oplog.deps_with(before.map(|(_, sha)| sha))
    }
}

impl Replica {
    /// Returns the operations of a log that nobody vouches for, each with what is missing. They take effect once somebody does.
    pub fn unproven(&self, log: &LogName) -> impl Iterator<Item = (&Op, String)> {
        let waiting = self.logs.get(log).into_iter().flat_map(|log| log.unproven.iter());
        waiting.map(|waiting| (&waiting.op, waiting.why.as_ref().map(Unvouched::to_string).unwrap_or_default()))
    }

    /// Returns who may do what in a sealed channel, as far as its roster was read.
    pub fn roster(&self, channel: &ChannelName) -> Option<&Arc<Roster>> {
        self.sealed.get(channel).map(|sealed| &sealed.roster)
    }

    /// Opens the roster of a sealed channel. Returns the name that its log is known by; nothing if the channel is in the clear.
    pub fn open_roster(&mut self, now: Date, channel: &ChannelName) -> Option<LogName> {
        let log = self.sealed.get(channel)?.roster_log.clone();
        self.open(now, &log);
        Some(log)
    }

    /// Adds entries to the roster of a sealed channel.
    ///
    /// # Errors
    /// [`PushError`] if the roster is not open, or an entry is none.
    pub fn enroll(&mut self, now: Date, channel: &ChannelName, entries: &[RosterEntry]) -> Result<Receipt, PushError> {
        let log = self.sealed.get(channel).map(|sealed| sealed.roster_log.clone());
        let log = log.unwrap_or_else(|| roster_log(&self.config.user, channel));
        let payload = serde_json::to_value(entries).unwrap_or_default();
        self.push(now, &log, &payload)
    }

    /// Returns the roster's log of the channel of a log, unless it is that one or the channel is in the clear.
    pub(super) fn roster_of(&self, name: &LogName) -> Option<&LogName> {
        self.sealed.get(&name.channel).map(|sealed| &sealed.roster_log).filter(|roster| *roster != name)
    }

    /// Returns the roster's log of a channel if a store is still to be brought what this replica has to say there.
    pub(super) fn owed_roster(&self, id: &LinkId) -> Option<&LogName> {
        let roster = &self.sealed.get(&id.channel)?.roster_log;
        let log = self.logs.get(roster)?;
        let owed = log.peers.get(&id.store).is_some_and(|peer| log.is_owed(self.config.actor, peer));
        (owed || !log.unsaved.is_empty()).then_some(roster)
    }

    pub(super) fn is_roster(&self, name: &LogName) -> bool {
        self.sealed.get(&name.channel).is_some_and(|sealed| sealed.roster_log == *name)
    }

    /// Makes sure that others can know on which device they write whose operations an earlier process left behind.
    pub(super) fn certify_pending(&mut self, name: &LogName) {
        let Some(log) = self.logs.get(name) else { return };
        let actors: BTreeSet<ActorId> = log.pending.iter().map(|key| key.actor).collect();
        actors.into_iter().for_each(|actor| self.certify(name, actor));
    }

    /// Makes sure that others can know on which device an actor writes in the channel of a log.
    pub(super) fn certify(&mut self, name: &LogName, actor: ActorId) {
        if self.roster_of(name).is_none() {
            return;
        }
        let Some(sealed) = self.sealed.get(&name.channel) else { return };
        if sealed.roster.is_certified(actor, &sealed.device.public()) {
            return;
        }
        let (channel, entries) = (name.channel.clone(), sealed.device.entries(actor, self.now));
        // It cannot be refused: the roster is loaded before any other log of the channel.
        _ = self.enroll(self.now, &channel, &entries);
    }

    /// Signs of own operations that go out together those that no other of them names as what its author wrote before.
    pub(super) fn sign_last(&self, name: &LogName, keys: &[OrderKey]) {
        let Some(log) = self.logs.get(name).filter(|_| self.roster_of(name).is_some()) else { return };
        let mut before: BTreeSet<(ActorId, Seq, Sha)> = BTreeSet::new();
        for key in keys.iter().rev() {
            if !before.remove(&(key.actor, key.seq.next(), key.sha)) {
                self.sign_alone(name, key);
            }
            let deps = log.op_at(key).into_iter().flat_map(Op::deps);
            before.extend(deps.map(|dep| (key.actor, key.seq, *dep)));
        }
    }

    /// Signs an operation if it is an own one of a sealed channel. Returns whether it is.
    pub(super) fn sign_alone(&self, name: &LogName, key: &OrderKey) -> bool {
        let sealed = self.sealed.get(&name.channel).filter(|sealed| sealed.roster_log != *name);
        let Some((sealed, log)) = sealed.zip(self.logs.get(name)) else { return false };
        let own = log.pending.contains(key) || sealed.roster.is_certified(key.actor, &sealed.device.public());
        let op = log.op_at(key).filter(|_| own);
        op.inspect(|op| op.sign_with(|sha| sealed.device.sign_op(sha))).is_some()
    }

    /// Signs a checkpoint of this replica's, if its channel is sealed.
    pub(super) fn sign_checkpoint(&mut self, name: &LogName, checkpoint: &Checkpoint) -> Option<Signature> {
        self.certify(name, checkpoint.author);
        let sealed = self.sealed.get(&name.channel)?;
        Some(sealed.device.sign_checkpoint(checkpoint.sha(name)))
    }

    /// Reads what is new in a channel's roster, and believes what it says. An entry that was there stays: where somebody cut
    /// it out with a base, it is written once more.
    pub(super) fn read_roster(&mut self, channel: &ChannelName) {
        let Some(log) = self.sealed.get(channel).map(|sealed| sealed.roster_log.clone()) else { return };
        let Some(value) = self.value(&log) else { return };
        let Some(sealed) = self.sealed.get_mut(channel) else { return };
        let read: BTreeSet<RosterEntry> = BTreeSet::deserialize(&*value).unwrap_or_default();
        let cut: Vec<RosterEntry> = sealed.entries.difference(&read).cloned().collect();
        let new: Vec<RosterEntry> = read.difference(&sealed.entries).cloned().collect();
        if !new.is_empty() {
            sealed.entries.extend(new.iter().cloned());
            Arc::make_mut(&mut sealed.roster).extend(new);
            self.follow_roster(channel);
        }
        if !cut.is_empty() {
            // It cannot be refused: the roster is loaded, and these are its own entries.
            _ = self.enroll(self.now, channel, &cut);
        }
    }

    /// Has the logs of a channel believed by a roster that has changed.
    pub(super) fn follow_roster(&mut self, channel: &ChannelName) {
        let Some(sealed) = self.sealed.get(channel) else { return };
        let (mut waiting, mut troubled) = (Vec::new(), Vec::new());
        for (name, log) in self.logs.all_quietly().filter(|(name, _)| name.channel == *channel) {
            if let Some(sealer) = log.sealer.as_mut().filter(|_| *name != sealed.roster_log) {
                sealer.set_roster(sealed.roster.clone());
            }
            if !log.unproven.is_empty() {
                log.unproven.forget_verdicts();
                waiting.push(name.clone());
            }
            if log.fold.as_ref().is_some_and(|fold| fold.trouble().is_some()) {
                log.refold();
                troubled.push(name.clone());
            }
        }
        for log in troubled {
            self.notify(Notice::Changed { log, ops: Vec::new(), origin: Origin::Here });
        }
        waiting.iter().for_each(|name| self.take_believed(name));
    }

    /// Takes in what is believed now and was not before.
    pub(super) fn take_believed(&mut self, name: &LogName) {
        let receives = self.mode.receives();
        let log = self.log_mut(name);
        let believed = log.believed_now();
        if believed.is_empty() {
            return;
        }
        let (mut gained, mut doubtful) = (Vec::new(), Vec::new());
        for op in believed {
            match log.take(&op) {
                Taken::New => gained.push(op),
                Taken::Doubtful => doubtful.push(op),
                Taken::Known | Taken::Covered => {}
            }
        }
        // Where nothing is taken in, it is what a neighbour brought that vouches for what was heard before.
        let from = log.peers.keys().next().copied().filter(|_| receives);
        let origin = from.map_or(Origin::Neighbour, Origin::Store);
        self.gained(name, gained, doubtful, None, origin);
        self.keep_seen(name, None);
    }

    /// Does what follows when operations were taken in that others wrote: they are kept, handed on, and told of.
    pub(super) fn gained(
        &mut self,
        name: &LogName,
        gained: Vec<Op>,
        doubtful: Vec<Op>,
        from: Option<&LinkId>,
        origin: Origin,
    ) {
        let keys: Vec<OrderKey> = gained.iter().chain(&doubtful).map(Op::key).collect();
        self.offer_later(name, &keys, from);
        let records = gained.iter().chain(&doubtful).map(|op| Record::Op { log: name.clone(), op: op.clone() });
        let records: Vec<Record> = records.collect();
        if !records.is_empty() {
            self.persist(records);
        }
        if !doubtful.is_empty() && from.is_none() {
            self.ask_about_doubts(name);
        }
        if !gained.is_empty() {
            self.notify(Notice::Changed { log: name.clone(), ops: gained, origin });
            self.plan_pruning(name);
        }
    }

    /// Keeps how far a log was read from one store, or from all of them, if everything that was read is kept: what nobody
    /// vouches for is read once more after a restart.
    pub(super) fn keep_seen(&mut self, name: &LogName, only: Option<StoreId>) {
        let Some(log) = self.logs.get(name).filter(|log| log.unproven.is_empty()) else { return };
        let peers = log.peers.iter().filter(|(store, _)| only.is_none_or(|only| only == **store));
        let seen: Vec<(StoreId, Seen)> = peers.filter_map(|(store, peer)| Some((*store, peer.seen?))).collect();
        for (store, seen) in seen {
            self.persist_lazily(Record::Seen { log: name.clone(), store, seen });
        }
    }
}

#[cfg(test)]
mod tests;
