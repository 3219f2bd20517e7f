//! The mount table: stores confirmed, mounted, moved, removed; the epoch counts the changes.

use gigfs_core::api::{AddStore, MountedChannel, TableChanged};
use gigfs_core::limits::CHANNEL_STORES_MAX;
use gigfs_core::{ErrorCode, StoreId};
use reqwest::Method;

use crate::world::*;

#[tokio::test]
async fn a_store_hears_who_the_table_is_before_it_is_mounted() {
    let world = World::start().await;
    let ann = world.person("ann").await;
    let mut store = StoreSide::start(1).await;
    let mounted = world.mount(&ann, "notes", &store).await;
    let (user, confirm) = store.hears_confirm().await;
    assert_eq!((user.as_str(), confirm.code.as_str(), &confirm.table_url), ("ann", "the-code", &world.url));
    assert!(confirm.table_key.starts_with("-----BEGIN PUBLIC KEY-----"), "{}", confirm.table_key);
    assert_eq!(mounted.channel.as_str(), "notes");
    assert_eq!((mounted.stores[0].id, mounted.stores[0].url.as_str()), (store.id, store.url.as_str()));
    let table = world.mounts(&ann).await;
    assert_eq!((table.user.as_str(), table.epoch, table.channels.len()), ("ann", 1, 1));
}

#[tokio::test]
async fn the_epoch_grows_by_one_with_each_change_and_by_none_without() {
    let world = World::start().await;
    let ann = world.person("ann").await;
    let bob = world.person("bobby").await;
    let (mut one, two) = (StoreSide::start(1).await, StoreSide::start(2).await);
    let epochs = async || {
        let table = world.mounts(&ann).await;
        (table.epoch, table.channels.iter().map(|it| (it.channel.to_string(), it.epoch)).collect::<Vec<_>>())
    };
    let of = |notes: u64, photos: u64| vec![("notes".to_owned(), notes), ("photos".to_owned(), photos)];
    assert_eq!(epochs().await, (0, vec![]));
    world.mount(&ann, "notes", &one).await;
    world.mount(&ann, "photos", &one).await;
    assert_eq!(epochs().await, (2, of(1, 2)));
    world.mount(&ann, "notes", &two).await;
    assert_eq!(epochs().await, (3, of(3, 2)));
    world.mount(&ann, "notes", &two).await;
    assert_eq!(epochs().await, (3, of(3, 2)), "the same store at the same url is no change");
    let url = one.moved().await;
    let moved = world.mount(&ann, "notes", &one).await;
    assert_eq!(moved.stores[0].url, url);
    assert_eq!(epochs().await, (4, of(3, 2)), "a new url changes the table, and no set of stores");

    let gone = world.remove(&ann, "notes", two.id, "?abandon=true").await;
    assert_eq!(gone.json::<TableChanged>().await.unwrap().epoch, 5);
    assert_eq!(epochs().await, (5, of(5, 2)));
    assert_eq!(world.ask(Method::DELETE, "/table/photos", &ann).await.status(), 200);
    assert_eq!(epochs().await, (6, vec![("notes".to_owned(), 5)]));
    assert_eq!(world.ask(Method::DELETE, &format!("/table/notes/store/{}", one.id), &ann).await.status(), 200);
    assert_eq!(epochs().await, (7, vec![]), "a channel goes with its last store");
    assert_eq!(world.mounts(&bob).await.epoch, 0);
}

#[tokio::test]
async fn channels_and_stores_that_are_not_there_are_named() {
    let world = World::start().await;
    let ann = world.person("ann").await;
    let store = StoreSide::start(1).await;
    world.mount(&ann, "notes", &store).await;
    let other = StoreId::from_bytes([9; 16]);
    for (method, path, code, name) in [
        (Method::GET, "/table/photos".to_owned(), ErrorCode::UnknownChannel, "photos".to_owned()),
        (Method::DELETE, "/table/photos".to_owned(), ErrorCode::UnknownChannel, "photos".to_owned()),
        (Method::DELETE, format!("/table/photos/store/{other}"), ErrorCode::UnknownChannel, "photos".to_owned()),
        (Method::DELETE, format!("/table/notes/store/{other}"), ErrorCode::UnknownStore, other.to_string()),
    ] {
        let refusal = refused_as(code, world.ask(method, &path, &ann).await).await;
        assert!(refusal.message.contains(&name), "{refusal}");
    }
    assert_eq!(world.mounts(&ann).await.epoch, 1);
}

