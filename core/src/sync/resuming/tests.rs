//! What a replica asks for when it comes back, and what it makes of what it is told.

use serde_json::json;

use super::super::tests::{Machine, gets, link, log, pushes};
use super::super::{Event, Mode, Notice, Output, Refusal};
use super::*;
use crate::api::{LogHeader, PushResult};
use crate::checkpoint::BaseId;
use crate::error::ErrorCode;
use crate::id::{ActorId, Digest, Seq, Sha};
use crate::op::Op;
use crate::wire::{self, ServerMessage, WireOp};

fn run(number: u8) -> Option<RunId> {
    Some(RunId::from_bytes([number; 16]))
}

/// A machine that is in step with its stores about one empty log, in each store's first run, at position 5.
fn in_step(stores: u8) -> Machine {
    let mut machine = Machine::new(false, stores);
    for number in 1..=stores {
        machine.greet(number, 5, run(1));
        settle(&mut machine, number, 5);
    }
    machine
}

/// Answers what a store was asked, as one does that has nothing of any log.
fn settle(machine: &mut Machine, number: u8, position: u64) {
    for message in machine.sent() {
        match message {
            ClientMessage::Watch { tag, .. } => machine.answer(number, ServerMessage::Watching { tag, position }),
            ClientMessage::Get { tag, .. } => {
                let header = LogHeader::default();
                machine.answer(number, ServerMessage::Ops { tag, base: None, ops: vec![], header, more: false });
            }
            _ => {}
        }
    }
    assert!(machine.replica.is_in_step(&link(number), &[log()]));
}

fn lose(machine: &mut Machine, number: u8) {
    let reason = Refusal::new(ErrorCode::Unreachable, "the cable is out");
    machine.handle(Event::Lost { link: link(number), reason });
    machine.drain();
}

/// Returns the tags and cursors of the watches in it.
fn cursors(sent: &[ClientMessage]) -> Vec<(Tag, Option<u64>)> {
    let cursor = |message: &ClientMessage| match message {
        ClientMessage::Watch { tag, after, .. } => Some((*tag, *after)),
        _ => None,
    };
    sent.iter().filter_map(cursor).collect()
}

/// Returns operations of one other author.
fn written(count: usize) -> Vec<Op> {
    let mut author = Machine::new(false, 0);
    (0..count).for_each(|number| _ = author.push(&json!(number)));
    let actor = ActorId::from_bytes([9; 16]);
    let mut before = Vec::new();
    let ops = author.replica.oplog(&log()).unwrap().iter().map(|op| {
        let mut draft = op.draft().clone();
        (draft.actor, draft.deps) = (actor, std::mem::take(&mut before));
        let op = draft.finish(&log()).unwrap();
        before = vec![op.sha()];
        op
    });
    ops.collect()
}

fn told(position: u64, index: u64, op: &Op) -> ServerMessage {
    let ops = vec![(index, WireOp::from(op))];
    ServerMessage::Event(wire::Event { position, log: LogRef::from(&log()), ops })
}

#[test]
fn a_log_in_step_is_not_read_when_the_stream_comes_back() {
    let mut machine = in_step(1);
    lose(&mut machine, 1);
    machine.greet(1, 6, run(1));
    let sent = machine.sent();
    let watches = cursors(&sent);
    assert_eq!((watches.len(), watches[0].1, gets(&sent)), (1, Some(5), vec![]));
    let op = &written(1)[0];
    machine.answer(1, told(6, 1, op));
    assert!(!machine.replica.is_in_step(&link(1), &[log()]), "more may come");
    assert_eq!(machine.replica.read_standing(&log()).trying, 1, "and whoever reads waits for it");
    machine.answer(1, ServerMessage::Watching { tag: watches[0].0, position: 6 });
    let outputs = machine.drain();
    assert!(outputs.iter().any(|output| matches!(output, Output::Notify(Notice::Resumed { .. }))));
    assert!(!outputs.iter().any(|output| matches!(output, Output::Send { .. })));
    assert!(machine.replica.is_in_step(&link(1), &[log()]));
    assert!(machine.replica.oplog(&log()).unwrap().contains(&op.sha()));
    lose(&mut machine, 1);
    machine.greet(1, 6, run(1));
    assert_eq!(cursors(&machine.sent())[0].1, Some(6));
}

