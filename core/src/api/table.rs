//! Bodies of the table's routes, and of those between a table and a store.

use serde::{Deserialize, Serialize};

use crate::base64_text;
use crate::checkpoint::BaseId;
use crate::error::Refusal;
use crate::id::{SessionId, Sha, StoreId};
use crate::name::{ChannelName, Path, TypeName, UserName};
use crate::token::Permission;

#[cfg(feature = "openapi")]
use utoipa::ToSchema;

/// How a password becomes a master: Argon2id with these parameters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct PasswordParams {
    /// 16 random bytes, base64url without padding.
    #[serde(with = "base64_text")]
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub salt: Vec<u8>,
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes.
    pub passes: u32,
}

impl PasswordParams {
    /// Bytes of a salt.
    pub const SALT_BYTES: usize = 16;
    /// Bytes of the master that Argon2id makes.
    pub const MASTER_BYTES: usize = 32;
    /// The memory that clients choose for a new user, in KiB. A table says the same of users that it does not have.
    pub const MEMORY_KIB_DEFAULT: u32 = 64 * 1024;
    /// The passes that clients choose for a new user.
    pub const PASSES_DEFAULT: u32 = 3;
}

/// Creates a user, or gives one another master, as the table's admin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct NewMaster {
    /// How the master was made from the password.
    pub password: PasswordParams,
    /// The master: 32 bytes, base64url without padding. The table keeps its hash only.
    #[serde(with = "base64_text")]
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub master: Vec<u8>,
}

/// Replaces the user's own master, which also ends every session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct ReplaceMaster {
    /// The new master.
    #[serde(flatten)]
    pub new: NewMaster,
    /// The next revision of the keyring, which the new password opens. It is needed where the table keeps a keyring: the
    /// two are replaced together or not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keyring: Option<KeyringRecord>,
}

/// A user's keyring as the table keeps it: sealed, but for the revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct KeyringRecord {
    /// The record of `docs/crypto.md`, section 5, at most 1 MiB, base64url without padding.
    #[serde(with = "base64_text")]
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub record: Vec<u8>,
}

/// Asks for a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct NewSession {
    /// Seconds until the session ends by itself.
    pub timeout: u64,
    /// What a person will know it by, such as the device's name.
    #[serde(default)]
    pub description: String,
}

/// A new session with its secret, which is shown this once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct CreatedSession {
    /// The bearer token for the `Authorization` header.
    pub token: String,
    /// What the table keeps of it.
    #[serde(flatten)]
    pub session: SessionInfo,
}

/// A session as the table lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct SessionInfo {
    /// Its id.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub id: SessionId,
    /// What its owner called it.
    pub description: String,
    /// When it was created.
    pub created: u64,
    /// When it ends.
    pub expires: u64,
    /// Whether it is the one that asks.
    #[serde(default)]
    pub current: bool,
}

/// All live sessions of a user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct SessionList {
    /// Newest first.
    pub sessions: Vec<SessionInfo>,
}

/// Mounts a store on a channel; the channel comes to be with its first store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct AddStore {
    /// Where the store is, `http` or `https`.
    pub store_url: String,
    /// The store's confirmation code for this user. Not needed for a store that the user has mounted already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
}

/// A user's channels and where each lives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct MountTable {
    /// The user.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub user: UserName,
    /// The table's id, the `iss` of its certificates.
    #[serde(default)]
    pub table_id: String,
    /// The table's Ed25519 public key, PEM: certificates of checkpoints are checked with it.
    #[serde(default)]
    pub table_key: String,
    /// Grows by one with each change.
    pub epoch: u64,
    /// The channels by name.
    pub channels: Vec<MountedChannel>,
}

/// One channel of a mount table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct MountedChannel {
    /// Its name.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub channel: ChannelName,
    /// The table's epoch when its set of stores last changed.
    pub epoch: u64,
    /// Its stores, by id.
    pub stores: Vec<MountedStore>,
}

