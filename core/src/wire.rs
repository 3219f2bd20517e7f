//! The messages of the stream between a client and a store, in CBOR and in JSON. `docs/wire.md` specifies them.
//!
//! A stream belongs to one user, one channel and one store. Requests carry a tag that the client chooses, and answers
//! carry it back, in any order. Operations travel as records with their sha, so a store forwards what it holds without
//! decoding it, and whoever receives them checks the sha against the log's name.

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::api::{IndexedOp, LogHeader, OpJson, PushResult};
use crate::checkpoint::{Base, BaseId, Checkpoint};
use crate::date::Date;
use crate::error::Refusal;
use crate::id::{Incarnation, RunId, Sha, StoreId};
use crate::name::{ChannelName, LogName, Path, PathPrefix, TypeName, UserName};
use crate::op::{Draft, Op, OpError};
use crate::token::CertificateClaims;

mod cbor;

/// WebSocket subprotocol of binary CBOR frames.
pub const SUBPROTOCOL_CBOR: &str = "gigfs.v1.cbor";
/// WebSocket subprotocol of text JSON frames.
pub const SUBPROTOCOL_JSON: &str = "gigfs.v1.json";

/// Pairs a request with its answer.
pub type Tag = u64;

/// A log within the channel of the stream.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LogRef {
    /// The type.
    #[serde(rename = "type")]
    pub kind: TypeName,
    /// The path.
    pub path: Path,
}

impl LogRef {
    /// Completes the name with the stream's user and channel.
    pub fn log(&self, user: &UserName, channel: &ChannelName) -> LogName {
        LogName { user: user.clone(), channel: channel.clone(), kind: self.kind.clone(), path: self.path.clone() }
    }
}

impl From<&LogName> for LogRef {
    fn from(log: &LogName) -> Self {
        Self { kind: log.kind.clone(), path: log.path.clone() }
    }
}

/// An operation on the wire: its record and the sha that its sender claims.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WireOp {
    /// The claimed identity.
    pub sha: Sha,
    /// The record ([`Op::to_record`]).
    pub record: Bytes,
}

impl WireOp {
    /// Decodes the operation and checks that it belongs to `log` and has the claimed sha.
    ///
    /// # Errors
    /// [`OpError`], if it is malformed, over a limit, or forged.
    pub fn open(&self, log: &LogName) -> Result<Op, OpError> {
        Op::from_record(log, &self.record, Some(self.sha))
    }
}

impl From<&Op> for WireOp {
    fn from(op: &Op) -> Self {
        Self { sha: op.sha(), record: op.to_record().into() }
    }
}

impl Serialize for WireOp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (draft, signature) = Draft::from_record(&self.record).map_err(serde::ser::Error::custom)?;
        OpJson::from_parts(self.sha, &draft, signature.as_ref()).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for WireOp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = OpJson::deserialize(deserializer)?;
        let (draft, sha, signature) = json.stamped().map_err(serde::de::Error::custom)?;
        Ok(Self { sha, record: draft.to_record(signature.as_ref()).into() })
    }
}

/// A log's base on the wire: its record, the sha that its sender claims, and its certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireBase {
    /// The claimed identity.
    pub sha: Sha,
    /// The record ([`Checkpoint::to_record`]).
    #[serde(with = "record_text")]
    pub record: Bytes,
    /// The table's certificate ([`CertificateClaims`], a JWT).
    pub certificate: String,
}

impl WireBase {
    /// Decodes the checkpoint and checks that it belongs to `log`, has the claimed sha, and is what the certificate names.
    /// Whoever can must check the certificate's signature beside this.
    ///
    /// # Errors
    /// A sentence that says what does not fit.
    pub fn open(&self, log: &LogName) -> Result<Checkpoint, String> {
        let (checkpoint, _) =
            Checkpoint::from_record(log, &self.record, self.sha).map_err(|error| error.to_string())?;
        let claims = CertificateClaims::unverified(&self.certificate)?;
        match claims.is_of(log) && claims.checkpoint == self.sha && claims.generation == checkpoint.generation {
            true => Ok(checkpoint),
            false => Err(format!("the certificate names another checkpoint than {}", self.sha)),
        }
    }
}

impl From<&Base> for WireBase {
    fn from(base: &Base) -> Self {
        Self { sha: base.sha, record: base.record.clone(), certificate: base.certificate.clone() }
    }
}

/// A record in JSON: base64url without padding.
mod record_text {
    use bytes::Bytes;
    use serde::{Deserializer, Serializer};

    use crate::base64_text;

    pub(super) fn serialize<S: Serializer>(bytes: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
        base64_text::serialize(bytes, serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        base64_text::deserialize(deserializer).map(Bytes::from)
    }
}

/// What a stream is told about as it happens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Watched {
    /// These logs, beside those watched already.
    Logs(Vec<LogRef>),
    /// Every log of the channel at or below a path.
    Prefix(PathPrefix),
}

/// Which operations of a log an inventory lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Which {
    /// Those that the store's base does not cover, in order of arrival.
    Live,
    /// Those that it covers, in ascending order.
    Covered,
}

