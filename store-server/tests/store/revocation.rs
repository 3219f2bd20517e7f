//! Sessions that end, and the streams that live by them.

use std::time::{Duration, Instant};

use gigfs_core::token::{RevokeClaims, RevokeUse};
use gigfs_core::wire::{ClientMessage, ServerMessage};
use gigfs_core::{ErrorCode, SessionId, StoreId, UserName};

use crate::world::{World, refusal, seconds, soon};

const SESSION: SessionId = SessionId::from_bytes([1; 16]);
const OTHER: SessionId = SessionId::from_bytes([2; 16]);

#[tokio::test]
async fn a_revoked_sessions_streams_end_at_once_and_its_tokens_are_refused() {
    let world = World::start().await;
    let mut one = world.stream().await.welcomed().await;
    let mut two = world.stream().await.welcomed().await;
    let other = world.token_with(|claims| claims.sid = OTHER);
    let mut stays = world.stream_with(None, &other).await.unwrap().welcomed().await;
    two.watch(1, "/", None).await;
    two.next().await.unwrap();
    let begun = Instant::now();
    assert_eq!(world.revoke(SESSION).await.status(), 204);
    for stream in [&mut one, &mut two] {
        let (refusal, close) = stream.goodbye().await;
        assert_eq!((refusal.code, close), (ErrorCode::Revoked, 4401));
    }
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    assert_eq!(world.try_token(&world.token()).await, Err(ErrorCode::Revoked));
    assert!(world.stream_with(None, &world.token()).await.is_err());
    // Also a token that nobody has seen yet, and not those of another session.
    assert_eq!(world.try_token(&world.token_with(|claims| claims.exp += 9)).await, Err(ErrorCode::Revoked));
    assert_eq!(world.try_token(&other).await, Ok(()));
    stays.send(&ClientMessage::Unwatch { tag: 7 }).await;
    assert_eq!(stays.next().await, Some(ServerMessage::Unwatched { tag: 7 }));
    // It may be said twice.
    assert_eq!(world.revoke(SESSION).await.status(), 204);
}

#[tokio::test]
async fn a_store_that_is_mounted_again_asks_the_table_which_sessions_live() {
    let world = World::start().await;
    assert_eq!(world.try_token(&world.token()).await, Ok(()));
    assert_eq!(world.revoke(SESSION).await.status(), 204);
    world.confirm("me").await;
    assert_eq!(world.try_token(&world.token()).await, Ok(()));
    *world.table.answer.lock() = Err(ErrorCode::Revoked);
    world.confirm("me").await;
    assert_eq!(world.try_token(&world.token()).await, Err(ErrorCode::Revoked));
}

#[tokio::test]
async fn only_the_table_revokes() {
    let world = World::start().await;
    let claims = RevokeClaims {
        iss: world.table.id.clone(),
        aud: world.store_id,
        sub: UserName::parse("me").unwrap(),
        sid: SESSION,
        channel: None,
        before: None,
        exp: seconds() + 60,
        usage: RevokeUse::Revoke,
    };
    let revoke = async |token: &str| {
        let path = format!("{}/user/me/session/{SESSION}", world.url);
        refusal(world.http.delete(path).bearer_auth(token).send().await.unwrap()).await.code
    };
    let with = |change: fn(&mut RevokeClaims)| {
        let mut claims = claims.clone();
        change(&mut claims);
        world.table.sign(&claims)
    };
    assert_eq!(revoke(&world.token()).await, ErrorCode::Unauthorized);
    assert_eq!(revoke(&world.admin).await, ErrorCode::Unauthorized);
    assert_eq!(revoke(&with(|claims| claims.sid = OTHER)).await, ErrorCode::Forbidden);
    assert_eq!(revoke(&with(|claims| claims.aud = StoreId::from_bytes([7; 16]))).await, ErrorCode::Forbidden);
    assert_eq!(revoke(&with(|claims| claims.exp = 1)).await, ErrorCode::Expired);
    assert_eq!(world.try_token(&world.token()).await, Ok(()));
}

#[tokio::test]
async fn a_stream_ends_with_its_token_and_lives_on_with_a_renewed_one() {
    let world = World::start().await;
    let short = world.token_with(|claims| claims.exp = seconds() + 2);
    let mut ends = world.stream_with(None, &short).await.unwrap().welcomed().await;
    let mut lives = world.stream_with(None, &short).await.unwrap().welcomed().await;
    let other = world.token_with(|claims| claims.sid = OTHER);
    lives.send(&ClientMessage::Renew { tag: 1, token: other }).await;
    let Some(ServerMessage::Failed { tag: 1, refusal }) = lives.next().await else { panic!("it was renewed") };
    assert_eq!(refusal.code, ErrorCode::Forbidden);
    lives.send(&ClientMessage::Renew { tag: 2, token: world.token() }).await;
    assert_eq!(lives.next().await, Some(ServerMessage::Renewed { tag: 2 }));
    let (refusal, close) = ends.goodbye().await;
    assert_eq!((refusal.code, close), (ErrorCode::Expired, 4401));
    lives.send(&ClientMessage::Unwatch { tag: 3 }).await;
    assert_eq!(lives.next().await, Some(ServerMessage::Unwatched { tag: 3 }));
}

#[tokio::test]
async fn a_stream_ends_when_its_table_comes_back_and_says_no() {
    let world = World::start().await;
    *world.table.answer.lock() = Err(ErrorCode::Unavailable);
    let mut stream = world.stream().await.welcomed().await;
    *world.table.answer.lock() = Err(ErrorCode::Revoked);
    let (refusal, _) = soon(stream.goodbye()).await;
    assert_eq!(refusal.code, ErrorCode::Revoked);
}
