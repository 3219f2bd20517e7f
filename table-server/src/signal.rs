//! Who wakes whom after a commit: streams watch their user, and the revoker watches its queue.
//!
//! A signal carries no news, only that there is some: whoever wakes reads the database. It is given by the database's
//! own thread after the commit, so it is not lost with a request whose client hung up.

use std::collections::BTreeMap;
use std::sync::Arc;

use gigfs_core::UserName;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

/// Streams that one user may have open at a table.
pub(crate) const USER_STREAMS_MAX: usize = 1024;

/// The signals of one table.
#[derive(Default)]
pub(crate) struct Signals {
    users: Mutex<BTreeMap<UserName, watch::Sender<()>>>,
    queue: Notify,
}

impl Signals {
    /// Watches a user's sessions and mount table; nothing if the user has [`USER_STREAMS_MAX`] watches already.
    pub(crate) fn watch(self: &Arc<Self>, user: &UserName) -> Option<Watch> {
        let mut users = self.users.lock();
        let sender = users.entry(user.clone()).or_insert_with(|| watch::Sender::new(()));
        (sender.receiver_count() < USER_STREAMS_MAX).then(|| Watch {
            changes: sender.subscribe(),
            user: user.clone(),
            signals: self.clone(),
        })
    }

    /// Says that something about the user has changed.
    pub(crate) fn changed(&self, user: &UserName) {
        if let Some(sender) = self.users.lock().get(user) {
            sender.send_replace(());
        }
    }

    /// Says that the revocation queue has grown.
    pub(crate) fn queued(&self) {
        self.queue.notify_one();
    }

    /// Waits until the queue has grown; what grew before the call counts too.
    pub(crate) async fn until_queued(&self) {
        self.queue.notified().await;
    }
}

/// One watch on a user.
pub(crate) struct Watch {
    changes: watch::Receiver<()>,
    user: UserName,
    signals: Arc<Signals>,
}

impl Watch {
    /// Waits for a change since the last call; those that came meanwhile count as one.
    pub(crate) async fn changed(&mut self) {
        if self.changes.changed().await.is_err() {
            std::future::pending().await
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut users = self.signals.users.lock();
        if users.get(&self.user).is_some_and(|sender| sender.receiver_count() <= 1) {
            users.remove(&self.user);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_watch_hears_of_its_user_and_leaves_nothing_behind() {
        let signals = Arc::new(Signals::default());
        let (ann, bob) = (UserName::parse("ann").unwrap(), UserName::parse("bob").unwrap());
        let mut watch = signals.watch(&ann).unwrap();
        let second = signals.watch(&ann).unwrap();
        signals.changed(&bob);
        assert!(!watch.changes.has_changed().unwrap());
        signals.changed(&ann);
        watch.changed().await;
        drop(watch);
        assert_eq!(signals.users.lock().len(), 1, "another watch is still there");
        drop(second);
        assert!(signals.users.lock().is_empty());
    }
}
