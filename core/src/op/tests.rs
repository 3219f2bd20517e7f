use super::*;
use proptest::prelude::*;
use serde_json::json;

fn log() -> LogName {
    LogName::parse("me", "home", "counter", "/visits").unwrap()
}

fn draft(payload: Payload) -> Draft {
    Draft {
        actor: ActorId::from_bytes([7; 16]),
        seq: Seq::FIRST,
        date: Date::saturating(1_700_000_000_000_000),
        deps: vec![Sha::of(b"a").min(Sha::of(b"b")), Sha::of(b"a").max(Sha::of(b"b"))],
        payload,
    }
}

#[test]
fn an_operation_belongs_to_one_log_only() {
    let op = draft(Payload::plain(&json!({"add": 1}))).finish(&log()).unwrap();
    let other = LogName::parse("me", "home", "counter", "/other").unwrap();
    let error = Op::from_record(&other, &op.to_record(), Some(op.sha())).unwrap_err();
    assert!(matches!(error, OpError::ShaMismatch { .. }));
    assert_eq!(Op::from_record(&log(), &op.to_record(), Some(op.sha())).unwrap(), op);
}

#[test]
fn a_signature_does_not_change_the_identity() {
    let op = draft(Payload::plain(&json!(0))).finish(&log()).unwrap();
    let signed = op.clone().signed(Some(Signature([9; 64])));
    assert_eq!(signed.sha(), op.sha());
    assert_eq!(Op::from_record(&log(), &signed.to_record(), Some(op.sha())).unwrap(), signed);
}

#[test]
fn every_flipped_bit_is_refused_or_changes_the_sha() {
    let op = draft(Payload::plain(&json!({"set": "v"}))).finish(&log()).unwrap();
    let record = op.to_record();
    for at in 0..record.len() * 8 {
        let mut flipped = record.clone();
        flipped[at / 8] ^= 1 << (at % 8);
        assert!(Op::from_record(&log(), &flipped, Some(op.sha())).is_err(), "bit {at} went unseen");
    }
}

#[test]
fn every_truncation_and_any_trailing_byte_is_refused() {
    let op = draft(Payload::plain(&json!({"set": "v"}))).finish(&log()).unwrap();
    let record = op.to_record();
    for length in 0..record.len() {
        assert!(Op::from_record(&log(), &record[..length], None).is_err(), "{length} bytes were accepted");
    }
    let mut longer = record;
    longer.push(0);
    assert!(matches!(
        Op::from_record(&log(), &longer, None),
        Err(OpError::Decode(DecodeError::Trailing { extra: 1, .. }))
    ));
}

#[test]
fn limits_of_an_operation_name_themselves() {
    let large = Payload::Sealed { epoch: 1, bytes: vec![0; OP_PAYLOAD_BYTES_MAX + 1].into() };
    assert!(matches!(draft(large).finish(&log()), Err(OpError::PayloadTooLarge { .. })));
    let mut unsorted = draft(Payload::plain(&json!(1)));
    unsorted.deps.reverse();
    assert_eq!(unsorted.finish(&log()), Err(OpError::UnsortedDeps));
    let spaced = draft(Payload::Plain(Bytes::from_static(b" 1")));
    assert_eq!(spaced.finish(&log()), Err(OpError::Payload(JsonError::NotCanonical)));
}

/// The vectors that a client in another language checks itself against: `testdata/v1/ops.json`.
#[test]
fn golden_operations_keep_their_bytes_and_their_shas() {
    let text = include_str!("../../testdata/v1/ops.json");
    let vectors: Vec<Value> = serde_json::from_str(text).unwrap();
    assert!(vectors.len() >= 5);
    let field = |vector: &Value, name: &str| vector[name].as_str().unwrap().to_owned();
    let unhex = |text: String| -> Vec<u8> {
        (0..text.len() / 2).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap()).collect()
    };
    for vector in &vectors {
        let name = &vector["log"];
        let log =
            LogName::parse(&field(name, "user"), &field(name, "channel"), &field(name, "type"), &field(name, "path"));
        let log = log.unwrap();
        let sha: Sha = field(vector, "sha").parse().unwrap();
        let op = Op::from_record(&log, &unhex(field(vector, "record")), Some(sha)).unwrap();
        assert_eq!(op.draft().identity_bytes(&log), unhex(field(vector, "identity")));
        assert_eq!(op.to_record(), unhex(field(vector, "record")));
        assert_eq!(op.actor().to_string(), field(vector, "actor"));
        assert_eq!(op.seq().get(), vector["seq"].as_u64().unwrap());
        assert_eq!(op.date().micros(), vector["date"].as_u64().unwrap());
        assert_eq!(json!(op.deps()), vector["deps"]);
        if let Payload::Plain(bytes) = op.payload() {
            assert_eq!(json::parse_canonical(bytes).unwrap(), vector["payload"]);
        }
    }
}

prop_compose! {
    fn any_op()(
        actor in any::<[u8; 16]>(),
        seq in 1..=crate::limits::INTEGER_MAX,
        date in 0..=crate::limits::INTEGER_MAX,
        deps in prop::collection::btree_set(any::<[u8; 32]>(), 0..8),
        sealed in any::<Option<u32>>(),
        bytes in prop::collection::vec(any::<u8>(), 0..64),
        signature in any::<Option<[u8; 32]>>(),
    ) -> Op {
        let payload = match sealed {
            Some(epoch) => Payload::Sealed { epoch, bytes: bytes.into() },
            None => Payload::plain(&json!(bytes)),
        };
        let draft = Draft {
            actor: ActorId::from_bytes(actor),
            seq: Seq::new(seq).unwrap(),
            date: Date::saturating(date),
            deps: deps.into_iter().map(Sha::from_bytes).collect(),
            payload,
        };
        draft.finish(&log()).unwrap().signed(signature.map(|half| Signature([half, half].concat().try_into().unwrap())))
    }
}

proptest! {
    #[test]
    fn records_round_trip(op in any_op()) {
        prop_assert_eq!(Op::from_record(&log(), &op.to_record(), Some(op.sha())).unwrap(), op);
    }

    #[test]
    fn bytes_from_anywhere_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
        let _ = Op::from_record(&log(), &bytes, None);
    }

    #[test]
    fn a_record_that_decodes_encodes_to_itself(op in any_op(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut record = op.to_record();
        let at = at.index(record.len());
        record[at] = byte;
        if let Ok(other) = Op::from_record(&log(), &record, None) {
            prop_assert_eq!(other.to_record(), record);
        }
    }
}
