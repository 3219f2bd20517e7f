//! Clients that break the rules of the stream itself: each of their streams ends, and nobody else notices.

use std::net::SocketAddr;

use futures_util::SinkExt as _;
use gigfs_core::limits::MESSAGE_BYTES_MAX;
use gigfs_core::wire::{
    ClientMessage, LogRef, Message as _, SUBPROTOCOL_CBOR, ServerMessage, Watched, Which, WireBase, WireOp,
};
use gigfs_core::{PathPrefix, Sha};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

use crate::world::{World, log, op, soon};

/// Opens a stream by hand, and returns its socket behind the answer that upgraded it.
async fn upgraded(world: &World) -> TcpStream {
    let address: SocketAddr = world.url.trim_start_matches("http://").parse().unwrap();
    let mut socket = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "GET /user/me/oplog/stream?channel=home HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {}\r\n\
         connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-protocol: {SUBPROTOCOL_CBOR}\r\n\r\n",
        world.token()
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(soon(socket.read_u8()).await.unwrap());
    }
    assert!(answer.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&answer));
    socket
}

/// A frame with this first byte, with the mask of zeros that a client may choose.
fn frame(first: u8, content: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match content.len() {
        length @ 0..126 => frame.push(0x80 | length as u8),
        length @ 126..0x1_0000 => {
            frame.push(0x80 | 126);
            frame.extend((length as u16).to_be_bytes());
        }
        length => {
            frame.push(0x80 | 127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(content);
    frame
}

const FINAL: u8 = 0x80;
const CONTINUED: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;

/// Bytes that no client of the protocol sends, by what is wrong with them.
fn garbage() -> Vec<(&'static str, Vec<u8>)> {
    let get = ClientMessage::Unwatch { tag: 1 }.to_cbor();
    let noise: Vec<u8> = (0_u32..65_536).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let fragments = [frame(BINARY, &vec![0; MESSAGE_BYTES_MAX - 1]), frame(CONTINUED, &[0; 2])].concat();
    vec![
        ("no mask", [&[FINAL | BINARY, get.len() as u8], &*get].concat()),
        ("reserved bits", frame(FINAL | 0x70 | BINARY, &get)),
        ("a reserved opcode", frame(FINAL | 3, &get)),
        ("a reserved control opcode", frame(FINAL | 11, &[])),
        ("a long ping", frame(FINAL | PING, &[0; 126])),
        ("a ping in parts", frame(PING, &[])),
        ("a part of nothing", frame(FINAL | CONTINUED, &get)),
        ("a message within another", [frame(BINARY, &get), frame(FINAL | BINARY, &get)].concat()),
        ("a length that no memory has", [vec![FINAL | BINARY, 0xff], vec![0xff; 8], vec![0; 4]].concat()),
        ("a length over the limit", frame(FINAL | BINARY, &vec![0; MESSAGE_BYTES_MAX + 1])),
        ("parts over the limit", fragments),
        ("a message of text", frame(FINAL | TEXT, b"{}")),
        ("text that is none", frame(FINAL | TEXT, &[0xff, 0xfe])),
        ("a farewell of one byte", frame(FINAL | CLOSE, &[3])),
        ("a farewell for a reason that is none", frame(FINAL | CLOSE, &[0, 5])),
        ("noise", noise.clone()),
        ("noise in a frame", frame(FINAL | BINARY, &noise)),
        ("another protocol", b"GET / HTTP/1.1\r\nhost: a\r\n\r\n".repeat(100)),
    ]
}

#[tokio::test]
async fn frames_that_break_the_rules_end_their_stream_and_no_other() {
    let world = World::start().await;
    let mut polite = world.stream().await.welcomed().await;
    for (at, (what, bytes)) in garbage().into_iter().enumerate() {
        let mut socket = upgraded(&world).await;
        let (mut reading, mut writing) = socket.split();
        let writing = async {
            // The store may close before it has read all. It reads what comes as long as it is a frame.
            _ = writing.write_all(&bytes).await;
        };
        let mut said = Vec::new();
        let (read, ()) = tokio::join!(soon(reading.read_to_end(&mut said)), writing);
        _ = read;
        assert!(said.len() < 1000, "{what}: {} bytes", said.len());
        let seq = at as u64 + 1;
        assert_eq!(polite.pushed(&log("/a"), &[op(&log("/a"), seq)]).await.unwrap().len(), 1, "{what}");
    }
    soon(async { while world.metric("gigfs_store_streams").await > 1.0 {} }).await;
}

/// One message of each kind, about things that there are and things that there are not.
fn messages() -> Vec<Vec<u8>> {
    let (log, sha) = (LogRef::from(&log("/a")), Sha::of(b"a"));
    let base = WireBase { sha, record: vec![1; 40].into(), certificate: "a.b.c".to_owned() };
    let ops = vec![WireOp::from(&op(&crate::world::log("/a"), 1))];
    let messages = [
        ClientMessage::Push { tag: 1, log: log.clone(), ops, beyond: Some(sha) },
        ClientMessage::Get { tag: 2, log: log.clone(), after: 3, base: None },
        ClientMessage::Inventory { tag: 3, log: log.clone(), which: Which::Live },
        ClientMessage::List { tag: 4, prefix: PathPrefix::default(), after: Some(log.clone()) },
        ClientMessage::Watch { tag: 5, watched: Watched::Logs(vec![log.clone()]), after: Some(1) },
        ClientMessage::Unwatch { tag: 6 },
        ClientMessage::Renew { tag: 7, token: "a.b.c".to_owned() },
        ClientMessage::Checkpoint { tag: 8, log: log.clone(), sha, record: vec![1; 40].into(), epoch: 1 },
        ClientMessage::Install { tag: 9, log: log.clone(), base, instead_of: Some(sha) },
        ClientMessage::Cover { tag: 10, log: log.clone(), base: sha, shas: vec![sha] },
        ClientMessage::Retained { tag: 11, log: log.clone() },
        ClientMessage::Name { tag: 12, log: log.clone(), sealed: vec![7; 48].into() },
        ClientMessage::Dispute { tag: 13, log, base: sha },
    ];
    messages.iter().map(ClientMessage::to_cbor).collect()
}

/// Changes one byte of a message at a time. What is left may be another message, and then it is answered; what is none
/// ends the stream.
#[tokio::test]
async fn messages_with_a_wrong_byte_are_answered_or_end_their_stream() {
    let world = World::start().await;
    let mut polite = world.stream().await.welcomed().await;
    let (mut answered, mut ended) = (0, 0);
    for message in messages() {
        for at in (0..message.len()).step_by(3) {
            let mut wrong = message.clone();
            wrong[at] ^= 1 << (at % 8);
            let mut stream = world.stream().await.welcomed().await;
            stream.socket.send(Message::Binary(wrong.into())).await.unwrap();
            stream.send(&ClientMessage::Unwatch { tag: u64::from(u32::MAX) }).await;
            loop {
                match stream.next().await {
                    Some(ServerMessage::Unwatched { tag }) if tag == u64::from(u32::MAX) => break answered += 1,
                    Some(ServerMessage::Bye { .. }) => break ended += 1,
                    Some(_) => {}
                    None => panic!("a stream ended without a word"),
                }
            }
        }
    }
    assert!(answered > 50 && ended > 50, "{answered} were answered and {ended} ended their stream");
    assert_eq!(polite.pushed(&log("/b"), &[op(&log("/b"), 1)]).await.unwrap().len(), 1);
}
