//! What one session may ask of the store: it waits, or is refused, and others notice nothing.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use gigfs_core::limits::STREAM_QUEUED_BYTES_MAX;
use gigfs_core::wire::{ClientMessage, LogRef, SUBPROTOCOL_CBOR, ServerMessage, Welcome};
use gigfs_core::{ErrorCode, Op, SessionId};
use gigfs_store_server::{Config, EngineKind};
use reqwest::Method;
use serde_json::json;
use tokio_tungstenite::tungstenite;

use crate::world::{Stream, World, chain, log, op_with, refusal, soon};

async fn world(change: impl FnOnce(&mut Config)) -> World {
    let world = World::bare(EngineKind::Memory, change).await;
    world.confirm("me").await;
    world
}

async fn stream_of(world: &World, session: u8) -> Result<Stream, tungstenite::Error> {
    let token = world.token_with(|claims| claims.sid = SessionId::from_bytes([session; 16]));
    world.stream_with(Some(SUBPROTOCOL_CBOR), &token).await
}

#[tokio::test]
async fn a_session_that_pushes_too_fast_waits_and_loses_nothing_and_another_does_not_wait() {
    let world = world(|config| config.session_ops_per_second = NonZeroU32::new(512).unwrap()).await;
    let (mut fast, mut other) = (stream_of(&world, 1).await.unwrap(), stream_of(&world, 2).await.unwrap());
    fast = fast.welcomed().await;
    other = other.welcomed().await;
    let ops = chain(&log("/a"), 1, 1..=2048);
    let began = Instant::now();
    for (tag, batch) in ops.chunks(512).enumerate() {
        fast.push(tag as u64, &log("/a"), batch).await;
    }
    // All of it is on its way now, and somebody else's push is answered meanwhile.
    assert_eq!(other.pushed(&log("/b"), &chain(&log("/b"), 2, 1..=512)).await.unwrap().len(), 512);
    let others = began.elapsed();
    let mut answered = 0;
    while answered < ops.len() {
        match fast.next().await {
            Some(ServerMessage::Pushed { results, .. }) => answered += results.len(),
            other => panic!("{other:?}"),
        }
    }
    // 1024 at once, and then 512 a second. The pace is that of the clock, so this is no less on any machine.
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(1900), "{took:?}");
    assert!(others < took, "{others:?}");
    // What goes over HTTP counts for the session too: the burst is spent.
    let began = Instant::now();
    let path = "/user/me/oplog?channel=home&type=list&path=/a";
    let body = json!({"ops": (0..512).map(|n| json!({"payload": n})).collect::<Vec<_>>()});
    assert_eq!(world.request(Method::POST, path).json(&body).send().await.unwrap().status(), 200);
    assert!(began.elapsed() >= Duration::from_millis(900), "{:?}", began.elapsed());
}

#[tokio::test]
async fn one_stream_too_many_is_refused_and_a_place_comes_back() {
    let world = world(|config| config.session_streams = 2).await;
    let (one, _two) = (stream_of(&world, 1).await.unwrap(), stream_of(&world, 1).await.unwrap());
    match stream_of(&world, 1).await.map(|_| ()) {
        Err(tungstenite::Error::Http(answer)) => {
            assert_eq!(answer.status(), 429);
            let said = String::from_utf8(answer.body().clone().unwrap_or_default()).unwrap();
            assert!(said.contains("too_many"), "{said}");
        }
        other => panic!("{other:?}"),
    }
    assert!(stream_of(&world, 2).await.is_ok(), "another session has its own");
    drop(one);
    soon(async { while stream_of(&world, 1).await.is_err() {} }).await;
}

#[tokio::test]
async fn a_reader_that_takes_nothing_is_let_go_and_misses_nothing_when_it_comes_back() {
    let world = world(|config| config.stream_seconds = 1).await;
    let mut writer = world.stream().await.welcomed().await;
    let mut reader = world.stream().await;
    let Some(ServerMessage::Welcome(Welcome { position, .. })) = reader.next().await else { panic!("no welcome") };
    reader.watch(1, "/", Some(position)).await;
    assert!(matches!(reader.next().await, Some(ServerMessage::Watching { .. })));
    // More than sockets hold. It is pushed while nobody reads at the other end.
    let ops: Vec<Op> = (1..=160).map(|seq| op_with(&log("/a"), 1, seq, &[], &json!("x".repeat(200_000)))).collect();
    for batch in ops.chunks(8) {
        assert_eq!(writer.pushed(&log("/a"), batch).await.unwrap().len(), 8);
    }
    soon(async { while world.metric("gigfs_store_streams").await > 1.0 {} }).await;
    // What was written before it was let go is still there to be read.
    let mut seen = Vec::new();
    let mut last = position;
    let bye = loop {
        match reader.next().await {
            Some(ServerMessage::Event(event)) => {
                last = event.position;
                seen.extend(event.ops.iter().map(|(_, op)| op.sha));
            }
            Some(ServerMessage::Bye { refusal }) => break Some(refusal),
            Some(other) => panic!("{other:?}"),
            None => break None,
        }
    };
    assert!(bye.is_none_or(|bye| bye.code == ErrorCode::TooSlow));
    assert!(seen.len() < ops.len());
    let mut again = world.stream().await.welcomed().await;
    again.watch(1, "/", Some(last)).await;
    let (rest, _) = again.events(ops.len() - seen.len()).await;
    seen.extend(rest);
    assert_eq!(seen, ops.iter().map(Op::sha).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_stream_that_asks_without_reading_is_not_read_from_any_more() {
    let world = world(|config| config.stream_seconds = 1).await;
    let ops: Vec<Op> = (1..=16).map(|seq| op_with(&log("/a"), 1, seq, &[], &json!("x".repeat(200_000)))).collect();
    let mut writer = world.stream().await.welcomed().await;
    for batch in ops.chunks(8) {
        writer.pushed(&log("/a"), batch).await.unwrap();
    }
    let mut asker = world.stream().await;
    let get = ClientMessage::Get { tag: 1, log: LogRef::from(&log("/a")), after: 0, base: None };
    // 3 MB are asked for again and again, until the store has had enough of it.
    let asking = async {
        use futures_util::SinkExt as _;
        use gigfs_core::wire::Message as _;
        while asker.socket.send(tungstenite::Message::Binary(get.to_cbor().into())).await.is_ok() {}
    };
    let mut most: f64 = 0.0;
    let watching = async {
        loop {
            most = most.max(world.metric("gigfs_store_stream_queued_bytes").await);
        }
    };
    tokio::select! {
        () = soon(asking) => {}
        () = watching => {}
    }
    assert!(most > 1e6, "{most} bytes waited");
    assert!(most <= STREAM_QUEUED_BYTES_MAX as f64, "{most} bytes waited");
    soon(async { while world.metric("gigfs_store_streams").await > 1.0 {} }).await;
    assert!(world.metric("gigfs_store_sent_bytes_total").await < 64e6);
    assert!(world.metric("gigfs_store_stream_queued_bytes").await < 1.0, "nothing waits for nobody");
    assert!(writer.pushed(&log("/a"), &ops[..1]).await.is_ok());
    let refused = world.request(Method::GET, "/user/me/oplog/stream?channel=home").send().await.unwrap();
    assert_eq!(refusal(refused).await.code, ErrorCode::BadRequest);
}
