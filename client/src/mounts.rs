//! The task that keeps the mount table and its tokens fresh.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use gigfs_core::api::MountTable;
use gigfs_core::sync::{Event, LinkId, Mode};
use gigfs_core::{ChannelName, LogName, PathPrefix, StoreId};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};

use crate::backoff::Backoff;
use crate::error::Error;
use crate::shared::{Shared, now};
use crate::table::Table;

/// The shortest time between two fetches that stores ask for because a token was refused.
const TOKEN_PAUSE: Duration = Duration::from_secs(1);

/// Follows the mount table until the client is closed.
pub(crate) async fn follow(shared: Arc<Shared>, table: Table, mut mode: watch::Receiver<Mode>) {
    let mut backoff = Backoff::new();
    loop {
        if mode.wait_for(|mode| *mode != Mode::Offline).await.is_err() {
            return;
        }
        match fetch_and_watch(&shared, &table, &mut backoff).await {
            Ok(()) => {}
            Err(error) => {
                tracing::debug!("the mount table cannot be followed: {error}");
                *shared.table_down.lock() = Some(error.to_refusal());
                shared.progressed();
            }
        }
        tokio::select! {
            () = sleep(backoff.next()) => {}
            () = shared.nudge.notified() => {}
        }
    }
}

/// Fetches the table, and fetches it again at each change, when tokens run out, or when a store refuses one.
async fn fetch_and_watch(shared: &Arc<Shared>, table: &Table, backoff: &mut Backoff) -> Result<(), Error> {
    fetch(shared, table).await?;
    backoff.reset();
    let changed = Arc::new(Notify::new());
    let epoch_of = |shared: &Shared| shared.mounts.borrow().as_ref().map_or(0, |table| table.epoch);
    let watch = table.changes({
        let (shared, changed) = (shared.clone(), changed.clone());
        move |change| {
            if change.epoch != epoch_of(&shared) {
                changed.notify_one();
            }
        }
    });
    tokio::pin!(watch);
    loop {
        let renew_at = renew_at(shared);
        tokio::select! {
            ended = &mut watch => return ended,
            () = changed.notified() => fetch(shared, table).await?,
            () = sleep_until(renew_at) => fetch(shared, table).await?,
            () = shared.wants_tokens.notified() => {
                fetch(shared, table).await?;
                sleep(TOKEN_PAUSE).await;
            }
        }
    }
}

/// Returns when the first token will have lived most of its life.
fn renew_at(shared: &Shared) -> Instant {
    let seconds = now().micros() / 1_000_000;
    let mounts = shared.mounts.borrow();
    let stores = mounts.iter().flat_map(|table| &table.channels).flat_map(|channel| &channel.stores);
    let left = stores.map(|store| store.expires.saturating_sub(seconds)).min().unwrap_or(3600);
    Instant::now() + Duration::from_secs((left * 7 / 10).max(1))
}

async fn fetch(shared: &Arc<Shared>, table: &Table) -> Result<(), Error> {
    let mounts = table.mounts().await?;
    *shared.table_down.lock() = None;
    let kept = shared.clone();
    // The local store may take a while to write.
    tokio::task::spawn_blocking(move || keep_and_apply(&kept, mounts))
        .await
        .map_err(|error| Error::System(error.to_string()))??;
    shared.fetched.store(true, Ordering::Release);
    shared.progressed();
    Ok(())
}

fn keep_and_apply(shared: &Arc<Shared>, mounts: MountTable) -> Result<(), Error> {
    let json = serde_json::to_vec(&mounts).map_err(|error| Error::System(error.to_string()))?;
    // What left the channels is noted before it is forgotten which stores they had.
    apply(shared, mounts)?;
    match &shared.local {
        Some(local) => local.keep_mount_table(&json),
        None => Ok(()),
    }
}

/// Makes a mount table the one that the client works with.
pub(crate) fn apply(shared: &Arc<Shared>, mounts: MountTable) -> Result<(), Error> {
    let before = shared.mounts.borrow().clone();
    let stores_of = |table: &MountTable| -> BTreeSet<LinkId> {
        let links = table.channels.iter().flat_map(|mounted| {
            mounted.stores.iter().map(|store| LinkId { channel: mounted.channel.clone(), store: store.id })
        });
        links.collect()
    };
    let old = before.as_deref().map(stores_of).unwrap_or_default();
    let new = stores_of(&mounts);
    let mut channels: BTreeSet<ChannelName> = mounts.channels.iter().map(|mounted| mounted.channel.clone()).collect();
    channels.extend(old.iter().map(|link| link.channel.clone()));
    shared.act(|replica, now| {
        for channel in channels {
            let stores = new.iter().filter(|link| link.channel == channel).map(|link| link.store).collect();
            let mounted = mounts.channels.iter().find(|mounted| mounted.channel == channel);
            let epoch = mounted.map_or(0, |mounted| mounted.epoch);
            replica.handle(now, Event::Mounted { channel, stores, epoch });
        }
    });
    if let Some(local) = &shared.local {
        for gone in old.difference(&new) {
            shared.merging.lock().remove(gone);
            local.keep_merged(&gone.channel, gone.store, false)?;
        }
        for link in new {
            if !local.is_merged(&link.channel, link.store)? {
                let logs = local.logs(&link.channel, &PathPrefix::default())?;
                merge(shared, link, logs);
            }
        }
    }
    // Last: whoever waits for the mount table finds noted what is to be merged.
    shared.mounts.send_replace(Some(Arc::new(mounts)));
    shared.progressed();
    Ok(())
}

/// Has everything that was here before a store was mounted compared with it, and keeps that this is done.
fn merge(shared: &Arc<Shared>, link: LinkId, logs: Vec<LogName>) {
    shared.act(|replica, now| logs.iter().for_each(|log| replica.compare(now, log)));
    shared.merging.lock().insert(link.clone(), logs.clone());
    let merger = shared.clone();
    _ = shared.mergers.send(Box::pin(async move {
        merger.until(|replica| replica.is_in_step(&link, &logs).then_some(())).await;
        merger.merging.lock().remove(&link);
        merger.progressed();
        let LinkId { channel, store } = link;
        if let Err(error) = keep_merged(merger, channel, store).await {
            tracing::warn!("the local store cannot be written: {error}");
        }
    }));
}

async fn keep_merged(shared: Arc<Shared>, channel: ChannelName, store: StoreId) -> Result<(), Error> {
    let keep = move || shared.local.as_ref().map_or(Ok(()), |local| local.keep_merged(&channel, store, true));
    tokio::task::spawn_blocking(keep).await.map_err(|error| Error::System(error.to_string()))?
}

/// Work that runs beside the rest until the client is closed.
pub(crate) type Merger = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

/// Runs what [`merge`] starts.
pub(crate) async fn run_mergers(mut mergers: mpsc::UnboundedReceiver<Merger>) {
    let mut running = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            merger = mergers.recv() => match merger {
                Some(merger) => _ = running.spawn(merger),
                None => return,
            },
            Some(_) = running.join_next() => {}
        }
    }
}
