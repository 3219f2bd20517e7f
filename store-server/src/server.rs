//! The server: opens everything that can fail before it says that it is there, runs, and stops in order.

use std::fs;
use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use axum_server::Handle;
use axum_server::accept::NoDelayAcceptor;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use gigfs_core::{Date, RunId, StoreId};
use gigfs_serve::{Attempts, Audit, Door, Listener, Networks, Stop, TlsError, files, tls};
use gigfs_storage::{Engine, Fjall, Memory, Mended, StorageError};
use reqwest::{Certificate, Url};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::access::Access;
use crate::base::Bases;
use crate::blob::Blobs;
use crate::clock;
use crate::commit::Commits;
use crate::config::{Config, EngineKind};
use crate::feed::Hub;
use crate::http;
use crate::keys;
use crate::metric::Metrics;
use crate::mirror::Mirror;
use crate::quota::Quotas;
use crate::seal::Seals;
use crate::session::Sessions;
use crate::standing::TableClient;
use crate::store::{Inner, Store};
use crate::token::Codes;
use crate::user::Users;

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The data folder, or a file in it, cannot be used.
    #[error("{path} cannot be used: {source}; check that it is there and belongs to this user")]
    Data {
        /// The folder or file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A file that holds a secret holds too little.
    #[error("{path} holds no secret of at least {} characters; remove it to have one made", keys::SECRET_BYTES_MIN)]
    Secret {
        /// The file.
        path: PathBuf,
    },
    /// The data was mended, and what would give back its notes cannot be read.
    #[error(
        "{path} cannot be read: {source}. It is the second copy of the store's users, quotas, seals and revocations, and the \
         data was damaged and may lack them; see to it that it can be read, or move it away to start with what is left"
    )]
    Notes {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The store's signing key is gone or damaged.
    #[error(
        "{path} {reason}, and the store {store} is known by this key to its users' tables; bring the file back from a \
         backup. Without one, start once with GIG_STORE_NEW_SIGNING_KEY=true: the store reads and writes as before, and \
         its channels are pruned again once it was taken off them and mounted anew"
    )]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
        /// The store.
        store: StoreId,
    },
    /// The oplogs cannot be opened.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The address cannot be listened on.
    #[error("the store cannot listen on {address}: {source}; choose another address or stop what uses it")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// A setting has a value that cannot be.
    #[error("the setting {setting} {reason}")]
    Setting {
        /// Its name.
        setting: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// TLS cannot be spoken.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// A server that stopped by itself.
#[derive(Debug, thiserror::Error)]
#[error("the store on {address} stopped: {source}")]
pub struct RunError {
    address: SocketAddr,
    source: std::io::Error,
}

/// Why a server ended that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It was asked to.
    Stopped,
    /// It met damage in its data. [`Server::bind`] mends it.
    Damaged,
}

/// A store server that listens, and answers once it runs.
pub struct Server {
    store: Store,
    thread: JoinHandle<()>,
    listener: Listener,
    tls: Option<RustlsConfig>,
    admin_token_path: PathBuf,
    grace: Duration,
    retain: Duration,
}

impl Server {
    /// Opens or creates the store in the config's data folder, and listens.
    ///
    /// # Errors
    /// [`BindError`] says which file, address or setting is in the way. The data is left as it was.
    pub async fn bind(config: Config) -> Result<Self, BindError> {
        check(&config)?;
        let address = config.listen;
        let listener = Listener::bind(address).await.map_err(|source| BindError::Listen { address, source })?;
        let public_url = match &config.public_url {
            Some(url) => url.trim_end_matches('/').to_owned(),
            None => listener.own_url(config.tls.is_some()),
        };
        let (grace, retain) = (Duration::from_secs(config.shutdown_seconds), config.retain);
        let opened = tokio::task::spawn_blocking(move || open(&config, public_url));
        let Opened { store, thread, tls, admin_token_path } = opened.await.expect("opening does not panic")?;
        Ok(Self { store, thread, listener, tls, admin_token_path, grace, retain })
    }

