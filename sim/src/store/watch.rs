//! What a store tells those who watch: what happens, and to those who come back what they missed.

use std::collections::{BTreeMap, BTreeSet};

use gigfs_core::wire::{Event, LogRef, ServerMessage, Tag, Watched, WireOp};
use gigfs_core::{ChannelName, ErrorCode, LogName, Refusal, UserName};
use gigfs_storage::{Arrival, Engine as _, Page, StoredOp};

use super::{Reaction, Session, Store, StreamId, refusal_of};

impl Store {
    /// Tells what was missed of logs since a position, if one is named, and what happens to them from now on.
    pub(super) fn watch(
        &mut self,
        user: &UserName,
        (stream, tag): (StreamId, Tag),
        watched: Watched,
        after: Option<u64>,
    ) -> Reaction {
        let Some(session) = self.sessions.get(&stream) else { return Reaction::default() };
        let own = match watched {
            Watched::Logs(logs) => Session { logs: logs.into_iter().collect(), ..Session::of(&session.channel) },
            Watched::Prefix(prefix) => Session { prefixes: vec![prefix], ..Session::of(&session.channel) },
        };
        let missed = match after {
            Some(after) => self.missed(user, &own, after),
            None => Ok(Vec::new()),
        };
        let channel = session.channel.clone();
        let answer = match (missed, self.engine.position(user, &channel)) {
            (Ok(mut messages), Ok(position)) => {
                if let Some(session) = self.sessions.get_mut(&stream) {
                    session.logs.extend(own.logs);
                    session.prefixes.extend(own.prefixes);
                }
                messages.push(ServerMessage::Watching { tag, position });
                messages
            }
            (Err(refusal), _) => vec![ServerMessage::Failed { tag, refusal }],
            (_, Err(error)) => vec![ServerMessage::Failed { tag, refusal: refusal_of(&error) }],
        };
        Reaction { messages: answer.into_iter().map(|message| (stream, message)).collect(), ..Reaction::default() }
    }

    fn missed(&self, user: &UserName, own: &Session, after: u64) -> Result<Vec<ServerMessage>, Refusal> {
        let channel = &own.channel;
        let rebased = self.rebased.get(channel).cloned().unwrap_or_else(|| Some(BTreeMap::new()));
        let Some(rebased) = rebased.filter(|_| !self.manners.forgetful) else {
            return Err(Refusal::new(ErrorCode::StaleCursor, "the store does not know what has changed since"));
        };
        let arrivals = self.engine.feed(user, channel, after, Page::ALL).map_err(|error| refusal_of(&error))?;
        let watched = arrivals.iter().filter(|arrival| own.watches(channel, &LogRef::from(&arrival.log)));
        let mut messages: Vec<ServerMessage> = watched.map(event).collect();
        for (log, _) in rebased.iter().filter(|(_, position)| **position >= after) {
            let header = self.header(log).map_err(|error| refusal_of(&error))?;
            let log = LogRef::from(log);
            if own.watches(channel, &log) {
                messages.push(ServerMessage::Pruned { log, header });
            }
        }
        Ok(messages)
    }

    /// Tells whether it knows, of every channel, what has changed in this run.
    pub(crate) fn remembers(&self) -> bool {
        !self.manners.forgetful && self.rebased.values().all(Option::is_some)
    }

    /// Notes for streams that come back that a log's base may have changed.
    pub(super) fn note_base(&mut self, name: &LogName) {
        let position = self.engine.position(&name.user, &name.channel).ok();
        let known = self.rebased.entry(name.channel.clone()).or_insert_with(|| Some(BTreeMap::new()));
        match (known.as_mut(), position) {
            (Some(logs), Some(position)) => _ = logs.insert(name.clone(), position),
            _ => *known = None,
        }
    }

    /// Returns what those who watch a channel are to be told of: all that can be read and was not told yet, however it
    /// came there.
    pub fn tell_watchers(
        &mut self,
        user: &UserName,
        channel: &ChannelName,
        pusher: Option<StreamId>,
    ) -> Vec<(StreamId, ServerMessage)> {
        let told = self.told.entry(channel.clone()).or_default();
        let arrivals = self.engine.feed(user, channel, *told, Page::ALL).unwrap_or_default();
        let mut messages = Vec::new();
        for arrival in arrivals {
            *told = arrival.position;
            let log = LogRef::from(&arrival.log);
            let event = event(&arrival);
            let watchers = self
                .sessions
                .iter()
                .filter(|(id, session)| session.watches(channel, &log) && (self.manners.echo || Some(**id) != pusher));
            messages.extend(watchers.map(|(id, _)| (*id, event.clone())));
        }
        messages
    }
}

impl Session {
    pub(super) fn of(channel: &ChannelName) -> Self {
        Self { channel: channel.clone(), logs: BTreeSet::new(), prefixes: Vec::new() }
    }

    pub(super) fn watches(&self, channel: &ChannelName, log: &LogRef) -> bool {
        self.channel == *channel
            && (self.logs.contains(log) || self.prefixes.iter().any(|prefix| prefix.covers(&log.path)))
    }
}

fn event(arrival: &Arrival) -> ServerMessage {
    let StoredOp { index, sha, record } = arrival.stored.clone();
    let log = LogRef::from(&arrival.log);
    ServerMessage::Event(Event { position: arrival.position, log, ops: vec![(index, WireOp { sha, record })] })
}
