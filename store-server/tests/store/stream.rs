//! The stream: requests and answers.

use std::collections::BTreeSet;

use futures_util::SinkExt as _;
use gigfs_core::api::PushResult;
use gigfs_core::limits::{JSON_BODY_MEMBERS_MAX, MESSAGE_BYTES_MAX};
use gigfs_core::token::Permission;
use gigfs_core::wire::{ClientMessage, LogRef, SUBPROTOCOL_CBOR, SUBPROTOCOL_JSON, ServerMessage, Which};
use gigfs_core::{ErrorCode, PathPrefix};
use gigfs_store_server::EngineKind;
use serde_json::json;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::world::{World, log, op, op_with, soon};

#[tokio::test]
async fn both_subprotocols_and_none_speak_the_same_messages() {
    let world = World::start().await;
    let a = log("/a");
    for (seq, subprotocol) in [Some(SUBPROTOCOL_CBOR), Some(SUBPROTOCOL_JSON), None].into_iter().enumerate() {
        let mut stream = world.stream_with(subprotocol, &world.token()).await.unwrap();
        let Some(ServerMessage::Welcome(welcome)) = stream.next().await else { panic!("no welcome") };
        assert_eq!((welcome.store, welcome.position), (world.store_id, seq as u64));
        let op = op(&a, seq as u64 + 1);
        stream.push(1, &a, std::slice::from_ref(&op)).await;
        let accepted = vec![PushResult::Accepted { sha: op.sha() }];
        assert_eq!(stream.next().await, Some(ServerMessage::Pushed { tag: 1, results: accepted }));
        stream.push(2, &a, std::slice::from_ref(&op)).await;
        let known = vec![PushResult::Known { sha: op.sha() }];
        assert_eq!(stream.next().await, Some(ServerMessage::Pushed { tag: 2, results: known }));

        stream.send(&ClientMessage::Get { tag: 3, log: LogRef::from(&a), after: 0, base: None }).await;
        let Some(ServerMessage::Ops { tag: 3, base: None, ops, header, more: false }) = stream.next().await else {
            panic!()
        };
        assert_eq!((ops.len(), header.last_index), (seq + 1, seq as u64 + 1));
        assert_eq!(ops[seq].1.open(&a).unwrap(), op);
        stream.send(&ClientMessage::Inventory { tag: 4, log: LogRef::from(&a), which: Which::Live }).await;
        let Some(ServerMessage::Shas { tag: 4, shas, more: false, .. }) = stream.next().await else { panic!() };
        assert_eq!(shas.len(), seq + 1);
        stream.send(&ClientMessage::List { tag: 5, prefix: PathPrefix::default(), after: None }).await;
        let Some(ServerMessage::Logs { tag: 5, logs, more: false }) = stream.next().await else { panic!() };
        assert_eq!(logs, [(LogRef::from(&a), header)]);
    }
}

#[tokio::test]
async fn a_subprotocol_that_nobody_knows_is_refused() {
    let world = World::start().await;
    let Err(Error::Http(answer)) = world.stream_with(Some("gigfs.v9"), &world.token()).await else { panic!("taken") };
    assert_eq!(answer.status(), 400);
    let Err(Error::Http(answer)) = world.stream_with(None, "bad").await else { panic!("taken") };
    assert_eq!(answer.status(), 401);
}