    /// Returns the address that the server listens on.
    pub fn local_addr(&self) -> SocketAddr {
        self.listener.address()
    }

    /// Returns the URL under which tables and clients reach the store.
    pub fn public_url(&self) -> &str {
        self.store.public_url()
    }

    /// Returns the store's id.
    pub fn store_id(&self) -> StoreId {
        self.store.store_id()
    }

    /// Returns the file that holds the admin token.
    pub fn admin_token_path(&self) -> &Path {
        &self.admin_token_path
    }

    /// Returns a handle for calls from this process, good until the server has stopped.
    pub fn store(&self) -> Store {
        self.store.clone()
    }

    /// Answers until `shutdown` completes, then stops accepting, lets requests finish, says goodbye to the streams once
    /// what they pushed is answered, and closes the data. All of it takes no longer than the config allows. It ends in the
    /// same way by itself when it has met damage in its data, and waits then until the data is closed.
    ///
    /// # Errors
    /// [`RunError`] if the listener failed.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<Ended, RunError> {
        let Self { store, thread, listener, tls, grace, retain, .. } = self;
        let address = listener.address();
        // Ends the streams also when this future is dropped.
        let _stop = store.inner.stopping.clone().drop_guard();
        tracing::info!(%address, url = store.public_url(), store = %store.store_id(), "the store is there");
        let handle = Handle::new();
        let serving = serve(listener, tls, handle.clone(), &store);
        let shutdown = async {
            shutdown.await;
            tracing::info!("the store is stopping");
        };
        let stop = Stop { token: &store.inner.stopping, grace };
        let serving = stop.serve(&handle, serving, shutdown);
        let (served, ()) = tokio::join!(serving, keep_house(&store, retain));
        store.inner.streams.close();
        if tokio::time::timeout(grace, store.inner.streams.wait()).await.is_err() {
            tracing::warn!("streams that did not end in time are cut off");
        }
        let ended = match store.inner.is_damaged() {
            true => Ended::Damaged,
            false => Ended::Stopped,
        };
        store.inner.commits.stop().await;
        if tokio::task::spawn_blocking(move || thread.join()).await.map_or(true, |joined| joined.is_err()) {
            tracing::error!("the committing thread did not end well");
        }
        store.inner.jobs.close();
        if tokio::time::timeout(grace, store.inner.jobs.wait()).await.is_err() {
            tracing::warn!("something still reads the data, which stays open until it is done");
            // Nobody opens data that is open.
            if ended == Ended::Damaged {
                store.inner.jobs.wait().await;
            }
        }
        served.map(|()| ended).map_err(|source| RunError { address, source })
    }
}

/// Forgets what is old, asks tables again and folds the metrics, until the store stops.
async fn keep_house(store: &Store, retain: Duration) {
    let work = async {
        let mut forget_at = Instant::now();
        loop {
            if forget_at <= Instant::now() {
                forget_retained(store, retain).await;
                forget_at = Instant::now() + retain.min(FORGETTING);
            }
            tokio::time::sleep(HOUSEKEEPING).await;
            store.inner.access.keep_house().await;
            // It is in the log, and is tried again at the next start.
            _ = store.blocking(|inner| inner.access.forget_revocations(&inner.commits)).await;
            store.inner.metrics.figures.fold();
            if store.inner.is_damaged() {
                tracing::error!("the store has met damage in its data; it closes the data to have it mended");
                store.inner.stopping.cancel();
            }
        }
    };
    tokio::select! {
        () = store.inner.stopping.cancelled() => {}
        () = work => {}
    }
}

/// Forgets what was covered, and what was superseded, longer than `retain` ago. A little at a time: pushes wait meanwhile.
async fn forget_retained(store: &Store, retain: Duration) {
    let retain = u64::try_from(retain.as_micros()).unwrap_or(u64::MAX);
    let before = Date::saturating(clock::date().micros().saturating_sub(retain));
    loop {
        match store.read(move |engine| engine.forget_retained(before, FORGOTTEN_AT_ONCE_MAX)).await {
            Ok(forgotten) => {
                store.inner.metrics.forgotten.increment(forgotten as u64);
                if forgotten < FORGOTTEN_AT_ONCE_MAX {
                    return;
                }
            }
            // It is in the log, and is tried again the next time.
            Err(_) => return,
        }
    }
}

