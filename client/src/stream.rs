//! The tasks that keep a stream open to each mounted store.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use gigfs_core::api::{MountTable, MountedStore};
use gigfs_core::sync::{Event, LinkId, Mode};
use gigfs_core::wire::{ClientMessage, Message as _, SUBPROTOCOL_CBOR, ServerMessage};
use gigfs_core::{ErrorCode, ErrorKind, Refusal, UserName};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error as WsError, Message};
use tokio_tungstenite::{Connector, MaybeTlsStream, WebSocketStream, connect_async_tls_with_config};

use crate::backoff::Backoff;
use crate::certificate;
use crate::http::Http;
use crate::shared::Shared;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// How long a stream may take to come up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a stream may be silent. A store pings every 15 seconds.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(45);
/// The tag of requests that the replica does not make.
const OWN_TAG: u64 = 0;
/// Bytes that are asked for with each read of the socket: the library fills so many with zeros first.
const READ_AT_ONCE_BYTES: usize = 8 * 1024;
/// Messages that are written with one flush.
const WRITE_TOGETHER: usize = 64;

/// Opens, watches and closes streams as the mount table says, until the client is closed.
pub(crate) async fn supervise(shared: Arc<Shared>, http: Http, user: UserName, mode: watch::Receiver<Mode>) {
    let mut mounts = shared.mounts.subscribe();
    let mut tasks: BTreeMap<LinkId, tokio::task::AbortHandle> = BTreeMap::new();
    let mut set = JoinSet::new();
    loop {
        let wanted = mounts.borrow_and_update().as_deref().map(links_of).unwrap_or_default();
        tasks.retain(|id, task| {
            let keep = wanted.contains(id);
            if !keep {
                task.abort();
            }
            keep && !task.is_finished()
        });
        for id in wanted {
            tasks.entry(id.clone()).or_insert_with(|| {
                let (shared, http, user, mode) = (shared.clone(), http.clone(), user.clone(), mode.clone());
                set.spawn(async move { Link { shared, http, user, id, mode }.run().await })
            });
        }
        tokio::select! {
            changed = mounts.changed() => if changed.is_err() { return },
            Some(_) = set.join_next() => {}
        }
    }
}

fn links_of(table: &MountTable) -> Vec<LinkId> {
    let of_channel = |mounted: &gigfs_core::api::MountedChannel| {
        let channel = mounted.channel.clone();
        let link = move |store: &MountedStore| LinkId { channel: channel.clone(), store: store.id };
        mounted.stores.iter().map(link).collect::<Vec<_>>()
    };
    table.channels.iter().flat_map(of_channel).collect()
}

/// Keeps one stream open.
struct Link {
    shared: Arc<Shared>,
    http: Http,
    user: UserName,
    id: LinkId,
    mode: watch::Receiver<Mode>,
}

impl Link {
    async fn run(mut self) {
        let mut backoff = Backoff::new();
        loop {
            if self.mode.wait_for(|mode| *mode != Mode::Offline).await.is_err() {
                return;
            }
            let Some(mount) = self.mount() else { return };
            let mut mode = self.mode.clone();
            let (was_up, reason) = tokio::select! {
                ended = self.connect_and_serve(&mount) => ended,
                _ = mode.wait_for(|mode| *mode == Mode::Offline) => (true, None),
            };
            let on_purpose = reason.is_none();
            let reason = reason.unwrap_or_else(offline);
            tracing::debug!(channel = %self.id.channel, store = %self.id.store, "the stream ended: {reason}");
            let wants_token = reason.code.kind() == ErrorKind::LogIn;
            let lost = Event::Lost { link: self.id.clone(), reason };
            self.shared.act(|replica, now| replica.handle(now, lost));
            if on_purpose {
                continue;
            }
            if was_up {
                backoff.reset();
            }
            if wants_token {
                self.shared.wants_tokens.notify_one();
            }
            let mut mounts = self.shared.mounts.subscribe();
            tokio::select! {
                () = sleep(backoff.next()) => {}
                _ = mounts.changed() => {}
                () = self.shared.nudge.notified() => {}
            }
        }
    }

