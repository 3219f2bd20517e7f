//! Pruning: making a checkpoint, having every store acknowledge it and the table commit it, and when to do so.
//!
//! Any replica may do it, none has to, and nobody waits for it. `docs/pruning.md` tells the rule.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::hold::{PruneHold, PrunePolicy};
use super::link::Request;
use super::log::{Installed, Loaded, Log, Peer};
use super::repair::Repair;
use super::{LinkId, Notice, Origin, Output, Replica};
use crate::api::{CommitResult, Proposal};
use crate::checkpoint::{Base, BaseId, Checkpoint};
use crate::commit::with_all;
use crate::date::Date;
use crate::error::{ErrorCode, Refusal};
use crate::id::{Seq, Sha, StoreId};
use crate::limits::CHECKPOINT_RECORD_BYTES_MAX;
use crate::name::LogName;
use crate::op::{Op, Payload};
use crate::token::CertificateClaims;
use crate::wire::{ClientMessage, WireBase};

/// What is under way to prune one log.
#[derive(Default)]
pub(super) struct Pruning {
    pub(super) proposed: Option<Box<Proposed>>,
    pub(super) repair: Option<Box<Repair>>,
    /// What the log is to begin with, if it is the copy of another one's base.
    pub(super) seed: Option<Box<Checkpoint>>,
    /// The last checkpoint about which the table was asked, until the base changes: it may have committed it although
    /// its answer was lost.
    asked: Option<Box<Proposed>>,
    /// A checkpoint was committed that no store has any more.
    pub(super) lost: bool,
    /// Where the register stood when the table was last asked about the log; nothing before it has answered.
    pub(super) registered: Option<Option<Box<BaseId>>>,
    /// The base whose state came out differently, here or at somebody who told a store.
    pub(super) disputed: Option<Box<Sha>>,
    /// When it is tried next.
    pub(super) at: Option<Date>,
}

/// A checkpoint on its way.
pub(super) struct Proposed {
    checkpoint: Checkpoint,
    id: BaseId,
    record: Bytes,
    /// The epoch that the acknowledgements name.
    epoch: u64,
    acks: BTreeMap<StoreId, String>,
}

impl Proposed {
    /// Returns what the table is asked.
    fn proposal(&self, name: &LogName) -> Proposal {
        Proposal {
            kind: name.kind.clone(),
            path: name.path.clone(),
            checkpoint: Some(self.id),
            parent: self.checkpoint.parent,
            acks: self.acks.values().cloned().collect(),
        }
    }
}

impl Pruning {
    /// Tells whether nothing is under way or planned.
    pub(super) fn is_idle(&self) -> bool {
        self.proposed.is_none() && self.repair.is_none() && self.seed.is_none() && self.at.is_none()
    }
}

impl Replica {
    /// Has a log pruned now. It takes a while: [`Notice::Pruned`] or [`Notice::NotPruned`] tells what came of it.
    ///
    /// # Errors
    /// [`PruneHold`] says why it cannot be tried now.
    pub fn prune(&mut self, now: Date, name: &LogName) -> Result<(), PruneHold> {
        self.observe(now);
        match self.config.prune {
            PrunePolicy::Off => Err(PruneHold::Off),
            PrunePolicy::OnDemand | PrunePolicy::Automatic { .. } => self.begin_pruning(name),
        }
    }

    /// Says why a log would not be pruned now, if it would not.
    pub fn prune_hold(&mut self, name: &LogName) -> Option<PruneHold> {
        match self.config.prune {
            PrunePolicy::Off => Some(PruneHold::Off),
            PrunePolicy::OnDemand | PrunePolicy::Automatic { .. } => self.check_prunable(name).err(),
        }
    }

    pub(super) fn begin_pruning(&mut self, name: &LogName) -> Result<(), PruneHold> {
        self.check_prunable(name)?;
        if self.ask_again(name) {
            return Ok(());
        }
        let checkpoint = self.checkpoint_of(name)?;
        self.propose(name, checkpoint)
    }

