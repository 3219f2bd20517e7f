//! Sessions: created with a master, named by a secret that the table keeps a hash of, ended by time or by revocation.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use gigfs_core::api::{CreatedSession, NewSession, SessionInfo, SessionList};
use gigfs_core::limits::{SESSION_DESCRIPTION_BYTES_MAX, USER_SESSIONS_MAX};
use gigfs_core::{SessionId, UserName, base64_text};
use gigfs_serve::{Event, TooManyAttempts};
use rusqlite::{OptionalExtension as _, Row, Transaction, params};
use tokio::time::Instant;

use crate::db::{self, Change, DatabaseError};
use crate::secret::{self, Verifier};
use crate::table::Table;
use crate::user::{self, UserKey, WRONG_MASTER};
use crate::{clock, revocation};

/// Why a session was not created.
#[derive(Debug, thiserror::Error)]
pub enum CreateSessionError {
    /// The master is not this user's, or there is no such user.
    #[error("{WRONG_MASTER}")]
    Unauthorized,
    /// Too many have failed to log in as this user, or from this address.
    #[error(transparent)]
    TooManyAttempts(#[from] TooManyAttempts),
    /// There is no such user. Only those who need no master are told.
    #[error("this table has no user {user}")]
    UnknownUser {
        /// The name.
        user: UserName,
    },
    /// The timeout is out of bounds.
    #[error("a session's timeout must be from 1 to {SESSION_SECONDS_MAX} seconds; it is {seconds}")]
    Timeout {
        /// What was asked for.
        seconds: u64,
    },
    /// The description is too long.
    #[error("the description has {bytes} bytes and the limit is {SESSION_DESCRIPTION_BYTES_MAX}")]
    Description {
        /// Its length in bytes.
        bytes: usize,
    },
    /// The user has too many sessions.
    #[error("the user {user} has {USER_SESSIONS_MAX} live sessions, which is the limit")]
    TooMany {
        /// The user.
        user: UserName,
    },
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

/// Why credentials do not open a session.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// Nobody issued them, or not for this user.
    #[error("these credentials are not those of a session of this user")]
    Unauthorized,
    /// The session has run out.
    #[error("the session {session} expired")]
    Expired {
        /// The session.
        session: SessionId,
    },
    /// The session was revoked.
    #[error("the session {session} was revoked")]
    Revoked {
        /// The session.
        session: SessionId,
    },
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

/// Why a session was not revoked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RevokeSessionError {
    #[error("the user {user} has no live session {session}")]
    Unknown { user: UserName, session: SessionId },
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

/// The proof that a request belongs to a live session: who asks, and until when that holds.
#[derive(Debug, Clone)]
pub(crate) struct Access {
    pub(crate) user: UserName,
    pub(crate) key: UserKey,
    pub(crate) session: SessionInfo,
}

/// The bearer token of a session: its id, and the secret that the table does not keep.
pub(crate) struct SessionToken {
    id: SessionId,
    secret: [u8; SECRET_BYTES],
}

impl SessionToken {
    /// Mints a token.
    pub(crate) fn mint() -> Self {
        Self { id: SessionId::from_bytes(secret::random()), secret: secret::random() }
    }
}

impl fmt::Display for SessionToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.id, base64_text::encode(&self.secret))
    }
}

impl FromStr for SessionToken {
    type Err = AccessError;
    fn from_str(text: &str) -> Result<Self, AccessError> {
        let parts = text.split_once('.').and_then(|(id, secret)| {
            Some(Self { id: id.parse().ok()?, secret: base64_text::decode(secret).ok()?.try_into().ok()? })
        });
        parts.ok_or(AccessError::Unauthorized)
    }
}

impl Table {
    /// Creates a session without a master, for the process that runs the table.
    ///
    /// # Errors
    /// [`CreateSessionError`] if there is no such user, or the session is over a limit.
    pub async fn create_session(&self, user: &UserName, new: NewSession) -> Result<CreatedSession, CreateSessionError> {
        let unknown = CreateSessionError::UnknownUser { user: user.clone() };
        let created = self.new_session(user, new, |tx, user| user::find(tx, user)?.ok_or(unknown)).await?;
        self.inner.audit.note(Event::LoggedIn { user, session: created.session.id, from: None });
        Ok(created)
    }

