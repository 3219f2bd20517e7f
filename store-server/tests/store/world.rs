//! A real store on loopback, a table made of a key and one route, and clients that speak to it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use futures_util::{SinkExt as _, StreamExt as _};
use gigfs_core::api::{Confirm, Confirmed, PushResult, TokenStanding};
use gigfs_core::commit::with_all;
use gigfs_core::token::{
    CertificateClaims, CertificateUse, Permission, RevokeClaims, RevokeUse, SealClaims, SealUse, StoreClaims, StoreUse,
};
use gigfs_core::wire::{
    ClientMessage, Event, LogRef, Message as _, SUBPROTOCOL_CBOR, ServerMessage, Watched, WireBase, WireOp,
};
use gigfs_core::{
    ActorId, BaseId, ChannelName, Checkpoint, Date, Draft, ErrorCode, LogName, Op, PathPrefix, Payload, Refusal, Seq,
    SessionId, Sha, StoreId, TypeName, UserName,
};
use gigfs_store_server::{Config, EngineKind, Server, Store};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use parking_lot::Mutex;
use reqwest::{Client, Method, RequestBuilder, Response};
use serde::Serialize;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

/// Nothing that a test waits for takes longer.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, what).await.expect("it comes before the deadline")
}

pub(crate) fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// A table: a key to sign with, and what it says when it is asked.
pub(crate) struct Table {
    pub(crate) id: String,
    pub(crate) url: String,
    pub(crate) public: String,
    pub(crate) signing: EncodingKey,
    pub(crate) asked: Arc<AtomicUsize>,
    pub(crate) answer: Arc<Mutex<Result<(), ErrorCode>>>,
    serving: JoinHandle<()>,
}

impl Table {
    pub(crate) async fn start(id: &str) -> Self {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let answer = Arc::new(Mutex::new(Ok(())));
        let state = (asked.clone(), answer.clone());
        type Shared = State<(Arc<AtomicUsize>, Arc<Mutex<Result<(), ErrorCode>>>)>;
        let check = async |State((asked, answer)): Shared| {
            asked.fetch_add(1, Ordering::SeqCst);
            match *answer.lock() {
                Ok(()) => {
                    let session = SessionId::from_bytes([1; 16]);
                    Ok(Json(TokenStanding { session, expires: seconds() + 600 }))
                }
                Err(code) => {
                    let status = StatusCode::from_u16(code.http_status()).unwrap();
                    Err((status, Json(Refusal::new(code, "no"))))
                }
            }
        };
        let router = Router::new().route("/user/{user}/table/check", get(check)).with_state(state);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let signing = EncodingKey::from_ed_der(key.serialized_der());
        Self { id: id.to_owned(), url, public: key.public_key_pem(), signing, asked, answer, serving }
    }

    /// Stops answering, as a table does whose machine is off.
    pub(crate) fn vanish(&self) {
        self.serving.abort();
    }

    pub(crate) fn sign(&self, claims: &impl Serialize) -> String {
        jsonwebtoken::encode(&Header::new(Algorithm::EdDSA), claims, &self.signing).unwrap()
    }

    /// The table's word that a checkpoint is committed.
    pub(crate) fn certificate(&self, log: &LogName, id: BaseId) -> CertificateClaims {
        let LogName { user, channel, kind, path } = log.clone();
        CertificateClaims {
            iss: self.id.clone(),
            sub: user,
            channel,
            kind,
            path,
            generation: id.generation,
            checkpoint: id.sha,
            iat: seconds(),
            usage: CertificateUse::Checkpoint,
        }
    }

    /// A checkpoint as it is to be installed.
    pub(crate) fn certified(&self, made: &Made) -> WireBase {
        let certificate = self.sign(&self.certificate(&made.log, made.id));
        WireBase { sha: made.id.sha, record: made.record.clone(), certificate }
    }

