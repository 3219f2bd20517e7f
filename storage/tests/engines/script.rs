//! Words to write scripts with.

use std::ops::ControlFlow;

use gigfs_core::{
    ActorId, Base, ChannelName, Checkpoint, Covers, Date, Digest, Draft, LogName, Op, Payload, Seq, Sha, TypeName,
    UserName,
};
use gigfs_storage::{Append, Appended, Arrival, Batch, Engine, Install, Page, Progress, StoredOp};
use serde_json::{Value, json};

pub(crate) fn user(name: &str) -> UserName {
    UserName::parse(name).unwrap()
}

pub(crate) fn channel(name: &str) -> ChannelName {
    ChannelName::parse(name).unwrap()
}

pub(crate) fn log(path: &str) -> LogName {
    LogName::parse("me", "home", "list", path).unwrap()
}

pub(crate) fn op_with(log: &LogName, seq: u64, deps: &[Sha], payload: &Value) -> Op {
    let mut deps = deps.to_vec();
    deps.sort_unstable();
    let draft = Draft {
        actor: ActorId::from_bytes([5; 16]),
        seq: Seq::new(seq).unwrap(),
        date: Date::saturating(1_000 + seq),
        deps,
        payload: Payload::plain(payload),
    };
    draft.finish(log).unwrap()
}

pub(crate) fn op(log: &LogName, seq: u64) -> Op {
    op_with(log, seq, &[], &json!({ "n": seq }))
}

pub(crate) fn append(log: &LogName, op: &Op) -> Append {
    Append::Op { log: log.clone(), op: op.clone() }
}

pub(crate) fn push(engine: &dyn Engine, log: &LogName, ops: &[Op]) -> Vec<Appended> {
    let appends = ops.iter().map(|op| append(log, op)).collect();
    engine.commit(&Batch { appends, ..Batch::default() }).unwrap()
}

pub(crate) fn remove(engine: &dyn Engine, log: &LogName, shas: &[Sha]) {
    let removes = shas.iter().map(|sha| (log.clone(), *sha)).collect();
    engine.commit(&Batch { removes, ..Batch::default() }).unwrap();
}

pub(crate) fn arrival(appended: &Appended) -> &Arrival {
    match appended {
        Appended::New(arrival) => arrival,
        other => panic!("expected a new arrival, got {other:?}"),
    }
}

pub(crate) fn shas(ops: &[Op]) -> Vec<Sha> {
    ops.iter().map(Op::sha).collect()
}

pub(crate) fn digest(shas: &[Sha]) -> Digest {
    let mut digest = Digest::default();
    shas.iter().for_each(|sha| digest.add(sha));
    digest
}

/// The base of a generation that covers what has this digest, of which `heads` are some.
pub(crate) fn base(log: &LogName, generation: u64, heads: &[Op], digest: Digest) -> Base {
    let checkpoint = Checkpoint {
        absent: Vec::new(),
        generation: Seq::new(generation).unwrap(),
        parent: None,
        covers: Covers::default().with(heads),
        digest,
        reducer: TypeName::parse("list").unwrap(),
        version: 1,
        state: Payload::plain(&json!([generation, digest.count])),
        date: Date::saturating(5_000 + generation),
        author: ActorId::from_bytes([6; 16]),
    };
    let certificate = format!("certificate {generation}");
    Base { sha: checkpoint.sha(log), record: checkpoint.to_record(None).into(), certificate }
}

/// The install of a base that covers exactly these operations, which are retained since the generation's number.
pub(crate) fn install(log: &LogName, generation: u64, ops: &[Op]) -> Install {
    let covered = shas(ops);
    let base = base(log, generation, ops, digest(&covered));
    Install { log: log.clone(), base, covered, retain: true, at: Date::saturating(generation) }
}

pub(crate) fn prune(engine: &dyn Engine, install: &Install) {
    engine.commit(&Batch { installs: vec![install.clone()], ..Batch::default() }).unwrap();
}

pub(crate) fn restore(engine: &dyn Engine, log: &LogName) {
    engine.commit(&Batch { restores: vec![log.clone()], ..Batch::default() }).unwrap();
}

pub(crate) fn dispute(engine: &dyn Engine, log: &LogName, base: &Base) {
    engine.commit(&Batch { disputes: vec![(log.clone(), base.sha)], ..Batch::default() }).unwrap();
}

pub(crate) fn live(engine: &dyn Engine, log: &LogName) -> Vec<StoredOp> {
    engine.read(log, 0, Page::ALL).unwrap()
}

/// Hears how far something is and has it go on.
pub(crate) fn go_on(_: Progress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}
