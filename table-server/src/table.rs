//! The table: what all requests share. Its operations stand with their nouns: users, sessions, mounts, standing.

use std::sync::Arc;

use gigfs_serve::{Attempts, Audit, Connections};
use ipnet::IpNet;
use tokio_util::sync::CancellationToken;

use crate::db::Db;
use crate::metric::Metrics;
use crate::secret::Verifier;
use crate::signal::Signals;
use crate::store::StoreClient;
use crate::token::Identity;

/// A handle on a running table, for the process that the server runs in. Cheap to clone.
///
/// Its calls need no credentials: whoever holds it is the one who started the table.
#[derive(Clone)]
pub struct Table {
    pub(crate) inner: Arc<Inner>,
}

/// What a table is made of.
pub(crate) struct Inner {
    pub(crate) db: Db,
    pub(crate) identity: Identity,
    pub(crate) signals: Arc<Signals>,
    pub(crate) stores: StoreClient,
    pub(crate) metrics: Metrics,
    /// Where stores and clients reach the table.
    pub(crate) public_url: String,
    /// What the admin token is compared with.
    pub(crate) admin: Verifier,
    /// What was done by whom.
    pub(crate) audit: Audit,
    /// Those that failed to log in.
    pub(crate) attempts: Attempts,
    /// Whose word on a client's address counts.
    pub(crate) trusted_proxies: Vec<IpNet>,
    /// How long the table waits for connections.
    pub(crate) connections: Connections,
    /// Seconds that a store token lives at most.
    pub(crate) token_seconds: u64,
    /// Cancelled when the server stops.
    pub(crate) stopping: CancellationToken,
}

impl Table {
    pub(crate) fn new(inner: Inner) -> Self {
        Self { inner: Arc::new(inner) }
    }
}
