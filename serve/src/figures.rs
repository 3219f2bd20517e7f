//! A server's figures, in a recorder of its own, so that a table and a store in one process do not mix theirs.

use std::sync::Arc;
use std::time::Duration;

use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram, with_local_recorder};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

/// A recorder that nobody else writes to, and the figures of requests in it.
#[derive(Clone)]
pub struct Figures {
    recorder: Arc<PrometheusRecorder>,
    handle: PrometheusHandle,
    names: RequestNames,
}

/// What the figures of requests are called.
#[derive(Debug, Clone, Copy)]
pub struct RequestNames {
    /// The counter of requests by route, method and status.
    pub count: &'static str,
    /// The histogram of seconds until an answer began, by route.
    pub seconds: &'static str,
    /// The gauge of open connections.
    pub connections: &'static str,
    /// The counter of connections that were closed because there were too many.
    pub connections_refused: &'static str,
}

impl Figures {
    /// Makes the recorder.
    pub fn new(builder: PrometheusBuilder, names: RequestNames) -> Self {
        let recorder = builder.build_recorder();
        let handle = recorder.handle();
        let figures = Self { recorder: Arc::new(recorder), handle, names };
        figures.record(|| {
            describe_counter!(names.count, "Requests by route, method and status");
            describe_histogram!(names.seconds, "Seconds until a request's answer began");
            describe_gauge!(names.connections, "Connections that are open");
            describe_counter!(
                names.connections_refused,
                "Connections that were closed at once, as there were too many"
            );
            gauge!(names.connections).set(0.0);
            counter!(names.connections_refused).absolute(0);
        });
        figures
    }

    /// Runs `recording` with the macros of `metrics` writing here.
    pub fn record<T>(&self, recording: impl FnOnce() -> T) -> T {
        with_local_recorder(&*self.recorder, recording)
    }

    /// Counts an answered request.
    pub fn request(&self, route: &str, method: &'static str, status: u16, took: Duration) {
        let (route, status) = (route.to_owned(), status.to_string());
        self.record(|| {
            counter!(self.names.count, "route" => route.clone(), "method" => method, "status" => status).increment(1);
            histogram!(self.names.seconds, "route" => route).record(took);
        });
    }

    /// Sets the number of open connections.
    #[expect(
        clippy::cast_precision_loss,
        reason = "a gauge is a float, and exact far beyond any number of connections"
    )]
    pub(crate) fn connections(&self, open: usize) {
        self.record(|| gauge!(self.names.connections).set(open as f64));
    }

    /// Counts a connection that was one too many.
    pub(crate) fn connection_refused(&self) {
        self.record(|| counter!(self.names.connections_refused).increment(1));
    }

    /// Folds what was recorded, so that it does not pile up while nobody reads.
    pub fn fold(&self) {
        self.handle.run_upkeep();
    }

    /// Writes all figures in Prometheus' text format.
    pub fn render(&self) -> String {
        self.handle.render()
    }
}
