//! What goes over the wires between clients and servers: of what is sealed, no name and no value.

use serde_json::json;

use crate::world::{Apart, Device, Login, Server, Tap, Up};

/// What is written somewhere below, in names and values, and in no other way.
const WORDS: [&str; 9] = [
    "elderberry",
    "rowanwood",
    "hawthorn",
    "blackthorn",
    "quickset",
    "spindleberry",
    "buckthorn",
    "wayfaring",
    "dogwood",
];

/// A table and a store that everybody reaches through a wire: the client, and the servers one another.
struct Wired {
    world: Apart,
    store: Server,
    to_table: Tap,
    to_store: Tap,
}

impl Wired {
    /// Begins with a device that has made the channel `home`.
    fn start(flags: &[&str]) -> (Self, Device) {
        let world = Apart::with_stores(0);
        let store = Server::store();
        let (to_table, to_store) = (Tap::start(&world.table.url), Tap::start(&store.url));
        let wired = Self { world, store, to_table, to_store };
        let device = wired.device();
        let code = wired.store.code();
        let add = ["store", "add", "home", &wired.to_store.url, "--code", &code];
        device.run(add.iter().chain(flags)).ok();
        (wired, device)
    }

    /// Logs another device in.
    fn device(&self) -> Device {
        let (_, password) = self.world.login();
        let device = Device::new();
        let log_in = ["login", &self.to_table.url, "--user", "me", "--password-stdin"];
        device.run_with(log_in, password.as_bytes()).ok();
        device
    }

    fn heard<'w>(&self, words: &[&'w str]) -> Vec<&'w str> {
        heard(&[&self.to_table, &self.to_store], words)
    }
}

/// Returns which of some words went over some wires.
fn heard<'w>(wires: &[&Tap], words: &[&'w str]) -> Vec<&'w str> {
    let said: Vec<Vec<u8>> = wires.iter().flat_map(|wire| wire.said()).collect();
    words.iter().copied().filter(|word| said.iter().any(|said| holds(said, word))).collect()
}

fn holds(bytes: &[u8], word: &str) -> bool {
    bytes.windows(word.len()).any(|window| window.eq_ignore_ascii_case(word.as_bytes()))
}

/// Does what a person does with a channel, and writes each of [`WORDS`] as a name, in a value or both.
fn live(wired: &Wired, one: &Device) {
    let (_on, lines) = one.on("list", &["/elderberry/todo"]);
    lines.until(|line| line["path"] == "/elderberry/todo");
    one.push("list", "/elderberry/todo", r#"{"append":"rowanwood"}"#);
    one.push("list", "/elderberry/todo", r#"{"append":"hawthorn"}"#);
    one.push("map", "/blackthorn", r#"{"set":{"quickset":"spindleberry"}}"#);
    one.push("register", "/a/buckthorn/b", r#"{"set":{"note":"wayfaring"}}"#);
    one.push("set", "/tags", r#"{"add":"dogwood"}"#);
    one.run(["flush"]).ok();
    let two = wired.device();
    assert_eq!(two.get("list", "/elderberry/todo"), json!(["rowanwood", "hawthorn"]));
    assert_eq!(two.get("map", "/blackthorn"), json!({"quickset": "spindleberry"}));
    let listed = two.run(["ls", "home"]).ok();
    assert!(listed.contains("/a/buckthorn/b") && listed.contains("/blackthorn"), "{listed}");
    two.run(["ls", "home", "/elderberry"]).ok();
    two.push("list", "/elderberry/todo", r#"{"append":"quickset"}"#);
    two.run(["flush"]).ok();
    lines.until(|line| line["value"] == json!(["rowanwood", "hawthorn", "quickset"]));
    one.run(["prune", "home", "list", "/elderberry/todo"]).ok();
    one.run(["log", "home", "list", "/elderberry/todo"]).ok();
    one.run(["rm", "home", "map", "/blackthorn"]).ok();
    one.run(["status"]).ok();
    one.run(["flush"]).ok();
    let three = wired.device();
    assert_eq!(three.get("list", "/elderberry/todo"), json!(["rowanwood", "hawthorn", "quickset"]));
    three.run(["logout"]).ok();
}

#[test]
fn no_name_and_no_value_of_a_sealed_channel_goes_over_a_wire() {
    let (wired, device) = Wired::start(&[]);
    live(&wired, &device);
    assert_eq!(wired.heard(&WORDS), [""; 0]);
    assert_eq!(wired.heard(&["rowanwood", "home"]), ["home"], "names of channels are in the clear, and are found");
    let said = wired.to_store.said();
    let frames: usize = said.iter().filter(|said| holds(said, "gigfs.v1")).map(Vec::len).sum();
    assert!(frames > 10_000, "streams went over the wire: {frames} bytes");
}

#[test]
fn each_name_and_value_of_a_plain_channel_is_found_by_the_same_search() {
    let (wired, device) = Wired::start(&["--plain"]);
    live(&wired, &device);
    assert_eq!(wired.heard(&WORDS), WORDS);
}

#[test]
fn what_the_first_steps_and_the_notes_write_is_sealed_on_the_wires_of_gig_up() {
    let up = Up::sealed();
    let (to_table, to_store) = (Tap::start(&up.table), Tap::start(&up.store));
    let token = up.data().join("store/admin-token");
    let code = ["--json", "store", "code", "me", "--url", &up.store, "--admin-token", token.to_str().unwrap()];
    let code = up.device.run(code).json()["code"].as_str().unwrap().to_owned();
    up.device.run(["store", "add", "home", &to_store.url, "--code", &code]).ok();
    let (_, password) = up.login();
    let other = Device::new();
    other.run_with(["login", &to_table.url, "--user", "me", "--password-stdin"], password.as_bytes()).ok();

    up.device.push("counter", "/visits", r#"{"add":1}"#);
    other.push("counter", "/visits", r#"{"add":2}"#);
    up.device.push("map", "/notes", r#"{"set":{"shopping":true,"ideas":true}}"#);
    up.device.push("text", "/notes/shopping", r#"{"splice":[0,0,"milk and bread"]}"#);
    for device in [&up.device, &other] {
        device.run(["flush"]).ok();
    }
    assert_eq!(other.get("counter", "/visits"), json!(3));
    assert_eq!(other.get("text", "/notes/shopping"), json!("milk and bread"));
    assert_eq!(other.get("map", "/notes"), json!({"shopping": true, "ideas": true}));
    let wires = [&to_table, &to_store];
    assert_eq!(heard(&wires, &["counter", "visits", "notes", "shopping", "ideas", "milk", "bread"]), [""; 0]);
    assert_eq!(heard(&wires, &["oplog/stream", "gigfs.v1"]), ["oplog/stream", "gigfs.v1"]);
}
