//! How fast writes become durable, and how fast others see them.

use std::time::{Duration, Instant};

use gigfs::{Gig, Log};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::bench::ground::{Channel, Ground};
use crate::bench::load::{Samples, acknowledged, setting};
use crate::bench::report::Report;
use crate::bench::server;
use crate::bench::sizes::Sizes;
use crate::bench::{DEADLINE, close};
use crate::failure::Failure;

/// Pushes with 1, 64 and 1,024 in flight until a store has them on disk: each load in both channels, one right after the
/// other, for they are compared.
pub(super) async fn acknowledgements(ground: &mut Ground, sizes: &Sizes, report: &mut Report) -> Result<(), Failure> {
    for (in_flight, many) in [(1, false), (64, false), (1024, false), (64, true), (1024, true)] {
        let (suffix, connections) = if many { ("_many", sizes.connections.min(in_flight)) } else { ("", 1) };
        for channel in ground.channels() {
            let name = format!("ack_{in_flight}{suffix}{}", channel.suffix);
            load(ground, sizes, report, &channel, &name, connections, in_flight).await?;
        }
    }
    Ok(())
}

/// Loads the store from so many connections, each with a log of its own.
async fn load(
    ground: &mut Ground,
    sizes: &Sizes,
    report: &mut Report,
    channel: &Channel,
    name: &str,
    connections: usize,
    in_flight: usize,
) -> Result<(), Failure> {
    report.step(format!("{in_flight} pushes in flight from {connections} connections"));
    let mut clients = Vec::new();
    let mut logs = Vec::new();
    for _ in 0..connections {
        let gig = ground.client().await?;
        logs.push(ground.log(&gig, channel, "register", &format!("/{name}"))?);
        clients.push(gig);
    }
    acknowledged(&logs, in_flight, WARM_UP_OPS.max(2 * in_flight), sizes.time).await?;
    at_rest(ground).await;
    let before = Work::of(ground).await?;
    let (samples, took) = acknowledged(&logs, in_flight, sizes.ops, sizes.time).await?;
    report.load(name, &samples, took)?;
    if let Some((before, after)) = before.zip(Work::of(ground).await?) {
        after.less(&before).tell(name, samples.len(), report)?;
    }
    for gig in clients {
        close(gig).await?;
    }
    Ok(())
}

/// Waits until the bench's own store does nothing more about what came before: it flushes and compacts behind it.
async fn at_rest(ground: &Ground) {
    let Some(store) = ground.store() else { return };
    let begun = Instant::now();
    let mut before = None;
    while begun.elapsed() < DEADLINE {
        let now = store.processor_seconds();
        if now == before {
            break;
        }
        before = now;
        tokio::time::sleep(REST).await;
    }
}

/// What the bench's own store and this process have done so far.
struct Work {
    /// Each with one sync.
    commits: f64,
    commit_seconds: f64,
    store_seconds: f64,
    client_seconds: f64,
}

impl Work {
    async fn of(ground: &Ground) -> Result<Option<Self>, Failure> {
        let Some(store) = ground.store() else { return Ok(None) };
        Ok(Some(Self {
            commits: store.figure("gigfs_store_commits_total").await?,
            commit_seconds: store.figure("gigfs_store_commit_seconds_sum").await?,
            store_seconds: store.processor_seconds().unwrap_or_default(),
            client_seconds: server::processor_seconds_of("self").unwrap_or_default(),
        }))
    }

    fn less(&self, before: &Self) -> Self {
        Self {
            commits: self.commits - before.commits,
            commit_seconds: self.commit_seconds - before.commit_seconds,
            store_seconds: self.store_seconds - before.store_seconds,
            client_seconds: self.client_seconds - before.client_seconds,
        }
    }

    fn tell(&self, name: &str, ops: usize, report: &mut Report) -> Result<(), Failure> {
        report.row(&format!("{name}_syncs"), self.commits / ops as f64, "syncs/op")?;
        report.row(&format!("{name}_commit"), self.commit_seconds / self.commits * 1e6, "us")?;
        self.tell_processors(name, ops, report)
    }

    /// Leaves out what is less than a tick of the system's clock.
    fn tell_processors(&self, name: &str, ops: usize, report: &mut Report) -> Result<(), Failure> {
        for (of, seconds) in [("store", self.store_seconds), ("client", self.client_seconds)] {
            if seconds > 0.0 {
                report.row(&format!("{name}_{of}_cpu"), seconds / ops as f64 * 1e6, "us/op")?;
            }
        }
        Ok(())
    }
}

