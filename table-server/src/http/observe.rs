//! What is done around every request: an end in time, no caching of answers, a figure and a log line.

use std::time::Duration;

use axum::extract::{MatchedPath, Request, State};
use axum::http::header::CACHE_CONTROL;
use axum::http::{HeaderValue, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use gigfs_core::{ErrorCode, Refusal};
use tokio::time::Instant;

use super::refusal::Refused;
use crate::table::Table;

/// Runs the request. The log names the route and not the URL, which says who asks for what.
pub(crate) async fn observe(State(table): State<Table>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let method = known(request.method());
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route = route.as_ref().map_or("none", MatchedPath::as_str);
    let mut answer = match tokio::time::timeout(REQUEST_SECONDS_MAX, next.run(request)).await {
        Ok(answer) => answer,
        Err(_) => Refused(
            Refusal::new(ErrorCode::Unavailable, format!("the request took over {} s", REQUEST_SECONDS_MAX.as_secs()))
                .hint("try again later"),
        )
        .into_response(),
    };
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let (status, took) = (answer.status().as_u16(), started.elapsed());
    table.inner.metrics.request(route, method, status, took);
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

/// Until the answer begins; longer than a call to a store.
const REQUEST_SECONDS_MAX: Duration = Duration::from_secs(30);
