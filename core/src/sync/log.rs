//! What a replica knows of one log: its base and operations, its value, and what each store has of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::api::BaseHeader;
use crate::checkpoint::{Base, BaseId, Checkpoint};
use crate::covers::Place;
use crate::date::Date;
use crate::few::{FewMap, FewSet};
use crate::fold::Fold;
use crate::id::{ActorId, Digest, Seq, Sha, StoreId};
use crate::op::{Op, OrderKey};
use crate::oplog::Oplog;
use crate::wire::Tag;

use super::backlog::Backlog;
use super::event::{PushId, Seen};
use super::pruning::Pruning;
use super::resuming::LeftOff;
use super::sealed::Sealer;
use super::vouching::Unproven;

/// A log of a replica. There are many that hold little and rest: what few have is boxed.
pub(super) struct Log {
    /// The committed checkpoint that everything is folded on top of.
    pub(super) base: Option<Box<Installed>>,
    /// What the base does not cover.
    pub(super) oplog: Oplog,
    /// What the base may cover: neither folded nor dropped before a store has said.
    pub(super) doubtful: FewMap<OrderKey, Op>,
    /// What nobody vouches for yet.
    pub(super) unproven: Unproven,
    /// What is known to be covered, if there is no local store that knows it.
    pub(super) covered: BTreeSet<Sha>,
    pub(super) pruning: Pruning,
    /// What opens and seals it, if its channel is sealed.
    pub(super) sealer: Option<Sealer>,
    /// Whether it was written before its channel was sealed: it stays here, for it would leave the device in the clear.
    pub(super) stays: bool,
    pub(super) fold: Option<Box<dyn Fold>>,
    pub(super) loaded: Loaded,
    /// Whether the disk was told to bring back what the base archived.
    pub(super) restoring: bool,
    pub(super) interest: Interest,
    /// Whether it was ever read from a store, or holds anything at all.
    pub(super) known: bool,
    pub(super) peers: FewMap<StoreId, Peer>,
    /// Own operations that some store of the channel is not known to hold.
    pub(super) pending: FewSet<OrderKey>,
    /// Of `pending`, what others may have seen: a store has said to hold it, or one that left may have held it.
    pub(super) shown: FewSet<OrderKey>,
    /// Own operations that wait for the local disk before they are sent.
    pub(super) unsaved: FewSet<Sha>,
    /// Of `unsaved`, what takes the place of an operation that the disk may still hold: it is not sent before the disk
    /// has forgotten that one, or a crash would bring both to the stores.
    pub(super) replacing: FewSet<Sha>,
    /// Which pushes of this process wait for news.
    pub(super) pushes: FewMap<Sha, PushId>,
    /// Whether a store left the channel since the process began.
    pub(super) lost_peer: bool,
    /// What was read from stores before they were mounted.
    pub(super) seen: FewMap<StoreId, Seen>,
}

/// What changed for own operations of a log with the stores of its channel.
pub(super) struct Remounted {
    /// What no store lacks any more, because the one that lacked it is gone.
    pub(super) everywhere: Vec<OrderKey>,
    /// What others may have seen, because a store that is gone may have held it.
    pub(super) shown: BTreeSet<OrderKey>,
}

/// A base with what it says.
#[derive(Debug, Clone)]
pub(super) struct Installed {
    pub(super) id: BaseId,
    pub(super) checkpoint: Arc<Checkpoint>,
    pub(super) base: Base,
}

/// What became of an operation that was met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// It is in the oplog now.
    New,
    /// It was here already.
    Known,
    /// The base covers it.
    Covered,
    /// The base may cover it; it was not here before.
    Doubtful,
}

/// Whether a log has been read from the local store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loaded {
    Asked,
    Yes,
}

/// What is wanted of a log, each more than the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Interest {
    /// Own operations are to go out.
    Send,
    /// The stores are to have all that is here, and this replica all that they have.
    Compare,
    /// The app wants to be told of changes.
    Watch,
}

