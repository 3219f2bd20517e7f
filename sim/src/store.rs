//! A store of a world: a real engine, the real admission, and the store's side of the stream protocol.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use gigfs_core::api::{LogHeader, PushResult};
use gigfs_core::token::{AckClaims, AckUse};
use gigfs_core::wire::{ClientMessage, LogRef, ServerMessage, Tag, Welcome, Which, WireBase, WireOp};
use gigfs_core::{BaseId, ChannelName, Date, ErrorCode, Incarnation, LogName, Op, PathPrefix, Refusal, RunId, Sha};
use gigfs_core::{StoreId, UserName, base64_text};
use gigfs_storage::{Append, Appended, Batch, Engine as _, Fault, Faulty, Page, StorageError, StoredOp, pruning};

mod watch;

/// Names one stream of a world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct StreamId(pub u64);

/// A store.
#[derive(Debug)]
pub struct Store {
    /// Its data.
    pub engine: Faulty,
    /// Whether it runs.
    pub up: bool,
    /// Its clock less the true time, in microseconds.
    pub skew: i64,
    /// Whether its disk takes nothing now.
    pub full: bool,
    /// A copy of its data as it was some time ago.
    pub backup: Option<Faulty>,
    /// Channels for which it takes no more writes.
    pub sealed: BTreeSet<ChannelName>,
    sessions: BTreeMap<StreamId, Session>,
    /// Up to which position of each channel watchers were told.
    told: BTreeMap<ChannelName, u64>,
    /// Of each channel, at which position a log's base changed last in this run; nothing once that is not known.
    rebased: BTreeMap<ChannelName, Option<BTreeMap<LogName, u64>>>,
    /// How many runs of the process there were before this one.
    runs: u64,
    manners: Manners,
}

/// What stores may do one way or another.
#[derive(Debug, Clone, Copy)]
pub struct Manners {
    /// Operations or shas in one part of an answer.
    pub page: usize,
    /// Whether the stream that pushed an operation is told of it too, if it watches the log.
    pub echo: bool,
    /// Whether watchers are told before the pusher is answered.
    pub events_first: bool,
    /// Whether they never know what has changed since a position.
    pub forgetful: bool,
}

/// An open stream.
#[derive(Debug)]
struct Session {
    channel: ChannelName,
    logs: BTreeSet<LogRef>,
    prefixes: Vec<PathPrefix>,
}

/// The rest of an answer that is given in parts.
#[derive(Debug, Clone)]
pub enum Work {
    /// Operations after an index.
    Get {
        /// The request's.
        tag: Tag,
        /// The log.
        log: LogRef,
        /// The index.
        after: u64,
        /// The base that the reader has; nothing once the store's own was sent.
        base: Option<Option<BaseId>>,
    },
    /// Shas after an index.
    Inventory {
        /// The request's.
        tag: Tag,
        /// The log.
        log: LogRef,
        /// The index.
        after: u64,
    },
    /// Covered shas after one of them.
    Covered {
        /// The request's.
        tag: Tag,
        /// The log.
        log: LogRef,
        /// The last one that was sent.
        after: Option<Sha>,
    },
}

/// What a store does about a message.
#[derive(Debug, Default)]
pub struct Reaction {
    /// Messages, in order.
    pub messages: Vec<(StreamId, ServerMessage)>,
    /// More to be done for the stream, a little later.
    pub work: Option<Work>,
    /// Operations that are on its disk now.
    pub stored: Vec<Op>,
}

impl Store {
    /// Makes an empty store whose clock is so many seconds ahead.
    pub fn new(id: [u8; 16], skew: i64, manners: Manners) -> Self {
        Self {
            engine: Faulty::new(StoreId::from_bytes(id), Incarnation::from_bytes(id)),
            up: true,
            skew: skew * 1_000_000,
            full: false,
            backup: None,
            sealed: BTreeSet::new(),
            sessions: BTreeMap::new(),
            told: BTreeMap::new(),
            rebased: BTreeMap::new(),
            runs: 0,
            manners,
        }
    }

