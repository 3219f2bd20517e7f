//! The local store: a thread of its own that reads and writes it, so that no async task waits for a disk.
//!
//! All writes that queued while the last commit ran come as one batch, and so share one sync of the disk. Beside the
//! operations it keeps, as notes: how far each log was read from each store, which own operations some store may lack,
//! the last mount table, and the user.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path as FsPath, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use bytes::Bytes;
use gigfs_core::sync::{Event, Kept, PersistId, Record};
use gigfs_core::{ActorId, Base, BaseId, ChannelName, Checkpoint, LogName, Op, PathPrefix, Sha, StoreId, UserName};
use gigfs_storage::{ActorLease, Append, Appended, Arrival, Batch, Engine, Install, Page, Sqlite, StorageError};
use notify::{RecursiveMode, Watcher};
use parking_lot::Mutex;

use crate::error::Error;
use crate::shared::Shared;

mod notes;

/// Something for the storage thread to do.
pub(crate) enum Job {
    /// Read a log.
    Load(LogName),
    /// Read what is known to be covered by a log's base.
    List(LogName),
    /// Write a batch.
    Persist { id: PersistId, records: Vec<Record> },
    /// Look for what other processes wrote.
    Poll,
    /// End.
    Stop,
}

/// A device's store on disk.
pub(crate) struct LocalStore {
    engine: Arc<Sqlite>,
    folder: PathBuf,
    user: UserName,
    jobs: mpsc::Sender<Job>,
    inbox: Mutex<Option<mpsc::Receiver<Job>>>,
    /// Whether a poll waits in the queue already.
    poll_queued: Arc<AtomicBool>,
    /// Held for as long as this process writes as the actor.
    lease: ActorLease,
}

impl LocalStore {
    /// Opens the store in a folder, which is made if need be, and checks that it is this user's.
    pub(crate) fn open(folder: &FsPath, user: &UserName) -> Result<Self, Error> {
        let engine = Arc::new(Sqlite::open(&folder.join(FILE))?);
        match engine.note(notes::USER)? {
            Some(found) if found != user.as_str().as_bytes() => {
                let found = String::from_utf8_lossy(&found).into_owned();
                return Err(Error::OtherUser { found, wanted: user.clone() });
            }
            Some(_) => {}
            None => {
                let note = (Bytes::from_static(notes::USER), Some(Bytes::copy_from_slice(user.as_str().as_bytes())));
                engine.commit(&Batch { notes: vec![note], ..Batch::default() })?;
            }
        }
        let lease = engine.lease_actor()?;
        let (jobs, inbox) = mpsc::channel();
        Ok(Self {
            engine,
            folder: folder.to_owned(),
            user: user.clone(),
            jobs,
            inbox: Mutex::new(Some(inbox)),
            poll_queued: Arc::default(),
            lease,
        })
    }

    /// Returns the user whose data a folder holds, if it holds any.
    pub(crate) fn user_of(folder: &FsPath) -> Result<Option<UserName>, Error> {
        let found = Sqlite::open(&folder.join(FILE))?.note(notes::USER)?;
        found.map(|name| UserName::parse(&String::from_utf8_lossy(&name)).map_err(Error::from)).transpose()
    }

    /// Returns the writing replica that this process is.
    pub(crate) fn actor(&self) -> ActorId {
        self.lease.actor()
    }

    pub(crate) fn send(&self, job: Job) {
        // The thread ends only after `Stop`, behind which nothing is sent that matters.
        _ = self.jobs.send(job);
    }

    /// Starts the thread.
    pub(crate) fn start(&self, shared: Arc<Shared>) -> Result<JoinHandle<()>, Error> {
        let inbox = self.inbox.lock().take().ok_or(Error::Closed)?;
        let worker = Worker {
            engine: self.engine.clone(),
            user: self.user.clone(),
            shared,
            positions: BTreeMap::new(),
            pulse: self.folder.join(PULSE),
            poll_queued: self.poll_queued.clone(),
        };
        std::thread::Builder::new()
            .name("gigfs-local".to_owned())
            .spawn(move || worker.run(&inbox))
            .map_err(|error| Error::System(format!("the storage thread cannot be started: {error}")))
    }

