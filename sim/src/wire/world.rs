//! A wire world: servers that are processes, the wires to them, clients, and what is written.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use gigfs::{Builder, Error, Gig, Log, Mode, PrunePolicy, Pushed, Store, Table};
use gigfs_core::api::AddStore;
use gigfs_core::{ChannelName, LogName, SessionId, StoreId, UserName};
use gigfs_sim::{Keys, Rng};
use parking_lot::Mutex;
use serde_json::Value;
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::Failure;
use crate::ledger::{Ledger, Write};
use crate::proxy::{Peer, Proxy, Sessions};
use crate::script::{Between, Host, Spec, Step};
use crate::server::{Process, Role, USER};

pub(crate) const CHANNEL: &str = "home";
/// The path of every log; they differ by type.
const PATH: &str = "/log";

/// How long a device's own disk may take.
const DISK_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a script waits for a value to take out of, before it writes blindly.
const LOOK_TIMEOUT: Duration = Duration::from_millis(500);
/// How long what a step begins may go on beside the script.
const ERRAND_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a client that hurries does so.
const HURRY: Duration = Duration::from_millis(500);
/// How long all may exchange what they have, and how long a log may then be pruned.
const PEACE: Duration = Duration::from_secs(1);

/// A server, its wires, and its process while it is up.
pub(crate) struct Server {
    role: Role,
    pub(crate) data: PathBuf,
    pub(crate) proxy: Proxy,
    process: Option<Process>,
    id: Option<StoreId>,
}

/// A client, which is always open.
pub(crate) struct Client {
    session: String,
    folder: Option<PathBuf>,
    pub(crate) gig: Gig,
    mode: Mode,
    /// What goes on beside the script.
    pub(crate) errands: JoinSet<()>,
    /// Writes of a client without a folder, with their logs.
    pushed: Vec<(usize, Write, Pushed)>,
}

/// What was done.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) writes: u64,
    pub(crate) pruned: u64,
    pub(crate) moved: u64,
    pub(crate) crashes: u64,
    pub(crate) checks: u64,
}

pub(crate) struct World {
    pub(crate) spec: Spec,
    pub(crate) table: Server,
    pub(crate) stores: Vec<Server>,
    pub(crate) clients: Vec<Client>,
    pub(crate) ledgers: Vec<Ledger>,
    keys: Keys,
    /// The logs, by the names that stores know.
    pub(crate) names: Vec<LogName>,
    pub(crate) counts: Counts,
    /// Counted beside the script: logs pruned, and stores that came or went.
    beside: Arc<Mutex<(u64, u64)>>,
    /// Set while the channel's stores are being changed, and for good once nobody knows how that ended.
    moving: Arc<AtomicBool>,
    operator: String,
    rng: Rng,
    writes: u64,
    sessions: Sessions,
    folder: TempDir,
}

impl Server {
    async fn new(role: Role, data: PathBuf, clients: usize, sessions: &Sessions) -> Result<Self, Failure> {
        let proxy = Proxy::start(clients, sessions.clone()).await?;
        Ok(Self { role, data, proxy, process: None, id: None })
    }

    /// Starts it, if it is down.
    pub(crate) async fn start(&mut self) -> Result<(), Failure> {
        if self.process.is_some() {
            return Ok(());
        }
        let said = self.start_with(0).await?;
        if let (Role::Store, [id]) = (self.role, &said[..]) {
            let id: StoreId = id.parse()?;
            if self.id.replace(id).is_some_and(|before| before != id) {
                return Err(format!("a store is another one after it was started again: {id}").into());
            }
        }
        Ok(())
    }

    async fn start_with(&mut self, sessions: usize) -> Result<Vec<String>, Failure> {
        let (process, said) = Process::start(self.role, &self.data, &self.proxy.url(), sessions).await?;
        self.proxy.lead_to(Some(process.address));
        self.process = Some(process);
        Ok(said)
    }

