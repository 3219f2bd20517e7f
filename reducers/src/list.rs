//! A list: values in an order that every replica agrees on.
//!
//! An element is named by the sha of the operation that brought it. Appended elements stand in the total order of their
//! operations. An inserted element hangs behind the one it was inserted after (or stands before all appended ones), and of
//! several behind one, the latest in the total order stands nearest: a tree that is read depth first.
//!
//! **Concurrent** appends and inserts all hold, one beside the other; a remove takes away its element whatever else is
//! done. **Late arrival**: a late append takes the place that its date gives it, not the end. An operation that names an
//! element which has not arrived waits in the state and takes effect with it. A removed element keeps its place as a
//! tombstone without a value, about 200 bytes until the log is dropped, since others may hang behind it.
//!
//! What a person types names positions, and is logged as elements. Posted as typed, a position is that in the list of all
//! operations ordered before; such a change does not commute, and a late operation before it folds the log again.

use std::collections::{BTreeMap, BTreeSet};

use gigfs_core::{Author, IntentError, Meta, OrderKey, PayloadError, Reducer, Sha, StateError};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::state::{self, Stamp};

/// The list: `{"append": v}`, `{"insert": [index, v]}`, `{"remove": index}`, `{"remove_value": v}`; the view is an array.
#[derive(Debug, Clone, Copy, Default)]
pub struct List;

/// A change of a [`List`]; the forms that name elements are what the others are logged as.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(
    untagged,
    deny_unknown_fields,
    expecting = "a change of a list is {\"append\": v}, {\"insert\": [index, v]}, {\"insert\": v, \"after\": sha or null}, \
                 {\"remove\": index or sha} or {\"remove_value\": v}"
)]
pub enum ListChange {
    /// `{"append": v}`: `v` stands behind everything appended so far.
    Append {
        /// The value.
        append: Value,
    },
    /// `{"insert": v, "after": sha}`: `v` stands behind that element, or first of all where it is null.
    InsertAfter {
        /// The value.
        insert: Value,
        /// The element that it stands behind.
        #[serde(deserialize_with = "Option::deserialize")]
        after: Option<Sha>,
    },
    /// `{"insert": [index, v]}`: `v` stands at that index; posted as typed, an index past the end is the end.
    InsertAt {
        /// The index and the value.
        insert: (u64, Value),
    },
    /// `{"remove": sha}`: that element is gone.
    Remove {
        /// The element.
        remove: Sha,
    },
    /// `{"remove": index}`: what stands at that index is gone.
    RemoveAt {
        /// The index.
        remove: u64,
    },
    /// `{"remove_value": v}`: the first element that equals `v` is gone.
    RemoveValue {
        /// The value.
        remove_value: Value,
    },
}

/// The state of a [`List`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ListState {
    elements: BTreeMap<Sha, Element>,
    /// Removes of elements that have not arrived.
    removed: BTreeSet<Sha>,
    /// The appended elements in order; it can be told from `elements`, like the next.
    appended: BTreeSet<OrderKey>,
    /// What was inserted after each element, and first of all.
    inserted: BTreeMap<Option<Sha>, BTreeSet<OrderKey>>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Element {
    at: Stamp,
    place: Place,
    /// Absent once removed.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "state::present")]
    value: Option<Value>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Place {
    Appended,
    After(Option<Sha>),
}

/// What is encoded of a [`ListState`]; the rest follows from it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Encoded {
    elements: Vec<Element>,
    removed: BTreeSet<Sha>,
}

impl ListState {
    fn add(&mut self, mut element: Element) {
        let key = element.at.0;
        match element.place {
            Place::Appended => self.appended.insert(key),
            Place::After(after) => self.inserted.entry(after).or_default().insert(key),
        };
        if self.removed.remove(&key.sha) {
            element.value = None;
        }
        self.elements.insert(key.sha, element);
    }

    fn remove(&mut self, sha: Sha) {
        match self.elements.get_mut(&sha) {
            Some(element) => element.value = None,
            None => {
                self.removed.insert(sha);
            }
        }
    }

