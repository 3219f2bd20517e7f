//! The base of a log: meeting a committed checkpoint, installing it, and telling late operations from covered ones.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::backlog::Backlog;
use super::link::Request;
use super::log::{Installed, Listing, Loaded, Log, Peer, Reading};
use super::{LinkId, Notice, Origin, Output, Record, Replica, Standing};
use crate::api::LogHeader;
use crate::checkpoint::{Base, Checkpoint};
use crate::commit::with_all;
use crate::covers::Place;
use crate::fold::Folded;
use crate::id::{Sha, StoreId};
use crate::name::LogName;
use crate::op::{Op, OrderKey, Payload};
use crate::oplog::Oplog;
use crate::wire::{ClientMessage, LogRef, Tag, WireBase};

/// Operations that are folded once more to check the state of a base, where the log holds others beside them.
const VERIFIED_OPS_MAX: usize = 4096;

impl Replica {
    /// Takes in the base that came with the answer to a read.
    pub(super) fn read_base(&mut self, id: &LinkId, tag: Tag, wire: &WireBase) {
        let Some(Request::Get { log }) = self.up_mut(id).asked(tag) else { return };
        let name = log.clone();
        match wire.open(&name) {
            Ok(checkpoint) => {
                let met = Installed::new(&name, checkpoint, Base::from(wire));
                self.meet(&name, met, Origin::Store(id.store));
            }
            Err(what) => self.notify(Notice::Suspicion { link: id.clone(), log: name, what }),
        }
    }

    /// Installs a committed checkpoint that is later than the base, whatever of it is here.
    pub(super) fn meet(&mut self, name: &LogName, met: Installed, origin: Origin) {
        let log = self.log_mut(name);
        if log.base_id() >= Some(met.id) {
            return;
        }
        let foreign = log.base.clone().filter(|own| !met.checkpoint.covers.includes(&own.checkpoint.covers));
        if let Some(foreign) = foreign {
            self.keep_conflict(name, &foreign);
            // What only the other history covers is not covered any more.
            self.log_mut(name).covered.clear();
            self.persist(vec![Record::Restore { log: name.clone() }]);
        }
        self.verify(name, &met);
        self.meet_epochs(name, std::iter::once(&met.checkpoint.state));
        self.install(name, met, origin, false);
        self.look_whether_behind(name);
    }

    /// Has the stores looked at, after a while, that did not have a log's new base yet: most likely its author brings it.
    fn look_whether_behind(&mut self, name: &LogName) {
        let at = self.forward_at();
        let log = self.log_mut(name);
        let ours = log.base_id();
        let behind = log.peers.iter_mut().filter(|(_, peer)| peer.current && peer.base.map(|base| base.id) < ours);
        let mut stores = Vec::new();
        for (store, peer) in behind {
            peer.current = false;
            stores.push(*store);
        }
        for store in stores {
            self.read_again(&LinkId { channel: name.channel.clone(), store }, name, at);
        }
    }

    /// Puts a log on top of a base: what it covers goes, the rest stays and is folded on top.
    pub(super) fn install(&mut self, name: &LogName, met: Installed, origin: Origin, archive: bool) {
        let durable = self.config.durable;
        let log = self.log_mut(name);
        let known = log.base.as_ref().map(|base| base.checkpoint.digest).unwrap_or_default();
        let (id, digest, base) = (met.id, met.checkpoint.digest, met.base.clone());
        let covered = log.rebase(met);
        let covered: Vec<(OrderKey, Sha)> = covered.iter().map(|op| (op.key(), op.sha())).collect();
        let shas: Vec<Sha> = covered.iter().map(|(_, sha)| *sha).collect();
        if !durable {
            log.covered.extend(&shas);
        }
        // What came before and was covered as well stood in the value already.
        let changed = with_all(known, &shas) != digest;
        log.known = true;
        self.withdraw(name);

        let mut records = vec![Record::Base { log: name.clone(), base, covered: shas, archive }];
        for (key, sha) in covered {
            if self.is_covered_now(name, &key) {
                records.push(Record::Pending { log: name.clone(), sha, pending: false });
            }
        }
        self.persist(records);
        self.ask_about_doubts(name);
        self.notify(Notice::Pruned { log: name.clone(), base: id });
        if changed {
            self.notify(Notice::Changed { log: name.clone(), ops: Vec::new(), origin });
        }
        self.plan_pruning(name);
        self.plant(name);
        self.take_believed(name);
        if self.is_roster(name) {
            self.read_roster(&name.channel);
        }
    }

