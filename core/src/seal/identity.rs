//! Who a user is to others: a key that signs, and a key that others wrap channel keys to.
//!
//! Identities are told apart by their fingerprint, which two people compare over a channel that no server can change. A key
//! that a server hands out is nobody's until its fingerprint is pinned.

use std::fmt;
use std::str::FromStr;

use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable as _, Kem, Serializable as _};
use minicbor::decode::{Decoder, Error as CborError};
use sha2::{Digest as _, Sha256};

use super::secret::Secret;
use super::typed::{self, TypedError};
use crate::codec::{self, DecodeError, Writer};
use crate::op::{Signature, WriteResult};

const FINGERPRINT_TAG: &str = "gigfs.identity.1";
const FINGERPRINT_SYMBOLS: usize = 52;
/// The version of the record. // persisted
const RECORD_VERSION: u64 = 1;

pub(super) type ExchangeKey = <X25519HkdfSha256 as Kem>::PrivateKey;
pub(super) type PublicExchangeKey = <X25519HkdfSha256 as Kem>::PublicKey;

/// A user's own identity, both secrets included.
#[derive(Clone)]
pub struct Identity {
    signing: SigningKey,
    exchange: Secret,
    public: PublicIdentity,
}

/// A user's identity as others know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublicIdentity {
    /// The Ed25519 key that checks what the user signs.
    pub signing: [u8; 32],
    /// The X25519 key that channel keys are wrapped to.
    pub exchange: [u8; 32],
}

/// The SHA-256 of both public keys of an identity: what people compare, and what is pinned.
///
/// It is shown in thirteen groups of four letters and digits, and read as people type it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint([u8; 32]);

/// An identity is not the one that was pinned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the identity has the fingerprint {found}, and {pinned} is pinned; compare fingerprints again before going on")]
pub struct FingerprintMismatch {
    /// The one that was met.
    pub found: Fingerprint,
    /// The one that is pinned.
    pub pinned: Fingerprint,
}

impl Identity {
    /// Makes an identity of two fresh secrets: the seed of the Ed25519 key (RFC 8032), and the X25519 key (RFC 7748).
    pub fn from_secrets(signing: &Secret, exchange: Secret) -> Self {
        let signing = SigningKey::from_bytes(signing.expose());
        let public = PublicIdentity {
            signing: signing.verifying_key().to_bytes(),
            exchange: X25519HkdfSha256::sk_to_pk(&exchange_key(&exchange)).to_bytes().into(),
        };
        Self { signing, exchange, public }
    }

    /// Returns what others may know of it.
    pub fn public(&self) -> &PublicIdentity {
        &self.public
    }

    pub(super) fn sign(&self, message: &[u8]) -> Signature {
        sign(&self.signing, message)
    }

    pub(super) fn exchange(&self) -> ExchangeKey {
        exchange_key(&self.exchange)
    }

    /// Writes `[signing, exchange]`, both secret.
    pub(super) fn write(&self, to: &mut Writer) -> WriteResult {
        to.array(2)?.bytes(self.signing.as_bytes())?.bytes(self.exchange.expose())?.ok()
    }

    pub(super) fn read(from: &mut Decoder<'_>) -> Result<Self, CborError> {
        codec::array(from, 2)?;
        let signing = codec::fixed(from).map(Secret::from_bytes)?;
        Ok(Self::from_secrets(&signing, codec::fixed(from).map(Secret::from_bytes)?))
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({:?}, …)", self.public.fingerprint())
    }
}

impl PublicIdentity {
    /// Returns the fingerprint: the SHA-256 of `["gigfs.identity.1", signing, exchange]`.
    pub fn fingerprint(&self) -> Fingerprint {
        let bytes = codec::encode(|to| {
            to.array(3)?.str(FINGERPRINT_TAG)?;
            self.write_keys(to)
        });
        Fingerprint(Sha256::digest(bytes).into())
    }

    /// Checks that this is the identity that was pinned.
    ///
    /// # Errors
    /// [`FingerprintMismatch`] if it is another one.
    pub fn check(&self, pinned: Fingerprint) -> Result<(), FingerprintMismatch> {
        match self.fingerprint() {
            found if found == pinned => Ok(()),
            found => Err(FingerprintMismatch { found, pinned }),
        }
    }

    /// Encodes it: `[1, signing, exchange]`.
    pub fn to_bytes(&self) -> Vec<u8> {
        codec::encode(|to| {
            to.array(3)?.u64(RECORD_VERSION)?;
            self.write_keys(to)
        })
    }

    /// Decodes what [`PublicIdentity::to_bytes`] made. It is nobody's before its fingerprint was compared.
    ///
    /// # Errors
    /// [`DecodeError`] if the bytes are anything else.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        codec::record("an identity", bytes, 3, RECORD_VERSION, Self::read_keys, Self::to_bytes)
    }

    /// Returns the key that others wrap to.
    pub(super) fn exchange_key(&self) -> PublicExchangeKey {
        PublicExchangeKey::from_bytes(&self.exchange).expect("any 32 bytes are an X25519 public key")
    }

    pub(super) fn write(&self, to: &mut Writer) -> WriteResult {
        to.array(2)?.ok()?;
        self.write_keys(to)
    }

    fn write_keys(&self, to: &mut Writer) -> WriteResult {
        to.bytes(&self.signing)?.bytes(&self.exchange)?.ok()
    }

    pub(super) fn read(from: &mut Decoder<'_>) -> Result<Self, CborError> {
        codec::array(from, 2)?;
        Self::read_keys(from)
    }

    fn read_keys(from: &mut Decoder<'_>) -> Result<Self, CborError> {
        Ok(Self { signing: codec::fixed(from)?, exchange: codec::fixed(from)? })
    }
}

impl Fingerprint {
    /// Wraps the bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Tells whether a person typed exactly this fingerprint.
    pub fn is_typed_as(&self, typed: &str) -> bool {
        typed.parse() == Ok(*self)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&typed::grouped(&typed::encode(&self.0)))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&typed::encode(&self.0)[..8])
    }
}

/// Reads a fingerprint as a person types it: in either case, with any spaces and hyphens, O for 0, I and L for 1.
impl FromStr for Fingerprint {
    type Err = TypedError;

    fn from_str(typed: &str) -> Result<Self, TypedError> {
        const WHAT: &str = "a fingerprint";
        let symbols = typed::symbols(WHAT, typed, FINGERPRINT_SYMBOLS)?;
        // The last symbol stands for one bit only, so it is one of two.
        let found = symbols.chars().next_back().unwrap_or_default();
        typed::decode(&symbols).map(Self).ok_or(TypedError::Character { what: WHAT, found, place: FINGERPRINT_SYMBOLS })
    }
}

pub(super) fn sign(key: &SigningKey, message: &[u8]) -> Signature {
    Signature(key.sign(message).to_bytes())
}

/// Checks a signature strictly: RFC 8032, and neither the key nor the commitment of small order.
#[must_use]
pub(super) fn verifies(key: &[u8; 32], message: &[u8], signature: &Signature) -> bool {
    let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
    VerifyingKey::from_bytes(key).is_ok_and(|key| key.verify_strict(message, &signature).is_ok())
}

fn exchange_key(secret: &Secret) -> ExchangeKey {
    ExchangeKey::from_bytes(secret.expose()).expect("any 32 bytes are an X25519 key")
}
