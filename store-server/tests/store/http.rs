//! The HTTP routes.

use std::fs;

use gigfs_core::api::{Confirm, ConfirmCode, Health, LogList, OplogPage, PushResult, Pushed};
use gigfs_core::limits::{
    JSON_BODY_DEPTH_MAX, JSON_BODY_MEMBERS_MAX, JSON_MEMBERS_MAX, MESSAGE_BYTES_MAX, PUSH_OPS_MAX,
};
use gigfs_core::{ErrorCode, Op, Payload, Refusal, UserName};
use gigfs_storage::{Engine as _, Fjall, Page};
use gigfs_store_server::EngineKind;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::world::{Table, World, bind, log, op, refusal, soon};

const LOG: &str = "/user/me/oplog?channel=home&type=list&path=/a";

async fn post(world: &World, body: &Value) -> Vec<PushResult> {
    let answer = world.request(Method::POST, LOG).json(body).send().await.unwrap();
    assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
    let answer = world.request(Method::POST, LOG).json(body).send().await.unwrap();
    answer.json::<Pushed>().await.unwrap().results
}

async fn get(world: &World, path: &str) -> OplogPage {
    let answer = world.request(Method::GET, path).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    answer.json().await.unwrap()
}

#[tokio::test]
async fn an_unstamped_push_is_stamped_and_falsy_payloads_are_values() {
    let world = World::start().await;
    let falsy = [json!(null), json!(0), json!(false), json!(""), json!([]), json!({})];
    for payload in &falsy {
        let answer = world.request(Method::POST, LOG).json(&json!({ "payload": payload })).send().await.unwrap();
        let pushed: Pushed = answer.json().await.unwrap();
        assert!(matches!(pushed.results[..], [PushResult::Accepted { .. }]), "{payload}: {pushed:?}");
    }
    let page = get(&world, LOG).await;
    let payloads: Vec<_> = page.ops.iter().map(|op| op.op.payload.clone().unwrap()).collect();
    assert_eq!(payloads, falsy);
    let seqs: Vec<_> = page.ops.iter().map(|op| op.op.seq.unwrap().get()).collect();
    assert_eq!(seqs, [1, 2, 3, 4, 5, 6]);
    // Each names the one before as what its author saw, and is dated after it.
    for pair in page.ops.windows(2) {
        assert_eq!(pair[1].op.deps.as_deref(), Some(&[pair[0].op.sha.unwrap()][..]));
        assert!(pair[1].op.date > pair[0].op.date);
    }
    for indexed in &page.ops {
        let (draft, sha, signature) = indexed.op.stamped().unwrap();
        Op::from_record(&log("/a"), &draft.to_record(signature.as_ref()), Some(sha)).unwrap();
    }
}

#[tokio::test]
async fn a_push_that_comes_twice_is_known_and_stored_once() {
    let world = World::start().await;
    let op = op(&log("/a"), 1);
    let results = post(&world, &serde_json::to_value(gigfs_core::api::OpJson::from(&op)).unwrap()).await;
    assert_eq!(results, [PushResult::Known { sha: op.sha() }]);
    let page = get(&world, LOG).await;
    assert_eq!((page.ops.len(), page.header.digest.count, page.more), (1, 1, false));
}

#[tokio::test]
async fn a_log_is_read_in_pages_from_any_index() {
    let world = World::start().await;
    let ops: Vec<_> = (0..5).map(|n| json!({ "payload": n })).collect();
    let answer = world.request(Method::POST, LOG).json(&json!({ "ops": ops })).send().await.unwrap();
    assert_eq!(answer.json::<Pushed>().await.unwrap().results.len(), 5);
    let page = get(&world, &format!("{LOG}&after=1&limit=2")).await;
    assert_eq!(page.ops.iter().map(|op| op.index).collect::<Vec<_>>(), [2, 3]);
    assert!(page.more);
    let page = get(&world, &format!("{LOG}&after=3&limit=2")).await;
    assert_eq!((page.ops.len(), page.more), (2, false));
}

