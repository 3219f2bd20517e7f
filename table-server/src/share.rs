//! Sharing: which other users are let into a channel, what they may do there, and the channel's keys for each of them.
//!
//! A guest's tokens carry the owner's epoch in which what it may do began. What is taken away from a guest ends the
//! tokens of earlier epochs at every store of the channel, so what is shared again later is not touched by that.

use gigfs_core::api::{Guest, GuestEntry, Guests, Shared, SharedChannel};
use gigfs_core::limits::{CHANNEL_GUESTS_MAX, USER_SHARED_MAX};
use gigfs_core::seal::{GrantError, Invitation};
use gigfs_core::token::Permission;
use gigfs_core::{ChannelName, UserName};
use gigfs_serve::Event;
use rusqlite::{OptionalExtension as _, Row, Transaction, params};

use crate::db::{self, Change, DatabaseError};
use crate::mount::{self, MountError};
use crate::session::Access;
use crate::table::Table;
use crate::user::{self, UserKey};
use crate::visit::{Visit, VisitError};
use crate::{clock, revocation};

/// Why a channel is not shared so, or not taken back.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ShareError {
    #[error("this table has no user {user}")]
    UnknownUser { user: UserName },
    #[error("the channel {channel} is {user}'s own, and cannot be shared with its owner")]
    Oneself { user: UserName, channel: ChannelName },
    #[error("whoever lets others into a channel may write in it")]
    ReadingAdmin,
    #[error(transparent)]
    Grant(#[from] GrantError),
    #[error("the grant is not one of {owner}'s channel {channel} for {guest}")]
    OtherGrant { owner: UserName, channel: ChannelName, guest: UserName },
    #[error("the channel {channel} has newer keys than those that are granted to {guest}")]
    OlderGrant { channel: ChannelName, guest: UserName },
    #[error("the user {user} may not let others into {owner}'s channel {channel}")]
    NotAdmin { owner: UserName, channel: ChannelName, user: UserName },
    #[error("only {owner} makes admins of the channel {channel}, and takes that back")]
    OnlyOwner { owner: UserName, channel: ChannelName },
    #[error("the channel {channel} is not shared with {guest}")]
    UnknownGuest { channel: ChannelName, guest: UserName },
    #[error("the channel {channel} has {CHANNEL_GUESTS_MAX} guests, which is the limit")]
    TooManyGuests { channel: ChannelName },
    #[error("{USER_SHARED_MAX} channels are shared with {guest}, which is the limit")]
    TooManyShared { guest: UserName },
    #[error(transparent)]
    Visit(#[from] VisitError),
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

/// What a guest may do in a channel.
pub(crate) struct Place {
    pub(crate) permission: Permission,
    pub(crate) admin: bool,
    /// The owner's epoch in which it began.
    pub(crate) share: u64,
}

impl Table {
    /// Lets a user into a channel, or replaces what a guest may do and the keys that it was given. Returns the epoch.
    pub(crate) async fn put_guest(
        &self,
        visit: &Visit,
        channel: &ChannelName,
        guest: &UserName,
        new: Guest,
    ) -> Result<u64, ShareError> {
        check(visit, channel, guest, &new)?;
        let (permission, admin) = (new.permission, new.admin);
        let (seen, place, name) = (visit.clone(), channel.clone(), guest.clone());
        let token_seconds_max = self.inner.identity.token_seconds_max;
        let put = move |change: &mut Change<'_>| {
            may_share(&change.tx, &seen, &place)?;
            let guest = user::find(&change.tx, &name)?;
            let guest = guest.ok_or_else(|| ShareError::UnknownUser { user: name.clone() })?;
            let before = find(&change.tx, seen.key, &place, guest)?;
            if !seen.is_own() && (admin || before.as_ref().is_some_and(|before| before.admin)) {
                return Err(ShareError::OnlyOwner { owner: seen.owner, channel: place });
            }
            check_newest(&change.tx, (seen.key, &place, guest), &name, &new.grant)?;
            if before.is_none() {
                check_room(&change.tx, &seen, &place, guest, &name)?;
            }
            let epoch = user::next_epoch(&change.tx, seen.key)?;
            let share = match before {
                Some(before) if before.permission <= permission => before.share,
                Some(_) => {
                    end_tokens(change, seen.key, &place, guest, epoch, token_seconds_max)?;
                    epoch
                }
                None => epoch,
            };
            insert(&change.tx, (seen.key, &place, guest), &Place { permission, admin, share }, &new.grant)?;
            tell_guest(change, guest, &name)?;
            change.changed(&seen.owner);
            Ok(epoch)
        };
        let epoch = self.inner.db.write(put).await?;
        let (user, by) = (&visit.owner, visit.by.session.id);
        self.inner.audit.note(Event::ChannelShared { user, channel, guest, permission, admin, by });
        Ok(epoch)
    }

    /// Takes a channel back from a guest, for the owner, an admin, or the guest itself. Returns the epoch.
    pub(crate) async fn remove_guest(
        &self,
        visit: &Visit,
        channel: &ChannelName,
        guest: &UserName,
    ) -> Result<u64, ShareError> {
        let (seen, place, name) = (visit.clone(), channel.clone(), guest.clone());
        let token_seconds_max = self.inner.identity.token_seconds_max;
        let remove = move |change: &mut Change<'_>| {
            let leaves = !seen.is_own() && seen.by.user == name;
            if !leaves {
                may_share(&change.tx, &seen, &place)?;
            }
            let unknown = || ShareError::UnknownGuest { channel: place.clone(), guest: name.clone() };
            let guest = user::find(&change.tx, &name)?.ok_or_else(unknown)?;
            let before = find(&change.tx, seen.key, &place, guest)?.ok_or_else(unknown)?;
            if before.admin && !seen.is_own() && !leaves {
                return Err(ShareError::OnlyOwner { owner: seen.owner, channel: place });
            }
            let epoch = user::next_epoch(&change.tx, seen.key)?;
            end_tokens(change, seen.key, &place, guest, epoch, token_seconds_max)?;
            let sql = "DELETE FROM guests WHERE owner = ?1 AND channel = ?2 AND guest = ?3";
            change.tx.execute(sql, params![seen.key.0, place.as_str(), guest.0]).map_err(DatabaseError::from)?;
            tell_guest(change, guest, &name)?;
            change.changed(&seen.owner);
            Ok(epoch)
        };
        let epoch = self.inner.db.write(remove).await?;
        let (user, by) = (&visit.owner, visit.by.session.id);
        self.inner.audit.note(Event::ChannelUnshared { user, channel, guest, by });
        Ok(epoch)
    }

    /// Lists the guests of a channel, for the owner and for each of them.
    pub(crate) async fn guests(&self, visit: &Visit, channel: &ChannelName) -> Result<Guests, ShareError> {
        let (visit, channel) = (visit.clone(), channel.clone());
        self.inner
            .db
            .read(move |tx| {
                visit.allow(tx, &channel, Permission::Read)?;
                check_channel(tx, &visit, &channel)?;
                Ok(Guests { guests: list(tx, visit.key, &channel)? })
            })
            .await
    }

    /// Lists what others share with the session's user.
    pub(crate) async fn shared(&self, access: &Access) -> Result<Shared, DatabaseError> {
        let key = access.key;
        self.inner.db.read(move |tx| Ok(Shared { channels: list_shared(tx, key)? })).await
    }
}

