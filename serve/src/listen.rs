//! Listening, and stopping in order.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::time::Duration;

use axum_server::{Handle, Server};
use hyper_util::rt::TokioTimer;
use tokio_util::sync::CancellationToken;

use crate::Connections;

/// A socket that listens and is not yet answered on.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
}

/// How a server is told to stop, and what it does then.
#[derive(Debug)]
pub struct Stop<'a> {
    /// Cancelled when the server stops, for whatever reason; ends what would go on by itself.
    pub token: &'a CancellationToken,
    /// Time that requests under way get to finish.
    pub grace: Duration,
}

impl Listener {
    /// Listens; port 0 takes a free one.
    ///
    /// # Errors
    /// What the system says.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = tokio::net::TcpListener::bind(address).await?.into_std()?;
        let address = socket.local_addr()?;
        Ok(Self { socket, address })
    }

    /// Returns the address, with the port that was taken.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the URL of a server that was given none: where this machine reaches it.
    pub fn own_url(&self, tls: bool) -> String {
        let scheme = if tls { "https" } else { "http" };
        let address = SocketAddr::new(reachable(self.address.ip()), self.address.port());
        format!("{scheme}://{address}")
    }

    /// Returns a server on this socket that is bounded in what a connection may ask of it.
    ///
    /// # Errors
    /// What the system says.
    pub fn server(self, handle: Handle<SocketAddr>, settings: &Connections) -> io::Result<Server<SocketAddr>> {
        let mut server = axum_server::from_tcp(self.socket)?.handle(handle);
        let head_bytes = settings.head_bytes;
        // A connection that sends no whole request head in time is closed.
        server
            .http_builder()
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(Duration::from_secs(settings.head_seconds))
            .max_buf_size(head_bytes);
        server
            .http_builder()
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(H2_STREAMS_MAX)
            .max_header_list_size(u32::try_from(head_bytes).unwrap_or(u32::MAX));
        Ok(server)
    }
}

impl Stop<'_> {
    /// Serves until `shutdown` completes or the token is cancelled, then stops accepting and lets requests finish for
    /// as long as they may. The token is cancelled also when `serving` ends by itself.
    ///
    /// # Errors
    /// Those of `serving`.
    pub async fn serve(
        &self,
        handle: &Handle<SocketAddr>,
        serving: impl Future<Output = io::Result<()>>,
        shutdown: impl Future<Output = ()>,
    ) -> io::Result<()> {
        let stopping = async {
            tokio::select! {
                () = shutdown => {}
                () = self.token.cancelled() => {}
            }
            self.token.cancel();
            handle.graceful_shutdown(Some(self.grace));
        };
        let serving = async {
            let served = serving.await;
            self.token.cancel();
            served
        };
        let (served, ()) = tokio::join!(serving, stopping);
        served
    }
}

/// Returns the address that is reached on this machine when a server listens on `ip`.
fn reachable(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    }
}

/// Requests that one HTTP/2 connection may have open.
const H2_STREAMS_MAX: u32 = 128;