#[tokio::test]
async fn a_path_that_is_a_prefix_of_another_is_a_log_of_its_own() {
    let world = World::start().await;
    for path in ["/foo/bar", "/foo", "/foo-x", "/other"] {
        let path = format!("/user/me/oplog?channel=home&type=list&path={path}");
        let answer = world.request(Method::POST, &path).json(&json!({ "payload": path })).send().await.unwrap();
        assert!(matches!(answer.json::<Pushed>().await.unwrap().results[..], [PushResult::Accepted { .. }]));
        assert_eq!(get(&world, &path).await.ops.len(), 1);
    }
    let list = async |query: &str| {
        let answer = world.request(Method::GET, &format!("/user/me/oplogs?channel=home{query}")).send().await.unwrap();
        let list: LogList = answer.json().await.unwrap();
        (list.logs.iter().map(|log| log.path.to_string()).collect::<Vec<_>>(), list.more)
    };
    assert_eq!(list("").await.0, ["/foo", "/foo-x", "/foo/bar", "/other"]);
    assert_eq!(list("&prefix=/foo").await, (vec!["/foo".to_owned(), "/foo/bar".to_owned()], false));
    assert_eq!(list("&limit=1&after_type=list&after_path=/foo").await, (vec!["/foo-x".to_owned()], true));
}

#[tokio::test]
async fn names_that_leave_their_folder_are_refused_however_they_are_spelt() {
    let world = World::start().await;
    for (path, code) in [
        ("/user/..%2f..%2fetc/oplog?channel=home&type=list&path=/a", ErrorCode::InvalidName),
        ("/user/%2e%2e/oplog?channel=home&type=list&path=/a", ErrorCode::InvalidName),
        ("/user/me/oplog?channel=..%2f..&type=list&path=/a", ErrorCode::InvalidName),
        ("/user/me/oplog?channel=home&type=list&path=/../a", ErrorCode::InvalidName),
        ("/user/me/oplog?channel=home&type=list&path=%2F%2e%2e%2Fa", ErrorCode::InvalidName),
        ("/user/me/oplog?channel=home&type=list&path=/a%00b", ErrorCode::InvalidName),
        ("/user/%ff/oplog?channel=home&type=list&path=/a", ErrorCode::InvalidName),
        ("/user/me/oplog?channel=home&type=list", ErrorCode::BadRequest),
        ("/user/me/oplog?channel=home&type=list&path=/a&aftr=1", ErrorCode::BadRequest),
        ("/user/me/oplog?channel=home&type=list&path=/a&after=-1", ErrorCode::BadRequest),
        ("/user/me/oplogs?channel=home&after_type=list", ErrorCode::BadRequest),
        ("/user/me/blob/..%2f..%2fadmin-token?channel=home", ErrorCode::BadRequest),
    ] {
        // Word for word: a client library would tidy the path up first.
        let mut socket = tokio::net::TcpStream::connect(world.url.strip_prefix("http://").unwrap()).await.unwrap();
        let token = world.token();
        let head =
            format!("GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\r\n");
        socket.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        soon(socket.read_to_string(&mut answer)).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let refused: Refusal = serde_json::from_str(body).unwrap_or_else(|_| panic!("{path}: {answer}"));
        assert_eq!(refused.code, code, "{path}");
        assert!(head.contains(&format!(" {} ", code.http_status())), "{path}: {head}");
    }
}

#[tokio::test]
async fn every_wrong_turn_is_answered_with_a_refusal_in_json() {
    let world = World::start().await;
    for (method, path, code) in [
        (Method::GET, "/nowhere?token=secret", ErrorCode::NotFound),
        (Method::GET, "/user/me", ErrorCode::NotFound),
        (Method::DELETE, LOG, ErrorCode::MethodNotAllowed),
        (Method::PATCH, "/healthz", ErrorCode::MethodNotAllowed),
        (Method::GET, "/user/me/oplog/stream?channel=home", ErrorCode::BadRequest),
    ] {
        let refused = refusal(world.request(method, path).send().await.unwrap()).await;
        assert_eq!(refused.code, code, "{path}");
        assert!(!refused.hint.is_empty() && !refused.message.contains("secret"), "{refused:?}");
    }
    for body in ["", "{", "{\"payload\": 1, \"extra\": 2}", "{\"ops\": 1}", "null"] {
        let answer = world.request(Method::POST, LOG).body(body).send().await.unwrap();
        assert_eq!(refusal(answer).await.code, ErrorCode::BadRequest, "{body:?}");
    }
    let nothing: Pushed =
        world.request(Method::POST, LOG).body("{\"ops\": []}").send().await.unwrap().json().await.unwrap();
    assert!(nothing.results.is_empty());
}

