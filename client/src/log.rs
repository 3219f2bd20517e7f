//! One log, as an app reads, writes and follows it.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use gigfs_core::sync::{BaseStatus, PruneHold, PushError, ReadStanding, Replica};
use gigfs_core::{BaseId, Date, LogName, Op};
use serde_json::Value;
use tokio::time::timeout;

use crate::changes::Subscription;
use crate::error::Error;
use crate::gig::{FIRST_READ_TIMEOUT, Gig};
use crate::receipt::Pushed;
use crate::shared::Shared;

/// How long a call that prunes waits for the stores to install what was committed.
const INSTALL_TIMEOUT: Duration = Duration::from_secs(5);

/// One log of a client.
#[derive(Clone)]
pub struct Log {
    gig: Gig,
    name: LogName,
    /// The name under which stores and disks know it: blinded, if the channel is sealed. Known once the log was opened.
    kept: Arc<OnceLock<LogName>>,
}

impl Log {
    pub(crate) fn new(gig: Gig, name: LogName) -> Self {
        Self { gig, name, kept: Arc::default() }
    }

    /// Returns the name under which the sync machine knows the log, if it knows it.
    fn kept(&self) -> &LogName {
        self.kept.get().unwrap_or(&self.name)
    }

    /// Returns the log's name.
    pub fn name(&self) -> &LogName {
        &self.name
    }

    /// Returns the value of the log; what its reducer makes of nothing if nobody wrote yet.
    ///
    /// Local once the log is known here. The first read of all answers with the first store that answers, and with what
    /// is here if none can be reached.
    ///
    /// # Errors
    /// [`Error::UnknownChannel`], [`Error::UnknownType`], or [`Error::NoAnswer`] if stores keep silent.
    pub async fn get(&self) -> Result<Arc<Value>, Error> {
        let fast = |replica: &mut Replica| match replica.read_standing(self.kept()).known {
            true => replica.value(self.kept()),
            false => None,
        };
        if let Some(value) = self.shared().look(fast) {
            return Ok(value);
        }
        self.gig.mounts_known().await;
        self.open().await?;
        // What comes in while it is read for the first time is a part of it.
        let here = self.standing().known;
        let answered = |standing: ReadStanding| here || standing.current > 0 || standing.trying == 0;
        let mode = self.gig.mode();
        if mode.receives() {
            self.until_read(answered, FIRST_READ_TIMEOUT).await?;
            self.gig.renew_keys().await;
        }
        self.value()
    }

    /// Reads the log through at every store that can be reached, and returns the value then.
    ///
    /// # Errors
    /// Those of [`get`](Self::get).
    pub async fn refresh(&self, deadline: Duration) -> Result<Arc<Value>, Error> {
        self.gig.mounts_known().await;
        self.open().await?;
        if self.gig.mode().receives() {
            match self.until_read(|standing| standing.trying == 0, deadline).await {
                Err(Error::NoAnswer { .. }) if self.standing().known => {}
                read => read?,
            }
            self.gig.renew_keys().await;
        }
        self.value()
    }

    /// Writes what a person means. It takes effect here at once, is durable here as soon as the disk has it, and goes to
    /// every store of the channel when it can.
    ///
    /// # Errors
    /// [`Error::Push`] if it makes no sense or breaks a limit; nothing was written then.
    pub async fn push(&self, intent: &Value) -> Result<Pushed, Error> {
        let mut result = self.try_push(intent);
        if matches!(result, Err(Error::Push(PushError::NotLoaded { .. }))) {
            self.open().await?;
            result = self.try_push(intent);
        }
        result
    }

    fn try_push(&self, intent: &Value) -> Result<Pushed, Error> {
        let shared = self.shared();
        if shared.is_closed() {
            return Err(Error::Closed);
        }
        shared.push(self.kept(), intent).map(Pushed::new).map_err(|error| match error.about(&self.name) {
            PushError::UnknownType { kind } => Error::UnknownType { kind },
            other => Error::Push(other),
        })
    }

    /// Follows the log: every change from now on, by this process, another one of this device, or anybody else.
    ///
    /// # Errors
    /// [`Error::UnknownChannel`] or [`Error::UnknownType`].
    pub async fn on(&self) -> Result<Subscription, Error> {
        self.gig.mounts_known().await;
        self.open().await?;
        Ok(Subscription::new(self.shared().clone(), self.name.clone(), self.kept().clone()))
    }