    /// Asks the table once more about the checkpoint whose answer was lost, if the acknowledgements are still good. Returns
    /// whether there is one.
    fn ask_again(&mut self, name: &LogName) -> bool {
        let epoch = self.epochs.get(&name.channel).copied().unwrap_or(0);
        let log = self.log_mut(name);
        let good = |asked: &mut Box<Proposed>| {
            asked.epoch == epoch && log.peers.keys().all(|store| asked.acks.contains_key(store))
        };
        let Some(asked) = log.pruning.asked.take_if(good) else { return false };
        let proposal = asked.proposal(name);
        log.pruning.proposed = Some(asked);
        self.outputs.push_back(Output::Commit { log: name.clone(), proposal });
        true
    }

    /// Tells whether a log can be pruned, as far as that can be told before its state is encoded.
    fn check_prunable(&mut self, name: &LogName) -> Result<(), PruneHold> {
        if self.is_roster(name) {
            return Err(PruneHold::NoState {
                why: "a roster is kept whole, so that nobody can leave an entry out".into(),
            });
        }
        let Some(log) = self.logs.get_mut(name).filter(|log| log.loaded == Loaded::Yes) else {
            return Err(PruneHold::NotOpen);
        };
        if let Some(proposed) = &log.pruning.proposed {
            let waits = |store: &&StoreId| !proposed.acks.contains_key(*store);
            return Err(PruneHold::UnderWay { stores: log.peers.keys().filter(waits).copied().collect() });
        }
        if log.pruning.seed.is_some() {
            // What is pruned before the copy has begun would take its place.
            return Err(PruneHold::UnderWay { stores: log.peers.keys().copied().collect() });
        }
        if log.oplog.is_empty() && log.doubtful.is_empty() {
            return Err(PruneHold::Nothing);
        }
        if log.pruning.disputed.is_some() {
            return Err(PruneHold::Disputed);
        }
        if log.pruning.lost {
            return Err(PruneHold::Lost);
        }
        let committed = log.base.as_deref().is_some_and(Installed::is_committed);
        if log.peers.is_empty() && (committed || !self.config.durable) {
            return Err(PruneHold::NoStores);
        }
        let Some(fold) = &mut log.fold else {
            return Err(PruneHold::NoState { why: "no reducer is registered".into() });
        };
        if let Some(why) = fold.trouble() {
            return Err(PruneHold::NoState { why: why.to_owned() });
        }
        let unreadable = fold.unreadable(&log.oplog).len();
        if unreadable > 0 {
            return Err(PruneHold::Unreadable { ops: unreadable });
        }
        self.check_peers(name)?;
        match self.logs[name].doubtful.len() {
            0 => Ok(()),
            ops => Err(PruneHold::Doubtful { ops }),
        }
    }

    /// Returns the stores of a log's channel whose streams are down.
    fn unreachable(&self, name: &LogName) -> Vec<StoreId> {
        let down = |store: &&StoreId| {
            let id = LinkId { channel: name.channel.clone(), store: **store };
            self.links.get(&id).is_none_or(|link| link.up.is_none())
        };
        self.logs[name].peers.keys().filter(down).copied().collect()
    }

    /// Tells whether a store lacks what the roster says of this device, so that it could show nobody who made a checkpoint.
    pub(super) fn owes_roster(&self, name: &LogName, store: &StoreId) -> bool {
        self.owed_roster(&LinkId { channel: name.channel.clone(), store: *store }).is_some()
    }

