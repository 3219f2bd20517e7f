//! Quotas: what does not fit is refused before it is written, and nothing that is here is lost by it.

use std::time::Duration;

use gigfs_core::api::{PushResult, UserRoom};
use gigfs_core::wire::{ClientMessage, LogRef, ServerMessage};
use gigfs_core::{ErrorCode, Op, Refusal};
use gigfs_store_server::EngineKind;
use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::world::{Made, World, checkpoint, log, op, op_with, refusal, soon};

async fn set(world: &World, user: &str, body: &Value) -> Response {
    let path = format!("{}/admin/user/{user}/quota", world.url);
    world.http.put(path).bearer_auth(&world.admin).json(body).send().await.unwrap()
}

async fn room(world: &World) -> UserRoom {
    let path = format!("{}/admin/user/me/quota", world.url);
    world.http.get(path).bearer_auth(&world.admin).send().await.unwrap().json().await.unwrap()
}

/// An operation of about a thousand bytes.
fn kilobyte(path: &str, seq: u64) -> Op {
    op_with(&log(path), 1, seq, &[], &json!("x".repeat(950)))
}

fn codes(results: &[PushResult]) -> Vec<&str> {
    let code = |result: &PushResult| match result {
        PushResult::Accepted { .. } => "accepted",
        PushResult::Known { .. } => "known",
        PushResult::Covered { .. } => "covered",
        PushResult::Refused(refusal) => refusal.code.as_str(),
    };
    results.iter().map(code).collect()
}

async fn put(world: &World, bytes: &[u8]) -> Response {
    let path = format!("/user/me/blob/{}?channel=home", blake3::hash(bytes).to_hex());
    world.request(Method::PUT, &path).body(bytes.to_vec()).send().await.unwrap()
}

#[tokio::test]
async fn what_does_not_fit_is_refused_and_taken_once_there_is_room() {
    let world = World::start().await;
    assert_eq!(room(&world).await, UserRoom { quota: None, oplogs: 0, blobs: 0 });
    let set_to = set(&world, "me", &json!({"bytes": 3500})).await.json::<UserRoom>().await.unwrap();
    assert_eq!(set_to.quota, Some(3500));
    let a = log("/a");
    let ops: Vec<Op> = (1..=5).map(|seq| kilobyte("/a", seq)).collect();
    let mut stream = world.stream().await.welcomed().await;
    let results = stream.pushed(&a, &ops).await.unwrap();
    let full = "insufficient_storage";
    assert_eq!(codes(&results), ["accepted", "accepted", "accepted", full, full]);
    let PushResult::Refused(Refusal { message, hint, .. }) = &results[3] else { panic!("{results:?}") };
    assert!(message.contains("3500") && message.contains("me") && hint.contains("gig store quota"), "{message} {hint}");
    let used = room(&world).await.oplogs;
    assert!((2900..=3500).contains(&used), "{used}");

    // What is here is known whatever the quota says, and a small one behind one that does not fit waits for it.
    let small = op(&log("/a"), 9);
    let again = [ops[0].clone(), ops[3].clone(), small.clone(), ops[1].clone()];
    assert_eq!(codes(&stream.pushed(&a, &again).await.unwrap()), ["known", full, full, "known"]);
    assert_eq!(codes(&stream.pushed(&a, std::slice::from_ref(&small)).await.unwrap()), ["accepted"]);
    assert_eq!(room(&world).await.oplogs - used, small.to_record().len() as u64);

    assert_eq!(set(&world, "me", &json!({"bytes": 10_000})).await.status(), 200);
    assert_eq!(codes(&stream.pushed(&a, &ops[3..]).await.unwrap()), ["accepted", "accepted"]);
    // Less than is here takes nothing away.
    assert_eq!(set(&world, "me", &json!({"bytes": 0})).await.status(), 200);
    assert_eq!(codes(&stream.pushed(&a, &ops).await.unwrap()), ["known"; 5]);
    let path = "/user/me/oplog?channel=home&type=list&path=/a";
    let answer = world.request(Method::POST, path).json(&json!({"payload": 1})).send().await.unwrap();
    assert_eq!(answer.json::<Value>().await.unwrap()["results"][0]["code"], full);
    assert_eq!(set(&world, "me", &json!({"bytes": null})).await.json::<UserRoom>().await.unwrap().quota, None);
    let answer = world.request(Method::POST, path).json(&json!({"payload": 1})).send().await.unwrap();
    assert_eq!(answer.json::<Value>().await.unwrap()["results"][0]["status"], "accepted");
}

