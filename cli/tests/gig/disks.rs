//! Disks that are full, or take nothing any more, under a store that runs.

use std::fs::{self, File};
use std::io::Write as _;

use serde_json::{Value, json};

use crate::world::{Apart, Curl, DEADLINE, Scratch};

const DISK: u64 = 160 << 20;

async fn push(curl: &Curl, bytes: usize) -> Value {
    let payload = json!({"payload": {"set": "x".repeat(bytes)}});
    curl.push("register", "/r", &payload).await.remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_on_a_full_disk_refuses_reads_on_and_takes_writes_again_once_there_is_room() {
    let Some(disk) = Scratch::new(DISK) else { return };
    let world = Apart::with_store_in(&disk.path());
    let curl = Curl::new(&world.device, 0).await;
    assert_eq!(push(&curl, 10).await["status"], "accepted");
    let filler = disk.path().join("filler");
    let mut file = File::create(&filler).unwrap();
    while file.write_all(&[7; 1 << 16]).is_ok() {}
    _ = file.sync_all();
    let mut pushed = 1;
    let refused = loop {
        let result = push(&curl, 200_000).await;
        if result["status"] == "refused" {
            break result;
        }
        pushed += 1;
        assert!(pushed < 2_000, "the disk is not full");
    };
    assert_eq!(refused["code"], "insufficient_storage", "{refused}");
    assert_eq!(curl.read("register", "/r").await.len(), pushed);
    // A client keeps what is refused, and sends it again by itself.
    let gig = world.device.client().await;
    let waiting = gig.push("home", "register", "/r", json!({"set": "last"})).await.unwrap();

    drop(file);
    fs::remove_file(&filler).unwrap();
    let accepted = async {
        while push(&curl, 10).await["status"] != "accepted" {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, accepted).await.unwrap();
    gig.flush(None, DEADLINE).await.unwrap();
    assert_eq!(waiting.status().accepted(), 1);
    gig.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_whose_disk_became_read_only_refuses_and_reads_on_and_loses_nothing() {
    let Some(mut disk) = Scratch::new(DISK) else { return };
    let mut world = Apart::with_store_in(&disk.path());
    let curl = Curl::new(&world.device, 0).await;
    assert_eq!(push(&curl, 10).await["status"], "accepted");
    disk.make_read_only();
    let refused = push(&curl, 10).await;
    assert_eq!((&refused["status"], &refused["code"]), (&json!("refused"), &json!("storage_failed")), "{refused}");
    assert_eq!(curl.read("register", "/r").await.len(), 1);
    world.stores[0].kill();
    disk.again();
    world.stores[0].again();
    assert_eq!(push(&curl, 10).await["status"], "accepted");
    assert_eq!(curl.read("register", "/r").await.len(), 2);
}
