//! What is best seen at the machine itself: what it puts out for what it takes in, and what that costs.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::api::{LogHeader, PushResult};
use crate::error::ErrorCode;
use crate::fold::{Function, Logged};
use crate::id::{Incarnation, RunId};
use crate::wire::ClientMessage;

/// A machine with what it was asked to send and persist since the last look.
pub(super) struct Machine {
    pub(super) replica: Replica,
    pub(super) now: Date,
}

pub(super) fn log() -> LogName {
    LogName::parse("me", "home", "raw", "/a").unwrap()
}

pub(super) fn store(number: u8) -> StoreId {
    StoreId::from_bytes([number; 16])
}

pub(super) fn link(number: u8) -> LinkId {
    LinkId { channel: log().channel, store: store(number) }
}

impl Machine {
    pub(super) fn new(durable: bool, stores: u8) -> Self {
        let user = log().user;
        let mut replica = Replica::new(Config {
            user,
            actor: ActorId::from_bytes([1; 16]),
            durable,
            seed: 1,
            prune: PrunePolicy::OnDemand,
        });
        let all = |ops: &[Logged]| Value::Array(ops.iter().map(|op| op.payload.clone()).collect());
        replica.register(log().kind, Arc::new(Function::new(all)));
        let mut machine = Self { replica, now: Date::saturating(1_000_000_000) };
        machine.mount(stores);
        machine.replica.open(machine.now, &log());
        if durable {
            machine.handle(Event::Loaded { log: log(), kept: Kept::default() });
        }
        machine.drain();
        machine
    }

    pub(super) fn handle(&mut self, event: Event) {
        self.replica.handle(self.now, event);
    }

    pub(super) fn mount(&mut self, stores: u8) {
        self.handle(Event::Mounted { channel: log().channel, stores: (1..=stores).map(store).collect(), epoch: 1 });
    }

    pub(super) fn connect(&mut self, number: u8) {
        self.greet(number, 0, None);
    }

    /// Has a stream come up to a store whose channel is at a position.
    pub(super) fn greet(&mut self, number: u8, position: u64, run: Option<RunId>) {
        let incarnation = Incarnation::from_bytes([7; 16]);
        let welcome = Welcome { store: store(number), incarnation, position, now: self.now, run };
        self.handle(Event::Connected { link: link(number), welcome });
    }

    pub(super) fn answer(&mut self, number: u8, message: ServerMessage) {
        self.handle(Event::Received { link: link(number), message });
    }

    pub(super) fn push(&mut self, payload: &Value) -> Receipt {
        self.replica.push(self.now, &log(), payload).unwrap()
    }

    pub(super) fn drain(&mut self) -> Vec<Output> {
        std::iter::from_fn(|| self.replica.poll()).collect()
    }

    pub(super) fn sent(&mut self) -> Vec<ClientMessage> {
        let sent = |output| match output {
            Output::Send { message, .. } => Some(message),
            _ => None,
        };
        self.drain().into_iter().filter_map(sent).collect()
    }

    /// Answers every push on a stream until nothing more is sent, and counts the operations.
    pub(super) fn answer_pushes(&mut self, number: u8, result: impl Fn(Sha) -> PushResult) -> usize {
        let mut count = 0;
        loop {
            let pushes: Vec<(u64, Vec<Sha>)> = pushes(&self.sent());
            if pushes.is_empty() {
                return count;
            }
            for (tag, shas) in pushes {
                count += shas.len();
                let results = shas.into_iter().map(&result).collect();
                self.answer(number, ServerMessage::Pushed { tag, results });
            }
        }
    }

    pub(super) fn pass(&mut self, micros: i64) {
        self.now = self.now.plus(micros);
        self.handle(Event::Tick);
    }
}

pub(super) fn pushes(sent: &[ClientMessage]) -> Vec<(u64, Vec<Sha>)> {
    let push = |message: &ClientMessage| match message {
        ClientMessage::Push { tag, ops, .. } => Some((*tag, ops.iter().map(|op| op.sha).collect())),
        _ => None,
    };
    sent.iter().filter_map(push).collect()
}

pub(super) fn gets(sent: &[ClientMessage]) -> Vec<(u64, u64)> {
    let get = |message: &ClientMessage| match message {
        ClientMessage::Get { tag, after, .. } => Some((*tag, *after)),
        _ => None,
    };
    sent.iter().filter_map(get).collect()
}