#[tokio::test]
async fn a_store_that_is_not_there_is_named_with_the_reason() {
    let world = World::start().await;
    let ann = world.person("ann").await;
    let mut store = StoreSide::start(1).await;
    store.go_down().await;
    let refusal = refused_as(ErrorCode::Unreachable, world.try_mount(&ann, "notes", &store.url).await).await;
    assert!(refusal.message.contains(&store.url) && refusal.message.contains("refused"), "{refusal}");
    let no_store = refused_as(ErrorCode::Unreachable, world.try_mount(&ann, "notes", &world.url).await).await;
    assert!(no_store.message.contains(&world.url), "{no_store}");
    assert_eq!(world.mounts(&ann).await.epoch, 0);
}

#[tokio::test]
async fn a_store_that_refuses_is_named_with_what_it_said() {
    let world = World::start().await;
    let ann = world.person("ann").await;
    let store = StoreSide::start(1).await;
    store.refuse_confirm(true);
    let refusal = refused_as(ErrorCode::Forbidden, world.try_mount(&ann, "notes", &store.url).await).await;
    assert!(refusal.message.contains(&store.url) && refusal.message.contains("used up"), "{refusal}");
    assert!(!refusal.message.contains("the-code"), "{refusal}");
    assert_eq!(world.mounts(&ann).await.epoch, 0);
}

#[tokio::test]
async fn another_server_that_claims_a_stores_id_is_refused_and_nothing_is_changed() {
    let world = World::start().await;
    let (ann, bob) = (world.person("ann").await, world.person("bobby").await);
    let (store, impostor) = (StoreSide::start(1).await, StoreSide::start(1).await);
    let before = world.mount(&ann, "notes", &store).await;
    for channel in ["notes", "photos"] {
        let refusal = refused_as(ErrorCode::Conflict, world.try_mount(&ann, channel, &impostor.url).await).await;
        assert!(refusal.message.contains(&store.id.to_string()), "{refusal}");
        assert!(refusal.message.contains(&impostor.url) && !refusal.hint.is_empty(), "{refusal:?}");
    }
    let table = world.mounts(&ann).await;
    assert_eq!((table.epoch, table.channels.len()), (1, 1));
    assert_eq!(table.channels[0].stores[0].url, before.stores[0].url);
    world.mount(&bob, "notes", &impostor).await;

    // The id is free again once the store is mounted nowhere.
    world.mount(&ann, "photos", &store).await;
    assert_eq!(world.ask(Method::DELETE, "/table/notes", &ann).await.status(), 200);
    refused_as(ErrorCode::Conflict, world.try_mount(&ann, "notes", &impostor.url).await).await;
    assert_eq!(world.ask(Method::DELETE, "/table/photos", &ann).await.status(), 200);
    world.mount(&ann, "notes", &impostor).await;
}

#[tokio::test]
async fn a_store_whose_key_is_malformed_is_not_mounted() {
    let world = World::start().await;
    let ann = world.person("ann").await;
    let store = StoreSide::start(1).await;
    let good = store.give_key("");
    for key in ["", "key", &good[..40], &good.replace("PUBLIC", "PRIVATE")] {
        store.give_key(key);
        let refusal = refused_as(ErrorCode::Unreachable, world.try_mount(&ann, "notes", &store.url).await).await;
        assert!(refusal.message.contains(&store.url) && refusal.message.contains("key"), "{refusal}");
    }
    assert_eq!(world.mounts(&ann).await.epoch, 0);
    store.give_key(&good);
    world.mount(&ann, "notes", &store).await;
}

#[tokio::test]
async fn the_mount_table_says_whose_certificates_to_trust() {
    let world = World::start().await;
    let ann = world.person("ann").await;
    let mut store = StoreSide::start(1).await;
    world.mount(&ann, "notes", &store).await;
    let (_, confirm) = store.hears_confirm().await;
    let table = world.mounts(&ann).await;
    assert_eq!((table.table_id, table.table_key), (confirm.table_id, confirm.table_key));
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let world = World::start().await;
    let ann = world.person("ann").await;
    let mut store = StoreSide::start(1).await;
    let to = format!("{}/user/ann/confirm", store.url);
    let elsewhere = axum::Router::new().fallback(move || async move { axum::response::Redirect::temporary(&to) });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, elsewhere).await });
    refused_as(ErrorCode::Unreachable, world.try_mount(&ann, "notes", &url).await).await;
    assert!(store.heard.try_recv().is_err(), "the store heard of it");
}

