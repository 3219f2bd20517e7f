//! The payloads and states of texts, whose edits are bytes that another library reads.
//!
//! An input is steps: a kind, a length, and so many bytes. Each does something to one text.
//!
//! Where an edit stands that was forged between neighbours that never stood side by side, is not promised, so what texts
//! show is compared only while all edits are honest.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use gigfs_core::{ActorId, Author, Date, Meta, Reducer as _, Seq, Sha};
use gigfs_reducers::{Splice, Text, TextChange, TextIntent, TextState};
use serde_json::json;

/// Steps of one input.
const STEPS_MAX: usize = 32;

pub(crate) fn law(bytes: &[u8]) {
    let (mut state, mut honest) = (Text.initial(), true);
    let mut rest = bytes;
    for at in 0..STEPS_MAX {
        let Some(([kind, length], behind)) = rest.split_first_chunk::<2>() else { break };
        // A kind of 8 or more has 16 times the length.
        let length = usize::from(*length) << if kind & 8 == 0 { 0 } else { 4 };
        let (content, behind) = behind.split_at(length.min(behind.len()));
        rest = behind;
        honest &= matches!(kind % 8, 2 | 3 | 7);
        step(&mut state, at, *kind, content);
        is_reopened(&state, honest);
    }
}

fn step(state: &mut TextState, at: usize, kind: u8, content: &[u8]) {
    match kind % 8 {
        0 | 1 => apply(state, TextChange::Yrs(content.to_vec()), &meta(at, writer(content))),
        2 => apply(state, TextChange::Splice(splice(content)), &meta(at, [3; 3])),
        3 => intent(state, at, TextIntent::Splices(content.chunks(8).map(splice).collect())),
        4 => opened(state, content),
        5 => opened(state, &[&[1], &(content.len() as u64).to_be_bytes()[..], content].concat()),
        6 => {
            if let Ok(payload) = serde_json::from_slice::<TextChange>(content) {
                apply(state, payload, &meta(at, [4; 3]));
            }
        }
        _ => {
            let text = json!({ "yrs": BASE64_STANDARD.encode(content) });
            let payload: TextChange = serde_json::from_value(text.clone()).expect("it is an edit in base64");
            assert_eq!(serde_json::to_value(&payload).ok(), Some(text));
        }
    }
}

fn apply(state: &mut TextState, payload: TextChange, meta: &Meta) {
    let before = Text.encode_state(state);
    _ = Text.commutes(&payload);
    if Text.apply(state, payload, meta).is_err() {
        assert_eq!(Text.encode_state(state), before, "an edit that means nothing changes nothing");
    }
}

fn intent(state: &mut TextState, at: usize, intent: TextIntent) {
    let meta = meta(at, [5; 3]);
    let author = Author { actor: meta.actor, seq: meta.seq, date: meta.date };
    if let Ok(payload) = Text.prepare(state, intent, &author) {
        Text.apply(state, payload, &meta).expect("what was prepared can be applied");
    }
}

fn opened(state: &mut TextState, bytes: &[u8]) {
    if let Ok(read) = Text.decode_state(bytes) {
        assert_eq!(Text.encode_state(&read), bytes, "a state has one encoding");
        *state = read;
    }
}

/// A state that is opened again, or copied, is the same.
fn is_reopened(state: &TextState, honest: bool) {
    let encoded = Text.encode_state(state);
    let opened = Text.decode_state(&encoded).expect("a state can be opened again");
    assert_eq!(Text.encode_state(&opened), encoded, "a state has one encoding");
    if honest {
        assert_eq!(Text.view(&opened), Text.view(state), "a state that is opened again shows the same");
    }
    assert_eq!(Text.encode_state(&state.clone()), encoded, "a copy is the same");
}

fn splice(content: &[u8]) -> Splice {
    let number = |at: usize| content.get(at).copied().unwrap_or_default().into();
    Splice(number(0), number(1), String::from_utf8_lossy(content.get(2..).unwrap_or_default()).into_owned())
}

/// The first bytes of the actor that may write an edit: its first insertions are that client's.
fn writer(edit: &[u8]) -> [u8; 3] {
    let mut bytes = edit.iter();
    let mut number = || {
        let mut number = 0_u64;
        for shift in (0..63).step_by(7) {
            let byte = *bytes.next()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        Some(number)
    };
    let client = number().and_then(|_| number()).and_then(|_| number()).unwrap_or_default();
    let [.., a, b, c] = (client >> 29).to_be_bytes();
    [a, b, c]
}

fn meta(at: usize, [a, b, c]: [u8; 3]) -> Meta {
    let mut actor = [9; 16];
    actor[..3].copy_from_slice(&[a, b, c]);
    let seq = at as u64 + 1;
    Meta {
        sha: Sha::of(&[at as u8]),
        actor: ActorId::from_bytes(actor),
        seq: Seq::new(seq).unwrap_or(Seq::FIRST),
        date: Date::saturating(1_700_000_000_000_000 + seq),
    }
}
