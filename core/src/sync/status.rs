//! What a person may ask a replica: what is where, what waits, and why.

use super::hold::PruneHold;
use super::log::{Installed, Peer, Reading};
use super::{LinkId, Replica};
use crate::api::BaseHeader;
use crate::checkpoint::BaseId;
use crate::date::Date;
use crate::error::Refusal;
use crate::id::{Incarnation, Sha, StoreId};
use crate::name::{ChannelName, LogName, TypeName};
use crate::op::Op;

/// How far the reading of a log has come, over the stores of its channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReadStanding {
    /// Whether anything is known of the log here, from an earlier time or from a store.
    pub known: bool,
    /// Stores from which the log was read through since their stream came up.
    pub current: usize,
    /// Stores from which it is being read, or whose stream is about to come up.
    pub trying: usize,
    /// Stores that cannot be reached now, or that refused.
    pub down: usize,
}

/// What there is to say about one stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkStatus {
    /// Which.
    pub link: LinkId,
    /// The life of the store's data, if the stream is up.
    pub up: Option<Incarnation>,
    /// Why it is down, if it is and a reason is known.
    pub down: Option<Refusal>,
    /// The store's clock less this device's when the stream came up, in microseconds.
    pub clock_offset: Option<i64>,
    /// Operations that are sent and not answered.
    pub in_flight: usize,
    /// What waits for the store, by log.
    pub queued: Vec<QueuedLog>,
    /// What the store refused.
    pub refused: Vec<RefusedOp>,
    /// Logs that are equal here and there, but for what is queued.
    pub current_logs: usize,
}

/// Operations of one log that a store is not known to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueuedLog {
    /// The log.
    pub log: LogName,
    /// How many.
    pub ops: usize,
}

/// An operation that a store will not have. It is kept here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedOp {
    /// The log.
    pub log: LogName,
    /// The operation.
    pub sha: Sha,
    /// Why.
    pub refusal: Refusal,
}

/// What a log stands on, and what keeps it from being pruned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseStatus {
    /// The base; nothing before the log is first pruned.
    pub base: Option<BaseId>,
    /// When the base's last operation was written, and what folded it.
    pub made: Option<(Date, TypeName, u32)>,
    /// How many operations the base covers.
    pub covered: u64,
    /// Whether a table has committed the base. Otherwise no table knows of the channel, and what it covers is archived.
    pub committed: bool,
    /// Operations that the base does not cover.
    pub ops: usize,
    /// Operations of which no store has said yet whether the base covers them.
    pub doubtful: usize,
    /// Whether replicas computed different states for the base.
    pub disputed: bool,
    /// What each store that was heard of has.
    pub stores: Vec<(StoreId, Option<BaseHeader>)>,
    /// Why the log would not be pruned now.
    pub hold: Option<PruneHold>,
}

impl Replica {
    /// Returns which base a log stands on.
    pub fn base(&self, name: &LogName) -> Option<BaseId> {
        self.logs.get(name)?.base_id()
    }

    /// Returns the operations of a log of which no store has said yet whether the base covers them.
    pub fn doubtful(&self, name: &LogName) -> impl Iterator<Item = &Op> {
        self.logs.get(name).into_iter().flat_map(|log| log.doubtful.values())
    }

    /// Tells whether everything that a store has of a log is known here and at all other stores of the channel, so that
    /// the store can go. The table is to have been asked before ([`ask_register`](Self::ask_register)): what it has committed
    /// must be installed, for the store that goes may be the last to have it.
    pub fn is_drained_of(&self, name: &LogName, store: StoreId) -> bool {
        let Some(log) = self.logs.get(name) else { return false };
        if log.stays {
            return true;
        }
        let has_all = log.peers.iter().all(|(id, peer)| match *id == store {
            // It is sealed, so nothing can be brought to it.
            true => self.is_current(name, *id, peer),
            false => self.is_current(name, *id, peer) && peer.backlog.is_empty() && peer.can_tell(log.base.as_deref()),
        });
        let registered =
            log.pruning.registered.as_ref().is_some_and(|registered| log.base_id().as_ref() >= registered.as_deref());
        registered && log.doubtful.is_empty() && log.unsaved.is_empty() && has_all
    }

    /// Tells whether a log was read from a store since its stream came up.
    fn is_current(&self, name: &LogName, store: StoreId, peer: &Peer) -> bool {
        peer.current && !self.logs.is_away(name, &LinkId { channel: name.channel.clone(), store })
    }

