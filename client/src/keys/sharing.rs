//! What a keyring has for sharing: fingerprints of others, grants, new key epochs.

use gigfs_core::api::SharedChannel;
use gigfs_core::seal::{
    AddKeysError, ChannelKeys, Fingerprint, Grant, GrantError, Keyring, Membership, PublicIdentity, Role, Scope,
    Sealing,
};
use gigfs_core::{ChannelName, Date, UserName};

use super::{UserKeys, secret};
use crate::error::Error;
use crate::table::Table;

impl UserKeys {
    /// Publishes the user's identity at the table, for others to share with.
    ///
    /// # Errors
    /// [`Error::Refused`] if the session ended.
    pub async fn publish(&self, table: &Table) -> Result<(), Error> {
        table.put_identity(&self.identity()).await
    }

    /// Takes over the keys of a channel that somebody shares with this user. `fingerprint` is the owner's, as the owner read
    /// it out; it is needed the first time, and kept. Returns the owner's identity.
    ///
    /// # Errors
    /// [`Error::NotPinned`] without a fingerprint, [`Error::Grant`] if the grant is not the owner's or not for this user.
    pub async fn accept(
        &self,
        table: &Table,
        shared: &SharedChannel,
        fingerprint: Option<Fingerprint>,
    ) -> Result<PublicIdentity, Error> {
        let SharedChannel { owner, channel, grant, .. } = shared;
        let identity = table.identity_of(owner).await?;
        let not_it = |error| Error::Identity { user: owner.clone(), error };
        match fingerprint.or(self.pinned(owner)) {
            Some(expected) => identity.check(expected).map_err(not_it)?,
            None => return Err(Error::NotPinned { user: owner.clone(), fingerprint: identity.fingerprint() }),
        }
        self.pin(table, owner, identity.fingerprint()).await?;
        if grant.is_empty() {
            self.mark_plain(table, owner, channel).await?;
        } else {
            self.take_grant(table, (owner, channel), grant).await?;
        }
        Ok(identity)
    }

    /// Begins a new key epoch of a channel of the user's own. Returns all of its keys.
    ///
    /// # Errors
    /// [`Error::NoKeys`] if the channel is not sealed; those of a change of the keyring.
    pub async fn rotate(&self, table: &Table, channel: &ChannelName) -> Result<ChannelKeys, Error> {
        let fresh = secret()?;
        let begin = |keyring: &mut Keyring| {
            let none = || Error::NoKeys { user: self.user.clone(), channel: channel.clone() };
            let known = keyring.channel(&self.user, channel).and_then(Sealing::keys);
            let mut keys = known.cloned().ok_or_else(none)?;
            keys.rotate(fresh.clone()).map_err(AddKeysError::from)?;
            keyring.add_keys(self.user.clone(), channel.clone(), keys.clone())?;
            Ok((keys, true))
        };
        self.change(table, begin, |sealed, _| sealed).await
    }

    /// Pins the fingerprint of another user, after two people compared it.
    ///
    /// # Errors
    /// [`Error::Pin`] if another one is pinned; those of a change of the keyring.
    pub async fn pin(&self, table: &Table, user: &UserName, found: Fingerprint) -> Result<(), Error> {
        let pin = |keyring: &mut Keyring| match keyring.pinned(user) == Some(found) {
            true => Ok(((), false)),
            false => Ok((keyring.pin(user.clone(), found)?, true)),
        };
        self.change(table, pin, |sealed, _| sealed).await
    }

    /// Returns the fingerprint that is pinned for another user.
    pub fn pinned(&self, user: &UserName) -> Option<Fingerprint> {
        self.opened.lock().keyring.pinned(user)
    }

    /// Tells whether the keyring knows a channel that somebody shares with this user.
    pub fn knows(&self, owner: &UserName, channel: &ChannelName) -> bool {
        self.opened.lock().keyring.channel(owner, channel).is_some()
    }

    /// Returns the user's identity, as others know it.
    pub fn identity(&self) -> PublicIdentity {
        *self.opened.lock().keyring.identity().public()
    }

    /// Grants the keys of a channel of the user's own; nothing if the channel is in the clear.
    pub(crate) fn grant(
        &self,
        channel: &ChannelName,
        (guest, identity): (&UserName, &PublicIdentity),
    ) -> Result<Option<Grant>, Error> {
        let opened = self.opened.lock();
        let Some(Sealing::Sealed(keys)) = opened.keyring.channel(&self.user, channel) else { return Ok(None) };
        let (owner, channel) = (self.user.clone(), channel.clone());
        let to = (guest.clone(), identity);
        Ok(Some(Grant::seal(opened.keyring.identity(), owner, channel, to, keys, secret()?)?))
    }

    /// Says what a member may do in a channel of the user's own.
    pub(crate) fn membership(
        &self,
        channel: &ChannelName,
        member: (UserName, PublicIdentity),
        role: Option<Role>,
        since: Date,
    ) -> Membership {
        let opened = self.opened.lock();
        opened.keyring.identity().grant_membership((&self.user, channel), member, role, since)
    }

    /// Takes over what a grant has of a channel's keys, if its owner's fingerprint is pinned.
    pub(crate) async fn take_grant(
        &self,
        table: &Table,
        (owner, channel): (&UserName, &ChannelName),
        grant: &[u8],
    ) -> Result<(), Error> {
        let grant = Grant::from_bytes(grant)?;
        let take = |keyring: &mut Keyring| {
            let fingerprint = grant.granter().fingerprint();
            let pinned = keyring.pinned(owner).ok_or_else(|| Error::NotPinned { user: owner.clone(), fingerprint })?;
            let keys = grant.open(&self.user, keyring.identity(), pinned)?;
            let Scope { owner: of, channel: what, .. } = grant.scope();
            if (of, what) != (owner, channel) {
                return Err(GrantError::Forged { owner: owner.clone(), channel: channel.clone() }.into());
            }
            let known = keyring.channel(owner, channel).and_then(Sealing::keys).map(ChannelKeys::newest);
            keyring.add_keys(owner.clone(), channel.clone(), keys.clone())?;
            Ok(((), known < Some(keys.newest())))
        };
        self.change(table, take, |sealed, _| sealed).await
    }

    /// Notes that a channel which somebody shares is in the clear.
    pub(crate) async fn mark_plain(&self, table: &Table, owner: &UserName, channel: &ChannelName) -> Result<(), Error> {
        let mark = |keyring: &mut Keyring| match keyring.channel(owner, channel) {
            Some(Sealing::Plain) => Ok(((), false)),
            _ => Ok((keyring.mark_plain(owner.clone(), channel.clone())?, true)),
        };
        self.change(table, mark, |sealed, _| sealed).await
    }
}
