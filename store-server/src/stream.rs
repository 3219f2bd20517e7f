//! `GET /user/:user/oplog/stream`: one WebSocket for one channel, tagged and pipelined (`docs/wire.md`).
//!
//! Three parts run side by side and end together: the [`reader`] takes requests, the [`watch`] part follows the channel,
//! and the [`writer`] sends. Between them are short queues; a request holds its place among those unanswered until the
//! writer has taken its answer, and when there is no place the reader stops reading.

use std::sync::{Arc, OnceLock};

use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message as Socketed, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use bytes::Bytes;
use futures_util::StreamExt as _;
use gigfs_core::limits::{MESSAGE_BYTES_MAX, PATH_BYTES_MAX, STREAM_PLACES_MAX, STREAM_QUEUED_BYTES_MAX};
use gigfs_core::token::Permission;
use gigfs_core::wire::{
    ClientMessage, Message as _, SUBPROTOCOL_CBOR, SUBPROTOCOL_JSON, ServerMessage, Tag, Welcome, WireBase, WireError,
    WireOp,
};
use gigfs_core::{ChannelName, ErrorCode, Refusal, Sha, UserName, json};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use crate::access::Token;
use crate::clock;
use crate::http::{Asked, Bearer, Names};
use crate::metric::CountedBytes;
use crate::refusal::{self, Refused};
use crate::session::Used;
use crate::store::Store;

mod pruning;
mod read;
mod reader;
mod watch;
mod writer;

/// How a stream's messages are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// Binary frames.
    Cbor,
    /// Text frames.
    Json,
}

/// An encoded message. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) enum Frame {
    Cbor(Bytes),
    Json(Utf8Bytes),
}

impl Frame {
    pub(crate) fn from_cbor(bytes: Vec<u8>) -> Self {
        Self::Cbor(bytes.into())
    }

    pub(crate) fn from_json(text: String) -> Self {
        Self::Json(text.into())
    }

    fn len(&self) -> usize {
        match self {
            Self::Cbor(bytes) => bytes.len(),
            Self::Json(text) => text.len(),
        }
    }

    fn into_message(self) -> Socketed {
        match self {
            Self::Cbor(bytes) => Socketed::Binary(bytes),
            Self::Json(text) => Socketed::Text(text),
        }
    }
}

impl Encoding {
    fn encode(self, message: &ServerMessage) -> Result<Frame, WireError> {
        match self {
            Self::Cbor => Ok(Frame::from_cbor(message.to_cbor())),
            Self::Json => message.to_json().map(Frame::from_json),
        }
    }

    /// Reads a client's frame; nothing for frames that carry no message.
    fn decode(self, frame: &Socketed) -> Result<Option<ClientMessage>, WireError> {
        match (self, frame) {
            (Self::Cbor, Socketed::Binary(bytes)) => ClientMessage::from_cbor(bytes).map(Some),
            (Self::Json, Socketed::Text(text)) => {
                json::check_body(text.as_bytes())
                    .map_err(|what| WireError(format!("the message is too large: {what}")))?;
                ClientMessage::from_json(text).map(Some)
            }
            (Self::Cbor, Socketed::Text(_)) => Err(WireError("this stream takes binary frames of CBOR".to_owned())),
            (Self::Json, Socketed::Binary(_)) => Err(WireError("this stream takes text frames of JSON".to_owned())),
            _ => Ok(None),
        }
    }
}

/// The end of a stream, and why; the first reason counts.
pub(crate) struct End {
    cancelled: CancellationToken,
    why: OnceLock<Refusal>,
    /// The token that the stream lives by.
    token: Mutex<Arc<Token>>,
}

impl End {
    fn new(token: Arc<Token>) -> Arc<Self> {
        Arc::new(Self { cancelled: CancellationToken::new(), why: OnceLock::new(), token: Mutex::new(token) })
    }

    /// Ends the stream with a `bye`.
    pub(crate) fn because(&self, why: Refusal) {
        drop(self.why.set(why));
        self.cancelled.cancel();
    }

    /// Ends the stream without a word: the client is gone, or left.
    fn quietly(&self) {
        self.cancelled.cancel();
    }

    /// Returns the token that the stream lives by.
    pub(crate) fn token(&self) -> Arc<Token> {
        self.token.lock().clone()
    }

    fn renew(&self, token: Arc<Token>) {
        *self.token.lock() = token;
    }
}