    async fn crash(&mut self) -> Result<(), Failure> {
        self.proxy.lead_to(None);
        match self.process.take() {
            Some(process) => process.kill().await,
            None => Ok(()),
        }
    }

    /// Stops it in order, if it is up.
    pub(crate) async fn stop(&mut self) -> Result<(), Failure> {
        self.proxy.lead_to(None);
        match self.process.take() {
            Some(process) => process.stop().await,
            None => Ok(()),
        }
    }

    pub(crate) fn store_id(&self) -> Result<StoreId, Failure> {
        self.id.ok_or_else(|| "the table is no store".into())
    }

    fn admin_token(&self) -> Result<String, Failure> {
        Ok(std::fs::read_to_string(self.data.join("admin-token"))?.trim().to_owned())
    }
}

impl World {
    /// Starts the servers, mounts the first stores and opens the clients.
    pub(crate) async fn start(seed: u64, spec: Spec) -> Result<Self, Failure> {
        let folder = tempfile::tempdir()?;
        let sessions = Sessions::default();
        let clients = spec.clients.len();
        let mut table = Server::new(Role::Table, folder.path().join("table"), clients, &sessions).await?;
        // One session for the operator, and one for each client.
        let mut tokens = table.start_with(clients + 1).await?;
        for (at, token) in tokens.iter().enumerate().skip(1) {
            let session: SessionId = token.split('.').next().unwrap_or_default().parse()?;
            sessions.lock().insert(session, at - 1);
        }
        let mut stores = Vec::new();
        for at in 0..spec.stores {
            let data = folder.path().join(format!("store-{at}"));
            let mut store = Server::new(Role::Store, data, clients, &sessions).await?;
            store.start().await?;
            stores.push(store);
        }
        let operator = tokens.remove(0);
        let named = |kind: &&str| LogName::parse(USER, CHANNEL, kind, PATH);
        let (keys, names) = Keys::new(spec.sealed, spec.logs.iter().map(named).collect::<Result<_, _>>()?);
        let mut world = Self {
            ledgers: spec.logs.iter().map(|kind| Ledger::new(kind)).collect(),
            clients: Vec::new(),
            keys,
            names,
            counts: Counts::default(),
            beside: Arc::default(),
            moving: Arc::default(),
            rng: Rng::new(seed),
            writes: 0,
            spec,
            table,
            stores,
            operator,
            sessions,
            folder,
        };
        for store in 0..world.spec.mounted {
            world.mount(store).await?;
        }
        for (at, session) in tokens.into_iter().enumerate() {
            let folder = world.spec.clients[at].map(|at| world.folder.path().join(format!("device-{at}")));
            let gig = world.open(at, &session, folder.as_ref()).await?;
            let mode = Mode::Online;
            let (errands, pushed) = (JoinSet::new(), Vec::new());
            world.clients.push(Client { session, folder, gig, mode, errands, pushed });
        }
        Ok(world)
    }

