use super::*;
use crate::api::BaseHeader;
use crate::error::ErrorCode;
use crate::id::{ActorId, Digest, Seq};
use crate::op::Payload;
use proptest::prelude::*;
use serde_json::json;

fn log_name() -> LogName {
    LogName::parse("me", "home", "counter", "/visits").unwrap()
}

fn op(add: i64) -> WireOp {
    let draft = Draft {
        actor: ActorId::from_bytes([1; 16]),
        seq: Seq::FIRST,
        date: Date::saturating(1_000),
        deps: vec![Sha::of(b"a")],
        payload: Payload::plain(&json!({"add": add})),
    };
    WireOp::from(&draft.finish(&log_name()).unwrap())
}

fn base() -> WireBase {
    WireBase { sha: Sha::of(b"checkpoint"), record: vec![1, 2, 3].into(), certificate: "c.e.r".to_owned() }
}

fn base_id() -> BaseId {
    BaseId { generation: Seq::new(3).unwrap(), sha: base().sha }
}

fn client_messages() -> Vec<ClientMessage> {
    let log = LogRef::from(&log_name());
    vec![
        ClientMessage::Push { tag: 1, log: log.clone(), ops: vec![op(1), op(2)], beyond: None },
        ClientMessage::Push { tag: 1, log: log.clone(), ops: vec![], beyond: Some(base().sha) },
        ClientMessage::Get { tag: 2, log: log.clone(), after: 300, base: None },
        ClientMessage::Get { tag: 2, log: log.clone(), after: 0, base: Some(base_id()) },
        ClientMessage::Inventory { tag: 3, log: log.clone(), which: Which::Live },
        ClientMessage::Inventory { tag: 3, log: log.clone(), which: Which::Covered },
        ClientMessage::List { tag: 4, prefix: PathPrefix::default(), after: Some(log.clone()) },
        ClientMessage::List { tag: 5, prefix: PathPrefix::parse("/notes").unwrap(), after: None },
        ClientMessage::Watch { tag: 6, watched: Watched::Logs(vec![log.clone()]), after: None },
        ClientMessage::Watch { tag: 7, watched: Watched::Prefix(PathPrefix::default()), after: Some(9) },
        ClientMessage::Unwatch { tag: 8 },
        ClientMessage::Renew { tag: 9, token: "t.o.k".to_owned() },
        ClientMessage::Checkpoint { tag: 10, log: log.clone(), sha: base().sha, record: base().record, epoch: 4 },
        ClientMessage::Install { tag: 11, log: log.clone(), base: base(), instead_of: None },
        ClientMessage::Install { tag: 11, log: log.clone(), base: base(), instead_of: Some(op(2).sha) },
        ClientMessage::Cover { tag: 12, log: log.clone(), base: base().sha, shas: vec![Sha::of(b"a")] },
        ClientMessage::Retained { tag: 13, log: log.clone() },
        ClientMessage::Name { tag: 15, log: log.clone(), sealed: vec![7; 48].into() },
        ClientMessage::Dispute { tag: 14, log, base: base().sha },
    ]
}

