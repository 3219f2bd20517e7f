//! Devices: a key that stays on one device, and the word of the user's identity that it is the user's.
//!
//! The type is the proof: only [`DeviceCertificate::verify`] makes a [`TrustedDevice`]. What a device then says about the actors
//! that write on it is in `actor.rs`.

use std::fmt;

use ed25519_dalek::SigningKey;
use minicbor::decode::{Decoder, Error as CborError};

use super::identity::{self, Fingerprint, Identity, PublicIdentity};
use super::secret::Secret;
use crate::codec::{self, DecodeError, Writer};
use crate::date::Date;
use crate::id::DeviceId;
use crate::name::UserName;
use crate::op::{Signature, WriteResult};

const DEVICE_TAG: &str = "gigfs.device.1";
/// The version of the record. // persisted
const RECORD_VERSION: u64 = 1;

/// The key that a device signs with. It stays on the device.
#[derive(Clone)]
pub struct DeviceKey(pub(super) SigningKey);

/// A user's word that a key is that of one of the user's devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceCertificate {
    /// Whose device.
    pub user: UserName,
    /// Which.
    pub device: DeviceId,
    /// Its Ed25519 key.
    pub key: [u8; 32],
    /// When this was signed, by the signer's clock.
    pub issued: Date,
    /// By the user's identity.
    pub signature: Signature,
}

/// A device whose certificate was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedDevice {
    pub(super) user: UserName,
    pub(super) device: DeviceId,
    pub(super) key: [u8; 32],
    /// Of the identity that certified it.
    pub(super) identity: Fingerprint,
}

/// Why a certificate proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// It is about another user's device.
    #[error("the certificate is about a device of {found}, and not of {expected}")]
    OtherUser {
        /// Whose device it names.
        found: UserName,
        /// Whose it should be.
        expected: UserName,
    },
    /// It is about an actor on another device.
    #[error("the certificate is about an actor on the device {found:?}, and not on {expected:?}")]
    OtherDevice {
        /// The device that it names.
        found: DeviceId,
        /// The one that it should name.
        expected: DeviceId,
    },
    /// The signature is not that of who should have signed.
    #[error(
        "the certificate that names the device {device:?} is not signed by who should have signed it, or was changed"
    )]
    Signature {
        /// The device that it names.
        device: DeviceId,
    },
}

impl DeviceKey {
    /// Makes the key of a device of a fresh secret, the seed of an Ed25519 key (RFC 8032).
    pub fn from_secret(seed: &Secret) -> Self {
        Self(SigningKey::from_bytes(seed.expose()))
    }

    /// Returns what others check signatures with.
    pub fn public(&self) -> [u8; 32] {
        self.0.verifying_key().to_bytes()
    }
}

impl fmt::Debug for DeviceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DeviceKey(…)")
    }
}

impl Identity {
    /// Certifies a device of this identity's user.
    pub fn certify_device(&self, user: UserName, device: DeviceId, key: [u8; 32], issued: Date) -> DeviceCertificate {
        let mut certificate = DeviceCertificate { user, device, key, issued, signature: Signature([0; 64]) };
        certificate.signature = self.sign(&certificate.message(self.public().fingerprint()));
        certificate
    }
}

impl DeviceCertificate {
    /// Checks the certificate against the identity of the user. That the identity is the user's own, its pinned
    /// fingerprint says: [`PublicIdentity::check`].
    ///
    /// # Errors
    /// [`CertificateError`] if it is about another user, or not signed by this identity.
    pub fn verify(&self, user: &UserName, identity: &PublicIdentity) -> Result<TrustedDevice, CertificateError> {
        if self.user != *user {
            return Err(CertificateError::OtherUser { found: self.user.clone(), expected: user.clone() });
        }
        let signer = identity.fingerprint();
        match identity::verifies(&identity.signing, &self.message(signer), &self.signature) {
            true => Ok(TrustedDevice { user: user.clone(), device: self.device, key: self.key, identity: signer }),
            false => Err(CertificateError::Signature { device: self.device }),
        }
    }

    /// Encodes it: `[1, user, device, key, issued, signature]`.
    pub fn to_bytes(&self) -> Vec<u8> {
        codec::encode(|to| {
            to.array(6)?.u64(RECORD_VERSION)?;
            self.write_fields(to)?;
            to.bytes(&self.signature.0)?.ok()
        })
    }

    /// Decodes what [`DeviceCertificate::to_bytes`] made. It is not verified yet.
    ///
    /// # Errors
    /// [`DecodeError`] if the bytes are anything else.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        codec::record("a device certificate", bytes, 6, RECORD_VERSION, Self::read_fields, Self::to_bytes)
    }

    fn message(&self, signer: Fingerprint) -> Vec<u8> {
        codec::encode(|to| {
            to.array(6)?.str(DEVICE_TAG)?.bytes(signer.as_bytes())?;
            self.write_fields(to)
        })
    }

    fn write_fields(&self, to: &mut Writer) -> WriteResult {
        to.str(self.user.as_str())?.bytes(self.device.as_bytes())?.bytes(&self.key)?.u64(self.issued.micros())?.ok()
    }

    fn read_fields(from: &mut Decoder<'_>) -> Result<Self, CborError> {
        Ok(Self {
            user: codec::name(from, UserName::parse)?,
            device: codec::fixed(from).map(DeviceId::from_bytes)?,
            key: codec::fixed(from)?,
            issued: codec::date(from)?,
            signature: codec::fixed(from).map(Signature)?,
        })
    }
}
