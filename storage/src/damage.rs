//! What is said of data that is not as it was written.

use std::fmt;
use std::path::PathBuf;

use gigfs_core::LogName;
use serde::Serialize;

/// Something that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// A file, by its path in the folder, or a log or whatever else is kept, by its name.
    pub what: String,
    /// How it shows.
    pub why: String,
}

impl Damage {
    pub(crate) fn new(what: impl fmt::Display, why: impl fmt::Display) -> Self {
        Self { what: what.to_string(), why: why.to_string() }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.why)
    }
}

/// What became of data that was found damaged when it was opened: all that could be read was written anew, the damaged
/// files were put aside, and a new incarnation began, so that whoever reads compares and brings back what is missing.
#[derive(Debug, Clone, Serialize)]
pub struct Mended {
    /// What was damaged.
    pub damage: Vec<Damage>,
    /// What is missing, by log.
    pub lost: Vec<Lost>,
    /// Operations whose logs' names could not be read, so that they are in the files that were put aside alone.
    pub nameless: u64,
    /// Where the damaged files are now; nothing if they were gone.
    pub kept_in: Option<PathBuf>,
}

/// The note that stands in data that was mended, until whoever knows what its notes should be deletes it. // persisted
pub const MENDED: &[u8] = b"mended";

/// What is missing of one log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Lost {
    /// The log.
    #[serde(flatten)]
    pub log: LogName,
    /// Operations that it had and has no more.
    pub operations: u64,
    /// Whether the log's base is missing. What it covers and was still kept stands in the log again.
    pub base: bool,
    /// Whether some of what is missing cannot be counted, since what counts it is damaged too.
    pub uncounted: bool,
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { log, operations, base, uncounted } = self;
        write!(f, "the log {log} of {} lost {operations} operations", log.user)?;
        f.write_str(if *uncounted { ", or more" } else { "" })?;
        f.write_str(if *base { ", and its base" } else { "" })
    }
}

/// What a look at everything found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// Logs that were looked at.
    pub logs: u64,
    /// Live operations that were looked at.
    pub operations: u64,
    /// Bytes of the files; 0 where the data is open.
    pub bytes: u64,
    /// What is damaged: the first thousand things by name. Once a file is, what is in the files is not looked at any more.
    pub damage: Vec<Damage>,
}

/// How far something that takes a while has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// What is counted.
    pub step: &'static str,
    /// How much is done.
    pub done: u64,
    /// Of how much; the step may end before.
    pub of: u64,
}
