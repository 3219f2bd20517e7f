//! The claims inside the signed tokens (JWT, EdDSA) that tables and stores exchange. Signing is the servers' work.

use serde::{Deserialize, Serialize};

use crate::id::{SessionId, StoreId};
use crate::name::{ChannelName, UserName};

/// What a token lets its holder do in a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Permission {
    /// Read only.
    Read,
    /// Read and write.
    Write,
}

/// A store token: signed by a table, good at one store, for one user and one channel, no longer than its session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreClaims {
    /// The table that issued it.
    pub iss: String,
    /// The one store that takes it.
    pub aud: StoreId,
    /// The user who owns the channel.
    pub sub: UserName,
    /// The channel.
    pub channel: ChannelName,
    /// What its holder may do.
    pub permission: Permission,
    /// The session that it hangs on.
    pub sid: SessionId,
    /// Issued at, in seconds since 1970.
    pub iat: u64,
    /// Expires at, in seconds since 1970; never after the session.
    pub exp: u64,
    /// Always "store": a token of another use is never taken for one of this.
    #[serde(rename = "use")]
    pub usage: StoreUse,
}

/// Marks [`StoreClaims`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum StoreUse {
    /// The one value.
    #[serde(rename = "store")]
    Store,
}

/// A table's own token towards a store, for one call: it says that `sid` is revoked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevokeClaims {
    /// The table that issued it.
    pub iss: String,
    /// The store that it is for.
    pub aud: StoreId,
    /// The user.
    pub sub: UserName,
    /// The session that ended.
    pub sid: SessionId,
    /// Expires at, in seconds since 1970.
    pub exp: u64,
    /// Always "revoke".
    #[serde(rename = "use")]
    pub usage: RevokeUse,
}

/// Marks [`RevokeClaims`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RevokeUse {
    /// The one value.
    #[serde(rename = "revoke")]
    Revoke,
}

/// A store's confirmation code: signed by the store, it lets a user bring a table that will issue tokens for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfirmClaims {
    /// The store that issued it, and the only one that takes it.
    pub iss: StoreId,
    /// The user.
    pub sub: UserName,
    /// Expires at, in seconds since 1970.
    pub exp: u64,
    /// Makes each code another one.
    pub jti: String,
    /// Always "confirm".
    #[serde(rename = "use")]
    pub usage: ConfirmUse,
}

/// Marks [`ConfirmClaims`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConfirmUse {
    /// The one value.
    #[serde(rename = "confirm")]
    Confirm,
}
