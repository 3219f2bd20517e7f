//! What is not as it should be is answered in JSON, with a code; and the routes about the server itself.

use gigfs_core::ErrorCode;
use gigfs_core::api::Health;
use reqwest::{Method, StatusCode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::world::*;

const NOTHING: Option<&()> = None;

/// Sends a request as it stands, which a client library would not, and returns the answer's status and body.
async fn raw(world: &World, request: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(world.url.trim_start_matches("http://")).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    within("the answer", stream.read_to_string(&mut answer)).await.unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
}

#[tokio::test]
async fn names_that_climb_or_hide_are_refused_as_names() {
    let world = World::start().await;
    let ann = world.person("ann").await;
    for name in ["..", "%2e%2e", "a%2fb", "..%2f..%2fetc", "a%00", "%00", "%ff", "a%20b", "-a", "%c3%a4"] {
        for path in [format!("/user/{name}/password"), format!("/user/ann/table/{name}")] {
            let request = format!(
                "GET {path} HTTP/1.1\r\nhost: t\r\nauthorization: {}\r\nconnection: close\r\n\r\n",
                ann.bearer()
            );
            let (status, body) = raw(&world, &request).await;
            let refusal: gigfs_core::Refusal = serde_json::from_str(&body).unwrap();
            assert_eq!((status, refusal.code), (400, ErrorCode::InvalidName), "{path}: {refusal}");
        }
    }
    let long = "a".repeat(65);
    let answer = world.send(Method::GET, &format!("/user/{long}/password"), "", NOTHING).await;
    assert!(refused_as(ErrorCode::InvalidName, answer).await.message.contains("64"));
}

#[tokio::test]
async fn unknown_routes_and_methods_are_refusals_with_a_hint() {
    let world = World::start().await;
    for path in ["/", "/user", "/user/ann", "/user/ann/session/new/x", "/user/ann/nothing?secret=hunter2"] {
        let refusal = refused_as(ErrorCode::NotFound, world.send(Method::GET, path, "", NOTHING).await).await;
        assert!(refusal.hint.contains("openapi.json"), "{refusal:?}");
        assert!(!refusal.message.contains("hunter2"), "{refusal}");
    }
    for (method, path) in [
        (Method::POST, "/user/ann/password"),
        (Method::GET, "/user/ann/master"),
        (Method::PUT, "/user/ann/session"),
        (Method::DELETE, "/healthz"),
    ] {
        let refusal = refused_as(ErrorCode::MethodNotAllowed, world.send(method, path, "", NOTHING).await).await;
        assert!(!refusal.hint.is_empty());
    }
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_before_it_is_read() {
    let world = World::start().await;
    let header = master_header(&[1; 32]);
    let head =
        format!("POST /user/ann/session HTTP/1.1\r\nhost: t\r\nauthorization: {header}\r\nconnection: close\r\n");
    let (status, body) = raw(&world, &format!("{head}content-length: 99999999999\r\n\r\n")).await;
    assert_eq!(status, 413);
    assert!(body.contains("too_large") && body.contains("65536"), "{body}");

    let big = serde_json::json!({ "timeout": 60, "description": "d".repeat(70_000) });
    refused_as(ErrorCode::TooLarge, world.send(Method::POST, "/user/ann/session", &header, Some(&big)).await).await;
    let chunks = futures_util::stream::iter((0..64).map(|_| Ok::<_, std::io::Error>(vec![b' '; 4096])));
    let request = world.http.post(format!("{}/user/ann/session", world.url)).header("authorization", &header);
    let answer = request.body(reqwest::Body::wrap_stream(chunks)).send().await.unwrap();
    refused_as(ErrorCode::TooLarge, answer).await;
}

#[tokio::test]
async fn bombs_are_refused_before_they_go_off() {
    let world = World::start().await;
    let ann = world.person("ann").await;
    let keyring = format!("{}/user/ann/keyring", world.url);
    // Of few bytes, and of much more in memory.
    let many = [b"{\"record\":[".to_vec(), b"[],".repeat(300_000), b"[]]}".to_vec()].concat();
    let deep = [b"{\"record\":".to_vec(), b"[".repeat(1_000_000)].concat();
    for body in [many, deep] {
        let answer = world.http.put(&keyring).header("authorization", ann.bearer()).body(body).send().await.unwrap();
        let refusal = refused(answer).await;
        assert!([ErrorCode::BadRequest, ErrorCode::TooLarge].contains(&refusal.code), "{refusal:?}");
        assert!(refusal.message.len() < 200, "{refusal:?}");
    }
    for encoding in ["gzip", "br", "deflate", "zstd", "identity, gzip"] {
        let request = world.http.put(&keyring).header("authorization", ann.bearer());
        let answer = request.header("content-encoding", encoding).body(vec![0; 100]).send().await.unwrap();
        refused_as(ErrorCode::UnsupportedEncoding, answer).await;
    }
}

/// A body of the size of a keyring is for those who have proved who they are.
#[tokio::test]
async fn a_new_master_is_proved_before_its_body_is_read() {
    let world = World::start().await;
    let ann = world.person("ann").await;
    let head = |master: &[u8]| {
        let header = master_header(master);
        format!(
            "PUT /user/ann/master HTTP/1.1\r\nhost: t\r\nauthorization: {header}\r\ncontent-length: 1000000\r\n\r\n"
        )
    };
    // Nothing of the body comes, and there is an answer.
    let mut socket = TcpStream::connect(world.url.trim_start_matches("http://")).await.unwrap();
    socket.write_all(head(&[9; 32]).as_bytes()).await.unwrap();
    let mut answer = vec![0; 12];
    within("the answer", socket.read_exact(&mut answer)).await.unwrap();
    assert_eq!(answer, b"HTTP/1.1 401");
    // Whoever guesses in this way is slowed as everywhere.
    let body = new_master(&[2; 32]);
    let put = async |master: &[u8]| {
        refused(world.send(Method::PUT, "/user/ann/master", &master_header(master), Some(&body)).await).await.code
    };
    let mut tried = 1;
    while put(&[9; 32]).await == ErrorCode::Unauthorized {
        tried += 1;
    }
    assert_eq!(tried, 11);
    assert_eq!(put(&ann.master).await, ErrorCode::TooManyAttempts);
}

#[tokio::test]
async fn a_body_that_is_not_the_expected_json_is_refused_without_its_values() {
    let world = World::start().await;
    let ann = world.person("ann").await;
    for body in ["", "{", "[]", r#"{"timeout": "hunter2"}"#, r#"{"description": "no timeout"}"#] {
        let request = world.http.post(format!("{}/user/ann/session", world.url));
        let request = request.header("authorization", master_header(&ann.master)).body(body);
        let refusal = refused_as(ErrorCode::BadRequest, request.send().await.unwrap()).await;
        assert!(refusal.message.contains("JSON") && !refusal.message.contains("hunter2"), "{refusal}");
    }
    for id in ["x", "..%2f", &"A".repeat(32)] {
        let answer = world.ask(Method::DELETE, &format!("/session/{id}"), &ann).await;
        refused_as(ErrorCode::BadRequest, answer).await;
    }
}

#[tokio::test]
async fn the_server_tells_of_itself() {
    let world = World::start().await;
    let ann = world.person("ann").await;
    for path in ["/healthz", "/readyz"] {
        let health: Health = world.send(Method::GET, path, "", NOTHING).await.json().await.unwrap();
        assert_eq!((health.role.as_str(), health.id.len()), ("table", 32));
        assert!(health.now.micros() > 1_600_000_000_000_000);
    }
    world.mounts(&ann).await;
    let answer = world.send(Method::GET, "/metrics", "", NOTHING).await;
    assert!(answer.headers()["content-type"].to_str().unwrap().starts_with("text/plain"));
    let metrics = answer.text().await.unwrap();
    let line = r#"gigfs_table_requests_total{route="/user/{user}/table",method="GET",status="200"} 1"#;
    assert!(metrics.contains(line), "{metrics}");
    assert!(metrics.contains("gigfs_table_revocations_queued 0"), "{metrics}");
    assert!(!metrics.contains("ann"), "{metrics}");
}

#[tokio::test]
async fn two_tables_in_one_process_count_apart() {
    let (one, two) = (World::start().await, World::start().await);
    one.person("ann").await;
    let metrics = two.send(Method::GET, "/metrics", "", NOTHING).await.text().await.unwrap();
    assert!(!metrics.contains("/admin/user"), "{metrics}");
}

#[tokio::test]
async fn every_route_that_is_described_is_there_with_its_method() {
    let world = World::start().await;
    let document: serde_json::Value = world.send(Method::GET, "/openapi.json", "", NOTHING).await.json().await.unwrap();
    let mut routes = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        let path = path.replace("{user}", "ann").replace("{channel}", "notes");
        let path =
            path.replace("{store}", &"0".repeat(32)).replace("{session}", &"0".repeat(32)).replace("{guest}", "bob");
        for method in methods.as_object().unwrap().keys() {
            let method: Method = method.to_uppercase().parse().unwrap();
            let status = world.send(method.clone(), &path, "", NOTHING).await.status();
            let absent = [StatusCode::NOT_FOUND, StatusCode::METHOD_NOT_ALLOWED];
            assert!(!absent.contains(&status), "{method} {path} answers {status}");
            routes += 1;
        }
    }
    assert_eq!(routes, 29, "a route was added: describe it");
    assert!(document["components"]["schemas"]["Refusal"].is_object());
    assert!(document["components"]["securitySchemes"]["master"].is_object());
}
