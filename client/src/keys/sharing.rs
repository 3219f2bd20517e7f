//! What a keyring has for sharing: fingerprints of others, grants, new key epochs.

use gigfs_core::api::SharedChannel;
use gigfs_core::seal::{
    AddKeysError, ChannelKeys, Fingerprint, Grant, Invitation, Keyring, Membership, PublicIdentity, Role, Sealing,
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
    /// [`Error::NotPinned`] without a fingerprint, [`Error::Grant`] if the grant is neither the owner's nor an admin's, or not for
    /// this user, [`Error::NotGranted`] if there is none.
    pub async fn accept(
        &self,
        table: &Table,
        shared: &SharedChannel,
        fingerprint: Option<Fingerprint>,
    ) -> Result<PublicIdentity, Error> {
        let SharedChannel { owner, channel, grant, .. } = shared;
        if grant.is_empty() {
            return Err(Error::NotGranted { owner: owner.clone(), channel: channel.clone() });
        }
        let identity = self.identity_of(table, owner, fingerprint).await?;
        self.take_grant(table, (owner, &identity), channel, grant).await?;
        Ok(identity)
    }

    /// Takes over a channel that somebody shares in the clear. The table's word for that is not enough: ask the owner. Returns
    /// the owner's identity.
    ///
    /// # Errors
    /// [`Error::NotPinned`] without a fingerprint, [`Error::MarkPlain`] if the channel's keys are here.
    pub async fn accept_plain(
        &self,
        table: &Table,
        shared: &SharedChannel,
        fingerprint: Option<Fingerprint>,
    ) -> Result<PublicIdentity, Error> {
        let identity = self.identity_of(table, &shared.owner, fingerprint).await?;
        self.mark_plain(table, &shared.owner, &shared.channel).await?;
        Ok(identity)
    }

    /// Returns another user's identity as the table hands it out, if it has the fingerprint that was compared, now or earlier.
    ///
    /// # Errors
    /// [`Error::NotPinned`] if none was, [`Error::Identity`] if the table hands out another one.
    pub async fn identity_of(
        &self,
        table: &Table,
        user: &UserName,
        compared: Option<Fingerprint>,
    ) -> Result<PublicIdentity, Error> {
        let identity = table.identity_of(user).await?;
        let fingerprint = identity.fingerprint();
        let expected =
            compared.or(self.pinned(user)).ok_or_else(|| Error::NotPinned { user: user.clone(), fingerprint })?;
        identity.check(expected).map_err(|error| Error::Identity { user: user.clone(), error })?;
        self.pin(&table.of(&self.user), user, fingerprint).await?;
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

    /// Forgets the fingerprint of another user, who has made a new identity. Returns it.
    ///
    /// # Errors
    /// Those of a change of the keyring.
    pub async fn unpin(&self, table: &Table, user: &UserName) -> Result<Option<Fingerprint>, Error> {
        let unpin = |keyring: &mut Keyring| {
            let forgotten = keyring.unpin(user);
            Ok((forgotten, forgotten.is_some()))
        };
        self.change(table, unpin, |sealed, _| sealed).await
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

    /// Grants the keys of a channel; nothing if the channel is in the clear. `admin` is the owner's word that this user may,
    /// unless it is the owner.
    pub(crate) fn invitation(
        &self,
        channel: &ChannelName,
        (guest, identity): (&UserName, &PublicIdentity),
        admin: Option<Membership>,
    ) -> Result<Option<Invitation>, Error> {
        let opened = self.opened.lock();
        let Some(Sealing::Sealed(keys)) = opened.keyring.channel(self.owner(), channel) else { return Ok(None) };
        let (owner, channel) = (self.owner().clone(), channel.clone());
        let to = (guest.clone(), identity);
        let grant = Grant::seal(opened.keyring.identity(), owner, channel, to, keys, secret()?)?;
        Ok(Some(Invitation::new(grant, admin)))
    }

    /// Tells whether the channels are the user's own.
    pub(crate) fn is_owner(&self) -> bool {
        self.owner.is_none()
    }

    /// Says what a member may do in a channel.
    pub(crate) fn membership(
        &self,
        channel: &ChannelName,
        member: (UserName, PublicIdentity),
        role: Option<Role>,
        since: Date,
    ) -> Membership {
        let opened = self.opened.lock();
        opened.keyring.identity().grant_membership((self.owner(), channel), member, role, since)
    }

    /// Takes over what a grant has of a channel's keys. `identity` is the owner's, by the pinned fingerprint.
    pub(crate) async fn take_grant(
        &self,
        table: &Table,
        (owner, identity): (&UserName, &PublicIdentity),
        channel: &ChannelName,
        grant: &[u8],
    ) -> Result<(), Error> {
        let invitation = Invitation::from_bytes(grant)?;
        let take = |keyring: &mut Keyring| {
            let keys = invitation.open((&self.user, keyring.identity()), (owner, identity), channel)?;
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