pub(super) fn watches(sent: &[ClientMessage]) -> usize {
    sent.iter().filter(|message| matches!(message, ClientMessage::Watch { .. })).count()
}

#[test]
fn an_operation_leaves_after_the_disk_has_answered_even_to_a_store_mounted_meanwhile() {
    let mut machine = Machine::new(true, 1);
    machine.connect(1);
    machine.drain();
    machine.push(&json!(1));
    let outputs = machine.drain();
    let persist = outputs.iter().find_map(|output| match output {
        Output::Persist { id, .. } => Some(*id),
        _ => None,
    });
    machine.mount(2);
    machine.connect(2);
    assert_eq!(pushes(&machine.sent()), []);
    machine.handle(Event::Persisted { id: persist.unwrap(), failed: None });
    assert_eq!(pushes(&machine.sent()).len(), 2);
}

fn persists(outputs: &[Output]) -> Vec<(PersistId, Vec<Sha>)> {
    let ops = |records: &[Record]| {
        let op = |record: &Record| match record {
            Record::Op { op, .. } => Some(op.sha()),
            _ => None,
        };
        records.iter().filter_map(op).collect()
    };
    let persist = |output: &Output| match output {
        Output::Persist { id, records } => Some((*id, ops(records))),
        _ => None,
    };
    outputs.iter().filter_map(persist).collect()
}

#[test]
fn nothing_reaches_the_disk_before_what_was_written_earlier() {
    let mut machine = Machine::new(true, 0);
    let first = machine.push(&json!(1)).sha;
    let (id, shas) = persists(&machine.drain()).pop().unwrap();
    assert_eq!(shas, [first]);
    let (second, third) = (machine.push(&json!(2)).sha, machine.push(&json!(3)).sha);
    assert_eq!(persists(&machine.drain()), []);
    machine.handle(Event::Persisted { id, failed: Some("no space".into()) });
    let fourth = machine.push(&json!(4)).sha;
    assert_eq!(persists(&machine.drain()), []);
    machine.pass(5_000_000);
    let (id, shas) = persists(&machine.drain()).pop().unwrap();
    assert_eq!(shas, [first, second, third, fourth]);
    assert!(!machine.replica.is_saved());
    machine.handle(Event::Persisted { id, failed: None });
    assert_eq!(persists(&machine.drain()), []);
    assert!(machine.replica.is_saved());
}

#[test]
fn what_the_disk_refuses_is_said_and_sent_and_kept_once_it_can_be() {
    let mut machine = Machine::new(true, 1);
    machine.connect(1);
    machine.push(&json!(1));
    let (id, _) = persists(&machine.drain()).pop().unwrap();
    machine.handle(Event::Persisted { id, failed: Some("no space".into()) });
    assert_eq!(pushes(&machine.sent()).len(), 1);
    let receipt = machine.push(&json!(2));
    let outputs = machine.drain();
    let news = outputs.iter().rev().find_map(|output| match output {
        Output::Notify(Notice::Receipt(news)) if news.id == receipt.id => Some(news),
        _ => None,
    });
    assert_eq!(news.unwrap().local_error.as_deref(), Some("no space"));
    assert!(!news.unwrap().durable);
    assert_eq!(persists(&outputs), []);
    machine.pass(5_000_000);
    let (id, shas) = persists(&machine.drain()).pop().unwrap();
    assert_eq!(shas.len(), 2);
    machine.handle(Event::Persisted { id, failed: None });
    assert!(machine.replica.receipt(receipt.id).unwrap().durable);
}

#[test]
fn a_log_that_is_loaded_after_its_stream_came_up_is_read_and_sent() {
    let mut machine = Machine::new(true, 1);
    let other = LogName::parse("me", "home", "raw", "/b").unwrap();
    machine.connect(1);
    machine.drain();
    machine.replica.open(machine.now, &other);
    assert_eq!(machine.sent(), []);
    let mut author = Machine::new(false, 0);
    author.replica.open(author.now, &other);
    author.replica.push(author.now, &other, &json!(1)).unwrap();
    let op = author.replica.oplog(&other).unwrap().iter().next().unwrap().clone();
    let kept = Kept { pending: BTreeSet::from([op.sha()]), ops: vec![op], ..Kept::default() };
    machine.handle(Event::Loaded { log: other, kept });
    let sent = machine.sent();
    assert_eq!((watches(&sent), gets(&sent).len(), pushes(&sent).len()), (1, 1, 1));
}

