//! The one thread that writes: it takes all pushes that wait, commits them with one sync, and answers each.
//!
//! A push is acknowledged after the commit that holds it, never before. A commit that fails refuses the pushes in it and
//! nothing else: those after it are tried as if nothing had happened. What seals a channel comes through here like the
//! pushes, so each push is either on disk before the seal or refused because of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use bytes::Bytes;
use gigfs_core::api::PushResult;
use gigfs_core::wire::Tag;
use gigfs_core::{ErrorCode, LogName, Refusal, UserName};
use gigfs_storage::{Appended, Batch, Engine, StorageError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::feed::Hub;
use crate::metric::Metrics;
use crate::mirror::{self, Follower, Mirror};
use crate::push::Admitted;
use crate::quota::Quotas;
use crate::refusal;
use crate::seal::{Sealing, Seals};

/// Notes to write.
pub(crate) type Notes = Vec<(Bytes, Option<Bytes>)>;

/// The way to the writing thread.
#[derive(Clone)]
pub(crate) struct Commits {
    queue: mpsc::Sender<Job>,
    /// Room for the operations that wait, in units of [`ROOM_UNIT_BYTES`].
    room: Arc<Semaphore>,
}

/// What became of a push: one result an operation, or why it is refused as a whole.
pub(crate) type Outcome = Result<Vec<PushResult>, Refusal>;

/// Where the results of a push go.
pub(crate) enum Reply {
    /// To a handler that waits.
    Http(oneshot::Sender<Outcome>),
    /// Into a stream.
    Stream(mpsc::Sender<Answer>, Tag, OwnedSemaphorePermit),
}

/// The answer to a push over a stream.
pub(crate) struct Answer {
    pub(crate) tag: Tag,
    pub(crate) outcome: Outcome,
    /// The request's place among those that the stream has unanswered.
    pub(crate) permit: OwnedSemaphorePermit,
}

struct Push {
    admitted: Admitted,
    reply: Reply,
    /// Given back when the push is answered.
    _room: Option<OwnedSemaphorePermit>,
}

/// Something to write that is no push.
struct Write {
    batch: Batch,
    /// The log that has another base by it.
    pruned: Option<LogName>,
    done: Done,
}

pub(crate) type Done = oneshot::Sender<Result<(), Refusal>>;

/// Something that is queued and will be on disk.
#[must_use]
pub(crate) struct Written(oneshot::Receiver<Result<(), Refusal>>);

impl Written {
    /// Returns when it is on disk. Blocks the thread.
    pub(crate) fn wait(self) -> Result<(), Refusal> {
        self.0.blocking_recv().map_err(|_| refusal::stopping())?
    }
}

enum Job {
    Push(Push),
    Write(Write),
    Seal(Sealing, Done),
    Stop,
}

impl Reply {
    /// Sends the results; whoever does not wait any more does not need them.
    pub(crate) fn send(self, outcome: Outcome) {
        match self {
            Self::Http(waiting) => drop(waiting.send(outcome)),
            // There is room: the queue has as many places as there are permits.
            Self::Stream(answers, tag, permit) => drop(answers.try_send(Answer { tag, outcome, permit })),
        }
    }
}

impl Commits {
    /// Starts the thread, which ends with the last way to it, or when it is told to stop.
    pub(crate) fn start(
        engine: Arc<dyn Engine>,
        hub: Arc<Hub>,
        metrics: Metrics,
        seals: Seals,
        quotas: Quotas,
        mirror: Option<Mirror>,
    ) -> (Self, JoinHandle<()>) {
        let (queue, jobs) = mpsc::channel(QUEUED_JOBS_MAX);
        let mirror = mirror.map(|mirror| Follower::start(mirror, engine.clone()));
        let writer = Writer { engine, hub, metrics, seals, quotas, mirror };
        let thread = std::thread::Builder::new().name("gigfs-commit".to_owned()).spawn(move || writer.run(jobs));
        let room = Arc::new(Semaphore::new(QUEUED_BYTES_MAX / ROOM_UNIT_BYTES));
        (Self { queue, room }, thread.expect("the system starts one more thread at the start"))
    }

    /// Queues a push, and waits while there are too many, or too many bytes of them.
    pub(crate) async fn push(&self, admitted: Admitted, reply: Reply) -> Result<(), Refusal> {
        let units = (admitted.size().min(QUEUED_BYTES_MAX) / ROOM_UNIT_BYTES) as u32;
        let room = self.room.clone().acquire_many_owned(units).await.map_err(|_| refusal::stopping())?;
        let push = Push { admitted, reply, _room: Some(room) };
        self.queue.send(Job::Push(push)).await.map_err(|_| refusal::stopping())
    }

    /// Writes notes, and returns when they are on disk. Blocks the thread.
    pub(crate) fn notes(&self, notes: Notes) -> Result<(), Refusal> {
        self.write(Batch { notes, ..Batch::default() }, None)
    }

    /// Queues notes to be written after all that was queued before. Blocks the thread while there is no place.
    pub(crate) fn queue_notes(&self, notes: Notes) -> Result<Written, Refusal> {
        let batch = Batch { notes, ..Batch::default() };
        self.queue(|done| Job::Write(Write { batch, pruned: None, done }))
    }

    /// Writes a batch that appends nothing, and returns when it is on disk. If a log has another base by it, whoever
    /// watches the log is told. Blocks the thread.
    pub(crate) fn write(&self, batch: Batch, pruned: Option<LogName>) -> Result<(), Refusal> {
        self.done(|done| Job::Write(Write { batch, pruned, done }))
    }

    /// Seals channels or opens them, and returns when that is on disk, and every push that was accepted before it. Blocks
    /// the thread.
    pub(crate) fn seal(&self, sealing: Sealing) -> Result<(), Refusal> {
        self.done(|done| Job::Seal(sealing, done))
    }

    fn done(&self, job: impl FnOnce(Done) -> Job) -> Result<(), Refusal> {
        self.queue(job)?.wait()
    }

    fn queue(&self, job: impl FnOnce(Done) -> Job) -> Result<Written, Refusal> {
        let (done, written) = oneshot::channel();
        self.queue.blocking_send(job(done)).map_err(|_| refusal::stopping())?;
        Ok(Written(written))
    }

    /// Has the thread end after what is queued now.
    pub(crate) async fn stop(&self) {
        drop(self.queue.send(Job::Stop).await);
    }

    /// Tells whether the thread still takes jobs.
    pub(crate) fn is_running(&self) -> bool {
        !self.queue.is_closed()
    }
}

struct Writer {
    engine: Arc<dyn Engine>,
    hub: Arc<Hub>,
    metrics: Metrics,
    /// What a seal's own commit has left: nothing else changes it.
    seals: Seals,
    quotas: Quotas,
    /// Nothing where nothing is kept on a disk.
    mirror: Option<Follower>,
}

impl Writer {
    fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        let mut stopped = false;
        while !stopped && let Some(first) = jobs.blocking_recv() {
            let mut waiting = Vec::new();
            let mut size = 0;
            let mut next = Some(first);
            while let Some(job) = next {
                // What comes after it is decided on once it is on disk.
                let is_last = matches!(job, Job::Seal(..));
                match job {
                    Job::Stop => {
                        stopped = true;
                        // Nothing can be queued any more; what is there is still written.
                        jobs.close();
                    }
                    job => {
                        size += job.size();
                        waiting.push(job);
                    }
                }
                next = if size < COMMIT_BYTES_MAX && !is_last { jobs.try_recv().ok() } else { None };
            }
            if !waiting.is_empty() {
                self.commit(waiting);
            }
            stopped &= jobs.is_empty();
        }
    }

    fn commit(&mut self, jobs: Vec<Job>) {
        let mut waiting = BTreeMap::new();
        let allowed = |job| self.within_quota(self.unless_sealed(job)?, &mut waiting);
        let mut jobs: Vec<Job> = jobs.into_iter().filter_map(allowed).collect();
        if jobs.is_empty() {
            return;
        }
        let mut batch = Batch::default();
        let counts: Vec<usize> = jobs.iter_mut().map(|job| job.move_into(&mut batch, &self.seals)).collect();
        let pruned: Vec<LogName> = jobs.iter().filter_map(Job::pruned).cloned().collect();
        let counted = self.quotas.count_notes(&mut batch, &*self.engine);
        let started = Instant::now();
        let result = counted.and_then(|counted| Ok((self.engine.commit(&batch)?, counted)));
        self.metrics.commit(batch.appends.len(), started.elapsed(), result.is_ok());
        // A disk that says no may have written it all the same.
        let rebased = changed_bases(&batch);
        rebased.iter().for_each(|log| self.note_base(log));
        match result {
            Ok((appended, counted)) => {
                self.quotas.counted(counted);
                let (mut rest, mut waiting) = (&appended[..], Vec::new());
                for (job, count) in jobs.into_iter().zip(counts) {
                    let (own, others) = rest.split_at(count);
                    rest = others;
                    waiting.extend(self.answer(job, Ok(own)));
                }
                match &self.mirror {
                    Some(mirror) if mirror::keeps(&batch.notes) => mirror.follow(waiting),
                    _ => waiting.into_iter().for_each(|done| drop(done.send(Ok(())))),
                }
                self.hub.publish(&appended);
                pruned.iter().for_each(|log| self.tell_of_base(log));
            }
            // One damaged log does not take the pushes to others with it.
            Err(StorageError::Damaged { .. }) if jobs.len() > 1 => {
                let mut appends = batch.appends.into_iter();
                for (mut job, count) in jobs.into_iter().zip(counts) {
                    if let Job::Push(push) = &mut job {
                        push.admitted.appends = appends.by_ref().take(count).collect();
                    }
                    self.commit(vec![job]);
                }
            }
            Err(error) => {
                let refusal = refusal::storage(&error);
                rebased.iter().for_each(|log| self.tell_of_base(log));
                jobs.into_iter().for_each(|job| drop(self.answer(job, Err(&refusal))));
            }
        }
    }

    /// Refuses a push to a channel that is sealed, as a whole. Returns any other job.
    fn unless_sealed(&self, job: Job) -> Option<Job> {
        match job {
            Job::Push(push) => match self.seals.check(push.admitted.log()) {
                Ok(()) => Some(Job::Push(push)),
                Err(refusal) => {
                    self.metrics.pushes.increment(1);
                    self.metrics.results(&vec![PushResult::Refused(refusal.clone()); push.admitted.results.len()]);
                    push.reply.send(Err(refusal));
                    None
                }
            },
            job => Some(job),
        }
    }

    /// Refuses those operations of a push that do not fit beside what their user has and `waiting`, what is written with
    /// it. Returns the job if something is left of it.
    fn within_quota(&mut self, mut job: Job, waiting: &mut BTreeMap<UserName, u64>) -> Option<Job> {
        let Job::Push(push) = &mut job else { return Some(job) };
        let Some(user) = push.admitted.log().map(|log| log.user.clone()) else { return Some(job) };
        let waiting = waiting.entry(user).or_default();
        match self.quotas.keep_to(&mut push.admitted, *waiting, &*self.engine) {
            Ok(bytes) => *waiting += bytes,
            // The commit meets the same and says it.
            Err(error) => tracing::error!(%error, "a quota was not looked at"),
        }
        if push.admitted.appends.is_empty() {
            self.answer(job, Ok(&[]));
            return None;
        }
        Some(job)
    }

    /// Notes for streams that come back that a log's base may have changed. Nothing was written since, so whoever was not
    /// told of it has a cursor that is no greater.
    fn note_base(&self, log: &LogName) {
        match self.engine.position(&log.user, &log.channel) {
            Ok(position) => self.hub.rebased.note(log, position),
            Err(error) => self.lose_track(log, &error),
        }
    }

    fn lose_track(&self, log: &LogName, error: &StorageError) {
        drop::<Refusal>(refusal::storage(error));
        self.hub.rebased.lose_track(log);
    }

    /// Tells whoever watches a log of its base.
    fn tell_of_base(&self, log: &LogName) {
        let read = || Ok((self.engine.tail(log)?, self.engine.position(&log.user, &log.channel)?));
        match read() {
            Ok((tail, position)) => self.hub.prune(log, tail.unwrap_or_default().header, position),
            // They learn of it when they read the log, and read it when they come back.
            Err(error) => self.lose_track(log, &error),
        }
    }

    /// Answers a push, and whoever waits for something that was not written. Returns whoever is to hear that it was.
    fn answer(&mut self, job: Job, outcome: Result<&[Appended], &Refusal>) -> Option<Done> {
        let done = match job {
            Job::Push(Push { admitted, reply, .. }) => {
                self.metrics.pushes.increment(1);
                let results = match outcome {
                    Ok(appended) => admitted.finish(appended.iter().map(|appended| self.result(appended))),
                    Err(refusal) => admitted.finish(std::iter::repeat_with(|| PushResult::Refused(refusal.clone()))),
                };
                self.metrics.results(&results);
                reply.send(Ok(results));
                return None;
            }
            Job::Write(Write { done, .. }) => done,
            Job::Seal(sealing, done) => {
                if outcome.is_ok() {
                    self.seals.apply(&sealing);
                }
                done
            }
            Job::Stop => return None,
        };
        match outcome {
            Ok(_) => Some(done),
            Err(refusal) => {
                drop(done.send(Err(refusal.clone())));
                None
            }
        }
    }

    fn result(&self, appended: &Appended) -> PushResult {
        match appended {
            Appended::New(arrival) => {
                self.metrics.stored_bytes.increment(arrival.stored.record.len() as u64);
                PushResult::Accepted { sha: arrival.stored.sha }
            }
            Appended::Known { sha, .. } => PushResult::Known { sha: *sha },
            Appended::Covered { sha } => PushResult::Covered { sha: *sha },
            Appended::Doubtful { sha } => {
                let message = format!("the log's base may cover {sha}, and not all that it covers is known here");
                let hint = "keep the operation and send it again later; a store that knows will tell this one";
                PushResult::Refused(Refusal::new(ErrorCode::CoverageUnknown, message).hint(hint))
            }
            Appended::Refused(error) => PushResult::Refused(error.clone().into()),
        }
    }
}

