//! The bytes of what is noted about each user's logs: checkpoints that wait for the table, and names of sealed logs.
//!
//! The sums are notes themselves, written with what they count, so that a start reads one number a user.

use std::collections::BTreeMap;

use bytes::Bytes;
use gigfs_core::UserName;
use gigfs_storage::{Engine, StorageError, pruning};

use crate::commit::Notes;
use crate::name;

/// Reads the sums.
pub(super) fn load(engine: &dyn Engine) -> Result<BTreeMap<UserName, u64>, StorageError> {
    let mut sums = BTreeMap::new();
    for (key, value) in engine.notes(NOTED)? {
        let user = str::from_utf8(&key[NOTED.len()..]).ok().and_then(|name| UserName::parse(name).ok());
        match (user, <[u8; 8]>::try_from(&value[..])) {
            (Some(user), Ok(bytes)) => drop(sums.insert(user, u64::from_be_bytes(bytes))),
            (user, _) => tracing::error!(?user, "the sum of a user's notes cannot be read and begins anew"),
        }
    }
    Ok(sums)
}

/// Returns the sums of the users whom a commit of these notes touches, as they are after it.
pub(super) fn after(
    notes: &Notes,
    sums: &BTreeMap<UserName, u64>,
    engine: &dyn Engine,
) -> Result<BTreeMap<UserName, u64>, StorageError> {
    let mut sizes: BTreeMap<&[u8], u64> = BTreeMap::new();
    let mut changed = BTreeMap::new();
    for (key, value) in notes {
        let Some(user) = owner(key) else { continue };
        let size = |value: &Bytes| (key.len() + value.len()) as u64;
        let before = match sizes.get(&**key) {
            Some(size) => *size,
            None => engine.note(key)?.as_ref().map_or(0, size),
        };
        let now = value.as_ref().map_or(0, size);
        sizes.insert(key, now);
        let sum = changed.entry(user).or_insert_with_key(|user| sums.get(user).copied().unwrap_or(0));
        // What was noted before sums were kept is not in them.
        *sum = sum.saturating_add(now).saturating_sub(before);
    }
    Ok(changed)
}

/// Returns the note that holds a sum.
pub(super) fn note((user, sum): (&UserName, &u64)) -> (Bytes, Option<Bytes>) {
    let key = [NOTED, user.as_str().as_bytes()].concat();
    (key.into(), Some(Bytes::copy_from_slice(&sum.to_be_bytes())))
}

/// Returns whose log a note is about, if it is one that counts.
fn owner(key: &[u8]) -> Option<UserName> {
    let rest = [pruning::CANDIDATES, name::NAMES].iter().find_map(|begin| key.strip_prefix(begin.as_bytes()))?;
    let end = rest.iter().position(|byte| *byte == 0)?;
    UserName::parse(str::from_utf8(&rest[..end]).ok()?).ok()
}

/// Begins the keys of the sums' notes. // persisted
const NOTED: &[u8] = b"noted/";