#[tokio::test]
async fn blobs_and_operations_share_one_quota_and_bases_may_go_a_little_beyond() {
    let world = World::start().await;
    set(&world, "me", &json!({"bytes": 3900})).await;
    assert_eq!(put(&world, &[1; 1500]).await.status(), 201);
    assert_eq!(put(&world, &[1; 1500]).await.status(), 200, "what is there already takes no room");
    let mut stream = world.stream().await.welcomed().await;
    let a = log("/a");
    let first = kilobyte("/a", 1);
    assert_eq!(codes(&stream.pushed(&a, std::slice::from_ref(&first)).await.unwrap()), ["accepted"]);
    let refused = put(&world, &[2; 1500]).await;
    assert_eq!(refusal(refused).await.code, ErrorCode::InsufficientStorage);
    assert_eq!(put(&world, &[3; 1300]).await.status(), 201);
    let full = stream.pushed(&a, &[kilobyte("/a", 2)]).await.unwrap();
    assert_eq!(codes(&full), ["insufficient_storage"]);
    let now = room(&world).await;
    assert_eq!(now.blobs, 2800);

    // The quota is full for writes; a base of some hundred bytes still fits, one of thousands does not.
    let small = checkpoint(&a, None, std::slice::from_ref(&first), &json!([]));
    let large = checkpoint(&a, None, std::slice::from_ref(&first), &json!(["y".repeat(2000)]));
    for (made, fits) in [(&large, false), (&small, true)] {
        let checkpoint = ClientMessage::Checkpoint {
            tag: 7,
            log: LogRef::from(&a),
            sha: made.id.sha,
            record: made.record.clone(),
            epoch: 1,
        };
        stream.send(&checkpoint).await;
        match stream.next().await {
            Some(ServerMessage::Acknowledged { tag: 7, .. }) if fits => {}
            Some(ServerMessage::Failed { tag: 7, refusal }) if !fits => {
                assert_eq!(refusal.code, ErrorCode::InsufficientStorage);
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Proposes a checkpoint, or has it installed, and returns the refusal if there is one.
async fn propose(world: &World, made: &Made, install: bool) -> Result<(), ErrorCode> {
    let mut stream = world.stream().await.welcomed().await;
    let (log, sha, record) = (LogRef::from(&made.log), made.id.sha, made.record.clone());
    stream
        .send(&match install {
            true => ClientMessage::Install { tag: 7, log, base: world.table.certified(made), instead_of: None },
            false => ClientMessage::Checkpoint { tag: 7, log, sha, record, epoch: 1 },
        })
        .await;
    match stream.next().await {
        Some(ServerMessage::Acknowledged { .. } | ServerMessage::Installed { .. }) => Ok(()),
        Some(ServerMessage::Failed { refusal, .. }) => Err(refusal.code),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn checkpoints_that_wait_and_names_count_until_they_go_also_after_a_restart() {
    let mut world = World::with(EngineKind::Fjall).await;
    set(&world, "me", &json!({"bytes": 100_000})).await;
    let a = log("/a");
    let first = kilobyte("/a", 1);
    let mut stream = world.stream().await.welcomed().await;
    stream.pushed(&a, std::slice::from_ref(&first)).await.unwrap();
    let made = |bytes: usize| checkpoint(&a, None, std::slice::from_ref(&first), &json!(["y".repeat(bytes)]));
    // Another second makes another checkpoint.
    let waits = made(30_000);
    let before = room(&world).await.oplogs;
    assert_eq!(propose(&world, &waits, false).await, Ok(()));
    let one = room(&world).await.oplogs;
    assert!((30_000..32_000).contains(&(one - before)), "{before} and then {one}");
    assert_eq!(propose(&world, &waits, false).await, Ok(()));
    assert_eq!(room(&world).await.oplogs, one, "the same one takes no more room");

    // A quarter beyond the quota there is no room for one more, and not for an operation either.
    let mut count = 1;
    while propose(&world, &made(30_000 + count), false).await == Ok(()) {
        count += 1;
    }
    assert_eq!(propose(&world, &made(29_000), false).await, Err(ErrorCode::InsufficientStorage));
    assert_eq!(count, 4, "checkpoints of 30 kB in 125 kB");
    assert_eq!(codes(&stream.pushed(&a, &[kilobyte("/a", 2)]).await.unwrap()), ["insufficient_storage"]);
    let full = room(&world).await;
    drop(stream);
    soon(world.restart(Duration::from_secs(3600))).await;
    assert_eq!(room(&world).await, full);

    // The one that is committed is the base then, and the others go.
    assert_eq!(propose(&world, &waits, true).await, Ok(()));
    let after = room(&world).await.oplogs;
    assert!(after < 36_000, "{after}");

    let mut stream = world.stream().await.welcomed().await;
    stream.send(&ClientMessage::Name { tag: 1, log: LogRef::from(&a), sealed: vec![7; 1000].into() }).await;
    assert!(matches!(stream.next().await, Some(ServerMessage::Named { .. })));
    let named = room(&world).await.oplogs - after;
    assert!((1000..1100).contains(&named), "{named}");
    set(&world, "me", &json!({"bytes": 0})).await;
    stream.send(&ClientMessage::Name { tag: 2, log: LogRef::from(&a), sealed: vec![8; 1000].into() }).await;
    let Some(ServerMessage::Failed { tag: 2, refusal }) = stream.next().await else { panic!("it was kept") };
    assert_eq!(refusal.code, ErrorCode::InsufficientStorage);
}

#[tokio::test]
async fn a_quota_outlives_the_server_and_the_owners_default_is_for_everybody_else() {
    let mut world = World::bare(EngineKind::Fjall, |config| config.user_quota = Some(2500)).await;
    world.confirm("me").await;
    assert_eq!(room(&world).await.quota, Some(2500));
    let a = log("/a");
    let ops: Vec<Op> = (1..=4).map(|seq| kilobyte("/a", seq)).collect();
    let mut stream = world.stream().await.welcomed().await;
    assert_eq!(codes(&stream.pushed(&a, &ops[..2]).await.unwrap()), ["accepted"; 2]);
    assert_eq!(put(&world, &[1; 100]).await.status(), 201);
    assert_eq!(codes(&stream.pushed(&a, &ops[2..3]).await.unwrap()), ["insufficient_storage"]);
    set(&world, "me", &json!({"bytes": 3300})).await;
    let before = room(&world).await;
    drop(stream);
    soon(world.restart(Duration::from_secs(3600))).await;
    assert_eq!(room(&world).await, before, "what is set and what is used are the same after a restart");
    let mut stream = world.stream().await.welcomed().await;
    assert_eq!(codes(&stream.pushed(&a, &ops[2..]).await.unwrap()), ["accepted", "insufficient_storage"]);
}

#[tokio::test]
async fn only_the_admin_sees_and_sets_quotas_and_only_of_users_that_there_are() {
    let world = World::start().await;
    assert_eq!(refusal(set(&world, "nobody", &json!({"bytes": 1})).await).await.code, ErrorCode::UnknownUser);
    for bad in
        [json!({}), json!({"bytes": -1}), json!({"bytes": "1"}), json!({"bites": 1}), json!({"bytes": 1, "a": 1})]
    {
        let answer = set(&world, "me", &bad).await;
        assert_eq!(refusal(answer).await.code, ErrorCode::BadRequest, "{bad}");
    }
    let path = format!("{}/admin/user/me/quota", world.url);
    let answer = world.http.put(&path).bearer_auth(world.token()).json(&json!({"bytes": 1})).send().await.unwrap();
    assert_eq!(refusal(answer).await.code, ErrorCode::Unauthorized);
    let answer = world.http.get(&path).bearer_auth(world.token()).send().await.unwrap();
    assert_eq!(refusal(answer).await.code, ErrorCode::Unauthorized);
}

#[tokio::test(flavor = "multi_thread")]
async fn quotas_are_set_while_pushes_are_written() {
    let world = World::start().await;
    let user = gigfs_core::UserName::parse("me").unwrap();
    let mut stream = world.stream().await.welcomed().await;
    let pushing = async {
        for seq in 1..=300 {
            stream.push(seq, &log("/a"), &[op(&log("/a"), seq)]).await;
        }
        for _ in 1..=300 {
            assert!(stream.next().await.is_some());
        }
    };
    let setting = async {
        for bytes in 0..100 {
            soon(world.store().set_quota(&user, Some(1_000_000 + bytes))).await.unwrap();
        }
    };
    tokio::join!(pushing, setting);
    assert_eq!(room(&world).await.quota, Some(1_000_099));
}
