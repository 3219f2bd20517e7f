//! The durable engine under every store, on a server or on a device.
//!
//! One trait, [`Engine`]; engines in memory, on SQLite and on fjall; one that fails on purpose, for tests; and one
//! conformance suite over all of them.

mod engine;

pub use engine::{Append, Appended, Arrival, Batch, Engine, LogTail, Page, StorageError, StoredOp};
