//! How an app says what its operations mean: the [`Reducer`].
//!
//! A reducer is pure and total. The same operations in the same order give the same state everywhere; a payload that it
//! cannot read leaves the state as it was and is reported, and never stops the log.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::date::Date;
use crate::id::{ActorId, Seq, Sha};
use crate::op::{Op, OrderKey};

/// Turns the operations of a log into a value.
///
/// # Laws
/// Property tests of a reducer should show them; those of the stock reducers do.
/// - `apply` is a function of its arguments alone, and on `Err` it has left the state as it was.
/// - Where [`commutes`](Self::commutes) says so of both payloads, applying two operations in either order gives states
///   that are equal and view equal. Operations arrive late, so a state keeps the dates that it needs for this.
/// - `decode_state(encode_state(s))` behaves as `s` does, and equal histories encode to equal bytes.
pub trait Reducer: Send + Sync + 'static {
    /// What a person means, as it is typed: parsed from JSON.
    type Intent: DeserializeOwned;
    /// What is logged, and can be replayed anywhere: JSON.
    type Payload: Serialize + DeserializeOwned;
    /// What has become of the log.
    type State: Clone + Send + Sync + 'static;

    /// Names the reducer; checkpoints carry it.
    fn name(&self) -> &str;

    /// Counts its incompatible changes, from 1; checkpoints carry it.
    fn version(&self) -> u32;

    /// Returns the state of an empty log.
    fn initial(&self) -> Self::State;

    /// Turns an intent into a payload on the author's side, against the state that the author sees.
    ///
    /// What it returns is logged as it is, under the author's actor and seq, or not at all; the next intent is prepared
    /// after it was applied. Only the date may be another one in the end, where the author's clock was ahead.
    ///
    /// # Errors
    /// [`IntentError`] if the intent makes no sense there; nothing is written then.
    fn prepare(&self, state: &Self::State, intent: Self::Intent, author: &Author)
    -> Result<Self::Payload, IntentError>;

    /// Applies one operation.
    ///
    /// # Errors
    /// [`PayloadError`] if the payload means nothing here; the state is then as it was.
    fn apply(&self, state: &mut Self::State, payload: Self::Payload, meta: &Meta) -> Result<(), PayloadError>;

    /// Tells whether this payload may be applied out of order.
    ///
    /// When an operation lands in the middle of a log, and it and all after it commute, it is applied on top;
    /// otherwise the log is folded again from a snapshot before it. The default is the safe one.
    fn commutes(&self, payload: &Self::Payload) -> bool {
        let _ = payload;
        false
    }

    /// Tells whether a log of this type can be removed as a whole. Where it cannot, a removal is an operation like any other,
    /// which means nothing to the reducer.
    fn is_removable(&self) -> bool {
        true
    }

    /// Returns the value that the app sees.
    fn view(&self, state: &Self::State) -> Value;

    /// Encodes the state for a checkpoint, deterministically.
    fn encode_state(&self, state: &Self::State) -> Vec<u8>;

    /// Decodes what [`encode_state`](Self::encode_state) made.
    ///
    /// # Errors
    /// [`StateError`] if the bytes are not a state of this reducer.
    fn decode_state(&self, bytes: &[u8]) -> Result<Self::State, StateError>;

    /// Decodes what an earlier version of the reducer encoded, or this one.
    ///
    /// A reducer whose version grows says here how it reads the states of those before it.
    ///
    /// # Errors
    /// [`StateError`] if the bytes are not a state of that version, or that version is not known.
    fn decode_state_of(&self, version: u32, bytes: &[u8]) -> Result<Self::State, StateError> {
        match version == self.version() {
            true => self.decode_state(bytes),
            false => Err(StateError(format!("version {version} of the {} cannot be read any more", self.name()))),
        }
    }
}

/// Who writes the operation that an intent is prepared for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Author {
    /// The writing replica.
    pub actor: ActorId,
    /// The place that the operation will have among the actor's.
    pub seq: Seq,
    /// The date that it will have.
    pub date: Date,
}

/// Which operation is being applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    /// Its identity.
    pub sha: Sha,
    /// Who wrote it.
    pub actor: ActorId,
    /// Its place among its actor's.
    pub seq: Seq,
    /// Its date.
    pub date: Date,
}

impl Meta {
    /// Returns the operation's place in the total order.
    pub fn key(&self) -> OrderKey {
        OrderKey { date: self.date, actor: self.actor, seq: self.seq, sha: self.sha }
    }
}

impl From<&Op> for Meta {
    fn from(op: &Op) -> Self {
        Self { sha: op.sha(), actor: op.actor(), seq: op.seq(), date: op.date() }
    }
}

/// An intent that makes no sense against the state that its author sees.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct IntentError(pub String);

/// A payload that means nothing to the reducer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PayloadError(pub String);

/// Bytes that are not a state of the reducer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct StateError(pub String);
