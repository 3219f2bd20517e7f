//! Calls over loopback: what is called although it should not be would be heard by a listener that counts.

#![allow(clippy::unwrap_used, reason = "a test that meets what it does not expect has failed")]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::routing::get;
use gigfs_serve::{Fetch, FetchError, Manner, Networks};
use ipnet::IpNet;
use reqwest::Method;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

fn fetch(networks: &[&str], timeout: Duration) -> Fetch {
    let networks: Vec<IpNet> = networks.iter().map(|network| network.parse().unwrap()).collect();
    let networks = Networks::of(Some(&networks), Ipv4Addr::LOCALHOST.into(), None);
    Fetch::new(Manner { user_agent: "test", timeout, trusted: Vec::new(), networks }).unwrap()
}

fn patient(networks: &[&str]) -> Fetch {
    fetch(networks, Duration::from_secs(20))
}

async fn call(fetch: &Fetch, url: &str) -> Result<gigfs_serve::Answer, FetchError> {
    fetch.call(Method::GET, url, Some("a-token"), None::<&()>).await
}

/// Counts connections, and what it answers with is `router`.
async fn serve(router: Router) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let heard = Arc::new(AtomicUsize::new(0));
    let count = heard.clone();
    let router = router.layer(axum::middleware::map_request(move |request: axum::extract::Request| {
        count.fetch_add(1, Ordering::SeqCst);
        async move { request }
    }));
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (address, heard)
}

#[tokio::test]
async fn no_spelling_of_a_private_address_is_connected_to() {
    let (address, heard) = serve(Router::new().fallback(async || "secret")).await;
    let closed = patient(&[]);
    let port = address.port();
    for host in [
        "127.0.0.1",
        "localhost",
        "127.1",
        "2130706433",
        "0x7f.0.0.1",
        "0177.0.0.1",
        "0.0.0.0",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::1]",
        "[::]",
    ] {
        let refused = call(&closed, &format!("http://{host}:{port}/")).await;
        assert!(matches!(refused, Err(FetchError::NotAllowed)), "{host}: {refused:?}");
        let checked = closed.check(&format!("http://{host}:{port}/")).await;
        assert!(matches!(checked, Err(FetchError::NotAllowed)), "{host}: {checked:?}");
    }
    assert_eq!(heard.load(Ordering::SeqCst), 0);
    // The same listener answers where the operator allows it, so it was there to be found.
    let open = patient(&["127.0.0.0/8"]);
    for host in ["127.0.0.1", "localhost"] {
        assert_eq!(call(&open, &format!("http://{host}:{port}/")).await.unwrap().body, b"secret");
    }
    assert_eq!(heard.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_is_not_followed() {
    let (inner, heard) = serve(Router::new().fallback(async || "secret")).await;
    let to = format!("http://{inner}/");
    let redirect = move || async move { (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, to)]) };
    let (outer, _) = serve(Router::new().route("/", get(redirect))).await;
    let answer = call(&patient(&["127.0.0.0/8"]), &format!("http://{outer}/")).await.unwrap();
    assert_eq!(answer.status, 307);
    assert_eq!(heard.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn other_schemes_are_refused() {
    for url in ["ftp://127.0.0.1/", "file:///etc/passwd", "gopher://127.0.0.1/", "unix:/run/x"] {
        let refused = call(&patient(&["0.0.0.0/0"]), url).await;
        assert!(matches!(refused, Err(FetchError::Failed(_))), "{url}: {refused:?}");
    }
}

#[tokio::test]
async fn an_answer_without_end_is_cut_at_the_limit() {
    let endless = async || {
        axum::body::Body::from_stream(futures_util::stream::repeat_with(|| {
            Ok::<_, std::io::Error>(axum::body::Bytes::from_static(&[b'x'; 4096]))
        }))
    };
    let (address, _) = serve(Router::new().fallback(endless)).await;
    let refused = call(&patient(&["127.0.0.0/8"]), &format!("http://{address}/")).await;
    assert!(matches!(refused, Err(FetchError::TooLong)), "{refused:?}");
}

#[tokio::test]
async fn a_server_that_answers_by_drops_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut request = [0; 1024];
        assert!(socket.read(&mut request).await.unwrap() > 0);
        let mut ticks = tokio::time::interval(Duration::from_millis(20));
        socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 60000\r\n\r\n").await.unwrap();
        // Until the other side has had enough.
        loop {
            ticks.tick().await;
            if socket.write_all(b"x").await.is_err() {
                return;
            }
        }
    });
    let refused = call(&fetch(&["127.0.0.0/8"], Duration::from_millis(300)), &format!("http://{address}/")).await;
    assert!(matches!(refused, Err(FetchError::Late(_))), "{refused:?}");
}
