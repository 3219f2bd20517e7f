//! How logs are read, and what an answer or an event out of place comes to.

use serde_json::json;

use super::super::tests::{Machine, gets, log, pushes, watches};
use super::*;
use crate::api::PushResult;
use crate::error::ErrorCode;
use crate::wire::ServerMessage;

#[test]
fn a_thousand_logs_are_read_a_few_at_a_time() {
    let mut machine = Machine::new(false, 1);
    for at in 0..1_000 {
        let log = LogName::parse("me", "home", "raw", &format!("/many/{at}")).unwrap();
        machine.replica.open(machine.now, &log);
    }
    machine.connect(1);
    let sent = machine.sent();
    assert_eq!(watches(&sent), 1);
    let (mut waiting, mut read) = (gets(&sent), 0);
    assert!(waiting.len() < 1_000);
    while !waiting.is_empty() {
        for (tag, _) in std::mem::take(&mut waiting) {
            read += 1;
            machine.answer(
                1,
                ServerMessage::Ops { tag, base: None, ops: vec![], header: LogHeader::default(), more: false },
            );
        }
        waiting = gets(&machine.sent());
    }
    assert_eq!(read, 1_001);
}

#[test]
fn more_logs_than_a_stream_may_name_are_watched_as_a_whole() {
    let mut machine = Machine::new(false, 1);
    machine.connect(1);
    machine.drain();
    let mut last = Vec::new();
    for at in 0..=crate::limits::WATCHED_LOGS_MAX {
        let log = LogName::parse("me", "home", "raw", &format!("/many/{at}")).unwrap();
        machine.replica.open(machine.now, &log);
        last.extend(machine.sent().into_iter().filter_map(|message| match message {
            ClientMessage::Watch { watched, .. } => Some(watched),
            _ => None,
        }));
    }
    assert_eq!(last.iter().filter(|watched| matches!(watched, Watched::Prefix(_))).count(), 1);
}

#[test]
fn a_read_that_fails_for_now_is_tried_again() {
    let mut machine = Machine::new(false, 1);
    machine.connect(1);
    let (tag, _) = gets(&machine.sent())[0];
    let refusal = Refusal::new(ErrorCode::StorageFailed, "the disk is tired");
    machine.answer(1, ServerMessage::Failed { tag, refusal });
    assert_eq!(gets(&machine.sent()), []);
    machine.pass(20_000_000);
    assert_eq!(gets(&machine.sent()).len(), 1);
}

#[test]
fn an_event_behind_a_gap_has_the_gap_read() {
    let mut author = Machine::new(false, 0);
    (1..=3).for_each(|number| _ = author.push(&json!(number)));
    let ops: Vec<Op> = author.replica.oplog(&log()).unwrap().iter().cloned().collect();
    let mut machine = Machine::new(false, 1);
    machine.connect(1);
    let (tag, _) = gets(&machine.sent())[0];
    machine.answer(1, ServerMessage::Ops { tag, base: None, ops: vec![], header: LogHeader::default(), more: false });
    let told = |index: u64| {
        let op = WireOp::from(&ops[index as usize - 1]);
        ServerMessage::Event(crate::wire::Event { position: index, log: (&log()).into(), ops: vec![(index, op)] })
    };
    machine.answer(1, told(1));
    assert_eq!(gets(&machine.sent()), []);
    machine.answer(1, told(3));
    assert_eq!(gets(&machine.sent()).iter().map(|(_, after)| *after).collect::<Vec<_>>(), [1]);
    assert_eq!(machine.replica.oplog(&log()).unwrap().len(), 2);
}

#[test]
fn an_answer_that_an_event_has_overtaken_is_no_rollback() {
    let mut author = Machine::new(false, 0);
    author.push(&json!(1));
    let ops: Vec<Op> = author.replica.oplog(&log()).unwrap().iter().cloned().collect();
    let mut machine = Machine::new(false, 1);
    machine.connect(1);
    let (tag, _) = gets(&machine.sent())[0];
    let told = crate::wire::Event { position: 1, log: (&log()).into(), ops: vec![(1, WireOp::from(&ops[0]))] };
    machine.answer(1, ServerMessage::Event(told));
    machine.answer(1, ServerMessage::Ops { tag, base: None, ops: vec![], header: LogHeader::default(), more: false });
    let wondered = |output: &Output| matches!(output, Output::Notify(Notice::Suspicion { .. }));
    assert!(!machine.drain().iter().any(wondered));
    assert_eq!(machine.replica.oplog(&log()).unwrap().len(), 1);
}

#[test]
fn an_answer_that_is_too_short_loses_no_operation() {
    let mut machine = Machine::new(false, 1);
    machine.push(&json!(1));
    machine.push(&json!(2));
    machine.connect(1);
    let sent = pushes(&machine.sent());
    let (tag, shas) = &sent[0];
    machine.answer(1, ServerMessage::Pushed { tag: *tag, results: vec![PushResult::Accepted { sha: shas[0] }] });
    assert_eq!(machine.replica.queued(None), 1);
    machine.pass(20_000_000);
    assert_eq!(machine.answer_pushes(1, |sha| PushResult::Accepted { sha }), 1);
}
