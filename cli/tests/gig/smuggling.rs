//! Requests that two servers in a row could read differently, as they stand on the wire: whatever comes first, what is
//! hidden behind it is never answered as a request of its own.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::thread;

use crate::world::{DEADLINE, Server};

/// What is hidden. Its answer holds [`CANARY`], and nothing else that is sent here has it in its answer.
const HIDDEN: &str = "GET /healthz HTTP/1.1\r\nhost: hidden\r\n\r\n";
const CANARY: &str = "\"role\"";
/// Connections on which nothing more comes end soon.
const CONNECTIONS: &str = "{head_seconds=1, body_seconds=1}";

fn servers() -> [Server; 2] {
    [Server::table_with(CONNECTIONS), Server::store_with(CONNECTIONS)]
}

/// What is written and nothing more, and then everything that comes back until the server closes.
fn exchange(server: &str, request: &[u8]) -> String {
    let mut socket = TcpStream::connect(server).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    // The server may close before it has read all.
    _ = socket.write_all(request);
    let mut said = Vec::new();
    if let Err(error) = socket.read_to_end(&mut said) {
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{:?}", String::from_utf8_lossy(request));
    }
    String::from_utf8_lossy(&said).into_owned()
}

/// A request with these lines in its head and this body, hidden behind which there is another one.
fn with(lines: &str, body: &str) -> String {
    format!("POST /user/me/confirm HTTP/1.1\r\nhost: a\r\n{lines}\r\n\r\n{body}{HIDDEN}")
}

/// Requests whose end is where one server sees it and another does not.
fn with_two_ends() -> Vec<String> {
    let all = 5 + HIDDEN.len();
    let chunks = "0\r\n\r\n";
    vec![
        with(&format!("content-length: {all}\r\ntransfer-encoding: chunked"), chunks),
        with(&format!("transfer-encoding: chunked\r\ncontent-length: {all}"), chunks),
        with("content-length: 0\r\ntransfer-encoding: chunked", chunks),
        with(&format!("content-length: 0\r\ncontent-length: {}", HIDDEN.len()), ""),
        with(&format!("content-length: {}\r\ncontent-length: 0", HIDDEN.len()), ""),
        with(&format!("content-length: 0, {}", HIDDEN.len()), ""),
        with(&format!("content-length: 0\r\nx: y\r\nContent-Length: {}", HIDDEN.len()), ""),
    ]
}

/// Heads that no server may take, or that some servers take for others.
fn with_an_odd_head() -> Vec<String> {
    let lengths = ["+0", "-0", "-1", "0x0", "0 0", "0;", "zero", "", "18446744073709551616", "0\0"];
    let lengths = lengths.map(|length| format!("content-length: {length}"));
    let transfers = [
        "identity",
        "chunked, identity",
        "identity, chunked",
        "gzip, chunked",
        "xchunked",
        "chunke",
        "chunked;q=1",
        "\"chunked\"",
        "\u{b}chunked",
        "chunked\u{c}",
        "",
        ",chunked",
        "chunked\r\ntransfer-encoding: chunked",
        "chunked\r\ntransfer-encoding: identity",
        "identity\r\ntransfer-encoding: chunked",
    ];
    let transfers = transfers.map(|transfer| format!("transfer-encoding: {transfer}"));
    let lines = [
        // A space before the colon, and none of a name.
        "transfer-encoding : chunked",
        "content-length : 0",
        ": 0",
        "transfer encoding: chunked",
        "transfer_encoding\t: chunked",
        // A line that goes on in the next one.
        "x: y\r\n transfer-encoding: chunked",
        "transfer-encoding:\r\n chunked",
        "x: y\r\n\tz",
        // Lines that end otherwise.
        "x: y\rtransfer-encoding: chunked",
        "x: y\0",
        "x\r\ny: z",
    ];
    let lines = lengths.into_iter().chain(transfers).chain(lines.map(str::to_owned));
    let mut requests: Vec<String> = lines.map(|lines| with(&lines, "0\r\n\r\n")).collect();
    for line in [
        " POST /healthz HTTP/1.1",
        "POST  /healthz HTTP/1.1",
        "POST /healthz  HTTP/1.1",
        "POST /heal thz HTTP/1.1",
        "POST /healthz HTTP/1.1 ",
        "POST /healthz HTTP/2.0",
        "POST /healthz HTTP/1.1\0",
        "POST /healthz",
        "P\u{7f}ST /healthz HTTP/1.1",
    ] {
        requests.push(format!("{line}\r\nhost: a\r\ncontent-length: 0\r\n\r\n{HIDDEN}"));
    }
    let old = "POST /user/me/confirm HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n";
    requests.push(format!("{old}{HIDDEN}"));
    requests
}

