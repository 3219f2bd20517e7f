//! A base that is not part of the log's history: kept beside it as a log of its own, never merged silently.
//!
//! Two histories of one log come to be only when a table and its stores were restored from backups together, so that
//! checkpoints were committed that others had been committed in place of. The later one stays the log's base. The state of
//! the other becomes the first base of a log next to it, named after it.

use super::link::Request;
use super::log::{Installed, Interest, Loaded, Reading};
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

    /// Keeps a copy of a store's foreign base, and has the store take the log's own instead.
    pub(super) fn read_foreign(&mut self, id: &LinkId, tag: Tag, wire: Option<&WireBase>) {
        let Some(Request::Foreign { log: name }) = self.up_mut(id).answered(tag) else { return };
        let read = wire.and_then(|wire| Some(Installed::new(&name, wire.open(&name).ok()?, Base::from(wire))));
        let ours = self.log_mut(&name).base.clone();
        match (read, ours) {
            (Some(foreign), Some(ours)) if foreign.id < ours.id => {
                if !ours.checkpoint.covers.includes(&foreign.checkpoint.covers) {
                    self.keep_conflict(&name, &foreign);
                }
                self.send_base(id, &name, WireBase::from(&ours.base), Some(foreign.id.sha), false);
            }
            _ => {
                self.set_reading(id, &name, Reading::Idle);
                let at = self.retry_at();
                self.read_again(id, &name, at);
            }
        }
    }

    /// Has the state of a base kept in a log of its own, because the log goes on without it. Whoever cannot read it, or holds it
    /// to be made by somebody who may not write, makes no copy.
    pub(super) fn keep_conflict(&mut self, name: &LogName, foreign: &Installed) {
        let (generation, sha) = (foreign.id.generation, foreign.id.sha.to_string());
        let copy = self.beside(name, &format!(".conflict-{generation}-{}", &sha[..8]));
        let copied = copy.and_then(|copy| Some((self.copied(name, foreign, &copy).ok()?, copy)));
        let (log, copy) = (name.clone(), copied.as_ref().map(|(_, copy)| copy.clone()));
        self.notify(Notice::Conflict { log, base: foreign.id, copy });
        let Some((seed, copy)) = copied else { return };
        self.want(self.now, &copy, Interest::Compare);
        self.persist(vec![Record::Seed { log: copy.clone(), seed: Some(seed.to_record(None).into()) }]);
        self.log_mut(&copy).pruning.seed = Some(Box::new(seed));
        self.plant(&copy);
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

    /// Proposes the state that a log is to begin with, once every store can be asked.
    pub(super) fn plant(&mut self, name: &LogName) {
        let Some(log) = self.logs.get_mut(name).filter(|log| log.loaded == Loaded::Yes) else { return };
        if log.base.is_some() && log.pruning.seed.take().is_some() {
            self.persist_lazily(Record::Seed { log: name.clone(), seed: None });
        }
        let log = self.log_mut(name);
        let Some(seed) = log.pruning.seed.clone().filter(|_| log.pruning.proposed.is_none()) else { return };
        if !log.peers.is_empty()
            && self.check_peers(name).is_ok()
            && let Err(hold @ PruneHold::TooLarge { .. }) = self.propose(name, *seed)
        {
            self.not_pruned(name, hold);
        }
    }
}