/// Says what a guest may do in a channel; nothing if it is not shared with this user.
pub(crate) fn find(
    tx: &Transaction<'_>,
    owner: UserKey,
    channel: &ChannelName,
    guest: UserKey,
) -> Result<Option<Place>, DatabaseError> {
    let sql = "SELECT permission, admin, share FROM guests WHERE owner = ?1 AND channel = ?2 AND guest = ?3";
    let mut query = tx.prepare_cached(sql)?;
    let found = query.query_row(params![owner.0, channel.as_str(), guest.0], |row| {
        Ok(Place { permission: permission(row)?, admin: row.get("admin")?, share: row.get("share")? })
    });
    Ok(found.optional()?)
}

/// Says whether any channel of a user is shared with another.
pub(crate) fn is_guest(tx: &Transaction<'_>, owner: UserKey, guest: UserKey) -> Result<bool, DatabaseError> {
    let sql = "SELECT 1 FROM guests WHERE guest = ?2 AND owner = ?1";
    Ok(tx.prepare_cached(sql)?.exists(params![owner.0, guest.0])?)
}

/// Takes a channel that is about to go back from all its guests. To be called before its mounts are touched.
pub(crate) fn close(
    change: &mut Change<'_>,
    owner: UserKey,
    channel: &ChannelName,
    epoch: u64,
    token_seconds_max: u64,
) -> Result<(), DatabaseError> {
    for (guest, name) in
        guests_where(&change.tx, "g.owner = ?1 AND g.channel = ?2", params![owner.0, channel.as_str()])?
    {
        end_tokens(change, owner, channel, guest, epoch, token_seconds_max)?;
        tell_guest(change, guest, &name)?;
    }
    Ok(())
}

