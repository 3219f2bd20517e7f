//! What the states have in common: how an operation's place in the order is written, and how a state becomes bytes.
//!
//! A state's bytes are canonical JSON, so that equal states are equal bytes.

use gigfs_core::{ActorId, Date, Meta, OrderKey, Seq, Sha, StateError, json};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

/// The place of an operation in the total order, written `[date, actor, seq, sha]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "Parts", into = "Parts")]
pub struct Stamp(pub OrderKey);

type Parts = (Date, ActorId, Seq, Sha);

impl From<Parts> for Stamp {
    fn from((date, actor, seq, sha): Parts) -> Self {
        Self(OrderKey { date, actor, seq, sha })
    }
}

impl From<Stamp> for Parts {
    fn from(Stamp(key): Stamp) -> Self {
        (key.date, key.actor, key.seq, key.sha)
    }
}

impl From<&Meta> for Stamp {
    fn from(meta: &Meta) -> Self {
        Self(meta.key())
    }
}

/// Encodes a state as canonical JSON.
pub(crate) fn encode<S: Serialize>(state: &S) -> Vec<u8> {
    json::canonical(&serde_json::to_value(state).expect("a state has string keys and finite numbers"))
}

/// Decodes what [`encode`] made, and nothing else.
pub(crate) fn decode<S: Serialize + DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<S, StateError> {
    let state: S = serde_json::from_slice(bytes)
        .map_err(|error| StateError(format!("this is not the state of {what}: {error}")))?;
    match encode(&state) == bytes {
        true => Ok(state),
        false => Err(StateError(format!("this is not the state of {what} as it is encoded; it was changed"))),
    }
}

/// Deserializes a member that may be null as `Some`, so that null and absence stay apart.
pub(crate) fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// Returns the canonical text of a value, by which values are compared.
pub(crate) fn text_of(value: &Value) -> String {
    String::from_utf8(json::canonical(value)).expect("canonical JSON is UTF-8")
}
