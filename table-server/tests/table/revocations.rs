//! Revocations reach their stores: at once, or as soon as the store is back, and across a restart of the table.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use gigfs_core::ErrorCode;
use gigfs_core::api::Confirm;
use reqwest::Method;

use crate::world::*;

async fn mounted(world: &World, ann: &Person, number: u8) -> (StoreSide, Confirm) {
    let mut store = StoreSide::start(number).await;
    world.mount(ann, "notes", &store).await;
    let (_, confirm) = store.hears_confirm().await;
    (store, confirm)
}

#[tokio::test]
async fn a_store_that_is_there_hears_of_a_revocation_within_a_second() {
    let world = World::start().await;
    let ann = world.person("ann").await;
    let (mut store, confirm) = mounted(&world, &ann, 1).await;
    let other = world.log_in("ann", &ann.master, 60).await;
    let started = Instant::now();
    world.revoke(&ann, other.session.id).await;
    assert_eq!(store.hears_revoke(&confirm).await, other.session.id);
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_store_that_was_down_hears_when_it_is_back_and_delays_no_other() {
    let world = World::start().await;
    let ann = world.person("ann").await;
    let (mut down, down_confirm) = mounted(&world, &ann, 1).await;
    let (mut up, up_confirm) = mounted(&world, &ann, 2).await;
    let other = world.log_in("ann", &ann.master, 60).await;
    down.go_down().await;
    world.revoke(&ann, other.session.id).await;
    assert_eq!(up.hears_revoke(&up_confirm).await, other.session.id);
    down.come_back().await;
    assert_eq!(down.hears_revoke(&down_confirm).await, other.session.id);
}

#[tokio::test]
async fn a_store_that_refuses_a_revocation_is_asked_again() {
    let world = World::start().await;
    let ann = world.person("ann").await;
    let (mut store, confirm) = mounted(&world, &ann, 1).await;
    let other = world.log_in("ann", &ann.master, 60).await;
    store.refuse_revoke(true);
    world.revoke(&ann, other.session.id).await;
    assert_eq!(store.hears_revoke(&confirm).await, other.session.id);
    store.refuse_revoke(false);
    assert_eq!(store.hears_revoke(&confirm).await, other.session.id);
}

#[tokio::test]
async fn what_a_store_has_not_heard_survives_a_restart() {
    let mut world = World::start().await;
    let ann = world.person("ann").await;
    let (mut store, confirm) = mounted(&world, &ann, 1).await;
    let other = world.log_in("ann", &ann.master, 60).await;
    store.go_down().await;
    world.revoke(&ann, other.session.id).await;
    world.stop().await;
    store.come_back().await;
    world.restart_stopped().await;
    assert_eq!(store.hears_revoke(&confirm).await, other.session.id);
}

#[tokio::test]
async fn a_new_master_revokes_every_session_at_every_store() {
    let world = World::start().await;
    let ann = world.person("ann").await;
    let (mut one, one_confirm) = mounted(&world, &ann, 1).await;
    let (mut two, two_confirm) = mounted(&world, &ann, 2).await;
    let other = world.log_in("ann", &ann.master, 60).await;
    let new = new_master(&[2; 32]);
    let answer = world.send(Method::PUT, "/user/ann/master", &master_header(&ann.master), Some(&new)).await;
    assert_eq!(answer.status(), 204);
    let all = BTreeSet::from([ann.session.session.id, other.session.id]);
    let heard = BTreeSet::from([one.hears_revoke(&one_confirm).await, one.hears_revoke(&one_confirm).await]);
    assert_eq!(heard, all);
    let heard = BTreeSet::from([two.hears_revoke(&two_confirm).await, two.hears_revoke(&two_confirm).await]);
    assert_eq!(heard, all);
}

#[tokio::test]
async fn a_removed_store_hears_of_the_sessions_when_it_is_mounted_nowhere_any_more() {
    let world = World::start().await;
    let ann = world.person("ann").await;
    let (mut store, confirm) = mounted(&world, &ann, 1).await;
    world.mount(&ann, "photos", &store).await;
    store.hears_confirm().await;
    let token = world.mounts(&ann).await.channels[0].stores[0].token.clone();

    let remove = |channel: &str| format!("/table/{channel}/store/{}", store.id);
    let (notes, photos) = (remove("notes"), remove("photos"));
    assert_eq!(world.ask(Method::DELETE, &notes, &ann).await.status(), 200);
    refused_as(ErrorCode::Revoked, world.check("ann", &format!("Bearer {token}")).await).await;
    let still = world.mounts(&ann).await.channels[0].stores[0].token.clone();
    assert_eq!(world.check("ann", &format!("Bearer {still}")).await.status(), 200);

    assert_eq!(world.ask(Method::DELETE, &photos, &ann).await.status(), 200);
    assert_eq!(store.hears_revoke(&confirm).await, ann.session.session.id);
    assert!(store.heard.try_recv().is_err(), "the first removal made a call that cuts the other channel");
    assert_eq!(world.ask(Method::GET, "/session/check", &ann).await.status(), 200);
}

#[tokio::test]
async fn a_session_without_stores_owes_nobody_a_call() {
    let world = World::start().await;
    let ann = world.person("ann").await;
    let bob = world.person("bobby").await;
    let (mut store, confirm) = mounted(&world, &bob, 1).await;
    world.revoke(&ann, ann.session.session.id).await;
    world.revoke(&bob, bob.session.session.id).await;
    assert_eq!(store.hears_revoke(&confirm).await, bob.session.session.id, "only its own user's");
}

#[tokio::test]
async fn a_store_that_moved_hears_at_its_new_url_what_it_missed_at_the_old_one() {
    let world = World::start().await;
    let ann = world.person("ann").await;
    let (mut store, confirm) = mounted(&world, &ann, 1).await;
    let other = world.log_in("ann", &ann.master, 60).await;
    store.go_down().await;
    world.revoke(&ann, other.session.id).await;
    store.moved().await;
    world.mount(&ann, "notes", &store).await;
    store.hears_confirm().await;
    assert_eq!(store.hears_revoke(&confirm).await, other.session.id);
}

#[tokio::test]
async fn a_store_that_is_mounted_again_does_not_hear_that_it_was_removed() {
    let world = World::start().await;
    let ann = world.person("ann").await;
    let (mut store, confirm) = mounted(&world, &ann, 1).await;
    let other = world.log_in("ann", &ann.master, 60).await;
    store.go_down().await;
    assert_eq!(world.ask(Method::DELETE, "/table/notes", &ann).await.status(), 200);
    store.moved().await;
    world.mount(&ann, "notes", &store).await;
    store.hears_confirm().await;
    world.revoke(&ann, other.session.id).await;
    assert_eq!(store.hears_revoke(&confirm).await, other.session.id);
    assert!(store.heard.try_recv().is_err(), "the live session was revoked too");
    let metrics = world.send(Method::GET, "/metrics", "", None::<&()>).await.text().await.unwrap();
    assert!(metrics.contains(r#"gigfs_table_revocation_calls_total{outcome="done"} 1"#), "{metrics}");
}
