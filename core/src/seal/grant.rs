//! Sharing: a channel's keys, wrapped to another user's identity and signed by who grants them.
//!
//! HPKE (RFC 9180) in base mode: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM. Who granted is told by the signature
//! over the whole, and named in the associated data too, so nobody can put a signature of his own on another's grant.

use std::convert::Infallible;

use hpke::aead::AesGcm256;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::rand_core::{TryCryptoRng, TryRng};
use hpke::{Deserializable as _, Kem, OpModeR, OpModeS, Serializable as _};
use minicbor::decode::{Decoder, Error as CborError};
use zeroize::Zeroizing;

use super::identity::{self, Fingerprint, FingerprintMismatch, Identity, PublicIdentity};
use super::keys::ChannelKeys;
use super::secret::{self, Secret};
use super::{aead, padding};
use crate::codec::{self, DecodeError, Writer};
use crate::limits::GRANT_BYTES_MAX;
use crate::name::{ChannelName, UserName};
use crate::op::{Signature, WriteResult};

const INFO: &[u8] = b"gigfs.grant.1";
const SEAL_TAG: &str = "gigfs.seal.grant.1";
const SIGNATURE_TAG: &str = "gigfs.grant.signature.1";
const WHAT: &str = "a grant";
/// The version of the record. // persisted
const RECORD_VERSION: u64 = 1;

/// The keys of a channel, for one user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    scope: Scope,
    granter: PublicIdentity,
    recipient: Fingerprint,
    encapsulated: [u8; 32],
    sealed: Vec<u8>,
    signature: Signature,
}

/// What a grant is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// Who owns the channel.
    pub owner: UserName,
    /// The channel.
    pub channel: ChannelName,
    /// Who is to have the keys.
    pub grantee: UserName,
    /// The newest key epoch among them.
    pub epoch: u32,
}

/// Why a grant is not made, or does not open.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    /// The bytes cannot be read.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// It is over its limit.
    #[error("the grant has {bytes} bytes and the limit is {GRANT_BYTES_MAX}")]
    TooLarge {
        /// Its size in bytes.
        bytes: usize,
    },
    /// It is not from whom it should be.
    #[error(transparent)]
    Granter(#[from] FingerprintMismatch),
    /// It is for another user, or another identity of this one.
    #[error("the grant is for {grantee} with the fingerprint {recipient}, who is somebody else")]
    NotForYou {
        /// For whom.
        grantee: UserName,
        /// For which identity.
        recipient: Fingerprint,
    },
    /// The granter did not sign it so.
    #[error("the grant of {owner}'s channel {channel} is not signed by its granter, or was changed")]
    Signature {
        /// Who owns the channel.
        owner: UserName,
        /// The channel.
        channel: ChannelName,
    },
    /// The grantee's key is one that nobody can wrap to.
    #[error("{grantee} has an identity that nothing can be wrapped to")]
    WeakKey {
        /// Who was to have the keys.
        grantee: UserName,
    },
    /// It is signed, and does not open, or holds other keys than it says.
    #[error("the grant of {owner}'s channel {channel} is signed and does not open; ask for another one")]
    Forged {
        /// Who owns the channel.
        owner: UserName,
        /// The channel.
        channel: ChannelName,
    },
}

impl Grant {
    /// Grants keys. Take [`ChannelKeys::since`] to grant the later epochs only. `random` must be fresh: it becomes the
    /// sender's key, used once.
    ///
    /// # Errors
    /// [`GrantError`] if the keys are too many, or the grantee's identity is not a proper one.
    pub fn seal(
        granter: &Identity,
        owner: UserName,
        channel: ChannelName,
        (grantee, recipient): (UserName, &PublicIdentity),
        keys: &ChannelKeys,
        random: Secret,
    ) -> Result<Self, GrantError> {
        let content = content(keys);
        let content = Zeroizing::new(padding::pad(&content, aead::TAG_BYTES));
        let scope = Scope { owner, channel, grantee, epoch: keys.newest() };
        let mut grant = Self {
            scope,
            granter: *granter.public(),
            recipient: recipient.fingerprint(),
            encapsulated: [0; 32],
            sealed: Vec::new(),
            signature: Signature([0; 64]),
        };
        let (encapsulated, sealed) = hpke::single_shot_seal_with_rng::<AesGcm256, HkdfSha256, X25519HkdfSha256>(
            &OpModeS::Base,
            &recipient.exchange_key(),
            INFO,
            &content,
            &grant.associated(),
            &mut Once { seed: random, blocks: 0 },
        )
        .map_err(|_| GrantError::WeakKey { grantee: grant.scope.grantee.clone() })?;
        grant.encapsulated = encapsulated.to_bytes().into();
        grant.sealed = sealed;
        grant.signature = granter.sign(&grant.message());
        match grant.to_bytes().len() {
            bytes if bytes > GRANT_BYTES_MAX => Err(GrantError::TooLarge { bytes }),
            _ => Ok(grant),
        }
    }

    /// Returns what the grant says that it is about. Nothing of it is proven before it is opened.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// Returns who says to have granted it. Nothing of it is proven before it is opened.
    pub fn granter(&self) -> &PublicIdentity {
        &self.granter
    }

