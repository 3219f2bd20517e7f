//! What is refused at the door, over HTTP and over the stream alike.

use gigfs_core::api::{OpJson, PushResult, Pushed};
use gigfs_core::limits::CLOCK_AHEAD_MICROS_MAX;
use gigfs_core::wire::{ClientMessage, LogRef, ServerMessage, WireOp};
use gigfs_core::{ChannelName, Date, ErrorCode, Sha, UserName};
use reqwest::Method;
use serde_json::json;

use crate::world::{World, log, op, op_with, seconds};

fn code(result: &PushResult) -> Option<ErrorCode> {
    match result {
        PushResult::Refused(refusal) => Some(refusal.code),
        _ => None,
    }
}

#[tokio::test]
async fn a_forged_operation_is_refused_and_does_not_keep_the_real_one_out() {
    let world = World::start().await;
    let a = log("/a");
    let (real, other) = (op(&a, 1), op(&a, 2));
    let mut stream = world.stream().await.welcomed().await;
    let forged = WireOp { sha: real.sha(), record: WireOp::from(&other).record };
    let moved = WireOp::from(&op(&log("/b"), 1));
    stream.send(&ClientMessage::Push { tag: 1, log: LogRef::from(&a), ops: vec![forged, moved], beyond: None }).await;
    let Some(ServerMessage::Pushed { results, .. }) = stream.next().await else { panic!("no answer") };
    assert_eq!(results.iter().map(code).collect::<Vec<_>>(), [Some(ErrorCode::ShaMismatch); 2]);

    let mut forged = OpJson::from(&other);
    forged.sha = Some(real.sha());
    let path = "/user/me/oplog?channel=home&type=list&path=/a";
    let answer = world.request(Method::POST, path).json(&forged).send().await.unwrap();
    assert_eq!(code(&answer.json::<Pushed>().await.unwrap().results[0]), Some(ErrorCode::ShaMismatch));

    stream.push(2, &a, std::slice::from_ref(&real)).await;
    assert_eq!(
        stream.next().await,
        Some(ServerMessage::Pushed { tag: 2, results: vec![PushResult::Accepted { sha: real.sha() }] })
    );
    stream.send(&ClientMessage::Get { tag: 3, log: LogRef::from(&a), after: 0, base: None }).await;
    let Some(ServerMessage::Ops { ops, header, .. }) = stream.next().await else { panic!("no answer") };
    assert_eq!((ops.len(), header.digest.count), (1, 1));
}

#[tokio::test]
async fn an_operation_is_taken_in_its_own_log_path_channel_and_user_only() {
    let world = World::start().await;
    world.confirm("you").await;
    let real = op(&log("/a"), 1);
    let json = OpJson::from(&real);
    for (user, channel, kind, path) in [
        ("me", "home", "list", "/b"),
        ("me", "home", "list", "/a/a"),
        ("me", "home", "map", "/a"),
        ("me", "work", "list", "/a"),
        ("you", "home", "list", "/a"),
    ] {
        let token = world.token_with(|claims| {
            claims.sub = UserName::parse(user).unwrap();
            claims.channel = ChannelName::parse(channel).unwrap();
        });
        let url = format!("{}/user/{user}/oplog?channel={channel}&type={kind}&path={path}", world.url);
        let answer = world.http.post(&url).bearer_auth(&token).json(&json).send().await.unwrap();
        let results = answer.json::<Pushed>().await.unwrap().results;
        assert_eq!(code(&results[0]), Some(ErrorCode::ShaMismatch), "{url}");
    }
    let mut stream = world.stream().await.welcomed().await;
    let accepted = stream.pushed(&log("/a"), std::slice::from_ref(&real)).await.unwrap();
    assert_eq!(accepted, [PushResult::Accepted { sha: real.sha() }]);
    // Once more in its own place, it is known.
    let again = stream.pushed(&log("/a"), std::slice::from_ref(&real)).await.unwrap();
    assert_eq!(again, [PushResult::Known { sha: real.sha() }]);
}

#[tokio::test]
async fn a_date_far_ahead_is_refused_with_the_stores_clock_and_an_old_one_is_taken() {
    let world = World::start().await;
    let a = log("/a");
    let dated = |micros| {
        let mut draft = op(&a, 1).draft().clone();
        draft.date = Date::saturating(micros);
        draft.finish(&a).unwrap()
    };
    let now = seconds() * 1_000_000;
    let ahead = dated(now + CLOCK_AHEAD_MICROS_MAX + 60_000_000);
    let (near, old) = (dated(now + 60_000_000), dated(1));
    let mut stream = world.stream().await.welcomed().await;
    stream.push(1, &a, &[ahead, near, old]).await;
    let Some(ServerMessage::Pushed { results, .. }) = stream.next().await else { panic!("no answer") };
    let [PushResult::Refused(refusal), PushResult::Accepted { .. }, PushResult::Accepted { .. }] = &results[..] else {
        panic!("{results:?}")
    };
    assert_eq!(refusal.code, ErrorCode::ClockAhead);
    assert!(refusal.now.unwrap().micros() >= now);
}

#[tokio::test]
async fn what_an_operation_depends_on_may_come_after_it() {
    let world = World::start().await;
    let a = log("/a");
    let orphan = op_with(&a, 1, 2, &[Sha::of(b"elsewhere")], &json!("late"));
    let mut stream = world.stream().await.welcomed().await;
    stream.push(1, &a, std::slice::from_ref(&orphan)).await;
    let Some(ServerMessage::Pushed { results, .. }) = stream.next().await else { panic!("no answer") };
    assert_eq!(results, [PushResult::Accepted { sha: orphan.sha() }]);
}