    fn mount(&self) -> Option<MountedStore> {
        let mounts = self.shared.mounts.borrow();
        let channel = mounts.as_deref()?.channels.iter().find(|mounted| mounted.channel == self.id.channel)?;
        channel.stores.iter().find(|store| store.id == self.id.store).cloned()
    }

    /// Opens the stream and serves it until it ends. Returns whether it came up, and why it ended; nothing if the app
    /// went offline, be it for a moment.
    async fn connect_and_serve(&self, mount: &MountedStore) -> (bool, Option<Refusal>) {
        let mut mount = mount.clone();
        let mut connected = self.connect_in_time(&mount).await;
        if let Err(refusal) = &connected
            && let Some(renewed) = self.renewed(&mount, refusal).await
        {
            connected = self.connect_in_time(&renewed).await;
            mount = renewed;
        }
        let socket = match connected {
            Ok(socket) => socket,
            Err(refusal) => return (false, Some(refusal)),
        };
        let mut was_up = false;
        let mut outgoing = self.shared.attach(self.id.clone());
        let reason = self.serve(socket, &mount, &mut outgoing, &mut was_up).await;
        let taken_away = outgoing.is_closed() && outgoing.is_empty();
        (was_up, (!taken_away).then_some(reason))
    }

    /// Waits for what the table says now of a store that could not be connected to, if that may help: a token may have
    /// run out, and a mount table that was kept on disk may be old. Until the table was heard, the store is not yet one
    /// that cannot be reached.
    async fn renewed(&self, failed: &MountedStore, refusal: &Refusal) -> Option<MountedStore> {
        let wants_token = refusal.code.kind() == ErrorKind::LogIn;
        if wants_token {
            self.shared.wants_tokens.notify_one();
        }
        let heard = |_: &mut gigfs_core::sync::Replica| {
            let fresh = self.mount().filter(|mount| match wants_token {
                true => mount.token != failed.token,
                false => mount.url != failed.url,
            });
            let fetched = self.shared.fetched.load(Ordering::Acquire) && !wants_token;
            let over = fetched || self.shared.table_down.lock().is_some();
            fresh.map(Some).or(over.then_some(None))
        };
        timeout(CONNECT_TIMEOUT, self.shared.until(heard)).await.ok().flatten()
    }

    async fn connect_in_time(&self, mount: &MountedStore) -> Result<Socket, Refusal> {
        let late = |_| Err(unreachable("it does not answer"));
        timeout(CONNECT_TIMEOUT, self.connect(mount)).await.unwrap_or_else(late)
    }

