//! What the engine in memory holds, and how a commit changes it.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use gigfs_core::{Base, ChannelName, Checkpoint, Covers, Date, LogName, Op, Path, Sha, StoreId, TypeName, UserName};

use crate::base;
use crate::engine::{Append, Appended, Arrival, Install, LogTail, StoredOp};

#[derive(Debug, Clone, Default)]
pub(super) struct State {
    pub(super) channels: BTreeMap<(UserName, ChannelName), Channel>,
    pub(super) usage: BTreeMap<UserName, u64>,
    pub(super) notes: BTreeMap<Bytes, Bytes>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Channel {
    pub(super) position: u64,
    pub(super) logs: BTreeMap<(TypeName, Path), Log>,
    pub(super) feed: BTreeMap<u64, (LogName, u64)>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Log {
    pub(super) tail: LogTail,
    pub(super) ops: BTreeMap<u64, Kept>,
    pub(super) shas: BTreeMap<Sha, u64>,
    pub(super) base: Option<Base>,
    pub(super) covered: BTreeSet<Sha>,
    pub(super) retained: BTreeMap<u64, Retained>,
    /// By generation and sha.
    pub(super) superseded: BTreeMap<(u64, Sha), Superseded>,
}

#[derive(Debug, Clone)]
pub(super) struct Kept {
    position: u64,
    pub(super) stored: StoredOp,
}

/// A covered operation and the generation that covered it first.
#[derive(Debug, Clone)]
pub(super) struct Retained {
    pub(super) generation: u64,
    pub(super) stored: StoredOp,
    since: Date,
}

#[derive(Debug, Clone)]
pub(super) struct Superseded {
    pub(super) base: Base,
    pub(super) since: Date,
}

impl State {
    pub(super) fn log(&self, log: &LogName) -> Option<&Log> {
        let channel = self.channels.get(&(log.user.clone(), log.channel.clone()))?;
        channel.logs.get(&(log.kind.clone(), log.path.clone()))
    }

    pub(super) fn append(&mut self, store: StoreId, append: &Append) -> Appended {
        let log = append.log();
        let channel = self.channels.entry((log.user.clone(), log.channel.clone())).or_default();
        let key = (log.kind.clone(), log.path.clone());
        let mut tail = channel.logs.get(&key).map(|kept| kept.tail.clone()).unwrap_or_default();
        let op = match tail.resolve(store, append) {
            Ok(op) => op,
            Err(error) => return Appended::Refused(error),
        };
        let kept = channel.logs.entry(key).or_default();
        if let Some(answer) = kept.answer(append, &op) {
            return answer;
        }
        let sha = op.sha();
        let record = Bytes::from(op.to_record());
        let index = tail.append(&op, record.len());
        channel.position += 1;
        *self.usage.entry(log.user.clone()).or_default() += record.len() as u64;
        let stored = StoredOp { index, sha, record };
        kept.tail = tail;
        kept.shas.insert(sha, index);
        kept.ops.insert(index, Kept { position: channel.position, stored: stored.clone() });
        channel.feed.insert(channel.position, (log.clone(), index));
        Appended::New(Arrival { position: channel.position, log: log.clone(), stored })
    }

    pub(super) fn install(&mut self, install: &Install, checkpoint: &Checkpoint) {
        let Install { log, base, covered, retain, at } = install;
        let channel = self.channels.entry((log.user.clone(), log.channel.clone())).or_default();
        let kept = channel.logs.entry((log.kind.clone(), log.path.clone())).or_default();
        let held = kept.tail.held();
        if !kept.tail.stands_on(&base.sha) {
            kept.replace_base(base, checkpoint, retain.then_some(*at));
        }
        for sha in covered {
            if !kept.covered.insert(*sha) {
                continue;
            }
            kept.tail.cover(sha);
            let Some(op) = kept.shas.remove(sha).and_then(|index| kept.ops.remove(&index)) else { continue };
            channel.feed.remove(&op.position);
            let stored = op.stored;
            kept.tail.remove(sha, stored.record.len());
            if *retain {
                kept.tail.retain(stored.record.len() as u64);
                let generation = checkpoint.generation.get();
                kept.retained.insert(stored.index, Retained { generation, stored, since: *at });
            }
        }
        kept.tail.compare(checkpoint);
        let now = kept.tail.held();
        self.account(&log.user, held, now);
    }

    pub(super) fn dispute(&mut self, log: &LogName, sha: &Sha) {
        if let Some(kept) = self.log_mut(log) {
            kept.tail.dispute(sha);
        }
    }

    pub(super) fn remove(&mut self, log: &LogName, sha: &Sha) {
        let Some(channel) = self.channels.get_mut(&(log.user.clone(), log.channel.clone())) else { return };
        let Some(kept) = channel.logs.get_mut(&(log.kind.clone(), log.path.clone())) else { return };
        let Some(op) = kept.shas.remove(sha).and_then(|index| kept.ops.remove(&index)) else { return };
        channel.feed.remove(&op.position);
        kept.tail.remove(sha, op.stored.record.len());
        self.account(&log.user, op.stored.record.len() as u64, 0);
    }

    pub(super) fn restore(&mut self, log: &LogName) {
        let Some(channel) = self.channels.get_mut(&(log.user.clone(), log.channel.clone())) else { return };
        let Some(kept) = channel.logs.get_mut(&(log.kind.clone(), log.path.clone())) else { return };
        if kept.base.take().is_none() {
            return;
        }
        let held = kept.tail.held();
        for (index, Retained { stored, .. }) in std::mem::take(&mut kept.retained) {
            channel.position += 1;
            channel.feed.insert(channel.position, (log.clone(), index));
            kept.shas.insert(stored.sha, index);
            kept.ops.insert(index, Kept { position: channel.position, stored });
        }
        kept.covered.clear();
        kept.superseded.clear();
        let live = kept.ops.values().map(|op| (op.stored.sha, &op.stored.record[..]));
        kept.tail.restore(live).expect("the records were encoded here");
        let now = kept.tail.held();
        self.account(&log.user, held, now);
    }

    /// Forgets the oldest operations first, then the oldest bases.
    pub(super) fn forget_retained(&mut self, before: Date, max: usize) -> usize {
        let mut due: Vec<(Date, LogName, Due)> = Vec::new();
        for ((user, channel), found) in &self.channels {
            for ((kind, path), kept) in &found.logs {
                if kept.tail.header.base.is_some_and(|base| base.disputed) {
                    continue;
                }
                let (user, channel, kind, path) = (user.clone(), channel.clone(), kind.clone(), path.clone());
                let log = LogName { user, channel, kind, path };
                let ops = kept.retained.iter().map(|(index, op)| (op.since, Due::Op(*index)));
                let bases = kept.superseded.iter().map(|(key, base)| (base.since, Due::Base(*key)));
                let old = ops.chain(bases).filter(|(since, _)| *since < before);
                due.extend(old.map(|(since, what)| (since, log.clone(), what)));
            }
        }
        due.sort_by(|(a_since, a_log, a), (b_since, b_log, b)| {
            let kind = |due: &Due| matches!(due, Due::Base(_));
            (kind(a), a_since, a_log, a).cmp(&(kind(b), b_since, b_log, b))
        });
        due.truncate(max);
        for (_, log, what) in &due {
            let Some(kept) = self.log_mut(log) else { continue };
            let bytes = match what {
                Due::Op(index) => kept.retained.remove(index).map(|op| op.stored.record.len()),
                Due::Base(key) => kept.superseded.remove(key).map(|kept| kept.base.record.len()),
            };
            let bytes = bytes.unwrap_or(0) as u64;
            kept.tail.release(bytes);
            self.account(&log.user, bytes, 0);
        }
        due.len()
    }

    fn log_mut(&mut self, log: &LogName) -> Option<&mut Log> {
        let channel = self.channels.get_mut(&(log.user.clone(), log.channel.clone()))?;
        channel.logs.get_mut(&(log.kind.clone(), log.path.clone()))
    }

    fn account(&mut self, user: &UserName, before: u64, after: u64) {
        let usage = self.usage.entry(user.clone()).or_default();
        *usage = usage.saturating_sub(before) + after;
    }
}

/// What may be forgotten: an operation by its index, a base by its generation and sha.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Op(u64),
    Base((u64, Sha)),
}

impl Log {
    /// Answers an append that writes nothing.
    fn answer(&self, append: &Append, op: &Op) -> Option<Appended> {
        let sha = op.sha();
        if let Some(&index) = self.shas.get(&sha) {
            return Some(Appended::Known { sha, index });
        }
        if self.covered.contains(&sha) {
            return Some(Appended::Covered { sha });
        }
        match append.is_doubted(&self.tail) {
            true => base::doubt(&self.covers(), op),
            false => None,
        }
    }

    fn covers(&self) -> Covers {
        let decode =
            |base: &Base| Checkpoint::from_trusted(&base.record).expect("it was decoded when it was installed");
        self.base.as_ref().map(decode).map(|checkpoint| checkpoint.covers).unwrap_or_default()
    }

    /// Puts `base` in the place of the one before, which is kept if there is a time since when.
    fn replace_base(&mut self, base: &Base, checkpoint: &Checkpoint, since: Option<Date>) {
        let generation = checkpoint.generation.get();
        if let Some(again) = self.superseded.remove(&(generation, base.sha)) {
            self.tail.release(again.base.record.len() as u64);
        }
        let before = self.tail.header.base.map(|before| before.id).zip(self.base.replace(base.clone()));
        if let (Some((id, before)), Some(since)) = (before, since) {
            self.tail.retain(before.record.len() as u64);
            self.superseded.insert((id.generation.get(), id.sha), Superseded { base: before, since });
        }
        self.tail.rebase(base, checkpoint);
    }
}
