//! What a device does by itself: pushing without a network, and folding.

use std::sync::Arc;
use std::time::Instant;

use gigfs::{DeviceSecret, Gig, Log, PrunePolicy};
use gigfs_core::seal::{ChannelKeys, DeviceKey, Identity, OwnDevice, Secret};
use gigfs_core::sync::ChannelAccess;
use gigfs_core::{ChannelName, Kind, Oplog, Reduced, UserName};
use gigfs_reducers::{Counter, List, Map, Register, Set, Text};
use serde_json::{Value, json};

use crate::bench::close;
use crate::bench::ground::{Ground, random};
use crate::bench::load::{Samples, setting};
use crate::bench::report::Report;
use crate::bench::sizes::Sizes;
use crate::failure::Failure;

/// Times a push until it returns, without a network: to memory and to a store on disk.
pub(super) async fn pushes(ground: &Ground, sizes: &Sizes, report: &mut Report) -> Result<(), Failure> {
    let channel = ChannelName::parse(CHANNEL)?;
    for (suffix, sealed) in [("_plain", false), ("", true)] {
        report.step("pushing to memory");
        let mut builder = Gig::builder().prune(PrunePolicy::Off);
        if sealed {
            builder = builder.sealed(channel.clone(), fresh_access()?);
        }
        let gig = builder.open().await?;
        let log = gig.log(CHANNEL, "register", "/push")?;
        report.times(&format!("push_memory{suffix}"), &pushed(&log, 0, sizes.local_ops).await?)?;
        // The log is long by now.
        let more = sizes.local_ops / 10;
        report.times(&format!("push_memory_long{suffix}"), &pushed(&log, sizes.local_ops, more).await?)?;
        close(gig).await?;
    }
    report.step("pushing to a local store");
    let gig = Gig::builder().prune(PrunePolicy::Off).local(ground.folder().join("device")).open().await?;
    let log = gig.log(CHANNEL, "register", "/push")?;
    report.times("push_disk", &pushed(&log, 0, sizes.local_ops).await?)?;
    let mut durable = Samples::default();
    for number in 0..sizes.local_ops / 10 {
        let started = Instant::now();
        log.push(&setting(number)).await?.durable().await;
        durable.add(started.elapsed());
    }
    report.times("push_disk_durable", &durable)?;
    close(gig).await
}

/// Makes the keys of a channel, and an identity and a device that signs.
fn fresh_access() -> Result<ChannelAccess, Failure> {
    let secret = || Ok::<_, Failure>(Secret::from_bytes(random()?));
    let identity = Identity::from_secrets(&secret()?, secret()?);
    let DeviceSecret { id, seed, made } = DeviceSecret::fresh()?;
    let device = OwnDevice::new(&identity, UserName::parse(USER)?, id, DeviceKey::from_secret(&seed), made);
    let keys = Arc::new(ChannelKeys::new(secret()?, secret()?));
    Ok(ChannelAccess { keys, owner: *identity.public(), device: Arc::new(device) })
}

async fn pushed(log: &Log, from: usize, count: usize) -> Result<Samples, Failure> {
    let mut samples = Samples::default();
    for number in from..from + count {
        let intent = setting(number);
        let started = Instant::now();
        log.push(&intent).await?;
        samples.add(started.elapsed());
    }
    Ok(samples)
}

/// Folds a log of each stock type from its beginning.
pub(super) async fn folds(sizes: &Sizes, report: &mut Report) -> Result<(), Failure> {
    let gig = Gig::builder().prune(PrunePolicy::Off).open().await?;
    for (name, kind, intent) in stock_types() {
        report.step(format!("folding a {name}"));
        let log = gig.log(CHANNEL, name, "/fold")?;
        for number in 0..sizes.local_ops {
            log.push(&intent(number)).await?;
        }
        let ops: Vec<_> = log.history().await?.into_iter().map(|(op, _)| op).collect();
        let (mut oplog, mut fold) = (Oplog::new(), kind.fold());
        let started = Instant::now();
        for op in &ops {
            oplog.insert(op.clone());
            fold.inserted(&oplog, op);
        }
        std::hint::black_box(fold.view(&oplog));
        let rate = ops.len() as f64 / started.elapsed().as_secs_f64();
        report.row(&format!("fold_{name}"), rate, "ops/s")?;
    }
    close(gig).await
}

/// A stock type, what reads it, and the intent with a number.
type StockType = (&'static str, Arc<dyn Kind>, fn(usize) -> Value);

fn stock_types() -> [StockType; 6] {
    [
        ("register", Arc::new(Reduced::new(Register)), setting),
        ("counter", Arc::new(Reduced::new(Counter)), |number| json!({"add": number})),
        ("set", Arc::new(Reduced::new(Set)), |number| json!({"add": number % 1000})),
        ("map", Arc::new(Reduced::new(Map)), |number| json!({"set": {format!("k{}", number % 1000): number}})),
        ("list", Arc::new(Reduced::new(List)), |number| json!({"append": number})),
        ("text", Arc::new(Reduced::new(Text)), |number| json!({"splice": [number, 0, "a"]})),
    ]
}

const CHANNEL: &str = "here";
/// Whose a client is that no table knows.
const USER: &str = "me";
