//! The sync machine: one replica's side of keeping logs equal on several stores, without IO.
//!
//! It takes events and yields outputs: [`Replica::handle`] what happened outside, then drain [`Replica::poll`] until it
//! is empty, and call `handle` with [`Event::Tick`] at [`Replica::wake_at`]. The calls of the app (`open`, `push`, `value`,
//! …) may yield outputs too. One machine serves the real client, the browser and the simulator.
//!
//! What it keeps true: an own operation is sent only after the local store has it on disk, so a replica never forgets
//! what others have seen of it; an operation leaves the queue of a store only when that store has said that it is on its
//! disk, or has refused it; a refused operation never blocks the ones behind it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use serde_json::Value;

use crate::date::Date;
use crate::error::Refusal;
use crate::fold::Kind;
use crate::id::{ActorId, Sha, StoreId};
use crate::json;
use crate::name::{ChannelName, LogName, TypeName, UserName};
use crate::op::{Draft, Op, OpError, OrderKey, Payload};
use crate::oplog::Oplog;
use crate::reducer::{Author, IntentError};
use crate::wire::{ServerMessage, Welcome};

mod event;
mod link;
mod log;
mod reading;
mod redate;
mod sending;
mod status;

pub use event::{
    Event, Kept, LinkId, Mode, Notice, Origin, Output, PersistId, PushId, Receipt, Record, Seen, Standing, WakeAt,
};
pub use status::{LinkStatus, QueuedLog, ReadStanding, RefusedOp};

use link::{Link, Request, Up};
use log::{Interest, Loaded, Log};

/// What a replica is made with.
#[derive(Debug, Clone)]
pub struct Config {
    /// The user whose channels it holds.
    pub user: UserName,
    /// The writing replica that this process is.
    pub actor: ActorId,
    /// Whether there is a local store: if so, [`Output::Load`] and [`Output::Persist`] are to be answered.
    pub durable: bool,
    /// Seeds the jitter of timers.
    pub seed: u64,
}

/// One replica of a user's logs.
pub struct Replica {
    config: Config,
    kinds: BTreeMap<TypeName, Arc<dyn Kind>>,
    mounts: BTreeMap<ChannelName, BTreeSet<StoreId>>,
    links: BTreeMap<LinkId, Link>,
    logs: BTreeMap<LogName, Log>,
    receipts: BTreeMap<PushId, Receipt>,
    next_push: u64,
    /// Batches that are being written to the local store.
    batches: BTreeMap<PersistId, Vec<Record>>,
    next_batch: u64,
    /// Records that may wait for the next batch, and until when.
    lazy: Vec<Record>,
    lazy_until: Option<Date>,
    /// When to look again whether a log has something to send on a link.
    timers: BTreeSet<(Date, LinkId, LogName)>,
    /// Batches that could not be written and are tried again.
    failed: Vec<Record>,
    retry_at: Option<Date>,
    mode: Mode,
    /// What is added to the wall clock because a store found it ahead, in microseconds.
    clock_offset: i64,
    random: u64,
    outputs: VecDeque<Output>,
    now: Date,
}

/// Why a push was not taken. Nothing was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PushError {
    /// The log was not opened, or is still being read from the local store.
    #[error("the log {log} is not open yet; wait until it is loaded")]
    NotLoaded {
        /// The log.
        log: LogName,
    },
    /// Nobody registered the type.
    #[error("no reducer is registered for the type {kind}; register one before using it")]
    UnknownType {
        /// The type.
        kind: TypeName,
    },
    /// The intent makes no sense.
    #[error("{log}: {source}")]
    Intent {
        /// The log.
        log: LogName,
        /// What the reducer said.
        source: IntentError,
    },
    /// The payload breaks a limit.
    #[error("{log}: {source}")]
    Op {
        /// The log.
        log: LogName,
        /// The limit.
        source: Box<OpError>,
    },
}

/// How long records that nothing waits for may stay unwritten, in microseconds.
const LAZY_MICROS: i64 = 300_000;
/// How long after a failed write the local store is tried again, in microseconds.
const RETRY_PERSIST_MICROS: i64 = 5_000_000;

