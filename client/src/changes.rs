//! Telling the app what changed: one queue a listener, which never grows beyond the log itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use gigfs_core::sync::Origin;
use gigfs_core::{LogName, Op};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::Notify;

use crate::shared::Shared;

/// All listeners of a client.
#[derive(Default)]
pub(crate) struct Listeners {
    by_log: BTreeMap<LogName, Vec<Arc<Mailbox>>>,
}

/// What one listener has not taken yet.
#[derive(Default)]
struct Mailbox {
    waiting: Mutex<Waiting>,
    arrived: Notify,
}

#[derive(Default)]
struct Waiting {
    /// Whether anything changed: operations came, or a base or keys did.
    changed: bool,
    /// Operations are shared with the log, so a slow listener costs a pointer an operation.
    ops: Vec<(Origin, Op)>,
    closed: bool,
}

/// One change of a log, as a listener sees it.
#[derive(Debug, Clone)]
pub struct Change {
    /// The value after all changes so far.
    pub value: Arc<Value>,
    /// The operations that the log gained since the last change, and where each came from.
    pub ops: Vec<(Origin, Op)>,
}

/// Follows the changes of one log. Dropping it ends the listening.
pub struct Subscription {
    shared: Arc<Shared>,
    log: LogName,
    /// The name under which the sync machine knows it.
    kept: LogName,
    mailbox: Arc<Mailbox>,
}

impl Listeners {
    pub(crate) fn changed(&mut self, log: &LogName, ops: Vec<Op>, origin: Origin) {
        let Some(mailboxes) = self.by_log.get(log) else { return };
        for mailbox in mailboxes {
            let mut waiting = mailbox.waiting.lock();
            waiting.changed = true;
            waiting.ops.extend(ops.iter().map(|op| (origin, op.clone())));
            drop(waiting);
            mailbox.arrived.notify_one();
        }
    }

    pub(crate) fn close(&mut self) {
        for mailbox in std::mem::take(&mut self.by_log).into_values().flatten() {
            mailbox.waiting.lock().closed = true;
            mailbox.arrived.notify_one();
        }
    }

    fn add(&mut self, log: &LogName) -> Arc<Mailbox> {
        let mailbox = Arc::new(Mailbox::default());
        self.by_log.entry(log.clone()).or_default().push(mailbox.clone());
        mailbox
    }

    fn remove(&mut self, log: &LogName, mailbox: &Arc<Mailbox>) {
        if let Some(mailboxes) = self.by_log.get_mut(log) {
            mailboxes.retain(|other| !Arc::ptr_eq(other, mailbox));
            if mailboxes.is_empty() {
                self.by_log.remove(log);
            }
        }
    }
}

impl Subscription {
    pub(crate) fn new(shared: Arc<Shared>, log: LogName, kept: LogName) -> Self {
        let mailbox = shared.listeners(|listeners| listeners.add(&kept));
        Self { shared, log, kept, mailbox }
    }

    /// Waits for the next change. Changes that come while the app is busy are told as one.
    ///
    /// Returns nothing once the client is closed. Dropping the future loses no change.
    pub async fn next(&mut self) -> Option<Change> {
        loop {
            let arrived = self.mailbox.arrived.notified();
            let (changed, ops, closed) = {
                let mut waiting = self.mailbox.waiting.lock();
                (std::mem::take(&mut waiting.changed), std::mem::take(&mut waiting.ops), waiting.closed)
            };
            if changed {
                if let Some(value) = self.shared.look(|replica| replica.value(&self.kept)) {
                    return Some(Change { value, ops });
                }
                // It cannot be read now, for want of a key, say. What happened is told of once it can.
                let mut waiting = self.mailbox.waiting.lock();
                waiting.ops.splice(..0, ops);
            }
            if closed || self.shared.is_closed() {
                return None;
            }
            arrived.await;
        }
    }

    /// Returns the log.
    pub fn log(&self) -> &LogName {
        &self.log
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.shared.listeners(|listeners| listeners.remove(&self.kept, &self.mailbox));
    }
}
