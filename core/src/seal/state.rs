//! The sealing of a checkpoint's state.
//!
//! The associated data names what the state is the state of: the log, the place in the chain, the covered set and what folded
//! it. The author is not among it: two replicas that fold the same operations seal the same state into the same bytes, so
//! that stores can still tell that they agree. The reducer's name stands blinded ([`super::NameKeys::blind_type`]).

use super::aead;
use super::keys::ChannelKeys;
use super::names::BlindLog;
use super::payload::{OpenError, SealError, content};
use crate::checkpoint::Checkpoint;
use crate::codec;
use crate::limits::CHECKPOINT_SEALED_CONTENT_BYTES_MAX;
use crate::name::TypeName;
use crate::op::Payload;

const TAG: &str = "gigfs.seal.state.1";
const WHAT: &str = "state";

impl ChannelKeys {
    /// Returns the sealed form of a checkpoint's state, under the newest epoch.
    ///
    /// # Errors
    /// [`SealError`] if the state is sealed already, or over [`CHECKPOINT_SEALED_CONTENT_BYTES_MAX`].
    pub fn seal_state(&self, log: &BlindLog, checkpoint: &Checkpoint) -> Result<Payload, SealError> {
        let content = content(WHAT, &checkpoint.state, CHECKPOINT_SEALED_CONTENT_BYTES_MAX)?;
        let (epoch, keys) = self.latest();
        let bytes = aead::seal(&keys.state, &associated(log, checkpoint, epoch), content);
        Ok(Payload::Sealed { epoch, bytes: bytes.into() })
    }

    /// Returns a checkpoint as its reducer reads it: with its state in the clear, and the reducer's name if it is `reducer`.
    ///
    /// # Errors
    /// Those of [`open_state`](Self::open_state).
    pub fn open_checkpoint(
        &self,
        log: &BlindLog,
        checkpoint: &Checkpoint,
        reducer: &str,
    ) -> Result<Checkpoint, OpenError> {
        let state = self.open_state(log, checkpoint)?;
        let named = TypeName::parse(reducer).ok().filter(|name| self.names().blind_type(name) == checkpoint.reducer);
        let reducer = named.unwrap_or_else(|| checkpoint.reducer.clone());
        Ok(Checkpoint { state, reducer, ..checkpoint.clone() })
    }

    /// Returns the plain form of a sealed state, as the reducer encoded it.
    ///
    /// # Errors
    /// [`OpenError`] if it is not what a holder of the epoch's key sealed for this checkpoint of this log.
    pub fn open_state(&self, log: &BlindLog, checkpoint: &Checkpoint) -> Result<Payload, OpenError> {
        let (epoch, sealed) = self.sealed(WHAT, &checkpoint.state)?;
        let keys = self.known_epoch(WHAT, epoch)?;
        aead::open(&keys.state, &associated(log, checkpoint, epoch), sealed)
            .map(|content| Payload::Plain(content.into()))
            .map_err(|unopened| OpenError::of(WHAT, epoch, unopened))
    }
}

pub(super) fn associated(log: &BlindLog, checkpoint: &Checkpoint, epoch: u32) -> Vec<u8> {
    codec::encode(|to| {
        to.array(10)?.str(TAG)?;
        log.write(to)?;
        to.u64(checkpoint.generation.get())?;
        match &checkpoint.parent {
            Some(parent) => to.bytes(parent.as_bytes())?.ok()?,
            None => to.null()?.ok()?,
        }
        to.array(2)?.u64(checkpoint.digest.count)?.bytes(&checkpoint.digest.xor)?;
        to.array(2)?.str(checkpoint.reducer.as_str())?.u32(checkpoint.version)?;
        to.u32(epoch)?.ok()
    })
}
