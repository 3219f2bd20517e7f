//! The search: breadth first, every interleaving, each world once.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::config::Config;
use super::rule::Rule;
use super::world::World;

/// What a search found.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Distinct worlds that were reached.
    pub states: usize,
    /// Steps that were taken from them.
    pub transitions: u64,
    /// Steps in the longest of the shortest ways to a world.
    pub depth: usize,
    /// Whether all of them were looked at.
    pub complete: bool,
    /// The shortest way to a world that is wrong.
    pub counterexample: Option<Counterexample>,
}

/// A shortest script that ends badly.
#[derive(Debug, Clone)]
pub struct Counterexample {
    /// What happens, in order.
    pub script: Vec<String>,
    /// What is wrong then.
    pub what: String,
}

/// What a search looks out for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watch {
    /// Everything that must hold.
    All,
    /// Only what a person would see: something written is missing, is there twice, or differs between replicas.
    Values,
}

/// Searches a configuration under a rule, up to so many worlds.
pub fn search(config: &Config, rule: &Rule, watch: Watch, states_max: usize) -> Outcome {
    let begin = config.canonical(config.begin());
    let mut seen = Seen::default();
    seen.insert(begin, 0);
    let mut outcome = Outcome { states: 1, transitions: 0, depth: 0, complete: true, counterexample: None };
    let (mut at, mut level_end) = (0, 1);
    while at < seen.worlds.len() {
        if at == level_end {
            outcome.depth += 1;
            level_end = seen.worlds.len();
        }
        let world = seen.worlds[at];
        let mut wrong = None;
        world.each_step(config, rule, |_, after| {
            outcome.transitions += 1;
            let after = config.canonical(after);
            if wrong.is_none() && seen.insert(after, at) {
                wrong = after.broken(rule, watch).map(|what| (seen.worlds.len() - 1, what));
            }
        });
        outcome.states = seen.worlds.len();
        if let Some((found, what)) = wrong {
            outcome.counterexample = Some(seen.retell(config, rule, watch, found, what));
            outcome.complete = false;
            return outcome;
        }
        if outcome.states > states_max {
            outcome.complete = false;
            return outcome;
        }
        at += 1;
    }
    outcome
}

/// The worlds so far, in the order in which they were met.
#[derive(Default)]
struct Seen {
    worlds: Vec<World>,
    /// From which world each was reached first.
    from: Vec<u32>,
    /// The last world with the same hash, and before it.
    by_hash: HashMap<u64, u32, BuildHasherDefault<Mixer>>,
    before: Vec<u32>,
}

impl Seen {
    /// Adds a world, unless it is known.
    fn insert(&mut self, world: World, from: usize) -> bool {
        let hash = Mixer::hash(&world);
        let mut at = self.by_hash.get(&hash).copied().unwrap_or(u32::MAX);
        let last = at;
        while at != u32::MAX {
            if self.worlds[at as usize] == world {
                return false;
            }
            at = self.before[at as usize];
        }
        self.by_hash.insert(hash, self.worlds.len() as u32);
        self.worlds.push(world);
        self.from.push(from as u32);
        self.before.push(last);
        true
    }

    /// Tells how a world was reached. Names are kept from step to step, though the worlds that were searched stand for all that
    /// differ from them in names.
    fn retell(&self, config: &Config, rule: &Rule, watch: Watch, found: usize, what: String) -> Counterexample {
        let mut way = vec![found];
        while let Some(at) = way.last().copied().filter(|at| *at != 0) {
            way.push(self.from[at] as usize);
        }
        way.reverse();
        let (mut world, mut script) = (config.begin(), Vec::new());
        for at in way.into_iter().skip(1) {
            let mut next = None;
            world.each_step(config, rule, |step, after| {
                if next.is_none() && config.canonical(after) == self.worlds[at] {
                    next = Some((step, after));
                }
            });
            if let Some((step, after)) = next {
                script.push(world.tell(config, rule, step, &after));
                world = after;
            }
        }
        Counterexample { script, what: world.broken(rule, watch).unwrap_or(what) }
    }
}

/// A hash of few instructions, for tables that are searched and never listed.
#[derive(Default)]
struct Mixer(u64);

impl Mixer {
    fn hash(world: &World) -> u64 {
        let mut mixer = Self::default();
        std::hash::Hash::hash(world, &mut mixer);
        mixer.finish()
    }

    fn mix(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(23) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

impl Hasher for Mixer {
    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 32
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.mix((*byte).into()));
    }

    fn write_u8(&mut self, byte: u8) {
        self.mix(byte.into());
    }

    fn write_u64(&mut self, word: u64) {
        self.mix(word);
    }

    fn write_usize(&mut self, _: usize) {}
}
