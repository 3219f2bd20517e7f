//! A device's local store in a world: a faulty engine, and how the records of the sync machine stand in it.
//!
//! The mapping is the client library's: operations are appended, what was dated again is removed, and the rest are notes.

use bytes::Bytes;
use gigfs_core::sync::{Kept, Record, Seen};
use gigfs_core::{
    Base, BaseId, ChannelName, Checkpoint, Date, Incarnation, LogName, Op, PathPrefix, Sha, StoreId, UserName,
};
use gigfs_storage::{Append, Appended, Batch, Engine as _, Faulty, Install, Page, StorageError};

/// A device's disk.
#[derive(Debug)]
pub(crate) struct Disk {
    /// The engine on it.
    pub(crate) engine: Faulty,
    /// A copy of it as it was some time ago.
    pub(crate) backup: Option<Faulty>,
}

impl Disk {
    /// Makes an empty disk.
    pub(crate) fn new(id: [u8; 16]) -> Self {
        Self { engine: Faulty::new(StoreId::from_bytes(id), Incarnation::from_bytes(id)), backup: None }
    }

    /// Returns which base is kept of a log.
    pub(crate) fn base(&self, log: &LogName) -> Option<BaseId> {
        self.engine.tail(log).ok()??.header.base.map(|base| base.id)
    }

    /// Reads what is kept of a log.
    pub(crate) fn read(&self, log: &LogName) -> Kept {
        let mut kept = Kept { base: self.engine.base(log).unwrap_or_default(), ..Kept::default() };
        kept.ops = ops(&self.engine, log);
        kept.name = self.engine.note(&key(NAME, log)).unwrap_or_default();
        kept.seed = self.engine.note(&key(SEED, log)).unwrap_or_default();
        let seen = self.engine.notes(key(SEEN, log).as_slice()).unwrap_or_default();
        kept.seen = seen.iter().filter_map(|(key, value)| seen_of(key, value)).collect();
        let pending = self.engine.notes(key(PENDING, log).as_slice()).unwrap_or_default();
        kept.pending = pending.iter().filter_map(|(key, _)| sha_of(key)).collect();
        let shown = pending.iter().filter(|(_, value)| value.as_ref() == SHOWN);
        kept.shown = shown.filter_map(|(key, _)| sha_of(key)).collect();
        kept
    }

    /// Returns the logs in which some store may lack own operations, of those that a world has, and those that are copies
    /// which not every store has yet.
    pub(crate) fn pending_logs(&self, user: &UserName, all: &[LogName]) -> Vec<LogName> {
        let pending = |log: &&LogName| !self.engine.notes(&key(PENDING, log)).unwrap_or_default().is_empty();
        let seeds = self.engine.notes(format!("{SEED}/").as_bytes()).unwrap_or_default();
        let copies = seeds.iter().filter_map(|(key, _)| log_of(SEED, user, key));
        all.iter().filter(pending).cloned().chain(copies).collect()
    }

    /// Returns the logs of a channel.
    pub(crate) fn logs(&self, user: &UserName, channel: &ChannelName) -> Vec<LogName> {
        let logs = self.engine.list(user, channel, &PathPrefix::default(), None, usize::MAX);
        logs.unwrap_or_default().into_iter().map(|(log, _)| log).collect()
    }
}

/// Reads the operations of a log.
pub(crate) fn ops(engine: &Faulty, log: &LogName) -> Vec<Op> {
    let stored = engine.read(log, 0, Page::ALL).unwrap_or_default();
    stored.iter().flat_map(|op| Op::from_record(log, &op.record, Some(op.sha))).collect()
}

/// Writes records, in one commit.
pub(crate) fn write(engine: &Faulty, records: Vec<Record>) -> Result<Vec<Appended>, StorageError> {
    let mut batch = Batch::default();
    for record in records {
        match record {
            Record::Base { log, base, covered, archive } => {
                let generation = |base: &Base| Checkpoint::from_trusted(&base.record).ok().map(|it| it.id(&log));
                let kept = engine.base(&log).unwrap_or_default();
                if kept.as_ref().and_then(generation) <= generation(&base) {
                    batch.installs.push(Install { log, base, covered, retain: archive, at: Date::EPOCH });
                }
            }
            Record::Restore { log } => batch.restores.push(log),
            Record::Op { log, op } => batch.appends.push(Append::Op { log, op }),
            Record::Forget { log, sha } => batch.removes.push((log, sha)),
            Record::Seen { log, store, seen } => {
                let value = [&seen.incarnation.as_bytes()[..], &seen.index.to_be_bytes()].concat();
                batch.notes.push((joined(SEEN, &log, store.as_bytes()), Some(value.into())));
            }
            Record::Pending { log, sha, pending } => {
                batch.notes.push((joined(PENDING, &log, sha.as_bytes()), pending.then(Bytes::new)));
            }
            Record::Seed { log, seed } => batch.notes.push((key(SEED, &log).into(), seed)),
            Record::Name { log, sealed } => batch.notes.push((key(NAME, &log).into(), Some(sealed))),
            Record::Shown { log, sha } => {
                batch.notes.push((joined(PENDING, &log, sha.as_bytes()), Some(Bytes::from_static(SHOWN))));
            }
        }
    }
    engine.commit(&batch)
}

/// The value of a pending note whose operation some store has.
const SHOWN: &[u8] = b"1";
const SEEN: &str = "seen";
const PENDING: &str = "pending";
const NAME: &str = "name";
const SEED: &str = "seed";

fn key(prefix: &str, log: &LogName) -> Vec<u8> {
    format!("{prefix}/{}\0{}\0{}\0", log.channel, log.kind, log.path).into_bytes()
}

fn joined(prefix: &str, log: &LogName, id: &[u8]) -> Bytes {
    [&key(prefix, log)[..], id].concat().into()
}

fn log_of(prefix: &str, user: &UserName, key: &[u8]) -> Option<LogName> {
    let rest = key.strip_prefix(prefix.as_bytes())?.strip_prefix(b"/")?;
    let mut parts = rest.splitn(4, |byte| *byte == 0);
    let mut text = || std::str::from_utf8(parts.next()?).ok();
    LogName::parse(user.as_str(), text()?, text()?, text()?).ok()
}

fn seen_of(key: &[u8], value: &[u8]) -> Option<(StoreId, Seen)> {
    let store = StoreId::from_slice(key.last_chunk::<16>()?)?;
    let (incarnation, index) = value.split_at_checked(16)?;
    let index = u64::from_be_bytes(index.try_into().ok()?);
    Some((store, Seen { incarnation: Incarnation::from_slice(incarnation)?, index }))
}

fn sha_of(key: &[u8]) -> Option<Sha> {
    key.last_chunk().copied().map(Sha::from_bytes)
}
