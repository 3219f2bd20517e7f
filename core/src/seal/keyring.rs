//! The keyring: all that a user's devices share and nobody else may know.
//!
//! It holds the identity, the keys of all channels, and the fingerprints of others. Each change makes a new revision; the
//! table keeps the newest, sealed ([`super::SealedKeyring`]).
//!
//! It also says which channels are plain, made without sealing on purpose. Whether to seal is never concluded from a lack
//! of keys, which a server could bring about: a channel that the keyring does not name is not known yet, and neither keys
//! nor plainness ever take the other's place.

use std::collections::BTreeMap;

use minicbor::decode::{Decoder, Error as CborError};
use zeroize::Zeroizing;

use super::identity::{Fingerprint, Identity};
use super::keys::{ChannelKeys, EpochError};
use super::secret;
use crate::codec::{self, DecodeError};
use crate::limits::{INTEGER_MAX, KEYRING_CHANNELS_MAX, KEYRING_PINS_MAX, NAME_BYTES_MAX};
use crate::name::{ChannelName, UserName};

/// The version of the content. // persisted
const CONTENT_VERSION: u64 = 1;
const WHAT: &str = "a keyring";

/// A user's keys.
#[derive(Debug, Clone)]
pub struct Keyring {
    revision: u64,
    identity: Identity,
    channels: BTreeMap<(UserName, ChannelName), Sealing>,
    pins: BTreeMap<UserName, Fingerprint>,
}

/// How what is written in a channel leaves the device. A channel that is not in the keyring has neither: it is not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sealing {
    /// Sealed under these keys.
    Sealed(ChannelKeys),
    /// In the clear, because its owner chose so when it was made.
    Plain,
}

/// Why a fingerprint is not pinned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PinError {
    /// Another one is pinned.
    #[error(
        "the fingerprint that was compared with {user} is {pinned}, and not {found}; if {user} has made a new identity, compare again after `gig unpin {user}`"
    )]
    Changed {
        /// Whose.
        user: UserName,
        /// The one that is pinned.
        pinned: Fingerprint,
        /// The one that was to be pinned.
        found: Fingerprint,
    },
    /// There is no room.
    #[error("{KEYRING_PINS_MAX} fingerprints are pinned, which is the limit; `gig unpin USER` forgets one")]
    TooMany,
}

/// Why keys are not added to a keyring.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddKeysError {
    /// They contradict the keys that are there.
    #[error(transparent)]
    Epoch(#[from] EpochError),
    /// The channel was made without sealing.
    #[error("the channel {channel} of {owner} was made without sealing; to seal, make another channel")]
    Plain {
        /// Who owns the channel.
        owner: UserName,
        /// The channel.
        channel: ChannelName,
    },
    /// There is no room.
    #[error("the keyring knows {KEYRING_CHANNELS_MAX} channels, which is the limit")]
    TooMany,
}

/// Why a channel is not marked as plain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MarkPlainError {
    /// The channel has keys.
    #[error("the channel {channel} of {owner} is sealed; to write in the clear, make another channel")]
    Sealed {
        /// Who owns the channel.
        owner: UserName,
        /// The channel.
        channel: ChannelName,
    },
    /// There is no room.
    #[error("the keyring knows {KEYRING_CHANNELS_MAX} channels, which is the limit")]
    TooMany,
}

impl Sealing {
    /// Returns the keys, if it is sealed.
    pub fn keys(&self) -> Option<&ChannelKeys> {
        match self {
            Self::Sealed(keys) => Some(keys),
            Self::Plain => None,
        }
    }
}

impl Keyring {
    /// Makes the first revision of a new user's keyring.
    pub fn new(identity: Identity) -> Self {
        Self { revision: 1, identity, channels: BTreeMap::new(), pins: BTreeMap::new() }
    }

    /// Returns its number: 1 for the first, one more with each change.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Counts up the revision; to be called once for each one that is sealed.
    pub fn advance(&mut self) {
        self.revision = (self.revision + 1).min(INTEGER_MAX);
    }

    /// Returns the user's identity.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Tells how a channel is sealed; nothing if it is not known, which is no reason to write in the clear.
    pub fn channel(&self, owner: &UserName, channel: &ChannelName) -> Option<&Sealing> {
        self.channels.get(&(owner.clone(), channel.clone()))
    }

    /// Iterates over the channels that are known: who owns them, what they are called, how they are sealed.
    pub fn channels(&self) -> impl Iterator<Item = (&UserName, &ChannelName, &Sealing)> {
        self.channels.iter().map(|((owner, channel), sealing)| (owner, channel, sealing))
    }