    /// Returns the operations of the log in the order of replay, with the reason where one has no effect: its reducer cannot
    /// read it, or nobody who may write in the channel vouches for it.
    ///
    /// # Errors
    /// Those of [`get`](Self::get).
    pub async fn history(&self) -> Result<Vec<(Op, Option<String>)>, Error> {
        self.get().await?;
        let name = self.kept();
        Ok(self.shared().look(|replica| {
            let mut unreadable = replica.unreadable(name);
            let ops = replica.oplog(name).into_iter().flat_map(|oplog| oplog.iter().cloned().collect::<Vec<_>>());
            let taken = ops.map(|op| (unreadable.remove(&op.sha()), op)).map(|(why, op)| (op, why));
            let unproven = replica.unproven(name).map(|(op, why)| (op.clone(), Some(why)));
            let mut all: Vec<(Op, Option<String>)> = taken.chain(unproven).collect();
            all.sort_by_key(|(op, _)| op.key());
            all
        }))
    }

    /// Returns what the log stands on, and what keeps it from being pruned.
    ///
    /// # Errors
    /// Those of [`get`](Self::get), but that the base may be unreadable.
    pub async fn base(&self) -> Result<BaseStatus, Error> {
        self.gig.mounts_known().await;
        self.open().await?;
        let status = self.shared().look(|replica| replica.base_status(self.kept()));
        status.ok_or_else(|| Error::NoAnswer { log: self.name.clone() })
    }

    /// Has the log pruned: everything that is written so far becomes part of its base, once every store of the channel has
    /// acknowledged that and the table has committed it. Returns the base; the one before if there is nothing to prune.
    ///
    /// # Errors
    /// [`Error::NotPruned`] says what holds it; nothing is changed then.
    pub async fn prune(&self, deadline: Duration) -> Result<Option<BaseId>, Error> {
        self.settle_base(deadline, Replica::prune).await
    }

    /// Has the state of the log's base computed again here from what the stores still keep of what it covers, and if
    /// another state comes out, makes that the next base. For when a device with a faulty reducer has pruned the log: run it
    /// on a device that is right. Returns the new base; nothing if the state is right.
    ///
    /// # Errors
    /// [`Error::NotPruned`] says what holds it; nothing is changed then.
    pub async fn repair(&self, deadline: Duration) -> Result<Option<BaseId>, Error> {
        self.settle_base(deadline, Replica::repair).await
    }

    async fn settle_base(
        &self,
        deadline: Duration,
        begin: impl Fn(&mut Replica, Date, &LogName) -> Result<(), PruneHold>,
    ) -> Result<Option<BaseId>, Error> {
        self.gig.mounts_known().await;
        self.open().await?;
        if self.gig.mode().receives() {
            // Which stores cannot be reached is known only once each was tried.
            self.until_read(|standing| standing.trying == 0, deadline).await.ok();
        }
        let before = self.shared().look(|replica| replica.base(self.kept()));
        let mut last = PruneHold::NotOpen;
        let attempts = async {
            loop {
                self.shared().expect_outcome(self.kept());
                let begun = self.shared().act(|replica, now| begin(replica, now, self.kept()));
                let outcome = match begun {
                    Ok(()) => self.shared().until(|_| self.shared().outcome(self.kept())).await,
                    Err(hold) => Err(hold),
                };
                match outcome {
                    Ok(base) => return Ok(Some(base)),
                    Err(PruneHold::Nothing) => return Ok(self.shared().look(|replica| replica.base(self.kept()))),
                    Err(PruneHold::NothingToRepair) => {
                        let now = self.shared().look(|replica| replica.base(self.kept()));
                        return Ok(now.filter(|now| Some(*now) != before));
                    }
                    Err(hold) if hold.is_passing() => {
                        last = hold.clone();
                        let moved = |replica: &mut Replica| {
                            let now = replica.prune_hold(self.kept());
                            (now.as_ref() != Some(&hold)).then_some(())
                        };
                        self.shared().until(moved).await;
                    }
                    Err(hold) => return Err(hold),
                }
            }
        };
        let settled = timeout(deadline, attempts).await;
        let base = settled
            .unwrap_or(Err(last))
            .map_err(|hold| Error::NotPruned { log: self.name.clone(), hold: Box::new(hold) })?;
        // It is committed, whatever happens now; most likely the stores have it in a moment.
        _ = timeout(deadline.min(INSTALL_TIMEOUT), self.installed(base)).await;
        Ok(base)
    }

