//! Payloads and states: they open where they were sealed, and nowhere else.

use super::*;

fn sealed(draft: &Draft) -> Draft {
    let payload = keys().seal_payload(&blind(), draft).unwrap();
    Draft { payload, ..draft.clone() }
}

fn sealed_state(checkpoint: &Checkpoint) -> Checkpoint {
    let state = keys().seal_state(&blind(), checkpoint).unwrap();
    Checkpoint { state, ..checkpoint.clone() }
}

fn blind() -> BlindLog {
    keys().names().blind(&log())
}

fn elsewhere() -> [BlindLog; 4] {
    let other = |user, channel, kind, path| keys().names().blind(&LogName::parse(user, channel, kind, path).unwrap());
    [
        other("you", "home", "counter", "/house/visits"),
        other("me", "work", "counter", "/house/visits"),
        other("me", "home", "set", "/house/visits"),
        other("me", "home", "counter", "/house"),
    ]
}

fn damaged(payload: &Payload, at: usize, bit: u32) -> Payload {
    let Payload::Sealed { epoch, bytes } = payload else { panic!("a sealed payload") };
    let mut bytes = bytes.to_vec();
    bytes[at] ^= 1 << bit;
    Payload::Sealed { epoch: *epoch, bytes: bytes.into() }
}

#[test]
fn a_payload_opens_in_its_own_operation_only() {
    let plain = draft(Payload::plain(&json!({"add": 1})));
    let sealed = sealed(&plain);
    assert_eq!(keys().open_payload(&blind(), &sealed).unwrap(), plain.payload);
    for log in elsewhere() {
        assert!(matches!(keys().open_payload(&log, &sealed), Err(OpenError::Forged { epoch: 2, .. })));
    }
    let mut fewer = sealed.clone();
    fewer.deps.pop();
    let other_epoch = Payload::Sealed { epoch: 1, bytes: sealed.payload.bytes().clone() };
    for moved in [
        Draft { actor: ActorId::from_bytes([8; 16]), ..sealed.clone() },
        Draft { seq: Seq::new(6).unwrap(), ..sealed.clone() },
        Draft { date: Date::saturating(1_700_000_000_000_001), ..sealed.clone() },
        Draft { deps: vec![], ..sealed.clone() },
        Draft { payload: other_epoch, ..sealed.clone() },
        fewer,
    ] {
        assert!(matches!(keys().open_payload(&blind(), &moved), Err(OpenError::Forged { .. })), "{moved:?}");
    }
}

#[test]
fn a_state_opens_in_its_own_checkpoint_only_whoever_made_it() {
    let plain = checkpoint(Payload::Plain(vec![1, 2, 3].into()));
    let sealed = sealed_state(&plain);
    assert_eq!(keys().open_state(&blind(), &sealed).unwrap(), plain.state);
    for log in elsewhere() {
        assert!(matches!(keys().open_state(&log, &sealed), Err(OpenError::Forged { .. })));
    }
    let other_epoch = Payload::Sealed { epoch: 1, bytes: sealed.state.bytes().clone() };
    for moved in [
        Checkpoint { generation: Seq::new(3).unwrap(), ..sealed.clone() },
        Checkpoint { parent: None, ..sealed.clone() },
        Checkpoint { digest: Digest { count: 8, ..sealed.digest }, ..sealed.clone() },
        Checkpoint { digest: Digest { xor: [0x54; 32], ..sealed.digest }, ..sealed.clone() },
        Checkpoint { reducer: TypeName::parse("other").unwrap(), ..sealed.clone() },
        Checkpoint { version: 2, ..sealed.clone() },
        Checkpoint { state: other_epoch, ..sealed.clone() },
    ] {
        assert!(matches!(keys().open_state(&blind(), &moved), Err(OpenError::Forged { .. })), "{moved:?}");
    }
    let by_another = Checkpoint { author: ActorId::from_bytes([9; 16]), ..plain };
    assert_eq!(sealed_state(&by_another).state, sealed.state);
}

#[test]
fn a_payload_is_no_state_and_a_plain_one_is_no_payload() {
    let plain = draft(Payload::plain(&json!(1)));
    let as_state = checkpoint(sealed(&plain).payload);
    assert!(matches!(keys().open_state(&blind(), &as_state), Err(OpenError::Forged { .. })));
    assert_eq!(keys().open_payload(&blind(), &plain), Err(OpenError::NotSealed { what: "payload" }));
    let twice = keys().seal_payload(&blind(), &sealed(&plain));
    assert!(matches!(twice, Err(SealError::AlreadySealed { epoch: 2, .. })));
}

#[test]
fn each_epoch_opens_and_an_unknown_one_is_named() {
    let plain = draft(Payload::plain(&json!("old")));
    let first = ChannelKeys::new(secret(1), secret(2));
    let old = Draft { payload: first.seal_payload(&blind(), &plain).unwrap(), ..plain.clone() };
    assert_eq!(keys().open_payload(&blind(), &old).unwrap(), plain.payload);
    let error = first.open_payload(&blind(), &sealed(&plain)).unwrap_err();
    assert_eq!(error, OpenError::UnknownEpoch { what: "payload", epoch: 2, newest: 1 });
    let strange = ChannelKeys::new(secret(1), secret(9)).open_payload(&blind(), &old).unwrap_err();
    assert_eq!(strange, OpenError::Forged { what: "payload", epoch: 1 });
}

