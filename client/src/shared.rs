//! The one place where the sync machine meets the tasks: a lock around the replica, and a desk that hands out what it
//! decides. The lock is held while outputs are handed out, so they leave in the order of the decisions; handing out only
//! ever puts into queues.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use gigfs_core::Date;
use gigfs_core::api::MountTable;
use gigfs_core::seal::{ChannelKeys, RosterEntry};
use gigfs_core::sync::{LinkId, Notice, Output, PruneHold, PushError, PushId, Receipt, Replica};
use gigfs_core::wire::ClientMessage;
use gigfs_core::{BaseId, ChannelName, LogName, Refusal};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::{Notify, mpsc, watch};

use crate::changes::Listeners;
use crate::commits::Asked;
use crate::keys::UserKeys;
use crate::local::{Job, LocalStore};
use crate::mounts::Merger;
use crate::waiting::{Bell, Waiting};

/// What all tasks of a client share.
pub(crate) struct Shared {
    replica: Mutex<Replica>,
    desk: Mutex<Desk>,
    pub(crate) local: Option<LocalStore>,
    /// Counts everything that a waiting call may wait for.
    progress: watch::Sender<u64>,
    /// Calls that wait for one log.
    waiting: Waiting,
    /// Wakes the timer task when it may have to wake earlier.
    pub(crate) timer: Notify,
    /// The last known mount table; nothing before the first.
    pub(crate) mounts: watch::Sender<Option<Arc<MountTable>>>,
    /// Why the table cannot be asked now, if it cannot.
    pub(crate) table_down: Mutex<Option<Refusal>>,
    /// Has the tasks look again at once, for an app that does not want to wait for a backoff to end.
    pub(crate) nudge: Notify,
    /// Has the mount table fetched again, because a store refused a token.
    pub(crate) wants_tokens: Notify,
    /// Whether the mount table was fetched since the client was opened, so that it is not only what was kept.
    pub(crate) fetched: AtomicBool,
    /// Stores that may lack what was here before they were mounted, with the logs that are not compared yet.
    pub(crate) merging: Mutex<BTreeMap<LinkId, Vec<LogName>>>,
    /// Takes work that runs beside the rest.
    pub(crate) mergers: mpsc::UnboundedSender<Merger>,
    /// Takes questions to the table about checkpoints.
    commits: mpsc::UnboundedSender<Asked>,
    closed: AtomicBool,
}

/// Where outputs go.
#[derive(Default)]
struct Desk {
    links: BTreeMap<LinkId, mpsc::UnboundedSender<ClientMessage>>,
    receipts: BTreeMap<PushId, watch::Sender<Receipt>>,
    listeners: Listeners,
    suspicions: Vec<Suspicion>,
    troubles: Vec<Trouble>,
    /// What came of pruning the logs that somebody waits for.
    pruned: BTreeMap<LogName, Option<Result<BaseId, PruneHold>>>,
}

/// For whom there may be news after a call into the replica.
#[derive(Default)]
struct Moved {
    /// Those who wait for a log to which something happened.
    logs: Vec<Bell>,
    /// Whether a stream came up, went down or told what was missed.
    links: bool,
    anything: bool,
}

/// Something odd that a store did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suspicion {
    /// Which store, in which channel.
    pub link: LinkId,
    /// Which log.
    pub log: LogName,
    /// What was seen.
    pub what: String,
}

/// Something about a log that a person should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// Which log.
    pub log: LogName,
    /// What is the matter, and what to do.
    pub what: String,
}

/// How many suspicions are remembered.
const SUSPICIONS_MAX: usize = 100;

impl Shared {
    pub(crate) fn new(
        replica: Replica,
        local: Option<LocalStore>,
        mergers: mpsc::UnboundedSender<Merger>,
        commits: mpsc::UnboundedSender<Asked>,
    ) -> Self {
        Self {
            replica: Mutex::new(replica),
            desk: Mutex::new(Desk::default()),
            local,
            progress: watch::Sender::new(0),
            waiting: Waiting::default(),
            timer: Notify::new(),
            mounts: watch::Sender::new(None),
            table_down: Mutex::new(None),
            nudge: Notify::new(),
            wants_tokens: Notify::new(),
            fetched: AtomicBool::new(false),
            merging: Mutex::new(BTreeMap::new()),
            mergers,
            commits,
            closed: AtomicBool::new(false),
        }
    }

