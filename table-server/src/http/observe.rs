//! What is done around every request: an end in time, no caching of answers, a figure and a log line.

use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::HeaderValue;
use axum::http::header::CACHE_CONTROL;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use gigfs_core::{ErrorCode, Refusal};

use super::refusal::Refused;
use crate::table::Table;

/// Runs the request.
pub(crate) async fn observe(State(table): State<Table>, request: Request, next: Next) -> Response {
    let answer = |request| async {
        let mut answer = match tokio::time::timeout(REQUEST_SECONDS_MAX, next.run(request)).await {
            Ok(answer) => answer,
            Err(_) => Refused(
                Refusal::new(
                    ErrorCode::Unavailable,
                    format!("the request took over {} s", REQUEST_SECONDS_MAX.as_secs()),
                )
                .hint("try again later"),
            )
            .into_response(),
        };
        answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        answer
    };
    gigfs_serve::observe(&table.inner.metrics.figures, request, answer).await
}

/// Until the answer begins; longer than a call to a store.
const REQUEST_SECONDS_MAX: Duration = Duration::from_secs(30);
