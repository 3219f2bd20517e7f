//! The wire between the clients and one server: a TCP proxy that forwards bytes, or does not.
//!
//! Every server is reached at the URL of its proxy only, by clients and by the other servers. Whose a connection is, the
//! proxy learns from the first request on it: its credentials name a session, and each client has one of its own. So there
//! is one [`Wire`] for each client and server, and one for all that servers say to the server themselves. A wire can hold
//! bytes back in either direction while the connection stays open, delay them, cut a connection in the middle of whatever
//! goes over it, and refuse every connection. What it forwards, it forwards unchanged and in order: that much TCP promises.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use gigfs_core::SessionId;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Bytes of a request's head, of which the credentials are a part.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Way {
    /// To the server.
    There,
    /// From the server.
    Back,
}

/// Who talks to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Peer {
    /// A client, by its number.
    Client(usize),
    /// Another server.
    Server,
    /// Whoever sets up the world and looks at it. Nothing befalls them.
    Operator,
}

/// What a wire is like now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Weather {
    refuses: bool,
    holds: [bool; 2],
    delay: Duration,
}

/// A cut that is to come.
#[derive(Debug, Clone, Copy)]
struct Cut {
    way: Way,
    bytes: u64,
    reset: bool,
}

/// The wire between one peer and one server.
#[derive(Debug, Default)]
pub(crate) struct Wire {
    weather: watch::Sender<Weather>,
    cut: Mutex<Option<Cut>>,
}

impl Wire {
    /// Holds back what goes one way, on connections that stay open, and on new ones.
    pub(crate) fn hold(&self, way: Way) {
        self.weather.send_modify(|weather| weather.holds[way as usize] = true);
    }

    /// Delays each piece by so much.
    pub(crate) fn delay(&self, delay: Duration) {
        self.weather.send_modify(|weather| weather.delay = delay);
    }

    /// Resets all connections, and refuses new ones.
    pub(crate) fn partition(&self) {
        self.weather.send_modify(|weather| weather.refuses = true);
    }

    /// Ends the connection that carries the next `bytes` that go this way, right behind them: with a reset, or as if the
    /// other side had closed it.
    pub(crate) fn cut_after(&self, way: Way, bytes: u64, reset: bool) {
        *self.cut.lock() = Some(Cut { way, bytes, reset });
    }

    /// Makes the wire whole. What was held back goes on.
    pub(crate) fn mend(&self) {
        *self.cut.lock() = None;
        self.weather.send_replace(Weather::default());
    }

    /// Returns how much of `bytes` still goes this way, and how the connection ends behind it if it does.
    fn spend(&self, way: Way, bytes: usize) -> (usize, Option<bool>) {
        let mut cut = self.cut.lock();
        match &mut *cut {
            Some(planned) if planned.way == way => {
                if planned.bytes > bytes as u64 {
                    planned.bytes -= bytes as u64;
                    return (bytes, None);
                }
                let (last, reset) = (planned.bytes as usize, planned.reset);
                *cut = None;
                (last, Some(reset))
            }
            _ => (bytes, None),
        }
    }

    async fn refuses(&self) {
        // The sender lives as long as this does.
        _ = self.weather.subscribe().wait_for(|weather| weather.refuses).await;
    }

    /// Waits until what goes this way may go on.
    async fn lets(&self, way: Way) {
        let mut weather = self.weather.subscribe();
        loop {
            _ = weather.wait_for(|weather| !weather.holds[way as usize]).await;
            let delay = weather.borrow().delay;
            if delay.is_zero() {
                return;
            }
            tokio::time::sleep(delay).await;
            if !weather.borrow().holds[way as usize] {
                return;
            }
        }
    }
}

/// Which session is which client's.
pub(crate) type Sessions = Arc<Mutex<BTreeMap<SessionId, usize>>>;

/// A proxy in front of one server.
pub(crate) struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

struct Shared {
    server: Mutex<Option<SocketAddr>>,
    wires: BTreeMap<Peer, Wire>,
    sessions: Sessions,
}

