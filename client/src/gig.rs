//! The handle that an app holds.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use gigfs_core::sync::{Event, LinkId, LinkStatus, Mode, Replica};
use gigfs_core::{ActorId, ChannelName, ErrorCode, ErrorKind, Function, Kind, LogName, Logged, PathPrefix};
use gigfs_core::{Reduced, Reducer, Refusal, StoreId, TypeName, UserName};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep_until, timeout};

use crate::builder::Builder;
use crate::changes::Subscription;
use crate::error::{Error, RESERVED_PREFIX};
use crate::keys::{SealMode, UserKeys};
use crate::local::Job;
use crate::log::Log;
use crate::receipt::Pushed;
use crate::shared::{Shared, Suspicion, Trouble, now};
use crate::table::Table;

/// How long a first read waits for some store before it says so.
pub(crate) const FIRST_READ_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client without a local store has, when it is closed, to bring its operations to the stores.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// A client: logs that are the same on every device and server. Cheap to clone; all clones are one client.
#[derive(Clone)]
pub struct Gig {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) shared: Arc<Shared>,
    pub(crate) user: UserName,
    pub(crate) table: Option<Table>,
    pub(crate) local_channels: Vec<ChannelName>,
    pub(crate) keys: Option<UserKeys>,
    /// Whether channels without keys are used.
    pub(crate) in_the_clear: bool,
    pub(crate) mode: watch::Sender<Mode>,
    pub(crate) tasks: Mutex<Tasks>,
}

/// Everything that runs for a client and that [`Gig::close`] ends.
#[derive(Default)]
pub(crate) struct Tasks {
    set: JoinSet<()>,
    /// The task that wakes the replica, which ends last: it has written what may wait.
    timers: JoinSet<()>,
    pub(crate) storage: Option<JoinHandle<()>>,
    pub(crate) neighbours: Option<notify::RecommendedWatcher>,
}

impl Tasks {
    pub(crate) fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.set.spawn(task);
    }

    pub(crate) fn spawn_timers(&mut self, shared: Arc<Shared>) {
        self.timers.spawn(run_timers(shared));
    }
}

/// What there is to say about a client.
#[derive(Debug, Clone)]
pub struct Status {
    /// Whose client it is.
    pub user: UserName,
    /// What it exchanges with the stores.
    pub mode: Mode,
    /// The epoch of the mount table that it works with, if it has one.
    pub epoch: Option<u64>,
    /// Why the table server cannot be asked now, if it cannot.
    pub table_down: Option<Refusal>,
    /// Each channel that is known, and how it is sealed, if that is known too.
    pub channels: Vec<(ChannelName, Option<SealMode>)>,
    /// Each stream to a store, with the store's URL.
    pub stores: Vec<(String, LinkStatus)>,
    /// Odd things that stores did since the client was opened.
    pub suspicions: Vec<Suspicion>,
    /// Open logs that hold operations for which nobody who may write vouches, and how many. They take effect once somebody
    /// does.
    pub unproven: Vec<(LogName, usize)>,
    /// Open logs that were written before their channel was sealed, with how many operations each has. They stay on this device.
    pub staying: Vec<(LogName, usize)>,
    /// What was found out about logs since the client was opened that a person should know.
    pub troubles: Vec<Trouble>,
}

impl Gig {
    /// Begins to open a client.
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(crate) fn new(inner: Inner) -> Self {
        Self { inner: Arc::new(inner) }
    }

    /// Registers a reducer for a type. The stock types are registered already and may be replaced.
    ///
    /// # Errors
    /// [`Error::Name`] if the type's name breaks a rule, [`Error::ReservedType`].
    pub fn register<R: Reducer>(&self, kind: &str, reducer: R) -> Result<(), Error> {
        self.register_kind(kind, Arc::new(Reduced::new(reducer)))
    }

    /// Registers a pure function over the whole oplog for a type, as in GiG.fs: its payloads are what is pushed.
    ///
    /// # Errors
    /// [`Error::Name`] if the type's name breaks a rule, [`Error::ReservedType`].
    pub fn register_function(
        &self,
        kind: &str,
        function: impl Fn(&[Logged]) -> Value + Send + Sync + 'static,
    ) -> Result<(), Error> {
        self.register_kind(kind, Arc::new(Function::new(function)))
    }

