//! The interface of the durable engine, which four engines keep and one conformance suite checks.
//!
//! An engine keeps oplogs as a store sees them: per log, records in order of arrival, each at an *index* (1, 2, 3…); per
//! channel, a *feed* of all arrivals, each at a *position* (1, 2, 3…). Beside them it keeps small notes of its owner,
//! written in the same atomic batch. Every call blocks; async shells give an engine a thread of its own.

use bytes::Bytes;
use gigfs_core::api::LogHeader;
use gigfs_core::{
    Base, ChannelName, Date, Incarnation, LogName, Op, OpError, Path, PathPrefix, Payload, Sha, StoreId, TypeName,
    UserName,
};

/// A durable engine. All methods may be called from several threads at once.
pub trait Engine: Send + Sync {
    /// Returns the id that was minted when the data was created.
    fn store_id(&self) -> StoreId;

    /// Returns the life of the data: indexes and positions of another one mean nothing.
    fn incarnation(&self) -> Incarnation;

    /// Writes the batch: all of it or nothing, and on disk when this returns.
    ///
    /// First the appends in order, then the installs, the disputes, the removes, the restores, and the notes. Returns one
    /// answer an append, in order.
    ///
    /// # Errors
    /// [`StorageError`]; nothing is acknowledged then. A disk that fails while it syncs leaves the batch in doubt: all
    /// of it is there or none, now and after the engine is opened again. The same appends can be committed again, and
    /// answer [`Appended::Known`] where they are there already.
    fn commit(&self, batch: &Batch) -> Result<Vec<Appended>, StorageError>;

    /// Returns what is known of a log without its records, or nothing if no record ever arrived.
    ///
    /// # Errors
    /// [`StorageError`] if the data cannot be read.
    fn tail(&self, log: &LogName) -> Result<Option<LogTail>, StorageError>;

    /// Reads records in order of arrival, from the index after `after`, until `page` is full. At least one if there is one.
    ///
    /// # Errors
    /// [`StorageError`] if the data cannot be read.
    fn read(&self, log: &LogName, after: u64, page: Page) -> Result<Vec<StoredOp>, StorageError>;

    /// Reads the shas of a log in order of arrival, with their indexes, from the index after `after`.
    ///
    /// # Errors
    /// [`StorageError`] if the data cannot be read.
    fn inventory(&self, log: &LogName, after: u64, max: usize) -> Result<Vec<(u64, Sha)>, StorageError>;

    /// Returns a live operation of a log by its identity.
    ///
    /// # Errors
    /// [`StorageError`] if the data cannot be read.
    fn find(&self, log: &LogName, sha: &Sha) -> Result<Option<StoredOp>, StorageError>;

    /// Returns the log's base.
    ///
    /// # Errors
    /// [`StorageError`] if the data cannot be read.
    fn base(&self, log: &LogName) -> Result<Option<Base>, StorageError>;

    /// Tells whether an operation is known to be covered by the log's base.
    ///
    /// # Errors
    /// [`StorageError`] if the data cannot be read.
    fn is_covered(&self, log: &LogName, sha: &Sha) -> Result<bool, StorageError>;

    /// Reads the shas that are known to be covered, in ascending order, from after `after`.
    ///
    /// # Errors
    /// [`StorageError`] if the data cannot be read.
    fn covered(&self, log: &LogName, after: Option<&Sha>, max: usize) -> Result<Vec<Sha>, StorageError>;

    /// Reads the covered operations that are still kept, each with the generation of the base that covered it first, in
    /// order of their indexes from after `after`, until `page` is full.
    ///
    /// # Errors
    /// [`StorageError`] if the data cannot be read.
    fn retained(&self, log: &LogName, after: u64, page: Page) -> Result<Vec<(u64, StoredOp)>, StorageError>;

    /// Returns the base of a generation if it is still kept: the log's own, or else the one that was superseded last.
    ///
    /// # Errors
    /// [`StorageError`] if the data cannot be read.
    fn base_of(&self, log: &LogName, generation: u64) -> Result<Option<Base>, StorageError>;

