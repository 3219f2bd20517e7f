//! Keyrings: sealed on their users' devices, and kept here as they come. The table reads the revision and nothing else.
//!
//! A record is replaced by the next revision only, so of two devices that change it at once one is told, and none undoes
//! what the other did. A master is never replaced without the keyring that goes with it.

use gigfs_core::UserName;
use gigfs_core::api::KeyringRecord;
use gigfs_core::seal::{self, SealedKeyring};
use gigfs_serve::Event;
use rusqlite::{OptionalExtension as _, Transaction, params};

use crate::db::DatabaseError;
use crate::session::Access;
use crate::table::Table;
use crate::user::UserKey;

/// Why a keyring is not kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PutKeyringError {
    /// It is none, or too large.
    #[error(transparent)]
    Record(#[from] seal::KeyringError),
    /// It is not the next one.
    #[error("the keyring of {user} is at revision {kept} here (0 is none), and revision {found} is not the next")]
    Revision {
        /// Whose keyring.
        user: UserName,
        /// The one that is kept; 0 for none.
        kept: u64,
        /// The one that came.
        found: u64,
    },
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

/// Why a keyring is not given out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadKeyringError {
    /// There is none.
    #[error("this table keeps no keyring of {user}")]
    None {
        /// Whose.
        user: UserName,
    },
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

/// A record whose form and size are right, and which revision it is.
pub(crate) struct Revision {
    pub(crate) number: u64,
    record: Vec<u8>,
}

impl TryFrom<KeyringRecord> for Revision {
    type Error = seal::KeyringError;
    fn try_from(KeyringRecord { record }: KeyringRecord) -> Result<Self, seal::KeyringError> {
        Ok(Self { number: SealedKeyring::from_bytes(&record)?.revision(), record })
    }
}

impl Table {
    /// Returns the keyring of the session's user.
    pub(crate) async fn keyring(&self, access: &Access) -> Result<KeyringRecord, ReadKeyringError> {
        let Access { user, key, .. } = access.clone();
        self.inner.db.read(move |tx| record(tx, key)?.ok_or(ReadKeyringError::None { user })).await
    }

    /// Keeps the next revision of the keyring of the session's user.
    pub(crate) async fn put_keyring(&self, access: &Access, record: KeyringRecord) -> Result<(), PutKeyringError> {
        let next = Revision::try_from(record)?;
        let Access { user, key, .. } = access.clone();
        let revision = next.number;
        self.inner.db.write(move |change| replace(&change.tx, &user, key, &next)).await?;
        let by = access.session.id;
        self.inner.audit.note(Event::KeyringReplaced { user: &access.user, revision, by });
        Ok(())
    }
}

/// Returns which revision is kept; 0 for none.
pub(crate) fn kept(tx: &Transaction<'_>, user: UserKey) -> Result<u64, DatabaseError> {
    let sql = "SELECT revision FROM keyrings WHERE user = ?1";
    Ok(tx.prepare_cached(sql)?.query_row([user.0], |row| row.get(0)).optional()?.unwrap_or(0))
}

/// Puts a revision in the place of the one before it.
pub(crate) fn replace(
    tx: &Transaction<'_>,
    user: &UserName,
    key: UserKey,
    next: &Revision,
) -> Result<(), PutKeyringError> {
    let kept = kept(tx, key)?;
    if kept.checked_add(1) != Some(next.number) {
        return Err(PutKeyringError::Revision { user: user.clone(), kept, found: next.number });
    }
    let sql = "INSERT INTO keyrings (user, revision, record) VALUES (?1, ?2, ?3)
               ON CONFLICT (user) DO UPDATE SET revision = ?2, record = ?3";
    tx.execute(sql, params![key.0, next.number, next.record]).map_err(DatabaseError::from)?;
    Ok(())
}

fn record(tx: &Transaction<'_>, user: UserKey) -> Result<Option<KeyringRecord>, DatabaseError> {
    Ok(tx
        .prepare_cached("SELECT record FROM keyrings WHERE user = ?1")?
        .query_row([user.0], |row| Ok(KeyringRecord { record: row.get(0)? }))
        .optional()?)
}
