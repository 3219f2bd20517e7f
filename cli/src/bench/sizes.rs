//! How much is measured.

use std::time::Duration;

use crate::args::BenchArgs;

/// How much of everything.
#[derive(Debug, Clone)]
pub(super) struct Sizes {
    /// How long one load lasts at most.
    pub(super) time: Duration,
    /// Operations of one load at most.
    pub(super) ops: usize,
    /// Connections where there are many.
    pub(super) connections: usize,
    /// Operations whose propagation is measured, one after the other.
    pub(super) propagations: usize,
    /// Clients that follow one log, and operations that are told to all of them.
    pub(super) subscribers: (usize, usize),
    /// Operations of the logs that are read.
    pub(super) read_logs: &'static [usize],
    /// How often a reading is repeated.
    pub(super) readings: usize,
    /// Operations that are pushed to a device's own store, and folded.
    pub(super) local_ops: usize,
    /// Logs that a client knows before it is cut off.
    pub(super) known_logs: usize,
    /// Logs, of those, that change meanwhile.
    pub(super) changed_logs: usize,
    /// What the store is filled with before it is opened again: logs, and operations of each.
    pub(super) filled: (usize, usize),
    /// Logs of one operation each that come to it then, before it is opened once more; none where that is not measured.
    pub(super) many_logs: usize,
}

impl Sizes {
    pub(super) fn of(args: &BenchArgs) -> Self {
        let mut sizes = match (args.short, args.heavy) {
            (true, _) => Self::short(),
            (false, true) => Self::heavy(),
            (false, false) => Self::usual(),
        };
        if let Some(seconds) = args.seconds {
            sizes.time = Duration::from_secs(seconds);
        }
        sizes
    }

    fn usual() -> Self {
        Self {
            time: Duration::from_secs(5),
            ops: 100_000,
            connections: 64,
            propagations: 500,
            subscribers: (1_000, 100),
            read_logs: &[10, 1_000, 10_000],
            readings: 5,
            local_ops: 10_000,
            known_logs: 10_000,
            changed_logs: 100,
            filled: (1_000, 20),
            many_logs: 0,
        }
    }

    fn heavy() -> Self {
        Self { known_logs: 100_000, filled: (100_000, 20), many_logs: 1_000_000, ..Self::usual() }
    }

    fn short() -> Self {
        Self {
            time: Duration::from_millis(500),
            ops: 2_000,
            connections: 8,
            propagations: 20,
            subscribers: (10, 10),
            read_logs: &[10, 1_000],
            readings: 2,
            local_ops: 500,
            known_logs: 100,
            changed_logs: 10,
            filled: (10, 10),
            many_logs: 0,
        }
    }
}
