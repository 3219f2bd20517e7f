//! Stores whose data is damaged, and the devices that bring back what they lost.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use gigfs_storage::Fjall;
use serde_json::json;

use crate::world::{Apart, Curl, DEADLINE, Device, Lines, Process, Up};

const ADD: &str = r#"{"add":1}"#;
const PATHS: [&str; 3] = ["/a", "/b", "/c"];

/// A channel on two stores, and a device that only reads, and reads on.
struct World {
    apart: Apart,
    /// At the store that is damaged.
    curl: Curl,
    // Whoever brings back what a store lost need not have written it.
    _reader: Device,
    _follower: (Process, Lines),
    /// What both stores have of each log.
    whole: Vec<BTreeSet<String>>,
}

impl World {
    async fn start() -> Self {
        let apart = Apart::with_stores(2);
        for path in PATHS {
            (0..5).for_each(|_| drop(apart.device.push("counter", path, ADD)));
        }
        apart.device.run(["prune", "home", "counter", "/b"]).ok();
        apart.device.push("counter", "/b", ADD);
        let curl = Curl::at(&apart.device, &apart.stores[0].url).await;
        let mut whole = Vec::new();
        for path in PATHS {
            whole.push(held(&curl, path).await.unwrap());
        }
        let reader = Device::logged_in(&apart);
        let follower = reader.on("counter", &PATHS);
        Self { apart, curl, _reader: reader, _follower: follower, whole }
    }

    fn oplogs(&self) -> PathBuf {
        self.apart.stores[0].data().join("oplogs")
    }

    /// Waits until the damaged store has everything again.
    async fn whole_again(&self) {
        let whole = async {
            for (path, whole) in PATHS.iter().zip(&self.whole) {
                while held(&self.curl, path).await.as_ref() != Some(whole) {
                    tokio::task::yield_now().await;
                }
            }
        };
        tokio::time::timeout(DEADLINE, whole).await.expect("the store has everything again");
    }
}

/// Returns the shas of a store's base and live operations of a log; nothing while it does not answer.
async fn held(curl: &Curl, path: &str) -> Option<BTreeSet<String>> {
    let (status, log) = curl.page("counter", path).await?;
    let ops = log["ops"].as_array().filter(|_| status == 200)?.iter().map(|indexed| &indexed["op"]["sha"]);
    Some(ops.chain([&log["base"]["sha"]]).map(ToString::to_string).collect())
}

fn largest(folder: &Path) -> PathBuf {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.max_by_key(|file| fs::metadata(file).unwrap().len()).unwrap()
}

fn flip(file: &Path, at: usize) {
    let mut bytes = fs::read(file).unwrap();
    bytes[at] ^= 1;
    fs::write(file, bytes).unwrap();
}

/// Damages the folder of the oplogs.
type Harm = fn(&Path);

fn report(world: &World, number: u32) -> serde_json::Value {
    let report = world.apart.stores[0].data().join(format!("damaged/oplogs-{number}/report.json"));
    serde_json::from_slice(&fs::read(report).unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_damaged_store_lost_is_brought_back_by_a_device_that_reads() {
    let mut world = World::start().await;
    let ways: [(&str, Harm); 4] = [
        ("0.jnl", |oplogs| flip(&oplogs.join("0.jnl"), 400)),
        ("0.jnl", |oplogs| fs::write(oplogs.join("0.jnl"), b"").unwrap()),
        ("keyspaces/3/current", |oplogs| fs::remove_file(oplogs.join("keyspaces/3/current")).unwrap()),
        ("oplogs", |oplogs| fs::remove_dir_all(oplogs).unwrap()),
    ];
    for (number, (file, harm)) in (1..).zip(ways) {
        world.apart.stores[0].stop();
        harm(&world.oplogs());
        world.apart.stores[0].again();
        if file != "oplogs" {
            let report = report(&world, number);
            let named = report["damage"].as_array().unwrap().iter().any(|damage| damage["what"] == file);
            assert!(named, "{report}");
        }
        world.whole_again().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_that_is_met_while_a_store_runs_is_mended_by_itself_and_the_log_is_named() {
    let mut world = World::start().await;
    world.apart.stores[0].stop();
    let engine = Fjall::open(&world.oplogs()).unwrap();
    engine.compact().unwrap();
    drop(engine);
    // In the first block of records, past its header, which is not looked at before it is read.
    flip(&largest(&world.oplogs().join("keyspaces/5/tables")), 200);
    world.apart.stores[0].again();
    world.whole_again().await;
    let report = report(&world, 1);
    let named = report["damage"].as_array().unwrap().iter().any(|damage| {
        let what = damage["what"].as_str().unwrap();
        PATHS.iter().any(|path| what.contains(&format!("counter {path}")))
    });
    assert!(named, "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_whose_signing_key_is_gone_says_so_and_starts_without_it_when_it_is_told_to() {
    let mut world = World::start().await;
    let key = world.apart.stores[0].data().join("signing-key.pem");
    for harm in [|key: &Path| fs::remove_file(key).unwrap(), |key: &Path| flip(key, 60)] {
        world.apart.stores[0].stop();
        let before = fs::read(&key).unwrap();
        harm(&key);
        let ran = world.apart.stores[0].does_not_start();
        assert_eq!(ran.code, Some(1), "{ran:?}");
        for said in ["signing-key.pem", "backup", "GIG_STORE_NEW_SIGNING_KEY"] {
            assert!(ran.err.contains(said), "{ran:?}");
        }
        fs::write(&key, before).unwrap();
        world.apart.stores[0].again();
    }
    world.apart.stores[0].stop();
    fs::remove_file(&key).unwrap();
    world.apart.stores[0].again_with(&[("GIG_STORE_NEW_SIGNING_KEY", "true")]);
    world.whole_again().await;
    assert_eq!(world.apart.device.push("counter", "/a", ADD)["accepted"], json!(2));
    world.apart.stores[0].stop();
    world.apart.stores[0].again();
}

#[test]
fn gig_up_ends_with_an_error_when_one_of_its_servers_cannot_go_on() {
    let mut up = Up::start();
    (0..5).for_each(|_| drop(up.device.push("counter", "/a", ADD)));
    assert_eq!(up.stop(), Some(0));
    let store = up.data().join("store");
    let engine = Fjall::open(&store.join("oplogs")).unwrap();
    engine.compact().unwrap();
    drop(engine);
    flip(&largest(&store.join("oplogs/keyspaces/5/tables")), 200);
    up.again();
    fs::remove_file(store.join("signing-key.pem")).unwrap();
    // It meets the damage, closes its data and cannot open it again.
    let token = store.join("admin-token");
    let verified = up.device.run(["store", "verify", "--url", &up.store, "--admin-token", token.to_str().unwrap()]);
    assert_eq!(verified.code, Some(7), "{verified:?}");
    assert_eq!(up.ended(), Some(1));
}
