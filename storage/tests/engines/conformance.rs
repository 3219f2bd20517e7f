//! The claims that every engine keeps.

use bytes::Bytes;
use gigfs_core::limits::OP_PAYLOAD_BYTES_MAX;
use gigfs_core::{Date, LogName, Op, Path, PathPrefix, Payload, Sha, TypeName};
use gigfs_storage::{Append, Appended, Batch, Engine, Page};
use serde_json::json;

use crate::script::{append, arrival, channel, log, op, op_with, push, remove, user};

fn indexes(engine: &dyn Engine, log: &LogName) -> Vec<u64> {
    engine.read(log, 0, Page::ALL).unwrap().iter().map(|op| op.index).collect()
}

fn positions(engine: &dyn Engine) -> Vec<u64> {
    let feed = engine.feed(&user("me"), &channel("home"), 0, Page::ALL).unwrap();
    feed.iter().map(|arrival| arrival.position).collect()
}

pub(crate) fn what_is_appended_reads_back_in_order_of_arrival(engine: &dyn Engine) {
    let (a, b) = (log("/a"), log("/b"));
    let (one, two, three) = (op(&a, 9), op(&b, 1), op(&a, 3));
    let batch = Batch { appends: vec![append(&a, &one), append(&b, &two), append(&a, &three)], ..Batch::default() };
    let appended = engine.commit(&batch).unwrap();
    let places: Vec<_> = appended.iter().map(|new| (arrival(new).position, arrival(new).stored.index)).collect();
    assert_eq!(places, [(1, 1), (2, 1), (3, 2)]);

    let read = engine.read(&a, 0, Page::ALL).unwrap();
    assert_eq!(read.iter().map(|op| op.sha).collect::<Vec<_>>(), [one.sha(), three.sha()]);
    assert_eq!(read[1].record, three.to_record());
    assert_eq!(Op::from_record(&a, &read[0].record, Some(read[0].sha)).unwrap(), one);
    assert_eq!(engine.read(&a, 1, Page::ALL).unwrap().len(), 1);
    assert_eq!(engine.inventory(&a, 0, 10).unwrap(), [(1, one.sha()), (2, three.sha())]);
    assert_eq!(engine.inventory(&a, 0, 1).unwrap(), [(1, one.sha())]);

    let feed = engine.feed(&user("me"), &channel("home"), 0, Page::ALL).unwrap();
    let expected: Vec<_> = appended.iter().map(|new| arrival(new).clone()).collect();
    assert_eq!(feed, expected);
    assert_eq!(engine.feed(&user("me"), &channel("home"), 2, Page::ALL).unwrap(), expected[2..]);
    assert_eq!(engine.position(&user("me"), &channel("home")).unwrap(), 3);

    let tail = engine.tail(&a).unwrap().unwrap();
    let bytes = (one.to_record().len() + three.to_record().len()) as u64;
    assert_eq!((tail.header.digest.count, tail.header.last_index, tail.header.bytes), (2, 2, bytes));
    assert_eq!((tail.max_date, tail.heads), (one.date(), vec![one.sha(), three.sha()]));
    assert_eq!(engine.usage(&user("me")).unwrap(), bytes + two.to_record().len() as u64);
}

pub(crate) fn an_operation_is_written_once_within_a_batch_and_across_batches(engine: &dyn Engine) {
    let a = log("/a");
    let one = op(&a, 1);
    let first = push(engine, &a, &[one.clone(), one.clone()]);
    assert_eq!(arrival(&first[0]).stored.index, 1);
    let known = Appended::Known { sha: one.sha(), index: 1 };
    assert_eq!(first[1], known);
    let before = engine.tail(&a).unwrap();
    assert_eq!(push(engine, &a, std::slice::from_ref(&one)), [known]);
    assert_eq!(engine.tail(&a).unwrap(), before);
    assert_eq!(positions(engine), [1]);
}

