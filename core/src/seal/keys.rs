//! The keys of a channel: one secret for its names, and one for each epoch of its contents.
//!
//! Whoever loses access keeps what he has seen, so keys are replaced forward: a new epoch's secret is drawn, and what is
//! written from then on is sealed under it. Old epochs stay, to open what was written under them. There is always at least
//! one epoch.

use std::collections::BTreeMap;

use minicbor::decode::{Decoder, Error as CborError};

use super::names::NameKeys;
use super::secret::Secret;
use crate::codec::{self, Writer};
use crate::limits::CHANNEL_EPOCHS_MAX;
use crate::op::WriteResult;

const PAYLOAD_LABEL: &str = "gigfs.key.payload.1";
const STATE_LABEL: &str = "gigfs.key.state.1";

/// All keys of one channel that a client has. The newest epoch seals, each of them opens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelKeys {
    names: NameKeys,
    epochs: BTreeMap<u32, Epoch>,
}

/// The keys of one epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Epoch {
    secret: Secret,
    pub(super) payload: Secret,
    pub(super) state: Secret,
}

/// Why an epoch is not added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EpochError {
    /// There is one of this number with another secret.
    #[error("the channel's key epoch {epoch} is known with another secret; two devices rotated at once")]
    Conflict {
        /// Its number.
        epoch: u32,
    },
    /// The channel has as many as it can have.
    #[error("the channel has {CHANNEL_EPOCHS_MAX} key epochs, which is the limit; forget some before the next")]
    TooMany,
    /// The keys are those of another channel.
    #[error("the keys are those of another channel: its names are blinded otherwise")]
    OtherChannel,
}

impl ChannelKeys {
    /// The number of a channel's first epoch.
    pub const FIRST_EPOCH: u32 = 1;

    /// Makes the keys of a new channel of two fresh secrets.
    pub fn new(names: Secret, first: Secret) -> Self {
        Self { names: NameKeys::new(names), epochs: BTreeMap::from([(Self::FIRST_EPOCH, Epoch::new(first))]) }
    }

    /// Returns the keys of the channel's names.
    pub fn names(&self) -> &NameKeys {
        &self.names
    }

    /// Returns the epoch that seals.
    pub fn newest(&self) -> u32 {
        self.latest().0
    }

    /// Iterates over the epochs, ascending.
    pub fn epochs(&self) -> impl ExactSizeIterator<Item = u32> {
        self.epochs.keys().copied()
    }

    /// Begins a new epoch with a fresh secret, and returns its number.
    ///
    /// # Errors
    /// [`EpochError::TooMany`].
    pub fn rotate(&mut self, secret: Secret) -> Result<u32, EpochError> {
        let epoch = self.newest().checked_add(1).ok_or(EpochError::TooMany)?;
        self.insert(epoch, secret).map(|()| epoch)
    }

    /// Adds an epoch; nothing happens if it is there with the same secret.
    ///
    /// # Errors
    /// [`EpochError`] if it is there with another one, or there is no room.
    pub fn insert(&mut self, epoch: u32, secret: Secret) -> Result<(), EpochError> {
        match self.epochs.get(&epoch) {
            Some(known) if known.secret == secret => Ok(()),
            Some(_) => Err(EpochError::Conflict { epoch }),
            None if self.epochs.len() >= CHANNEL_EPOCHS_MAX => Err(EpochError::TooMany),
            None => {
                self.epochs.insert(epoch, Epoch::new(secret));
                Ok(())
            }
        }
    }

    /// Adds all epochs of `other`: all of them, or none.
    ///
    /// # Errors
    /// [`EpochError`] if they are the keys of another channel, or an epoch cannot be added.
    pub fn merge(&mut self, other: &Self) -> Result<(), EpochError> {
        if self.names != other.names {
            return Err(EpochError::OtherChannel);
        }
        let mut merged = self.clone();
        for (&epoch, keys) in &other.epochs {
            merged.insert(epoch, keys.secret.clone())?;
        }
        *self = merged;
        Ok(())
    }

    /// Returns the keys from `epoch` on, for a guest who shall not read what was written before; nothing if there is no
    /// such epoch.
    pub fn since(&self, epoch: u32) -> Option<Self> {
        let epochs: BTreeMap<u32, Epoch> = self.epochs.range(epoch..).map(|(at, keys)| (*at, keys.clone())).collect();
        (!epochs.is_empty()).then(|| Self { names: self.names.clone(), epochs })
    }

    pub(super) fn latest(&self) -> (u32, &Epoch) {
        let (epoch, keys) = self.epochs.last_key_value().expect("there is at least one epoch");
        (*epoch, keys)
    }

    pub(super) fn epoch(&self, epoch: u32) -> Option<&Epoch> {
        self.epochs.get(&epoch)
    }

    /// Returns at least how many bytes [`ChannelKeys::write`] writes.
    pub(super) fn room(&self) -> usize {
        64 + self.epochs.len() * 40
    }

    /// Writes `[names, [[epoch, secret], …]]`, the epochs ascending.
    pub(super) fn write(&self, to: &mut Writer) -> WriteResult {
        to.array(2)?.bytes(self.names.secret().expose())?.array(self.epochs.len() as u64)?;
        for (epoch, keys) in &self.epochs {
            to.array(2)?.u32(*epoch)?.bytes(keys.secret.expose())?;
        }
        Ok(())
    }

    pub(super) fn read(from: &mut Decoder<'_>) -> Result<Self, CborError> {
        codec::array(from, 2)?;
        let names = NameKeys::new(codec::fixed(from).map(Secret::from_bytes)?);
        let count = codec::array_up_to(from, CHANNEL_EPOCHS_MAX)?;
        let mut epochs = BTreeMap::new();
        for _ in 0..count {
            codec::array(from, 2)?;
            let epoch = from.u32()?;
            if epochs.last_key_value().is_some_and(|(last, _)| *last >= epoch) {
                return Err(CborError::message("key epochs that are not in ascending order"));
            }
            epochs.insert(epoch, Epoch::new(codec::fixed(from).map(Secret::from_bytes)?));
        }
        match epochs.is_empty() {
            true => Err(CborError::message("a channel without a key epoch")),
            false => Ok(Self { names, epochs }),
        }
    }
}

impl Epoch {
    fn new(secret: Secret) -> Self {
        Self { payload: secret.derive(PAYLOAD_LABEL), state: secret.derive(STATE_LABEL), secret }
    }
}
