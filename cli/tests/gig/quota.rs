//! A user whose quota is full: nothing is lost, and it goes out once there is room.

use serde_json::{Value, json};

use crate::world::{Apart, Device};

#[test]
fn a_push_over_the_quota_is_kept_and_arrives_once_there_is_room() {
    let apart = Apart::with_stores(1);
    let store = &apart.stores[0];
    let device = &apart.device;
    device.push("list", "/a", r#"{"append":"before"}"#);
    device.run(["flush"]).ok();
    let room = store.admin(&["--json", "store", "quota", "me", "1K"], "").json();
    assert_eq!(room["quota"], 1024);

    let long = "x".repeat(2000);
    device.run(["--json", "push", "home", "list", "/a", &json!({"append": long}).to_string()]);
    device.run(["--json", "push", "home", "list", "/a", r#"{"append":"behind"}"#]);
    let all = json!(["before", long, "behind"]);
    assert_eq!(device.get("list", "/a"), all, "it is there for whoever wrote it");
    let flush = device.run(["--json", "flush", "--timeout", "1"]);
    assert_eq!(flush.code, Some(6), "{flush:?}");
    let status = device.run(["--json", "status"]).json();
    // What is small enough may have gone past what is not.
    let queued = &status["stores"][0]["queued"][0];
    assert_eq!((&queued["path"], queued["ops"].as_u64() >= Some(1)), (&json!("/a"), true), "{status}");
    let kept: Value = store.admin(&["--json", "store", "quota", "me"], "").json();
    assert!(kept["oplogs"].as_u64().unwrap() <= 1024, "{kept}");

    store.admin(&["store", "quota", "me", "1M"], "").ok();
    device.run(["flush"]).ok();
    assert_eq!(Device::logged_in(&apart).get("list", "/a"), all, "it is there for everybody");
    let kept: Value = store.admin(&["--json", "store", "quota", "me"], "").json();
    assert!(kept["oplogs"].as_u64().unwrap() > 2000, "{kept}");
    let wrong = store.admin(&["store", "quota", "me", "much"], "");
    assert_eq!(wrong.code, Some(2), "{wrong:?}");
    let unknown = store.admin(&["store", "quota", "nobody", "1M"], "");
    assert_eq!(unknown.code, Some(5), "{unknown:?}");
}
