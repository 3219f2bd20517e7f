//! What happens by itself as time goes by, and what becomes of it when the clock is put back.

use super::{LinkId, Replica, WakeAt};
use crate::date::Date;
use crate::name::LogName;

/// How long a store that is full, failing or busy is left alone, in microseconds; up to twice as long.
const RETRY_MICROS: u64 = 10_000_000;
/// How far the clock must have been put back for timers to follow it, in microseconds.
const CLOCK_BACK_MICROS_MIN: u64 = 1_000_000;

impl Replica {
    /// Returns when [`Event::Tick`](super::Event::Tick) is wanted.
    pub fn wake_at(&self) -> WakeAt {
        let timer = self.timers.first().map(|(at, ..)| *at);
        let prune = self.prune_timers.first().map(|(at, _)| *at);
        [timer, prune, self.keeping.due_at()].into_iter().flatten().min()
    }

    pub(super) fn run_timers(&mut self) {
        while let Some((at, ..)) = self.timers.first()
            && *at <= self.now
            && let Some((_, id, name)) = self.timers.pop_first()
        {
            if let Some(peer) = self.logs.get_mut(&name).and_then(|log| log.peers.get_mut(&id.store)) {
                peer.wake_at = None;
            }
            if self.links.get(&id).is_some_and(|link| link.up.is_some()) {
                self.begin(&id, &name);
                self.start_reads(&id);
                self.pump(&id);
            }
        }
        self.run_prune_timers();
        self.run_disk_timers();
    }

    /// Looks at a log on a stream again at a time. One timer a log and stream is kept: the earliest.
    pub(super) fn wake(&mut self, id: &LinkId, name: &LogName, at: Date) {
        let peer = self.logs.get_mut(name).and_then(|log| log.peers.get_mut(&id.store));
        let Some(peer) = peer.filter(|peer| peer.wake_at.is_none_or(|set| at < set)) else { return };
        if let Some(set) = peer.wake_at.replace(at) {
            self.timers.remove(&(set, id.clone(), name.clone()));
        }
        self.timers.insert((at, id.clone(), name.clone()));
    }

    /// Sets the timers of a log anew, because what they were set for is gone.
    pub(super) fn wake_when_due(&mut self, name: &LogName) {
        let Some(log) = self.logs.get_mut(name) else { return };
        for (store, peer) in log.peers.iter_mut() {
            let (due, set) = (peer.due_at(), peer.wake_at);
            if let Some(set) = set.filter(|set| due.is_none_or(|due| *set < due)) {
                let id = LinkId { channel: name.channel.clone(), store: *store };
                self.timers.remove(&(set, id.clone(), name.clone()));
                peer.wake_at = due;
                self.timers.extend(due.map(|due| (due, id, name.clone())));
            }
        }
    }

    /// Returns when a store that is full, failing or busy is asked again.
    pub(super) fn retry_at(&mut self) -> Date {
        self.now.plus((RETRY_MICROS + self.random_below(RETRY_MICROS)) as i64)
    }

    /// Takes note of the time. When the clock was put back, everything that waits for a time waits no longer than it
    /// would have.
    pub(super) fn observe(&mut self, now: Date) {
        let back = self.now.since(now);
        self.now = now;
        if back < CLOCK_BACK_MICROS_MIN {
            return;
        }
        let back = back as i64;
        let earlier = |at: &mut Date| *at = at.plus(-back);
        self.keeping.clock_went_back(back);
        let timers = std::mem::take(&mut self.timers).into_iter();
        self.timers = timers.map(|(at, id, name)| (at.plus(-back), id, name)).collect();
        let timers = std::mem::take(&mut self.prune_timers).into_iter();
        self.prune_timers = timers.map(|(at, name)| (at.plus(-back), name)).collect();
        self.logs.awake_mut().filter_map(|(_, log)| log.pruning.at.as_mut()).for_each(earlier);
        for peer in self.logs.awake_mut().flat_map(|(_, log)| log.peers.values_mut()) {
            peer.wake_at.as_mut().map(earlier);
            peer.read_again_at.as_mut().map(earlier);
            peer.backlog.clock_went_back(back);
        }
    }

    /// Returns a number below `bound` (SplitMix64).
    pub(super) fn random_below(&mut self, bound: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}