#[tokio::test]
async fn an_oversize_push_is_refused_with_the_limit_named_and_before_it_is_read() {
    let world = World::start().await;
    let large = "x".repeat(MESSAGE_BYTES_MAX + 1);
    let refused = refusal(world.request(Method::POST, LOG).body(large).send().await.unwrap()).await;
    assert_eq!(refused.code, ErrorCode::TooLarge);
    assert!(refused.message.contains(&MESSAGE_BYTES_MAX.to_string()), "{refused:?}");
    // The same without a length in the head.
    let chunks = futures_util::stream::iter((0..80).map(|_| Ok::<_, std::io::Error>(vec![b' '; 64 * 1024])));
    let answer = world.request(Method::POST, LOG).body(reqwest::Body::wrap_stream(chunks)).send().await;
    if let Ok(answer) = answer {
        assert_eq!(refusal(answer).await.code, ErrorCode::TooLarge);
    }
    let many = json!({ "ops": vec![json!({ "payload": 1 }); PUSH_OPS_MAX + 1] });
    let refused = refusal(world.request(Method::POST, LOG).json(&many).send().await.unwrap()).await;
    assert_eq!(refused.code, ErrorCode::TooLarge);
    assert!(refused.message.contains(&PUSH_OPS_MAX.to_string()), "{refused:?}");
    assert!(get(&world, LOG).await.ops.is_empty());
}

#[tokio::test]
async fn a_refused_operation_does_not_take_the_others_of_its_push_with_it() {
    let world = World::start().await;
    let large = json!({ "payload": "x".repeat(gigfs_core::limits::OP_PAYLOAD_BYTES_MAX) });
    let sealed = json!({ "sealed": { "epoch": 1, "bytes": "AAAA" } });
    let half = json!({ "payload": 1, "seq": 1 });
    let ops = json!({ "ops": [large, { "payload": 1 }, sealed, half, {}, { "payload": 2 }] });
    let answer = world.request(Method::POST, LOG).json(&ops).send().await.unwrap();
    let results = answer.json::<Pushed>().await.unwrap().results;
    let codes: Vec<_> = results
        .iter()
        .map(|result| match result {
            PushResult::Refused(refusal) => Some(refusal.code),
            _ => None,
        })
        .collect();
    let invalid = Some(ErrorCode::InvalidOp);
    assert_eq!(codes, [Some(ErrorCode::TooLarge), None, invalid, invalid, invalid, None]);
    assert_eq!(get(&world, LOG).await.ops.len(), 2);
}

#[tokio::test]
async fn what_was_acknowledged_is_on_disk_when_the_server_is_killed() {
    let world = World::with(EngineKind::Fjall).await;
    for n in 0..3 {
        let answer = world.request(Method::POST, LOG).json(&json!({ "payload": n })).send().await.unwrap();
        assert!(matches!(answer.json::<Pushed>().await.unwrap().results[..], [PushResult::Accepted { .. }]));
        // The disk as it is while the server runs is what a killed server would leave.
        let left = tempfile::tempdir().unwrap();
        copy(&world.data().join("oplogs"), left.path());
        let engine = Fjall::open(left.path()).unwrap();
        let ops = engine.read(&log("/a"), 0, Page::ALL).unwrap();
        assert_eq!(ops.len(), n + 1);
        let last = Op::from_record(&log("/a"), &ops[n].record, Some(ops[n].sha)).unwrap();
        assert_eq!(last.payload(), &Payload::plain(&json!(n)));
    }
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to.join(entry.file_name())),
            false => drop(fs::copy(entry.path(), to.join(entry.file_name())).unwrap()),
        }
    }
}