/// Pushes on one connection, one at a time, until the change is told on another.
pub(super) async fn propagation(ground: &mut Ground, sizes: &Sizes, report: &mut Report) -> Result<(), Failure> {
    for channel in ground.channels() {
        report.step("propagation");
        let (writer, reader) = (ground.client().await?, ground.client().await?);
        let log = ground.log(&writer, &channel, "register", "/prop")?;
        let samples = propagations(ground, &log, &reader, sizes.propagations).await?;
        report.times(&format!("prop{}", channel.suffix), &samples)?;
        close(writer).await?;
        close(reader).await?;
    }
    Ok(())
}

async fn propagations(ground: &Ground, log: &Log, reader: &Gig, count: usize) -> Result<Samples, Failure> {
    let read = ground.same(log, reader)?;
    let mut changes = read.on().await?;
    read.refresh(DEADLINE).await?;
    let mut samples = Samples::default();
    for number in 0..count {
        let intent = setting(number);
        let started = Instant::now();
        log.push(&intent).await?;
        loop {
            let change = timeout(DEADLINE, changes.next()).await.ok().flatten();
            let change = change.ok_or_else(|| Failure::machine("measure propagation", "a change was not told"))?;
            if *change.value == intent["set"] {
                break;
            }
        }
        samples.add(started.elapsed());
        tokio::time::sleep(BETWEEN).await;
    }
    Ok(samples)
}

/// Pushes on one connection, one at a time, until the change is told on each of many others, which live in this process too.
pub(super) async fn subscribers(ground: &mut Ground, sizes: &Sizes, report: &mut Report) -> Result<(), Failure> {
    report.row("subscribers", sizes.subscribers.0 as f64, "clients")?;
    for channel in ground.channels() {
        report.step(format!("{} subscribers", sizes.subscribers.0));
        subscribed(ground, sizes, report, &channel).await?;
    }
    Ok(())
}

async fn subscribed(ground: &mut Ground, sizes: &Sizes, report: &mut Report, channel: &Channel) -> Result<(), Failure> {
    let (count, ops) = sizes.subscribers;
    let writer = ground.client().await?;
    let log = ground.log(&writer, channel, "register", "/subscribers")?;
    let (told, mut hears) = mpsc::unbounded_channel();
    let (mut clients, mut followers) = (Vec::new(), JoinSet::new());
    for _ in 0..count {
        let gig = ground.client().await?;
        let read = ground.same(&log, &gig)?;
        let (mut changes, told) = (read.on().await?, told.clone());
        read.refresh(DEADLINE).await?;
        followers.spawn(async move {
            while let Some(change) = changes.next().await {
                // The measuring is over if nobody hears it.
                _ = told.send((Instant::now(), change.value));
            }
        });
        clients.push(gig);
    }
    let before = Work::of(ground).await?;
    let (mut samples, mut last) = (Samples::default(), Samples::default());
    for number in 0..ops {
        let intent = setting(number);
        let started = Instant::now();
        log.push(&intent).await?;
        for _ in 0..count {
            let heard =
                timeout(DEADLINE, hears.recv()).await.ok().flatten().filter(|(_, value)| **value == intent["set"]);
            let (at, _) = heard.ok_or_else(|| Failure::machine("measure subscribers", "a change was not told"))?;
            samples.add(at - started);
        }
        last.add(started.elapsed());
        tokio::time::sleep(BETWEEN).await;
    }
    report.times(&format!("subscribers{}", channel.suffix), &samples)?;
    report.times(&format!("subscribers_all{}", channel.suffix), &last)?;
    if let Some((before, after)) = before.zip(Work::of(ground).await?) {
        after.less(&before).tell_processors(&format!("subscribers{}", channel.suffix), samples.len(), report)?;
    }
    followers.shutdown().await;
    for gig in clients {
        close(gig).await?;
    }
    close(writer).await
}

const WARM_UP_OPS: usize = 200;
/// How long a store takes no time of a processor before it is at rest: several ticks of the system's clock.
const REST: Duration = Duration::from_millis(100);
/// Between two operations whose propagation is measured, so that each finds everybody at rest.
const BETWEEN: Duration = Duration::from_millis(2);
