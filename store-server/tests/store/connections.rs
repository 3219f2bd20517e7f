//! Connections that are too many, too slow or silent: they end, and those who behave notice nothing.

use std::net::SocketAddr;
use std::time::Duration;

use gigfs_core::ErrorCode;
use gigfs_store_server::{Config, Connections, EngineKind};
use reqwest::Method;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::interval;

use crate::world::{World, log, op, refusal, soon};

fn quick() -> Connections {
    Connections { head_seconds: 1, body_seconds: 1, idle_seconds: 2, ..Connections::default() }
}

async fn world(change: impl FnOnce(&mut Config)) -> World {
    let world = World::bare(EngineKind::Memory, change).await;
    world.confirm("me").await;
    world
}

async fn connect(world: &World) -> TcpStream {
    let address: SocketAddr = world.url.trim_start_matches("http://").parse().unwrap();
    TcpStream::connect(address).await.unwrap()
}

/// Reads until the other side closes, and returns what it said.
async fn closed(mut socket: TcpStream) -> String {
    let mut said = Vec::new();
    // A reset is an end too.
    _ = soon(socket.read_to_end(&mut said)).await;
    String::from_utf8_lossy(&said).into_owned()
}

/// Sends a byte at a time, some each second, until the other side closes, and returns what it said.
async fn drip(mut socket: TcpStream, byte: u8) -> String {
    let (mut reading, mut writing) = socket.split();
    let mut said = Vec::new();
    let dripping = async {
        let mut ticks = interval(Duration::from_millis(100));
        while writing.write_all(&[byte]).await.is_ok() {
            ticks.tick().await;
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        _ = soon(reading.read_to_end(&mut said)) => {}
        () = dripping => {}
    }
    String::from_utf8_lossy(&said).into_owned()
}

#[tokio::test]
async fn a_head_that_comes_by_drops_or_not_at_all_ends_the_connection_and_no_other() {
    let world = world(|config| config.connections = quick()).await;
    let mut stream = world.stream().await.welcomed().await;
    let (silent, begun) = (connect(&world).await, connect(&world).await);
    let (mut head, mut header) = (connect(&world).await, connect(&world).await);
    let mut two = connect(&world).await;
    head.write_all(b"GET /healthz HT").await.unwrap();
    header.write_all(b"GET /healthz HTTP/1.1\r\nhost: a\r\nx: ").await.unwrap();
    two.write_all(b"PRI * HTTP").await.unwrap();
    let mut done = connect(&world).await;
    done.write_all(b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let (silent, begun, head, header, two, done) =
        tokio::join!(closed(silent), drip(begun, b'G'), closed(head), drip(header, b'x'), closed(two), closed(done));
    for said in [silent, begun, head, header, two] {
        assert!(!said.contains("200 OK"), "{said}");
    }
    // This one had its answer, and then waited too long with the next request.
    assert!(done.contains("200 OK"), "{done}");
    // The stream was there all the time.
    assert_eq!(stream.pushed(&log("/a"), &[op(&log("/a"), 1)]).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_body_that_comes_by_drops_is_given_up() {
    let world = world(|config| config.connections = quick()).await;
    let mut socket = connect(&world).await;
    let head = format!(
        "POST /user/me/oplog?channel=home&type=list&path=/a HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {}\r\n\
         content-length: 4000000\r\nconnection: close\r\n\r\n",
        world.token()
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    let said = drip(socket, b' ').await;
    assert!(said.starts_with("HTTP/1.1 400") && said.contains("did not arrive within 1 s"), "{said}");
}

#[tokio::test]
async fn a_head_that_is_too_long_is_refused() {
    let world = world(|config| config.connections.head_bytes = 8192).await;
    let mut socket = connect(&world).await;
    let head = format!("GET /healthz HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "y".repeat(20_000));
    _ = socket.write_all(head.as_bytes()).await;
    let said = closed(socket).await;
    assert!(said.starts_with("HTTP/1.1 431"), "{said}");
    let fits = world.http.get(format!("{}/healthz", world.url)).header("x", "y".repeat(4000)).send().await.unwrap();
    assert_eq!(fits.status(), 200);
}

#[tokio::test]
async fn connections_of_one_address_and_of_all_are_capped_and_places_come_back() {
    for change in
        [|settings: &mut Connections| settings.most_of_address = 4, |settings: &mut Connections| settings.most = 4]
    {
        let world = world(|config| change(&mut config.connections)).await;
        // The client of the test holds one already.
        let held: Vec<TcpStream> = vec![connect(&world).await, connect(&world).await, connect(&world).await];
        let mut probe = Vec::new();
        let refused = loop {
            probe.push(connect(&world).await);
            if world.metric("gigfs_store_connections_refused_total").await > 0.0 {
                break probe.pop().unwrap();
            }
        };
        assert_eq!(closed(refused).await, "");
        assert!(world.metric("gigfs_store_connections").await <= 4.0);
        drop((held, probe));
        soon(async { while world.metric("gigfs_store_connections").await > 1.0 {} }).await;
        let mut socket = connect(&world).await;
        socket.write_all(b"GET /healthz HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
        assert!(closed(socket).await.contains("200 OK"));
    }
}

#[tokio::test]
async fn a_trusted_proxy_may_hold_more_connections_than_anybody_else() {
    let world = world(|config| {
        config.connections.most_of_address = 2;
        config.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    });
    let world = world.await;
    let mut held = Vec::new();
    for _ in 0..8 {
        held.push(connect(&world).await);
    }
    soon(async { while world.metric("gigfs_store_connections").await < 9.0 {} }).await;
    assert!(world.metric("gigfs_store_connections_refused_total").await < 1.0);
}

#[tokio::test]
async fn two_hundred_idle_connections_are_closed_and_keep_nobody_out() {
    let world = world(|config| {
        config.connections = Connections { head_seconds: 3, ..Connections::default() };
    });
    let world = world.await;
    let mut held = Vec::new();
    for _ in 0..200 {
        held.push(connect(&world).await);
    }
    let mut stream = world.stream().await.welcomed().await;
    assert_eq!(stream.pushed(&log("/a"), &[op(&log("/a"), 1)]).await.unwrap().len(), 1);
    assert_eq!(world.request(Method::GET, "/healthz").send().await.unwrap().status(), 200);
    for socket in held {
        assert_eq!(closed(socket).await, "");
    }
    soon(async { while world.metric("gigfs_store_connections").await > 2.0 {} }).await;
    assert_eq!(stream.pushed(&log("/a"), &[op(&log("/a"), 2)]).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_body_that_only_announces_much_costs_nothing() {
    let world = World::start().await;
    let path = "/user/me/oplog?channel=home&type=list&path=/a";
    let mut socket = connect(&world).await;
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {}\r\ncontent-length: 99999999999\r\n\r\n",
        world.token()
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut answer = vec![0; 12];
    soon(socket.read_exact(&mut answer)).await.unwrap();
    assert_eq!(answer, b"HTTP/1.1 413");
    let refused = world.request(Method::POST, path).body(vec![b' '; 5 << 20]).send().await.unwrap();
    assert_eq!(refusal(refused).await.code, ErrorCode::TooLarge);
}