#[test]
fn what_a_holder_of_the_key_seals_is_canonical_json_all_the_same() {
    let spaced = draft(Payload::Plain(b" 1".as_slice().into()));
    assert!(matches!(keys().open_payload(&blind(), &sealed(&spaced)), Err(OpenError::Content(_))));
}

#[test]
fn the_greatest_payload_and_state_that_can_be_sealed_fit_their_limits() {
    use crate::limits::{CHECKPOINT_SEALED_CONTENT_BYTES_MAX, OP_SEALED_CONTENT_BYTES_MAX};
    let text = |bytes: usize| Payload::plain(&json!("x".repeat(bytes - 2)));
    let largest = sealed(&draft(text(OP_SEALED_CONTENT_BYTES_MAX)));
    largest.finish(blind().as_log()).unwrap();
    let larger = keys().seal_payload(&blind(), &draft(text(OP_SEALED_CONTENT_BYTES_MAX + 1)));
    assert!(matches!(larger, Err(SealError::TooLarge { .. })));
    let state = |bytes: usize| checkpoint(Payload::Plain(vec![0; bytes].into()));
    sealed_state(&state(CHECKPOINT_SEALED_CONTENT_BYTES_MAX)).check().unwrap();
    let larger = keys().seal_state(&blind(), &state(CHECKPOINT_SEALED_CONTENT_BYTES_MAX + 1));
    assert!(matches!(larger, Err(SealError::TooLarge { .. })));
}

/// Counts the bits in which two texts of one length differ.
fn distance(a: &[u8], b: &[u8]) -> u32 {
    a.iter().zip(b).map(|(a, b)| (a ^ b).count_ones()).sum()
}

proptest! {
    #[test]
    fn sealing_round_trips_into_the_documented_sizes(text in ".{0,600}", state in prop::collection::vec(any::<u8>(), 0..600)) {
        let plain = draft(Payload::plain(&json!(text)));
        let sealed = sealed(&plain);
        prop_assert_eq!(sealed.payload.bytes().len(), padded(plain.payload.bytes().len()) + 16);
        prop_assert_eq!(keys().open_payload(&blind(), &sealed).unwrap(), plain.payload);
        let plain = checkpoint(Payload::Plain(state.into()));
        let sealed = sealed_state(&plain);
        prop_assert_eq!(sealed.state.bytes().len(), padded(plain.state.bytes().len()) + 16);
        prop_assert_eq!(keys().open_state(&blind(), &sealed).unwrap(), plain.state);
    }

    #[test]
    fn any_flipped_bit_truncation_or_addition_is_seen(text in ".{0,100}", at in any::<prop::sample::Index>(), bit in 0..8u32) {
        let draft = sealed(&draft(Payload::plain(&json!(text))));
        let checkpoint = sealed_state(&checkpoint(Payload::plain(&json!(text))));
        let at = at.index(draft.payload.bytes().len());
        let flipped = Draft { payload: damaged(&draft.payload, at, bit), ..draft.clone() };
        prop_assert!(keys().open_payload(&blind(), &flipped).is_err());
        let flipped = Checkpoint { state: damaged(&checkpoint.state, at, bit), ..checkpoint };
        prop_assert!(keys().open_state(&blind(), &flipped).is_err());
        let cut = Payload::Sealed { epoch: 2, bytes: draft.payload.bytes().slice(..at) };
        let cut = Draft { payload: cut, ..draft.clone() };
        prop_assert!(keys().open_payload(&blind(), &cut).is_err());
        let longer = [draft.payload.bytes(), [0].as_slice()].concat();
        let longer = Payload::Sealed { epoch: 2, bytes: longer.into() };
        let longer = Draft { payload: longer, ..draft };
        prop_assert!(keys().open_payload(&blind(), &longer).is_err());
    }

    #[test]
    fn equal_drafts_seal_alike_and_another_date_or_seq_seals_to_unrelated_bytes(text in ".{40,80}", later in 1..1000u64) {
        let plain = draft(Payload::plain(&json!(text)));
        let bytes = sealed(&plain).payload.bytes().clone();
        prop_assert_eq!(&sealed(&plain).payload, &Payload::Sealed { epoch: 2, bytes: bytes.clone() });
        let dated = Draft { date: Date::saturating(plain.date.micros() + later), ..plain.clone() };
        let next = Draft { seq: Seq::new(plain.seq.get() + later).unwrap(), ..plain };
        let bits = bytes.len() as u32 * 8;
        for other in [dated, next] {
            let distance = distance(&bytes, sealed(&other).payload.bytes());
            prop_assert!((bits * 3 / 10..bits * 7 / 10).contains(&distance), "{distance} of {bits} bits differ");
        }
    }

    #[test]
    fn bytes_from_anywhere_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), epoch in 0..4u32) {
        let payload = Payload::Sealed { epoch, bytes: bytes.into() };
        prop_assert!(keys().open_payload(&blind(), &draft(payload.clone())).is_err());
        prop_assert!(keys().open_state(&blind(), &checkpoint(payload)).is_err());
    }
}
