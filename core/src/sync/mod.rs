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
use crate::error::{ErrorCode, Refusal};
use crate::fold::Kind;
use crate::id::{ActorId, Sha, StoreId};
use crate::limits::CLOCK_AHEAD_MICROS_MAX;
use crate::name::{ChannelName, LogName, TypeName, UserName};
use crate::op::{Op, OrderKey};
use crate::oplog::Oplog;
use crate::seal::{roster_kind, roster_type};
use crate::wire::{ServerMessage, Welcome};

mod backlog;
mod base;
mod conflict;
mod event;
mod hold;
mod keeping;
mod link;
mod lists;
mod log;
mod logs;
mod prune_timers;
mod pruning;
mod reading;
mod redate;
mod repair;
mod resuming;
mod sealed;
mod sending;
mod status;
mod timers;
mod vouching;
mod writing;

pub use event::{
    Event, Kept, LinkId, Mode, Notice, Origin, Output, PersistId, PushId, Receipt, Record, Seen, Standing, WakeAt,
};
pub use hold::{PruneHold, PrunePolicy};
pub use sealed::ChannelAccess;
pub use status::{BaseStatus, LinkStatus, QueuedLog, ReadStanding, RefusedOp};
pub use writing::PushError;

use keeping::Keeping;
use link::{Link, Request, Up};
use log::{Interest, Loaded, Log, Remounted};
use logs::Logs;
use sealed::Sealed;

/// What a replica is made with.
#[derive(Debug, Clone)]
pub struct Config {
    /// The user whose channels it holds.
    pub user: UserName,
    /// The writing replica that this process is.
    pub actor: ActorId,
    /// When logs are pruned by themselves.
    pub prune: PrunePolicy,
    /// Whether there is a local store: if so, [`Output::Load`] and [`Output::Persist`] are to be answered.
    pub durable: bool,
    /// Seeds the jitter of timers.
    pub seed: u64,
}

/// One replica of a user's logs.
pub struct Replica {
    config: Config,
    kinds: BTreeMap<TypeName, Arc<dyn Kind>>,
    /// The channels that are sealed.
    sealed: BTreeMap<ChannelName, Sealed>,
    /// What the local store held of logs whose channel's roster it has not brought yet.
    held_back: Vec<(LogName, Kept)>,
    /// Logs of sealed channels by their blinded names, as far as they were met.
    clear_names: BTreeMap<LogName, LogName>,
    mounts: BTreeMap<ChannelName, BTreeSet<StoreId>>,
    /// The epochs of these sets of stores.
    epochs: BTreeMap<ChannelName, u64>,
    links: BTreeMap<LinkId, Link>,
    logs: Logs,
    receipts: BTreeMap<PushId, Receipt>,
    next_push: u64,
    keeping: Keeping,
    /// When to look again whether a log has something to send on a link.
    timers: BTreeSet<(Date, LinkId, LogName)>,
    /// When to try to prune a log.
    prune_timers: BTreeSet<(Date, LogName)>,
    mode: Mode,
    /// What is added to the wall clock because a store found it ahead, in microseconds.
    clock_offset: i64,
    random: u64,
    outputs: VecDeque<Output>,
    now: Date,
}

impl Replica {
    /// Makes a replica that knows nothing yet.
    pub fn new(config: Config) -> Self {
        Self {
            random: config.seed,
            config,
            kinds: BTreeMap::from([(roster_type(), roster_kind())]),
            sealed: BTreeMap::new(),
            held_back: Vec::new(),
            clear_names: BTreeMap::new(),
            mounts: BTreeMap::new(),
            epochs: BTreeMap::new(),
            links: BTreeMap::new(),
            logs: Logs::default(),
            receipts: BTreeMap::new(),
            next_push: 1,
            keeping: Keeping::default(),
            timers: BTreeSet::new(),
            prune_timers: BTreeSet::new(),
            mode: Mode::Online,
            clock_offset: 0,
            outputs: VecDeque::new(),
            now: Date::EPOCH,
        }
    }

    /// Says what reads the logs of a type. Registering a type again replaces what reads it.
    pub fn register(&mut self, kind: TypeName, reader: Arc<dyn Kind>) {
        self.blind_kind(&kind);
        self.kinds.insert(kind, reader.clone());
        let names: Vec<LogName> = self.logs.keys().cloned().collect();
        for name in names {
            if let Some(found) = self.kind_of(&name).filter(|found| Arc::ptr_eq(found, &reader)) {
                let log = self.log_mut(&name);
                log.fold = Some(found.fold());
                log.refold();
            }
        }
    }

