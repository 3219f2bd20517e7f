//! The server: opens everything that can fail before it says that it is there, runs, and stops in order.

use std::fs;
use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum_server::Handle;
use axum_server::accept::DefaultAcceptor;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use gigfs_core::base64_text;
use gigfs_serve::{Attempts, Audit, Door, Listener, Networks, Stop, TlsError, files, tls};
use reqwest::{Certificate, Url};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::db::{DatabaseError, Db, DbThread, OpenError};
use crate::http;
use crate::metric::Metrics;
use crate::secret::{self, Verifier};
use crate::signal::Signals;
use crate::store::StoreClient;
use crate::table::{Inner, Table};
use crate::token::{Identity, IdentityError};

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
    /// The admin token is not one.
    #[error("{path} holds no admin token of at least {ADMIN_TOKEN_BYTES_MIN} characters; remove it to have one made")]
    AdminToken {
        /// The file.
        path: PathBuf,
    },
    /// The database cannot be used.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The table's signing key cannot be used.
    #[error("{reason}")]
    Key {
        /// What is wrong with it.
        reason: String,
    },
    /// The address cannot be listened on.
    #[error("the table cannot listen on {address}: {source}; choose another address or stop what uses it")]
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
#[error("the table on {address} stopped: {source}")]
pub struct RunError {
    address: SocketAddr,
    source: std::io::Error,
}

/// A table server that listens, and answers once it runs.
pub struct Server {
    table: Table,
    thread: DbThread,
    listener: Listener,
    tls: Option<RustlsConfig>,
    admin_token_path: PathBuf,
    grace: Duration,
}

impl Server {
    /// Opens or creates the table in the config's data folder, and listens.
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
        let (token_seconds, connections) = (config.token_seconds, config.connections.clone());
        let trusted_proxies = config.trusted_proxies.clone();
        let grace = Duration::from_secs(config.shutdown_seconds);
        let opened = tokio::task::spawn_blocking(move || Opened::open(&config, public_url)).await;
        let Opened { db, thread, signals, admin, admin_token_path, audit, stores, tls, public_url } =
            opened.expect("opening does not panic")?;
        let identity = match db.write(move |change| Identity::load_or_create(&change.tx, token_seconds)).await {
            Ok(identity) => identity,
            Err(error) => {
                db.close(thread).await;
                return Err(match error {
                    IdentityError::Database(error) => BindError::Database(error),
                    IdentityError::Key(reason) => BindError::Key { reason },
                });
            }
        };
        let stopping = CancellationToken::new();
        let metrics = Metrics::new();
        let table = Table::new(Inner {
            db,
            identity,
            signals,
            stores,
            metrics,
            public_url,
            admin,
            audit,
            attempts: Attempts::default(),
            trusted_proxies,
            connections,
            token_seconds,
            stopping,
        });
        Ok(Self { table, thread, listener, tls, admin_token_path, grace })
    }

    /// Returns the address that the server listens on.
    pub fn local_addr(&self) -> SocketAddr {
        self.listener.address()
    }

    /// Returns the URL under which stores and clients reach the table.
    pub fn public_url(&self) -> &str {
        &self.table.inner.public_url
    }

    /// Returns the table's id, the `iss` of its tokens.
    pub fn table_id(&self) -> &str {
        &self.table.inner.identity.table_id
    }

    /// Returns the file that holds the admin token.
    pub fn admin_token_path(&self) -> &Path {
        &self.admin_token_path
    }

    /// Returns a handle for calls from this process, good until the server has stopped.
    pub fn table(&self) -> Table {
        self.table.clone()
    }

    /// Answers requests and tells stores of revocations until `shutdown` completes, then stops accepting, ends the
    /// streams, lets requests finish for as long as the config allows, and closes the database.
    ///
    /// # Errors
    /// [`RunError`] if the listener failed.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), RunError> {
        let Self { table, thread, listener, tls, grace, .. } = self;
        let address = listener.address();
        // Ends the streams also when this future is dropped.
        let _stop = table.inner.stopping.clone().drop_guard();
        tracing::info!(%address, url = table.inner.public_url, "the table is there");
        let handle = Handle::new();
        let serving = serve(listener, tls, handle.clone(), &table);
        let working = async { tokio::join!(table.tell_stores(), table.keep_house()) };
        let shutdown = async {
            shutdown.await;
            tracing::info!("the table is stopping");
        };
        let stop = Stop { token: &table.inner.stopping, grace };
        let serving = stop.serve(&handle, serving, shutdown);
        let (served, _) = tokio::join!(serving, working);
        table.inner.db.close(thread).await;
        served.map_err(|source| RunError { address, source })
    }
}

