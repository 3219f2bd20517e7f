//! What can go wrong between an app and its data, and what the app should do about it.

use gigfs_core::seal::{
    AddKeysError, Fingerprint, FingerprintMismatch, GrantError, KeyringError, MarkPlainError, PinError,
};
use gigfs_core::sync::{PruneHold, PushError as CorePushError};
use gigfs_core::{ChannelName, ErrorCode, ErrorKind, LogName, NameError, Refusal, TypeName, UserName};
use gigfs_storage::StorageError;

/// What the names of types begin with that clients keep for themselves.
pub(crate) const RESERVED_PREFIX: &str = "gigfs.";

/// Why the library could not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A channel, type or path breaks the rules of names.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The user's mount table has no such channel, and it is not a local one.
    #[error("there is no channel {channel} in {user}'s mount table")]
    UnknownChannel {
        /// The user.
        user: UserName,
        /// The channel.
        channel: ChannelName,
    },
    /// Nobody registered the type.
    #[error("no reducer is registered for the type {kind}; the stock types are {}", crate::STOCK_TYPES.join(", "))]
    UnknownType {
        /// The type.
        kind: TypeName,
    },
    /// The push makes no sense or is over a limit; nothing was written.
    #[error(transparent)]
    Push(#[from] CorePushError),
    /// The local store failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A server said no.
    #[error("{server}: {refusal}")]
    Refused {
        /// Which server.
        server: String,
        /// What it said.
        refusal: Refusal,
    },
    /// The user's keyring does not open, or cannot be sealed.
    #[error("{table}: {error}")]
    Keyring {
        /// The table that keeps it.
        table: String,
        /// What is wrong with it.
        error: Box<KeyringError>,
    },
    /// The table gave an older keyring than this device has seen, none where there was one, or another of the same revision.
    #[error(
        "{table} gave {} of the keyring of {user}, and this device has seen {}revision {seen}; \
         the table went back to an earlier state, or lies",
        match revision { 0 => "nothing".to_owned(), revision => format!("revision {revision}") },
        if revision == seen { "another " } else { "" }
    )]
    KeyringRolledBack {
        /// The table.
        table: String,
        /// Whose keyring.
        user: UserName,
        /// What it gave; 0 for none.
        revision: u64,
        /// The newest revision that this device has seen.
        seen: u64,
    },
    /// There is no keyring at the table.
    #[error("{table} keeps no keyring of {user}")]
    NoKeyring {
        /// The table.
        table: String,
        /// The user.
        user: UserName,
    },
    /// Other devices changed the keyring each time that this one was about to.
    #[error("other devices of {user} change the keyring at {table} all the time; nothing was changed by this one")]
    KeyringBusy {
        /// The table.
        table: String,
        /// Whose keyring.
        user: UserName,
    },
    /// Nobody has said how the channel is sealed.
    #[error(
        "the keyring of {user} does not say whether the channel {channel} is sealed; add it with `gig store add`, or with --plain if it is to be in the clear"
    )]
    NoKeys {
        /// Whose keyring.
        user: UserName,
        /// The channel.
        channel: ChannelName,
    },
    /// Only the owner of a channel and its admins let others in.
    #[error(
        "{user} may not let others into {owner}'s channel {channel}; ask {owner} to do it, or for `gig share {channel} {user} --admin`"
    )]
    NotAdmin {
        /// Who owns the channel.
        owner: UserName,
        /// The channel.
        channel: ChannelName,
        /// Who wanted to.
        user: UserName,
    },
    /// Only the owner of a channel makes admins.
    #[error("only {owner} makes admins of the channel {channel}; share it with --write, or ask {owner}")]
    OnlyOwner {
        /// Who owns the channel.
        owner: UserName,
        /// The channel.
        channel: ChannelName,
    },
    /// A channel that somebody shares was not accepted.
    #[error(
        "{owner}'s channel {channel} was not accepted here; `gig accept {owner} {channel}` does that, and `gig shared` lists what is shared"
    )]
    NotAccepted {
        /// Who owns the channel.
        owner: UserName,
        /// The channel.
        channel: ChannelName,
    },
    /// The client was given no keys, and not told to do without.
    #[error(
        "this client has no keys of {user}, so it cannot tell whether the channel {channel} is sealed; give it some (Builder::user_keys), or tell it that everything is in the clear (Builder::in_the_clear)"
    )]
    NoUserKeys {
        /// Whose keys.
        user: UserName,
        /// The channel.
        channel: ChannelName,
    },
    /// The table has no keys of a channel for this user.
    #[error(
        "the table has no keys of {owner}'s channel {channel} for you; if {owner} says that the channel is in the clear, accept it with --plain, and if not, have it shared anew"
    )]
    NotGranted {
        /// Who owns the channel.
        owner: UserName,
        /// The channel.
        channel: ChannelName,
    },
    /// What a channel's members are to know of each other has reached no store.
    #[error(
        "no store of the channel {channel} took the entry about its members: {why}; do the same again once one does"
    )]
    NotEnrolled {
        /// The channel.
        channel: ChannelName,
        /// What the stores say.
        why: String,
    },
    /// Nobody has compared another user's fingerprint.
    #[error(
        "the fingerprint of {user} was not compared yet; the table says that it is {fingerprint}: ask {user} for it (gig identity), and if it is the same, give it with --fingerprint"
    )]
    NotPinned {
        /// Whose.
        user: UserName,
        /// What the table says that it is.
        fingerprint: Fingerprint,
    },
    /// The table hands out another identity than the one that was compared.
    #[error("the identity that the table hands out for {user} is not the one that was compared: {error}")]
    Identity {
        /// Whose.
        user: UserName,
        /// What differs.
        error: FingerprintMismatch,
    },
    /// A fingerprint cannot be pinned.
    #[error(transparent)]
    Pin(#[from] PinError),
    /// A grant cannot be made, or does not open.
    #[error(transparent)]
    Grant(#[from] GrantError),
    /// The type is one that clients keep for themselves.
    #[error("the type {kind} is reserved; names of types that begin with {RESERVED_PREFIX:?} are not for apps")]
    ReservedType {
        /// The type.
        kind: TypeName,
    },
    /// The channel cannot be sealed.
    #[error(transparent)]
    AddKeys(#[from] AddKeysError),
    /// The channel cannot be plain.
    #[error(transparent)]
    MarkPlain(#[from] MarkPlainError),
    /// What should be the URL of a server is none.
    #[error("{url:?} is not the URL of a server: {why}")]
    BadUrl {
        /// What was given.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// A server does not answer.
    #[error("{server} cannot be reached: {why}")]
    Unreachable {
        /// Which server.
        server: String,
        /// What the network said.
        why: String,
    },
    /// The local store belongs to another user.
    #[error("the local store holds the data of {found}, not of {wanted}; use another folder for {wanted}")]
    OtherUser {
        /// Whose data it holds.
        found: String,
        /// Who asked.
        wanted: UserName,
    },
    /// Time ran out before every store had everything. Nothing is lost: what is left stays queued.
    #[error("{left} {} not at every store yet", if *left == 1 { "operation is" } else { "operations are" })]
    Unsent {
        /// How many.
        left: usize,
    },
    /// Time ran out while a log was read.
    #[error("no store answered for {log} in time, and nothing of it is kept here")]
    NoAnswer {
        /// The log.
        log: LogName,
    },
    /// A log cannot be pruned, or was not before the deadline.
    #[error("{log} is not pruned: {hold}")]
    NotPruned {
        /// The log.
        log: LogName,
        /// What holds it.
        hold: Box<PruneHold>,
    },
    /// The log was pruned by a program that this one cannot follow. Nothing is lost.
    #[error("{log}: {why}")]
    UnreadableBase {
        /// The log.
        log: LogName,
        /// Why.
        why: String,
    },
    /// Time ran out before the other stores of a channel had everything that one of them has.
    #[error("{logs} logs are not at every other store yet, {log} among them")]
    NotDrained {
        /// One of them.
        log: LogName,
        /// How many.
        logs: usize,
    },
    /// The client was closed.
    #[error("the client is closed")]
    Closed,
    /// Something that should not be possible to get wrong, such as random bytes from the system.
    #[error("{0}")]
    System(String),
}

impl Error {
    /// Tells the caller what to do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Refused { refusal, .. } => refusal.code.kind(),
            Self::Unreachable { .. }
            | Self::Unsent { .. }
            | Self::NoAnswer { .. }
            | Self::NotDrained { .. }
            | Self::NotEnrolled { .. } => ErrorKind::Retry,
            Self::KeyringBusy { .. } => ErrorKind::Retry,
            Self::KeyringRolledBack { .. } => ErrorKind::GiveUp,
            // The keyring's key was replaced, which the password shows; or the record was changed, which it shows too.
            Self::Keyring { error, .. } if matches!(**error, KeyringError::Key { .. }) => ErrorKind::LogIn,
            Self::Keyring { error, .. } if matches!(**error, KeyringError::Forged { .. } | KeyringError::Decode(_)) => {
                ErrorKind::GiveUp
            }
            Self::NotPruned { hold, .. } => match &**hold {
                PruneHold::Unreachable { .. } => ErrorKind::Retry,
                hold if hold.is_passing() => ErrorKind::Retry,
                _ => ErrorKind::GiveUp,
            },
            Self::UnreadableBase { .. } => ErrorKind::GiveUp,
            Self::Storage(error) if error.is_transient() => ErrorKind::Retry,
            Self::Storage(_) | Self::Closed | Self::System(_) => ErrorKind::GiveUp,
            _ => ErrorKind::FixInput,
        }
    }

    /// Returns what to do next, where there is something to say beyond the sentence.
    pub fn hint(&self) -> &str {
        match self {
            Self::Refused { refusal, .. } => &refusal.hint,
            _ => "",
        }
    }

    /// Wraps what the network said as a refusal, for the status of a stream.
    pub(crate) fn to_refusal(&self) -> Refusal {
        match self {
            Self::Refused { refusal, .. } => refusal.clone(),
            other => Refusal::new(ErrorCode::Unreachable, other.to_string()),
        }
    }
}
