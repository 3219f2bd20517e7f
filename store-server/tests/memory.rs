//! The memory of a store whose clients ask for much and read nothing. Alone in its process, which is what is measured.

#![allow(
    clippy::unwrap_used,
    dead_code,
    reason = "a test that meets what it does not expect has failed; it shares a world"
)]

use std::time::Duration;

use futures_util::SinkExt as _;
use gigfs_core::Op;
use gigfs_core::wire::{ClientMessage, LogRef, Message as _};
use gigfs_store_server::EngineKind;
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

#[path = "store/world.rs"]
mod world;

use world::{World, log, op_with, soon};

/// Bytes of this process that are in memory.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn clients_that_never_read_do_not_make_the_store_grow() {
    const STREAMS: usize = 12;
    let world = World::bare(EngineKind::Memory, |config| config.stream_seconds = 3).await;
    world.confirm("me").await;
    let mut polite = world.stream().await.welcomed().await;
    let ops: Vec<Op> = (1..=32).map(|seq| op_with(&log("/a"), 1, seq, &[], &json!("x".repeat(200_000)))).collect();
    for batch in ops.chunks(8) {
        polite.pushed(&log("/a"), batch).await.unwrap();
    }
    let before = resident();

    // They ask for the log again and again.
    let get = ClientMessage::Get { tag: 1, log: LogRef::from(&log("/a")), after: 0, base: None }.to_cbor();
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..STREAMS {
        let mut stream = world.stream().await;
        let get = get.clone();
        asking.spawn(async move {
            while stream.socket.feed(Message::Binary(get.clone().into())).await.is_ok()
                && stream.socket.flush().await.is_ok()
            {}
        });
    }
    let mut peak = before;
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    let watching = async {
        loop {
            tokio::select! {
                ended = asking.join_next() => match ended {
                    Some(ended) => ended.unwrap(),
                    None => return,
                },
                _ = ticks.tick() => peak = peak.max(resident()),
            }
        }
    };
    soon(watching).await;
    let grown = (peak - before) >> 20;
    // They have asked for gigabytes. What each may cost is some pages, encoded and not.
    assert!(grown < 32 * STREAMS, "the store grew by {grown} MiB");
    assert_eq!(polite.pushed(&log("/a"), &ops[..1]).await.unwrap().len(), 1);
}
