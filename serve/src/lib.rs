//! What the HTTP servers of gigfs share and neither owns.
//!
//! Nothing here knows a table or a store: what differs between them comes in as an argument.

mod attempts;
mod audit;
mod client_address;
mod connections;
mod figures;
mod listen;
mod networks;
mod observe;

pub mod fetch;
pub mod files;
pub mod openapi;
pub mod refusal;
pub mod request;
pub mod tls;

pub use attempts::{Attempt, Attempts, TooManyAttempts};
pub use audit::{Audit, Event};
pub use client_address::client_address;
pub use connections::{Connections, Door, Watched};
pub use fetch::{Answer, Fetch, FetchError, Manner};
pub use figures::{Figures, RequestNames};
pub use listen::{Listener, Stop};
pub use networks::Networks;
pub use observe::observe;
pub use tls::{Tls, TlsError};
