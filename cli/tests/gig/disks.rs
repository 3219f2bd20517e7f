//! Disks that are full, or take nothing any more, under a store that runs.

use std::fs::{self, File};
use std::io::Write as _;

use serde_json::{Value, json};

use crate::world::{Apart, Curl, DEADLINE, Random, Scratch};

const DISK: u64 = 160 << 20;

async fn push(curl: &Curl, text: &str) -> Value {
    let payload = json!({"payload": {"set": text}});
    curl.push("register", "/r", &payload).await.remove(0)
}

/// A text that takes as much room as it is long.
fn noise(bytes: usize) -> String {
    let mut random = Random::seeded("disks");
    (0..bytes).map(|_| char::from(b'0' + random.below(64) as u8)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_on_a_full_disk_refuses_reads_on_and_takes_writes_again_once_there_is_room() {
    let Some(disk) = Scratch::new(DISK) else { return };
    let world = Apart::with_store_in(&disk.path());
    let curl = Curl::new(&world.device, 0).await;
    let (long, mut pushed) = (noise(200_000), 20);
    for _ in 0..pushed {
        assert_eq!(push(&curl, &long).await["status"], "accepted");
    }
    let filler = disk.path().join("filler");
    let mut file = File::create(&filler).unwrap();
    while file.write_all(&[7; 1 << 16]).is_ok() {}
    _ = file.sync_all();
    let refused = loop {
        let result = push(&curl, &long).await;
        if result["status"] == "refused" {
            break result;
        }
        pushed += 1;
        assert!(pushed < 2_000, "the disk is not full");
    };
    assert_eq!(refused["code"], "insufficient_storage", "{refused}");
    assert_eq!(curl.read("register", "/r").await.len(), pushed);
    // Too little room for what going on takes, though not for a push.
    let filled = file.metadata().unwrap().len();
    file.set_len(filled - (1 << 20)).unwrap();
    file.sync_all().unwrap();
    for _ in 0..2 {
        assert_eq!(push(&curl, "short").await["code"], "insufficient_storage");
        assert_eq!(curl.read("register", "/r").await.len(), pushed);
    }
    // A client keeps what is refused, and sends it again by itself.
    let gig = world.device.client().await;
    let waiting = gig.push("home", "register", "/r", json!({"set": "last"})).await.unwrap();

    drop(file);
    fs::remove_file(&filler).unwrap();
    let accepted = async {
        while push(&curl, "short").await["status"] != "accepted" {
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
    assert_eq!(push(&curl, "short").await["status"], "accepted");
    disk.make_read_only();
    let refused = push(&curl, "short").await;
    assert_eq!((&refused["status"], &refused["code"]), (&json!("refused"), &json!("storage_failed")), "{refused}");
    assert_eq!(curl.read("register", "/r").await.len(), 1);
    world.stores[0].kill();
    disk.again();
    world.stores[0].again();
    assert_eq!(push(&curl, "short").await["status"], "accepted");
    assert_eq!(curl.read("register", "/r").await.len(), 2);
}
