//! Every error of the table as a refusal: its stable code and what to do next. HTTP statuses follow from the codes.

use axum::response::{IntoResponse, Response};
use gigfs_core::seal::{self, GrantError};
use gigfs_core::{Date, ErrorCode, ErrorKind, IdError, NameError, Refusal};
use gigfs_serve::refusal::answer;

use crate::clock;
use crate::db::DatabaseError;
use crate::identity_record::IdentityRecordError;
use crate::keyring::{PutKeyringError, ReadKeyringError};
use crate::mount::{AddStoreError, MountError};
use crate::register::CommitError;
use crate::seal::SealError;
use crate::session::{AccessError, CreateSessionError, RevokeSessionError};
use crate::share::ShareError;
use crate::standing::StandingError;
use crate::store::{StoreCallError, StoreUrlError};
use crate::unmount::UnmountError;
use crate::user::{CreateUserError, MasterError, ReplaceMasterError, ResetMasterError};
use crate::visit::VisitError;

/// A refusal on its way to the client.
pub(crate) struct Refused(pub(crate) Refusal);

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        answer(self.0, "Bearer, Master")
    }
}

/// An error of the table that has a code.
pub(crate) trait Coded: std::error::Error {
    /// Returns the code that stands for the error.
    fn code(&self) -> ErrorCode;

    /// Says what to do next.
    fn hint(&self) -> &'static str {
        match self.code() {
            ErrorCode::Unauthorized | ErrorCode::Expired | ErrorCode::Revoked => "log in again",
            ErrorCode::StorageFailed => "nothing was changed; try again, and look at the table's log if it stays so",
            ErrorCode::InsufficientStorage => "nothing was changed; make room on the table's disk and try again",
            ErrorCode::Unavailable => "try again when the table is back",
            _ => "",
        }
    }

    /// Makes the refusal.
    fn refusal(&self) -> Refusal {
        refusal_of(self)
    }
}

/// Makes the refusal of an error that has no other.
fn refusal_of(error: &(impl Coded + ?Sized)) -> Refusal {
    let refusal = Refusal::new(error.code(), error.to_string()).hint(error.hint());
    match refusal.code {
        ErrorCode::Expired => refusal.at(Date::saturating(clock::now_millis().saturating_mul(1000))),
        _ => refusal,
    }
}

impl<E: Coded> From<E> for Refused {
    fn from(error: E) -> Self {
        if error.code().kind() == ErrorKind::Retry {
            tracing::warn!(%error, "a request failed");
        }
        Self(error.refusal())
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

impl Coded for DatabaseError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Sqlite(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull) => {
                ErrorCode::InsufficientStorage
            }
            Self::Sqlite(_) => ErrorCode::StorageFailed,
            Self::Closed => ErrorCode::Unavailable,
        }
    }
}

impl Coded for MasterError {
    fn code(&self) -> ErrorCode {
        ErrorCode::BadRequest
    }
}

impl Coded for CreateUserError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Exists { .. } => ErrorCode::Conflict,
            Self::Master(error) => error.code(),
            Self::Database(error) => error.code(),
        }
    }
}

impl Coded for ReplaceMasterError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Unauthorized => ErrorCode::Unauthorized,
            Self::TooManyAttempts(_) => ErrorCode::TooManyAttempts,
            Self::Master(error) => error.code(),
            Self::Keyring(error) => error.code(),
            Self::KeyringMissing { .. } => ErrorCode::Conflict,
            Self::Database(error) => error.code(),
        }
    }

    fn hint(&self) -> &'static str {
        match self {
            Self::Unauthorized => "check the user name and the old password",
            Self::Keyring(error) => error.hint(),
            Self::KeyringMissing { .. } => {
                "nothing was changed; change the password with a program that knows keyrings"
            }
            Self::Database(error) => error.hint(),
            _ => "",
        }
    }

    fn refusal(&self) -> Refusal {
        match self {
            Self::TooManyAttempts(error) => (*error).into(),
            _ => refusal_of(self),
        }
    }
}

impl Coded for ResetMasterError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::UnknownUser { .. } => ErrorCode::UnknownUser,
            Self::Master(error) => error.code(),
            Self::Database(error) => error.code(),
        }
    }
}

impl Coded for PutKeyringError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Record(seal::KeyringError::TooLarge { .. }) => ErrorCode::TooLarge,
            Self::Record(_) => ErrorCode::BadRequest,
            Self::Revision { .. } => ErrorCode::Conflict,
            Self::Database(error) => error.code(),
        }
    }

    fn hint(&self) -> &'static str {
        match self {
            Self::Revision { .. } => "nothing was changed; read the keyring again and make the change in that",
            Self::Database(error) => error.hint(),
            Self::Record(_) => "",
        }
    }
}