    /// Takes note of something that happened at `now`, by the wall clock. Drain [`Self::poll`] afterwards.
    pub fn handle(&mut self, now: Date, event: Event) {
        self.observe(now);
        match event {
            Event::Mounted { channel, stores, epoch } => self.mounted(channel, stores, epoch),
            Event::Loaded { log, kept } => self.loaded(log, kept),
            Event::Persisted { id, failed } => self.persisted(id, failed),
            Event::Neighbour { log, ops } => self.neighbour(&log, ops),
            Event::Connected { link, welcome } => self.connected(link, &welcome),
            Event::Received { link, message } => self.received(&link, message),
            Event::Lost { link, reason } => self.lost(link, reason),
            Event::Committed { log, result } => self.committed(&log, result),
            Event::Listed { log, base, shas } => self.listed(&log, base, shas),
            Event::Tick => {}
        }
        self.run_timers();
    }

    /// Returns what is to be done next. Call it until there is nothing, after every other call.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Opens a log for reading, writing and being told of changes.
    pub fn open(&mut self, now: Date, log: &LogName) {
        self.want(now, log, Interest::Watch);
    }

    /// Has a log compared with all stores of its channel, without telling the app of later changes.
    pub fn compare(&mut self, now: Date, log: &LogName) {
        self.want(now, log, Interest::Compare);
    }

    /// Has a log compared with one store anew, whatever was heard from it before: what it told may have been overtaken. For
    /// a store that has been sealed since.
    pub fn compare_again(&mut self, now: Date, log: &LogName, store: StoreId) {
        self.compare(now, log);
        let id = LinkId { channel: log.channel.clone(), store };
        let is_up = self.links.get(&id).is_some_and(|link| link.up.is_some());
        if let Some(peer) = self.log_mut(log).peers.get_mut(&store) {
            peer.unsettle();
            peer.reading = log::Reading::Idle;
            if is_up {
                self.begin(&id, log);
                self.start_reads(&id);
            }
        }
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
        let log = self.logs.get_quietly(log).filter(|log| log.loaded == Loaded::Yes)?;
        let fold = log.fold.as_mut().filter(|fold| fold.trouble().is_none())?;
        Some(fold.view(&log.oplog))
    }

    /// Says why a log that is loaded has no value, if its base cannot be read here.
    pub fn trouble(&self, log: &LogName) -> Option<&str> {
        self.logs.get(log)?.fold.as_ref()?.trouble()
    }

    /// Returns the operations of a log that is loaded.
    pub fn oplog(&self, log: &LogName) -> Option<&Oplog> {
        self.logs.get(log).filter(|log| log.loaded == Loaded::Yes).map(|log| &log.oplog)
    }

    /// Returns the operations of a log whose payloads its reducer could not read, with the reason.
    pub fn unreadable(&mut self, log: &LogName) -> BTreeMap<Sha, String> {
        let fold = self.logs.get_quietly(log).and_then(|log| Some((log.fold.as_mut()?, &log.oplog)));
        fold.map(|(fold, oplog)| fold.unreadable(oplog)).unwrap_or_default()
    }

    /// Returns how far a push has come, while it is not everywhere.
    pub fn receipt(&self, id: PushId) -> Option<&Receipt> {
        self.receipts.get(&id)
    }

