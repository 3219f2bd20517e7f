//! A sealed channel at real servers: who has the keys reads everything, and nobody else reads anything.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use gigfs::{Builder, DeviceSecret, Gig, Listed};
use gigfs_core::seal::{ChannelKeys, DeviceKey, Identity, OwnDevice, Secret};
use gigfs_core::sync::ChannelAccess;
use gigfs_core::{ChannelName, Path as LogPath, TypeName, UserName};
use serde_json::json;

use crate::world::{Apart, Device, Up};

const DEADLINE: Duration = Duration::from_secs(60);
/// What is written somewhere in the test, in names and values, and in no other way.
const WORDS: [&str; 5] = ["elderberry", "rowanwood", "hawthorn", "blackthorn", "quickset"];

fn keys() -> Arc<ChannelKeys> {
    Arc::new(ChannelKeys::new(Secret::from_bytes([1; 32]), Secret::from_bytes([2; 32])))
}

/// Each call is another device of the user's.
fn sealed(world: &Apart) -> Builder {
    let secret = |byte| Secret::from_bytes([byte; 32]);
    let identity = Identity::from_secrets(&secret(3), secret(4));
    let (user, DeviceSecret { id, seed, made }) = (UserName::parse("me").unwrap(), DeviceSecret::fresh().unwrap());
    let device = OwnDevice::new(&identity, user, id, DeviceKey::from_secret(&seed), made);
    let access = ChannelAccess { keys: keys(), owner: *identity.public(), device: Arc::new(device) };
    Gig::builder().table(world.device.table()).sealed(ChannelName::parse("home").unwrap(), access)
}

/// Finds one of some words in the files of a folder.
fn find(folder: &Path, words: &[&str]) -> Option<(String, String)> {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            if let Some(found) = find(&path, words) {
                return Some(found);
            }
            continue;
        }
        // A database may take a file away meanwhile.
        let bytes = std::fs::read(&path).unwrap_or_default();
        let holds = |word: &str| bytes.windows(word.len()).any(|window| window.eq_ignore_ascii_case(word.as_bytes()));
        if let Some(word) = words.iter().find(|word| holds(word)) {
            return Some((path.display().to_string(), (*word).to_owned()));
        }
    }
    None
}

