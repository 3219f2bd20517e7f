//! The gigfs table: users, sessions, mount tables, store tokens and their revocation, and the register of committed
//! checkpoints, over HTTP.
//!
//! A table says who may use which stores and never sees what they hold. It keeps hashes of secrets, never secrets;
//! credentials reach it in the `Authorization` header only, and no URL, log line, metric or error repeats one. Every
//! answer that acknowledges a change leaves after the change is on disk.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let server = gigfs_table_server::Server::bind(gigfs_table_server::Config::default()).await?;
//! println!("listening on {}", server.public_url());
//! server.run(async { tokio::signal::ctrl_c().await.unwrap_or_default() }).await?;
//! # Ok(())
//! # }
//! ```

mod ack;
mod clock;
mod config;
mod db;
#[doc(hidden)]
pub mod decoding;
mod http;
mod identity_record;
mod keyring;
mod metric;
mod mount;
mod register;
mod revocation;
mod seal;
mod secret;
mod server;
mod session;
mod share;
mod signal;
mod standing;
mod store;
mod store_key;
mod table;
mod token;
mod unmount;
mod user;
mod visit;

pub use config::{Config, Connections, Tls};
pub use db::{DatabaseError, OpenError};
pub use gigfs_serve::TlsError;
pub use mount::AddStoreError;
pub use server::{BindError, RunError, Server};
pub use session::{AccessError, CreateSessionError};
pub use store::{StoreCallError, StoreUrlError};
pub use table::Table;
pub use user::{CreateUserError, MasterError};
