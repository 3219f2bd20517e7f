//! The table's figures, in a recorder of its own, so that a table and a store in one process do not mix theirs.
//!
//! No label holds a user, a path as it came, or anything else that a client can make up.

use gigfs_serve::{Figures, RequestNames};
use metrics::{counter, describe_counter, describe_gauge, gauge};
use metrics_exporter_prometheus::PrometheusBuilder;

/// The figures of one table.
#[derive(Clone)]
pub(crate) struct Metrics {
    pub(crate) figures: Figures,
}

/// A stream that is counted for as long as this lives.
pub(crate) struct CountedStream {
    metrics: Metrics,
}

impl Metrics {
    /// Makes a recorder that nobody else writes to.
    pub(crate) fn new() -> Self {
        let builder = PrometheusBuilder::new().set_buckets(&SECONDS_BUCKETS).expect("there are buckets");
        let figures = Figures::new(builder, REQUESTS);
        figures.record(|| {
            describe_gauge!(STREAMS, "Streams of mount table changes that are open");
            describe_gauge!(REVOCATIONS_QUEUED, "Revocations that stores have not heard of yet");
            describe_counter!(REVOCATION_CALLS, "Revocation calls to stores by outcome");
            describe_counter!(CHECKPOINTS, "Checkpoints proposed to the register, and questions to it, by outcome");
            gauge!(STREAMS).set(0.0);
            gauge!(REVOCATIONS_QUEUED).set(0.0);
        });
        Self { figures }
    }

    /// Counts a stream until the value that this returns is dropped.
    pub(crate) fn stream(&self) -> CountedStream {
        self.figures.record(|| gauge!(STREAMS).increment(1.0));
        CountedStream { metrics: self.clone() }
    }

    /// Sets the length of the revocation queue.
    #[expect(clippy::cast_precision_loss, reason = "a gauge is a float, and exact far beyond any queue")]
    pub(crate) fn revocations_queued(&self, queued: u64) {
        self.figures.record(|| gauge!(REVOCATIONS_QUEUED).set(queued as f64));
    }

    /// Counts a call to a store.
    pub(crate) fn revocation_called(&self, outcome: &'static str) {
        self.figures.record(|| counter!(REVOCATION_CALLS, "outcome" => outcome).increment(1));
    }

    /// Counts what became of the proposals of one request.
    pub(crate) fn checkpoints_decided(&self, outcomes: &[&'static str]) {
        self.figures.record(|| {
            for outcome in outcomes {
                counter!(CHECKPOINTS, "outcome" => *outcome).increment(1);
            }
        });
    }
}

impl Drop for CountedStream {
    fn drop(&mut self) {
        self.metrics.figures.record(|| gauge!(STREAMS).decrement(1.0));
    }
}

const REQUESTS: RequestNames = RequestNames {
    count: "gigfs_table_requests_total",
    seconds: "gigfs_table_request_seconds",
    connections: "gigfs_table_connections",
    connections_refused: "gigfs_table_connections_refused_total",
};
const STREAMS: &str = "gigfs_table_streams";
const REVOCATIONS_QUEUED: &str = "gigfs_table_revocations_queued";
const REVOCATION_CALLS: &str = "gigfs_table_revocation_calls_total";
const CHECKPOINTS: &str = "gigfs_table_checkpoints_total";
const SECONDS_BUCKETS: [f64; 9] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1.0, 10.0];
