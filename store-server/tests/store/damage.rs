//! Stores that start on damaged data.

use std::fs;

use gigfs_core::UserName;
use gigfs_store_server::{BindError, Config, EngineKind, Server};

use crate::world::config;

#[tokio::test]
async fn a_start_that_fails_after_mending_leaves_the_next_one_to_give_back_the_users() {
    let folder = tempfile::tempdir().unwrap();
    let start = || Server::bind(config(folder.path(), EngineKind::Fjall));
    let user = UserName::parse("me").unwrap();
    let run = async |server: Server| {
        let store = server.store();
        store.create_user(&user).await.unwrap();
        let room = store.set_quota(&user, Some(7)).await.unwrap();
        drop(store);
        server.run(async {}).await.unwrap();
        room
    };
    let room = run(start().await.unwrap()).await;

    fs::remove_dir_all(folder.path().join("oplogs")).unwrap();
    let token = folder.path().join("admin-token");
    fs::write(&token, "short").unwrap();
    let notes = folder.path().join("notes");
    let kept = fs::read(&notes).unwrap();
    // What cannot be read now may be readable later.
    fs::remove_file(&notes).unwrap();
    fs::create_dir(&notes).unwrap();
    assert!(matches!(start().await.err(), Some(BindError::Notes { .. })));
    fs::remove_dir(&notes).unwrap();
    fs::write(&notes, kept).unwrap();
    assert!(matches!(start().await.err(), Some(BindError::Secret { .. })));
    fs::remove_file(&token).unwrap();
    let server = start().await.unwrap();
    assert_eq!(server.store().room(&user).await.unwrap(), room);
}

/// What a start that was killed right after mending leaves behind.
#[tokio::test]
async fn data_that_was_mended_and_not_served_yet_is_given_its_users_at_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let config: Config = config(folder.path(), EngineKind::Fjall);
    let user = UserName::parse("me").unwrap();
    let server = Server::bind(config.clone()).await.unwrap();
    server.store().create_user(&user).await.unwrap();
    server.run(async {}).await.unwrap();
    let oplogs = folder.path().join("oplogs");
    fs::remove_dir_all(&oplogs).unwrap();
    assert!(gigfs_storage::Fjall::open(&oplogs).unwrap().mended().is_some());
    let server = Server::bind(config).await.unwrap();
    server.store().room(&user).await.unwrap();
}
