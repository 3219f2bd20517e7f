//! Unmounting: a store leaves a channel once it takes no more writes, or is given up; a channel goes with its last store.
//!
//! What the table knows of a channel goes with the channel: its register too, because the data went with its stores.

use gigfs_core::{ChannelName, StoreId};
use gigfs_serve::Event;
use rusqlite::{Transaction, params};

use crate::db::{Change, DatabaseError};
use crate::mount::{self, MountError};
use crate::session::Access;
use crate::table::Table;
use crate::user::{self, UserKey};
use crate::{clock, revocation, seal, share, store_key};

/// Why a store or a channel was not taken off the mount table.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnmountError {
    #[error("the store {store} still takes writes for the channel {channel}, which others of its stores would miss")]
    NotSealed { channel: ChannelName, store: StoreId },
    #[error(transparent)]
    Mount(#[from] MountError),
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

impl Table {
    /// Takes a store off a channel, and returns the new epoch. While the channel has other stores, this one must be
    /// sealed, unless it is abandoned: what only it holds is lost then.
    pub(crate) async fn remove_store(
        &self,
        access: &Access,
        channel: &ChannelName,
        store: StoreId,
        abandon: bool,
    ) -> Result<u64, UnmountError> {
        let (off, by) = (channel, access.session.id);
        let Access { user, key, .. } = access.clone();
        let channel = channel.clone();
        let token_seconds_max = self.inner.identity.token_seconds_max;
        let epoch = self
            .inner
            .db
            .write(move |change| {
                let stores = mount::stores_of(&change.tx, key, &channel)?;
                if stores.is_empty() {
                    return Err(MountError::UnknownChannel { user, channel }.into());
                }
                if !stores.contains(&store) {
                    return Err(MountError::UnknownStore { channel, store }.into());
                }
                if stores.len() > 1 && !abandon && !seal::is_sealed(&change.tx, key, &channel, store)? {
                    return Err(UnmountError::NotSealed { channel, store });
                }
                let epoch = user::next_epoch(&change.tx, key)?;
                if stores.len() == 1 {
                    share::close(change, key, &channel, epoch, token_seconds_max)?;
                }
                take_off(change, key, &channel, store, token_seconds_max)?;
                share::tell(change, key, &user)?;
                match stores.len() {
                    1 => drop_channel(&change.tx, key, &channel)?,
                    _ => mount::touch_channel(&change.tx, key, &channel, epoch)?,
                }
                Ok::<_, UnmountError>(epoch)
            })
            .await?;
        let user = &access.user;
        self.inner.audit.note(Event::StoreUnmounted { user, channel: off, store, abandoned: abandon, by });
        Ok(epoch)
    }

    /// Takes a channel with all its stores off the mount table, and returns the new epoch.
    pub(crate) async fn remove_channel(&self, access: &Access, channel: &ChannelName) -> Result<u64, UnmountError> {
        let (off, by) = (channel, access.session.id);
        let Access { user, key, .. } = access.clone();
        let channel = channel.clone();
        let token_seconds_max = self.inner.identity.token_seconds_max;
        let epoch = self
            .inner
            .db
            .write(move |change| {
                let stores = mount::stores_of(&change.tx, key, &channel)?;
                if stores.is_empty() {
                    return Err(MountError::UnknownChannel { user, channel }.into());
                }
                let epoch = user::next_epoch(&change.tx, key)?;
                share::close(change, key, &channel, epoch, token_seconds_max)?;
                for store in stores {
                    take_off(change, key, &channel, store, token_seconds_max)?;
                }
                drop_channel(&change.tx, key, &channel)?;
                share::tell(change, key, &user)?;
                Ok::<_, UnmountError>(epoch)
            })
            .await?;
        self.inner.audit.note(Event::ChannelRemoved { user: &access.user, channel: off, by });
        Ok(epoch)
    }
}

/// Unmounts the store. If that was its last channel of this user, it is told to forget the user's sessions; otherwise
/// it still serves them, and learns at its next question that they have no standing in this channel.
fn take_off(
    change: &mut Change<'_>,
    user: UserKey,
    channel: &ChannelName,
    store: StoreId,
    token_seconds_max: u64,
) -> Result<(), DatabaseError> {
    let elsewhere = "SELECT 1 FROM mounts WHERE user = ?1 AND store = ?2 AND channel <> ?3";
    if !change.tx.prepare_cached(elsewhere)?.exists(params![user.0, store.as_bytes(), channel.as_str()])? {
        let now = clock::now();
        revocation::enqueue(change, user, revocation::Scope::Store(store), now + token_seconds_max, now)?;
        store_key::forget(&change.tx, user, store)?;
    }
    let sql = "DELETE FROM mounts WHERE user = ?1 AND channel = ?2 AND store = ?3";
    change.tx.execute(sql, params![user.0, channel.as_str(), store.as_bytes()])?;
    Ok(())
}

/// Drops the channel with what hangs on it.
fn drop_channel(tx: &Transaction<'_>, user: UserKey, channel: &ChannelName) -> Result<(), DatabaseError> {
    tx.execute("DELETE FROM channels WHERE user = ?1 AND name = ?2", params![user.0, channel.as_str()])?;
    Ok(())
}
