//! Channels, and the stores they are on.

use std::collections::BTreeMap;
use std::time::Duration;

use gigfs::{Mode, Store, Table};
use gigfs_core::api::{AddStore, MountTable};
use gigfs_core::{ChannelName, StoreId, UserName};
use serde_json::json;

use crate::account::{credentials, short};
use crate::args::{AdminArgs, ChannelAction, Quota, StoreAction, one_beginning_with};
use crate::failure::{Exit, Failure};
use crate::keyring;
use crate::output::{Output, columns};
use crate::profile::Home;
use crate::standing::progress;
use crate::upkeep;

/// How long a store that is to be removed may take to be drained.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(600);

pub(crate) async fn channel(home: &Home, output: Output, action: ChannelAction) -> Result<(), Failure> {
    let profile = home.profile()?;
    let table = profile.table()?;
    match action {
        ChannelAction::Ls => {
            let mounts = table.mounts().await?;
            output.result(&without_tokens(&mounts), || {
                let row = |mounted: &gigfs_core::api::MountedChannel| {
                    let stores: Vec<&str> = mounted.stores.iter().map(|store| store.url.as_str()).collect();
                    vec![mounted.channel.to_string(), stores.join(" ")]
                };
                columns(&mounts.channels.iter().map(row).collect::<Vec<_>>())
            })
        }
        ChannelAction::Add { channel, like, plain } => {
            let stores = stores_of_new(&table, &channel, like.as_ref()).await?;
            keyring::settle_new(home, &profile, &channel, plain).await?;
            add_channel(&table, output, &channel, stores).await
        }
        ChannelAction::Rm { channel } => {
            table.remove_channel(&channel).await?;
            output.result(&json!({"removed": channel}), || {
                format!("{channel} is out of your mount table; what its stores hold stays there")
            })
        }
    }
}

/// Returns the stores that a new channel goes on.
async fn stores_of_new(
    table: &Table,
    channel: &ChannelName,
    like: Option<&ChannelName>,
) -> Result<BTreeMap<StoreId, String>, Failure> {
    let mounts = table.mounts().await?;
    if mounts.channels.iter().any(|mounted| mounted.channel == *channel) {
        let failure = Failure::new(Exit::Refused, "conflict", format!("the channel {channel} is there already"));
        return Err(failure.hint("add stores to it with `gig store add`"));
    }
    let wanted = mounts.channels.iter().filter(|mounted| like.is_none_or(|like| *like == mounted.channel));
    let stores: BTreeMap<StoreId, String> =
        wanted.flat_map(|mounted| &mounted.stores).map(|store| (store.id, store.url.clone())).collect();
    if stores.is_empty() {
        let message = match like {
            Some(like) => format!("there is no channel {like}"),
            None => "you use no store yet".to_owned(),
        };
        let hint =
            "mount one with `gig store add CHANNEL URL --code CODE`; its admin gets the code with `gig store code`";
        return Err(Failure::new(Exit::Refused, "unknown_store", message).hint(hint));
    }
    Ok(stores)
}

async fn add_channel(
    table: &Table,
    output: Output,
    channel: &ChannelName,
    stores: BTreeMap<StoreId, String>,
) -> Result<(), Failure> {
    for store_url in stores.values() {
        table.add_store(channel, &AddStore { store_url: store_url.clone(), code: None }).await?;
    }
    output.result(&json!({"channel": channel, "stores": stores.values().collect::<Vec<_>>()}), || {
        format!("{channel} is on {}", stores.values().cloned().collect::<Vec<_>>().join(", "))
    })
}

pub(crate) async fn store(home: &Home, output: Output, action: StoreAction) -> Result<(), Failure> {
    match action {
        StoreAction::Ls => list_stores(&home.profile()?.table()?, output).await,
        StoreAction::Add { channel, url, code, plain } => {
            let profile = home.profile()?;
            let table = profile.table()?;
            // Checked here too, so that the answer is about what was typed.
            Store::new(&url, &[])?;
            keyring::settle(home, &profile, &channel, plain).await?;
            let mounted = table.add_store(&channel, &AddStore { store_url: url.clone(), code }).await?;
            let stores = mounted.stores.len();
            output.result(&json!({"channel": channel, "url": url, "stores": stores}), || {
                format!("{channel} is on {stores} stores now; data goes to {url} as devices come by")
            })
        }
        StoreAction::Rm { channel, store, abandon } => remove_store(home, output, &channel, &store, abandon).await,
        StoreAction::Code { user, admin } => code(output, &user, admin).await,
        StoreAction::Verify { folder, admin } => upkeep::verify(output, folder, admin).await,
        StoreAction::Backup { folder, admin } => upkeep::back_up(output, &folder, &admin).await,
        StoreAction::Restore { backup, data } => upkeep::restore(output, backup, data).await,
        StoreAction::Quota { user, size, admin } => quota(output, &user, size, admin).await,
    }
}

