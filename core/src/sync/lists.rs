//! The lists of what bases cover, on their way to the stores that lack them.

use super::link::Request;
use super::log::Listing;
use super::{LinkId, Replica};
use crate::checkpoint::BaseId;
use crate::error::{ErrorKind, Refusal};
use crate::id::{Sha, StoreId};
use crate::limits::INVENTORY_SHAS_MAX;
use crate::name::LogName;
use crate::wire::{ClientMessage, Which};

impl Replica {
    /// Has stores that installed the base without its operations told what it covers, by a store that knows, or else from
    /// the local store.
    pub(super) fn bring_lists(&mut self, name: &LogName) {
        let sends = self.mode.sends();
        let log = self.log_mut(name);
        let Some(base) = log.base.clone().filter(|_| sends) else { return };
        let needs = |store: &&StoreId| {
            let peer = &log.peers[store];
            peer.base.is_some_and(|theirs| theirs.id == base.id && !theirs.complete)
        };
        let needy: Vec<StoreId> = log.peers.keys().filter(needs).copied().collect();
        let knowing: Vec<StoreId> =
            log.peers.iter().filter(|(_, peer)| peer.can_tell(Some(&base))).map(|(store, _)| *store).collect();
        for store in needy {
            let link = |store| LinkId { channel: name.channel.clone(), store };
            let is_up = |id: &LinkId| self.links.get(id).is_some_and(|link| link.up.is_some());
            let source = knowing.iter().map(|store| link(*store)).find(|id| is_up(id));
            let Some(peer) = self.logs.get_mut(name).and_then(|log| log.peers.get_mut(&store)) else { continue };
            match (source, peer.listing) {
                (_, Listing::Asked) => {}
                (Some(source), _) => {
                    peer.listing = Listing::Asked;
                    let tag = self.up_mut(&source).ask(Request::List { log: name.clone(), to: store });
                    self.send(&source, ClientMessage::Inventory { tag, log: name.into(), which: Which::Covered });
                }
                (None, Listing::No) => {
                    peer.listing = Listing::Asked;
                    match self.config.durable {
                        true => self.list_when_kept(name),
                        false => {
                            let shas = self.log_mut(name).covered.iter().copied().collect();
                            self.listed(name, Some(base.id), shas);
                        }
                    }
                }
                (None, Listing::Told) => {}
            }
        }
    }

    /// Hands a part of the list of what `of` covers to the store that needs it, if that is the log's base still.
    pub(super) fn hand_on(&mut self, name: &LogName, to: StoreId, of: Option<BaseId>, shas: Vec<Sha>, more: bool) {
        let id = LinkId { channel: name.channel.clone(), store: to };
        let Some(base) = self.log_mut(name).base_id().filter(|base| Some(*base) == of) else {
            return self.list_failed(name, to);
        };
        let up = self.links.get(&id).is_some_and(|link| link.up.is_some());
        let needs = self.log_mut(name).peers.get_mut(&to).filter(|peer| peer.base.is_some_and(|own| own.id == base));
        let Some(peer) = needs.filter(|_| up) else { return };
        if !more {
            // Should it lack something all the same, another source is asked when one comes up.
            peer.listing = Listing::Told;
        }
        let tag = self.up_mut(&id).ask(Request::Cover { log: name.clone() });
        self.send(&id, ClientMessage::Cover { tag, log: name.into(), base: base.sha, shas });
    }

    /// Hands the list that the local store has to the stores that need it.
    pub(super) fn listed(&mut self, name: &LogName, base: Option<BaseId>, shas: Vec<Sha>) {
        let Some(log) = self.logs.get_mut(name) else { return };
        let mut stores = Vec::new();
        for (store, peer) in log.peers.iter_mut() {
            if peer.listing == Listing::Asked {
                peer.listing = Listing::Told;
                stores.push(*store);
            }
        }
        for store in stores {
            let mut parts = shas.chunks(INVENTORY_SHAS_MAX).peekable();
            while let Some(part) = parts.next() {
                self.hand_on(name, store, base, part.to_vec(), parts.peek().is_some());
            }
        }
    }

    /// Takes note that a store did not take a list. If time may help, the log is compared with it again after a while.
    pub(super) fn cover_failed(&mut self, id: &LinkId, name: &LogName, refusal: &Refusal) {
        self.list_failed(name, id.store);
        let Some(peer) = self.logs.get_mut(name).and_then(|log| log.peers.get_mut(&id.store)) else { return };
        if matches!(refusal.code.kind(), ErrorKind::Retry | ErrorKind::LogIn) {
            peer.unsettle();
            let at = self.retry_at();
            self.read_again(id, name, at);
        }
    }

    /// Takes note that a list did not arrive.
    pub(super) fn list_failed(&mut self, name: &LogName, to: StoreId) {
        if let Some(peer) = self.logs.get_mut(name).and_then(|log| log.peers.get_mut(&to)) {
            peer.listing = Listing::No;
        }
    }

    /// Takes note that the lists which were on their way in a channel may not arrive.
    pub(super) fn lists_lost(&mut self, id: &LinkId) {
        let of_channel = self.logs.awake_mut().filter(|(name, _)| name.channel == id.channel);
        for peer in of_channel.flat_map(|(_, log)| log.peers.values_mut()) {
            if peer.listing == Listing::Asked {
                peer.listing = Listing::No;
            }
        }
    }
}