    pub(crate) fn introduction(&self, code: String) -> Confirm {
        Confirm { table_url: self.url.clone(), code, table_id: self.id.clone(), table_key: self.public.clone() }
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// A store with one user, `me`, whose table is the test.
pub(crate) struct World {
    pub(crate) folder: TempDir,
    /// Nothing while the server is stopped.
    pub(crate) store: Option<Store>,
    pub(crate) store_id: StoreId,
    pub(crate) url: String,
    pub(crate) admin: String,
    pub(crate) table: Table,
    pub(crate) http: Client,
    stop: Option<oneshot::Sender<()>>,
    running: JoinHandle<()>,
}

pub(crate) type Opened = Result<Stream, tungstenite::Error>;

impl World {
    pub(crate) async fn start() -> Self {
        Self::with(EngineKind::Memory).await
    }

    pub(crate) async fn with(engine: EngineKind) -> Self {
        let world = Self::bare(engine, |_| {}).await;
        world.confirm("me").await;
        world
    }

    /// Starts without a user.
    pub(crate) async fn bare(engine: EngineKind, change: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = config(folder.path(), engine);
        change(&mut config);
        let (server, admin) = bind_with(config).await;
        let (store, url, store_id) = (server.store(), server.public_url().to_owned(), server.store_id());
        let (stop, stopped) = oneshot::channel::<()>();
        let running = tokio::spawn(async move { _ = server.run(async { drop(stopped.await) }).await.unwrap() });
        let table = Table::start("table-1").await;
        let http = Client::builder().no_proxy().build().unwrap();
        Self { folder, store: Some(store), store_id, url, admin, table, http, stop: Some(stop), running }
    }

    pub(crate) fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    /// Stops the server, and starts another one on the same data.
    pub(crate) async fn restart(&mut self, retain: Duration) {
        self.stop().await;
        self.start_again(retain).await;
    }

    /// Starts a server on the data of one that was stopped.
    pub(crate) async fn start_again(&mut self, retain: Duration) {
        let (server, _) = bind_with(Config { retain, ..config(self.folder.path(), EngineKind::Fjall) }).await;
        (self.store, self.url) = (Some(server.store()), server.public_url().to_owned());
        let (stop, stopped) = oneshot::channel::<()>();
        self.running = tokio::spawn(async move { _ = server.run(async { drop(stopped.await) }).await.unwrap() });
        self.stop = Some(stop);
    }

    /// Makes a user whose table is the test.
    pub(crate) async fn confirm(&self, user: &str) -> Confirmed {
        let user = UserName::parse(user).unwrap();
        self.store().create_user(&user).await.unwrap();
        let code = self.store().confirm_code(&user).await.unwrap().code;
        let answer = self.http.post(format!("{}/user/{user}/confirm", self.url));
        let answer = answer.json(&self.table.introduction(code)).send().await.unwrap();
        let confirmed = answer.json::<Confirmed>().await.unwrap();
        assert_eq!(confirmed.store, self.store_id);
        confirmed
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    pub(crate) fn claims(&self) -> StoreClaims {
        StoreClaims {
            iss: self.table.id.clone(),
            aud: self.store_id,
            sub: UserName::parse("me").unwrap(),
            channel: ChannelName::parse("home").unwrap(),
            permission: Permission::Write,
            share: None,
            sid: SessionId::from_bytes([1; 16]),
            iat: seconds(),
            exp: seconds() + 600,
            usage: StoreUse::Store,
        }
    }

    /// A good token, changed.
    pub(crate) fn token_with(&self, change: impl FnOnce(&mut StoreClaims)) -> String {
        let mut claims = self.claims();
        change(&mut claims);
        self.table.sign(&claims)
    }

    pub(crate) fn token(&self) -> String {
        self.token_with(|_| {})
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.url)).bearer_auth(self.token())
    }

    /// Reads a log with a token, and returns the refusal if there is one.
    pub(crate) async fn try_token(&self, token: &str) -> Result<(), ErrorCode> {
        let path = format!("{}/user/me/oplog?channel=home&type=list&path=/a", self.url);
        let answer = self.http.get(path).bearer_auth(token).send().await.unwrap();
        match answer.status().is_success() {
            true => Ok(()),
            false => Err(refusal(answer).await.code),
        }
    }

    pub(crate) async fn revoke(&self, session: SessionId) -> Response {
        let claims = RevokeClaims {
            iss: self.table.id.clone(),
            aud: self.store_id,
            sub: UserName::parse("me").unwrap(),
            sid: session,
            channel: None,
            before: None,
            exp: seconds() + 60,
            usage: RevokeUse::Revoke,
        };
        let path = format!("{}/user/me/session/{session}", self.url);
        self.http.delete(path).bearer_auth(self.table.sign(&claims)).send().await.unwrap()
    }

    pub(crate) fn seal_claims(&self, sealed: bool) -> SealClaims {
        SealClaims {
            iss: self.table.id.clone(),
            aud: self.store_id,
            sub: UserName::parse("me").unwrap(),
            channel: ChannelName::parse("home").unwrap(),
            sealed,
            exp: seconds() + 60,
            usage: SealUse::Seal,
        }
    }

    /// Has the table seal the channel, or open it again.
    pub(crate) async fn seal(&self, token: &str) -> Response {
        self.http.post(format!("{}/user/me/channel/home/seal", self.url)).bearer_auth(token).send().await.unwrap()
    }

    pub(crate) async fn metric(&self, name: &str) -> f64 {
        let text = self.http.get(format!("{}/metrics", self.url)).send().await.unwrap().text().await.unwrap();
        let line = text.lines().find(|line| line.starts_with(&format!("{name} ")));
        line.map_or(0.0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
    }

    pub(crate) async fn stream(&self) -> Stream {
        self.stream_with(Some(SUBPROTOCOL_CBOR), &self.token()).await.unwrap()
    }

    pub(crate) async fn stream_with(&self, subprotocol: Option<&str>, token: &str) -> Opened {
        self.stream_in("home", subprotocol, token).await
    }

    pub(crate) async fn stream_in(&self, channel: &str, subprotocol: Option<&str>, token: &str) -> Opened {
        let url = format!("{}/user/me/oplog/stream?channel={channel}", self.url.replacen("http", "ws", 1));
        let mut request = url.into_client_request().unwrap();
        request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        if let Some(subprotocol) = subprotocol {
            request.headers_mut().insert("sec-websocket-protocol", subprotocol.parse().unwrap());
        }
        let (socket, answer) = tokio_tungstenite::connect_async(request).await?;
        let chosen = answer.headers().get("sec-websocket-protocol").map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(chosen.as_deref(), subprotocol);
        Ok(Stream { socket, is_cbor: subprotocol == Some(SUBPROTOCOL_CBOR) })
    }

    /// Stops the server in order, and waits until it has.
    pub(crate) async fn stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
        soon(&mut self.running).await.unwrap();
        self.store = None;
    }

    /// Tells the server to stop and does not wait.
    pub(crate) fn begin_to_stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }
}

