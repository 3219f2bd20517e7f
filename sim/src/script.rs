//! A world as a list of steps, which a seed makes up and which can be cut down to what matters.

use std::collections::BTreeSet;

use gigfs_core::sync::{Mode, PrunePolicy};
use gigfs_storage::Fault;

use crate::payload::TYPES;
use crate::rng::Rng;
use crate::store::Manners;
use crate::world::{Counts, Spec, Violation, World};

/// One thing that happens in a world. Numbers name clients, stores, logs and channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is named after the method of a world that it calls")]
pub enum Step {
    Wait { millis: u64 },
    Write { client: usize, log: usize, shape: u64 },
    Burst { client: usize, log: usize, writes: u64 },
    Open { client: usize, log: usize },
    Compare { client: usize, log: usize },
    Partition { client: usize, store: usize },
    Heal { client: usize, store: usize },
    Cut { client: usize, store: usize, client_first: bool },
    Crash { client: usize },
    CutPower { client: usize },
    Restart { client: usize },
    CrashStore { store: usize },
    StartStore { store: usize },
    SetClock { client: usize, seconds: i64 },
    FillStore { store: usize, full: bool },
    FailStore { store: usize, fault: Fault },
    DenyReads { store: usize, denied: bool },
    FailDisk { client: usize, fault: Fault, times: usize },
    Join { channel: usize, store: usize },
    Leave { channel: usize, store: usize },
    SetMode { client: usize, mode: Mode },
    Hurry { client: usize },
    BackUp { store: usize },
    Restore { store: usize, silently: bool },
    Remount { client: usize },
    Prune { client: usize, log: usize },
    Repair { client: usize, log: usize },
    Remove { client: usize, log: usize },
    Abandon { channel: usize, store: usize },
    BackUpDevice { client: usize },
    RestoreDevice { client: usize, noticed: bool },
    ForgetRetained { store: usize },
    TableDown { down: bool },
    BackUpTable,
    RestoreTable,
}

/// A world to be played: how it begins, and what happens in it.
#[derive(Debug, Clone)]
pub struct Script {
    /// How it begins.
    pub spec: Spec,
    /// What happens.
    pub steps: Vec<Step>,
}

impl Script {
    /// Makes up a world of so many steps from a seed.
    pub fn of(seed: u64, steps: usize) -> Self {
        let mut rng = Rng::new(seed ^ 0x5851_f42d_4c95_7f2d);
        let spec = spec(seed, &mut rng);
        let steps = (0..steps).map(|_| step(&spec, &mut rng)).collect();
        Self { spec, steps }
    }

    /// Plays it, makes everything whole, and checks that the world comes to rest as it must.
    ///
    /// # Errors
    /// [`Violation`], the first; a panic is one.
    pub fn play(&self) -> Result<Counts, Violation> {
        let played = std::panic::catch_unwind(|| self.play_through());
        played.unwrap_or_else(|_| Err(Violation("it panics".to_owned())))
    }

    fn play_through(&self) -> Result<Counts, Violation> {
        let mut world = World::new(self.spec.clone());
        for step in &self.steps {
            world.take(*step);
            if let Some(violation) = world.violation.take() {
                return Err(violation);
            }
        }
        world.heal_all();
        world.converged()?;
        world.returns_cheaply()?;
        Ok(world.counts)
    }

    /// Returns a script with fewer steps that still breaks something, found within so many plays.
    pub fn shrink(&self, plays: usize) -> Self {
        let (mut least, mut left) = (self.clone(), plays);
        let mut chunk = least.steps.len().div_ceil(2).max(1);
        loop {
            let mut at = 0;
            while at < least.steps.len() {
                let mut shorter = least.clone();
                shorter.steps.drain(at..(at + chunk).min(least.steps.len()));
                if left == 0 {
                    return least;
                }
                left -= 1;
                match shorter.play() {
                    Err(_) => least = shorter,
                    Ok(_) => at += chunk,
                }
            }
            if chunk == 1 {
                return least;
            }
            chunk = chunk.div_ceil(2);
        }
    }
}