    /// Forgets what is kept of an operation for as long as some store may lack it: the base covers it. Returns whether it
    /// was an own one.
    fn is_covered_now(&mut self, name: &LogName, key: &OrderKey) -> bool {
        let log = self.log_mut(name);
        log.unsaved.remove(&key.sha);
        log.replacing.remove(&key.sha);
        let stores: Vec<StoreId> = log.peers.keys().copied().collect();
        log.peers.values_mut().for_each(|peer| peer.backlog.remove(key));
        let pending = log.pending.remove(key);
        log.shown.remove(key);
        stores.iter().for_each(|store| self.tell(*store, name, key, Standing::Covered));
        self.drop_receipt(name, key);
        pending
    }

    /// Has every store asked about what the base may cover.
    pub(super) fn ask_about_doubts(&mut self, name: &LogName) {
        let now = self.now;
        let log = self.log_mut(name);
        if log.doubtful.is_empty() {
            return;
        }
        let mut stores = Vec::new();
        for (store, peer) in log.peers.iter_mut() {
            let kept = log.doubtful.keys().filter(|key| !log.unsaved.contains(&key.sha));
            kept.for_each(|key| peer.backlog.offer(*key, now, now));
            stores.push(*store);
        }
        for store in stores {
            let id = LinkId { channel: name.channel.clone(), store };
            if let Some(link) = self.links.get_mut(&id) {
                link.may_send(name);
            }
            self.pump(&id);
        }
    }

    /// Takes a store's word that operations are covered.
    pub(super) fn covered(&mut self, id: &LinkId, name: &LogName, keys: &[OrderKey]) {
        let log = self.log_mut(name);
        let (mut records, mut ahead) = (Vec::new(), false);
        let gone: Vec<OrderKey> = keys.iter().filter(|key| log.doubtful.remove(key).is_some()).copied().collect();
        ahead |= gone.len() < keys.len();
        for key in gone {
            self.is_covered_now(name, &key);
            records.push(Record::Forget { log: name.clone(), sha: key.sha });
            records.push(Record::Pending { log: name.clone(), sha: key.sha, pending: false });
        }
        if !records.is_empty() {
            self.persist(records);
        }
        if ahead {
            self.look_again(id, name);
        }
    }

    /// Takes the word of a store that could tell: operations which the base might have covered are not covered.
    pub(super) fn not_covered(&mut self, id: &LinkId, name: &LogName, keys: &[OrderKey]) {
        let log = self.log_mut(name);
        let ops: Vec<Op> = keys.iter().filter_map(|key| log.doubtful.get(key)).cloned().collect();
        ops.iter().for_each(|op| _ = log.admit(op));
        if ops.is_empty() {
            return;
        }
        let stores: Vec<StoreId> = log.peers.keys().copied().collect();
        self.notify(Notice::Changed { log: name.clone(), ops, origin: Origin::Store(id.store) });
        self.plan_pruning(name);
        for store in stores {
            let id = LinkId { channel: name.channel.clone(), store };
            if let Some(link) = self.links.get_mut(&id) {
                link.may_send(name);
            }
            self.pump(&id);
        }
    }

    /// Reads a log from a store once more, which has a later base than was known.
    fn look_again(&mut self, id: &LinkId, name: &LogName) {
        let later = self.retry_at();
        let Some(log) = self.logs.get_mut(name) else { return };
        let ours = log.base_id();
        let Some(peer) = log.peers.get_mut(&id.store) else { return };
        peer.unsettle();
        if peer.base.map(|base| base.id) == ours {
            // It will tell of its new base. If it does not, its answers contradict each other, and there is time.
            return self.read_again(id, name, later);
        }
        self.begin(id, name);
        self.start_reads(id);
    }