#[test]
fn a_log_of_which_nothing_was_told_is_not_looked_at_when_the_stream_comes_back() {
    let mut machine = in_step(1);
    let other = LogName { path: "/b".parse().unwrap(), ..log() };
    machine.replica.open(machine.now, &other);
    settle(&mut machine, 1, 5);
    let at_rest = |machine: &Machine| machine.replica.logs.at_rest(&log().channel).cloned().collect::<Vec<_>>();
    let current = |machine: &Machine| machine.replica.status()[0].current_logs;
    assert_eq!((at_rest(&machine), current(&machine)), (vec![], 2));
    lose(&mut machine, 1);
    assert_eq!((at_rest(&machine), current(&machine)), (vec![log(), other.clone()], 0));
    assert_eq!(machine.replica.read_standing(&other).down, 1);
    machine.greet(1, 6, run(1));
    let sent = machine.sent();
    let named = |message: &ClientMessage| match message {
        ClientMessage::Watch { watched: Watched::Logs(logs), .. } => logs.len(),
        _ => 0,
    };
    assert_eq!(sent.iter().map(named).collect::<Vec<_>>(), [2]);
    assert_eq!(machine.replica.read_standing(&other).trying, 1);
    machine.answer(1, told(6, 1, &written(1)[0]));
    machine.answer(1, ServerMessage::Watching { tag: cursors(&sent)[0].0, position: 6 });
    assert!(machine.replica.value(&other).is_some());
    assert_eq!((at_rest(&machine), current(&machine)), (vec![other.clone()], 2));
    assert!(machine.replica.is_in_step(&link(1), &[log(), other]));
}

#[test]
fn what_is_written_to_a_log_at_rest_goes_out_when_the_stream_is_back() {
    for is_greeted_first in [false, true] {
        let mut machine = in_step(1);
        lose(&mut machine, 1);
        if is_greeted_first {
            machine.greet(1, 5, run(1));
        }
        let sha = machine.push(&json!(1)).sha;
        if !is_greeted_first {
            machine.greet(1, 5, run(1));
        }
        let sent = machine.sent();
        assert_eq!((cursors(&sent).len(), gets(&sent)), (1, vec![]));
        let push = pushes(&sent).remove(0);
        assert_eq!(push.1, [sha]);
        machine.answer(1, ServerMessage::Watching { tag: cursors(&sent)[0].0, position: 5 });
        machine.answer(1, ServerMessage::Pushed { tag: push.0, results: vec![PushResult::Accepted { sha }] });
        assert!(machine.replica.is_in_step(&link(1), &[log()]));
    }
}

#[test]
fn a_store_that_may_have_lost_what_it_told_is_read() {
    for (position, run) in [(5, run(2)), (4, run(1)), (5, None)] {
        let mut machine = in_step(1);
        lose(&mut machine, 1);
        machine.greet(1, position, run);
        let sent = machine.sent();
        assert_eq!((cursors(&sent)[0].1, gets(&sent).len()), (None, 1));
    }
}

#[test]
fn a_store_that_does_not_know_what_was_missed_is_read() {
    let mut machine = in_step(1);
    lose(&mut machine, 1);
    machine.greet(1, 5, run(1));
    let (tag, _) = cursors(&machine.sent())[0];
    machine.answer(1, ServerMessage::Failed { tag, refusal: Refusal::new(ErrorCode::StaleCursor, "long ago") });
    let sent = machine.sent();
    assert_eq!((cursors(&sent)[0].1, gets(&sent).len()), (None, 1));
}

#[test]
fn a_log_of_which_something_was_not_told_or_came_damaged_is_read() {
    let ops = written(2);
    let mut damaged = WireOp::from(&ops[0]);
    damaged.sha = Sha::of(b"another");
    let damaged = wire::Event { position: 6, log: LogRef::from(&log()), ops: vec![(1, damaged)] };
    for told in [told(7, 2, &ops[1]), ServerMessage::Event(damaged)] {
        let mut machine = in_step(1);
        lose(&mut machine, 1);
        machine.greet(1, 7, run(1));
        let (tag, _) = cursors(&machine.sent())[0];
        machine.answer(1, told);
        assert_eq!(gets(&machine.sent()).len(), 1);
        machine.answer(1, ServerMessage::Watching { tag, position: 7 });
        assert_eq!(gets(&machine.sent()), []);
        assert!(!machine.replica.is_in_step(&link(1), &[log()]));
    }
}

