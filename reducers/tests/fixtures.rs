//! States and payloads of released versions stay readable, and mean what they meant.
//!
//! `testdata/v1/states.json` holds for each reducer some operations, the state that they fold to and its view.
#![allow(clippy::unwrap_used, reason = "a test")]

use base64::prelude::{BASE64_STANDARD, Engine as _};
use gigfs_core::{ActorId, Author, Date, Meta, Reducer, Seq, Sha};
use gigfs_reducers::{Counter, List, Map, Register, Set, Text};
use serde_json::{Value, json};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/v1/states.json");

/// Asserts what the fixture says of one reducer.
fn check<R: Reducer>(reducer: R) {
    let fixture: Value = serde_json::from_str(&std::fs::read_to_string(FILE).unwrap()).unwrap();
    let fixture = &fixture[reducer.name()];
    let payloads = fixture["payloads"].as_array().unwrap();
    let mut state = reducer.initial();
    for (at, payload) in payloads.iter().enumerate() {
        reducer.apply(&mut state, serde_json::from_value(payload.clone()).unwrap(), &meta(at)).unwrap();
    }
    let encoded = BASE64_STANDARD.decode(fixture["state"].as_str().unwrap()).unwrap();
    assert_eq!(reducer.view(&state), fixture["view"]);
    assert_eq!(reducer.encode_state(&state), encoded);
    let decoded = reducer.decode_state(&encoded).unwrap();
    assert_eq!(reducer.view(&decoded), fixture["view"]);
    for length in 0..encoded.len() {
        assert!(reducer.decode_state(&encoded[..length]).is_err(), "{length} bytes were read");
    }
    assert!(reducer.decode_state(&[&encoded[..], &[0]].concat()).is_err());
}

/// Two actors write by turns.
fn meta(at: usize) -> Meta {
    let actor = ActorId::from_bytes([1 + at as u8 % 2; 16]);
    let date = Date::saturating(1_700_000_000_000_000 + at as u64);
    Meta { sha: Sha::of(&[at as u8]), actor, seq: Seq::new(1 + at as u64 / 2).unwrap(), date }
}

/// Folds intents, each prepared on the state before, into an entry of the fixture.
fn entry<R: Reducer>(reducer: R, intents: Value) -> Value {
    let mut state = reducer.initial();
    let mut payloads = Vec::new();
    for (at, intent) in intents.as_array().unwrap().iter().enumerate() {
        let Meta { actor, seq, date, .. } = meta(at);
        let intent = serde_json::from_value(intent.clone()).unwrap();
        let payload = reducer.prepare(&state, intent, &Author { actor, seq, date }).unwrap();
        payloads.push(serde_json::to_value(&payload).unwrap());
        reducer.apply(&mut state, payload, &meta(at)).unwrap();
    }
    let encoded = BASE64_STANDARD.encode(reducer.encode_state(&state));
    json!({"payloads": payloads, "state": encoded, "view": reducer.view(&state)})
}

#[test]
#[ignore = "writes the fixture of a new format; that of a released one is never written again"]
fn write_the_fixture() {
    let fixture = json!({
        "register": entry(Register, json!([{"set": 1}, {"set": {"a": null}}])),
        "counter": entry(Counter, json!([{"add": 5}, {"add": -7}, {"add": i64::MIN}])),
        "map": entry(Map, json!([{"set": {"a": 1, "b": null}}, {"remove": ["a", "c"]}, {"set": {"é": [0]}}])),
        "set": entry(Set, json!([{"add": "x"}, {"add": [1, 2]}, {"add": "x"}, {"remove": "x"}, {"add": null}])),
        "list": entry(List, json!([
            {"append": "b"}, {"append": 0}, {"insert": [0, "a"]}, {"insert": [2, null]}, {"remove": 1}
        ])),
        "text": entry(Text, json!([
            {"splice": [0, 0, "hello"]}, {"splice": [5, 0, " wörld 😀"]}, {"splices": [[0, 1, "H"], [4, 2, ""]]}
        ])),
    });
    std::fs::create_dir_all(std::path::Path::new(FILE).parent().unwrap()).unwrap();
    std::fs::write(FILE, serde_json::to_string_pretty(&fixture).unwrap() + "\n").unwrap();
}

#[test]
fn the_registers_of_version_1_stay_readable() {
    check(Register);
}

#[test]
fn the_counters_of_version_1_stay_readable() {
    check(Counter);
}

#[test]
fn the_maps_of_version_1_stay_readable() {
    check(Map);
}

#[test]
fn the_sets_of_version_1_stay_readable() {
    check(Set);
}

#[test]
fn the_lists_of_version_1_stay_readable() {
    check(List);
}

#[test]
fn the_texts_of_version_1_stay_readable() {
    check(Text);
}
