//! Public identities: what others wrap channel keys to, as the user's own devices say it. The table vouches for none;
//! people compare fingerprints.

use gigfs_core::api::IdentityRecord;
use gigfs_core::seal::PublicIdentity;
use gigfs_core::{DecodeError, UserName};
use gigfs_serve::Event;
use rusqlite::{OptionalExtension as _, params};

use crate::db::{Change, DatabaseError};
use crate::session::Access;
use crate::table::Table;
use crate::user;

/// Why an identity is not kept, or not given out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IdentityRecordError {
    #[error(transparent)]
    Record(#[from] DecodeError),
    #[error("this table has no user {user}")]
    UnknownUser { user: UserName },
    #[error("this table keeps no identity of {user}")]
    None { user: UserName },
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

impl Table {
    /// Keeps the identity of the session's user.
    pub(crate) async fn put_identity(
        &self,
        access: &Access,
        record: IdentityRecord,
    ) -> Result<(), IdentityRecordError> {
        let record = PublicIdentity::from_bytes(&record.identity)?.to_bytes();
        let key = access.key;
        let put = move |change: &mut Change<'_>| {
            let sql = "INSERT INTO identities (user, record) VALUES (?1, ?2)
                       ON CONFLICT (user) DO UPDATE SET record = excluded.record";
            change.tx.execute(sql, params![key.0, record]).map_err(DatabaseError::from)?;
            Ok::<_, DatabaseError>(())
        };
        self.inner.db.write(put).await?;
        self.inner.audit.note(Event::IdentityReplaced { user: &access.user, by: access.session.id });
        Ok(())
    }

    /// Returns the identity of any user.
    pub(crate) async fn identity_of(&self, user: &UserName) -> Result<IdentityRecord, IdentityRecordError> {
        let user = user.clone();
        self.inner
            .db
            .read(move |tx| {
                let Some(key) = user::find(tx, &user)? else { return Err(IdentityRecordError::UnknownUser { user }) };
                let found = tx
                    .prepare_cached("SELECT record FROM identities WHERE user = ?1")
                    .and_then(|mut query| query.query_row([key.0], |row| row.get(0)).optional())
                    .map_err(DatabaseError::from)?;
                found.map(|identity| IdentityRecord { identity }).ok_or(IdentityRecordError::None { user })
            })
            .await
    }
}