    /// Takes note of a store's new base.
    pub(super) fn pruned(&mut self, id: &LinkId, log: &LogRef, header: &LogHeader) {
        let name = log.log(&self.config.user, &id.channel);
        let Some(log) = self.logs.get_mut(&name).filter(|log| log.loaded == Loaded::Yes) else { return };
        let ours = log.base_id();
        let Some(peer) = log.peers.get_mut(&id.store) else { return };
        peer.base = header.base;
        if header.base.map(|base| base.id) > ours {
            if self.mode.receives() {
                peer.unsettle();
                self.begin(id, &name);
                self.start_reads(id);
            }
        } else {
            self.settled(id, &name);
        }
    }

    /// Compares a store's base with the log's, and brings the store forward if it is behind. Returns whether that has to
    /// be waited for.
    pub(super) fn settle_base(&mut self, id: &LinkId, name: &LogName, header: &LogHeader, last_try: bool) -> bool {
        let (sends, receives) = (self.mode.sends(), self.mode.receives());
        let log = self.log_mut(name);
        let known = log.base_id();
        let Some(peer) = log.peers.get_mut(&id.store) else { return false };
        peer.base = header.base;
        let theirs = header.base.map(|base| base.id);
        if theirs > known && receives && peer.asked_base.as_deref() != theirs.as_ref() {
            // It was pruned while it was read.
            peer.asked_base = theirs.map(Box::new);
            let after = peer.seen.map_or(0, |seen| seen.index);
            self.get(id, name, after, None, last_try);
            return true;
        }
        let Some(ours) = log.base.as_ref().filter(|ours| Some(ours.id) > theirs && ours.is_committed() && sends) else {
            self.settled(id, name);
            return false;
        };
        let base = WireBase::from(&ours.base);
        self.send_base(id, name, base, None, last_try);
        true
    }

    pub(super) fn send_base(
        &mut self,
        id: &LinkId,
        name: &LogName,
        base: WireBase,
        instead_of: Option<Sha>,
        last_try: bool,
    ) {
        let tag = self.up_mut(id).ask(Request::Install { log: name.clone() });
        self.set_reading(id, name, Reading::Installing { tag, last_try });
        self.send(id, ClientMessage::Install { tag, log: name.into(), base, instead_of });
    }

    /// Compares once more the logs whose bases a store is behind, now that something may be sent to it.
    pub(super) fn bring_forward(&mut self, id: &LinkId) {
        let is_behind = |log: &Log, peer: &Peer| peer.current && !peer.can_tell(log.base.as_deref());
        let behind = self.logs.awake().filter(|(name, log)| {
            name.channel == id.channel && log.peers.get(&id.store).is_some_and(|peer| is_behind(log, peer))
        });
        let names: Vec<LogName> = behind.map(|(name, _)| name.clone()).collect();
        for name in names {
            if let Some(peer) = self.log_mut(&name).peers.get_mut(&id.store) {
                peer.current = false;
            }
            self.begin(id, &name);
        }
        self.start_reads(id);
    }

    /// Does what can be done with a store whose base was just heard of.
    fn settled(&mut self, id: &LinkId, name: &LogName) {
        let now = self.now;
        let log = self.log_mut(name);
        let Some(peer) = log.peers.get_mut(&id.store) else { return };
        let ours = log.base.as_ref().map(|base| base.id);
        if let Some(theirs) = peer.base.filter(|theirs| Some(theirs.id) == ours) {
            let known = log.pruning.disputed.as_deref() == Some(&theirs.id.sha);
            if theirs.disputed {
                log.pruning.disputed = Some(Box::new(theirs.id.sha));
            } else if known && self.mode.sends() {
                let tag = self.up_mut(id).ask(Request::Other);
                self.send(id, ClientMessage::Dispute { tag, log: name.into(), base: theirs.id.sha });
            }
        }
        self.plan_pruning(name);
        self.plant(name);
        let log = self.log_mut(name);
        if let Some(peer) = log.peers.get_mut(&id.store)
            && !log.doubtful.is_empty()
            && peer.can_tell(log.base.as_deref())
        {
            // What it was read to hold before it could tell is asked too.
            let kept = log.doubtful.keys().filter(|key| !log.unsaved.contains(&key.sha));
            kept.for_each(|key| peer.backlog.offer(*key, now, now));
            peer.backlog.hurry();
            if let Some(link) = self.links.get_mut(id) {
                link.may_send(name);
            }
            self.pump(id);
        }
        self.bring_lists(name);
    }