/// Wakes the streams of a user, whose mount table has changed, and of all its guests.
pub(crate) fn tell(change: &mut Change<'_>, owner: UserKey, name: &UserName) -> Result<(), DatabaseError> {
    change.changed(name);
    for (_, guest) in guests_where(&change.tx, "g.owner = ?1", params![owner.0])? {
        change.changed(&guest);
    }
    Ok(())
}

/// Reads the column `permission`.
pub(crate) fn permission(row: &Row<'_>) -> rusqlite::Result<Permission> {
    match row.get("permission")? {
        READ => Ok(Permission::Read),
        WRITE => Ok(Permission::Write),
        found => Err(rusqlite::Error::IntegralValueOutOfRange(0, found)),
    }
}

fn check(visit: &Visit, channel: &ChannelName, guest: &UserName, new: &Guest) -> Result<(), ShareError> {
    let (owner, channel, guest) = (visit.owner.clone(), channel.clone(), guest.clone());
    if guest == owner {
        return Err(ShareError::Oneself { user: guest, channel });
    }
    if new.admin && new.permission < Permission::Write {
        return Err(ShareError::ReadingAdmin);
    }
    if new.grant.is_empty() {
        return Ok(());
    }
    let invitation = Invitation::from_bytes(&new.grant)?;
    let scope = invitation.grant().scope();
    match (&scope.owner, &scope.channel, &scope.grantee) == (&owner, &channel, &guest) {
        true => Ok(()),
        false => Err(ShareError::OtherGrant { owner, channel, guest }),
    }
}

/// Refuses a channel that there is not, and whoever may not say who its guests are.
fn may_share(tx: &Transaction<'_>, visit: &Visit, channel: &ChannelName) -> Result<(), ShareError> {
    visit.allow(tx, channel, Permission::Read)?;
    check_channel(tx, visit, channel)?;
    let is_admin = visit.is_own() || find(tx, visit.key, channel, visit.by.key)?.is_some_and(|place| place.admin);
    match is_admin {
        true => Ok(()),
        false => {
            let (owner, user) = (visit.owner.clone(), visit.by.user.clone());
            Err(ShareError::NotAdmin { owner, channel: channel.clone(), user })
        }
    }
}

/// Refuses to replace the grant of a guest with one of older keys, which a device makes that has not heard of the newest.
fn check_newest(
    tx: &Transaction<'_>,
    (owner, channel, guest): (UserKey, &ChannelName, UserKey),
    name: &UserName,
    new: &[u8],
) -> Result<(), ShareError> {
    let epoch = |grant: &[u8]| Invitation::from_bytes(grant).ok().map(|invitation| invitation.grant().scope().epoch);
    let sql = "SELECT keys FROM guests WHERE owner = ?1 AND channel = ?2 AND guest = ?3";
    let found = tx.query_row(sql, params![owner.0, channel.as_str(), guest.0], |row| row.get("keys"));
    let known: Option<Vec<u8>> = found.optional().map_err(DatabaseError::from)?;
    match known.and_then(|known| epoch(&known)) > epoch(new) {
        true => Err(ShareError::OlderGrant { channel: channel.clone(), guest: name.clone() }),
        false => Ok(()),
    }
}

fn check_channel(tx: &Transaction<'_>, visit: &Visit, channel: &ChannelName) -> Result<(), VisitError> {
    match mount::stores_of(tx, visit.key, channel)?.is_empty() {
        true => Err(MountError::UnknownChannel { user: visit.owner.clone(), channel: channel.clone() }.into()),
        false => Ok(()),
    }
}