impl Table {
    /// Forgets what is old and folds the metrics, until the table stops.
    async fn keep_house(&self) {
        loop {
            match self.forget_old_sessions().await {
                Ok(0) => {}
                Ok(sessions) => tracing::debug!(sessions, "forgot sessions that ended long ago"),
                Err(error) => tracing::error!(%error, "old sessions were not forgotten"),
            }
            self.inner.metrics.figures.fold();
            tokio::select! {
                () = self.inner.stopping.cancelled() => return,
                () = tokio::time::sleep(HOUSEKEEPING) => {}
            }
        }
    }
}

/// What is opened from the data folder and the settings.
struct Opened {
    db: Db,
    thread: DbThread,
    signals: Arc<Signals>,
    admin: Verifier,
    admin_token_path: PathBuf,
    audit: Audit,
    stores: StoreClient,
    tls: Option<RustlsConfig>,
    public_url: String,
}

impl Opened {
    fn open(config: &Config, public_url: String) -> Result<Self, BindError> {
        let dir = &config.data_dir;
        files::create_private_dir(dir).map_err(|source| BindError::Data { path: dir.clone(), source })?;
        let admin_token_path = dir.join("admin-token");
        let admin = admin_verifier(&admin_token_path)?;
        let audit = Audit::open(dir).map_err(|source| BindError::Data { path: dir.join("audit.jsonl"), source })?;
        let hosts: Vec<_> = Url::parse(&public_url).ok().and_then(|url| host(&url)).into_iter().collect();
        let tls = config.tls.as_ref().map(|tls| tls::server_config(tls, dir, &hosts)).transpose()?;
        let tls = tls.map(RustlsConfig::from_config);
        let networks = config.private_networks.as_deref();
        let networks = Networks::of(networks, config.listen.ip(), config.public_url.as_deref());
        let stores = StoreClient::new(trusted(&config.trusted_certificates)?, networks)
            .map_err(|error| BindError::Setting { setting: TRUSTED, reason: format!("cannot be used: {error}") })?;
        // The last that can fail, so that a failed start leaves no lock behind.
        let signals = Arc::new(Signals::default());
        let (db, thread) = Db::open(&dir.join("table.db"), signals.clone())?;
        Ok(Self { db, thread, signals, admin, admin_token_path, audit, stores, tls, public_url })
    }
}

async fn serve(
    listener: Listener,
    tls: Option<RustlsConfig>,
    handle: Handle<SocketAddr>,
    table: &Table,
) -> std::io::Result<()> {
    let Inner { connections, trusted_proxies, metrics, .. } = &*table.inner;
    let figures = metrics.figures.clone();
    let service = http::router(table.clone()).into_make_service_with_connect_info::<SocketAddr>();
    let server = listener.server(handle, connections)?;
    match tls {
        None => {
            let door = Door::new(DefaultAcceptor::new(), connections.clone(), trusted_proxies, figures);
            server.acceptor(door).serve(service).await
        }
        Some(tls) => {
            let door = Door::new(RustlsAcceptor::new(tls), connections.clone(), trusted_proxies, figures);
            server.acceptor(door).serve(service).await
        }
    }
}

fn check(config: &Config) -> Result<(), BindError> {
    let bad = |setting, reason: &str| Err(BindError::Setting { setting, reason: reason.to_owned() });
    if !(1..=TOKEN_SECONDS_MAX).contains(&config.token_seconds) {
        return bad("token_seconds", &format!("must be from 1 to {TOKEN_SECONDS_MAX}; it is {}", config.token_seconds));
    }
    if let Err(reason) = config.connections.check() {
        return bad("connections", &reason);
    }
    match config.public_url.as_deref().map(Url::parse) {
        None => Ok(()),
        Some(Ok(url)) if matches!(url.scheme(), "http" | "https") && url.query().is_none() => Ok(()),
        Some(_) => bad("public_url", "must be a URL that begins with http:// or https:// and has no \"?\""),
    }
}

/// Returns the host of a URL as it stands in a certificate.
fn host(url: &Url) -> Option<String> {
    url.host_str().map(|host| host.trim_matches(['[', ']']).to_owned())
}

/// Reads the admin token, or makes one.
fn admin_verifier(path: &Path) -> Result<Verifier, BindError> {
    let data = |source| BindError::Data { path: path.to_owned(), source };
    let token = match files::read_if_there(path).map_err(data)? {
        Some(token) => token,
        None => {
            let token = base64_text::encode(&secret::random::<32>());
            files::write_private(path, format!("{token}\n").as_bytes()).map_err(data)?;
            token
        }
    };
    match token.trim() {
        token if token.len() >= ADMIN_TOKEN_BYTES_MIN => Ok(Verifier::of(token.as_bytes())),
        _ => Err(BindError::AdminToken { path: path.to_owned() }),
    }
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

const TRUSTED: &str = "trusted_certificates";
/// Characters of an admin token that a person wrote.
const ADMIN_TOKEN_BYTES_MIN: usize = 16;
/// The longest life of a store token: a day.
const TOKEN_SECONDS_MAX: u64 = 24 * 3600;
const HOUSEKEEPING: Duration = Duration::from_secs(30);
