//! What is on disk: it survives a restart, is used by one server at a time, and is not touched when it is not ours.

use gigfs_core::api::{MountTable, SessionList};
use gigfs_table_server::{Config, Server};

use crate::world::*;

#[tokio::test]
async fn users_sessions_mounts_and_identity_survive_a_restart() {
    let mut world = World::start().await;
    let ann = world.person("ann").await;
    let mut store = StoreSide::start(1).await;
    world.mount(&ann, "notes", &store).await;
    let (_, confirm) = store.hears_confirm().await;
    let token = world.mounts(&ann).await.channels[0].stores[0].token.clone();
    let admin = world.admin_token();

    world.restart().await;
    assert_eq!(world.admin_token(), admin);
    assert_eq!(world.get::<SessionList>("/session", &ann).await.sessions.len(), 1);
    world.log_in("ann", &ann.master, 60).await;
    let table: MountTable = world.mounts(&ann).await;
    assert_eq!((table.epoch, table.channels[0].channel.as_str()), (1, "notes"));
    store_claims(&table.channels[0].stores[0].token, &confirm, store.id);
    assert_eq!(world.check("ann", &format!("Bearer {token}")).await.status(), 200, "a token from before");
}

#[tokio::test]
async fn a_data_folder_in_use_is_refused_with_its_name() {
    let world = World::start().await;
    let error = Server::bind(world.config.clone()).await.err().unwrap().to_string();
    assert!(error.contains("table.lock") && error.contains("another table server"), "{error}");
}

#[tokio::test]
async fn a_database_of_a_newer_format_is_refused_with_a_sentence_and_left_alone() {
    let mut world = World::start().await;
    world.person("ann").await;
    world.stop().await;
    let path = world.config.data_dir.join("table.db");
    {
        let connection = rusqlite::Connection::open(&path).unwrap();
        connection.pragma_update(None, "user_version", 5).unwrap();
    }
    let before = std::fs::read(&path).unwrap();
    let error = Server::bind(world.config.clone()).await.err().unwrap().to_string();
    assert!(error.contains("table.db") && error.contains("format 5") && error.contains("newer gigfs"), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[tokio::test]
async fn a_file_that_is_not_a_tables_database_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let config = || Config { data_dir: dir.path().to_owned(), listen: ([127, 0, 0, 1], 0).into(), ..Config::default() };
    let path = dir.path().join("table.db");
    rusqlite::Connection::open(&path).unwrap().execute_batch("CREATE TABLE theirs (a)").unwrap();
    let error = Server::bind(config()).await.err().unwrap().to_string();
    assert!(error.contains("not one of a gigfs table"), "{error}");

    std::fs::write(&path, vec![b'x'; 8192]).unwrap();
    let error = Server::bind(config()).await.err().unwrap().to_string();
    assert!(error.contains("table.db") && error.contains("backup"), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), vec![b'x'; 8192]);
}

#[tokio::test]
async fn settings_that_cannot_be_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let base = Config { data_dir: dir.path().to_owned(), listen: ([127, 0, 0, 1], 0).into(), ..Config::default() };
    let tokens = Config { token_seconds: 0, ..base.clone() };
    let url = Config { public_url: Some("table.example".to_owned()), ..base.clone() };
    let trusted = Config { trusted_certificates: vec![dir.path().join("none.pem")], ..base.clone() };
    for (config, name) in [(tokens, "token_seconds"), (url, "public_url"), (trusted, "none.pem")] {
        let error = Server::bind(config).await.err().unwrap().to_string();
        assert!(error.contains(name), "{error}");
    }
    std::fs::write(dir.path().join("admin-token"), "short\n").unwrap();
    let error = Server::bind(base).await.err().unwrap().to_string();
    assert!(error.contains("admin-token"), "{error}");
}