pub(crate) fn removes_subtract_and_never_give_a_place_twice(engine: &dyn Engine) {
    let a = log("/a");
    let ops: Vec<_> = (1..=4).map(|seq| op(&a, seq)).collect();
    push(engine, &a, &ops);
    let usage = engine.usage(&user("me")).unwrap();
    remove(engine, &a, &[ops[1].sha(), ops[3].sha(), ops[3].sha(), Sha::of(b"nobody")]);
    assert_eq!(indexes(engine, &a), [1, 3]);
    assert_eq!(positions(engine), [1, 3]);
    assert_eq!(engine.position(&user("me"), &channel("home")).unwrap(), 4);
    let gone = (ops[1].to_record().len() + ops[3].to_record().len()) as u64;
    assert_eq!(engine.usage(&user("me")).unwrap(), usage - gone);
    let tail = engine.tail(&a).unwrap().unwrap();
    assert_eq!((tail.header.digest.count, tail.header.last_index), (2, 4));
    assert_eq!(tail.heads, [ops[0].sha(), ops[2].sha()]);

    let next = push(engine, &a, &[op(&a, 5)]);
    assert_eq!((arrival(&next[0]).stored.index, arrival(&next[0]).position), (5, 5));
    remove(engine, &a, &[ops[0].sha(), ops[2].sha(), op(&a, 5).sha()]);
    assert_eq!(indexes(engine, &a), [0_u64; 0]);
    let tail = engine.tail(&a).unwrap().unwrap();
    assert_eq!((tail.header.digest, tail.header.bytes, tail.header.last_index), (Default::default(), 0, 5));
    assert_eq!(engine.usage(&user("me")).unwrap(), 0);
}

pub(crate) fn an_operation_can_come_and_go_in_one_batch(engine: &dyn Engine) {
    let a = log("/a");
    let (one, two) = (op(&a, 1), op(&a, 2));
    let appends = vec![append(&a, &one), append(&a, &two)];
    let appended =
        engine.commit(&Batch { appends, removes: vec![(a.clone(), two.sha())], ..Batch::default() }).unwrap();
    assert_eq!(arrival(&appended[1]).stored.index, 2);
    assert_eq!(indexes(engine, &a), [1]);
    assert_eq!(arrival(&push(engine, &a, &[op(&a, 3)])[0]).stored.index, 3);
}

pub(crate) fn a_removed_operation_can_come_again_at_a_new_place(engine: &dyn Engine) {
    let a = log("/a");
    let one = op(&a, 1);
    push(engine, &a, std::slice::from_ref(&one));
    remove(engine, &a, &[one.sha()]);
    let again = push(engine, &a, std::slice::from_ref(&one));
    assert_eq!((arrival(&again[0]).stored.index, arrival(&again[0]).position), (2, 2));
    assert_eq!(engine.tail(&a).unwrap().unwrap().header.digest.count, 1);
}

pub(crate) fn a_page_ends_with_the_record_that_reaches_its_limit(engine: &dyn Engine) {
    let a = log("/a");
    let ops: Vec<_> = (1..=5).map(|seq| op(&a, seq)).collect();
    push(engine, &a, &ops);
    let size = ops[0].to_record().len();
    let read = |page| engine.read(&a, 1, page).unwrap().len();
    let fed = |page| engine.feed(&user("me"), &channel("home"), 1, page).unwrap().len();
    for (page, expected) in [
        (Page { ops: 2, bytes: usize::MAX }, 2),
        (Page { ops: 0, bytes: 0 }, 1),
        (Page { ops: 9, bytes: size }, 1),
        (Page { ops: 9, bytes: size + 1 }, 2),
        (Page::ALL, 4),
    ] {
        assert_eq!((read(page), fed(page)), (expected, expected), "{page:?}");
    }
}

pub(crate) fn a_listing_goes_on_after_any_log_and_keeps_to_whole_segments(engine: &dyn Engine) {
    let names = [
        ("map", "/notes"),
        ("map", "/notes-old"),
        ("map", "/notes/a"),
        ("map", "/notes/a/b"),
        ("map", "/notes0"),
        ("map", "/z"),
        ("map.x", "/notes/c"),
        ("text", "/a"),
        ("text", "/notes/ä"),
    ];
    for (kind, path) in names {
        let log = LogName::parse("me", "home", kind, path).unwrap();
        push(engine, &log, &[op(&log, 1)]);
    }
    for other in [LogName::parse("me", "home2", "map", "/notes"), LogName::parse("me2", "home", "map", "/notes")] {
        push(engine, &other.clone().unwrap(), &[op(&other.unwrap(), 1)]);
    }
    let list = |prefix: &str, after: Option<(&str, &str)>, max| {
        let after = after.map(|(kind, path)| (TypeName::parse(kind).unwrap(), Path::parse(path).unwrap()));
        let after = after.as_ref().map(|(kind, path)| (kind, path));
        let prefix = PathPrefix::parse(prefix).unwrap();
        let listed = engine.list(&user("me"), &channel("home"), &prefix, after, max).unwrap();
        assert!(listed.iter().all(|(_, header)| header.digest.count == 1));
        listed.into_iter().map(|(log, _)| (log.kind.to_string(), log.path.to_string())).collect::<Vec<_>>()
    };
    let owned = |names: &[(&str, &str)]| names.iter().map(|(k, p)| (k.to_string(), p.to_string())).collect::<Vec<_>>();
    assert_eq!(list("/", None, 99), owned(&names));
    assert_eq!(list("/", Some(names[3]), 3), owned(&names[4..7]));
    assert_eq!(list("/", None, 0), []);
    let below = owned(&[names[0], names[2], names[3], names[6], names[8]]);
    assert_eq!(list("/notes", None, 99), below);
    assert_eq!(list("/notes/", None, 2), below[..2]);
    assert_eq!(list("/notes", Some(names[0]), 99), below[1..]);
    assert_eq!(list("/notes", Some(names[4]), 99), below[3..]);
    assert_eq!(list("/notes", Some(names[8]), 99), []);
    assert_eq!(list("/nothing", None, 99), []);
}

