//! What coming back costs, counted on the wire.

use std::time::Instant;

use gigfs::{Log, Mode};
use gigfs_core::wire::{ClientMessage, Message as _, ServerMessage};
use serde_json::json;

use crate::world::{Apart, DEADLINE, Device, Server, Tap};

const KNOWN: usize = 1_000;
const MISSED: usize = 3;
/// What a store may say to somebody who missed so little: its welcome, some events, and that this was all.
const TOLD_BYTES_MAX: usize = 2_048;

async fn add(logs: &[Log]) {
    let mut pushed = Vec::new();
    for log in logs {
        pushed.push(log.push(&json!({"add": 1})).await.unwrap());
    }
    for mut pushed in pushed {
        pushed.accepted(1).await;
    }
}

/// Waits until logs have been compared with the only store, or need not be.
async fn in_step(logs: &[Log]) {
    let until = Instant::now() + DEADLINE;
    for log in logs {
        while log.standing().current == 0 {
            assert!(Instant::now() < until, "{}: {:?}", log.name(), log.standing());
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_knows_a_thousand_logs_is_told_of_the_three_that_changed_and_asks_for_none() {
    let (world, store) = (Apart::with_stores(0), Server::store());
    let (wire, device) = (Tap::start(&store.url), Device::logged_in(&world));
    device.run(["store", "add", "home", &wire.url, "--code", &store.code(), "--plain"]).ok();
    let (writer, reader) = (device.client().await, device.client().await);
    let logs = |gig: &gigfs::Gig| -> Vec<Log> {
        (0..KNOWN).map(|at| gig.log("home", "counter", &format!("/known/{at}")).unwrap()).collect()
    };
    let (written, read) = (logs(&writer), logs(&reader));
    add(&written).await;
    for log in &read {
        log.until_len(1, DEADLINE).await.unwrap();
    }
    in_step(&read).await;

    reader.set_mode(Mode::Offline);
    add(&written[..MISSED]).await;
    reader.set_mode(Mode::Online);
    for log in &read[..MISSED] {
        log.until_len(2, DEADLINE).await.unwrap();
    }
    in_step(&read).await;
    let [asked, told] = wire.last_messages();
    let asked: Vec<ClientMessage> = asked.iter().map(|message| ClientMessage::from_cbor(message).unwrap()).collect();
    assert!(matches!(asked[..], [ClientMessage::Watch { after: Some(_), .. }]), "{} messages", asked.len());
    let bytes: usize = told.iter().map(Vec::len).sum();
    let told: Vec<ServerMessage> = told.iter().map(|message| ServerMessage::from_cbor(message).unwrap()).collect();
    assert!(matches!(told[0], ServerMessage::Welcome(_)));
    assert!(told[1..].iter().filter(|message| matches!(message, ServerMessage::Event(_))).count() <= MISSED);
    assert!(told.len() <= MISSED + 2 && bytes < TOLD_BYTES_MAX, "{} messages of {bytes} bytes", told.len());
    for gig in [writer, reader] {
        gig.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_reads_what_it_knows_once_the_store_was_started_again() {
    let (world, mut store) = (Apart::with_stores(0), Server::store());
    let (wire, device) = (Tap::start(&store.url), Device::logged_in(&world));
    device.run(["store", "add", "home", &wire.url, "--code", &store.code(), "--plain"]).ok();
    let gig = device.client().await;
    let log = [gig.log("home", "counter", "/v").unwrap()];
    add(&log).await;
    in_step(&log).await;
    store.stop();
    store.again();
    add(&log).await;
    in_step(&log).await;
    let [asked, _] = wire.last_messages();
    let read = asked.iter().map(|message| ClientMessage::from_cbor(message).unwrap());
    assert_eq!(read.filter(|message| matches!(message, ClientMessage::Get { .. })).count(), 1);
    gig.close().await.unwrap();
}
