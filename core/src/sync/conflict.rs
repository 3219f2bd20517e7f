//! A base that is not part of the log's history: kept beside it as a log of its own, never merged silently.
//!
//! Two histories of one log come to be only when a table and its stores were restored from backups together, so that
//! checkpoints were committed that others had been committed in place of. The later one stays the log's base. The state of
//! the other becomes the first base of a log next to it, named after it.

use super::link::Request;
use super::log::{Installed, Interest, Loaded, Log, Reading};
use super::{LinkId, Notice, PruneHold, Record, Replica};
use crate::checkpoint::{Base, Checkpoint};
use crate::covers::Covers;
use crate::id::{Digest, Seq};
use crate::limits::INTEGER_MAX;
use crate::name::LogName;
use crate::wire::{ClientMessage, Tag, WireBase};

impl Replica {
    /// A store has a base that is not part of the log's history: it is read, so that a copy of it can be kept.
    pub(super) fn meets_foreign(&mut self, id: &LinkId, name: &LogName) {
        let tag = self.up_mut(id).ask(Request::Foreign { log: name.clone() });
        self.send(id, ClientMessage::Get { tag, log: name.into(), after: INTEGER_MAX, base: None });
    }

    /// Keeps a copy of a store's foreign base, and has the store take the log's own instead once that is safe.
    pub(super) fn read_foreign(&mut self, id: &LinkId, tag: Tag, wire: Option<&WireBase>) {
        let Some(Request::Foreign { log: name }) = self.up_mut(id).answered(tag) else { return };
        let read = wire.and_then(|wire| Some(Installed::new(&name, wire.open(&name).ok()?, Base::from(wire))));
        let ours = self.log_mut(&name).base.clone();
        if let (Some(foreign), Some(ours)) = (read, ours)
            && foreign.id < ours.id
            && (ours.checkpoint.covers.includes(&foreign.checkpoint.covers) || self.is_kept_beside(&name, &foreign))
        {
            return self.send_base(id, &name, WireBase::from(&ours.base), Some(foreign.id.sha), false);
        }
        self.set_reading(id, &name, Reading::Idle);
        let at = self.forward_at();
        self.read_again(id, &name, at);
    }

    /// Has a base copied, unless it is already. Tells whether it may go where it is: its copy is safe, or none will be made.
    fn is_kept_beside(&mut self, name: &LogName, foreign: &Installed) -> bool {
        let copy = self.copy_name(name, foreign);
        let begun = |log: &Log| log.base.is_some() || log.pruning.seed.is_some();
        if !copy.as_ref().and_then(|copy| self.logs.get(copy)).is_some_and(begun) {
            self.meet_epochs(name, std::iter::once(&foreign.checkpoint.state));
            if self.lacks_key(name, &foreign.checkpoint) {
                return false;
            }
            self.keep_conflict(name, foreign);
        }
        !self.config.durable || copy.is_none_or(|copy| self.is_kept(&copy))
    }

    /// Has the state of a base kept in a log of its own, because the log goes on without it. Whoever cannot read it, or holds it
    /// to be made by somebody who may not write, makes no copy.
    pub(super) fn keep_conflict(&mut self, name: &LogName, foreign: &Installed) {
        let copy = self.copy_name(name, foreign);
        let copied = copy.and_then(|copy| Some((self.copied(name, foreign, &copy).ok()?, copy)));
        let (log, copy) = (name.clone(), copied.as_ref().map(|(_, copy)| copy.clone()));
        self.notify(Notice::Conflict { log, base: foreign.id, copy });
        let Some((seed, copy)) = copied else { return };
        self.want(self.now, &copy, Interest::Compare);
        let called = self.sealed_name(&copy).map(|sealed| Record::Name { log: copy.clone(), sealed });
        let seeded = Record::Seed { log: copy.clone(), seed: Some(seed.to_record(None).into()) };
        self.persist(called.into_iter().chain([seeded]).collect());
        self.log_mut(&copy).pruning.seed = Some(Box::new(seed));
        self.plant(&copy);
    }

    /// Returns the name of the log that is to be the copy of a base.
    fn copy_name(&mut self, name: &LogName, foreign: &Installed) -> Option<LogName> {
        let (generation, sha) = (foreign.id.generation, foreign.id.sha.to_string());
        self.beside(name, &format!(".conflict-{generation}-{}", &sha[..8]))
    }

    /// Returns the first checkpoint of a log that is to be the copy of a base.
    fn copied(&mut self, name: &LogName, foreign: &Installed, copy: &LogName) -> Result<Checkpoint, String> {
        let (author, to) = (self.config.actor, self.sealer(copy));
        let log = self.log_mut(name);
        log.believed(foreign)?;
        let seed = Checkpoint {
            generation: Seq::FIRST,
            parent: None,
            covers: Covers::default(),
            absent: Vec::new(),
            digest: Digest::default(),
            author,
            ..Checkpoint::clone(&foreign.checkpoint)
        };
        match (to, &log.sealer) {
            (Some(to), Some(from)) => to.seal_copy(&foreign.checkpoint, from, seed),
            _ => Ok(seed),
        }
    }

    /// Goes on with a copy that an earlier process has begun.
    pub(super) fn grow(&mut self, name: &LogName, seed: &[u8]) {
        let author = self.config.actor;
        if let Ok(seed) = Checkpoint::from_trusted(seed) {
            let log = self.log_mut(name);
            log.interest = log.interest.max(Interest::Compare);
            log.pruning.seed = Some(Box::new(Checkpoint { author, ..seed }));
            self.plant(name);
        }
    }

    /// Tells whether a log is a copy that not every store has yet.
    pub(super) fn is_copy(&self, name: &LogName) -> bool {
        self.logs.get(name).is_some_and(|log| log.pruning.seed.is_some())
    }

    /// Proposes the state that a log is to begin with, once every store can be asked, and forgets it once every store has it.
    pub(super) fn plant(&mut self, name: &LogName) {
        let (sends, today) = (self.mode.sends(), self.now.plus(self.clock_offset));
        let Some(log) = self.logs.get_mut(name).filter(|log| log.loaded == Loaded::Yes) else { return };
        let Some(seed) = log.pruning.seed.clone() else { return };
        if let Some(base) = &log.base {
            if log.peers.values().all(|peer| peer.can_tell(Some(base))) {
                log.pruning.seed = None;
                self.persist_lazily(Record::Seed { log: name.clone(), seed: None });
                // From now on it is a log like any other.
                self.plan_pruning_at(name, None);
                self.plan_pruning(name);
            }
            return;
        }
        if !sends || log.peers.is_empty() || log.pruning.proposed.is_some() {
            return;
        }
        // Whoever makes the copy may write today, and need not have been allowed to when it was written.
        let seed = Checkpoint { date: seed.date.max(today), ..*seed };
        match self.check_peers(name).and_then(|()| self.propose(name, seed)) {
            Ok(()) => {}
            Err(hold @ PruneHold::TooLarge { .. }) => self.not_pruned(name, hold),
            Err(PruneHold::Behind { stores }) if stores.iter().any(|store| self.owes_roster(name, store)) => {
                let at = self.forward_at();
                self.plan_pruning_at(name, Some(at));
            }
            // It is looked at again when a stream comes up.
            Err(PruneHold::Unreachable { .. }) => {}
            Err(hold) => self.try_again_later(name, &hold),
        }
    }
}
