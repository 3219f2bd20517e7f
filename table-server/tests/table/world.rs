//! A table under test, a person with a session, and a store that records. Every wait has a deadline.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{delete, post};
use axum::{Json, Router};
use gigfs_core::api::{
    AddStore, Confirm, Confirmed, CreatedSession, MountTable, MountedChannel, NewMaster, NewSession, PasswordParams,
    Seal, TableChanged,
};
use gigfs_core::token::{AckClaims, RevokeClaims, SealClaims, StoreClaims};
use gigfs_core::{ChannelName, ErrorCode, Refusal, SessionId, StoreId, UserName, base64_text};
use gigfs_table_server::{Config, Server, Table};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use parking_lot::Mutex;
use reqwest::{Client, Method, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

/// Long enough for a loaded machine; a test that needs it all has failed.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// Takes a database of format 4 back to format 3, but for its number.
pub(crate) const BEFORE_SHARING: &str = "
    DROP TABLE guests;
    DROP TABLE identities;
    ALTER TABLE revocations RENAME TO newer;
    CREATE TABLE revocations (id INTEGER PRIMARY KEY, user INTEGER NOT NULL REFERENCES users (id), store BLOB NOT NULL,
        url TEXT NOT NULL, session BLOB NOT NULL, until INTEGER NOT NULL, attempts INTEGER NOT NULL DEFAULT 0,
        next_at_millis INTEGER NOT NULL DEFAULT 0, UNIQUE (user, store, url, session)) STRICT;
    INSERT INTO revocations SELECT id, user, store, url, session, until, attempts, next_at_millis FROM newer;
    DROP TABLE newer;
    CREATE INDEX revocations_by_store ON revocations (store, next_at_millis);";

/// Waits for an event, but not for ever.
pub(crate) async fn within<T>(what: &str, event: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, event).await {
        Ok(value) => value,
        Err(_) => panic!("{what} did not happen within {DEADLINE:?}"),
    }
}

