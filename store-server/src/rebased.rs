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
    channels: Mutex<BTreeMap<(UserName, ChannelName), Changes>>,
}

#[derive(Default)]
struct Changes {
    /// The position of the channel when the log's base changed last.
    logs: BTreeMap<LogRef, u64>,
    by_position: BTreeMap<u64, BTreeSet<LogRef>>,
    /// Up to which position changes were forgotten.
    forgotten: Option<u64>,
}

impl Rebased {
    /// Notes that a log's base has changed, or what is known of it, since the channel's last arrival at `position`.
    pub(crate) fn note(&self, log: &LogName, position: u64) {
        let mut channels = self.channels.lock();
        channels.entry((log.user.clone(), log.channel.clone())).or_default().note(LogRef::from(log), position);
    }

    /// Gives up telling what has changed in the channel of a log: one change could not be noted.
    pub(crate) fn lose_track(&self, log: &LogName) {
        let mut channels = self.channels.lock();
        let changes = channels.entry((log.user.clone(), log.channel.clone())).or_default();
        *changes = Changes { forgotten: Some(u64::MAX), ..Changes::default() };
    }

    /// Returns the logs whose bases may have changed after a position was the channel's last, each with the position since
    /// which it has not; nothing if that is not known any more.
    pub(crate) fn since(&self, user: &UserName, channel: &ChannelName, position: u64) -> Option<Vec<(u64, LogRef)>> {
        let channels = self.channels.lock();
        let Some(changes) = channels.get(&(user.clone(), channel.clone())) else { return Some(Vec::new()) };
        if changes.forgotten.is_some_and(|forgotten| position <= forgotten) {
            return None;
        }
        let since = changes.by_position.range(position..);
        Some(since.flat_map(|(at, logs)| logs.iter().map(|log| (*at, log.clone()))).collect())
    }
}

impl Changes {
    fn note(&mut self, log: LogRef, position: u64) {
        if let Some(before) = self.logs.insert(log.clone(), position) {
            self.take_from(before, &log);
        }
        self.by_position.entry(position).or_default().insert(log);
        if self.logs.len() > REBASED_LOGS_MAX
            && let Some((at, logs)) = self.by_position.pop_first()
        {
            logs.iter().for_each(|log| _ = self.logs.remove(log));
            self.forgotten = self.forgotten.max(Some(at));
        }
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
const REBASED_LOGS_MAX: usize = 4096;

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
        (0..=REBASED_LOGS_MAX as u64).for_each(|at| rebased.note(&log(&format!("/{at}")), 10 + at));
        assert_eq!(since(&rebased, 10), None);
        assert_eq!(since(&rebased, 11).unwrap().len(), REBASED_LOGS_MAX);
        rebased.lose_track(&log("/a"));
        assert_eq!(since(&rebased, u64::MAX), None);
    }
}
