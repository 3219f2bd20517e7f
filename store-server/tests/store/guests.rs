//! Sessions of guests, with whom a user's table shares a channel: what their tokens do, and how they end.

use std::time::{Duration, Instant};

use gigfs_core::token::{Permission, RevokeClaims, RevokeUse, StoreClaims};
use gigfs_core::wire::{ClientMessage, LogRef, ServerMessage};
use gigfs_core::{ChannelName, ErrorCode, SessionId};
use gigfs_store_server::EngineKind;
use reqwest::StatusCode;
use serde_json::json;

use crate::world::*;

const GUEST: SessionId = SessionId::from_bytes([5; 16]);

/// A token of the guest's session in a channel, for what was shared in an epoch.
fn guest(world: &World, channel: &str, share: u64) -> String {
    guest_with(world, channel, share, |_| {})
}

fn guest_with(world: &World, channel: &str, share: u64, change: impl FnOnce(&mut StoreClaims)) -> String {
    world.token_with(|claims| {
        claims.sid = GUEST;
        claims.channel = ChannelName::parse(channel).unwrap();
        claims.share = Some(share);
        change(claims);
    })
}

/// Has the table take back what it shared with the guest in a channel before an epoch, or end the session.
async fn unshare(world: &World, channel: Option<&str>, before: Option<u64>) -> StatusCode {
    let claims = RevokeClaims {
        iss: world.table.id.clone(),
        aud: world.store_id,
        sub: world.claims().sub,
        sid: GUEST,
        channel: channel.map(|name| ChannelName::parse(name).unwrap()),
        before,
        exp: seconds() + 60,
        usage: RevokeUse::Revoke,
    };
    let path = format!("{}/user/me/session/{GUEST}", world.url);
    world.http.delete(path).bearer_auth(world.table.sign(&claims)).send().await.unwrap().status()
}

async fn lives(stream: &mut Stream, tag: u64) {
    stream.send(&ClientMessage::Unwatch { tag }).await;
    assert_eq!(stream.next().await, Some(ServerMessage::Unwatched { tag }));
}

#[tokio::test]
async fn what_is_taken_back_ends_within_a_second_and_the_other_channels_and_sessions_go_on() {
    let world = World::start().await;
    let token = guest(&world, "home", 3);
    let mut ends = world.stream_with(None, &token).await.unwrap().welcomed().await;
    let elsewhere = guest(&world, "photos", 3);
    let mut photos = world.stream_in("photos", None, &elsewhere).await.unwrap().welcomed().await;
    let mut owner = world.stream_with(None, &world.token()).await.unwrap().welcomed().await;
    let begun = Instant::now();
    assert_eq!(unshare(&world, Some("home"), Some(4)).await, 204);
    let (refusal, close) = ends.goodbye().await;
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    assert_eq!((refusal.code, close), (ErrorCode::Revoked, 4401));
    assert_eq!(world.try_token(&token).await, Err(ErrorCode::Revoked));
    assert!(world.stream_with(None, &token).await.is_err());
    lives(&mut photos, 7).await;
    lives(&mut owner, 8).await;
    assert_eq!(world.try_token(&world.token()).await, Ok(()));
}

#[tokio::test]
async fn what_is_shared_again_is_taken_and_tokens_of_before_are_not() {
    let world = World::start().await;
    assert_eq!(unshare(&world, Some("home"), Some(4)).await, 204);
    let new = guest(&world, "home", 4);
    assert_eq!(world.try_token(&guest(&world, "home", 3)).await, Err(ErrorCode::Revoked));
    assert_eq!(world.try_token(&new).await, Ok(()));
    let mut stream = world.stream_with(None, &new).await.unwrap().welcomed().await;
    // The same call once more, and one that comes late: neither touches what was shared since.
    assert_eq!(unshare(&world, Some("home"), Some(4)).await, 204);
    assert_eq!(unshare(&world, Some("home"), Some(2)).await, 204);
    lives(&mut stream, 7).await;
    assert_eq!(world.try_token(&guest(&world, "home", 3)).await, Err(ErrorCode::Revoked));
    let without = guest_with(&world, "home", 0, |claims| claims.share = None);
    assert_eq!(world.try_token(&without).await, Err(ErrorCode::Revoked));
    assert_eq!(unshare(&world, Some("home"), None).await, 204);
    assert_eq!(stream.goodbye().await.0.code, ErrorCode::Revoked);
    assert_eq!(world.try_token(&new).await, Err(ErrorCode::Revoked));
}

