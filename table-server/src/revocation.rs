//! The revocation queue: what stores have yet to hear, on disk until they have heard it or nothing is left to revoke.
//!
//! A row is made in the transaction that ends the session, called at once, and retried with growing pauses until the
//! store answers 2xx or every token of the session has run out. One store that hangs delays no other.

use std::collections::BTreeSet;
use std::time::Duration;

use gigfs_core::{SessionId, StoreId, UserName};
use rusqlite::{Transaction, params};
use tokio::task::JoinSet;

use crate::clock;
use crate::db::{self, Change, DatabaseError};
use crate::secret;
use crate::store::{StoreCallError, StoreUrl};
use crate::table::Table;
use crate::user::UserKey;

/// Which of a user's live sessions end at which stores.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Scope {
    /// All sessions, at all stores.
    User,
    /// One session, at all stores.
    Session(SessionId),
    /// All sessions, at one store.
    Store(StoreId),
}

/// One call that a store is owed.
struct Owed {
    id: i64,
    user: UserName,
    store: StoreId,
    url: String,
    session: SessionId,
    attempts: u32,
}

/// What a look at the queue found.
struct Due {
    owed: Vec<Owed>,
    queued: u64,
    next: Option<Duration>,
}

/// Queues the calls for the sessions that are live at `now`. `until_max` is when the last token that may be out there
/// runs out. To be called before the sessions or mounts are touched.
pub(crate) fn enqueue(
    change: &mut Change<'_>,
    user: UserKey,
    scope: Scope,
    until_max: u64,
    now: u64,
) -> Result<(), DatabaseError> {
    let (session, store) = match scope {
        Scope::User => (None, None),
        Scope::Session(session) => (Some(session), None),
        Scope::Store(store) => (None, Some(store)),
    };
    let sql = "INSERT INTO revocations (user, store, url, session, until)
               SELECT DISTINCT m.user, m.store, m.url, s.id, min(s.expires, ?5)
               FROM mounts m JOIN sessions s ON s.user = m.user
               WHERE m.user = ?1 AND s.revoked IS NULL AND s.expires > ?4
                 AND (?2 IS NULL OR s.id = ?2) AND (?3 IS NULL OR m.store = ?3)
               ON CONFLICT (user, store, url, session)
               DO UPDATE SET until = max(until, excluded.until), next_at_millis = 0";
    let (session, store) = (session.as_ref().map(SessionId::as_bytes), store.as_ref().map(StoreId::as_bytes));
    if change.tx.prepare_cached(sql)?.execute(params![user.0, session, store, now, until_max])? > 0 {
        change.queued();
    }
    Ok(())
}

/// Owes a store that moved at its new url too what it is owed at the old one.
pub(crate) fn follow(
    change: &mut Change<'_>,
    user: UserKey,
    store: StoreId,
    old_url: &str,
    new_url: &StoreUrl,
) -> Result<(), DatabaseError> {
    let sql = "INSERT OR IGNORE INTO revocations (user, store, url, session, until)
               SELECT user, store, ?4, session, until FROM revocations WHERE user = ?1 AND store = ?2 AND url = ?3";
    if change.tx.execute(sql, params![user.0, store.as_bytes(), old_url, new_url.as_str()])? > 0 {
        change.queued();
    }
    Ok(())
}

/// Takes back what was owed to a store only because it had been unmounted, now that it is mounted again.
pub(crate) fn take_back(tx: &Transaction<'_>, user: UserKey, store: StoreId) -> Result<(), DatabaseError> {
    tx.execute(
        "DELETE FROM revocations WHERE user = ?1 AND store = ?2
             AND session IN (SELECT id FROM sessions WHERE user = ?1 AND revoked IS NULL)",
        params![user.0, store.as_bytes()],
    )?;
    Ok(())
}

impl Table {
    /// Works through the queue until the table stops. What is left is on disk for the next start.
    pub(crate) async fn tell_stores(&self) {
        if let Err(error) = self.forget_pauses().await {
            tracing::error!(%error, "the pauses of the revocation queue were not reset");
        }
        let mut calls = JoinSet::new();
        let mut under_way = BTreeSet::new();
        loop {
            let due = match self.due().await {
                Ok(due) => due,
                Err(DatabaseError::Closed) => return,
                Err(error) => {
                    tracing::error!(%error, "the revocation queue cannot be read; trying again");
                    Due { owed: Vec::new(), queued: 0, next: Some(PAUSE_MAX) }
                }
            };
            self.inner.metrics.revocations_queued(due.queued);
            for owed in due.owed {
                if calls.len() < CALLS_MAX && under_way.insert(owed.id) {
                    let table = self.clone();
                    calls.spawn(async move { table.call(owed).await });
                }
            }
            tokio::select! {
                () = self.inner.stopping.cancelled() => return,
                () = self.inner.signals.until_queued() => {}
                Some(done) = calls.join_next() => match done {
                    Ok(id) => {
                        under_way.remove(&id);
                    }
                    Err(error) => tracing::error!(%error, "a revocation call ended with a panic"),
                },
                () = tokio::time::sleep(due.next.unwrap_or(LOOK_AGAIN)) => {}
            }
        }
    }

