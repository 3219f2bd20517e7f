//! The store's figures, in a recorder of its own, so that a table and a store in one process do not mix theirs.
//!
//! No label holds a user, a path as it came, or anything else that a client can make up. What is counted on every push
//! has a handle that is made once.

use std::sync::Arc;
use std::time::Duration;

use gigfs_core::ErrorCode;
use gigfs_core::api::PushResult;
use metrics::{
    Counter, Gauge, Histogram, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
    with_local_recorder,
};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

/// The figures of one store.
#[derive(Clone)]
pub(crate) struct Metrics {
    recorder: Arc<PrometheusRecorder>,
    handle: PrometheusHandle,
    pub(crate) pushes: Counter,
    accepted: Counter,
    known: Counter,
    commits: Counter,
    commits_failed: Counter,
    commit_ops: Histogram,
    commit_seconds: Histogram,
    pub(crate) stored_bytes: Counter,
    pub(crate) events: Counter,
    pub(crate) sent_bytes: Counter,
    streams: Gauge,
}

/// A stream that is counted for as long as this lives.
pub(crate) struct CountedStream(Gauge);

impl Metrics {
    /// Makes a recorder that nobody else writes to.
    pub(crate) fn new() -> Self {
        let builder = PrometheusBuilder::new()
            .set_buckets(&SECONDS_BUCKETS)
            .and_then(|builder| builder.set_buckets_for_metric(Matcher::Full(COMMIT_OPS.to_owned()), &OPS_BUCKETS))
            .expect("there are buckets");
        let recorder = Arc::new(builder.build_recorder());
        with_local_recorder(&*recorder, || {
            describe_counter!(PUSHES, "Pushes that came to be committed");
            describe_counter!(OPS, "Pushed operations by result, and by code where they were refused");
            describe_counter!(COMMITS, "Commits that went through; each is one sync of the disk");
            describe_counter!(COMMITS_FAILED, "Commits that failed");
            describe_histogram!(COMMIT_OPS, "Operations in a commit");
            describe_histogram!(COMMIT_SECONDS, "Seconds that a commit took");
            describe_counter!(STORED_BYTES, "Bytes of operation records that were stored");
            describe_counter!(EVENTS, "Events sent to streams");
            describe_counter!(SENT_BYTES, "Bytes of messages sent to streams");
            describe_gauge!(STREAMS, "Streams that are open");
            describe_counter!(REQUESTS, "Requests by route, method and status");
            describe_histogram!(REQUEST_SECONDS, "Seconds until a request's answer began");
            gauge!(STREAMS).set(0.0);
            Self {
                recorder: recorder.clone(),
                handle: recorder.handle(),
                pushes: counter!(PUSHES),
                accepted: counter!(OPS, "result" => "accepted"),
                known: counter!(OPS, "result" => "known"),
                commits: counter!(COMMITS),
                commits_failed: counter!(COMMITS_FAILED),
                commit_ops: histogram!(COMMIT_OPS),
                commit_seconds: histogram!(COMMIT_SECONDS),
                stored_bytes: counter!(STORED_BYTES),
                events: counter!(EVENTS),
                sent_bytes: counter!(SENT_BYTES),
                streams: gauge!(STREAMS),
            }
        })
    }

    /// Counts what became of pushed operations.
    pub(crate) fn results(&self, results: &[PushResult]) {
        for result in results {
            match result {
                PushResult::Accepted { .. } => self.accepted.increment(1),
                PushResult::Known { .. } | PushResult::Covered { .. } => self.known.increment(1),
                PushResult::Refused(refusal) => self.refused(refusal.code),
            }
        }
    }

    fn refused(&self, code: ErrorCode) {
        with_local_recorder(&*self.recorder, || {
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

    /// Counts an answered request.
    pub(crate) fn request(&self, route: &str, method: &'static str, status: u16, took: Duration) {
        let (route, status) = (route.to_owned(), status.to_string());
        with_local_recorder(&*self.recorder, || {
            counter!(REQUESTS, "route" => route.clone(), "method" => method, "status" => status).increment(1);
            histogram!(REQUEST_SECONDS, "route" => route).record(took);
        });
    }

    /// Counts a stream until the value that this returns is dropped.
    pub(crate) fn stream(&self) -> CountedStream {
        self.streams.increment(1.0);
        CountedStream(self.streams.clone())
    }

    /// Folds what was recorded, so that it does not pile up while nobody reads.
    pub(crate) fn fold(&self) {
        self.handle.run_upkeep();
    }

    /// Writes all figures in Prometheus' text format.
    pub(crate) fn render(&self) -> String {
        self.handle.render()
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
const EVENTS: &str = "gigfs_store_events_total";
const SENT_BYTES: &str = "gigfs_store_sent_bytes_total";
const STREAMS: &str = "gigfs_store_streams";
const REQUESTS: &str = "gigfs_store_requests_total";
const REQUEST_SECONDS: &str = "gigfs_store_request_seconds";
const SECONDS_BUCKETS: [f64; 10] = [0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1.0, 10.0];
const OPS_BUCKETS: [f64; 8] = [1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0, 16384.0];