#[test]
fn an_operation_is_not_dated_again_before_what_it_depends_on_is_known() {
    let mut author = Machine::new(false, 0);
    author.now = author.now.plus(3_600_000_000);
    (1..=2).for_each(|number| _ = author.push(&json!(number)));
    let ops: Vec<Op> = author.replica.oplog(&log()).unwrap().iter().cloned().collect();
    for known in [true, false] {
        let mut machine = Machine::new(true, 1);
        let other = LogName::parse("me", "home", "raw", "/b").unwrap();
        machine.replica.open(machine.now, &other);
        let op = |op: &Op, deps: Vec<Sha>| {
            let mut draft = op.draft().clone();
            draft.deps = deps;
            draft.finish(&other).unwrap()
        };
        let first = op(&ops[0], vec![]);
        let second = op(&ops[1], vec![first.sha()]);
        let pending = BTreeSet::from([first.sha(), second.sha()]);
        let mut kept = vec![second];
        kept.extend(known.then_some(first));
        machine.handle(Event::Loaded { log: other, kept: Kept { ops: kept, pending, ..Kept::default() } });
        machine.connect(1);
        let refusal = Refusal::new(ErrorCode::ClockAhead, "ahead").at(machine.now);
        let sent = pushes(&machine.sent());
        let (tag, shas) = &sent[0];
        let results = shas.iter().map(|_| PushResult::Refused(refusal.clone())).collect();
        machine.answer(1, ServerMessage::Pushed { tag: *tag, results });
        let dated = machine.drain().iter().any(|output| matches!(output, Output::Persist { .. }));
        assert_eq!(dated, known);
    }
}

#[test]
fn a_hundred_thousand_operations_put_off_by_a_full_store_cost_one_timer() {
    const OPS: usize = 100_000;
    let mut machine = Machine::new(false, 1);
    let payload = json!(1);
    (0..OPS).for_each(|_| _ = machine.push(&payload));
    machine.connect(1);
    let full = Refusal::new(ErrorCode::InsufficientStorage, "full");
    assert_eq!(machine.answer_pushes(1, |_| PushResult::Refused(full.clone())), OPS);
    assert_eq!(machine.replica.timers.len(), 1);
    assert_eq!(machine.replica.queued(None), OPS);
    machine.pass(20_000_000);
    assert_eq!(machine.answer_pushes(1, |sha| PushResult::Accepted { sha }), OPS);
    assert_eq!((machine.replica.queued(None), machine.replica.receipts.len()), (0, 0));
}

#[test]
fn a_mount_table_that_says_what_is_known_asks_for_nothing() {
    let mut machine = Machine::new(false, 2);
    machine.connect(1);
    machine.connect(2);
    machine.drain();
    machine.mount(2);
    assert_eq!(machine.sent(), []);
}

#[test]
fn a_store_that_leaves_takes_what_only_it_lacked_off_the_list() {
    let mut machine = Machine::new(false, 2);
    let receipt = machine.push(&json!(1));
    machine.connect(1);
    assert_eq!(machine.answer_pushes(1, |sha| PushResult::Accepted { sha }), 1);
    assert!(machine.replica.receipt(receipt.id).is_some());
    machine.mount(1);
    assert_eq!((machine.replica.queued(None), machine.replica.receipt(receipt.id)), (0, None));
    let last = machine.drain().into_iter().rev().find_map(|output| match output {
        Output::Notify(Notice::Receipt(receipt)) => Some(receipt),
        _ => None,
    });
    assert_eq!(last.map(|receipt| (receipt.accepted(), receipt.stores.len())), Some((1, 1)));
}

#[test]
fn a_stream_that_is_replaced_before_its_loss_is_noticed_sends_again() {
    let mut machine = Machine::new(false, 1);
    machine.push(&json!(1));
    machine.connect(1);
    assert_eq!(pushes(&machine.sent()).len(), 1);
    machine.connect(1);
    assert_eq!(machine.answer_pushes(1, |sha| PushResult::Known { sha }), 1);
    assert_eq!(machine.replica.queued(None), 0);
}