    /// Returns the elements in the order of the list, removed ones left out.
    fn present(&self) -> impl Iterator<Item = (Sha, &Value)> {
        let mut stack: Vec<Sha> = self.appended.iter().rev().map(|key| key.sha).collect();
        // What stands behind an element that is not here, because that is late or its list was removed, stands first.
        let orphaned = |behind: &&Option<Sha>| behind.is_some_and(|sha| !self.elements.contains_key(&sha));
        self.inserted.keys().filter(orphaned).for_each(|behind| stack.extend(self.behind(*behind)));
        stack.extend(self.behind(None));
        let walk = std::iter::from_fn(move || {
            let sha = stack.pop()?;
            stack.extend(self.behind(Some(sha)));
            Some(sha)
        });
        walk.filter_map(|sha| Some((sha, self.elements.get(&sha)?.value.as_ref()?)))
    }

    /// Returns what hangs behind an element, the farthest first.
    fn behind(&self, element: Option<Sha>) -> impl Iterator<Item = Sha> {
        self.inserted.get(&element).into_iter().flatten().map(|key| key.sha)
    }

    /// Turns a change that names positions into one that names elements.
    fn resolve(&self, change: ListChange) -> Result<ListChange, String> {
        Ok(match change {
            ListChange::InsertAt { insert: (index, value) } => {
                ListChange::InsertAfter { insert: value, after: self.before(index)? }
            }
            ListChange::RemoveAt { remove } => ListChange::Remove { remove: self.element_at(remove)? },
            ListChange::RemoveValue { remove_value } => {
                let wanted = state::text_of(&remove_value);
                let found = self.present().find(|(_, value)| state::text_of(value) == wanted);
                let (sha, _) = found.ok_or_else(|| format!("the list has no element that equals {wanted}"))?;
                ListChange::Remove { remove: sha }
            }
            named => named,
        })
    }

    /// Returns the element that stands just before `index`.
    fn before(&self, index: u64) -> Result<Option<Sha>, String> {
        match index.checked_sub(1) {
            None => Ok(None),
            Some(index) => self.element_at(index).map(Some),
        }
    }

    fn element_at(&self, index: u64) -> Result<Sha, String> {
        let mut present = self.present();
        let found = usize::try_from(index).ok().and_then(|index| present.nth(index));
        found.map(|(sha, _)| sha).ok_or_else(|| {
            format!("the list has {} elements, and the change is about number {index}", self.present().count())
        })
    }
}

impl Reducer for List {
    type Intent = ListChange;
    type Payload = ListChange;
    type State = ListState;

    fn name(&self) -> &str {
        "list"
    }

    fn version(&self) -> u32 {
        1
    }

    fn initial(&self) -> ListState {
        ListState::default()
    }

    fn prepare(&self, state: &ListState, intent: ListChange, _: &Author) -> Result<ListChange, IntentError> {
        state.resolve(intent).map_err(IntentError)
    }

    fn apply(&self, state: &mut ListState, payload: ListChange, meta: &Meta) -> Result<(), PayloadError> {
        let change = match payload {
            ListChange::InsertAt { insert: (index, value) } => {
                let index = index.min(state.present().count() as u64);
                ListChange::InsertAt { insert: (index, value) }
            }
            other => other,
        };
        let element = |value, place| Element { at: meta.into(), place, value: Some(value) };
        match state.resolve(change).map_err(PayloadError)? {
            ListChange::Append { append } => state.add(element(append, Place::Appended)),
            ListChange::InsertAfter { insert, after } => state.add(element(insert, Place::After(after))),
            ListChange::Remove { remove } => state.remove(remove),
            typed => return Err(PayloadError(format!("the list could not find out what {typed:?} is about"))),
        }
        Ok(())
    }

    fn commutes(&self, payload: &ListChange) -> bool {
        matches!(payload, ListChange::Append { .. } | ListChange::InsertAfter { .. } | ListChange::Remove { .. })
    }

    fn view(&self, state: &ListState) -> Value {
        state.present().map(|(_, value)| value.clone()).collect()
    }

    fn encode_state(&self, state: &ListState) -> Vec<u8> {
        state::encode(&Encoded { elements: state.elements.values().cloned().collect(), removed: state.removed.clone() })
    }

    fn decode_state(&self, bytes: &[u8]) -> Result<ListState, StateError> {
        let Encoded { elements, removed } = state::decode("a list", bytes)?;
        let mut state = ListState::default();
        elements.into_iter().for_each(|element| state.add(element));
        state.removed = removed;
        match self.encode_state(&state) == bytes {
            true => Ok(state),
            false => Err(StateError("this is not the state of a list as it is encoded; it was changed".to_owned())),
        }
    }
}

#[cfg(test)]
mod tests;
