//! A base that is not part of the log's history: kept beside it as a log of its own, never merged silently.
//!
//! Two histories of one log come to be only when a table and its stores were restored from backups together, so that
//! checkpoints were committed that others had been committed in place of. The later one stays the log's base. The state of
//! the other becomes the first base of a log next to it, named after it.

use super::log::{Installed, Interest, Loaded};
use super::{Notice, PruneHold, Replica};
use crate::checkpoint::Checkpoint;
use crate::covers::Covers;
use crate::id::{Digest, Seq};
use crate::name::LogName;

impl Replica {
    /// Has the state of a base kept in a log of its own, because the log goes on without it.
    pub(super) fn keep_conflict(&mut self, name: &LogName, foreign: &Installed) {
        let (generation, sha) = (foreign.id.generation, foreign.id.sha.to_string());
        let copy = self.beside(name, &format!(".conflict-{generation}-{}", &sha[..8]));
        self.notify(Notice::Conflict { log: name.clone(), base: foreign.id, copy: copy.clone() });
        let Some(copy) = copy else { return };
        let seed = Checkpoint {
            generation: Seq::FIRST,
            parent: None,
            covers: Covers::default(),
            absent: Vec::new(),
            digest: Digest::default(),
            author: self.config.actor,
            ..Checkpoint::clone(&foreign.checkpoint)
        };
        self.want(self.now, &copy, Interest::Compare);
        self.log_mut(&copy).pruning.seed = Some(Box::new(seed));
        self.plant(&copy);
    }

    /// Proposes the state that a log is to begin with, once every store can be asked.
    pub(super) fn plant(&mut self, name: &LogName) {
        let Some(log) = self.logs.get_mut(name).filter(|log| log.loaded == Loaded::Yes) else { return };
        if log.base.is_some() {
            log.pruning.seed = None;
        }
        let Some(seed) = log.pruning.seed.clone().filter(|_| log.pruning.proposed.is_none()) else { return };
        if !self.logs[name].peers.is_empty()
            && self.check_peers(name).is_ok()
            && let Err(hold @ PruneHold::TooLarge { .. }) = self.propose(name, *seed)
        {
            self.not_pruned(name, hold);
        }
    }
}
