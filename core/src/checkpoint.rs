//! The checkpoint: the state of a log after a set of operations. `docs/format.md` §4 specifies its bytes.
//!
//! The format stands from the first version on, so that a store or a client of any version can name, keep and hand on
//! what a later one makes. Its identity covers the log's name, as an operation's does.

use std::collections::BTreeSet;

use bytes::Bytes;
use minicbor::decode::{Decoder, Error as CborError};

use crate::codec::{self, DecodeError, Writer};
use crate::commit::with_all;
use crate::covers::{Covers, Heads};
use crate::date::Date;
use crate::id::{ActorId, Digest, Seq, Sha};
use crate::limits::{
    CHECKPOINT_ABSENT_MAX, CHECKPOINT_ACTORS_MAX, CHECKPOINT_HEADS_MAX, CHECKPOINT_RECORD_BYTES_MAX,
    CHECKPOINT_STATE_BYTES_MAX,
};
use crate::name::{LogName, NameError, TypeName};
use crate::op::{Payload, Signature, WriteResult};

/// Separates the hashes of checkpoints from those of everything else.
const IDENTITY_TAG: &str = "gigfs.checkpoint.1";
/// The version of the record around a checkpoint. // persisted
const RECORD_VERSION: u64 = 1;
const WHAT: &str = "a checkpoint";

/// The state of a log after the operations that it covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// How many checkpoints the log has had, this one included.
    pub generation: Seq,
    /// The checkpoint that it builds on; nothing for the first.
    pub parent: Option<Sha>,
    /// The covered set, by its heads.
    pub covers: Covers,
    /// Operations, ascending, on which what is newly covered depends and that its author did not hold: the parent covers
    /// them, or nobody has them any more, or they are late. This checkpoint does not newly cover them.
    pub absent: Vec<Sha>,
    /// The digest of the covered set: whoever has collected its shas knows by this that they are all.
    pub digest: Digest,
    /// What folded the state.
    pub reducer: TypeName,
    /// The reducer's version.
    pub version: u32,
    /// The state, as the reducer encodes it, plain or sealed.
    pub state: Payload,
    /// When it was made: after every operation that it covers.
    pub date: Date,
    /// The replica that made it.
    pub author: ActorId,
}

/// Which checkpoint of a log: a later generation is greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BaseId {
    /// How many checkpoints the log has had, this one included.
    #[cfg_attr(feature = "openapi", schema(value_type = u64))]
    pub generation: Seq,
    /// Its identity.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub sha: Sha,
}

/// A committed checkpoint as it is kept and travels: a log's *base*.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    /// Its identity.
    pub sha: Sha,
    /// [`Checkpoint::to_record`].
    pub record: Bytes,
    /// The table's word that it is committed ([`crate::token::CertificateClaims`], a JWT).
    pub certificate: String,
}

/// Why a checkpoint is not well formed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// The record cannot be read.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The reducer's name breaks a rule.
    #[error(transparent)]
    Reducer(#[from] NameError),
    /// The state is over its limit.
    #[error("the state has {bytes} bytes and the limit is {CHECKPOINT_STATE_BYTES_MAX}")]
    StateTooLarge {
        /// Its size in bytes.
        bytes: usize,
    },
    /// The record is over its limit.
    #[error("the checkpoint has {bytes} bytes and the limit is {CHECKPOINT_RECORD_BYTES_MAX}")]
    RecordTooLarge {
        /// Its size in bytes.
        bytes: usize,
    },
    /// More actors, or more heads of one actor, than the limit; or heads that are not in ascending order.
    #[error("the covered set is not in its canonical form, or over {CHECKPOINT_ACTORS_MAX} actors")]
    Covers,
    /// The sha that came with the checkpoint is not the hash of its bytes.
    #[error(
        "the checkpoint claims the sha {claimed} and its bytes hash to {actual}; it was changed or belongs to another log"
    )]
    ShaMismatch {
        /// The sha that came with it.
        claimed: Sha,
        /// The hash of its bytes in this log.
        actual: Sha,
    },
}