    /// Forgets covered operations and superseded bases that were covered or superseded before `before`, at most `max` of
    /// them, but for those of logs whose base is disputed: the oldest operations first, then the oldest bases. Returns how
    /// many. Durable when it returns.
    ///
    /// # Errors
    /// [`StorageError`]; nothing is forgotten then.
    fn forget_retained(&self, before: Date, max: usize) -> Result<usize, StorageError>;

    /// Lists the logs of a channel at or below `prefix`, by type and path, from after `after`.
    ///
    /// # Errors
    /// [`StorageError`] if the data cannot be read.
    fn list(
        &self,
        user: &UserName,
        channel: &ChannelName,
        prefix: &PathPrefix,
        after: Option<(&TypeName, &Path)>,
        max: usize,
    ) -> Result<Vec<(LogName, LogHeader)>, StorageError>;

    /// Returns the position of the newest arrival in a channel; 0 if there is none.
    ///
    /// # Errors
    /// [`StorageError`] if the data cannot be read.
    fn position(&self, user: &UserName, channel: &ChannelName) -> Result<u64, StorageError>;

    /// Reads a channel's arrivals in order, from the position after `after`, until `page` is full.
    ///
    /// Records that were removed or covered since leave a gap in the positions.
    ///
    /// # Errors
    /// [`StorageError`] if the data cannot be read.
    fn feed(
        &self,
        user: &UserName,
        channel: &ChannelName,
        after: u64,
        page: Page,
    ) -> Result<Vec<Arrival>, StorageError>;

    /// Returns a note.
    ///
    /// # Errors
    /// [`StorageError`] if the data cannot be read.
    fn note(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError>;

    /// Returns all notes whose keys begin with `prefix`, in the order of their keys.
    ///
    /// # Errors
    /// [`StorageError`] if the data cannot be read.
    fn notes(&self, prefix: &[u8]) -> Result<Vec<(Bytes, Bytes)>, StorageError>;

    /// Returns the bytes that a user has here: records of operations, live and retained, and of bases, and 32 for each
    /// covered sha.
    ///
    /// # Errors
    /// [`StorageError`] if the data cannot be read.
    fn usage(&self, user: &UserName) -> Result<u64, StorageError>;
}

/// What one commit writes.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// Operations to append, in order.
    pub appends: Vec<Append>,
    /// Bases to install, in order.
    pub installs: Vec<Install>,
    /// Bases that are disputed, if they are their logs' bases. The next base of a log is not.
    pub disputes: Vec<(LogName, Sha)>,
    /// Operations to take out again; those that are not there are passed over. Their indexes and positions are never
    /// used again.
    pub removes: Vec<(LogName, Sha)>,
    /// Logs whose bases are taken back: their retained operations are live again, under their old indexes and as arrivals
    /// at new positions, and nothing is covered.
    pub restores: Vec<LogName>,
    /// Notes to set, or to delete where there is no value.
    pub notes: Vec<(Bytes, Option<Bytes>)>,
}

/// A base to install.
///
/// Where the log has this base already, `covered` is added to what is known to be covered. Otherwise the base takes the
/// place of the one before. Either way, live operations that are in `covered` leave the log and its feed, and their
/// indexes and positions are never used again. Whether a base takes another one's place is for the caller to decide.
#[derive(Debug, Clone)]
pub struct Install {
    /// The log; it comes to be if it has no record yet.
    pub log: LogName,
    /// The base; its record is that of a [`gigfs_core::Checkpoint`].
    pub base: Base,
    /// Operations that it covers, live here or not. What is known to be covered already stays so.
    pub covered: Vec<Sha>,
    /// Whether the live operations that are covered, and the base before, are kept for a while.
    pub retain: bool,
    /// The owner's clock: since when they are kept.
    pub at: Date,
}