    /// Changes what is exchanged with the stores. Going offline is complete when the shell has closed the streams.
    pub fn set_mode(&mut self, now: Date, mode: Mode) {
        self.observe(now);
        let before = std::mem::replace(&mut self.mode, mode);
        let up: Vec<LinkId> =
            self.links.iter().filter(|(_, link)| link.up.is_some()).map(|(id, _)| id.clone()).collect();
        for id in up {
            match (before.receives(), mode.receives()) {
                (false, true) => self.begin_all(&id),
                (true, false) => self.stop_reading(&id),
                (true, true) if !before.sends() && mode.sends() => self.bring_forward(&id),
                _ => {}
            }
            self.pump(&id);
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
        self.observe(now);
        if let Some(roster) = self.roster_of(name).cloned() {
            self.want(now, &roster, Interest::Watch);
        }
        if !self.logs.contains_key(name) {
            let mut log = Log::new(self.sealer(name), self.kind_of(name).map(|kind| kind.fold()));
            log.stays = self.sealed.contains_key(&name.channel) && log.sealer.is_none();
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
        if self.roster_of(&name).is_some_and(|roster| !self.is_loaded(roster)) {
            return self.held_back.push((name, kept));
        }
        self.meet_epochs(&name, kept.ops.iter().map(Op::payload));
        let Some(log) = self.logs.get_mut(&name).filter(|log| log.loaded == Loaded::Asked) else { return };
        log.loaded = Loaded::Yes;
        log.known |= !kept.seen.is_empty();
        if let Some(base) = kept.base {
            log.found(&name, base);
        }
        kept.ops.iter().for_each(|op| _ = log.insert(op));
        let awaited = |op: &&Op| kept.pending.contains(&op.sha()) || log.pushes.contains_key(&op.sha());
        let pending = kept.ops.iter().filter(awaited);
        log.pending = pending.map(Op::key).filter(|key| log.op_at(key).is_some()).collect();
        // A store that left may have held what an earlier process sent.
        let sent = |sha: &Sha| log.lost_peer && !log.pushes.contains_key(sha);
        let shown = log.pending.iter().filter(|key| kept.shown.contains(&key.sha) || sent(&key.sha));
        log.shown = shown.copied().collect();
        for (store, peer) in log.peers.iter_mut() {
            peer.seen = kept.seen.get(store).copied();
            log.pending.iter().for_each(|key| peer.backlog.offer(*key, Date::EPOCH, Date::EPOCH));
        }
        log.seen = kept.seen.into_iter().collect();
        match kept.name {
            Some(sealed) => _ = self.learn_name(&name, &sealed),
            None => self.keep_name(&name),
        }
        kept.seed.iter().for_each(|seed| self.grow(&name, seed));
        self.notify(Notice::Read { log: name.clone() });
        self.meets_a_table(&name);
        self.begin_everywhere(&name);
        self.plan_pruning(&name);
        self.certify_pending(&name);
        if self.is_roster(&name) {
            self.read_roster(&name.channel);
            let now_too = |(log, _): &mut (LogName, Kept)| log.channel == name.channel;
            let held_back: Vec<(LogName, Kept)> = self.held_back.extract_if(.., now_too).collect();
            held_back.into_iter().for_each(|(log, kept)| self.loaded(log, kept));
        }
    }

    fn neighbour(&mut self, name: &LogName, ops: Vec<Op>) {
        self.meet_epochs(name, ops.iter().map(Op::payload));
        let Some(log) = self.logs.get_mut(name).filter(|log| log.loaded == Loaded::Yes) else { return };
        let gained: Vec<Op> = ops.into_iter().filter(|op| log.insert(op)).collect();
        let keys: Vec<OrderKey> = gained.iter().map(Op::key).collect();
        self.offer_later(name, &keys, None);
        self.ask_about_doubts(name);
        if !gained.is_empty() {
            self.notify(Notice::Changed { log: name.clone(), ops: gained, origin: Origin::Neighbour });
            self.plan_pruning(name);
        }
    }

    fn mounted(&mut self, channel: ChannelName, stores: BTreeSet<StoreId>, epoch: u64) {
        self.epochs.insert(channel.clone(), epoch);
        let gone = |id: &LinkId| id.channel == channel && !stores.contains(&id.store);
        self.links.retain(|id, _| !gone(id));
        self.timers.retain(|(_, id, _)| !gone(id));
        for store in &stores {
            self.links.entry(LinkId { channel: channel.clone(), store: *store }).or_default();
        }
        let names: Vec<LogName> = self.logs.keys().filter(|name| name.channel == channel).cloned().collect();
        let mut changed = Vec::new();
        for receipt in self.receipts.values_mut().filter(|receipt| receipt.log.channel == channel) {
            if !receipt.stores.keys().eq(&stores) {
                receipt.stores.retain(|store, _| stores.contains(store));
                stores.iter().for_each(|store| _ = receipt.stores.entry(*store).or_insert(Standing::Queued));
                changed.push(Notice::Receipt(receipt.clone()));
            }
        }
        changed.into_iter().for_each(|notice| self.notify(notice));
        for name in &names {
            let Remounted { everywhere, shown } = self.log_mut(name).mount(&stores);
            let shown = shown.into_iter().map(|key| Record::Shown { log: name.clone(), sha: key.sha });
            self.persist(shown.collect());
            everywhere.iter().for_each(|key| self.is_everywhere_now(name, key));
            for store in &stores {
                let id = LinkId { channel: channel.clone(), store: *store };
                let ready = self.logs[name].peers.get(store).is_some_and(|peer| peer.backlog.has_ready());
                if let Some(link) = self.links.get_mut(&id).filter(|_| ready) {
                    link.may_send(name);
                    self.pump(&id);
                }
            }
        }
        self.logs.mounted(&channel);
        self.mounts.insert(channel, stores);
        for name in names {
            self.withdraw(&name);
            self.meets_a_table(&name);
        }
    }

    fn connected(&mut self, id: LinkId, welcome: &Welcome) {
        let now = self.now;
        let Some(link) = self.links.get_mut(&id) else { return };
        let up = Up::new(welcome, now);
        if up.clock_offset > -(CLOCK_AHEAD_MICROS_MAX as i64) {
            // The clock was ahead once and is right again.
            self.clock_offset = 0;
        }
        // A stream may be replaced before its loss is noticed.
        let replaced = link.up.replace(up).is_some();
        link.down = None;
        link.reading.clear();
        let had_cursor = link.cursor.is_some();
        link.cursor = link.cursor.filter(|cursor| cursor.is_good_for(welcome));
        if replaced {
            self.lose_step(&id, had_cursor, |peer| peer.lost(had_cursor));
        }
        self.notify(Notice::Link { link: id.clone(), down: None });
        self.begin_all(&id);
    }

    fn lost(&mut self, id: LinkId, reason: Refusal) {
        let Some(link) = self.links.get_mut(&id) else { return };
        link.up = None;
        link.down = Some(reason.clone());
        link.reading.clear();
        let has_cursor = link.cursor.is_some();
        self.lose_step(&id, has_cursor, |peer| peer.lost(has_cursor));
        self.notify(Notice::Link { link: id.clone(), down: Some(reason) });
        self.lists_lost(&id);
        self.withdraw_from(&id);
    }

    fn received(&mut self, id: &LinkId, message: ServerMessage) {
        if self.links.get(id).is_none_or(|link| link.up.is_none()) {
            return;
        }
        match message {
            ServerMessage::Pushed { tag, results } => self.pushed(id, tag, results),
            ServerMessage::Ops { tag, base, ops, header, more } => {
                if matches!(self.up_mut(id).asked(tag), Some(Request::Foreign { .. })) {
                    return self.read_foreign(id, tag, base.as_ref());
                }
                if let Some(base) = base {
                    self.read_base(id, tag, &base);
                }
                self.read_ops(id, tag, &ops, &header, more);
            }
            ServerMessage::Shas { tag, shas, header, more } => self.read_shas(id, tag, shas, &header, more),
            ServerMessage::Event(event) => self.told(id, &event),
            ServerMessage::Failed { tag, refusal } => self.request_failed(id, tag, refusal),
            ServerMessage::Watching { tag, position } => self.watching(id, tag, position),
            ServerMessage::Unwatched { tag } | ServerMessage::Renewed { tag } | ServerMessage::Named { tag } => {
                self.up_mut(id).answered(tag);
            }
            ServerMessage::Pruned { log, header } => self.pruned(id, &log, &header),
            ServerMessage::Acknowledged { tag, ack } => self.acknowledged(id, tag, ack),
            ServerMessage::Installed { tag, header } => self.installed(id, tag, &header),
            ServerMessage::Retained { tag, base, ops, more } => self.read_retained(id, tag, base, ops, more),
            ServerMessage::Welcome(_) | ServerMessage::Logs { .. } | ServerMessage::Bye { .. } => {}
        }
    }

    fn request_failed(&mut self, id: &LinkId, tag: u64, refusal: Refusal) {
        match self.up_mut(id).answered(tag) {
            Some(Request::Push { log, keys, .. }) => {
                let results = keys.into_iter().map(|key| (key, refusal.clone())).collect();
                self.refused(id, &log, results);
                self.push_on(id, &log);
            }
            Some(Request::Install { log }) if refusal.code == ErrorCode::ForeignBase => self.meets_foreign(id, &log),
            Some(
                Request::Get { log } | Request::Inventory { log } | Request::Install { log } | Request::Foreign { log },
            ) => {
                self.reading_failed(id, &log, refusal);
            }
            Some(Request::Checkpoint { log, sha }) => self.not_acknowledged(id, &log, sha, refusal),
            Some(Request::Adopt { log }) => self.not_adopted(id, &log, &refusal),
            Some(Request::List { log, to }) => self.list_failed(&log, to),
            Some(Request::Cover { log }) => self.cover_failed(id, &log, &refusal),
            Some(Request::Retained { log }) => self.repair_failed(&log, refusal),
            Some(Request::Watch { unwatched, resumes }) => self.not_watching(id, unwatched, resumes),
            Some(Request::Other) | None => {}
        }
        self.pump(id);
    }

    /// Returns what is known at a store of each log of its channel that is awake.
    fn peers_mut(&mut self, id: &LinkId) -> impl Iterator<Item = (&LogName, &mut log::Peer)> {
        let of_channel = self.logs.awake_mut().filter(|(name, _)| name.channel == id.channel);
        of_channel.filter_map(|(name, log)| Some((name, log.peers.get_mut(&id.store)?)))
    }

    fn notify(&mut self, notice: Notice) {
        if let Notice::Changed { log, .. } = &notice
            && self.is_roster(log)
        {
            let channel = log.channel.clone();
            return self.read_roster(&channel);
        }
        self.outputs.push_back(Output::Notify(notice));
    }

    fn log_mut(&mut self, name: &LogName) -> &mut Log {
        self.logs.get_mut(name).expect("callers look the log up first, and logs are never dropped")
    }

    fn up_mut(&mut self, id: &LinkId) -> &mut Up {
        let up = self.links.get_mut(id).and_then(|link| link.up.as_mut());
        up.expect("callers check that the stream is up")
    }
}

#[cfg(test)]
mod tests;
