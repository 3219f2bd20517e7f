//! Actors: the word of a device that an actor writes on it, and the signatures of what the actor writes.
//!
//! An operation or a checkpoint is signed by the device of its author, over its sha with a tag. Only
//! [`TrustedDevice::trust`] makes a [`TrustedActor`], and only that one checks operations. `docs/crypto.md` tells how one
//! signature vouches for operations that carry none.

use minicbor::decode::Decoder;

use super::device::{CertificateError, DeviceKey, TrustedDevice};
use super::identity::{self, Fingerprint};
use crate::checkpoint::Checkpoint;
use crate::codec::{self, DecodeError};
use crate::date::Date;
use crate::id::{ActorId, DeviceId, Sha};
use crate::name::{LogName, UserName};
use crate::op::{Op, Signature};

const ACTOR_TAG: &str = "gigfs.actor.1";
const OP_TAG: &str = "gigfs.op.signature.1";
const CHECKPOINT_TAG: &str = "gigfs.checkpoint.signature.1";
/// The version of the record. // persisted
const RECORD_VERSION: u64 = 1;

/// A device's word that an actor writes on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActorCertificate {
    /// The device.
    pub device: DeviceId,
    /// The actor.
    pub actor: ActorId,
    /// When this was signed, by the device's clock.
    pub issued: Date,
    /// By the device.
    pub signature: Signature,
}

/// An actor whose certificate was checked, up to its user's identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedActor {
    user: UserName,
    device: DeviceId,
    actor: ActorId,
    key: [u8; 32],
    identity: Fingerprint,
}

/// Why a signature proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// It is another actor's.
    #[error("{sha} was written by {found:?}, and the certificate is that of {expected:?}")]
    OtherActor {
        /// What was written.
        sha: Sha,
        /// Its author.
        found: ActorId,
        /// The actor of the certificate.
        expected: ActorId,
    },
    /// There is none.
    #[error("{sha} is not signed")]
    Missing {
        /// What was written.
        sha: Sha,
    },
    /// It is not that of the author's device.
    #[error("{sha} is not signed by the device {device:?} of its author {actor:?}, or was changed")]
    Wrong {
        /// What was written.
        sha: Sha,
        /// Its author.
        actor: ActorId,
        /// The author's device.
        device: DeviceId,
    },
}

impl DeviceKey {
    /// Signs the identity of an operation.
    pub fn sign_op(&self, sha: Sha) -> Signature {
        identity::sign(&self.0, &message(OP_TAG, sha))
    }

    /// Signs the identity of a checkpoint.
    pub fn sign_checkpoint(&self, sha: Sha) -> Signature {
        identity::sign(&self.0, &message(CHECKPOINT_TAG, sha))
    }

    /// Certifies that an actor writes on this device.
    pub fn certify_actor(&self, user: &UserName, device: DeviceId, actor: ActorId, issued: Date) -> ActorCertificate {
        let signature = identity::sign(&self.0, &actor_message(user, device, actor, issued));
        ActorCertificate { device, actor, issued, signature }
    }
}

impl ActorCertificate {
    /// Encodes it: `[1, device, actor, issued, signature]`.
    pub fn to_bytes(&self) -> Vec<u8> {
        codec::encode(|to| {
            to.array(5)?.u64(RECORD_VERSION)?.bytes(self.device.as_bytes())?.bytes(self.actor.as_bytes())?;
            to.u64(self.issued.micros())?.bytes(&self.signature.0)?.ok()
        })
    }

    /// Decodes what [`ActorCertificate::to_bytes`] made. It is not verified yet.
    ///
    /// # Errors
    /// [`DecodeError`] if the bytes are anything else.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let read = |from: &mut Decoder<'_>| {
            Ok(Self {
                device: codec::fixed(from).map(DeviceId::from_bytes)?,
                actor: codec::actor(from)?,
                issued: codec::date(from)?,
                signature: codec::fixed(from).map(Signature)?,
            })
        };
        codec::record("an actor certificate", bytes, 5, RECORD_VERSION, read, Self::to_bytes)
    }
}

impl TrustedDevice {
    /// Checks the certificate of an actor on this device.
    ///
    /// # Errors
    /// [`CertificateError`] if it is about another device, or not signed by this one.
    pub fn trust(&self, certificate: &ActorCertificate) -> Result<TrustedActor, CertificateError> {
        let ActorCertificate { device, actor, issued, signature } = certificate;
        if *device != self.device {
            return Err(CertificateError::OtherDevice { found: *device, expected: self.device });
        }
        match identity::verifies(&self.key, &actor_message(&self.user, *device, *actor, *issued), signature) {
            true => Ok(TrustedActor {
                user: self.user.clone(),
                device: *device,
                actor: *actor,
                key: self.key,
                identity: self.identity,
            }),
            false => Err(CertificateError::Signature { device: *device }),
        }
    }
}

impl TrustedActor {
    /// Returns whose actor it is.
    pub fn user(&self) -> &UserName {
        &self.user
    }

    /// Returns the device that it writes on.
    pub fn device(&self) -> DeviceId {
        self.device
    }

    /// Returns the actor.
    pub fn actor(&self) -> ActorId {
        self.actor
    }

    /// Returns the fingerprint of the identity that certified the device.
    pub fn identity(&self) -> Fingerprint {
        self.identity
    }

    /// Returns what the device's signatures are checked with.
    pub(super) fn key(&self) -> &[u8; 32] {
        &self.key
    }

    /// Checks that this actor's device signed an operation.
    ///
    /// # Errors
    /// [`SignatureError`] if it is another actor's, not signed, or signed by another key.
    pub fn verify_op(&self, op: &Op) -> Result<(), SignatureError> {
        self.verify(OP_TAG, op.sha(), op.actor(), op.signature())
    }

    /// Checks that this actor's device signed a checkpoint of a log, whose name is the one that stores know.
    ///
    /// # Errors
    /// [`SignatureError`] if it is another actor's, not signed, or signed by another key.
    pub fn verify_checkpoint(
        &self,
        log: &LogName,
        checkpoint: &Checkpoint,
        signature: Option<&Signature>,
    ) -> Result<(), SignatureError> {
        self.verify(CHECKPOINT_TAG, checkpoint.sha(log), checkpoint.author, signature)
    }

    fn verify(&self, tag: &str, sha: Sha, actor: ActorId, signature: Option<&Signature>) -> Result<(), SignatureError> {
        if actor != self.actor {
            return Err(SignatureError::OtherActor { sha, found: actor, expected: self.actor });
        }
        let signature = signature.ok_or(SignatureError::Missing { sha })?;
        match identity::verifies(&self.key, &message(tag, sha), signature) {
            true => Ok(()),
            false => Err(SignatureError::Wrong { sha, actor, device: self.device }),
        }
    }
}

fn message(tag: &str, sha: Sha) -> Vec<u8> {
    codec::encode(|to| to.array(2)?.str(tag)?.bytes(sha.as_bytes())?.ok())
}

fn actor_message(user: &UserName, device: DeviceId, actor: ActorId, issued: Date) -> Vec<u8> {
    codec::encode(|to| {
        to.array(5)?.str(ACTOR_TAG)?.str(user.as_str())?.bytes(device.as_bytes())?;
        to.bytes(actor.as_bytes())?.u64(issued.micros())?.ok()
    })
}