    /// Tells whether every store of a log's channel has its base and operations.
    pub(super) fn check_peers(&self, name: &LogName) -> Result<(), PruneHold> {
        let log = &self.logs[name];
        let stores = self.unreachable(name);
        if !stores.is_empty() {
            return Err(PruneHold::Unreachable { stores });
        }
        let unlisted = |peer: &Peer| peer.base.is_some_and(|base| Some(base.id) == log.base_id() && !base.complete);
        let stores: Vec<StoreId> =
            log.peers.iter().filter(|(_, peer)| unlisted(peer)).map(|(store, _)| *store).collect();
        if !stores.is_empty() {
            return Err(PruneHold::NoList { stores });
        }
        let behind = log.peers.iter().filter(|(store, peer)| {
            let in_step = peer.current && peer.backlog.keys().next().is_none() && peer.unreadable.is_empty();
            !in_step || !peer.can_tell(log.base.as_deref()) || self.owes_roster(name, store)
        });
        let stores: Vec<StoreId> = behind.map(|(store, _)| *store).collect();
        match stores.is_empty() && log.unsaved.is_empty() {
            true => Ok(()),
            false => Err(PruneHold::Behind { stores }),
        }
    }

    /// Makes the checkpoint that covers everything that is here.
    fn checkpoint_of(&mut self, name: &LogName) -> Result<Checkpoint, PruneHold> {
        let author = self.config.actor;
        let log = self.log_mut(name);
        let Some(fold) = &mut log.fold else { return Err(PruneHold::NotOpen) };
        let folded = fold.state(&log.oplog).map_err(|why| PruneHold::NoState { why })?;
        let before = log.base.as_ref();
        let covers = before.map(|base| base.checkpoint.covers.clone()).unwrap_or_default();
        let digest = before.map(|base| base.checkpoint.digest).unwrap_or_default();
        let shas: Vec<Sha> = log.oplog.iter().map(Op::sha).collect();
        let checkpoint = Checkpoint {
            absent: log.oplog.absent(),
            generation: before.map_or(Seq::FIRST, |base| base.id.generation.next()),
            parent: before.map(|base| base.id.sha),
            covers: covers.with(log.oplog.iter()),
            digest: with_all(digest, &shas),
            reducer: folded.reducer,
            version: folded.version,
            state: Payload::Plain(folded.state.into()),
            date: log.max_date().unwrap_or(Date::EPOCH),
            author,
        };
        log.sealed(checkpoint).map_err(|why| PruneHold::NoState { why })
    }

    /// Sends a checkpoint to every store, to be acknowledged; or installs it, where no table knows of the channel.
    pub(super) fn propose(&mut self, name: &LogName, checkpoint: Checkpoint) -> Result<(), PruneHold> {
        let signature = self.sign_checkpoint(name, &checkpoint);
        let record = Bytes::from(checkpoint.to_record(signature.as_ref()));
        if record.len() > CHECKPOINT_RECORD_BYTES_MAX || checkpoint.check().is_err() {
            return Err(PruneHold::TooLarge { bytes: record.len() });
        }
        let id = checkpoint.id(name);
        let stores: Vec<StoreId> = self.log_mut(name).peers.keys().copied().collect();
        // Signing it may have said something new in the roster.
        let owing: Vec<StoreId> = stores.iter().filter(|store| self.owes_roster(name, store)).copied().collect();
        if !owing.is_empty() {
            return Err(PruneHold::Behind { stores: owing });
        }
        let down = self.unreachable(name);
        if !down.is_empty() {
            return Err(PruneHold::Unreachable { stores: down });
        }
        if stores.is_empty() {
            let base = Base { sha: id.sha, record, certificate: String::new() };
            let installed = Installed::new(name, checkpoint, base);
            self.install(name, installed, Origin::Here, true);
            return Ok(());
        }
        let epoch = self.epochs.get(&name.channel).copied().unwrap_or(0);
        for store in stores {
            let link = LinkId { channel: name.channel.clone(), store };
            let tag = self.up_mut(&link).ask(Request::Checkpoint { log: name.clone(), sha: id.sha });
            let message =
                ClientMessage::Checkpoint { tag, log: name.into(), sha: id.sha, record: record.clone(), epoch };
            self.send(&link, message);
        }
        let proposed = Proposed { checkpoint, id, record, epoch, acks: BTreeMap::new() };
        self.log_mut(name).pruning.proposed = Some(Box::new(proposed));
        Ok(())
    }