    fn register_kind(&self, kind: &str, reader: Arc<dyn Kind>) -> Result<(), Error> {
        let kind = TypeName::parse(kind)?;
        unreserved(&kind)?;
        self.shared().act(|replica, _| replica.register(kind, reader));
        Ok(())
    }

    /// Names a log once, for many calls.
    ///
    /// # Errors
    /// [`Error::Name`] if a part of the name breaks a rule, [`Error::ReservedType`].
    pub fn log(&self, channel: &str, kind: &str, path: &str) -> Result<Log, Error> {
        let name = LogName::parse(self.inner.user.as_str(), channel, kind, path)?;
        unreserved(&name.kind)?;
        Ok(Log::new(self.clone(), name))
    }

    /// Returns the value of a log: see [`Log::get`].
    ///
    /// # Errors
    /// Those of [`Log::get`], and [`Error::Name`].
    pub async fn get(&self, channel: &str, kind: &str, path: &str) -> Result<Arc<Value>, Error> {
        self.log(channel, kind, path)?.get().await
    }

    /// Writes to a log: see [`Log::push`].
    ///
    /// # Errors
    /// Those of [`Log::push`], and [`Error::Name`].
    pub async fn push(&self, channel: &str, kind: &str, path: &str, intent: Value) -> Result<Pushed, Error> {
        self.log(channel, kind, path)?.push(&intent).await
    }

    /// Follows a log: see [`Log::on`].
    ///
    /// # Errors
    /// Those of [`Log::on`], and [`Error::Name`].
    pub async fn on(&self, channel: &str, kind: &str, path: &str) -> Result<Subscription, Error> {
        self.log(channel, kind, path)?.on().await
    }

    /// Sends everything that waits, and returns once every store of the channel (or of all) has everything.
    ///
    /// # Errors
    /// [`Error::Unsent`] when the deadline passes first; the operations stay queued.
    pub async fn flush(&self, channel: Option<&ChannelName>, deadline: Duration) -> Result<(), Error> {
        self.flush_with(channel, deadline, |_| {}).await
    }

    /// Does as [`flush`](Self::flush), and tells how many operations are left whenever that changes.
    ///
    /// # Errors
    /// [`Error::Unsent`] when the deadline passes first; the operations stay queued.
    pub async fn flush_with(
        &self,
        channel: Option<&ChannelName>,
        deadline: Duration,
        mut left: impl FnMut(usize),
    ) -> Result<(), Error> {
        let flushed = async {
            self.mounts_heard().await;
            self.shared().nudge.notify_waiters();
            self.shared().act(|replica, now| replica.hurry(now, channel));
            let mut last = None;
            let done = |replica: &mut Replica| {
                let queued = self.left(replica, channel);
                if last.replace(queued) != Some(queued) {
                    left(queued);
                }
                (queued == 0).then_some(())
            };
            self.shared().until(done).await;
        };
        let flushed = timeout(deadline, flushed).await;
        flushed.map_err(|_| Error::Unsent { left: self.shared().look(|replica| self.left(replica, channel)) })
    }

    /// Counts what some store is not known to hold: what is queued, logs that are still being read from the local store,
    /// and what was here before a store was mounted that was not compared with it yet. Before the first mount table nobody
    /// is known to hold anything.
    fn left(&self, replica: &Replica, channel: Option<&ChannelName>) -> usize {
        if self.inner.table.is_some() && self.shared().mounts.borrow().is_none() {
            let own = |log: &LogName| self.is_local(&log.channel);
            let wanted = |log: &&LogName| !own(log) && channel.is_none_or(|channel| *channel == log.channel);
            let ops = |log| replica.oplog(log).map_or(1, gigfs_core::Oplog::len);
            return replica.open_logs().filter(wanted).map(ops).sum();
        }
        let unread = replica.mounts().filter(|(mounted, _)| channel.is_none_or(|channel| channel == *mounted));
        let unread = unread.flat_map(|(channel, _)| replica.logs(channel)).filter(|log| !replica.is_loaded(log));
        let merging = self.shared().merging.lock();
        let merging = merging.iter().filter(|(link, _)| channel.is_none_or(|channel| *channel == link.channel));
        let ops = |(link, logs): (&LinkId, &Vec<LogName>)| {
            let apart = logs.iter().filter(|log| !replica.is_in_step(link, std::slice::from_ref(log)));
            apart.map(|log| replica.oplog(log).map_or(1, gigfs_core::Oplog::len)).sum::<usize>()
        };
        // What is queued may be of the same logs.
        replica.queued(channel).max(merging.map(ops).sum()) + unread.count()
    }