    /// Adds the keys of a channel to those that are there.
    ///
    /// # Errors
    /// [`AddKeysError`] if they contradict them, the channel is plain, or there is no room; then nothing changed.
    pub fn add_keys(&mut self, owner: UserName, channel: ChannelName, keys: ChannelKeys) -> Result<(), AddKeysError> {
        let name = (owner, channel);
        match self.channels.get_mut(&name) {
            Some(Sealing::Sealed(known)) => return Ok(known.merge(&keys)?),
            Some(Sealing::Plain) => return Err(AddKeysError::Plain { owner: name.0, channel: name.1 }),
            None => {}
        }
        if self.channels.len() >= KEYRING_CHANNELS_MAX {
            return Err(AddKeysError::TooMany);
        }
        self.channels.insert(name, Sealing::Sealed(keys));
        Ok(())
    }

    /// Marks a channel as made without sealing on purpose; nothing happens if it is marked already.
    ///
    /// # Errors
    /// [`MarkPlainError`] if it has keys, or there is no room; then nothing changed.
    pub fn mark_plain(&mut self, owner: UserName, channel: ChannelName) -> Result<(), MarkPlainError> {
        let name = (owner, channel);
        match self.channels.get(&name) {
            Some(Sealing::Plain) => {}
            Some(Sealing::Sealed(_)) => return Err(MarkPlainError::Sealed { owner: name.0, channel: name.1 }),
            None if self.channels.len() >= KEYRING_CHANNELS_MAX => return Err(MarkPlainError::TooMany),
            None => _ = self.channels.insert(name, Sealing::Plain),
        }
        Ok(())
    }

    /// Forgets a channel. What is sealed under its keys cannot be read again, unless someone grants them again.
    pub fn forget_channel(&mut self, owner: &UserName, channel: &ChannelName) -> Option<Sealing> {
        self.channels.remove(&(owner.clone(), channel.clone()))
    }

    /// Returns the fingerprint that is pinned for a user.
    pub fn pinned(&self, user: &UserName) -> Option<Fingerprint> {
        self.pins.get(user).copied()
    }

    /// Pins a user's fingerprint, after two people compared it.
    ///
    /// # Errors
    /// [`PinError`] if another one is pinned, or there is no room.
    pub fn pin(&mut self, user: UserName, found: Fingerprint) -> Result<(), PinError> {
        match self.pins.get(&user) {
            Some(&pinned) if pinned != found => Err(PinError::Changed { user, pinned, found }),
            None if self.pins.len() >= KEYRING_PINS_MAX => Err(PinError::TooMany),
            _ => {
                self.pins.insert(user, found);
                Ok(())
            }
        }
    }

    /// Forgets a user's fingerprint.
    pub fn unpin(&mut self, user: &UserName) -> Option<Fingerprint> {
        self.pins.remove(user)
    }

    /// Encodes it: `[1, revision, identity, [[owner, channel, keys or null], …], [[user, fingerprint], …]]`.
    pub(super) fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let room_of = |sealing: &Sealing| sealing.keys().map_or(1, ChannelKeys::room) + 2 * (NAME_BYTES_MAX + 4);
        let channels: usize = self.channels.values().map(room_of).sum();
        let room = 256 + channels + self.pins.len() * (NAME_BYTES_MAX + 48);
        secret::encode(room, |to| {
            to.array(5)?.u64(CONTENT_VERSION)?.u64(self.revision)?;
            self.identity.write(to)?;
            to.array(self.channels.len() as u64)?;
            for ((owner, channel), sealing) in &self.channels {
                to.array(3)?.str(owner.as_str())?.str(channel.as_str())?;
                match sealing {
                    Sealing::Sealed(keys) => keys.write(to)?,
                    Sealing::Plain => to.null()?.ok()?,
                }
            }
            to.array(self.pins.len() as u64)?;
            for (user, fingerprint) in &self.pins {
                to.array(2)?.str(user.as_str())?.bytes(fingerprint.as_bytes())?;
            }
            Ok(())
        })
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        codec::record(WHAT, bytes, 5, CONTENT_VERSION, Self::read, Self::to_bytes)
    }

    fn read(from: &mut Decoder<'_>) -> Result<Self, CborError> {
        let revision = match from.u64()? {
            revision @ 1..=INTEGER_MAX => revision,
            _ => return Err(CborError::message("a revision that is not from 1 to 2^53 - 1")),
        };
        let mut keyring = Self { revision, ..Self::new(Identity::read(from)?) };
        for _ in 0..codec::array_up_to(from, KEYRING_CHANNELS_MAX)? {
            codec::array(from, 3)?;
            let name = (codec::name(from, UserName::parse)?, codec::name(from, ChannelName::parse)?);
            let keys = codec::optional(from, ChannelKeys::read)?;
            keyring.channels.insert(name, keys.map_or(Sealing::Plain, Sealing::Sealed));
        }
        for _ in 0..codec::array_up_to(from, KEYRING_PINS_MAX)? {
            codec::array(from, 2)?;
            let user = codec::name(from, UserName::parse)?;
            keyring.pins.insert(user, codec::fixed(from).map(Fingerprint::from_bytes)?);
        }
        Ok(keyring)
    }
}
