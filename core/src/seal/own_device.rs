//! The device that this is: its key, and its user's word for it.

use super::actor::ActorCertificate;
use super::device::{DeviceCertificate, DeviceKey};
use super::identity::Identity;
use super::roster_log::RosterEntry;
use crate::date::Date;
use crate::id::{ActorId, DeviceId, Sha};
use crate::name::UserName;
use crate::op::Signature;

/// A device that writes.
#[derive(Debug, Clone)]
pub struct OwnDevice {
    key: DeviceKey,
    certificate: DeviceCertificate,
}

impl OwnDevice {
    /// Has a user's identity certify a device's key.
    pub fn new(identity: &Identity, user: UserName, id: DeviceId, key: DeviceKey, now: Date) -> Self {
        let certificate = identity.certify_device(user, id, key.public(), now);
        Self { key, certificate }
    }

    /// Returns whose device it is.
    pub fn user(&self) -> &UserName {
        &self.certificate.user
    }

    /// Returns which device it is.
    pub fn id(&self) -> DeviceId {
        self.certificate.device
    }

    /// Returns what its signatures are checked with.
    pub(crate) fn public(&self) -> [u8; 32] {
        self.certificate.key
    }

    /// Signs the identity of an operation.
    pub(crate) fn sign_op(&self, sha: Sha) -> Signature {
        self.key.sign_op(sha)
    }

    /// Signs the identity of a checkpoint.
    pub(crate) fn sign_checkpoint(&self, sha: Sha) -> Signature {
        self.key.sign_checkpoint(sha)
    }

    /// Returns what a roster has to hold before others believe that an actor writes on this device.
    pub(crate) fn entries(&self, actor: ActorId, now: Date) -> Vec<RosterEntry> {
        let actor: ActorCertificate =
            self.key.certify_actor(&self.certificate.user, self.certificate.device, actor, now);
        vec![RosterEntry::Device(self.certificate.to_bytes()), RosterEntry::Actor(actor.to_bytes())]
    }
}