    /// Brings everything that a store of a channel has to the channel's other stores. For a store that is to be taken off the
    /// channel, and was sealed before ([`Table::seal`]), so that nothing comes behind. `left` hears how many logs remain.
    ///
    /// # Errors
    /// Those of [`list`](Self::list), and the store's if it does not list its logs itself; [`Error::NotDrained`] names a log
    /// that is not done when the deadline passes.
    pub async fn drain(
        &self,
        channel: &ChannelName,
        store: StoreId,
        deadline: Duration,
        mut left: impl FnMut(usize),
    ) -> Result<(), Error> {
        let mut logs = self.listed(channel, &PathPrefix::default()).await?;
        // What only this one lists is what it is about, so it has to answer itself.
        for mount in self.stores_of(channel).iter().filter(|mount| mount.id == store) {
            logs.extend(self.learn(self.list_store(mount, channel, &PathPrefix::default()).await?));
        }
        let logs: Vec<LogName> = logs.into_iter().collect();
        self.shared().act(|replica, now| {
            for log in &logs {
                replica.compare_again(now, log, store);
                replica.ask_register(log);
            }
        });
        let mut rest = logs;
        let drained = self.shared().until(|replica| {
            rest.retain(|log| !replica.is_drained_of(log, store));
            left(rest.len());
            rest.is_empty().then_some(())
        });
        if timeout(deadline, drained).await.is_ok() {
            return Ok(());
        }
        match rest.pop() {
            Some(log) => {
                let log = self.shared().look(|replica| replica.clear_name(&log).unwrap_or(&log).clone());
                Err(Error::NotDrained { log, logs: rest.len() + 1 })
            }
            None => Ok(()),
        }
    }

    /// Sends what waits to the stores that can be reached now, and returns how many operations are left for some store.
    /// They stay queued, and go out at the next chance.
    pub async fn settle(&self, deadline: Duration) -> usize {
        let settled = async {
            self.mounts_known().await;
            self.shared().act(|replica, now| replica.hurry(now, None));
            let apart = |link: &LinkStatus| self.shared().merging.lock().contains_key(&link.link);
            let waits = |link: &LinkStatus| link.down.is_none() && (!link.queued.is_empty() || apart(link));
            let read = |replica: &Replica| {
                replica.mounts().flat_map(|(channel, _)| replica.logs(channel)).all(|log| replica.is_loaded(log))
            };
            let done = |replica: &mut Replica| read(replica) && !replica.status().iter().any(waits);
            self.shared().until(|replica| done(replica).then_some(())).await;
        };
        // What is left is counted below, whether time ran out or not.
        _ = timeout(deadline, settled).await;
        self.shared().look(|replica| self.left(replica, None))
    }

    /// Changes what is exchanged with the stores, from now on.
    pub fn set_mode(&self, mode: Mode) {
        self.shared().act(|replica, now| replica.set_mode(now, mode));
        if mode == Mode::Offline {
            // At once, so that a client that goes online again right away reads what it was told meanwhile.
            let reason = crate::stream::offline();
            self.shared().act(|replica, now| {
                let up = replica.status().into_iter().filter(|link| link.up.is_some());
                let links: Vec<LinkId> = up.map(|link| link.link).collect();
                links.into_iter().for_each(|link| replica.handle(now, Event::Lost { link, reason: reason.clone() }));
            });
        }
        self.inner.mode.send_replace(mode);
    }