fn server_messages() -> Vec<ServerMessage> {
    let log = LogRef::from(&log_name());
    let mut digest = Digest::default();
    digest.add(&op(1).sha);
    let header = LogHeader { base: None, digest, last_index: 7, bytes: 300 };
    let covered = Digest { count: 70_000, xor: [0x33; 32] };
    let base_header =
        BaseHeader { id: base_id(), covered, complete: true, disputed: false, bytes: 90, retained_bytes: 1_000 };
    let pruned = LogHeader { base: Some(base_header), ..header };
    let refusal = Refusal::new(ErrorCode::ClockAhead, "ahead").hint("set the clock").at(Date::saturating(5));
    let sha = op(1).sha;
    let results = vec![
        PushResult::Accepted { sha },
        PushResult::Known { sha },
        PushResult::Covered { sha },
        PushResult::Refused(refusal.clone()),
    ];
    vec![
        ServerMessage::Welcome(Welcome {
            store: StoreId::from_bytes([2; 16]),
            incarnation: Incarnation::from_bytes([3; 16]),
            position: 70_000,
            now: Date::saturating(1_700_000_000_000_000),
            run: None,
        }),
        ServerMessage::Pushed { tag: 1, results },
        ServerMessage::Ops { tag: 2, base: None, ops: vec![(7, op(1))], header, more: true },
        ServerMessage::Ops { tag: 2, base: Some(base()), ops: vec![], header: pruned, more: false },
        ServerMessage::Shas { tag: 3, shas: vec![sha], header, more: false },
        ServerMessage::Logs { tag: 4, logs: vec![(log.clone(), header)], more: false },
        ServerMessage::Event(Event { position: 12, log: log.clone(), ops: vec![(1, op(1)), (2, op(2))] }),
        ServerMessage::Watching { tag: 5, position: 12 },
        ServerMessage::Unwatched { tag: 6 },
        ServerMessage::Renewed { tag: 7 },
        ServerMessage::Failed { tag: 8, refusal: refusal.clone() },
        ServerMessage::Bye { refusal },
        ServerMessage::Pruned { log, header: pruned },
        ServerMessage::Acknowledged { tag: 9, ack: "a.c.k".to_owned() },
        ServerMessage::Installed { tag: 10, header: pruned },
        ServerMessage::Retained { tag: 11, base: Some(base()), ops: vec![(3, op(1))], more: false },
        ServerMessage::Named { tag: 12 },
        ServerMessage::Welcome(Welcome {
            store: StoreId::from_bytes([2; 16]),
            incarnation: Incarnation::from_bytes([3; 16]),
            position: 70_000,
            now: Date::saturating(1_700_000_000_000_000),
            run: Some(RunId::from_bytes([4; 16])),
        }),
    ]
}

fn round_trips<M: Message + PartialEq + std::fmt::Debug>(messages: Vec<M>) {
    for message in messages {
        assert_eq!(M::from_cbor(&message.to_cbor()).unwrap(), message);
        assert_eq!(M::from_json(&message.to_json().unwrap()).unwrap(), message);
    }
}

#[test]
fn every_message_round_trips_in_both_encodings() {
    round_trips(client_messages());
    round_trips(server_messages());
}

#[test]
fn every_truncation_and_any_trailing_byte_of_a_message_is_refused() {
    for message in server_messages() {
        let bytes = message.to_cbor();
        for length in 0..bytes.len() {
            assert!(ServerMessage::from_cbor(&bytes[..length]).is_err());
        }
        assert!(ServerMessage::from_cbor(&[bytes, vec![0]].concat()).is_err());
    }
}

#[test]
fn an_operation_that_was_changed_on_the_way_does_not_open() {
    let mut forged = op(1);
    forged.record = op(2).record;
    assert!(matches!(forged.open(&log_name()), Err(OpError::ShaMismatch { .. })));
    assert!(op(1).open(&log_name()).is_ok());
}

#[test]
fn golden_messages_keep_their_bytes() {
    let hex = |bytes: Vec<u8>| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let messages: Vec<(String, String)> = client_messages()
        .iter()
        .map(|message| (hex(message.to_cbor()), message.to_json().unwrap()))
        .chain(server_messages().iter().map(|message| (hex(message.to_cbor()), message.to_json().unwrap())))
        .collect();
    let golden: Vec<(String, String)> = serde_json::from_str(include_str!("../../testdata/v1/wire.json")).unwrap();
    assert_eq!(messages, golden);
}

proptest! {
    #[test]
    fn bytes_from_a_peer_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
        let _ = ClientMessage::from_cbor(&bytes);
        let _ = ServerMessage::from_cbor(&bytes);
    }

    #[test]
    fn a_flipped_message_is_refused_or_is_another_message(at in any::<prop::sample::Index>(), bit in 0..8u8, which in any::<prop::sample::Index>()) {
        let messages = server_messages();
        let message = which.get(&messages);
        let mut bytes = message.to_cbor();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        if let Ok(other) = ServerMessage::from_cbor(&bytes) {
            prop_assert_ne!(&other, message);
        }
    }
}