#[tokio::test]
async fn pushes_in_flight_share_syncs_and_each_is_answered() {
    let world = World::with(EngineKind::Fjall).await;
    let mut stream = world.stream().await.welcomed().await;
    let a = log("/a");
    let before = world.metric("gigfs_store_commits_total").await;
    for tag in 1..=500 {
        stream.push(tag, &a, &[op(&a, tag)]).await;
    }
    let mut answered = BTreeSet::new();
    while answered.len() < 500 {
        let Some(ServerMessage::Pushed { tag, results }) = stream.next().await else { panic!("no answer") };
        assert!(matches!(results[..], [PushResult::Accepted { .. }]));
        assert!(answered.insert(tag));
    }
    let commits = world.metric("gigfs_store_commits_total").await - before;
    assert!(commits < 250.0, "{commits} commits for 500 pushes");
    // Pushes of one stream are stored in the order in which they were sent.
    stream.send(&ClientMessage::Get { tag: 1, log: LogRef::from(&a), after: 0, base: None }).await;
    let Some(ServerMessage::Ops { ops, .. }) = stream.next().await else { panic!("no answer") };
    let seqs: Vec<_> = ops.iter().map(|(_, op)| op.open(&a).unwrap().seq().get()).collect();
    assert_eq!(seqs, (1..=500).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_long_log_comes_in_parts_under_one_tag() {
    let world = World::start().await;
    let a = log("/a");
    let mut stream = world.stream().await.welcomed().await;
    for seq in 1..=12 {
        stream.push(seq, &a, &[op_with(&a, 1, seq, &[], &json!("x".repeat(200_000)))]).await;
        stream.next().await.unwrap();
    }
    stream.send(&ClientMessage::Get { tag: 9, log: LogRef::from(&a), after: 2, base: None }).await;
    let (mut indexes, mut parts) = (Vec::new(), 0);
    loop {
        let Some(ServerMessage::Ops { tag: 9, ops, more, .. }) = stream.next().await else { panic!("no answer") };
        indexes.extend(ops.iter().map(|(index, _)| *index));
        parts += 1;
        if !more {
            break;
        }
    }
    assert_eq!(indexes, (3..=12).collect::<Vec<_>>());
    assert!(parts > 1);
}

#[tokio::test]
async fn more_requests_than_are_done_at_once_are_all_answered() {
    let world = World::start().await;
    let a = log("/a");
    let mut stream = world.stream().await.welcomed().await;
    stream.push(0, &a, &[op_with(&a, 1, 1, &[], &json!("x".repeat(10_000)))]).await;
    stream.next().await.unwrap();
    for tag in 1..=5000 {
        stream.send(&ClientMessage::Get { tag, log: LogRef::from(&a), after: 0, base: None }).await;
        if tag % 1000 == 0 {
            let mut answered = BTreeSet::new();
            while answered.len() < 1000 {
                let Some(ServerMessage::Ops { tag, ops, .. }) = stream.next().await else { panic!("no answer") };
                assert_eq!(ops.len(), 1);
                assert!(answered.insert(tag));
            }
        }
    }
}

#[tokio::test]
async fn a_stream_for_reading_reads_and_its_pushes_fail() {
    let world = World::start().await;
    let token = world.token_with(|claims| claims.permission = Permission::Read);
    let mut stream = world.stream_with(None, &token).await.unwrap().welcomed().await;
    stream.push(1, &log("/a"), &[op(&log("/a"), 1)]).await;
    let Some(ServerMessage::Failed { tag: 1, refusal }) = stream.next().await else { panic!("taken") };
    assert_eq!(refusal.code, ErrorCode::Forbidden);
    stream.send(&ClientMessage::Get { tag: 2, log: LogRef::from(&log("/a")), after: 0, base: None }).await;
    assert!(matches!(stream.next().await, Some(ServerMessage::Ops { tag: 2, .. })));
}

#[tokio::test]
async fn what_is_no_message_ends_the_stream_with_a_reason() {
    let world = World::start().await;
    for (frame, code, close) in [
        (Message::Text("{\"msg\":\"dance\"}".into()), ErrorCode::BadRequest, 4400),
        (Message::Binary(vec![0xff].into()), ErrorCode::BadRequest, 4400),
        (Message::Text("x".repeat(MESSAGE_BYTES_MAX + 1).into()), ErrorCode::TooLarge, 1009),
    ] {
        let mut stream = world.stream_with(None, &world.token()).await.unwrap().welcomed().await;
        // The server may close while the rest of a large frame is still on its way.
        drop(soon(stream.socket.send(frame)).await);
        let (refusal, sent) = stream.goodbye().await;
        assert_eq!((refusal.code, sent), (code, close));
        if code == ErrorCode::TooLarge {
            assert!(refusal.message.contains(&MESSAGE_BYTES_MAX.to_string()), "{refusal:?}");
        }
    }
}

#[tokio::test]
async fn a_server_that_stops_answers_what_was_pushed_and_says_goodbye() {
    let mut world = World::with(EngineKind::Fjall).await;
    let a = log("/a");
    let mut stream = world.stream().await.welcomed().await;
    stream.push(1, &a, &[op(&a, 1)]).await;
    stream.next().await.unwrap();
    world.begin_to_stop();
    let (refusal, close) = stream.goodbye().await;
    assert_eq!((refusal.code, close), (ErrorCode::Unavailable, 1012));
}

#[tokio::test]
async fn a_message_of_too_many_members_ends_the_stream() {
    let world = World::start().await;
    let mut stream = world.stream_with(Some(SUBPROTOCOL_JSON), &world.token()).await.unwrap().welcomed().await;
    let bomb = format!("{{\"msg\":\"push\",\"ops\":[{}[]]}}", "[],".repeat(JSON_BODY_MEMBERS_MAX));
    soon(stream.socket.send(Message::Text(bomb.into()))).await.unwrap();
    let (refusal, _) = stream.goodbye().await;
    assert_eq!(refusal.code, ErrorCode::BadRequest);
    assert!(refusal.message.contains("524288"), "{refusal}");
}
