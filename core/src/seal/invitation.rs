//! Being let into a channel: its keys, and why whoever grants them may.

use minicbor::decode::Decoder;

use super::grant::{Grant, GrantError};
use super::identity::{Identity, PublicIdentity};
use super::keys::ChannelKeys;
use super::membership::{Membership, Role};
use crate::codec;
use crate::limits::GRANT_BYTES_MAX;
use crate::name::{ChannelName, UserName};

const WHAT: &str = "an admin's grant";
/// The version of the record of an admin; the owner's is a grant and nothing else. // persisted
const ADMIN_VERSION: u64 = 2;

/// A grant of a channel's keys by its owner, or by an admin with the owner's word for that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invitation {
    grant: Grant,
    admin: Option<Membership>,
}

impl Invitation {
    /// Makes it of a grant; `admin` is what the owner said of whoever granted it, unless that is the owner.
    pub fn new(grant: Grant, admin: Option<Membership>) -> Self {
        Self { grant, admin }
    }

    /// Returns the grant. Nothing of it is proven before it is opened.
    pub fn grant(&self) -> &Grant {
        &self.grant
    }

    /// Opens what lets `user` with `identity` into a channel. `owner` is whoever owns it, by the pinned fingerprint.
    ///
    /// # Errors
    /// [`GrantError`] if it is from somebody who is neither the owner nor an admin by the owner's word, for somebody else, of another
    /// channel, or was changed.
    pub fn open(
        &self,
        (user, identity): (&UserName, &Identity),
        (owner, of_owner): (&UserName, &PublicIdentity),
        channel: &ChannelName,
    ) -> Result<ChannelKeys, GrantError> {
        let scope = self.grant.scope();
        if (&scope.owner, &scope.channel) != (owner, channel) {
            return Err(GrantError::Forged { owner: owner.clone(), channel: channel.clone() });
        }
        let is_proven =
            |word: &&Membership| word.role == Some(Role::Admin) && word.is_word_of(of_owner, owner, channel);
        let granter = self.admin.as_ref().filter(is_proven).map_or(of_owner, |word| &word.identity);
        self.grant.open(user, identity, granter.fingerprint())
    }

    /// Encodes it: as its grant alone, or `[2, grant, membership]`, two byte strings.
    pub fn to_bytes(&self) -> Vec<u8> {
        let grant = self.grant.to_bytes();
        match &self.admin {
            Some(admin) => write_parts(&(grant, admin.to_bytes())),
            None => grant,
        }
    }

    /// Decodes what [`Invitation::to_bytes`] made. Nothing of it is proven before it is opened.
    ///
    /// # Errors
    /// [`GrantError`] if the bytes are anything else, or over [`GRANT_BYTES_MAX`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, GrantError> {
        if bytes.len() > GRANT_BYTES_MAX {
            return Err(GrantError::TooLarge { bytes: bytes.len() });
        }
        if !matches!(Decoder::new(bytes).array(), Ok(Some(3))) {
            return Ok(Self::new(Grant::from_bytes(bytes)?, None));
        }
        let parts = |from: &mut Decoder<'_>| Ok((from.bytes()?.to_vec(), from.bytes()?.to_vec()));
        let (grant, admin) = codec::record(WHAT, bytes, 3, ADMIN_VERSION, parts, write_parts)?;
        Ok(Self::new(Grant::from_bytes(&grant)?, Some(Membership::from_bytes(&admin)?)))
    }
}

fn write_parts((grant, admin): &(Vec<u8>, Vec<u8>)) -> Vec<u8> {
    codec::encode(|to| to.array(3)?.u64(ADMIN_VERSION)?.bytes(grant)?.bytes(admin)?.ok())
}