/// A message for the writer, with the place of the request that it answers for good.
struct Outgoing {
    message: Message,
    permit: Option<OwnedSemaphorePermit>,
    /// Its part of what may wait.
    room: Option<(OwnedSemaphorePermit, CountedBytes)>,
}

enum Message {
    Plain(Box<ServerMessage>),
    /// Encoded once for many streams.
    Event(Frame),
}

impl Outgoing {
    fn part(message: ServerMessage) -> Self {
        Self { message: Message::Plain(Box::new(message)), permit: None, room: None }
    }

    fn last(message: ServerMessage, permit: OwnedSemaphorePermit) -> Self {
        Self { message: Message::Plain(Box::new(message)), permit: Some(permit), room: None }
    }
}

impl Message {
    /// Returns about how many bytes it takes while it waits.
    fn size(&self) -> usize {
        let ops = |ops: &[(u64, WireOp)]| ops.iter().map(|(_, op)| op.record.len() + OP_BYTES).sum();
        let beside = |base: &Option<WireBase>| base.as_ref().map_or(0, |base| base.record.len());
        match self {
            Self::Event(frame) => frame.len(),
            Self::Plain(message) => match &**message {
                ServerMessage::Ops { base, ops: found, .. } => beside(base) + ops(found),
                ServerMessage::Retained { base, ops: found, .. } => {
                    beside(base) + found.iter().map(|(_, op)| op.record.len() + OP_BYTES).sum::<usize>()
                }
                ServerMessage::Event(event) => ops(&event.ops),
                ServerMessage::Shas { shas, .. } => shas.len() * size_of::<Sha>(),
                ServerMessage::Logs { logs, .. } => logs.len() * PATH_BYTES_MAX / 4,
                _ => 0,
            },
        }
    }
}

/// What the parts of a stream share.
struct Context {
    store: Store,
    user: UserName,
    channel: ChannelName,
    encoding: Encoding,
    end: Arc<End>,
    out: mpsc::Sender<Outgoing>,
    /// Turns for reads, each of which holds a page in memory.
    reading: Semaphore,
    /// Room for messages that wait, in units of [`ROOM_UNIT_BYTES`].
    room: Arc<Semaphore>,
    /// What the session uses.
    used: Arc<Used>,
}

/// The stream is ending.
struct Gone;

impl Context {
    /// Sends the last part of an answer.
    async fn answer(&self, message: ServerMessage, permit: OwnedSemaphorePermit) -> Result<(), Gone> {
        self.send(Outgoing::last(message, permit)).await
    }

    /// Sends a part of an answer that is not the last.
    async fn part(&self, message: ServerMessage) -> Result<(), Gone> {
        self.send(Outgoing::part(message)).await
    }

    /// Queues a message once there is room for its bytes.
    async fn send(&self, mut outgoing: Outgoing) -> Result<(), Gone> {
        let bytes = outgoing.message.size();
        let units = (1 + bytes / ROOM_UNIT_BYTES).min(ROOM_UNITS) as u32;
        let room = self.room.clone().acquire_many_owned(units).await.map_err(|_| Gone)?;
        outgoing.room = Some((room, self.store.inner.metrics.waiting(bytes)));
        self.out.send(outgoing).await.map_err(|_| Gone)
    }

    async fn fail(&self, tag: Tag, refusal: Refusal, permit: OwnedSemaphorePermit) -> Result<(), Gone> {
        self.answer(ServerMessage::Failed { tag, refusal }, permit).await
    }
}

/// Opens a stream for one channel: WebSocket, with a token in the upgrade request. The subprotocols are
/// `gigfs.v1.cbor` and `gigfs.v1.json`; JSON if none is asked for.
#[utoipa::path(get, path = "/user/{user}/oplog/stream", tag = "oplogs",
    params(("user" = String, Path, description = "The user"),
        ("channel" = String, Query, description = "The channel")),
    security(("store_token" = [])),
    responses((status = 101), (status = 400, body = Refusal), (status = 401, body = Refusal)))]