pub(crate) async fn bind(folder: &Path, engine: EngineKind) -> (Server, String) {
    bind_with(config(folder, engine)).await
}

pub(crate) fn config(folder: &Path, engine: EngineKind) -> Config {
    Config { data_dir: folder.to_owned(), listen: "127.0.0.1:0".parse().unwrap(), engine, ..Config::default() }
}

async fn bind_with(config: Config) -> (Server, String) {
    let server = Server::bind(config).await.unwrap();
    let admin = std::fs::read_to_string(server.admin_token_path()).unwrap().trim().to_owned();
    (server, admin)
}

/// Reads the refusal that every error body is.
pub(crate) async fn refusal(answer: Response) -> Refusal {
    let status = answer.status().as_u16();
    let text = answer.text().await.unwrap();
    let refusal: Refusal = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{status} with {text:?}"));
    assert_eq!(refusal.code.http_status(), status);
    assert!(!refusal.message.is_empty());
    refusal
}

pub(crate) fn log(path: &str) -> LogName {
    LogName::parse("me", "home", "list", path).unwrap()
}

pub(crate) fn op_with(log: &LogName, actor: u8, seq: u64, deps: &[Sha], payload: &Value) -> Op {
    let draft = Draft {
        actor: ActorId::from_bytes([actor; 16]),
        seq: Seq::new(seq).unwrap(),
        date: Date::saturating(seconds() * 1_000_000),
        deps: deps.to_vec(),
        payload: Payload::plain(payload),
    };
    draft.finish(log).unwrap()
}

pub(crate) fn op(log: &LogName, seq: u64) -> Op {
    op_with(log, 1, seq, &[], &json!({ "n": seq }))
}

/// Operations of one actor, each on top of the one before.
pub(crate) fn chain(log: &LogName, actor: u8, seqs: std::ops::RangeInclusive<u64>) -> Vec<Op> {
    let mut ops: Vec<Op> = Vec::new();
    for seq in seqs {
        let deps: Vec<Sha> = ops.last().map(Op::sha).into_iter().collect();
        ops.push(op_with(log, actor, seq, &deps, &json!({ "n": seq })));
    }
    ops
}

/// A checkpoint that somebody made.
pub(crate) struct Made {
    pub(crate) log: LogName,
    pub(crate) id: BaseId,
    pub(crate) checkpoint: Checkpoint,
    pub(crate) record: bytes::Bytes,
}

impl Made {
    pub(crate) fn of(log: &LogName, checkpoint: Checkpoint) -> Self {
        let (id, record) = (checkpoint.id(log), checkpoint.to_record(None).into());
        Self { log: log.clone(), id, checkpoint, record }
    }
}

