//! A store that is killed again and again: what it acknowledged it has, and once.

use std::collections::{BTreeMap, BTreeSet};

use gigfs::{Gig, Pushed};
use serde_json::{Value, json};

use crate::world::{Apart, Curl, DEADLINE, Device, Random};

const KILLS: usize = 200;

/// Returns the shas that the store holds, in order of arrival, read as `curl` would.
async fn held(device: &Device, path: &str) -> Vec<String> {
    let ops = Curl::new(device, 0).await.read("counter", path).await;
    ops.iter().map(|op| op["sha"].as_str().unwrap().to_owned()).collect()
}

/// Checks that the store holds these operations and no others, each once, and that a client that knows nothing reads them.
async fn holds_exactly(device: &Device, path: &str, pushed: &BTreeSet<String>) {
    let held = held(device, path).await;
    assert_eq!(held.len(), pushed.len());
    assert_eq!(held.into_iter().collect::<BTreeSet<_>>(), *pushed);
    let fresh = device.client().await;
    assert_eq!(*fresh.get("home", "counter", path).await.unwrap(), json!(pushed.len()));
    fresh.close().await.unwrap();
}

async fn push(gig: &Gig, path: &str) -> Pushed {
    gig.push("home", "counter", path, json!({"add": 1})).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_killed_between_pushes_has_each_acknowledged_one_exactly_once() {
    let mut random = Random::seeded("killed_between_pushes");
    let mut world = Apart::with_stores(1);
    let gig = world.device.client().await;
    let mut acknowledged = BTreeSet::new();
    for _ in 0..KILLS {
        for _ in 0..1 + random.below(4) {
            let mut pushed = push(&gig, "/visits").await;
            let receipt = tokio::time::timeout(DEADLINE, pushed.accepted(1)).await.unwrap();
            assert_eq!(receipt.accepted(), 1, "{receipt:?}");
            acknowledged.insert(receipt.sha.to_string());
        }
        world.stores[0].kill();
        world.stores[0].again();
        gig.flush(None, DEADLINE).await.unwrap();
    }
    gig.close().await.unwrap();
    println!("{KILLS} kills, {} operations", acknowledged.len());
    holds_exactly(&world.device, "/visits", &acknowledged).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_killed_while_pushes_are_in_flight_has_each_of_them_exactly_once() {
    killed_while_pushes_are_in_flight(40).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: just kills"]
async fn a_store_that_is_killed_a_thousand_times_under_load_has_each_push_exactly_once() {
    killed_while_pushes_are_in_flight(1_000).await;
}

async fn killed_while_pushes_are_in_flight(kills: usize) {
    let mut random = Random::seeded("killed_while_pushes_are_in_flight");
    let mut world = Apart::with_stores(1);
    let gig = world.device.client().await;
    let mut all: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut checked = 0;
    for kill in 0..kills {
        // A log for every forty kills, or reading all of it would be most of the work.
        let path = format!("/visits/{}", kill / 40);
        let mut pushes = Vec::new();
        for _ in 0..50 {
            pushes.push(push(&gig, &path).await);
        }
        let shas = pushes.iter().map(|pushed| pushed.sha().to_string());
        all.entry(path.clone()).or_default().extend(shas);
        let heard = random.below(50) as usize;
        tokio::time::timeout(DEADLINE, pushes[heard].accepted(1)).await.unwrap();
        let acknowledged: Vec<String> = pushes
            .iter()
            .map(Pushed::status)
            .filter(|receipt| receipt.accepted() == 1)
            .map(|receipt| receipt.sha.to_string())
            .collect();
        world.stores[0].kill();
        world.stores[0].again();
        // Before anything is sent again: what was acknowledged survived by itself.
        let reader = world.device.client().await;
        let log = reader.log("home", "counter", &path).unwrap();
        log.refresh(DEADLINE).await.unwrap();
        let kept: BTreeSet<String> = log.history().await.unwrap().iter().map(|(op, _)| op.sha().to_string()).collect();
        assert!(acknowledged.iter().all(|sha| kept.contains(sha)));
        checked += acknowledged.len();
        reader.close().await.unwrap();
    }
    gig.flush(None, DEADLINE).await.unwrap();
    gig.close().await.unwrap();
    println!("{kills} kills, {checked} acknowledged operations looked for right after, none missing");
    for (path, pushed) in &all {
        holds_exactly(&world.device, path, pushed).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_are_killed_together_come_back_with_logins_mounts_and_logs() {
    let mut up = crate::world::Up::start();
    for round in 1..=5 {
        up.device.push("counter", "/visits", r#"{"add":1}"#);
        up.kill();
        up.again();
        assert_eq!(up.device.get("counter", "/visits"), Value::from(round));
    }
}