#[tokio::test]
async fn a_stream_lives_by_the_share_of_the_token_that_it_was_renewed_with() {
    let world = World::start().await;
    let token = guest(&world, "home", 3);
    let mut renewed = world.stream_with(None, &token).await.unwrap().welcomed().await;
    renewed.send(&ClientMessage::Renew { tag: 1, token: guest(&world, "home", 4) }).await;
    assert_eq!(renewed.next().await, Some(ServerMessage::Renewed { tag: 1 }));
    assert_eq!(unshare(&world, Some("home"), Some(4)).await, 204);
    renewed.send(&ClientMessage::Renew { tag: 2, token }).await;
    let Some(ServerMessage::Failed { tag: 2, refusal }) = renewed.next().await else { panic!("it was renewed") };
    assert_eq!(refusal.code, ErrorCode::Revoked);
    lives(&mut renewed, 3).await;
}

#[tokio::test]
async fn what_was_taken_back_stays_so_when_the_store_starts_again() {
    let mut world = World::with(EngineKind::Fjall).await;
    assert_eq!(unshare(&world, Some("home"), Some(4)).await, 204);
    world.restart(Duration::from_secs(3600)).await;
    assert_eq!(world.try_token(&guest(&world, "home", 3)).await, Err(ErrorCode::Revoked));
    assert_eq!(world.try_token(&guest(&world, "home", 4)).await, Ok(()));
    let photos = world.stream_in("photos", None, &guest(&world, "photos", 3)).await.unwrap();
    drop(photos.welcomed().await);
}

#[tokio::test]
async fn a_session_of_a_guest_that_ends_ends_in_every_channel() {
    let world = World::start().await;
    let mut home = world.stream_with(None, &guest(&world, "home", 3)).await.unwrap().welcomed().await;
    let mut photos = world.stream_in("photos", None, &guest(&world, "photos", 9)).await.unwrap().welcomed().await;
    assert_eq!(unshare(&world, None, None).await, 204);
    assert_eq!(home.goodbye().await.0.code, ErrorCode::Revoked);
    assert_eq!(photos.goodbye().await.0.code, ErrorCode::Revoked);
    assert_eq!(world.try_token(&guest(&world, "home", 99)).await, Err(ErrorCode::Revoked));
}

#[tokio::test]
async fn a_guest_who_may_read_changes_nothing() {
    let world = World::start().await;
    let log = log("/a");
    let mut owner = world.stream().await.welcomed().await;
    owner.pushed(&log, &[op(&log, 1)]).await.unwrap();
    let token = guest_with(&world, "home", 3, |claims| claims.permission = Permission::Read);
    let mut stream = world.stream_with(None, &token).await.unwrap().welcomed().await;
    assert_eq!(stream.pushed(&log, &[op(&log, 2)]).await.unwrap_err().code, ErrorCode::Forbidden);
    let made = checkpoint(&log, None, &[op(&log, 1)], &json!([1]));
    let (log, base) = (LogRef::from(&log), world.table.certified(&made));
    let writes = [
        ClientMessage::Checkpoint { tag: 1, log: log.clone(), sha: base.sha, record: base.record.clone(), epoch: 1 },
        ClientMessage::Install { tag: 1, log: log.clone(), base: base.clone(), instead_of: None },
        ClientMessage::Cover { tag: 1, log: log.clone(), base: base.sha, shas: Vec::new() },
        ClientMessage::Dispute { tag: 1, log: log.clone(), base: base.sha },
        ClientMessage::Name { tag: 1, log: log.clone(), sealed: b"x".to_vec().into() },
    ];
    for write in writes {
        stream.send(&write).await;
        let Some(ServerMessage::Failed { refusal, .. }) = stream.next().await else { panic!("{write:?} was taken") };
        assert_eq!(refusal.code, ErrorCode::Forbidden, "{write:?}");
    }
    assert_eq!(world.try_token(&token).await, Ok(()));
    stream.send(&ClientMessage::Get { tag: 2, log, after: 0, base: None }).await;
    assert!(matches!(stream.next().await, Some(ServerMessage::Ops { .. })), "what is there is read");
}
