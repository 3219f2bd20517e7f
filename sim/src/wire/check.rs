//! What must hold once a world is whole again and has come to rest.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use gigfs::{BaseStatus, Gig};
use gigfs_core::json::canonical;
use gigfs_core::{BaseId, ChannelName, LogName, Sha, StoreId};
use gigfs_storage::{Engine as _, Fjall, Page};
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};

use crate::Failure;
use crate::world::{CHANNEL, World};

/// How long a world may take to come to rest, all in all.
const REST_TIMEOUT: Duration = Duration::from_secs(75);
/// How long clients that have everything may take to show the same.
const AGREE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long one client may take to bring what it has to the stores, before it is looked whether a store is sealed.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);
/// Between two looks at a condition that nothing announces.
const LOOK_AGAIN: Duration = Duration::from_millis(25);

impl World {
    /// Waits until everybody has everything, and checks all that must hold then.
    pub(crate) async fn converged(&mut self) -> Result<(), Failure> {
        let deadline = Instant::now() + REST_TIMEOUT;
        self.flush_all(deadline).await?;
        let fresh = self.fresh().await?;
        let mut values = Vec::new();
        for at in 0..self.spec.logs.len() {
            values.push(self.log_of(&fresh, at)?.refresh(REST_TIMEOUT).await?);
        }
        self.check_values(&fresh, &values, deadline).await?;
        self.check_clients(deadline).await?;
        // Whoever prunes by itself is gone before it is looked what the stores stand on.
        for client in &self.clients {
            client.gig.clone().close().await?;
        }
        self.counts.checks += 1;
        self.check_stands(&fresh, &values, deadline).await?;
        fresh.close().await?;
        self.check_engines().await
    }

    /// Has all clients bring all that they have to all stores; opens stores that somebody could not open again.
    async fn flush_all(&self, deadline: Instant) -> Result<(), Failure> {
        let (operator, channel) = (self.operator()?, ChannelName::parse(CHANNEL)?);
        loop {
            let mounts = operator.mounts().await?;
            let mounted: Vec<_> = mounts.channels.iter().flat_map(|mounted| &mounted.stores).collect();
            if mounted.is_empty() {
                return Err("the channel has no store any more".into());
            }
            // Also one that the table takes for open: it may have been sealed by a request that the table heard no answer to.
            for store in &mounted {
                operator.seal(&channel, store.id, false).await?;
            }
            let sealed = mounted.iter().any(|store| store.sealed);
            let mut left = Vec::new();
            for (at, client) in self.clients.iter().enumerate() {
                if let Err(error) = client.gig.flush(None, FLUSH_TIMEOUT).await {
                    left.push(format!("client {at}: {error}, {}", standing(&client.gig)));
                }
            }
            if !sealed && left.is_empty() {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(format!("it does not come to rest: {}", left.join("; ")).into());
            }
        }
    }

    /// Checks that every client shows what a client does that knew nothing, and that this is what was written.
    async fn check_values(&mut self, fresh: &Gig, values: &[Arc<Value>], deadline: Instant) -> Result<(), Failure> {
        for (at, value) in values.iter().enumerate() {
            let (kind, right) = (self.spec.logs[at], canonical(value));
            self.counts.checks += 1;
            if let Err(wrong) = self.ledgers[at].check(value) {
                let mut all = vec![format!("it {}", shown(&self.log_of(fresh, at)?, fresh).await)];
                for (number, client) in self.clients.iter().enumerate() {
                    all.push(format!("client {number} {}", shown(&self.log_of(&client.gig, at)?, &client.gig).await));
                }
                let all = all.join("\n  ");
                return Err(
                    format!("a client that knew nothing read a wrong {kind}, {value}: {wrong}\n  now {all}").into()
                );
            }
            for (number, client) in self.clients.iter().enumerate() {
                self.counts.checks += 1;
                let log = self.log_of(&client.gig, at)?;
                let left = deadline.saturating_duration_since(Instant::now());
                if log.until(|value| canonical(value) == right, left.min(AGREE_TIMEOUT)).await.is_err() {
                    let others = format!("client {number} {}", shown(&log, &client.gig).await);
                    let now = shown(&self.log_of(fresh, at)?, fresh).await;
                    let first = format!("a client that knew nothing read {value} of {kind}");
                    return Err(format!("{first}, and now {now}; {others}").into());
                }
            }
        }
        Ok(())
    }

    /// Checks that no client has anything left to do, to wonder at or to complain of.
    async fn check_clients(&mut self, deadline: Instant) -> Result<(), Failure> {
        for (at, client) in self.clients.iter().enumerate() {
            self.counts.checks += 1;
            let at_rest = async || {
                let status = client.gig.status();
                let busy = |link: &gigfs::LinkStatus| {
                    link.up.is_none() || link.in_flight > 0 || !link.queued.is_empty() || !link.refused.is_empty()
                };
                let busy = status.stores.iter().any(|(_, link)| busy(link));
                !busy && status.table_down.is_none()
            };
            eventually(deadline, at_rest)
                .await
                .map_err(|()| format!("client {at} does not come to rest: {}", standing(&client.gig)))?;
            let status = client.gig.status();
            if !status.suspicions.is_empty() || !status.troubles.is_empty() {
                return Err(format!("client {at} wonders: {:?} {:?}", status.suspicions, status.troubles).into());
            }
        }
        Ok(())
    }