/// Covers operations on top of what another checkpoint covers.
pub(crate) fn checkpoint(log: &LogName, parent: Option<&Made>, ops: &[Op], state: &Value) -> Made {
    let before = parent.map(|parent| &parent.checkpoint);
    let shas: Vec<Sha> = ops.iter().map(Op::sha).collect();
    let absent: BTreeSet<Sha> = ops.iter().flat_map(Op::deps).filter(|dep| !shas.contains(dep)).copied().collect();
    let checkpoint = Checkpoint {
        generation: parent.map_or(Seq::FIRST, |parent| parent.id.generation.next()),
        parent: parent.map(|parent| parent.id.sha),
        covers: before.map(|before| before.covers.clone()).unwrap_or_default().with(ops),
        absent: absent.into_iter().collect(),
        digest: with_all(before.map(|before| before.digest).unwrap_or_default(), &shas),
        reducer: TypeName::parse("list").unwrap(),
        version: 1,
        state: Payload::plain(state),
        date: Date::saturating(seconds() * 1_000_000),
        author: ActorId::from_bytes([7; 16]),
    };
    Made::of(log, checkpoint)
}

/// A client's end of a stream.
pub(crate) struct Stream {
    pub(crate) socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    is_cbor: bool,
}

impl Stream {
    pub(crate) async fn send(&mut self, message: &ClientMessage) {
        let frame = match self.is_cbor {
            true => Message::Binary(message.to_cbor().into()),
            false => Message::Text(message.to_json().unwrap().into()),
        };
        soon(self.socket.send(frame)).await.unwrap();
    }

    /// Returns the next message; nothing once the stream is closed.
    pub(crate) async fn next(&mut self) -> Option<ServerMessage> {
        loop {
            match soon(self.socket.next()).await {
                Some(Ok(Message::Binary(bytes))) if self.is_cbor => {
                    return Some(ServerMessage::from_cbor(&bytes).unwrap());
                }
                Some(Ok(Message::Text(text))) if !self.is_cbor => {
                    return Some(ServerMessage::from_json(&text).unwrap());
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
                Some(Ok(other)) => panic!("unexpected {other:?}"),
            }
        }
    }

    pub(crate) async fn welcomed(mut self) -> Self {
        assert!(matches!(self.next().await, Some(ServerMessage::Welcome(_))));
        self
    }

    pub(crate) async fn push(&mut self, tag: u64, log: &LogName, ops: &[Op]) {
        let ops = ops.iter().map(WireOp::from).collect();
        self.send(&ClientMessage::Push { tag, log: LogRef::from(log), ops, beyond: None }).await;
    }

    /// Pushes operations and returns what became of them.
    pub(crate) async fn pushed(&mut self, log: &LogName, ops: &[Op]) -> Result<Vec<PushResult>, Refusal> {
        self.push(900, log, ops).await;
        match self.next().await {
            Some(ServerMessage::Pushed { tag: 900, results }) => Ok(results),
            Some(ServerMessage::Failed { tag: 900, refusal }) => Err(refusal),
            other => panic!("{other:?}"),
        }
    }

    /// Waits for the last message and the close code after it.
    pub(crate) async fn goodbye(&mut self) -> (Refusal, u16) {
        let refusal = loop {
            match self.next().await.expect("a bye before the end") {
                ServerMessage::Bye { refusal } => break refusal,
                _ => continue,
            }
        };
        match soon(self.socket.next()).await {
            Some(Ok(Message::Close(Some(frame)))) => (refusal, frame.code.into()),
            other => panic!("expected a close frame, got {other:?}"),
        }
    }

    pub(crate) async fn watch(&mut self, tag: u64, prefix: &str, after: Option<u64>) {
        let watched = Watched::Prefix(PathPrefix::parse(prefix).unwrap());
        self.send(&ClientMessage::Watch { tag, watched, after }).await;
    }

    /// Collects events until `count` operations have come, and returns their shas and the last position.
    pub(crate) async fn events(&mut self, count: usize) -> (Vec<Sha>, u64) {
        let (mut shas, mut position) = (Vec::new(), 0);
        while shas.len() < count {
            match self.next().await {
                Some(ServerMessage::Event(Event { position: last, ops, .. })) => {
                    assert!(last > position, "positions go up");
                    position = last;
                    shas.extend(ops.iter().map(|(_, op)| op.sha));
                }
                Some(_) => {}
                None => panic!("the stream ended after {} of {count} events", shas.len()),
            }
        }
        (shas, position)
    }
}
