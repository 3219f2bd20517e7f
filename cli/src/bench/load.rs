//! Closed loops of pushes, and what they took.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use gigfs::Log;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::failure::{Exit, Failure};

/// How long each of many took.
#[derive(Debug, Default)]
pub(super) struct Samples(Vec<Duration>);

impl Samples {
    pub(super) fn add(&mut self, took: Duration) {
        self.0.push(took);
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns how long it took at most for so many of a hundred.
    pub(super) fn at(&self, hundredths: usize) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let place = (sorted.len() * hundredths / 100).min(sorted.len().saturating_sub(1));
        sorted.get(place).copied().unwrap_or_default()
    }
}

/// Bytes of the payload of one operation, as it is logged.
pub(super) const PAYLOAD_BYTES: usize = 256;

/// Returns what sets a register to something new, in a payload of [`PAYLOAD_BYTES`].
pub(super) fn setting(number: usize) -> Value {
    let frame = json!({"set": ""}).to_string().len();
    let filled = PAYLOAD_BYTES - frame;
    json!({"set": format!("{number:0>filled$}")})
}

/// Has `in_flight` loops push to the logs in turn, each waiting until a store has its operation on disk, until there were
/// `ops` of them or the time is over. Returns how long each took, and all.
pub(super) async fn acknowledged(
    logs: &[Log],
    in_flight: usize,
    ops: usize,
    time: Duration,
) -> Result<(Samples, Duration), Failure> {
    let next = Arc::new(AtomicUsize::new(0));
    let begun = Instant::now();
    let mut loops = JoinSet::new();
    for at in 0..in_flight {
        let (log, next) = (logs[at % logs.len()].clone(), next.clone());
        loops.spawn(async move {
            let mut took = Vec::new();
            while begun.elapsed() < time {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= ops {
                    break;
                }
                let intent = setting(number);
                let started = Instant::now();
                let receipt = log.push(&intent).await?.accepted(1).await;
                if receipt.accepted() == 0 {
                    return Err(refused(&log));
                }
                took.push(started.elapsed());
            }
            Ok(took)
        });
    }
    let mut samples = Samples::default();
    while let Some(ended) = loops.join_next().await {
        samples.0.extend(ended.map_err(|error| Failure::machine("push", error))??);
    }
    Ok((samples, begun.elapsed()))
}

/// Pushes so many operations to each of the logs, all logs at once, until a store has them on disk.
pub(super) async fn filled(logs: &[Log], ops: usize) -> Result<(), Failure> {
    let mut loops = JoinSet::new();
    for log in logs {
        loops.spawn(fill(log.clone(), ops));
    }
    while let Some(ended) = loops.join_next().await {
        ended.map_err(|error| Failure::machine("push", error))??;
    }
    Ok(())
}

async fn fill(log: Log, ops: usize) -> Result<(), Failure> {
    for number in 0..ops {
        if log.push(&setting(number)).await?.accepted(1).await.accepted() == 0 {
            return Err(refused(&log));
        }
    }
    Ok(())
}

fn refused(log: &Log) -> Failure {
    Failure::new(Exit::Refused, "refused", format!("no store took what was pushed to {}", log.name()))
        .hint("`gig status` says why")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_has_the_size_that_the_rows_are_about() {
        assert_eq!(setting(7).to_string().len(), PAYLOAD_BYTES);
        assert_ne!(setting(7), setting(8));
    }

    #[test]
    fn percentiles_are_of_the_samples() {
        let samples = Samples((1..=100).rev().map(Duration::from_millis).collect());
        assert_eq!((samples.at(50).as_millis(), samples.at(99).as_millis()), (51, 100));
        assert_eq!(Samples::default().at(50), Duration::ZERO);
    }
}
