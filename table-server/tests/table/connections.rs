//! Connections that are too many or too slow end, at the table as at a store.

use std::time::Duration;

use gigfs_table_server::Connections;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::world::*;

async fn connect(world: &World) -> TcpStream {
    TcpStream::connect(world.url.trim_start_matches("http://")).await.unwrap()
}

#[tokio::test]
async fn slow_heads_and_bodies_are_given_up() {
    let world = World::start_with(|config| {
        config.connections = Connections { head_seconds: 1, body_seconds: 1, ..Connections::default() };
    });
    let world = world.await;
    let ann = world.person("ann").await;
    let mut head = connect(&world).await;
    head.write_all(b"GET /healthz HTTP/1.1\r\nhost").await.unwrap();
    let mut said = Vec::new();
    _ = within("the end of the connection", head.read_to_end(&mut said)).await;
    assert!(!String::from_utf8_lossy(&said).contains("200 OK"));

    let mut body = connect(&world).await;
    let request = format!(
        "POST /user/ann/table/notes/store HTTP/1.1\r\nhost: a\r\nauthorization: {}\r\ncontent-length: 1000\r\n\
         connection: close\r\n\r\n{{",
        ann.bearer()
    );
    body.write_all(request.as_bytes()).await.unwrap();
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    let mut said = Vec::new();
    let (mut reading, mut writing) = body.split();
    let dripping = async {
        while writing.write_all(b" ").await.is_ok() {
            ticks.tick().await;
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        _ = within("an answer", reading.read_to_end(&mut said)) => {}
        () = dripping => {}
    }
    let said = String::from_utf8_lossy(&said);
    assert!(said.starts_with("HTTP/1.1 400") && said.contains("did not arrive within 1 s"), "{said}");
}

#[tokio::test]
async fn one_connection_too_many_is_closed() {
    let world = World::start_with(|config| config.connections.most_of_address = 1).await;
    let _held = connect(&world).await;
    let mut refused = connect(&world).await;
    let mut said = Vec::new();
    _ = within("the end of the connection", refused.read_to_end(&mut said)).await;
    assert_eq!(said, b"");
}
