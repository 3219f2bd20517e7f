//! The stream: being told of what arrives.

use std::time::{Duration, Instant};

use gigfs_core::Sha;
use gigfs_core::limits::WATCHED_LOGS_MAX;
use gigfs_core::wire::{ClientMessage, LogRef, SUBPROTOCOL_CBOR, SUBPROTOCOL_JSON, ServerMessage, Watched};
use gigfs_core::{ErrorCode, Op};
use serde_json::json;

use crate::world::{Stream, World, log, op, op_with};

async fn push(stream: &mut Stream, path: &str, seqs: std::ops::RangeInclusive<u64>) -> Vec<Sha> {
    let log = log(path);
    let ops: Vec<Op> = seqs.map(|seq| op(&log, seq)).collect();
    for op in &ops {
        stream.push(op.seq().get(), &log, std::slice::from_ref(op)).await;
    }
    for _ in &ops {
        assert!(matches!(stream.next().await, Some(ServerMessage::Pushed { .. })));
    }
    ops.iter().map(Op::sha).collect()
}

async fn watching(stream: &mut Stream) -> u64 {
    match stream.next().await {
        Some(ServerMessage::Watching { position, .. }) => position,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_stream_is_told_of_what_it_watches_and_of_nothing_else() {
    let world = World::start().await;
    let mut writer = world.stream().await.welcomed().await;
    for subprotocol in [Some(SUBPROTOCOL_CBOR), Some(SUBPROTOCOL_JSON)] {
        let mut reader = world.stream_with(subprotocol, &world.token()).await.unwrap().welcomed().await;
        reader.watch(1, "/in", None).await;
        watching(&mut reader).await;
        let begin = if reader_is_json(subprotocol) { 100 } else { 1 };
        push(&mut writer, "/out", begin..=begin).await;
        let below = push(&mut writer, "/in/a", begin..=begin + 1).await;
        push(&mut writer, "/in-side", begin..=begin).await;
        let own = push(&mut writer, "/in", begin..=begin).await;
        let (shas, _) = reader.events(3).await;
        assert_eq!(shas, [below, own].concat());
    }
}

fn reader_is_json(subprotocol: Option<&str>) -> bool {
    subprotocol == Some(SUBPROTOCOL_JSON)
}

#[tokio::test]
async fn watches_add_up_and_nothing_comes_after_unwatched() {
    let world = World::start().await;
    let mut stream = world.stream().await.welcomed().await;
    let named = Watched::Logs(vec![LogRef::from(&log("/a"))]);
    stream.send(&ClientMessage::Watch { tag: 1, watched: named, after: None }).await;
    watching(&mut stream).await;
    stream.watch(2, "/b", None).await;
    watching(&mut stream).await;
    let mut writer = world.stream().await.welcomed().await;
    let mut expected = push(&mut writer, "/a", 1..=1).await;
    push(&mut writer, "/c", 1..=1).await;
    expected.extend(push(&mut writer, "/b/x", 1..=1).await);
    assert_eq!(stream.events(2).await.0, expected);
    stream.send(&ClientMessage::Unwatch { tag: 3 }).await;
    assert_eq!(stream.next().await, Some(ServerMessage::Unwatched { tag: 3 }));
    push(&mut writer, "/a", 2..=2).await;
    stream.send(&ClientMessage::Unwatch { tag: 4 }).await;
    assert_eq!(stream.next().await, Some(ServerMessage::Unwatched { tag: 4 }));
}

#[tokio::test]
async fn a_stream_that_resumes_from_its_cursor_misses_nothing() {
    let world = World::start().await;
    let mut writer = world.stream().await.welcomed().await;
    let mut all = push(&mut writer, "/a", 1..=20).await;
    let mut reader = world.stream().await.welcomed().await;
    reader.watch(1, "/", Some(0)).await;
    let (first, cursor) = reader.events(20).await;
    assert_eq!((&first, cursor), (&all, 20));
    assert_eq!(watching(&mut reader).await, 20);
    drop(reader);
    all.extend(push(&mut writer, "/b", 1..=30).await);

    let mut reader = world.stream().await.welcomed().await;
    reader.watch(1, "/", Some(cursor)).await;
    // Some arrive while it catches up.
    all.extend(push(&mut writer, "/a", 21..=40).await);
    let (second, cursor) = reader.events(50).await;
    assert_eq!([first, second].concat(), all);
    assert_eq!(cursor, 70);
}

#[tokio::test]
async fn a_cursor_of_the_future_is_answered_with_the_present() {
    let world = World::start().await;
    let mut stream = world.stream().await.welcomed().await;
    stream.watch(1, "/", Some(1_000_000)).await;
    assert_eq!(watching(&mut stream).await, 0);
    let expected = push(&mut world.stream().await.welcomed().await, "/a", 1..=1).await;
    assert_eq!(stream.events(1).await.0, expected);
}

#[tokio::test]
async fn a_slow_subscriber_blocks_nobody_and_misses_nothing() {
    let world = World::start().await;
    let mut slow = world.stream().await.welcomed().await;
    slow.watch(1, "/", None).await;
    watching(&mut slow).await;
    let mut quick = world.stream().await.welcomed().await;
    quick.watch(1, "/", None).await;
    watching(&mut quick).await;
    let mut writer = world.stream().await.welcomed().await;
    // More than the sockets and the queue hold, while the slow one reads nothing.
    let (count, a) = (1500_u64, log("/a"));
    let ops: Vec<_> = (1..=count).map(|seq| op_with(&a, 1, seq, &[], &json!("x".repeat(20_000)))).collect();
    let expected: Vec<_> = ops.iter().map(Op::sha).collect();
    let begun = Instant::now();
    let writing = async {
        for chunk in ops.chunks(50) {
            writer.push(1, &a, chunk).await;
            assert!(matches!(writer.next().await, Some(ServerMessage::Pushed { .. })));
        }
    };
    let (_, (told, _)) = tokio::join!(writing, quick.events(count as usize));
    assert_eq!(told, expected);
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    assert_eq!(slow.events(count as usize).await.0, expected);
}

#[tokio::test]
async fn a_large_operation_is_told_of_as_any_other() {
    let world = World::start().await;
    let mut stream = world.stream().await.welcomed().await;
    stream.watch(1, "/", None).await;
    watching(&mut stream).await;
    let a = log("/a");
    let mut writer = world.stream().await.welcomed().await;
    let ops = [
        op_with(&a, 1, 1, &[], &json!(1)),
        op_with(&a, 1, 2, &[], &json!("x".repeat(200_000))),
        op_with(&a, 1, 3, &[], &json!(3)),
    ];
    for op in &ops {
        writer.push(op.seq().get(), &a, std::slice::from_ref(op)).await;
    }
    assert_eq!(stream.events(3).await.0, ops.map(|op| op.sha()));
}

#[tokio::test]
async fn more_logs_than_a_stream_may_watch_are_refused_and_it_goes_on() {
    let world = World::start().await;
    let mut stream = world.stream().await.welcomed().await;
    for (tag, range) in [(1, 0..4000), (2, 4000..4200)] {
        let logs = range.map(|n| LogRef::from(&log(&format!("/{n}")))).collect();
        stream.send(&ClientMessage::Watch { tag, watched: Watched::Logs(logs), after: None }).await;
    }
    assert_eq!(watching(&mut stream).await, 0);
    let Some(ServerMessage::Failed { tag: 2, refusal }) = stream.next().await else { panic!("taken") };
    assert_eq!(refusal.code, ErrorCode::TooMany);
    let expected = push(&mut world.stream().await.welcomed().await, "/7", 1..=1).await;
    assert_eq!(stream.events(1).await.0, expected);
}

#[tokio::test]
async fn who_has_named_as_many_logs_as_a_stream_may_watch_can_watch_the_channel_instead() {
    let world = World::start().await;
    let mut stream = world.stream().await.welcomed().await;
    let logs = (0..WATCHED_LOGS_MAX).map(|n| LogRef::from(&log(&format!("/{n}")))).collect();
    stream.send(&ClientMessage::Watch { tag: 1, watched: Watched::Logs(logs), after: None }).await;
    watching(&mut stream).await;
    stream.watch(2, "/", None).await;
    watching(&mut stream).await;
    let expected = push(&mut world.stream().await.welcomed().await, "/one-more", 1..=1).await;
    assert_eq!(stream.events(1).await.0, expected);
}

#[tokio::test]
async fn a_read_right_behind_a_watch_leaves_no_gap_between_them() {
    let world = World::start().await;
    let mut writer = world.stream().await.welcomed().await;
    for seq in 1..=60 {
        let mut reader = world.stream().await.welcomed().await;
        let (name, pushed) = (log("/a"), op(&log("/a"), seq));
        reader.watch(1, "/", None).await;
        reader.send(&ClientMessage::Get { tag: 2, log: LogRef::from(&name), after: 0, base: None }).await;
        writer.push(seq, &name, std::slice::from_ref(&pushed)).await;
        assert!(matches!(writer.next().await, Some(ServerMessage::Pushed { .. })));
        // It comes with the read or as an event; the stream's own deadline fails the test if it comes with neither.
        loop {
            let ops = match reader.next().await.unwrap() {
                ServerMessage::Ops { ops, .. } => ops,
                ServerMessage::Event(event) => event.ops,
                _ => continue,
            };
            if ops.iter().any(|(_, op)| op.sha == pushed.sha()) {
                break;
            }
        }
    }
}