/// One operation to append.
#[derive(Debug, Clone)]
pub enum Append {
    /// An operation with an identity.
    Op {
        /// The log that it belongs to.
        log: LogName,
        /// The operation, admitted.
        op: Op,
    },
    /// An operation of which its sender knows that a base does not cover it: it is written although not all may be known
    /// here that the base covers, if it is the log's base.
    Vouched {
        /// The log that it belongs to.
        log: LogName,
        /// The operation, admitted.
        op: Op,
        /// The base.
        base: Sha,
    },
    /// A payload that the store writes as its own author: after all that the log holds, at `wall` or later.
    Stamp {
        /// The log.
        log: LogName,
        /// The payload.
        payload: Payload,
        /// The store's clock.
        wall: Date,
    },
}

/// What became of one append.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Appended {
    /// Written now.
    New(Arrival),
    /// There already, at this index.
    Known {
        /// Its identity.
        sha: Sha,
        /// Its index in the log.
        index: u64,
    },
    /// The log's base covers it. Nothing was written.
    Covered {
        /// Its identity.
        sha: Sha,
    },
    /// The log's base may cover it, and not all that it covers is known here. Nothing was written.
    Doubtful {
        /// Its identity.
        sha: Sha,
    },
    /// An [`Append::Stamp`] whose payload breaks a rule. The rest of the batch is not affected.
    Refused(OpError),
}

/// An arrival in a channel's feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrival {
    /// Its position in the channel.
    pub position: u64,
    /// The log.
    pub log: LogName,
    /// The record and its index in the log.
    pub stored: StoredOp,
}

/// A record as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredOp {
    /// Its index in the log.
    pub index: u64,
    /// Its identity.
    pub sha: Sha,
    /// [`Op::to_record`].
    pub record: Bytes,
}

/// How much one read may return: it ends with the record that reaches a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// Records.
    pub ops: usize,
    /// Bytes of records.
    pub bytes: usize,
}

impl Page {
    /// Everything at once.
    pub const ALL: Self = Self { ops: usize::MAX, bytes: usize::MAX };
}

/// What an engine keeps of a log beside its records.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogTail {
    /// What travels.
    pub header: LogHeader,
    /// The greatest date that arrived.
    pub max_date: Date,
    /// Shas that nothing here depends on, newest arrivals last, at most [`gigfs_core::limits::OP_DEPS_MAX`]; after
    /// arrivals out of order some may be superseded.
    pub heads: Vec<Sha>,
    /// The last seq that the engine stamped as its own author.
    pub stamped: u64,
}

/// Why an engine could not do as asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StorageError {
    /// No room on the disk.
    #[error("the disk under {place} is full; nothing was written, make room and it will go on")]
    Full {
        /// Where the data is.
        place: String,
    },
    /// The data is damaged.
    #[error("{what} in {place} is damaged: {why}; restore it from another store of the channel or a backup")]
    Damaged {
        /// Where the data is.
        place: String,
        /// What is damaged.
        what: String,
        /// How it shows.
        why: String,
    },
    /// The data was written by a newer program.
    #[error("the data in {place} has format {found} and this program reads up to {known}; update the program")]
    UnknownFormat {
        /// Where the data is.
        place: String,
        /// The format met.
        found: u64,
        /// The newest known.
        known: u64,
    },
    /// Another process has the data open.
    #[error("another process has {place} open; stop it first")]
    Locked {
        /// Where the data is.
        place: String,
    },
    /// Whoever asked for it does not want it any more.
    #[error("what was done with {place} was stopped before its end")]
    Stopped {
        /// Where the data is.
        place: String,
    },
    /// Any other failure of the disk.
    #[error("cannot {action} {place}: {why}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// Where the data is.
        place: String,
        /// What the system said.
        why: String,
    },
}

impl StorageError {
    /// Tells whether the same call may go through later without anything being repaired.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Full { .. } | Self::Locked { .. } | Self::Io { .. })
    }
}