    /// Takes a store's acknowledgement, and asks the table when it is the last.
    pub(super) fn acknowledged(&mut self, id: &LinkId, tag: u64, ack: String) {
        let Some(Request::Checkpoint { log: name, sha }) = self.up_mut(id).answered(tag) else { return };
        let log = self.log_mut(&name);
        let Some(proposed) = log.pruning.proposed.as_mut().filter(|proposed| proposed.id.sha == sha) else { return };
        proposed.acks.insert(id.store, ack);
        if !log.peers.keys().all(|store| proposed.acks.contains_key(store)) {
            return;
        }
        let proposal = proposed.proposal(&name);
        self.outputs.push_back(Output::Commit { log: name, proposal });
    }

    /// Gives up a checkpoint that a store did not acknowledge.
    pub(super) fn not_acknowledged(&mut self, id: &LinkId, name: &LogName, sha: Sha, refusal: Refusal) {
        let log = self.log_mut(name);
        if log.pruning.proposed.as_ref().is_none_or(|proposed| proposed.id.sha != sha) {
            return;
        }
        log.pruning.proposed = None;
        if refusal.code == ErrorCode::Disputed {
            log.pruning.disputed = log.base_id().map(|base| Box::new(base.sha));
        }
        let differs = matches!(refusal.code, ErrorCode::StaleBase | ErrorCode::MissingOps);
        if let Some(peer) = log.peers.get_mut(&id.store).filter(|_| differs) {
            // It has another base or lacks something, without having told.
            peer.unsettle();
            self.begin(id, name);
            self.start_reads(id);
        }
        if refusal.code == ErrorCode::StaleBase {
            // Perhaps a checkpoint was committed whose author has not told the stores.
            self.ask_register(name);
        }
        self.not_pruned(name, PruneHold::NotAcknowledged { store: id.store, refusal });
    }

    /// Asks the table where a log's register stands, and has the stores install what they do not have of it.
    pub fn ask_register(&mut self, name: &LogName) {
        let Some(log) = self.logs.get_mut(name) else { return };
        log.pruning.registered = None;
        let (kind, path) = (name.kind.clone(), name.path.clone());
        let proposal = Proposal { kind, path, checkpoint: None, parent: None, acks: Vec::new() };
        self.outputs.push_back(Output::Commit { log: name.clone(), proposal });
    }

    /// Takes the table's word about a log's register.
    pub(super) fn committed(&mut self, name: &LogName, result: Result<CommitResult, Refusal>) {
        let Some(log) = self.logs.get_mut(name) else { return };
        let proposed = log.pruning.proposed.take();
        match (result, proposed) {
            (Ok(CommitResult::Committed { certificate }), Some(proposed))
                if named(&certificate, name) == Some(proposed.id) =>
            {
                let Proposed { checkpoint, id, record, .. } = *proposed;
                let base = Base { sha: id.sha, record, certificate };
                let installed = Installed::new(name, checkpoint, base.clone());
                self.install(name, installed, Origin::Here, false);
                self.spread(name, &base);
            }
            (Ok(CommitResult::Committed { certificate }), _) => self.catch_up(name, &certificate),
            (Ok(CommitResult::Standing { certificate, refusal }), proposed) => {
                log.pruning.registered = Some(certificate.as_deref().and_then(|text| named(text, name)).map(Box::new));
                if let Some(certificate) = certificate {
                    self.catch_up(name, &certificate);
                }
                if proposed.is_some() {
                    let hold = match refusal {
                        Some(refusal) if refusal.code != ErrorCode::StaleBase => PruneHold::NotCommitted { refusal },
                        _ => PruneHold::Overtaken,
                    };
                    self.not_pruned(name, hold);
                }
            }
            (Err(refusal), Some(proposed)) => {
                log.pruning.asked = Some(proposed);
                self.not_pruned(name, PruneHold::NotCommitted { refusal });
            }
            (Err(_), None) => {}
        }
    }

