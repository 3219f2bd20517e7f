//! A token in somebody else's hands: how long it is good for, at stores that the table reaches and at those it does not.

use std::time::{Duration, Instant};

use gigfs_core::SessionId;

use crate::world::{Apart, DEADLINE, Device, Live, Server, Tap, tokens};

fn session(device: &Device) -> SessionId {
    device.profile()["session"].as_str().unwrap().parse().unwrap()
}

/// Asks a store for a log with a token, and returns the status of its answer.
async fn read(store: &str, token: &str) -> u16 {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("{store}/user/me/oplog?channel=home&type=counter&path=/v");
    http.get(url).bearer_auth(token).send().await.unwrap().status().as_u16()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_ends_live_streams_within_a_second_at_every_store_that_is_reached() {
    let mut world = Apart::with_stores(3);
    let stolen: Vec<Device> = (0..3).map(|_| Device::logged_in(&world)).collect();
    let owner = world.device.table();
    // A third store is gone, and delays nothing.
    world.stores[2].kill();
    let gone = world.stores[2].url.clone();
    let mut own = Vec::new();
    for (url, token) in tokens(&owner).await.iter().filter(|(url, _)| *url != gone) {
        own.push(Live::open(url, token).await);
    }
    let mut longest = Duration::ZERO;
    for device in &stolen {
        let tokens = tokens(&device.table()).await;
        let reached: Vec<_> = tokens.iter().filter(|(url, _)| *url != gone).collect();
        let mut streams = Vec::new();
        for (url, token) in &reached {
            streams.push(Live::open(url, token).await);
        }
        assert_eq!(streams.len(), 2);
        let begun = Instant::now();
        owner.revoke(session(device)).await.unwrap();
        for stream in streams {
            let (code, at) = stream.ended().await;
            assert_eq!(code, "revoked");
            longest = longest.max(at - begun);
        }
        for (url, token) in &reached {
            assert_eq!(read(url, token).await, 401);
            assert!(Live::try_open(url, token).await.is_none());
        }
    }
    println!("streams at two stores ended {longest:?} after their session at the latest");
    assert!(longest < Duration::from_secs(1), "{longest:?}");
    for stream in &mut own {
        assert!(stream.answers().await, "another session goes on");
    }
}

/// A table and a store that it reaches through a wire only, with tokens that live so long.
fn behind_a_wire(token_seconds: &str) -> (Apart, Server, Tap) {
    let world = Apart::with_token_seconds(0, token_seconds);
    let store = Server::store();
    let wire = Tap::start(&store.url);
    store.mount_at(&world.device, &wire.url);
    (world, store, wire)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_that_does_not_reach_its_store_counts_as_soon_as_it_does() {
    let (world, store, wire) = behind_a_wire("3600");
    let stolen = Device::logged_in(&world);
    let (_, token) = tokens(&stolen.table()).await.remove(0);
    let mut stream = Live::open(&store.url, &token).await;
    wire.cut();
    world.device.table().revoke(session(&stolen)).await.unwrap();
    assert!(stolen.table().mounts().await.is_err(), "at the table it counts at once");
    // What the store has not heard it cannot know.
    assert_eq!(read(&store.url, &token).await, 200);
    assert!(stream.answers().await);
    wire.mend();
    assert_eq!(stream.ended().await.0, "revoked");
    assert_eq!(read(&store.url, &token).await, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_that_never_reaches_its_store_counts_when_the_token_runs_out() {
    const TOKEN_SECONDS: u64 = 3;
    let (world, store, wire) = behind_a_wire("3");
    let stolen = Device::logged_in(&world);
    let (_, token) = tokens(&stolen.table()).await.remove(0);
    let given = Instant::now();
    let stream = Live::open(&store.url, &token).await;
    wire.cut();
    world.device.table().revoke(session(&stolen)).await.unwrap();
    assert_eq!(read(&store.url, &token).await, 200);
    let (code, at) = stream.ended().await;
    assert_eq!(code, "expired");
    // The token's seconds are whole ones.
    assert!(at - given <= Duration::from_secs(TOKEN_SECONDS + 1), "{:?}", at - given);
    assert_eq!(read(&store.url, &token).await, 401);
    assert!(Live::try_open(&store.url, &token).await.is_none());
    assert!(given.elapsed() < DEADLINE);
}
