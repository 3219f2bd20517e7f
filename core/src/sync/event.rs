//! What goes into the sync machine and what comes out of it.

use bytes::Bytes;

use std::collections::{BTreeMap, BTreeSet};

use super::hold::PruneHold;
use crate::api::{CommitResult, Proposal};
use crate::checkpoint::{Base, BaseId};
use crate::date::Date;
use crate::error::Refusal;
use crate::id::{Incarnation, Sha, StoreId};
use crate::name::{ChannelName, LogName};
use crate::op::Op;
use crate::wire::{ClientMessage, ServerMessage, Welcome};

/// The stream of one channel to one store.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId {
    /// The channel.
    pub channel: ChannelName,
    /// The store.
    pub store: StoreId,
}

/// Names one `push` of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PushId(pub u64);

/// Names one batch that is to be written to the local store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PersistId(pub u64);

/// What a replica exchanges with its stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Everything.
    #[default]
    Online,
    /// Own operations go out, nothing comes in.
    SendOnly,
    /// What others write comes in, nothing goes out.
    ReceiveOnly,
    /// Nothing, while the streams stay open.
    Paused,
    /// Nothing, and the streams are closed.
    Offline,
}

impl Mode {
    /// Tells whether own operations go out.
    pub fn sends(self) -> bool {
        matches!(self, Self::Online | Self::SendOnly)
    }

    /// Tells whether what others write comes in.
    pub fn receives(self) -> bool {
        matches!(self, Self::Online | Self::ReceiveOnly)
    }
}

/// Something that happened outside.
#[derive(Debug, Clone)]
pub enum Event {
    /// The mount table says that these are a channel's stores.
    Mounted {
        /// The channel.
        channel: ChannelName,
        /// All of its stores.
        stores: BTreeSet<StoreId>,
        /// The epoch of that set.
        epoch: u64,
    },
    /// A log was read from the local store, or there is none.
    Loaded {
        /// The log.
        log: LogName,
        /// What it held.
        kept: Kept,
    },
    /// A batch is on disk, or could not be written.
    Persisted {
        /// Which.
        id: PersistId,
        /// The reason, if it was not written.
        failed: Option<String>,
    },
    /// Another process of this device wrote to the local store.
    Neighbour {
        /// The log.
        log: LogName,
        /// What it wrote.
        ops: Vec<Op>,
    },
    /// A stream is open and the store has introduced itself.
    Connected {
        /// Which.
        link: LinkId,
        /// What the store said.
        welcome: Welcome,
    },
    /// A message came in on a stream.
    Received {
        /// Which.
        link: LinkId,
        /// The message.
        message: ServerMessage,
    },
    /// A stream ended or could not be opened.
    Lost {
        /// Which.
        link: LinkId,
        /// Why.
        reason: Refusal,
    },
    /// The table has answered [`Output::Commit`], or cannot be asked.
    Committed {
        /// The log.
        log: LogName,
        /// What it said.
        result: Result<CommitResult, Refusal>,
    },
    /// The answer to [`Output::List`].
    Listed {
        /// The log.
        log: LogName,
        /// The base that the local store has.
        base: Option<BaseId>,
        /// All shas that are known there to be covered by it.
        shas: Vec<Sha>,
    },
    /// The time that [`Replica::wake_at`](super::Replica::wake_at) asked for has come.
    Tick,
}

/// What the local store held of a log.
#[derive(Debug, Clone, Default)]
pub struct Kept {
    /// Its base.
    pub base: Option<Base>,
    /// Its operations that the base does not cover.
    pub ops: Vec<Op>,
    /// How far it was read from each store.
    pub seen: BTreeMap<StoreId, Seen>,
    /// What it is called, sealed, if its channel is sealed and that was kept.
    pub name: Option<Bytes>,
    /// What it is to begin with, if that was kept: [`Record::Seed`].
    pub seed: Option<Bytes>,
    /// Own operations that some store was not known to hold.
    pub pending: BTreeSet<Sha>,
    /// Of `pending`, those that another store has said to hold.
    pub shown: BTreeSet<Sha>,
}

/// How far a log was read from a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// The life of the store's data that the index belongs to.
    pub incarnation: Incarnation,
    /// The last index that was read.
    pub index: u64,
}

/// What the shell is to do.
#[derive(Debug, Clone)]
pub enum Output {
    /// Read a log from the local store; answer with [`Event::Loaded`].
    Load(LogName),
    /// Write to the local store, durably; answer with [`Event::Persisted`]. Whatever depends on it waits for the answer.
    Persist {
        /// Which.
        id: PersistId,
        /// What to write, all or nothing.
        records: Vec<Record>,
    },
    /// Send on a stream.
    Send {
        /// Which.
        link: LinkId,
        /// The message.
        message: ClientMessage,
    },
    /// Ask the table to commit a checkpoint, or where the log's register stands; answer with [`Event::Committed`].
    Commit {
        /// The log.
        log: LogName,
        /// What to ask.
        proposal: Proposal,
    },
    /// Read from the local store what is known to be covered by a log's base; answer with [`Event::Listed`].
    List {
        /// The log.
        log: LogName,
    },
    /// Tell the app.
    Notify(Notice),
}

