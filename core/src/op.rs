//! The operation: one change, by one actor, to one log.
//!
//! Its identity is the SHA-256 of its canonical bytes, the log's name among them, so an operation can be moved to no
//! other log and changed in no bit. `docs/format.md` specifies the bytes; `testdata/v1/ops.json` holds vectors.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use minicbor::decode::{Decoder, Error as CborError};
use serde_json::Value;

use crate::codec::{self, DecodeError, Writer};
use crate::date::Date;
use crate::id::{ActorId, Seq, Sha};
use crate::json::{self, JsonError};
use crate::limits::{OP_DEPS_MAX, OP_PAYLOAD_BYTES_MAX};
use crate::name::LogName;
use crate::seal::OpenError;

/// Separates the hashes of operations from those of everything else.
const IDENTITY_TAG: &str = "gigfs.op.1";
/// The version of the record around an operation. // persisted
const RECORD_VERSION: u64 = 1;

/// What an operation carries, in an envelope that a store does not open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
    /// Canonical JSON ([`crate::json`]), readable by whoever holds it.
    Plain(Bytes),
    /// Ciphertext under a channel key.
    Sealed {
        /// The epoch of the channel key.
        epoch: u32,
        /// Ciphertext and tag; the nonce is derived ([`crate::seal`]).
        bytes: Bytes,
    },
}

impl Payload {
    /// Wraps a JSON value.
    pub fn plain(value: &Value) -> Self {
        Self::Plain(json::canonical(value).into())
    }

    /// Returns the bytes inside the envelope.
    pub fn bytes(&self) -> &Bytes {
        match self {
            Self::Plain(bytes) | Self::Sealed { bytes, .. } => bytes,
        }
    }

    pub(crate) fn write(&self, to: &mut Writer) -> WriteResult {
        match self {
            Self::Plain(bytes) => to.array(2)?.u8(0)?.bytes(bytes)?.ok(),
            Self::Sealed { epoch, bytes } => to.array(3)?.u8(1)?.u32(*epoch)?.bytes(bytes)?.ok(),
        }
    }

    pub(crate) fn read(decoder: &mut Decoder<'_>) -> Result<Self, CborError> {
        let length = decoder.array()?;
        match (length, decoder.u8()?) {
            (Some(2), 0) => Ok(Self::Plain(Bytes::copy_from_slice(decoder.bytes()?))),
            (Some(3), 1) => {
                let epoch = decoder.u32()?;
                Ok(Self::Sealed { epoch, bytes: Bytes::copy_from_slice(decoder.bytes()?) })
            }
            (_, kind) => Err(CborError::message(format!("a payload of unknown kind {kind}"))),
        }
    }
}

/// An Ed25519 signature: on an operation that of the device that wrote it, over its sha with a tag. Not part of its identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature(pub [u8; 64]);

/// The fields of an operation, before it has an identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// Who writes.
    pub actor: ActorId,
    /// Its place among the actor's operations in this log.
    pub seq: Seq,
    /// Its hybrid logical date.
    pub date: Date,
    /// The heads of the log as the author saw them, ascending and without repetition; at most [`OP_DEPS_MAX`].
    pub deps: Vec<Sha>,
    /// The change itself.
    pub payload: Payload,
}

/// An operation with its identity. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Op(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    draft: Draft,
    sha: Sha,
    /// By the author's device, once it was signed.
    signature: OnceLock<Signature>,
    /// What the payload holds, once it was opened.
    opened: OnceLock<Result<Payload, OpenError>>,
}

impl Inner {
    fn new(draft: Draft, sha: Sha, signature: Option<Signature>) -> Self {
        Self { draft, sha, signature: signature.map_or_else(OnceLock::new, OnceLock::from), opened: OnceLock::new() }
    }
}

/// The total order of replay. It extends causality, because an operation's date is after all that its author saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OrderKey {
    /// First the date.
    pub date: Date,
    /// Then the actor.
    pub actor: ActorId,
    /// Then the actor's count.
    pub seq: Seq,
    /// Last the identity.
    pub sha: Sha,
}

