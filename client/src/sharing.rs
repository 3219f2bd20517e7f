//! Sharing a channel with other users of the table: who may read and write it, and the keys for that.
//!
//! The owner, or an admin, says in the channel's roster what somebody may do there, has the table give the guest tokens for the
//! stores, and grants the keys, sealed to the guest's identity. Whoever is taken off gets no more tokens at once, and nothing
//! that is written once the owner has begun new keys is sealed under one that he has.

use std::time::Duration;

use gigfs_core::api::{Guest, GuestEntry};
use gigfs_core::seal::{
    Fingerprint, Invitation, MemberStanding, Membership, PublicIdentity, Role, RosterEntry, Sealing,
};
use gigfs_core::sync::{Replica, Standing};
use gigfs_core::token::Permission;
use gigfs_core::{ChannelName, Date, ErrorCode, UserName};
use tokio::time::timeout;

use crate::error::Error;
use crate::gig::Gig;
use crate::keys::{SealMode, UserKeys};
use crate::receipt::Pushed;
use crate::shared::now;
use crate::table::Table;

/// How long the stores have to take what is said of a member.
const ENROLL_TIMEOUT: Duration = Duration::from_secs(10);

/// What became of a channel's keys when a guest was taken off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyRenewal {
    /// New ones are used from now on, which the guest does not get.
    Begun,
    /// The owner is to begin new ones: with [`Gig::unshare`] of the same guest.
    LeftToOwner,
    /// The guest had none: the channel is in the clear.
    NoKeys,
}

impl Gig {
    /// Shares a channel of the user's own, or one in which the user is an admin. `fingerprint` is that of the guest's identity as the guest read it out; it is needed
    /// the first time, and kept. Sharing once more changes what the guest may do.
    ///
    /// # Errors
    /// [`Error::NotPinned`] without a fingerprint, [`Error::Identity`] if the table hands out another identity, [`Error::NotAdmin`] and
    /// [`Error::OnlyOwner`] if this user may not, [`Error::Refused`] if there is no such user, [`Error::NotEnrolled`] if no store takes
    /// the entry in the roster in time.
    pub async fn share(
        &self,
        channel: &ChannelName,
        guest: &UserName,
        role: Role,
        fingerprint: Option<Fingerprint>,
    ) -> Result<(), Error> {
        let (table, keys) = self.table_and_keys(channel)?;
        let identity = keys.identity_of(table, guest, fingerprint).await?;
        self.read_roster(channel).await?;
        self.may_share(channel, role)?;
        self.enroll(channel, (guest, identity, Some(role))).await?;
        let permission = if role == Role::Read { Permission::Read } else { Permission::Write };
        let entry = GuestEntry { user: guest.clone(), permission, admin: role == Role::Admin };
        self.invite(channel, entry, &identity).await
    }

    /// Takes a guest off a channel: its tokens end at every store that can be reached, and what is written from now on is
    /// sealed under new keys, if this is the owner. An admin leaves that to the owner.
    ///
    /// # Errors
    /// Those of [`share`](Self::share). What was done until then stays done: take the guest off again.
    pub async fn unshare(&self, channel: &ChannelName, guest: &UserName) -> Result<KeyRenewal, Error> {
        let (table, keys) = self.table_and_keys(channel)?;
        let unknown = match table.remove_guest(channel, guest).await {
            Ok(()) => None,
            Err(Error::Refused { server, refusal }) if refusal.code == ErrorCode::NotFound => {
                Some(Error::Refused { server, refusal })
            }
            Err(error) => return Err(error),
        };
        self.read_roster(channel).await?;
        // An admin may have taken it off, or this was begun before and not ended: the keys are renewed then all the same.
        let member = self.member(channel, guest, |member| member.role.is_some() || member.by_admin);
        let identity = match (member, unknown) {
            (Some(identity), _) => identity,
            (None, Some(unknown)) => return Err(unknown),
            (None, None) if self.is_roster_read(channel) => return Ok(KeyRenewal::NoKeys),
            (None, None) => {
                let why = "none could be asked who its members are, so no new keys were begun".to_owned();
                return Err(Error::NotEnrolled { channel: channel.clone(), why });
            }
        };
        if !keys.is_owner() {
            self.enroll(channel, (guest, identity, None)).await?;
            return Ok(KeyRenewal::LeftToOwner);
        }
        let renewed = keys.rotate(table, channel).await?;
        self.shared().seal_with(keys, channel, renewed);
        for entry in table.guests(channel).await?.into_iter().filter(|entry| entry.user != *guest) {
            // Whoever is in no roster was let in by the table alone, and gets nothing.
            if let Some(identity) = self.member(channel, &entry.user, |member| member.role.is_some()) {
                self.invite(channel, entry, &identity).await?;
            }
        }
        // Last: as long as this is not said, taking the guest off once more makes good what was left undone.
        self.enroll(channel, (guest, identity, None)).await?;
        Ok(KeyRenewal::Begun)
    }

