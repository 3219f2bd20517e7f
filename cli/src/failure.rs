//! From whatever went wrong to a sentence, a hint, and an exit code: the one place that maps them.

use std::fmt::Display;

use gigfs_core::seal::KeyringError;
use gigfs_core::{ErrorCode, ErrorKind};
use serde_json::json;

/// Why a command did not do what it was asked for.
#[derive(Debug)]
pub(crate) struct Failure {
    code: String,
    message: String,
    hint: String,
    exit: Exit,
}

/// The exit codes that `gig --help` documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Nobody is left to be told.
    Unread = 0,
    /// The machine failed.
    Machine = 1,
    /// The command line is wrong.
    Usage = 2,
    /// Try again later.
    Retry = 3,
    /// Log in.
    LogIn = 4,
    /// Change what was asked for.
    Refused = 5,
    /// Something is still queued.
    Queued = 6,
    /// Damage was found.
    Damaged = 7,
}

impl Failure {
    pub(crate) fn new(exit: Exit, code: &str, message: impl Into<String>) -> Self {
        Self { code: code.to_owned(), message: message.into(), hint: String::new(), exit }
    }

    /// Makes the failure of a command that a person typed wrongly.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, "usage", message)
            .hint("`gig --help` lists the commands, `gig COMMAND --help` what each takes")
    }

    /// Makes the end of a command whose results nobody reads any more, which is no failure to whoever started it.
    pub(crate) fn unread() -> Self {
        Self::new(Exit::Unread, "unread", "nobody reads the results any more")
    }

    /// Makes the failure of something on this machine.
    pub(crate) fn machine(doing: &str, error: impl Display) -> Self {
        Self::new(Exit::Machine, "machine", format!("cannot {doing}: {error}"))
    }

    /// Says what to do next.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }

    /// Returns the exit code.
    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }

    /// Prints the failure on standard error and returns the exit code.
    #[allow(clippy::print_stderr, reason = "this is where errors reach the person")]
    pub(crate) fn report(&self, as_json: bool) -> u8 {
        if self.exit == Exit::Unread {
            return self.exit as u8;
        }
        if as_json {
            eprintln!("{}", json!({"error": {"code": self.code, "message": self.message, "hint": self.hint}}));
        } else {
            eprintln!("gig: {}", self.message);
            if !self.hint.is_empty() {
                eprintln!("     {}", self.hint);
            }
        }
        self.exit as u8
    }
}

impl From<gigfs::Error> for Failure {
    fn from(error: gigfs::Error) -> Self {
        let (exit, code) = match &error {
            gigfs::Error::Refused { refusal, .. } => (exit_of(refusal.code.kind()), refusal.code.as_str()),
            gigfs::Error::BadUrl { .. } => (Exit::Usage, "bad_url"),
            gigfs::Error::Unreachable { .. } => (Exit::Retry, "unreachable"),
            gigfs::Error::Unsent { .. } => (Exit::Queued, "queued"),
            gigfs::Error::NoAnswer { .. } => (Exit::Retry, "no_answer"),
            gigfs::Error::UnknownChannel { .. } => (Exit::Refused, ErrorCode::UnknownChannel.as_str()),
            gigfs::Error::ReservedType { .. } => (Exit::Usage, "reserved_type"),
            gigfs::Error::NotPinned { .. } => (Exit::Refused, "fingerprint_not_compared"),
            gigfs::Error::Identity { .. } | gigfs::Error::Pin(_) => (Exit::Refused, "other_identity"),
            gigfs::Error::NotAdmin { .. } | gigfs::Error::OnlyOwner { .. } => {
                (Exit::Refused, ErrorCode::Forbidden.as_str())
            }
            gigfs::Error::Grant(_) => (Exit::Refused, "bad_grant"),
            gigfs::Error::NotGranted { .. } => (Exit::Refused, "not_granted"),
            gigfs::Error::NotEnrolled { .. } => (Exit::Retry, "not_enrolled"),
            gigfs::Error::NotAccepted { .. } => (Exit::Refused, "not_accepted"),
            gigfs::Error::NoKeys { .. } | gigfs::Error::NoUserKeys { .. } => (Exit::Refused, "no_keys"),
            gigfs::Error::UnknownType { .. } => (Exit::Refused, "unknown_type"),
            gigfs::Error::Name(_) => (Exit::Refused, ErrorCode::InvalidName.as_str()),
            gigfs::Error::Push(_) => (Exit::Refused, ErrorCode::InvalidOp.as_str()),
            gigfs::Error::Keyring { .. } => (exit_of(error.kind()), "keyring"),
            gigfs::Error::KeyringRolledBack { .. } => (Exit::Refused, "keyring_rolled_back"),
            gigfs::Error::NoKeyring { .. } => (Exit::Refused, "no_keyring"),
            gigfs::Error::KeyringBusy { .. } => (Exit::Retry, "keyring_busy"),
            gigfs::Error::AddKeys(_) | gigfs::Error::MarkPlain(_) => (Exit::Refused, "sealing"),
            gigfs::Error::OtherUser { .. } => (Exit::Refused, "other_user"),
            gigfs::Error::Storage(_) => (Exit::Machine, "storage"),
            gigfs::Error::NotPruned { .. } => (exit_of(error.kind()), "not_pruned"),
            gigfs::Error::NotDrained { .. } => (Exit::Retry, "not_drained"),
            gigfs::Error::UnreadableBase { .. } => (Exit::Refused, "unreadable_base"),
            gigfs::Error::Closed | gigfs::Error::System(_) => (Exit::Machine, "machine"),
        };
        let hint = match error.hint() {
            "" => hint_of(&error, exit),
            hint => hint.to_owned(),
        };
        Self::new(exit, code, error.to_string()).hint(hint)
    }
}

