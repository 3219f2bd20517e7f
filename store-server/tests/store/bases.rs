//! How bases are read, and who is told of them.

use gigfs_core::api::{LogList, OplogPage};
use gigfs_core::limits::{CHECKPOINT_RECORD_BYTES_MAX, CHECKPOINT_STATE_BYTES_MAX};
use gigfs_core::wire::{LogRef, SUBPROTOCOL_CBOR, SUBPROTOCOL_JSON, ServerMessage};
use gigfs_core::{ActorId, BaseId, Covers, ErrorCode, Seq, Sha};
use gigfs_store_server::EngineKind;
use reqwest::Method;
use serde_json::json;

use crate::pruning::{FOR_LONG, shas};
use crate::world::{Made, World, chain, checkpoint, log, op_with, soon};

#[tokio::test]
async fn a_watcher_is_told_of_a_base_between_what_came_before_it_and_what_came_after() {
    let world = World::start().await;
    let mut writer = world.stream().await.welcomed().await;
    for (path, subprotocol) in [("/in/cbor", SUBPROTOCOL_CBOR), ("/in/json", SUBPROTOCOL_JSON)] {
        let mut watcher = world.stream_with(Some(subprotocol), &world.token()).await.unwrap().welcomed().await;
        watcher.watch(1, "/in", None).await;
        assert!(matches!(watcher.next().await, Some(ServerMessage::Watching { .. })));
        let (inside, outside) = (log(path), log(&path.replace("in", "out")));
        let (ops, other) = (chain(&inside, 1, 1..=3), chain(&outside, 1, 1..=1));
        writer.pushed(&outside, &other).await.unwrap();
        writer.pushed(&inside, &ops[..2]).await.unwrap();
        let unwatched = checkpoint(&outside, None, &other, &json!([1]));
        writer.install(&outside, world.table.certified(&unwatched)).await.unwrap();
        let made = checkpoint(&inside, None, &ops[..2], &json!([1]));
        let header = writer.install(&inside, world.table.certified(&made)).await.unwrap();
        writer.pushed(&inside, &ops[2..]).await.unwrap();
        assert_eq!(soon(watcher.events(2)).await.0, shas(&ops[..2]));
        assert_eq!(watcher.next().await, Some(ServerMessage::Pruned { log: LogRef::from(&inside), header }));
        assert_eq!(soon(watcher.events(1)).await.0, shas(&ops[2..]));
    }
}