    /// Returns its id.
    pub fn id(&self) -> StoreId {
        self.engine.store_id()
    }

    /// Opens a stream, and returns the greeting.
    pub fn open(&mut self, stream: StreamId, user: &UserName, channel: &ChannelName, now: Date) -> ServerMessage {
        self.sessions.insert(stream, Session::of(channel));
        let position = self.engine.position(user, channel).unwrap_or(0);
        self.told.entry(channel.clone()).or_insert(position);
        let (store, incarnation) = (self.id(), self.engine.incarnation());
        let run = Some(RunId::from_bytes(u128::from(self.runs).to_be_bytes()));
        ServerMessage::Welcome(Welcome { store, incarnation, position, now, run })
    }

    /// Ends a stream.
    pub fn close(&mut self, stream: StreamId) {
        self.sessions.remove(&stream);
    }

    /// Ends the process. What is on disk stays.
    pub fn crash(&mut self) {
        self.up = false;
        self.sessions.clear();
        self.told.clear();
        self.rebased.clear();
        self.runs += 1;
        self.engine = self.engine.crash();
    }

    /// Takes a message of a stream.
    pub fn receive(&mut self, user: &UserName, stream: StreamId, message: ClientMessage, now: Date) -> Reaction {
        let Some(channel) = self.sessions.get(&stream).map(|session| session.channel.clone()) else {
            return Reaction::default();
        };
        let answer = |message| Reaction { messages: vec![(stream, message)], ..Reaction::default() };
        match message {
            ClientMessage::Push { tag, log, ops, beyond } => {
                self.push(&log.log(user, &channel), (stream, tag), &ops, beyond, now)
            }
            ClientMessage::Get { tag, log, after, base } => {
                self.work(user, stream, Work::Get { tag, log, after, base: Some(base) })
            }
            ClientMessage::Inventory { tag, log, which: Which::Live } => {
                self.work(user, stream, Work::Inventory { tag, log, after: 0 })
            }
            ClientMessage::Inventory { tag, log, which: Which::Covered } => {
                self.work(user, stream, Work::Covered { tag, log, after: None })
            }
            ClientMessage::Checkpoint { tag, log, sha, record, epoch } => {
                let name = log.log(user, &channel);
                answer(match self.acknowledge(&name, sha, &record, epoch, now) {
                    Ok(ack) => ServerMessage::Acknowledged { tag, ack },
                    Err(refusal) => ServerMessage::Failed { tag, refusal },
                })
            }
            ClientMessage::Install { tag, log, base, instead_of } => {
                let decided = |engine: &Faulty, name: &LogName| pruning::install(engine, name, &base, instead_of, now);
                self.change_base(&log.log(user, &channel), (stream, tag), true, decided)
            }
            ClientMessage::Cover { tag, log, base, shas } => {
                let decided = |engine: &Faulty, name: &LogName| {
                    Ok(pruning::cover(engine, name, base, shas.clone(), now)?.map(Some))
                };
                self.change_base(&log.log(user, &channel), (stream, tag), false, decided)
            }
            ClientMessage::Dispute { tag, log, base } => {
                let decided = |engine: &Faulty, name: &LogName| Ok(pruning::dispute(engine, name, base)?.map(Some));
                self.change_base(&log.log(user, &channel), (stream, tag), false, decided)
            }
            ClientMessage::Name { tag, .. } => answer(ServerMessage::Named { tag }),
            ClientMessage::Retained { tag, log } => answer(self.retained(&log.log(user, &channel), tag)),
            ClientMessage::Watch { tag, watched, after } => self.watch(user, (stream, tag), watched, after),
            ClientMessage::Unwatch { tag } => {
                if let Some(session) = self.sessions.get_mut(&stream) {
                    session.logs.clear();
                    session.prefixes.clear();
                }
                answer(ServerMessage::Unwatched { tag })
            }
            ClientMessage::Renew { tag, .. } => answer(ServerMessage::Renewed { tag }),
            ClientMessage::List { tag, .. } => answer(ServerMessage::Logs { tag, logs: Vec::new(), more: false }),
        }
    }