    /// Calls into the replica and hands out what it decided.
    pub(crate) fn act<T>(&self, call: impl FnOnce(&mut Replica, Date) -> T) -> T {
        let mut replica = self.replica.lock();
        let before = replica.wake_at();
        let result = call(&mut replica, now());
        let mut moved = Moved::default();
        if let Some(first) = replica.poll() {
            let mut desk = self.desk.lock();
            let mut next = Some(first);
            while let Some(output) = next {
                self.note(&mut moved, &output);
                self.hand_out(&mut desk, in_clear(&replica, output));
                next = replica.poll();
            }
        }
        let after = replica.wake_at();
        drop(replica);
        if after.is_some_and(|after| before.is_none_or(|before| after < before)) {
            self.timer.notify_one();
        }
        moved.logs.into_iter().for_each(|bell| _ = bell.send(()));
        if moved.links {
            self.waiting.ring_all();
        }
        if moved.anything {
            self.progress.send_modify(|count| *count += 1);
        }
        result
    }

    /// Notes who may be waiting for an output.
    fn note(&self, moved: &mut Moved, output: &Output) {
        moved.anything |= !matches!(output, Output::Send { .. } | Output::Commit { .. });
        let Output::Notify(notice) = output else { return };
        match notice {
            Notice::Changed { log, .. }
            | Notice::Pruned { log, .. }
            | Notice::NotPruned { log, .. }
            | Notice::Disputed { log, .. }
            | Notice::Conflict { log, .. }
            | Notice::Read { log }
            | Notice::Suspicion { log, .. } => moved.logs.extend(self.waiting.bell(log)),
            Notice::Link { .. } | Notice::Resumed { .. } => moved.links = true,
            Notice::Receipt(_) | Notice::Drained { .. } => {}
        }
    }

    /// Reads from the replica without changing it.
    pub(crate) fn look<T>(&self, call: impl FnOnce(&mut Replica) -> T) -> T {
        call(&mut self.replica.lock())
    }

    /// Puts one output where it belongs.
    fn hand_out(&self, desk: &mut Desk, output: Output) {
        match output {
            Output::Load(log) => self.job(Job::Load(log)),
            Output::Persist { id, records } => self.job(Job::Persist { id, records }),
            Output::Send { link, message } => {
                // A stream that is gone has reported so, or is about to; what it was to carry is asked for again.
                if let Some(sender) = desk.links.get(&link) {
                    _ = sender.send(message);
                }
            }
            // The task ends only with the client.
            Output::Commit { log, proposal } => _ = self.commits.send((log, proposal)),
            Output::List { log } => self.job(Job::List(log)),
            Output::Notify(notice) => desk.notice(notice),
        }
    }

    fn job(&self, job: Job) {
        if let Some(local) = &self.local {
            local.send(job);
        }
    }

    /// Gives a stream that has come up its queue of messages to send.
    pub(crate) fn attach(&self, link: LinkId) -> mpsc::UnboundedReceiver<ClientMessage> {
        // The replica's windows bound what is in this queue.
        let (sender, receiver) = mpsc::unbounded_channel();
        self.desk.lock().links.insert(link, sender);
        receiver
    }

    /// Pushes, and returns what follows the push: it is there before anything can happen to it.
    pub(crate) fn push(&self, log: &LogName, intent: &Value) -> Result<watch::Receiver<Receipt>, PushError> {
        self.write(|replica, now| replica.push(now, log, intent))
    }

    /// Removes a log, and returns what follows that.
    pub(crate) fn remove(&self, log: &LogName) -> Result<watch::Receiver<Receipt>, PushError> {
        self.write(|replica, now| replica.remove(now, log))
    }

    /// Has a channel sealed and opened under these keys from now on.
    pub(crate) fn seal_with(&self, user: &UserKeys, channel: &ChannelName, keys: ChannelKeys) {
        let access = user.access(keys);
        self.act(|replica, _| replica.set_access(channel, access));
    }

    /// Adds entries to the roster of a sealed channel, and returns what follows that.
    pub(crate) fn enroll(
        &self,
        channel: &ChannelName,
        entries: &[RosterEntry],
    ) -> Result<watch::Receiver<Receipt>, PushError> {
        self.write(|replica, now| replica.enroll(now, channel, entries))
    }

    fn write(
        &self,
        write: impl FnOnce(&mut Replica, Date) -> Result<Receipt, PushError>,
    ) -> Result<watch::Receiver<Receipt>, PushError> {
        self.act(|replica, now| {
            let receipt = write(replica, now)?;
            let id = receipt.id;
            let (sender, receiver) = watch::channel(receipt);
            if replica.receipt(id).is_some() {
                self.desk.lock().receipts.insert(id, sender);
            }
            Ok(receiver)
        })
    }

    pub(crate) fn listeners<T>(&self, call: impl FnOnce(&mut Listeners) -> T) -> T {
        call(&mut self.desk.lock().listeners)
    }

    pub(crate) fn troubles(&self) -> Vec<Trouble> {
        self.desk.lock().troubles.clone()
    }

    /// Has what comes of pruning a log kept for [`outcome`](Self::outcome).
    pub(crate) fn expect_outcome(&self, log: &LogName) {
        self.desk.lock().pruned.insert(log.clone(), None);
    }