    /// Waits until every store that is up has a base.
    async fn installed(&self, base: Option<BaseId>) {
        let has_it = |replica: &mut Replica| {
            let stores = replica.base_status(self.kept()).map(|status| status.stores).unwrap_or_default();
            stores.iter().all(|(_, header)| header.map(|header| header.id) >= base).then_some(())
        };
        self.shared().until(has_it).await;
    }

    /// Removes the log as it is known here: it is as if it had never been written to, but for what others write that was not
    /// known here. Nothing of it is left once it is pruned.
    ///
    /// # Errors
    /// Those of [`push`](Self::push).
    pub async fn remove(&self) -> Result<Pushed, Error> {
        self.gig.mounts_known().await;
        self.open().await?;
        self.shared().remove(self.kept()).map(Pushed::new).map_err(|error| Error::Push(error.about(&self.name)))
    }

    /// Returns how far the log has been read from the stores of its channel.
    pub fn standing(&self) -> ReadStanding {
        self.shared().look(|replica| replica.read_standing(self.kept()))
    }

    /// Returns how many operations the log has, those that its base covers among them.
    pub fn len(&self) -> usize {
        self.shared().look(|replica| self.count(replica))
    }

    fn count(&self, replica: &mut Replica) -> usize {
        let ops = replica.oplog(self.kept()).map_or(0, gigfs_core::Oplog::len);
        let covered = replica.base_status(self.kept()).map_or(0, |status| status.covered);
        ops + usize::try_from(covered).unwrap_or(usize::MAX)
    }

    /// Waits until `count` operations are here.
    ///
    /// # Errors
    /// [`Error::NoAnswer`] when the deadline passes first.
    pub async fn until_len(&self, count: usize, deadline: Duration) -> Result<(), Error> {
        self.gig.mounts_known().await;
        self.open().await?;
        let reached = |replica: &mut Replica| (self.count(replica) >= count).then_some(());
        timeout(deadline, self.shared().until_of(self.kept(), reached))
            .await
            .map_err(|_| Error::NoAnswer { log: self.name.clone() })
    }

    /// Tells whether no operation is here.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Waits until `done` says so of the log's value, looking again at each change.
    ///
    /// # Errors
    /// [`Error::NoAnswer`] when the deadline passes first.
    pub async fn until(&self, mut done: impl FnMut(&Value) -> bool, deadline: Duration) -> Result<Arc<Value>, Error> {
        self.gig.mounts_known().await;
        self.open().await?;
        let look = |replica: &mut Replica| replica.value(self.kept()).filter(|value| done(value));
        timeout(deadline, self.shared().until_of(self.kept(), look))
            .await
            .map_err(|_| Error::NoAnswer { log: self.name.clone() })
    }

    fn shared(&self) -> &Arc<Shared> {
        self.gig.shared()
    }

    fn value(&self) -> Result<Arc<Value>, Error> {
        let read = |replica: &mut Replica| {
            let value = replica.value(self.kept());
            value.ok_or_else(|| replica.trouble(self.kept()).map(str::to_owned))
        };
        self.shared().look(read).map_err(|trouble| match trouble {
            Some(why) => Error::UnreadableBase { log: self.name.clone(), why },
            None => Error::UnknownType { kind: self.name.kind.clone() },
        })
    }

    /// Opens the log, and waits until it was read from the local store.
    async fn open(&self) -> Result<(), Error> {
        let shared = self.shared();
        if shared.is_closed() {
            return Err(Error::Closed);
        }
        self.gig.know_channel(&self.name.channel).await?;
        self.kept.get_or_init(|| shared.look(|replica| replica.name(&self.name)));
        shared.act(|replica, now| replica.open(now, self.kept()));
        shared.until_of(self.kept(), |replica| replica.is_loaded(self.kept()).then_some(())).await;
        Ok(())
    }

    async fn until_read(&self, done: impl Fn(ReadStanding) -> bool, deadline: Duration) -> Result<(), Error> {
        let read = |replica: &mut Replica| done(replica.read_standing(self.kept())).then_some(());
        timeout(deadline, self.shared().until_of(self.kept(), read))
            .await
            .map_err(|_| Error::NoAnswer { log: self.name.clone() })
    }
}