#[tokio::test]
async fn a_store_comes_back_with_its_id_its_users_and_its_logs() {
    let mut world = World::with(EngineKind::Fjall).await;
    let answer = world.request(Method::POST, LOG).json(&json!({ "payload": 1 })).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let (folder, token, store_id, admin) = (world.data(), world.token(), world.store_id, world.admin.clone());
    let session = gigfs_core::SessionId::from_bytes([8; 16]);
    assert_eq!(world.revoke(session).await.status(), 204);
    let revoked = world.token_with(|claims| claims.sid = session);
    world.stop().await;
    let World { folder: kept, table, http, store, .. } = world;
    drop(store);
    let (server, admin_again) = bind(&folder, EngineKind::Fjall).await;
    assert_eq!((server.store_id(), admin_again), (store_id, admin));
    let url = server.public_url().to_owned();
    let running = tokio::spawn(server.run(std::future::pending()));
    let page: OplogPage =
        http.get(format!("{url}{LOG}")).bearer_auth(token).send().await.unwrap().json().await.unwrap();
    assert_eq!(page.ops.len(), 1);
    let answer = http.get(format!("{url}{LOG}")).bearer_auth(revoked).send().await.unwrap();
    assert_eq!(refusal(answer).await.code, ErrorCode::Revoked);
    running.abort();
    drop((kept, table));
}

#[tokio::test]
async fn only_the_owner_makes_users_and_codes() {
    let world = World::start().await;
    let admin = |method: Method, path: &str, token: &str| {
        world.http.request(method, format!("{}{path}", world.url)).bearer_auth(token)
    };
    let wrong = format!("{}x", world.admin);
    for token in ["", "x", &wrong, &world.token()] {
        let answer = admin(Method::PUT, "/admin/user/you", token).send().await.unwrap();
        assert_eq!(refusal(answer).await.code, ErrorCode::Unauthorized);
    }
    let answer = admin(Method::GET, "/admin/user/you/code", &world.admin).send().await.unwrap();
    assert_eq!(refusal(answer).await.code, ErrorCode::UnknownUser);
    for _ in 0..2 {
        assert_eq!(admin(Method::PUT, "/admin/user/you", &world.admin).send().await.unwrap().status(), 204);
    }
    let code: ConfirmCode =
        admin(Method::GET, "/admin/user/you/code", &world.admin).send().await.unwrap().json().await.unwrap();
    assert!(code.expires > crate::world::seconds());
    #[cfg(unix)]
    for secret in ["admin-token", "code-secret"] {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = fs::metadata(world.data().join(secret)).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{secret}");
    }
}

#[tokio::test]
async fn a_code_brings_one_table_once_and_never_replaces_it() {
    let world = World::start().await;
    let (me, you) = (UserName::parse("me").unwrap(), UserName::parse("you").unwrap());
    world.store().create_user(&you).await.unwrap();
    let other = Table::start("table-2").await;
    let confirm = async |user: &UserName, introduction| {
        let answer = world.http.post(format!("{}/user/{user}/confirm", world.url)).json(&introduction);
        let answer = soon(answer.send()).await.unwrap();
        match answer.status().is_success() {
            true => Ok(()),
            false => Err(refusal(answer).await.code),
        }
    };
    let code = async |user: &UserName| world.store().confirm_code(user).await.unwrap().code;
    // Another table, another key, another user's code, a used code, no code.
    assert_eq!(confirm(&me, other.introduction(code(&me).await)).await, Err(ErrorCode::Conflict));
    let mut same_id = other.introduction(code(&me).await);
    same_id.table_id = world.table.id.clone();
    assert_eq!(confirm(&me, same_id).await, Err(ErrorCode::Conflict));
    assert_eq!(confirm(&you, other.introduction(code(&me).await)).await, Err(ErrorCode::Forbidden));
    assert_eq!(confirm(&you, other.introduction("x".to_owned())).await, Err(ErrorCode::Forbidden));
    assert_eq!(confirm(&you, other.introduction(world.token())).await, Err(ErrorCode::Forbidden));
    let once = code(&you).await;
    let mut no_key = other.introduction(once.clone());
    no_key.table_key = "-----BEGIN PUBLIC KEY-----".to_owned();
    assert_eq!(confirm(&you, no_key).await, Err(ErrorCode::BadRequest));
    let mut no_url = other.introduction(once.clone());
    no_url.table_url = "file:///etc/passwd".to_owned();
    assert_eq!(confirm(&you, no_url).await, Err(ErrorCode::BadRequest));
    assert_eq!(confirm(&you, other.introduction(once.clone())).await, Ok(()));
    assert_eq!(confirm(&you, other.introduction(once)).await, Err(ErrorCode::Forbidden));
    // The same table may say again where it is.
    assert_eq!(confirm(&me, world.table.introduction(code(&me).await)).await, Ok(()));
    assert_eq!(world.try_token(&world.token()).await, Ok(()));
}

