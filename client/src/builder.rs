//! Opening a client.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use gigfs_core::api::MountTable;
use gigfs_core::sync::ChannelAccess;
use gigfs_core::sync::{Config, Mode, PrunePolicy, Replica};
use gigfs_core::{ActorId, ChannelName, Reduced, TypeName, UserName};
use gigfs_reducers::{Counter, List, Map, Register, Set, Text};
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};

use crate::commits;
use crate::error::Error;
use crate::gig::{Gig, Inner, Tasks};
use crate::keys::UserKeys;
use crate::local::LocalStore;
use crate::mounts;
use crate::sealing::follow_keys;
use crate::shared::Shared;
use crate::stream;
use crate::table::Table;

/// The types that every client can read without registering anything.
pub const STOCK_TYPES: [&str; 6] = ["register", "counter", "set", "map", "list", "text"];

/// The user of a local store that no table knows yet.
const LOCAL_USER: &str = "me";

/// Says what a client is made of: a remote table, a local table, or both.
#[derive(Default)]
pub struct Builder {
    table: Option<Table>,
    local: Option<PathBuf>,
    local_channels: Vec<ChannelName>,
    offline: bool,
    prune: PrunePolicy,
    sealed: BTreeMap<ChannelName, ChannelAccess>,
    user_keys: Option<UserKeys>,
    in_the_clear: bool,
}

impl Builder {
    /// Takes the mount table, the stores and their tokens from a table server, with a session's credentials
    /// ([`Table::with_session`]).
    #[must_use]
    pub fn table(mut self, table: Table) -> Self {
        self.table = Some(table);
        self
    }

    /// Keeps everything durably in this folder too, so that reads and writes work without a network and survive a
    /// crash. Several processes of one device may use the same folder.
    #[must_use]
    pub fn local(mut self, folder: impl Into<PathBuf>) -> Self {
        self.local = Some(folder.into());
        self
    }

    /// Makes a channel that this device keeps for itself until a table knows it. Without a remote table every channel is.
    #[must_use]
    pub fn local_channel(mut self, channel: ChannelName) -> Self {
        self.local_channels.push(channel);
        self
    }

    /// Starts without using the network until [`Gig::set_mode`] says otherwise.
    #[must_use]
    pub fn offline(mut self) -> Self {
        self.offline = true;
        self
    }

    /// Says when this client prunes logs: by itself, unless this says otherwise.
    #[must_use]
    pub fn prune(mut self, policy: PrunePolicy) -> Self {
        self.prune = policy;
        self
    }

    /// Works with the user's keyring: channels are sealed or in the clear as it says, and one of which it says nothing is not
    /// used. A client with a table needs this, or [`sealed`](Self::sealed) for each channel, or
    /// [`in_the_clear`](Self::in_the_clear).
    #[must_use]
    pub fn user_keys(mut self, keys: UserKeys) -> Self {
        self.user_keys = Some(keys);
        self
    }

    /// Reads and writes in the clear, for whoever runs the stores to read, every channel for which there are no keys. Without this a
    /// client that has a table and no keys for a channel does not use the channel.
    #[must_use]
    pub fn in_the_clear(mut self) -> Self {
        self.in_the_clear = true;
        self
    }

    /// Seals a channel under these keys: what is written to it leaves this device unreadable for whoever lacks them, the
    /// names of its logs and types included, and what is in the clear there, or not signed by a device of the owner or of a
    /// member, is not believed. All devices of the channel need the same keys.
    #[must_use]
    pub fn sealed(mut self, channel: ChannelName, access: ChannelAccess) -> Self {
        self.sealed.insert(channel, access);
        self
    }

    /// Opens the client. It needs no network: what cannot be reached now is reached later.
    ///
    /// # Errors
    /// [`Error::Storage`] or [`Error::OtherUser`] if the local store cannot be opened.
    pub async fn open(self) -> Result<Gig, Error> {
        let runtime = tokio::runtime::Handle::try_current()
            .map_err(|error| Error::System(format!("a client needs a tokio runtime: {error}")))?;
        tokio::task::spawn_blocking(move || {
            let _guard = runtime.enter();
            self.open_blocking()
        })
        .await
        .map_err(|error| Error::System(error.to_string()))?
    }