    /// Returns what a log stands on.
    pub fn base_status(&mut self, name: &LogName) -> Option<BaseStatus> {
        let hold = self.prune_hold(name);
        let log = &*self.logs.get_mut(name)?;
        let readable = |base: &Installed| log.readable(&base.checkpoint).unwrap_or_else(|_| (*base.checkpoint).clone());
        let checkpoint = log.base.as_deref().map(readable);
        let checkpoint = checkpoint.as_ref();
        Some(BaseStatus {
            base: log.base_id(),
            made: checkpoint.map(|made| (made.date, made.reducer.clone(), made.version)),
            covered: checkpoint.map_or(0, |checkpoint| checkpoint.digest.count),
            committed: log.base.as_deref().is_some_and(Installed::is_committed),
            ops: log.oplog.len(),
            doubtful: log.doubtful.len(),
            disputed: log.pruning.disputed.is_some(),
            stores: log.peers.iter().map(|(store, peer)| (*store, peer.base)).collect(),
            hold,
        })
    }

    /// Returns how far the reading of a log has come.
    pub fn read_standing(&self, name: &LogName) -> ReadStanding {
        let Some(log) = self.logs.get(name) else { return ReadStanding::default() };
        let mut standing = ReadStanding { known: log.known, ..ReadStanding::default() };
        for (store, peer) in log.peers.iter() {
            let id = LinkId { channel: name.channel.clone(), store: *store };
            let (link, away) = (self.links.get(&id), self.logs.is_away(name, &id));
            let up = link.is_some_and(|link| link.up.is_some());
            let failed = link.is_some_and(|link| link.down.is_some());
            let left_off = away || peer.left_off.is_some();
            match (peer.current && !away, up) {
                (true, _) => standing.current += 1,
                (false, true) if matches!(peer.reading, Reading::Idle) && !left_off => standing.down += 1,
                (false, true) => standing.trying += 1,
                (false, false) if failed => standing.down += 1,
                (false, false) => standing.trying += 1,
            }
        }
        standing
    }

    /// Returns what there is to say about every stream.
    pub fn status(&self) -> Vec<LinkStatus> {
        self.links.keys().map(|id| self.link_status(id)).collect()
    }

    fn link_status(&self, id: &LinkId) -> LinkStatus {
        let link = &self.links[id];
        let mut status = LinkStatus {
            link: id.clone(),
            up: link.up.as_ref().map(|up| up.incarnation),
            down: link.down.clone(),
            clock_offset: link.up.as_ref().map(|up| up.clock_offset),
            in_flight: link.up.as_ref().map_or(0, super::Up::in_flight),
            queued: Vec::new(),
            refused: Vec::new(),
            current_logs: self.logs.in_step(id),
        };
        for (name, log) in self.logs.awake().filter(|(name, _)| name.channel == id.channel) {
            let Some(peer) = log.peers.get(&id.store) else { continue };
            let waiting = peer.backlog.len() + log.unsaved.len();
            if waiting > 0 && !log.stays {
                status.queued.push(QueuedLog { log: self.clear_name(name).unwrap_or(name).clone(), ops: waiting });
            }
            let refused = peer.backlog.refused().iter();
            status.refused.extend(refused.map(|(key, refusal)| RefusedOp {
                log: self.clear_name(name).unwrap_or(name).clone(),
                sha: key.sha,
                refusal: refusal.clone(),
            }));
            status.current_logs += usize::from(peer.current);
        }
        status
    }

    /// Iterates over the open logs that were written before their channel was sealed, and do not leave the device, with how many
    /// operations each has.
    pub fn staying(&self) -> impl Iterator<Item = (&LogName, usize)> {
        self.logs.awake().filter(|(_, log)| log.stays).map(|(name, log)| (name, log.oplog.len()))
    }

    /// Returns how many operations some store of the channel, or of any, is not known to hold.
    pub fn queued(&self, channel: Option<&ChannelName>) -> usize {
        let wanted = |name: &LogName| channel.is_none_or(|channel| *channel == name.channel);
        let logs = self.logs.awake().filter(|(name, log)| wanted(name) && !log.stays);
        logs.map(|(_, log)| log.peers.values().map(|peer| peer.backlog.len()).sum::<usize>() + log.unsaved.len()).sum()
    }

    /// Tells whether these logs were compared with a store since its stream came up, and it lacks nothing of them.
    pub fn is_in_step(&self, id: &LinkId, logs: &[LogName]) -> bool {
        logs.iter().all(|name| {
            let Some(log) = self.logs.get(name) else { return false };
            let in_step = |peer: &Peer| self.is_current(name, id.store, peer) && peer.backlog.is_empty();
            log.stays || log.peers.get(&id.store).is_some_and(in_step)
        })
    }

    /// Returns the channels that are mounted, each with its stores.
    pub fn mounts(&self) -> impl Iterator<Item = (&ChannelName, impl Iterator<Item = &crate::id::StoreId>)> {
        self.mounts.iter().map(|(channel, stores)| (channel, stores.iter()))
    }

    /// Returns all logs that are open.
    pub fn open_logs(&self) -> impl Iterator<Item = &LogName> {
        self.logs.keys()
    }

    /// Returns the logs that are open in a channel.
    pub fn logs(&self, channel: &ChannelName) -> impl Iterator<Item = &LogName> {
        self.logs.keys().filter(move |name| name.channel == *channel)
    }
}
