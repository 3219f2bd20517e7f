//! One world: clients, stores, the network between them, and time, all in one thread and decided by one seed.
//!
//! Everything that happens is an event in one queue, ordered by time and then by the order of its making. Nothing here
//! reads a clock, and nothing iterates in an order that differs from run to run.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use gigfs_core::api::{CommitResult, Proposal};
use gigfs_core::seal::{roster_kind, roster_log, roster_type};
use gigfs_core::sync::{LinkId, PrunePolicy};
use gigfs_core::wire::{ClientMessage, ServerMessage};
use gigfs_core::{ActorId, BaseId, ChannelName, Date, Kind, LogName, Op, Refusal, StoreId, TypeName, UserName};

use crate::client::Client;
use crate::disk::Disk;
use crate::keys::Keys;
use crate::ledger::Ledger;
use crate::payload;
use crate::rng::Rng;
use crate::store::{Manners, Reaction, Store, StreamId, Work};

mod app;
mod device;
mod faults;
mod net;
mod register;
mod table;

/// How a world begins.
#[derive(Debug, Clone)]
pub struct Spec {
    /// Decides everything that is not a step.
    pub seed: u64,
    /// The disk of each client; none for one that keeps nothing. Clients of one disk are processes of one device.
    pub clients: Vec<Option<usize>>,
    /// How many seconds each store's clock is ahead of the true time.
    pub skews: Vec<i64>,
    /// Each channel's stores at the beginning.
    pub channels: Vec<BTreeSet<usize>>,
    /// The logs: channel and type.
    pub logs: Vec<(usize, &'static str)>,
    /// What stores may do one way or another.
    pub manners: Manners,
    /// How long a message travels at most, in microseconds.
    pub delay: u64,
    /// When clients prune.
    pub prune: PrunePolicy,
    /// Whether the channels are sealed.
    pub sealed: bool,
}

impl Spec {
    /// Returns a world of one log, whose stores are all of its channel's, and in which nothing goes wrong by itself.
    pub fn of_one_log(kind: &'static str, clients: &[Option<usize>], stores: usize, sealed: bool) -> Self {
        Self {
            seed: 1,
            clients: clients.to_vec(),
            skews: vec![0; stores],
            channels: vec![(0..stores).collect()],
            logs: vec![(0, kind)],
            manners: Manners { page: 7, echo: true, events_first: false, forgetful: false },
            delay: 5_000,
            prune: PrunePolicy::OnDemand,
            sealed,
        }
    }

    /// Tells whether two clients are processes of one device.
    pub fn shares_a_disk(&self) -> bool {
        let disks: BTreeSet<usize> = self.clients.iter().flatten().copied().collect();
        disks.len() < self.clients.iter().flatten().count()
    }
}

/// What broke.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation(pub String);

/// A world.
pub struct World {
    /// The true time in microseconds since 1970.
    pub now: u64,
    /// The clients.
    pub clients: Vec<Client>,
    /// The stores.
    pub stores: Vec<Store>,
    /// The logs that are written to, and after them the rosters of sealed channels.
    pub logs: Vec<LogName>,
    /// How much happened.
    pub counts: Counts,
    pub(crate) spec: Spec,
    pub(crate) user: UserName,
    pub(crate) kinds: BTreeMap<TypeName, Arc<dyn Kind>>,
    pub(crate) keys: Keys,
    pub(crate) disks: Vec<Disk>,
    pub(crate) table: BTreeMap<ChannelName, BTreeSet<usize>>,
    /// The epochs of these sets of stores.
    pub(crate) epochs: BTreeMap<ChannelName, u64>,
    /// Whether what is asked of the table waits on its way.
    pub table_held: bool,
    /// What waits there: who asks, in which life, about which log.
    asked: Vec<(usize, u64, LogName, Proposal)>,
    /// Of how many of a hundred questions the table's answer is lost.
    pub table_loses: u64,
    /// Whether the table cannot be reached.
    pub table_down: bool,
    /// Whether states may be others than the fold of what they cover, because some client is wrong.
    pub any_state: bool,
    /// Where each log's register stands, with the certificate.
    register: BTreeMap<LogName, (BaseId, String)>,
    register_backup: BTreeMap<LogName, (BaseId, String)>,
    pub(crate) ledger: Ledger,
    /// Writes that must be everywhere in the end, by their numbers: some store or disk said that it has them.
    pub(crate) owed: BTreeSet<u64>,
    pub(crate) rng: Rng,
    pub(crate) violation: Option<Violation>,
    /// How many microseconds a client's clock was ahead at most: what was written then may have to wait as long.
    farthest: u64,
    /// Whether some store lost what it had.
    restored: bool,
    partitions: BTreeSet<(usize, usize)>,
    streams: BTreeMap<StreamId, Stream>,
    next_stream: u64,
    next_write: u64,
    queue: BTreeMap<(u64, u64), Event>,
    next_event: u64,
}

/// How much happened in a world.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    /// Events of any kind.
    pub events: u64,
    /// Writes that a client took.
    pub writes: u64,
    /// Operations that clients sent.
    pub ops_pushed: u64,
    /// Operations that clients were answered when they read.
    pub ops_read: u64,
    /// Operations that stores refused.
    pub refused: u64,
    /// Pushes that were dated again.
    pub dated_again: u64,
    /// Times that a client was suspicious of a store.
    pub suspicions: u64,
    /// Checkpoints that the table committed.
    pub committed: u64,
    /// Bases that clients installed.
    pub pruned: u64,
    /// Bases that clients found to be computed wrongly.
    pub disputes: u64,
    /// Times that a client went on with a store where it had left off.
    pub resumed: u64,
}