/// One thing to keep in the local store.
#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    /// An operation.
    Op {
        /// The log.
        log: LogName,
        /// The operation.
        op: Op,
    },
    /// A base, with operations that it covers: they go, and it is known from now on that they are covered. A base that is
    /// not later than the one on the disk is passed over.
    Base {
        /// The log.
        log: LogName,
        /// The base.
        base: Base,
        /// What it is known to cover newly.
        covered: Vec<Sha>,
        /// Whether what is covered is archived, to come back with [`Record::Restore`]: no table knows of the base.
        archive: bool,
    },
    /// The base goes, and what was archived comes back.
    Restore {
        /// The log.
        log: LogName,
    },
    /// An operation that is to be forgotten, because it was dated again, or a store has said that the base covers it.
    Forget {
        /// The log.
        log: LogName,
        /// Its identity.
        sha: Sha,
    },
    /// How far a log was read from a store.
    Seen {
        /// The log.
        log: LogName,
        /// The store.
        store: StoreId,
        /// How far.
        seen: Seen,
    },
    /// Whether some store still lacks an own operation.
    Pending {
        /// The log.
        log: LogName,
        /// The operation.
        sha: Sha,
        /// Whether one does.
        pending: bool,
    },
    /// What a log of a sealed channel is called, sealed.
    Name {
        /// The log, by its blinded name.
        log: LogName,
        /// [`crate::seal::NameKeys::seal`].
        sealed: Bytes,
    },
    /// What a log is to begin with, because it is the copy of another one's base: the record of a checkpoint, until every
    /// store has it.
    Seed {
        /// The log.
        log: LogName,
        /// The record; nothing once it is not needed any more.
        seed: Option<Bytes>,
    },
    /// A store has said to hold an own operation that another one still lacks, or left and may have held it:
    /// [`Record::Pending`] with this beside it.
    Shown {
        /// The log.
        log: LogName,
        /// The operation.
        sha: Sha,
    },
}

/// Something that the app may want to know.
#[derive(Debug, Clone)]
pub enum Notice {
    /// A log gained operations.
    Changed {
        /// The log.
        log: LogName,
        /// What it gained.
        ops: Vec<Op>,
        /// Where they came from.
        origin: Origin,
    },
    /// A log has a new base.
    Pruned {
        /// The log.
        log: LogName,
        /// The base.
        base: BaseId,
    },
    /// Another state came out here of what a log's new base covers. The log is not pruned any more before that is settled.
    Disputed {
        /// The log.
        log: LogName,
        /// The base.
        base: BaseId,
    },
    /// A base that a log had is not part of the history that was committed. Its state is kept in a log of its own.
    Conflict {
        /// The log.
        log: LogName,
        /// The base.
        base: BaseId,
        /// The log that has its state; nothing if its name would be too long. The stores keep it for a while all the same.
        copy: Option<LogName>,
    },
    /// A log was to be pruned and could not be now; it is tried again later if it is pruned by itself.
    NotPruned {
        /// The log.
        log: LogName,
        /// Why.
        hold: PruneHold,
    },
    /// A push came further, or was refused.
    Receipt(Receipt),
    /// A log was read through at a store, or the reading failed; or it was loaded.
    Read {
        /// The log.
        log: LogName,
    },
    /// A store has told all that was missed of the logs that were in step with it when they were left off: they are again.
    Resumed {
        /// Which.
        link: LinkId,
    },
    /// A stream came up or went down.
    Link {
        /// Which.
        link: LinkId,
        /// Why it is down; nothing if it is up.
        down: Option<Refusal>,
    },
    /// A store lost what it had, or holds what cannot be read.
    Suspicion {
        /// The store.
        link: LinkId,
        /// The log.
        log: LogName,
        /// What was seen.
        what: String,
    },
    /// A store has answered all that it was sent, and nothing more can be sent to it now.
    Drained {
        /// Which.
        link: LinkId,
    },
}

/// Where operations came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// This process pushed them.
    Here,
    /// Another process of this device pushed them.
    Neighbour,
    /// A store told of them.
    Store(StoreId),
}

/// How far a push has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// Which push.
    pub id: PushId,
    /// The log.
    pub log: LogName,
    /// The operation; another one after it was dated again.
    pub sha: Sha,
    /// Whether the local store has it on disk.
    pub durable: bool,
    /// Why the local store could not write it.
    pub local_error: Option<String>,
    /// What each store of the channel said.
    pub stores: BTreeMap<StoreId, Standing>,
}

/// What a store said to an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Nothing yet.
    Queued,
    /// It is on its disk.
    Accepted,
    /// It is part of the committed checkpoint.
    Covered,
    /// It will not have it.
    Refused(Refusal),
}

impl Receipt {
    /// Returns how many stores hold the operation.
    pub fn accepted(&self) -> usize {
        self.stores.values().filter(|standing| matches!(standing, Standing::Accepted | Standing::Covered)).count()
    }

    /// Tells whether every store has said its last word.
    pub fn settled(&self) -> bool {
        !self.stores.values().any(|standing| *standing == Standing::Queued)
    }
}

/// The time at which a machine wants [`Event::Tick`], if at all.
pub type WakeAt = Option<Date>;