impl Checkpoint {
    /// Returns the identity of the checkpoint in a log.
    pub fn sha(&self, log: &LogName) -> Sha {
        Sha::of(&self.identity_bytes(log))
    }

    /// Returns the canonical bytes that are hashed: the log's name and every field.
    pub fn identity_bytes(&self, log: &LogName) -> Vec<u8> {
        codec::encode(|to| {
            to.array(14)?.str(IDENTITY_TAG)?;
            to.str(log.user.as_str())?.str(log.channel.as_str())?.str(log.kind.as_str())?.str(log.path.as_str())?;
            self.write_fields(to)
        })
    }

    /// Encodes the checkpoint without the log's name, as it travels and is stored.
    pub fn to_record(&self, signature: Option<&Signature>) -> Vec<u8> {
        codec::encode(|to| {
            to.array(11)?.u64(RECORD_VERSION)?;
            self.write_fields(to)?;
            match signature {
                Some(signature) => to.bytes(&signature.0)?.ok(),
                None => to.null()?.ok(),
            }
        })
    }

    /// Decodes a record and checks it against the sha that came with it.
    ///
    /// # Errors
    /// [`CheckpointError`] if the bytes are malformed, break a limit, or hash to another sha in `log`.
    pub fn from_record(
        log: &LogName,
        record: &[u8],
        claimed: Sha,
    ) -> Result<(Self, Option<Signature>), CheckpointError> {
        if record.len() > CHECKPOINT_RECORD_BYTES_MAX {
            return Err(CheckpointError::RecordTooLarge { bytes: record.len() });
        }
        let (checkpoint, signature) = codec::decode(WHAT, record, read_record)?;
        checkpoint.check()?;
        if checkpoint.to_record(signature.as_ref()) != record {
            return Err(DecodeError::NotCanonical { what: WHAT }.into());
        }
        match checkpoint.sha(log) {
            actual if actual == claimed => Ok((checkpoint, signature)),
            actual => Err(CheckpointError::ShaMismatch { claimed, actual }),
        }
    }

    /// Returns which of the operations that are held the checkpoint newly covers for certain. `deps` returns what an
    /// operation depends on, or nothing of one that is not held.
    ///
    /// Those are its heads, and all that can be reached from them through `deps` without crossing what is absent: for whoever
    /// stands on its parent, and holds nothing that the parent covers. For anybody else, what is reached may go beyond, for
    /// it takes the parent to know what was absent there: it counts if together with `known`, the digest of what is known
    /// to be covered, it is all that the checkpoint covers, and otherwise only the heads do.
    ///
    /// # Errors
    /// Those of the lookup.
    pub fn follow<E>(
        &self,
        on_parent: bool,
        known: Digest,
        mut deps: impl FnMut(&Sha) -> Result<Option<Vec<Sha>>, E>,
    ) -> Result<BTreeSet<Sha>, E> {
        let mut held = BTreeSet::new();
        let mut next: Vec<Sha> = self.covers.shas().copied().collect();
        while let Some(sha) = next.pop() {
            if !held.contains(&sha)
                && self.absent.binary_search(&sha).is_err()
                && let Some(deps) = deps(&sha)?
            {
                held.insert(sha);
                next.extend(deps);
            }
        }
        if !on_parent && with_all(known, &held) != self.digest {
            let heads: BTreeSet<&Sha> = self.covers.shas().collect();
            held.retain(|sha| heads.contains(sha));
        }
        Ok(held)
    }

    /// Decodes a record that was checked when it was first met.
    ///
    /// # Errors
    /// [`DecodeError`] if it is damaged.
    pub fn from_trusted(record: &[u8]) -> Result<Self, DecodeError> {
        codec::decode(WHAT, record, read_record).map(|(checkpoint, _)| checkpoint)
    }

    /// Returns the signature that a record carries.
    pub(crate) fn signature_in(record: &[u8]) -> Option<Signature> {
        codec::decode(WHAT, record, read_record).ok()?.1
    }

    /// Returns which checkpoint this is.
    pub fn id(&self, log: &LogName) -> BaseId {
        BaseId { generation: self.generation, sha: self.sha(log) }
    }