    /// Makes one call and writes down what came of it.
    async fn call(&self, owed: Owed) -> i64 {
        let Owed { id, user, store, url, session, attempts } = owed;
        let token = self.inner.identity.revoke_token(store, &user, session);
        let outcome = match StoreUrl::parse(&url) {
            Ok(url) => self.inner.stores.revoke(&url, &user, session, &token).await,
            Err(error) => Err(StoreCallError::Unreachable { url, reason: error.to_string() }),
        };
        let written = match outcome {
            Ok(()) => {
                tracing::info!(%user, %store, %session, "the store knows that the session ended");
                self.inner.metrics.revocation_called("done");
                self.forget(id).await
            }
            Err(error) => {
                tracing::warn!(%user, %store, %session, attempts, %error, "the store has not taken a revocation");
                let (outcome, sql) = match error {
                    StoreCallError::Refused { .. } | StoreCallError::NotAStore { .. } => ("refused", POSTPONE_ONE),
                    StoreCallError::Unreachable { .. } | StoreCallError::NotAllowed { .. } => {
                        ("unreachable", POSTPONE_STORE)
                    }
                };
                self.inner.metrics.revocation_called(outcome);
                self.postpone(sql, id, attempts + 1).await
            }
        };
        if let Err(error) = written {
            tracing::error!(%error, "the outcome of a revocation call was not written down; it will be made again");
            tokio::time::sleep(PAUSE_MAX).await;
        }
        id
    }

    async fn forget(&self, id: i64) -> Result<(), DatabaseError> {
        self.inner
            .db
            .write(move |change| {
                change.tx.prepare_cached("DELETE FROM revocations WHERE id = ?1")?.execute([id])?;
                Ok(())
            })
            .await
    }

    async fn postpone(&self, sql: &'static str, id: i64, attempts: u32) -> Result<(), DatabaseError> {
        let next_at = clock::now_millis() + pause(attempts);
        self.inner
            .db
            .write(move |change| {
                change.tx.prepare_cached(sql)?.execute(params![id, attempts, next_at])?;
                Ok(())
            })
            .await
    }

    async fn forget_pauses(&self) -> Result<(), DatabaseError> {
        self.inner
            .db
            .write(|change| {
                change.tx.execute("UPDATE revocations SET attempts = 0, next_at_millis = 0", [])?;
                Ok(())
            })
            .await
    }

    /// Drops what has become pointless and returns what is due, a few calls a store.
    async fn due(&self) -> Result<Due, DatabaseError> {
        self.inner
            .db
            .write(|change| {
                let now = clock::now_millis();
                let pause_max = u64::try_from(PAUSE_MAX.as_millis()).unwrap_or(u64::MAX);
                change.tx.execute("DELETE FROM revocations WHERE until <= ?1", [now / 1000])?;
                let queued = change.tx.query_row("SELECT count(*) FROM revocations", [], |row| row.get(0))?;
                // A pause longer than the longest was made before the clock went back; it counts as over.
                let mut query = change.tx.prepare_cached(
                    "SELECT r.id, u.name, r.store, r.url, r.session, r.attempts
                     FROM (SELECT *, row_number() OVER (PARTITION BY store, url ORDER BY next_at_millis, id) AS place
                           FROM revocations WHERE next_at_millis <= ?1 OR next_at_millis > ?1 + ?2) r
                     JOIN users u ON u.id = r.user WHERE r.place <= ?3 ORDER BY r.next_at_millis, r.id LIMIT ?4",
                )?;
                let owed = query
                    .query_map(params![now, pause_max, STORE_CALLS_MAX, CALLS_MAX], |row| {
                        Ok(Owed {
                            id: row.get("id")?,
                            user: db::name(row, "name")?,
                            store: StoreId::from_bytes(row.get("store")?),
                            url: row.get("url")?,
                            session: SessionId::from_bytes(row.get("session")?),
                            attempts: row.get("attempts")?,
                        })
                    })?
                    .collect::<Result<_, _>>()?;
                let later = "SELECT min(next_at_millis) FROM revocations WHERE next_at_millis > ?1";
                let next: Option<u64> = change.tx.query_row(later, [now], |row| row.get(0))?;
                let next = next.map(|at| Duration::from_millis(at - now).min(PAUSE_MAX));
                Ok(Due { owed, queued, next })
            })
            .await
    }
}

/// Milliseconds until the next attempt: doubling from [`PAUSE_FIRST`] to [`PAUSE_MAX`], and then between half and all
/// of that, so that the calls that a store missed do not come back all at once.
fn pause(attempts: u32) -> u64 {
    let whole = PAUSE_FIRST.saturating_mul(1 << attempts.min(16)).min(PAUSE_MAX);
    let whole = u64::try_from(whole.as_millis()).unwrap_or(u64::MAX);
    let [die] = secret::random();
    whole / 2 + whole / 2 * u64::from(die) / 255
}

/// After a refusal: the store answers, so the other calls that it is owed keep their own time.
const POSTPONE_ONE: &str = "UPDATE revocations SET attempts = ?2, next_at_millis = ?3 WHERE id = ?1";
/// After no answer: all calls that the store is owed wait for it together.
const POSTPONE_STORE: &str = "UPDATE revocations SET attempts = max(attempts, ?2), next_at_millis = ?3
    WHERE (store, url) = (SELECT store, url FROM revocations WHERE id = ?1)";

const PAUSE_FIRST: Duration = Duration::from_millis(200);
/// A store that comes back hears within this time.
const PAUSE_MAX: Duration = Duration::from_secs(15);
/// How long an empty queue is trusted without a signal.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// Calls under way at a time.
const CALLS_MAX: usize = 512;
/// Calls under way at a time to one store.
const STORE_CALLS_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound_and_are_never_less_than_half() {
        for attempts in 0..40 {
            let whole = (200 << attempts.min(16)).min(15_000);
            let pause = pause(attempts);
            assert!((whole / 2..=whole).contains(&pause), "attempt {attempts} waits {pause} ms");
        }
    }
}