#[test]
fn a_log_that_has_another_base_now_is_read() {
    let mut machine = in_step(1);
    lose(&mut machine, 1);
    machine.greet(1, 5, run(1));
    let (tag, _) = cursors(&machine.sent())[0];
    let id = BaseId { generation: Seq::FIRST, sha: Sha::of(b"base") };
    let covered = Digest::default();
    let base = BaseHeader { id, covered, complete: true, disputed: false, bytes: 1, retained_bytes: 0 };
    let header = LogHeader { base: Some(base), ..LogHeader::default() };
    machine.answer(1, ServerMessage::Pruned { log: LogRef::from(&log()), header });
    assert_eq!(gets(&machine.sent()).len(), 1);
    machine.answer(1, ServerMessage::Watching { tag, position: 5 });
    assert!(!machine.replica.is_in_step(&link(1), &[log()]));
}

#[test]
fn what_is_told_before_all_that_was_missed_moves_no_cursor() {
    let mut machine = in_step(1);
    lose(&mut machine, 1);
    machine.greet(1, 9, run(1));
    machine.drain();
    machine.answer(1, told(8, 1, &written(1)[0]));
    lose(&mut machine, 1);
    machine.greet(1, 9, run(1));
    let sent = machine.sent();
    assert_eq!((cursors(&sent)[0].1, gets(&sent)), (Some(5), vec![]));
}

#[test]
fn what_came_while_a_store_was_away_is_brought_to_it_unless_it_tells_of_it_itself() {
    for tells in [false, true] {
        let mut machine = in_step(2);
        lose(&mut machine, 2);
        let op = &written(1)[0];
        machine.answer(1, told(6, 1, op));
        assert_eq!(machine.replica.queued(None), 0, "nobody waits for a store that is away to have it");
        machine.drain();
        machine.greet(2, 6, run(1));
        let (tag, _) = cursors(&machine.sent())[0];
        if tells {
            machine.answer(2, told(6, 1, op));
        }
        machine.answer(2, ServerMessage::Watching { tag, position: 6 });
        assert_eq!(pushes(&machine.sent()), []);
        machine.pass(4_000_000);
        assert_eq!(pushes(&machine.sent()).len(), usize::from(!tells));
    }
}

#[test]
fn a_store_that_missed_more_than_is_noted_is_compared_with() {
    let mut machine = in_step(2);
    lose(&mut machine, 2);
    for (at, op) in (1..).zip(&written(GAINED_MAX + 1)) {
        machine.answer(1, told(5 + at, at, op));
    }
    machine.drain();
    machine.greet(2, 5, run(1));
    assert_eq!(gets(&machine.sent()).len(), 1);
}

#[test]
fn a_log_whose_reading_was_not_over_is_read_and_the_others_are_not() {
    let mut machine = in_step(1);
    let other = crate::name::LogName { path: "/b".parse().unwrap(), ..log() };
    machine.replica.open(machine.now, &other);
    assert_eq!(gets(&machine.sent()).len(), 1);
    lose(&mut machine, 1);
    machine.greet(1, 5, run(1));
    let sent = machine.sent();
    let after: Vec<_> = cursors(&sent).into_iter().map(|(_, after)| after).collect();
    assert_eq!((after, gets(&sent).len()), (vec![Some(5), None], 1));
}

#[test]
fn a_replica_that_paused_goes_on_where_it_left_off_on_the_same_stream() {
    let mut machine = in_step(1);
    machine.replica.set_mode(machine.now, Mode::Paused);
    machine.drain();
    machine.answer(1, told(6, 1, &written(1)[0]));
    assert!(machine.replica.oplog(&log()).unwrap().is_empty());
    machine.replica.set_mode(machine.now, Mode::Online);
    let sent = machine.sent();
    assert_eq!((cursors(&sent)[0].1, gets(&sent)), (Some(5), vec![]));
    machine.answer(1, told(6, 1, &written(1)[0]));
    machine.answer(1, ServerMessage::Watching { tag: cursors(&sent)[0].0, position: 6 });
    assert!(machine.replica.is_in_step(&link(1), &[log()]));
    assert_eq!(machine.replica.oplog(&log()).unwrap().len(), 1);
}