impl Replica {
    /// Makes a replica that knows nothing yet.
    pub fn new(config: Config) -> Self {
        Self {
            random: config.seed,
            config,
            kinds: BTreeMap::new(),
            mounts: BTreeMap::new(),
            links: BTreeMap::new(),
            logs: BTreeMap::new(),
            receipts: BTreeMap::new(),
            next_push: 1,
            batches: BTreeMap::new(),
            next_batch: 1,
            lazy: Vec::new(),
            lazy_until: None,
            timers: BTreeSet::new(),
            failed: Vec::new(),
            retry_at: None,
            mode: Mode::Online,
            clock_offset: 0,
            outputs: VecDeque::new(),
            now: Date::EPOCH,
        }
    }

    /// Says what reads the logs of a type. Registering a type again replaces what reads it.
    pub fn register(&mut self, kind: TypeName, reader: Arc<dyn Kind>) {
        for (name, log) in &mut self.logs {
            if name.kind == kind {
                log.fold = Some(reader.fold());
                log.refold();
            }
        }
        self.kinds.insert(kind, reader);
    }

    /// Takes note of something that happened at `now`, by the wall clock. Drain [`Self::poll`] afterwards.
    pub fn handle(&mut self, now: Date, event: Event) {
        self.now = now;
        match event {
            Event::Mounted { channel, stores } => self.mounted(channel, stores),
            Event::Loaded { log, kept } => self.loaded(log, kept),
            Event::Persisted { id, failed } => self.persisted(id, failed),
            Event::Neighbour { log, ops } => self.neighbour(&log, ops),
            Event::Connected { link, welcome } => self.connected(link, &welcome),
            Event::Received { link, message } => self.received(&link, message),
            Event::Lost { link, reason } => self.lost(link, reason),
            Event::Tick => {}
        }
        self.run_timers();
    }

    /// Returns what is to be done next. Call it until there is nothing, after every other call.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Returns when [`Event::Tick`] is wanted.
    pub fn wake_at(&self) -> WakeAt {
        let timer = self.timers.first().map(|(at, ..)| *at);
        [timer, self.lazy_until, self.retry_at].into_iter().flatten().min()
    }

    /// Opens a log for reading, writing and being told of changes.
    pub fn open(&mut self, now: Date, log: &LogName) {
        self.want(now, log, Interest::Watch);
    }

    /// Has a log compared with all stores of its channel, without telling the app of later changes.
    pub fn compare(&mut self, now: Date, log: &LogName) {
        self.want(now, log, Interest::Compare);
    }

    /// Has the pending operations of a log sent that an earlier process left behind.
    pub fn resume(&mut self, now: Date, log: &LogName) {
        self.want(now, log, Interest::Send);
    }

    /// Tells whether a log was read from the local store, so that it can be read and written.
    pub fn is_loaded(&self, log: &LogName) -> bool {
        self.logs.get(log).is_some_and(|log| log.loaded == Loaded::Yes)
    }

    /// Returns the value of a log that is loaded and whose type is registered.
    pub fn value(&mut self, log: &LogName) -> Option<Arc<Value>> {
        let log = self.logs.get_mut(log).filter(|log| log.loaded == Loaded::Yes)?;
        Some(log.fold.as_mut()?.view(&log.oplog))
    }

    /// Returns the operations of a log that is loaded.
    pub fn oplog(&self, log: &LogName) -> Option<&Oplog> {
        self.logs.get(log).filter(|log| log.loaded == Loaded::Yes).map(|log| &log.oplog)
    }

    /// Returns the operations of a log whose payloads its reducer could not read, with the reason.
    pub fn unreadable(&mut self, log: &LogName) -> BTreeMap<Sha, String> {
        let fold = self.logs.get_mut(log).and_then(|log| Some((log.fold.as_mut()?, &log.oplog)));
        fold.map(|(fold, oplog)| fold.unreadable(oplog)).unwrap_or_default()
    }

