//! The messages of the stream between a client and a store, in CBOR and in JSON. `docs/wire.md` specifies them.
//!
//! A stream belongs to one user, one channel and one store. Requests carry a tag that the client chooses, and answers
//! carry it back, in any order. Operations travel as records with their sha, so a store forwards what it holds without
//! decoding it, and whoever receives them checks the sha against the log's name.

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::api::{IndexedOp, LogHeader, OpJson, PushResult};
use crate::date::Date;
use crate::error::Refusal;
use crate::id::{Incarnation, Sha, StoreId};
use crate::name::{ChannelName, LogName, Path, PathPrefix, TypeName, UserName};
use crate::op::{Draft, Op, OpError};

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

/// What a stream is told about as it happens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Watched {
    /// These logs, beside those watched already.
    Logs(Vec<LogRef>),
    /// Every log of the channel at or below a path.
    Prefix(PathPrefix),
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
    },
    /// Reads a log in order of arrival. Answered by one or more [`ServerMessage::Ops`].
    Get {
        /// Chosen by the client.
        tag: Tag,
        /// The log.
        log: LogRef,
        /// The index after which to begin; 0 for all.
        after: u64,
    },
    /// Asks for the shas of all operations of a log. Answered by one or more [`ServerMessage::Shas`].
    Inventory {
        /// Chosen by the client.
        tag: Tag,
        /// The log.
        log: LogRef,
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
        /// The channel position after which to begin; the present one if left out.
        after: Option<u64>,
    },
    /// Ends all watching. Answered by [`ServerMessage::Unwatched`], after which no event comes.
    Unwatch {
        /// Chosen by the client.
        tag: Tag,
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
        /// In order of arrival.
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
