use super::*;
use crate::oplog::tests::{history, write};
use crate::reducer::{PayloadError, StateError};
use proptest::prelude::*;
use serde_json::json;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Concatenates numbers: the order of replay is all that matters. Even numbers claim to commute if `lax`.
struct Concat {
    applied: AtomicUsize,
}

impl Concat {
    fn new() -> Arc<Self> {
        Arc::new(Self { applied: AtomicUsize::new(0) })
    }
}

impl Reducer for Concat {
    type Intent = u64;
    type Payload = u64;
    type State = Vec<u64>;

    fn name(&self) -> &str {
        "concat"
    }
    fn version(&self) -> u32 {
        1
    }
    fn initial(&self) -> Vec<u64> {
        Vec::new()
    }
    fn prepare(&self, _: &Vec<u64>, intent: u64, _: &Author) -> Result<u64, IntentError> {
        Ok(intent)
    }
    fn apply(&self, state: &mut Vec<u64>, payload: u64, _: &Meta) -> Result<(), PayloadError> {
        self.applied.fetch_add(1, Ordering::Relaxed);
        state.push(payload);
        Ok(())
    }
    fn view(&self, state: &Vec<u64>) -> Value {
        json!(state)
    }
    fn encode_state(&self, state: &Vec<u64>) -> Vec<u8> {
        json::canonical(&json!(state))
    }
    fn decode_state(&self, bytes: &[u8]) -> Result<Vec<u64>, StateError> {
        serde_json::from_slice(bytes).map_err(|error| StateError(error.to_string()))
    }
}

fn in_order(oplog: &Oplog) -> Value {
    let numbers = oplog.iter().map(|op| serde_json::from_slice(op.payload().bytes()).unwrap());
    Value::Array(numbers.collect())
}

proptest! {
    #[test]
    fn any_order_of_arrival_folds_to_the_order_of_replay(ops in history(), seed in any::<u64>(), reads in any::<u64>()) {
        let mut shuffled = ops.clone();
        let mut random = seed | 1;
        for at in (1..shuffled.len()).rev() {
            random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            shuffled.swap(at, (random >> 33) as usize % (at + 1));
        }
        let mut fold = ReducerFold::new(Concat::new());
        let mut oplog = Oplog::new();
        for (at, op) in shuffled.into_iter().enumerate() {
            oplog.insert(op.clone());
            fold.inserted(&oplog, &op);
            if reads >> (at % 64) & 1 == 1 {
                prop_assert_eq!(&*fold.view(&oplog), &in_order(&oplog));
            }
        }
        prop_assert_eq!(&*fold.view(&oplog), &in_order(&oplog));
    }
}

#[test]
fn an_operation_in_the_middle_folds_from_the_nearest_snapshot() {
    let reducer = Concat::new();
    let mut fold = ReducerFold::new(reducer.clone());
    let (mut oplog, mut other) = (Oplog::new(), Oplog::new());
    for at in 0..10_000 {
        let op = write(&mut oplog, 1, at * 10, &json!(at));
        fold.inserted(&oplog, &op);
    }
    assert_eq!(reducer.applied.swap(0, Ordering::Relaxed), 10_000);
    let late = write(&mut other, 2, 99_000, &json!(7));
    oplog.insert(late.clone());
    fold.inserted(&oplog, &late);
    assert_eq!(*fold.view(&oplog), in_order(&oplog));
    let again = reducer.applied.load(Ordering::Relaxed);
    assert!((100..400).contains(&again), "{again} operations were applied again for one 100 before the end");
    assert!(fold.snapshots.len() < 40, "{} snapshots are kept", fold.snapshots.len());
}

#[test]
fn a_payload_that_cannot_be_read_is_reported_and_stops_nothing() {
    let mut fold = ReducerFold::new(Concat::new());
    let mut oplog = Oplog::new();
    for payload in [json!(1), json!("not a number"), json!(2)] {
        let op = write(&mut oplog, 1, 10, &payload);
        fold.inserted(&oplog, &op);
    }
    assert_eq!(*fold.view(&oplog), json!([1, 2]));
    assert_eq!(fold.unreadable(&oplog).len(), 1);
}

#[test]
fn a_function_sees_the_whole_oplog_in_order_and_falsy_payloads_too() {
    let payloads = |ops: &[Logged]| Value::Array(ops.iter().map(|op| op.payload.clone()).collect());
    let mut fold = Function::new(payloads).fold();
    let mut oplog = Oplog::new();
    assert_eq!(*fold.view(&oplog), json!([]));
    for payload in [json!(0), json!(""), json!(false), json!(null)] {
        let op = write(&mut oplog, 1, 10, &payload);
        fold.inserted(&oplog, &op);
    }
    assert_eq!(*fold.view(&oplog), json!([0, "", false, null]));
}

/// Has a version.
struct Versioned(u32);

impl Reducer for Versioned {
    type Intent = u64;
    type Payload = u64;
    type State = u64;

    fn name(&self) -> &str {
        "sum"
    }
    fn version(&self) -> u32 {
        self.0
    }
    fn initial(&self) -> u64 {
        0
    }
    fn prepare(&self, _: &u64, intent: u64, _: &Author) -> Result<u64, IntentError> {
        Ok(intent)
    }
    fn apply(&self, state: &mut u64, payload: u64, _: &Meta) -> Result<(), PayloadError> {
        *state += payload;
        Ok(())
    }
    fn view(&self, state: &u64) -> Value {
        json!(state)
    }
    fn encode_state(&self, state: &u64) -> Vec<u8> {
        state.to_string().into_bytes()
    }
    fn decode_state(&self, bytes: &[u8]) -> Result<u64, StateError> {
        serde_json::from_slice(bytes).map_err(|error| StateError(error.to_string()))
    }
}

#[test]
fn an_older_reducer_neither_reads_nor_makes_a_state_on_top_of_a_newer_ones() {
    let base = Checkpoint {
        generation: crate::id::Seq::FIRST,
        parent: None,
        covers: crate::covers::Covers::default(),
        absent: Vec::new(),
        digest: crate::id::Digest::default(),
        reducer: TypeName::parse("sum").unwrap(),
        version: 2,
        state: Payload::Plain(b"5".as_slice().into()),
        date: crate::date::Date::EPOCH,
        author: crate::id::ActorId::from_bytes([1; 16]),
    };
    let fold = |version| {
        let mut fold = Reduced::new(Versioned(version)).fold();
        fold.rebase(Some(&base));
        fold
    };
    assert!(fold(1).trouble().is_some());
    assert!(fold(1).state(&Oplog::new()).is_err());
    assert_eq!(fold(2).trouble(), None);
    assert_eq!(fold(2).state(&Oplog::new()).unwrap().state, b"5");
    assert_eq!(fold(2).state(&Oplog::new()).unwrap().version, 2);
}
