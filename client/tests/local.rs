//! A client on its own: a device without a network.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::time::Duration;

use gigfs::core::UserName;
use gigfs::{Error, Gig, Origin, Table};
use serde_json::{Value, json};

const DEADLINE: Duration = Duration::from_secs(10);

async fn open(folder: &std::path::Path) -> Gig {
    Gig::builder().local(folder).open().await.unwrap()
}

#[tokio::test]
async fn what_was_durable_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let gig = open(folder.path()).await;
    for _ in 0..100 {
        gig.push("home", "counter", "/visits", json!({"add": 1})).await.unwrap();
    }
    let mut last = gig.push("home", "map", "/m", json!({"set": {"k": null}})).await.unwrap();
    assert!(last.durable().await.durable);
    gig.close().await.unwrap();

    let gig = open(folder.path()).await;
    assert_eq!(*gig.get("home", "counter", "/visits").await.unwrap(), json!(100));
    assert_eq!(*gig.get("home", "map", "/m").await.unwrap(), json!({"k": null}));
    gig.close().await.unwrap();
}

#[tokio::test]
async fn falsy_values_are_values_like_any_other() {
    let gig = Gig::builder().open().await.unwrap();
    for value in [json!(0), json!(""), json!(false), json!(null)] {
        gig.push("home", "register", "/r", json!({"set": value})).await.unwrap();
        assert_eq!(*gig.get("home", "register", "/r").await.unwrap(), value);
    }
    assert_eq!(gig.log("home", "register", "/r").unwrap().len(), 4);
}

#[tokio::test]
async fn a_get_before_anything_else_answers_at_once() {
    let gig = Gig::builder().open().await.unwrap();
    assert_eq!(*gig.get("home", "register", "/never").await.unwrap(), Value::Null);
    assert_eq!(*gig.get("home", "counter", "/never").await.unwrap(), json!(0));
}

#[tokio::test]
async fn a_path_that_is_a_prefix_of_another_is_a_log_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let gig = open(folder.path()).await;
    gig.push("home", "register", "/foo/bar", json!({"set": "below"})).await.unwrap();
    gig.push("home", "register", "/foo", json!({"set": "above"})).await.unwrap();
    gig.close().await.unwrap();
    let gig = open(folder.path()).await;
    assert_eq!(*gig.get("home", "register", "/foo").await.unwrap(), json!("above"));
    assert_eq!(*gig.get("home", "register", "/foo/bar").await.unwrap(), json!("below"));
    let listed = gig.list("home", "/foo").await.unwrap();
    assert_eq!(listed.iter().map(|log| log.path.as_str()).collect::<Vec<_>>(), ["/foo", "/foo/bar"]);
    gig.close().await.unwrap();
}

#[tokio::test]
async fn two_processes_of_one_device_see_what_the_other_writes() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (open(folder.path()).await, open(folder.path()).await);
    let mut changes = one.on("home", "counter", "/c").await.unwrap();
    two.push("home", "counter", "/c", json!({"add": 5})).await.unwrap();
    let change = tokio::time::timeout(DEADLINE, changes.next()).await.unwrap().unwrap();
    assert_eq!(*change.value, json!(5));
    assert_eq!(change.ops[0].0, Origin::Neighbour);
    one.push("home", "counter", "/c", json!({"add": 2})).await.unwrap();
    let sum = two.log("home", "counter", "/c").unwrap().until(|value| *value == json!(7), DEADLINE).await;
    assert!(sum.is_ok());
    one.close().await.unwrap();
    two.close().await.unwrap();
}

#[tokio::test]
async fn a_listener_is_told_of_own_pushes_with_the_operations_that_caused_them() {
    let gig = Gig::builder().open().await.unwrap();
    let mut changes = gig.on("home", "list", "/l").await.unwrap();
    for at in 0..3 {
        gig.push("home", "list", "/l", json!({"append": at})).await.unwrap();
    }
    let change = changes.next().await.unwrap();
    assert_eq!((&*change.value, change.ops.len()), (&json!([0, 1, 2]), 3));
    gig.close().await.unwrap();
    assert!(changes.next().await.is_none());
}

#[tokio::test]
async fn a_function_over_the_whole_oplog_is_a_type_too() {
    let gig = Gig::builder().open().await.unwrap();
    gig.register_function("longest", |ops| {
        ops.iter().filter_map(|op| op.payload.as_str()).max_by_key(|text| text.len()).map_or(Value::Null, Value::from)
    })
    .unwrap();
    for word in ["a", "abc", "ab"] {
        gig.push("home", "longest", "/w", json!(word)).await.unwrap();
    }
    assert_eq!(*gig.get("home", "longest", "/w").await.unwrap(), json!("abc"));
}

#[tokio::test]
async fn mistakes_get_a_sentence_and_write_nothing() {
    let gig = Gig::builder().open().await.unwrap();
    let unknown = gig.push("home", "nonsense", "/a", json!(1)).await.unwrap_err();
    assert!(unknown.to_string().contains("register, counter"), "{unknown}");
    let bad = gig.push("home", "counter", "/a", json!({"add": "x"})).await.unwrap_err();
    assert!(matches!(bad, Error::Push(_)), "{bad}");
    for path in ["a", "/a/../b", "/a\0", "//"] {
        assert!(matches!(gig.get("home", "counter", path).await, Err(Error::Name(_))), "{path:?} was accepted");
    }
    assert_eq!(gig.log("home", "counter", "/a").unwrap().len(), 0);
}

#[tokio::test]
async fn a_local_store_of_another_user_is_not_opened() {
    let folder = tempfile::tempdir().unwrap();
    open(folder.path()).await.close().await.unwrap();
    let table = gigfs::Table::new("http://127.0.0.1:1", "ana".parse().unwrap(), &[]).unwrap();
    let error = Gig::builder().table(table).in_the_clear().local(folder.path()).open().await.err().unwrap();
    assert!(matches!(error, Error::OtherUser { .. }), "{error}");
}

#[tokio::test]
async fn before_the_first_mount_table_nothing_is_flushed() {
    // Nobody listens there.
    let table = Table::new("http://127.0.0.1:9", UserName::parse("me").unwrap(), &[]).unwrap();
    let gig = Gig::builder().table(table).in_the_clear().open().await.unwrap();
    gig.flush(None, DEADLINE).await.unwrap();
    gig.push("home", "counter", "/visits", json!({"add": 1})).await.unwrap();
    gig.settled(DEADLINE).await;
    assert!(gig.status().table_down.is_some());
    let flushed = gig.flush(None, Duration::from_millis(10)).await;
    assert!(matches!(flushed, Err(Error::Unsent { left: 1 })), "{flushed:?}");
    assert_eq!(gig.settle(Duration::from_millis(10)).await, 1);
}
