//! What the HTTP servers of gigfs share and neither owns.
//!
//! Nothing here knows a table or a store: what differs between them comes in as an argument.

pub mod files;
pub mod tls;

pub use tls::{Tls, TlsError};
