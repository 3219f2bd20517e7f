//! Seals: whether a store takes writes for a channel, by its table's word.
//!
//! The store is asked first and the mount table written after. A crash in between leaves a sealed store that the table
//! shows as open, or the reverse; asking again repairs it. So does the next call after two that ask at once for
//! opposite things.

use gigfs_core::{ChannelName, StoreId, UserName};
use gigfs_serve::Event;
use rusqlite::{OptionalExtension as _, Transaction, params};

use crate::db::{Change, DatabaseError};
use crate::mount::{self, MountError};
use crate::session::Access;
use crate::share;
use crate::store::{StoreCallError, StoreUrl};
use crate::table::Table;
use crate::user::{self, UserKey};

/// Why a store was not sealed or opened. Nothing is changed then.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SealError {
    #[error(transparent)]
    Mount(#[from] MountError),
    #[error(transparent)]
    Store(#[from] StoreCallError),
}

impl Table {
    /// Has a store take no more writes for a channel, or take them again, and returns the mount table's epoch. That of
    /// the channel stays, because its set of stores does.
    pub(crate) async fn seal(
        &self,
        access: &Access,
        channel: &ChannelName,
        store: StoreId,
        sealed: bool,
    ) -> Result<u64, SealError> {
        let Access { user, key, .. } = access.clone();
        let (asker, place) = (user.clone(), channel.clone());
        let url = self.inner.db.read(move |tx| url_of(tx, key, &asker, &place, store)).await?;
        let url =
            StoreUrl::parse(&url).map_err(|error| StoreCallError::Unreachable { url, reason: error.to_string() })?;
        let token = self.inner.identity.seal_token(store, &user, channel, sealed);
        self.inner.stores.seal(&url, &user, channel, &token).await?;
        self.inner.audit.note(Event::ChannelSealed { user: &user, channel, store, sealed });
        let channel = channel.clone();
        let work = move |change: &mut Change<'_>| {
            // It may have been taken off meanwhile.
            url_of(&change.tx, key, &user, &channel, store)?;
            mark(change, key, &user, store, Some(&channel), sealed)?;
            Ok::<_, MountError>(user::epoch(&change.tx, key)?)
        };
        Ok(self.inner.db.write(work).await?)
    }
}

/// Writes down that the store is sealed or open, for one of the user's channels or for all.
pub(crate) fn mark(
    change: &mut Change<'_>,
    user: UserKey,
    name: &UserName,
    store: StoreId,
    channel: Option<&ChannelName>,
    sealed: bool,
) -> Result<(), DatabaseError> {
    let sql = "UPDATE mounts SET sealed = ?4
               WHERE user = ?1 AND store = ?2 AND (?3 IS NULL OR channel = ?3) AND sealed <> ?4";
    let channel = channel.map(ChannelName::as_str);
    if change.tx.execute(sql, params![user.0, store.as_bytes(), channel, sealed])? > 0 {
        user::next_epoch(&change.tx, user)?;
        share::tell(change, user, name)?;
    }
    Ok(())
}

/// Says whether the store has agreed to take no more writes for the channel.
pub(crate) fn is_sealed(
    tx: &Transaction<'_>,
    user: UserKey,
    channel: &ChannelName,
    store: StoreId,
) -> Result<bool, DatabaseError> {
    let sql = "SELECT 1 FROM mounts WHERE user = ?1 AND channel = ?2 AND store = ?3 AND sealed = 1";
    Ok(tx.prepare_cached(sql)?.exists(params![user.0, channel.as_str(), store.as_bytes()])?)
}

fn url_of(
    tx: &Transaction<'_>,
    key: UserKey,
    user: &UserName,
    channel: &ChannelName,
    store: StoreId,
) -> Result<String, MountError> {
    let sql = "SELECT url FROM mounts WHERE user = ?1 AND channel = ?2 AND store = ?3";
    let url = tx
        .query_row(sql, params![key.0, channel.as_str(), store.as_bytes()], |row| row.get(0))
        .optional()
        .map_err(DatabaseError::from)?;
    match url {
        Some(url) => Ok(url),
        None if mount::stores_of(tx, key, channel)?.is_empty() => {
            Err(MountError::UnknownChannel { user: user.clone(), channel: channel.clone() })
        }
        None => Err(MountError::UnknownStore { channel: channel.clone(), store }),
    }
}