#[tokio::test]
async fn the_server_tells_how_it_is() {
    let world = World::start().await;
    for path in ["/healthz", "/readyz"] {
        let health: Health = world.http.get(format!("{}{path}", world.url)).send().await.unwrap().json().await.unwrap();
        assert_eq!((health.role.as_str(), health.id), ("store", world.store_id.to_string()));
    }
    let api: Value = world.http.get(format!("{}/openapi.json", world.url)).send().await.unwrap().json().await.unwrap();
    for (path, methods) in [
        ("/user/{user}/oplog", &["get", "post"][..]),
        ("/user/{user}/oplogs", &["get"]),
        ("/user/{user}/oplog/stream", &["get"]),
        ("/user/{user}/blob/{blob}", &["put", "get", "head"]),
        ("/user/{user}/blob/have", &["post"]),
        ("/user/{user}/confirm", &["post"]),
        ("/user/{user}/session/{session}", &["delete"]),
        ("/admin/user/{user}", &["put"]),
        ("/admin/user/{user}/code", &["get"]),
    ] {
        for method in methods {
            assert!(api["paths"][path][method].is_object(), "{method} {path}");
        }
    }
    world.request(Method::POST, LOG).json(&json!({ "payload": "hush" })).send().await.unwrap();
    let text = world.http.get(format!("{}/metrics", world.url)).send().await.unwrap().text().await.unwrap();
    assert!(text.contains("gigfs_store_ops_total{result=\"accepted\"} 1"), "{text}");
    for secret in [&world.admin, "hush", "/a", &world.token()[..20]] {
        assert!(!text.contains(secret), "{secret}");
    }
}

#[tokio::test]
async fn a_store_that_may_not_connect_to_private_addresses_takes_no_table_there() {
    let world = World::bare(EngineKind::Memory, |config| config.private_networks = Some(Vec::new())).await;
    let user = UserName::parse("me").unwrap();
    world.store().create_user(&user).await.unwrap();
    let code = world.store().confirm_code(&user).await.unwrap().code;
    for table_url in [world.table.url.clone(), world.table.url.replace("127.0.0.1", "localhost")] {
        let confirm = Confirm { table_url, ..world.table.introduction(code.clone()) };
        let answer = world.http.post(format!("{}/user/me/confirm", world.url)).json(&confirm).send().await.unwrap();
        let refusal = refusal(answer).await;
        assert_eq!(refusal.code, ErrorCode::Forbidden);
        assert!(refusal.hint.contains("private_networks"), "{refusal:?}");
    }
    assert_eq!(world.try_token(&world.token()).await, Err(ErrorCode::Unauthorized), "no table speaks for the user");
    // The code was not used up: it still brings a table whose address is allowed, though nobody answers there now.
    let confirm = Confirm { table_url: "https://192.0.2.1".to_owned(), ..world.table.introduction(code.clone()) };
    let answer = world.http.post(format!("{}/user/me/confirm", world.url)).json(&confirm).send().await.unwrap();
    assert_eq!(refusal(answer).await.code, ErrorCode::Forbidden, "documentation addresses are nobody's");
    let confirm = Confirm { table_url: "https://1.1.1.1".to_owned(), ..world.table.introduction(code) };
    let answer = world.http.post(format!("{}/user/me/confirm", world.url)).json(&confirm).send().await.unwrap();
    assert_eq!(answer.status(), 200);
}