impl Job {
    fn size(&self) -> usize {
        match self {
            Self::Push(push) => push.admitted.size(),
            Self::Write(write) => write.batch.installs.iter().map(|install| install.base.record.len()).sum(),
            Self::Seal(..) | Self::Stop => 0,
        }
    }

    fn pruned(&self) -> Option<&LogName> {
        match self {
            Self::Write(write) => write.pruned.as_ref(),
            _ => None,
        }
    }

    /// Moves what is to be written into the batch, and returns how many appends those are. What is no push is kept for a
    /// retry.
    fn move_into(&mut self, batch: &mut Batch, seals: &Seals) -> usize {
        match self {
            Self::Push(push) => {
                let count = push.admitted.appends.len();
                batch.appends.append(&mut push.admitted.appends);
                count
            }
            Self::Write(Write { batch: own, .. }) => {
                batch.installs.extend(own.installs.iter().cloned());
                batch.disputes.extend(own.disputes.iter().cloned());
                batch.removes.extend(own.removes.iter().cloned());
                batch.restores.extend(own.restores.iter().cloned());
                batch.notes.extend(own.notes.iter().cloned());
                0
            }
            Self::Seal(sealing, _) => {
                batch.notes.extend(seals.notes(sealing));
                0
            }
            Self::Stop => 0,
        }
    }
}

/// Returns the logs about whose bases a batch writes.
fn changed_bases(batch: &Batch) -> BTreeSet<LogName> {
    let installed = batch.installs.iter().map(|install| &install.log);
    installed.chain(batch.disputes.iter().map(|(log, _)| log)).chain(&batch.restores).cloned().collect()
}

/// Jobs that wait for the thread; whoever has one more waits for a place.
const QUEUED_JOBS_MAX: usize = 4096;
/// Bytes of operations that wait for the thread.
const QUEUED_BYTES_MAX: usize = 64 * 1024 * 1024;
const ROOM_UNIT_BYTES: usize = 1024;
/// Bytes of operations after which a commit takes no more.
const COMMIT_BYTES_MAX: usize = 8 * 1024 * 1024;

#[cfg(test)]
mod tests;