    /// Returns what there is to say about the client.
    pub fn status(&self) -> Status {
        let links = self.shared().look(|replica| replica.status());
        let url_of = |link: &LinkStatus| {
            let stores = self.stores_of(&link.link.channel);
            stores.into_iter().find(|store| store.id == link.link.store).map(|store| store.url).unwrap_or_default()
        };
        Status {
            user: self.inner.user.clone(),
            mode: *self.inner.mode.borrow(),
            epoch: self.shared().mounts.borrow().as_ref().map(|table| table.epoch),
            table_down: self.shared().table_down.lock().clone(),
            channels: self.sealings(),
            stores: links.into_iter().map(|link| (url_of(&link), link)).collect(),
            suspicions: self.shared().suspicions(),
            unproven: self.shared().look(|replica| {
                let open = replica.open_logs().map(|log| (log, replica.unproven(log).count()));
                let held = open.filter(|(_, ops)| *ops > 0);
                held.map(|(log, ops)| (replica.clear_name(log).unwrap_or(log).clone(), ops)).collect()
            }),
            staying: self.shared().look(|replica| {
                replica.staying().filter(|(_, ops)| *ops > 0).map(|(log, ops)| (log.clone(), ops)).collect()
            }),
            troubles: self.shared().troubles(),
        }
    }

    /// Waits until every stream has come up or failed once, for `deadline` at most.
    pub async fn settled(&self, deadline: Duration) {
        let settled = async {
            self.mounts_heard().await;
            let done = |replica: &mut Replica| {
                let known = |link: &LinkStatus| link.up.is_some() || link.down.is_some();
                replica.status().iter().all(known).then_some(())
            };
            self.shared().until(done).await;
        };
        _ = timeout(deadline, settled).await;
    }

    /// Returns what is exchanged with the stores.
    pub fn mode(&self) -> Mode {
        *self.inner.mode.borrow()
    }

    /// Returns the writing replica that this process is.
    pub fn actor(&self) -> ActorId {
        self.shared().look(|replica| replica.actor())
    }

    /// Waits until the table says that the session has ended, and returns what it said. What waits here stays queued
    /// until somebody logs in again.
    pub async fn logged_out(&self) -> Refusal {
        let shared = self.shared();
        let ended = || shared.table_down.lock().clone().filter(|refusal| refusal.code.kind() == ErrorKind::LogIn);
        shared.until(|_| ended()).await
    }

    /// Waits until the table says that a channel is gone, or is not shared with this user any more, and returns that.
    pub async fn unmounted(&self, channel: &ChannelName) -> Error {
        let shared = self.shared();
        let gone = || {
            let down = shared.table_down.lock().clone().filter(|refusal| refusal.code == ErrorCode::Forbidden);
            let server = || self.remote_table().map(|table| table.url().to_owned()).unwrap_or_default();
            let forbidden = down.map(|refusal| Error::Refused { server: server(), refusal });
            // What was kept of the mount table says nothing of a channel that is new.
            let heard = shared.fetched.load(Ordering::Acquire);
            forbidden.or_else(|| self.check_channel(channel).err().filter(|_| heard))
        };
        shared.until(|_| gone()).await
    }

    /// Returns whose client it is.
    pub fn user(&self) -> &UserName {
        &self.inner.user
    }

    /// Ends all tasks. What is kept on disk here goes out at the next start; without a local store this waits for the
    /// stores first.
    ///
    /// # Errors
    /// [`Error::Unsent`] if there is no local store and some store could not be reached: those operations are lost with
    /// this process if no store has them.
    pub async fn close(self) -> Result<(), Error> {
        let shared = self.shared().clone();
        let sent = match shared.local {
            Some(_) => Ok(()),
            None => self.flush(None, CLOSE_TIMEOUT).await,
        };
        shared.close();
        let mut tasks = std::mem::take(&mut *self.inner.tasks.lock());
        drop(tasks.neighbours.take());
        // The streams end first: what they brought in meanwhile would have to be written too.
        tasks.set.shutdown().await;
        shared.act(|replica, _| replica.settle_records());
        if shared.local.is_some() {
            shared.until(|replica| replica.is_saved().then_some(())).await;
        }
        tasks.timers.shutdown().await;
        if let (Some(local), Some(thread)) = (&shared.local, tasks.storage.take()) {
            local.send(Job::Stop);
            tokio::task::spawn_blocking(move || thread.join())
                .await
                .map_err(|error| Error::System(error.to_string()))?
                .map_err(|_| Error::System("the storage thread panicked".to_owned()))?;
        }
        sent
    }

