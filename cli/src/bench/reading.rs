//! Reading logs: cold, warm, pruned, and after having been away.

use std::time::Instant;

use gigfs::{Gig, Log, Mode};
use tokio::task::JoinSet;

use crate::bench::ground::Ground;
use crate::bench::load::{Samples, acknowledged, filled, setting};
use crate::bench::report::{Report, micros, millis};
use crate::bench::sizes::Sizes;
use crate::bench::{DEADLINE, close};
use crate::failure::Failure;

/// Reads logs of several lengths with clients that know nothing of them; then one that knows all; then a pruned one.
pub(super) async fn gets(ground: &mut Ground, sizes: &Sizes, report: &mut Report) -> Result<(), Failure> {
    let channel = ground.channel();
    for &ops in sizes.read_logs {
        report.step(format!("reading a log of {ops} operations"));
        let writer = ground.client().await?;
        let log = ground.log(&writer, &channel, "register", &format!("/get-{ops}"))?;
        acknowledged(std::slice::from_ref(&log), 256, ops, DEADLINE).await?;
        cold(ground, sizes, report, &log, &format!("get_cold_{ops}"), ops).await?;
        if Some(&ops) == sizes.read_logs.last() {
            warm(&log, report).await?;
            log.prune(DEADLINE).await?;
            cold(ground, sizes, report, &log, &format!("get_pruned_{ops}"), ops).await?;
        }
        close(writer).await?;
    }
    Ok(())
}

async fn cold(
    ground: &Ground,
    sizes: &Sizes,
    report: &mut Report,
    log: &Log,
    name: &str,
    ops: usize,
) -> Result<(), Failure> {
    let mut samples = Samples::default();
    let mut bytes = None;
    for _ in 0..sizes.readings {
        let gig = ground.client().await?;
        let read = ground.same(log, &gig)?;
        let before = sent(ground).await?;
        let started = Instant::now();
        read.get().await?;
        samples.add(started.elapsed());
        bytes = before.zip(sent(ground).await?).map(|(before, after)| after - before);
        if read.len() != ops {
            let what = format!("{} of {ops} operations were read", read.len());
            return Err(Failure::machine("measure reading", what));
        }
        close(gig).await?;
    }
    report.row(&format!("{name}_ms"), millis(samples.at(50)), "ms")?;
    match bytes {
        Some(bytes) => report.row(&format!("{name}_bytes"), bytes, "bytes"),
        None => Ok(()),
    }
}

/// Returns how many bytes the bench's own store has sent to streams.
async fn sent(ground: &Ground) -> Result<Option<f64>, Failure> {
    match ground.store() {
        Some(store) => store.figure("gigfs_store_sent_bytes_total").await.map(Some),
        None => Ok(None),
    }
}

async fn warm(log: &Log, report: &mut Report) -> Result<(), Failure> {
    log.get().await?;
    let started = Instant::now();
    for _ in 0..WARM_READS {
        std::hint::black_box(log.get().await?);
    }
    report.row("get_warm", micros(started.elapsed()) / f64::from(WARM_READS), "us")
}

/// Cuts a client off that knows many logs, changes some of them, and lets it come back.
pub(super) async fn catch_up(ground: &mut Ground, sizes: &Sizes, report: &mut Report) -> Result<(), Failure> {
    let (known, changed) = (sizes.known_logs, sizes.changed_logs);
    report.step(format!("{known} logs, of which {changed} are missed"));
    let channel = ground.channel();
    let (writer, reader) = (ground.client().await?, ground.client().await?);
    let mut logs = Vec::with_capacity(known);
    for number in 0..known {
        logs.push(ground.log(&writer, &channel, "register", &format!("/known/{number}"))?);
    }
    filled(&logs, 1).await?;
    let begun = Instant::now();
    let read = read_all(ground, &logs, &reader).await?;
    report.row("read_logs_ms", millis(begun.elapsed()), "ms")?;
    reader.set_mode(Mode::Offline);
    let stride = known / changed;
    for log in logs.iter().step_by(stride).take(changed) {
        log.push(&setting(known)).await?.accepted(1).await;
    }
    let before = sent(ground).await?;
    let started = Instant::now();
    reader.set_mode(Mode::Online);
    for log in read.iter().step_by(stride).take(changed) {
        log.until_len(2, DEADLINE).await?;
    }
    let took = started.elapsed();
    report.row("catch_up_ms", millis(took), "ms")?;
    report.row("catch_up_logs", known as f64, "logs")?;
    report.row("catch_up_missed", changed as f64, "ops")?;
    if let Some((before, after)) = before.zip(sent(ground).await?) {
        report.row("catch_up_bytes", after - before, "bytes")?;
    }
    close(writer).await?;
    close(reader).await
}

/// Reads all logs with another client.
async fn read_all(ground: &Ground, logs: &[Log], reader: &Gig) -> Result<Vec<Log>, Failure> {
    let read = logs.iter().map(|log| ground.same(log, reader)).collect::<Result<Vec<Log>, Failure>>()?;
    let mut readings = JoinSet::new();
    for log in &read {
        let log = log.clone();
        readings.spawn(async move { log.until_len(1, DEADLINE).await });
    }
    while let Some(ended) = readings.join_next().await {
        ended.map_err(|error| Failure::machine("read the logs", error))??;
    }
    Ok(read)
}

const WARM_READS: u32 = 100_000;
