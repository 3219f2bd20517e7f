//! The mount table: which stores hold a user's channels, and the epoch that grows by one with each change.
//!
//! A channel comes to be with its first store and goes with its last (`unmount.rs`). Whoever reads the table gets fresh
//! tokens with it. A store that is mounted takes writes: it opens the user's channels when it hears who the table is,
//! and the one channel when it is asked to.

use std::collections::BTreeSet;

use gigfs_core::api::{AddStore, Confirm, MountTable, MountedChannel, MountedStore};
use gigfs_core::limits::{CHANNEL_STORES_MAX, USER_CHANNELS_MAX};
use gigfs_core::token::Permission;
use gigfs_core::{ChannelName, SessionId, StoreId, UserName};
use gigfs_serve::Event;
use rusqlite::{OptionalExtension as _, Transaction, params};

use crate::db::{self, Change, DatabaseError};
use crate::session::{self, Access, AccessError};
use crate::store::{StoreCallError, StoreUrl, StoreUrlError};
use crate::store_key::{self, StoreKey};
use crate::table::Table;
use crate::token::StoreToken;
use crate::user::{self, UserKey};
use crate::visit::Visit;
use crate::{clock, revocation, seal, share};

/// Why a store was not mounted.
#[derive(Debug, thiserror::Error)]
pub enum AddStoreError {
    /// The url is not one of a store.
    #[error(transparent)]
    Url(#[from] StoreUrlError),
    /// The channel's name means something else in the table's routes.
    #[error("a channel cannot be called {channel}, because the table has a route of that name")]
    ReservedName {
        /// The name.
        channel: ChannelName,
    },
    /// There is no such user. Only those who need no session are told.
    #[error("this table has no user {user}")]
    UnknownUser {
        /// The name.
        user: UserName,
    },
    /// The channel has as many stores as it can have.
    #[error("the channel {channel} has {CHANNEL_STORES_MAX} stores, which is the limit")]
    TooManyStores {
        /// The channel.
        channel: ChannelName,
    },
    /// The user has as many different stores as one can have.
    #[error("the user {user} has {USER_STORES_MAX} different stores, which is the limit")]
    TooManyUserStores {
        /// The user.
        user: UserName,
    },
    /// The user has as many channels as one can have.
    #[error("the user {user} has {USER_CHANNELS_MAX} channels, which is the limit")]
    TooManyChannels {
        /// The user.
        user: UserName,
    },
    /// No code came, and the user has not mounted the store anywhere yet.
    #[error("the user {user} has no store at {url} yet, so mounting it takes a code from its admin")]
    NoCode {
        /// The user.
        user: UserName,
        /// Where the store would be.
        url: String,
    },
    /// The id that the store gave is that of a store that the user has, under another key.
    #[error("what answers at {url} claims to be the store {store}, which the user {user} has under another key")]
    OtherKey {
        /// The id.
        store: StoreId,
        /// Where the claim was made.
        url: String,
        /// The user.
        user: UserName,
    },
    /// The store was not there or did not agree.
    #[error(transparent)]
    Store(#[from] StoreCallError),
    /// The session ended meanwhile.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

/// Why a place of the mount table was not found.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MountError {
    #[error("the user {user} has no channel {channel}")]
    UnknownChannel { user: UserName, channel: ChannelName },
    #[error("the channel {channel} has no store {store}")]
    UnknownStore { channel: ChannelName, store: StoreId },
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

/// Who asks for a change: a session, which must still be alive when the change is made, or the table's own process.
enum Asker {
    Session(Access),
    Process(UserName),
}

/// A store that has agreed to be mounted.
struct Agreed {
    store: StoreId,
    /// Comes with a code.
    key: Option<StoreKey>,
}

/// A channel's stores.
pub(crate) struct MountedSet {
    /// The epoch in which the set became what it is.
    pub(crate) epoch: u64,
    pub(crate) stores: BTreeSet<StoreId>,
}

/// A row of the mount table.
struct Mount {
    channel: ChannelName,
    epoch: u64,
    store: StoreId,
    url: String,
    sealed: bool,
    permission: Permission,
    /// For a guest, the epoch in which that began.
    share: Option<u64>,
}

impl Table {
    /// Mounts a store on a channel of the user, without a session, for the process that runs the table. A store that
    /// is mounted there already gets its new url.
    ///
    /// # Errors
    /// [`AddStoreError`] says what the store or the table refused; nothing is changed then.
    pub async fn add_store(
        &self,
        user: &UserName,
        channel: &ChannelName,
        add: AddStore,
    ) -> Result<StoreId, AddStoreError> {
        self.mount(Asker::Process(user.clone()), channel, add).await
    }

    /// Mounts a store on a channel of the session's user.
    pub(crate) async fn add_store_as(
        &self,
        access: &Access,
        channel: &ChannelName,
        add: AddStore,
    ) -> Result<StoreId, AddStoreError> {
        self.mount(Asker::Session(access.clone()), channel, add).await
    }

    async fn mount(&self, asker: Asker, channel: &ChannelName, add: AddStore) -> Result<StoreId, AddStoreError> {
        let AddStore { store_url, code } = add;
        let url = StoreUrl::parse(&store_url)?;
        if RESERVED.contains(&channel.as_str()) {
            return Err(AddStoreError::ReservedName { channel: channel.clone() });
        }
        let user = asker.user().clone();
        let wanted = channel.clone();
        // Asked before the store is, so that it hears only of what can be; and again when it has answered.
        let asker = self
            .inner
            .db
            .read(move |tx| {
                let key = asker.allow(tx)?;
                check_room(tx, key, asker.user(), &wanted, None).map(|()| asker)
            })
            .await?;
        let (asker, agreed) = match code {
            Some(code) => (asker, self.confirm(&url, &user, code).await?),
            None => self.open_again(asker, channel, &url).await?,
        };
        let by = asker.session();
        let (mounted, owner, place) = (url.clone(), user.clone(), channel);
        let channel = channel.clone();
        let work = move |change: &mut Change<'_>| {
            let key = asker.allow(&change.tx)?;
            let store = agreed.store;
            agreed.write_down(change, key, &user, &channel, &url)?;
            // What the store did already stays written down.
            if let Err(full) = check_room(&change.tx, key, &user, &channel, Some(store)) {
                return Ok(Err(full));
            }
            if let Some(store_key) = agreed.key {
                store_key::keep(&change.tx, key, store, store_key)?;
            }
            if put(change, key, &channel, store, &url)? {
                share::tell(change, key, &user)?;
            }
            Ok(Ok(store))
        };
        let store = self.inner.db.write::<_, AddStoreError>(work).await??;
        let url = mounted.as_str();
        self.inner.audit.note(Event::StoreMounted { user: &owner, channel: place, store, url, by });
        Ok(store)
    }

    /// Introduces the table to a store with the code that the store gave the user.
    async fn confirm(&self, url: &StoreUrl, user: &UserName, code: String) -> Result<Agreed, AddStoreError> {
        let confirm = Confirm {
            table_url: self.inner.public_url.clone(),
            code,
            table_id: self.inner.identity.table_id.clone(),
            table_key: self.inner.identity.public_key.clone(),
        };
        let (store, key) = self.inner.stores.confirm(url, user, &confirm).await?;
        Ok(Agreed { store, key: Some(key) })
    }

    /// Has the store that the user has at a url, which knows this table already, take writes for the channel: it may
    /// have been sealed when it was taken off.
    async fn open_again(
        &self,
        asker: Asker,
        channel: &ChannelName,
        url: &StoreUrl,
    ) -> Result<(Asker, Agreed), AddStoreError> {
        let wanted = url.clone();
        let find = move |tx: &Transaction<'_>| {
            let key = asker.allow(tx)?;
            let at_url = "SELECT store FROM mounts WHERE user = ?1 AND url = ?2 LIMIT 1";
            let found: Option<Vec<u8>> = tx
                .query_row(at_url, params![key.0, wanted.as_str()], |row| row.get(0))
                .optional()
                .map_err(DatabaseError::from)?;
            match found.as_deref().and_then(StoreId::from_slice) {
                Some(store) => Ok((asker, store)),
                None => Err(AddStoreError::NoCode { user: asker.user().clone(), url: wanted.as_str().to_owned() }),
            }
        };
        let (asker, store) = self.inner.db.read(find).await?;
        let token = self.inner.identity.seal_token(store, asker.user(), channel, false);
        self.inner.stores.seal(url, asker.user(), channel, &token).await?;
        Ok((asker, Agreed { store, key: None }))
    }

    /// Returns the whole mount table with tokens for the session: to a guest, what is shared with it.
    pub(crate) async fn mount_table(&self, visit: &Visit) -> Result<MountTable, DatabaseError> {
        let (epoch, channels) = self.mounts(visit, None).await?;
        let (table_id, table_key) = (self.inner.identity.table_id.clone(), self.inner.identity.public_key.clone());
        Ok(MountTable { user: visit.owner.clone(), table_id, table_key, epoch, channels })
    }

    /// Returns one channel of the mount table with tokens for the session.
    pub(crate) async fn mounted_channel(
        &self,
        visit: &Visit,
        channel: &ChannelName,
    ) -> Result<MountedChannel, MountError> {
        let (_, mut channels) = self.mounts(visit, Some(channel.clone())).await?;
        let unknown = || MountError::UnknownChannel { user: visit.owner.clone(), channel: channel.clone() };
        channels.pop().ok_or_else(unknown)
    }

    async fn mounts(
        &self,
        visit: &Visit,
        only: Option<ChannelName>,
    ) -> Result<(u64, Vec<MountedChannel>), DatabaseError> {
        let (owner, by) = (visit.key, visit.by.key);
        let read = move |tx: &Transaction<'_>| Ok((user::epoch(tx, owner)?, list(tx, owner, by, only.as_ref())?));
        let (epoch, mounts) = self.inner.db.read::<_, DatabaseError>(read).await?;
        let table = self.clone();
        let visit = visit.clone();
        // A signature costs tens of microseconds, and a large table has thousands.
        let signed = tokio::task::spawn_blocking(move || table.with_tokens(&visit, mounts)).await;
        Ok((epoch, signed.map_err(|_| DatabaseError::Closed)?))
    }

    /// Groups mounts, which come in order of channel and store, and gives each a token.
    fn with_tokens(&self, visit: &Visit, mounts: Vec<Mount>) -> Vec<MountedChannel> {
        let issued = clock::now();
        let Visit { owner: user, by: Access { session, .. }, .. } = visit;
        let expires = session.expires.min(issued + self.inner.token_seconds);
        let mut channels: Vec<MountedChannel> = Vec::new();
        for Mount { channel, epoch, store, url, sealed, permission, share } in mounts {
            let (channel_name, session) = (&channel, session.id);
            let token = StoreToken { store, user, channel: channel_name, session, permission, share, issued, expires };
            let token = self.inner.identity.store_token(&token);
            let mounted = MountedStore { id: store, url, token, permission, expires, sealed };
            match channels.last_mut() {
                Some(last) if last.channel == channel => last.stores.push(mounted),
                _ => channels.push(MountedChannel { channel, epoch, stores: vec![mounted] }),
            }
        }
        channels
    }
}

impl Asker {
    fn session(&self) -> Option<SessionId> {
        match self {
            Self::Session(access) => Some(access.session.id),
            Self::Process(_) => None,
        }
    }

