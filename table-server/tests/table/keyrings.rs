//! Keyrings: kept as they came, replaced by the next revision only, and never apart from the master that opens them.

use gigfs_core::api::{KeyringRecord, NewMaster, ReplaceMaster, SessionInfo};
use gigfs_core::limits::KEYRING_BYTES_MAX;
use gigfs_core::seal::{Identity, Keyring, KeyringKey, RootKey, SealedKeyring, Secret};
use gigfs_core::{ErrorCode, SessionId};
use reqwest::{Method, Response};
use serde_json::Value;

use crate::world::*;

fn secret(byte: u8) -> Secret {
    Secret::from_bytes([byte; 32])
}

/// Makes a revision of a keyring that the password of this root key opens.
fn sealed(name: &str, revision: u64, root: u8) -> KeyringRecord {
    let mut keyring = Keyring::new(Identity::from_secrets(&secret(1), secret(2)));
    (1..revision).for_each(|_| keyring.advance());
    let (key, root) = (KeyringKey::from_secret(secret(3)), RootKey::from_secret(secret(root)));
    KeyringRecord { record: SealedKeyring::seal(&user(name), &keyring, &key, &root, None).unwrap().to_bytes() }
}

/// Makes a record of exactly so many bytes, the form of which is right and of which nothing else is.
fn of_bytes(bytes: usize) -> KeyringRecord {
    let mut record = [&[0x85, 1, 1, 0x58, 48][..], &[0; 48], &[0xf6, 0x5a]].concat();
    let body = bytes - record.len() - 4;
    record.extend((body as u32).to_be_bytes());
    record.resize(bytes, 7);
    KeyringRecord { record }
}

async fn put(world: &World, who: &Person, record: &KeyringRecord) -> Response {
    world.send(Method::PUT, &format!("/user/{}/keyring", who.name), &who.bearer(), Some(record)).await
}

async fn kept(world: &World, who: &Person) -> KeyringRecord {
    world.get("/keyring", who).await
}

async fn replace(world: &World, old: &[u8], new: &[u8], keyring: Option<KeyringRecord>) -> Response {
    let body = ReplaceMaster { new: new_master(new), keyring };
    world.send(Method::PUT, "/user/ann/master", &master_header(old), Some(&body)).await
}

#[tokio::test]
async fn a_keyring_comes_back_as_it_was_put_also_after_a_restart() {
    let mut world = World::start().await;
    let ann = world.person("ann").await;
    let none = refused_as(ErrorCode::NotFound, world.ask(Method::GET, "/keyring", &ann).await).await;
    assert!(none.message.contains("ann") && none.hint.contains("login"), "{none:?}");
    assert_eq!(put(&world, &ann, &sealed("ann", 1, 9)).await.status(), 204);
    assert_eq!(put(&world, &ann, &sealed("ann", 2, 9)).await.status(), 204);
    assert_eq!(kept(&world, &ann).await, sealed("ann", 2, 9));
    world.restart().await;
    assert_eq!(kept(&world, &ann).await, sealed("ann", 2, 9));
}

#[tokio::test]
async fn only_the_next_revision_takes_the_place_of_another() {
    let world = World::start().await;
    let ann = world.person("ann").await;
    for wrong in [2, 3, gigfs_core::limits::INTEGER_MAX] {
        let refusal = refused_as(ErrorCode::Conflict, put(&world, &ann, &sealed_as(wrong)).await).await;
        assert!(refusal.message.contains("ann") && !refusal.hint.is_empty(), "{refusal:?}");
    }
    refused_as(ErrorCode::NotFound, world.ask(Method::GET, "/keyring", &ann).await).await;
    for revision in 1..=3 {
        assert_eq!(put(&world, &ann, &sealed("ann", revision, 9)).await.status(), 204);
    }
    for wrong in [0, 1, 2, 3, 5, u64::MAX] {
        let refusal = refused_as(ErrorCode::Conflict, put(&world, &ann, &sealed_as(wrong)).await).await;
        assert!(refusal.message.contains("revision 3"), "{refusal}");
        assert_eq!(kept(&world, &ann).await, sealed("ann", 3, 9), "{wrong}");
    }
}

/// Makes a record that claims to be some revision, which the table cannot check.
fn sealed_as(revision: u64) -> KeyringRecord {
    let mut record = vec![0x85, 1];
    match revision {
        0..=23 => record.push(revision as u8),
        _ => record.extend([&[0x1b][..], &revision.to_be_bytes()].concat()),
    }
    record.extend([&[0x58, 48][..], &[0; 48], &[0xf6, 0x41, 1]].concat());
    KeyringRecord { record }
}

