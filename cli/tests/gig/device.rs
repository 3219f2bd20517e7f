//! A device that is killed while it writes offline: what it reported durable is kept, and is sent once.
//!
//! The device is this test executable, started again as [`a_device_that_writes_until_it_is_killed`].

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use gigfs::{Gig, Table};
use gigfs_core::UserName;
use serde_json::json;

use crate::world::{Curl, DEADLINE, Random, Up, start};

const PUSHES: usize = 1_000;
/// The folder of the local store, for the child.
const FOLDER: &str = "GIG_TEST_FOLDER";
/// The table's URL and the session, for the child.
const TABLE: &str = "GIG_TEST_TABLE";
const SESSION: &str = "GIG_TEST_SESSION";

/// Pushes offline, and prints the identity of each operation once it is durable.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "this is the device, which the other tests of this file start"]
async fn a_device_that_writes_until_it_is_killed() {
    let (url, session) = (std::env::var(TABLE).unwrap(), std::env::var(SESSION).unwrap());
    let table = Table::new(&url, UserName::parse("me").unwrap(), &[]).unwrap().with_session(&session);
    let folder = std::env::var_os(FOLDER).unwrap();
    let gig = Gig::builder().table(table).in_the_clear().local(folder).offline().open().await.unwrap();
    for _ in 0..PUSHES {
        let mut pushed = gig.push("home", "counter", "/visits", json!({"add": 1})).await.unwrap();
        let receipt = pushed.durable().await;
        assert!(receipt.durable);
        println!("durable {}", receipt.sha);
    }
}

/// Starts the device, kills it after a number of reports that the seed decides, and returns what it reported.
fn write_and_die(up: &Up, folder: &PathBuf, random: &mut Random) -> BTreeSet<String> {
    let profile = up.device.profile();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "device::a_device_that_writes_until_it_is_killed", "--ignored", "--nocapture"]);
    command.env(FOLDER, folder).env(TABLE, &up.table).env(SESSION, profile["token"].as_str().unwrap());
    let (mut process, lines) = start(command.stdin(Stdio::null()).stdout(Stdio::piped()));
    let sha_of = |line: String| line.split_once("durable ").map(|(_, sha)| sha.to_owned());
    let wanted = 100 + random.below(PUSHES as u64 - 200) as usize;
    let mut reported = BTreeSet::new();
    while reported.len() < wanted {
        reported.extend(sha_of(lines.next().expect("the device ended by itself")));
    }
    process.kill();
    // What it had printed before it died was reported too.
    reported.extend(lines.rest().into_iter().filter_map(sha_of));
    assert!(reported.len() < PUSHES, "the device was done before it was killed");
    reported
}

/// Opens what the device left behind, has it sent, and compares the store with what was reported.
async fn comes_back(up: &Up, folder: &PathBuf, reported: &BTreeSet<String>, deaths: usize) {
    let gig = Gig::builder().table(up.device.table()).in_the_clear().local(folder).open().await.unwrap();
    let log = gig.log("home", "counter", "/visits").unwrap();
    log.refresh(DEADLINE).await.unwrap();
    gig.flush(None, DEADLINE).await.unwrap();
    gig.close().await.unwrap();
    let ops = Curl::new(&up.device, 0).await.read("counter", "/visits").await;
    let held: BTreeSet<String> = ops.iter().map(|op| op["sha"].as_str().unwrap().to_owned()).collect();
    assert_eq!(held.len(), ops.len(), "an operation arrived twice");
    assert!(held.is_superset(reported), "what was reported durable is gone");
    assert!(held.len() <= reported.len() + deaths, "{} in the store, {} reported", held.len(), reported.len());
    let fresh = up.device.client().await;
    assert_eq!(*fresh.get("home", "counter", "/visits").await.unwrap(), json!(held.len()));
    fresh.close().await.unwrap();
    println!("{} reported durable, {} in the store", reported.len(), held.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_killed_while_it_writes_offline_sends_what_it_reported_durable_once() {
    let mut random = Random::seeded("a_device_killed_while_it_writes_offline");
    let up = Up::start();
    let data = tempfile::tempdir().unwrap();
    let folder = data.path().join("data");
    // It has met its stores before.
    let gig = Gig::builder().table(up.device.table()).in_the_clear().local(&folder).open().await.unwrap();
    gig.get("home", "counter", "/visits").await.unwrap();
    gig.close().await.unwrap();
    let mut reported = BTreeSet::new();
    for _ in 0..2 {
        reported.extend(write_and_die(&up, &folder, &mut random));
    }
    comes_back(&up, &folder, &reported, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_killed_before_it_ever_met_a_store_sends_what_it_reported_durable_once() {
    let mut random = Random::seeded("a_device_killed_before_it_ever_met_a_store");
    let up = Up::start();
    let data = tempfile::tempdir().unwrap();
    let folder = data.path().join("data");
    let reported = write_and_die(&up, &folder, &mut random);
    comes_back(&up, &folder, &reported, 1).await;
}
