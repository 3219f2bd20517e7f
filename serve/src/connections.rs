//! What one server gives to connections: how many, how many to one address, and how long it waits for them.
//!
//! A connection that is over a cap is closed before it costs more than a socket. One that says nothing, or takes nothing,
//! for too long is closed too, whatever it speaks and wherever in it it is.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum_server::accept::Accept;
use ipnet::IpNet;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

use crate::Figures;

/// The settings of a server's connections.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Connections {
    /// Connections that are open at a time. Each takes a file descriptor. Default: 16,384.
    pub most: usize,
    /// Connections that are open at a time from one IPv4 address, or from the first 64 bits of an IPv6 one. Those of
    /// `trusted_proxies` do not count. Default: 1,024.
    pub most_of_address: usize,
    /// Seconds that the head of a request may take to arrive, and that a connection may wait for the next request. Default:
    /// 15.
    pub head_seconds: u64,
    /// Bytes that the head of a request may have; at least 8,192. Default: 65,536.
    pub head_bytes: usize,
    /// Seconds that the body of a request may take to arrive. Default: 60.
    pub body_seconds: u64,
    /// Seconds after which a connection is closed on which nothing has moved either way. Streams are never silent for more
    /// than 15 seconds. Default: 90.
    pub idle_seconds: u64,
}

impl Default for Connections {
    fn default() -> Self {
        Self {
            most: 16 * 1024,
            most_of_address: 1024,
            head_seconds: 15,
            head_bytes: 64 * 1024,
            body_seconds: 60,
            idle_seconds: 90,
        }
    }
}

impl Connections {
    /// Checks the settings.
    ///
    /// # Errors
    /// What is wrong, to follow "the setting connections".
    pub fn check(&self) -> Result<(), String> {
        if self.head_bytes < HEAD_BYTES_MIN {
            return Err(format!("must have head_bytes of {HEAD_BYTES_MIN} or more; they are {}", self.head_bytes));
        }
        let seconds = [self.head_seconds, self.body_seconds, self.idle_seconds];
        match self.most == 0 || self.most_of_address == 0 || seconds.contains(&0) {
            true => Err("must be of numbers above 0".to_owned()),
            false => Ok(()),
        }
    }

    /// Returns how long a body may take to arrive.
    pub fn body(&self) -> Duration {
        Duration::from_secs(self.body_seconds)
    }
}

/// Counts connections, and closes those that are too many or too slow, before and after another acceptor.
#[derive(Clone)]
pub struct Door<A> {
    inner: A,
    settings: Arc<Connections>,
    trusted_proxies: Arc<[IpNet]>,
    figures: Figures,
    open: Arc<Mutex<Open>>,
}

#[derive(Debug, Default)]
struct Open {
    all: usize,
    of_addresses: BTreeMap<IpAddr, usize>,
}

/// A connection's place among those that are open.
struct Place {
    open: Arc<Mutex<Open>>,
    figures: Figures,
    /// Nothing for a proxy.
    address: Option<IpAddr>,
}

impl<A> Door<A> {
    /// Puts a door before an acceptor.
    pub fn new(inner: A, settings: Connections, trusted_proxies: &[IpNet], figures: Figures) -> Self {
        let (settings, trusted_proxies) = (Arc::new(settings), trusted_proxies.into());
        Self { inner, settings, trusted_proxies, figures, open: Arc::default() }
    }