#[tokio::test]
async fn of_many_that_bring_the_next_revision_at_once_one_is_taken() {
    let world = World::start().await;
    let ann = world.person("ann").await;
    put(&world, &ann, &sealed("ann", 1, 9)).await;
    let records: Vec<KeyringRecord> = (10..18).map(|root| sealed("ann", 2, root)).collect();
    let answers = futures_util::future::join_all(records.iter().map(|record| put(&world, &ann, record))).await;
    let taken: Vec<usize> = (0..records.len()).filter(|&at| answers[at].status() == 204).collect();
    assert_eq!(taken.len(), 1);
    assert_eq!(kept(&world, &ann).await, records[taken[0]]);
    for (_, answer) in answers.into_iter().enumerate().filter(|(at, _)| *at != taken[0]) {
        refused_as(ErrorCode::Conflict, answer).await;
    }
}

#[tokio::test]
async fn a_keyring_is_its_users_own() {
    let world = World::start().await;
    let (ann, carol) = (world.person("ann").await, world.person("carol").await);
    put(&world, &ann, &sealed("ann", 1, 9)).await;
    let as_ann = Person { name: "ann".to_owned(), ..carol.clone() };
    refused_as(ErrorCode::Unauthorized, world.ask(Method::GET, "/keyring", &as_ann).await).await;
    refused_as(ErrorCode::Unauthorized, put(&world, &as_ann, &sealed("ann", 2, 9)).await).await;
    for wrong in ["", &master_header(&ann.master), &world.bearer_admin()] {
        for name in ["ann", "nobody"] {
            let answer = world.send(Method::GET, &format!("/user/{name}/keyring"), wrong, None::<&()>).await;
            refused_as(ErrorCode::Unauthorized, answer).await;
        }
    }
    let ended = ann.with(world.log_in("ann", &ann.master, 60).await);
    world.revoke(&ann, ended.session.session.id).await;
    refused_as(ErrorCode::Revoked, put(&world, &ended, &sealed("ann", 2, 9)).await).await;
    assert_eq!(kept(&world, &ann).await, sealed("ann", 1, 9));
    assert_eq!(put(&world, &carol, &sealed("carol", 1, 9)).await.status(), 204);
}

#[tokio::test]
async fn what_is_no_keyring_or_over_its_limit_is_refused() {
    let world = World::start().await;
    let ann = world.person("ann").await;
    let good = sealed("ann", 1, 9).record;
    for record in [vec![], b"hunter2".to_vec(), good[1..].to_vec(), good[..60].to_vec(), [&good[..], &[0]].concat()] {
        let refusal = refused_as(ErrorCode::BadRequest, put(&world, &ann, &KeyringRecord { record }).await).await;
        assert!(!refusal.message.contains("hunter2"), "{refusal}");
    }
    let over = put(&world, &ann, &of_bytes(KEYRING_BYTES_MAX + 1)).await;
    let refusal = refused_as(ErrorCode::TooLarge, over).await;
    assert!(refusal.message.contains("1048576"), "{refusal}");
    refused_as(ErrorCode::TooLarge, put(&world, &ann, &of_bytes(2 * KEYRING_BYTES_MAX)).await).await;
    assert_eq!(put(&world, &ann, &of_bytes(KEYRING_BYTES_MAX)).await.status(), 204);
    assert_eq!(kept(&world, &ann).await, of_bytes(KEYRING_BYTES_MAX));
}

#[tokio::test]
async fn a_new_master_comes_with_the_keyring_that_it_opens_or_not_at_all() {
    let world = World::start().await;
    let ann = world.person("ann").await;
    put(&world, &ann, &sealed("ann", 1, 9)).await;
    for (keyring, said) in [(None, "did not come"), (Some(sealed("ann", 1, 8)), "next"), (Some(sealed_as(3)), "next")] {
        let refusal = refused_as(ErrorCode::Conflict, replace(&world, &ann.master, &[2; 32], keyring).await).await;
        assert!(refusal.message.contains(said) && refusal.hint.contains("nothing was changed"), "{refusal:?}");
    }
    let none = KeyringRecord { record: b"x".to_vec() };
    refused_as(ErrorCode::BadRequest, replace(&world, &ann.master, &[2; 32], Some(none)).await).await;
    let wrong = replace(&world, &[8; 32], &[2; 32], Some(sealed("ann", 2, 8))).await;
    refused_as(ErrorCode::Unauthorized, wrong).await;
    // The old master, the old keyring and the session are all as they were.
    assert_eq!(kept(&world, &ann).await, sealed("ann", 1, 9));
    world.log_in("ann", &ann.master, 60).await;

    assert_eq!(replace(&world, &ann.master, &[2; 32], Some(sealed("ann", 2, 8))).await.status(), 204);
    refused_as(ErrorCode::Revoked, world.ask(Method::GET, "/keyring", &ann).await).await;
    let again = ann.with(world.log_in("ann", &[2; 32], 60).await);
    assert_eq!(kept(&world, &again).await, sealed("ann", 2, 8));
}

