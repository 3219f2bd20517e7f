//! `gig bench` in its short form.

use serde_json::{Value, json};

use crate::world::{Device, Up};

#[test]
fn the_short_bench_measures_everything_with_servers_of_its_own() {
    let device = Device::new();
    let told = device.run(["--json", "bench", "--short"]).json();
    assert!(told["machine"]["cores"].as_u64().unwrap() > 0, "{told}");
    let names = names_of(&told);
    for name in [
        "fdatasync_4k_p50",
        "ack_1_p99",
        "ack_64_ops",
        "ack_1024_many_plain_syncs",
        "prop_p50",
        "get_cold_1000_bytes",
        "get_pruned_1000_ms",
        "get_warm",
        "push_memory_p50",
        "push_disk_durable_p50",
        "fold_text",
        "catch_up_ms",
        "rss",
        "open_ms",
        "disk_compacted_bytes_per_op",
    ] {
        assert!(names.contains(&name), "there is no row {name}: {names:?}");
    }
    assert!(!device.home().exists(), "the profile is not touched");
}

#[test]
fn what_was_written_to_measure_a_channel_is_gone_afterwards() {
    let up = Up::start();
    let device = Device::logged_in(&up);
    device.push("counter", "/c", r#"{"add":1}"#);
    let told = device.run(["--json", "bench", "--short", "--channel", "home", "--only", "prop"]).json();
    assert!(names_of(&told).contains(&"prop_p50"), "{told}");
    assert_eq!(device.get("counter", "/c"), json!(1));
    let logs = device.run(["--json", "ls", "home", "/gig-bench"]).json();
    let path = logs["logs"][0]["path"].as_str().unwrap();
    assert_eq!(device.get("register", path), Value::Null);
    let log = device.run(["--json", "log", "home", "register", path]).json();
    assert_eq!(log["ops"], json!([]), "{log}");
}

/// Returns the names of the rows, each of which is a measured number.
fn names_of(told: &Value) -> Vec<&str> {
    let rows = told["rows"].as_array().unwrap();
    let zero: Vec<&Value> = rows.iter().filter(|row| row["value"].as_f64().unwrap() <= 0.0).collect();
    assert!(zero.is_empty(), "nothing was measured: {zero:?}");
    rows.iter().map(|row| row["name"].as_str().unwrap()).collect()
}