async fn list_stores(table: &Table, output: Output) -> Result<(), Failure> {
    let mounts = table.mounts().await?;
    output.result(&without_tokens(&mounts), || {
        let rows: Vec<Vec<String>> = mounts
            .channels
            .iter()
            .flat_map(|mounted| {
                mounted.stores.iter().map(|store| {
                    let sealed = if store.sealed { "takes no more writes" } else { "" };
                    vec![mounted.channel.to_string(), short(&store.id), store.url.clone(), sealed.to_owned()]
                })
            })
            .collect();
        columns(&rows)
    })
}

async fn remove_store(
    home: &Home,
    output: Output,
    channel: &ChannelName,
    typed: &str,
    abandon: bool,
) -> Result<(), Failure> {
    let profile = home.profile()?;
    let table = profile.table()?;
    let mounts = table.mounts().await?;
    let mounted = mounts.channels.iter().find(|mounted| mounted.channel == *channel);
    let Some(mounted) = mounted else {
        let failure = Failure::new(Exit::Refused, "unknown_channel", format!("there is no channel {channel}"));
        return Err(failure.hint("`gig channel ls` lists those that there are"));
    };
    let ids: Vec<StoreId> = mounted.stores.iter().map(|store| store.id).collect();
    let id = one_beginning_with(typed, &ids, "store").map_err(Failure::usage)?;
    if !abandon {
        if ids.len() == 1 {
            let message = format!("store {} is the only one of {channel}", short(&id));
            let hint = "mount another one first, or say --abandon to give up what only this store has";
            return Err(Failure::new(Exit::Refused, "last_store", message).hint(hint));
        }
        table.seal(channel, id, true).await.map_err(cannot_seal)?;
        if let Err(failure) = drain(home, output, channel, id).await {
            // It stays on the channel, so it is to take writes again. If it cannot be told now, trying again does it.
            _ = table.seal(channel, id, false).await;
            return Err(failure);
        }
    }
    table.remove_store(channel, id, abandon).await?;
    output.result(&json!({"removed": id, "channel": channel}), || format!("store {} is off {channel}", short(&id)))
}

fn cannot_seal(error: gigfs::Error) -> Failure {
    Failure::from(error).hint("try again when the store answers, or say --abandon to give up what only it has")
}

/// Waits until every other store of the channel has all that one of them has.
async fn drain(home: &Home, output: Output, channel: &ChannelName, store: StoreId) -> Result<(), Failure> {
    let gig = home.profile()?.open(home).await?;
    gig.set_mode(Mode::Online);
    gig.settled(DRAIN_TIMEOUT).await;
    let down: Vec<String> = gig
        .status()
        .stores
        .iter()
        .filter(|(_, link)| link.link.channel == *channel && link.up.is_none())
        .map(|(url, _)| url.clone())
        .collect();
    let drained = if down.is_empty() {
        output.note(&format!("bringing what the store has of {channel} to the others"));
        let bar = progress(output, "logs drained");
        let mut all = 0;
        let drained = gig.drain(channel, store, DRAIN_TIMEOUT, |left| {
            all = all.max(left);
            bar.set_length(all as u64);
            bar.set_position((all - left) as u64);
        });
        let drained = drained.await;
        bar.finish_and_clear();
        drained.map_err(Failure::from)
    } else {
        let message = format!("{} cannot be reached, so {channel} cannot be drained", down.join(", "));
        let hint = "try again when it answers, or say --abandon to give up what only the removed store has";
        Err(Failure::new(Exit::Retry, "unreachable", message).hint(hint))
    };
    gig.close().await?;
    drained
}

/// Returns a store and its admin token.
pub(crate) fn as_admin(admin: &AdminArgs) -> Result<(Store, String), Failure> {
    let (token, trust) = credentials(admin)?;
    Ok((Store::new(&admin.url, &trust)?, token))
}

async fn quota(output: Output, user: &UserName, size: Option<Quota>, admin: AdminArgs) -> Result<(), Failure> {
    let (store, token) = as_admin(&admin)?;
    let room = match size {
        Some(Quota(bytes)) => store.set_quota(&token, user, bytes).await?,
        None => store.room(&token, user).await?,
    };
    output.result(&json!(room), || {
        let of =
            room.quota.map_or_else(|| "no limit but the disk".to_owned(), |quota| format!("{quota} bytes allowed"));
        format!("{user} keeps {} bytes in logs and {} in blobs; {of}", room.oplogs, room.blobs)
    })
}

async fn code(output: Output, user: &UserName, admin: AdminArgs) -> Result<(), Failure> {
    let (store, token) = as_admin(&admin)?;
    store.create_user(&token, user).await?;
    let code = store.confirm_code(&token, user).await?;
    output.result(&json!(code), || {
        format!("{}\n\n{user} mounts the store with `gig store add CHANNEL {} --code CODE`", code.code, admin.url)
    })
}

/// Returns the mount table without what gives access.
fn without_tokens(mounts: &MountTable) -> serde_json::Value {
    let mut value = json!(mounts);
    let channels = value["channels"].as_array_mut().into_iter().flatten();
    for store in channels.filter_map(|channel| channel["stores"].as_array_mut()).flatten() {
        if let Some(store) = store.as_object_mut() {
            store.remove("token");
        }
    }
    value
}
