//! Following one push on its way.

use gigfs_core::Sha;
use gigfs_core::sync::Receipt;
use tokio::sync::watch;

/// Follows one push: queued, durable here, accepted by k of n stores, refused by whom and why.
#[derive(Debug, Clone)]
pub struct Pushed {
    follow: watch::Receiver<Receipt>,
}

impl Pushed {
    pub(crate) fn new(follow: watch::Receiver<Receipt>) -> Self {
        Self { follow }
    }

    /// Returns how far the push has come.
    pub fn status(&self) -> Receipt {
        self.follow.borrow().clone()
    }

    /// Returns the operation's identity; another one after it was dated again.
    pub fn sha(&self) -> Sha {
        self.follow.borrow().sha
    }

    /// Waits until the operation is on this device's disk, or the disk has refused it. Without a local store it waits
    /// for the first store.
    pub async fn durable(&mut self) -> Receipt {
        self.until(|receipt| receipt.durable || receipt.local_error.is_some() || receipt.accepted() > 0).await
    }

    /// Waits until `count` stores have the operation on disk, or so many have refused it that this cannot come.
    pub async fn accepted(&mut self, count: usize) -> Receipt {
        self.until(|receipt| receipt.accepted() >= count || (receipt.settled() && !receipt.stores.is_empty())).await
    }

    async fn until(&mut self, done: impl FnMut(&Receipt) -> bool) -> Receipt {
        let mut done = done;
        let found = self.follow.wait_for(|receipt| done(receipt)).await.map(|receipt| receipt.clone());
        // An error means that nobody has more to say: what is known is the last word.
        found.unwrap_or_else(|_| self.follow.borrow().clone())
    }
}