    /// Has one step happen.
    pub(crate) async fn take(&mut self, step: Step) -> Result<(), Failure> {
        match step {
            Step::Wait { millis } => tokio::time::sleep(Duration::from_millis(millis)).await,
            Step::Write { client, log, writes } => {
                for _ in 0..writes {
                    self.write(client, log).await?;
                }
            }
            Step::Refresh { client, log } => {
                let log = self.log(client, log)?;
                self.errand(client, async move { _ = log.refresh(ERRAND_TIMEOUT).await });
            }
            Step::Prune { client, log } => {
                let (log, beside) = (self.log(client, log)?, self.beside.clone());
                self.errand(client, async move {
                    if let Ok(Some(_)) = log.prune(ERRAND_TIMEOUT).await {
                        beside.lock().0 += 1;
                    }
                });
            }
            Step::Remove { client, log } => self.remove(client, log).await?,
            Step::Hold { wire, way } => self.wire(wire, |wire| wire.hold(way)),
            Step::Delay { wire, millis } => self.wire(wire, |wire| wire.delay(Duration::from_millis(millis))),
            Step::Cut { wire, way, bytes, reset } => self.wire(wire, |wire| wire.cut_after(way, bytes, reset)),
            Step::Partition { wire } => self.wire(wire, crate::proxy::Wire::partition),
            Step::Mend { wire } => self.wire(wire, crate::proxy::Wire::mend),
            Step::Crash { host } => {
                self.counts.crashes += 1;
                self.host(host).crash().await?;
            }
            Step::Stop { host } => self.host(host).stop().await?,
            Step::Start { host } => self.host(host).start().await?,
            Step::Join { store } => self.join(store)?,
            Step::Leave { client, store } => self.leave(client, store)?,
            Step::SetMode { client, mode } => {
                self.clients[client].mode = mode;
                self.clients[client].gig.set_mode(mode);
            }
            Step::Hurry { client } => {
                let gig = self.clients[client].gig.clone();
                self.errand(client, async move { _ = gig.flush(None, HURRY).await });
            }
            Step::Peace { client } => self.peace(client).await?,
            Step::Reopen { client } => self.reopen(client).await?,
        }
        Ok(())
    }

    async fn write(&mut self, client: usize, at: usize) -> Result<(), Failure> {
        self.writes += 1;
        let (write, log) = (self.writes, self.log(client, at)?);
        let seen = look(&log).await?;
        let draft = self.ledgers[at].draft(write, seen.as_deref(), &mut self.rng);
        let mut pushed = log.push(&draft.intent).await.map_err(|error| format!("{}: {error}", draft.intent))?;
        self.ledgers[at].pushed(write, &draft);
        self.counts.writes += 1;
        if self.clients[client].folder.is_some() {
            return durable(&mut pushed).await;
        }
        self.clients[client].pushed.push((at, write, pushed));
        Ok(())
    }

    /// Removes a log, if it can be followed what that leaves.
    async fn remove(&mut self, client: usize, at: usize) -> Result<(), Failure> {
        if !self.ledgers[at].shows_each_alone() {
            return Ok(());
        }
        let log = self.log(client, at)?;
        let of = &self.clients[client];
        // So that nothing more is removed than what is seen.
        of.gig.set_mode(Mode::Offline);
        if let Some(seen) = look(&log).await? {
            let mut pushed = log.remove().await?;
            if of.folder.is_some() {
                durable(&mut pushed).await?;
            }
            let shared =
                self.clients.iter().filter(|other| other.folder.is_some() && other.folder == of.folder).count();
            self.ledgers[at].removed(&seen, shared > 1);
        }
        of.gig.set_mode(of.mode);
        Ok(())
    }

    /// Has the store come to the channel, beside the script.
    fn join(&mut self, store: usize) -> Result<(), Failure> {
        if self.moving.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let (operator, moving, beside) = (self.operator()?, self.moving.clone(), self.beside.clone());
        let (url, token) = (self.stores[store].proxy.url(), self.stores[store].admin_token()?);
        self.errand(0, async move {
            // How it ended may not be known; mounting a store again is no mistake.
            if let Ok(Ok(())) = timeout(ERRAND_TIMEOUT, mount(&operator, &url, &token)).await {
                beside.lock().1 += 1;
            }
            moving.store(false, Ordering::Release);
        });
        Ok(())
    }

    /// Seals the store, drains it and takes it off the channel, beside the script, as `gig store rm` does.
    fn leave(&mut self, client: usize, store: usize) -> Result<(), Failure> {
        if self.moving.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let id = self.stores[store].store_id()?;
        let table = self.table_of(&self.clients[client].session)?;
        let (gig, moving, beside) = (self.clients[client].gig.clone(), self.moving.clone(), self.beside.clone());
        self.errand(client, async move {
            match timeout(ERRAND_TIMEOUT, take_off(&gig, &table, id)).await {
                Ok(Ok(Left::Gone)) => {
                    beside.lock().1 += 1;
                    moving.store(false, Ordering::Release);
                }
                Ok(Ok(Left::Stays)) => moving.store(false, Ordering::Release),
                // A request may still be on its way, and nobody may take another store off before it has come.
                Ok(Err(_)) | Err(_) => {}
            }
        });
        Ok(())
    }