/// What is opened from the data folder and the settings.
struct Opened {
    store: Store,
    thread: JoinHandle<()>,
    tls: Option<RustlsConfig>,
    admin_token_path: PathBuf,
}

/// The data, with all notes that there were.
struct Data {
    engine: Arc<dyn Engine>,
    /// The same, and what follows its notes, where it is on a disk.
    disk: Option<(Arc<Fjall>, Mirror)>,
}

/// Opens the data. What it lost of its notes is given back before anything looks at them, or fails.
fn open_data(config: &Config) -> Result<Data, BindError> {
    match config.engine {
        EngineKind::Memory => Ok(Data { engine: Arc::new(Memory::fresh()?), disk: None }),
        EngineKind::Fjall => {
            let disk = Arc::new(Fjall::open(&config.data_dir.join(OPLOGS))?);
            disk.mended().into_iter().for_each(tell_what_was_mended);
            let mirror = Mirror::open(&config.data_dir, &*disk)?;
            Ok(Data { engine: disk.clone(), disk: Some((disk, mirror)) })
        }
    }
}

fn data(path: &Path) -> impl FnOnce(std::io::Error) -> BindError {
    let path = path.to_owned();
    move |source| BindError::Data { path, source }
}

fn open(config: &Config, public_url: String) -> Result<Opened, BindError> {
    let dir = &config.data_dir;
    files::create_private_dir(dir).map_err(data(dir))?;
    let Data { engine, disk } = open_data(config)?;
    let (disk, mirror) = disk.unzip();
    let audit = Audit::open(dir).map_err(data(&dir.join("audit.jsonl")))?;
    let admin_token_path = dir.join(keys::ADMIN_TOKEN);
    let admin = blake3::hash(keys::secret(&admin_token_path, &*engine)?.as_bytes());
    let codes = Codes::new(engine.store_id(), keys::secret(&dir.join(keys::CODE_SECRET), &*engine)?.as_bytes());
    let networks = config.private_networks.as_deref();
    let networks = Networks::of(networks, config.listen.ip(), config.public_url.as_deref());
    let tables = TableClient::new(trusted(&config.trusted_certificates)?, networks)
        .map_err(|error| BindError::Setting { setting: TRUSTED, reason: format!("cannot be used: {error}") })?;
    let signer = keys::signer(&dir.join(keys::SIGNING_KEY), &*engine, config.new_signing_key)?;
    let users = Users::load(&*engine)?;
    let access = Access::load(engine.store_id(), tables, &*engine)?;
    let folder = dir.join(BLOBS);
    let blobs = Arc::new(Blobs::open(&folder).map_err(data(&folder))?);
    let hosts: Vec<_> = Url::parse(&public_url).ok().and_then(|url| host(&url)).into_iter().collect();
    let tls = config.tls.as_ref().map(|tls| tls::server_config(tls, dir, &hosts)).transpose()?;
    let (hub, metrics) = (Arc::new(Hub::default()), Metrics::new());
    let seals = Seals::load(&*engine)?;
    let quotas = Quotas::load(&*engine, config.user_quota, blobs.clone())?;
    let (commits, thread) = Commits::start(engine.clone(), hub.clone(), metrics.clone(), seals, quotas.clone(), mirror);
    let (stopping, streams, jobs) = (CancellationToken::new(), TaskTracker::new(), TaskTracker::new());
    let bases = Bases::default();
    let mut run = [0; 16];
    getrandom::fill(&mut run).map_err(|error| data(dir)(std::io::Error::other(error)))?;
    let inner = Inner {
        engine,
        disk,
        data_dir: dir.clone(),
        commits,
        hub,
        run: RunId::from_bytes(run),
        users,
        quotas,
        sessions: Sessions::new(config.session_ops_per_second, config.session_streams),
        drain_max: Duration::from_secs(config.stream_seconds.max(1)),
        access,
        codes,
        signer,
        bases,
        blobs,
        metrics,
        admin,
        audit,
        attempts: Attempts::default(),
        trusted_proxies: config.trusted_proxies.clone(),
        connections: config.connections.clone(),
        public_url,
        stopping,
        streams,
        jobs,
    };
    let store = Store { inner: Arc::new(inner) };
    Ok(Opened { store, thread, tls: tls.map(RustlsConfig::from_config), admin_token_path })
}

