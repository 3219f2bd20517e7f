//! What a server answers when it says no: a stable code, a sentence, a hint.
//!
//! The same [`Refusal`] travels in HTTP bodies and on the stream. The mapping to HTTP statuses stands here once.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::date::Date;
use crate::id::IdError;
use crate::name::NameError;
use crate::op::OpError;

/// Defines the codes with their text, HTTP status and kind in one table.
macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $status:literal, $kind:ident;)*) => {
        /// A stable name for one way to fail. New ones may be added; none changes its meaning.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
        pub enum ErrorCode {
            $($(#[$doc])* #[serde(rename = $text)] $name,)*
            /// A code that this program does not know, from a newer peer.
            #[serde(other, rename = "unknown")]
            Unknown,
        }

        impl ErrorCode {
            /// Returns the code as it stands in JSON.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                    Self::Unknown => "unknown",
                }
            }

            /// Returns the HTTP status that goes with the code.
            pub fn http_status(self) -> u16 {
                match self {
                    $(Self::$name => $status,)*
                    Self::Unknown => 500,
                }
            }

            /// Tells the caller what to do about it.
            pub fn kind(self) -> ErrorKind {
                match self {
                    $(Self::$name => ErrorKind::$kind,)*
                    Self::Unknown => ErrorKind::GiveUp,
                }
            }
        }
    };
}

codes! {
    /// The request is not of the expected form.
    BadRequest = "bad_request", 400, FixInput;
    /// A user, channel, type or path breaks the rules of names.
    InvalidName = "invalid_name", 400, FixInput;
    /// The payload is not acceptable JSON, or the operation breaks a rule.
    InvalidOp = "invalid_op", 400, FixInput;
    /// The operation's sha is not the hash of its bytes.
    ShaMismatch = "sha_mismatch", 400, FixInput;
    /// The operation's date is too far ahead of the store's clock.
    ClockAhead = "clock_ahead", 409, FixInput;
    /// The body is compressed, or encoded in another way that the server does not take.
    UnsupportedEncoding = "unsupported_encoding", 415, FixInput;
    /// Something is over a limit, which the message names.
    TooLarge = "too_large", 413, FixInput;
    /// No credentials, or ones that nobody issued.
    Unauthorized = "unauthorized", 401, LogIn;
    /// The session or token has run out.
    Expired = "expired", 401, LogIn;
    /// The session was revoked.
    Revoked = "revoked", 401, LogIn;
    /// The credentials are good, but not for this.
    Forbidden = "forbidden", 403, GiveUp;
    /// There is no such user here.
    UnknownUser = "unknown_user", 404, FixInput;
    /// The user has no such channel.
    UnknownChannel = "unknown_channel", 404, FixInput;
    /// The channel has no such store.
    UnknownStore = "unknown_store", 404, FixInput;
    /// There is no such session.
    UnknownSession = "unknown_session", 404, FixInput;
    /// There is no such thing, for other things.
    NotFound = "not_found", 404, FixInput;
    /// It is there already, or changed meanwhile.
    Conflict = "conflict", 409, FixInput;
    /// The store does not know any more all that has changed since the position.
    StaleCursor = "stale_cursor", 409, FixInput;
    /// The store's base is not the checkpoint's parent.
    StaleBase = "stale_base", 409, FixInput;
    /// The store's base is not part of the checkpoint's history.
    ForeignBase = "foreign_base", 409, FixInput;
    /// The store lacks operations that the checkpoint covers, or the checkpoint itself.
    MissingOps = "missing_ops", 409, Retry;
    /// The store cannot tell yet whether the operation is covered; it waits for the list of what its base covers.
    CoverageUnknown = "coverage_unknown", 409, Retry;
    /// What came with the operation and vouches for it was refused; it is to be signed and sent again.
    Unsigned = "unsigned", 409, Retry;
    /// The store is being taken off the channel and takes no more writes for it.
    Sealed = "sealed", 409, Retry;
    /// Replicas disagree about the state of the log's base; it is not pruned further before that is settled.
    Disputed = "disputed", 409, GiveUp;
    /// The method does not fit the route.
    MethodNotAllowed = "method_not_allowed", 405, FixInput;
    /// Too many requests, sessions, channels or streams.
    TooMany = "too_many", 429, Retry;
    /// Too many attempts to log in have failed, as this user or from this address.
    TooManyAttempts = "too_many_attempts", 429, Retry;
    /// The client takes too slowly what it asked for.
    TooSlow = "too_slow", 408, Retry;
    /// The disk or the user's quota is full; nothing was stored.
    InsufficientStorage = "insufficient_storage", 507, Retry;
    /// The disk failed; nothing was acknowledged.
    StorageFailed = "storage_failed", 500, Retry;
    /// Another server that this one needs does not answer.
    Unreachable = "unreachable", 502, Retry;
    /// The server is stopping or overloaded.
    Unavailable = "unavailable", 503, Retry;
    /// The peers speak no common version.
    UnsupportedVersion = "unsupported_version", 400, GiveUp;
    /// A fault of the server's own.
    Internal = "internal", 500, Retry;
}

/// What a caller should do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// Try again later; nothing is wrong with the request.
    Retry,
    /// Log in again.
    LogIn,
    /// Change the request.
    FixInput,
    /// Nothing that the caller can do will help.
    GiveUp,
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A server's no: what happened, to which thing, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[error("{message}")]
pub struct Refusal {
    /// The stable code.
    pub code: ErrorCode,
    /// What happened, to which thing.
    pub message: String,
    /// What to do next; empty where there is nothing to say.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hint: String,
    /// The server's clock in microseconds, where the refusal is about time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<u64>))]
    pub now: Option<Date>,
    /// Seconds after which it is worth trying again, where the server says so. In HTTP answers, which have them in the
    /// header `Retry-After` too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u64>,
}

impl Refusal {
    /// Makes a refusal without a hint.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: String::new(), now: None, retry_after: None }
    }

    /// Adds what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }

    /// Adds the seconds after which it is worth trying again.
    #[must_use]
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// Adds the server's clock.
    #[must_use]
    pub fn at(mut self, now: Date) -> Self {
        self.now = Some(now);
        self
    }
}

impl From<NameError> for Refusal {
    fn from(error: NameError) -> Self {
        Self::new(ErrorCode::InvalidName, error.to_string())
    }
}

impl From<IdError> for Refusal {
    fn from(error: IdError) -> Self {
        Self::new(ErrorCode::BadRequest, error.to_string())
    }
}

impl From<OpError> for Refusal {
    fn from(error: OpError) -> Self {
        let code = match &error {
            OpError::ShaMismatch { .. } => ErrorCode::ShaMismatch,
            OpError::PayloadTooLarge { .. } => ErrorCode::TooLarge,
            _ => ErrorCode::InvalidOp,
        };
        Self::new(code, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_from_a_newer_peer_is_read_as_unknown() {
        let refusal: Refusal = serde_json::from_str(r#"{"code":"brand_new","message":"m"}"#).unwrap();
        assert_eq!(refusal.code, ErrorCode::Unknown);
        assert_eq!(refusal.code.kind(), ErrorKind::GiveUp);
    }

    #[test]
    fn a_code_reads_back_as_it_is_written() {
        let text = serde_json::to_string(&ErrorCode::ClockAhead).unwrap();
        assert_eq!(text, "\"clock_ahead\"");
        assert_eq!(serde_json::from_str::<ErrorCode>(&text).unwrap(), ErrorCode::ClockAhead);
    }
}