    /// Has the stores install what the table says was committed, whose author has not told them.
    fn catch_up(&mut self, name: &LogName, certificate: &str) {
        let Some(id) = named(certificate, name) else { return };
        let log = self.log_mut(name);
        if log.base_id() >= Some(id) {
            return;
        }
        let asked = log.pruning.asked.take().filter(|asked| asked.id == id);
        let record = asked.as_ref().map(|asked| asked.record.clone()).unwrap_or_default();
        let base = Base { sha: id.sha, record, certificate: certificate.to_owned() };
        if let Some(asked) = asked {
            let installed = Installed::new(name, asked.checkpoint, base.clone());
            self.install(name, installed, Origin::Here, false);
        }
        self.spread(name, &base);
    }

    /// Sends a committed checkpoint to every store that can be reached. They have its record, for they acknowledged it; or
    /// are sent it if the log is compared with them.
    fn spread(&mut self, name: &LogName, base: &Base) {
        if !self.mode.sends() {
            return;
        }
        let stores: Vec<StoreId> = self.log_mut(name).peers.keys().copied().collect();
        for store in stores {
            let id = LinkId { channel: name.channel.clone(), store };
            if self.links.get(&id).is_some_and(|link| link.up.is_some()) {
                let base = WireBase { sha: base.sha, record: Bytes::new(), certificate: base.certificate.clone() };
                let tag = self.up_mut(&id).ask(Request::Adopt { log: name.clone() });
                self.send(&id, ClientMessage::Install { tag, log: name.into(), base, instead_of: None });
            }
        }
    }

    /// A store did not take a committed checkpoint by its certificate alone: it is compared with, and sent the record.
    pub(super) fn not_adopted(&mut self, id: &LinkId, name: &LogName, refusal: &Refusal) {
        let log = self.log_mut(name);
        log.pruning.lost |= refusal.code == ErrorCode::MissingOps && log.pruning.asked.is_none();
        if let Some(base) = log.base_id()
            && let Some(peer) = log.peers.get_mut(&id.store)
            && peer.base.map(|theirs| theirs.id) < Some(base)
        {
            peer.unsettle();
            self.begin(id, name);
            self.start_reads(id);
        }
    }

    /// Gives up the checkpoint that is under way for a log.
    pub(super) fn withdraw(&mut self, name: &LogName) {
        let Some(log) = self.logs.get_mut(name) else { return };
        let repair = log.pruning.repair.take().is_some();
        if log.pruning.proposed.take().is_some() || repair {
            self.not_pruned(name, PruneHold::Interrupted);
        }
    }

    /// Gives up the checkpoints that a stream was to carry.
    pub(super) fn withdraw_from(&mut self, id: &LinkId) {
        let of_channel = self.logs.awake().filter(|(name, log)| {
            let waits = log.pruning.repair.is_some()
                || log.pruning.proposed.as_ref().is_some_and(|proposed| !proposed.acks.contains_key(&id.store));
            name.channel == id.channel && log.peers.contains_key(&id.store) && waits
        });
        let names: Vec<LogName> = of_channel.map(|(name, _)| name.clone()).collect();
        names.iter().for_each(|name| self.withdraw(name));
    }

    pub(super) fn not_pruned(&mut self, name: &LogName, hold: PruneHold) {
        self.try_again_later(name, &hold);
        self.notify(Notice::NotPruned { log: name.clone(), hold });
    }
}

impl Log {
    /// Returns the stores that a checkpoint under way waits for, if there is one.
    pub(super) fn awaited_acks(&self) -> Option<Vec<StoreId>> {
        let proposed = self.pruning.proposed.as_ref()?;
        Some(self.peers.keys().filter(|store| !proposed.acks.contains_key(store)).copied().collect())
    }
}

/// Returns the checkpoint of a log that a certificate names.
fn named(certificate: &str, name: &LogName) -> Option<BaseId> {
    let claims = CertificateClaims::unverified(certificate).ok().filter(|claims| claims.is_of(name))?;
    Some(BaseId { generation: claims.generation, sha: claims.checkpoint })
}