    /// Closes a client and opens it again. One without a folder vanishes with what no store has.
    async fn reopen(&mut self, at: usize) -> Result<(), Failure> {
        let client = &mut self.clients[at];
        client.errands.shutdown().await;
        let (session, folder) = (client.session.clone(), client.folder.clone());
        if folder.is_some() {
            // The one that is closed is replaced below.
            timeout(DISK_TIMEOUT, client.gig.clone().close()).await.map_err(|_| "a client does not close")??;
        }
        let gig = self.open(at, &session, folder.as_ref()).await?;
        let client = &mut self.clients[at];
        client.gig = gig;
        client.mode = Mode::Online;
        for (log, write, pushed) in client.pushed.drain(..) {
            if pushed.status().accepted() == 0 {
                self.ledgers[log].vanished(write);
            }
        }
        Ok(())
    }

    /// Makes everything whole, has the clients exchange what they can in a moment, and one of them prune what it can.
    async fn peace(&mut self, client: usize) -> Result<(), Failure> {
        self.mend().await?;
        let mut flushes = JoinSet::new();
        for client in &self.clients {
            let gig = client.gig.clone();
            flushes.spawn(async move { _ = gig.flush(None, PEACE).await });
        }
        flushes.join_all().await;
        let mut prunes = JoinSet::new();
        for at in 0..self.spec.logs.len() {
            let log = self.log(client, at)?;
            prunes.spawn(async move { matches!(log.prune(PEACE).await, Ok(Some(_))) });
        }
        self.counts.pruned += prunes.join_all().await.into_iter().filter(|pruned| *pruned).count() as u64;
        Ok(())
    }

    async fn mend(&mut self) -> Result<(), Failure> {
        for server in self.stores.iter_mut().chain([&mut self.table]) {
            server.proxy.mend();
            server.start().await?;
        }
        for client in &mut self.clients {
            client.gig.set_mode(Mode::Online);
            client.mode = Mode::Online;
        }
        Ok(())
    }

    /// Makes the servers and the wires whole, and waits until nothing goes on beside the script any more.
    pub(crate) async fn heal(&mut self) -> Result<(), Failure> {
        self.mend().await?;
        for client in &mut self.clients {
            while client.errands.join_next().await.is_some() {}
        }
        let (pruned, moved) = *self.beside.lock();
        self.counts.pruned += pruned;
        self.counts.moved += moved;
        Ok(())
    }

    /// Mounts a store on the channel.
    async fn mount(&self, store: usize) -> Result<(), Failure> {
        let store = &self.stores[store];
        mount(&self.operator()?, &store.proxy.url(), &store.admin_token()?).await
    }

    async fn open(&self, client: usize, session: &str, folder: Option<&PathBuf>) -> Result<Gig, Failure> {
        let device = self.spec.clients[client].unwrap_or(client);
        let builder = self.builder(session, device)?.prune(self.spec.prune);
        let builder = match folder {
            Some(folder) => builder.local(folder),
            None => builder,
        };
        Ok(builder.open().await?)
    }

    /// Opens a client that knows nothing, over wires that nothing befalls.
    pub(crate) async fn fresh(&self) -> Result<Gig, Failure> {
        Ok(self.builder(&self.operator, usize::from(u8::MAX))?.prune(PrunePolicy::OnDemand).open().await?)
    }

    /// Begins a client on the device with this number.
    fn builder(&self, session: &str, device: usize) -> Result<Builder, Failure> {
        let builder = Gig::builder().table(self.table_of(session)?);
        Ok(match self.keys.access(&user()?, u8::try_from(device)?) {
            Some(access) => builder.sealed(ChannelName::parse(CHANNEL)?, access),
            None => builder.in_the_clear(),
        })
    }