/// What is known of a log at one store.
#[derive(Default)]
pub(super) struct Peer {
    /// How far the log was read from the store.
    pub(super) seen: Option<Seen>,
    /// The base that the store was last known to have, since the stream came up.
    pub(super) base: Option<BaseHeader>,
    /// The base that the log was last read once more for.
    pub(super) asked_base: Option<Box<BaseId>>,
    /// Whether the store was told all that the base covers.
    pub(super) listing: Listing,
    pub(super) reading: Reading,
    /// Whether, since the stream came up, the log was found or made equal but for the backlog.
    pub(super) current: bool,
    /// Whether the store was asked, on this stream, to tell of changes.
    pub(super) watched: bool,
    /// What it was when the store stopped telling, if the log was in step then.
    pub(super) left_off: Option<LeftOff>,
    /// Whether the store was told, on this stream, what the log is called.
    pub(super) named: bool,
    /// What the store is not known to hold.
    pub(super) backlog: Backlog,
    /// Shas that the store holds and whose records cannot be read.
    pub(super) unreadable: BTreeSet<Sha>,
    /// When to try reading again that failed.
    pub(super) read_again_at: Option<Date>,
    /// When the timer of this log at this store goes off, if one is set.
    pub(super) wake_at: Option<Date>,
}

/// How far a store that lacks the list of what its base covers has been told, on this stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Listing {
    #[default]
    No,
    /// Somebody was asked for the list.
    Asked,
    /// It was told all that could be found.
    Told,
}

/// The reading of a log from a store.
#[derive(Debug, Default)]
pub(super) enum Reading {
    #[default]
    Idle,
    /// It is this log's turn when others have been read.
    Waiting,
    /// Operations after an index are coming.
    Getting {
        tag: Tag,
        /// How far the log had been read in an earlier life of the store's data, if it was.
        before: Option<Seen>,
        /// How far the log had been read in this life when they were asked for: what is told of meanwhile may overtake
        /// the answer.
        seen: u64,
        /// Whether they come because an inventory showed gaps.
        last_try: bool,
    },
    /// Shas are coming.
    Inventory {
        tag: Tag,
        shas: BTreeSet<Sha>,
        /// Whether the store could tell all the while what the log's base covers.
        sure: bool,
    },
    /// The store is behind, and was sent the base.
    Installing { tag: Tag, last_try: bool },
}

impl Peer {
    /// Takes note that the stream was lost, of which there is a cursor or not.
    pub(super) fn lost(&mut self, has_cursor: bool) {
        self.backlog.lost();
        self.stop_reading(has_cursor);
        self.base = None;
        self.asked_base = None;
        self.listing = Listing::No;
        self.named = false;
    }

    /// Tells whether the store has this base and knows all that it covers, so that its word about any operation is good.
    pub(super) fn can_tell(&self, base: Option<&Installed>) -> bool {
        can_tell(self.base.as_ref(), base)
    }

    /// Takes note that nothing is read any more, and nothing told. If there is a cursor, a log in step can go on from there.
    pub(super) fn stop_reading(&mut self, has_cursor: bool) {
        if has_cursor && self.current && self.watched && self.unreadable.is_empty() {
            self.left_off = Some(LeftOff::at(self.base));
        }
        self.reading = Reading::Idle;
        self.current = false;
        self.watched = false;
        self.read_again_at = None;
    }

    /// Takes note that the log is to be compared with the store anew.
    pub(super) fn unsettle(&mut self) {
        self.current = false;
        self.left_off = None;
    }

    /// Returns when something is to be done about the log at this store.
    pub(super) fn due_at(&self) -> Option<Date> {
        [self.backlog.next_at(), self.read_again_at].into_iter().flatten().min()
    }
}

/// Tells whether a store with this header of its base knows all that the log's base covers.
pub(super) fn can_tell(header: Option<&BaseHeader>, base: Option<&Installed>) -> bool {
    match (header, base) {
        (Some(own), Some(base)) => own.complete && own.id == base.id,
        (own, base) => own.is_none() && base.is_none(),
    }
}