    /// Watches the folder for what other processes of this device write. Without it their writes are seen at the next
    /// start.
    pub(crate) fn watch_neighbours(&self, shared: &Arc<Shared>) -> Option<notify::RecommendedWatcher> {
        let weak = Arc::downgrade(shared);
        let on_event = move |event: notify::Result<notify::Event>| {
            let wrote =
                event.is_ok_and(|event| !event.kind.is_access() && event.paths.iter().any(|path| is_pulse(path)));
            if let (true, Some(local)) = (wrote, weak.upgrade().as_ref().and_then(|shared| shared.local.as_ref())) {
                local.poll_soon();
            }
        };
        let watch = notify::recommended_watcher(on_event).and_then(|mut watcher| {
            watcher.watch(&self.folder, RecursiveMode::NonRecursive)?;
            Ok(watcher)
        });
        watch.map_err(|error| tracing::warn!("other processes of this device cannot be watched: {error}")).ok()
    }

    /// Has the thread look for what other processes wrote, once for many events.
    fn poll_soon(&self) {
        if !self.poll_queued.swap(true, Ordering::AcqRel) {
            self.send(Job::Poll);
        }
    }

    /// Returns the logs in which some store may lack own operations, or that are copies which not every store has yet.
    pub(crate) fn pending_logs(&self) -> Result<BTreeSet<LogName>, Error> {
        let (pending, seeds) = (self.engine.notes(notes::PENDING)?, self.engine.notes(notes::SEED)?);
        let pending = pending.iter().filter_map(|(key, _)| notes::pending_of(&self.user, key)).map(|(log, _)| log);
        let seeds = seeds.iter().filter_map(|(key, _)| notes::seed_of(&self.user, key));
        Ok(pending.chain(seeds).collect())
    }

    /// Lists the logs of a channel that are kept here.
    pub(crate) fn logs(&self, channel: &ChannelName, prefix: &PathPrefix) -> Result<Vec<LogName>, Error> {
        let mut logs: Vec<LogName> = Vec::new();
        loop {
            let after = logs.last().map(|log| (&log.kind, &log.path));
            let page = self.engine.list(&self.user, channel, prefix, after, 1000)?;
            if page.is_empty() {
                return Ok(logs);
            }
            logs.extend(page.into_iter().map(|(log, _)| log));
        }
    }

    /// Lists the logs of a channel that are kept here, with what they are called, sealed, if that is kept.
    pub(crate) fn named_logs(
        &self,
        channel: &ChannelName,
        prefix: &PathPrefix,
    ) -> Result<Vec<(LogName, Option<Bytes>)>, Error> {
        let logs = self.logs(channel, prefix)?.into_iter();
        logs.map(|log| self.engine.note(&notes::name(&log)).map(|name| (log, name)).map_err(Error::from)).collect()
    }

    /// Returns the last mount table that was kept.
    pub(crate) fn mount_table(&self) -> Result<Option<Bytes>, Error> {
        Ok(self.engine.note(notes::MOUNTS)?)
    }

    /// Keeps the mount table for a start without a network.
    pub(crate) fn keep_mount_table(&self, table: &[u8]) -> Result<(), Error> {
        self.keep(notes::MOUNTS.to_vec(), Some(Bytes::copy_from_slice(table)))
    }

    /// Tells whether all that was here when a store was mounted has been compared with it.
    pub(crate) fn is_merged(&self, channel: &ChannelName, store: StoreId) -> Result<bool, Error> {
        Ok(self.engine.note(&notes::merged(channel, store))?.is_some())
    }

    /// Keeps whether all that was here when a store was mounted has been compared with it.
    pub(crate) fn keep_merged(&self, channel: &ChannelName, store: StoreId, merged: bool) -> Result<(), Error> {
        self.keep(notes::merged(channel, store), merged.then(Bytes::new))
    }