/// A running table.
pub(crate) struct World {
    pub(crate) config: Config,
    pub(crate) url: String,
    pub(crate) table: Table,
    pub(crate) http: Client,
    stop: Option<oneshot::Sender<()>>,
    running: Option<JoinHandle<()>>,
    _dir: Option<TempDir>,
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config {
            data_dir: dir.path().join("table"),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            ..Config::default()
        };
        change(&mut config);
        let mut world = Self::over(config).await;
        world._dir = Some(dir);
        world
    }

    async fn over(config: Config) -> Self {
        let server = Server::bind(config.clone()).await.unwrap();
        let (url, table) = (server.public_url().to_owned(), server.table());
        let (stop, stopped) = oneshot::channel::<()>();
        let running = tokio::spawn(async move {
            server.run(async { stopped.await.unwrap_or_default() }).await.unwrap();
        });
        let http = Client::builder().no_proxy().build().unwrap();
        Self { config, url, table, http, stop: Some(stop), running: Some(running), _dir: None }
    }

    /// Stops the server and waits until it has closed its database.
    pub(crate) async fn stop(&mut self) {
        drop(self.stop.take());
        within("the end of the server", self.running.take().unwrap()).await.unwrap();
    }

    /// Stops the server and starts one on the same data.
    pub(crate) async fn restart(&mut self) {
        self.stop().await;
        self.restart_stopped().await;
    }

    /// Starts a server on the data of this one, which has stopped.
    pub(crate) async fn restart_stopped(&mut self) {
        let mut next = Self::over(self.config.clone()).await;
        next._dir = self._dir.take();
        *self = next;
    }

    pub(crate) fn admin_token(&self) -> String {
        let text = std::fs::read_to_string(self.config.data_dir.join("admin-token")).unwrap();
        text.trim().to_owned()
    }

    /// Creates a user over HTTP and logs in.
    pub(crate) async fn person(&self, name: &str) -> Person {
        let master = [name.len() as u8; 32].to_vec();
        let (path, new) = (format!("/admin/user/{name}"), new_master(&master));
        let created = self.send(Method::PUT, &path, &self.bearer_admin(), Some(&new)).await;
        assert_eq!(created.status(), 201);
        let session = self.log_in(name, &master, 3600).await;
        Person { name: name.to_owned(), master, session }
    }

    pub(crate) fn bearer_admin(&self) -> String {
        format!("Bearer {}", self.admin_token())
    }

    pub(crate) async fn log_in(&self, name: &str, master: &[u8], timeout: u64) -> CreatedSession {
        let answer = self.try_log_in(name, master, timeout).await;
        assert_eq!(answer.status(), 201);
        answer.json().await.unwrap()
    }

    pub(crate) async fn try_log_in(&self, name: &str, master: &[u8], timeout: u64) -> Response {
        let new = NewSession { timeout, description: "a test".to_owned() };
        self.send(Method::POST, &format!("/user/{name}/session"), &master_header(master), Some(&new)).await
    }

    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        authorization: &str,
        body: Option<&impl Serialize>,
    ) -> Response {
        let mut request = self.http.request(method, format!("{}{path}", self.url));
        if !authorization.is_empty() {
            request = request.header("authorization", authorization);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        within("an answer", request.send()).await.unwrap()
    }

    /// Sends a request of a session without a body.
    pub(crate) async fn ask(&self, method: Method, path: &str, who: &Person) -> Response {
        self.send(method, &format!("/user/{}{path}", who.name), &who.bearer(), None::<&()>).await
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str, who: &Person) -> T {
        let answer = self.ask(Method::GET, path, who).await;
        assert_eq!(answer.status(), 200, "{path}");
        answer.json().await.unwrap()
    }

    pub(crate) async fn try_mount(&self, who: &Person, channel: &str, store_url: &str) -> Response {
        let add = AddStore { store_url: store_url.to_owned(), code: Some("the-code".to_owned()) };
        let path = format!("/user/{}/table/{channel}/store", who.name);
        self.send(Method::POST, &path, &who.bearer(), Some(&add)).await
    }

    pub(crate) async fn mount(&self, who: &Person, channel: &str, store: &StoreSide) -> MountedChannel {
        let answer = self.try_mount(who, channel, &store.url).await;
        assert_eq!(answer.status(), 200);
        answer.json().await.unwrap()
    }

    pub(crate) async fn seal(&self, who: &Person, channel: &str, store: StoreId, sealed: bool) -> Response {
        let path = format!("/user/{}/table/{channel}/store/{store}/seal", who.name);
        self.send(Method::POST, &path, &who.bearer(), Some(&Seal { sealed })).await
    }

    /// Takes a store off a channel. `how` is the query.
    pub(crate) async fn remove(&self, who: &Person, channel: &str, store: StoreId, how: &str) -> Response {
        self.ask(Method::DELETE, &format!("/table/{channel}/store/{store}{how}"), who).await
    }

    pub(crate) async fn mounts(&self, who: &Person) -> MountTable {
        self.get("/table", who).await
    }

    pub(crate) async fn revoke(&self, who: &Person, session: SessionId) {
        assert_eq!(self.ask(Method::DELETE, &format!("/session/{session}"), who).await.status(), 204);
    }

    pub(crate) async fn check(&self, user: &str, authorization: &str) -> Response {
        self.send(Method::GET, &format!("/user/{user}/table/check"), authorization, None::<&()>).await
    }

    pub(crate) async fn stream(&self, who: &Person) -> Events {
        let answer = self.ask(Method::GET, "/table/stream", who).await;
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        Events { answer, text: String::new() }
    }
}

/// A user and a session.
#[derive(Clone)]
pub(crate) struct Person {
    pub(crate) name: String,
    pub(crate) master: Vec<u8>,
    pub(crate) session: CreatedSession,
}

impl Person {
    pub(crate) fn bearer(&self) -> String {
        format!("Bearer {}", self.session.token)
    }

    pub(crate) fn with(&self, session: CreatedSession) -> Self {
        Self { session, ..self.clone() }
    }
}

pub(crate) fn new_master(master: &[u8]) -> NewMaster {
    let password = PasswordParams { salt: vec![7; 16], memory_kib: 64 * 1024, passes: 3 };
    NewMaster { password, master: master.to_vec() }
}

pub(crate) fn master_header(master: &[u8]) -> String {
    format!("Master {}", base64_text::encode(master))
}

pub(crate) fn user(name: &str) -> UserName {
    UserName::parse(name).unwrap()
}

pub(crate) fn channel(name: &str) -> ChannelName {
    ChannelName::parse(name).unwrap()
}

/// Reads a refusal and checks that its status is the one of its code.
pub(crate) async fn refused(answer: Response) -> Refusal {
    let status = answer.status().as_u16();
    let refusal: Refusal = answer.json().await.unwrap();
    assert_eq!(status, refusal.code.http_status(), "{refusal:?}");
    assert!(!refusal.message.is_empty());
    refusal
}

