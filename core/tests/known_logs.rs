//! What a process takes for each log that it knows. Most of them hold little and rest, and there may be very many.
//!
//! What is counted is the heap, to the byte, so the figures are the same on every machine of a word size. A bound that is
//! broken is lowered or raised knowingly, with `docs/performance.md`.

use std::collections::BTreeMap;
use std::sync::Arc;

use gigfs_core::api::{LogHeader, PushResult};
use gigfs_core::seal::{ChannelKeys, DeviceKey, Identity, OwnDevice, Secret};
use gigfs_core::sync::{ChannelAccess, Config, Event, LinkId, Output, PrunePolicy, Replica};
use gigfs_core::wire::{ClientMessage, LogRef, ServerMessage, Welcome, WireOp};
use gigfs_core::{
    ActorId, Author, Date, DeviceId, Digest, Incarnation, IntentError, LogName, Meta, PayloadError, Reduced, Reducer,
    StateError, StoreId,
};
use serde_json::{Value, json};

#[global_allocator]
static HEAP: dhat::Alloc = dhat::Alloc;

const LOGS: usize = 300;
/// Characters of what each log holds.
const VALUE_CHARS: usize = 246;

/// Keeps what was written last.
struct Last;

impl Reducer for Last {
    type Intent = Value;
    type Payload = Value;
    type State = Value;

    fn name(&self) -> &str {
        "last"
    }

    fn version(&self) -> u32 {
        1
    }

    fn initial(&self) -> Value {
        Value::Null
    }

    fn prepare(&self, _: &Value, intent: Value, _: &Author) -> Result<Value, IntentError> {
        Ok(intent)
    }

    fn apply(&self, state: &mut Value, payload: Value, _: &Meta) -> Result<(), PayloadError> {
        *state = payload;
        Ok(())
    }

    fn commutes(&self, _: &Value) -> bool {
        false
    }

    fn view(&self, state: &Value) -> Value {
        state.clone()
    }

    fn encode_state(&self, state: &Value) -> Vec<u8> {
        state.to_string().into_bytes()
    }

    fn decode_state(&self, bytes: &[u8]) -> Result<Value, StateError> {
        serde_json::from_slice(bytes).map_err(|error| StateError(error.to_string()))
    }
}

fn name(number: usize) -> LogName {
    LogName::parse("me", "home", "last", &format!("/known/{number}")).expect("a name")
}

fn link() -> LinkId {
    LinkId { channel: name(0).channel, store: StoreId::from_bytes([9; 16]) }
}

/// A store that takes everything and tells it when it is asked.
#[derive(Default)]
struct Store {
    logs: BTreeMap<LogRef, Vec<WireOp>>,
}

impl Store {
    fn header(&self, log: &LogRef) -> LogHeader {
        let ops = self.logs.get(log).map_or(&[][..], Vec::as_slice);
        let mut digest = Digest::default();
        ops.iter().for_each(|op| digest.add(&op.sha));
        LogHeader { digest, last_index: ops.len() as u64, ..LogHeader::default() }
    }

    fn answer(&mut self, message: ClientMessage) -> ServerMessage {
        match message {
            ClientMessage::Push { tag, log, ops, .. } => {
                let results = ops.iter().map(|op| PushResult::Accepted { sha: op.sha }).collect();
                self.logs.entry(log).or_default().extend(ops);
                ServerMessage::Pushed { tag, results }
            }
            ClientMessage::Get { tag, log, after, .. } => {
                let ops = (1..).zip(self.logs.get(&log).into_iter().flatten().cloned());
                let ops = ops.filter(|(index, _)| *index > after).collect();
                ServerMessage::Ops { tag, base: None, ops, header: self.header(&log), more: false }
            }
            ClientMessage::Watch { tag, .. } => ServerMessage::Watching { tag, position: 0 },
            ClientMessage::Name { tag, .. } => ServerMessage::Named { tag },
            other => panic!("{other:?} was not to be asked"),
        }
    }
}

fn access() -> ChannelAccess {
    let secret = |byte| Secret::from_bytes([byte; 32]);
    let identity = Identity::from_secrets(&secret(1), secret(2));
    let key = DeviceKey::from_secret(&secret(3));
    let device = OwnDevice::new(&identity, name(0).user, DeviceId::from_bytes([4; 16]), key, Date::EPOCH);
    let keys = Arc::new(ChannelKeys::new(secret(5), secret(6)));
    ChannelAccess { keys, owner: *identity.public(), device: Arc::new(device) }
}

/// A client whose stream to the store is up.
fn client(actor: u8, sealed: bool, store: &mut Store) -> Replica {
    let mut replica = Replica::new(Config {
        user: name(0).user,
        actor: ActorId::from_bytes([actor; 16]),
        prune: PrunePolicy::default(),
        durable: false,
        seed: 1,
    });
    replica.register(name(0).kind, Arc::new(Reduced::new(Last)));
    if sealed {
        replica.set_access(&name(0).channel, access());
    }
    let (id, now) = (link(), Date::EPOCH);
    let stores = [id.store].into();
    replica.handle(now, Event::Mounted { channel: id.channel.clone(), stores, epoch: 1 });
    let incarnation = Incarnation::from_bytes([7; 16]);
    let welcome = Welcome { store: id.store, incarnation, position: 0, now, run: None };
    replica.handle(now, Event::Connected { link: id, welcome });
    settle(&mut replica, store);
    replica
}

/// Has the store answer until nothing is asked any more.
fn settle(replica: &mut Replica, store: &mut Store) {
    while let Some(output) = replica.poll() {
        if let Output::Send { link, message } = output {
            let message = store.answer(message);
            replica.handle(Date::EPOCH, Event::Received { link, message });
        }
    }
}

/// Returns how many bytes of the heap a log takes that a client learned of by these calls.
fn bytes_a_log(replica: &mut Replica, mut learn: impl FnMut(&mut Replica, LogName)) -> usize {
    let before = heap();
    (0..LOGS).for_each(|number| learn(replica, name(number)));
    (heap() - before) / LOGS
}

/// Returns how many bytes are allocated.
fn heap() -> usize {
    dhat::HeapStats::get().curr_bytes
}

#[test]
fn a_log_of_one_operation_takes_little() {
    let _profiler = dhat::Profiler::builder().testing().build();
    for (sealed, most) in [(true, 3_200), (false, 3_200)] {
        let mut store = Store::default();
        let mut writer = client(1, sealed, &mut store);
        let written_and_stored = bytes_a_log(&mut writer, |writer, name| {
            let log = writer.name(&name);
            writer.open(Date::EPOCH, &log);
            settle(writer, &mut store);
            writer.push(Date::EPOCH, &log, &json!("v".repeat(VALUE_CHARS))).unwrap();
            settle(writer, &mut store);
        });
        let mut reader = client(2, sealed, &mut store);
        let read = bytes_a_log(&mut reader, |reader, name| {
            let log = reader.name(&name);
            reader.open(Date::EPOCH, &log);
            settle(reader, &mut store);
            assert_eq!(reader.oplog(&log).unwrap().len(), 1);
        });
        let before = heap();
        drop(store);
        let written = written_and_stored - (before - heap()) / LOGS;
        assert!(written <= most && read <= most, "sealed: {sealed}, {written} and {read} bytes a log");
    }
}
