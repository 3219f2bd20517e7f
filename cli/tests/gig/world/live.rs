//! A stream to a store as whoever has a token opens it, without the client that looks after it.

use std::time::Instant;

use futures_util::{SinkExt as _, StreamExt as _};
use gigfs::Table;
use gigfs_core::wire::{ClientMessage, Message as _, SUBPROTOCOL_CBOR, ServerMessage};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::DEADLINE;

/// One stream of the channel `home`.
pub(crate) struct Live(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Live {
    /// Opens a stream at the store at a URL, and waits until the store says welcome.
    pub(crate) async fn open(store: &str, token: &str) -> Self {
        Self::try_open(store, token).await.unwrap()
    }

    /// Opens a stream; nothing if the store does not let it.
    pub(crate) async fn try_open(store: &str, token: &str) -> Option<Self> {
        let url = format!("{}/user/me/oplog/stream?channel=home", store.replacen("http", "ws", 1));
        let mut request = url.into_client_request().unwrap();
        request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        request.headers_mut().insert("sec-websocket-protocol", SUBPROTOCOL_CBOR.parse().unwrap());
        let mut live = Self(connect_async(request).await.ok()?.0);
        assert!(matches!(live.next().await, Some(ServerMessage::Welcome(_))));
        Some(live)
    }

    /// Returns the next message; nothing once the stream has ended.
    async fn next(&mut self) -> Option<ServerMessage> {
        loop {
            match tokio::time::timeout(DEADLINE, self.0.next()).await.expect("the stream goes on and says nothing") {
                Some(Ok(Message::Binary(bytes))) => return Some(ServerMessage::from_cbor(&bytes).unwrap()),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                _ => return None,
            }
        }
    }

    /// Waits for the store's last word, and returns its code and when it came.
    pub(crate) async fn ended(mut self) -> (&'static str, Instant) {
        loop {
            match self.next().await {
                Some(ServerMessage::Bye { refusal }) => return (refusal.code.as_str(), Instant::now()),
                Some(_) => {}
                None => panic!("the stream ended without a word"),
            }
        }
    }

    /// Asks for something, and tells whether the store answers.
    pub(crate) async fn answers(&mut self) -> bool {
        let asked = self.0.send(Message::Binary(ClientMessage::Unwatch { tag: 1 }.to_cbor().into())).await;
        asked.is_ok() && matches!(self.next().await, Some(ServerMessage::Unwatched { tag: 1 }))
    }
}

/// The tokens of a session for the stores of `home`, by the stores' URLs.
pub(crate) async fn tokens(table: &Table) -> Vec<(String, String)> {
    let mounts = table.mounts().await.unwrap();
    mounts.channels[0].stores.iter().map(|store| (store.url.clone(), store.token.clone())).collect()
}
