//! Coming back to a store: it tells what was missed, and what it does not tell has not changed.
//!
//! A stream's *cursor* is the position up to which the store has told everything that is watched. A log that was in step
//! when the store stopped telling is *left off* at the cursor: all that the store had of it then is here, and all that the
//! store lacked is in the backlog. Once the store has told what came after the cursor, the log is in step again without
//! having been read. A cursor is good for the run of the store in which it was heard; whatever else differs from how the
//! log was left off has the log read like any other.

use super::log::{Installed, Interest, Loaded, Log, Peer, Reading, can_tell};
use super::{LinkId, Notice, Replica};
use crate::api::BaseHeader;
use crate::few::FewSet;
use crate::id::{Incarnation, RunId};
use crate::limits::WATCHED_LOGS_MAX;
use crate::name::{LogName, PathPrefix};
use crate::op::OrderKey;
use crate::wire::{ClientMessage, LogRef, Tag, Watched, Welcome};

/// Operations of one log that are noted for a store that is away, after which the log is compared with it instead.
const GAINED_MAX: usize = 4096;

/// Up to where a store has told everything that is watched.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cursor {
    incarnation: Incarnation,
    run: RunId,
    position: u64,
}

/// What was known of a log in step, when the store stopped telling of it.
#[derive(Debug)]
pub(super) struct LeftOff {
    base: Option<BaseHeader>,
    /// What was heard elsewhere since, and the store is not known to hold.
    gained: FewSet<OrderKey>,
}

impl Cursor {
    /// Tells whether a store that greets like this can go on from here.
    pub(super) fn is_good_for(&self, welcome: &Welcome) -> bool {
        self.incarnation == welcome.incarnation && Some(self.run) == welcome.run && self.position <= welcome.position
    }
}

impl LeftOff {
    pub(super) fn at(base: Option<BaseHeader>) -> Self {
        Self { base, gained: FewSet::default() }
    }
}

impl Peer {
    /// Takes note of operations that the store may lack because it was away when they came.
    pub(super) fn gained_elsewhere(&mut self, keys: &[OrderKey]) {
        if let Some(left_off) = &mut self.left_off {
            left_off.gained.extend(keys.iter().copied());
        }
        self.left_off.take_if(|left_off| left_off.gained.len() > GAINED_MAX);
    }

    /// Goes on where the log was left off, if it is quiet and neither side had another base then. Tells whether it does.
    fn goes_on(&mut self, base: Option<&Installed>, is_quiet: bool) -> bool {
        self.left_off.take_if(|left_off| !is_quiet || !can_tell(left_off.base.as_ref(), base));
        self.is_told_what_was_missed()
    }

    /// Takes note that the store is telling what was missed, if the log was left off. Tells whether it was.
    pub(super) fn is_told_what_was_missed(&mut self) -> bool {
        let Some(left_off) = &self.left_off else { return false };
        (self.base, self.watched) = (left_off.base, true);
        true
    }

    /// Takes note that the store holds an operation.
    pub(super) fn held_already(&mut self, key: &OrderKey) {
        if let Some(left_off) = &mut self.left_off {
            left_off.gained.remove(key);
        }
    }
}

impl Replica {
    /// Has a store tell what was missed of the logs that were left off. Returns the logs for which more is to be begun, with
    /// what is wanted of them.
    pub(super) fn go_on(&mut self, id: &LinkId) -> Vec<(LogName, Interest)> {
        let cursor = self.links.get(id).and_then(|link| link.cursor);
        let tells = cursor.filter(|_| self.mode.receives());
        if cursor.is_none() {
            self.logs.wake(id);
        }
        let at_rest = tells.map(|_| self.logs.go_on(id, WATCHED_LOGS_MAX + 1)).unwrap_or_default();
        let (mut count, mut begins) = (at_rest.len(), Vec::new());
        let mut logs: Vec<LogRef> = at_rest.iter().take(WATCHED_LOGS_MAX).map(LogRef::from).collect();
        let here =
            |(name, log): &(&LogName, &mut Log)| name.channel == id.channel && log.loaded == Loaded::Yes && !log.stays;
        for (name, log) in self.logs.awake_mut().filter(here) {
            let is_quiet = log.is_quiet();
            let Log { base, peers, interest, .. } = log;
            let Some(peer) = peers.get_mut(&id.store) else { continue };
            peer.left_off.take_if(|_| cursor.is_none());
            peer.backlog.offer_refused();
            let goes_on = tells.is_some() && peer.goes_on(base.as_deref(), is_quiet);
            if goes_on {
                count += 1;
                if count <= WATCHED_LOGS_MAX {
                    logs.push(LogRef::from(name));
                }
            }
            if !goes_on || peer.backlog.keys().next().is_some() {
                begins.push((name.clone(), *interest));
            }
        }
        if let Some(cursor) = tells.filter(|_| count > 0) {
            let up = self.up_mut(id);
            (up.watched_logs, up.watches_all) = (count, count > WATCHED_LOGS_MAX);
            let watched = match up.watches_all {
                true => Watched::Prefix(PathPrefix::default()),
                false => Watched::Logs(logs),
            };
            let tag = up.ask_to_tell(true);
            self.send(id, ClientMessage::Watch { tag, watched, after: Some(cursor.position) });
        }
        begins
    }