    /// A store has installed a base, or knows more of what it covers.
    pub(super) fn installed(&mut self, id: &LinkId, tag: Tag, header: &LogHeader) {
        let request = self.up_mut(id).answered(tag);
        let Some(Request::Install { log: name } | Request::Adopt { log: name } | Request::Cover { log: name }) =
            &request
        else {
            return;
        };
        self.tell_name(id, name);
        let log = self.log_mut(name);
        let ours = log.base_id();
        let Some(peer) = log.peers.get_mut(&id.store) else { return };
        peer.base = header.base;
        let theirs = header.base.map(|base| base.id);
        match (&request, &peer.reading) {
            (Some(Request::Install { .. }), Reading::Installing { tag: current, last_try }) if *current == tag => {
                let last_try = *last_try;
                peer.reading = Reading::Idle;
                if theirs >= ours {
                    self.read_through(id, name, header, last_try);
                } else {
                    let what = "the store does not take the log's base".to_owned();
                    self.notify(Notice::Suspicion { link: id.clone(), log: name.clone(), what });
                    self.compare_digests(id, name, header, last_try);
                }
                self.start_reads(id);
            }
            (Some(Request::Cover { .. }), _) if header.base.is_some_and(|base| base.complete) => {
                // What it has of the log may be less now.
                peer.listing = Listing::No;
                peer.unsettle();
                self.begin(id, name);
                self.start_reads(id);
            }
            _ if theirs > ours => self.look_again(id, name),
            _ => self.settled(id, name),
        }
    }

    /// Checks the state of a base that is about to be installed, where everything that it was made of is here.
    fn verify(&mut self, name: &LogName, met: &Installed) {
        let Some(kind) = self.kind_of(name) else { return };
        let log = self.log_mut(name);
        let own = log.base.as_ref().map(|own| own.checkpoint.digest).unwrap_or_default();
        let held = log.covered_by(&met.checkpoint);
        let same_ground = met.checkpoint.parent == log.base.as_ref().map(|own| own.id.sha);
        // One that covers what is covered already repairs the base.
        if !same_ground || met.checkpoint.digest == own || with_all(own, &held) != met.checkpoint.digest {
            return;
        }
        let Ok(shown) = log.readable(&met.checkpoint) else { return };
        let folded = if held.len() == log.oplog.len() {
            log.fold.as_mut().map(|fold| fold.state(&log.oplog))
        } else if held.len() <= VERIFIED_OPS_MAX {
            let covered: Oplog = log.oplog.iter().filter(|op| held.contains(&op.sha())).cloned().collect();
            let mut fold = kind.fold();
            let base = log.base.as_ref().map(|base| log.readable(&base.checkpoint)).transpose();
            let Ok(base) = base else { return };
            fold.rebase(base.as_ref());
            covered.iter().for_each(|op| fold.inserted(&covered, op));
            Some(fold.state(&covered))
        } else {
            None
        };
        if let Some(Ok(folded)) = folded
            && disagrees(&shown, &folded)
        {
            log.pruning.disputed = Some(Box::new(met.id.sha));
            self.notify(Notice::Disputed { log: name.clone(), base: met.id });
        }
    }

