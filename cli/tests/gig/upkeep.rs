//! What a store's owner does with all its data: verify, backup, restore.

use std::collections::BTreeSet;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use crate::world::{Apart, Curl, DEADLINE, Device};

const ADD: &str = r#"{"add":1}"#;

async fn held(device: &Device, url: &str, path: &str) -> Vec<String> {
    let ops = Curl::at(device, url).await.read("counter", path).await;
    ops.iter().map(|op| op["sha"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_is_made_under_load_is_whole_and_a_store_restored_from_it_is_brought_the_rest() {
    let mut world = Apart::with_stores(2);
    for _ in 0..5 {
        world.device.push("counter", "/before", ADD);
    }
    let place = tempfile::tempdir().unwrap();
    let copy = place.path().join("backup");
    let gig = world.device.client().await;
    let is_over = AtomicBool::new(false);
    let load = async {
        let mut acknowledged = 0;
        while !is_over.load(Ordering::Relaxed) {
            let mut pushed = gig.push("home", "counter", "/during", json!({"add": 1})).await.unwrap();
            tokio::time::timeout(DEADLINE, pushed.accepted(2)).await.unwrap();
            acknowledged += 1;
        }
        acknowledged
    };
    let backing_up = async {
        let (store, copy) = (&world.stores[0], copy.to_str().unwrap());
        let made = tokio::task::block_in_place(|| store.admin(&["--json", "store", "backup", copy], ""));
        is_over.store(true, Ordering::Relaxed);
        made.json()
    };
    let (pushed, made) = tokio::join!(load, backing_up);
    assert!(made["records"].as_u64().unwrap() > 0 && pushed > 0, "{made}");
    gig.close().await.unwrap();
    let verified = world.device.run(["--json", "store", "verify", copy.to_str().unwrap()]).json();
    assert_eq!(verified["damage"], json!([]));
    assert!(verified["operations"].as_u64().unwrap() >= 5, "{verified}");

    for _ in 0..3 {
        world.device.push("counter", "/after", ADD);
    }
    world.device.run(["prune", "home", "counter", "/before"]).ok();
    let url = world.stores[0].url.clone();
    let mut whole = Vec::new();
    for path in ["/before", "/during", "/after"] {
        whole.push(held(&world.device, &url, path).await.into_iter().collect::<BTreeSet<_>>());
    }
    world.stores[0].stop();
    let data = world.stores[0].data().to_owned();
    fs::remove_dir_all(&data).unwrap();
    let arguments = ["--json", "store", "restore", copy.to_str().unwrap(), "--data", data.to_str().unwrap()];
    assert_eq!(world.device.run(arguments).json()["store"], made["store"]);
    world.stores[0].again();

    let reader = Device::logged_in(&world);
    let (_on, _lines) = reader.on("counter", &["/before", "/during", "/after"]);
    let brought = async {
        for (path, whole) in ["/before", "/during", "/after"].iter().zip(&whole) {
            while held(&world.device, &url, path).await.into_iter().collect::<BTreeSet<_>>() != *whole {
                tokio::task::yield_now().await;
            }
        }
    };
    tokio::time::timeout(DEADLINE, brought).await.unwrap();
    assert_eq!(world.device.push("counter", "/after", ADD)["accepted"], json!(2));
}

#[test]
fn a_backup_goes_only_where_nothing_is_and_a_restore_too() {
    let world = Apart::with_stores(1);
    let place = tempfile::tempdir().unwrap();
    let full = place.path().join("full");
    fs::create_dir(&full).unwrap();
    fs::write(full.join("diary"), "dear diary").unwrap();
    let own = world.stores[0].data().join("copy");
    for folder in [&full, &own] {
        let refused = world.stores[0].admin(&["store", "backup", folder.to_str().unwrap()], "");
        assert_eq!(refused.code, Some(5), "{refused:?}");
    }
    let copy = place.path().join("backup");
    world.stores[0].admin(&["store", "backup", copy.to_str().unwrap()], "").ok();
    let restore = |from: &std::path::Path, to: &std::path::Path| {
        world.device.run(["store", "restore", from.to_str().unwrap(), "--data", to.to_str().unwrap()])
    };
    assert_eq!(restore(&copy, &full).code, Some(5));
    assert_eq!(restore(&full, &place.path().join("new")).code, Some(5));
    let other = place.path().join("here.new/diary");
    fs::create_dir(other.parent().unwrap()).unwrap();
    fs::write(&other, "dear diary").unwrap();
    let refused = restore(&copy, &place.path().join("here"));
    assert!(refused.code == Some(5) && refused.err.contains("here.new"), "{refused:?}");
    assert_eq!(fs::read_to_string(&other).unwrap(), "dear diary");

    let mut relative = world.device.command(["store", "restore", "backup", "--data", "there"]);
    let ran = relative.current_dir(place.path()).output().unwrap();
    assert!(ran.status.success() && place.path().join("there/oplogs").is_dir(), "{ran:?}");

    fs::write(copy.join("oplogs/0.jnl"), "no journal").unwrap();
    let damaged = restore(&copy, &place.path().join("new"));
    assert_eq!(damaged.code, Some(7), "{damaged:?}");
    assert!(damaged.err.contains("0.jnl") && !place.path().join("new").exists(), "{damaged:?}");
    assert!(!place.path().join("new.new").exists(), "a draft takes no room once it failed");
}

#[test]
fn a_backup_that_fails_leaves_nothing_behind_and_can_be_made_again() {
    let world = Apart::with_stores(1);
    world.device.push("counter", "/v", ADD);
    let place = tempfile::tempdir().unwrap();
    let (new, empty) = (place.path().join("new"), place.path().join("empty"));
    fs::create_dir(&empty).unwrap();
    let blobs = world.stores[0].data().join("blobs");
    fs::remove_dir_all(&blobs).unwrap();
    fs::write(&blobs, "no folder").unwrap();
    let back_up = |to: &std::path::Path| world.stores[0].admin(&["store", "backup", to.to_str().unwrap()], "");
    for folder in [&new, &empty] {
        let failed = back_up(folder);
        assert!(failed.code == Some(3) && failed.err.contains("the store's blobs: "), "{failed:?}");
    }
    assert!(!new.exists() && fs::read_dir(&empty).unwrap().next().is_none());
    fs::remove_file(&blobs).unwrap();
    fs::create_dir(&blobs).unwrap();
    for folder in [&new, &empty] {
        back_up(folder).ok();
    }
}

#[test]
fn verifying_names_what_is_damaged_in_a_folder_and_in_a_store_that_runs() {
    let mut world = Apart::with_stores(1);
    world.device.push("counter", "/v", ADD);
    let sound = world.stores[0].admin(&["--json", "store", "verify"], "").json();
    assert_eq!((&sound["logs"], &sound["operations"], &sound["damage"]), (&json!(1), &json!(1), &json!([])));
    let data = world.stores[0].data().to_owned();
    let folder = data.to_str().unwrap().to_owned();
    assert_eq!(world.device.run(["store", "verify", &folder]).code, Some(1), "the store has it open");

    let blob = data.join("blobs/of/me/ab");
    fs::create_dir_all(&blob).unwrap();
    fs::write(blob.join("ab".repeat(32)), "not what the name says").unwrap();
    let found = world.stores[0].admin(&["--json", "store", "verify"], "");
    assert_eq!(found.code, Some(7), "{found:?}");
    assert!(found.out.contains("the blob abab"), "{found:?}");

    world.stores[0].stop();
    fs::remove_dir_all(data.join("blobs/of/me")).unwrap();
    let (key, notes) = (data.join("signing-key.pem"), data.join("notes"));
    let own = [fs::read(&key).unwrap(), fs::read(&notes).unwrap()];
    let other = Apart::with_stores(1);
    fs::copy(other.stores[0].data().join("signing-key.pem"), &key).unwrap();
    fs::write(&notes, "no notes").unwrap();
    let found = world.device.run(["--json", "store", "verify", &folder]);
    let told: serde_json::Value = serde_json::from_str(&found.out).unwrap();
    let named: Vec<_> = told["damage"].as_array().unwrap().iter().map(|damage| &damage["what"]).collect();
    assert_eq!((found.code, named), (Some(7), vec![&json!("signing-key.pem"), &json!("notes")]));
    fs::write(&key, &own[0]).unwrap();
    fs::write(&notes, &own[1]).unwrap();

    let journal = data.join("oplogs/0.jnl");
    let mut bytes = fs::read(&journal).unwrap();
    bytes[100] ^= 1;
    fs::write(&journal, bytes).unwrap();
    let found = world.device.run(["--json", "store", "verify", &folder]);
    assert_eq!(found.code, Some(7), "{found:?}");
    let told: serde_json::Value = serde_json::from_str(&found.out).unwrap();
    assert_eq!(told["damage"][0]["what"], "0.jnl");
    assert_eq!(world.device.run(["store", "verify", "/nowhere"]).code, Some(2));
}
