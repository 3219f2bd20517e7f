//! Channels that take no more writes, because their table takes this store off them.
//!
//! The committing thread alone asks and changes it, between two commits: so there is no push between a seal and its answer.

use std::collections::BTreeSet;

use bytes::Bytes;
use gigfs_core::{ChannelName, ErrorCode, LogName, Refusal, UserName};
use gigfs_storage::{Engine, StorageError};

use crate::commit::Notes;

/// The channels that are sealed. On disk as notes of the engine, and all in memory.
#[derive(Debug, Default)]
pub(crate) struct Seals(BTreeSet<(UserName, ChannelName)>);

/// A change of what is sealed.
#[derive(Debug)]
pub(crate) enum Sealing {
    /// A channel takes no writes from now on, or takes them again.
    Channel { user: UserName, channel: ChannelName, sealed: bool },
    /// Every channel of a user takes writes: the table mounts the store anew.
    OpenAll(UserName),
}

impl Seals {
    /// Reads the seals.
    pub(crate) fn load(engine: &dyn Engine) -> Result<Self, StorageError> {
        let mut channels = BTreeSet::new();
        for (key, _) in engine.notes(SEALED)? {
            let text = str::from_utf8(&key[SEALED.len()..]).unwrap_or_default();
            let channel = text
                .split_once('/')
                .and_then(|(user, channel)| Some((UserName::parse(user).ok()?, ChannelName::parse(channel).ok()?)));
            match channel {
                Some(channel) => drop(channels.insert(channel)),
                None => tracing::error!(text, "a seal cannot be read and is left out"),
            }
        }
        Ok(Self(channels))
    }

    /// Refuses a write to a sealed channel.
    pub(crate) fn check(&self, log: Option<&LogName>) -> Result<(), Refusal> {
        let Some(log) = log.filter(|_| !self.0.is_empty()) else { return Ok(()) };
        match self.0.contains(&(log.user.clone(), log.channel.clone())) {
            true => Err(Refusal::new(
                ErrorCode::Sealed,
                format!("this store takes no more writes to the channel {}, which it is being taken off", log.channel),
            )
            .hint("fetch the mount table; the channel's other stores take them")),
            false => Ok(()),
        }
    }

    /// Returns what is to be on disk before a change is made.
    pub(crate) fn notes(&self, sealing: &Sealing) -> Notes {
        match sealing {
            Sealing::Channel { user, channel, sealed } => {
                vec![(key(user, channel), sealed.then(Bytes::new))]
            }
            Sealing::OpenAll(user) => {
                let own = self.0.iter().filter(|(of, _)| of == user);
                own.map(|(user, channel)| (key(user, channel), None)).collect()
            }
        }
    }

    /// Makes a change that is on disk.
    pub(crate) fn apply(&mut self, sealing: &Sealing) {
        match sealing {
            Sealing::Channel { user, channel, sealed: true } => _ = self.0.insert((user.clone(), channel.clone())),
            Sealing::Channel { user, channel, sealed: false } => _ = self.0.remove(&(user.clone(), channel.clone())),
            Sealing::OpenAll(user) => self.0.retain(|(of, _)| of != user),
        }
    }
}

fn key(user: &UserName, channel: &ChannelName) -> Bytes {
    [SEALED, format!("{user}/{channel}").as_bytes()].concat().into()
}

/// Begins the keys of seals' notes. // persisted
pub(crate) const SEALED: &[u8] = b"sealed/";