    fn keep(&self, key: Vec<u8>, value: Option<Bytes>) -> Result<(), Error> {
        self.engine.commit(&Batch { notes: vec![(key.into(), value)], ..Batch::default() })?;
        Ok(())
    }
}

/// The database within the folder.
const FILE: &str = "gigfs.db";
/// A file that is written after each commit, so that other processes look: the database's own files change before a
/// commit can be seen.
const PULSE: &str = "pulse";

fn is_pulse(path: &FsPath) -> bool {
    path.file_name().is_some_and(|name| name == PULSE)
}

/// The storage thread.
struct Worker {
    engine: Arc<Sqlite>,
    user: UserName,
    shared: Arc<Shared>,
    /// How far each channel's feed has been looked through for what other processes wrote.
    positions: BTreeMap<ChannelName, u64>,
    pulse: PathBuf,
    poll_queued: Arc<AtomicBool>,
}

impl Worker {
    fn run(mut self, inbox: &mpsc::Receiver<Job>) {
        while let Ok(job) = inbox.recv() {
            match job {
                Job::Load(log) => self.load(log),
                Job::List(log) => self.list(log),
                Job::Poll => self.poll(),
                Job::Stop => return,
                Job::Persist { id, records } => self.persist(id, records),
            }
        }
    }

    fn load(&mut self, log: LogName) {
        let kept = self.read(&log).unwrap_or_else(|error| {
            tracing::error!(%log, "the local store cannot be read: {error}");
            Kept::default()
        });
        self.shared.act(|replica, now| replica.handle(now, Event::Loaded { log, kept }));
    }

    /// Tells the replica what is known here to be covered by a log's base.
    fn list(&self, log: LogName) {
        let (base, shas) = self.covered(&log).unwrap_or_else(|error| {
            tracing::error!(%log, "the local store cannot be read: {error}");
            (None, Vec::new())
        });
        self.shared.act(|replica, now| replica.handle(now, Event::Listed { log, base, shas }));
    }

    fn covered(&self, log: &LogName) -> Result<(Option<BaseId>, Vec<Sha>), StorageError> {
        let base =
            || Ok::<_, StorageError>(self.engine.tail(log)?.and_then(|tail| tail.header.base).map(|base| base.id));
        let before = base()?;
        let shas = self.engine.covered(log, None, usize::MAX)?;
        // Another process of this device may have installed a later one meanwhile.
        Ok((base()?.filter(|after| before == Some(*after)), shas))
    }

    fn read(&mut self, log: &LogName) -> Result<Kept, StorageError> {
        if !self.positions.contains_key(&log.channel) {
            self.positions.insert(log.channel.clone(), self.engine.position(&self.user, &log.channel)?);
        }
        let mut kept = Kept { base: self.engine.base(log)?, ..Kept::default() };
        for stored in self.engine.read(log, 0, Page::ALL)? {
            match Op::from_record(log, &stored.record, Some(stored.sha)) {
                Ok(op) => kept.ops.push(op),
                Err(error) => tracing::error!(%log, "operation {} is damaged: {error}", stored.sha),
            }
        }
        kept.name = self.engine.note(&notes::name(log))?;
        kept.seed = self.engine.note(&notes::seed(log))?;
        let seen = self.engine.notes(&notes::seen_prefix(log))?;
        kept.seen = seen.iter().filter_map(|(key, value)| notes::seen_of(key, value)).collect();
        let pending = self.engine.notes(&notes::pending_prefix(log))?;
        kept.pending = pending.iter().filter_map(|(key, _)| notes::sha_of(key)).collect();
        let shown = pending.iter().filter(|(_, value)| notes::is_shown(value));
        kept.shown = shown.filter_map(|(key, _)| notes::sha_of(key)).collect();
        Ok(kept)
    }