impl Proxy {
    /// Listens, for so many clients.
    pub(crate) async fn start(clients: usize, sessions: Sessions) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let peers = (0..clients).map(Peer::Client).chain([Peer::Server, Peer::Operator]);
        let wires = peers.map(|peer| (peer, Wire::default())).collect();
        let shared = Arc::new(Shared { server: Mutex::default(), wires, sessions });
        let accepting = tokio::spawn(accept(listener, shared.clone()));
        Ok(Self { address, shared, accepting })
    }

    /// Returns the URL at which everybody reaches the server.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Says where the server is now; nowhere while it is down.
    pub(crate) fn lead_to(&self, server: Option<SocketAddr>) {
        *self.shared.server.lock() = server;
    }

    /// Returns the wire of a peer.
    pub(crate) fn wire(&self, peer: Peer) -> &Wire {
        &self.shared.wires[&peer]
    }

    /// Makes all wires whole.
    pub(crate) fn mend(&self) {
        self.shared.wires.values().for_each(Wire::mend);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        // A connection that was gone before it was accepted is no reason to stop.
        if let Ok((socket, _)) = listener.accept().await {
            let shared = shared.clone();
            tokio::spawn(async move {
                // How a connection ends is the business of those who talk over it.
                _ = carry(socket, &shared).await;
            });
        }
    }
}

/// Carries one connection from its first byte to its end.
async fn carry(mut near: TcpStream, shared: &Shared) -> io::Result<()> {
    near.set_nodelay(true)?;
    let head = read_head(&mut near).await?;
    let peer = shared.peer(&head);
    let wire = &shared.wires[&peer];
    let server = *shared.server.lock();
    let far = match server {
        Some(server) if !wire.weather.borrow().refuses => TcpStream::connect(server).await,
        _ => Err(io::ErrorKind::ConnectionRefused.into()),
    };
    let Ok(mut far) = far else { return near.set_zero_linger() };
    far.set_nodelay(true)?;
    let reset = {
        let ((near_read, near_write), (far_read, far_write)) = (near.split(), far.split());
        let both = async {
            tokio::try_join!(
                pump(head, near_read, far_write, wire, Way::There),
                pump(Vec::new(), far_read, near_write, wire, Way::Back)
            )
        };
        tokio::select! {
            ended = both => ended.err().unwrap_or(false),
            () = wire.refuses() => true,
        }
    };
    if reset {
        near.set_zero_linger()?;
        far.set_zero_linger()?;
    }
    Ok(())
}

/// Forwards what goes one way until it ends. The error says whether the connection is to be reset.
async fn pump(
    mut piece: Vec<u8>,
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    wire: &Wire,
    way: Way,
) -> Result<(), bool> {
    loop {
        if !piece.is_empty() {
            wire.lets(way).await;
            let (goes, end) = wire.spend(way, piece.len());
            to.write_all(&piece[..goes]).await.map_err(|_| true)?;
            if let Some(reset) = end {
                return Err(reset);
            }
        }
        piece.resize(16 * 1024, 0);
        let read = from.read(&mut piece).await.map_err(|_| true)?;
        piece.truncate(read);
        if read == 0 {
            wire.lets(way).await;
            return to.shutdown().await.map_err(|_| true);
        }
    }
}

async fn read_head(near: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") && head.len() < HEAD_BYTES_MAX {
        if near.read_buf(&mut head).await? == 0 {
            break;
        }
    }
    Ok(head)
}

impl Shared {
    /// Tells who sends a request.
    fn peer(&self, head: &[u8]) -> Peer {
        let head = String::from_utf8_lossy(head);
        let mut lines = head.lines();
        let route = lines.next().and_then(|line| line.split(' ').nth(1)).unwrap_or_default();
        if route.ends_with("/table/check") {
            // A store asks, with the credentials of whom it asks about.
            return Peer::Server;
        }
        let value = lines.find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("authorization").then(|| value.trim())
        });
        match value.and_then(|value| value.strip_prefix("Bearer ")) {
            Some(token) => match session_of(token) {
                // Sessions that are no client's are the operator's.
                Some(session) => self.sessions.lock().get(&session).map_or(Peer::Operator, |at| Peer::Client(*at)),
                None if route.starts_with("/admin/") => Peer::Operator,
                None => Peer::Server,
            },
            None if route.ends_with("/confirm") => Peer::Server,
            None => Peer::Operator,
        }
    }
}