impl World {
    /// Has one step happen.
    pub fn take(&mut self, step: Step) {
        match step {
            Step::Wait { millis } => self.run_for(millis),
            Step::Write { client, log, shape } => _ = self.write_some(client, log, shape),
            Step::Burst { client, log, writes } => (0..writes).for_each(|at| _ = self.write_some(client, log, at)),
            Step::Open { client, log } => self.open(client, log),
            Step::Compare { client, log } => self.compare(client, log),
            Step::Partition { client, store } => self.partition(client, store),
            Step::Heal { client, store } => self.heal(client, store),
            Step::Cut { client, store, client_first } => self.cut(client, store, client_first),
            Step::Crash { client } => self.crash(client),
            Step::CutPower { client } => self.cut_power(client),
            Step::Restart { client } => self.restart(client),
            Step::CrashStore { store } => self.crash_store(store),
            Step::StartStore { store } => self.start_store(store),
            Step::SetClock { client, seconds } => self.set_clock(client, seconds),
            Step::FillStore { store, full } => self.stores[store].full = full,
            Step::FailStore { store, fault } => self.stores[store].engine.fail([fault]),
            Step::DenyReads { store, denied } => self.deny_reads(store, denied),
            Step::FailDisk { client, fault, times } => self.fail_disk(client, fault, times),
            Step::Join { channel, store } => self.join(channel, store),
            Step::Leave { channel, store } => self.leave(channel, store),
            Step::SetMode { client, mode } => self.set_mode(client, mode),
            Step::Hurry { client } => self.hurry(client),
            Step::BackUp { store } => self.back_up(store),
            Step::Restore { store, silently } => self.restore(store, silently),
            Step::Remount { client } => self.remount(client),
            Step::Prune { client, log } => _ = self.prune(client, log),
            Step::Repair { client, log } => _ = self.repair(client, log),
            Step::Remove { client, log } => self.remove(client, log),
            Step::Abandon { channel, store } => self.abandon(channel, store),
            Step::BackUpDevice { client } => self.back_up_device(client),
            Step::RestoreDevice { client, noticed } => self.restore_device(client, noticed),
            Step::ForgetRetained { store } => self.forget_retained(store),
            Step::TableDown { down } => self.table_down = down,
            Step::BackUpTable => self.back_up_table(),
            Step::RestoreTable => self.restore_table(),
        }
    }
}

fn spec(seed: u64, rng: &mut Rng) -> Spec {
    let clients = 2 + rng.index(4);
    let mut disks: Vec<Option<usize>> = (0..clients).map(|at| rng.chance(50).then_some(at)).collect();
    if rng.chance(20) {
        // Two processes of one device.
        (disks[0], disks[1]) = (Some(0), Some(0));
    }
    let stores = 1 + rng.index(4);
    let skew = |rng: &mut Rng| [0, 0, 0, 20, -20, 100, 200, -200][rng.index(8)];
    let skews: Vec<i64> = (0..stores).map(|_| skew(rng)).collect();
    let channel = |rng: &mut Rng| -> BTreeSet<usize> {
        let mut chosen: BTreeSet<usize> = (0..stores).filter(|_| rng.chance(70)).collect();
        if chosen.is_empty() {
            chosen.insert(rng.index(stores));
        }
        if rng.chance(8) {
            // No table knows of it yet.
            chosen.clear();
        }
        chosen
    };
    let channels: Vec<BTreeSet<usize>> = (0..1 + rng.index(2)).map(|_| channel(rng)).collect();
    let logs = (0..1 + rng.index(5)).map(|_| (rng.index(channels.len()), TYPES[rng.index(TYPES.len())])).collect();
    let (page, echo, events_first) = (1 + rng.index(8), rng.chance(80), rng.chance(50));
    let manners = Manners { page, echo, events_first, forgetful: seed / 2 % 8 == 3 };
    let delay = [1_000, 30_000, 400_000][rng.index(3)];
    let prune = match rng.below(3) {
        0 => PrunePolicy::OnDemand,
        1 => PrunePolicy::Automatic { ops: 1 + rng.index(8), bytes: usize::MAX, quiet: 100_000 },
        _ => PrunePolicy::Automatic { ops: 1 + rng.index(30), bytes: usize::MAX, quiet: 5_000_000 },
    };
    let mut spec = Spec { seed, clients: disks, skews, channels, logs, manners, delay, prune, sealed: seed % 2 == 1 };
    if spec.shares_a_disk() {
        // An operation that another process of the device has seen must not be dated again, and nobody knows whether one
        // has: there, no clock is too far ahead of another.
        spec.skews.iter_mut().for_each(|skew| *skew = (*skew).clamp(-20, 20));
    }
    spec
}

