//! The keys of the keyspaces, all ordered as their bytes. Numbers are 8 bytes, big endian. // persisted
//!
//! | keyspace | key | value |
//! |---|---|---|
//! | meta | `format`, `store`, `incarnation`, `home`, `logs`, `channels`; `usage/` user | number or bytes |
//! | channels | user 0 channel | channel id, position |
//! | logs | user 0 channel 0 type 0 path | [`super::row::LogRow`] |
//! | names | log id | the key in `logs` |
//! | ops | log id, index | sha, position, record |
//! | shas | log id, sha | index |
//! | feed | channel id, position | log id, index |
//! | bases | log id, generation, sha | [`super::row::BaseRow`] |
//! | covered | log id, sha | |
//! | retained | log id, index | [`super::row::RetainedRow`] |
//! | since | [`Due`] | |
//! | notes | `n`, the note's key | the note |

use gigfs_core::{ChannelName, LogName, Sha, UserName};

use super::Failure;
use crate::listing::Bound;

pub(super) fn channel(user: &UserName, channel: &ChannelName) -> Vec<u8> {
    format!("{user}\0{channel}").into_bytes()
}

/// Begins the keys of all logs of a channel.
pub(super) fn logs_of(user: &UserName, channel: &ChannelName) -> Vec<u8> {
    format!("{user}\0{channel}\0").into_bytes()
}

pub(super) fn log(log: &LogName) -> Vec<u8> {
    format!("{}\0{}\0{}\0{}", log.user, log.channel, log.kind, log.path).into_bytes()
}

pub(super) fn log_bound(user: &UserName, channel: &ChannelName, bound: &Bound) -> Vec<u8> {
    format!("{user}\0{channel}\0{}\0{}", bound.kind, bound.path).into_bytes()
}

pub(super) fn log_name(key: &[u8]) -> Result<LogName, Failure> {
    let damaged = |why: String| Failure::damaged("the name of a log", why);
    let text = str::from_utf8(key).map_err(|error| damaged(error.to_string()))?;
    let mut parts = text.split('\0');
    match (parts.next(), parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(user), Some(channel), Some(kind), Some(path), None) => {
            LogName::parse(user, channel, kind, path).map_err(|error| damaged(error.to_string()))
        }
        _ => Err(damaged("it has not four parts".to_owned())),
    }
}

pub(super) fn op(log: u64, index: u64) -> [u8; 16] {
    pair(log, index)
}

pub(super) fn feed(channel: u64, position: u64) -> [u8; 16] {
    pair(channel, position)
}

pub(super) fn sha(log: u64, sha: &Sha) -> [u8; 40] {
    let mut key = [0; 40];
    key[..8].copy_from_slice(&log.to_be_bytes());
    key[8..].copy_from_slice(sha.as_bytes());
    key
}

pub(super) fn base(log: u64, generation: u64, sha: &Sha) -> [u8; 48] {
    let mut key = [0; 48];
    key[..16].copy_from_slice(&pair(log, generation));
    key[16..].copy_from_slice(sha.as_bytes());
    key
}

/// Reads the generation and the sha of a base.
pub(super) fn base_id(key: &[u8]) -> Option<(u64, Sha)> {
    let (numbers, sha) = key.split_at_checked(16)?;
    Some((last_number(numbers)?, Sha::from_slice(sha)?))
}

/// Reads the sha at the end of a key.
pub(super) fn last_sha(key: &[u8]) -> Option<Sha> {
    key.last_chunk().copied().map(Sha::from_bytes)
}

/// What is retained, in the order in which it is forgotten: a kind, since when, the log, the place in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) kind: DueKind,
    pub(super) since: u64,
    pub(super) log: u64,
    /// The key in `retained` or `bases` without the log.
    pub(super) rest: Vec<u8>,
}

/// What is retained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DueKind {
    Op = 1,   // persisted
    Base = 2, // persisted
}

impl Due {
    /// Of the value under `key` in `retained` or `bases`.
    pub(super) fn of(kind: DueKind, since: u64, key: &[u8]) -> Option<Self> {
        let (log, rest) = key.split_first_chunk()?;
        Some(Self { kind, since, log: u64::from_be_bytes(*log), rest: rest.to_vec() })
    }

    pub(super) fn key(&self) -> Vec<u8> {
        [&[self.kind as u8][..], &self.since.to_be_bytes(), &self.log.to_be_bytes(), &self.rest].concat()
    }

    pub(super) fn parse(kind: DueKind, key: &[u8]) -> Option<Self> {
        let (since, rest) = key.get(1..)?.split_first_chunk()?;
        Self::of(kind, u64::from_be_bytes(*since), rest)
    }

    /// The key in `retained` or `bases`.
    pub(super) fn place(&self) -> Vec<u8> {
        [&self.log.to_be_bytes()[..], &self.rest].concat()
    }

    /// Begins the keys of a kind that are at `since` or later.
    pub(super) fn from(kind: DueKind, since: u64) -> Vec<u8> {
        [&[kind as u8][..], &since.to_be_bytes()].concat()
    }

    /// Comes after all of the same kind, time and log.
    pub(super) fn leap(&self) -> Vec<u8> {
        Self { log: self.log.saturating_add(1), rest: Vec::new(), ..self.clone() }.key()
    }
}

/// Keeps notes with empty keys apart from fjall's refusal of them.
pub(super) fn note(key: &[u8]) -> Vec<u8> {
    [b"n", key].concat()
}

pub(super) fn usage(user: &UserName) -> Vec<u8> {
    format!("usage/{user}").into_bytes()
}

pub(super) fn pair(first: u64, second: u64) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&first.to_be_bytes());
    key[8..].copy_from_slice(&second.to_be_bytes());
    key
}

/// Reads the number in the last 8 bytes.
pub(super) fn last_number(bytes: &[u8]) -> Option<u64> {
    bytes.last_chunk().copied().map(u64::from_be_bytes)
}

/// Reads exactly two numbers.
pub(super) fn two_numbers(bytes: &[u8]) -> Option<(u64, u64)> {
    match bytes.len() {
        16 => Some((bytes.first_chunk().copied().map(u64::from_be_bytes)?, last_number(bytes)?)),
        _ => None,
    }
}