/// Says what was damaged and what is missing, for whoever reads the log.
fn tell_what_was_mended(mended: &Mended) {
    for lost in &mended.lost {
        tracing::error!("{lost}; the devices of its user bring it back from where else it is");
    }
    if mended.nameless > 0 {
        tracing::error!(operations = mended.nameless, "of logs whose names are lost");
    }
    let kept = mended.kept_in.as_deref().map(Path::display);
    tracing::warn!(
        damaged = mended.damage.len(),
        logs = mended.lost.len(),
        kept_in = kept.map(tracing::field::display),
        "the data was mended"
    );
}

async fn serve(
    listener: Listener,
    tls: Option<RustlsConfig>,
    handle: Handle<SocketAddr>,
    store: &Store,
) -> std::io::Result<()> {
    let Inner { connections, trusted_proxies, metrics, .. } = &*store.inner;
    let figures = metrics.figures.clone();
    let service = http::router(store.clone()).into_make_service_with_connect_info::<SocketAddr>();
    let server = listener.server(handle, connections)?;
    let plain = NoDelayAcceptor::new();
    match tls {
        None => {
            let door = Door::new(plain, connections.clone(), trusted_proxies, figures);
            server.acceptor(door).serve(service).await
        }
        Some(tls) => {
            let tls = RustlsAcceptor::new(tls).acceptor(plain);
            let door = Door::new(tls, connections.clone(), trusted_proxies, figures);
            server.acceptor(door).serve(service).await
        }
    }
}

fn check(config: &Config) -> Result<(), BindError> {
    config.connections.check().map_err(|reason| BindError::Setting { setting: "connections", reason })?;
    match config.public_url.as_deref().map(Url::parse) {
        None => Ok(()),
        Some(Ok(url)) if matches!(url.scheme(), "http" | "https") && url.query().is_none() => Ok(()),
        Some(_) => Err(BindError::Setting {
            setting: "public_url",
            reason: "must be a URL that begins with http:// or https:// and has no \"?\"".to_owned(),
        }),
    }
}

/// Returns the host of a URL as it stands in a certificate.
fn host(url: &Url) -> Option<String> {
    url.host_str().map(|host| host.trim_matches(['[', ']']).to_owned())
}

fn trusted(paths: &[PathBuf]) -> Result<Vec<Certificate>, BindError> {
    let mut certificates = Vec::new();
    for path in paths {
        let pem = fs::read(path).map_err(|source| BindError::Data { path: path.clone(), source })?;
        let bundle = Certificate::from_pem_bundle(&pem).map_err(|error| BindError::Setting {
            setting: TRUSTED,
            reason: format!("names {}, which holds no PEM certificate: {error}", path.display()),
        })?;
        certificates.extend(bundle);
    }
    Ok(certificates)
}

/// The folders of the oplogs and of the blobs, in the data folder.
pub(crate) const OPLOGS: &str = "oplogs";
pub(crate) const BLOBS: &str = "blobs";
const TRUSTED: &str = "trusted_certificates";
/// Between rounds of housekeeping; a table that did not answer is asked again after this.
const HOUSEKEEPING: Duration = Duration::from_secs(5);
/// Between two looks for what is kept no more, or what is set for that, if it is less.
const FORGETTING: Duration = Duration::from_secs(3600);
const FORGOTTEN_AT_ONCE_MAX: usize = 256;
