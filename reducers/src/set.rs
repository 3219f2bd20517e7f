//! A set of JSON values in which an add wins over a concurrent remove.
//!
//! **Concurrent** add and remove of one element: the element stays, because a remove takes away only the adds that its
//! author had observed. **Late arrival** changes nothing: a remove that arrives before an add that it observed still
//! takes it away when it comes.
//!
//! For each element and actor the state keeps the actor's last add and the last of its adds that some remove had
//! observed. An actor has observed its own earlier adds, so its last stands for all of them; an element that is added ten
//! thousand times stays one entry for each actor that ever added it.

use std::collections::BTreeMap;

use gigfs_core::{ActorId, Author, IntentError, Meta, PayloadError, Reducer, StateError};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::state::{self, Stamp};

/// The set: `{"add": x}` and `{"remove": x}` for any JSON value `x`; the view is an array, ordered by canonical text.
///
/// A remove is logged with the adds that its author had observed. One that is logged as it was typed, without `seen`,
/// takes away every add that stands before it in the total order.
#[derive(Debug, Clone, Copy, Default)]
pub struct Set;

/// A change of a [`Set`], as it is typed and as it is logged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "a change of a set is {\"add\": x} or {\"remove\": x}")]
pub enum SetChange {
    /// `{"add": x}`: `x` is in the set.
    Add(SetAdd),
    /// `{"remove": x}`: `x` is not in the set, as far as the author can see.
    Remove(SetRemove),
}

/// The members of an add.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetAdd {
    /// The element.
    pub add: Value,
}

/// The members of a remove.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetRemove {
    /// The element.
    pub remove: Value,
    /// The last add of each actor that the author had observed; filled in when the intent is prepared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<Vec<Stamp>>,
}

/// The state of a [`Set`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SetState(BTreeMap<String, Element>);

/// All that was said about one element; each part only ever grows in the total order, so that any order of arrival
/// gives the same.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Element {
    /// Each actor's last add.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    added: BTreeMap<ActorId, Stamp>,
    /// The last of each actor's adds that a remove had observed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    removed: BTreeMap<ActorId, Stamp>,
    /// The last remove that did not say what it had observed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cleared: Option<Stamp>,
}

impl Element {
    /// Returns the adds that no remove has taken away.
    fn live(&self) -> impl Iterator<Item = Stamp> {
        self.added.iter().map(|(actor, stamp)| (self.removed.get(actor), *stamp)).filter_map(|(removed, stamp)| {
            let stands = removed.is_none_or(|removed| *removed < stamp);
            (stands && self.cleared.is_none_or(|cleared| cleared < stamp)).then_some(stamp)
        })
    }

    fn raise(stamps: &mut BTreeMap<ActorId, Stamp>, stamp: Stamp) {
        let last = stamps.entry(stamp.0.actor).or_insert(stamp);
        *last = stamp.max(*last);
    }

    /// Forgets what a remove of everything before it has made meaningless.
    fn forget_cleared(&mut self) {
        if let Some(cleared) = self.cleared {
            self.added.retain(|_, stamp| cleared < *stamp);
            self.removed.retain(|_, stamp| cleared < *stamp);
        }
    }
}

impl Reducer for Set {
    type Intent = SetChange;
    type Payload = SetChange;
    type State = SetState;

    fn name(&self) -> &str {
        "set"
    }

    fn version(&self) -> u32 {
        1
    }

    fn initial(&self) -> SetState {
        SetState::default()
    }

    fn prepare(&self, state: &SetState, intent: SetChange, _: &Author) -> Result<SetChange, IntentError> {
        Ok(match intent {
            SetChange::Remove(SetRemove { remove, seen: None }) => {
                let element = state.0.get(&state::text_of(&remove));
                let seen = element.map(|element| element.live().collect()).unwrap_or_default();
                SetChange::Remove(SetRemove { remove, seen: Some(seen) })
            }
            as_it_is => as_it_is,
        })
    }

    fn apply(&self, state: &mut SetState, payload: SetChange, meta: &Meta) -> Result<(), PayloadError> {
        match payload {
            SetChange::Add(SetAdd { add }) => {
                let element = state.0.entry(state::text_of(&add)).or_default();
                Element::raise(&mut element.added, meta.into());
                element.forget_cleared();
            }
            SetChange::Remove(SetRemove { seen: Some(seen), .. }) if seen.is_empty() => {}
            SetChange::Remove(SetRemove { remove, seen: Some(seen) }) => {
                let element = state.0.entry(state::text_of(&remove)).or_default();
                seen.into_iter().for_each(|stamp| Element::raise(&mut element.removed, stamp));
                element.forget_cleared();
            }
            SetChange::Remove(SetRemove { remove, seen: None }) => {
                let element = state.0.entry(state::text_of(&remove)).or_default();
                element.cleared = element.cleared.max(Some(meta.into()));
                element.forget_cleared();
            }
        }
        Ok(())
    }

