//! What a replica knows of one log: its operations, its value, and what each store has of it.

use std::collections::{BTreeMap, BTreeSet};

use crate::date::Date;
use crate::error::Refusal;
use crate::fold::Fold;
use crate::id::{Digest, Sha, StoreId};
use crate::op::{Op, OrderKey};
use crate::oplog::Oplog;
use crate::wire::Tag;

use super::event::{PushId, Seen};

/// A log of a replica.
pub(super) struct Log {
    pub(super) oplog: Oplog,
    pub(super) fold: Option<Box<dyn Fold>>,
    pub(super) loaded: Loaded,
    pub(super) interest: Interest,
    /// Whether it was ever read from a store, or holds anything at all.
    pub(super) known: bool,
    pub(super) peers: BTreeMap<StoreId, Peer>,
    /// Own operations that some store of the channel is not known to hold.
    pub(super) pending: BTreeSet<OrderKey>,
    /// Own operations that are not on the local disk yet.
    pub(super) unsaved: BTreeSet<Sha>,
    /// Which pushes of this process wait for news.
    pub(super) pushes: BTreeMap<Sha, PushId>,
    /// What was read from stores before they were mounted.
    pub(super) seen: BTreeMap<StoreId, Seen>,
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
    pub(super) reading: Reading,
    /// Whether, since the stream came up, the log was found or made equal but for `lacks` and `refused`.
    pub(super) current: bool,
    /// What the store is not known to hold, and when to send it at the earliest.
    pub(super) lacks: BTreeMap<OrderKey, Date>,
    /// What of `lacks` is on its way.
    pub(super) in_flight: BTreeSet<OrderKey>,
    /// What was on its way when the stream was lost: the store may hold it.
    pub(super) in_doubt: BTreeSet<OrderKey>,
    /// What the store will not have.
    pub(super) refused: BTreeMap<OrderKey, Refusal>,
    /// Shas that the store holds and whose records cannot be read.
    pub(super) unreadable: BTreeSet<Sha>,
}

/// The reading of a log from a store.
#[derive(Debug, Default)]
pub(super) enum Reading {
    #[default]
    Idle,
    /// Operations after an index are coming. `last_try` if they come because an inventory showed gaps.
    Getting { tag: Tag, last_try: bool },
    /// Shas are coming.
    Inventory { tag: Tag, shas: BTreeSet<Sha> },
}

impl Peer {
    /// Drops everything that is noted about an operation.
    pub(super) fn forget(&mut self, key: &OrderKey) {
        self.lacks.remove(key);
        self.in_flight.remove(key);
        self.in_doubt.remove(key);
        self.refused.remove(key);
    }

    /// Tells whether an operation was never sent to the store.
    fn never_had(&self, key: &OrderKey) -> bool {
        self.lacks.contains_key(key) && !self.in_flight.contains(key) && !self.in_doubt.contains(key)
    }

    /// Takes note that the stream was lost.
    pub(super) fn lost(&mut self) {
        self.in_doubt.append(&mut self.in_flight);
        self.current = false;
        self.reading = Reading::Idle;
    }

    /// Takes note that a new stream is up: what was refused is offered once more.
    pub(super) fn connected(&mut self) {
        let refused = std::mem::take(&mut self.refused);
        self.lacks.extend(refused.into_keys().map(|key| (key, Date::EPOCH)));
    }
}

impl Log {
    pub(super) fn new(fold: Option<Box<dyn Fold>>) -> Self {
        Self {
            oplog: Oplog::new(),
            fold,
            loaded: Loaded::Asked,
            interest: Interest::Send,
            known: false,
            peers: BTreeMap::new(),
            pending: BTreeSet::new(),
            unsaved: BTreeSet::new(),
            pushes: BTreeMap::new(),
            seen: BTreeMap::new(),
        }
    }

    /// Adds an operation to the oplog and the fold. Returns whether it is new.
    pub(super) fn insert(&mut self, op: &Op) -> bool {
        let new = self.oplog.insert(op.clone());
        if let (true, Some(fold)) = (new, &mut self.fold) {
            fold.inserted(&self.oplog, op);
        }
        self.known |= new;
        new
    }

    /// Folds the whole oplog again.
    pub(super) fn refold(&mut self) {
        if let Some(fold) = &mut self.fold {
            fold.reset();
            self.oplog.iter().for_each(|op| fold.inserted(&self.oplog, op));
        }
    }

    /// Makes the stores of the channel the log's peers, and forgets the others.
    pub(super) fn mount(&mut self, stores: &BTreeSet<StoreId>) {
        self.peers.retain(|store, _| stores.contains(store));
        for store in stores {
            if !self.peers.contains_key(store) {
                let lacks = self.pending.iter().map(|key| (*key, Date::EPOCH)).collect();
                let peer = Peer { seen: self.seen.get(store).copied(), lacks, ..Peer::default() };
                self.peers.insert(*store, peer);
            }
        }
    }

    /// Notes that a store holds an operation.
    pub(super) fn held(&mut self, store: StoreId, key: &OrderKey) {
        if let Some(peer) = self.peers.get_mut(&store) {
            peer.forget(key);
        }
    }

    /// Tells whether an own operation is with every store of the channel, of which there is at least one.
    pub(super) fn is_everywhere(&self, key: &OrderKey) -> bool {
        !self.peers.is_empty()
            && self.peers.values().all(|peer| !peer.lacks.contains_key(key) && !peer.refused.contains_key(key))
    }

    /// Tells whether no store can hold an own operation: each refused it, or was never sent it by this process, which
    /// wrote it.
    pub(super) fn is_private(&self, key: &OrderKey) -> bool {
        let written_here = self.pushes.contains_key(&key.sha);
        self.peers.values().all(|peer| peer.refused.contains_key(key) || (written_here && peer.never_had(key)))
    }

    /// Returns the digest that a store has if it holds all of the oplog but what it is known to lack.
    pub(super) fn digest_at(&self, store: StoreId) -> Digest {
        let mut digest = self.oplog.digest();
        if let Some(peer) = self.peers.get(&store) {
            let absent: BTreeSet<Sha> = peer.lacks.keys().chain(peer.refused.keys()).map(|key| key.sha).collect();
            absent.iter().filter(|sha| self.oplog.contains(sha)).for_each(|sha| digest.remove(sha));
            peer.unreadable.iter().for_each(|sha| digest.add(sha));
        }
        digest
    }
}
