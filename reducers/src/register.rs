//! A register: one value, and the last writer wins.
//!
//! **Concurrent** sets are decided by the total order of operations (date, actor, seq, sha): the greatest wins everywhere.
//! **Late arrival**: the state keeps the place of the operation that set it, so an older one that arrives later loses.

use gigfs_core::{Author, IntentError, Meta, PayloadError, Reducer, StateError};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::state::{self, Stamp};

/// The register: `{"set": v}`, and the view is `v`, or null while nothing was set.
///
/// Every JSON value is a value, `null`, `false`, `0` and `""` included.
#[derive(Debug, Clone, Copy, Default)]
pub struct Register;

/// A change of a [`Register`], as it is typed and as it is logged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RegisterChange {
    /// `{"set": v}`: the value is `v` from now on.
    Set(Value),
}

/// The state of a [`Register`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RegisterState(Option<(Stamp, Value)>);

impl Reducer for Register {
    type Intent = RegisterChange;
    type Payload = RegisterChange;
    type State = RegisterState;

    fn name(&self) -> &str {
        "register"
    }

    fn version(&self) -> u32 {
        1
    }

    fn initial(&self) -> RegisterState {
        RegisterState::default()
    }

    fn prepare(&self, _: &RegisterState, intent: RegisterChange, _: &Author) -> Result<RegisterChange, IntentError> {
        Ok(intent)
    }

    fn apply(&self, state: &mut RegisterState, payload: RegisterChange, meta: &Meta) -> Result<(), PayloadError> {
        let RegisterChange::Set(value) = payload;
        let stamp = Stamp::from(meta);
        if state.0.as_ref().is_none_or(|(last, _)| *last < stamp) {
            state.0 = Some((stamp, value));
        }
        Ok(())
    }

    fn commutes(&self, _: &RegisterChange) -> bool {
        true
    }

    fn view(&self, state: &RegisterState) -> Value {
        state.0.as_ref().map_or(Value::Null, |(_, value)| value.clone())
    }

    fn encode_state(&self, state: &RegisterState) -> Vec<u8> {
        state::encode(state)
    }

    fn decode_state(&self, bytes: &[u8]) -> Result<RegisterState, StateError> {
        state::decode("a register", bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::laws::{self, Fold, any_value};
    use proptest::prelude::*;
    use serde_json::json;

    fn intents() -> impl Strategy<Value = Value> {
        any_value().prop_map(|value| json!({"set": value}))
    }

    laws::hold!(Register, intents(), [json!({"set": 1, "more": 2}), json!({"put": 1}), json!(3)]);

    #[test]
    fn falsy_values_are_values_like_any_other() {
        for value in [json!(null), json!(false), json!(0), json!(""), json!([]), json!({})] {
            let mut fold = Fold::new(Register);
            fold.write(1, json!({"set": "before"}));
            fold.write(2, json!({"set": value}));
            assert_eq!(fold.view(), value);
            assert_eq!(fold.reopened().view(), value);
        }
    }

    #[test]
    fn an_older_write_that_arrives_later_loses() {
        let mut fold = Fold::new(Register);
        fold.write(20, json!({"set": "new"}));
        fold.write(10, json!({"set": "old"}));
        assert_eq!(fold.view(), json!("new"));
    }
}
