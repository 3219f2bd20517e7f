//! Ten thousand connections to one server: each side is a process, because each connection takes a file at both.

use std::io::Read;
use std::net::TcpStream;

use serde_json::json;

use crate::world::{Apart, DEADLINE, Device, Server};

#[test]
#[ignore = "takes ten thousand file descriptors in each of two processes: ulimit -n 16384"]
fn ten_thousand_idle_connections_are_closed_and_keep_nobody_out() {
    const COUNT: usize = 10_000;
    let apart = Apart::with_stores(0);
    let store = Server::store_with("{head_seconds=20, most_of_address=11000}");
    store.mount(&apart.device);
    let address = store.url.trim_start_matches("http://");
    let held: Vec<TcpStream> = (0..COUNT).map(|_| TcpStream::connect(address).unwrap()).collect();
    apart.device.push("counter", "/c", r#"{"add":1}"#);
    apart.device.run(["flush"]).ok();
    assert_eq!(Device::logged_in(&apart).get("counter", "/c"), json!(1));
    for mut socket in held {
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        assert_eq!(socket.read(&mut [0; 1]).unwrap_or(0), 0, "it is closed, and nothing was said");
    }
    apart.device.push("counter", "/c", r#"{"add":1}"#);
    apart.device.run(["flush"]).ok();
}
