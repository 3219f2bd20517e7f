//! The data at one moment, as reads and commits see it.

use std::ops::RangeBounds;

use ::fjall::{Guard, Readable as _, Snapshot};
use gigfs_core::{Base, ChannelName, LogName, Op, Sha, UserName};

use super::row::{BaseRow, ChannelRow, LogRow, OpRow};
use super::{Db, Failure, Space, key, named};

/// The data at one moment.
pub(super) struct View<'d> {
    pub(super) db: &'d Db,
    pub(super) snapshot: Snapshot,
}

impl View<'_> {
    pub(super) fn get(&self, space: Space, key: &[u8]) -> Result<Option<::fjall::UserValue>, Failure> {
        Ok(self.snapshot.get(self.db.space(space), key)?)
    }

    pub(super) fn channel(&self, user: &UserName, channel: &ChannelName) -> Result<Option<ChannelRow>, Failure> {
        let value = self.get(Space::Channels, &key::channel(user, channel))?;
        value.map(|value| ChannelRow::decode(&value, user, channel)).transpose()
    }

    pub(super) fn log(&self, log: &LogName) -> Result<Option<LogRow>, Failure> {
        let value = self.get(Space::Logs, &key::log(log))?;
        value.map(|value| LogRow::decode(&value, log)).transpose()
    }

    /// Returns the records of a log after an index, in order.
    pub(super) fn ops(&self, log: u64, after: u64) -> impl DoubleEndedIterator<Item = Guard> {
        let from = key::op(log, after.saturating_add(1));
        self.range(Space::Ops, from..=key::op(log, u64::MAX))
    }

    /// Returns what a keyspace holds in a range of keys.
    pub(super) fn range<K: AsRef<[u8]>, R: RangeBounds<K>>(
        &self,
        space: Space,
        keys: R,
    ) -> impl DoubleEndedIterator<Item = Guard> + use<K, R> {
        self.snapshot.range(self.db.space(space), keys)
    }

    /// Returns the base that a log stands on.
    pub(super) fn base(&self, log: &LogName, row: &LogRow) -> Result<Option<Base>, Failure> {
        let Some(own) = row.tail.header.base else { return Ok(None) };
        let value = self.get(Space::Bases, &key::base(row.id, own.id.generation.get(), &own.id.sha))?;
        let value = value.ok_or_else(|| Failure::damaged(named(log), "its base is missing"))?;
        Ok(Some(BaseRow::decode(&value, log)?.base(own.id.sha)))
    }

    /// Returns the base of a generation: the log's own, or else the one that was superseded last.
    pub(super) fn base_of(&self, log: &LogName, row: &LogRow, generation: u64) -> Result<Option<Base>, Failure> {
        let Some(own) = row.tail.header.base else { return Ok(None) };
        if own.id.generation.get() == generation {
            return self.base(log, row);
        }
        let [from, to] = [[0; 32], [0xff; 32]].map(|sha| key::base(row.id, generation, &Sha::from_bytes(sha)));
        let mut found: Option<(u64, Base)> = None;
        for guard in self.range(Space::Bases, from..=to) {
            let (key, value) = guard.into_inner()?;
            let base = BaseRow::decode(&value, log)?;
            if found.as_ref().is_none_or(|(since, _)| *since <= base.since) {
                let sha =
                    key::last_sha(&key).ok_or_else(|| Failure::damaged(named(log), "a key of it is too short"))?;
                found = Some((base.since, base.base(sha)));
            }
        }
        Ok(found.map(|(_, base)| base))
    }

    /// Checks that the newest record is the one that the log's row names, and is whole, and that the base is there.
    pub(super) fn verify(&self, log: &LogName, row: &LogRow) -> Result<(), Failure> {
        self.base(log, row)?;
        let newest = self.ops(row.id, 0).next_back().map(Guard::into_inner).transpose()?;
        let Some((key, value)) = newest else {
            return match row.tip {
                0 => Ok(()),
                tip => Err(Failure::damaged(named(log), format!("its newest record, {tip}, is missing"))),
            };
        };
        let index = key::last_number(&key).unwrap_or(0);
        if index != row.tip || row.tip > row.tail.header.last_index {
            let why = format!("its newest record is {index} and should be {}", row.tip);
            return Err(Failure::damaged(named(log), why));
        }
        let op = OpRow::decode(&value, log)?;
        Op::from_record(log, op.record, Some(op.sha)).map_err(|error| Failure::damaged(named(log), error))?;
        match self.get(Space::Shas, &key::sha(row.id, &op.sha))? {
            Some(known) if key::last_number(&known) == Some(index) => Ok(()),
            _ => Err(Failure::damaged(named(log), format!("its record {index} is not in the index of shas"))),
        }
    }
}