    pub(crate) fn operator(&self) -> Result<Table, Failure> {
        self.table_of(&self.operator)
    }

    /// Names the table with a session. Its connections are its own, so that the proxy sees whose they are.
    fn table_of(&self, session: &str) -> Result<Table, Failure> {
        Ok(Table::new(&self.table.proxy.url(), user()?, &[])?.with_session(session))
    }

    fn log(&self, client: usize, log: usize) -> Result<Log, Failure> {
        self.log_of(&self.clients[client].gig, log)
    }

    pub(crate) fn log_of(&self, gig: &Gig, log: usize) -> Result<Log, Failure> {
        Ok(gig.log(CHANNEL, self.spec.logs[log], PATH)?)
    }

    fn host(&mut self, host: Host) -> &mut Server {
        match host {
            Host::Table => &mut self.table,
            Host::Store(at) => &mut self.stores[at],
        }
    }

    fn wire(&mut self, between: Between, change: impl FnOnce(&crate::proxy::Wire)) {
        let peer = between.client.map_or(Peer::Server, Peer::Client);
        change(self.host(between.host).proxy.wire(peer));
    }

    /// Has something go on beside the script, until it ends or the client is opened again.
    fn errand(&mut self, client: usize, errand: impl Future<Output = ()> + Send + 'static) {
        self.clients[client].errands.spawn(errand);
    }

    /// Says which session is whose, for a reader of a trace.
    pub(crate) fn sessions(&self) -> BTreeMap<usize, String> {
        self.sessions.lock().iter().map(|(session, at)| (*at, session.to_string())).collect()
    }
}

/// How taking a store off ended, where that is known.
enum Left {
    Gone,
    Stays,
}

async fn take_off(gig: &Gig, table: &Table, store: StoreId) -> Result<Left, Error> {
    let channel = ChannelName::parse(CHANNEL)?;
    let mounts = table.mounts().await?;
    let mounted: Vec<StoreId> =
        mounts.channels.iter().flat_map(|mounted| &mounted.stores).map(|store| store.id).collect();
    if mounted.len() < 2 || !mounted.contains(&store) {
        return Ok(Left::Stays);
    }
    table.seal(&channel, store, true).await?;
    if gig.drain(&channel, store, ERRAND_TIMEOUT / 2, |_| {}).await.is_err() {
        table.seal(&channel, store, false).await?;
        return Ok(Left::Stays);
    }
    table.remove_store(&channel, store, false).await?;
    Ok(Left::Gone)
}

async fn mount(operator: &Table, url: &str, admin_token: &str) -> Result<(), Failure> {
    let admin = Store::new(url, &[])?;
    admin.create_user(admin_token, &user()?).await?;
    let code = admin.confirm_code(admin_token, &user()?).await?.code;
    operator
        .add_store(&ChannelName::parse(CHANNEL)?, &AddStore { store_url: url.to_owned(), code: Some(code) })
        .await?;
    Ok(())
}

/// Returns the value that the client shows at once, or nothing if it has none.
async fn look(log: &Log) -> Result<Option<Arc<Value>>, Failure> {
    match timeout(LOOK_TIMEOUT, log.get()).await {
        Ok(Ok(value)) => Ok(Some(value)),
        Ok(Err(Error::NoAnswer { .. })) | Err(_) => Ok(None),
        Ok(Err(error)) => Err(error.into()),
    }
}

/// Waits until a write is on the device's disk.
async fn durable(pushed: &mut Pushed) -> Result<(), Failure> {
    let receipt = timeout(DISK_TIMEOUT, pushed.durable()).await.map_err(|_| "a write does not become durable")?;
    match receipt.local_error {
        Some(why) => Err(format!("the device's disk has failed: {why}").into()),
        None => Ok(()),
    }
}

pub(crate) fn user() -> Result<UserName, Failure> {
    Ok(UserName::parse(USER)?)
}
