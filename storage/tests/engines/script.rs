//! Words to write scripts with.

use gigfs_core::{ActorId, ChannelName, Date, Draft, LogName, Op, Payload, Seq, Sha, UserName};
use gigfs_storage::{Append, Appended, Arrival, Batch, Engine};
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
