//! Sharing a channel with other users of the table: who may read and write it, and the keys for that.
//!
//! The owner says in the channel's roster what somebody may do there, has the table give the guest tokens for the stores, and
//! grants the keys, sealed to the guest's identity. Whoever is taken off gets no more tokens at once, and nothing that is
//! written from then on is sealed under a key that he has.

use std::time::Duration;

use gigfs_core::api::{Guest, GuestEntry};
use gigfs_core::seal::{Fingerprint, Grant, PublicIdentity, Role, RosterEntry, Sealing};
use gigfs_core::token::Permission;
use gigfs_core::{ChannelName, UserName};
use tokio::time::timeout;

use crate::error::Error;
use crate::gig::Gig;
use crate::keys::UserKeys;
use crate::shared::now;
use crate::table::Table;

/// How long the stores have to take what is said of a member.
const ENROLL_TIMEOUT: Duration = Duration::from_secs(30);

impl Gig {
    /// Shares a channel of the user's own. `fingerprint` is that of the guest's identity as the guest read it out; it is needed
    /// the first time, and kept. Sharing once more changes what the guest may do.
    ///
    /// # Errors
    /// [`Error::NotPinned`] without a fingerprint, [`Error::Identity`] if the table hands out another identity, [`Error::Refused`]
    /// if there is no such user, [`Error::Unsent`] if no store takes the entry in the roster in time.
    pub async fn share(
        &self,
        channel: &ChannelName,
        guest: &UserName,
        role: Role,
        fingerprint: Option<Fingerprint>,
    ) -> Result<(), Error> {
        let (table, keys) = self.own_table_and_keys()?;
        let identity = self.identity_of(guest, fingerprint).await?;
        self.know_channel(channel).await?;
        self.enroll(channel, (guest, identity), Some(role)).await?;
        let grant = keys.grant(channel, (guest, &identity))?;
        table.put_guest(channel, guest, &invitation(role, grant.as_ref())).await
    }

    /// Takes a guest off a channel of the user's own: its tokens end at every store that can be reached, and what is written
    /// from now on is sealed under new keys.
    ///
    /// # Errors
    /// Those of [`share`](Self::share). What was done until then stays done: take the guest off again.
    pub async fn unshare(&self, channel: &ChannelName, guest: &UserName) -> Result<(), Error> {
        let (table, keys) = self.own_table_and_keys()?;
        table.remove_guest(channel, guest).await?;
        self.know_channel(channel).await?;
        let Some(Sealing::Sealed(_)) = keys.channel(channel) else { return Ok(()) };
        let renewed = keys.rotate(table, channel).await?;
        let access = keys.access(renewed);
        self.shared().act(|replica, _| replica.set_access(channel, access));
        let identity = self.identity_of(guest, None).await?;
        self.enroll(channel, (guest, identity), None).await?;
        for GuestEntry { user, permission, admin } in table.guests(channel).await? {
            let identity = self.identity_of(&user, None).await?;
            let grant = keys.grant(channel, (&user, &identity))?;
            let grant = grant.as_ref().map(Grant::to_bytes).unwrap_or_default();
            table.put_guest(channel, &user, &Guest { permission, admin, grant }).await?;
        }
        Ok(())
    }

    /// Returns another user's identity as the table hands it out, if it has the fingerprint that was compared.
    async fn identity_of(&self, user: &UserName, given: Option<Fingerprint>) -> Result<PublicIdentity, Error> {
        let (table, keys) = self.own_table_and_keys()?;
        let identity = table.identity_of(user).await?;
        let not_it = |error| Error::Identity { user: user.clone(), error };
        match given.or(keys.pinned(user)) {
            Some(expected) => identity.check(expected).map_err(not_it)?,
            None => return Err(Error::NotPinned { user: user.clone(), fingerprint: identity.fingerprint() }),
        }
        keys.pin(table, user, identity.fingerprint()).await?;
        Ok(identity)
    }

    /// Says in a sealed channel's roster what a member may do.
    async fn enroll(
        &self,
        channel: &ChannelName,
        (guest, identity): (&UserName, PublicIdentity),
        role: Option<Role>,
    ) -> Result<(), Error> {
        let (_, keys) = self.own_table_and_keys()?;
        let Some(roster) = self.shared().act(|replica, now| replica.open_roster(now, channel)) else { return Ok(()) };
        let opened = self.shared().until(|replica| replica.is_loaded(&roster).then_some(()));
        timeout(ENROLL_TIMEOUT, opened).await.map_err(|_| Error::Unsent { left: 1 })?;
        let membership = keys.membership(channel, (guest.clone(), identity), role, now());
        let entry = RosterEntry::Member(membership.to_bytes());
        self.shared().act(|replica, now| replica.enroll(now, channel, &[entry])).map_err(Error::Push)?;
        self.flush(Some(channel), ENROLL_TIMEOUT).await
    }

    fn own_table_and_keys(&self) -> Result<(&Table, &UserKeys), Error> {
        let parts = self.remote_table().zip(self.user_keys());
        parts.ok_or_else(|| Error::NoKeyring { table: String::new(), user: self.user().clone() })
    }
}

/// Makes what the table is told of a guest.
fn invitation(role: Role, grant: Option<&Grant>) -> Guest {
    let permission = if role == Role::Read { Permission::Read } else { Permission::Write };
    Guest { permission, admin: role == Role::Admin, grant: grant.map(Grant::to_bytes).unwrap_or_default() }
}