impl Coded for ReadKeyringError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::None { .. } => ErrorCode::NotFound,
            Self::Database(error) => error.code(),
        }
    }

    fn hint(&self) -> &'static str {
        match self {
            Self::None { .. } => "the first login with the password makes one",
            Self::Database(error) => error.hint(),
        }
    }
}

impl Coded for CreateSessionError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Unauthorized => ErrorCode::Unauthorized,
            Self::TooManyAttempts(_) => ErrorCode::TooManyAttempts,
            Self::UnknownUser { .. } => ErrorCode::UnknownUser,
            Self::Timeout { .. } => ErrorCode::BadRequest,
            Self::Description { .. } => ErrorCode::TooLarge,
            Self::TooMany { .. } => ErrorCode::TooMany,
            Self::Database(error) => error.code(),
        }
    }

    fn hint(&self) -> &'static str {
        match self {
            Self::Unauthorized => "check the user name and the password",
            Self::TooMany { .. } => "revoke sessions that are not used any more",
            Self::Database(error) => error.hint(),
            _ => "",
        }
    }

    fn refusal(&self) -> Refusal {
        match self {
            Self::TooManyAttempts(error) => (*error).into(),
            _ => refusal_of(self),
        }
    }
}

impl Coded for AccessError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Unauthorized => ErrorCode::Unauthorized,
            Self::Expired { .. } => ErrorCode::Expired,
            Self::Revoked { .. } => ErrorCode::Revoked,
            Self::Database(error) => error.code(),
        }
    }
}

impl Coded for RevokeSessionError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Unknown { .. } => ErrorCode::UnknownSession,
            Self::Database(error) => error.code(),
        }
    }
}

impl Coded for MountError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::UnknownChannel { .. } => ErrorCode::UnknownChannel,
            Self::UnknownStore { .. } => ErrorCode::UnknownStore,
            Self::Database(error) => error.code(),
        }
    }
}

impl Coded for VisitError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::NotShared { .. } | Self::ReadOnly { .. } => ErrorCode::Forbidden,
            Self::Mount(error) => error.code(),
            Self::Access(error) => error.code(),
            Self::Database(error) => error.code(),
        }
    }

    fn hint(&self) -> &'static str {
        match self {
            Self::NotShared { .. } | Self::ReadOnly { .. } => "ask the owner to share the channel",
            Self::Mount(error) => error.hint(),
            Self::Access(error) => error.hint(),
            Self::Database(error) => error.hint(),
        }
    }
}

impl Coded for ShareError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::UnknownUser { .. } => ErrorCode::UnknownUser,
            Self::UnknownGuest { .. } => ErrorCode::NotFound,
            Self::Grant(GrantError::TooLarge { .. }) => ErrorCode::TooLarge,
            Self::Oneself { .. } | Self::ReadingAdmin | Self::Grant(_) | Self::OtherGrant { .. } => {
                ErrorCode::BadRequest
            }
            Self::NotAdmin { .. } | Self::OnlyOwner { .. } => ErrorCode::Forbidden,
            Self::OlderGrant { .. } => ErrorCode::Conflict,
            Self::TooManyGuests { .. } | Self::TooManyShared { .. } => ErrorCode::TooMany,
            Self::Visit(error) => error.code(),
            Self::Database(error) => error.code(),
        }
    }

    fn hint(&self) -> &'static str {
        match self {
            Self::NotAdmin { .. } | Self::OnlyOwner { .. } => "ask the owner to do it",
            Self::OlderGrant { .. } => "read the newest keys, and grant those",
            Self::ReadingAdmin => "share it to write, or not as admin",
            Self::TooManyGuests { .. } | Self::TooManyShared { .. } => "take one back that is not used any more",
            Self::Visit(error) => error.hint(),
            Self::Database(error) => error.hint(),
            _ => "",
        }
    }
}

impl Coded for IdentityRecordError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Record(_) => ErrorCode::BadRequest,
            Self::UnknownUser { .. } => ErrorCode::UnknownUser,
            Self::None { .. } => ErrorCode::NotFound,
            Self::Database(error) => error.code(),
        }
    }

    fn hint(&self) -> &'static str {
        match self {
            Self::None { .. } => "have the user log in once with a program that knows sharing",
            Self::Database(error) => error.hint(),
            _ => "",
        }
    }
}

impl Coded for UnmountError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::NotSealed { .. } => ErrorCode::Conflict,
            Self::Mount(error) => error.code(),
            Self::Database(error) => error.code(),
        }
    }

    fn hint(&self) -> &'static str {
        match self {
            Self::NotSealed { .. } => {
                "seal and drain it first with `gig store rm`, or add ?abandon=true for a store that will never answer"
            }
            Self::Mount(error) => error.hint(),
            Self::Database(error) => error.hint(),
        }
    }
}