/// Returns the session of a session's token, which begins with it, or of a store token, whose claims name it.
fn session_of(token: &str) -> Option<SessionId> {
    let mut parts = token.split('.');
    if let Ok(session) = parts.next()?.parse() {
        return Some(session);
    }
    let claims: Value = serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(parts.next()?).ok()?).ok()?;
    // Tokens with which the table speaks for itself name sessions too, or none.
    (claims["use"] == "store").then(|| claims["sid"].as_str()?.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that sends back what it gets, and a client's connection to it.
    async fn echo(proxy: &Proxy) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        proxy.lead_to(Some(listener.local_addr().unwrap()));
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = socket.split();
                    _ = tokio::io::copy(&mut read, &mut write).await;
                });
            }
        });
    }

    async fn proxy() -> Proxy {
        let session: SessionId = "01".repeat(16).parse().unwrap();
        let proxy = Proxy::start(1, Arc::new(Mutex::new(BTreeMap::from([(session, 0)])))).await.unwrap();
        echo(&proxy).await;
        proxy
    }

    fn request() -> String {
        format!("GET / HTTP/1.1\r\nAuthorization: Bearer {}.x\r\n\r\n", "01".repeat(16))
    }

    async fn connect(proxy: &Proxy) -> TcpStream {
        let mut client = TcpStream::connect(proxy.address).await.unwrap();
        client.write_all(request().as_bytes()).await.unwrap();
        client
    }

    async fn answer(client: &mut TcpStream) -> io::Result<String> {
        let mut all = vec![0; request().len()];
        client.read_exact(&mut all).await?;
        Ok(String::from_utf8(all).unwrap())
    }

    #[tokio::test]
    async fn a_connection_is_its_sessions_and_is_carried_whole() {
        let proxy = proxy().await;
        assert_eq!(proxy.shared.peer(request().as_bytes()), Peer::Client(0));
        assert_eq!(proxy.shared.peer(b"GET /user/me/table/check HTTP/1.1\r\n\r\n"), Peer::Server);
        assert_eq!(proxy.shared.peer(b"GET /healthz HTTP/1.1\r\n\r\n"), Peer::Operator);
        let claims = format!(r#"{{"use":"store","sid":"{}"}}"#, "01".repeat(16));
        let token = format!("e30.{}.x", BASE64_URL_SAFE_NO_PAD.encode(claims));
        assert_eq!(session_of(&token), "01".repeat(16).parse().ok());
        assert_eq!(answer(&mut connect(&proxy).await).await.unwrap(), request());
    }

    #[tokio::test]
    async fn a_wire_that_holds_keeps_the_connection_and_what_went_over_it() {
        let proxy = proxy().await;
        proxy.wire(Peer::Client(0)).hold(Way::Back);
        let mut client = connect(&proxy).await;
        let mut byte = [0];
        let nothing = tokio::time::timeout(Duration::from_millis(50), client.read(&mut byte)).await;
        assert!(nothing.is_err());
        proxy.mend();
        assert_eq!(answer(&mut client).await.unwrap(), request());
    }

    #[tokio::test]
    async fn a_cut_comes_behind_the_byte_that_it_was_set_for() {
        let proxy = proxy().await;
        proxy.wire(Peer::Client(0)).cut_after(Way::Back, 5, false);
        let mut client = connect(&proxy).await;
        let mut all = Vec::new();
        client.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, b"GET /");
        assert_eq!(answer(&mut connect(&proxy).await).await.unwrap(), request());
    }

    #[tokio::test]
    async fn a_partition_resets_what_is_open_and_refuses_what_comes() {
        let proxy = proxy().await;
        let mut client = connect(&proxy).await;
        answer(&mut client).await.unwrap();
        proxy.wire(Peer::Client(0)).partition();
        assert!(client.read_u8().await.is_err());
        assert!(answer(&mut connect(&proxy).await).await.is_err());
        proxy.mend();
        assert_eq!(answer(&mut connect(&proxy).await).await.unwrap(), request());
    }
}
