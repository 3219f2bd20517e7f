//! Pruning, end to end: a log that was written ten thousand times is read in one small answer, and what was written
//! meanwhile by somebody who was away is there all the same.

use std::time::Duration;

use gigfs::{Gig, Mode, PrunePolicy};
use serde_json::{Value, json};

use crate::world::{Apart, Curl, Device, Server, Up};

const OPS: usize = 10_000;
const AWAY_OPS: usize = 100;
const DEADLINE: Duration = Duration::from_secs(60);

/// Returns the first page of a log at one of the channel's stores, and how many bytes it had.
async fn first_page(device: &Device, store: usize, kind: &str) -> (Value, usize) {
    let curl = Curl::new(device, store).await;
    let url = curl.log(kind, "/a");
    let answer = reqwest::Client::new().get(url).bearer_auth(&curl.token).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let bytes = answer.bytes().await.unwrap();
    (serde_json::from_slice(&bytes).unwrap(), bytes.len())
}

/// Opens a client of a device of its own, which prunes only when it is asked to.
async fn client(world: &Apart, folder: Option<&std::path::Path>) -> Gig {
    let builder = Gig::builder().table(world.device.table()).in_the_clear().prune(PrunePolicy::OnDemand);
    let builder = match folder {
        Some(folder) => builder.local(folder),
        None => builder,
    };
    builder.open().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_operations_become_one_small_answer_and_a_client_that_was_away_loses_nothing() {
    let world = Apart::with_stores(2);
    let (here, folder) = (client(&world, None).await, tempfile::tempdir().unwrap());
    let away = client(&world, Some(folder.path())).await;
    assert_eq!(*away.get("home", "counter", "/a").await.unwrap(), json!(0));
    away.set_mode(Mode::Offline);
    for _ in 0..AWAY_OPS {
        away.push("home", "counter", "/a", json!({"add": 1})).await.unwrap().durable().await;
    }

    for _ in 0..OPS {
        here.push("home", "counter", "/a", json!({"add": 1})).await.unwrap();
    }
    here.flush(None, DEADLINE).await.unwrap();
    let log = here.log("home", "counter", "/a").unwrap();
    let base = log.prune(DEADLINE).await.unwrap().unwrap();
    assert_eq!(base.generation.get(), 1);
    for store in 0..2 {
        let (page, bytes) = first_page(&world.device, store, "counter").await;
        assert!(bytes < 2_048, "the answer has {bytes} bytes: {page}");
        assert_eq!(page["header"]["base"]["covered"]["count"], OPS);
        assert_eq!((&page["ops"], &page["header"]["bytes"]), (&json!([]), &json!(0)));
        assert!(page["header"]["base"]["bytes"].as_u64().unwrap() < 512, "{page}");
    }
    let cold = client(&world, None).await;
    assert_eq!(*cold.get("home", "counter", "/a").await.unwrap(), json!(OPS));

    away.set_mode(Mode::Online);
    away.flush(None, DEADLINE).await.unwrap();
    let all = json!(OPS + AWAY_OPS);
    for gig in [&here, &away, &cold] {
        gig.log("home", "counter", "/a").unwrap().until(|value| *value == all, DEADLINE).await.unwrap();
    }
    log.prune(DEADLINE).await.unwrap();
    let (page, _) = first_page(&world.device, 0, "counter").await;
    assert_eq!(page["header"]["base"]["covered"]["count"], OPS + AWAY_OPS);
    for gig in [&here, &away, &cold] {
        assert_eq!(*gig.get("home", "counter", "/a").await.unwrap(), all);
    }
    for gig in [here, away, cold] {
        gig.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_stock_type_keeps_what_arrives_late_across_a_prune() {
    let world = Apart::with_stores(1);
    let (here, folder) = (client(&world, None).await, tempfile::tempdir().unwrap());
    let away = client(&world, Some(folder.path())).await;
    let early = [
        ("register", json!({"set": "early"})),
        ("counter", json!({"add": 1})),
        ("set", json!({"add": "early"})),
        ("map", json!({"set": {"early": 1}})),
        ("list", json!({"append": "early"})),
        ("text", json!({"splice": [0, 0, "early "]})),
    ];
    let late = [
        ("register", json!({"set": "late"})),
        ("counter", json!({"add": 10})),
        ("set", json!({"add": "late"})),
        ("map", json!({"set": {"late": 2}})),
        ("list", json!({"append": "late"})),
        ("text", json!({"splice": [0, 0, "late "]})),
    ];
    for (kind, intent) in &early {
        here.push("home", kind, "/a", intent.clone()).await.unwrap();
    }
    here.flush(None, DEADLINE).await.unwrap();
    for (kind, _) in &early {
        away.log("home", kind, "/a").unwrap().refresh(DEADLINE).await.unwrap();
    }
    away.set_mode(Mode::Offline);
    // Written now, and so dated before all that follows.
    for (kind, intent) in &late {
        away.push("home", kind, "/a", intent.clone()).await.unwrap().durable().await;
    }
    for (kind, intent) in &early {
        let again = if *kind == "text" { json!({"splice": [6, 0, "again "]}) } else { intent.clone() };
        here.push("home", kind, "/a", again).await.unwrap();
    }
    here.flush(None, DEADLINE).await.unwrap();
    for (kind, _) in &early {
        here.log("home", kind, "/a").unwrap().prune(DEADLINE).await.unwrap();
    }
    away.set_mode(Mode::Online);
    away.flush(None, DEADLINE).await.unwrap();

    let expected = [
        ("register", json!("early")),
        ("counter", json!(12)),
        ("set", json!(["early", "late"])),
        ("map", json!({"early": 1, "late": 2})),
    ];
    for (kind, value) in &expected {
        for gig in [&here, &away] {
            gig.log("home", kind, "/a").unwrap().until(|found| found == value, DEADLINE).await.unwrap();
        }
    }
    for kind in ["list", "text"] {
        let counted = |value: &Value, word: &str| value.to_string().matches(word).count();
        let done = |value: &Value| counted(value, "late") == 1 && counted(value, "early") >= 1;
        let seen = here.log("home", kind, "/a").unwrap().until(done, DEADLINE).await.unwrap();
        let same = |value: &Value| *value == *seen;
        away.log("home", kind, "/a").unwrap().until(same, DEADLINE).await.unwrap();
    }
    here.close().await.unwrap();
    away.close().await.unwrap();
}

#[test]
fn what_a_log_stands_on_is_told_and_a_removed_log_costs_a_header() {
    let up = Up::start();
    for _ in 0..5 {
        up.device.push("counter", "/v", r#"{"add":1}"#);
    }
    let before = up.device.run(["--json", "log", "home", "counter", "/v"]).json();
    assert_eq!((&before["base"], &before["hold"]), (&json!(null), &json!(null)), "{before}");
    let pruned = up.device.run(["--json", "prune", "home"]).json();
    assert_eq!(pruned["logs"][0]["base"]["generation"], 1);
    up.device.push("counter", "/v", r#"{"add":10}"#);
    assert_eq!(up.device.get("counter", "/v"), json!(15));
    let told = up.device.run(["log", "home", "counter", "/v"]).ok();
    assert!(
        told.contains("base 1") && told.contains("5 operations until") && told.contains("1 operation since"),
        "{told}"
    );
    let held = up.device.run(["--json", "prune", "home", "counter", "/v", "--repair"]).json();
    assert_eq!(held["logs"][0]["base"], json!(null), "there is nothing to repair");

    up.device.run(["rm", "home", "counter", "/v"]).ok();
    assert_eq!(up.device.get("counter", "/v"), json!(0));
    let after = up.device.run(["--json", "log", "home", "counter", "/v"]).json();
    assert_eq!((&after["ops"], &after["covered"]), (&json!([]), &json!(7)), "{after}");
    assert!(after["stores"][0]["base"]["bytes"].as_u64().unwrap() < 512, "{after}");
    up.device.push("counter", "/v", r#"{"add":1}"#);
    assert_eq!(up.device.get("counter", "/v"), json!(1));
}

#[test]
fn a_pruned_log_moves_to_another_store_with_all_that_it_covers() {
    let mut world = Apart::with_stores(1);
    for _ in 0..3 {
        world.device.push("counter", "/v", r#"{"add":1}"#);
    }
    world.device.run(["prune", "home"]).ok();
    let second = Server::store();
    second.mount(&world.device);
    world.device.run(["flush", "--timeout", "20"]).ok();
    let mounts = world.device.run(["--json", "store", "ls"]).json();
    let stores = mounts["channels"][0]["stores"].as_array().unwrap().clone();
    let first = stores.iter().find(|store| store["url"] != json!(second.url)).unwrap();
    world.device.run(["store", "rm", "home", first["id"].as_str().unwrap()]).ok();
    world.stores[0].kill();
    let fresh = Device::logged_in(&world);
    assert_eq!(fresh.get("counter", "/v"), json!(3));
    let log = fresh.run(["--json", "log", "home", "counter", "/v"]).json();
    assert_eq!(log["stores"][0]["base"]["complete"], json!(true), "{log}");
    assert_eq!(fresh.push("counter", "/v", r#"{"add":1}"#)["accepted"], json!(1));
    fresh.run(["prune", "home"]).ok();
    assert_eq!(fresh.get("counter", "/v"), json!(4));
}

#[test]
fn a_store_that_is_sealed_for_nothing_takes_writes_again() {
    let mut world = Apart::with_stores(2);
    world.stores[1].kill();
    let mounts = world.device.run(["--json", "store", "ls"]).json();
    let stores = mounts["channels"][0]["stores"].as_array().unwrap().clone();
    let up = stores.iter().find(|store| store["url"] == json!(world.stores[0].url)).unwrap();
    let failed = world.device.run(["store", "rm", "home", up["id"].as_str().unwrap()]);
    assert_eq!(failed.code, Some(3), "{failed:?}");
    assert_eq!(world.device.push("counter", "/v", r#"{"add":1}"#)["accepted"], json!(1));
}
