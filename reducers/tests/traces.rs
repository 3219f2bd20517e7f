//! Replays recorded editing sessions through the text reducer.
//!
//! The traces are those of <https://github.com/josephg/editing-traces>, looked for in `../shared/data` beside the
//! workspace, or where `GIGFS_DATA` says. A test whose trace is not there says so and passes.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test, whose findings are read by a person")]

use std::io::Read;
use std::path::PathBuf;

use gigfs_core::{ActorId, Author, Date, Meta, Reducer, Seq, Sha};
use gigfs_reducers::{Splice, Text, TextChange, TextIntent, TextState};
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Trace {
    end_content: String,
    txns: Vec<Txn>,
}

#[derive(Deserialize)]
struct Txn {
    #[serde(default)]
    parents: Vec<usize>,
    #[serde(default)]
    agent: usize,
    patches: Vec<Splice>,
}

fn trace(name: &str) -> Option<Trace> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data");
    let folder = std::env::var_os("GIGFS_DATA").map_or_else(|| PathBuf::from(beside), PathBuf::from);
    let path = folder.join(format!("{name}.json.gz"));
    let Ok(file) = std::fs::File::open(&path) else {
        eprintln!("{} is not there; the trace is not replayed", path.display());
        return None;
    };
    let mut text = String::new();
    flate2::read::GzDecoder::new(file).read_to_string(&mut text).unwrap();
    Some(serde_json::from_str(&text).unwrap())
}

struct Writer {
    actor: ActorId,
    state: TextState,
    /// Its own operations, in order.
    written: Vec<(Meta, TextChange)>,
    /// How many of each writer's operations the state holds.
    holds: [usize; 2],
}

impl Writer {
    fn new(actor: ActorId) -> Self {
        Self { actor, state: Text.initial(), written: Vec::new(), holds: [0, 0] }
    }

    fn write(&mut self, date: u64, splices: Vec<Splice>) {
        let seq = Seq::new(self.written.len() as u64 + 1).unwrap();
        let author = Author { actor: self.actor, seq, date: Date::saturating(date) };
        let payload = Text.prepare(&self.state, TextIntent::Splices(splices), &author).unwrap();
        let sha = Sha::of(&date.to_be_bytes());
        let meta = Meta { sha, actor: self.actor, seq, date: author.date };
        Text.apply(&mut self.state, payload.clone(), &meta).unwrap();
        self.written.push((meta, payload));
    }
}

/// Replays a trace of two agents, each operation prepared against exactly its ancestors.
fn replay(trace: &Trace, actors: [ActorId; 2]) -> [Writer; 2] {
    let mut writers = actors.map(Writer::new);
    let mut ancestors: Vec<[usize; 2]> = Vec::new();
    for (date, txn) in trace.txns.iter().enumerate() {
        let mut sees = [0, 0];
        for parent in &txn.parents {
            (0..2).for_each(|agent| sees[agent] = ancestors[*parent][agent].max(sees[agent]));
        }
        hear(&mut writers, txn.agent, sees[1 - txn.agent]);
        assert_eq!(writers[txn.agent].holds, sees, "each agent's own operations are a line");
        writers[txn.agent].write(date as u64, txn.patches.clone());
        sees[txn.agent] += 1;
        writers[txn.agent].holds = sees;
        ancestors.push(sees);
    }
    for agent in 0..2 {
        let all = writers[1 - agent].written.len();
        hear(&mut writers, agent, all);
    }
    writers
}

/// Lets an agent hear of the other's operations, up to `until` of them.
fn hear(writers: &mut [Writer; 2], agent: usize, until: usize) {
    let held = writers[agent].holds[1 - agent];
    let news = writers[1 - agent].written[held..until.max(held)].to_vec();
    writers[agent].holds[1 - agent] += news.len();
    for (meta, payload) in news {
        Text.apply(&mut writers[agent].state, payload, &meta).unwrap();
    }
}

fn actor(first: u8) -> ActorId {
    let mut bytes = [7; 16];
    bytes[0] = first;
    ActorId::from_bytes(bytes)
}

#[test]
fn two_authors_of_a_recorded_session_come_to_the_recorded_text() {
    let Some(trace) = trace("friendsforever") else { return };
    let [first, second] = replay(&trace, [actor(0x10), actor(0xa0)]);
    assert_eq!(Text.view(&first.state), Value::from(trace.end_content));
    assert_eq!(Text.encode_state(&first.state), Text.encode_state(&second.state));
}

#[test]
fn two_authors_agree_in_whatever_order_their_actors_stand() {
    let Some(trace) = trace("friendsforever") else { return };
    let [first, second] = replay(&trace, [actor(0xa0), actor(0x10)]);
    assert_eq!(Text.encode_state(&first.state), Text.encode_state(&second.state));
    let same = Text.view(&first.state) == trace.end_content;
    eprintln!("with the actors in the other order the text is {} the recorded one", if same { "also" } else { "not" });
}

#[test]
#[ignore = "a measurement: cargo test --release --test traces -- --ignored --nocapture"]
#[expect(clippy::disallowed_methods, reason = "it measures time")]
fn a_paper_is_typed_in_seconds() {
    let Some(trace) = trace("automerge-paper") else { return };
    let mut writer = Writer::new(actor(1));
    let start = std::time::Instant::now();
    for (date, txn) in trace.txns.iter().enumerate() {
        writer.write(date as u64, txn.patches.clone());
    }
    let spent = start.elapsed();
    assert_eq!(Text.view(&writer.state), Value::from(trace.end_content));
    let payloads = writer.written.iter().map(|(_, payload)| serde_json::to_vec(payload).unwrap().len()).sum::<usize>();
    let edits = trace.txns.len();
    let nanos = |spent: std::time::Duration| spent.as_nanos() / edits as u128;
    eprintln!("{edits} edits: {spent:?}, {} ns each to prepare and apply", nanos(spent));
    eprintln!("{} bytes of JSON a payload on average", payloads / edits);

    let start = std::time::Instant::now();
    let mut reader = Text.initial();
    for (meta, payload) in &writer.written {
        Text.apply(&mut reader, payload.clone(), meta).unwrap();
    }
    eprintln!("{} ns each to apply alone", nanos(start.elapsed()));
    let start = std::time::Instant::now();
    let mut late = Text.initial();
    for (meta, payload) in writer.written.iter().rev() {
        Text.apply(&mut late, payload.clone(), meta).unwrap();
    }
    eprintln!("{} ns each to apply from the last to the first", nanos(start.elapsed()));
    let state = Text.encode_state(&writer.state);
    assert!(state == Text.encode_state(&reader) && state == Text.encode_state(&late));
    let start = std::time::Instant::now();
    let decoded = Text.decode_state(&state).unwrap();
    eprintln!("{} bytes of state, decoded in {:?}", state.len(), start.elapsed());
    let start = std::time::Instant::now();
    let copy = decoded.clone();
    eprintln!("cloned in {:?}", start.elapsed());
    let start = std::time::Instant::now();
    Text.prepare(
        &copy,
        TextIntent::Splice(Splice(50_000, 0, "x".into())),
        &Author { actor: actor(2), seq: Seq::FIRST, date: Date::EPOCH },
    )
    .unwrap();
    eprintln!("first prepare in {:?}", start.elapsed());
}
