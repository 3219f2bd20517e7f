//! Durable pushes a second over one stream on loopback, with so many in flight, beside what a sync of the disk costs.
//!
//! `cargo bench -p gigfs-store-server`. Compare figures of one run only; set `TMPDIR` to the disk of interest.

#![allow(clippy::unwrap_used, clippy::print_stdout, dead_code)]

#[path = "../tests/store/world.rs"]
mod world;

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::time::{Duration, Instant};

use gigfs_core::Op;
use gigfs_core::wire::{SUBPROTOCOL_CBOR, SUBPROTOCOL_JSON, ServerMessage};
use gigfs_store_server::EngineKind;
use serde_json::json;
use world::{World, log, op_with};

fn sync_cost() -> Duration {
    let folder = tempfile::tempdir().unwrap();
    let file = File::create(folder.path().join("file")).unwrap();
    file.write_all_at(&vec![0; 1 << 20], 0).unwrap();
    file.sync_all().unwrap();
    let mut took: Vec<_> = (0..200)
        .map(|n| {
            let begun = Instant::now();
            file.write_all_at(&[n as u8; 4096], n * 4096).unwrap();
            file.sync_data().unwrap();
            begun.elapsed()
        })
        .collect();
    took.sort();
    took[100]
}

async fn pushes(engine: EngineKind, subprotocol: &str, in_flight: u64, count: u64) -> (f64, f64) {
    let world = World::with(engine).await;
    let mut stream = world.stream_with(Some(subprotocol), &world.token()).await.unwrap().welcomed().await;
    let a = log("/a");
    let ops: Vec<Op> = (1..=count).map(|seq| op_with(&a, 1, seq, &[], &json!("x".repeat(240)))).collect();
    let before = world.metric("gigfs_store_commits_total").await;
    let begun = Instant::now();
    let (mut sent, mut answered) = (0, 0);
    while answered < count {
        while sent < count && sent - answered < in_flight {
            stream.push(sent, &a, std::slice::from_ref(&ops[sent as usize])).await;
            sent += 1;
        }
        assert!(matches!(stream.next().await, Some(ServerMessage::Pushed { .. })));
        answered += 1;
    }
    let took = begun.elapsed().as_secs_f64();
    let commits = world.metric("gigfs_store_commits_total").await - before;
    (count as f64 / took, count as f64 / commits)
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    println!("write and fdatasync of 4 KiB, median: {:?}", sync_cost());
    for (engine, subprotocol, in_flight, count) in [
        (EngineKind::Memory, SUBPROTOCOL_CBOR, 1, 10_000),
        (EngineKind::Fjall, SUBPROTOCOL_CBOR, 1, 3_000),
        (EngineKind::Fjall, SUBPROTOCOL_CBOR, 64, 60_000),
        (EngineKind::Fjall, SUBPROTOCOL_CBOR, 1024, 120_000),
        (EngineKind::Fjall, SUBPROTOCOL_JSON, 64, 60_000),
        (EngineKind::Memory, SUBPROTOCOL_CBOR, 64, 120_000),
    ] {
        let (rate, share) = runtime.block_on(pushes(engine, subprotocol, in_flight, count));
        println!("{engine:?} {subprotocol} {in_flight:>4} in flight: {rate:>8.0} pushes/s, {share:>6.1} a commit");
    }
}