/// From a client to a store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "msg", rename_all = "lowercase")]
pub enum ClientMessage {
    /// Stores operations of one log, in order, each after what it depends on. Answered by [`ServerMessage::Pushed`].
    Push {
        /// Chosen by the client.
        tag: Tag,
        /// The log.
        log: LogRef,
        /// At most [`crate::limits::PUSH_OPS_MAX`].
        ops: Vec<WireOp>,
        /// The base that the client stands on, if it knows of all of them that this does not cover them: a store that has
        /// the same base, and was not told all that it covers, takes the client's word.
        beyond: Option<Sha>,
    },
    /// Reads a log in order of arrival. Answered by one or more [`ServerMessage::Ops`].
    Get {
        /// Chosen by the client.
        tag: Tag,
        /// The log.
        log: LogRef,
        /// The index after which to begin; 0 for all.
        after: u64,
        /// The base that the client has: the store sends its own if it is another one of a later generation, or greater
        /// by sha.
        base: Option<BaseId>,
    },
    /// Asks for shas of a log. Answered by one or more [`ServerMessage::Shas`].
    Inventory {
        /// Chosen by the client.
        tag: Tag,
        /// The log.
        log: LogRef,
        /// Which ones.
        which: Which,
    },
    /// Lists logs by type and path. Answered by one [`ServerMessage::Logs`].
    List {
        /// Chosen by the client.
        tag: Tag,
        /// Only logs at or below this path.
        prefix: PathPrefix,
        /// Only logs after this one.
        after: Option<LogRef>,
    },
    /// Asks to be told of operations as they are stored. Answered by [`ServerMessage::Watching`] once what the cursor
    /// missed has been sent.
    Watch {
        /// Chosen by the client.
        tag: Tag,
        /// What to be told of, beside what is watched already.
        watched: Watched,
        /// The channel position, heard in this run of the store, after which to begin; the present one if left out.
        after: Option<u64>,
    },
    /// Ends all watching. Answered by [`ServerMessage::Unwatched`], after which no event comes.
    Unwatch {
        /// Chosen by the client.
        tag: Tag,
    },
    /// Asks the store to keep a checkpoint and to acknowledge it. Answered by [`ServerMessage::Acknowledged`].
    Checkpoint {
        /// Chosen by the client.
        tag: Tag,
        /// The log.
        log: LogRef,
        /// The claimed identity.
        sha: Sha,
        /// The record ([`Checkpoint::to_record`]).
        #[serde(with = "record_text")]
        record: Bytes,
        /// The epoch of the channel's set of stores, for the acknowledgement to name.
        epoch: u64,
    },
    /// Has the store install a committed checkpoint as the log's base. Answered by [`ServerMessage::Installed`].
    Install {
        /// Chosen by the client.
        tag: Tag,
        /// The log.
        log: LogRef,
        /// The checkpoint; its record may be empty if the store has acknowledged it.
        base: WireBase,
        /// A base of the store that is to go although it covers what this one does not: a copy of it was kept.
        instead_of: Option<Sha>,
    },
    /// Tells the store of operations that its base covers, because it installed the base without having had them.
    /// Answered by [`ServerMessage::Installed`].
    Cover {
        /// Chosen by the client.
        tag: Tag,
        /// The log.
        log: LogRef,
        /// The base.
        base: Sha,
        /// At most [`crate::limits::INVENTORY_SHAS_MAX`].
        shas: Vec<Sha>,
    },
    /// Asks for what the store still keeps of what the base covers. Answered by one or more
    /// [`ServerMessage::Retained`].
    Retained {
        /// Chosen by the client.
        tag: Tag,
        /// The log.
        log: LogRef,
    },
    /// Reports that another state came out of what the store's base covers: the store acknowledges no checkpoint on top
    /// of it but one that covers the same, and keeps what it covers. Answered by [`ServerMessage::Installed`].
    Dispute {
        /// Chosen by the client.
        tag: Tag,
        /// The log.
        log: LogRef,
        /// The base.
        base: Sha,
    },
    /// Tells the store what a log of a sealed channel is called, for whoever has the keys ([`crate::seal::NameKeys::seal`]),
    /// to be listed with the log. Answered by [`ServerMessage::Named`].
    Name {
        /// Chosen by the client.
        tag: Tag,
        /// The log; the store has something of it.
        log: LogRef,
        /// At most [`crate::limits::SEALED_NAME_BYTES_MAX`].
        #[serde(with = "record_text")]
        sealed: Bytes,
    },
    /// Replaces the stream's token before it expires.
    Renew {
        /// Chosen by the client.
        tag: Tag,
        /// A new store token for the same user, channel and session.
        token: String,
    },
}