impl Log {
    pub(super) fn new(sealer: Option<Sealer>, fold: Option<Box<dyn Fold>>) -> Self {
        Self {
            base: None,
            oplog: Oplog::new(),
            doubtful: FewMap::default(),
            unproven: Unproven::default(),
            covered: BTreeSet::new(),
            pruning: Pruning::default(),
            sealer,
            stays: false,
            fold,
            loaded: Loaded::Asked,
            restoring: false,
            interest: Interest::Send,
            known: false,
            peers: FewMap::default(),
            pending: FewSet::default(),
            shown: FewSet::default(),
            unsaved: FewSet::default(),
            replacing: FewSet::default(),
            pushes: FewMap::default(),
            lost_peer: false,
            seen: FewMap::default(),
        }
    }

    /// Adds an operation to the oplog and the fold, unless the base covers it or may cover it. Returns whether it is new
    /// in the oplog.
    pub(super) fn insert(&mut self, op: &Op) -> bool {
        self.take(op) == Taken::New
    }

    /// Takes in an operation as far as the base lets it.
    pub(super) fn take(&mut self, op: &Op) -> Taken {
        if self.oplog.contains(&op.sha()) {
            return Taken::Known;
        }
        match self.base.as_ref().map_or(Place::Outside, |base| base.checkpoint.covers.place_of(op)) {
            Place::Outside => self.admit(op),
            Place::Inside => {
                self.unproven.remove(op);
                Taken::Covered
            }
            Place::Doubtful => {
                self.unproven.remove(op);
                self.known = true;
                self.open(op);
                match self.doubtful.insert(op.key(), op.clone()) {
                    None => Taken::Doubtful,
                    Some(_) => Taken::Known,
                }
            }
        }
    }

    /// Adds an operation that the base does not cover.
    pub(super) fn admit(&mut self, op: &Op) -> Taken {
        if self.doubtful.remove(&op.key()).is_some() {
            // Stores that could not be asked about it are simply sent it.
            self.peers.values_mut().for_each(|peer| peer.backlog.unpark(&op.key()));
        }
        self.unproven.remove(op);
        self.open(op);
        if !self.oplog.insert(op.clone()) {
            return Taken::Known;
        }
        if let Some(fold) = &mut self.fold {
            fold.inserted(&self.oplog, op);
        }
        self.known = true;
        Taken::New
    }

    /// Folds the base and the whole oplog again.
    pub(super) fn refold(&mut self) {
        let base = self.base.as_ref().map(|base| self.believed(base)).transpose();
        if let Some(fold) = &mut self.fold {
            match base {
                Ok(base) => fold.rebase(base.as_ref()),
                Err(why) => fold.distrust(format!("the log's base: {why}")),
            }
            self.oplog.iter().for_each(|op| fold.inserted(&self.oplog, op));
        }
    }

    /// Returns an operation by its place, in doubt or not.
    pub(super) fn op_at(&self, key: &OrderKey) -> Option<&Op> {
        self.oplog.at(key).or_else(|| self.doubtful.get(key))
    }

    /// Tells whether an operation is here, believed and in doubt or not.
    pub(super) fn has(&self, sha: &Sha) -> bool {
        self.oplog.contains(sha) || self.unproven.contains(sha) || self.doubtful.keys().any(|key| key.sha == *sha)
    }

    /// Tells whether what was archived while no table knew of the log is to come back, because it has met one.
    pub(super) fn is_to_be_merged(&self) -> bool {
        !self.peers.is_empty() && self.base.as_ref().is_some_and(|base| !base.is_committed())
    }

    /// Tells whether the log is as the local store has it, so that stores can be read and sent to.
    pub(super) fn is_in_use(&self) -> bool {
        self.loaded == Loaded::Yes && !self.is_to_be_merged() && !self.stays
    }

    /// Returns the identity of the base.
    pub(super) fn base_id(&self) -> Option<BaseId> {
        self.base.as_ref().map(|base| base.id)
    }

    /// Returns the greatest date that was seen.
    pub(super) fn max_date(&self) -> Option<Date> {
        self.oplog.max_date().max(self.base.as_ref().map(|base| base.checkpoint.date))
    }