/// Says what to do next where no server did.
fn hint_of(error: &gigfs::Error, exit: Exit) -> String {
    match (error, exit) {
        (gigfs::Error::UnknownChannel { channel, .. }, _) => {
            format!("make it with `gig channel add {channel}`; `gig channel ls` lists yours, and `gig shared` what others share")
        }
        (gigfs::Error::BadUrl { .. }, _) => "write it like http://HOST:PORT".to_owned(),
        (gigfs::Error::UnknownType { .. } | gigfs::Error::Name(_), _) => {
            "a log is named by a channel, a type and a path, such as: home counter /visits".to_owned()
        }
        (gigfs::Error::NotPruned { .. }, _) => {
            "nothing is lost and nothing is changed; `gig log` shows the log".to_owned()
        }
        (gigfs::Error::UnreadableBase { .. }, _) => {
            "nothing is lost; where the version is too old, update this program, and where keys are missing, log in again".to_owned()
        }
        (gigfs::Error::Keyring { error, .. }, _) => hint_of_keyring(error),
        (gigfs::Error::KeyringRolledBack { .. }, _) => {
            "nothing was changed; ask whoever runs the table whether it was brought back from a backup. If what it lost is gone for \
             good, remove keyring.json in GIG_HOME and log in again: keys that only the newer keyring has are lost with it"
                .to_owned()
        }
        (gigfs::Error::NoKeyring { .. }, _) => "`gig login` makes one".to_owned(),
        (gigfs::Error::AddKeys(_) | gigfs::Error::MarkPlain(_), _) => "nothing was changed".to_owned(),
        (gigfs::Error::Push(_), _) => "nothing was written; `gig push --help` shows what can be".to_owned(),
        (_, Exit::LogIn) => "log in again with `gig login`".to_owned(),
        (_, Exit::Retry) => "check the URL and that the server runs, or try again later".to_owned(),
        (_, Exit::Refused) => "change what was asked for; `gig --help` lists the commands".to_owned(),
        (_, Exit::Queued) => "it goes out with the next command, or with `gig flush`".to_owned(),
        _ => String::new(),
    }
}

fn hint_of_keyring(error: &KeyringError) -> String {
    match error {
        KeyringError::Password { .. } => {
            "if the table's admin gave you this password, get back in with `gig recover` and your recovery code"
        }
        KeyringError::Recovery { .. } => "nothing was changed; only the code that was made last is good",
        KeyringError::NoRecovery { .. } => "nothing was changed; only the last password of its user opens it",
        KeyringError::Key { .. } => "log in again with `gig login`: the password shows which it is",
        KeyringError::TooLarge { .. } => "nothing was changed",
        KeyringError::Decode(_) | KeyringError::Forged { .. } | KeyringError::Older { .. } => {
            "nothing was changed; ask whoever runs the table to bring it back from a backup"
        }
    }
    .to_owned()
}

fn exit_of(kind: ErrorKind) -> Exit {
    match kind {
        ErrorKind::Retry => Exit::Retry,
        ErrorKind::LogIn => Exit::LogIn,
        ErrorKind::FixInput | ErrorKind::GiveUp => Exit::Refused,
    }
}

impl From<gigfs_core::NameError> for Failure {
    fn from(error: gigfs_core::NameError) -> Self {
        gigfs::Error::from(error).into()
    }
}