    /// Opens a grant to `user` with `identity`. `pinned` is the fingerprint of who may grant: the channel's owner, say.
    ///
    /// # Errors
    /// [`GrantError`] if it is from another identity, for another one, or was changed.
    pub fn open(&self, user: &UserName, identity: &Identity, pinned: Fingerprint) -> Result<ChannelKeys, GrantError> {
        self.granter.check(pinned)?;
        let Scope { owner, channel, grantee, epoch } = &self.scope;
        if grantee != user || self.recipient != identity.public().fingerprint() {
            return Err(GrantError::NotForYou { grantee: grantee.clone(), recipient: self.recipient });
        }
        if !identity::verifies(&self.granter.signing, &self.message(), &self.signature) {
            return Err(GrantError::Signature { owner: owner.clone(), channel: channel.clone() });
        }
        let forged = || GrantError::Forged { owner: owner.clone(), channel: channel.clone() };
        let encapsulated = <X25519HkdfSha256 as Kem>::EncappedKey::from_bytes(&self.encapsulated);
        let opened = hpke::single_shot_open::<AesGcm256, HkdfSha256, X25519HkdfSha256>(
            &OpModeR::Base,
            &identity.exchange(),
            &encapsulated.map_err(|_| forged())?,
            INFO,
            &self.sealed,
            &self.associated(),
        );
        let mut content = Zeroizing::new(opened.map_err(|_| forged())?);
        if !padding::unpad(&mut content) {
            return Err(forged());
        }
        let keys = read_content(&content)?;
        match keys.newest() == *epoch {
            true => Ok(keys),
            false => Err(forged()),
        }
    }

    /// Encodes it: `[1, owner, channel, grantee, epoch, [signing, exchange], recipient, encapsulated, sealed, signature]`.
    pub fn to_bytes(&self) -> Vec<u8> {
        codec::encode(|to| {
            to.array(10)?.u64(RECORD_VERSION)?;
            self.write_fields(to)?;
            to.bytes(&self.signature.0)?.ok()
        })
    }

    /// Decodes what [`Grant::to_bytes`] made. Nothing of it is proven before it is opened.
    ///
    /// # Errors
    /// [`GrantError`] if the bytes are anything else, or over [`GRANT_BYTES_MAX`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, GrantError> {
        if bytes.len() > GRANT_BYTES_MAX {
            return Err(GrantError::TooLarge { bytes: bytes.len() });
        }
        Ok(codec::record(WHAT, bytes, 10, RECORD_VERSION, Self::read, Self::to_bytes)?)
    }

    fn read(from: &mut Decoder<'_>) -> Result<Self, CborError> {
        Ok(Self {
            scope: Scope {
                owner: codec::name(from, UserName::parse)?,
                channel: codec::name(from, ChannelName::parse)?,
                grantee: codec::name(from, UserName::parse)?,
                epoch: from.u32()?,
            },
            granter: PublicIdentity::read(from)?,
            recipient: codec::fixed(from).map(Fingerprint::from_bytes)?,
            encapsulated: codec::fixed(from)?,
            sealed: from.bytes()?.to_vec(),
            signature: codec::fixed(from).map(Signature)?,
        })
    }

    fn associated(&self) -> Vec<u8> {
        codec::encode(|to| {
            to.array(7)?.str(SEAL_TAG)?;
            self.scope.write(to)?;
            to.bytes(self.granter.fingerprint().as_bytes())?.bytes(self.recipient.as_bytes())?.ok()
        })
    }

    fn message(&self) -> Vec<u8> {
        codec::encode(|to| {
            to.array(9)?.str(SIGNATURE_TAG)?;
            self.write_fields(to)
        })
    }

    fn write_fields(&self, to: &mut Writer) -> WriteResult {
        self.scope.write(to)?;
        self.granter.write(to)?;
        to.bytes(self.recipient.as_bytes())?.bytes(&self.encapsulated)?.bytes(&self.sealed)?.ok()
    }
}

/// The one spelling of what is wrapped.
fn content(keys: &ChannelKeys) -> Zeroizing<Vec<u8>> {
    secret::encode(keys.room(), |to| keys.write(to))
}

pub(super) fn read_content(bytes: &[u8]) -> Result<ChannelKeys, DecodeError> {
    const WHAT: &str = "the keys of a grant";
    let keys = codec::decode(WHAT, bytes, ChannelKeys::read)?;
    match content(&keys).as_slice() == bytes {
        true => Ok(keys),
        false => Err(DecodeError::NotCanonical { what: WHAT }),
    }
}

impl Scope {
    fn write(&self, to: &mut Writer) -> WriteResult {
        to.str(self.owner.as_str())?.str(self.channel.as_str())?.str(self.grantee.as_str())?.u32(self.epoch)?.ok()
    }
}

/// Randomness from one secret that the caller drew: HPKE asks for it as a generator.
struct Once {
    seed: Secret,
    blocks: u64,
}

impl TryRng for Once {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes).map(|()| u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes).map(|()| u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, to: &mut [u8]) -> Result<(), Infallible> {
        for chunk in to.chunks_mut(Secret::BYTES) {
            let block = self.seed.derive(&format!("gigfs.grant.random.1.{}", self.blocks));
            chunk.copy_from_slice(&block.expose()[..chunk.len()]);
            self.blocks += 1;
        }
        Ok(())
    }
}

impl TryCryptoRng for Once {}
