//! Channels that are taken off the store.

use gigfs_core::api::{OplogPage, PushResult};
use gigfs_core::token::SealClaims;
use gigfs_core::wire::{ClientMessage, ServerMessage};
use gigfs_core::{ChannelName, ErrorCode, Op, Sha, StoreId, UserName};
use gigfs_store_server::EngineKind;
use reqwest::Method;
use serde_json::json;
use std::time::Duration;

use crate::world::{World, chain, checkpoint, log, op, refusal};

const LOG: &str = "/user/me/oplog?channel=home&type=list&path=/a";

async fn seal(world: &World, sealed: bool) {
    let token = world.table.sign(&world.seal_claims(sealed));
    assert_eq!(world.seal(&token).await.status(), 204);
}

async fn post(world: &World) -> Result<(), ErrorCode> {
    let answer = world.request(Method::POST, LOG).json(&json!({ "payload": 1 })).send().await.unwrap();
    match answer.status().is_success() {
        true => Ok(()),
        false => Err(refusal(answer).await.code),
    }
}

#[tokio::test]
async fn no_push_slips_in_after_a_seal_and_what_was_accepted_before_it_is_there() {
    let world = World::with(EngineKind::Fjall).await;
    let a = log("/a");
    let mut stream = world.stream().await.welcomed().await;
    let ops: Vec<Op> = (1..=3000).map(|seq| op(&a, seq)).collect();
    for op in &ops {
        stream.push(op.seq().get(), &a, std::slice::from_ref(op)).await;
    }
    // Some are stored by now, some are queued, and some are still on their way.
    seal(&world, true).await;
    let sealed_at: OplogPage = world.request(Method::GET, LOG).send().await.unwrap().json().await.unwrap();
    let mut accepted: Vec<Sha> = Vec::new();
    for _ in &ops {
        match stream.next().await.unwrap() {
            ServerMessage::Pushed { results, .. } => match results[..] {
                [PushResult::Accepted { sha }] => accepted.push(sha),
                _ => panic!("{results:?}"),
            },
            ServerMessage::Failed { refusal, .. } => assert_eq!(refusal.code, ErrorCode::Sealed),
            other => panic!("{other:?}"),
        }
    }
    let after = op(&a, 5000);
    assert_eq!(stream.pushed(&a, &[after]).await.unwrap_err().code, ErrorCode::Sealed);
    assert_eq!(post(&world).await, Err(ErrorCode::Sealed));
    assert_eq!(sealed_at.header.last_index, accepted.len() as u64);
    stream.send(&ClientMessage::Get { tag: 1, log: (&a).into(), after: 0, base: None }).await;
    let Some(ServerMessage::Ops { ops, header, .. }) = stream.next().await else { panic!() };
    assert_eq!(ops.iter().map(|(_, op)| op.sha).collect::<Vec<_>>(), accepted);
    assert_eq!(header, sealed_at.header);
}

#[tokio::test]
async fn a_sealed_channel_is_read_and_pruned_and_other_channels_are_written() {
    let world = World::start().await;
    let (a, mut stream) = (log("/a"), world.stream().await.welcomed().await);
    let ops = chain(&a, 1, 1..=3);
    stream.pushed(&a, &ops).await.unwrap();
    seal(&world, true).await;
    assert_eq!(post(&world).await, Err(ErrorCode::Sealed));
    let made = checkpoint(&a, None, &ops, &json!([1]));
    let (sha, record) = (made.id.sha, made.record.clone());
    stream.send(&ClientMessage::Checkpoint { tag: 1, log: (&a).into(), sha, record, epoch: 1 }).await;
    assert!(matches!(stream.next().await, Some(ServerMessage::Acknowledged { .. })));
    let base = world.table.certified(&made);
    stream.send(&ClientMessage::Install { tag: 2, log: (&a).into(), base, instead_of: None }).await;
    assert!(matches!(stream.next().await, Some(ServerMessage::Installed { .. })));
    stream.send(&ClientMessage::Cover { tag: 3, log: (&a).into(), base: sha, shas: vec![ops[0].sha()] }).await;
    assert!(matches!(stream.next().await, Some(ServerMessage::Installed { .. })));

    let token = world.token_with(|claims| claims.channel = ChannelName::parse("work").unwrap());
    let url = format!("{}/user/me/oplog?channel=work&type=list&path=/a", world.url);
    let answer = world.http.post(url).bearer_auth(token).json(&json!({ "payload": 1 })).send().await.unwrap();
    assert_eq!(answer.status(), 200);
}

#[tokio::test]
async fn a_seal_outlives_a_restart_and_its_table_or_a_new_mount_opens_the_channel() {
    let mut world = World::with(EngineKind::Fjall).await;
    assert_eq!(post(&world).await, Ok(()));
    seal(&world, true).await;
    seal(&world, true).await;
    world.restart(Duration::from_secs(3600)).await;
    assert_eq!(post(&world).await, Err(ErrorCode::Sealed));
    seal(&world, false).await;
    assert_eq!(post(&world).await, Ok(()));

    seal(&world, true).await;
    assert_eq!(post(&world).await, Err(ErrorCode::Sealed));
    world.confirm("you").await;
    assert_eq!(post(&world).await, Err(ErrorCode::Sealed), "that was another user's");
    world.confirm("me").await;
    assert_eq!(post(&world).await, Ok(()));
    world.restart(Duration::from_secs(3600)).await;
    assert_eq!(post(&world).await, Ok(()));
}

#[tokio::test]
async fn only_the_table_seals_and_only_what_its_token_names() {
    let world = World::start().await;
    let with = |change: fn(&mut SealClaims)| {
        let mut claims = world.seal_claims(true);
        change(&mut claims);
        world.table.sign(&claims)
    };
    for (token, code) in [
        (world.token(), ErrorCode::Unauthorized),
        (world.admin.clone(), ErrorCode::Unauthorized),
        (with(|claims| claims.iss = "table-2".to_owned()), ErrorCode::Unauthorized),
        (with(|claims| claims.aud = StoreId::from_bytes([7; 16])), ErrorCode::Forbidden),
        (with(|claims| claims.sub = UserName::parse("you").unwrap()), ErrorCode::Forbidden),
        (with(|claims| claims.channel = ChannelName::parse("work").unwrap()), ErrorCode::Forbidden),
        (with(|claims| claims.exp = 1), ErrorCode::Expired),
    ] {
        assert_eq!(refusal(world.seal(&token).await).await.code, code);
    }
    assert_eq!(post(&world).await, Ok(()));
}