#[tokio::test]
async fn wrong_admin_tokens_are_slowed() {
    let world = World::start().await;
    let ask = |token: &str| world.http.get(format!("{}/admin/user/me/code", world.url)).bearer_auth(token).send();
    for _ in 0..11 {
        assert_eq!(refusal(ask("a-guess").await.unwrap()).await.code, ErrorCode::Unauthorized);
    }
    let answer = ask(&world.admin).await.unwrap();
    assert_eq!(answer.headers()["retry-after"], "1");
    assert_eq!(refusal(answer).await.code, ErrorCode::TooManyAttempts);
}

#[tokio::test]
async fn bombs_are_refused_before_they_go_off() {
    let world = World::start().await;
    let post = |body: Vec<u8>| world.request(Method::POST, LOG).body(body).send();
    // Of few bytes, and of much more in memory.
    let many = [b"{\"ops\":[".to_vec(), b"[],".repeat(700_000), b"[]]}".to_vec()].concat();
    let deep = [b"{\"payload\":".to_vec(), b"[".repeat(1_000_000)].concat();
    for (body, limit) in [(many, JSON_BODY_MEMBERS_MAX), (deep, JSON_BODY_DEPTH_MAX)] {
        let refusal = refusal(post(body).await.unwrap()).await;
        assert_eq!(refusal.code, ErrorCode::BadRequest);
        assert!(refusal.message.contains(&limit.to_string()) && refusal.message.len() < 200, "{refusal:?}");
    }
    let payload = format!("{{\"payload\":[{}0]}}", "0,".repeat(JSON_MEMBERS_MAX));
    let answer = post(payload.into_bytes()).await.unwrap().json::<Value>().await.unwrap();
    assert_eq!(answer["results"][0]["code"], "invalid_op", "{answer}");
    assert!(answer["results"][0]["message"].as_str().unwrap().contains("65536"), "{answer}");
    let odd = refusal(post(format!("{{\"ops\":[{:?}]}}", "x".repeat(100_000)).into_bytes()).await.unwrap()).await;
    assert!(odd.message.len() < 200, "it is not repeated");

    for encoding in ["gzip", "br", "deflate", "zstd", "x-anything", "identity, gzip"] {
        for (method, path) in [(Method::POST, LOG), (Method::POST, "/user/me/blob/have?channel=home")] {
            let request = world.request(method, path).header("content-encoding", encoding).body(vec![0; 100]);
            let refusal = refusal(request.send().await.unwrap()).await;
            assert_eq!(refusal.code, ErrorCode::UnsupportedEncoding, "{encoding}");
        }
    }
    let plain = world.request(Method::POST, LOG).header("content-encoding", "identity").body("{\"payload\":1}");
    assert_eq!(plain.send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn what_is_done_to_users_is_written_down() {
    let world = World::start().await;
    let user = UserName::parse("me").unwrap();
    world.store().set_quota(&user, Some(1_000_000)).await.unwrap();
    assert_eq!(world.seal(&world.table.sign(&world.seal_claims(true))).await.status(), 204);
    assert_eq!(world.revoke(world.claims().sid).await.status(), 204);
    let guess = world.http.get(format!("{}/admin/user/me/code", world.url)).bearer_auth("guess").send().await.unwrap();
    assert_eq!(guess.status(), 401);
    let text = fs::read_to_string(world.data().join("audit.jsonl")).unwrap();
    let entries: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let events: Vec<&str> = entries.iter().map(|entry| entry["event"].as_str().unwrap()).collect();
    let expected = [
        "user_created",
        "code_made",
        "table_confirmed",
        "quota_set",
        "channel_sealed",
        "session_revoked",
        "admin_refused",
    ];
    assert_eq!(events, expected);
    assert_eq!(entries[2]["url"], world.table.url);
    assert_eq!(entries[3]["bytes"], 1_000_000);
    assert_eq!(entries[6]["from"], "127.0.0.1");
}
