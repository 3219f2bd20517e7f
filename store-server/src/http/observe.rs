//! What is done around every request: no caching of answers, a figure and a log line.

use axum::extract::{Request, State};
use axum::http::HeaderValue;
use axum::http::header::CACHE_CONTROL;
use axum::middleware::Next;
use axum::response::Response;

use crate::store::Store;

/// Runs the request.
pub(crate) async fn observe(State(store): State<Store>, request: Request, next: Next) -> Response {
    let answer = |request| async {
        let mut answer = next.run(request).await;
        answer.headers_mut().entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
        answer
    };
    gigfs_serve::observe(&store.inner.metrics.figures, request, answer).await
}
