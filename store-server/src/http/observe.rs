//! What is done around every request: no caching of answers, a figure and a log line.

use axum::extract::{MatchedPath, Request, State};
use axum::http::header::CACHE_CONTROL;
use axum::http::{HeaderValue, Method};
use axum::middleware::Next;
use axum::response::Response;
use tokio::time::Instant;

use crate::store::Store;

/// Runs the request. The log names the route and not the URL, which says who asks for what.
pub(crate) async fn observe(State(store): State<Store>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let method = known(request.method());
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route = route.as_ref().map_or("none", MatchedPath::as_str);
    let mut answer = next.run(request).await;
    answer.headers_mut().entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    let (status, took) = (answer.status().as_u16(), started.elapsed());
    store.inner.metrics.request(route, method, status, took);
    tracing::debug!(method, route, status, micros = took.as_micros(), "answered");
    answer
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
