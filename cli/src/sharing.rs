//! Sharing channels with other users of the table.

use gigfs::core::seal::{Fingerprint, Role, TypedError};
use gigfs::{KeyRenewal, Table, UserKeys};
use gigfs_core::api::{GuestEntry, SharedChannel};
use gigfs_core::token::Permission;
use gigfs_core::{ChannelName, UserName};
use serde_json::{Value, json};

use crate::args::ShareArgs;
use crate::data::finish;
use crate::failure::{Exit, Failure};
use crate::output::{Output, columns};
use crate::profile::Home;

/// Lets another user read a channel, or write to it too, or let others in.
pub(crate) async fn share(home: &Home, output: Output, args: ShareArgs) -> Result<(), Failure> {
    let ShareArgs { channel, user, write, admin, fingerprint, .. } = args;
    let fingerprint = typed(fingerprint.as_deref())?;
    let (role, can) = match (write, admin) {
        (_, true) => (Role::Admin, "can read and write, and let others in,"),
        (true, false) => (Role::Write, "can read and write"),
        (false, false) => (Role::Read, "can read"),
    };
    let gig = home.profile()?.open(home).await?;
    let owner = gig.user().clone();
    let shared = gig.share(&channel, &user, role, fingerprint).await.map_err(Failure::from);
    let told = json!({"channel": channel, "user": user, "role": role});
    finish(gig, shared, |()| {
        output.result(&told, || {
            format!("{user} {can} {channel}, after `gig accept {owner} {channel}` on a device of {user}'s")
        })
    })
    .await
}

/// Takes a guest off a channel.
pub(crate) async fn unshare(
    home: &Home,
    output: Output,
    channel: &ChannelName,
    user: &UserName,
) -> Result<(), Failure> {
    let gig = home.profile()?.open(home).await?;
    let ended = gig.unshare(channel, user).await.map_err(Failure::from);
    let owner = gig.user().clone();
    finish(gig, ended, |renewal| {
        let (keys, what_of_keys) = match renewal {
            KeyRenewal::Begun => ("renewed", String::new()),
            KeyRenewal::LeftToOwner => {
                let ask = format!(
                    "; {owner} seals what is written from now on under new keys with `gig unshare {channel} {user}`"
                );
                ("left_to_owner", ask)
            }
            KeyRenewal::NoKeys => ("none", String::new()),
        };
        output.result(&json!({"channel": channel, "user": user, "keys": keys}), || {
            let gets =
                format!("{user} gets nothing more of {channel}; what was there before may be on devices of {user}'s");
            gets + &what_of_keys
        })
    })
    .await
}

/// Lists what others share with this user, or the guests of a channel.
pub(crate) async fn shared(home: &Home, output: Output, channel: Option<ChannelName>) -> Result<(), Failure> {
    let profile = home.profile()?;
    match channel {
        Some(channel) => {
            let guests = profile.table_meant(home)?.guests(&channel).await?;
            let told: Vec<Value> = guests.iter().map(guest_json).collect();
            output.result(&json!({"channel": channel, "guests": told}), || match guests.is_empty() {
                true => format!("{channel} is shared with nobody"),
                false => columns(
                    &guests
                        .iter()
                        .map(|guest| vec![guest.user.to_string(), can(guest.permission, guest.admin)])
                        .collect::<Vec<_>>(),
                ),
            })
        }
        None => {
            let keys = home.keys(&profile)?;
            let shared = profile.table()?.shared().await?;
            let accepted = |shared: &SharedChannel| keys.knows(&shared.owner, &shared.channel);
            let told = |shared: &SharedChannel| {
                json!({
                    "owner": shared.owner, "channel": shared.channel, "permission": shared.permission,
                    "admin": shared.admin, "accepted": accepted(shared),
                })
            };
            let row = |shared: &SharedChannel| {
                let standing = if accepted(shared) { "accepted" } else { "not accepted yet" };
                let (owner, channel) = (shared.owner.to_string(), shared.channel.to_string());
                vec![owner, channel, can(shared.permission, shared.admin), standing.to_owned()]
            };
            output.result(&json!({"shared": shared.iter().map(told).collect::<Vec<_>>()}), || match shared.is_empty() {
                true => "nobody shares a channel with you".to_owned(),
                false => columns(&shared.iter().map(row).collect::<Vec<_>>()),
            })
        }
    }
}

/// Takes over the keys of a channel that somebody shares with this user.
pub(crate) async fn accept(
    home: &Home,
    output: Output,
    (owner, channel): (UserName, ChannelName),
    fingerprint: Option<String>,
    plain: bool,
) -> Result<(), Failure> {
    let fingerprint = typed(fingerprint.as_deref())?;
    let profile = home.profile()?;
    let (table, keys): (Table, UserKeys) = (profile.table()?, home.keys(&profile)?);
    let shared = table.shared().await?;
    let found = shared.iter().find(|shared| shared.owner == owner && shared.channel == channel).ok_or_else(|| {
        let message = format!("{owner} shares no channel {channel} with {}", profile.user);
        Failure::new(Exit::Refused, "not_shared", message).hint("see what is shared with `gig shared`")
    })?;
    keys.refresh(&table).await?;
    let identity = match plain && found.grant.is_empty() {
        true => keys.accept_plain(&table, found, fingerprint).await?,
        false => keys.accept(&table, found, fingerprint).await?,
    };
    home.keep_changed(&profile.table, &keys)?;
    home.keep_owner(&owner, &identity)?;
    let told = json!({"owner": owner, "channel": channel, "permission": found.permission});
    output.result(&told, || format!("use it with `--of {owner}`: gig --of {owner} get {channel} TYPE PATH"))
}

fn typed(fingerprint: Option<&str>) -> Result<Option<Fingerprint>, Failure> {
    let parse = |text: &str| text.parse().map_err(|error: TypedError| Failure::usage(error.to_string()));
    fingerprint.map(parse).transpose()
}

fn guest_json(guest: &GuestEntry) -> Value {
    json!({"user": guest.user, "permission": guest.permission, "admin": guest.admin})
}

fn can(permission: Permission, admin: bool) -> String {
    let can = match (permission, admin) {
        (_, true) => "reads, writes and lets others in",
        (Permission::Write, false) => "reads and writes",
        (Permission::Read, false) => "reads",
    };
    can.to_owned()
}
