//! Calls that wait for something to happen to one log: what happens to others does not wake them, so that many may wait.

use std::collections::BTreeMap;

use gigfs_core::LogName;
use parking_lot::Mutex;
use tokio::sync::watch;

/// Who waits for which log, by the names that stores know.
#[derive(Default)]
pub(crate) struct Waiting {
    logs: Mutex<BTreeMap<LogName, watch::Sender<()>>>,
}

/// A place among those who wait for a log, given up when it is dropped.
pub(crate) struct Place<'w> {
    waiting: &'w Waiting,
    log: LogName,
    news: watch::Receiver<()>,
}

/// Wakes those who wait for a log.
pub(crate) type Bell = watch::Sender<()>;

impl Waiting {
    /// Takes a place; what happens to the log from now on is noticed.
    pub(crate) fn place(&self, log: &LogName) -> Place<'_> {
        let mut logs = self.logs.lock();
        let news = logs.entry(log.clone()).or_insert_with(|| watch::Sender::new(())).subscribe();
        Place { waiting: self, log: log.clone(), news }
    }

    /// Returns what wakes those who wait for a log, if somebody does.
    pub(crate) fn bell(&self, log: &LogName) -> Option<Bell> {
        let logs = self.logs.lock();
        if logs.is_empty() { None } else { logs.get(log).cloned() }
    }

    /// Wakes everybody.
    pub(crate) fn ring_all(&self) {
        self.logs.lock().values().for_each(|bell| _ = bell.send(()));
    }
}

impl Place<'_> {
    /// Waits for news of the log, those since the last call included.
    pub(crate) async fn news(&mut self) {
        // The sender is there for as long as somebody has a place.
        _ = self.news.changed().await;
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut logs = self.waiting.logs.lock();
        // This place is still counted.
        if logs.get(&self.log).is_some_and(|bell| bell.receiver_count() == 1) {
            logs.remove(&self.log);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(path: &str) -> LogName {
        LogName::parse("me", "home", "raw", path).unwrap()
    }

    #[tokio::test]
    async fn who_waits_for_a_log_hears_of_that_one_alone_and_leaves_nothing_behind() {
        let waiting = Waiting::default();
        let (mut a, mut b) = (waiting.place(&log("/a")), waiting.place(&log("/b")));
        waiting.bell(&log("/a")).unwrap().send_replace(());
        a.news().await;
        assert!(!b.news.has_changed().unwrap() && waiting.bell(&log("/c")).is_none());
        waiting.ring_all();
        b.news().await;
        let other = waiting.place(&log("/a"));
        drop(a);
        assert!(waiting.bell(&log("/a")).is_some(), "somebody else waits");
        drop((other, b));
        assert!(waiting.logs.lock().is_empty());
    }
}
