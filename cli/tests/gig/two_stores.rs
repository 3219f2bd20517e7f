//! One channel on two stores, one of which comes and goes; and two tables at one store.

use serde_json::{Value, json};

use crate::world::{Apart, Curl, Device, PASSWORD, Server, Up};

const ADD: &str = r#"{"add":1}"#;

fn stores(device: &Device) -> Vec<Value> {
    device.run(["--json", "status"]).json()["stores"].as_array().unwrap().clone()
}

/// Returns what `gig status` says of the store at a URL.
fn store_at(device: &Device, url: &str) -> Value {
    stores(device).into_iter().find(|store| store["url"] == url).unwrap()
}

async fn held(device: &Device, url: &str) -> usize {
    for at in 0..2 {
        let curl = Curl::new(device, at).await;
        if curl.store == url {
            return curl.read("counter", "/v").await.len();
        }
    }
    panic!("no store is at {url}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_pushed_while_one_store_is_down_waits_for_it_and_flush_brings_it() {
    let mut world = Apart::with_stores(2);
    let me = &world.device;
    assert_eq!(me.push("counter", "/v", ADD)["accepted"], json!(2));
    world.stores[0].kill();
    let down = world.stores[0].url.clone();
    for _ in 0..5 {
        assert_eq!(me.push("counter", "/v", ADD)["accepted"], json!(1));
    }
    let status = store_at(me, &down);
    assert_eq!(status["queued"], json!([{"type": "counter", "path": "/v", "ops": 5}]));
    assert_eq!(status["up"], json!(false));
    assert_eq!(status["down"]["code"], "unreachable");
    assert!(status["down"]["message"].as_str().unwrap().contains("refused"), "{status}");
    let late = me.run(["flush", "--timeout", "1"]);
    assert_eq!(late.code, Some(6), "{late:?}");
    assert!(late.err.contains("5 operations") && late.err.contains(&down), "{late:?}");

    world.stores[0].again();
    me.run(["flush", "--timeout", "20"]).ok();
    assert_eq!(store_at(me, &down)["queued"], json!([]));
    for store in &world.stores {
        assert_eq!(held(me, &store.url).await, 6);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_only_reads_brings_what_one_store_has_to_the_other() {
    let mut world = Apart::with_stores(2);
    let author = Device::logged_in(&world);
    author.push("counter", "/v", ADD);
    world.stores[0].kill();
    author.push("counter", "/v", ADD);
    world.stores[0].again();
    // The author is never heard of again.
    drop(author);
    let reader = Device::logged_in(&world);
    assert_eq!(reader.get("counter", "/v"), json!(2));
    reader.run(["flush", "--timeout", "20"]).ok();
    let (_on, lines) = reader.on("counter", &["/v"]);
    lines.until(|line| line["value"] == json!(2));
    let lagging = world.stores[0].url.clone();
    tokio::time::timeout(crate::world::DEADLINE, async {
        while held(&world.device, &lagging).await < 2 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_removed_is_drained_first() {
    let mut world = Apart::with_stores(2);
    world.stores[1].kill();
    world.device.push("counter", "/v", ADD);
    // Only the store that is to go has it, and no device remembers it.
    world.device = Device::logged_in(&world);
    let id = store_at(&world.device, &world.stores[0].url)["store"].as_str().unwrap().to_owned();
    let undrained = world.device.run(["store", "rm", "home", &id]);
    assert_eq!(undrained.code, Some(3), "{undrained:?}");
    world.stores[1].again();
    world.device.run(["store", "rm", "home", &id]).ok();
    world.stores[0].kill();
    assert_eq!(stores(&world.device).len(), 1);
    assert_eq!(Device::logged_in(&world).get("counter", "/v"), json!(1));
    let last = world.device.run(["store", "rm", "home", stores(&world.device)[0]["store"].as_str().unwrap()]);
    assert_eq!(last.code, Some(5), "{last:?}");
}

#[test]
fn a_second_store_gets_what_was_there_before_it() {
    let mut up = Up::start();
    up.device.push("counter", "/v", ADD);
    let second = Server::store();
    second.mount(&up.device);
    up.device.run(["flush", "--timeout", "20"]).ok();
    up.kill();
    // The table is gone with the first store: the mount table is the one that was kept.
    assert_eq!(up.device.get("counter", "/v"), json!(1));
    let status = store_at(&up.device, &second.url);
    assert_eq!((&status["up"], &status["queued"]), (&json!(true), &json!([])));
}

#[test]
fn the_follower_of_a_revoked_session_ends_and_others_go_on() {
    let up = Up::start();
    let other = Device::logged_in(&up);
    let (_on, goes_on) = up.device.on("counter", &["/v"]);
    let (mut on, ends) = other.on("counter", &["/v"]);
    for lines in [&goes_on, &ends] {
        lines.until(|line| line["value"] == json!(0));
    }
    up.device.run(["session", "revoke", other.profile()["session"].as_str().unwrap()]).ok();
    assert_eq!(ends.next(), None);
    assert_eq!(on.ended(), Some(4));
    up.device.push("counter", "/v", ADD);
    goes_on.until(|line| line["value"] == json!(1));
}

#[test]
fn users_of_two_tables_share_a_store_and_see_nothing_of_each_other() {
    let mut world = Apart::with_stores(1);
    let table = Server::start_in("table", &std::env::temp_dir());
    table.admin(&["table", "add-user", "ben", "--password-stdin"], PASSWORD).ok();
    let ben = Device::new();
    ben.run_with(["login", &table.url, "--user", "ben", "--password-stdin"], PASSWORD.as_bytes()).ok();
    let store = &world.stores[0];
    ben.run(["store", "add", "home", &store.url, "--code", &store.code_of("ben"), "--plain"]).ok();
    let me = &world.device;
    for (device, add) in [(me, r#"{"add":1}"#), (&ben, r#"{"add":2}"#)] {
        device.push("counter", "/visits", add);
    }
    assert_eq!((me.get("counter", "/visits"), ben.get("counter", "/visits")), (json!(1), json!(2)));
    table.admin(&["table", "add-user", "me", "--password-stdin"], PASSWORD).ok();
    let impostor = Device::new();
    impostor.run_with(["login", &table.url, "--user", "me", "--password-stdin"], PASSWORD.as_bytes()).ok();
    let refused = impostor.run(["--json", "store", "add", "home", &world.stores[0].url]);
    assert_eq!(refused.code, Some(5), "the other table's user of that name has no code: {refused:?}");
    world.stores[0].stop();
    world.stores[0].again();
    assert_eq!((world.device.get("counter", "/visits"), ben.get("counter", "/visits")), (json!(1), json!(2)));
}