    fn acknowledge(
        &mut self,
        name: &LogName,
        sha: Sha,
        record: &Bytes,
        epoch: u64,
        now: Date,
    ) -> Result<String, Refusal> {
        let judged = pruning::judge(&self.engine, name, sha, record, now).map_err(|error| refusal_of(&error))?;
        let (checkpoint, batch) = judged?;
        self.engine.commit(&batch).map_err(|error| refusal_of(&error))?;
        Ok(signed(&AckClaims {
            iss: self.id(),
            sub: name.user.clone(),
            channel: name.channel.clone(),
            kind: name.kind.clone(),
            path: name.path.clone(),
            generation: checkpoint.generation,
            checkpoint: sha,
            parent: checkpoint.parent,
            epoch,
            usage: AckUse::Acknowledge,
        }))
    }

    /// Changes what is known of a log's base, and tells those who watch the log if it has another one.
    fn change_base(
        &mut self,
        name: &LogName,
        (stream, tag): (StreamId, Tag),
        repeat: bool,
        decide: impl Fn(&Faulty, &LogName) -> pruning::Decided<Option<Batch>>,
    ) -> Reaction {
        let before = self.header(name);
        let change = || {
            while let Some(batch) = match decide(&self.engine, name)? {
                Ok(batch) => batch,
                Err(refusal) => return Ok(Err(refusal)),
            } {
                self.engine.commit(&batch)?;
                if !repeat {
                    break;
                }
            }
            Ok(Ok(()))
        };
        let changed: Result<Result<(), Refusal>, StorageError> = change();
        self.note_base(name);
        // What came back to life is told too.
        let mut messages = self.tell_watchers(&name.user, &name.channel, None);
        let after = self.header(name);
        if let (Ok(before), Ok(header)) = (&before, &after) {
            let log = LogRef::from(name);
            let known = |header: &LogHeader| header.base.map(|base| (base.id, base.complete, base.disputed));
            // A disk that says no may have written it all the same.
            if known(before) != known(header) {
                let watchers = self.sessions.iter().filter(|(_, session)| session.watches(&name.channel, &log));
                let pruned = |id: &StreamId| (*id, ServerMessage::Pruned { log: log.clone(), header: *header });
                messages.extend(watchers.map(|(id, _)| pruned(id)));
            }
        }
        let answer = match (changed, after) {
            (Ok(Ok(())), Ok(header)) => ServerMessage::Installed { tag, header },
            (Ok(Err(refusal)), _) => ServerMessage::Failed { tag, refusal },
            (Err(error), _) | (_, Err(error)) => ServerMessage::Failed { tag, refusal: refusal_of(&error) },
        };
        messages.push((stream, answer));
        Reaction { messages, ..Reaction::default() }
    }

    fn retained(&self, name: &LogName, tag: Tag) -> ServerMessage {
        let read = || {
            let base = pruning::under_retained(&self.engine, name)?;
            Ok((base, self.engine.retained(name, 0, Page::ALL)?))
        };
        match read() {
            Ok((base, ops)) => {
                let wire = |(generation, op): (u64, StoredOp)| (generation, WireOp { sha: op.sha, record: op.record });
                let ops = ops.into_iter().map(wire).collect();
                ServerMessage::Retained { tag, base: base.as_ref().map(WireBase::from), ops, more: false }
            }
            Err(error) => ServerMessage::Failed { tag, refusal: refusal_of(&error) },
        }
    }

