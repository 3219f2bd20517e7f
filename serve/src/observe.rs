//! What is done around every request: a figure and a log line.

use std::future::Future;

use axum::extract::{MatchedPath, Request};
use axum::http::header::CONTENT_ENCODING;
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
    let answer = match encoded(request.headers()) {
        None => answer(request).await,
        Some(refusal) => refusal::answer(refusal, "Bearer"),
    };
    let (status, took) = (answer.status().as_u16(), started.elapsed());
    figures.request(route, method, status, took);
    tracing::debug!(method, route, status, micros = took.as_micros(), "answered");
    answer
}

/// Refuses a body that is compressed: how much comes out of it shows only when the memory is spent.
fn encoded(headers: &HeaderMap) -> Option<Refusal> {
    let is_plain = |encoding: &HeaderValue| encoding.as_bytes().eq_ignore_ascii_case(b"identity");
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
