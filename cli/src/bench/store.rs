//! What the store needs for what it holds: to start, in memory, and on disk.

use std::path::PathBuf;

use gigfs::Log;
use gigfs_storage::Fjall;

use crate::bench::close;
use crate::bench::ground::Ground;
use crate::bench::load::filled;
use crate::bench::report::{Report, millis};
use crate::bench::server::Server;
use crate::bench::sizes::Sizes;
use crate::failure::Failure;

/// Kills the store and starts it again over all that it holds by now, and more if that is wanted.
pub(super) async fn opening(ground: &mut Ground, sizes: &Sizes, report: &mut Report) -> Result<(), Failure> {
    fill(ground, "filled", sizes.filled, report).await?;
    let mut held = Held::default();
    open_again(ground, "", &mut held, report).await?;
    let Some(store) = ground.store_mut() else { return Ok(()) };
    disk(store, &held, "disk", report)?;
    report.step("compacting the store's data");
    store.kill().await?;
    compact(store.data().join(OPLOGS)).await?;
    disk(store, &held, "disk_compacted", report)?;
    if sizes.many_logs > 0 {
        store.restart().await?;
        report.row("many_logs", sizes.many_logs as f64, "logs")?;
        fill(ground, "many", (sizes.many_logs, 1), report).await?;
        open_again(ground, "many_logs_", &mut held, report).await?;
    }
    Ok(())
}

/// What a store has taken in.
#[derive(Default)]
struct Held {
    ops: f64,
    /// Of their records.
    bytes: f64,
}

/// Kills the bench's own store, if there is one, and starts it again. Adds what it had taken in since its start.
async fn open_again(ground: &mut Ground, name: &str, held: &mut Held, report: &mut Report) -> Result<(), Failure> {
    report.step("opening the store again");
    let Some(store) = ground.store_mut() else { return Ok(()) };
    held.ops += store.figure("gigfs_store_ops_total{result=\"accepted\"}").await?;
    held.bytes += store.figure("gigfs_store_stored_bytes_total").await?;
    if let Some(memory) = store.memory() {
        report.row(&format!("{name}rss"), mebibytes(memory as f64), "MiB")?;
    }
    let took = store.restart().await?;
    report.row(&format!("{name}open_ms"), millis(took), "ms")?;
    report.row(&format!("{name}open_ops"), held.ops, "ops")?;
    if let Some(memory) = store.memory() {
        report.row(&format!("{name}open_rss"), mebibytes(memory as f64), "MiB")?;
    }
    Ok(())
}

/// Tells what the operations take on disk, and how much more that is than their records have.
fn disk(store: &Server, held: &Held, name: &str, report: &mut Report) -> Result<(), Failure> {
    let disk = store.disk(OPLOGS)? as f64;
    report.row(&format!("{name}_bytes_per_op"), disk / held.ops, "bytes/op")?;
    report.row(&format!("{name}_ratio"), disk / held.bytes, "times")
}

/// Has the engine tidy up the data of a store that does not run.
async fn compact(folder: PathBuf) -> Result<(), Failure> {
    let compacting = tokio::task::spawn_blocking(move || Fjall::open(&folder)?.compact()).await;
    let compacted = compacting.map_err(|error| Failure::machine("compact the store's data", error))?;
    compacted.map_err(|error| Failure::machine("compact the store's data", error))
}

/// Fills the store with so many logs of so many operations each, one client after the other, so that no client holds all
/// of it.
async fn fill(ground: &mut Ground, folder: &str, (logs, ops): (usize, usize), report: &Report) -> Result<(), Failure> {
    let channel = ground.channel();
    for from in (0..logs).step_by(LOGS_AT_ONCE) {
        report.step(format!("filling the store: {from} of {logs} logs"));
        let gig = ground.client().await?;
        let until = logs.min(from + LOGS_AT_ONCE);
        let own = (from..until).map(|number| ground.log(&gig, &channel, "register", &format!("/{folder}/{number}")));
        let own = own.collect::<Result<Vec<Log>, Failure>>()?;
        filled(&own, ops).await?;
        close(gig).await?;
    }
    Ok(())
}

fn mebibytes(bytes: f64) -> f64 {
    bytes / f64::from(1 << 20)
}

/// The folder of the oplogs in a store's data.
const OPLOGS: &str = "oplogs";
const LOGS_AT_ONCE: usize = 4_000;
