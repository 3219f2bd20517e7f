//! Repairing a base whose state is wrong, while what it was made of is still kept.

use std::collections::BTreeMap;

use super::hold::{PruneHold, PrunePolicy};
use super::link::Request;
use super::log::Loaded;
use super::sealed::with_state;
use super::{LinkId, Replica};
use crate::checkpoint::Checkpoint;
use crate::commit::with_all;
use crate::date::Date;
use crate::error::Refusal;
use crate::fold::{Folded, Kind};
use crate::id::{Sha, StoreId};
use crate::name::LogName;
use crate::op::{Op, Payload};
use crate::oplog::Oplog;
use crate::seal::OpenError;
use crate::wire::{ClientMessage, Tag, WireBase, WireOp};

/// What a store still keeps of what a base was made of, as it comes in.
#[derive(Default)]
pub(super) struct Repair {
    /// What the oldest of the operations came on top of.
    under: Option<Checkpoint>,
    /// By the generation that covers them.
    ops: BTreeMap<u64, Oplog>,
}

impl Replica {
    /// Has the state of a log's base computed again here, from what the stores still keep of what it covers, and if
    /// another state comes out, makes that the next base. Nobody else's opinion is asked: this is for the person who knows
    /// which device is right. [`Notice::Pruned`](super::Notice::Pruned) or [`Notice::NotPruned`](super::Notice::NotPruned)
    /// tells what came of it.
    ///
    /// # Errors
    /// [`PruneHold`] says why it cannot be tried now.
    pub fn repair(&mut self, now: Date, name: &LogName) -> Result<(), PruneHold> {
        self.observe(now);
        if self.config.prune == PrunePolicy::Off {
            return Err(PruneHold::Off);
        }
        let Some(log) = self.logs.get_mut(name).filter(|log| log.loaded == Loaded::Yes) else {
            return Err(PruneHold::NotOpen);
        };
        if let Some(stores) = log.awaited_acks() {
            return Err(PruneHold::UnderWay { stores });
        }
        if log.base.is_none() {
            return Err(PruneHold::NothingToRepair);
        }
        let stores: Vec<StoreId> = log.peers.keys().copied().collect();
        let can_tell = stores.iter().filter(|store| log.peers[store].can_tell(log.base.as_deref()));
        let mut links = can_tell.map(|store| LinkId { channel: name.channel.clone(), store: *store });
        let is_up = |id: &LinkId| self.links.get(id).is_some_and(|link| link.up.is_some());
        let Some(id) = links.find(is_up) else {
            return Err(PruneHold::Unreachable { stores });
        };
        self.log_mut(name).pruning.repair = Some(Box::default());
        let tag = self.up_mut(&id).ask(Request::Retained { log: name.clone() });
        self.send(&id, ClientMessage::Retained { tag, log: name.into() });
        Ok(())
    }

    pub(super) fn read_retained(
        &mut self,
        id: &LinkId,
        tag: Tag,
        base: Option<WireBase>,
        ops: Vec<(u64, WireOp)>,
        more: bool,
    ) {
        let Some(Request::Retained { log }) = self.up_mut(id).asked(tag) else { return };
        let name = log.clone();
        if !more {
            self.up_mut(id).answered(tag);
        }
        let Some(repair) = &mut self.log_mut(&name).pruning.repair else { return };
        if let Some(under) = base.and_then(|base| base.open(&name).ok()) {
            repair.under = Some(under);
        }
        for (generation, op) in ops {
            if let Ok(op) = op.open(&name) {
                repair.ops.entry(generation).or_default().insert(op);
            }
        }
        if !more && let Some(repair) = self.log_mut(&name).pruning.repair.take() {
            let proposed = self.repaired(&name, *repair).and_then(|checkpoint| self.propose(&name, checkpoint));
            if let Err(hold) = proposed {
                self.not_pruned(&name, hold);
            }
        }
    }

    pub(super) fn repair_failed(&mut self, name: &LogName, refusal: Refusal) {
        if self.log_mut(name).pruning.repair.take().is_some() {
            self.not_pruned(name, PruneHold::NotCommitted { refusal });
        }
    }

    /// Makes the checkpoint that takes the place of the base.
    fn repaired(&mut self, name: &LogName, repair: Repair) -> Result<Checkpoint, PruneHold> {
        let author = self.config.actor;
        let Some(kind) = self.kind_of(name) else { return Err(PruneHold::NotOpen) };
        let log = self.log_mut(name);
        let Some(base) = &log.base else { return Err(PruneHold::NothingToRepair) };
        let under = repair.under.as_ref().map(|under| under.digest).unwrap_or_default();
        let shas: Vec<Sha> = repair.ops.values().flat_map(Oplog::iter).map(Op::sha).collect();
        if with_all(under, &shas) != base.checkpoint.digest {
            return Err(PruneHold::NotKept);
        }
        let closed = |why: OpenError| PruneHold::NoState { why: why.to_string() };
        let under = repair.under.map(|under| log.readable(&under)).transpose().map_err(closed)?;
        let repair = Repair { under, ..repair };
        repair.ops.values().flat_map(Oplog::iter).for_each(|op| log.open(op));
        let folded = fold_again(&*kind, repair).map_err(|why| PruneHold::NoState { why })?;
        let before = log.readable(&base.checkpoint);
        let repaired = with_state(Checkpoint::clone(&base.checkpoint), folded);
        if before.is_ok_and(|before| repaired == before) {
            return Err(PruneHold::NothingToRepair);
        }
        let (generation, parent) = (base.id.generation.next(), Some(base.id.sha));
        let repaired = Checkpoint { generation, parent, absent: Vec::new(), author, ..repaired };
        log.sealed(repaired).map_err(|why| PruneHold::NoState { why })
    }
}

/// Folds generation by generation, as it was done the first time.
fn fold_again(kind: &dyn Kind, repair: Repair) -> Result<Folded, String> {
    let mut fold = kind.fold();
    fold.rebase(repair.under.as_ref());
    let mut under = repair.under;
    let mut folded = fold.state(&Oplog::new())?;
    for ops in repair.ops.into_values() {
        ops.iter().for_each(|op| fold.inserted(&ops, op));
        folded = fold.state(&ops)?;
        let ground = under.get_or_insert_with(|| empty(&folded));
        (ground.reducer, ground.version) = (folded.reducer.clone(), folded.version);
        ground.covers = ground.covers.with(ops.iter());
        ground.state = Payload::Plain(folded.state.clone().into());
        fold.rebase(Some(ground));
    }
    Ok(folded)
}

/// Returns a checkpoint of nothing, to carry a state from one generation to the next.
fn empty(folded: &Folded) -> Checkpoint {
    Checkpoint {
        generation: crate::id::Seq::FIRST,
        parent: None,
        covers: crate::covers::Covers::default(),
        absent: Vec::new(),
        digest: crate::id::Digest::default(),
        reducer: folded.reducer.clone(),
        version: folded.version,
        state: Payload::Plain(folded.state.clone().into()),
        date: Date::EPOCH,
        author: crate::id::ActorId::from_bytes([0; 16]),
    }
}
