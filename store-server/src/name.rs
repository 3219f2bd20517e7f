//! What the logs of sealed channels are called, for whoever has the keys. On disk as notes of the engine; never opened here.

use bytes::Bytes;
use gigfs_core::limits::SEALED_NAME_BYTES_MAX;
use gigfs_core::{ErrorCode, LogName, Refusal};
use gigfs_storage::{Engine, StorageError};

use crate::refusal;
use crate::store::Inner;

/// Keeps what a log is called. Only a log that has something here has a name, so names take no more room than logs. Blocks
/// the thread.
///
/// # Errors
/// `too_large`, `not_found` if there is nothing of the log, and what the disk says.
pub(crate) fn keep(inner: &Inner, log: &LogName, sealed: Bytes) -> Result<(), Refusal> {
    if sealed.len() > SEALED_NAME_BYTES_MAX {
        let message =
            format!("the sealed name of {log} has {} bytes, and the limit is {SEALED_NAME_BYTES_MAX}", sealed.len());
        return Err(Refusal::new(ErrorCode::TooLarge, message));
    }
    let known = inner.engine.note(&key(log)).map_err(|error| refusal::storage(&error))?;
    if known.as_ref() == Some(&sealed) {
        return Ok(());
    }
    if inner.engine.tail(log).map_err(|error| refusal::storage(&error))?.is_none() {
        let message = format!("the store has nothing of the log {log}, so it keeps no name for it");
        return Err(Refusal::new(ErrorCode::NotFound, message).hint("push to it first"));
    }
    inner.commits.notes(vec![(key(log), Some(sealed))])
}

/// Returns what a log is called, if that was told.
pub(crate) fn of(engine: &dyn Engine, log: &LogName) -> Result<Option<Bytes>, StorageError> {
    engine.note(&key(log))
}

/// `name/` user channel type path, each ended by a zero byte; names hold none. // persisted
fn key(log: &LogName) -> Bytes {
    let mut key = b"name/".to_vec();
    for part in [log.user.as_str(), log.channel.as_str(), log.kind.as_str(), log.path.as_str()] {
        key.extend_from_slice(part.as_bytes());
        key.push(0);
    }
    key.into()
}