    /// Brings back what a log archived while no table knew of it, on the day that it meets one: its operations are merged
    /// as ordinary ones. Until the disk has brought them back, the log stays as it is and reads nothing.
    pub(super) fn meets_a_table(&mut self, name: &LogName) {
        let Some(log) = self.logs.get_mut(name).filter(|log| log.loaded == Loaded::Yes) else { return };
        if !log.is_to_be_merged() {
            return;
        }
        if !log.restoring {
            log.restoring = true;
            self.persist(vec![Record::Restore { log: name.clone() }]);
        } else if self.is_kept(name) {
            self.log_mut(name).forget();
            self.outputs.push_back(Output::Load(name.clone()));
        }
    }
}

impl Installed {
    pub(super) fn new(name: &LogName, checkpoint: Checkpoint, base: Base) -> Self {
        Self { id: checkpoint.id(name), checkpoint: Arc::new(checkpoint), base }
    }

    /// Tells whether a table has committed it; otherwise it is of a channel that no table knows.
    pub(super) fn is_committed(&self) -> bool {
        !self.base.certificate.is_empty()
    }
}

/// Tells whether a state that was folded here is another one than a checkpoint has.
fn disagrees(readable: &Checkpoint, folded: &Folded) -> bool {
    let Folded { reducer, version, state } = folded;
    let same_reducer = *reducer == readable.reducer && *version == readable.version;
    match &readable.state {
        Payload::Plain(bytes) => same_reducer && bytes != state,
        Payload::Sealed { .. } => false,
    }
}

impl From<&WireBase> for Base {
    fn from(wire: &WireBase) -> Self {
        Self { sha: wire.sha, record: wire.record.clone(), certificate: wire.certificate.clone() }
    }
}

impl Log {
    /// Takes over the base that the local store had.
    pub(super) fn found(&mut self, name: &LogName, base: Base) {
        if let Ok(checkpoint) = Checkpoint::from_trusted(&base.record) {
            self.base = Some(Box::new(Installed::new(name, checkpoint, base)));
            self.known = true;
            self.refold();
        }
    }

    /// Returns which operations here a checkpoint newly covers for certain.
    pub(super) fn covered_by(&self, checkpoint: &Checkpoint) -> BTreeSet<Sha> {
        let on_parent = checkpoint.parent == self.base.as_ref().map(|base| base.id.sha);
        let known = self.base.as_ref().map(|base| base.checkpoint.digest).unwrap_or_default();
        let deps = |sha: &Sha| Ok::<_, std::convert::Infallible>(self.oplog.get(sha).map(|op| op.deps().to_vec()));
        checkpoint.follow(on_parent, known, deps).unwrap_or_default()
    }

    /// Puts the log on top of a base, and returns what the base covers.
    fn rebase(&mut self, base: Installed) -> Vec<Op> {
        let covers = &base.checkpoint.covers;
        let held = self.covered_by(&base.checkpoint);
        let ops = std::mem::take(&mut self.oplog);
        let doubtful = std::mem::take(&mut self.doubtful);
        let mut covered = Vec::new();
        for op in ops.into_ops().chain(doubtful.into_values()) {
            match covers.place_of(&op) {
                _ if held.contains(&op.sha()) => covered.push(op),
                Place::Inside => covered.push(op),
                Place::Outside => _ = self.oplog.insert(op),
                Place::Doubtful => _ = self.doubtful.insert(op.key(), op),
            }
        }
        self.unproven.drop_covered(covers);
        self.pruning.lost = false;
        self.pruning.disputed.take_if(|disputed| **disputed != base.id.sha);
        self.base = Some(Box::new(base));
        self.refold();
        covered
    }

    /// Forgets everything that the local store will tell again.
    fn forget(&mut self) {
        self.loaded = Loaded::Asked;
        self.restoring = false;
        self.base = None;
        self.oplog = Oplog::new();
        self.doubtful.clear();
        self.pending.clear();
        self.shown.clear();
        self.unsaved.clear();
        self.replacing.clear();
        // What is pending is offered again, and nothing was sent.
        for peer in self.peers.values_mut() {
            peer.backlog = Backlog::default();
            peer.left_off = None;
        }
        self.refold();
    }
}
