//! Which channels are sealed, and giving the sync machine their keys in time.

use std::sync::Arc;
use std::time::Duration;

use gigfs_core::ChannelName;
use gigfs_core::seal::Sealing;
use gigfs_core::sync::Mode;
use tokio::sync::watch;

use crate::error::Error;
use crate::gig::Gig;
use crate::keys::SealMode;
use crate::keys::UserKeys;
use crate::shared::Shared;
use crate::table::Table;

impl Gig {
    /// Makes sure that there is a channel, and that it is known whether it is sealed: before that no log of it may be named,
    /// read or written.
    ///
    /// # Errors
    /// [`Error::UnknownChannel`]; [`Error::NoUserKeys`] if the client was given none; [`Error::NoKeys`] if the user's keyring does not say how the channel is sealed; those of
    /// [`UserKeys::refresh`](crate::UserKeys::refresh).
    pub(crate) async fn know_channel(&self, channel: &ChannelName) -> Result<(), Error> {
        if self.check_channel(channel).is_err() {
            // What was kept of the mount table may be old.
            self.mounts_heard().await;
            self.check_channel(channel)?;
        }
        if self.is_local(channel) || self.shared().look(|replica| replica.is_sealed(channel)) {
            return Ok(());
        }
        let Some(user_keys) = self.user_keys() else {
            let none = || Error::NoUserKeys { user: self.user().clone(), channel: channel.clone() };
            return self.is_in_the_clear().then_some(()).ok_or_else(none);
        };
        if user_keys.channel(channel).is_none()
            && self.mode() != Mode::Offline
            && let Some(table) = self.remote_table()
        {
            // Another device may have made it.
            user_keys.refresh(table).await?;
        }
        match user_keys.channel(channel) {
            Some(Sealing::Sealed(keys)) => {
                self.shared().seal_with(user_keys, channel, keys);
                Ok(())
            }
            Some(Sealing::Plain) => Ok(()),
            None if user_keys.is_owner() => Err(Error::NoKeys { user: self.user().clone(), channel: channel.clone() }),
            None => Err(Error::NotAccepted { owner: self.user().clone(), channel: channel.clone() }),
        }
    }

    /// Tells of each channel that is mounted how it is sealed, if that is known here.
    pub(crate) fn sealings(&self) -> Vec<(ChannelName, Option<SealMode>)> {
        let of_keyring = |channel: &ChannelName| match self.user_keys().and_then(|keys| keys.channel(channel)) {
            Some(Sealing::Sealed(_)) => Some(SealMode::Sealed),
            Some(Sealing::Plain) => Some(SealMode::Plain),
            None => None,
        };
        let mounted: Vec<(ChannelName, bool)> = self.shared().look(|replica| {
            replica.mounts().map(|(channel, _)| (channel.clone(), replica.is_sealed(channel))).collect()
        });
        let sealing = |(channel, has_keys): (ChannelName, bool)| {
            let mode = match (has_keys, self.user_keys()) {
                (true, _) => Some(SealMode::Sealed),
                (false, Some(_)) => of_keyring(&channel),
                // Without a keyring a channel without keys is in the clear.
                (false, None) => Some(SealMode::Plain),
            };
            (channel, mode)
        };
        mounted.into_iter().map(sealing).collect()
    }

    /// Reads newer keys, if something that was read is sealed under them.
    pub(crate) async fn renew_keys(&self) {
        if let Some((table, keys)) = self.remote_table().zip(self.user_keys())
            && self.mode() != Mode::Offline
        {
            // What is still closed is shown as such.
            renew_keys(self.shared(), table, keys).await;
        }
    }
}

/// How long to wait when newer keys are asked for that are not there yet: at first, and at most. Somebody may have made up what
/// is sealed under them.
const KEYS_RETRY: Duration = Duration::from_secs(10);
const KEYS_RETRY_MAX: Duration = Duration::from_secs(600);

/// Has the newest keys read whenever something is met that was sealed under them, unless the client is offline.
pub(crate) async fn follow_keys(shared: Arc<Shared>, table: Table, keys: UserKeys, mut mode: watch::Receiver<Mode>) {
    let mut wait = KEYS_RETRY;
    // It ends with the client.
    while mode.wait_for(|mode| *mode != Mode::Offline).await.is_ok() {
        shared.until(|replica| replica.lacking_keys().next().map(drop)).await;
        if *mode.borrow() == Mode::Offline {
            continue;
        }
        if renew_keys(&shared, &table, &keys).await {
            wait = KEYS_RETRY;
        } else {
            tokio::time::sleep(wait).await;
            wait = KEYS_RETRY_MAX.min(wait * 2);
        }
    }
}

/// Reads the newest keys, if something was sealed under them. Returns whether nothing is lacking then.
pub(crate) async fn renew_keys(shared: &Shared, table: &Table, keys: &UserKeys) -> bool {
    let lacking: Vec<ChannelName> = shared.look(|replica| replica.lacking_keys().cloned().collect());
    if lacking.is_empty() {
        return true;
    }
    if let Err(error) = keys.refresh(table).await {
        tracing::warn!("newer keys cannot be read: {error}");
        return false;
    }
    for channel in &lacking {
        if let Some(Sealing::Sealed(newest)) = keys.channel(channel) {
            shared.seal_with(keys, channel, newest);
        }
    }
    shared.look(|replica| replica.lacking_keys().next().is_none())
}
