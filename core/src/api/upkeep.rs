//! What a store's owner has it do with all its data: looking at it, and copying it.

use serde::{Deserialize, Serialize};

use crate::error::Refusal;
use crate::id::StoreId;

#[cfg(feature = "openapi")]
use utoipa::ToSchema;

/// The body of `POST /admin/backup`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct NewBackup {
    /// A folder on the store's machine, as a whole path; there is nothing in it, or it is not there.
    pub folder: String,
}

/// A line of the answer to `POST /admin/backup` and `POST /admin/verify`; the last one is not about progress.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub enum UpkeepLine {
    /// How far it has come.
    Progress(UpkeepProgress),
    /// Everything was looked at.
    Verified(StoreVerified),
    /// The copy is whole and on disk.
    BackedUp(Backup),
    /// It was not done.
    Refused(Refusal),
}

/// How far something has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct UpkeepProgress {
    /// What is counted.
    pub step: String,
    /// How much is done.
    pub done: u64,
    /// Of how much; the step may end before.
    pub of: u64,
}

/// What a look at everything that a store keeps found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct StoreVerified {
    /// Logs that were looked at.
    pub logs: u64,
    /// Live operations that were looked at.
    pub operations: u64,
    /// Blobs that were looked at.
    pub blobs: u64,
    /// What is damaged.
    pub damage: Vec<DamageFound>,
}

/// Something that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct DamageFound {
    /// A file or a log or whatever else is kept, by its name.
    pub what: String,
    /// How it shows.
    pub why: String,
}

/// A copy of all that a store keeps. It stands in the copy's folder as `backup.json`, written last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct Backup {
    /// The store.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub store: StoreId,
    /// Microseconds since 1970, when it was begun.
    pub at: u64,
    /// Keys and values of the oplogs.
    pub records: u64,
    /// Blobs.
    pub blobs: u64,
    /// Blobs that are damaged here and not in the copy.
    pub damage: Vec<DamageFound>,
}
