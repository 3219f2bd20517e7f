//! The log that a channel's roster is kept in: a set of entries that only grows, and that each prove themselves.
//!
//! It is a log of the channel like any other, sealed and kept by its stores. Whoever reads an entry needs the owner's
//! identity only, so it matters neither who wrote it nor who brought it.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::actor::ActorCertificate;
use super::device::DeviceCertificate;
use super::membership::Membership;
use crate::base64_text;
use crate::fold::{Kind, Reduced};
use crate::json;
use crate::name::{ChannelName, LogName, TypeName, UserName};
use crate::reducer::{Author, IntentError, Meta, PayloadError, Reducer, StateError};

/// The type of the log, and the name of its reducer. // persisted
const ROSTER_TYPE: &str = "gigfs.roster";
/// Where the log is. // persisted
const ROSTER_PATH: &str = "/roster";

/// One entry: the bytes of a record that is signed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RosterEntry {
    /// A [`Membership`].
    Member(#[serde(with = "base64_text")] Vec<u8>),
    /// A [`DeviceCertificate`].
    Device(#[serde(with = "base64_text")] Vec<u8>),
    /// An [`ActorCertificate`].
    Actor(#[serde(with = "base64_text")] Vec<u8>),
}

/// Folds the log of a roster.
#[derive(Debug, Clone, Copy, Default)]
struct RosterReducer;

/// Returns the type of every roster. Apps cannot register it.
pub fn roster_type() -> TypeName {
    TypeName::parse(ROSTER_TYPE).expect("a name of letters and a dot")
}

/// Returns what reads the log of every roster.
pub fn roster_kind() -> Arc<dyn Kind> {
    Arc::new(Reduced::new(RosterReducer))
}

/// Returns the name of a channel's roster, as an app would write it.
pub fn roster_log(user: &UserName, channel: &ChannelName) -> LogName {
    let path = ROSTER_PATH.parse().expect("a path of letters");
    LogName { user: user.clone(), channel: channel.clone(), kind: roster_type(), path }
}

impl RosterEntry {
    /// Checks that the bytes are the record that they are said to be.
    fn check(&self) -> Result<(), String> {
        let error = match self {
            Self::Member(bytes) => Membership::from_bytes(bytes).err(),
            Self::Device(bytes) => DeviceCertificate::from_bytes(bytes).err(),
            Self::Actor(bytes) => ActorCertificate::from_bytes(bytes).err(),
        };
        error.map_or(Ok(()), |error| Err(error.to_string()))
    }
}

impl Reducer for RosterReducer {
    type Intent = Vec<RosterEntry>;
    type Payload = Vec<RosterEntry>;
    type State = BTreeSet<RosterEntry>;

    fn name(&self) -> &str {
        ROSTER_TYPE
    }

    fn version(&self) -> u32 {
        1
    }

    fn initial(&self) -> Self::State {
        BTreeSet::new()
    }

    fn prepare(&self, _: &Self::State, intent: Self::Intent, _: &Author) -> Result<Self::Payload, IntentError> {
        intent.iter().try_for_each(RosterEntry::check).map_err(IntentError)?;
        Ok(intent)
    }

    fn apply(&self, state: &mut Self::State, payload: Self::Payload, _: &Meta) -> Result<(), PayloadError> {
        payload.iter().try_for_each(RosterEntry::check).map_err(PayloadError)?;
        state.extend(payload);
        Ok(())
    }

    fn commutes(&self, _: &Self::Payload) -> bool {
        true
    }

    fn is_removable(&self) -> bool {
        false
    }

    fn view(&self, state: &Self::State) -> Value {
        serde_json::to_value(state).unwrap_or_default()
    }

    fn encode_state(&self, state: &Self::State) -> Vec<u8> {
        json::canonical(&self.view(state))
    }

    fn decode_state(&self, bytes: &[u8]) -> Result<Self::State, StateError> {
        let entries: BTreeSet<RosterEntry> =
            serde_json::from_slice(bytes).map_err(|error| StateError(format!("not a roster: {error}")))?;
        entries.iter().try_for_each(RosterEntry::check).map_err(StateError)?;
        Ok(entries)
    }
}