pub(crate) async fn open(
    State(store): State<Store>,
    names: Names,
    asked: Asked,
    Bearer(token): Bearer,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Refused> {
    asked.only(&["channel"])?;
    let user = names.user()?;
    let channel = asked.required("channel", |text| Ok(ChannelName::parse(text)?))?;
    let inner = &store.inner;
    let token = inner.access.pass(&inner.users, &token, &user, &channel, Permission::Read).await?;
    let upgrade = upgrade.map_err(|error| {
        let message = format!("the stream is a WebSocket, and this is no upgrade to one: {error}");
        Refused(Refusal::new(ErrorCode::BadRequest, message).hint("connect with a WebSocket client"))
    })?;
    let asks_for_one = upgrade.requested_protocols().next().is_some();
    let upgrade = upgrade
        .protocols([SUBPROTOCOL_CBOR, SUBPROTOCOL_JSON])
        .read_buffer_size(READ_AT_ONCE_BYTES)
        .max_message_size(MESSAGE_BYTES_MAX)
        .max_frame_size(MESSAGE_BYTES_MAX);
    let encoding = match upgrade.selected_protocol().and_then(|selected| selected.to_str().ok()) {
        Some(SUBPROTOCOL_CBOR) => Encoding::Cbor,
        Some(SUBPROTOCOL_JSON) => Encoding::Json,
        _ if asks_for_one => {
            let message = format!("this store speaks {SUBPROTOCOL_CBOR} and {SUBPROTOCOL_JSON}");
            return Err(Refused(Refusal::new(ErrorCode::UnsupportedVersion, message).hint("update the older program")));
        }
        _ => Encoding::Json,
    };
    if inner.stopping.is_cancelled() {
        return Err(Refused(refusal::stopping()));
    }
    let place = inner.sessions.stream(&token.claims)?;
    let counted = inner.metrics.stream();
    let tracked = inner.streams.token();
    Ok(upgrade.on_upgrade(move |socket| async move {
        run(store, user, channel, encoding, token, socket).await;
        drop((place, counted, tracked));
    }))
}

async fn run(
    store: Store,
    user: UserName,
    channel: ChannelName,
    encoding: Encoding,
    token: Arc<Token>,
    socket: WebSocket,
) {
    let end = End::new(token.clone());
    let handle = store.clone();
    let _live = handle.inner.access.register(&token.claims, &end);
    let (sink, source) = socket.split();
    let (out, outgoing) = mpsc::channel(OUTGOING_MAX);
    let (answer, answers) = mpsc::channel(STREAM_PLACES_MAX);
    let (order, orders) = mpsc::channel(ORDERS_MAX);
    let used = store.inner.sessions.of(&token.claims);
    let (reading, room) = (Semaphore::new(READS_AT_ONCE_MAX), Arc::new(Semaphore::new(ROOM_UNITS)));
    let context = Arc::new(Context { store, user, channel, encoding, end, out, reading, room, used });
    if let Err(refusal) = welcome(&context).await {
        context.end.because(refusal);
    }
    let requests = reader::Requests { answer, order, places: Arc::new(Semaphore::new(STREAM_PLACES_MAX)) };
    tokio::join!(
        reader::run(context.clone(), source, requests),
        watch::run(&context, orders),
        writer::run(&context, sink, answers, outgoing),
    );
}

async fn welcome(context: &Context) -> Result<(), Refusal> {
    let (user, channel) = (context.user.clone(), context.channel.clone());
    let position = context.store.read(move |engine| engine.position(&user, &channel)).await?;
    let engine = &context.store.inner.engine;
    let (store, incarnation) = (engine.store_id(), engine.incarnation());
    let (now, run) = (clock::date(), Some(context.store.inner.run));
    let welcome = ServerMessage::Welcome(Welcome { store, incarnation, position, now, run });
    // The queue is still empty, and its other end is open.
    drop(context.out.send(Outgoing::part(welcome)).await);
    Ok(())
}

/// Returns the frame that closes a stream after a `bye`.
fn close_frame(why: Option<&Refusal>) -> Socketed {
    let frame = why.map(|why| CloseFrame { code: refusal::close_code(why.code), reason: why.code.as_str().into() });
    Socketed::Close(frame)
}

/// Messages that wait for the writer, beside the answers to pushes.
const OUTGOING_MAX: usize = 8;
/// Bytes that an operation takes beside its record.
const OP_BYTES: usize = size_of::<(u64, WireOp)>();
/// Of the bytes that wait.
const ROOM_UNIT_BYTES: usize = 1024;
const ROOM_UNITS: usize = STREAM_QUEUED_BYTES_MAX / ROOM_UNIT_BYTES;
/// Reads under way on one stream; the others wait for their turn.
const READS_AT_ONCE_MAX: usize = 4;
/// Bytes that are asked for with each read of the socket. The library fills so many with zeros first, and every stream keeps
/// as many, so this is no larger than small pushes need; the rest of a large message is asked for at once.
const READ_AT_ONCE_BYTES: usize = 8 * 1024;
/// Changes of what is watched that wait.
const ORDERS_MAX: usize = 64;
