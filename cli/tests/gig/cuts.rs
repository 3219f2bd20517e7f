//! The power is cut again and again, under a store, a table and a device: what was acknowledged is there.
//!
//! What counts is what was acknowledged before the cut began. A sync that the cut overtakes may still come back as done, which
//! nobody hears of whose power is gone.

use std::collections::BTreeSet;

use gigfs::Gig;
use serde_json::json;

use crate::world::{Apart, Curl, DEADLINE, Random, Scratch, Server};

/// Cuts in the short form and in the long one.
const FEW: usize = 3;
const MANY: usize = 200;
/// Bytes of the disk.
const DISK: u64 = 512 << 20;

async fn under_a_store(cuts: usize) {
    let mut random = Random::seeded("under_a_store");
    let Some(mut disk) = Scratch::new(DISK) else { return };
    let mut world = Apart::with_store_in(&disk.path());
    let gig = world.device.client().await;
    let mut acknowledged = BTreeSet::new();
    for _ in 0..cuts {
        let mut pushes = Vec::new();
        for at in 0..50 {
            let path = format!("/v{}", at % 5);
            pushes.push(gig.push("home", "counter", &path, json!({"add": 1})).await.unwrap());
        }
        let heard = random.below(50) as usize;
        tokio::time::timeout(DEADLINE, pushes[heard].accepted(1)).await.unwrap();
        let receipts = pushes.iter().map(gigfs::Pushed::status).filter(|receipt| receipt.accepted() == 1);
        acknowledged.extend(receipts.map(|receipt| receipt.sha.to_string()));
        disk.cut();
        world.stores[0].kill();
        disk.again();
        world.stores[0].again();
        // As `curl` reads, so that nothing is brought back before it is looked for.
        let curl = Curl::new(&world.device, 0).await;
        let mut held = BTreeSet::new();
        for path in 0..5 {
            let ops = curl.read("counter", &format!("/v{path}")).await;
            held.extend(ops.iter().map(|op| op["sha"].as_str().unwrap().to_owned()));
        }
        let missing = acknowledged.difference(&held).count();
        assert_eq!(missing, 0, "of {} acknowledged operations", acknowledged.len());
        gig.flush(None, DEADLINE).await.unwrap();
    }
    println!("{cuts} cuts, {} acknowledged operations, none missing", acknowledged.len());
    gig.close().await.unwrap();
}

async fn under_a_table(cuts: usize) {
    let mut random = Random::seeded("under_a_table");
    let Some(mut disk) = Scratch::new(DISK) else { return };
    let mut table = Server::start_in("table", &disk.path());
    let master = tokio::task::spawn_blocking(|| gigfs::password::new_master("correct horse")).await.unwrap().unwrap();
    let (http, token) = (reqwest::Client::new(), table.admin_token());
    let create = |url: &str, name: String| {
        let request = http.put(format!("{url}/admin/user/{name}")).bearer_auth(&token).json(&master);
        async move { Some(request.send().await.ok()?.status().as_u16()) }
    };
    let mut acknowledged = Vec::new();
    for cut in 0..cuts {
        let url = table.url.clone();
        let mut creating = tokio::task::JoinSet::new();
        for user in 0..20 {
            let name = format!("user-{cut}-{user}");
            let made = create(&url, name.clone());
            creating.spawn(async move { (name, made.await) });
        }
        let heard = random.below(20);
        for _ in 0..=heard {
            let made = tokio::time::timeout(DEADLINE, creating.join_next()).await.unwrap();
            let (name, status) = made.unwrap().unwrap();
            assert_eq!(status, Some(201), "{name}");
            acknowledged.push(name);
        }
        disk.cut();
        table.kill();
        creating.shutdown().await;
        disk.again();
        table.again();
        for name in &acknowledged {
            assert_eq!(create(&table.url, name.clone()).await, Some(409), "{name} is there");
        }
    }
    println!("{cuts} cuts, {} acknowledged users, none missing", acknowledged.len());
}

async fn under_a_device(cuts: usize) {
    let mut random = Random::seeded("under_a_device");
    let Some(mut disk) = Scratch::new(DISK) else { return };
    let folder = disk.path().join("device");
    let open = || async { Gig::builder().local(&folder).open().await.unwrap() };
    let mut acknowledged = BTreeSet::new();
    for _ in 0..cuts {
        let gig = open().await;
        let mut pushes = Vec::new();
        for _ in 0..50 {
            pushes.push(gig.push("home", "counter", "/v", json!({"add": 1})).await.unwrap());
        }
        let heard = random.below(50) as usize;
        assert!(tokio::time::timeout(DEADLINE, pushes[heard].durable()).await.unwrap().durable);
        let receipts = pushes.iter().map(gigfs::Pushed::status).filter(|receipt| receipt.durable);
        acknowledged.extend(receipts.map(|receipt| receipt.sha));
        disk.cut();
        // What was still to be written cannot be.
        _ = gig.close().await;
        drop(pushes);
        disk.again();
        let gig = open().await;
        gig.get("home", "counter", "/v").await.unwrap();
        let log = gig.log("home", "counter", "/v").unwrap();
        let held: BTreeSet<_> = log.history().await.unwrap().iter().map(|(op, _)| op.sha()).collect();
        assert!(acknowledged.is_subset(&held), "missing: {:?}", acknowledged.difference(&held));
        gig.close().await.unwrap();
    }
    println!("{cuts} cuts, {} acknowledged operations, none missing", acknowledged.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_has_what_it_acknowledged_after_the_power_was_cut() {
    under_a_store(FEW).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_has_what_it_acknowledged_after_the_power_was_cut() {
    under_a_table(FEW).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_has_what_it_acknowledged_after_the_power_was_cut() {
    under_a_device(FEW).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: just cuts"]
async fn a_store_has_what_it_acknowledged_after_200_cuts() {
    under_a_store(MANY).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: just cuts"]
async fn a_table_has_what_it_acknowledged_after_200_cuts() {
    under_a_table(MANY).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: just cuts"]
async fn a_device_has_what_it_acknowledged_after_200_cuts() {
    under_a_device(MANY).await;
}
