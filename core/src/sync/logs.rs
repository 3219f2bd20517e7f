//! All logs of a replica, those *at rest* apart: nothing of them is on its way, and all stores are in step with them.
//!
//! A stream that goes down and comes back changes nothing of a log at rest, if the store tells what was missed: the log is
//! left off, gone on with, and in step again. So nobody looks at it meanwhile. What has become of the stream is noted once for
//! all of them, and brought home to a log when somebody calls for it: then it is awake, until a stream goes down
//! again. Coming back costs what changed, however many logs are known.

use std::collections::BTreeMap;
use std::ops::Index;

use super::LinkId;
use super::log::{Listing, Log, Peer, Reading};
use crate::name::{ChannelName, LogName};

/// The logs of a replica. They are boxed, so that those who look for one walk over names alone.
#[derive(Default)]
pub(super) struct Logs {
    awake: BTreeMap<LogName, Box<Log>>,
    at_rest: BTreeMap<LogName, Box<Log>>,
    /// Streams on which logs at rest are not in step at present.
    away: BTreeMap<LinkId, Away>,
}

/// How far a stream has come with logs at rest that it was in step with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Away {
    /// They are left off.
    LeftOff,
    /// The store is telling what was missed of them.
    GoesOn,
}

impl Logs {
    pub(super) fn insert(&mut self, name: LogName, log: Log) {
        self.awake.insert(name, Box::new(log));
    }

    pub(super) fn contains_key(&self, name: &LogName) -> bool {
        self.get(name).is_some()
    }

    /// Returns a log to be looked at. What streams have become of a log at rest, [`is_away`](Self::is_away) tells.
    pub(super) fn get(&self, name: &LogName) -> Option<&Log> {
        self.awake.get(name).or_else(|| self.at_rest.get(name)).map(|log| &**log)
    }

    /// Returns a log to be changed, awake.
    pub(super) fn get_mut(&mut self, name: &LogName) -> Option<&mut Log> {
        if let Some((name, mut log)) = self.at_rest.remove_entry(name) {
            self.bring_home(&name.channel, &mut log);
            self.awake.insert(name, log);
        }
        self.awake.get_mut(name).map(|log| &mut **log)
    }

    /// Returns a log to have its value read, or something else that stores have no part in. It rests on.
    pub(super) fn get_quietly(&mut self, name: &LogName) -> Option<&mut Log> {
        let Self { awake, at_rest, .. } = self;
        awake.get_mut(name).or_else(|| at_rest.get_mut(name)).map(|log| &mut **log)
    }

    /// Iterates over all logs, to change in them what stores have no part in. Those at rest rest on.
    pub(super) fn all_quietly(&mut self) -> impl Iterator<Item = (&LogName, &mut Log)> {
        self.awake.iter_mut().chain(&mut self.at_rest).map(|(name, log)| (name, &mut **log))
    }

    /// Iterates over the names of all logs.
    pub(super) fn keys(&self) -> impl Iterator<Item = &LogName> {
        self.awake.keys().chain(self.at_rest.keys())
    }

    /// Iterates over the logs that are awake: only of them anything is on its way, or wanted of a store.
    pub(super) fn awake(&self) -> impl Iterator<Item = (&LogName, &Log)> {
        self.awake.iter().map(|(name, log)| (name, &**log))
    }

    /// Iterates over the logs that are awake, to change them.
    pub(super) fn awake_mut(&mut self) -> impl Iterator<Item = (&LogName, &mut Log)> {
        self.awake.iter_mut().map(|(name, log)| (name, &mut **log))
    }

    /// Iterates over the names of the logs at rest in a channel.
    pub(super) fn at_rest(&self, channel: &ChannelName) -> impl Iterator<Item = &LogName> {
        self.at_rest.keys().filter(move |name| name.channel == *channel)
    }

    /// Tells whether a log is at rest and not in step with a store at present.
    pub(super) fn is_away(&self, name: &LogName, id: &LinkId) -> bool {
        self.away.contains_key(id) && self.at_rest.contains_key(name)
    }

    /// Returns how many logs at rest are in step with a store.
    pub(super) fn in_step(&self, id: &LinkId) -> usize {
        if self.away.contains_key(id) { 0 } else { self.at_rest(&id.channel).count() }
    }

    /// Lays to rest what has nothing on its way and leaves all logs at rest off at a store that stops telling. Those that stay
    /// awake are to be told by themselves.
    pub(super) fn leave_off(&mut self, id: &LinkId) {
        let away = &self.away;
        let is_there = |id: &LinkId, log: &Log| {
            let mut links = log.peers.keys().map(|store| LinkId { channel: id.channel.clone(), store: *store });
            links.all(|link| !away.contains_key(&link))
        };
        let rests = |name: &LogName, log: &mut Box<Log>| {
            name.channel == id.channel && log.peers.contains_key(&id.store) && log.may_rest() && is_there(id, log)
        };
        self.at_rest.extend(self.awake.extract_if(.., rests));
        self.away.insert(id.clone(), Away::LeftOff);
    }

    /// Takes note that a store is about to tell what was missed. Returns the logs at rest of which it is, at most so many.
    pub(super) fn go_on(&mut self, id: &LinkId, most: usize) -> Vec<LogName> {
        let names: Vec<LogName> = self.at_rest(&id.channel).take(most).cloned().collect();
        match names.is_empty() {
            true => _ = self.away.remove(id),
            false => _ = self.away.insert(id.clone(), Away::GoesOn),
        }
        names
    }

    /// Takes note that a store has told what was missed.
    pub(super) fn resumed(&mut self, id: &LinkId) {
        self.away.remove(id);
    }

    /// Wakes all logs of a channel, because of a store that they cannot go on with unseen.
    pub(super) fn wake(&mut self, id: &LinkId) {
        let names: Vec<LogName> = self.at_rest(&id.channel).cloned().collect();
        names.iter().for_each(|name| _ = self.get_mut(name));
        self.away.remove(id);
    }

    /// Takes note that a channel has other stores: all its logs are awake.
    pub(super) fn mounted(&mut self, channel: &ChannelName) {
        self.away.retain(|id, _| id.channel != *channel);
    }

    fn bring_home(&self, channel: &ChannelName, log: &mut Log) {
        for (store, peer) in log.peers.iter_mut() {
            let away = self.away.get(&LinkId { channel: channel.clone(), store: *store });
            if away.is_some() {
                peer.lost(true);
            }
            if away == Some(&Away::GoesOn) {
                peer.is_told_what_was_missed();
            }
        }
    }
}

impl Index<&LogName> for Logs {
    type Output = Log;

    fn index(&self, name: &LogName) -> &Log {
        self.get(name).expect("callers name logs that are known, and logs are never dropped")
    }
}

impl Log {
    /// Tells whether nothing of the log is on its way, and no timer is set for it.
    fn may_rest(&self) -> bool {
        let base = self.base.as_deref();
        let is_roster = self.sealer.is_some() && self.roster().is_none();
        self.is_quiet()
            && !is_roster
            && self.pending.is_empty()
            && self.unsaved.is_empty()
            && self.unproven.is_empty()
            && self.pruning.is_idle()
            && self.peers.values().all(|peer| peer.is_in_step() && peer.can_tell(base))
    }
}

impl Peer {
    fn is_in_step(&self) -> bool {
        self.current
            && self.watched
            && self.left_off.is_none()
            && matches!(self.reading, Reading::Idle)
            && self.backlog.keys().next().is_none()
            && self.unreadable.is_empty()
            && self.listing != Listing::Asked
            && self.due_at().is_none()
            && self.wake_at.is_none()
    }
}
