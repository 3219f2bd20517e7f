//! The keyring: all that a user's devices share and nobody else may know.
//!
//! It holds the identity, the keys of all channels, and the fingerprints of others. Each change makes a new revision; the
//! table keeps the newest, sealed ([`super::SealedKeyring`]).

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
    channels: BTreeMap<(UserName, ChannelName), ChannelKeys>,
    pins: BTreeMap<UserName, Fingerprint>,
}

/// Why a fingerprint is not pinned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PinError {
    /// Another one is pinned.
    #[error("{user} is pinned with the fingerprint {pinned}, and not {found}; compare fingerprints with {user} again")]
    Changed {
        /// Whose.
        user: UserName,
        /// The one that is pinned.
        pinned: Fingerprint,
        /// The one that was to be pinned.
        found: Fingerprint,
    },
    /// There is no room.
    #[error("{KEYRING_PINS_MAX} fingerprints are pinned, which is the limit; forget some first")]
    TooMany,
}

/// Why keys are not added to a keyring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddKeysError {
    /// They contradict the keys that are there.
    #[error(transparent)]
    Epoch(#[from] EpochError),
    /// There is no room.
    #[error("the keyring holds the keys of {KEYRING_CHANNELS_MAX} channels, which is the limit; forget some first")]
    TooMany,
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

    /// Returns the keys of a channel.
    pub fn channel(&self, owner: &UserName, channel: &ChannelName) -> Option<&ChannelKeys> {
        self.channels.get(&(owner.clone(), channel.clone()))
    }

    /// Iterates over the channels whose keys are here: who owns them, what they are called, the keys.
    pub fn channels(&self) -> impl Iterator<Item = (&UserName, &ChannelName, &ChannelKeys)> {
        self.channels.iter().map(|((owner, channel), keys)| (owner, channel, keys))
    }

    /// Adds the keys of a channel to those that are there.
    ///
    /// # Errors
    /// [`AddKeysError`] if they contradict them, or there is no room; then nothing changed.
    pub fn add_keys(&mut self, owner: UserName, channel: ChannelName, keys: ChannelKeys) -> Result<(), AddKeysError> {
        let name = (owner, channel);
        if let Some(known) = self.channels.get_mut(&name) {
            return Ok(known.merge(&keys)?);
        }
        if self.channels.len() >= KEYRING_CHANNELS_MAX {
            return Err(AddKeysError::TooMany);
        }
        self.channels.insert(name, keys);
        Ok(())
    }

    /// Forgets the keys of a channel. What is sealed under them cannot be read again, unless someone grants them again.
    pub fn forget_keys(&mut self, owner: &UserName, channel: &ChannelName) -> Option<ChannelKeys> {
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

    /// Encodes it: `[1, revision, identity, [[owner, channel, keys], …], [[user, fingerprint], …]]`.
    pub(super) fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let keys: usize = self.channels.values().map(|keys| keys.room() + 2 * (NAME_BYTES_MAX + 4)).sum();
        let room = 256 + keys + self.pins.len() * (NAME_BYTES_MAX + 48);
        secret::encode(room, |to| {
            to.array(5)?.u64(CONTENT_VERSION)?.u64(self.revision)?;
            self.identity.write(to)?;
            to.array(self.channels.len() as u64)?;
            for ((owner, channel), keys) in &self.channels {
                to.array(3)?.str(owner.as_str())?.str(channel.as_str())?;
                keys.write(to)?;
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
            keyring.channels.insert(name, ChannelKeys::read(from)?);
        }
        for _ in 0..codec::array_up_to(from, KEYRING_PINS_MAX)? {
            codec::array(from, 2)?;
            let user = codec::name(from, UserName::parse)?;
            keyring.pins.insert(user, codec::fixed(from).map(Fingerprint::from_bytes)?);
        }
        Ok(keyring)
    }
}