impl Counts {
    /// Adds what happened in another world.
    pub fn add(&mut self, other: Self) {
        self.events += other.events;
        self.writes += other.writes;
        self.ops_pushed += other.ops_pushed;
        self.ops_read += other.ops_read;
        self.refused += other.refused;
        self.dated_again += other.dated_again;
        self.suspicions += other.suspicions;
        self.committed += other.committed;
        self.pruned += other.pruned;
        self.disputes += other.disputes;
        self.resumed += other.resumed;
    }
}

/// A stream between a client and a store, each end of which may be gone without the other's knowing.
#[derive(Debug)]
struct Stream {
    client: usize,
    store: usize,
    link: LinkId,
    client_end: bool,
    store_end: bool,
    /// When the last message in each direction arrives: none overtakes another.
    to_store_at: u64,
    to_client_at: u64,
}

/// Something that is going to happen.
#[derive(Debug)]
enum Event {
    ToStore { stream: StreamId, message: ClientMessage },
    ToClient { stream: StreamId, message: ServerMessage },
    Work { stream: StreamId, work: Work },
    Connect { client: usize, life: u64, link: LinkId },
    ClientLoses { stream: StreamId },
    StoreLoses { stream: StreamId },
    Tick { client: usize, at: u64 },
    Disk { client: usize, life: u64 },
    Poll { client: usize, life: u64 },
    Mounted { client: usize, life: u64 },
    ToTable { client: usize, life: u64, log: LogName, proposal: Proposal },
    Committed { client: usize, life: u64, log: LogName, result: Result<CommitResult, Refusal> },
}

/// When worlds begin: some day in 2023.
const BEGINNING: u64 = 1_700_000_000_000_000;
/// Events after which a world that was left alone must be quiet.
const EVENTS_TO_REST_MAX: u64 = 2_000_000;
/// Microseconds after which a world that was left alone must be quiet.
const MICROS_TO_REST_MAX: u64 = 3_600_000_000;

impl World {
    /// Makes a world in which nothing has happened, but that all clients run.
    pub fn new(spec: Spec) -> Self {
        let mut rng = Rng::new(spec.seed);
        let user = UserName::parse("me").expect("the name is well formed");
        let channel = |at: usize| ChannelName::parse(&format!("c{at}")).expect("the name is well formed");
        let log = |at: usize, (of, kind): &(usize, &str)| {
            LogName::parse("me", channel(*of).as_str(), kind, &format!("/log{at}")).expect("the name is well formed")
        };
        let disks = spec.clients.iter().flatten().max().map_or(0, |last| last + 1);
        let mut world = Self {
            now: BEGINNING,
            clients: spec.clients.iter().map(|disk| Client::new(ActorId::from_bytes(rng.id()), *disk)).collect(),
            stores: spec.skews.iter().map(|skew| Store::new(rng.id(), *skew, spec.manners)).collect(),
            logs: Vec::new(),
            keys: Keys::default(),
            counts: Counts::default(),
            user,
            kinds: payload::kinds(),
            disks: (0..disks).map(|_| Disk::new(rng.id())).collect(),
            table: spec.channels.iter().enumerate().map(|(at, stores)| (channel(at), stores.clone())).collect(),
            epochs: (0..spec.channels.len()).map(|at| (channel(at), 1)).collect(),
            table_held: false,
            asked: Vec::new(),
            table_loses: 5,
            table_down: false,
            any_state: false,
            register: BTreeMap::new(),
            register_backup: BTreeMap::new(),
            ledger: Ledger::default(),
            owed: BTreeSet::new(),
            rng,
            violation: None,
            farthest: 0,
            restored: false,
            partitions: BTreeSet::new(),
            streams: BTreeMap::new(),
            next_stream: 1,
            next_write: 1,
            queue: BTreeMap::new(),
            next_event: 0,
            spec,
        };
        let mut logs: Vec<LogName> = world.spec.logs.iter().enumerate().map(|(at, spec)| log(at, spec)).collect();
        if world.spec.sealed {
            let channels: BTreeSet<ChannelName> = logs.iter().map(|log| log.channel.clone()).collect();
            logs.extend(channels.iter().map(|channel| roster_log(&world.user, channel)));
            world.kinds.insert(roster_type(), roster_kind());
        }
        (world.keys, world.logs) = Keys::new(world.spec.sealed, logs);
        for client in 0..world.clients.len() {
            world.restart(client);
        }
        world
    }

