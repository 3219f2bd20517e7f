//! Devices that write apart and meet.

use std::thread;

use serde_json::{Value, json};

use crate::world::{Device, Up};

/// The increments of each device.
const ADDS: usize = 100;

#[test]
fn devices_that_wrote_while_the_servers_were_down_agree_on_everything() {
    let mut up = Up::start();
    let devices: Vec<Device> = (0..3).map(|_| Device::logged_in(&up)).collect();
    let [one, two, new] = &devices[..] else { unreachable!() };
    // The third has never heard of the channel's stores when the servers go.
    for device in [one, two] {
        assert_eq!(device.get("text", "/story"), json!(""));
    }
    one.push("text", "/story", r#"{"splice":[0,0,"middle"]}"#);
    one.push("list", "/todo", r#"{"append":"first"}"#);
    one.push("set", "/tags", r#"{"add":"both"}"#);
    for device in [one, two] {
        assert_eq!(device.get("text", "/story"), json!("middle"));
        assert_eq!(device.get("list", "/todo"), json!(["first"]));
        assert_eq!(device.get("set", "/tags"), json!(["both"]));
    }
    up.kill();

    thread::scope(|scope| {
        for device in &devices {
            scope.spawn(|| {
                for _ in 0..ADDS {
                    assert_eq!(device.push("counter", "/visits", r#"{"add":1}"#)["durable"], json!(true));
                }
            });
        }
    });
    one.push("text", "/story", r#"{"splice":[0,0,"begin "]}"#);
    two.push("text", "/story", r#"{"splice":[6,0," end"]}"#);
    one.push("set", "/tags", r#"{"remove":"both"}"#);
    two.push("set", "/tags", r#"{"add":"both"}"#);
    new.push("set", "/tags", r#"{"add":"new"}"#);
    one.push("map", "/settings", r#"{"set":{"theme":"dark","one":1}}"#);
    two.push("map", "/settings", r#"{"set":{"two":2}}"#);
    new.push("map", "/settings", r#"{"set":{"new":null}}"#);
    one.push("list", "/todo", r#"{"insert":[0,"one"]}"#);
    two.push("list", "/todo", r#"{"append":"two"}"#);
    assert_eq!(one.get("text", "/story"), json!("begin middle"));
    assert_eq!(two.get("text", "/story"), json!("middle end"));
    assert_eq!(one.get("counter", "/visits"), json!(ADDS));

    up.again();
    for device in &devices {
        device.run(["flush", "--timeout", "20"]).ok();
    }
    for device in &devices {
        assert_eq!(device.get("counter", "/visits"), json!(ADDS * devices.len()));
        assert_eq!(device.get("text", "/story"), json!("begin middle end"));
        assert_eq!(
            sorted(device.get("set", "/tags")),
            [json!("both"), json!("new")],
            "an add wins over a concurrent remove"
        );
        assert_eq!(device.get("map", "/settings"), json!({"theme": "dark", "one": 1, "two": 2, "new": null}));
        assert_eq!(device.get("list", "/todo"), json!(["one", "first", "two"]));
    }
    let fresh = Device::logged_in(&up);
    assert_eq!(fresh.get("counter", "/visits"), json!(ADDS * devices.len()));
}

fn sorted(mut set: Value) -> Vec<Value> {
    let mut items = std::mem::take(set.as_array_mut().unwrap());
    items.sort_by_key(ToString::to_string);
    items
}
