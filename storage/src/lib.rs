//! The durable engine under every store, on a server or on a device.
//!
//! One trait, [`Engine`]; engines in memory, on SQLite and on fjall; one that fails on purpose, for tests; and one
//! conformance suite over all of them.

mod base;
mod damage;
mod engine;
mod faulty;
mod fjall;
mod listing;
mod memory;
mod sqlite;
mod tail;

pub mod home;
pub mod pruning;

/// The decoders of what stands on a disk, for the fuzzer alone.
#[doc(hidden)]
pub mod decoding {
    pub use crate::fjall::decoding::{FjallValue, fjall};
    pub use crate::sqlite::decoding::{Cell, SqliteRow, sqlite};
}

pub use damage::{Damage, Lost, MENDED, Mended, Progress, Verified};
pub use engine::{Append, Appended, Arrival, Batch, Engine, Install, LogTail, Page, StorageError, StoredOp};
pub use faulty::{Fault, Faulty};
pub use fjall::Fjall;
pub use memory::Memory;
pub use sqlite::{ActorLease, Sqlite};

/// Returns fresh random bytes for an identity.
fn mint<const N: usize>() -> Result<[u8; N], StorageError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| StorageError::Io {
        action: "mint an identity for",
        place: "a store".to_owned(),
        why: error.to_string(),
    })?;
    Ok(bytes)
}
