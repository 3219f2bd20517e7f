//! When a log is pruned, and when it is tried again.

use super::Replica;
use super::hold::{PruneHold, PrunePolicy};
use super::log::Interest;
use crate::date::Date;
use crate::name::LogName;

/// How long after a failure it is tried again, in microseconds; up to twice as long.
const RETRY_MICROS: u64 = 60_000_000;
/// How many times what is due has a log that is pruned although it never rests.
const RESTLESS: usize = 8;

impl Replica {
    /// Plans when to look whether a log is to be pruned, after something happened to it.
    pub(super) fn plan_pruning(&mut self, name: &LogName) {
        let PrunePolicy::Automatic { ops, bytes, quiet } = self.config.prune else { return };
        if self.is_roster(name) {
            return;
        }
        let at = self.now.plus((quiet + self.random_below(quiet.max(1))) as i64);
        let Some(log) = self.logs.get(name).filter(|log| log.pruning.seed.is_none()) else { return };
        let much = |times: usize| log.oplog.len() / times >= ops || log.oplog.bytes() / times >= bytes;
        if !much(1) || log.interest < Interest::Compare {
            return self.plan_pruning_at(name, None);
        }
        if !(much(RESTLESS) && log.pruning.at.is_some()) {
            self.plan_pruning_at(name, Some(at));
        }
    }

    pub(super) fn plan_pruning_at(&mut self, name: &LogName, at: Option<Date>) {
        let Some(log) = self.logs.get_mut(name) else { return };
        if let Some(before) = std::mem::replace(&mut log.pruning.at, at) {
            self.prune_timers.remove(&(before, name.clone()));
        }
        self.prune_timers.extend(at.map(|at| (at, name.clone())));
    }

    pub(super) fn run_prune_timers(&mut self) {
        while let Some((at, _)) = self.prune_timers.first()
            && *at <= self.now
            && let Some((_, name)) = self.prune_timers.pop_first()
        {
            if let Some(log) = self.logs.get_mut(&name) {
                log.pruning.at = None;
            }
            if self.is_copy(&name) {
                self.plant(&name);
            } else if let Err(hold) = self.begin_pruning(&name) {
                self.try_again_later(&name, &hold);
            }
        }
    }

    /// Plans another attempt, if time may help.
    pub(super) fn try_again_later(&mut self, name: &LogName, hold: &PruneHold) {
        use PruneHold::{Disputed, Lost, NoList, NoState, NoStores, Nothing, Off, TooLarge, Unreadable};
        let hopeless = matches!(
            hold,
            Off | Nothing
                | NoStores
                | Disputed
                | Lost
                | NoList { .. }
                | NoState { .. }
                | TooLarge { .. }
                | Unreadable { .. }
        );
        if !hopeless && (matches!(self.config.prune, PrunePolicy::Automatic { .. }) || self.is_copy(name)) {
            let at = self.now.plus((RETRY_MICROS + self.random_below(RETRY_MICROS)) as i64);
            self.plan_pruning_at(name, Some(at));
        }
    }
}