#[tokio::test]
async fn a_new_master_may_bring_the_first_keyring() {
    let world = World::start().await;
    let ann = world.person("ann").await;
    assert_eq!(replace(&world, &ann.master, &[2; 32], Some(sealed("ann", 1, 8))).await.status(), 204);
    let again = ann.with(world.log_in("ann", &[2; 32], 60).await);
    assert_eq!(kept(&world, &again).await, sealed("ann", 1, 8));
}

#[tokio::test]
async fn the_admin_gives_another_master_and_leaves_the_keyring_as_it_is() {
    let world = World::start().await;
    let ann = world.person("ann").await;
    put(&world, &ann, &sealed("ann", 1, 9)).await;
    let reset = async |name: &str, authorization: &str, new: &NewMaster| {
        world.send(Method::PUT, &format!("/admin/user/{name}/master"), authorization, Some(new)).await
    };
    let (admin, new) = (world.bearer_admin(), new_master(&[5; 32]));
    for wrong in ["", &ann.bearer(), &master_header(&ann.master)] {
        refused_as(ErrorCode::Unauthorized, reset("ann", wrong, &new).await).await;
    }
    refused_as(ErrorCode::BadRequest, reset("ann", &admin, &new_master(&[5; 31])).await).await;
    let unknown = refused_as(ErrorCode::UnknownUser, reset("nobody", &admin, &new).await).await;
    assert!(unknown.message.contains("nobody"), "{unknown}");
    world.get::<SessionInfo>("/session/check", &ann).await;

    assert_eq!(reset("ann", &admin, &new).await.status(), 204);
    refused_as(ErrorCode::Revoked, world.ask(Method::GET, "/session/check", &ann).await).await;
    refused_as(ErrorCode::Unauthorized, world.try_log_in("ann", &ann.master, 60).await).await;
    let again = ann.with(world.log_in("ann", &[5; 32], 60).await);
    assert_eq!(kept(&world, &again).await, sealed("ann", 1, 9));
}

#[tokio::test]
async fn what_is_done_to_keyrings_is_written_down_without_them() {
    let world = World::start().await;
    let ann = world.person("ann").await;
    put(&world, &ann, &sealed("ann", 1, 9)).await;
    refused(put(&world, &ann, &sealed("ann", 1, 9)).await).await;
    assert_eq!(replace(&world, &ann.master, &[2; 32], Some(sealed("ann", 2, 8))).await.status(), 204);
    let path = "/admin/user/ann/master";
    let reset = world.send(Method::PUT, path, &world.bearer_admin(), Some(&new_master(&[5; 32]))).await;
    assert_eq!(reset.status(), 204);
    let text = std::fs::read_to_string(world.config.data_dir.join("audit.jsonl")).unwrap();
    let written: Vec<Value> = text.lines().skip(2).map(|line| serde_json::from_str(line).unwrap()).collect();
    let told = |at: usize, name: &str| written[at][name].clone();
    assert_eq!(written.len(), 3, "{text}");
    assert_eq!((told(0, "event"), told(0, "revision")), ("keyring_replaced".into(), 1.into()));
    let by: SessionId = serde_json::from_value(told(0, "by")).unwrap();
    assert_eq!(by, ann.session.session.id);
    assert_eq!((told(1, "event"), told(1, "revision")), ("master_replaced".into(), 2.into()));
    assert_eq!((told(2, "event"), told(2, "from")), ("master_reset".into(), "127.0.0.1".into()));
}

#[tokio::test]
async fn a_database_from_before_keyrings_is_brought_to_them() {
    let mut world = World::start().await;
    let ann = world.person("ann").await;
    world.stop().await;
    let connection = rusqlite::Connection::open(world.config.data_dir.join("table.db")).unwrap();
    connection.execute_batch(BEFORE_SHARING).unwrap();
    connection.execute_batch("DROP TABLE keyrings; PRAGMA user_version = 2;").unwrap();
    drop(connection);
    world.restart_stopped().await;
    assert_eq!(put(&world, &ann, &sealed("ann", 1, 9)).await.status(), 204);
    assert_eq!(kept(&world, &ann).await, sealed("ann", 1, 9));
}