fn listed(kind: &str, path: &str) -> Listed {
    Listed { kind: TypeName::parse(kind).unwrap(), path: LogPath::parse(path).unwrap() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_channel_is_read_by_who_has_the_keys_and_no_disk_shows_a_name_or_a_value() {
    let world = Apart::with_stores(2);
    let folder = tempfile::tempdir().unwrap();
    let author = sealed(&world).local(folder.path()).open().await.unwrap();
    author.push("home", "register", "/elderberry/hawthorn", json!({"set": "rowanwood"})).await.unwrap();
    author.push("home", "map", "/elderberry/b", json!({"set": {"blackthorn": "quickset"}})).await.unwrap();
    for _ in 0..50 {
        author.push("home", "list", "/c", json!({"append": "rowanwood"})).await.unwrap();
    }
    author.flush(None, DEADLINE).await.unwrap();
    let log = author.log("home", "list", "/c").unwrap();
    assert_eq!(log.prune(DEADLINE).await.unwrap().unwrap().generation.get(), 1);
    assert_eq!(log.base().await.unwrap().made.unwrap().1.as_str(), "list");

    let reader = sealed(&world).open().await.unwrap();
    assert_eq!(*reader.get("home", "register", "/elderberry/hawthorn").await.unwrap(), json!("rowanwood"));
    assert_eq!(*reader.get("home", "map", "/elderberry/b").await.unwrap(), json!({"blackthorn": "quickset"}));
    assert_eq!(*reader.get("home", "list", "/c").await.unwrap(), json!(vec!["rowanwood"; 50]));
    let all = [listed("list", "/c"), listed("map", "/elderberry/b"), listed("register", "/elderberry/hawthorn")];
    let stranger_to_them = sealed(&world).open().await.unwrap();
    assert_eq!(stranger_to_them.list("home", "/").await.unwrap(), all);
    assert_eq!(stranger_to_them.list("home", "/elderberry").await.unwrap(), all[1..]);

    let without = world.device.client().await;
    assert_eq!(*without.get("home", "register", "/elderberry/hawthorn").await.unwrap(), json!(null));
    let shown = without.list("home", "/").await.unwrap();
    assert_eq!(shown.len(), 4, "and the roster, which is a log like any other to a stranger");
    assert!(shown.iter().all(|log| log.kind.as_str().len() == 26), "{shown:?}");

    let mut follows = reader.on("home", "list", "/c").await.unwrap();
    author.push("home", "list", "/c", json!({"append": "hawthorn"})).await.unwrap();
    let change = tokio::time::timeout(DEADLINE, follows.next()).await.unwrap().unwrap();
    assert_eq!(change.value[50], "hawthorn");

    for gig in [author, reader, stranger_to_them, without] {
        gig.close().await.unwrap();
    }
    let again = sealed(&world).local(folder.path()).offline().open().await.unwrap();
    assert_eq!(again.list("home", "/").await.unwrap(), all);
    assert_eq!(*again.get("home", "register", "/elderberry/hawthorn").await.unwrap(), json!("rowanwood"));
    again.close().await.unwrap();
    for data in world.stores.iter().map(|store| store.data()).chain([world.table.data(), folder.path()]) {
        assert_eq!(find(data, &WORDS), None);
        assert!(
            find(data, &["home"]).is_some(),
            "names of channels are in the clear, so the search finds what is there"
        );
    }
}

#[test]
fn what_a_newcomer_writes_is_sealed_and_a_second_device_reads_it_with_the_password_alone() {
    let mut up = Up::sealed();
    up.device.push("list", "/elderberry", r#"{"append":"rowanwood"}"#);
    up.device.push("list", "/elderberry", r#"{"append":"hawthorn"}"#);
    up.device.run(["flush"]).ok();
    up.device.run(["prune", "home", "list", "/elderberry"]).ok();
    up.device.push("list", "/elderberry", r#"{"append":"quickset"}"#);
    up.device.run(["flush"]).ok();
    let second = Device::logged_in(&up);
    assert_eq!(second.get("list", "/elderberry"), json!(["rowanwood", "hawthorn", "quickset"]));
    let listed = second.run(["ls", "home"]).ok();
    assert!(listed.contains("list") && listed.contains("/elderberry"), "{listed}");
    let log = second.run(["log", "home", "list", "/elderberry"]).ok();
    assert!(log.contains("quickset"), "{log}");

    let refused = up.device.run(["store", "add", "home", &up.store, "--plain"]);
    assert_eq!(refused.code, Some(5), "{refused:?}");
    up.device.run(["channel", "add", "public", "--plain"]).ok();
    up.device.run(["push", "public", "list", "/shown", r#"{"append":"woodbine"}"#]).ok();
    up.device.run(["flush"]).ok();
    assert_eq!(second.run(["get", "public", "list", "/shown"]).json(), json!(["woodbine"]));
    let status = second.run(["--json", "status"]).json();
    let channels = json!([{"channel": "home", "sealing": "sealed"}, {"channel": "public", "sealing": "plain"}]);
    assert_eq!(status["channels"], channels);
    let status = second.run(["status"]).ok();
    assert!(status.contains("home: sealed") && status.contains("public: plain"), "{status}");

    up.stop();
    assert_eq!(find(&up.data().join("store"), &WORDS), None);
    assert_eq!(find(&up.data().join("table"), &WORDS), None);
    assert!(find(&up.data().join("store"), &["woodbine"]).is_some(), "what is plain is found");
    up.again();
    assert_eq!(up.device.get("list", "/elderberry"), json!(["rowanwood", "hawthorn", "quickset"]));
}

/// Operations that are written in each round of the comparison.
const ROUND_OPS: usize = 4_000;
const ROUNDS: usize = 6;

/// Writes operations of 256 bytes as fast as the client takes them, and returns how long it takes until the store has all.
async fn round(gig: &Gig, path: &str) -> Duration {
    let log = gig.log("home", "register", path).unwrap();
    let text = "x".repeat(256);
    let begun = std::time::Instant::now();
    for _ in 0..ROUND_OPS {
        log.push(&json!({"set": text})).await.unwrap();
    }
    gig.flush(None, DEADLINE).await.unwrap();
    begun.elapsed()
}

/// Compares durable pushes with and without sealing, in turns: run it with `--release -- --ignored --nocapture`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes a minute, and its figures mean something in release builds only"]
async fn sealing_costs_less_than_a_fifth_of_the_throughput_of_durable_pushes() {
    let world = Apart::with_stores(1);
    let (plain, hidden) = (world.device.client().await, sealed(&world).open().await.unwrap());
    let (mut of_plain, mut of_sealed) = (Vec::new(), Vec::new());
    for at in 0..ROUNDS {
        let path = format!("/{at}");
        of_plain.push(round(&plain, &path).await);
        of_sealed.push(round(&hidden, &path).await);
    }
    of_plain.sort();
    of_sealed.sort();
    let (plain, sealed) = (of_plain[ROUNDS / 2], of_sealed[ROUNDS / 2]);
    let ratio = plain.as_secs_f64() / sealed.as_secs_f64();
    println!(
        "{ROUND_OPS} durable pushes of 256 bytes: plain {plain:?}, sealed {sealed:?}, throughput {ratio:.2} of plain"
    );
    assert!(ratio > 0.8, "sealed pushes have {ratio:.2} of the throughput of plain ones");
}
