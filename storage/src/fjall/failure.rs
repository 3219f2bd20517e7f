//! Why a call failed, and what damage is called.

use gigfs_core::LogName;

use super::open;

/// Why a call failed, before it is told to whoever asked.
#[derive(Debug)]
pub(super) enum Failure {
    Fjall(::fjall::Error),
    Damaged {
        what: String,
        why: String,
    },
    /// It was told to.
    Stopped,
}

impl From<::fjall::Error> for Failure {
    fn from(error: ::fjall::Error) -> Self {
        Self::Fjall(error)
    }
}

impl Failure {
    pub(super) fn damaged(what: impl ToString, why: impl ToString) -> Self {
        Self::Damaged { what: what.to_string(), why: why.to_string() }
    }

    /// Tells whether it came from fjall's own work in the background, which does not say any more what it was.
    pub(super) fn is_of_the_background(&self) -> bool {
        matches!(self, Self::Fjall(::fjall::Error::Poisoned))
    }

    /// Names the log that was being read, where damage has no name yet.
    pub(super) fn of(self, log: &LogName) -> Self {
        match self {
            Self::Fjall(error) if open::is_damage(&error) => Self::damaged(named(log), error),
            failure => failure,
        }
    }
}

pub(super) fn named(log: &LogName) -> String {
    format!("the log {log} of {}", log.user)
}
