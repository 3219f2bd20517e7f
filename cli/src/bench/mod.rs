//! `gig bench`: how fast this is here, in rows of `name value unit` (`docs/performance.md` says what each means).
//!
//! What is measured is what users run: the client library in this process, and a table and a store that are processes of
//! their own, on loopback, with their data in a temporary folder. Or, with `--channel`, a channel that there is, with the
//! stores that it has.

mod device;
mod ground;
mod load;
mod machine;
mod pace;
mod reading;
mod report;
mod server;
mod sizes;
mod store;

use std::time::Duration;

use gigfs::Gig;

use crate::args::{BenchArgs, BenchPart};
use crate::failure::Failure;
use crate::output::Output;
use crate::profile::Home;

use ground::Ground;
use report::Report;
use sizes::Sizes;

/// How long anything may take that a measurement waits for.
const DEADLINE: Duration = Duration::from_secs(120);

pub(crate) async fn bench(home: &Home, output: Output, args: BenchArgs) -> Result<(), Failure> {
    let sizes = Sizes::of(&args);
    let mut report = Report::new(output);
    report.step("starting servers");
    let mut ground = match &args.channel {
        Some(channel) => Ground::given(home, channel, args.data.as_deref()).await?,
        None => Ground::own(args.data.as_deref()).await?,
    };
    let measured = measure(&mut ground, &sizes, &args, &mut report).await;
    report.step("cleaning up");
    let cleaned_up = ground.clean_up().await;
    measured?;
    cleaned_up?;
    report.finish()
}

async fn measure(ground: &mut Ground, sizes: &Sizes, args: &BenchArgs, report: &mut Report) -> Result<(), Failure> {
    report.machine(machine::Machine::of(ground.folder())?)?;
    let wants = |part: BenchPart| args.only.is_empty() || args.only.contains(&part);
    if wants(BenchPart::Ack) {
        pace::acknowledgements(ground, sizes, report).await?;
    }
    if wants(BenchPart::Prop) {
        pace::propagation(ground, sizes, report).await?;
    }
    if wants(BenchPart::Subscribers) && ground.has_own_store() {
        pace::subscribers(ground, sizes, report).await?;
    }
    if wants(BenchPart::Get) {
        reading::gets(ground, sizes, report).await?;
    }
    if wants(BenchPart::Push) {
        device::pushes(ground, sizes, report).await?;
    }
    if wants(BenchPart::Fold) {
        device::folds(sizes, report).await?;
    }
    if wants(BenchPart::CatchUp) && ground.has_own_store() {
        reading::catch_up(ground, sizes, report).await?;
    }
    if wants(BenchPart::Open) && ground.has_own_store() {
        store::opening(ground, sizes, report).await?;
    }
    Ok(())
}

/// Closes a client that keeps nothing on disk. Everything that it pushed is at a store by then.
async fn close(gig: Gig) -> Result<(), Failure> {
    Ok(gig.close().await?)
}