#[test]
fn drained_is_told_once_when_it_becomes_true() {
    let mut machine = Machine::new(false, 1);
    machine.connect(1);
    let drained = |outputs: Vec<Output>| {
        outputs.into_iter().filter(|output| matches!(output, Output::Notify(Notice::Drained { .. }))).count()
    };
    assert_eq!(drained(machine.drain()), 1);
    machine.push(&json!(1));
    let sent = machine.sent();
    assert_eq!(pushes(&sent).len(), 1);
    let (tag, shas) = pushes(&sent).remove(0);
    machine.answer(1, ServerMessage::Pushed { tag, results: vec![PushResult::Accepted { sha: shas[0] }] });
    assert_eq!(drained(machine.drain()), 1);
    machine.pass(60_000_000);
    assert_eq!(drained(machine.drain()), 0);
}

#[test]
fn what_is_written_while_a_log_has_pushes_unanswered_goes_out_as_one() {
    let mut machine = Machine::new(false, 1);
    machine.connect(1);
    machine.sent();
    (0..10).for_each(|number| _ = machine.push(&json!(number)));
    let alone = pushes(&machine.sent());
    assert_eq!(alone.iter().map(|(_, shas)| shas.len()).collect::<Vec<_>>(), [1; 4]);
    let (tag, shas) = alone[0].clone();
    machine.answer(1, ServerMessage::Pushed { tag, results: vec![PushResult::Accepted { sha: shas[0] }] });
    let together = pushes(&machine.sent());
    assert_eq!(together.iter().map(|(_, shas)| shas.len()).collect::<Vec<_>>(), [6]);
    let (failed, (last, shas)) = (alone[1].0, together[0].clone());
    machine.push(&json!("more"));
    assert!(pushes(&machine.sent()).is_empty());
    let refusal = Refusal::new(ErrorCode::Unavailable, "the store is busy");
    machine.answer(1, ServerMessage::Failed { tag: failed, refusal });
    assert_eq!(pushes(&machine.sent()).len(), 1, "a push that failed makes room as well");
    let results = shas.iter().map(|sha| PushResult::Accepted { sha: *sha }).collect();
    machine.answer(1, ServerMessage::Pushed { tag: last, results });
    assert_eq!(machine.replica.queued(None), 4, "two alone, the one that failed, and the last");
}

#[test]
fn a_store_that_is_compared_again_is_not_in_step_before_it_has_answered() {
    let mut machine = Machine::new(false, 2);
    let answer = |machine: &mut Machine, number| {
        let (tag, _) = gets(&machine.sent())[0];
        let header = LogHeader::default();
        machine.answer(number, ServerMessage::Ops { tag, base: None, ops: vec![], header, more: false });
    };
    for number in [1, 2] {
        machine.connect(number);
        answer(&mut machine, number);
    }
    assert_eq!(machine.replica.read_standing(&log()).current, 2);
    machine.replica.compare_again(machine.now, &log(), store(1));
    assert!(!machine.replica.is_in_step(&link(1), &[log()]) && machine.replica.is_in_step(&link(2), &[log()]));
    answer(&mut machine, 1);
    assert!(machine.replica.is_in_step(&link(1), &[log()]));
}

#[test]
fn a_store_is_drained_of_a_log_once_the_others_have_it_and_the_register_was_asked() {
    let mut machine = Machine::new(false, 2);
    (1..=2).for_each(|number| machine.connect(number));
    machine.push(&json!(1));
    // Both are read before anything is sent to them.
    let header = LogHeader::default();
    let mut answered = false;
    for _ in 0..4 {
        for message in machine.drain() {
            let Output::Send { link, message } = message else { continue };
            let answer = match message {
                ClientMessage::Get { tag, .. } => {
                    ServerMessage::Ops { tag, base: None, ops: Vec::new(), header, more: false }
                }
                ClientMessage::Push { tag, ops, .. } => {
                    assert!(!machine.replica.is_drained_of(&log(), store(1)));
                    let results = ops.iter().map(|op| PushResult::Accepted { sha: op.sha }).collect();
                    ServerMessage::Pushed { tag, results }
                }
                _ => continue,
            };
            machine.handle(Event::Received { link, message: answer });
            answered = true;
        }
    }
    assert!(answered && machine.replica.queued(None) == 0);
    assert!(!machine.replica.is_drained_of(&log(), store(1)), "the register was not asked");
    machine.replica.ask_register(&log());
    assert!(!machine.replica.is_drained_of(&log(), store(1)), "it has not answered");
    let standing = crate::api::CommitResult::Standing { certificate: None, refusal: None };
    machine.handle(Event::Committed { log: log(), result: Ok(standing) });
    assert!(machine.replica.is_drained_of(&log(), store(1)));
}
