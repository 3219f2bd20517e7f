//! The store server: oplogs, the stream and blobs over HTTP and WebSocket, on a durable engine.
//!
//! [`Server::bind`] opens the data and listens, [`Server::run`] answers until it is told to stop, and [`Store`] is the
//! same store for calls from this process.

mod access;
mod base;
mod blob;
mod clock;
mod commit;
mod config;
#[doc(hidden)]
pub mod decoding;
mod feed;
mod http;
mod keys;
mod metric;
mod mirror;
mod name;
mod push;
mod quota;
mod read;
mod rebased;
mod refusal;
mod revocation;
mod seal;
mod server;
mod session;
mod standing;
mod store;
mod stream;
mod token;
mod upkeep;
mod user;

pub use config::{Config, Connections, EngineKind, Tls};
pub use gigfs_serve::TlsError;
pub use server::{BindError, Ended, RunError, Server};
pub use store::Store;
pub use upkeep::{UpkeepError, restore, verify};