/// From a store to a client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "msg", rename_all = "lowercase")]
pub enum ServerMessage {
    /// The first message of every stream.
    Welcome(Welcome),
    /// Answers [`ClientMessage::Push`]: one result an operation, in order. `accepted` and `known` mean on disk.
    Pushed {
        /// The request's.
        tag: Tag,
        /// In order.
        results: Vec<PushResult>,
    },
    /// Answers [`ClientMessage::Get`].
    Ops {
        /// The request's.
        tag: Tag,
        /// The log's base, in the first part, if the client's is behind it; in a later part, if it changed meanwhile.
        base: Option<WireBase>,
        /// In order of arrival: index and operation.
        ops: Vec<(u64, WireOp)>,
        /// The log as it stood when this part was read.
        header: LogHeader,
        /// Whether another part follows under this tag.
        more: bool,
    },
    /// Answers [`ClientMessage::Inventory`].
    Shas {
        /// The request's.
        tag: Tag,
        /// In order.
        shas: Vec<Sha>,
        /// The log as it stood when this part was read.
        header: LogHeader,
        /// Whether another part follows under this tag.
        more: bool,
    },
    /// Answers [`ClientMessage::List`].
    Logs {
        /// The request's.
        tag: Tag,
        /// By type and path.
        logs: Vec<(LogRef, LogHeader)>,
        /// Whether there are more after the last one.
        more: bool,
    },
    /// Operations of a watched log that were stored.
    Event(Event),
    /// A watched log has a new base.
    Pruned {
        /// The log.
        log: LogRef,
        /// The log as it stands.
        header: LogHeader,
    },
    /// Answers [`ClientMessage::Checkpoint`].
    Acknowledged {
        /// The request's.
        tag: Tag,
        /// The store's word ([`crate::token::AckClaims`], a JWT).
        ack: String,
    },
    /// Answers [`ClientMessage::Install`], [`ClientMessage::Cover`] and [`ClientMessage::Dispute`].
    Installed {
        /// The request's.
        tag: Tag,
        /// The log as it stands.
        header: LogHeader,
    },
    /// Answers [`ClientMessage::Name`]: it is on disk.
    Named {
        /// The request's.
        tag: Tag,
    },
    /// Answers [`ClientMessage::Retained`].
    Retained {
        /// The request's.
        tag: Tag,
        /// What the oldest operation here came on top of, in the first part; nothing if that was the empty log.
        base: Option<WireBase>,
        /// By the generation that covers them, and in no order within one.
        ops: Vec<(u64, WireOp)>,
        /// Whether another part follows under this tag.
        more: bool,
    },
    /// Answers [`ClientMessage::Watch`]: everything up to this channel position has been sent.
    Watching {
        /// The request's.
        tag: Tag,
        /// The channel's position.
        position: u64,
    },
    /// Answers [`ClientMessage::Unwatch`].
    Unwatched {
        /// The request's.
        tag: Tag,
    },
    /// Answers [`ClientMessage::Renew`].
    Renewed {
        /// The request's.
        tag: Tag,
    },
    /// Answers any request that failed as a whole.
    Failed {
        /// The request's.
        tag: Tag,
        /// Why.
        refusal: Refusal,
    },
    /// The last message of a stream that the store ends.
    Bye {
        /// Why.
        refusal: Refusal,
    },
}

/// What a store says first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// Which store this is.
    pub store: StoreId,
    /// The life of its data; cursors of another one mean nothing.
    pub incarnation: Incarnation,
    /// The channel's position.
    pub position: u64,
    /// The store's clock.
    pub now: Date,
    /// The run of the store; positions that were heard in another one are no cursors. Where none is said, none is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunId>,
}

/// Operations of one log, stored at consecutive positions of the channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// The channel position of the last one: the cursor to resume from.
    pub position: u64,
    /// The log.
    pub log: LogRef,
    /// Index and operation, in order of arrival.
    pub ops: Vec<(u64, WireOp)>,
}

/// Why a message cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the message cannot be read: {0}")]
pub struct WireError(pub String);

/// Converts a message to and from both encodings.
pub trait Message: Sized + Serialize + for<'de> Deserialize<'de> {
    /// Encodes as CBOR.
    fn to_cbor(&self) -> Vec<u8>;

    /// Decodes CBOR.
    ///
    /// # Errors
    /// [`WireError`] says what is wrong with the bytes.
    fn from_cbor(bytes: &[u8]) -> Result<Self, WireError>;

    /// Encodes as JSON.
    ///
    /// # Errors
    /// [`WireError`] if an operation's record cannot be read.
    fn to_json(&self) -> Result<String, WireError> {
        serde_json::to_string(self).map_err(|error| WireError(error.to_string()))
    }

    /// Decodes JSON.
    ///
    /// # Errors
    /// [`WireError`] says what is wrong with the text.
    fn from_json(text: &str) -> Result<Self, WireError> {
        serde_json::from_str(text).map_err(|error| WireError(error.to_string()))
    }
}

/// Opens indexed operations of a page of the HTTP route.
impl TryFrom<&IndexedOp> for WireOp {
    type Error = WireError;

    fn try_from(indexed: &IndexedOp) -> Result<Self, WireError> {
        let (draft, sha, signature) = indexed.op.stamped().map_err(WireError)?;
        Ok(Self { sha, record: draft.to_record(signature.as_ref()).into() })
    }
}

#[cfg(test)]
mod tests;
