//! The one thread that writes: it takes all pushes that wait, commits them with one sync, and answers each.
//!
//! A push is acknowledged after the commit that holds it, never before. A commit that fails refuses the pushes in it and
//! nothing else: those after it are tried as if nothing had happened.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use bytes::Bytes;
use gigfs_core::Refusal;
use gigfs_core::api::PushResult;
use gigfs_core::wire::Tag;
use gigfs_storage::{Appended, Batch, Engine, StorageError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::feed::Hub;
use crate::metric::Metrics;
use crate::push::Admitted;
use crate::refusal;

/// Notes to write.
pub(crate) type Notes = Vec<(Bytes, Option<Bytes>)>;

/// The way to the writing thread.
#[derive(Clone)]
pub(crate) struct Commits {
    queue: mpsc::Sender<Job>,
    /// Room for the operations that wait, in units of [`ROOM_UNIT_BYTES`].
    room: Arc<Semaphore>,
}

/// Where the results of a push go.
pub(crate) enum Reply {
    /// To a handler that waits.
    Http(oneshot::Sender<Vec<PushResult>>),
    /// Into a stream.
    Stream(mpsc::Sender<Answer>, Tag, OwnedSemaphorePermit),
}

/// The answer to a push over a stream.
pub(crate) struct Answer {
    pub(crate) tag: Tag,
    pub(crate) results: Vec<PushResult>,
    /// The request's place among those that the stream has unanswered.
    pub(crate) permit: OwnedSemaphorePermit,
}

struct Push {
    admitted: Admitted,
    reply: Reply,
    /// Given back when the push is answered.
    _room: Option<OwnedSemaphorePermit>,
}

enum Job {
    Push(Push),
    Notes(Notes, oneshot::Sender<Result<(), Refusal>>),
    Stop,
}

impl Reply {
    /// Sends the results; whoever does not wait any more does not need them.
    pub(crate) fn send(self, results: Vec<PushResult>) {
        match self {
            Self::Http(waiting) => drop(waiting.send(results)),
            // There is room: the queue has as many places as there are permits.
            Self::Stream(answers, tag, permit) => drop(answers.try_send(Answer { tag, results, permit })),
        }
    }
}

impl Commits {
    /// Starts the thread, which ends with the last way to it, or when it is told to stop.
    pub(crate) fn start(engine: Arc<dyn Engine>, hub: Arc<Hub>, metrics: Metrics) -> (Self, JoinHandle<()>) {
        let (queue, jobs) = mpsc::channel(QUEUED_JOBS_MAX);
        let writer = Writer { engine, hub, metrics };
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
        let (done, written) = oneshot::channel();
        self.queue.blocking_send(Job::Notes(notes, done)).map_err(|_| refusal::stopping())?;
        written.blocking_recv().map_err(|_| refusal::stopping())?
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
}

impl Writer {
    fn run(self, mut jobs: mpsc::Receiver<Job>) {
        let mut stopped = false;
        while !stopped && let Some(first) = jobs.blocking_recv() {
            let mut waiting = Vec::new();
            let mut size = 0;
            let mut next = Some(first);
            while let Some(job) = next {
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
                next = if size < COMMIT_BYTES_MAX { jobs.try_recv().ok() } else { None };
            }
            if !waiting.is_empty() {
                self.commit(waiting);
            }
            stopped &= jobs.is_empty();
        }
    }

    fn commit(&self, mut jobs: Vec<Job>) {
        let mut batch = Batch::default();
        let counts: Vec<usize> = jobs.iter_mut().map(|job| job.move_into(&mut batch)).collect();
        let started = Instant::now();
        let result = self.engine.commit(&batch);
        self.metrics.commit(batch.appends.len(), started.elapsed(), result.is_ok());
        match result {
            Ok(appended) => {
                let mut rest = &appended[..];
                for (job, count) in jobs.into_iter().zip(counts) {
                    let (own, others) = rest.split_at(count);
                    rest = others;
                    self.answer(job, Ok(own));
                }
                self.hub.publish(&appended);
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
                jobs.into_iter().for_each(|job| self.answer(job, Err(&refusal)));
            }
        }
    }

    fn answer(&self, job: Job, outcome: Result<&[Appended], &Refusal>) {
        match job {
            Job::Push(Push { admitted, reply, .. }) => {
                self.metrics.pushes.increment(1);
                let results = match outcome {
                    Ok(appended) => admitted.finish(appended.iter().map(|appended| self.result(appended))),
                    Err(refusal) => admitted.finish(std::iter::repeat_with(|| PushResult::Refused(refusal.clone()))),
                };
                self.metrics.results(&results);
                reply.send(results);
            }
            Job::Notes(_, done) => drop(done.send(outcome.map(|_| ()).map_err(Refusal::clone))),
            Job::Stop => {}
        }
    }

    fn result(&self, appended: &Appended) -> PushResult {
        match appended {
            Appended::New(arrival) => {
                self.metrics.stored_bytes.increment(arrival.stored.record.len() as u64);
                PushResult::Accepted { sha: arrival.stored.sha }
            }
            Appended::Known { sha, .. } => PushResult::Known { sha: *sha },
            Appended::Refused(error) => PushResult::Refused(error.clone().into()),
        }
    }
}

impl Job {
    fn size(&self) -> usize {
        match self {
            Self::Push(push) => push.admitted.size(),
            Self::Notes(..) | Self::Stop => 0,
        }
    }

    /// Moves what is to be written into the batch, and returns how many appends those are. Notes are kept for a retry.
    fn move_into(&mut self, batch: &mut Batch) -> usize {
        match self {
            Self::Push(push) => {
                let count = push.admitted.appends.len();
                batch.appends.append(&mut push.admitted.appends);
                count
            }
            Self::Notes(notes, _) => {
                batch.notes.extend(notes.iter().cloned());
                0
            }
            Self::Stop => 0,
        }
    }
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
