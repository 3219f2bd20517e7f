//! A refusal as an HTTP answer, and the refusals of requests that no route takes.

use axum::Json;
use axum::http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use gigfs_core::{ErrorCode, Refusal};

/// Answers with a refusal: the status that its code stands for, and JSON. `schemes` are those that the server takes in
/// the `Authorization` header.
pub fn answer(refusal: Refusal, schemes: &'static str) -> Response {
    let status = StatusCode::from_u16(refusal.code.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let retry_after = refusal.retry_after.map(HeaderValue::from);
    let mut answer = (status, Json(refusal)).into_response();
    if let Some(seconds) = retry_after {
        answer.headers_mut().insert(RETRY_AFTER, seconds);
    }
    if status == StatusCode::UNAUTHORIZED {
        answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static(schemes));
    }
    answer
}

/// Refuses a URL that `server`, a "table" or a "store", has no route for. It is not repeated: someone may have put a
/// secret there.
pub fn no_such_route(server: &str) -> Refusal {
    Refusal::new(ErrorCode::NotFound, format!("this {server} has no route for this URL"))
        .hint("GET /openapi.json lists the routes")
}

/// Refuses a method that the URL's route does not take.
pub fn no_such_method(method: &Method) -> Refusal {
    Refusal::new(ErrorCode::MethodNotAllowed, format!("the route of this URL does not take {method}"))
        .hint("GET /openapi.json lists the routes and their methods")
}
