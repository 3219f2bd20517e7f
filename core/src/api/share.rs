//! Bodies of the table's routes about sharing a channel with another user of the same table.

use serde::{Deserialize, Serialize};

use crate::base64_text;
use crate::name::{ChannelName, UserName};
use crate::token::Permission;

#[cfg(feature = "openapi")]
use utoipa::ToSchema;

/// A user's public identity as the table hands it out. It counts for nothing before its fingerprint was compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct IdentityRecord {
    /// The record of `docs/crypto.md`, section 6 ([`crate::seal::PublicIdentity::to_bytes`]), base64url without padding.
    #[serde(with = "base64_text")]
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub identity: Vec<u8>,
}

/// Lets a user into a channel, or says anew what a guest may do there
/// (`PUT /user/:owner/table/:channel/guest/:guest`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct Guest {
    /// What the guest's tokens allow.
    pub permission: Permission,
    /// Whether the guest may let others in; it takes `write`.
    #[serde(default)]
    pub admin: bool,
    /// The channel's keys for this guest: a grant of `docs/crypto.md`, section 10, at most 64 KiB, base64url without
    /// padding. Empty for a channel that is plain.
    #[serde(with = "base64_text")]
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub grant: Vec<u8>,
}

/// One guest of a channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct GuestEntry {
    /// Who.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub user: UserName,
    /// What the guest's tokens allow.
    pub permission: Permission,
    /// Whether the guest may let others in.
    pub admin: bool,
}

/// All guests of a channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct Guests {
    /// By name.
    pub guests: Vec<GuestEntry>,
}

/// A channel that somebody shares with the user who asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct SharedChannel {
    /// Whose channel it is.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub owner: UserName,
    /// The channel.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub channel: ChannelName,
    /// What the user may do in it.
    pub permission: Permission,
    /// Whether the user may let others in.
    pub admin: bool,
    /// The channel's keys for this user, as they were last granted ([`Guest::grant`]).
    #[serde(with = "base64_text")]
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub grant: Vec<u8>,
}

/// What others share with a user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct Shared {
    /// By owner and channel.
    pub channels: Vec<SharedChannel>,
}
