//! What is done around every request: a figure and a log line, and no request that another server could read otherwise.

use std::future::Future;

use axum::extract::{MatchedPath, Request};
use axum::http::header::{CONNECTION, CONTENT_ENCODING, TRANSFER_ENCODING};
use axum::http::{HeaderMap, HeaderValue, Method};
use axum::response::Response;
use gigfs_core::{ErrorCode, Refusal};
use tokio::time::Instant;

use crate::{Figures, refusal};

/// Has `answer` answer the request. The log names the route and not the URL, which says who asks for what.
pub async fn observe<F>(figures: &Figures, request: Request, answer: impl FnOnce(Request) -> F) -> Response
where
    F: Future<Output = Response>,
{
    let started = Instant::now();
    let method = known(request.method());
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route = route.as_ref().map_or("none", MatchedPath::as_str);
    let is_chunked = request.headers().contains_key(TRANSFER_ENCODING);
    let mut answer = match encoded(request.headers()) {
        None => answer(request).await,
        Some(refusal) => refusal::answer(refusal, "Bearer"),
    };
    if is_chunked {
        // It may have had a length too, and whoever passed it on may have gone by that (RFC 9112, 6.1): what comes behind
        // its body counts for nothing.
        answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    let (status, took) = (answer.status().as_u16(), started.elapsed());
    figures.request(route, method, status, took);
    tracing::debug!(method, route, status, micros = took.as_micros(), "answered");
    answer
}

/// Refuses a body that is compressed, how much comes out of which shows only when the memory is spent; and one that is
/// transferred in any other way than in chunks.
fn encoded(headers: &HeaderMap) -> Option<Refusal> {
    let is_plain = |encoding: &HeaderValue| encoding.as_bytes().eq_ignore_ascii_case(b"identity");
    let is_chunked = |encoding: &HeaderValue| encoding.as_bytes().eq_ignore_ascii_case(b"chunked");
    let mut transfer = headers.get_all(TRANSFER_ENCODING).iter();
    if !transfer.next().is_none_or(is_chunked) || transfer.next().is_some() {
        let refusal = Refusal::new(ErrorCode::UnsupportedEncoding, "this server takes bodies as they are or in chunks");
        return Some(refusal.hint("send one header Transfer-Encoding that says \"chunked\", or none"));
    }
    if headers.get_all(CONTENT_ENCODING).iter().all(is_plain) {
        return None;
    }
    let refusal = Refusal::new(ErrorCode::UnsupportedEncoding, "this server takes no bodies that are compressed");
    Some(refusal.hint("send the body as it is, without the header Content-Encoding"))
}

/// Returns the method's name if it is a common one: clients can make up any.
fn known(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        _ => "other",
    }
}