    pub(crate) fn user_keys(&self) -> Option<&UserKeys> {
        self.inner.keys.as_ref()
    }

    /// Tells whether this device keeps a channel for itself, of which its table does not know.
    pub(crate) fn is_local(&self, channel: &ChannelName) -> bool {
        let is_mounted = || self.shared().look(|replica| replica.mounts().any(|(mounted, _)| mounted == channel));
        self.inner.local_channels.contains(channel) && !is_mounted()
    }

    /// Tells whether channels without keys are used.
    pub(crate) fn is_in_the_clear(&self) -> bool {
        self.inner.in_the_clear
    }

    pub(crate) fn remote_table(&self) -> Option<&Table> {
        self.inner.table.as_ref()
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.inner.shared
    }

    pub(crate) fn stores_of(&self, channel: &ChannelName) -> Vec<gigfs_core::api::MountedStore> {
        let mounts = self.shared().mounts.borrow();
        let mounted = mounts.iter().flat_map(|table| &table.channels).find(|mounted| mounted.channel == *channel);
        mounted.map(|mounted| mounted.stores.clone()).unwrap_or_default()
    }

    /// Waits until the mount table is known or known to be out of reach, where there is one.
    pub(crate) async fn mounts_known(&self) {
        let shared = self.shared();
        if self.inner.table.is_none() || *self.inner.mode.borrow() == Mode::Offline {
            return;
        }
        let known = || shared.mounts.borrow().is_some() || shared.table_down.lock().is_some();
        _ = timeout(FIRST_READ_TIMEOUT, shared.until(|_| known().then_some(()))).await;
    }

    /// Waits until the table has answered since the client was opened, or is known to be out of reach: what was kept of
    /// its mount table may be old.
    pub(crate) async fn mounts_heard(&self) {
        let shared = self.shared();
        if self.inner.table.is_none() || *self.inner.mode.borrow() == Mode::Offline {
            return;
        }
        let heard = || shared.fetched.load(Ordering::Acquire) || shared.table_down.lock().is_some();
        _ = timeout(FIRST_READ_TIMEOUT, shared.until(|_| heard().then_some(()))).await;
    }

    /// Refuses a channel that neither the mount table nor this device has. While the table is unknown, all are taken.
    pub(crate) fn check_channel(&self, channel: &ChannelName) -> Result<(), Error> {
        if self.inner.table.is_none() || self.is_local(channel) {
            return Ok(());
        }
        let mounts = self.shared().mounts.borrow();
        let unknown =
            mounts.as_ref().is_some_and(|table| !table.channels.iter().any(|known| known.channel == *channel));
        match unknown {
            true => Err(Error::UnknownChannel { user: self.inner.user.clone(), channel: channel.clone() }),
            false => Ok(()),
        }
    }
}

/// Wakes the replica when it asks for it.
async fn run_timers(shared: Arc<Shared>) {
    loop {
        let wake_at = shared.look(|replica| replica.wake_at());
        let sleep = async {
            match wake_at {
                Some(at) => sleep_until(tokio::time::Instant::now() + Duration::from_micros(at.since(now()))).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = sleep => shared.act(|replica, now| replica.handle(now, gigfs_core::sync::Event::Tick)),
            () = shared.timer.notified() => {}
        }
    }
}

fn unreserved(kind: &TypeName) -> Result<(), Error> {
    match kind.as_str().starts_with(RESERVED_PREFIX) {
        true => Err(Error::ReservedType { kind: kind.clone() }),
        false => Ok(()),
    }
}
