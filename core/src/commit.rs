//! Who lets a checkpoint become a log's base: what a store acknowledges, and when the table's register moves.
//!
//! `docs/pruning.md` tells the rule and why each part of it is there.

use std::collections::BTreeSet;

use crate::admit::check_date;
use crate::api::BaseHeader;
use crate::checkpoint::{BaseId, Checkpoint};
use crate::date::Date;
use crate::error::{ErrorCode, Refusal};
use crate::id::{Digest, Seq, Sha, StoreId};
use crate::name::LogName;
use crate::token::AckClaims;

/// Decides whether a store acknowledges a checkpoint, once it has the checkpoint on its disk. `deps` returns what an
/// operation that the store holds and its base does not cover depends on, or nothing.
///
/// # Errors
/// The outer one is of the lookup. The [`Refusal`] says why the store does not acknowledge it: its base is not the
/// checkpoint's parent, it lacks operations that the checkpoint covers, or the base is disputed.
pub fn acknowledge<E>(
    checkpoint: &Checkpoint,
    base: Option<&BaseHeader>,
    now: Date,
    mut deps: impl FnMut(&Sha) -> Result<Option<Vec<Sha>>, E>,
) -> Result<Result<(), Refusal>, E> {
    if let Err(refusal) = may_follow(checkpoint, base).and_then(|()| check_date(checkpoint.date, now)) {
        return Ok(Err(refusal));
    }
    for absent in &checkpoint.absent {
        if deps(absent)?.is_some() {
            let message = format!("the checkpoint leaves out {absent}, on which it depends, and it is here");
            return Ok(Err(Refusal::new(ErrorCode::MissingOps, message).hint("compare the log")));
        }
    }
    let known = base.map(|base| base.covered).unwrap_or_default();
    let held = checkpoint.follow(true, known, deps)?;
    let digest = with_all(known, &held);
    if digest == checkpoint.digest {
        return Ok(Ok(()));
    }
    let (here, there) = (digest.count, checkpoint.digest.count);
    let message = format!("the checkpoint covers {there} operations, and of those {here} are known here");
    Ok(Err(Refusal::new(ErrorCode::MissingOps, message).hint("compare the log and push what is missing")))
}

fn may_follow(checkpoint: &Checkpoint, base: Option<&BaseHeader>) -> Result<(), Refusal> {
    let generation = base.map_or(0, |base| base.id.generation.get());
    if checkpoint.parent != base.map(|base| base.id.sha) || checkpoint.generation.get() != generation + 1 {
        let message = format!("the checkpoint is generation {} and builds on another base", checkpoint.generation);
        return Err(Refusal::new(ErrorCode::StaleBase, message).hint("read the log's base and prune on top of it"));
    }
    let Some(base) = base else { return Ok(()) };
    if !base.complete {
        let message = "the store does not have the list of all that its base covers yet";
        return Err(Refusal::new(ErrorCode::CoverageUnknown, message).hint("try again when it was brought"));
    }
    if base.disputed && checkpoint.digest != base.covered {
        let message = "replicas computed different states for what the log's base covers; it is not pruned further";
        return Err(
            Refusal::new(ErrorCode::Disputed, message).hint("see `gig log`; repair it with `gig prune --repair`")
        );
    }
    Ok(())
}

/// Returns the digest of a set with operations added that are not in it.
pub fn with_all<'a>(mut digest: Digest, shas: impl IntoIterator<Item = &'a Sha>) -> Digest {
    shas.into_iter().for_each(|sha| digest.add(sha));
    digest
}

/// A log's place in the table's register, and what is to be known to move it.
#[derive(Debug, Clone, Copy)]
pub struct Register<'a> {
    /// The log.
    pub log: &'a LogName,
    /// The committed checkpoint; nothing if there was never one, as far as the table knows.
    pub at: Option<BaseId>,
    /// The channel's stores.
    pub stores: &'a BTreeSet<StoreId>,
    /// The epoch of that set of stores.
    pub epoch: u64,
}

