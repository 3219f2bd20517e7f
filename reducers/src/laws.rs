//! The laws that every reducer here keeps, as property tests; a reducer gives only its intents.
//!
//! A script is played on three replicas that hear of each other now and then, so that its operations are causal,
//! concurrent and late in every mixture.

use gigfs_core::{ActorId, Author, Date, Meta, OrderKey, Reducer, Seq, Sha, json};
use proptest::collection::vec;
use proptest::prelude::*;
use serde::de::DeserializeOwned;
use serde_json::Value;

type Outcome = Result<(), TestCaseError>;

/// Writes the property tests of a reducer: its intents as typed, and payloads that it must refuse.
macro_rules! hold {
    ($reducer:expr, $intents:expr, $refused:expr) => {
        proptest! {
            #![proptest_config(ProptestConfig::with_cases(96))]

            #[test]
            fn every_order_of_arrival_gives_the_same_state(
                steps in laws::script($intents), priorities in laws::priorities()
            ) {
                laws::arrival_order_does_not_matter(&$reducer, &steps, &priorities)?;
            }

            #[test]
            fn a_late_operation_changes_what_it_would_have_changed_in_its_place(
                steps in laws::script($intents), late in any::<prop::sample::Index>()
            ) {
                laws::one_late_operation_does_not_matter(&$reducer, &steps, late)?;
            }

            #[test]
            fn a_decoded_state_goes_on_as_the_one_that_was_encoded(
                steps in laws::script($intents), priorities in laws::priorities(), cut in any::<prop::sample::Index>()
            ) {
                laws::decoding_is_invisible(&$reducer, &steps, &priorities, cut)?;
            }

            #[test]
            fn an_unreadable_payload_leaves_the_state_as_it_was(
                steps in laws::script($intents), refused in prop::sample::select($refused.to_vec())
            ) {
                laws::refusal_changes_nothing(&$reducer, &steps, &refused)?;
            }

            #[test]
            fn a_damaged_state_is_refused_or_read_and_never_panics(
                steps in laws::script($intents), damage in any::<(prop::sample::Index, u8, bool)>()
            ) {
                laws::damage_never_panics(&$reducer, &steps, damage)?;
            }
        }
    };
}
pub(crate) use hold;

/// One step of a script: a replica hears of some others, then writes.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    replica: usize,
    hears: [bool; REPLICAS],
    wall: u64,
    intent: Value,
    prepared: bool,
}

impl Step {
    /// Returns the step with its intent logged as it was typed.
    pub(crate) fn posted(&self) -> Self {
        Self { prepared: false, ..self.clone() }
    }
}

const REPLICAS: usize = 3;

pub(crate) fn script(intents: impl Strategy<Value = Value>) -> impl Strategy<Value = Vec<Step>> {
    let step = (0..REPLICAS, any::<[bool; REPLICAS]>(), 0..40_u64, intents);
    let step = step.prop_map(|(replica, hears, wall, intent)| Step { replica, hears, wall, intent, prepared: true });
    vec(step, 0..24)
}

/// Returns numbers to sort operations by, for an order of arrival.
pub(crate) fn priorities() -> impl Strategy<Value = Vec<u16>> {
    vec(any::<u16>(), 24)
}

