//! Visits: a live session that comes to what a user has at the table, the user's own or one of a guest.
//!
//! A guest meets the channels that are shared with it, and nothing tells it of the others.

use gigfs_core::token::Permission;
use gigfs_core::{ChannelName, UserName};
use rusqlite::Transaction;

use crate::db::DatabaseError;
use crate::mount::MountError;
use crate::session::{self, Access, AccessError, SessionToken};
use crate::share;
use crate::table::Table;
use crate::user::{self, UserKey};

/// Why a session does not get what it came for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VisitError {
    /// Nor is it told whether there is such a user.
    #[error("the user {owner} shares nothing with {guest} at this table")]
    NotShared { owner: UserName, guest: UserName },
    #[error("the user {guest} may only read in {owner}'s channel {channel}")]
    ReadOnly { owner: UserName, channel: ChannelName, guest: UserName },
    #[error(transparent)]
    Mount(#[from] MountError),
    #[error(transparent)]
    Access(#[from] AccessError),
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

/// The proof that a request belongs to a live session of a user, or of somebody with whom the user shares something.
#[derive(Debug, Clone)]
pub(crate) struct Visit {
    pub(crate) owner: UserName,
    pub(crate) key: UserKey,
    /// Whose session it is.
    pub(crate) by: Access,
}

impl Visit {
    /// Returns a user's visit to what is the user's own.
    pub(crate) fn own(access: &Access) -> Self {
        Self { owner: access.user.clone(), key: access.key, by: access.clone() }
    }

    /// Tells whether the session is the owner's.
    pub(crate) fn is_own(&self) -> bool {
        self.key == self.by.key
    }

    /// Lets the visit do something in a channel. Whether the owner has the channel is not looked at for the owner.
    pub(crate) fn allow(
        &self,
        tx: &Transaction<'_>,
        channel: &ChannelName,
        need: Permission,
    ) -> Result<(), VisitError> {
        if self.is_own() {
            return Ok(());
        }
        let (owner, channel) = (self.owner.clone(), channel.clone());
        match share::find(tx, self.key, &channel, self.by.key)? {
            None => Err(MountError::UnknownChannel { user: owner, channel }.into()),
            Some(place) if place.permission < need => {
                Err(VisitError::ReadOnly { owner, channel, guest: self.by.user.clone() })
            }
            Some(_) => Ok(()),
        }
    }

    /// Checks that the session lives and that there is something for it here, and returns the epoch of the owner's table.
    pub(crate) fn epoch(&self, tx: &Transaction<'_>) -> Result<u64, VisitError> {
        session::standing(tx, self.by.key, self.by.session.id)?;
        if !self.is_own() && !share::is_guest(tx, self.key, self.by.key)? {
            return Err(VisitError::NotShared { owner: self.owner.clone(), guest: self.by.user.clone() });
        }
        Ok(user::epoch(tx, self.key)?)
    }
}

impl Table {
    /// Opens a session with its token, for what is a user's own or what the user shares with the session's.
    pub(crate) async fn visit(&self, owner: &UserName, token: SessionToken) -> Result<Visit, VisitError> {
        let owner = owner.clone();
        self.inner
            .db
            .read(move |tx| {
                let by = session::open(tx, &token)?;
                if by.user == owner {
                    return Ok(Visit::own(&by));
                }
                match user::find(tx, &owner)? {
                    Some(key) if share::is_guest(tx, key, by.key)? => Ok(Visit { owner, key, by }),
                    _ => Err(VisitError::NotShared { owner, guest: by.user }),
                }
            })
            .await
    }
}
