//! When a replica prunes, and what holds it.

use std::fmt;

use crate::error::Refusal;
use crate::id::StoreId;
use crate::limits::CHECKPOINT_RECORD_BYTES_MAX;

/// When a replica prunes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PrunePolicy {
    /// Never, not even when it is asked to.
    Off,
    /// When it is asked to.
    OnDemand,
    /// By itself too: a log that is open, once it has so much beyond its base and has been quiet for a while.
    Automatic {
        /// Operations beyond the base.
        ops: usize,
        /// Or bytes of operations.
        bytes: usize,
        /// How long nothing was written, in microseconds. Each replica waits up to twice as long, so that they do not all
        /// prune at once. A log that never rests is pruned once it has eight times as much.
        quiet: u64,
    },
}

impl Default for PrunePolicy {
    fn default() -> Self {
        Self::Automatic { ops: 512, bytes: 256 * 1024, quiet: 30_000_000 }
    }
}

/// Why a log is not pruned now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PruneHold {
    /// This replica prunes nothing.
    Off,
    /// The log is not open, or still being read.
    NotOpen,
    /// There is nothing that the base does not cover.
    Nothing,
    /// No store has the channel, and there is no local store to archive in; or the channel was with a table and is not now.
    NoStores,
    /// Stores that cannot be reached.
    Unreachable {
        /// Which.
        stores: Vec<StoreId>,
    },
    /// Stores that are not in step yet: they lack operations, or are still being read.
    Behind {
        /// Which.
        stores: Vec<StoreId>,
    },
    /// Stores that installed the base without its operations, and that nobody could tell yet what it covers.
    NoList {
        /// Which.
        stores: Vec<StoreId>,
    },
    /// Operations whose payloads cannot be read here: they would be lost in a state that does not have them.
    Unreadable {
        /// How many.
        ops: usize,
    },
    /// Operations of which no store could say yet whether they are covered.
    Doubtful {
        /// How many.
        ops: usize,
    },
    /// Replicas computed different states for what the base covers.
    Disputed,
    /// A checkpoint was committed that no store and no device here has: its author vanished, and the stores that
    /// acknowledged it lost it. The log goes on; it is pruned again when somebody brings the checkpoint.
    Lost,
    /// There is no state to be had here: the reducer is older than the base's, or is a function over the whole log.
    NoState {
        /// Why.
        why: String,
    },
    /// The checkpoint would be over its limit.
    TooLarge {
        /// Its bytes.
        bytes: usize,
    },
    /// A checkpoint is under way.
    UnderWay {
        /// Stores that have not acknowledged it; if none, the table is asked.
        stores: Vec<StoreId>,
    },
    /// A store did not acknowledge the checkpoint.
    NotAcknowledged {
        /// Which.
        store: StoreId,
        /// Why.
        refusal: Refusal,
    },
    /// The table did not commit the checkpoint, or cannot be asked.
    NotCommitted {
        /// Why.
        refusal: Refusal,
    },
    /// Another checkpoint was committed first.
    Overtaken,
    /// The stream to a store ended, or the channel's stores changed, while a checkpoint was under way.
    Interrupted,
    /// The state that was computed again from what is still kept is the one that the base has.
    NothingToRepair,
    /// What the base was made of is not all kept any more, so its state cannot be computed again.
    NotKept,
}

impl fmt::Display for PruneHold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |stores: &[StoreId]| stores.iter().map(StoreId::to_string).collect::<Vec<_>>().join(", ");
        match self {
            Self::Off => write!(f, "pruning is off on this device"),
            Self::NotOpen => write!(f, "the log is not open here, or still being read"),
            Self::Nothing => write!(f, "the log has nothing beyond its base"),
            Self::NoStores => write!(f, "the channel has no store"),
            Self::Unreachable { stores } => write!(f, "{} cannot be reached", list(stores)),
            Self::Behind { stores } => write!(f, "{} is not in step yet", list(stores)),
            Self::NoList { stores } => write!(f, "{} does not know all that the base covers", list(stores)),
            Self::Unreadable { ops } => {
                write!(f, "{ops} operations cannot be read by this program, and would be lost in the checkpoint")
            }
            Self::Doubtful { ops } => {
                write!(f, "no store could say yet whether {ops} operations are part of the base")
            }
            Self::Disputed => {
                write!(f, "devices computed different states for the base; the one that is right can repair it")
            }
            Self::Lost => write!(f, "a checkpoint was committed that no store has any more"),
            Self::NoState { why } => write!(f, "{why}"),
            Self::TooLarge { bytes } => {
                write!(f, "the checkpoint would have {bytes} bytes and the limit is {CHECKPOINT_RECORD_BYTES_MAX}")
            }
            Self::UnderWay { stores } if stores.is_empty() => write!(f, "the table is asked to commit a checkpoint"),
            Self::UnderWay { stores } => write!(f, "{} is to acknowledge a checkpoint", list(stores)),
            Self::NotAcknowledged { store, refusal } => write!(f, "{store} does not acknowledge it: {refusal}"),
            Self::NotCommitted { refusal } => write!(f, "the table does not commit it: {refusal}"),
            Self::Overtaken => write!(f, "another checkpoint was committed first"),
            Self::Interrupted => write!(f, "a stream ended, or the channel's stores changed, meanwhile"),
            Self::NothingToRepair => write!(f, "the state computed again is the one that the base has"),
            Self::NotKept => write!(f, "what the base was made of is not all kept any more"),
        }
    }
}

impl PruneHold {
    /// Tells whether waiting a moment may help: something is under way.
    pub fn is_passing(&self) -> bool {
        matches!(
            self,
            Self::NotOpen
                | Self::Behind { .. }
                | Self::UnderWay { .. }
                | Self::Overtaken
                | Self::Interrupted
                | Self::Doubtful { .. }
        )
    }
}
