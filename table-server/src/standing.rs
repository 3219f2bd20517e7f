//! A store's question about a store token: does its session live, and is the store still mounted on that channel?

use gigfs_core::api::TokenStanding;
use gigfs_core::token::StoreClaims;
use gigfs_core::{ChannelName, StoreId, UserName};

use rusqlite::Transaction;

use crate::db::DatabaseError;
use crate::session::{self, AccessError};
use crate::table::Table;
use crate::token::TokenError;
use crate::user::{self, UserKey};
use crate::{mount, share};

/// Why a store token has no standing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StandingError {
    #[error("this store token was not issued by this table for this user")]
    Foreign,
    #[error("the store token has run out")]
    Expired,
    #[error("the store {store} is not mounted on this channel any more")]
    Unmounted { store: StoreId },
    #[error("the channel {channel} is not shared any more with whom the token is of, or not so much of it")]
    Unshared { channel: ChannelName },
    #[error(transparent)]
    Session(#[from] AccessError),
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

impl Table {
    /// Answers a store that asks about a store token.
    pub(crate) async fn token_standing(&self, user: &UserName, token: &str) -> Result<TokenStanding, StandingError> {
        let claims = self.inner.identity.verify(token).map_err(|error| match error {
            TokenError::Expired => StandingError::Expired,
            TokenError::Foreign => StandingError::Foreign,
        })?;
        if claims.sub != *user {
            return Err(StandingError::Foreign);
        }
        self.inner
            .db
            .read(move |tx| {
                let key = user::find(tx, &claims.sub)?.ok_or(StandingError::Foreign)?;
                let holder = session::user_of(tx, claims.sid)?.ok_or(AccessError::Unauthorized)?;
                let expires = session::standing(tx, holder, claims.sid)?;
                if holder != key && !is_shared(tx, key, holder, &claims)? {
                    return Err(StandingError::Unshared { channel: claims.channel });
                }
                if !mount::is_mounted(tx, key, &claims.channel, claims.aud)? {
                    return Err(StandingError::Unmounted { store: claims.aud });
                }
                Ok(TokenStanding { session: claims.sid, expires })
            })
            .await
    }
}

/// Says whether a guest may still do what a token allows.
fn is_shared(
    tx: &Transaction<'_>,
    owner: UserKey,
    guest: UserKey,
    claims: &StoreClaims,
) -> Result<bool, DatabaseError> {
    let place = share::find(tx, owner, &claims.channel, guest)?;
    Ok(place.is_some_and(|place| place.permission >= claims.permission && claims.share >= Some(place.share)))
}