    /// Takes what came of pruning a log.
    pub(crate) fn outcome(&self, log: &LogName) -> Option<Result<BaseId, PruneHold>> {
        let mut desk = self.desk.lock();
        let outcome = desk.pruned.get_mut(log)?.take();
        if outcome.is_some() {
            desk.pruned.remove(log);
        }
        outcome
    }

    pub(crate) fn suspicions(&self) -> Vec<Suspicion> {
        self.desk.lock().suspicions.clone()
    }

    /// Waits until `done` says so, looking again whenever something moved. The caller sets the deadline.
    pub(crate) async fn until<T>(&self, mut done: impl FnMut(&mut Replica) -> Option<T>) -> T {
        let mut progress = self.progress.subscribe();
        loop {
            progress.mark_unchanged();
            if let Some(result) = self.look(&mut done) {
                return result;
            }
            if progress.changed().await.is_err() {
                // The sender lives in `self`, so this cannot end before the caller does.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Waits until `done` says so of one log, by the name that stores know, looking again whenever something happened to
    /// it or to a stream. The caller sets the deadline.
    pub(crate) async fn until_of<T>(&self, log: &LogName, mut done: impl FnMut(&mut Replica) -> Option<T>) -> T {
        if let Some(result) = self.look(&mut done) {
            return result;
        }
        let mut place = self.waiting.place(log);
        loop {
            if let Some(result) = self.look(&mut done) {
                return result;
            }
            place.news().await;
        }
    }

    /// Has every waiting call look again.
    pub(crate) fn progressed(&self) {
        self.waiting.ring_all();
        self.progress.send_modify(|count| *count += 1);
    }

    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.desk.lock().listeners.close();
        self.progressed();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }
}

impl Desk {
    fn notice(&mut self, notice: Notice) {
        match notice {
            Notice::Changed { log, ops, origin } => self.listeners.changed(&log, ops, origin),
            Notice::Receipt(receipt) => {
                let id = receipt.id;
                let over = receipt.accepted() == receipt.stores.len();
                if let Some(sender) = self.receipts.get(&id) {
                    sender.send_replace(receipt);
                }
                if over {
                    self.receipts.remove(&id);
                }
            }
            Notice::Suspicion { link, log, what } => {
                tracing::warn!(store = %link.store, %log, "{what}");
                if self.suspicions.len() < SUSPICIONS_MAX {
                    self.suspicions.push(Suspicion { link, log, what });
                }
            }
            Notice::Link { link, down: Some(_) } => _ = self.links.remove(&link),
            Notice::Pruned { log, base } => {
                if let Some(outcome) = self.pruned.get_mut(&log) {
                    *outcome = Some(Ok(base));
                }
            }
            Notice::NotPruned { log, hold } => {
                tracing::debug!(%log, "not pruned: {hold}");
                if let Some(outcome) = self.pruned.get_mut(&log) {
                    *outcome = Some(Err(hold));
                }
            }
            Notice::Disputed { log, base } => {
                let generation = base.generation;
                let what = format!(
                    "another state came out here of what checkpoint {generation} covers; the log is not pruned further \
                     before a device that is right repairs it (gig prune --repair)"
                );
                self.trouble(Trouble { log, what });
            }
            Notice::Conflict { log, base, copy } => {
                let kept =
                    copy.map_or("the stores keep it for a while".to_owned(), |copy| format!("it is kept as {copy}"));
                let generation = base.generation;
                let what = format!("checkpoint {generation} is not part of the log's history any more; {kept}");
                self.trouble(Trouble { log, what });
            }
            Notice::Read { .. } | Notice::Resumed { .. } | Notice::Link { .. } | Notice::Drained { .. } => {}
        }
    }
}

impl Desk {
    fn trouble(&mut self, trouble: Trouble) {
        tracing::warn!(log = %trouble.log, "{}", trouble.what);
        if self.troubles.len() < SUSPICIONS_MAX && !self.troubles.contains(&trouble) {
            self.troubles.push(trouble);
        }
    }
}

/// Has what a person reads about logs name them as the person does.
fn in_clear(replica: &Replica, output: Output) -> Output {
    let clear = |log: LogName| replica.clear_name(&log).cloned().unwrap_or(log);
    match output {
        Output::Notify(Notice::Suspicion { link, log, what }) => {
            Output::Notify(Notice::Suspicion { link, log: clear(log), what })
        }
        Output::Notify(Notice::Disputed { log, base }) => Output::Notify(Notice::Disputed { log: clear(log), base }),
        Output::Notify(Notice::Conflict { log, base, copy }) => {
            Output::Notify(Notice::Conflict { log: clear(log), base, copy: copy.map(clear) })
        }
        other => other,
    }
}

/// Returns the wall clock.
pub(crate) fn now() -> Date {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Date::saturating(since.as_micros().try_into().unwrap_or(u64::MAX))
}