    /// Returns the seq that the actor's next operation takes.
    pub(super) fn next_seq(&self, actor: ActorId) -> Seq {
        let covered = self.base.as_ref().and_then(|base| base.checkpoint.covers.last_seq(actor));
        let doubtful = self.doubtful.keys().filter(|key| key.actor == actor).map(|key| key.seq).max();
        let least = covered.max(doubtful).map_or(Seq::FIRST, Seq::next);
        self.oplog.next_seq(actor).max(least)
    }

    /// Makes the stores of the channel the log's peers, and forgets the others.
    pub(super) fn mount(&mut self, stores: &BTreeSet<StoreId>) -> Remounted {
        let mut shown = BTreeSet::new();
        let gone: Vec<StoreId> = self.peers.keys().filter(|store| !stores.contains(store)).copied().collect();
        for store in &gone {
            if let Some(peer) = self.peers.remove(store) {
                self.seen.extend(peer.seen.map(|seen| (*store, seen)));
                self.ask_again(&peer);
                shown.extend(self.pending.iter().filter(|key| !self.is_absent(&peer, key)));
                self.lost_peer = true;
            }
        }
        self.shown.extend(shown.iter().copied());
        for store in stores {
            if !self.peers.contains_key(store) {
                let mut peer = Peer { seen: self.seen.get(store).copied(), ..Peer::default() };
                let sendable = self.pending.iter().filter(|key| !self.unsaved.contains(&key.sha));
                sendable.for_each(|key| peer.backlog.offer(*key, Date::EPOCH, Date::EPOCH));
                self.peers.insert(*store, peer);
            }
        }
        let everywhere = match gone.is_empty() {
            true => Vec::new(),
            false => self.pending.iter().filter(|key| self.is_everywhere(key)).copied().collect(),
        };
        Remounted { everywhere, shown }
    }

    /// Has the stores that stay asked again for what the one that left may have held: it was drained into them.
    fn ask_again(&mut self, gone: &Peer) {
        for key in self.pending.iter() {
            // An earlier process may have sent what this one did not write.
            let sent = !self.pushes.contains_key(&key.sha) && !gone.backlog.is_refused(key);
            if sent || gone.backlog.is_in_doubt(key) {
                self.peers.values_mut().for_each(|peer| peer.backlog.doubt(key));
            }
        }
    }

    /// Tells whether an own operation is with every store of the channel, of which there is at least one.
    pub(super) fn is_everywhere(&self, key: &OrderKey) -> bool {
        !self.peers.is_empty()
            && !self.unsaved.contains(&key.sha)
            && self.peers.values().all(|peer| !peer.backlog.contains(key))
    }

    /// Tells whether something that an actor wrote, or that some store lacks, is still on its way to a store.
    pub(super) fn is_owed(&self, actor: ActorId, peer: &Peer) -> bool {
        let own = peer.backlog.keys().filter(|key| key.actor == actor);
        self.pending.iter().chain(own).any(|key| peer.backlog.is_coming(key))
    }

    /// Tells whether no store can hold an own operation: each refused it, or was never sent it by this process, which
    /// wrote it.
    pub(super) fn is_private(&self, key: &OrderKey) -> bool {
        !self.shown.contains(key) && self.peers.values().all(|peer| self.is_absent(peer, key))
    }

    /// Tells whether a store cannot hold an own operation.
    fn is_absent(&self, peer: &Peer, key: &OrderKey) -> bool {
        let written_here = self.pushes.contains_key(&key.sha);
        peer.backlog.is_refused(key) || (written_here && peer.backlog.is_unsent(key))
    }

    /// Returns the digest that a store has if it holds all of the oplog but what it is known to lack.
    pub(super) fn digest_at(&self, store: StoreId) -> Digest {
        let mut digest = self.oplog.digest();
        if let Some(peer) = self.peers.get(&store) {
            let unsent: BTreeSet<Sha> =
                peer.backlog.keys().map(|key| key.sha).chain(self.unsaved.iter().copied()).collect();
            unsent.iter().filter(|sha| self.oplog.contains(sha)).for_each(|sha| digest.remove(sha));
            peer.unreadable.iter().for_each(|sha| digest.add(sha));
        }
        digest
    }
}