    /// Creates a session for whoever proves the user's master.
    pub(crate) async fn log_in(
        &self,
        user: &UserName,
        master: Vec<u8>,
        new: NewSession,
        address: IpAddr,
    ) -> Result<CreatedSession, CreateSessionError> {
        let began = Instant::now();
        let attempts = &self.inner.attempts;
        let attempt = attempts.begin(Some(user), address, attempts.now())?;
        let prove = move |tx: &Transaction<'_>, user: &UserName| {
            user::prove(tx, user, &master)?.ok_or(CreateSessionError::Unauthorized)
        };
        let created = self.new_session(user, new, prove).await;
        match &created {
            Ok(created) => {
                attempt.was_right(attempts.now());
                self.inner.audit.note(Event::LoggedIn { user, session: created.session.id, from: Some(address) });
            }
            Err(CreateSessionError::Unauthorized) => {
                drop(attempt);
                self.note_failed(user, address).await;
                clock::even(began).await;
            }
            Err(_) => attempt.take_back(),
        }
        created
    }

    /// `allow` runs in the transaction that creates the session, so that a master that is being replaced opens none.
    async fn new_session(
        &self,
        user: &UserName,
        new: NewSession,
        allow: impl FnOnce(&Transaction<'_>, &UserName) -> Result<UserKey, CreateSessionError> + Send + 'static,
    ) -> Result<CreatedSession, CreateSessionError> {
        let NewSession { timeout, description } = new;
        if !(1..=SESSION_SECONDS_MAX).contains(&timeout) {
            return Err(CreateSessionError::Timeout { seconds: timeout });
        }
        if description.len() > SESSION_DESCRIPTION_BYTES_MAX {
            return Err(CreateSessionError::Description { bytes: description.len() });
        }
        let user = user.clone();
        self.inner
            .db
            .write(move |change| {
                let key = allow(&change.tx, &user)?;
                // Counted from the next full second, so that a session lives no less than was asked for.
                let created = clock::now();
                let expires = clock::now_millis().div_ceil(1000) + timeout;
                if count_live(&change.tx, key, created)? >= USER_SESSIONS_MAX {
                    return Err(CreateSessionError::TooMany { user });
                }
                let token = SessionToken::mint();
                let session = SessionInfo { id: token.id, description, created, expires, current: true };
                insert(&change.tx, key, &token, &session)?;
                forget_dead(&change.tx, key, created)?;
                Ok(CreatedSession { token: token.to_string(), session })
            })
            .await
    }

    /// Opens a session with its token.
    pub(crate) async fn authorise(&self, user: &UserName, token: SessionToken) -> Result<Access, AccessError> {
        let access = self.inner.db.read(move |tx| open(tx, &token)).await?;
        if access.user == *user { Ok(access) } else { Err(AccessError::Unauthorized) }
    }

    /// Opens a session with its token, whoever's it is.
    pub(crate) async fn authorise_any(&self, token: SessionToken) -> Result<Access, AccessError> {
        self.inner.db.read(move |tx| open(tx, &token)).await
    }

    /// Lists the user's live sessions, newest first.
    pub(crate) async fn sessions(&self, access: &Access) -> Result<SessionList, DatabaseError> {
        let Access { key, session, .. } = access.clone();
        self.inner.db.read(move |tx| Ok(SessionList { sessions: list_live(tx, key, session.id, clock::now())? })).await
    }

    /// Ends a session: its token is worth nothing from here on, and its stores are told.
    pub(crate) async fn revoke_session(&self, access: &Access, session: SessionId) -> Result<(), RevokeSessionError> {
        let Access { user, key, .. } = access.clone();
        let token_seconds_max = self.inner.identity.token_seconds_max;
        let revoked = self
            .inner
            .db
            .write(move |change| {
                let now = clock::now();
                let scope = revocation::Scope::Session(session);
                revocation::enqueue(change, key, scope, now + token_seconds_max, now)?;
                if !revoke(&change.tx, key, session, now)? {
                    return Err(RevokeSessionError::Unknown { user, session });
                }
                change.changed(&user);
                Ok(())
            })
            .await;
        if revoked.is_ok() {
            let by = Some(access.session.id);
            self.inner.audit.note(Event::SessionRevoked { user: &access.user, session, by });
        }
        revoked
    }

    /// Forgets sessions that ended long ago.
    pub(crate) async fn forget_old_sessions(&self) -> Result<usize, DatabaseError> {
        let before = clock::now().saturating_sub(DEAD_SECONDS_KEPT);
        self.inner
            .db
            .write(move |change: &mut Change<'_>| {
                Ok(change.tx.execute("DELETE FROM sessions WHERE expires < ?1", [before])?)
            })
            .await
    }
}

/// Says whether a session is alive, and if so until when.
pub(crate) fn standing(tx: &Transaction<'_>, user: UserKey, session: SessionId) -> Result<u64, AccessError> {
    let sql = "SELECT expires, revoked FROM sessions WHERE id = ?1 AND user = ?2";
    let found: Option<(u64, Option<u64>)> = tx
        .prepare_cached(sql)
        .and_then(|mut query| {
            query.query_row(params![session.as_bytes(), user.0], |row| Ok((row.get(0)?, row.get(1)?))).optional()
        })
        .map_err(DatabaseError::from)?;
    let (expires, revoked) = found.ok_or(AccessError::Unauthorized)?;
    match revoked {
        Some(_) => Err(AccessError::Revoked { session }),
        None if is_over(expires) => Err(AccessError::Expired { session }),
        None => Ok(expires),
    }
}

/// Says whose a session is, alive or not.
pub(crate) fn user_of(tx: &Transaction<'_>, session: SessionId) -> Result<Option<UserKey>, DatabaseError> {
    let mut query = tx.prepare_cached("SELECT user FROM sessions WHERE id = ?1")?;
    Ok(query.query_row([session.as_bytes()], |row| row.get(0).map(UserKey)).optional()?)
}