    fn user(&self) -> &UserName {
        match self {
            Self::Session(access) => &access.user,
            Self::Process(user) => user,
        }
    }

    fn allow(&self, tx: &Transaction<'_>) -> Result<UserKey, AddStoreError> {
        match self {
            Self::Session(access) => {
                session::standing(tx, access.key, access.session.id)?;
                Ok(access.key)
            }
            Self::Process(user) => {
                user::find(tx, user)?.ok_or_else(|| AddStoreError::UnknownUser { user: user.clone() })
            }
        }
    }
}

impl Agreed {
    /// Writes down what the store has done: it takes writes. Refuses a store that is another one than it says.
    fn write_down(
        &self,
        change: &mut Change<'_>,
        key: UserKey,
        user: &UserName,
        channel: &ChannelName,
        url: &StoreUrl,
    ) -> Result<(), AddStoreError> {
        let Self { store, key: store_key } = *self;
        let opened = match store_key {
            Some(store_key) if store_key::known(&change.tx, key, store)?.is_some_and(|known| known != store_key) => {
                return Err(AddStoreError::OtherKey { store, url: url.to_string(), user: user.clone() });
            }
            Some(_) => None,
            None => Some(channel),
        };
        Ok(seal::mark(change, key, user, store, opened, false)?)
    }
}

/// Says whether the store is mounted on the user's channel.
pub(crate) fn is_mounted(
    tx: &Transaction<'_>,
    user: UserKey,
    channel: &ChannelName,
    store: StoreId,
) -> Result<bool, DatabaseError> {
    let sql = "SELECT 1 FROM mounts WHERE user = ?1 AND channel = ?2 AND store = ?3";
    Ok(tx.prepare_cached(sql)?.exists(params![user.0, channel.as_str(), store.as_bytes()])?)
}

/// Refuses what would be over a limit. `store` is the one to be mounted, once it is known.
fn check_room(
    tx: &Transaction<'_>,
    key: UserKey,
    user: &UserName,
    channel: &ChannelName,
    store: Option<StoreId>,
) -> Result<(), AddStoreError> {
    let stores = stores_of(tx, key, channel)?;
    match store {
        Some(store) if stores.len() >= CHANNEL_STORES_MAX && !stores.contains(&store) => {
            return Err(AddStoreError::TooManyStores { channel: channel.clone() });
        }
        _ => {}
    }
    if let Some(store) = store {
        let others = "SELECT count(DISTINCT store) FROM mounts WHERE user = ?1 AND store <> ?2";
        let others: usize =
            tx.query_row(others, params![key.0, store.as_bytes()], |row| row.get(0)).map_err(DatabaseError::from)?;
        if others >= USER_STORES_MAX {
            return Err(AddStoreError::TooManyUserStores { user: user.clone() });
        }
    }
    let count = "SELECT count(*) FROM channels WHERE user = ?1";
    let channels: usize = tx.query_row(count, [key.0], |row| row.get(0)).map_err(DatabaseError::from)?;
    if stores.is_empty() && channels >= USER_CHANNELS_MAX {
        return Err(AddStoreError::TooManyChannels { user: user.clone() });
    }
    Ok(())
}

/// Mounts the store, or moves it to the url. Returns whether anything changed.
fn put(
    change: &mut Change<'_>,
    user: UserKey,
    channel: &ChannelName,
    store: StoreId,
    url: &StoreUrl,
) -> Result<bool, DatabaseError> {
    let tx = &change.tx;
    let (name, store_id) = (channel.as_str(), store.as_bytes());
    let here = "SELECT url FROM mounts WHERE user = ?1 AND channel = ?2 AND store = ?3";
    let before: Option<String> =
        tx.prepare_cached(here)?.query_row(params![user.0, name, store_id], |row| row.get(0)).optional()?;
    if before.as_deref() == Some(url.as_str()) {
        return Ok(false);
    }
    let epoch = user::next_epoch(tx, user)?;
    match before {
        Some(before) => {
            let sql = "UPDATE mounts SET url = ?4 WHERE user = ?1 AND channel = ?2 AND store = ?3";
            tx.execute(sql, params![user.0, name, store_id, url.as_str()])?;
            revocation::follow(change, user, store, &before, url)?;
        }
        None => {
            touch_channel(tx, user, channel, epoch)?;
            let sql = "INSERT INTO mounts (user, channel, store, url) VALUES (?1, ?2, ?3, ?4)";
            tx.execute(sql, params![user.0, name, store_id, url.as_str()])?;
            revocation::take_back(tx, user, store)?;
        }
    }
    Ok(true)
}

/// Makes the channel, or moves its epoch on.
pub(crate) fn touch_channel(
    tx: &Transaction<'_>,
    user: UserKey,
    channel: &ChannelName,
    epoch: u64,
) -> Result<(), DatabaseError> {
    tx.execute(
        "INSERT INTO channels (user, name, epoch) VALUES (?1, ?2, ?3)
         ON CONFLICT (user, name) DO UPDATE SET epoch = excluded.epoch",
        params![user.0, channel.as_str(), epoch],
    )?;
    Ok(())
}

/// Returns the stores of a channel; none if the user has no such channel.
pub(crate) fn stores_of(
    tx: &Transaction<'_>,
    user: UserKey,
    channel: &ChannelName,
) -> Result<BTreeSet<StoreId>, DatabaseError> {
    let mut query = tx.prepare_cached("SELECT store FROM mounts WHERE user = ?1 AND channel = ?2 ORDER BY store")?;
    let stores = query.query_map(params![user.0, channel.as_str()], |row| row.get(0).map(StoreId::from_bytes))?;
    Ok(stores.collect::<Result<_, _>>()?)
}

/// Returns the stores of a channel with their epoch; nothing if the user has no such channel.
pub(crate) fn set_of(
    tx: &Transaction<'_>,
    user: UserKey,
    channel: &ChannelName,
) -> Result<Option<MountedSet>, DatabaseError> {
    let sql = "SELECT epoch FROM channels WHERE user = ?1 AND name = ?2";
    let mut query = tx.prepare_cached(sql)?;
    let epoch = query.query_row(params![user.0, channel.as_str()], |row| row.get(0)).optional()?;
    let stores = stores_of(tx, user, channel)?;
    Ok(epoch.map(|epoch| MountedSet { epoch, stores }))
}

/// Lists all that the owner has, for the owner; what is shared with a guest, for that.
fn list(
    tx: &Transaction<'_>,
    owner: UserKey,
    by: UserKey,
    only: Option<&ChannelName>,
) -> Result<Vec<Mount>, DatabaseError> {
    let mut query = tx.prepare_cached(
        "SELECT c.name, c.epoch, m.store, m.url, m.sealed, g.permission, g.share
         FROM channels c JOIN mounts m ON m.user = c.user AND m.channel = c.name
         LEFT JOIN guests g ON g.owner = c.user AND g.channel = c.name AND g.guest = ?3
         WHERE c.user = ?1 AND (?2 IS NULL OR c.name = ?2) AND (c.user = ?3 OR g.guest = ?3) ORDER BY c.name, m.store",
    )?;
    let mounts = query.query_map(params![owner.0, only.map(ChannelName::as_str), by.0], |row| {
        let permission = if owner == by { Permission::Write } else { share::permission(row)? };
        Ok(Mount {
            channel: db::name(row, "name")?,
            epoch: row.get("epoch")?,
            store: StoreId::from_bytes(row.get("store")?),
            url: row.get("url")?,
            sealed: row.get("sealed")?,
            permission,
            share: row.get("share")?,
        })
    })?;
    Ok(mounts.collect::<Result<_, _>>()?)
}

/// Different stores of one user. With the sessions' limit it bounds what one new master queues.
const USER_STORES_MAX: usize = 256;
/// `GET /user/:user/table/…` means something else with these.
const RESERVED: [&str; 2] = ["check", "stream"];
