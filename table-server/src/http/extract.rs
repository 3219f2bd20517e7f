//! What handlers take from a request: names out of the path and a JSON body. Whatever is wrong is a refusal in JSON.

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, FailedToBufferBody};
use axum::extract::{FromRequest, FromRequestParts, RawPathParams, Request};
use axum::http::header::CONTENT_LENGTH;
use axum::http::request::Parts;
use gigfs_core::{ChannelName, ErrorCode, Refusal, SessionId, StoreId, UserName};
use serde::de::DeserializeOwned;

use super::BODY_BYTES_MAX;
use super::refusal::Refused;

/// The decoded parameters of the path, parsed into names one by one.
pub(crate) struct Params(RawPathParams);

/// A JSON body of at most [`BODY_BYTES_MAX`] bytes.
pub(crate) struct Body<T>(pub(crate) T);

impl Params {
    pub(crate) fn user(&self) -> Result<UserName, Refused> {
        Ok(UserName::parse(self.text("user"))?)
    }

    pub(crate) fn channel(&self) -> Result<ChannelName, Refused> {
        Ok(ChannelName::parse(self.text("channel"))?)
    }

    pub(crate) fn store(&self) -> Result<StoreId, Refused> {
        Ok(self.text("store").parse()?)
    }

    pub(crate) fn session(&self) -> Result<SessionId, Refused> {
        Ok(self.text("session").parse()?)
    }

    fn text(&self, name: &str) -> &str {
        self.0.iter().find(|(key, _)| *key == name).map_or("", |(_, value)| value)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Params {
    type Rejection = Refused;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refused> {
        RawPathParams::from_request_parts(parts, state).await.map(Self).map_err(|_| {
            let refusal = Refusal::new(ErrorCode::InvalidName, "the path of the URL is not UTF-8 once it is decoded");
            Refused(refusal.hint("names hold letters, digits, \".\", \"_\" and \"-\""))
        })
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Refused;
    async fn from_request(request: Request, state: &S) -> Result<Self, Refused> {
        let announced = request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        if announced.is_some_and(|bytes: u64| bytes > BODY_BYTES_MAX as u64) {
            return Err(too_large());
        }
        let bytes = Bytes::from_request(request, state).await.map_err(|error| match error {
            BytesRejection::FailedToBufferBody(FailedToBufferBody::LengthLimitError(_)) => too_large(),
            _ => Refused(Refusal::new(ErrorCode::BadRequest, "the body broke off").hint("send it again")),
        })?;
        serde_json::from_slice(&bytes).map(Self).map_err(|error| {
            let message = format!("the body is not the JSON that this route takes: {}", without_values(&error));
            Refused(Refusal::new(ErrorCode::BadRequest, message).hint("GET /openapi.json shows what it takes"))
        })
    }
}

fn too_large() -> Refused {
    Refused(Refusal::new(ErrorCode::TooLarge, format!("the body is longer than the limit of {BODY_BYTES_MAX} bytes")))
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
