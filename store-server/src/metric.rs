//! The store's figures, in a recorder of its own, so that a table and a store in one process do not mix theirs.
//!
//! No label holds a user, a path as it came, or anything else that a client can make up. What is counted on every push
//! has a handle that is made once.

use std::time::Duration;

use gigfs_core::ErrorCode;
use gigfs_core::api::PushResult;
use gigfs_serve::{Figures, RequestNames};
use metrics::{
    Counter, Gauge, Histogram, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};

/// The figures of one store.
#[derive(Clone)]
pub(crate) struct Metrics {
    pub(crate) figures: Figures,
    pub(crate) pushes: Counter,
    accepted: Counter,
    known: Counter,
    covered: Counter,
    commits: Counter,
    commits_failed: Counter,
    commit_ops: Histogram,
    commit_seconds: Histogram,
    pub(crate) stored_bytes: Counter,
    pub(crate) forgotten: Counter,
    pub(crate) events: Counter,
    pub(crate) sent_bytes: Counter,
    streams: Gauge,
    queued_bytes: Gauge,
}

/// Bytes that wait for a client, counted for as long as this lives.
pub(crate) struct CountedBytes(Gauge, f64);

/// A stream that is counted for as long as this lives.
pub(crate) struct CountedStream(Gauge);

impl Metrics {
    /// Makes a recorder that nobody else writes to.
    pub(crate) fn new() -> Self {
        let builder = PrometheusBuilder::new()
            .set_buckets(&SECONDS_BUCKETS)
            .and_then(|builder| builder.set_buckets_for_metric(Matcher::Full(COMMIT_OPS.to_owned()), &OPS_BUCKETS))
            .expect("there are buckets");
        let figures = Figures::new(builder, REQUESTS);
        figures.clone().record(|| {
            describe_counter!(PUSHES, "Pushes that came to be committed");
            describe_counter!(OPS, "Pushed operations by result, and by code where they were refused");
            describe_counter!(COMMITS, "Commits that went through; each is one sync of the disk");
            describe_counter!(COMMITS_FAILED, "Commits that failed");
            describe_histogram!(COMMIT_OPS, "Operations in a commit");
            describe_histogram!(COMMIT_SECONDS, "Seconds that a commit took");
            describe_counter!(STORED_BYTES, "Bytes of operation records that were stored");
            describe_counter!(FORGOTTEN, "Covered operations, and bases that were superseded, that are kept no more");
            describe_counter!(EVENTS, "Events sent to streams");
            describe_counter!(SENT_BYTES, "Bytes of messages sent to streams");
            describe_gauge!(STREAMS, "Streams that are open");
            describe_gauge!(QUEUED_BYTES, "Bytes of messages that wait until the clients of streams take them");
            gauge!(STREAMS).set(0.0);
            gauge!(QUEUED_BYTES).set(0.0);
            Self {
                figures,
                pushes: counter!(PUSHES),
                accepted: counter!(OPS, "result" => "accepted"),
                known: counter!(OPS, "result" => "known"),
                covered: counter!(OPS, "result" => "covered"),
                commits: counter!(COMMITS),
                commits_failed: counter!(COMMITS_FAILED),
                commit_ops: histogram!(COMMIT_OPS),
                commit_seconds: histogram!(COMMIT_SECONDS),
                stored_bytes: counter!(STORED_BYTES),
                forgotten: counter!(FORGOTTEN),
                events: counter!(EVENTS),
                sent_bytes: counter!(SENT_BYTES),
                streams: gauge!(STREAMS),
                queued_bytes: gauge!(QUEUED_BYTES),
            }
        })
    }

    /// Counts what became of pushed operations.
    pub(crate) fn results(&self, results: &[PushResult]) {
        for result in results {
            match result {
                PushResult::Accepted { .. } => self.accepted.increment(1),
                PushResult::Known { .. } => self.known.increment(1),
                PushResult::Covered { .. } => self.covered.increment(1),
                PushResult::Refused(refusal) => self.refused(refusal.code),
            }
        }
    }

    fn refused(&self, code: ErrorCode) {
        self.figures.record(|| {
            counter!(OPS, "result" => "refused", "code" => code.as_str()).increment(1);
        });
    }

    /// Counts a commit.
    #[expect(clippy::cast_precision_loss, reason = "a histogram is of floats, and exact far beyond any commit")]
    pub(crate) fn commit(&self, ops: usize, took: Duration, went_through: bool) {
        match went_through {
            true => self.commits.increment(1),
            false => self.commits_failed.increment(1),
        }
        self.commit_ops.record(ops as f64);
        self.commit_seconds.record(took);
    }

    /// Counts a stream until the value that this returns is dropped.
    pub(crate) fn stream(&self) -> CountedStream {
        self.streams.increment(1.0);
        CountedStream(self.streams.clone())
    }
}

impl Metrics {
    /// Counts bytes that wait until the value that this returns is dropped.
    #[expect(clippy::cast_precision_loss, reason = "a gauge is a float, and exact far beyond any queue")]
    pub(crate) fn waiting(&self, bytes: usize) -> CountedBytes {
        self.queued_bytes.increment(bytes as f64);
        CountedBytes(self.queued_bytes.clone(), bytes as f64)
    }
}

impl Drop for CountedBytes {
    fn drop(&mut self) {
        self.0.decrement(self.1);
    }
}

impl Drop for CountedStream {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

const PUSHES: &str = "gigfs_store_pushes_total";
const OPS: &str = "gigfs_store_ops_total";
const COMMITS: &str = "gigfs_store_commits_total";
const COMMITS_FAILED: &str = "gigfs_store_commits_failed_total";
const COMMIT_OPS: &str = "gigfs_store_commit_ops";
const COMMIT_SECONDS: &str = "gigfs_store_commit_seconds";
const STORED_BYTES: &str = "gigfs_store_stored_bytes_total";
const FORGOTTEN: &str = "gigfs_store_forgotten_ops_total";
const EVENTS: &str = "gigfs_store_events_total";
const SENT_BYTES: &str = "gigfs_store_sent_bytes_total";
const STREAMS: &str = "gigfs_store_streams";
const QUEUED_BYTES: &str = "gigfs_store_stream_queued_bytes";
const REQUESTS: RequestNames = RequestNames {
    count: "gigfs_store_requests_total",
    seconds: "gigfs_store_request_seconds",
    connections: "gigfs_store_connections",
    connections_refused: "gigfs_store_connections_refused_total",
};
const SECONDS_BUCKETS: [f64; 10] = [0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1.0, 10.0];
const OPS_BUCKETS: [f64; 8] = [1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0, 16384.0];
