//! Every no of the store: to an HTTP answer, to a WebSocket's close code, and from what went wrong below.

use axum::response::{IntoResponse, Response};
use gigfs_core::{ErrorCode, ErrorKind, IdError, NameError, Refusal};
use gigfs_serve::refusal::answer;
use gigfs_storage::StorageError;

/// A refusal on its way to an HTTP client.
#[derive(Debug)]
pub(crate) struct Refused(pub(crate) Refusal);

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        answer(self.0, "Bearer")
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self(refusal)
    }
}

impl From<NameError> for Refused {
    fn from(error: NameError) -> Self {
        Self(error.into())
    }
}

impl From<IdError> for Refused {
    fn from(error: IdError) -> Self {
        Self(error.into())
    }
}

/// Returns the code that a WebSocket is closed with (RFC 6455 §7.4) after a `bye` with this refusal.
pub(crate) fn close_code(code: ErrorCode) -> u16 {
    match code {
        ErrorCode::TooLarge => 1009,
        ErrorCode::Unavailable => 1012,
        ErrorCode::TooMany => 1013,
        _ => match code.kind() {
            ErrorKind::FixInput => 4400,
            ErrorKind::LogIn => 4401,
            ErrorKind::GiveUp => 4403,
            ErrorKind::Retry => 1011,
        },
    }
}

/// Tells a client of a failure of the disk; the log says where and why.
pub(crate) fn storage(error: &StorageError) -> Refusal {
    tracing::error!(%error, "the engine failed");
    match error {
        StorageError::Full { .. } => {
            Refusal::new(ErrorCode::InsufficientStorage, "the store's disk is full; nothing was stored")
                .hint("keep the operation and send it again later; the store's owner has to make room")
        }
        StorageError::Stopped { .. } => stopping(),
        StorageError::Damaged { what, .. } => {
            Refusal::new(ErrorCode::StorageFailed, format!("{what} is damaged in this store; nothing was acknowledged"))
                .hint("the other stores of the channel go on; the store's owner has to restore this one")
        }
        _ => Refusal::new(ErrorCode::StorageFailed, "the store's disk failed; nothing was acknowledged")
            .hint("send it again later; the store's log says more"),
    }
}

/// Says that the server is stopping.
pub(crate) fn stopping() -> Refusal {
    Refusal::new(ErrorCode::Unavailable, "the store is stopping").hint("connect again when it is back")
}

/// Says that something here went wrong that should not.
pub(crate) fn internal(what: &str) -> Refusal {
    tracing::error!(what, "a fault of the store's own");
    Refusal::new(ErrorCode::Internal, format!("{what} failed in the store"))
        .hint("try again; the store's log says more")
}