    /// Has all logs of a channel fall out of step with a store that stops telling, those at rest unseen if there is a cursor.
    pub(super) fn lose_step(&mut self, id: &LinkId, has_cursor: bool, fall_out: impl Fn(&mut Peer)) {
        match has_cursor {
            true => self.logs.leave_off(id),
            false => self.logs.wake(id),
        }
        self.peers_mut(id).for_each(|(_, peer)| fall_out(peer));
    }

    /// A store has told all that it was to tell first.
    pub(super) fn watching(&mut self, id: &LinkId, tag: Tag, position: u64) {
        let up = self.up_mut(id);
        let Some(super::Request::Watch { unwatched, resumes }) = up.answered(tag) else { return };
        if unwatched != up.unwatched {
            return;
        }
        up.follows = true;
        self.move_cursor(id, position);
        if resumes {
            self.resumed(id);
        }
    }

    /// Takes note that everything up to a position was told, if what was missed before was.
    pub(super) fn move_cursor(&mut self, id: &LinkId, position: u64) {
        let Some(link) = self.links.get_mut(id) else { return };
        let Some(up) = link.up.as_ref().filter(|up| up.follows) else { return };
        let position = link.cursor.map_or(position, |cursor| cursor.position.max(position));
        link.cursor = up.run.map(|run| Cursor { incarnation: up.incarnation, run, position });
    }

    /// Lets the logs that were left off be in step again, if nothing that was told says otherwise.
    fn resumed(&mut self, id: &LinkId) {
        let (now, at) = (self.now, self.forward_at());
        let (mut begins, mut sends) = (Vec::new(), Vec::new());
        self.logs.resumed(id);
        for (name, log) in self.logs.awake_mut().filter(|(name, _)| name.channel == id.channel) {
            let is_quiet = log.is_quiet();
            let Log { base, oplog, peers, .. } = log;
            let Some(peer) = peers.get_mut(&id.store) else { continue };
            let left_off = peer.left_off.take().filter(|_| is_quiet && peer.can_tell(base.as_deref()));
            if let Some(left_off) = left_off {
                peer.current = true;
                let gained = left_off.gained.iter().copied().filter(|key| oplog.at(key).is_some());
                gained.for_each(|key| peer.backlog.offer(key, at, now));
                if peer.backlog.keys().next().is_some() {
                    sends.push(name.clone());
                }
            } else if !peer.current && matches!(peer.reading, Reading::Idle) && peer.read_again_at.is_none() {
                begins.push(name.clone());
            }
        }
        begins.iter().for_each(|name| self.begin(id, name));
        if let Some(link) = self.links.get_mut(id) {
            sends.iter().for_each(|name| link.may_send(name));
        }
        self.notify(Notice::Resumed { link: id.clone() });
        self.start_reads(id);
        self.pump(id);
    }

    /// A store would not tell of logs. What was left off is read like any other; other logs are tried again later.
    pub(super) fn not_watching(&mut self, id: &LinkId, unwatched: u32, resumes: bool) {
        if unwatched != self.up_mut(id).unwatched {
            return;
        }
        if !resumes {
            return self.watch_failed(id);
        }
        self.up_mut(id).unwatch();
        if let Some(link) = self.links.get_mut(id) {
            link.cursor = None;
        }
        self.logs.wake(id);
        for (_, peer) in self.peers_mut(id) {
            peer.left_off = None;
            if peer.watched {
                peer.stop_reading(false);
            }
        }
        self.begin_all(id);
    }
}

impl Log {
    /// Tells whether nothing about the log asks for a closer look at what the stores have of it.
    pub(super) fn is_quiet(&self) -> bool {
        self.is_in_use() && self.interest == Interest::Watch && self.doubtful.is_empty() && self.pruning.seed.is_none()
    }
}

#[cfg(test)]
mod tests;