impl Coded for SealError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Mount(error) => error.code(),
            Self::Store(error) => error.code(),
        }
    }

    fn refusal(&self) -> Refusal {
        match self {
            Self::Mount(error) => error.refusal(),
            Self::Store(error) => error.refusal(),
        }
    }
}

impl Coded for CommitError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::TooManyLogs { .. } | Self::TooManyAcks { .. } => ErrorCode::TooLarge,
            Self::Visit(error) => error.code(),
            Self::Mount(error) => error.code(),
            Self::Database(error) => error.code(),
        }
    }

    fn hint(&self) -> &'static str {
        match self {
            Self::TooManyLogs { .. } => "send them in several requests",
            Self::TooManyAcks { .. } => "send one of each store",
            Self::Visit(error) => error.hint(),
            Self::Mount(error) => error.hint(),
            Self::Database(error) => error.hint(),
        }
    }
}

impl Coded for StoreUrlError {
    fn code(&self) -> ErrorCode {
        ErrorCode::BadRequest
    }
}

impl Coded for StoreCallError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Unreachable { .. } | Self::NotAStore { .. } => ErrorCode::Unreachable,
            Self::NotAllowed { .. } => ErrorCode::Forbidden,
            // The client's own session is good: what the store did not take is the code that it gave.
            Self::Refused { refusal, .. } if refusal.code.kind() == ErrorKind::LogIn => ErrorCode::Forbidden,
            Self::Refused { refusal, .. } => refusal.code,
        }
    }

    fn hint(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "check the url, and that the store runs and can be reached from the table",
            Self::NotAStore { .. } => "check the url",
            Self::NotAllowed { .. } => {
                "use the store's public address, or ask the table's operator to allow its network (private_networks)"
            }
            Self::Refused { refusal, .. } if refusal.code.kind() == ErrorKind::LogIn => {
                "ask the store for a new confirmation code"
            }
            Self::Refused { .. } => "",
        }
    }

    fn refusal(&self) -> Refusal {
        let refusal = Refusal::new(self.code(), self.to_string());
        match self {
            Self::Refused { refusal: stores, .. } if self.hint().is_empty() => refusal.hint(stores.hint.clone()),
            _ => refusal.hint(self.hint()),
        }
    }
}

impl Coded for AddStoreError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Url(error) => error.code(),
            Self::ReservedName { .. } => ErrorCode::InvalidName,
            Self::NoCode { .. } => ErrorCode::UnknownStore,
            Self::UnknownUser { .. } => ErrorCode::UnknownUser,
            Self::OtherKey { .. } => ErrorCode::Conflict,
            Self::TooManyStores { .. } | Self::TooManyUserStores { .. } | Self::TooManyChannels { .. } => {
                ErrorCode::TooMany
            }
            Self::Store(error) => error.code(),
            Self::Access(error) => error.code(),
            Self::Database(error) => error.code(),
        }
    }

    fn refusal(&self) -> Refusal {
        match self {
            Self::Store(error) => error.refusal(),
            Self::Access(error) => error.refusal(),
            Self::NoCode { .. } => Refusal::new(self.code(), self.to_string()).hint("get one with `gig store code`"),
            Self::ReservedName { .. } => Refusal::new(self.code(), self.to_string()).hint("choose another name"),
            Self::OtherKey { .. } => Refusal::new(self.code(), self.to_string())
                .hint("check the url; if the store itself has a new key, take it off all channels and mount it again"),
            Self::TooManyStores { .. } | Self::TooManyUserStores { .. } | Self::TooManyChannels { .. } => {
                Refusal::new(self.code(), self.to_string()).hint("remove one that is not used any more")
            }
            _ => Refusal::new(self.code(), self.to_string()).hint(self.hint()),
        }
    }
}

impl Coded for StandingError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Foreign => ErrorCode::Unauthorized,
            Self::Expired => ErrorCode::Expired,
            Self::Unmounted { .. } | Self::Unshared { .. } => ErrorCode::Revoked,
            Self::Session(error) => error.code(),
            Self::Database(error) => error.code(),
        }
    }
}

/// Gives an error that leaves the crate its `kind`.
macro_rules! kinds {
    ($($error:ident),*) => {
        $(impl $error {
            /// Tells the caller what to do about it.
            pub fn kind(&self) -> ErrorKind {
                self.code().kind()
            }

            /// Returns the refusal that a client over HTTP gets in this case.
            pub fn to_refusal(&self) -> Refusal {
                self.refusal()
            }
        })*
    };
}

kinds!(DatabaseError, MasterError, CreateUserError, CreateSessionError, AccessError, StoreCallError, AddStoreError);