    fn persist(&mut self, id: PersistId, records: Vec<Record>) {
        let committed = self.write(records);
        for arrival in committed.iter().flatten().filter_map(new_arrival) {
            // What stands right behind what was looked through was written here, and need not be looked at again.
            if let Some(position) = self.positions.get_mut(&arrival.log.channel)
                && arrival.position == *position + 1
            {
                *position = arrival.position;
            }
        }
        match &committed {
            Ok(_) => _ = std::fs::write(&self.pulse, b"."),
            Err(why) => tracing::error!("the local store cannot be written: {why}"),
        }
        let failed = committed.err().map(|error| error.to_string());
        self.shared.act(|replica, now| replica.handle(now, Event::Persisted { id, failed }));
        self.shared.progressed();
    }

    /// Writes records, in one commit.
    fn write(&self, records: Vec<Record>) -> Result<Vec<Appended>, StorageError> {
        let mut batch = Batch::default();
        for record in records {
            match record {
                Record::Op { log, op } => batch.appends.push(Append::Op { log, op }),
                Record::Base { log, base, covered, archive } => {
                    // Another process of this device may have met a later one.
                    if !self.has_later(&log, &base)? {
                        let at = crate::shared::now();
                        batch.installs.push(Install { log, base, covered, retain: archive, at });
                    }
                }
                Record::Restore { log } => batch.restores.push(log),
                Record::Forget { log, sha } => batch.removes.push((log, sha)),
                Record::Seen { log, store, seen } => batch.notes.push(notes::seen(&log, store, seen)),
                Record::Pending { log, sha, pending } => batch.notes.push(notes::pending(&log, sha, pending)),
                Record::Shown { log, sha } => batch.notes.push(notes::shown(&log, sha)),
                Record::Name { log, sealed } => batch.notes.push((notes::name(&log), Some(sealed))),
                Record::Seed { log, seed } => batch.notes.push((notes::seed(&log), seed)),
            }
        }
        self.engine.commit(&batch)
    }

    /// Tells whether a log's base here is later than another one.
    fn has_later(&self, log: &LogName, base: &Base) -> Result<bool, StorageError> {
        let Some(header) = self.engine.tail(log)?.and_then(|tail| tail.header.base) else { return Ok(false) };
        Ok(Checkpoint::from_trusted(&base.record).is_ok_and(|checkpoint| header.id > checkpoint.id(log)))
    }

    /// Tells the replica what other processes of this device wrote to the logs that it has loaded.
    fn poll(&mut self) {
        self.poll_queued.store(false, Ordering::Release);
        let channels: Vec<ChannelName> = self.positions.keys().cloned().collect();
        for channel in channels {
            if let Err(error) = self.poll_channel(&channel) {
                tracing::error!(%channel, "the local store cannot be read: {error}");
            }
        }
    }

    fn poll_channel(&mut self, channel: &ChannelName) -> Result<(), StorageError> {
        let page = Page { ops: 4096, bytes: 4 << 20 };
        loop {
            let after = self.positions.get(channel).copied().unwrap_or(0);
            let arrivals = self.engine.feed(&self.user, channel, after, page)?;
            let Some(last) = arrivals.last() else { return Ok(()) };
            self.positions.insert(channel.clone(), last.position);
            let mut by_log: BTreeMap<LogName, Vec<Op>> = BTreeMap::new();
            for arrival in arrivals {
                let opened = Op::from_record(&arrival.log, &arrival.stored.record, Some(arrival.stored.sha));
                if let Ok(op) = opened {
                    by_log.entry(arrival.log).or_default().push(op);
                }
            }
            self.shared.act(|replica, now| {
                for (log, ops) in by_log {
                    replica.handle(now, Event::Neighbour { log, ops });
                }
            });
        }
    }
}

fn new_arrival(appended: &Appended) -> Option<&Arrival> {
    match appended {
        Appended::New(arrival) => Some(arrival),
        Appended::Known { .. } | Appended::Covered { .. } | Appended::Doubtful { .. } | Appended::Refused(_) => None,
    }
}