    fn push(
        &mut self,
        name: &LogName,
        (stream, tag): (StreamId, Tag),
        ops: &[WireOp],
        beyond: Option<Sha>,
        now: Date,
    ) -> Reaction {
        if self.sealed.contains(&name.channel) {
            let refusal = Refusal::new(ErrorCode::Sealed, "the store is being taken off the channel");
            return Reaction {
                messages: vec![(stream, ServerMessage::Failed { tag, refusal })],
                ..Reaction::default()
            };
        }
        let mut held: BTreeSet<Sha> = self.ops(name).iter().map(Op::sha).collect();
        held.extend(self.covered(name));
        let admit = |op: &WireOp| match gigfs_core::admit(name, op, now) {
            // What is held is held, whatever its date: it may have come from a store whose clock is ahead.
            Err(refusal) if refusal.code == ErrorCode::ClockAhead && held.contains(&op.sha) => {
                op.open(name).map_err(Refusal::from)
            }
            Err(refusal) if refusal.code == ErrorCode::ClockAhead && !self.can_read() => {
                Err(Refusal::new(ErrorCode::StorageFailed, "the store cannot tell whether it holds the operation"))
            }
            admitted => admitted,
        };
        let mut admitted: Vec<Result<Op, Refusal>> = ops.iter().map(admit).collect();
        if admitted.iter().any(Result::is_err) {
            let unsigned = gigfs_core::unsigned(admitted.iter().flatten());
            let left = admitted.iter_mut().filter(|op| op.as_ref().is_ok_and(|op| unsigned.contains(&op.sha())));
            left.for_each(|op| *op = Err(gigfs_core::refuse_unsigned()));
        }
        let good: Vec<Op> = admitted.iter().flatten().cloned().collect();
        let append = |op: &Op| match beyond {
            Some(base) => Append::Vouched { log: name.clone(), op: op.clone(), base },
            None => Append::Op { log: name.clone(), op: op.clone() },
        };
        let appends = good.iter().map(append).collect();
        if self.full && !good.is_empty() {
            self.engine.fail([Fault::Full]);
        }
        let committed = match good.is_empty() {
            true => Ok(Vec::new()),
            false => self.engine.commit(&Batch { appends, ..Batch::default() }),
        };
        let results = match &committed {
            Ok(appended) => {
                let mut appended = appended.iter();
                let result = |admitted: Result<Op, Refusal>| match admitted {
                    Ok(op) => match appended.next() {
                        Some(Appended::Known { sha, .. }) => PushResult::Known { sha: *sha },
                        Some(Appended::Covered { sha }) => PushResult::Covered { sha: *sha },
                        Some(Appended::Doubtful { .. }) => PushResult::Refused(Refusal::new(
                            ErrorCode::CoverageUnknown,
                            "the store cannot tell whether the operation is covered",
                        )),
                        _ => PushResult::Accepted { sha: op.sha() },
                    },
                    Err(refusal) => PushResult::Refused(refusal),
                };
                admitted.into_iter().map(result).collect()
            }
            Err(error) => {
                let refusal = refusal_of(error);
                let result = |admitted: Result<Op, Refusal>| {
                    PushResult::Refused(admitted.err().unwrap_or_else(|| refusal.clone()))
                };
                admitted.into_iter().map(result).collect()
            }
        };
        let mut messages = self.tell_watchers(&name.user, &name.channel, Some(stream));
        let at = if self.manners.events_first { messages.len() } else { 0 };
        messages.insert(at, (stream, ServerMessage::Pushed { tag, results }));
        let written = |(_, appended): &(Op, Appended)| !matches!(appended, Appended::Doubtful { .. });
        let stored =
            committed.map(|appended| good.into_iter().zip(appended).filter(written).map(|(op, _)| op).collect());
        let stored = stored.unwrap_or_default();
        Reaction { messages, stored, work: None }
    }

    /// Gives the next part of an answer.
    pub fn work(&mut self, user: &UserName, stream: StreamId, work: Work) -> Reaction {
        let Some(session) = self.sessions.get(&stream) else { return Reaction::default() };
        let channel = session.channel.clone();
        let tag = match &work {
            Work::Get { tag, .. } | Work::Inventory { tag, .. } | Work::Covered { tag, .. } => *tag,
        };
        let (message, work) = match self.part(user, &channel, work) {
            Ok(part) => part,
            Err(error) => (ServerMessage::Failed { tag, refusal: refusal_of(&error) }, None),
        };
        Reaction { messages: vec![(stream, message)], work, stored: Vec::new() }
    }