    /// Checks that all stores stand on one base of each log and can tell all that it covers.
    async fn check_stands(&self, fresh: &Gig, values: &[Arc<Value>], deadline: Instant) -> Result<(), Failure> {
        for (at, value) in values.iter().enumerate() {
            let (log, kind) = (self.log_of(fresh, at)?, self.spec.logs[at]);
            let stands = async || {
                let Ok(base) = log.base().await else { return false };
                let right = |header: &Option<_>| match (header, base.base) {
                    (None, None) => true,
                    (Some(header), Some(id)) => is_complete(header, id),
                    _ => false,
                };
                base.doubtful == 0 && !base.disputed && base.stores.iter().all(|(_, header)| right(header))
            };
            if eventually(deadline, stands).await.is_err() {
                let base = log.base().await.map(|base| stand(&base));
                return Err(format!("the stores do not come to stand on one base of {kind}: {base:?}").into());
            }
            fresh.flush(None, deadline.saturating_duration_since(Instant::now())).await?;
            if canonical(&*log.refresh(FLUSH_TIMEOUT).await?) != canonical(value) {
                return Err(format!("{kind} changed although nobody wrote").into());
            }
        }
        Ok(())
    }

    /// Stops the stores, and checks on their disks that those of the channel hold the same.
    async fn check_engines(&mut self) -> Result<(), Failure> {
        let mounts = self.operator()?.mounts().await?;
        let mounted: BTreeSet<StoreId> =
            mounts.channels.iter().flat_map(|mounted| &mounted.stores).map(|store| store.id).collect();
        let mut held: Vec<(usize, Vec<Held>)> = Vec::new();
        for (at, store) in self.stores.iter_mut().enumerate() {
            store.stop().await?;
            if !mounted.contains(&store.store_id()?) {
                continue;
            }
            let (data, logs) = (store.data.join("oplogs"), self.names.clone());
            held.push((at, tokio::task::spawn_blocking(move || read(&data, &logs)).await??));
        }
        self.table.stop().await?;
        for (at, kind) in self.spec.logs.iter().enumerate() {
            self.counts.checks += 1;
            for (store, logs) in &held {
                let (mine, first) = (&logs[at], &held[0].1[at]);
                if let Some(twice) = mine.ops.intersection(&mine.covered).next() {
                    return Err(format!("store {store} keeps {twice:?} of {kind} and has it covered, too").into());
                }
                if mine != first {
                    return Err(
                        format!("store {store} holds {mine:?} of {kind}, and store {} {first:?}", held[0].0).into()
                    );
                }
            }
        }
        Ok(())
    }
}

/// What a store's engine holds of a log.
#[derive(Debug, Default, PartialEq, Eq)]
struct Held {
    base: Option<BaseId>,
    ops: BTreeSet<Sha>,
    covered: BTreeSet<Sha>,
}

fn read(data: &std::path::Path, logs: &[LogName]) -> Result<Vec<Held>, Failure> {
    let engine = Fjall::open(data)?;
    let mut all = Vec::new();
    for log in logs {
        let base = engine.tail(log)?.and_then(|tail| tail.header.base).map(|header| header.id);
        let ops = engine.read(log, 0, Page::ALL)?.into_iter().map(|stored| stored.sha).collect();
        let covered = engine.covered(log, None, usize::MAX)?.into_iter().collect();
        all.push(Held { base, ops, covered });
    }
    Ok(all)
}

fn is_complete(header: &gigfs_core::api::BaseHeader, base: BaseId) -> bool {
    header.id == base && header.complete && !header.disputed
}

/// Waits until a condition holds that nothing announces.
async fn eventually(deadline: Instant, holds: impl AsyncFn() -> bool) -> Result<(), ()> {
    loop {
        if timeout(FLUSH_TIMEOUT, holds()).await == Ok(true) {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(());
        }
        sleep(LOOK_AGAIN).await;
    }
}

async fn shown(log: &gigfs::Log, gig: &Gig) -> String {
    let value = log.get().await.map_or_else(|error| error.to_string(), |value| value.to_string());
    let base = log.base().await.map(|base| stand(&base));
    format!("shows {value}; {base:?}; {}", standing(gig))
}

fn stand(base: &BaseStatus) -> String {
    let stores = base.stores.iter().map(|(store, header)| (store, header.as_ref().map(|it| (it.id, it.complete))));
    let stores: Vec<_> = stores.collect();
    format!(
        "base {:?} covers {}, {} operations on it, {} doubtful, disputed {}, stores {stores:?}, hold {:?}",
        base.base, base.covered, base.ops, base.doubtful, base.disputed, base.hold
    )
}

fn standing(gig: &Gig) -> String {
    let status = gig.status();
    let links: Vec<_> = status
        .stores
        .iter()
        .map(|(_, link)| {
            (link.link.store, link.up.is_some(), link.down.as_ref(), &link.queued, &link.refused, link.in_flight)
        })
        .collect();
    format!("epoch {:?}, table down {:?}, links {links:?}", status.epoch, status.table_down)
}
