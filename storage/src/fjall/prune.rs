//! What a commit does about bases, and how what they cover is forgotten.

use std::collections::BTreeMap;

use gigfs_core::{Checkpoint, Date, LogName, Op, Sha};

use super::key::{Due, DueKind};
use super::row::{BaseRow, LogRow, OpRow, RetainedRow};
use super::write::Work;
use super::{Failure, Space, key, named};
use crate::base;
use crate::engine::{Append, Appended, Install, LogTail};

impl Work<'_> {
    /// Answers an append to a log that has a base, of an operation that is not live, if it writes nothing.
    pub(super) fn answer(&mut self, row: &LogRow, append: &Append, op: &Op) -> Result<Option<Appended>, Failure> {
        let (sha, log) = (op.sha(), append.log());
        if self.get(Space::Covered, &key::sha(row.id, &sha))?.is_some() {
            return Ok(Some(Appended::Covered { sha }));
        }
        if !append.is_doubted(&row.tail) {
            return Ok(None);
        }
        if !self.covers.contains_key(&row.id) {
            let record = self.view.base(log, row)?.map(|base| base.record).unwrap_or_default();
            let checkpoint = Checkpoint::from_trusted(&record).map_err(|error| Failure::damaged(named(log), error))?;
            self.covers.insert(row.id, checkpoint.covers);
        }
        Ok(self.covers.get(&row.id).and_then(|covers| base::doubt(covers, op)))
    }

    pub(super) fn install(&mut self, install: &Install, checkpoint: &Checkpoint) -> Result<(), Failure> {
        let log = &install.log;
        let mut row = match self.log(log)? {
            Some(row) => row,
            None => {
                self.ensure_channel(&log.user, &log.channel)?;
                LogRow { id: self.create_log(log)?, tip: 0, tail: LogTail::default() }
            }
        };
        let held = row.tail.held();
        if !row.tail.stands_on(&install.base.sha) {
            self.replace_base(&mut row, install, checkpoint)?;
        }
        let (generation, since) = (checkpoint.generation.get(), install.at.micros());
        for sha in &install.covered {
            let covered = key::sha(row.id, sha);
            if self.get(Space::Covered, &covered)?.is_some() {
                continue;
            }
            self.put(Space::Covered, covered, Some(Vec::new()));
            row.tail.cover(sha);
            let Some((index, value)) = self.take_out(log, &mut row, sha)? else { continue };
            if install.retain {
                let record = OpRow::decode(&value, log)?.record;
                let at = key::op(row.id, index);
                let kept = RetainedRow { generation, since, sha: *sha, record };
                self.put(Space::Retained, at, Some(kept.encode()));
                self.due(DueKind::Op, since, &at, true);
                row.tail.retain(record.len() as u64);
            }
        }
        row.tail.compare(checkpoint);
        self.account(&log.user, held, row.tail.held())?;
        self.touched.0.insert(log.clone(), row);
        Ok(())
    }

    /// Puts the installed base in the place of the one before.
    fn replace_base(&mut self, row: &mut LogRow, install: &Install, checkpoint: &Checkpoint) -> Result<(), Failure> {
        let (log, base) = (&install.log, &install.base);
        if let Some(before) = row.tail.header.base {
            let at = key::base(row.id, before.id.generation.get(), &before.id.sha);
            let value = self.get(Space::Bases, &at)?;
            let value = value.ok_or_else(|| Failure::damaged(named(log), "its base is missing"))?;
            let superseded = BaseRow { since: install.at.micros(), ..BaseRow::decode(&value, log)? };
            self.put(Space::Bases, at, install.retain.then(|| superseded.encode()));
            if install.retain {
                self.due(DueKind::Base, superseded.since, &at, true);
                row.tail.retain(superseded.record.len() as u64);
            }
        }
        let at = key::base(row.id, checkpoint.generation.get(), &base.sha);
        // It may have been the log's base before, and be retained as that.
        if let Some(value) = self.get(Space::Bases, &at)? {
            let again = BaseRow::decode(&value, log)?;
            self.due(DueKind::Base, again.since, &at, false);
            row.tail.release(again.record.len() as u64);
        }
        let own = BaseRow { since: 0, certificate: &base.certificate, record: &base.record };
        self.put(Space::Bases, at, Some(own.encode()));
        row.tail.rebase(base, checkpoint);
        Ok(())
    }

    pub(super) fn dispute(&mut self, log: &LogName, sha: &Sha) -> Result<(), Failure> {
        let Some(mut row) = self.log(log)? else { return Ok(()) };
        if row.tail.dispute(sha) {
            self.touched.0.insert(log.clone(), row);
        }
        Ok(())
    }

    pub(super) fn restore(&mut self, log: &LogName) -> Result<(), Failure> {
        let Some(mut row) = self.log(log)? else { return Ok(()) };
        let Some(own) = row.tail.header.base else { return Ok(()) };
        let held = row.tail.held();
        let (first, last) = (key::op(row.id, 0), key::op(row.id, u64::MAX));
        for (at, value) in self.present(Space::Retained, &first, &last)? {
            let kept = RetainedRow::decode(&value, log)?;
            let channel = self.arrive(&log.user, &log.channel)?;
            let op = OpRow { sha: kept.sha, position: channel.position, record: kept.record };
            let index = key::last_number(&at).unwrap_or(0);
            self.put(Space::Ops, at.clone(), Some(op.encode()));
            self.put(Space::Shas, key::sha(row.id, &kept.sha), Some(index.to_be_bytes().to_vec()));
            let feed = key::feed(channel.id, channel.position);
            self.put(Space::Feed, feed, Some(key::pair(row.id, index).to_vec()));
            self.due(DueKind::Op, kept.since, &at, false);
            self.put(Space::Retained, at, None);
        }
        let (from, to) = [[0; 32], [0xff; 32]].map(|sha| key::sha(row.id, &Sha::from_bytes(sha))).into();
        for (at, _) in self.present(Space::Covered, &from, &to)? {
            self.put(Space::Covered, at, None);
        }
        let to = key::base(row.id, u64::MAX, &Sha::from_bytes([0xff; 32]));
        for (at, value) in self.present(Space::Bases, &first, &to)? {
            if key::base_id(&at) != Some((own.id.generation.get(), own.id.sha)) {
                self.due(DueKind::Base, BaseRow::decode(&value, log)?.since, &at, false);
            }
            self.put(Space::Bases, at, None);
        }
        let live = self.present(Space::Ops, &first, &last)?;
        let ops: Vec<_> = live.values().map(|value| OpRow::decode(value, log)).collect::<Result<_, _>>()?;
        let restored = row.tail.restore(ops.iter().map(|op| (op.sha, op.record)));
        restored.map_err(|error| Failure::damaged(named(log), error))?;
        row.tip = live.keys().next_back().and_then(|at| key::last_number(at)).unwrap_or(0);
        self.tips_gone.remove(log);
        self.account(&log.user, held, row.tail.held())?;
        self.touched.0.insert(log.clone(), row);
        Ok(())
    }

    /// Forgets the oldest operations first, then the oldest bases.
    pub(super) fn forget(&mut self, before: Date, max: usize) -> Result<usize, Failure> {
        let mut names = BTreeMap::new();
        let mut forgotten = 0;
        for kind in [DueKind::Op, DueKind::Base] {
            let mut from = Due::from(kind, 0);
            let to = Due::from(kind, before.micros());
            'leap: while forgotten < max {
                let range = self.view.range(Space::Since, from.clone()..to.clone());
                for guard in range {
                    let key = guard.key()?;
                    let due = Due::parse(kind, &key)
                        .ok_or_else(|| Failure::damaged("the index of what is retained", "a key is too short"))?;
                    if !self.forget_one(&due, &mut names)? {
                        from = due.leap();
                        continue 'leap;
                    }
                    forgotten += 1;
                    if forgotten >= max {
                        break;
                    }
                }
                break;
            }
        }
        Ok(forgotten)
    }

    /// Forgets one that is retained, unless its log's base is disputed. Tells whether it did. A damaged log is named, and
    /// does not keep others from forgetting.
    fn forget_one(&mut self, due: &Due, names: &mut BTreeMap<u64, LogName>) -> Result<bool, Failure> {
        match self.try_to_forget(due, names) {
            Err(Failure::Damaged { what, why }) => {
                tracing::warn!(what, why, "damaged; what is retained of it is not forgotten");
                Ok(false)
            }
            result => result,
        }
    }

    fn try_to_forget(&mut self, due: &Due, names: &mut BTreeMap<u64, LogName>) -> Result<bool, Failure> {
        let log = match names.get(&due.log) {
            Some(log) => log.clone(),
            None => {
                let name = self.get(Space::Names, &due.log.to_be_bytes())?;
                let damaged = || Failure::damaged("the index of what is retained", "it names a log that is not there");
                let log = key::log_name(&name.ok_or_else(damaged)?)?;
                names.insert(due.log, log.clone());
                log
            }
        };
        let missing = || Failure::damaged(named(&log), "what is retained of it is missing");
        let mut row = self.log(&log)?.ok_or_else(missing)?;
        if row.tail.header.base.is_some_and(|base| base.disputed) {
            return Ok(false);
        }
        let space = match due.kind {
            DueKind::Op => Space::Retained,
            DueKind::Base => Space::Bases,
        };
        let at = due.place();
        let value = self.get(space, &at)?.ok_or_else(missing)?;
        let bytes = match due.kind {
            DueKind::Op => RetainedRow::decode(&value, &log)?.record.len(),
            DueKind::Base => BaseRow::decode(&value, &log)?.record.len(),
        };
        self.put(space, at, None);
        self.put(Space::Since, due.key(), None);
        row.tail.release(bytes as u64);
        self.account(&log.user, bytes as u64, 0)?;
        self.touched.0.insert(log, row);
        Ok(true)
    }

    /// Enters what stands under `key` in `retained` or `bases` into the index by time, or takes it out.
    fn due(&mut self, kind: DueKind, since: u64, key: &[u8], is_kept: bool) {
        if let Some(due) = Due::of(kind, since, key) {
            self.put(Space::Since, due.key(), is_kept.then(Vec::new));
        }
    }

    /// Returns what a keyspace holds from one key to another, both included, as the batch has left it so far.
    fn present(&self, space: Space, from: &[u8], to: &[u8]) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, Failure> {
        let mut found = BTreeMap::new();
        for guard in self.view.range(space, from..=to) {
            let (key, value) = guard.into_inner()?;
            found.insert(key.to_vec(), value.to_vec());
        }
        for ((_, key), value) in self.staged.range((space, from.to_vec())..=(space, to.to_vec())) {
            match value {
                Some(value) => found.insert(key.clone(), value.clone()),
                None => found.remove(key),
            };
        }
        Ok(found)
    }
}