    /// Tells whether some store lost what it had.
    pub(crate) fn has_lost_data(&self) -> bool {
        self.restored
    }

    /// Lets so many milliseconds go by.
    pub fn run_for(&mut self, millis: u64) {
        let until = self.now + millis * 1000;
        while self.violation.is_none()
            && let Some(((at, _), _)) = self.queue.first_key_value()
            && *at <= until
        {
            self.next();
        }
        self.now = until;
    }

    /// Lets time go by until nothing is left to happen.
    ///
    /// # Errors
    /// [`Violation`], if something broke on the way, or the world does not come to rest.
    pub fn drive(&mut self) -> Result<(), Violation> {
        let (events, until) = (self.counts.events + EVENTS_TO_REST_MAX, self.now + MICROS_TO_REST_MAX + self.farthest);
        while self.violation.is_none() && self.next() {
            if self.counts.events > events || self.now > until {
                let busy: Vec<String> = self.queue.values().take(3).map(|event| format!("{event:?}")).collect();
                self.break_law(format!("the world does not come to rest: {}", busy.join(", ")));
            }
        }
        match &self.violation {
            Some(violation) => Err(violation.clone()),
            None => Ok(()),
        }
    }

    /// Notes the first thing that broke.
    pub(crate) fn break_law(&mut self, what: String) {
        self.violation.get_or_insert(Violation(what));
    }

    fn plan(&mut self, after: u64, event: Event) {
        self.plan_at(self.now + after, event);
    }

    fn plan_at(&mut self, at: u64, event: Event) {
        self.queue.insert((at, self.next_event), event);
        self.next_event += 1;
    }

    /// Has the next event happen. Returns whether there was one.
    fn next(&mut self) -> bool {
        let Some(((at, _), event)) = self.queue.pop_first() else { return false };
        if let Event::Tick { client, at } = event
            && self.clients[client].tick_at != Some(at)
        {
            return true;
        }
        self.now = self.now.max(at);
        self.counts.events += 1;
        match event {
            Event::ToStore { stream, message } => self.arrive_at_store(stream, message),
            Event::ToClient { stream, message } => self.arrive_at_client(stream, message),
            Event::Work { stream, work } => self.work(stream, work),
            Event::Connect { client, life, link } if self.lives(client, life) => self.connect(client, link),
            Event::ClientLoses { stream } => self.client_loses(stream),
            Event::StoreLoses { stream } => self.store_loses(stream),
            Event::Tick { client, .. } => {
                self.clients[client].tick_at = None;
                self.act(client, |replica, now| replica.handle(now, gigfs_core::sync::Event::Tick));
            }
            Event::Disk { client, life } if self.lives(client, life) => self.use_disk(client),
            Event::Poll { client, life } if self.lives(client, life) => self.poll_disk(client),
            Event::Mounted { client, life } if self.lives(client, life) => self.mount(client),
            Event::ToTable { client, life, log, proposal } => self.arrive_at_table(client, life, log, &proposal),
            Event::Committed { client, life, log, result } if self.lives(client, life) => {
                self.hear_table(client, log, result);
            }
            Event::Committed { .. } => {}
            Event::Connect { .. } | Event::Disk { .. } | Event::Poll { .. } | Event::Mounted { .. } => {}
        }
        true
    }

    fn lives(&self, client: usize, life: u64) -> bool {
        self.clients[client].life == life && self.clients[client].replica.is_some()
    }

    fn work(&mut self, stream: StreamId, work: Work) {
        let Some(store) = self.streams.get(&stream).filter(|open| open.store_end).map(|open| open.store) else {
            return;
        };
        let reaction = self.stores[store].work(&self.user, stream, work);
        self.react(stream, reaction);
    }

    /// Sends what a store decided.
    fn react(&mut self, stream: StreamId, reaction: Reaction) {
        let open = self.streams.get(&stream).map(|open| (open.link.channel.clone(), open.store));
        if open.is_some_and(|(channel, store)| self.table[&channel].contains(&store)) {
            self.owe(&reaction.stored);
        }
        for (to, message) in reaction.messages {
            self.send_to_client(to, message);
        }
        if let Some(work) = reaction.work {
            let after = self.rng.below(self.spec.delay / 4 + 1);
            self.plan(after, Event::Work { stream, work });
        }
    }

    /// Notes that writes must be everywhere in the end.
    pub(crate) fn owe<'a>(&mut self, ops: impl IntoIterator<Item = &'a Op>) {
        self.owed.extend(ops.into_iter().filter_map(|op| self.ledger.number(op)));
    }

    /// Returns what a client's clock shows.
    pub(crate) fn clock_of(&self, client: usize) -> Date {
        Date::saturating(self.now.saturating_add_signed(self.clients[client].skew))
    }

    fn clock_of_store(&self, store: usize) -> Date {
        Date::saturating(self.now.saturating_add_signed(self.stores[store].skew))
    }

    pub(crate) fn store_at(&self, id: StoreId) -> usize {
        self.stores.iter().position(|store| store.id() == id).expect("every link is to a store of the world")
    }
}