    /// Writes what a person means to a log. It takes effect here at once, and goes to the stores when it can.
    ///
    /// # Errors
    /// [`PushError`] says why; nothing was written then.
    pub fn push(&mut self, now: Date, name: &LogName, intent: &Value) -> Result<Receipt, PushError> {
        self.now = now;
        let wall = now.plus(self.clock_offset);
        let actor = self.config.actor;
        let Some(log) = self.logs.get_mut(name).filter(|log| log.loaded == Loaded::Yes) else {
            return Err(PushError::NotLoaded { log: name.clone() });
        };
        let Some(fold) = &mut log.fold else {
            return Err(PushError::UnknownType { kind: name.kind.clone() });
        };
        let (seq, date) = (log.oplog.next_seq(actor), Date::after(wall, log.oplog.max_date()));
        let payload = fold
            .prepare(&log.oplog, intent, &Author { actor, seq, date })
            .map_err(|source| PushError::Intent { log: name.clone(), source })?;
        json::check_depth(&payload)
            .map_err(|error| PushError::Op { log: name.clone(), source: Box::new(error.into()) })?;
        let draft = Draft { actor, seq, date, deps: log.oplog.deps(), payload: Payload::plain(&payload) };
        let op = draft.finish(name).map_err(|source| PushError::Op { log: name.clone(), source: Box::new(source) })?;

        log.insert(&op);
        log.pending.insert(op.key());
        let id = PushId(self.next_push);
        self.next_push += 1;
        log.pushes.insert(op.sha(), id);
        let stores = log.peers.keys().map(|store| (*store, Standing::Queued)).collect();
        let receipt = Receipt { id, log: name.clone(), sha: op.sha(), durable: false, local_error: None, stores };
        self.receipts.insert(id, receipt.clone());
        self.notify(Notice::Changed { log: name.clone(), ops: vec![op.clone()], origin: Origin::Here });
        if self.config.durable {
            self.log_mut(name).unsaved.insert(op.sha());
            let mut records = vec![Record::Op { log: name.clone(), op: op.clone() }];
            if !self.log_mut(name).peers.is_empty() {
                records.push(Record::Pending { log: name.clone(), sha: op.sha(), pending: true });
            }
            self.persist(records);
        } else {
            self.may_send(name, &[op.key()]);
        }
        Ok(receipt)
    }

    /// Returns how far a push has come, while it is not everywhere.
    pub fn receipt(&self, id: PushId) -> Option<&Receipt> {
        self.receipts.get(&id)
    }

    /// Changes what is exchanged with the stores. Going offline is complete when the shell has closed the streams.
    pub fn set_mode(&mut self, now: Date, mode: Mode) {
        self.now = now;
        let before = std::mem::replace(&mut self.mode, mode);
        let up: Vec<LinkId> =
            self.links.iter().filter(|(_, link)| link.up.is_some()).map(|(id, _)| id.clone()).collect();
        for id in up {
            match (before.receives(), mode.receives()) {
                (false, true) => self.begin_all(&id),
                (true, false) => self.stop_reading(&id),
                _ => self.pump(&id),
            }
        }
    }

    /// Returns the writing replica that this is.
    pub fn actor(&self) -> ActorId {
        self.config.actor
    }