    fn part(
        &self,
        user: &UserName,
        channel: &ChannelName,
        work: Work,
    ) -> Result<(ServerMessage, Option<Work>), StorageError> {
        match work {
            Work::Get { tag, log, after, base } => {
                let name = log.log(user, channel);
                let base = match base {
                    Some(known) => pruning::base_for(&self.engine, &name, known)?,
                    None => None,
                };
                let page = Page { ops: self.manners.page, bytes: usize::MAX };
                let stored = self.engine.read(&name, after, page)?;
                let last = stored.last().map_or(after, |stored| stored.index);
                let more = !self.engine.read(&name, last, Page { ops: 1, bytes: 1 })?.is_empty();
                let header = self.header(&name)?;
                let wire = stored.into_iter().map(|op| (op.index, WireOp { sha: op.sha, record: op.record }));
                let base = base.as_ref().map(WireBase::from);
                let message = ServerMessage::Ops { tag, base, ops: wire.collect(), header, more };
                Ok((message, more.then_some(Work::Get { tag, log, after: last, base: None })))
            }
            Work::Inventory { tag, log, after } => {
                let name = log.log(user, channel);
                let shas = self.engine.inventory(&name, after, self.manners.page)?;
                let last = shas.last().map_or(after, |(index, _)| *index);
                let more = !self.engine.inventory(&name, last, 1)?.is_empty();
                let header = self.header(&name)?;
                let shas = shas.into_iter().map(|(_, sha)| sha).collect();
                let message = ServerMessage::Shas { tag, shas, header, more };
                Ok((message, more.then_some(Work::Inventory { tag, log, after: last })))
            }
            Work::Covered { tag, log, after } => {
                let name = log.log(user, channel);
                let shas = self.engine.covered(&name, after.as_ref(), self.manners.page)?;
                let last = shas.last().copied().or(after);
                let more = !self.engine.covered(&name, last.as_ref(), 1)?.is_empty();
                let message = ServerMessage::Shas { tag, shas, header: self.header(&name)?, more };
                Ok((message, more.then_some(Work::Covered { tag, log, after: last })))
            }
        }
    }

    /// Returns what the store knows to be covered of a log; nothing while it cannot be read.
    pub fn covered(&self, log: &LogName) -> Vec<Sha> {
        self.engine.covered(log, None, usize::MAX).unwrap_or_default()
    }

    /// Returns the base of a log, if it has one and can be read.
    pub fn base(&self, log: &LogName) -> Option<BaseId> {
        self.header(log).ok()?.base.map(|base| base.id)
    }

    /// Tells whether the store knows all that a log's base covers.
    pub fn is_complete(&self, log: &LogName) -> bool {
        self.header(log).is_ok_and(|header| header.base.is_none_or(|base| base.complete))
    }

    /// Tells whether somebody has told the store that the state of a log's base is wrong.
    pub fn is_disputed(&self, log: &LogName) -> bool {
        self.header(log).is_ok_and(|header| header.base.is_some_and(|base| base.disputed))
    }

    fn header(&self, log: &LogName) -> Result<LogHeader, StorageError> {
        Ok(self.engine.tail(log)?.map(|tail| tail.header).unwrap_or_default())
    }

    /// Tells whether its data can be read now.
    pub fn can_read(&self) -> bool {
        self.engine.note(b"any").is_ok()
    }

    /// Returns the operations of a log, in order of arrival; none while they cannot be read.
    pub fn ops(&self, log: &LogName) -> Vec<Op> {
        let stored = self.engine.read(log, 0, Page::ALL).unwrap_or_default();
        stored.iter().filter_map(|op| Op::from_record(log, &op.record, Some(op.sha)).ok()).collect()
    }
}

/// Makes a token of claims. In a world everybody is honest, so nothing is signed.
pub(crate) fn signed<T: serde::Serialize>(claims: &T) -> String {
    let json = serde_json::to_vec(claims).expect("claims are plain data");
    format!("e30.{}.", base64_text::encode(&json))
}

fn refusal_of(error: &StorageError) -> Refusal {
    let code = match error {
        StorageError::Full { .. } => ErrorCode::InsufficientStorage,
        _ => ErrorCode::StorageFailed,
    };
    Refusal::new(code, error.to_string())
}
