//! What the logs of sealed channels are called, for whoever has the keys. On disk as notes of the engine; never opened here.

use bytes::Bytes;
use gigfs_core::limits::SEALED_NAME_BYTES_MAX;
use gigfs_core::seal::BlindLog;
use gigfs_core::{ErrorCode, LogName, Refusal};
use gigfs_storage::{Engine, StorageError};

use crate::refusal;
use crate::store::Inner;

/// Keeps what a log is called. Only a log that has something here has a name, so that none takes room for nothing. Blocks
/// the thread.
///
/// # Errors
/// `too_large`, `not_found` if there is nothing of the log, `insufficient_storage`, and what the disk says.
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
    let key = key(log);
    inner.quotas.check_base(&log.user, key.len() + sealed.len(), &*inner.engine)?;
    inner.commits.notes(vec![(key, Some(sealed))])
}

/// Returns what a log of a sealed channel is called, if that was told. Nothing is looked up for a log whose own name is in
/// the clear.
pub(crate) fn of(engine: &dyn Engine, log: &LogName) -> Result<Option<Bytes>, StorageError> {
    match BlindLog::parse(log.clone()) {
        Ok(_) => engine.note(&key(log)),
        Err(_) => Ok(None),
    }
}

/// Begins the keys of the notes that hold names; the user's name follows, and a zero byte. // persisted
pub(crate) const NAMES: &str = "name/";

/// `name/` user channel type path, each ended by a zero byte; names hold none. // persisted
fn key(log: &LogName) -> Bytes {
    let mut key = NAMES.as_bytes().to_vec();
    for part in [log.user.as_str(), log.channel.as_str(), log.kind.as_str(), log.path.as_str()] {
        key.extend_from_slice(part.as_bytes());
        key.push(0);
    }
    key.into()
}
