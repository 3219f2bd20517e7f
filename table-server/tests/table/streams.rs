//! The stream of mount table changes: the epoch now, each new one, and the end with the session.

use std::time::{Duration, Instant};

use gigfs_core::ErrorCode;
use reqwest::Method;

use crate::world::*;

#[tokio::test]
async fn a_stream_tells_the_epoch_at_once_and_each_change() {
    let world = World::start().await;
    let ann = world.person("ann").await;
    let store = StoreSide::start(1).await;
    let mut events = world.stream(&ann).await;
    assert_eq!(events.next().await.unwrap().epoch, 0);
    world.mount(&ann, "notes", &store).await;
    assert_eq!(events.next().await.unwrap().epoch, 1);
    assert_eq!(world.ask(Method::DELETE, "/table/notes", &ann).await.status(), 200);
    assert_eq!(events.next().await.unwrap().epoch, 2);
    let mut late = world.stream(&ann).await;
    assert_eq!(late.next().await.unwrap().epoch, 2);
}

#[tokio::test]
async fn a_stream_hears_nothing_of_other_users() {
    let world = World::start().await;
    let (ann, bob) = (world.person("ann").await, world.person("bobby").await);
    let store = StoreSide::start(1).await;
    let mut events = world.stream(&ann).await;
    assert_eq!(events.next().await.unwrap().epoch, 0);
    world.mount(&bob, "notes", &store).await;
    world.mount(&ann, "notes", &store).await;
    assert_eq!(events.next().await.unwrap().epoch, 1);
    let metrics = world.send(Method::GET, "/metrics", "", None::<&()>).await.text().await.unwrap();
    assert!(metrics.contains("gigfs_table_streams 1"), "{metrics}");
}

#[tokio::test]
async fn a_stream_ends_within_a_second_of_its_revocation_and_others_go_on() {
    let world = World::start().await;
    let ann = world.person("ann").await;
    let other = ann.with(world.log_in("ann", &ann.master, 60).await);
    let (mut mine, mut others) = (world.stream(&ann).await, world.stream(&other).await);
    assert!(mine.next().await.is_some() && others.next().await.is_some());
    let started = Instant::now();
    world.revoke(&ann, other.session.session.id).await;
    assert!(others.next().await.is_none());
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    let store = StoreSide::start(1).await;
    world.mount(&ann, "notes", &store).await;
    assert_eq!(mine.next().await.unwrap().epoch, 1);
    refused_as(ErrorCode::Revoked, world.ask(Method::GET, "/table/stream", &other).await).await;
}

#[tokio::test]
async fn a_stream_ends_when_the_server_stops() {
    let mut world = World::start().await;
    let ann = world.person("ann").await;
    let mut events = world.stream(&ann).await;
    assert!(events.next().await.is_some());
    let started = Instant::now();
    world.stop().await;
    assert!(events.next().await.is_none());
    let grace = Duration::from_secs(world.config.shutdown_seconds);
    assert!(started.elapsed() < grace, "the stream held the server up for {:?}", started.elapsed());
}
