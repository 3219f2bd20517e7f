//! The claims inside the signed tokens (JWT, EdDSA) that tables and stores exchange. Signing is the servers' work.

use serde::{Deserialize, Serialize};

use crate::base64_text;
use crate::id::{Seq, SessionId, Sha, StoreId};
use crate::name::{ChannelName, LogName, Path, TypeName, UserName};

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
    /// The session that it hangs on: one of the user's, or of a guest of the channel.
    pub sid: SessionId,
    /// For a guest, the epoch of the owner's table in which what the guest may do began; nothing for the owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<u64>,
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

/// A table's own token towards a store, for one call: it says that `sid` is revoked, or is a guest no more in a channel.
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
    /// The one channel in which it ended, for a session of a guest; nothing if it ended everywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<ChannelName>,
    /// In that channel, only tokens whose `share` is smaller end; all of them if there is nothing here. So what is
    /// shared again later is not taken away by this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<u64>,
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

/// A store's acknowledgement of a checkpoint, signed by the store: its own base is the checkpoint's parent, and it has on
/// its disk the checkpoint and every operation that this one newly covers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AckClaims {
    /// The store.
    pub iss: StoreId,
    /// The user.
    pub sub: UserName,
    /// The channel of the log.
    pub channel: ChannelName,
    /// The type of the log.
    #[serde(rename = "type")]
    pub kind: TypeName,
    /// The path of the log.
    pub path: Path,
    /// The checkpoint's place in the chain.
    #[serde(rename = "gen")]
    pub generation: Seq,
    /// The checkpoint.
    pub checkpoint: Sha,
    /// The store's base; nothing before the first.
    pub parent: Option<Sha>,
    /// The epoch of the channel's set of stores that the acknowledgement is for.
    pub epoch: u64,
    /// Always "acknowledge".
    #[serde(rename = "use")]
    pub usage: AckUse,
}

/// Marks [`AckClaims`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum AckUse {
    /// The one value.
    #[serde(rename = "acknowledge")]
    Acknowledge,
}

/// A table's certificate, signed by the table: this checkpoint is the committed one of its generation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateClaims {
    /// The table.
    pub iss: String,
    /// The user.
    pub sub: UserName,
    /// The channel of the log.
    pub channel: ChannelName,
    /// The type of the log.
    #[serde(rename = "type")]
    pub kind: TypeName,
    /// The path of the log.
    pub path: Path,
    /// The checkpoint's place in the chain.
    #[serde(rename = "gen")]
    pub generation: Seq,
    /// The checkpoint.
    pub checkpoint: Sha,
    /// Committed at, in seconds since 1970.
    pub iat: u64,
    /// Always "checkpoint".
    #[serde(rename = "use")]
    pub usage: CertificateUse,
}

/// Marks [`CertificateClaims`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CertificateUse {
    /// The one value.
    #[serde(rename = "checkpoint")]
    Checkpoint,
}

impl AckClaims {
    /// Tells whether this is about a log.
    pub fn is_of(&self, log: &LogName) -> bool {
        (&self.sub, &self.channel, &self.kind, &self.path) == (&log.user, &log.channel, &log.kind, &log.path)
    }
}

impl CertificateClaims {
    /// Reads the claims of a certificate whose signature was, or will be, checked elsewhere.
    ///
    /// # Errors
    /// A sentence, if it is not the certificate of a checkpoint.
    pub fn unverified(certificate: &str) -> Result<Self, String> {
        let mut parts = certificate.split('.');
        let (Some(_), Some(claims), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
            return Err("a certificate has three parts divided by dots".to_owned());
        };
        let claims = base64_text::decode(claims)?;
        serde_json::from_slice(&claims).map_err(|error| format!("not the claims of a certificate: {error}"))
    }

    /// Tells whether this is about a log.
    pub fn is_of(&self, log: &LogName) -> bool {
        (&self.sub, &self.channel, &self.kind, &self.path) == (&log.user, &log.channel, &log.kind, &log.path)
    }
}

/// A table's own token towards a store, for one call: the store seals a channel, or opens it again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealClaims {
    /// The table that issued it.
    pub iss: String,
    /// The store that it is for.
    pub aud: StoreId,
    /// The user.
    pub sub: UserName,
    /// The channel.
    pub channel: ChannelName,
    /// Whether the store is to refuse writes from now on.
    pub sealed: bool,
    /// Expires at, in seconds since 1970.
    pub exp: u64,
    /// Always "seal".
    #[serde(rename = "use")]
    pub usage: SealUse,
}

/// Marks [`SealClaims`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SealUse {
    /// The one value.
    #[serde(rename = "seal")]
    Seal,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a table sends to stores, letter for letter.
    #[test]
    fn a_revocation_is_of_a_session_or_of_what_was_shared_with_it_in_a_channel() {
        let whole = r#"{"iss":"t","aud":"01010101010101010101010101010101","sub":"me","sid":"02020202020202020202020202020202","exp":60,"use":"revoke"}"#;
        let claims: RevokeClaims = serde_json::from_str(whole).unwrap();
        assert_eq!((&claims.channel, claims.before), (&None, None));
        assert_eq!(serde_json::to_string(&claims).unwrap(), whole);
        let shared = whole.replace(r#""exp""#, r#""channel":"home","before":7,"exp""#);
        let claims = RevokeClaims { channel: Some(ChannelName::parse("home").unwrap()), before: Some(7), ..claims };
        assert_eq!(serde_json::to_string(&claims).unwrap(), shared);
        assert_eq!(serde_json::from_str::<RevokeClaims>(&shared).unwrap(), claims);
    }

    #[test]
    fn a_token_says_since_when_something_is_shared_for_guests_only() {
        let own = r#"{"iss":"t","aud":"01010101010101010101010101010101","sub":"me","channel":"home","permission":"write","sid":"02020202020202020202020202020202","iat":1,"exp":60,"use":"store"}"#;
        let claims: StoreClaims = serde_json::from_str(own).unwrap();
        assert_eq!(claims.share, None);
        assert_eq!(serde_json::to_string(&claims).unwrap(), own);
        let guests = own.replace(r#""iat""#, r#""share":7,"iat""#);
        let claims = StoreClaims { share: Some(7), ..claims };
        assert_eq!(serde_json::to_string(&claims).unwrap(), guests);
    }
}