impl Register<'_> {
    /// Decides whether the register moves to `checkpoint`. The signatures of the acknowledgements were checked.
    ///
    /// A table that was restored from a backup stands behind its stores, or beside them. It follows them: when all of them
    /// acknowledge a checkpoint on top of a base that is greater than what the register names, that base was committed
    /// once, and is what everybody stands on who meets both.
    ///
    /// # Errors
    /// [`Refusal`]: `missing_ops` if an acknowledgement of some store is missing or of another epoch, `stale_base` if the
    /// checkpoint does not build on the one at which the register stands.
    pub fn decide(&self, checkpoint: &BaseId, parent: Option<Sha>, acks: &[AckClaims]) -> Result<(), Refusal> {
        if self.at == Some(*checkpoint) {
            return Ok(());
        }
        let fits = |ack: &&AckClaims| {
            ack.is_of(self.log)
                && ack.checkpoint == checkpoint.sha
                && ack.generation == checkpoint.generation
                && ack.parent == parent
                && ack.epoch == self.epoch
        };
        let acknowledged: BTreeSet<StoreId> = acks.iter().filter(fits).map(|ack| ack.iss).collect();
        if let Some(store) = self.stores.difference(&acknowledged).next() {
            let message = format!("the store {store} has not acknowledged the checkpoint in epoch {}", self.epoch);
            return Err(Refusal::new(ErrorCode::MissingOps, message).hint("ask all stores of the channel again"));
        }
        let before = Seq::new(checkpoint.generation.get() - 1);
        let base = before.zip(parent).map(|(generation, sha)| BaseId { generation, sha });
        let follows = !self.stores.is_empty() && before.is_some() == parent.is_some() && base >= self.at;
        match follows {
            true => Ok(()),
            false => {
                let at = self.at.map_or(0, |at| at.generation.get());
                let message =
                    format!("the log's register stands at generation {at}, on which the checkpoint does not build");
                Err(Refusal::new(ErrorCode::StaleBase, message)
                    .hint("install the committed base and prune on top of it"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::covers::Covers;
    use crate::id::ActorId;
    use crate::name::TypeName;
    use crate::op::Payload;
    use crate::token::AckUse;

    fn log() -> LogName {
        LogName::parse("me", "home", "counter", "/a").unwrap()
    }

    fn id(generation: u64, name: &str) -> BaseId {
        BaseId { generation: Seq::new(generation).unwrap(), sha: Sha::of(name.as_bytes()) }
    }

    fn ack(store: u8, of: BaseId, parent: Option<Sha>, epoch: u64) -> AckClaims {
        let LogName { user, channel, kind, path } = log();
        AckClaims {
            iss: StoreId::from_bytes([store; 16]),
            sub: user,
            channel,
            kind,
            path,
            generation: of.generation,
            checkpoint: of.sha,
            parent,
            epoch,
            usage: AckUse::Acknowledge,
        }
    }

    fn decide(at: Option<BaseId>, to: BaseId, parent: Option<BaseId>, acks: &[(u8, u64)]) -> Result<(), ErrorCode> {
        let stores = [1, 2].map(|store| StoreId::from_bytes([store; 16])).into();
        let register = Register { log: &log(), at, stores: &stores, epoch: 7 };
        let parent = parent.map(|parent| parent.sha);
        let acks: Vec<AckClaims> = acks.iter().map(|(store, epoch)| ack(*store, to, parent, *epoch)).collect();
        register.decide(&to, parent, &acks).map_err(|refusal| refusal.code)
    }

    #[test]
    fn the_register_moves_from_the_parent_with_the_word_of_every_store_of_the_epoch() {
        let all = [(1, 7), (2, 7)];
        assert_eq!(decide(None, id(1, "a"), None, &all), Ok(()));
        assert_eq!(decide(Some(id(1, "a")), id(2, "b"), Some(id(1, "a")), &all), Ok(()));
        assert_eq!(decide(Some(id(1, "a")), id(1, "a"), None, &[]), Ok(()), "what is committed stays so");
    }

    #[test]
    fn a_missing_store_or_one_of_an_old_epoch_holds_the_register() {
        for acks in [&[(1, 7)][..], &[(1, 7), (2, 6)], &[(1, 7), (3, 7)], &[]] {
            assert_eq!(decide(None, id(1, "a"), None, acks), Err(ErrorCode::MissingOps), "{acks:?}");
        }
    }

    #[test]
    fn of_two_checkpoints_on_one_parent_the_second_is_refused() {
        let all = [(1, 7), (2, 7)];
        assert_eq!(decide(Some(id(1, "a")), id(1, "b"), None, &all), Err(ErrorCode::StaleBase));
        assert_eq!(decide(Some(id(2, "b")), id(2, "c"), Some(id(1, "a")), &all), Err(ErrorCode::StaleBase));
        let (lesser, greater) = (id(2, "b").min(id(2, "x")), id(2, "b").max(id(2, "x")));
        assert_eq!(decide(Some(greater), id(3, "c"), Some(lesser), &all), Err(ErrorCode::StaleBase));
    }

    #[test]
    fn a_store_does_not_acknowledge_what_leaves_out_an_operation_that_it_holds() {
        let (kept, left_out) = (Sha::of(b"kept"), Sha::of(b"left out"));
        let checkpoint = Checkpoint {
            generation: Seq::FIRST,
            parent: None,
            covers: Covers::from_entries([(ActorId::from_bytes([1; 16]), vec![(Seq::FIRST, kept)])]),
            absent: vec![left_out],
            digest: with_all(Digest::default(), [&kept]),
            reducer: TypeName::parse("counter").unwrap(),
            version: 1,
            author: ActorId::from_bytes([1; 16]),
            date: Date::EPOCH,
            state: Payload::Plain(b"1".as_slice().into()),
        };
        let decide = |held: &[Sha]| {
            let deps = |sha: &Sha| {
                let of = if *sha == kept { vec![left_out] } else { Vec::new() };
                Ok::<_, std::convert::Infallible>(held.contains(sha).then_some(of))
            };
            acknowledge(&checkpoint, None, Date::EPOCH, deps).unwrap().map_err(|refusal| refusal.code)
        };
        assert_eq!(decide(&[kept]), Ok(()));
        assert_eq!(decide(&[kept, left_out]), Err(ErrorCode::MissingOps));
        assert_eq!(decide(&[]), Err(ErrorCode::MissingOps));
    }

    #[test]
    fn a_table_that_was_restored_follows_what_all_stores_stand_on() {
        let all = [(1, 7), (2, 7)];
        assert_eq!(decide(Some(id(2, "b")), id(6, "f"), Some(id(5, "e")), &all), Ok(()));
        let (lesser, greater) = (id(2, "b").min(id(2, "x")), id(2, "b").max(id(2, "x")));
        assert_eq!(decide(Some(lesser), id(3, "c"), Some(greater), &all), Ok(()));
        assert_eq!(decide(None, id(6, "f"), Some(id(5, "e")), &all), Ok(()));
        assert_eq!(decide(None, id(6, "f"), None, &all), Err(ErrorCode::StaleBase));
    }
}
