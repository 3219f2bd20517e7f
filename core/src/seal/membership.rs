//! Memberships: the word of a channel's owner, or of an admin among its members, on who may do what in it.

use minicbor::decode::{Decoder, Error as CborError};
use serde::{Deserialize, Serialize};

use super::identity::{self, Fingerprint, Identity, PublicIdentity};
use crate::codec::{self, DecodeError, Writer};
use crate::date::Date;
use crate::name::{ChannelName, UserName};
use crate::op::{Signature, WriteResult};

const MEMBERSHIP_TAG: &str = "gigfs.member.1";
/// The version of the record. // persisted
const RECORD_VERSION: u64 = 1;

/// What a member may do in a channel, each more than the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Read.
    Read,
    /// Read and write.
    Write,
    /// That, and say who may read and write.
    Admin,
}

/// Somebody's word that a user has a role in a channel from a date on, or none any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    /// Who.
    pub user: UserName,
    /// The user's identity.
    pub identity: PublicIdentity,
    /// The role; nothing if the user is no member any more.
    pub role: Option<Role>,
    /// From when on, by the granter's clock.
    pub since: Date,
    /// Whose word it is: the owner's identity, or that of an admin.
    pub granter: Fingerprint,
    /// By the granter.
    pub signature: Signature,
}

impl Role {
    // persisted
    fn code(role: Option<Self>) -> u64 {
        match role {
            None => 0,
            Some(Self::Read) => 1,
            Some(Self::Write) => 2,
            Some(Self::Admin) => 3,
        }
    }

    fn of_code(code: u64) -> Result<Option<Self>, CborError> {
        match code {
            0 => Ok(None),
            1 => Ok(Some(Self::Read)),
            2 => Ok(Some(Self::Write)),
            3 => Ok(Some(Self::Admin)),
            _ => Err(CborError::message(format!("a role of unknown code {code}"))),
        }
    }
}

impl Identity {
    /// Gives a user a role in a channel from a date on, or takes it away.
    pub fn grant_membership(
        &self,
        (owner, channel): (&UserName, &ChannelName),
        (user, identity): (UserName, PublicIdentity),
        role: Option<Role>,
        since: Date,
    ) -> Membership {
        let granter = self.public().fingerprint();
        let mut membership = Membership { user, identity, role, since, granter, signature: Signature([0; 64]) };
        membership.signature = self.sign(&membership.message(owner, channel));
        membership
    }
}

impl Membership {
    /// Tells whether this is the word of an identity about a channel.
    pub fn is_word_of(&self, granter: &PublicIdentity, owner: &UserName, channel: &ChannelName) -> bool {
        granter.fingerprint() == self.granter
            && identity::verifies(&granter.signing, &self.message(owner, channel), &self.signature)
    }

    /// Encodes it: `[1, user, [signing, exchange], role, since, granter, signature]`.
    pub fn to_bytes(&self) -> Vec<u8> {
        codec::encode(|to| {
            to.array(7)?.u64(RECORD_VERSION)?;
            self.write_fields(to)?;
            to.bytes(&self.signature.0)?.ok()
        })
    }

    /// Decodes what [`Membership::to_bytes`] made. It is not verified yet.
    ///
    /// # Errors
    /// [`DecodeError`] if the bytes are anything else.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        codec::record("a membership", bytes, 7, RECORD_VERSION, Self::read_fields, Self::to_bytes)
    }

    fn message(&self, owner: &UserName, channel: &ChannelName) -> Vec<u8> {
        codec::encode(|to| {
            to.array(8)?.str(MEMBERSHIP_TAG)?.str(owner.as_str())?.str(channel.as_str())?;
            self.write_fields(to)
        })
    }

    fn write_fields(&self, to: &mut Writer) -> WriteResult {
        to.str(self.user.as_str())?;
        self.identity.write(to)?;
        to.u64(Role::code(self.role))?.u64(self.since.micros())?.bytes(self.granter.as_bytes())?.ok()
    }

    fn read_fields(from: &mut Decoder<'_>) -> Result<Self, CborError> {
        Ok(Self {
            user: codec::name(from, UserName::parse)?,
            identity: PublicIdentity::read(from)?,
            role: Role::of_code(from.u64()?)?,
            since: codec::date(from)?,
            granter: Fingerprint::from_bytes(codec::fixed(from)?),
            signature: codec::fixed(from).map(Signature)?,
        })
    }
}
