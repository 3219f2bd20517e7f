//! The sealing of an operation's payload.
//!
//! The associated data is all that an operation is beside its payload, so sealed bytes open in their own operation only:
//! in this log, of this actor, with this seq and date, after these dependencies, under this epoch.

use bytes::Bytes;

use super::aead::{self, Unopened};
use super::keys::ChannelKeys;
use super::names::BlindLog;
use crate::codec;
use crate::json::{self, JsonError};
use crate::limits::OP_SEALED_CONTENT_BYTES_MAX;
use crate::op::{Draft, Op, Payload};

const TAG: &str = "gigfs.seal.payload.1";
const WHAT: &str = "payload";

/// Why something is not sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// It is sealed already.
    #[error("the {what} is sealed already, under key epoch {epoch}")]
    AlreadySealed {
        /// What it is.
        what: &'static str,
        /// The epoch.
        epoch: u32,
    },
    /// Sealed, it would be over its limit.
    #[error("the {what} has {bytes} bytes and the limit is {max} where it is sealed; store large contents as blobs")]
    TooLarge {
        /// What it is.
        what: &'static str,
        /// Its size in bytes.
        bytes: usize,
        /// The most that can be sealed.
        max: usize,
    },
}

/// Why something sealed does not open.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// It is in the clear. In a sealed channel nothing is: whoever wrote it had no key.
    #[error("the {what} is not sealed, and in this channel everything is; whoever wrote it had no key")]
    NotSealed {
        /// What it is.
        what: &'static str,
    },
    /// The epoch's key is not here.
    #[error("the {what} is sealed under key epoch {epoch}, which is not here, the newest being {newest}")]
    UnknownEpoch {
        /// What it is.
        what: &'static str,
        /// The epoch.
        epoch: u32,
        /// The newest epoch that is here.
        newest: u32,
    },
    /// Another key, another place, or changed bytes.
    #[error("the {what} does not open under key epoch {epoch}; it was changed, or moved from elsewhere")]
    Forged {
        /// What it is.
        what: &'static str,
        /// The epoch.
        epoch: u32,
    },
    /// It opens, and is not padded as it must be.
    #[error("the {what} opens under key epoch {epoch} and is not padded as it must be")]
    Padding {
        /// What it is.
        what: &'static str,
        /// The epoch.
        epoch: u32,
    },
    /// A payload that opens, and is not canonical JSON.
    #[error(transparent)]
    Content(#[from] JsonError),
}

impl ChannelKeys {
    /// Returns the sealed form of a draft's payload, under the newest epoch. It depends on nothing but the keys, the log
    /// and the draft.
    ///
    /// # Errors
    /// [`SealError`] if the payload is sealed already, or over [`OP_SEALED_CONTENT_BYTES_MAX`].
    pub fn seal_payload(&self, log: &BlindLog, draft: &Draft) -> Result<Payload, SealError> {
        let content = content(WHAT, &draft.payload, OP_SEALED_CONTENT_BYTES_MAX)?;
        let (epoch, keys) = self.latest();
        let bytes = aead::seal(&keys.payload, &associated(log, draft, epoch), content);
        Ok(Payload::Sealed { epoch, bytes: bytes.into() })
    }

    /// Opens an operation, so that [`Op::content`](crate::Op::content) tells what is in it, or why that cannot be told.
    pub fn open_op(&self, log: &BlindLog, op: &Op) {
        op.open_with(|draft| self.open_payload(log, draft));
    }

    /// Returns the plain form of a sealed payload: canonical JSON.
    ///
    /// # Errors
    /// [`OpenError`] if it is not what a holder of the epoch's key sealed for this operation of this log.
    pub fn open_payload(&self, log: &BlindLog, draft: &Draft) -> Result<Payload, OpenError> {
        let (epoch, sealed) = self.sealed(WHAT, &draft.payload)?;
        let keys = self.known_epoch(WHAT, epoch)?;
        let content = aead::open(&keys.payload, &associated(log, draft, epoch), sealed)
            .map_err(|unopened| OpenError::of(WHAT, epoch, unopened))?;
        json::parse_canonical(&content)?;
        // Without the room that the padding took: it may be kept for long.
        Ok(Payload::Plain(content.into_boxed_slice().into()))
    }

    /// Returns the epoch and the bytes of something that must be sealed.
    pub(super) fn sealed<'p>(&self, what: &'static str, payload: &'p Payload) -> Result<(u32, &'p Bytes), OpenError> {
        match payload {
            Payload::Plain(_) => Err(OpenError::NotSealed { what }),
            Payload::Sealed { epoch, bytes } => Ok((*epoch, bytes)),
        }
    }

    pub(super) fn known_epoch(&self, what: &'static str, epoch: u32) -> Result<&super::keys::Epoch, OpenError> {
        self.epoch(epoch).ok_or_else(|| OpenError::UnknownEpoch { what, epoch, newest: self.newest() })
    }
}

impl OpenError {
    pub(super) fn of(what: &'static str, epoch: u32, unopened: Unopened) -> Self {
        match unopened {
            Unopened::Forged => Self::Forged { what, epoch },
            Unopened::Padding => Self::Padding { what, epoch },
        }
    }
}

/// Returns what is to be sealed, if it can be.
pub(super) fn content<'p>(what: &'static str, payload: &'p Payload, max: usize) -> Result<&'p Bytes, SealError> {
    match payload {
        Payload::Sealed { epoch, .. } => Err(SealError::AlreadySealed { what, epoch: *epoch }),
        Payload::Plain(bytes) if bytes.len() > max => Err(SealError::TooLarge { what, bytes: bytes.len(), max }),
        Payload::Plain(bytes) => Ok(bytes),
    }
}

pub(super) fn associated(log: &BlindLog, draft: &Draft, epoch: u32) -> Vec<u8> {
    codec::encode(|to| {
        to.array(10)?.str(TAG)?;
        log.write(to)?;
        to.bytes(draft.actor.as_bytes())?.u64(draft.seq.get())?.u64(draft.date.micros())?;
        to.array(draft.deps.len() as u64)?;
        draft.deps.iter().try_for_each(|dep| to.bytes(dep.as_bytes())?.ok())?;
        to.u32(epoch)?.ok()
    })
}
