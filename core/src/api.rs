//! The JSON bodies of the HTTP routes of tables and stores, shared by the servers and the client.
//!
//! Times are seconds since 1970 unless a field says microseconds. Every error body is [`crate::Refusal`].

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::base64_text;
use crate::date::Date;
use crate::error::Refusal;
use crate::id::{ActorId, BlobName, Digest, Incarnation, Seq, SessionId, Sha, StoreId};
use crate::name::{ChannelName, LogName, Path, TypeName, UserName};
use crate::op::{Draft, Op, Payload, Signature};
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

/// Creates a user, or replaces the user's master (`PUT /user/:user/master`, which also ends every session).
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

/// Names a log below a user in a query string.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams))]
pub struct LogQuery {
    /// The channel.
    #[cfg_attr(feature = "openapi", param(value_type = String))]
    pub channel: ChannelName,
    /// The type.
    #[serde(rename = "type")]
    #[cfg_attr(feature = "openapi", param(value_type = String))]
    pub kind: TypeName,
    /// The path.
    #[cfg_attr(feature = "openapi", param(value_type = String))]
    pub path: Path,
}

impl LogQuery {
    /// Completes the log's name.
    pub fn log(self, user: UserName) -> LogName {
        LogName { user, channel: self.channel, kind: self.kind, path: self.path }
    }
}

/// Ciphertext in JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct SealedJson {
    /// The epoch of the channel key.
    pub epoch: u32,
    /// Nonce and ciphertext, base64url without padding.
    #[serde(with = "base64_text")]
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub bytes: Vec<u8>,
}

/// An operation in JSON. Either `payload` or `sealed` is there.
///
/// A push may leave out `actor`, `seq`, `date`, `deps` and `sha` together: the store then stamps the operation as its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[serde(deny_unknown_fields)]
pub struct OpJson {
    /// The identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub sha: Option<Sha>,
    /// Who wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub actor: Option<ActorId>,
    /// Its place among its actor's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<u64>))]
    pub seq: Option<Seq>,
    /// Its hybrid logical date in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<u64>))]
    pub date: Option<Date>,
    /// The heads that its author saw.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Vec<String>>))]
    pub deps: Option<Vec<Sha>>,
    /// The plain payload, any JSON value, `null` included.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub payload: Option<Value>,
    /// The sealed payload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<SealedJson>,
    /// The signature over the sha, base64url without padding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
}

/// Reads a member that is there, `null` included, as `Some`.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

impl OpJson {
    /// Tells whether the author left the stamping to the store.
    pub fn is_unstamped(&self) -> bool {
        self.actor.is_none() && self.seq.is_none() && self.date.is_none() && self.deps.is_none() && self.sha.is_none()
    }

    /// Returns the payload in its envelope.
    ///
    /// # Errors
    /// A sentence, if not exactly one of `payload` and `sealed` is there.
    pub fn payload(&self) -> Result<Payload, String> {
        match (&self.payload, &self.sealed) {
            (Some(value), None) => Ok(Payload::plain(value)),
            (None, Some(sealed)) => {
                Ok(Payload::Sealed { epoch: sealed.epoch, bytes: Bytes::from(sealed.bytes.clone()) })
            }
            _ => Err("an operation needs either \"payload\" or \"sealed\"".to_owned()),
        }
    }

    /// Returns the stamped fields, the claimed sha and the signature.
    ///
    /// # Errors
    /// A sentence that names what is missing or malformed.
    pub fn stamped(&self) -> Result<(Draft, Sha, Option<Signature>), String> {
        let (Some(actor), Some(seq), Some(date), Some(sha)) = (self.actor, self.seq, self.date, self.sha) else {
            return Err(
                "a stamped operation needs \"actor\", \"seq\", \"date\" and \"sha\"; leave out all of them and \
                        \"deps\" to have the store stamp it"
                    .to_owned(),
            );
        };
        let signature = match &self.signature {
            None => None,
            Some(text) => {
                let bytes = base64_text::decode(text).ok().and_then(|bytes| bytes.try_into().ok());
                Some(Signature(bytes.ok_or("a signature must be 64 bytes in base64url")?))
            }
        };
        let deps = self.deps.clone().unwrap_or_default();
        Ok((Draft { actor, seq, date, deps, payload: self.payload()? }, sha, signature))
    }
}

