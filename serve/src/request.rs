//! What both servers take from a request: names out of the path, credentials and JSON. Whatever is wrong is a refusal.

use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody as _};
use axum::extract::{FromRequestParts as _, RawPathParams};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use futures_util::StreamExt as _;
use gigfs_core::{ErrorCode, Refusal, json};
use serde::de::DeserializeOwned;

/// The decoded parameters of the path.
#[derive(Debug)]
pub struct PathParams(RawPathParams);

impl PathParams {
    /// Decodes the path.
    ///
    /// # Errors
    /// A refusal if it is not UTF-8.
    pub async fn read<S: Send + Sync>(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        RawPathParams::from_request_parts(parts, state).await.map(Self).map_err(|_| {
            Refusal::new(ErrorCode::InvalidName, "the path of the URL is not UTF-8 once it is decoded")
                .hint("names hold letters, digits, \".\", \"_\" and \"-\"")
        })
    }

    /// Returns a parameter; one that the route does not have is empty.
    pub fn text(&self, name: &str) -> &str {
        self.0.iter().find(|(key, _)| *key == name).map_or("", |(_, value)| value)
    }
}

/// Returns what follows the scheme in the one `Authorization` header. `what` belongs there.
///
/// # Errors
/// [`missing_credentials`] if there is no such header, or there are several.
pub fn credentials<'p>(parts: &'p Parts, scheme: &str, what: &str) -> Result<&'p str, Refusal> {
    let mut headers = parts.headers.get_all(AUTHORIZATION).iter();
    let one = headers.next().filter(|_| headers.next().is_none());
    let found = one.and_then(|value| value.to_str().ok()).and_then(|text| text.split_once(' '));
    match found {
        Some((name, rest)) if name.eq_ignore_ascii_case(scheme) => Ok(rest.trim()),
        _ => Err(missing_credentials(scheme, what)),
    }
}

/// Refuses a request that lacks the header `Authorization` with this scheme. `what` belongs there.
pub fn missing_credentials(scheme: &str, what: &str) -> Refusal {
    Refusal::new(ErrorCode::Unauthorized, format!("this route needs one header \"Authorization: {scheme} …\""))
        .hint(format!("put {what} there"))
}

/// Reads a body of at most `max` bytes within a time, and no byte of one that announces more.
///
/// # Errors
/// A refusal if it is too long, breaks off, or does not arrive in time.
pub async fn body(body: Body, max: usize, within: Duration) -> Result<Bytes, Refusal> {
    let too_large = || {
        let message = format!("the body is longer than the limit of {max} bytes");
        Refusal::new(ErrorCode::TooLarge, message).hint("send it in several requests")
    };
    let broken = |message: String| Refusal::new(ErrorCode::BadRequest, message).hint("send it again");
    if body.size_hint().lower() > max as u64 {
        return Err(too_large());
    }
    let reading = async {
        // What is announced is not believed before it comes.
        let mut bytes = Vec::new();
        let mut chunks = body.into_data_stream();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|_| broken("the body broke off".to_owned()))?;
            if bytes.len() + chunk.len() > max {
                return Err(too_large());
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(Bytes::from(bytes))
    };
    let late = |_| broken(format!("the body did not arrive within {} s", within.as_secs()));
    tokio::time::timeout(within, reading).await.map_err(late)?
}

/// Parses a JSON body.
///
/// # Errors
/// A refusal that says where it is wrong and repeats nothing of it.
pub fn json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    json::check_body(body).map_err(|what| {
        Refusal::new(ErrorCode::TooLarge, format!("the body is too large: {what}")).hint("send it in several requests")
    })?;
    serde_json::from_slice(body).map_err(|error| {
        let message = format!("the body is not the JSON that this route takes: {}", without_values(&error));
        Refusal::new(ErrorCode::BadRequest, message).hint("GET /openapi.json shows what it takes")
    })
}

/// Describes a JSON error without the value that is wrong, which may be a password in the wrong place.
fn without_values(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match (text.starts_with("invalid "), text.rsplit_once(", expected ")) {
        (true, Some((_, expected))) => format!("expected {expected}"),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use gigfs_core::api::NewMaster;

    use super::*;

    #[test]
    fn a_password_in_the_wrong_place_is_not_repeated() {
        for body in [r#"{"password": "hunter2, expected hunter2"}"#, r#"{"password": {"memory_kib": "hunter2"}}"#] {
            let error = serde_json::from_str::<NewMaster>(body).unwrap_err();
            let text = without_values(&error);
            assert!(text.contains("line 1"), "{text}");
            assert!(!text.contains("\"hunter2\""), "{text}");
        }
    }
}
