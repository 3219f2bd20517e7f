//! The store: all that its routes and streams share, and the calls that the process around it may make.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use gigfs_core::api::{ConfirmCode, UserRoom};
use gigfs_core::{Refusal, RunId, StoreId, UserName};
use gigfs_serve::{Attempts, Audit, Connections, Event};
use gigfs_storage::{Engine, Fjall, StorageError};
use ipnet::IpNet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::access::Access;
use crate::base::Bases;
use crate::blob::Blobs;
use crate::commit::Commits;
use crate::feed::Hub;
use crate::metric::Metrics;
use crate::quota::Quotas;
use crate::refusal;
use crate::session::Sessions;
use crate::token::{Codes, Signer};
use crate::user::{self, Users};

/// A handle to a store, for calls from the process that serves it. Cheap to clone; good until the server has stopped.
#[derive(Clone)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) engine: Arc<dyn Engine>,
    /// The same, where it is on a disk.
    pub(crate) disk: Option<Arc<Fjall>>,
    pub(crate) data_dir: PathBuf,
    pub(crate) commits: Commits,
    pub(crate) hub: Arc<Hub>,
    /// Which run of the store this is.
    pub(crate) run: RunId,
    pub(crate) users: Users,
    pub(crate) quotas: Quotas,
    pub(crate) sessions: Sessions,
    /// How long a stream may take nothing.
    pub(crate) drain_max: Duration,
    pub(crate) access: Access,
    pub(crate) codes: Codes,
    pub(crate) signer: Signer,
    pub(crate) bases: Bases,
    pub(crate) blobs: Arc<Blobs>,
    pub(crate) metrics: Metrics,
    /// The hash of the admin token; comparing hashes takes the same time however much of it is right.
    pub(crate) admin: blake3::Hash,
    /// What was done by whom.
    pub(crate) audit: Audit,
    /// Those that failed to be the admin.
    pub(crate) attempts: Attempts,
    /// Whose word on a client's address counts.
    pub(crate) trusted_proxies: Vec<IpNet>,
    /// How long the store waits for connections.
    pub(crate) connections: Connections,
    pub(crate) public_url: String,
    pub(crate) stopping: CancellationToken,
    /// The streams.
    pub(crate) streams: TaskTracker,
    /// What runs on threads that may block, and holds the data open.
    pub(crate) jobs: TaskTracker,
}

impl Inner {
    /// Tells whether damage was met in the data since it was opened.
    pub(crate) fn is_damaged(&self) -> bool {
        self.disk.as_ref().is_some_and(|disk| disk.is_damaged())
    }
}

impl Store {
    /// Returns the store's id.
    pub fn store_id(&self) -> StoreId {
        self.inner.engine.store_id()
    }

    /// Returns the URL under which tables and clients reach the store.
    pub fn public_url(&self) -> &str {
        &self.inner.public_url
    }

    /// Makes a user, who may then bring a table; one that is there stays as it is.
    ///
    /// # Errors
    /// [`Refusal`] if it cannot be written down.
    pub async fn create_user(&self, user: &UserName) -> Result<(), Refusal> {
        let name = user.clone();
        if self.blocking(move |inner| inner.users.create(&name, &inner.commits)).await? {
            self.inner.audit.note(Event::UserCreated { user });
        }
        Ok(())
    }

    /// Returns what a user keeps here and may keep.
    ///
    /// # Errors
    /// [`Refusal`] if there is no such user.
    pub async fn room(&self, user: &UserName) -> Result<UserRoom, Refusal> {
        self.known(user)?;
        let user = user.clone();
        self.blocking(move |inner| inner.quotas.room(&user, &*inner.engine)).await
    }

    /// Sets how many bytes a user may keep here; nothing for what users have of whom nothing is said. What is here
    /// already stays.
    ///
    /// # Errors
    /// [`Refusal`] if there is no such user, or it cannot be written down.
    pub async fn set_quota(&self, user: &UserName, bytes: Option<u64>) -> Result<UserRoom, Refusal> {
        self.known(user)?;
        let of = user.clone();
        self.blocking(move |inner| inner.quotas.set(&of, bytes, &inner.commits)).await?;
        self.inner.audit.note(Event::QuotaSet { user, bytes });
        self.room(user).await
    }

    fn known(&self, user: &UserName) -> Result<(), Refusal> {
        match self.inner.users.exists(user) {
            true => Ok(()),
            false => Err(user::unknown(user)),
        }
    }

    /// Makes a code with which the user's table can introduce itself, once, within a quarter of an hour.
    ///
    /// # Errors
    /// [`Refusal`] if there is no such user.
    pub async fn confirm_code(&self, user: &UserName) -> Result<ConfirmCode, Refusal> {
        self.known(user)?;
        let (code, expires) = self.inner.codes.sign(user)?;
        self.inner.audit.note(Event::CodeMade { user });
        Ok(ConfirmCode { code, expires })
    }

    /// Reads from the engine on a thread that may block. No read is done on the threads that serve.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&dyn Engine) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, Refusal> {
        self.blocking(move |inner| read(&*inner.engine).map_err(|error| refusal::storage(&error))).await
    }

    /// Runs `work` on a thread that may block.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        let inner = self.inner.clone();
        match self.inner.jobs.spawn_blocking(move || work(&inner)).await {
            Ok(result) => result,
            Err(_) => Err(refusal::internal("a task")),
        }
    }
}
