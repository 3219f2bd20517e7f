//! The JSON bodies of the HTTP routes of tables and stores, shared by the servers and the client.
//!
//! Times are seconds since 1970 unless a field says microseconds. Every error body is [`crate::Refusal`].

use serde::{Deserialize, Serialize};

use crate::date::Date;

#[cfg(feature = "openapi")]
use utoipa::ToSchema;

mod oplog;
mod share;
mod table;
mod upkeep;

pub use oplog::*;
pub use share::*;
pub use table::*;
pub use upkeep::*;

/// What a server says of itself at `/healthz`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct Health {
    /// "table" or "store".
    pub role: String,
    /// Its id.
    pub id: String,
    /// The program's version.
    pub version: String,
    /// Its clock, in microseconds since 1970.
    #[cfg_attr(feature = "openapi", schema(value_type = u64))]
    pub now: Date,
}