    fn open_blocking(self) -> Result<Gig, Error> {
        let user = match (&self.table, &self.local) {
            (Some(table), _) => table.user().clone(),
            (None, Some(folder)) => LocalStore::user_of(folder)?.map_or_else(|| UserName::parse(LOCAL_USER), Ok)?,
            (None, None) => UserName::parse(LOCAL_USER)?,
        };
        let local = self.local.as_deref().map(|folder| LocalStore::open(folder, &user)).transpose()?;
        let actor = match &local {
            Some(local) => local.actor(),
            None => ActorId::from_bytes(crate::random::bytes()?),
        };
        let seed = u64::from_be_bytes(crate::random::bytes()?);
        let config = Config { user: user.clone(), actor, prune: self.prune, durable: local.is_some(), seed };
        let (mergers, inbox) = mpsc::unbounded_channel();
        let (commits, asked) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared::new(Replica::new(config), local, mergers, commits));
        register_stock(&shared)?;
        let mut channels = self.user_keys.as_ref().map(UserKeys::sealed_channels).unwrap_or_default();
        channels.extend(self.sealed);
        shared
            .act(|replica, _| channels.into_iter().for_each(|(channel, access)| replica.set_access(&channel, access)));

        let mode = watch::Sender::new(if self.offline { Mode::Offline } else { Mode::Online });
        shared.act(|replica, now| replica.set_mode(now, *mode.borrow()));
        let mut tasks = Tasks::default();
        if let Some(local) = &shared.local {
            tasks.storage = Some(local.start(shared.clone())?);
            let pending = local.pending_logs()?;
            shared.act(|replica, now| pending.iter().for_each(|log| replica.resume(now, log)));
            if let Some(kept) = local.mount_table()? {
                match serde_json::from_slice::<MountTable>(&kept) {
                    Ok(table) if self.table.is_some() => mounts::apply(&shared, table)?,
                    Ok(_) => {}
                    Err(error) => tracing::warn!("the kept mount table cannot be read and is fetched again: {error}"),
                }
            }
            tasks.neighbours = local.watch_neighbours(&shared);
        }
        tasks.spawn_timers(shared.clone());
        tasks.spawn(mounts::run_mergers(inbox));
        tasks.spawn(commits::run(shared.clone(), self.table.clone(), asked));
        if let Some((table, keys)) = self.table.as_ref().zip(self.user_keys.as_ref()) {
            tasks.spawn(follow_keys(shared.clone(), table.clone(), keys.clone(), mode.subscribe()));
        }
        if let Some(table) = &self.table {
            let streams = stream::supervise(shared.clone(), table.http().clone(), user.clone(), mode.subscribe());
            tasks.spawn(streams);
            tasks.spawn(mounts::follow(shared.clone(), table.clone(), mode.subscribe()));
        }
        // Without a table nothing leaves the device.
        let in_the_clear = self.in_the_clear || self.table.is_none();
        let Self { table, local_channels, user_keys: keys, .. } = self;
        let tasks = Mutex::new(tasks);
        Ok(Gig::new(Inner { shared, user, table, local_channels, keys, in_the_clear, mode, tasks }))
    }
}

fn register_stock(shared: &Shared) -> Result<(), Error> {
    let kinds: [(&str, Arc<dyn gigfs_core::Kind>); 6] = [
        ("register", Arc::new(Reduced::new(Register))),
        ("counter", Arc::new(Reduced::new(Counter))),
        ("set", Arc::new(Reduced::new(Set))),
        ("map", Arc::new(Reduced::new(Map))),
        ("list", Arc::new(Reduced::new(List))),
        ("text", Arc::new(Reduced::new(Text))),
    ];
    for (name, kind) in kinds {
        let name = TypeName::parse(name)?;
        shared.act(|replica, _| replica.register(name, kind));
    }
    Ok(())
}
