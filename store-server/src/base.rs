//! What the store decides about the bases of its logs, by the rule in `gigfs_storage::pruning`.
//!
//! A decision rests on the base that the log has, so each is on disk before the next about the same log is made: it has its
//! turn from the first look to the last commit, on a thread that goes on to the end when whoever asked has gone. Pushes
//! need no turn. One that arrives between the look and the commit, of an operation that the new base covers, stays live
//! like one whose descendants are not here: the base is not complete then, until somebody brings the list of what it covers.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use gigfs_core::api::LogHeader;
use gigfs_core::token::{AckClaims, AckUse};
use gigfs_core::wire::WireBase;
use gigfs_core::{LogName, Refusal, Sha};
use gigfs_storage::Batch;
use gigfs_storage::pruning::{self, Decided};
use parking_lot::Mutex;
use tokio::sync::{Mutex as Turn, OwnedSemaphorePermit, Semaphore};

use crate::store::{Inner, Store};
use crate::{clock, refusal, token, user};

/// Turns at the logs, and room for what is being decided.
pub(crate) struct Bases {
    /// Of the logs that somebody has a turn at or waits for.
    turns: Mutex<BTreeMap<LogName, Arc<Turn<()>>>>,
    /// In units of [`ROOM_UNIT_BYTES`].
    room: Arc<Semaphore>,
}

/// Room for one decision.
pub(crate) struct Room(#[expect(dead_code, reason = "it is given back when this is dropped")] OwnedSemaphorePermit);

impl Default for Bases {
    fn default() -> Self {
        Self { turns: Mutex::default(), room: Arc::new(Semaphore::new(ROOM_UNITS)) }
    }
}

impl Bases {
    /// Waits for room to decide about something of so many bytes.
    pub(crate) async fn room(&self, bytes: usize) -> Result<Room, Refusal> {
        let units = (1 + bytes / ROOM_UNIT_BYTES).min(ROOM_UNITS) as u32;
        self.room.clone().acquire_many_owned(units).await.map(Room).map_err(|_| refusal::stopping())
    }

    fn turn(&self, log: &LogName) -> Arc<Turn<()>> {
        let mut turns = self.turns.lock();
        // There are not many: whoever is here has room.
        turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        turns.entry(log.clone()).or_default().clone()
    }
}

impl Store {
    /// Keeps a checkpoint and returns the store's signed word that it has it, with all that it newly covers, on top of its
    /// own base.
    pub(crate) async fn acknowledge(
        &self,
        log: LogName,
        sha: Sha,
        record: Bytes,
        epoch: u64,
        room: Room,
    ) -> Result<String, Refusal> {
        let decide = move |inner: &Inner, log: &LogName| {
            inner.quotas.check_base(&log.user, record.len(), &*inner.engine)?;
            let (checkpoint, batch) = decided(pruning::judge(&*inner.engine, log, sha, &record, clock::date()))?;
            inner.commits.write(batch, None)?;
            let LogName { user, channel, kind, path } = log.clone();
            inner.signer.acknowledge(&AckClaims {
                iss: inner.engine.store_id(),
                sub: user,
                channel,
                kind,
                path,
                generation: checkpoint.generation,
                checkpoint: sha,
                parent: checkpoint.parent,
                epoch,
                usage: AckUse::Acknowledge,
            })
        };
        self.in_turn(log, room, decide).await
    }

    /// Makes a checkpoint that the user's table has certified the log's base, unless it has that or a later one.
    pub(crate) async fn install(
        &self,
        log: LogName,
        base: WireBase,
        instead_of: Option<Sha>,
        room: Room,
    ) -> Result<LogHeader, Refusal> {
        let decide = move |inner: &Inner, log: &LogName| {
            let table = inner.users.table(&log.user).ok_or_else(|| user::unknown(&log.user))?;
            token::verify_certificate(&base.certificate, &table, log, base.sha)?;
            // A checkpoint that waited here is counted already.
            let is_kept = pruning::is_kept(&*inner.engine, log, &base.sha).map_err(|error| refusal::storage(&error))?;
            let bytes = if is_kept { 0 } else { base.record.len() };
            inner.quotas.check_base(&log.user, bytes, &*inner.engine)?;
            let decide = || decided(pruning::install(&*inner.engine, log, &base, instead_of, clock::date()));
            while let Some(batch) = decide()? {
                // A restore comes first where the base is of another history; nobody is told before the base is there.
                let is_base = !batch.installs.is_empty();
                inner.commits.write(batch, is_base.then(|| log.clone()))?;
            }
            header(inner, log)
        };
        self.in_turn(log, room, decide).await
    }

    /// Takes note of operations that the log's base covers.
    pub(crate) async fn cover(
        &self,
        log: LogName,
        base: Sha,
        shas: Vec<Sha>,
        room: Room,
    ) -> Result<LogHeader, Refusal> {
        let decide = move |inner: &Inner, log: &LogName| {
            inner.quotas.check_base(&log.user, shas.len() * 32, &*inner.engine)?;
            let batch = decided(pruning::cover(&*inner.engine, log, base, shas, clock::date()))?;
            let is_complete = |header: &LogHeader| header.base.is_some_and(|base| base.complete);
            let before = is_complete(&header(inner, log)?);
            inner.commits.write(batch, None)?;
            let after = header(inner, log)?;
            if is_complete(&after) && !before {
                // Those who wait for the store's word about an operation ask again.
                inner.commits.write(Batch::default(), Some(log.clone()))?;
            }
            Ok(after)
        };
        self.in_turn(log, room, decide).await
    }

    /// Takes note that somebody disputes the log's base.
    pub(crate) async fn dispute(&self, log: LogName, base: Sha, room: Room) -> Result<LogHeader, Refusal> {
        let decide = move |inner: &Inner, log: &LogName| {
            let batch = decided(pruning::dispute(&*inner.engine, log, base))?;
            inner.commits.write(batch, Some(log.clone()))?;
            header(inner, log)
        };
        self.in_turn(log, room, decide).await
    }

    /// Runs a decision about a log's base when it is its turn.
    async fn in_turn<T: Send + 'static>(
        &self,
        log: LogName,
        room: Room,
        decide: impl FnOnce(&Inner, &LogName) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        let turn = self.inner.bases.turn(&log).lock_owned().await;
        let decide = move |inner: &Inner| {
            let _until_done = (turn, room);
            decide(inner, &log)
        };
        self.blocking(decide).await
    }
}

fn decided<T>(decided: Decided<T>) -> Result<T, Refusal> {
    decided.map_err(|error| refusal::storage(&error))?
}

fn header(inner: &Inner, log: &LogName) -> Result<LogHeader, Refusal> {
    let tail = inner.engine.tail(log).map_err(|error| refusal::storage(&error))?;
    Ok(tail.unwrap_or_default().header)
}

/// Decisions under way, of which large ones count for several; it bounds the memory and the threads that they take.
const ROOM_UNITS: usize = 64;
const ROOM_UNIT_BYTES: usize = 512 * 1024;