impl OpJson {
    /// Puts an operation into JSON from its parts.
    pub fn from_parts(sha: Sha, draft: &Draft, signature: Option<&Signature>) -> Self {
        let (payload, sealed) = match &draft.payload {
            Payload::Plain(bytes) => (serde_json::from_slice(bytes).ok(), None),
            Payload::Sealed { epoch, bytes } => (None, Some(SealedJson { epoch: *epoch, bytes: bytes.to_vec() })),
        };
        Self {
            sha: Some(sha),
            actor: Some(draft.actor),
            seq: Some(draft.seq),
            date: Some(draft.date),
            deps: Some(draft.deps.clone()),
            payload,
            sealed,
            signature: signature.map(|signature| base64_text::encode(&signature.0)),
        }
    }
}

impl From<&Op> for OpJson {
    fn from(op: &Op) -> Self {
        Self::from_parts(op.sha(), op.draft(), op.signature())
    }
}

/// The body of `POST /user/:user/oplog`: one operation or many, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[serde(untagged)]
pub enum PushBody {
    /// `{"ops": [...]}`
    Many {
        /// The operations, each after what it depends on.
        ops: Vec<OpJson>,
    },
    /// One operation.
    One(Box<OpJson>),
}

impl PushBody {
    /// Reads a body, so that an error names the field that is wrong.
    ///
    /// # Errors
    /// A sentence about what is not as it should be.
    pub fn parse(body: &[u8]) -> Result<Vec<OpJson>, String> {
        let value: Value = serde_json::from_slice(body).map_err(|error| format!("the body is not JSON: {error}"))?;
        let ops = match value {
            Value::Object(mut members) if members.contains_key("ops") => members.remove("ops").unwrap_or_default(),
            one => Value::Array(vec![one]),
        };
        serde_json::from_value(ops)
            .map_err(|error| format!("the body is not an operation or {{\"ops\": [...]}}: {error}"))
    }
}

/// What became of one pushed operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[serde(tag = "status", rename_all = "lowercase")]
pub enum PushResult {
    /// On disk now.
    Accepted {
        /// Its identity.
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        sha: Sha,
    },
    /// On disk already.
    Known {
        /// Its identity.
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        sha: Sha,
    },
    /// Part of the committed checkpoint already.
    Covered {
        /// Its identity.
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        sha: Sha,
    },
    /// Not stored, for this reason. The others of the batch are not affected.
    Refused(Refusal),
}

/// The answer to a push: one result an operation, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct Pushed {
    /// In the order of the request.
    pub results: Vec<PushResult>,
}

/// What a store knows of a log without its operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct LogHeader {
    /// Number and exclusive or of the shas of its operations.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub digest: Digest,
    /// The index that the newest arrival has in this store.
    pub last_index: u64,
    /// Bytes of its operation records.
    pub bytes: u64,
}

/// An operation and its index in the log of this store, in order of arrival.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct IndexedOp {
    /// 1, 2, 3… in order of arrival; a cursor for `after`.
    pub index: u64,
    /// The operation.
    pub op: OpJson,
}

/// The answer to `GET /user/:user/oplog`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct OplogPage {
    /// The life of the store's data that the indexes belong to.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub incarnation: Incarnation,
    /// The whole log's header.
    pub header: LogHeader,
    /// Operations in order of arrival.
    pub ops: Vec<IndexedOp>,
    /// Whether there are more after the last one.
    pub more: bool,
}

/// A log in a listing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct ListedLog {
    /// The type.
    #[serde(rename = "type")]
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub kind: TypeName,
    /// The path.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub path: Path,
    /// Its header.
    #[serde(flatten)]
    pub header: LogHeader,
}

/// The answer to `GET /user/:user/oplogs`: logs by type and path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct LogList {
    /// One page.
    pub logs: Vec<ListedLog>,
    /// Whether there are more after the last one.
    pub more: bool,
}

/// Asks which of these blobs a store lacks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct BlobHave {
    /// BLAKE3 names.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub blobs: Vec<BlobName>,
}

/// The blobs that the store lacks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct BlobMissing {
    /// In the order asked.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub missing: Vec<BlobName>,
}

/// What a server says of itself at `/healthz`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct Health {
    /// "table" or "store".
    pub role: String,
    /// Its id.
    pub id: String,
    /// The program's version.
    pub version: String,
    /// Its clock, in microseconds since 1970.
    #[cfg_attr(feature = "openapi", schema(value_type = u64))]
    pub now: Date,
}