#[tokio::test]
async fn who_comes_back_is_told_of_the_bases_that_changed_and_of_no_others() {
    let world = World::start().await;
    let mut writer = world.stream().await.welcomed().await;
    let (a, b, c) = (log("/in/a"), log("/in/b"), log("/in/c"));
    let known = chain(&c, 1, 1..=1);
    writer.pushed(&c, &known).await.unwrap();
    writer.install(&c, world.table.certified(&checkpoint(&c, None, &known, &json!([0])))).await.unwrap();
    writer.pushed(&c, &chain(&c, 2, 1..=1)).await.unwrap();
    let mut before = world.stream().await.welcomed().await;
    before.watch(1, "/in", None).await;
    let Some(ServerMessage::Watching { position, .. }) = before.next().await else { panic!("it does not watch") };

    let (pruned, disputed) = (chain(&a, 1, 1..=2), chain(&b, 1, 1..=1));
    writer.pushed(&a, &pruned).await.unwrap();
    writer.pushed(&b, &disputed).await.unwrap();
    let made = checkpoint(&b, None, &disputed, &json!([1]));
    writer.install(&b, world.table.certified(&made)).await.unwrap();
    let header = writer.dispute(&b, made.id.sha).await.unwrap();
    let late = chain(&b, 2, 1..=1);
    writer.pushed(&b, &late).await.unwrap();
    let last = checkpoint(&a, None, &pruned, &json!([1]));
    let of_a = writer.install(&a, world.table.certified(&last)).await.unwrap();

    for prefix in ["/in", "/"] {
        let mut again = world.stream().await.welcomed().await;
        again.watch(2, prefix, Some(position)).await;
        // Each in its place among what is left of the arrivals.
        match again.next().await {
            Some(ServerMessage::Pruned { log, header: now }) => {
                assert_eq!((log, now.base), (LogRef::from(&b), header.base));
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(again.events(1).await.0, shas(&late));
        assert_eq!(again.next().await, Some(ServerMessage::Pruned { log: LogRef::from(&a), header: of_a }));
        assert!(matches!(again.next().await, Some(ServerMessage::Watching { tag: 2, .. })));
    }
}

#[tokio::test]
async fn a_store_that_was_started_again_says_so_in_its_welcome() {
    let mut world = World::with(EngineKind::Fjall).await;
    let mut runs = Vec::new();
    for restarted in [false, false, true] {
        if restarted {
            world.restart(FOR_LONG).await;
        }
        match world.stream().await.next().await {
            Some(ServerMessage::Welcome(welcome)) => runs.push(welcome.run.expect("it says which run it is")),
            other => panic!("{other:?}"),
        }
    }
    assert!(runs[0] == runs[1] && runs[1] != runs[2]);
}

#[tokio::test]
async fn a_watcher_is_told_of_a_base_after_an_operation_that_is_too_large_for_the_queue() {
    let world = World::start().await;
    let (a, mut writer) = (log("/a"), world.stream().await.welcomed().await);
    let mut watcher = world.stream().await.welcomed().await;
    watcher.watch(1, "/", None).await;
    assert!(matches!(watcher.next().await, Some(ServerMessage::Watching { .. })));
    let (ops, late) = (chain(&a, 1, 1..=1), op_with(&a, 2, 1, &[], &json!("x".repeat(100_000))));
    writer.pushed(&a, &ops).await.unwrap();
    writer.pushed(&a, std::slice::from_ref(&late)).await.unwrap();
    let made = checkpoint(&a, None, &ops, &json!([1]));
    let header = writer.install(&a, world.table.certified(&made)).await.unwrap();
    assert_eq!(soon(watcher.events(2)).await.0, [ops[0].sha(), late.sha()]);
    assert_eq!(watcher.next().await, Some(ServerMessage::Pruned { log: LogRef::from(&a), header }));
}

#[tokio::test]
async fn a_reader_gets_the_base_unless_it_has_it() {
    let world = World::start().await;
    let (a, mut stream) = (log("/a"), world.stream().await.welcomed().await);
    let (ops, late) = (chain(&a, 1, 1..=3), chain(&a, 2, 1..=2));
    stream.pushed(&a, &ops).await.unwrap();
    stream.pushed(&a, &late).await.unwrap();
    let first = checkpoint(&a, None, &ops, &json!({"sum": 6}));
    stream.install(&a, world.table.certified(&first)).await.unwrap();
    let second = checkpoint(&a, Some(&first), &late[..1], &json!({"sum": 7}));
    stream.install(&a, world.table.certified(&second)).await.unwrap();
    for (known, expected) in [
        (None, Some(second.id.sha)),
        (Some(first.id), Some(second.id.sha)),
        (Some(second.id), None),
        (Some(BaseId { generation: Seq::new(3).unwrap(), ..first.id }), None),
    ] {
        let read = stream.get(&a, known).await.unwrap();
        assert_eq!(read.base.map(|base| base.sha), expected, "{known:?}");
        assert_eq!((read.ops, read.header.base.unwrap().id), (vec![late[1].sha()], second.id));
    }

    let get = async |path: &str| world.request(Method::GET, path).send().await.unwrap();
    let path = "/user/me/oplog?channel=home&type=list&path=/a";
    let page: OplogPage = get(path).await.json().await.unwrap();
    let base = page.base.unwrap();
    assert_eq!((base.id, base.parent, base.state), (second.id, Some(first.id.sha), Some(json!({"sum": 7}))));
    assert_eq!(gigfs_core::base64_text::decode(&base.record).unwrap(), second.record);
    assert_eq!((page.ops.len(), page.header.base.unwrap().id), (1, second.id));
    let page: OplogPage = get(&format!("{path}&after=1")).await.json().await.unwrap();
    assert_eq!((page.base, page.ops.len()), (None, 1));
    let listed: LogList = get("/user/me/oplogs?channel=home").await.json().await.unwrap();
    assert_eq!(listed.logs[0].header.base.unwrap().id, second.id);
}

#[tokio::test]
async fn the_largest_base_travels_and_leaves_the_operations_to_the_next_part() {
    let world = World::start().await;
    let (a, mut stream) = (log("/a"), world.stream().await.welcomed().await);
    let ops = chain(&a, 1, 1..=2);
    stream.pushed(&a, &ops).await.unwrap();
    let mut large = checkpoint(&a, None, &[], &json!("x".repeat(CHECKPOINT_STATE_BYTES_MAX - 2))).checkpoint;
    let actor = |n: u32| ActorId::from_bytes(std::array::from_fn(|at| n.to_be_bytes()[at % 4]));
    let heads = |n: u32| (1..=2).map(|seq| (Seq::new(seq).unwrap(), Sha::of(&n.to_be_bytes()))).collect();
    large.covers = Covers::from_entries((0x0400_0000..0x0400_0000 + 7000).map(|n| (actor(n), heads(n))));
    let large = Made::of(&a, large);
    assert!(large.record.len() > CHECKPOINT_RECORD_BYTES_MAX - 200_000, "{}", large.record.len());
    let header = stream.install(&a, world.table.certified(&large)).await.unwrap();
    assert_eq!(header.base.unwrap().bytes, large.record.len() as u64);
    let read = stream.get(&a, None).await.unwrap();
    assert_eq!((read.base.unwrap().record, read.ops, read.parts), (large.record.clone(), shas(&ops), vec![0, 2]));

    let next = checkpoint(&a, Some(&large), &ops, &json!("x".repeat(CHECKPOINT_STATE_BYTES_MAX - 2)));
    assert!(stream.acknowledge(&next, 1).await.is_ok());
    let mut json = world.stream_with(None, &world.token()).await.unwrap().welcomed().await;
    assert_eq!(json.get(&a, None).await.map(|read| read.parts).unwrap_err().code, ErrorCode::TooLarge);
    assert_eq!(json.get(&a, Some(large.id)).await.unwrap().ops, shas(&ops));
}