    async fn connect(&self, mount: &MountedStore) -> Result<Socket, Refusal> {
        let websocket = mount.url.trim_end_matches('/').replacen("http", "ws", 1);
        let url = format!("{websocket}/user/{}/oplog/stream?channel={}", self.user, self.id.channel);
        let malformed = |why: String| Refusal::new(ErrorCode::BadRequest, format!("{}: {why}", mount.url));
        let mut request = url.into_client_request().map_err(|error| malformed(error.to_string()))?;
        let mut credentials =
            HeaderValue::from_str(&format!("Bearer {}", mount.token)).map_err(|error| malformed(error.to_string()))?;
        credentials.set_sensitive(true);
        request.headers_mut().insert("authorization", credentials);
        request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static(SUBPROTOCOL_CBOR));
        let limit = gigfs_core::limits::MESSAGE_BYTES_MAX;
        let config = WebSocketConfig::default().read_buffer_size(READ_AT_ONCE_BYTES);
        let config = config.max_message_size(Some(limit)).max_frame_size(Some(limit));
        let connector = Connector::Rustls(self.http.tls());
        match connect_async_tls_with_config(request, Some(config), true, Some(connector)).await {
            Ok((socket, _)) => Ok(socket),
            Err(WsError::Http(response)) => {
                let status = response.status();
                let body = response.into_body().unwrap_or_default();
                Err(serde_json::from_slice(&body).unwrap_or_else(|_| unreachable(&format!("it answered {status}"))))
            }
            Err(error) => Err(unreachable(&reason(&error))),
        }
    }

    async fn serve(
        &self,
        socket: Socket,
        mount: &MountedStore,
        outgoing: &mut mpsc::UnboundedReceiver<ClientMessage>,
        was_up: &mut bool,
    ) -> Refusal {
        let (mut sink, mut source) = socket.split();
        let mut mounts = self.shared.mounts.subscribe();
        let mut token = mount.token.clone();
        let mut batch = Vec::with_capacity(WRITE_TOGETHER);
        loop {
            tokio::select! {
                received = timeout(SILENCE_TIMEOUT, source.next()) => {
                    let message = match received {
                        Ok(Some(Ok(Message::Binary(bytes)))) => bytes,
                        Ok(Some(Ok(Message::Close(_))) | None) => return unreachable("it closed the stream"),
                        Ok(Some(Ok(_))) => continue,
                        Ok(Some(Err(error))) => return unreachable(&reason(&error)),
                        Err(_) => return unreachable("it has been silent for 45 s"),
                    };
                    match ServerMessage::from_cbor(&message) {
                        Ok(ServerMessage::Bye { refusal }) => return refusal,
                        Ok(ServerMessage::Welcome(welcome)) if welcome.store != self.id.store => {
                            let why = format!("store {} answers at the URL of store {}", welcome.store, self.id.store);
                            return Refusal::new(ErrorCode::UnknownStore, why).hint("mount the store again");
                        }
                        Ok(message) => {
                            let known = self.shared.mounts.borrow().clone();
                            if let Err(refusal) = certificate::check(&message, known.as_deref()) {
                                return refusal;
                            }
                            *was_up |= self.take(message);
                        }
                        Err(error) => return unreachable(&error.to_string()),
                    }
                }
                count = outgoing.recv_many(&mut batch, WRITE_TOGETHER) => {
                    if count == 0 {
                        return offline();
                    }
                    for message in batch.drain(..) {
                        if let Err(error) = sink.feed(Message::Binary(message.to_cbor().into())).await {
                            return unreachable(&reason(&error));
                        }
                    }
                    if let Err(error) = sink.flush().await {
                        return unreachable(&reason(&error));
                    }
                }
                changed = mounts.changed() => {
                    let fresh = self.mount().filter(|fresh| changed.is_ok() && fresh.token != token);
                    if let Some(fresh) = fresh {
                        token = fresh.token;
                        let renew = ClientMessage::Renew { tag: OWN_TAG, token: token.clone() };
                        if let Err(error) = sink.send(Message::Binary(renew.to_cbor().into())).await {
                            return unreachable(&reason(&error));
                        }
                    }
                }
            }
        }
    }

    /// Gives a message to the replica. Returns whether it was the store's welcome.
    fn take(&self, message: ServerMessage) -> bool {
        let link = self.id.clone();
        let (event, welcome) = match message {
            ServerMessage::Welcome(welcome) => (Event::Connected { link, welcome }, true),
            message => (Event::Received { link, message }, false),
        };
        self.shared.act(|replica, now| replica.handle(now, event));
        welcome
    }
}

/// Says that there is no stream because the app wants none.
pub(crate) fn offline() -> Refusal {
    Refusal::new(ErrorCode::Unavailable, "this client is offline because the app said so")
}

/// Says why there is no stream. Which store it is about is known to whoever shows it.
fn unreachable(why: &str) -> Refusal {
    Refusal::new(ErrorCode::Unreachable, why)
}

/// Says what the WebSocket library says, without its own words around what the system said.
fn reason(error: &WsError) -> String {
    match error {
        WsError::Io(error) => error.to_string(),
        other => other.to_string(),
    }
}