/// One store of a channel, with a token for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct MountedStore {
    /// Its id.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub id: StoreId,
    /// Where it is.
    pub url: String,
    /// The bearer token for this store, user and channel.
    pub token: String,
    /// What the token allows.
    pub permission: Permission,
    /// When the token ends.
    pub expires: u64,
    /// Whether the store takes no more writes, because it is being taken off the channel.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sealed: bool,
}

/// One change of a mount table, as `GET /user/:user/table/stream` sends it (server-sent events named `table`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct TableChanged {
    /// The epoch that the table now has; fetch it if yours is older.
    pub epoch: u64,
}

/// A table's answer to a store that asks about a store token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct TokenStanding {
    /// The session that the token hangs on.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub session: SessionId,
    /// When that session ends.
    pub expires: u64,
}

/// A table introduces itself to a store, with the code that the store gave its user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct Confirm {
    /// Where the table is.
    pub table_url: String,
    /// The store's own confirmation code.
    pub code: String,
    /// The table's id, the `iss` of its tokens.
    pub table_id: String,
    /// The table's Ed25519 public key, PEM.
    pub table_key: String,
}

/// A store's answer to [`Confirm`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct Confirmed {
    /// The store's id.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub store: StoreId,
    /// The store's Ed25519 public key, PEM: its acknowledgements of checkpoints are checked with it.
    pub store_key: String,
}

/// Has a store take no more writes for a channel, or take them again (`POST /user/:user/table/:channel/store/:store/seal`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct Seal {
    /// Whether it refuses writes from now on.
    pub sealed: bool,
}

/// Checkpoints to be committed (`POST /user/:user/table/:channel/checkpoint`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct CommitBody {
    /// At most [`crate::limits::COMMIT_LOGS_MAX`], each of another log.
    pub logs: Vec<Proposal>,
}

/// One checkpoint to be committed; without `checkpoint`, a question about the register of a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct Proposal {
    /// The type of the log.
    #[serde(rename = "type")]
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub kind: TypeName,
    /// The path of the log.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub path: Path,
    /// The checkpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<BaseId>,
    /// The checkpoint that it builds on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub parent: Option<Sha>,
    /// The acknowledgements of all stores of the channel ([`crate::token::AckClaims`], JWTs).
    #[serde(default)]
    pub acks: Vec<String>,
}

/// The answer to [`CommitBody`], in the order of the request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct CommitResults {
    /// One answer a log.
    pub logs: Vec<CommitResult>,
}

/// What became of one proposal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[serde(tag = "status", rename_all = "lowercase")]
pub enum CommitResult {
    /// The register stands at the checkpoint that was asked for.
    Committed {
        /// The certificate of that checkpoint.
        certificate: String,
    },
    /// The register stands elsewhere.
    Standing {
        /// The certificate of the checkpoint at which it stands; nothing if there was never one.
        certificate: Option<String>,
        /// Why the checkpoint was not committed; nothing if none was asked for.
        refusal: Option<Refusal>,
    },
}

/// Sets how much a user may keep at a store (`PUT /admin/user/:user/quota`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NewQuota {
    /// Bytes of operations, bases and blobs; null for as much as the store gives to users of whom nothing is said. It has
    /// to be there.
    #[serde(deserialize_with = "Option::deserialize")]
    pub bytes: Option<u64>,
}

/// What a user keeps at a store and may keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct UserRoom {
    /// Bytes that the user may keep; null for as many as fit on the disk.
    pub quota: Option<u64>,
    /// Bytes of operations and bases that are here, of operations that are covered and still kept too, and 32 for each
    /// that is known to be covered; checkpoints that wait for the table, and names of sealed logs.
    pub oplogs: u64,
    /// Bytes of blobs that are here.
    pub blobs: u64,
}

/// A confirmation code, for `POST /user/:user/table/:channel/store` at a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct ConfirmCode {
    /// The code.
    pub code: String,
    /// When it ends.
    pub expires: u64,
}
