//! A wire world as a list of steps, which a seed makes up.

use gigfs::{Mode, PrunePolicy};
use gigfs_sim::Rng;

use crate::ledger::KINDS;
use crate::proxy::Way;

/// How a world begins.
#[derive(Debug, Clone)]
pub(crate) struct Spec {
    /// For each client, which folder it keeps its data in, if it keeps any. Two with one folder are two processes of one
    /// device.
    pub(crate) clients: Vec<Option<usize>>,
    /// How many stores there are.
    pub(crate) stores: usize,
    /// How many of them the channel begins with.
    pub(crate) mounted: usize,
    /// The types of the logs.
    pub(crate) logs: Vec<&'static str>,
    /// When the clients prune.
    pub(crate) prune: PrunePolicy,
    /// Whether the channel is sealed.
    pub(crate) sealed: bool,
    /// How many of a hundred troubles come to be; the others are mends instead.
    pub(crate) trouble: u64,
}

/// A server: the table, or a store by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Host {
    Table,
    Store(usize),
}

/// The wire between a client, or the other servers where there is none, and a server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Between {
    pub(crate) client: Option<usize>,
    pub(crate) host: Host,
}

/// One thing that happens.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Step {
    /// The script goes on after so long; everything else goes on meanwhile.
    Wait {
        millis: u64,
    },
    /// So many writes, one behind the other.
    Write {
        client: usize,
        log: usize,
        writes: usize,
    },
    /// The log is read through at every store that answers.
    Refresh {
        client: usize,
        log: usize,
    },
    /// The log is pruned, if that can be done.
    Prune {
        client: usize,
        log: usize,
    },
    /// The log is removed by a client that hears nothing while it does so.
    Remove {
        client: usize,
        log: usize,
    },
    Hold {
        wire: Between,
        way: Way,
    },
    Delay {
        wire: Between,
        millis: u64,
    },
    Cut {
        wire: Between,
        way: Way,
        bytes: u64,
        reset: bool,
    },
    Partition {
        wire: Between,
    },
    /// The wire is made whole.
    Mend {
        wire: Between,
    },
    /// The server is killed.
    Crash {
        host: Host,
    },
    /// The server is stopped in order.
    Stop {
        host: Host,
    },
    Start {
        host: Host,
    },
    /// The store comes to the channel.
    Join {
        store: usize,
    },
    /// The store is sealed, drained by the client, and taken off the channel.
    Leave {
        client: usize,
        store: usize,
    },
    SetMode {
        client: usize,
        mode: Mode,
    },
    /// The client tries everything at once, for a moment.
    Hurry {
        client: usize,
    },
    /// Everything is made whole and exchanged, and the client prunes all logs, as far as a moment is enough for that.
    Peace {
        client: usize,
    },
    /// The client is closed and opened again: over the same folder, or with what only it had lost.
    Reopen {
        client: usize,
    },
}

/// Makes up a world of so many steps from a seed.
pub(crate) fn script(seed: u64, steps: usize) -> (Spec, Vec<Step>) {
    let mut rng = Rng::new(seed ^ 0x77_69_72_65);
    let spec = Spec { sealed: seed % 2 == 1, ..spec(&mut rng) };
    let steps = (0..steps).map(|_| step(&spec, &mut rng)).collect();
    (spec, steps)
}

fn spec(rng: &mut Rng) -> Spec {
    let count = 2 + rng.index(3);
    let mut clients: Vec<Option<usize>> = (0..count).map(|at| rng.chance(65).then_some(at)).collect();
    if rng.chance(20) {
        (clients[0], clients[1]) = (Some(0), Some(0));
    }
    let stores = 1 + rng.index(3);
    let mounted = 1 + rng.index(stores);
    let mut logs: Vec<&'static str> = KINDS.to_vec();
    while logs.len() > 2 && rng.chance(60) {
        logs.remove(rng.index(logs.len()));
    }
    let prune = match rng.below(2) {
        0 => PrunePolicy::OnDemand,
        _ => PrunePolicy::Automatic { ops: 2 + rng.index(20), bytes: usize::MAX, quiet: 50_000 + rng.below(500_000) },
    };
    let trouble = [15, 40, 100][rng.index(3)];
    Spec { clients, stores, mounted, logs, prune, sealed: false, trouble }
}

fn step(spec: &Spec, rng: &mut Rng) -> Step {
    let client = rng.index(spec.clients.len());
    let log = rng.index(spec.logs.len());
    let store = rng.index(spec.stores);
    let host = if rng.chance(25) { Host::Table } else { Host::Store(store) };
    let wire = Between { client: (!rng.chance(10)).then_some(client), host };
    let way = if rng.chance(50) { Way::There } else { Way::Back };
    let roll = rng.below(100);
    if matches!(roll, 60..=74 | 82..=84) && !rng.chance(spec.trouble) {
        return if rng.chance(50) { Step::Mend { wire } } else { Step::Start { host } };
    }
    match roll {
        0..=11 => {
            let most = [10, 50, 250][rng.index(3)];
            Step::Wait { millis: 1 + rng.below(most) }
        }
        12..=46 => Step::Write { client, log, writes: [1, 1, 1, 2, 8][rng.index(5)] },
        47..=50 => Step::Refresh { client, log },
        51..=57 => Step::Prune { client, log },
        58..=59 => Step::Remove { client, log },
        60..=63 => Step::Hold { wire, way },
        64..=65 => Step::Delay { wire, millis: 1 + rng.below(40) },
        66..=71 => {
            let most = [40, 400, 4_000][rng.index(3)];
            Step::Cut { wire, way, bytes: 1 + rng.below(most), reset: rng.chance(50) }
        }
        72..=74 => Step::Partition { wire },
        75..=81 => Step::Mend { wire },
        82..=83 => Step::Crash { host },
        84 => Step::Stop { host },
        85..=88 => Step::Start { host },
        89..=90 => Step::Join { store },
        91..=92 => Step::Leave { client, store },
        93..=95 => {
            let modes = [Mode::Online, Mode::Online, Mode::SendOnly, Mode::ReceiveOnly, Mode::Paused, Mode::Offline];
            Step::SetMode { client, mode: modes[rng.index(modes.len())] }
        }
        96 => Step::Hurry { client },
        97 => Step::Peace { client },
        _ => Step::Reopen { client },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_makes_up_one_script() {
        let (one, other) = (script(7, 100), script(7, 100));
        assert_eq!(format!("{one:?}"), format!("{other:?}"));
        assert_ne!(format!("{one:?}"), format!("{:?}", script(8, 100)));
    }
}
