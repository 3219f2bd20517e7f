//! The keys and values of the notes in a device's local store. // persisted
//!
//! A log is written as channel, type and path, each ended by a zero byte; names hold none.

use bytes::Bytes;
use gigfs_core::sync::Seen;
use gigfs_core::{ChannelName, Incarnation, LogName, Sha, StoreId, UserName};

/// Whose data this is.
pub(super) const USER: &[u8] = b"user";
/// The last mount table, in JSON.
pub(super) const MOUNTS: &[u8] = b"mounts";
/// Own operations that some store may lack: `pending/` log sha → nothing, or [`SHOWN`].
pub(super) const PENDING: &[u8] = b"pending/";

/// What copies of other logs' bases are to begin with: `seed/` log → the record of a checkpoint.
pub(super) const SEED: &[u8] = b"seed/";

/// Another store has said to hold the operation.
const SHOWN: &[u8] = b"1";

type Note = (Bytes, Option<Bytes>);

fn log_key(prefix: &[u8], log: &LogName) -> Vec<u8> {
    let mut key = prefix.to_vec();
    for part in [log.channel.as_str(), log.kind.as_str(), log.path.as_str()] {
        key.extend_from_slice(part.as_bytes());
        key.push(0);
    }
    key
}

/// `seen/` log store → incarnation and index.
pub(super) fn seen_prefix(log: &LogName) -> Vec<u8> {
    log_key(b"seen/", log)
}

pub(super) fn seen(log: &LogName, store: StoreId, seen: Seen) -> Note {
    let key = [&seen_prefix(log)[..], store.as_bytes()].concat();
    let value = [&seen.incarnation.as_bytes()[..], &seen.index.to_be_bytes()].concat();
    (key.into(), Some(value.into()))
}

pub(super) fn seen_of(key: &[u8], value: &[u8]) -> Option<(StoreId, Seen)> {
    let store = StoreId::from_slice(key.last_chunk::<16>()?)?;
    let (incarnation, index) = value.split_at_checked(16)?;
    let index = u64::from_be_bytes(index.try_into().ok()?);
    Some((store, Seen { incarnation: Incarnation::from_slice(incarnation)?, index }))
}

pub(super) fn pending_prefix(log: &LogName) -> Vec<u8> {
    log_key(PENDING, log)
}

pub(super) fn pending(log: &LogName, sha: Sha, pending: bool) -> Note {
    let key = [&pending_prefix(log)[..], sha.as_bytes()].concat();
    (key.into(), pending.then(Bytes::new))
}

/// Notes that an operation is pending, and that some store has said to hold it.
pub(super) fn shown(log: &LogName, sha: Sha) -> Note {
    let (key, _) = pending(log, sha, true);
    (key, Some(Bytes::from_static(SHOWN)))
}

/// Tells whether the value of a pending note says that some store holds the operation.
pub(super) fn is_shown(value: &[u8]) -> bool {
    value == SHOWN
}

pub(super) fn pending_of(user: &UserName, key: &[u8]) -> Option<(LogName, Sha)> {
    Some((log_of(PENDING, user, key)?, sha_of(key)?))
}

/// `seed/` log.
pub(super) fn seed(log: &LogName) -> Bytes {
    log_key(SEED, log).into()
}

pub(super) fn seed_of(user: &UserName, key: &[u8]) -> Option<LogName> {
    log_of(SEED, user, key)
}

fn log_of(prefix: &[u8], user: &UserName, key: &[u8]) -> Option<LogName> {
    let rest = key.strip_prefix(prefix)?;
    let mut parts = rest.splitn(4, |byte| *byte == 0);
    let mut text = || std::str::from_utf8(parts.next()?).ok();
    LogName::parse(user.as_str(), text()?, text()?, text()?).ok()
}

pub(super) fn sha_of(key: &[u8]) -> Option<Sha> {
    key.last_chunk().copied().map(Sha::from_bytes)
}

/// `name/` log → what the log is called, sealed.
pub(super) fn name(log: &LogName) -> Bytes {
    log_key(b"name/", log).into()
}

/// `merged/` channel store: everything that was here before the store was mounted has been compared with it.
pub(super) fn merged(channel: &ChannelName, store: StoreId) -> Vec<u8> {
    [b"merged/", channel.as_str().as_bytes(), &[0], store.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_about_a_log_read_back_as_they_were_written() {
        let log = LogName::parse("me", "home", "map", "/ä/b").unwrap();
        let (sha, store) = (Sha::of(b"\0\0"), StoreId::from_bytes([0; 16]));
        let (key, _) = pending(&log, sha, true);
        assert_eq!(pending_of(&log.user, &key), Some((log.clone(), sha)));
        assert_eq!(seed_of(&log.user, &seed(&log)), Some(log.clone()));
        let at = Seen { incarnation: Incarnation::from_bytes([0; 16]), index: 7 };
        let (key, value) = seen(&log, store, at);
        assert_eq!(seen_of(&key, &value.unwrap()), Some((store, at)));
    }

    #[test]
    fn notes_of_a_path_are_not_those_of_a_path_below_it() {
        let log = |path: &str| LogName::parse("me", "home", "map", path).unwrap();
        assert!(!seen_prefix(&log("/a/b")).starts_with(&seen_prefix(&log("/a"))));
    }
}