pub(crate) fn a_path_below_another_is_a_log_of_its_own(engine: &dyn Engine) {
    let (above, below) = (log("/foo"), log("/foo/bar"));
    push(engine, &below, &[op(&below, 1)]);
    push(engine, &above, &[op(&above, 1), op(&above, 2)]);
    assert_eq!((indexes(engine, &above).len(), indexes(engine, &below).len()), (2, 1));
}

pub(crate) fn a_feed_is_of_one_channel_of_one_user(engine: &dyn Engine) {
    for (user_name, channel_name, count) in [("me", "home", 1), ("me", "work", 2), ("you", "home", 3)] {
        let log = LogName::parse(user_name, channel_name, "list", "/a").unwrap();
        for seq in 1..=count {
            push(engine, &log, &[op(&log, seq)]);
        }
    }
    for (user_name, channel_name, count) in [("me", "home", 1), ("me", "work", 2), ("you", "home", 3)] {
        let feed = engine.feed(&user(user_name), &channel(channel_name), 0, Page::ALL).unwrap();
        assert_eq!(feed.len(), count);
        assert_eq!(engine.position(&user(user_name), &channel(channel_name)).unwrap(), count as u64);
        assert!(feed.iter().all(|arrival| arrival.log.user.as_str() == user_name));
    }
    assert!(engine.usage(&user("you")).unwrap() > 0);
}

pub(crate) fn a_stamped_payload_comes_after_all_that_the_log_holds(engine: &dyn Engine) {
    let a = log("/a");
    let written = op(&a, 500);
    let stamp = |wall| Append::Stamp { log: a.clone(), payload: Payload::plain(&json!("hi")), wall };
    let appends = vec![stamp(Date::saturating(3)), append(&a, &written), stamp(Date::saturating(3))];
    let appended = engine.commit(&Batch { appends, ..Batch::default() }).unwrap();
    let open = |at: usize| {
        let stored = &arrival(&appended[at]).stored;
        Op::from_record(&a, &stored.record, Some(stored.sha)).unwrap()
    };
    let (first, second) = (open(0), open(2));
    assert_eq!(first.actor().as_bytes(), engine.store_id().as_bytes());
    assert_eq!((first.seq().get(), second.seq().get()), (1, 2));
    assert_eq!(first.date().micros(), 3);
    assert_eq!(second.date().micros(), written.date().micros() + 1);
    let mut heads = vec![first.sha(), written.sha()];
    heads.sort_unstable();
    assert_eq!(second.deps(), heads);
    assert_eq!(engine.tail(&a).unwrap().unwrap().stamped, 2);
    let third = engine.commit(&Batch { appends: vec![stamp(Date::saturating(u64::MAX))], ..Batch::default() }).unwrap();
    let third = Op::from_record(&a, &arrival(&third[0]).stored.record, None).unwrap();
    assert_eq!((third.seq().get(), third.deps()), (3, &[second.sha()][..]));
}

pub(crate) fn a_payload_that_breaks_a_rule_is_refused_and_its_batch_goes_on(engine: &dyn Engine) {
    let (a, b) = (log("/a"), log("/b"));
    let large = Payload::Plain(Bytes::from(vec![b' '; OP_PAYLOAD_BYTES_MAX + 1]));
    let appends = vec![Append::Stamp { log: b.clone(), payload: large, wall: Date::EPOCH }, append(&a, &op(&a, 1))];
    let appended = engine.commit(&Batch { appends, ..Batch::default() }).unwrap();
    assert!(matches!(appended[0], Appended::Refused(_)), "{:?}", appended[0]);
    assert_eq!(arrival(&appended[1]).position, 1);
    assert_eq!(engine.tail(&b).unwrap(), None);
}