/// Why an operation is not well formed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpError {
    /// The record cannot be read.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The payload is over its limit.
    #[error("the payload has {bytes} bytes and the limit is {OP_PAYLOAD_BYTES_MAX}; store large contents as blobs")]
    PayloadTooLarge {
        /// Its size in bytes.
        bytes: usize,
    },
    /// Too many heads.
    #[error("the operation names {deps} dependencies and the limit is {OP_DEPS_MAX}")]
    TooManyDeps {
        /// How many it names.
        deps: usize,
    },
    /// The dependencies are not in ascending order, or one stands twice.
    #[error("the operation's dependencies are not in ascending order")]
    UnsortedDeps,
    /// A plain payload that is not canonical JSON.
    #[error(transparent)]
    Payload(#[from] JsonError),
    /// The sha that came with the operation is not the hash of its bytes.
    #[error(
        "the operation claims the sha {claimed} and its bytes hash to {actual}; it was changed or belongs to another log"
    )]
    ShaMismatch {
        /// The sha that came with it.
        claimed: Sha,
        /// The hash of its bytes in this log.
        actual: Sha,
    },
}

impl Draft {
    /// Checks the fields and gives the operation its identity in `log`.
    ///
    /// # Errors
    /// [`OpError`] names the limit or the rule that the draft breaks.
    pub fn finish(self, log: &LogName) -> Result<Op, OpError> {
        self.check()?;
        let sha = self.sha_in(log);
        Ok(Op(Arc::new(Inner::new(self, sha, None))))
    }

    fn check(&self) -> Result<(), OpError> {
        if self.payload.bytes().len() > OP_PAYLOAD_BYTES_MAX {
            return Err(OpError::PayloadTooLarge { bytes: self.payload.bytes().len() });
        }
        if self.deps.len() > OP_DEPS_MAX {
            return Err(OpError::TooManyDeps { deps: self.deps.len() });
        }
        if !self.deps.is_sorted_by(|a, b| a < b) {
            return Err(OpError::UnsortedDeps);
        }
        if let Payload::Plain(bytes) = &self.payload {
            json::parse_canonical(bytes)?;
        }
        Ok(())
    }

    fn sha_in(&self, log: &LogName) -> Sha {
        Sha::of(&self.identity_bytes(log))
    }

    /// Returns the canonical bytes that are hashed: the log's name and every field.
    pub fn identity_bytes(&self, log: &LogName) -> Vec<u8> {
        codec::encode(|to| {
            to.array(10)?.str(IDENTITY_TAG)?;
            to.str(log.user.as_str())?.str(log.channel.as_str())?.str(log.kind.as_str())?.str(log.path.as_str())?;
            self.write_fields(to)
        })
    }

    /// Decodes a record without the log that it belongs to, and so without its identity.
    ///
    /// # Errors
    /// [`DecodeError`] if the bytes are not a record.
    pub fn from_record(record: &[u8]) -> Result<(Self, Option<Signature>), DecodeError> {
        read_record(record)
    }

    /// Encodes the fields as a record.
    pub fn to_record(&self, signature: Option<&Signature>) -> Vec<u8> {
        codec::encode(|to| {
            to.array(7)?.u64(RECORD_VERSION)?;
            self.write_fields(to)?;
            match signature {
                Some(signature) => to.bytes(&signature.0)?.ok(),
                None => to.null()?.ok(),
            }
        })
    }

    fn write_fields(&self, to: &mut Writer) -> WriteResult {
        to.bytes(self.actor.as_bytes())?.u64(self.seq.get())?.u64(self.date.micros())?;
        to.array(self.deps.len() as u64)?;
        for dep in &self.deps {
            to.bytes(dep.as_bytes())?;
        }
        self.payload.write(to)
    }

    fn read_fields(decoder: &mut Decoder<'_>) -> Result<Self, CborError> {
        let actor = codec::actor(decoder)?;
        let seq = codec::seq(decoder)?;
        let date = codec::date(decoder)?;
        let count = codec::array_up_to(decoder, OP_DEPS_MAX)?;
        let deps = (0..count).map(|_| codec::sha(decoder)).collect::<Result<_, _>>()?;
        Ok(Self { actor, seq, date, deps, payload: Payload::read(decoder)? })
    }
}

impl Op {
    /// Decodes a record, gives it its identity in `log` and checks it against the sha that came with it, if one did.
    ///
    /// # Errors
    /// [`OpError`] if the bytes are malformed, break a limit, or hash to another sha.
    pub fn from_record(log: &LogName, record: &[u8], claimed: Option<Sha>) -> Result<Self, OpError> {
        let (draft, signature) = read_record(record)?;
        let op = draft.finish(log)?.signed(signature);
        if op.to_record() != record {
            return Err(DecodeError::NotCanonical { what: "an operation" }.into());
        }
        match claimed {
            Some(claimed) if claimed != op.sha() => Err(OpError::ShaMismatch { claimed, actual: op.sha() }),
            _ => Ok(op),
        }
    }

