//! A client of a world: the real sync machine, and what the shell around it keeps.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use std::sync::Arc;

use gigfs_core::sync::{LinkId, Mode, PersistId, PruneHold, PushId, Receipt, Record, Replica};
use gigfs_core::{ActorId, BaseId, ChannelName, Kind, LogName, Sha, StoreId, TypeName};

use crate::payload;
use crate::store::StreamId;

/// A process that holds a replica, over all of its lives.
pub struct Client {
    /// The writing replica that it is.
    pub actor: ActorId,
    /// The disk that it keeps its data on, if any.
    pub disk: Option<usize>,
    /// The machine, while the process runs.
    pub replica: Option<Replica>,
    /// Its clock less the true time, in microseconds.
    pub skew: i64,
    /// What the app wants to be exchanged.
    pub mode: Mode,
    /// The last news of each push of this life.
    pub receipts: BTreeMap<PushId, Receipt>,
    /// What looked odd about stores, in this life.
    pub suspicions: Vec<(LinkId, String)>,
    /// What it found to be computed wrongly, in this life.
    pub disputes: Vec<(LogName, BaseId)>,
    /// Why logs were not pruned, in this life.
    pub holds: Vec<(LogName, PruneHold)>,
    /// What reads each type.
    pub kinds: BTreeMap<TypeName, Arc<dyn Kind>>,
    /// How often each operation was sent, in all lives.
    pub sent: BTreeMap<Sha, u64>,
    /// Operations that it was answered when it read, in all lives.
    pub ops_read: u64,
    pub(crate) life: u64,
    pub(crate) mounts: BTreeMap<ChannelName, BTreeSet<StoreId>>,
    pub(crate) epochs: BTreeMap<ChannelName, u64>,
    pub(crate) links: BTreeMap<LinkId, StreamId>,
    pub(crate) connecting: BTreeSet<LinkId>,
    pub(crate) jobs: VecDeque<Job>,
    /// Operations that were written in this life and about which the disk has not answered.
    pub(crate) unanswered: BTreeSet<Sha>,
    /// How far each channel of the disk was looked through for what other processes wrote.
    pub(crate) positions: BTreeMap<ChannelName, u64>,
    pub(crate) tick_at: Option<u64>,
}

/// Something for the disk to do.
#[derive(Debug)]
pub(crate) enum Job {
    /// Read a log.
    Load(LogName),
    /// Read what is known to be covered of a log.
    List(LogName),
    /// Write a batch.
    Persist { id: PersistId, records: Vec<Record> },
}

impl Client {
    /// Makes a client that does not run yet.
    pub(crate) fn new(actor: ActorId, disk: Option<usize>) -> Self {
        Self {
            actor,
            disk,
            replica: None,
            skew: 0,
            mode: Mode::Online,
            receipts: BTreeMap::new(),
            suspicions: Vec::new(),
            disputes: Vec::new(),
            holds: Vec::new(),
            kinds: payload::kinds(),
            sent: BTreeMap::new(),
            ops_read: 0,
            life: 0,
            mounts: BTreeMap::new(),
            epochs: BTreeMap::new(),
            links: BTreeMap::new(),
            connecting: BTreeSet::new(),
            jobs: VecDeque::new(),
            unanswered: BTreeSet::new(),
            positions: BTreeMap::new(),
            tick_at: None,
        }
    }

    /// Forgets what ends with the process.
    pub(crate) fn end(&mut self) {
        self.replica = None;
        self.life += 1;
        self.receipts.clear();
        self.suspicions.clear();
        self.disputes.clear();
        self.holds.clear();
        self.links.clear();
        self.connecting.clear();
        self.jobs.clear();
        self.unanswered.clear();
        self.positions.clear();
        self.tick_at = None;
    }
}
