//! The payloads and states of the stock reducers that keep JSON; `text.rs` has the one that does not.
//!
//! The first byte chooses the reducer. Then come lines: a state, or nothing for that of an empty log; and payloads or
//! intents, in their order of arrival.

use std::fmt::Debug;

use gigfs_core::{ActorId, Author, Date, Meta, Reducer, Seq, Sha, json};
use gigfs_reducers::{Counter, List, Map, Register, Set};

use crate::choice;

pub(crate) fn law(bytes: &[u8]) {
    let (which, rest) = choice(bytes);
    match which % 5 {
        0 => reduces(&Counter, rest),
        1 => reduces(&Register, rest),
        2 => reduces(&Set, rest),
        3 => reduces(&Map, rest),
        _ => reduces(&List, rest),
    }
}

/// Changes of one input.
const CHANGES_MAX: usize = 24;

fn reduces<R: Reducer<State: Debug>>(reducer: &R, bytes: &[u8]) {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let state = lines.next().unwrap_or_default();
    let origin = match reducer.decode_state(state) {
        Ok(origin) => {
            assert_eq!(reducer.encode_state(&origin), state, "a state has one encoding");
            origin
        }
        Err(_) if state.is_empty() => reducer.initial(),
        Err(_) => return,
    };
    let on_top = !state.is_empty();
    _ = reducer.view(&origin);
    // Payloads are logged as canonical JSON, and a reducer meets no other.
    let canonical = |line| serde_json::from_slice(line).map_or_else(|_| Vec::new(), |value| json::canonical(&value));
    let lines: Vec<Vec<u8>> = lines.take(CHANGES_MAX).map(canonical).collect();
    let mut state = origin.clone();
    let mut applied = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let before = reducer.encode_state(&state);
        if let Ok(intent) = serde_json::from_slice::<R::Intent>(line)
            && let Ok(payload) = reducer.prepare(&state, intent, &author(at))
        {
            let logged = json::canonical(&serde_json::to_value(&payload).expect("a payload is JSON"));
            let logged = serde_json::from_slice(&logged).expect("a payload is read as it was logged");
            let mut after = state.clone();
            reducer.apply(&mut after, logged, &meta(on_top, at)).expect("what was prepared can be applied");
        }
        let Ok(payload) = serde_json::from_slice::<R::Payload>(line) else { continue };
        let commutes = reducer.commutes(&payload);
        match reducer.apply(&mut state, payload, &meta(on_top, at)) {
            Ok(()) => applied.push((at, commutes)),
            Err(_) => assert_eq!(reducer.encode_state(&state), before, "a payload that means nothing changes nothing"),
        }
        is_reopened(reducer, &state);
    }
    if applied.len() == lines.len() && applied.iter().all(|(_, commutes)| *commutes) {
        let mut reversed = origin;
        for (at, _) in applied.iter().rev() {
            let payload = serde_json::from_slice(&lines[*at]).expect("it was read before");
            _ = reducer.apply(&mut reversed, payload, &meta(on_top, *at));
        }
        assert_eq!(reducer.encode_state(&reversed), reducer.encode_state(&state), "what commutes commutes");
        assert_eq!(reducer.view(&reversed), reducer.view(&state), "what commutes commutes");
    }
}

/// A state that is opened again is the same.
fn is_reopened<R: Reducer>(reducer: &R, state: &R::State) {
    let encoded = reducer.encode_state(state);
    let opened = reducer.decode_state(&encoded).expect("a state can be opened again");
    assert_eq!(reducer.encode_state(&opened), encoded, "a state has one encoding");
    assert_eq!(reducer.view(&opened), reducer.view(state), "a state that is opened again shows the same");
}

/// Two writers, one of whose clocks runs ahead.
fn author(at: usize) -> Author {
    let (seq, of) = (at as u64 + 1, (at % 2) as u8);
    let date = Date::saturating(1_700_000_000_000_000 + seq + 10 * u64::from(of));
    Author { actor: ActorId::from_bytes([1 + of; 16]), seq: Seq::new(seq).unwrap_or(Seq::FIRST), date }
}

/// The operations of the golden vectors, or others: on top of a state come none that are in it.
fn meta(on_top: bool, at: usize) -> Meta {
    let Author { actor, seq, date } = author(at);
    let name = [at as u8, 1];
    Meta { sha: Sha::of(if on_top { &name } else { &name[..1] }), actor, seq, date }
}
