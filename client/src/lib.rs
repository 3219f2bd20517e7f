//! gigfs: logs that stay one on every device and server.
//!
//! An app opens a [`Gig`], and then calls [`get`](Gig::get), [`push`](Gig::push), [`on`](Gig::on) and
//! [`list`](Gig::list). Writes never wait for a network, nothing that was written is lost, and all replicas come to the
//! same value, which a reducer makes of the operations: a stock one ([`STOCK_TYPES`]) or the app's own
//! ([`register`](Gig::register)).
//!
//! ```no_run
//! # async fn demo() -> Result<(), gigfs::Error> {
//! use serde_json::json;
//! let gig = gigfs::Gig::builder().local("data").open().await?;
//! gig.push("home", "counter", "/visits", json!({"add": 1})).await?;
//! println!("{}", gig.get("home", "counter", "/visits").await?);
//! gig.close().await
//! # }
//! ```

mod backoff;
mod builder;
mod certificate;
mod changes;
mod commits;
mod error;
mod gig;
mod http;
mod keys;
mod listing;
mod local;
mod log;
mod mounts;
mod random;
mod receipt;
mod sealing;
mod shared;
mod sharing;
mod store;
mod stream;
mod table;
mod waiting;

pub mod password;

pub use builder::{Builder, STOCK_TYPES};
pub use changes::{Change, Subscription};
pub use error::Error;
pub use gig::{Gig, Status};
pub use gigfs_core as core;
pub use gigfs_core::sync::{BaseStatus, PruneHold, PrunePolicy};
pub use gigfs_core::sync::{LinkId, LinkStatus, Mode, Origin, ReadStanding, Receipt, Standing};
pub use keys::{DeviceSecret, OpenedKeys, SealMode, UserKeys};
pub use listing::Listed;
pub use log::Log;
pub use receipt::Pushed;
pub use shared::{Suspicion, Trouble};
pub use sharing::KeyRenewal;
pub use store::Store;
pub use table::{LoggedIn, Table};