    /// Tells who was taken off channels of the user's own by an admin, for whom no new keys were begun since:
    /// [`unshare`](Self::unshare) of the same guest does that. Looks at the rosters that can be read until `deadline`.
    pub async fn to_renew(&self, deadline: Duration) -> Vec<(ChannelName, UserName)> {
        if !self.user_keys().is_some_and(UserKeys::is_owner) {
            return Vec::new();
        }
        let sealed = self.sealings().into_iter().filter(|(_, mode)| *mode == Some(SealMode::Sealed));
        let sealed: Vec<ChannelName> = sealed.map(|(channel, _)| channel).collect();
        let read = async {
            for channel in &sealed {
                // What a store that does not answer has is looked at the next time.
                _ = self.read_roster(channel).await;
            }
        };
        _ = timeout(deadline, read).await;
        let off = |channel: &ChannelName| -> Vec<(ChannelName, UserName)> {
            self.with_members(channel, |members| {
                let off = members.filter(|member| member.role.is_none() && member.by_admin);
                off.map(|member| (channel.clone(), member.user.clone())).collect()
            })
        };
        sealed.iter().flat_map(off).collect()
    }

    /// Returns the identity of a user of whom the roster says so, the one of which it said something last if there are more.
    fn member(
        &self,
        channel: &ChannelName,
        user: &UserName,
        counts: impl Fn(&MemberStanding<'_>) -> bool,
    ) -> Option<PublicIdentity> {
        self.with_members(channel, |members| {
            let counting = members.filter(|member| member.user == user && counts(member));
            counting.max_by_key(|member| member.since).map(|member| *member.identity)
        })
    }

    /// Looks at the members of a channel, as far as its roster was read.
    fn with_members<T>(
        &self,
        channel: &ChannelName,
        look: impl FnOnce(&mut dyn Iterator<Item = MemberStanding<'_>>) -> T,
    ) -> T {
        self.shared().look(|replica| {
            let roster = replica.roster(channel).cloned();
            look(&mut roster.iter().flat_map(|roster| roster.members()))
        })
    }

    /// Refuses what only the owner or an admin may do, before anything of it is done.
    fn may_share(&self, channel: &ChannelName, role: Role) -> Result<(), Error> {
        let (_, keys) = self.table_and_keys(channel)?;
        let owner = || self.user().clone();
        let is_sealed = matches!(keys.channel(channel), Some(Sealing::Sealed(_)));
        match keys.is_owner() {
            true => Ok(()),
            false if role == Role::Admin => Err(Error::OnlyOwner { owner: owner(), channel: channel.clone() }),
            false if is_sealed && self.admin_word(channel).is_none() => {
                Err(Error::NotAdmin { owner: owner(), channel: channel.clone(), user: keys.user().clone() })
            }
            false => Ok(()),
        }
    }

    /// Returns what the owner says of this user, if that is that it is an admin.
    fn admin_word(&self, channel: &ChannelName) -> Option<Membership> {
        let own = self.user_keys()?.identity();
        self.shared().look(|replica| replica.roster(channel)?.admin_word(&own).cloned())
    }

    /// Tells the table what a guest may do, and grants it the newest keys.
    async fn invite(&self, channel: &ChannelName, guest: GuestEntry, identity: &PublicIdentity) -> Result<(), Error> {
        let (table, keys) = self.table_and_keys(channel)?;
        let GuestEntry { user, permission, admin } = guest;
        let body = || -> Result<Guest, Error> {
            let word = self.admin_word(channel).filter(|_| !keys.is_owner());
            let grant = keys.invitation(channel, (&user, identity), word)?;
            Ok(Guest { permission, admin, grant: grant.as_ref().map(Invitation::to_bytes).unwrap_or_default() })
        };
        match table.put_guest(channel, &user, &body()?).await {
            Err(Error::Refused { refusal, .. }) if refusal.code == ErrorCode::Conflict => {
                // Another device has begun newer keys meanwhile.
                keys.refresh(table).await?;
                table.put_guest(channel, &user, &body()?).await
            }
            done => done,
        }
    }

    /// Makes sure of a channel, and reads its roster from the stores that can be reached, if it is sealed.
    async fn read_roster(&self, channel: &ChannelName) -> Result<(), Error> {
        self.know_channel(channel).await?;
        self.mounts_known().await;
        let Some(roster) = self.shared().act(|replica, now| replica.open_roster(now, channel)) else { return Ok(()) };
        let read = |replica: &mut Replica| replica.is_loaded(&roster) && replica.read_standing(&roster).trying == 0;
        let read = self.shared().until(|replica| read(replica).then_some(()));
        let why = || "none answered in time".to_owned();
        timeout(ENROLL_TIMEOUT, read).await.map_err(|_| Error::NotEnrolled { channel: channel.clone(), why: why() })
    }

    /// Tells whether a store has told all that it has of a channel's roster, if the channel is sealed.
    fn is_roster_read(&self, channel: &ChannelName) -> bool {
        self.shared().act(|replica, now| match replica.open_roster(now, channel) {
            Some(roster) => replica.read_standing(&roster).current > 0,
            None => true,
        })
    }

    /// Says in a sealed channel's roster what a member may do.
    async fn enroll(
        &self,
        channel: &ChannelName,
        (guest, identity, role): (&UserName, PublicIdentity, Option<Role>),
    ) -> Result<(), Error> {
        let (_, keys) = self.table_and_keys(channel)?;
        if !self.shared().look(|replica| replica.is_sealed(channel)) {
            return Ok(());
        }
        let (said, mut entries) = self.with_members(channel, |members| {
            let (mut said, mut adopted) = (None, Vec::new());
            for MemberStanding { user, identity: of, role, since, by_admin } in members {
                if *of == identity {
                    said = Some(since);
                } else if by_admin && role.is_some() && keys.is_owner() {
                    adopted.push(keys.membership(channel, (user.clone(), *of), role, Date::after(now(), Some(since))));
                }
            }
            (said, adopted)
        });
        // Clocks differ: what is said last shall count.
        entries.push(keys.membership(channel, (guest.clone(), identity), role, Date::after(now(), said)));
        let entries: Vec<RosterEntry> = entries.iter().map(|word| RosterEntry::Member(word.to_bytes())).collect();
        let mut enrolled = Pushed::new(self.shared().enroll(channel, &entries).map_err(Error::Push)?);
        let receipt = timeout(ENROLL_TIMEOUT, enrolled.accepted(1)).await;
        if receipt.as_ref().is_ok_and(|receipt| receipt.accepted() > 0) {
            return Ok(());
        }
        let refused = receipt.ok().and_then(|receipt| {
            receipt.stores.into_values().find_map(|standing| match standing {
                Standing::Refused(refusal) => Some(refusal.message),
                _ => None,
            })
        });
        let why = refused.unwrap_or_else(|| "none can be reached".to_owned());
        Err(Error::NotEnrolled { channel: channel.clone(), why })
    }

    fn table_and_keys(&self, channel: &ChannelName) -> Result<(&Table, &UserKeys), Error> {
        let parts = self.remote_table().zip(self.user_keys());
        parts.ok_or_else(|| Error::NoUserKeys { user: self.user().clone(), channel: channel.clone() })
    }
}
