//! What is done around every request: a figure and a log line.

use std::future::Future;

use axum::extract::{MatchedPath, Request};
use axum::http::Method;
use axum::response::Response;
use tokio::time::Instant;

use crate::Figures;

/// Has `answer` answer the request. The log names the route and not the URL, which says who asks for what.
pub async fn observe<F>(figures: &Figures, request: Request, answer: impl FnOnce(Request) -> F) -> Response
where
    F: Future<Output = Response>,
{
    let started = Instant::now();
    let method = known(request.method());
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route = route.as_ref().map_or("none", MatchedPath::as_str);
    let answer = answer(request).await;
    let (status, took) = (answer.status().as_u16(), started.elapsed());
    figures.request(route, method, status, took);
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