pub(crate) fn falsy_payloads_are_values(engine: &dyn Engine) {
    let a = log("/a");
    for (seq, payload) in [json!(null), json!(0), json!(false), json!(""), json!([]), json!({})].iter().enumerate() {
        let op = op_with(&a, seq as u64 + 1, &[], payload);
        push(engine, &a, std::slice::from_ref(&op));
        let read = engine.read(&a, seq as u64, Page::ALL).unwrap();
        assert_eq!(Op::from_record(&a, &read[0].record, None).unwrap().payload(), &Payload::plain(payload));
    }
}

pub(crate) fn notes_are_kept_in_the_order_of_their_keys(engine: &dyn Engine) {
    let set = |notes: &[(&'static [u8], Option<&'static [u8]>)]| {
        let notes = notes.iter().map(|(k, v)| (Bytes::from_static(k), v.map(Bytes::from_static))).collect();
        engine.commit(&Batch { notes, ..Batch::default() }).unwrap();
    };
    set(&[(b"a/2", Some(b"two")), (b"b", Some(b"")), (b"a/\xff", Some(b"last")), (b"", Some(b"empty"))]);
    set(&[(b"a/1", Some(b"one")), (b"a/2", Some(b"TWO")), (b"c", Some(b"gone")), (b"c", None)]);
    assert_eq!(engine.note(b"a/2").unwrap().unwrap(), "TWO");
    assert_eq!(engine.note(b"b").unwrap().unwrap(), "");
    assert_eq!(engine.note(b"").unwrap().unwrap(), "empty");
    assert_eq!(engine.note(b"c").unwrap(), None);
    let keys = |prefix| engine.notes(prefix).unwrap().into_iter().map(|(key, _)| key.to_vec()).collect::<Vec<_>>();
    assert_eq!(keys(b"a/"), [&b"a/1"[..], b"a/2", b"a/\xff"]);
    assert_eq!(keys(b"").len(), 5);
    assert_eq!(keys(b"z").len(), 0);
}

pub(crate) fn what_never_arrived_is_nothing(engine: &dyn Engine) {
    let a = log("/a");
    assert_eq!(engine.commit(&Batch::default()).unwrap(), []);
    remove(engine, &a, &[Sha::of(b"x")]);
    assert_eq!(engine.tail(&a).unwrap(), None);
    assert!(engine.read(&a, 0, Page::ALL).unwrap().is_empty());
    assert!(engine.read(&a, u64::MAX, Page::ALL).unwrap().is_empty());
    assert!(engine.inventory(&a, 0, 9).unwrap().is_empty());
    assert_eq!((engine.find(&a, &Sha::of(b"x")).unwrap(), engine.base(&a).unwrap()), (None, None));
    assert!(!engine.is_covered(&a, &Sha::of(b"x")).unwrap() && engine.covered(&a, None, 9).unwrap().is_empty());
    assert!(engine.retained(&a, u64::MAX, Page::ALL).unwrap().is_empty() && engine.base_of(&a, 1).unwrap().is_none());
    assert_eq!(engine.forget_retained(Date::saturating(u64::MAX), 9).unwrap(), 0);
    assert!(engine.feed(&user("me"), &channel("home"), u64::MAX, Page::ALL).unwrap().is_empty());
    assert!(engine.list(&user("me"), &channel("home"), &PathPrefix::default(), None, 9).unwrap().is_empty());
    assert_eq!(engine.position(&user("me"), &channel("home")).unwrap(), 0);
    assert_eq!(engine.usage(&user("me")).unwrap(), 0);
}

pub(crate) fn a_large_record_reads_back_whole(engine: &dyn Engine) {
    let a = log("/a");
    let large = op_with(&a, 1, &[], &json!("x".repeat(OP_PAYLOAD_BYTES_MAX - 2)));
    push(engine, &a, std::slice::from_ref(&large));
    push(engine, &a, &[op(&a, 2)]);
    let page = Page { ops: 9, bytes: 1024 };
    assert_eq!(engine.read(&a, 0, page).unwrap().len(), 1);
    assert_eq!(engine.read(&a, 0, page).unwrap()[0].record, large.to_record());
}

pub(crate) fn positions_are_given_once_by_many_threads(engine: &dyn Engine) {
    std::thread::scope(|scope| {
        for thread in 0..4 {
            scope.spawn(move || {
                let log = log(&format!("/{thread}"));
                for seq in 1..=10 {
                    push(engine, &log, &[op(&log, seq)]);
                    assert_eq!(engine.tail(&log).unwrap().unwrap().header.last_index, seq);
                }
            });
        }
    });
    assert_eq!(positions(engine), (1..=40).collect::<Vec<_>>());
}