    /// Checks the limits and the order of what it covers.
    ///
    /// # Errors
    /// [`CheckpointError`] names what is not as it should be.
    pub fn check(&self) -> Result<(), CheckpointError> {
        let bytes = self.state.bytes().len();
        if bytes > CHECKPOINT_STATE_BYTES_MAX {
            return Err(CheckpointError::StateTooLarge { bytes });
        }
        let ordered = |heads: &Heads| !heads.is_empty() && heads.is_sorted_by(|a, b| a < b);
        let fits = |heads: &Heads| heads.len() <= CHECKPOINT_HEADS_MAX && ordered(heads);
        let entries = self.covers.entries();
        let absent_fit = self.absent.len() <= CHECKPOINT_ABSENT_MAX && self.absent.is_sorted_by(|a, b| a < b);
        match entries.len() <= CHECKPOINT_ACTORS_MAX
            && self.covers.entries().all(|(_, heads)| fits(heads))
            && absent_fit
        {
            true => Ok(()),
            false => Err(CheckpointError::Covers),
        }
    }

    fn write_fields(&self, to: &mut Writer) -> WriteResult {
        to.u64(self.generation.get())?;
        match &self.parent {
            Some(parent) => to.bytes(parent.as_bytes())?.ok()?,
            None => to.null()?.ok()?,
        }
        let entries = self.covers.entries();
        to.array(entries.len() as u64)?;
        for (actor, heads) in entries {
            to.array(2)?.bytes(actor.as_bytes())?.array(heads.len() as u64)?;
            for (seq, sha) in heads {
                to.array(2)?.u64(seq.get())?.bytes(sha.as_bytes())?;
            }
        }
        to.array(self.absent.len() as u64)?;
        self.absent.iter().try_for_each(|sha| to.bytes(sha.as_bytes())?.ok())?;
        to.array(2)?.u64(self.digest.count)?.bytes(&self.digest.xor)?;
        to.array(2)?.str(self.reducer.as_str())?.u32(self.version)?;
        self.state.write(to)?;
        to.u64(self.date.micros())?.bytes(self.author.as_bytes())?.ok()
    }
}

fn read_record(from: &mut Decoder<'_>) -> Result<(Checkpoint, Option<Signature>), CborError> {
    codec::array(from, 11)?;
    match from.u64()? {
        RECORD_VERSION => {}
        other => {
            return Err(CborError::message(format!("format version {other} is newer than {RECORD_VERSION}; update")));
        }
    }
    let generation = codec::seq(from)?;
    let parent = codec::optional(from, codec::sha)?;
    let actors = codec::array_up_to(from, CHECKPOINT_ACTORS_MAX)?;
    let mut covers = Vec::with_capacity(actors);
    for _ in 0..actors {
        codec::array(from, 2)?;
        let actor = codec::actor(from)?;
        let count = codec::array_up_to(from, CHECKPOINT_HEADS_MAX)?;
        let heads: Result<Heads, CborError> = (0..count)
            .map(|_| {
                codec::array(from, 2)?;
                Ok((codec::seq(from)?, codec::sha(from)?))
            })
            .collect();
        covers.push((actor, heads?));
    }
    let covers = Covers::from_entries(covers);
    let count = codec::array_up_to(from, CHECKPOINT_ABSENT_MAX)?;
    let absent = (0..count).map(|_| codec::sha(from)).collect::<Result<Vec<Sha>, CborError>>()?;
    codec::array(from, 2)?;
    let digest = Digest { count: from.u64()?, xor: codec::fixed(from)? };
    codec::array(from, 2)?;
    let reducer = codec::name(from, TypeName::parse)?;
    let version = from.u32()?;
    let state = Payload::read(from)?;
    let (date, author) = (codec::date(from)?, codec::actor(from)?);
    let signature = codec::optional(from, |from| codec::fixed(from).map(Signature))?;
    Ok((Checkpoint { generation, parent, covers, absent, digest, reducer, version, state, date, author }, signature))
}

#[cfg(test)]
mod tests;