    fn admit(&self, address: IpAddr) -> io::Result<Place> {
        let address = address.to_canonical();
        let is_proxy = self.trusted_proxies.iter().any(|network| network.contains(&address));
        let address = (!is_proxy).then(|| network(address));
        let mut open = self.open.lock();
        let of_address = address.and_then(|address| open.of_addresses.get(&address)).copied().unwrap_or(0);
        if open.all >= self.settings.most || of_address >= self.settings.most_of_address {
            self.figures.connection_refused();
            return Err(io::Error::new(io::ErrorKind::QuotaExceeded, "there are too many connections"));
        }
        open.all += 1;
        if let Some(address) = address {
            *open.of_addresses.entry(address).or_default() += 1;
        }
        self.figures.connections(open.all);
        Ok(Place { open: self.open.clone(), figures: self.figures.clone(), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.open.lock();
        open.all -= 1;
        if let Some(address) = self.address
            && let Some(count) = open.of_addresses.get_mut(&address)
        {
            *count -= 1;
            if *count == 0 {
                open.of_addresses.remove(&address);
            }
        }
        self.figures.connections(open.all);
    }
}

impl<A, S> Accept<TcpStream, S> for Door<A>
where
    A: Accept<TcpStream, S>,
    A::Future: Send + 'static,
    A::Stream: Unpin,
{
    type Stream = Watched<A::Stream>;
    type Service = A::Service;
    type Future = Pin<Box<dyn Future<Output = io::Result<(Self::Stream, Self::Service)>> + Send>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let place = stream.peer_addr().and_then(|peer| self.admit(peer.ip()));
        let place = match place {
            Ok(place) => place,
            Err(error) => return Box::pin(async move { Err(error) }),
        };
        let accepting = self.inner.accept(stream, service);
        let settings = self.settings.clone();
        Box::pin(async move {
            let (stream, service) = accepting.await?;
            Ok((Watched::new(stream, &settings, place), service))
        })
    }
}

/// A connection that ends with an error when nothing moves on it for too long.
pub struct Watched<S> {
    inner: S,
    idle: Duration,
    closes: Pin<Box<Sleep>>,
    /// Bytes to come before the connection counts as one that speaks.
    unheard: usize,
    _place: Place,
}

impl<S> Watched<S> {
    fn new(inner: S, settings: &Connections, place: Place) -> Self {
        let idle = Duration::from_secs(settings.idle_seconds);
        // Which version of HTTP it is shows in the first bytes, and until then nobody else looks at the time.
        let first = Duration::from_secs(settings.head_seconds);
        Self { inner, idle, closes: Box::pin(tokio::time::sleep(first)), unheard: PREFACE_BYTES, _place: place }
    }

    /// Notes what came of reading or writing: the time begins anew when something moved, and counts while nothing does.
    fn watch<T>(&mut self, moved: Poll<io::Result<T>>, bytes: usize, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        match moved {
            Poll::Ready(Ok(_)) if bytes > 0 => {
                self.unheard = self.unheard.saturating_sub(bytes);
                if self.unheard == 0 {
                    let at = Instant::now() + self.idle;
                    self.closes.as_mut().reset(at);
                }
                moved
            }
            Poll::Pending => match self.closes.as_mut().poll(context) {
                Poll::Ready(()) => {
                    Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "nothing moved for too long")))
                }
                Poll::Pending => Poll::Pending,
            },
            moved => moved,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        let moved = Pin::new(&mut self.inner).poll_read(context, into);
        self.watch(moved, into.filled().len() - before, context)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let moved = Pin::new(&mut self.inner).poll_write(context, bytes);
        let count = written(&moved);
        self.watch(moved, count, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let moved = Pin::new(&mut self.inner).poll_write_vectored(context, slices);
        let count = written(&moved);
        self.watch(moved, count, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let moved = Pin::new(&mut self.inner).poll_flush(context);
        self.watch(moved, 0, context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let moved = Pin::new(&mut self.inner).poll_shutdown(context);
        self.watch(moved, 0, context)
    }
}

fn written(moved: &Poll<io::Result<usize>>) -> usize {
    match moved {
        Poll::Ready(Ok(count)) => *count,
        _ => 0,
    }
}

/// Returns what one customer of a network has: an IPv4 address, or the first 64 bits of an IPv6 one.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        address => address,
    }
}

/// The least that the HTTP library takes for a head.
const HEAD_BYTES_MIN: usize = 8192;
/// Bytes with which HTTP/2 begins; those of the first request of HTTP/1 are more.
const PREFACE_BYTES: usize = 24;