    /// Encodes the operation without the log's name, as it travels and is stored.
    pub fn to_record(&self) -> Vec<u8> {
        self.0.draft.to_record(self.signature())
    }

    /// Returns the operation with this signature instead of the one that it had.
    #[must_use]
    pub fn signed(self, signature: Option<Signature>) -> Self {
        let sha = self.0.sha;
        let draft = Arc::try_unwrap(self.0).map_or_else(|shared| shared.draft.clone(), |own| own.draft);
        Self(Arc::new(Inner::new(draft, sha, signature)))
    }

    /// Signs the operation, for all clones of it, unless it is signed.
    pub(crate) fn sign_with(&self, sign: impl FnOnce(Sha) -> Signature) {
        self.0.signature.get_or_init(|| sign(self.0.sha));
    }

    /// Opens the payload, for all clones of the operation, unless that was done before.
    pub(crate) fn open_with(&self, open: impl FnOnce(&Draft) -> Result<Payload, OpenError>) {
        self.0.opened.get_or_init(|| open(&self.0.draft));
    }

    /// Returns the operation as it was before anybody opened it.
    pub(crate) fn unopened(self) -> Self {
        Self(Arc::new(Inner::new(self.0.draft.clone(), self.0.sha, self.signature().cloned())))
    }

    /// Returns the canonical JSON of the payload, opened where it is sealed.
    ///
    /// # Errors
    /// A sentence that says why it cannot be read here.
    pub fn content(&self) -> Result<&Bytes, String> {
        match (self.0.opened.get(), self.payload()) {
            (Some(Ok(opened)), _) => Ok(opened.bytes()),
            (Some(Err(why)), _) => Err(why.to_string()),
            (None, Payload::Plain(bytes)) => Ok(bytes),
            (None, Payload::Sealed { epoch, .. }) => {
                Err(format!("it is sealed under key epoch {epoch}, and the channel's keys are not here"))
            }
        }
    }

    /// Returns the identity.
    pub fn sha(&self) -> Sha {
        self.0.sha
    }

    /// Returns who wrote it.
    pub fn actor(&self) -> ActorId {
        self.0.draft.actor
    }

    /// Returns its place among its actor's operations.
    pub fn seq(&self) -> Seq {
        self.0.draft.seq
    }

    /// Returns its hybrid logical date.
    pub fn date(&self) -> Date {
        self.0.draft.date
    }

    /// Returns the heads that its author saw.
    pub fn deps(&self) -> &[Sha] {
        &self.0.draft.deps
    }

    /// Returns the payload.
    pub fn payload(&self) -> &Payload {
        &self.0.draft.payload
    }

    /// Returns the signature, if it carries one.
    pub fn signature(&self) -> Option<&Signature> {
        self.0.signature.get()
    }

    /// Returns the fields without the identity.
    pub fn draft(&self) -> &Draft {
        &self.0.draft
    }

    /// Returns its place in the total order.
    pub fn key(&self) -> OrderKey {
        OrderKey { date: self.date(), actor: self.actor(), seq: self.seq(), sha: self.sha() }
    }

    /// Returns about how many bytes its record takes.
    pub fn size(&self) -> usize {
        self.payload().bytes().len() + self.deps().len() * 34 + 48 + if self.signature().is_some() { 66 } else { 0 }
    }
}

impl PartialEq for Op {
    fn eq(&self, other: &Self) -> bool {
        (self.sha(), self.draft(), self.signature()) == (other.sha(), other.draft(), other.signature())
    }
}

impl Eq for Op {}

pub(crate) type WriteResult = Result<(), minicbor::encode::Error<core::convert::Infallible>>;

fn read_record(record: &[u8]) -> Result<(Draft, Option<Signature>), DecodeError> {
    const WHAT: &str = "an operation";
    let version = codec::decode(WHAT, record, |decoder| {
        codec::array(decoder, 7)?;
        let version = decoder.u64()?;
        decoder.set_position(record.len());
        Ok(version)
    })?;
    if version != RECORD_VERSION {
        return Err(DecodeError::UnknownVersion { what: WHAT, found: version, known: RECORD_VERSION });
    }
    codec::decode(WHAT, record, |decoder| {
        codec::array(decoder, 7)?;
        decoder.u64()?;
        let draft = Draft::read_fields(decoder)?;
        let signature = codec::optional(decoder, |decoder| codec::fixed(decoder).map(Signature))?;
        Ok((draft, signature))
    })
}

#[cfg(test)]
mod tests;