pub(crate) async fn refused_as(code: ErrorCode, answer: Response) -> Refusal {
    let refusal = refused(answer).await;
    assert_eq!(refusal.code, code, "{refusal:?}");
    refusal
}

/// A stream of server-sent events.
pub(crate) struct Events {
    answer: Response,
    text: String,
}

impl Events {
    /// Returns the next change; nothing at the stream's end.
    pub(crate) async fn next(&mut self) -> Option<TableChanged> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let (event, rest) = (event.to_owned(), rest.to_owned());
                self.text = rest;
                let line = |prefix: &str| event.lines().find_map(|line| line.strip_prefix(prefix).map(str::to_owned));
                if line("event: ").as_deref() == Some("table") {
                    return Some(serde_json::from_str(&line("data: ").unwrap()).unwrap());
                }
                continue;
            }
            let chunk = within("an event", self.answer.chunk()).await.ok()??;
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }
}

/// What a store heard from a table.
#[derive(Debug)]
pub(crate) enum Heard {
    Confirm { user: String, confirm: Confirm },
    Revoke { user: String, session: SessionId, authorization: String },
    Seal { user: String, channel: String, authorization: String },
}

/// A store's side: answers what it is told to and writes down what it hears.
pub(crate) struct StoreSide {
    pub(crate) id: StoreId,
    pub(crate) url: String,
    pub(crate) heard: mpsc::UnboundedReceiver<Heard>,
    signing: EncodingKey,
    answering: Arc<Answering>,
    serving: Option<JoinHandle<()>>,
}

struct Answering {
    id: StoreId,
    refuse_confirm: AtomicBool,
    refuse_revoke: AtomicBool,
    refuse_seal: AtomicBool,
    key_pem: Mutex<String>,
    hears: mpsc::UnboundedSender<Heard>,
}

impl StoreSide {
    pub(crate) async fn start(number: u8) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (hears, heard) = mpsc::unbounded_channel();
        let id = StoreId::from_bytes([number; 16]);
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let signing = EncodingKey::from_ed_der(pair.serialized_der());
        let key_pem = Mutex::new(pair.public_key_pem());
        let (refuse_confirm, refuse_revoke, refuse_seal) = Default::default();
        let answering = Arc::new(Answering { id, refuse_confirm, refuse_revoke, refuse_seal, key_pem, hears });
        let mut store = Self { id, url, heard, signing, answering, serving: None };
        store.serve(listener);
        store
    }

    /// A second door of the same store.
    pub(crate) async fn moved(&mut self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        self.url = format!("http://{}", listener.local_addr().unwrap());
        self.serve(listener);
        self.url.clone()
    }

    pub(crate) async fn go_down(&mut self) {
        let serving = self.serving.take().unwrap();
        serving.abort();
        assert!(serving.await.is_err(), "the store was down already");
    }

    pub(crate) async fn come_back(&mut self) {
        let address = self.url.trim_start_matches("http://").to_owned();
        let listener = TcpListener::bind(address).await.unwrap();
        self.serve(listener);
    }

    pub(crate) fn refuse_confirm(&self, refuse: bool) {
        self.answering.refuse_confirm.store(refuse, Ordering::SeqCst);
    }

    pub(crate) fn refuse_revoke(&self, refuse: bool) {
        self.answering.refuse_revoke.store(refuse, Ordering::SeqCst);
    }

    pub(crate) fn refuse_seal(&self, refuse: bool) {
        self.answering.refuse_seal.store(refuse, Ordering::SeqCst);
    }

    /// Has the store give another text for its key, and returns the one that it gave.
    pub(crate) fn give_key(&self, pem: &str) -> String {
        std::mem::replace(&mut *self.answering.key_pem.lock(), pem.to_owned())
    }

    /// Signs an acknowledgement, whatever it says.
    pub(crate) fn sign(&self, ack: &AckClaims) -> String {
        jsonwebtoken::encode(&Header::new(Algorithm::EdDSA), ack, &self.signing).unwrap()
    }

    /// Returns the next word about a seal, after checking it as a store does.
    pub(crate) async fn hears_seal(&mut self, confirm: &Confirm) -> SealClaims {
        match within("a seal call", self.heard.recv()).await.unwrap() {
            Heard::Seal { user, channel, authorization } => {
                let claims: SealClaims = verify(authorization.strip_prefix("Bearer ").unwrap(), confirm, self.id);
                assert_eq!((claims.sub.as_str(), claims.channel.as_str()), (user.as_str(), channel.as_str()));
                claims
            }
            other => panic!("the store heard {other:?}"),
        }
    }

    pub(crate) async fn hears_confirm(&mut self) -> (String, Confirm) {
        match within("a confirm call", self.heard.recv()).await.unwrap() {
            Heard::Confirm { user, confirm } => (user, confirm),
            other => panic!("the store heard {other:?}"),
        }
    }

    /// Returns the next revocation, after checking what the table signed with the key that it gave at confirm.
    pub(crate) async fn hears_revoke(&mut self, confirm: &Confirm) -> SessionId {
        let claims = self.hears_revocation(confirm).await;
        assert_eq!((claims.channel, claims.before), (None, None));
        claims.sid
    }

    /// The same, with what it says.
    pub(crate) async fn hears_revocation(&mut self, confirm: &Confirm) -> RevokeClaims {
        match within("a revoke call", self.heard.recv()).await.unwrap() {
            Heard::Revoke { user, session, authorization } => {
                let claims: RevokeClaims = verify(authorization.strip_prefix("Bearer ").unwrap(), confirm, self.id);
                assert_eq!((claims.sub.as_str(), claims.sid), (user.as_str(), session));
                claims
            }
            other => panic!("the store heard {other:?}"),
        }
    }

    fn serve(&mut self, listener: TcpListener) {
        let router = Router::new()
            .route("/user/{user}/confirm", post(confirm))
            .route("/user/{user}/session/{session}", delete(revoke))
            .route("/user/{user}/channel/{channel}/seal", post(seal))
            .with_state(self.answering.clone());
        // Each connection ends with the task, as with a process: axum::serve would leave them to themselves.
        self.serving = Some(tokio::spawn(async move {
            let handle = axum_server::Handle::new();
            let _end = EndOnDrop(handle.clone());
            let server = axum_server::from_tcp(listener.into_std().unwrap()).unwrap().handle(handle);
            server.serve(router.into_make_service()).await.unwrap();
        }));
    }
}

