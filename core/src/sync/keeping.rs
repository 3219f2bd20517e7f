//! What goes to the local store, in which batches, and what happens when it cannot be written.

use std::collections::{BTreeMap, BTreeSet};

use super::log::{Installed, Log};
use super::{Notice, Output, PersistId, Record, Replica};
use crate::id::Sha;
use crate::name::LogName;
use crate::op::{Op, OrderKey};

/// How long records that nothing waits for may stay unwritten, in microseconds.
const LAZY_MICROS: i64 = 300_000;
/// How long after a failed write the local store is tried again, in microseconds.
const RETRY_PERSIST_MICROS: i64 = 5_000_000;

impl Replica {
    /// Hands records to the local store as one batch, with those that waited for company.
    pub(super) fn persist(&mut self, mut records: Vec<Record>) {
        if !self.config.durable || (records.is_empty() && self.lazy.is_empty()) {
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
    pub(super) fn persist_lazily(&mut self, record: Record) {
        if self.config.durable {
            self.lazy.push(record);
            self.lazy_until.get_or_insert(self.now.plus(LAZY_MICROS));
        }
    }

    pub(super) fn persisted(&mut self, id: PersistId, failed: Option<String>) {
        let Some(records) = self.batches.remove(&id) else { return };
        let mut sendable: BTreeMap<LogName, Vec<OrderKey>> = BTreeMap::new();
        let mut kept: BTreeSet<LogName> = BTreeSet::new();
        for record in &records {
            if let Record::Op { log, op } = record {
                self.answer(log, op, failed.as_deref());
                let known = self.log_mut(log);
                if failed.is_none() {
                    known.replacing.remove(&op.sha());
                    kept.insert(log.clone());
                }
                // What the disk refuses still goes to the stores: that is where it is safest now.
                if !known.replacing.contains(&op.sha()) && known.unsaved.remove(&op.sha()) {
                    sendable.entry(log.clone()).or_default().push(op.key());
                }
            }
        }
        if failed.is_some() {
            let news = records.into_iter().filter(|record| !matches!(record, Record::Seen { .. }));
            self.failed.extend(news);
            self.retry_persist_at.get_or_insert(self.now.plus(RETRY_PERSIST_MICROS));
        }
        for (log, keys) in sendable {
            self.may_send(&log, &keys);
        }
        for log in kept {
            self.meets_a_table(&log);
        }
    }

    /// Tells whether the local store has taken every operation that it was given of a log.
    pub(super) fn is_kept(&self, name: &LogName) -> bool {
        let saved = self.logs.get(name).is_none_or(|log| log.unsaved.is_empty());
        saved && !self.failed.iter().any(|record| matches!(record, Record::Op { log, .. } if log == name))
    }

    /// Brings the disk's word into the receipt of a push.
    fn answer(&mut self, log: &LogName, op: &Op, failed: Option<&str>) {
        let push = self.logs.get(log).and_then(|log| log.pushes.get(&op.sha()));
        if let Some(receipt) = push.and_then(|push| self.receipts.get_mut(push)) {
            receipt.durable = failed.is_none();
            receipt.local_error = failed.map(str::to_owned);
            let receipt = receipt.clone();
            self.notify(Notice::Receipt(receipt));
        }
    }

    /// Writes again what could not be written, as far as it still holds.
    fn persist_failed(&mut self) {
        let mut records = std::mem::take(&mut self.failed);
        records.retain(|record| match record {
            Record::Op { log, op } => self.logs.get(log).is_some_and(|log| log.has(&op.sha())),
            Record::Base { log, base, .. } => {
                let own = self.logs.get(log).and_then(|log| log.base.as_ref());
                own.is_some_and(|own| own.id.sha == base.sha)
            }
            // A base came in the place of what was to be taken back.
            Record::Restore { log } => {
                self.logs.get(log).is_none_or(|log| !log.base.as_ref().is_some_and(Installed::is_committed))
            }
            _ => true,
        });
        for record in &mut records {
            if let Record::Pending { log, sha, .. } | Record::Shown { log, sha } = record {
                *record = self.standing_of(log, *sha);
            }
        }
        self.persist(records);
    }

    /// Returns the record of whether some store lacks an operation, as it is now.
    fn standing_of(&self, name: &LogName, sha: Sha) -> Record {
        let log = self.logs.get(name);
        let key = log.and_then(|log| log.oplog.get(&sha)).map(Op::key);
        let among = |keys: fn(&Log) -> &BTreeSet<OrderKey>| {
            log.zip(key.as_ref()).is_some_and(|(log, key)| keys(log).contains(key))
        };
        match among(|log| &log.shown) {
            true => Record::Shown { log: name.clone(), sha },
            false => Record::Pending { log: name.clone(), sha, pending: among(|log| &log.pending) },
        }
    }

    pub(super) fn run_disk_timers(&mut self) {
        if self.lazy_until.is_some_and(|until| until <= self.now) {
            self.persist(Vec::new());
        }
        if self.retry_persist_at.is_some_and(|at| at <= self.now) {
            self.retry_persist_at = None;
            self.persist_failed();
        }
    }

    /// Writes at once what may wait, because the process is about to end.
    pub fn settle_records(&mut self) {
        self.persist(Vec::new());
    }

    /// Tells whether nothing that was handed to the local store is still unanswered.
    pub fn is_saved(&self) -> bool {
        self.batches.is_empty() && self.lazy.is_empty()
    }
}