fn step(spec: &Spec, rng: &mut Rng) -> Step {
    let client = rng.index(spec.clients.len());
    let store = rng.index(spec.skews.len());
    let log = rng.index(spec.logs.len());
    let channel = rng.index(spec.channels.len());
    let fault = [Fault::Full, Fault::Io, Fault::Unacknowledged, Fault::Unsynced][rng.index(4)];
    match rng.below(1000) {
        0..=299 => {
            let millis = [1, 10, 100, 1_000, 10_000][rng.index(5)];
            Step::Wait { millis: rng.between(1, millis) }
        }
        300..=599 => Step::Write { client, log, shape: rng.below(1_000) },
        600..=629 => Step::Burst { client, log, writes: rng.between(2, 12) },
        630..=659 => Step::Open { client, log },
        660..=679 => Step::Compare { client, log },
        680..=696 => Step::Prune { client, log },
        697..=699 => Step::Repair { client, log },
        700..=729 => Step::Partition { client, store },
        730..=769 => Step::Heal { client, store },
        770..=809 => Step::Cut { client, store, client_first: rng.chance(50) },
        810..=824 => Step::Crash { client },
        825..=829 => Step::CutPower { client },
        830..=854 => Step::Restart { client },
        855..=864 => Step::CrashStore { store },
        865..=879 => Step::StartStore { store },
        880..=894 => {
            let seconds = [0, 0, 90, -90, -3_600, 150, 600, 86_400][rng.index(8)];
            Step::SetClock { client, seconds: if spec.shares_a_disk() { seconds.min(0) } else { seconds } }
        }
        895..=909 => Step::FillStore { store, full: rng.chance(40) },
        910..=919 => Step::FailStore { store, fault },
        920..=929 => Step::DenyReads { store, denied: rng.chance(40) },
        930..=939 => Step::FailDisk { client, fault, times: 1 + rng.index(4) },
        940..=949 => Step::Join { channel, store },
        950..=956 => Step::Leave { channel, store },
        957..=976 => {
            let modes = [Mode::Online, Mode::SendOnly, Mode::ReceiveOnly, Mode::Paused, Mode::Offline];
            Step::SetMode { client, mode: modes[rng.index(modes.len())] }
        }
        977..=986 => Step::Hurry { client },
        987..=989 => Step::BackUp { store },
        990..=991 => Step::Restore { store, silently: rng.chance(50) },
        992..=994 => Step::Remount { client },
        995 => Step::Remove { client, log },
        996 => Step::Abandon { channel, store },
        _ => [
            Step::BackUpDevice { client },
            Step::BackUpDevice { client },
            Step::RestoreDevice { client, noticed: rng.chance(50) },
            Step::ForgetRetained { store },
            Step::TableDown { down: rng.chance(40) },
            Step::BackUpTable,
            Step::RestoreTable,
        ][rng.index(7)],
    }
}
