//! Which logs have had another base since when, as far as this run of the store knows.
//!
//! A base is no arrival and has no position of its own, so the feed does not tell of it. A stream that comes back, or falls
//! behind, is told from here. What came before this run is not known here: a cursor is good for one run.

use std::collections::{BTreeMap, BTreeSet};

use gigfs_core::wire::LogRef;
use gigfs_core::{ChannelName, LogName, UserName};
use parking_lot::Mutex;

/// The changes of bases, by channel.
#[derive(Default)]
pub(crate) struct Rebased {
    known: Mutex<Known>,
}

type Channel = (UserName, ChannelName);

#[derive(Default)]
struct Known {
    channels: BTreeMap<Channel, Changes>,
    /// The channels of which there are changes, the one that has not changed for longest first.
    by_age: BTreeMap<u64, Channel>,
    clock: u64,
    /// How many changes there are.
    logs: usize,
}

#[derive(Default)]
struct Changes {
    /// The position of the channel when the log's base changed last.
    logs: BTreeMap<LogRef, u64>,
    by_position: BTreeMap<u64, BTreeSet<LogRef>>,
    /// Up to which position changes were forgotten.
    forgotten: Option<u64>,
    /// Whether one change could not be noted, and none was since.
    is_lost: bool,
    /// Where it stands by age.
    age: u64,
}

impl Rebased {
    /// Notes that a log's base has changed, or what is known of it, since the channel's last arrival at `position`.
    pub(crate) fn note(&self, log: &LogName, position: u64) {
        self.known.lock().change(log, |changes| changes.note(LogRef::from(log), position));
    }

    /// Gives up telling what has changed in the channel of a log until now: one change could not be noted.
    pub(crate) fn lose_track(&self, log: &LogName) {
        self.known.lock().change(log, |changes| {
            let forgotten = changes.greatest();
            *changes = Changes { forgotten, is_lost: true, age: changes.age, ..Changes::default() };
        });
    }

    /// Returns the logs whose bases may have changed after a position was the channel's last, each with the position since
    /// which it has not; nothing if that is not known any more.
    pub(crate) fn since(&self, user: &UserName, channel: &ChannelName, position: u64) -> Option<Vec<(u64, LogRef)>> {
        let known = self.known.lock();
        let Some(changes) = known.channels.get(&(user.clone(), channel.clone())) else { return Some(Vec::new()) };
        if changes.is_lost || changes.forgotten.is_some_and(|forgotten| position <= forgotten) {
            return None;
        }
        let since = changes.by_position.range(position..);
        Some(since.flat_map(|(at, logs)| logs.iter().map(|log| (*at, log.clone()))).collect())
    }
}

impl Known {
    /// Changes what is known of a log's channel, and forgets what has not changed for longest if it is too much.
    fn change(&mut self, log: &LogName, change: impl FnOnce(&mut Changes)) {
        let channel = (log.user.clone(), log.channel.clone());
        self.clock += 1;
        let changes = self.channels.entry(channel.clone()).or_default();
        self.by_age.remove(&changes.age);
        let before = changes.logs.len();
        change(changes);
        changes.age = self.clock;
        self.logs = self.logs + changes.logs.len() - before;
        self.by_age.insert(self.clock, channel);
        while self.logs > STORE_LOGS_MAX
            && let Some((_, oldest)) = self.by_age.pop_first()
            && let Some(changes) = self.channels.get_mut(&oldest)
        {
            self.logs -= changes.logs.len();
            *changes = Changes { forgotten: changes.greatest(), is_lost: changes.is_lost, ..Changes::default() };
        }
    }
}

