//! What tables have revoked: sessions, and what was shared with one in a channel; on disk as notes of the engine.
//!
//! A share is revoked up to an epoch of the owner's table, so a token of a later share is not touched by it.

use std::collections::BTreeMap;

use bytes::Bytes;
use gigfs_core::token::{RevokeClaims, StoreClaims};
use gigfs_core::{ChannelName, SessionId, UserName};
use gigfs_storage::{Engine, StorageError};

use crate::clock;
use crate::token::{CLOCK_SECONDS_MAX, TOKEN_SECONDS_MAX};

/// What ended: a session, for all that a user has here or for one channel.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ended {
    pub(crate) user: UserName,
    session: SessionId,
    channel: Option<ChannelName>,
}

/// How much of it ended, and for how long that is remembered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Term {
    pub(crate) until: u64,
    /// Shares that began before this epoch; for a whole session it does not count.
    pub(crate) before: u64,
}

/// Returns what a table's word ends. It is remembered for longer than any token lives that was issued before now.
pub(crate) fn of(claims: RevokeClaims) -> (Ended, Term) {
    let RevokeClaims { sub: user, sid: session, channel, before, .. } = claims;
    let until = clock::seconds() + TOKEN_SECONDS_MAX + 2 * CLOCK_SECONDS_MAX;
    (Ended { user, session, channel }, Term { until, before: before.unwrap_or(u64::MAX) })
}

/// Reads what is revoked. What cannot be read is left out, and told.
pub(crate) fn read(engine: &dyn Engine) -> Result<BTreeMap<Ended, Term>, StorageError> {
    let mut revoked = BTreeMap::new();
    for (key, value) in engine.notes(REVOKED)? {
        let text = str::from_utf8(&key[REVOKED.len()..]).unwrap_or_default();
        match Ended::parse(text) {
            Some(ended) => drop(revoked.insert(ended, Term::from_bytes(&value))),
            None => tracing::error!(text, "a revocation cannot be read and is left out"),
        }
    }
    Ok(revoked)
}

impl Ended {
    /// Returns under which two a token would end: its whole session, and its channel alone.
    pub(crate) fn of(claims: &StoreClaims) -> (Self, Self) {
        let whole = Self { user: claims.sub.clone(), session: claims.sid, channel: None };
        let here = Self { channel: Some(claims.channel.clone()), ..whole.clone() };
        (whole, here)
    }

    /// `revoked/` user `/` session, and `/` channel if it is one. // persisted
    pub(crate) fn key(&self) -> Bytes {
        let Self { user, session, channel } = self;
        let text = match channel {
            None => format!("{user}/{session}"),
            Some(channel) => format!("{user}/{session}/{channel}"),
        };
        [REVOKED, text.as_bytes()].concat().into()
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, '/');
        let user = UserName::parse(parts.next()?).ok()?;
        let session = parts.next()?.parse().ok()?;
        let channel = parts.next().map(ChannelName::parse).transpose().ok()?;
        Some(Self { user, session, channel })
    }
}

impl Term {
    /// Returns what says as much as both.
    pub(crate) fn and(self, other: Self) -> Self {
        Self { until: self.until.max(other.until), before: self.before.max(other.before) }
    }

    /// Tells whether a token of the channel ended with this.
    pub(crate) fn ends(&self, claims: &StoreClaims) -> bool {
        claims.share.is_none_or(|share| share < self.before)
    }

    /// Both numbers in big-endian. Notes of whole sessions had the first alone once. // persisted
    pub(crate) fn to_bytes(self) -> Bytes {
        [self.until.to_be_bytes(), self.before.to_be_bytes()].concat().into()
    }

    /// What cannot be read is taken for as much as there can be.
    fn from_bytes(bytes: &[u8]) -> Self {
        let number = |at: usize| {
            bytes.get(at..at + 8).and_then(|part| part.try_into().ok()).map_or(u64::MAX, u64::from_be_bytes)
        };
        Self { until: number(0), before: number(8) }
    }
}

/// Begins the keys of revocations' notes. // persisted
pub(crate) const REVOKED: &[u8] = b"revoked/";