#[tokio::test]
async fn what_is_no_store_url_and_what_is_no_channel_name_are_refused_before_any_call() {
    let world = World::start().await;
    let ann = world.person("ann").await;
    let mut store = StoreSide::start(1).await;
    let port = store.url.rsplit(':').next().unwrap().to_owned();
    for url in ["", "store", "ftp://127.0.0.1", &format!("http://ann:hunter2@127.0.0.1:{port}")] {
        let refusal = refused_as(ErrorCode::BadRequest, world.try_mount(&ann, "notes", url).await).await;
        assert!(!refusal.message.contains("hunter2"), "{refusal}");
    }
    for name in ["stream", "check", "-a", "a%2fb"] {
        refused_as(ErrorCode::InvalidName, world.try_mount(&ann, name, &store.url).await).await;
    }
    assert!(store.heard.try_recv().is_err(), "the store heard of it");
}

#[tokio::test]
async fn a_channel_takes_as_many_stores_as_the_limit_says() {
    let world = World::start().await;
    let ann = world.person("ann").await;
    let last = u8::try_from(CHANNEL_STORES_MAX).unwrap() + 1;
    for number in 1..last {
        let store = StoreSide::start(number).await;
        world.mount(&ann, "notes", &store).await;
    }
    let store = StoreSide::start(last).await;
    refused_as(ErrorCode::TooMany, world.try_mount(&ann, "notes", &store.url).await).await;
    let channel: MountedChannel = world.get("/table/notes", &ann).await;
    assert_eq!(channel.stores.len(), CHANNEL_STORES_MAX);
    assert!(channel.stores.is_sorted_by_key(|store| store.id));
}

#[tokio::test]
async fn stores_that_are_mounted_at_once_are_all_mounted() {
    let world = World::start().await;
    let ann = world.person("ann").await;
    let mut stores = Vec::new();
    for number in 1..=8 {
        stores.push(StoreSide::start(number).await);
    }
    let mounts = stores.iter().map(|store| world.mount(&ann, "notes", store));
    futures_util::future::join_all(mounts).await;
    let table = world.mounts(&ann).await;
    assert_eq!((table.epoch, table.channels[0].stores.len()), (8, 8));
}

#[tokio::test]
async fn the_process_itself_mounts_without_a_session() {
    let world = World::start().await;
    let ann = world.person("ann").await;
    let store = StoreSide::start(1).await;
    let add = AddStore { store_url: store.url.clone(), code: Some("the-code".to_owned()) };
    let id = world.table.add_store(&user("ann"), &channel("notes"), add.clone()).await.unwrap();
    assert_eq!(id, store.id);
    assert_eq!(world.mounts(&ann).await.epoch, 1);
    let unknown = world.table.add_store(&user("bob"), &channel("notes"), add).await.unwrap_err();
    assert_eq!(unknown.to_refusal().code, ErrorCode::UnknownUser);
}

#[tokio::test]
async fn a_store_that_the_user_has_already_takes_another_channel_without_a_code() {
    let world = World::start().await;
    let ann = world.person("ann").await;
    let store = StoreSide::start(1).await;
    let bare = AddStore { store_url: store.url.clone(), code: None };
    let refused = world.table.add_store(&user("ann"), &channel("work"), bare.clone()).await.unwrap_err();
    assert_eq!(refused.to_refusal().code, ErrorCode::UnknownStore);
    world.mount(&ann, "notes", &store).await;
    assert_eq!(world.table.add_store(&user("ann"), &channel("work"), bare).await.unwrap(), store.id);
    assert_eq!(world.mounts(&ann).await.channels.len(), 2);
}

#[tokio::test]
async fn a_table_that_may_not_connect_to_private_addresses_mounts_no_store_there() {
    let world = World::start_with(|config| config.private_networks = Some(Vec::new())).await;
    let ann = world.person("ann").await;
    let mut store = StoreSide::start(1).await;
    let port = store.url.rsplit(':').next().unwrap().to_owned();
    for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "169.254.169.254", "0x7f000001"] {
        let refusal =
            refused_as(ErrorCode::Forbidden, world.try_mount(&ann, "notes", &format!("http://{host}:{port}")).await)
                .await;
        assert!(refusal.hint.contains("private_networks"), "{refusal:?}");
    }
    assert!(store.heard.try_recv().is_err(), "the store heard of it");
    assert!(world.mounts(&ann).await.channels.is_empty());
}