impl Changes {
    fn note(&mut self, log: LogRef, position: u64) {
        if std::mem::take(&mut self.is_lost) {
            // What could not be noted was no later than this.
            self.forgotten = self.forgotten.max(Some(position));
        }
        if let Some(before) = self.logs.insert(log.clone(), position) {
            self.take_from(before, &log);
        }
        self.by_position.entry(position).or_default().insert(log);
        if self.logs.len() > CHANNEL_LOGS_MAX
            && let Some((at, logs)) = self.by_position.pop_first()
        {
            logs.iter().for_each(|log| _ = self.logs.remove(log));
            self.forgotten = self.forgotten.max(Some(at));
        }
    }

    /// Returns the greatest position of a change that there was.
    fn greatest(&self) -> Option<u64> {
        self.forgotten.max(self.by_position.keys().next_back().copied())
    }

    fn take_from(&mut self, position: u64, log: &LogRef) {
        let Some(logs) = self.by_position.get_mut(&position) else { return };
        logs.remove(log);
        if logs.is_empty() {
            self.by_position.remove(&position);
        }
    }
}

/// Logs of a channel whose changes are remembered.
const CHANNEL_LOGS_MAX: usize = 4096;
/// Logs of all channels whose changes are remembered; some hundred bytes each.
const STORE_LOGS_MAX: usize = 65_536;

#[cfg(test)]
mod tests {
    use super::*;

    fn log(path: &str) -> LogName {
        LogName::parse("me", "home", "list", path).unwrap()
    }

    fn since(rebased: &Rebased, position: u64) -> Option<Vec<String>> {
        let LogName { user, channel, .. } = log("/a");
        let logs = rebased.since(&user, &channel, position)?;
        Some(logs.into_iter().map(|(_, log)| log.path.to_string()).collect())
    }

    #[test]
    fn a_log_is_told_of_once_to_whom_the_change_may_have_escaped() {
        let rebased = Rebased::default();
        assert_eq!(since(&rebased, 0), Some(Vec::new()));
        for (path, position) in [("/a", 5), ("/b", 5), ("/a", 9)] {
            rebased.note(&log(path), position);
        }
        assert_eq!(since(&rebased, 5).unwrap(), ["/b", "/a"]);
        assert_eq!(since(&rebased, 9).unwrap(), ["/a"]);
        assert_eq!(since(&rebased, 10), Some(Vec::new()));
    }

    #[test]
    fn what_is_forgotten_is_not_passed_off_as_unchanged() {
        let rebased = Rebased::default();
        (0..=CHANNEL_LOGS_MAX as u64).for_each(|at| rebased.note(&log(&format!("/{at}")), 10 + at));
        assert_eq!(since(&rebased, 10), None);
        assert_eq!(since(&rebased, 11).unwrap().len(), CHANNEL_LOGS_MAX);
    }

    #[test]
    fn a_change_that_could_not_be_noted_costs_the_cursors_before_the_next_one() {
        let rebased = Rebased::default();
        rebased.note(&log("/a"), 5);
        rebased.lose_track(&log("/b"));
        assert_eq!(since(&rebased, u64::MAX), None);
        rebased.note(&log("/c"), 9);
        assert_eq!(since(&rebased, 9), None);
        assert_eq!(since(&rebased, 10), Some(Vec::new()));
    }

    #[test]
    fn of_too_many_channels_the_one_that_has_not_changed_for_longest_is_forgotten() {
        let rebased = Rebased::default();
        let of = |channel: usize, number: u64| {
            LogName::parse("me", &format!("channel-{channel}"), "list", &format!("/{number}")).unwrap()
        };
        let channels = STORE_LOGS_MAX / CHANNEL_LOGS_MAX;
        for channel in 0..=channels {
            (0..CHANNEL_LOGS_MAX as u64).for_each(|number| rebased.note(&of(channel, number), 10));
        }
        let since = |channel: usize, position| {
            let LogName { user, channel, .. } = of(channel, 0);
            rebased.since(&user, &channel, position).map(|logs| logs.len())
        };
        assert_eq!((since(0, 10), since(0, 11)), (None, Some(0)));
        assert_eq!(since(channels, 10), Some(CHANNEL_LOGS_MAX));
    }
}
