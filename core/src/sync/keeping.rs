//! What goes to the local store, in which batches, and what happens when it cannot be written.
//!
//! The disk is always a prefix of what happened: batches are written one after the other in the order in which they were
//! made, and behind one that failed everything waits until it is there.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{Notice, Output, PersistId, Record, Replica};
use crate::date::Date;
use crate::name::LogName;
use crate::op::{Op, OrderKey};

/// How long records that nothing waits for may stay unwritten, in microseconds.
const LAZY_MICROS: i64 = 300_000;
/// How long after a failed write the local store is tried again, in microseconds.
const RETRY_MICROS: i64 = 5_000_000;

/// What is on its way to the local store.
#[derive(Default)]
pub(super) struct Keeping {
    /// Records that may wait for the next batch, and until when.
    lazy: Vec<Record>,
    lazy_until: Option<Date>,
    /// Batches in their order, none of which was handed out yet.
    queue: VecDeque<Vec<Record>>,
    /// What is being written.
    writing: Option<(PersistId, Vec<Record>)>,
    last: u64,
    /// Logs whose lists are to be read once the local store has taken all that it was given of them.
    lists: BTreeSet<LogName>,
    trouble: Option<Trouble>,
}

/// The local store could not be written.
struct Trouble {
    why: String,
    retry_at: Date,
}

impl Keeping {
    /// Returns when something is to be done.
    pub(super) fn due_at(&self) -> Option<Date> {
        self.lazy_until.into_iter().chain(self.trouble.as_ref().map(|trouble| trouble.retry_at)).min()
    }

    /// Takes note that the clock was put back.
    pub(super) fn clock_went_back(&mut self, micros: i64) {
        let times = self.lazy_until.iter_mut().chain(self.trouble.as_mut().map(|trouble| &mut trouble.retry_at));
        times.for_each(|at| *at = at.plus(-micros));
    }

    /// Tells whether the local store has taken all that it was given of a log, but for how far stores were read.
    fn is_kept(&self, name: &LogName) -> bool {
        let writing = self.writing.iter().flat_map(|(_, records)| records);
        let mut records = writing.chain(self.queue.iter().flatten()).chain(&self.lazy);
        !records.any(|record| record.log() == name && !matches!(record, Record::Seen { .. }))
    }

    /// Takes the batches that are written next: as many as mean the same in one commit as one after the other.
    fn next_batch(&mut self) -> Option<Vec<Record>> {
        let mut reached: BTreeMap<&LogName, Turn> = BTreeMap::new();
        let mut count = 0;
        for batch in &self.queue {
            let turns = || batch.iter().filter_map(|record| Some((record.log(), record.turn()?)));
            if turns().any(|(log, turn)| reached.get(log).is_some_and(|reached| turn < *reached)) {
                break;
            }
            for (log, turn) in turns() {
                reached.entry(log).and_modify(|reached| *reached = turn.max(*reached)).or_insert(turn);
            }
            count += 1;
        }
        self.queue.drain(..count).reduce(|mut all, next| {
            all.extend(next);
            all
        })
    }
}

/// Which turn a record has within a commit of the storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Turn {
    Append,
    Install,
    Remove,
    Restore,
}

impl Record {
    /// Returns the log that it is about.
    pub fn log(&self) -> &LogName {
        match self {
            Self::Op { log, .. }
            | Self::Base { log, .. }
            | Self::Restore { log }
            | Self::Forget { log, .. }
            | Self::Seen { log, .. }
            | Self::Pending { log, .. }
            | Self::Name { log, .. }
            | Self::Seed { log, .. }
            | Self::Shown { log, .. } => log,
        }
    }

    /// Returns its turn, if that matters.
    fn turn(&self) -> Option<Turn> {
        match self {
            Self::Op { .. } => Some(Turn::Append),
            Self::Base { .. } => Some(Turn::Install),
            Self::Forget { .. } => Some(Turn::Remove),
            Self::Restore { .. } => Some(Turn::Restore),
            Self::Seen { .. } | Self::Pending { .. } | Self::Shown { .. } | Self::Name { .. } | Self::Seed { .. } => {
                None
            }
        }
    }
}

impl Replica {
    /// Hands records to the local store as one batch, with those that waited for company.
    pub(super) fn persist(&mut self, records: Vec<Record>) {
        let keeping = &mut self.keeping;
        if !self.config.durable || (records.is_empty() && keeping.lazy.is_empty()) {
            return;
        }
        keeping.lazy_until = None;
        let mut batch = std::mem::take(&mut keeping.lazy);
        batch.extend(records);
        if let Some(trouble) = &keeping.trouble {
            // It waits behind what failed, and whoever wrote it hears why.
            let why = trouble.why.clone();
            self.answer_all(&batch, Some(&why));
            drop_seen(&mut batch);
        }
        self.keeping.queue.push_back(batch);
        self.write_next();
    }

    /// Keeps a record for the next batch, or for a batch of its own a little later.
    pub(super) fn persist_lazily(&mut self, record: Record) {
        if self.config.durable {
            self.keeping.lazy.push(record);
            self.keeping.lazy_until.get_or_insert(self.now.plus(LAZY_MICROS));
        }
    }