    /// Returns what is exchanged with the stores.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    fn want(&mut self, now: Date, name: &LogName, interest: Interest) {
        self.now = now;
        if !self.logs.contains_key(name) {
            let mut log = Log::new(self.kinds.get(&name.kind).map(|kind| kind.fold()));
            if let Some(stores) = self.mounts.get(&name.channel) {
                log.mount(stores);
            }
            self.logs.insert(name.clone(), log);
            match self.config.durable {
                true => self.outputs.push_back(Output::Load(name.clone())),
                false => self.loaded(name.clone(), Kept::default()),
            }
        }
        let log = self.log_mut(name);
        if interest <= log.interest {
            return;
        }
        log.interest = interest;
        if log.loaded == Loaded::Yes {
            self.begin_everywhere(name);
        }
    }

    fn loaded(&mut self, name: LogName, kept: Kept) {
        let Some(log) = self.logs.get_mut(&name).filter(|log| log.loaded == Loaded::Asked) else { return };
        log.loaded = Loaded::Yes;
        log.known |= !kept.seen.is_empty();
        kept.ops.iter().for_each(|op| _ = log.insert(op));
        log.pending = kept.pending.iter().filter_map(|sha| log.oplog.get(sha)).map(Op::key).collect();
        for (store, peer) in &mut log.peers {
            peer.seen = kept.seen.get(store).copied();
            peer.lacks.extend(log.pending.iter().map(|key| (*key, Date::EPOCH)));
        }
        log.seen = kept.seen;
        self.notify(Notice::Read { log: name.clone() });
        self.begin_everywhere(&name);
    }

    fn neighbour(&mut self, name: &LogName, ops: Vec<Op>) {
        let Some(log) = self.logs.get_mut(name).filter(|log| log.loaded == Loaded::Yes) else { return };
        let gained: Vec<Op> = ops.into_iter().filter(|op| log.insert(op)).collect();
        let keys: Vec<OrderKey> = gained.iter().map(Op::key).collect();
        self.offer_later(name, &keys, None);
        if !gained.is_empty() {
            self.notify(Notice::Changed { log: name.clone(), ops: gained, origin: Origin::Neighbour });
        }
    }

    fn mounted(&mut self, channel: ChannelName, stores: BTreeSet<StoreId>) {
        let gone = |id: &LinkId| id.channel == channel && !stores.contains(&id.store);
        self.links.retain(|id, _| !gone(id));
        self.timers.retain(|(_, id, _)| !gone(id));
        for store in &stores {
            self.links.entry(LinkId { channel: channel.clone(), store: *store }).or_default();
        }
        let names: Vec<LogName> = self.logs.keys().filter(|name| name.channel == channel).cloned().collect();
        for name in &names {
            self.log_mut(name).mount(&stores);
        }
        for receipt in self.receipts.values_mut().filter(|receipt| receipt.log.channel == channel) {
            receipt.stores.retain(|store, _| stores.contains(store));
            stores.iter().for_each(|store| _ = receipt.stores.entry(*store).or_insert(Standing::Queued));
        }
        self.mounts.insert(channel, stores);
        names.iter().for_each(|name| self.begin_everywhere(name));
    }

    fn connected(&mut self, id: LinkId, welcome: &Welcome) {
        let now = self.now;
        let Some(link) = self.links.get_mut(&id) else { return };
        link.up = Some(Up::new(welcome.incarnation, welcome.now, now));
        link.down = None;
        for (_, log) in self.logs.iter_mut().filter(|(name, _)| name.channel == id.channel) {
            log.peers.get_mut(&id.store).map(log::Peer::connected);
        }
        self.notify(Notice::Link { link: id.clone(), down: None });
        self.begin_all(&id);
    }

    fn lost(&mut self, id: LinkId, reason: Refusal) {
        let Some(link) = self.links.get_mut(&id) else { return };
        link.up = None;
        link.down = Some(reason.clone());
        for (name, log) in &mut self.logs {
            if name.channel == id.channel
                && let Some(peer) = log.peers.get_mut(&id.store)
            {
                peer.lost();
            }
        }
        self.notify(Notice::Link { link: id, down: Some(reason) });
    }

    fn received(&mut self, id: &LinkId, message: ServerMessage) {
        if self.links.get(id).is_none_or(|link| link.up.is_none()) {
            return;
        }
        match message {
            ServerMessage::Pushed { tag, results } => self.pushed(id, tag, results),
            ServerMessage::Ops { tag, ops, header, more } => self.read_ops(id, tag, &ops, &header, more),
            ServerMessage::Shas { tag, shas, more, .. } => self.read_shas(id, tag, shas, more),
            ServerMessage::Event(event) => self.told(id, &event),
            ServerMessage::Failed { tag, refusal } => self.request_failed(id, tag, refusal),
            ServerMessage::Watching { tag, .. } | ServerMessage::Unwatched { tag } | ServerMessage::Renewed { tag } => {
                self.up_mut(id).answered(tag);
            }
            ServerMessage::Welcome(_) | ServerMessage::Logs { .. } | ServerMessage::Bye { .. } => {}
        }
    }

    fn request_failed(&mut self, id: &LinkId, tag: u64, refusal: Refusal) {
        match self.up_mut(id).answered(tag) {
            Some(Request::Push { log, keys, .. }) => {
                let results = keys.into_iter().map(|key| (key, refusal.clone())).collect();
                self.refused(id, &log, results);
            }
            Some(Request::Get { log } | Request::Inventory { log }) => self.reading_failed(id, &log, refusal),
            Some(Request::Other) | None => {}
        }
        self.pump(id);
    }

    /// Hands records to the local store as one batch, with those that waited for company.
    fn persist(&mut self, mut records: Vec<Record>) {
        if !self.config.durable || (records.is_empty() && self.lazy.is_empty()) {
            self.lazy.clear();
            return;
        }
        records.append(&mut self.lazy);
        self.lazy_until = None;
        let id = PersistId(self.next_batch);
        self.next_batch += 1;
        self.batches.insert(id, records.clone());
        self.outputs.push_back(Output::Persist { id, records });
    }

    /// Keeps a record for the next batch, or for a batch of its own a little later.
    fn persist_lazily(&mut self, record: Record) {
        if self.config.durable {
            self.lazy.push(record);
            self.lazy_until.get_or_insert(self.now.plus(LAZY_MICROS));
        }
    }

    fn persisted(&mut self, id: PersistId, failed: Option<String>) {
        let Some(records) = self.batches.remove(&id) else { return };
        let mut written: BTreeMap<LogName, Vec<OrderKey>> = BTreeMap::new();
        for record in &records {
            if let Record::Op { log, op } = record
                && let Some(known) = self.logs.get_mut(log)
                && known.unsaved.remove(&op.sha())
            {
                written.entry(log.clone()).or_default().push(op.key());
                if let Some(receipt) = known.pushes.get(&op.sha()).and_then(|id| self.receipts.get_mut(id)) {
                    receipt.durable = failed.is_none();
                    receipt.local_error = failed.clone();
                    self.outputs.push_back(Output::Notify(Notice::Receipt(receipt.clone())));
                }
            }
        }
        if failed.is_some() {
            // What the disk refuses still goes to the stores: that is where it is safest now.
            let news = records.into_iter().filter(|record| !matches!(record, Record::Seen { .. }));
            self.failed.extend(news);
            self.retry_at.get_or_insert(self.now.plus(RETRY_PERSIST_MICROS));
        }
        for (log, keys) in written {
            self.may_send(&log, &keys);
        }
    }

    fn run_timers(&mut self) {
        while let Some((at, ..)) = self.timers.first()
            && *at <= self.now
            && let Some((_, id, name)) = self.timers.pop_first()
        {
            if let Some(link) = self.links.get_mut(&id) {
                link.enqueue(&name);
            }
            self.pump(&id);
        }
        if self.lazy_until.is_some_and(|until| until <= self.now) {
            self.persist(Vec::new());
        }
        if self.retry_at.is_some_and(|at| at <= self.now) {
            self.retry_at = None;
            let records = std::mem::take(&mut self.failed);
            for record in &records {
                if let Record::Op { log, op } = record
                    && let Some(log) = self.logs.get_mut(log)
                {
                    log.unsaved.insert(op.sha());
                }
            }
            self.persist(records);
        }
    }

    /// Writes at once what may wait, because the process is about to end.
    pub fn settle_records(&mut self) {
        self.persist(Vec::new());
    }

    /// Tells whether anything that was handed to the local store is still unanswered.
    pub fn is_saved(&self) -> bool {
        self.batches.is_empty() && self.lazy.is_empty()
    }

    fn notify(&mut self, notice: Notice) {
        self.outputs.push_back(Output::Notify(notice));
    }

    fn log_mut(&mut self, name: &LogName) -> &mut Log {
        self.logs.get_mut(name).expect("callers look the log up first, and logs are never dropped")
    }

    fn up_mut(&mut self, id: &LinkId) -> &mut Up {
        let up = self.links.get_mut(id).and_then(|link| link.up.as_mut());
        up.expect("callers check that the stream is up")
    }

    /// Returns a number below `bound` (SplitMix64).
    fn random_below(&mut self, bound: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

#[cfg(test)]
mod tests;
