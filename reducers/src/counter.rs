//! A counter: whole numbers that are added up.
//!
//! **Concurrent** additions all count: addition commutes. **Late arrival** changes nothing but the sum, so no date is
//! kept. The sum is held in 128 bits and is exact: 2^64 additions of the largest number do not overflow it.

use gigfs_core::{Author, IntentError, Meta, PayloadError, Reducer, StateError};
use serde::{Deserialize, Serialize};
use serde_json::{Number, Value};

use crate::state;

/// The counter: `{"add": n}` for a whole number `n`, negative ones included, and the view is the sum.
///
/// A number is from -2^63 to 2^63 - 1. A sum that no 64-bit integer can hold is shown as the nearest float.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counter;

/// A change of a [`Counter`], as it is typed and as it is logged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CounterChange {
    /// `{"add": n}`: the sum grows by `n`.
    Add(Number),
}

/// The state of a [`Counter`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CounterState(i128);

impl Reducer for Counter {
    type Intent = CounterChange;
    type Payload = CounterChange;
    type State = CounterState;

    fn name(&self) -> &str {
        "counter"
    }

    fn version(&self) -> u32 {
        1
    }

    fn initial(&self) -> CounterState {
        CounterState::default()
    }

    fn prepare(&self, _: &CounterState, intent: CounterChange, _: &Author) -> Result<CounterChange, IntentError> {
        let CounterChange::Add(number) = intent;
        whole(&number).map(|number| CounterChange::Add(number.into())).map_err(IntentError)
    }

    fn apply(&self, state: &mut CounterState, payload: CounterChange, _: &Meta) -> Result<(), PayloadError> {
        let CounterChange::Add(number) = payload;
        let number = whole(&number).map_err(PayloadError)?;
        state.0 = state.0.wrapping_add(number.into());
        Ok(())
    }

    fn commutes(&self, _: &CounterChange) -> bool {
        true
    }

    fn view(&self, state: &CounterState) -> Value {
        Number::from_i128(state.0).or_else(|| Number::from_f64(state.0 as f64)).map_or(Value::Null, Value::Number)
    }

    fn encode_state(&self, state: &CounterState) -> Vec<u8> {
        state::encode(&state.0.to_string())
    }

    fn decode_state(&self, bytes: &[u8]) -> Result<CounterState, StateError> {
        let text: String = state::decode("a counter", bytes)?;
        match text.parse::<i128>() {
            Ok(sum) if sum.to_string() == text => Ok(CounterState(sum)),
            _ => Err(StateError(format!("this is not the state of a counter: {text:?} is not a whole number"))),
        }
    }
}

/// Returns the whole number that `number` is; `2.0` and `1e3` are whole too, since canonical JSON spells them so.
fn whole(number: &Number) -> Result<i64, String> {
    /// 2^63, up to which a float may stand for a 64-bit integer.
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    if let Some(number) = number.as_i64() {
        return Ok(number);
    }
    match number.as_f64() {
        Some(float) if number.is_f64() && float.fract() == 0.0 && (-LIMIT..LIMIT).contains(&float) => Ok(float as i64),
        _ => Err(format!("a counter adds whole numbers from -2^63 to 2^63 - 1, and {number} is not one")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::laws::{self, Fold};
    use proptest::prelude::*;
    use serde_json::json;

    fn intents() -> impl Strategy<Value = Value> {
        prop_oneof![any::<i64>(), -5..5_i64, Just(i64::MAX), Just(i64::MIN)].prop_map(|number| json!({"add": number}))
    }

    laws::hold!(
        Counter,
        intents(),
        [json!({"add": 1.5}), json!({"add": "1"}), json!({"add": u64::MAX}), json!({"add": 1e300}), json!(1)]
    );

    #[test]
    fn an_empty_counter_is_zero() {
        assert_eq!(Fold::new(Counter).view(), json!(0));
    }

    #[test]
    fn a_fraction_is_refused_with_a_sentence_that_names_it() {
        let error = Fold::new(Counter).try_write(1, json!({"add": 0.5})).unwrap_err();
        assert_eq!(error, "a counter adds whole numbers from -2^63 to 2^63 - 1, and 0.5 is not one");
    }

    #[test]
    fn a_sum_beyond_64_bits_comes_back_exactly() {
        let mut fold = Fold::new(Counter);
        fold.write(1, json!({"add": i64::MAX}));
        fold.write(2, json!({"add": i64::MAX}));
        assert_eq!(fold.view(), json!(u64::MAX - 1));
        fold.write(3, json!({"add": i64::MAX}));
        assert!(fold.view().is_f64());
        let mut fold = fold.reopened();
        fold.write(4, json!({"add": -i64::MAX}));
        fold.write(5, json!({"add": -i64::MAX}));
        assert_eq!(fold.view(), json!(i64::MAX));
    }
}