struct EndOnDrop(axum_server::Handle<SocketAddr>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.shutdown();
    }
}

async fn confirm(
    State(store): State<Arc<Answering>>,
    Path(user): Path<String>,
    Json(confirm): Json<Confirm>,
) -> Result<Json<Confirmed>, (StatusCode, Json<Refusal>)> {
    store.hears.send(Heard::Confirm { user, confirm }).unwrap();
    if store.refuse_confirm.load(Ordering::SeqCst) {
        let refusal = Refusal::new(ErrorCode::Unauthorized, "the confirmation code is used up");
        return Err((StatusCode::UNAUTHORIZED, Json(refusal)));
    }
    Ok(Json(Confirmed { store: store.id, store_key: store.key_pem.lock().clone() }))
}

async fn seal(
    State(store): State<Arc<Answering>>,
    Path((user, channel)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<StatusCode, (StatusCode, Json<Refusal>)> {
    let authorization = headers["authorization"].to_str().unwrap().to_owned();
    store.hears.send(Heard::Seal { user, channel, authorization }).unwrap();
    match store.refuse_seal.load(Ordering::SeqCst) {
        true => {
            let refusal = Refusal::new(ErrorCode::StorageFailed, "the disk failed");
            Err((StatusCode::INTERNAL_SERVER_ERROR, Json(refusal)))
        }
        false => Ok(StatusCode::NO_CONTENT),
    }
}

async fn revoke(
    State(store): State<Arc<Answering>>,
    Path((user, session)): Path<(String, SessionId)>,
    headers: HeaderMap,
) -> StatusCode {
    let authorization = headers["authorization"].to_str().unwrap().to_owned();
    store.hears.send(Heard::Revoke { user, session, authorization }).unwrap();
    match store.refuse_revoke.load(Ordering::SeqCst) {
        true => StatusCode::INTERNAL_SERVER_ERROR,
        false => StatusCode::NO_CONTENT,
    }
}

/// Verifies a token as a store does: with the key from confirm, for itself only.
pub(crate) fn verify<C: DeserializeOwned>(token: &str, confirm: &Confirm, store: StoreId) -> C {
    let key = DecodingKey::from_ed_pem(confirm.table_key.as_bytes()).unwrap();
    let mut validation = Validation::new(Algorithm::EdDSA);
    validation.leeway = 0;
    validation.set_audience(&[store.to_string()]);
    validation.set_issuer(&[&confirm.table_id]);
    jsonwebtoken::decode(token, &key, &validation).unwrap().claims
}

/// Reads what a store token says.
pub(crate) fn store_claims(token: &str, confirm: &Confirm, store: StoreId) -> StoreClaims {
    verify(token, confirm, store)
}
