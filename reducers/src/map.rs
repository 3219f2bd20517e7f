//! A map from names to values, where the last writer of each name wins.
//!
//! **Concurrent** changes of different names all hold. Of one name, the total order of operations decides (date, actor,
//! seq, sha), a set against a remove like a set against a set. **Late arrival**: each name keeps the place of the
//! operation that wrote it last, removed names too, so an older change that arrives later loses, and cannot bring a
//! removed name back. A removed name thus costs about 130 bytes until the log is dropped.

use std::collections::{BTreeMap, BTreeSet};

use gigfs_core::{Author, IntentError, Meta, PayloadError, Reducer, StateError};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::state::{self, Stamp};

/// The map: `{"set": {name: value, …}}` and `{"remove": [name, …]}`; the view is a JSON object. `null` is a value.
#[derive(Debug, Clone, Copy, Default)]
pub struct Map;

/// A change of a [`Map`], as it is typed and as it is logged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MapChange {
    /// `{"set": {name: value, …}}`: each name has this value from now on.
    Set(BTreeMap<String, Value>),
    /// `{"remove": [name, …]}`: the map has none of these names from now on.
    Remove(BTreeSet<String>),
}

/// The state of a [`Map`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct MapState(BTreeMap<String, Entry>);

/// What was last written to one name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    at: Stamp,
    /// Absent once removed.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "state::present")]
    value: Option<Value>,
}

impl MapState {
    fn write(&mut self, name: String, value: Option<Value>, at: Stamp) {
        if self.0.get(&name).is_none_or(|last| last.at < at) {
            self.0.insert(name, Entry { at, value });
        }
    }
}

impl Reducer for Map {
    type Intent = MapChange;
    type Payload = MapChange;
    type State = MapState;

    fn name(&self) -> &str {
        "map"
    }

    fn version(&self) -> u32 {
        1
    }

    fn initial(&self) -> MapState {
        MapState::default()
    }

    fn prepare(&self, _: &MapState, intent: MapChange, _: &Author) -> Result<MapChange, IntentError> {
        Ok(intent)
    }

    fn apply(&self, state: &mut MapState, payload: MapChange, meta: &Meta) -> Result<(), PayloadError> {
        let at = Stamp::from(meta);
        match payload {
            MapChange::Set(values) => {
                values.into_iter().for_each(|(name, value)| state.write(name, Some(value), at));
            }
            MapChange::Remove(names) => names.into_iter().for_each(|name| state.write(name, None, at)),
        }
        Ok(())
    }

    fn commutes(&self, _: &MapChange) -> bool {
        true
    }

    fn view(&self, state: &MapState) -> Value {
        let present = state.0.iter().filter_map(|(name, entry)| Some((name.clone(), entry.value.clone()?)));
        Value::Object(present.collect())
    }

    fn encode_state(&self, state: &MapState) -> Vec<u8> {
        state::encode(state)
    }

    fn decode_state(&self, bytes: &[u8]) -> Result<MapState, StateError> {
        state::decode("a map", bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::laws::{self, Fold, any_value};
    use proptest::prelude::*;
    use serde_json::json;

    fn intents() -> impl Strategy<Value = Value> {
        let name = || prop_oneof![Just("a".to_owned()), Just("b".to_owned()), Just("é\u{10000}".to_owned())];
        prop_oneof![
            2 => prop::collection::btree_map(name(), any_value(), 0..3).prop_map(|values| json!({"set": values})),
            1 => prop::collection::btree_set(name(), 0..3).prop_map(|names| json!({"remove": names})),
        ]
    }

    laws::hold!(Map, intents(), [json!({"set": [1]}), json!({"remove": "a"}), json!({"set": {}, "remove": []})]);

    #[test]
    fn null_is_a_value_and_not_a_removal() {
        let mut fold = Fold::new(Map);
        fold.write(1, json!({"set": {"a": null, "b": 0}}));
        assert_eq!(fold.reopened().view(), json!({"a": null, "b": 0}));
        fold.write(2, json!({"remove": ["a"]}));
        assert_eq!(fold.reopened().view(), json!({"b": 0}));
    }

    #[test]
    fn a_removed_name_is_not_brought_back_by_an_older_set_that_arrives_later() {
        let mut fold = Fold::new(Map);
        fold.write(20, json!({"remove": ["a"]}));
        fold.write(10, json!({"set": {"a": 1, "b": 2}}));
        assert_eq!(fold.view(), json!({"b": 2}));
        fold.write(30, json!({"set": {"a": 3}}));
        assert_eq!(fold.view(), json!({"a": 3, "b": 2}));
    }
}
