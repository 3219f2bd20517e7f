//! What the README promises of the first minute, and of the second start.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::json;

use crate::world::{Apart, Curl, DEADLINE, Device, Up};

fn mode(file: &Path) -> u32 {
    std::fs::metadata(file).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_fresh_start_takes_a_push_with_nothing_to_set_up() {
    let up = Up::start();
    assert_eq!(
        up.device.run(["push", "home", "counter", "/visits", r#"{"add":1}"#]).ok(),
        "accepted by 1 of 1 store\n"
    );
    assert_eq!(up.device.run(["get", "home", "counter", "/visits"]).ok(), "1\n");
}

#[test]
fn a_second_start_keeps_everything_and_everybody_logged_in() {
    let mut up = Up::start();
    let other = Device::logged_in(&up);
    up.device.push("map", "/settings", r#"{"set":{"theme":"dark"}}"#);
    assert_eq!(up.stop(), Some(0));
    up.again();
    for device in [&up.device, &other] {
        assert_eq!(device.get("map", "/settings"), json!({"theme": "dark"}));
        device.push("counter", "/visits", r#"{"add":1}"#);
    }
    assert_eq!(up.device.get("counter", "/visits"), json!(2));
}

#[test]
fn servers_that_move_to_other_ports_keep_everything_and_the_login_of_their_own_device() {
    let mut up = Up::start();
    up.device.push("counter", "/visits", r#"{"add":1}"#);
    let session = up.device.profile()["session"].clone();
    assert_eq!(up.stop(), Some(0));
    up.again_elsewhere();
    assert_eq!(up.device.push("counter", "/visits", r#"{"add":1}"#)["accepted"], json!(1));
    assert_eq!(up.device.get("counter", "/visits"), json!(2));
    assert_eq!(up.device.profile()["session"], session);
    assert_eq!(Device::logged_in(&up).get("counter", "/visits"), json!(2));
}

#[test]
fn the_first_password_is_for_its_owner_only_and_logs_a_second_device_in() {
    let up = Up::start();
    assert_eq!(mode(&up.data().join("first-login.json")), 0o600);
    assert_eq!(mode(&up.device.home().join("profile.json")), 0o600);
    assert_eq!(mode(&up.device.home()), 0o700);
    up.device.push("counter", "/visits", r#"{"add":1}"#);
    let second = Device::logged_in(&up);
    assert_eq!(mode(&second.home().join("profile.json")), 0o600);
    assert_eq!(second.get("counter", "/visits"), json!(1));
    assert_ne!(up.device.profile()["session"], second.profile()["session"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_long_after_the_last_one_reaches_the_store_at_once() {
    let world = Apart::with_token_seconds(1, "2");
    let other = Device::logged_in(&world);
    for device in [&world.device, &other] {
        device.push("counter", "/visits", r#"{"add":1}"#);
    }
    // The tokens that both keep have run out when one that is newer has.
    let curl = Curl::new(&world.device, 0).await;
    let run_out = async {
        while curl.post(&curl.log("counter", "/elsewhere"), &curl.token, &json!({"payload": {"add": 1}})).await.0 == 200
        {
        }
    };
    tokio::time::timeout(DEADLINE, run_out).await.unwrap();
    assert_eq!(world.device.push("counter", "/visits", r#"{"add":1}"#)["accepted"], json!(1));
    assert_eq!(other.get("counter", "/visits"), json!(3));
}

#[test]
fn a_start_that_was_killed_is_made_good_by_the_next() {
    let mut up = Up::start();
    up.device.push("counter", "/visits", r#"{"add":1}"#);
    up.kill();
    up.again();
    assert_eq!(up.device.get("counter", "/visits"), json!(1));
}

#[test]
fn the_first_login_stays_good_when_the_first_start_ended_too_early_and_when_the_servers_move() {
    let mut up = Up::start();
    assert_eq!(up.stop(), Some(0));
    // As after a power cut right behind the making of the user.
    std::fs::remove_file(up.data().join("user-made")).unwrap();
    up.again_elsewhere();
    let login: serde_json::Value =
        serde_json::from_slice(&std::fs::read(up.data().join("first-login.json")).unwrap()).unwrap();
    assert_eq!(login["table"], up.device.profile()["table"]);
    up.device.push("counter", "/visits", r#"{"add":1}"#);
    assert_eq!(Device::logged_in(&up).get("counter", "/visits"), json!(1));
}

#[test]
fn a_device_can_forget_a_table_that_does_not_answer_any_more() {
    let mut up = Up::start();
    up.kill();
    assert_eq!(up.device.run(["logout"]).code, Some(3));
    up.device.run(["logout", "--forget"]).ok();
    assert!(!up.device.home().join("profile.json").exists());
}