    fn commutes(&self, _: &SetChange) -> bool {
        true
    }

    fn view(&self, state: &SetState) -> Value {
        let present = state.0.iter().filter(|(_, element)| element.live().next().is_some());
        present.filter_map(|(text, _)| serde_json::from_str::<Value>(text).ok()).collect()
    }

    fn encode_state(&self, state: &SetState) -> Vec<u8> {
        state::encode(state)
    }

    fn decode_state(&self, bytes: &[u8]) -> Result<SetState, StateError> {
        let state: SetState = state::decode("a set", bytes)?;
        for (text, element) in &state.0 {
            let canonical = serde_json::from_str(text).is_ok_and(|value: Value| state::text_of(&value) == *text);
            let mut stamps = element.added.iter().chain(&element.removed);
            if !canonical || stamps.any(|(actor, stamp)| *actor != stamp.0.actor) {
                return Err(StateError(format!("this is not the state of a set: its element {text} is malformed")));
            }
        }
        Ok(state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::laws::{self, Fold, Step, any_value};
    use proptest::prelude::*;
    use serde_json::json;

    fn intents() -> impl Strategy<Value = Value> {
        let element = || prop_oneof![3 => (0..3).prop_map(Value::from), 1 => any_value()];
        prop_oneof![
            3 => element().prop_map(|element| json!({"add": element})),
            2 => element().prop_map(|element| json!({"remove": element})),
        ]
    }

    laws::hold!(
        Set,
        intents(),
        [json!({"add": 1, "remove": 1}), json!({"remove": 1, "seen": ["x"]}), json!({}), json!({"add": 1, "seen": []})]
    );

    #[test]
    fn an_add_wins_over_a_concurrent_remove_whatever_their_dates() {
        for dates in [(10, 20), (20, 10)] {
            let (mut here, mut there) = (Fold::by(1, Set), Fold::by(2, Set));
            let first = here.write(1, json!({"add": "x"}));
            there.hear(&first);
            let add = here.write(dates.0, json!({"add": "x"}));
            let remove = there.write(dates.1, json!({"remove": "x"}));
            assert_eq!(there.view(), json!([]));
            here.hear(&remove);
            there.hear(&add);
            assert_eq!((here.view(), there.view()), (json!(["x"]), json!(["x"])));
        }
    }

    #[test]
    fn a_remove_that_arrives_before_the_add_that_it_observed_still_removes_it() {
        let mut author = Fold::new(Set);
        let add = author.write(1, json!({"add": {"a": 1}}));
        let remove = author.write(2, json!({"remove": {"a": 1}}));
        let mut late = Fold::new(Set);
        late.hear(&remove);
        let mut late = late.reopened();
        late.hear(&add);
        assert_eq!(late.view(), json!([]));
        assert_eq!(late.encoded(), author.encoded());
    }

    #[test]
    fn a_remove_as_it_is_typed_takes_away_every_add_before_it() {
        let mut fold = Fold::new(Set);
        fold.write(10, json!({"add": "x"}));
        fold.post(20, json!({"remove": "x"}));
        assert_eq!(fold.view(), json!([]));
        fold.write(15, json!({"add": "x"}));
        assert_eq!(fold.view(), json!([]));
        fold.write(30, json!({"add": "x"}));
        assert_eq!(fold.view(), json!(["x"]));
    }

    #[test]
    fn one_element_added_ten_thousand_times_stays_small() {
        let mut fold = Fold::new(Set);
        for date in 1..=10_000 {
            fold.write(date, json!({"add": "x"}));
        }
        assert!(fold.encoded().len() < 300, "{} bytes", fold.encoded().len());
    }

    proptest! {
        #[test]
        fn typed_removes_commute_with_everything(steps in laws::script(intents()), priorities in laws::priorities()) {
            let raw = |step: &Step| step.posted();
            laws::arrival_order_does_not_matter(&Set, &steps.iter().map(raw).collect::<Vec<_>>(), &priorities)?;
        }
    }
}