/// Bodies in chunks that end early, late or nowhere.
fn with_odd_chunks() -> Vec<String> {
    let bodies = [
        "0\n\n",
        "0\r\n\n",
        "0\n\r\n",
        "-1\r\n\r\n",
        "0x0\r\n\r\n",
        " 0\r\n\r\n",
        "fffffffffffffffff\r\n\r\n",
        "10000000000000000\r\n\r\n",
        "1\r\naa\r\n0\r\n\r\n",
        "1\r\na0\r\n\r\n",
        "1\r\na\n0\r\n\r\n",
        "0;x=\n\r\n\r\n",
        "0;x=\"\r\n\r\n\"\r\n\r\n",
        "0\r\ncontent-length: 40\r\n\r\n",
        "0\r\ntransfer-encoding: chunked\r\n\r\n",
        "g\r\n\r\n",
        "\r\n0\r\n\r\n",
    ];
    bodies.map(|body| with("transfer-encoding: chunked", body)).into()
}

/// Upgrades that a server refuses, behind which a proxy may pass on whatever comes.
fn with_an_upgrade() -> Vec<String> {
    let stream = "GET /user/me/oplog/stream?channel=home HTTP/1.1\r\nhost: a\r\n";
    let wanted = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    ["sec-websocket-version: 777\r\n", "sec-websocket-version: 13\r\n", ""]
        .map(|version| format!("{stream}{wanted}{version}content-length: 40\r\n\r\n{HIDDEN}"))
        .into()
}

#[test]
fn nothing_that_is_hidden_behind_an_ambiguous_request_is_answered() {
    for server in &servers() {
        let server = server.url.trim_start_matches("http://");
        // Two plain requests in a row have two answers, so a hidden one would be seen.
        let plain = "GET /nowhere HTTP/1.1\r\nhost: a\r\n\r\n";
        assert!(exchange(server, format!("{plain}{HIDDEN}").as_bytes()).contains(CANARY));
        let requests = [with_two_ends(), with_an_odd_head(), with_odd_chunks(), with_an_upgrade()].concat();
        thread::scope(|scope| {
            for request in &requests {
                scope.spawn(move || {
                    let said = exchange(server, request.as_bytes());
                    let answers = said.matches("HTTP/1.1 ").count();
                    assert!(answers <= 1 && !said.contains(CANARY), "{request:?} is answered with {said}");
                    assert!(!said.starts_with("HTTP/1.1 2") && !said.contains(" 101 "), "{request:?}: {said}");
                });
            }
        });
        // A request whose lines end without a carriage return is the one request that it looks like.
        let bare = "GET /healthz HTTP/1.1\nhost: a\n\n";
        assert_eq!(exchange(server, bare.as_bytes()).matches("HTTP/1.1 200").count(), 1);
    }
}

#[test]
fn a_request_in_chunks_is_taken_and_is_the_last_of_its_connection() {
    for server in &servers() {
        let server = server.url.trim_start_matches("http://");
        let said = exchange(server, with("transfer-encoding: chunked", "2\r\n{}\r\n0\r\n\r\n").as_bytes());
        assert!(said.starts_with("HTTP/1.1 4") && said.contains("connection: close"), "{said}");
        assert!(!said.contains(CANARY), "{said}");
    }
}
