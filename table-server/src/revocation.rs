//! The revocation queue: what stores have yet to hear, on disk until they have heard it or nothing is left to revoke.
//!
//! A row is made in the transaction that ends the session, called at once, and retried with growing pauses until the
//! store answers 2xx or every token of the session has run out. One store that hangs delays no other.

use std::collections::BTreeSet;
use std::time::Duration;

use gigfs_core::{ChannelName, SessionId, StoreId, UserName};
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
    /// The one channel in which it ends, and the epoch before which what was shared there ends.
    share: Option<(ChannelName, u64)>,
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
    let queued = match scope {
        Scope::User => {
            change.tx.prepare_cached(END_EVERYWHERE)?.execute(params![user.0, None::<[u8; 16]>, now, until_max])
        }
        Scope::Session(session) => {
            change.tx.prepare_cached(END_EVERYWHERE)?.execute(params![user.0, session.as_bytes(), now, until_max])
        }
        Scope::Store(store) => {
            change.tx.prepare_cached(END_AT_STORE)?.execute(params![user.0, store.as_bytes(), now, until_max])
        }
    };
    if queued? > 0 {
        change.queued();
    }
    Ok(())
}

/// Queues the calls that end what was shared with a guest in a channel before an epoch of the owner's, at all stores of
/// the channel. To be called before its mounts are touched.
pub(crate) fn enqueue_share(
    change: &mut Change<'_>,
    (owner, channel, guest): (UserKey, &ChannelName, UserKey),
    before: u64,
    until_max: u64,
    now: u64,
) -> Result<(), DatabaseError> {
    let sql = "INSERT INTO revocations (user, store, url, session, channel, before, until)
               SELECT m.user, m.store, m.url, s.id, m.channel, ?4, min(s.expires, ?6)
               FROM mounts m JOIN sessions s ON s.user = ?3
               WHERE m.user = ?1 AND m.channel = ?2 AND s.revoked IS NULL AND s.expires > ?5
               ON CONFLICT (user, store, url, session, channel)
               DO UPDATE SET until = max(until, excluded.until), before = max(before, excluded.before), next_at_millis = 0";
    let params = params![owner.0, channel.as_str(), guest.0, before, now, until_max];
    if change.tx.prepare_cached(sql)?.execute(params)? > 0 {
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
    let sql = "INSERT INTO revocations (user, store, url, session, channel, before, until)
               SELECT user, store, ?4, session, channel, before, until FROM revocations
               WHERE user = ?1 AND store = ?2 AND url = ?3
               ON CONFLICT (user, store, url, session, channel)
               DO UPDATE SET until = max(until, excluded.until), before = max(before, excluded.before), next_at_millis = 0";
    if change.tx.execute(sql, params![user.0, store.as_bytes(), old_url, new_url.as_str()])? > 0 {
        change.queued();
    }
    Ok(())
}

/// Takes back what was owed to a store only because it had been unmounted, now that it is mounted again. What was taken
/// from a guest stays owed: it ends nothing that is shared from now on.
pub(crate) fn take_back(tx: &Transaction<'_>, user: UserKey, store: StoreId) -> Result<(), DatabaseError> {
    tx.execute(
        "DELETE FROM revocations WHERE user = ?1 AND store = ?2 AND channel = ''
             AND EXISTS (SELECT 1 FROM sessions s WHERE s.id = session AND s.revoked IS NULL)",
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
        let Owed { id, user, store, url, session, share, attempts } = owed;
        let before = share.as_ref().map_or(0, |(_, before)| *before);
        let token = self.inner.identity.revoke_token(store, &user, session, share);
        let outcome = match StoreUrl::parse(&url) {
            Ok(url) => self.inner.stores.revoke(&url, &user, session, &token).await,
            Err(error) => Err(StoreCallError::Unreachable { url, reason: error.to_string() }),
        };
        let written = match outcome {
            Ok(()) => {
                tracing::info!(%user, %store, %session, "the store knows that the session ended");
                self.inner.metrics.revocation_called("done");
                self.forget(id, before).await
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

    /// Forgets a call that was made, unless more is owed meanwhile.
    async fn forget(&self, id: i64, before: u64) -> Result<(), DatabaseError> {
        self.inner
            .db
            .write(move |change| {
                change
                    .tx
                    .prepare_cached("DELETE FROM revocations WHERE id = ?1 AND before <= ?2")?
                    .execute(params![id, before])?;
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
                    "SELECT r.id, u.name, r.store, r.url, r.session, r.channel, r.before, r.attempts
                     FROM (SELECT *, row_number() OVER (PARTITION BY store, url ORDER BY next_at_millis, id) AS place
                           FROM revocations WHERE next_at_millis <= ?1 OR next_at_millis > ?1 + ?2) r
                     JOIN users u ON u.id = r.user WHERE r.place <= ?3 ORDER BY r.next_at_millis, r.id LIMIT ?4",
                )?;
                let owed = query
                    .query_map(params![now, pause_max, STORE_CALLS_MAX, CALLS_MAX], |row| {
                        let share = match row.get_ref("channel")?.as_str()? {
                            "" => None,
                            _ => Some((db::name(row, "channel")?, row.get("before")?)),
                        };
                        Ok(Owed {
                            id: row.get("id")?,
                            user: db::name(row, "name")?,
                            store: StoreId::from_bytes(row.get("store")?),
                            url: row.get("url")?,
                            session: SessionId::from_bytes(row.get("session")?),
                            share,
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

/// Ends sessions of a user wherever they reach: at the user's own stores, and at those of channels that others share.
const END_EVERYWHERE: &str = "INSERT INTO revocations (user, store, url, session, channel, before, until)
    SELECT r.user, r.store, r.url, s.id, '', 0, min(s.expires, ?4)
    FROM (SELECT user, store, url FROM mounts WHERE user = ?1
          UNION SELECT m.user, m.store, m.url FROM guests g JOIN mounts m ON m.user = g.owner AND m.channel = g.channel
          WHERE g.guest = ?1) r
    JOIN sessions s ON s.user = ?1
    WHERE s.revoked IS NULL AND s.expires > ?3 AND (?2 IS NULL OR s.id = ?2)
    ON CONFLICT (user, store, url, session, channel)
    DO UPDATE SET until = max(until, excluded.until), next_at_millis = 0";
/// Ends all sessions that reach a store of a user: the user's own, and those of guests.
const END_AT_STORE: &str = "INSERT INTO revocations (user, store, url, session, channel, before, until)
    SELECT ?1, ?2, r.url, s.id, '', 0, min(s.expires, ?4)
    FROM (SELECT user AS holder, url FROM mounts WHERE user = ?1 AND store = ?2
          UNION SELECT g.guest, m.url FROM mounts m JOIN guests g ON g.owner = m.user AND g.channel = m.channel
          WHERE m.user = ?1 AND m.store = ?2) r
    JOIN sessions s ON s.user = r.holder
    WHERE s.revoked IS NULL AND s.expires > ?3
    ON CONFLICT (user, store, url, session, channel)
    DO UPDATE SET until = max(until, excluded.until), next_at_millis = 0";
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
    use std::sync::Arc;

    use super::*;
    use crate::db::Db;

    #[test]
    fn pauses_grow_to_a_bound_and_are_never_less_than_half() {
        for attempts in 0..40 {
            let whole = (200 << attempts.min(16)).min(15_000);
            let pause = pause(attempts);
            assert!((whole / 2..=whole).contains(&pause), "attempt {attempts} waits {pause} ms");
        }
    }

    #[tokio::test]
    async fn a_store_that_moves_to_where_it_was_owed_less_is_owed_the_more_there() {
        let folder = tempfile::tempdir().unwrap();
        let (db, thread) = Db::open(&folder.path().join("table.db"), Arc::default()).unwrap();
        let [old, new] = ["https://old.example", "https://new.example"].map(|url| StoreUrl::parse(url).unwrap());
        let store = StoreId::from_bytes([1; 16]);
        let moved = db.write(move |change| {
            let user =
                "INSERT INTO users (id, name, salt, memory_kib, passes, verifier) VALUES (1, 'ann', x'', 8, 1, x'')";
            change.tx.execute(user, [])?;
            for (url, before, until) in [(&old, 7, 20), (&new, 5, 30)] {
                let owed = "INSERT INTO revocations (user, store, url, session, channel, before, until)
                            VALUES (1, ?1, ?2, x'00112233445566778899aabbccddeeff', 'notes', ?3, ?4)";
                change.tx.execute(owed, params![store.as_bytes(), url.as_str(), before, until])?;
            }
            follow(change, UserKey(1), store, old.as_str(), &new)?;
            let owed = "SELECT before, until FROM revocations WHERE url = ?1";
            Ok::<(u64, u64), DatabaseError>(
                change.tx.query_row(owed, [new.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))?,
            )
        });
        assert_eq!(moved.await.unwrap(), (7, 30));
        db.close(thread).await;
    }
}