    fn write_next(&mut self) {
        let keeping = &mut self.keeping;
        if keeping.writing.is_some() || keeping.trouble.is_some() {
            return;
        }
        let Some(records) = keeping.next_batch() else { return };
        keeping.last += 1;
        let id = PersistId(keeping.last);
        keeping.writing = Some((id, records.clone()));
        self.outputs.push_back(Output::Persist { id, records });
    }

    pub(super) fn persisted(&mut self, id: PersistId, failed: Option<String>) {
        let Some((_, mut records)) = self.keeping.writing.take_if(|(writing, _)| *writing == id) else { return };
        self.answer_all(&records, failed.as_deref());
        let Some(why) = failed else {
            self.write_next();
            let logs: BTreeSet<LogName> = records.iter().map(|record| record.log().clone()).collect();
            logs.iter().for_each(|log| self.meets_a_table(log));
            return self.read_lists();
        };
        let waiting = std::mem::take(&mut self.keeping.queue);
        waiting.iter().for_each(|batch| self.answer_all(batch, Some(&why)));
        drop_seen(&mut records);
        let keeping = &mut self.keeping;
        // Answering may have made more to write.
        let made = std::mem::take(&mut keeping.queue);
        keeping.queue.push_back(records);
        keeping.queue.extend(waiting.into_iter().chain(made));
        keeping.trouble = Some(Trouble { why, retry_at: self.now.plus(RETRY_MICROS) });
    }

    /// Brings the disk's word into the receipts of what was written, and has it sent.
    fn answer_all(&mut self, records: &[Record], failed: Option<&str>) {
        let mut sendable: BTreeMap<LogName, Vec<OrderKey>> = BTreeMap::new();
        for record in records {
            if let Record::Op { log, op } = record {
                self.answer(log, op, failed);
                let known = self.log_mut(log);
                if failed.is_none() {
                    known.replacing.remove(&op.sha());
                }
                // What the disk refuses still goes to the stores: that is where it is safest now.
                if !known.replacing.contains(&op.sha()) && known.unsaved.remove(&op.sha()) {
                    sendable.entry(log.clone()).or_default().push(op.key());
                }
            }
        }
        for (log, keys) in sendable {
            self.may_send(&log, &keys);
        }
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

    /// Tells whether the local store has taken all that it was given of a log.
    pub(super) fn is_kept(&self, name: &LogName) -> bool {
        self.logs.get(name).is_none_or(|log| log.unsaved.is_empty()) && self.keeping.is_kept(name)
    }

    /// Has the list of what a log's base covers read from the local store, once it is there.
    pub(super) fn list_when_kept(&mut self, name: &LogName) {
        self.keeping.lists.insert(name.clone());
        self.read_lists();
    }

    fn read_lists(&mut self) {
        let (kept, later) = std::mem::take(&mut self.keeping.lists).into_iter().partition(|log| self.is_kept(log));
        self.keeping.lists = later;
        let kept: BTreeSet<LogName> = kept;
        self.outputs.extend(kept.into_iter().map(|log| Output::List { log }));
    }

    pub(super) fn run_disk_timers(&mut self) {
        if self.keeping.lazy_until.is_some_and(|until| until <= self.now) {
            self.persist(Vec::new());
        }
        if self.keeping.trouble.take_if(|trouble| trouble.retry_at <= self.now).is_some() {
            self.write_next();
        }
    }

    /// Writes at once what may wait, because the process is about to end.
    pub fn settle_records(&mut self) {
        self.persist(Vec::new());
    }

    /// Tells whether nothing that was handed to the local store is still unanswered.
    pub fn is_saved(&self) -> bool {
        let Keeping { lazy, queue, writing, trouble, .. } = &self.keeping;
        writing.is_none() && lazy.is_empty() && (queue.is_empty() || trouble.is_some())
    }
}

/// Drops how far stores were read: it only saves reading again, and would pile up while the disk cannot be written.
fn drop_seen(records: &mut Vec<Record>) {
    records.retain(|record| !matches!(record, Record::Seen { .. }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::Base;
    use crate::id::Sha;

    fn log(path: &str) -> LogName {
        LogName::parse("me", "home", "raw", path).unwrap()
    }

    fn forget(path: &str) -> Record {
        Record::Forget { log: log(path), sha: Sha::of(b"op") }
    }

    fn base(path: &str) -> Record {
        let base = Base { sha: Sha::of(b"base"), record: bytes::Bytes::new(), certificate: String::new() };
        Record::Base { log: log(path), base, covered: Vec::new(), archive: true }
    }

    fn restore(path: &str) -> Record {
        Record::Restore { log: log(path) }
    }

    #[test]
    fn what_a_commit_would_do_in_another_order_waits_for_the_next_one() {
        let mut keeping = Keeping::default();
        keeping.queue.extend([vec![base("/a")], vec![forget("/a")], vec![base("/b")], vec![restore("/a")]]);
        keeping.queue.extend([vec![base("/a")], vec![base("/b")]]);
        let first = keeping.next_batch().unwrap();
        assert_eq!(first, [base("/a"), forget("/a"), base("/b"), restore("/a")]);
        assert_eq!(keeping.next_batch().unwrap(), [base("/a"), base("/b")]);
        assert_eq!(keeping.next_batch(), None);
    }
}