fn check_room(
    tx: &Transaction<'_>,
    visit: &Visit,
    channel: &ChannelName,
    guest: UserKey,
    name: &UserName,
) -> Result<(), ShareError> {
    let count = |sql: &str, params: &[&dyn rusqlite::ToSql]| -> Result<usize, DatabaseError> {
        Ok(tx.prepare_cached(sql)?.query_row(params, |row| row.get(0))?)
    };
    let guests = "SELECT count(*) FROM guests WHERE owner = ?1 AND channel = ?2";
    if count(guests, params![visit.key.0, channel.as_str()])? >= CHANNEL_GUESTS_MAX {
        return Err(ShareError::TooManyGuests { channel: channel.clone() });
    }
    if count("SELECT count(*) FROM guests WHERE guest = ?1", params![guest.0])? >= USER_SHARED_MAX {
        return Err(ShareError::TooManyShared { guest: name.clone() });
    }
    Ok(())
}

fn insert(
    tx: &Transaction<'_>,
    (owner, channel, guest): (UserKey, &ChannelName, UserKey),
    place: &Place,
    keys: &[u8],
) -> Result<(), DatabaseError> {
    let permission = match place.permission {
        Permission::Read => READ,
        Permission::Write => WRITE,
    };
    tx.execute(
        "INSERT INTO guests (owner, channel, guest, permission, admin, share, keys) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
         ON CONFLICT (owner, channel, guest) DO UPDATE SET permission = excluded.permission, admin = excluded.admin,
             share = excluded.share, keys = excluded.keys",
        params![owner.0, channel.as_str(), guest.0, permission, place.admin, place.share, keys],
    )?;
    Ok(())
}

fn end_tokens(
    change: &mut Change<'_>,
    owner: UserKey,
    channel: &ChannelName,
    guest: UserKey,
    before: u64,
    token_seconds_max: u64,
) -> Result<(), DatabaseError> {
    let now = clock::now();
    revocation::enqueue_share(change, (owner, channel, guest), before, now + token_seconds_max, now)
}

/// What is shared with a guest has changed: that is a change of the guest's own table, too.
fn tell_guest(change: &mut Change<'_>, guest: UserKey, name: &UserName) -> Result<(), DatabaseError> {
    user::next_epoch(&change.tx, guest)?;
    change.changed(name);
    Ok(())
}

fn guests_where(
    tx: &Transaction<'_>,
    which: &str,
    params: &[&dyn rusqlite::ToSql],
) -> Result<Vec<(UserKey, UserName)>, DatabaseError> {
    let sql = format!("SELECT DISTINCT g.guest, u.name FROM guests g JOIN users u ON u.id = g.guest WHERE {which}");
    let mut query = tx.prepare_cached(&sql)?;
    let guests = query.query_map(params, |row| Ok((UserKey(row.get("guest")?), db::name(row, "name")?)))?;
    Ok(guests.collect::<Result<_, _>>()?)
}

fn list(tx: &Transaction<'_>, owner: UserKey, channel: &ChannelName) -> Result<Vec<GuestEntry>, DatabaseError> {
    let mut query = tx.prepare_cached(
        "SELECT u.name, g.permission, g.admin FROM guests g JOIN users u ON u.id = g.guest
         WHERE g.owner = ?1 AND g.channel = ?2 ORDER BY u.name",
    )?;
    let guests = query.query_map(params![owner.0, channel.as_str()], |row| {
        Ok(GuestEntry { user: db::name(row, "name")?, permission: permission(row)?, admin: row.get("admin")? })
    })?;
    Ok(guests.collect::<Result<_, _>>()?)
}

fn list_shared(tx: &Transaction<'_>, guest: UserKey) -> Result<Vec<SharedChannel>, DatabaseError> {
    let mut query = tx.prepare_cached(
        "SELECT u.name, g.channel, g.permission, g.admin, g.keys FROM guests g JOIN users u ON u.id = g.owner
         WHERE g.guest = ?1 ORDER BY u.name, g.channel",
    )?;
    let channels = query.query_map([guest.0], |row| {
        Ok(SharedChannel {
            owner: db::name(row, "name")?,
            channel: db::name(row, "channel")?,
            permission: permission(row)?,
            admin: row.get("admin")?,
            grant: row.get("keys")?,
        })
    })?;
    Ok(channels.collect::<Result<_, _>>()?)
}

/// Permissions in the database. // persisted
const READ: i64 = 0;
const WRITE: i64 = 1;
