//! What the app writes: an operation that takes effect here at once, and goes to the stores when it can.

use serde_json::Value;

use super::log::{Loaded, Log};
use super::{Notice, Origin, PushId, Receipt, Record, Replica, Standing};
use crate::commit::with_all;
use crate::date::Date;
use crate::fold::Fold;
use crate::id::Sha;
use crate::json;
use crate::name::{LogName, TypeName};
use crate::op::{Draft, Op, OpError, Payload};
use crate::oplog::Oplog;
use crate::reducer::{Author, IntentError};
use crate::removal::{self, Seen};
use crate::seal::SealError;

/// Why a push was not taken. Nothing was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PushError {
    /// The log was not opened, or is still being read from the local store.
    #[error("the log {log} is not open yet; wait until it is loaded")]
    NotLoaded {
        /// The log.
        log: LogName,
    },
    /// Nobody registered the type.
    #[error("no reducer is registered for the type {kind}; register one before using it")]
    UnknownType {
        /// The type.
        kind: TypeName,
    },
    /// The intent makes no sense.
    #[error("{log}: {source}")]
    Intent {
        /// The log.
        log: LogName,
        /// What the reducer said.
        source: IntentError,
    },
    /// The payload breaks a limit.
    #[error("{log}: {source}")]
    Op {
        /// The log.
        log: LogName,
        /// The limit.
        source: Box<OpError>,
    },
    /// The payload cannot be sealed.
    #[error("{log}: {source}")]
    Seal {
        /// The log.
        log: LogName,
        /// Why.
        source: SealError,
    },
}

impl PushError {
    /// Returns the same about a log as the app knows it.
    #[must_use]
    pub fn about(self, log: &LogName) -> Self {
        let log = log.clone();
        match self {
            Self::NotLoaded { .. } => Self::NotLoaded { log },
            Self::UnknownType { .. } => Self::UnknownType { kind: log.kind },
            Self::Intent { source, .. } => Self::Intent { log, source },
            Self::Op { source, .. } => Self::Op { log, source },
            Self::Seal { source, .. } => Self::Seal { log, source },
        }
    }
}

impl Replica {
    /// Writes what a person means to a log. It takes effect here at once, and goes to the stores when it can.
    ///
    /// # Errors
    /// [`PushError`] says why; nothing was written then.
    pub fn push(&mut self, now: Date, name: &LogName, intent: &Value) -> Result<Receipt, PushError> {
        self.write(now, name, |fold, oplog, author| {
            let payload = fold.prepare(oplog, intent, author)?;
            let reserved = payload.as_object().is_some_and(|members| members.contains_key(removal::MEMBER));
            match reserved {
                false => Ok(payload),
                true => Err(IntentError(format!("{} is reserved; to remove the log, remove it", removal::MEMBER))),
            }
        })
    }

    /// Removes a log as it is known here: it is as if it had never been written to, but for what others write that was not
    /// known here. Nothing of it is left once it is pruned.
    ///
    /// # Errors
    /// [`PushError`] says why; nothing was written then.
    pub fn remove(&mut self, now: Date, name: &LogName) -> Result<Receipt, PushError> {
        let seen = |log: &Log| {
            let base = log.base.as_ref().map(|base| base.checkpoint.digest).unwrap_or_default();
            let shas: Vec<Sha> = log.oplog.iter().map(Op::sha).collect();
            Seen { base, all: with_all(base, &shas), absent: log.oplog.absent() }
        };
        let payload = removal::payload(&self.logs.get(name).map(seen).unwrap_or_default());
        self.write(now, name, |_, _, _| Ok(payload))
    }

    fn write(
        &mut self,
        now: Date,
        name: &LogName,
        prepare: impl FnOnce(&mut dyn Fold, &Oplog, &Author) -> Result<Value, IntentError>,
    ) -> Result<Receipt, PushError> {
        self.observe(now);
        let wall = now.plus(self.clock_offset);
        let actor = self.config.actor;
        if self.is_loaded(name) {
            self.certify(name, actor);
        }
        let undated = self.is_roster(name);
        let Some(log) = self.logs.get_mut(name).filter(|log| log.loaded == Loaded::Yes) else {
            return Err(PushError::NotLoaded { log: name.clone() });
        };
        let seq = log.next_seq(actor);
        let (date, deps) = match undated {
            // A roster is a set that only grows: its order means nothing, and no clock shall keep it from a store.
            true => (Date::EPOCH, Vec::new()),
            false => (Date::after(wall, log.max_date()), log.deps(actor)),
        };
        let Some(fold) = &mut log.fold else {
            return Err(PushError::UnknownType { kind: name.kind.clone() });
        };
        let payload = prepare(&mut **fold, &log.oplog, &Author { actor, seq, date })
            .map_err(|source| PushError::Intent { log: name.clone(), source })?;
        json::check_depth(&payload)
            .map_err(|error| PushError::Op { log: name.clone(), source: Box::new(error.into()) })?;
        let draft = Draft { actor, seq, date, deps, payload: Payload::plain(&payload) };
        let plain = draft.payload.clone();
        let draft = log.sealed_draft(draft).map_err(|source| PushError::Seal { log: name.clone(), source })?;
        let op = draft.finish(name).map_err(|source| PushError::Op { log: name.clone(), source: Box::new(source) })?;

        op.open_with(|_| Ok(plain));
        log.admit(&op);
        log.pending.insert(op.key());
        let id = PushId(self.next_push);
        self.next_push += 1;
        log.pushes.insert(op.sha(), id);
        let stores = log.peers.keys().map(|store| (*store, Standing::Queued)).collect();
        let receipt = Receipt { id, log: name.clone(), sha: op.sha(), durable: false, local_error: None, stores };
        self.receipts.insert(id, receipt.clone());
        self.notify(Notice::Changed { log: name.clone(), ops: vec![op.clone()], origin: Origin::Here });
        if self.config.durable {
            self.log_mut(name).unsaved.insert(op.sha());
            let mut records = vec![Record::Op { log: name.clone(), op: op.clone() }];
            if !self.log_mut(name).peers.is_empty() {
                records.push(Record::Pending { log: name.clone(), sha: op.sha(), pending: true });
            }
            self.persist(records);
        } else {
            self.may_send(name, &[op.key()]);
        }
        self.plan_pruning(name);
        Ok(receipt)
    }
}