/// Revokes all sessions of a user.
pub(crate) fn revoke_all(tx: &Transaction<'_>, user: UserKey, now: u64) -> Result<(), DatabaseError> {
    tx.execute("UPDATE sessions SET revoked = ?2 WHERE user = ?1 AND revoked IS NULL", params![user.0, now])?;
    Ok(())
}

fn is_over(expires: u64) -> bool {
    clock::now_millis() >= expires.saturating_mul(1000)
}

/// Opens a session, whoever's it is.
pub(crate) fn open(tx: &Transaction<'_>, token: &SessionToken) -> Result<Access, AccessError> {
    let sql = "SELECT s.id, s.description, s.created, s.expires, s.verifier, u.id AS user, u.name
               FROM sessions s JOIN users u ON u.id = s.user WHERE s.id = ?1";
    let found = tx
        .prepare_cached(sql)
        .and_then(|mut query| {
            query
                .query_row([token.id.as_bytes()], |row| {
                    let (user, key) = (db::name(row, "name")?, UserKey(row.get("user")?));
                    Ok((
                        Access { user, key, session: info(row, token.id)? },
                        Verifier::from_bytes(row.get("verifier")?),
                    ))
                })
                .optional()
        })
        .map_err(DatabaseError::from)?;
    match found {
        Some((access, verifier)) if verifier.matches(&token.secret) => {
            standing(tx, access.key, access.session.id)?;
            Ok(access)
        }
        _ => Err(AccessError::Unauthorized),
    }
}

fn insert(
    tx: &Transaction<'_>,
    user: UserKey,
    token: &SessionToken,
    session: &SessionInfo,
) -> Result<(), DatabaseError> {
    let SessionInfo { id, description, created, expires, .. } = session;
    let verifier = Verifier::of(&token.secret);
    tx.execute(
        "INSERT INTO sessions (id, user, verifier, description, created, expires) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![id.as_bytes(), user.0, verifier.as_bytes(), description, created, expires],
    )?;
    Ok(())
}

fn count_live(tx: &Transaction<'_>, user: UserKey, now: u64) -> Result<usize, DatabaseError> {
    let sql = "SELECT count(*) FROM sessions WHERE user = ?1 AND revoked IS NULL AND expires > ?2";
    Ok(tx.prepare_cached(sql)?.query_row(params![user.0, now], |row| row.get(0))?)
}

fn list_live(
    tx: &Transaction<'_>,
    user: UserKey,
    current: SessionId,
    now: u64,
) -> Result<Vec<SessionInfo>, DatabaseError> {
    let sql = "SELECT id, description, created, expires FROM sessions
               WHERE user = ?1 AND revoked IS NULL AND expires > ?2 ORDER BY number DESC";
    let mut query = tx.prepare_cached(sql)?;
    let sessions = query.query_map(params![user.0, now], |row| info(row, current))?;
    Ok(sessions.collect::<Result<_, _>>()?)
}

fn revoke(tx: &Transaction<'_>, user: UserKey, session: SessionId, now: u64) -> Result<bool, DatabaseError> {
    let sql = "UPDATE sessions SET revoked = ?3 WHERE id = ?1 AND user = ?2 AND revoked IS NULL AND expires > ?3";
    Ok(tx.execute(sql, params![session.as_bytes(), user.0, now])? == 1)
}

/// Keeps the user's dead sessions within their number, those that would have lived longest.
fn forget_dead(tx: &Transaction<'_>, user: UserKey, now: u64) -> Result<(), DatabaseError> {
    tx.prepare_cached(
        "DELETE FROM sessions WHERE number IN (
             SELECT number FROM sessions WHERE user = ?1 AND (revoked IS NOT NULL OR expires <= ?2)
             ORDER BY expires DESC LIMIT -1 OFFSET ?3)",
    )?
    .execute(params![user.0, now, DEAD_SESSIONS_MAX])?;
    Ok(())
}

fn info(row: &Row<'_>, current: SessionId) -> rusqlite::Result<SessionInfo> {
    let id = SessionId::from_bytes(row.get("id")?);
    Ok(SessionInfo {
        id,
        description: row.get("description")?,
        created: row.get("created")?,
        expires: row.get("expires")?,
        current: id == current,
    })
}

/// Seconds that a session may live: ten years.
const SESSION_SECONDS_MAX: u64 = 10 * 366 * 24 * 3600;
/// Bytes of the secret in a session's token.
const SECRET_BYTES: usize = 32;
/// Dead sessions of one user that are kept, to tell those who come back what became of them.
const DEAD_SESSIONS_MAX: usize = 4096;
/// Seconds that a session is kept after its time.
const DEAD_SECONDS_KEPT: u64 = 30 * 24 * 3600;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_token_reads_back_and_nothing_else_does() {
        let token = SessionToken::mint();
        let read: SessionToken = token.to_string().parse().ok().unwrap();
        assert_eq!((read.id, read.secret), (token.id, token.secret));
        for bad in ["", ".", &token.id.to_string(), &format!("{token}="), &token.to_string()[..70]] {
            assert!(bad.parse::<SessionToken>().is_err(), "{bad:?} was accepted");
        }
    }
}