pub(crate) fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-2..3_i64).prop_map(Value::from),
        (-1.5..1.5).prop_map(Value::from),
        any::<char>().prop_map(|char| Value::from(char.to_string())),
        Just(Value::from("")),
    ];
    leaf.prop_recursive(2, 6, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("[ab]", inner, 0..3)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

pub(crate) fn arrival_order_does_not_matter<R: Reducer + Clone>(
    reducer: &R,
    steps: &[Step],
    priorities: &[u16],
) -> Outcome {
    let ops = history(reducer, steps);
    let expected = Fold::of(reducer, &in_order(&ops));
    let arrived = Fold::of(reducer, &by_priority(&ops, priorities));
    prop_assert_eq!(arrived.view(), expected.view());
    prop_assert_eq!(arrived.encoded(), expected.encoded());
    Ok(())
}

pub(crate) fn one_late_operation_does_not_matter<R: Reducer + Clone>(
    reducer: &R,
    steps: &[Step],
    late: prop::sample::Index,
) -> Outcome {
    let mut ops = in_order(&history(reducer, steps));
    let expected = Fold::of(reducer, &ops);
    if !ops.is_empty() {
        let last = ops.remove(late.index(ops.len()));
        ops.push(last);
    }
    let arrived = Fold::of(reducer, &ops);
    prop_assert_eq!(arrived.view(), expected.view());
    prop_assert_eq!(arrived.encoded(), expected.encoded());
    Ok(())
}

pub(crate) fn decoding_is_invisible<R: Reducer + Clone>(
    reducer: &R,
    steps: &[Step],
    priorities: &[u16],
    cut: prop::sample::Index,
) -> Outcome {
    let all = history(reducer, steps);
    let commuting = all.iter().all(|op| commutes(reducer, &op.payload));
    let ops = if commuting { by_priority(&all, priorities) } else { in_order(&all) };
    let (before, after) = ops.split_at(cut.index(ops.len() + 1));
    let mut kept = Fold::of(reducer, before);
    let mut decoded = kept.reopened();
    prop_assert_eq!(decoded.encoded(), kept.encoded());
    let mut cloned = Fold { state: kept.state.clone(), ..Fold::of(reducer, before) };
    for op in after {
        kept.hear(op);
        decoded.hear(op);
        cloned.hear(op);
    }
    prop_assert_eq!(decoded.view(), kept.view());
    prop_assert_eq!(decoded.encoded(), kept.encoded());
    prop_assert_eq!(cloned.encoded(), kept.encoded());
    Ok(())
}

pub(crate) fn refusal_changes_nothing<R: Reducer + Clone>(reducer: &R, steps: &[Step], refused: &Value) -> Outcome {
    let mut fold = Fold::of(reducer, &in_order(&history(reducer, steps)));
    let before = (fold.view(), fold.encoded());
    let op = fold.next_op(1_000, refused.clone());
    prop_assert!(fold.apply(&op).is_err(), "{} was accepted", refused);
    prop_assert_eq!((fold.view(), fold.encoded()), before);
    Ok(())
}

pub(crate) fn damage_never_panics<R: Reducer + Clone>(
    reducer: &R,
    steps: &[Step],
    (at, byte, cut): (prop::sample::Index, u8, bool),
) -> Outcome {
    let mut bytes = Fold::of(reducer, &in_order(&history(reducer, steps))).encoded();
    let at = at.index(bytes.len());
    match cut {
        true => bytes.truncate(at),
        false => bytes[at] = byte,
    }
    if let Ok(state) = reducer.decode_state(&bytes) {
        reducer.view(&state);
        reducer.encode_state(&state);
    }
    Ok(())
}

/// An operation, its payload as JSON.
#[derive(Debug, Clone)]
pub(crate) struct Op {
    pub(crate) meta: Meta,
    pub(crate) payload: Value,
}

/// One replica of a log: what it holds in order, and the state.
pub(crate) struct Fold<R: Reducer> {
    reducer: R,
    actor: ActorId,
    log: Vec<Op>,
    pub(crate) state: R::State,
}

impl<R: Reducer + Clone> Fold<R> {
    pub(crate) fn new(reducer: R) -> Self {
        Self::by(1, reducer)
    }

    /// Returns an empty log whose writer is the actor of this number.
    pub(crate) fn by(actor: u8, reducer: R) -> Self {
        let state = reducer.initial();
        Self { reducer, actor: ActorId::from_bytes([actor; 16]), log: Vec::new(), state }
    }

    fn of(reducer: &R, ops: &[Op]) -> Self {
        let mut fold = Self::new(reducer.clone());
        ops.iter().for_each(|op| fold.hear(op));
        fold
    }

    /// Returns the same log with a state that was encoded and decoded.
    pub(crate) fn reopened(&self) -> Self {
        let state = self.reducer.decode_state(&self.encoded()).unwrap();
        Self { reducer: self.reducer.clone(), actor: self.actor, log: self.log.clone(), state }
    }

    /// Prepares an intent, logs it and applies it.
    pub(crate) fn try_write(&mut self, date: u64, intent: Value) -> Result<Op, String> {
        let author = Author { actor: self.actor, seq: self.next_seq(), date: Date::saturating(date) };
        let intent: R::Intent = parse(&intent)?;
        let payload = self.reducer.prepare(&self.state, intent, &author).map_err(|error| error.to_string())?;
        Ok(self.post(date, serde_json::to_value(payload).unwrap()))
    }

    pub(crate) fn write(&mut self, date: u64, intent: Value) -> Op {
        self.try_write(date, intent).unwrap()
    }

    /// Logs a payload without preparing it, and applies it.
    pub(crate) fn post(&mut self, date: u64, payload: Value) -> Op {
        let op = self.next_op(date, payload);
        self.hear(&op);
        op
    }

    /// Receives an operation: applies it on top where that is allowed, and folds the log again where it is not.
    pub(crate) fn hear(&mut self, op: &Op) {
        let at = self.log.partition_point(|held| held.meta.key() < op.meta.key());
        self.log.insert(at, op.clone());
        let on_top = at + 1 == self.log.len() || self.log[at..].iter().all(|op| commutes(&self.reducer, &op.payload));
        if on_top {
            let _refused = self.apply(op);
        } else {
            self.state = self.reducer.initial();
            for op in self.log.clone() {
                let _refused = self.apply(&op);
            }
        }
    }

    pub(crate) fn apply(&mut self, op: &Op) -> Result<(), String> {
        let payload: R::Payload = parse(&op.payload)?;
        self.reducer.apply(&mut self.state, payload, &op.meta).map_err(|error| error.to_string())
    }

    pub(crate) fn view(&self) -> Value {
        self.reducer.view(&self.state)
    }

    pub(crate) fn encoded(&self) -> Vec<u8> {
        self.reducer.encode_state(&self.state)
    }

    fn next_seq(&self) -> Seq {
        let own = self.log.iter().map(|op| op.meta).filter(|meta| meta.actor == self.actor);
        own.map(|meta| meta.seq).max().map_or(Seq::FIRST, Seq::next)
    }

    fn next_op(&self, date: u64, payload: Value) -> Op {
        let (actor, seq, date) = (self.actor, self.next_seq(), Date::saturating(date));
        let sha = Sha::of(format!("{actor} {seq} {date} {payload}").as_bytes());
        Op { meta: Meta { sha, actor, seq, date }, payload }
    }
}

/// Plays a script and returns its operations; an intent that cannot be prepared is passed over.
pub(crate) fn history<R: Reducer + Clone>(reducer: &R, steps: &[Step]) -> Vec<Op> {
    let mut replicas: Vec<_> = (0..REPLICAS).map(|at| Fold::by(10 + at as u8, reducer.clone())).collect();
    let mut ops = Vec::new();
    for step in steps {
        for other in (0..REPLICAS).filter(|other| *other != step.replica && step.hears[*other]) {
            let known: Vec<OrderKey> = replicas[step.replica].log.iter().map(|op| op.meta.key()).collect();
            let news: Vec<Op> =
                replicas[other].log.iter().filter(|op| !known.contains(&op.meta.key())).cloned().collect();
            news.iter().for_each(|op| replicas[step.replica].hear(op));
        }
        let writer = &mut replicas[step.replica];
        let seen = writer.log.last().map(|op| op.meta.date);
        let date = Date::after(Date::saturating(step.wall), seen).micros();
        let intent = step.intent.clone();
        match step.prepared {
            true => ops.extend(writer.try_write(date, intent)),
            false => ops.push(writer.post(date, intent)),
        }
    }
    ops
}

fn in_order(ops: &[Op]) -> Vec<Op> {
    let mut ops = ops.to_vec();
    ops.sort_by_key(|op| op.meta.key());
    ops
}

fn by_priority(ops: &[Op], priorities: &[u16]) -> Vec<Op> {
    let mut ranked: Vec<_> = ops.iter().zip(priorities.iter().cycle()).collect();
    ranked.sort_by_key(|(_, priority)| **priority);
    ranked.into_iter().map(|(op, _)| op.clone()).collect()
}

fn commutes<R: Reducer>(reducer: &R, payload: &Value) -> bool {
    parse(payload).is_ok_and(|payload: R::Payload| reducer.commutes(&payload))
}

/// Reads a value as it comes from the log: through its canonical text.
fn parse<T: DeserializeOwned>(value: &Value) -> Result<T, String> {
    serde_json::from_slice(&json::canonical(value)).map_err(|error| error.to_string())
}
