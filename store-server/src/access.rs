//! Who may do what: store tokens, what their tables say of them, and the sessions that were revoked.
//!
//! A token's signature is always verified here. The table is asked about each token the first time it is seen; a table
//! that does not answer does not keep its users from their data: the token is taken, and the table asked again until it
//! answers. A revocation, once heard, is on disk before it is confirmed, and outlives every token that it ends.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream;
use gigfs_core::token::{Permission, RevokeClaims, StoreClaims};
use gigfs_core::{ChannelName, ErrorCode, Refusal, SessionId, Sha, StoreId, UserName};
use gigfs_storage::{Engine, StorageError};
use parking_lot::Mutex;
use tokio::sync::OnceCell;

use crate::clock;
use crate::commit::Commits;
use crate::revocation::{self, Ended, Term};
use crate::standing::{Standing, TableClient};
use crate::stream::End;
use crate::token;
use crate::user::{Table, Users};

type Session = (UserName, SessionId);

/// The store's memory of tokens, revocations and live streams.
pub(crate) struct Access {
    store: StoreId,
    tables: TableClient,
    /// Tokens whose signatures were verified, by the hash of their text.
    tokens: Mutex<BTreeMap<Sha, Arc<Token>>>,
    revoked: Mutex<BTreeMap<Ended, Term>>,
    /// Held while it is worked out what is written of revocations, so that none takes the place of one that says more.
    revoking: Mutex<()>,
    live: Mutex<Live>,
}

/// A token with a good signature.
pub(crate) struct Token {
    pub(crate) claims: StoreClaims,
    text: String,
    table: Arc<Table>,
    asked: OnceCell<()>,
    standing: Mutex<Standing>,
}

#[derive(Default)]
struct Live {
    last: u64,
    streams: BTreeMap<(Session, u64), Arc<End>>,
}

/// Has a stream end with its session, for as long as this lives.
pub(crate) struct LiveStream<'a> {
    access: &'a Access,
    key: (Session, u64),
}

impl Access {
    /// Reads the revocations.
    pub(crate) fn load(store: StoreId, tables: TableClient, engine: &dyn Engine) -> Result<Self, StorageError> {
        let revoked = Mutex::new(revocation::read(engine)?);
        let (tokens, revoking, live) = Default::default();
        Ok(Self { store, tables, tokens, revoked, revoking, live })
    }

    /// Refuses a table that the store may not ask.
    pub(crate) async fn check_table(&self, table: &Table) -> Result<(), Refusal> {
        self.tables.check(table).await
    }

    /// Lets a token's holder do something in a channel, or says why not.
    pub(crate) async fn pass(
        &self,
        users: &Users,
        text: &str,
        user: &UserName,
        channel: &ChannelName,
        need: Permission,
    ) -> Result<Arc<Token>, Refusal> {
        let token = self.verify(users, text, user)?;
        let claims = &token.claims;
        if claims.exp <= clock::seconds() {
            return Err(expired());
        }
        if claims.channel != *channel {
            return Err(Refusal::new(ErrorCode::Forbidden, "the token is for another channel"));
        }
        token.allows(need)?;
        self.check_revoked(claims)?;
        token.asked.get_or_init(|| self.ask(&token)).await;
        // A revocation may have come while the table was asked.
        self.check_revoked(claims)?;
        let standing = token.standing.lock().clone();
        match standing {
            Standing::Good | Standing::Unanswered => Ok(token),
            Standing::Refused(refusal) => Err(refusal),
        }
    }

    /// Returns the token if the user's table signed it for this store and user.
    fn verify(&self, users: &Users, text: &str, user: &UserName) -> Result<Arc<Token>, Refusal> {
        let Some(table) = users.table(user) else {
            let message = format!("no table speaks for the user {user} at this store");
            return Err(
                Refusal::new(ErrorCode::Unauthorized, message).hint("mount the store at the user's table first")
            );
        };
        let hash = Sha::of(text.as_bytes());
        let known = self.tokens.lock().get(&hash).cloned();
        if let Some(token) = known
            && Arc::ptr_eq(&token.table, &table)
            && token.claims.sub == *user
        {
            return Ok(token);
        }
        let claims = token::verify_store_token(text, &table, self.store, user)?;
        let text = text.to_owned();
        let standing = Mutex::new(Standing::Unanswered);
        let token = Arc::new(Token { claims, text, table, asked: OnceCell::new(), standing });
        let mut tokens = self.tokens.lock();
        if tokens.len() >= TOKENS_MAX {
            // They are verified and asked about again.
            tokens.clear();
        }
        tokens.insert(hash, token.clone());
        Ok(token)
    }

    fn check_revoked(&self, claims: &StoreClaims) -> Result<(), Refusal> {
        let (everywhere, here) = Ended::of(claims);
        let revoked = self.revoked.lock();
        if revoked.contains_key(&everywhere) {
            return Err(Refusal::new(ErrorCode::Revoked, "the session was revoked").hint("log in again"));
        }
        match revoked.get(&here).is_some_and(|term| term.ends(claims)) {
            true => Err(unshared(claims)),
            false => Ok(()),
        }
    }

    async fn ask(&self, token: &Token) {
        let standing = self.tables.ask(&token.table, &token.claims.sub, &token.text).await;
        if let Standing::Refused(refusal) = &standing {
            let session = (token.claims.sub.clone(), token.claims.sid);
            self.end_streams(&session, |held| (held.text() == token.text()).then(|| refusal.clone()));
        }
        *token.standing.lock() = standing;
    }

    /// Ends a session, or what was shared with it in a channel: for its streams at once, and on disk before it returns. Blocks the
    /// thread.
    pub(crate) fn revoke(&self, claims: RevokeClaims, commits: &Commits) -> Result<(), Refusal> {
        let session = (claims.sub.clone(), claims.sid);
        let (ended, mut term) = revocation::of(claims);
        // What is queued is written in this order, and what comes at one time is written together.
        let revoking = self.revoking.lock();
        if let Some(known) = self.revoked.lock().get(&ended) {
            term = term.and(*known);
        }
        let written = commits.queue_notes(vec![(ended.key(), Some(term.to_bytes()))])?;
        // It counts from now on, also if it cannot be written: the table says it again.
        self.revoked.lock().insert(ended, term);
        drop(revoking);
        self.end_streams(&session, |held| self.check_revoked(&held.claims).err());
        written.wait()
    }

    /// Forgets what was revoked of a user whose table has introduced itself anew: a store that is mounted again was told
    /// that every session had ended when it was unmounted. The table is asked about each token that comes now. Blocks
    /// the thread.
    pub(crate) fn begin_anew(&self, user: &UserName, commits: &Commits) -> Result<(), Refusal> {
        let _revoking = self.revoking.lock();
        let old: Vec<Ended> = self.revoked.lock().keys().filter(|ended| ended.user == *user).cloned().collect();
        if !old.is_empty() {
            commits.notes(old.iter().map(|ended| (ended.key(), None)).collect())?;
            self.revoked.lock().retain(|ended, _| !old.contains(ended));
        }
        self.tokens.lock().retain(|_, token| token.claims.sub != *user);
        Ok(())
    }

    /// Has a stream end when its session does. Ends it at once if the session ended meanwhile.
    pub(crate) fn register(&self, claims: &StoreClaims, end: &Arc<End>) -> LiveStream<'_> {
        let key = {
            let mut live = self.live.lock();
            live.last += 1;
            let key = ((claims.sub.clone(), claims.sid), live.last);
            live.streams.insert(key.clone(), end.clone());
            key
        };
        self.end_if_revoked(end);
        LiveStream { access: self, key }
    }

    /// Ends a stream that has just begun to live by a token, if what that stands for ended meanwhile.
    pub(crate) fn end_if_revoked(&self, end: &End) {
        if let Err(refusal) = self.check_revoked(&end.token().claims) {
            end.because(refusal);
        }
    }

    /// Ends the streams of a session for whose tokens there is a reason.
    fn end_streams(&self, session: &Session, why: impl Fn(&Token) -> Option<Refusal>) {
        let live = self.live.lock();
        let range = (session.clone(), 0)..=(session.clone(), u64::MAX);
        for (_, end) in live.streams.range(range) {
            if let Some(refusal) = why(&end.token()) {
                end.because(refusal);
            }
        }
    }

    /// Asks the tables that did not answer again, and forgets the tokens that have run out.
    pub(crate) async fn keep_house(&self) {
        let now = clock::seconds();
        let unanswered: Vec<_> = {
            let mut tokens = self.tokens.lock();
            tokens.retain(|_, token| token.claims.exp > now);
            let is_unanswered = |token: &&Arc<Token>| {
                token.asked.initialized() && matches!(*token.standing.lock(), Standing::Unanswered)
            };
            tokens.values().filter(is_unanswered).take(ASKED_AGAIN_MAX).cloned().collect()
        };
        let asking = stream::iter(unanswered).map(|token| async move { self.ask(&token).await });
        asking.buffer_unordered(ASKED_AT_ONCE_MAX).collect::<()>().await;
    }

    /// Forgets the revocations that have outlived all tokens which they end. Blocks the thread.
    pub(crate) fn forget_revocations(&self, commits: &Commits) -> Result<(), Refusal> {
        let now = clock::seconds();
        let revoking = self.revoking.lock();
        let old: Vec<Ended> =
            self.revoked.lock().extract_if(.., |_, term| term.until <= now).map(|(ended, _)| ended).collect();
        if old.is_empty() {
            return Ok(());
        }
        let written = commits.queue_notes(old.iter().map(|ended| (ended.key(), None)).collect())?;
        drop(revoking);
        // What could not be deleted is at the next start.
        written.wait()
    }
}

impl Token {
    /// Checks what the holder may do.
    pub(crate) fn allows(&self, need: Permission) -> Result<(), Refusal> {
        match self.claims.permission >= need {
            true => Ok(()),
            false => Err(Refusal::new(ErrorCode::Forbidden, "the token allows reading only")),
        }
    }

    /// Returns the token itself.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }
}

impl Drop for LiveStream<'_> {
    fn drop(&mut self) {
        self.access.live.lock().streams.remove(&self.key);
    }
}

/// Says that a token has run out.
pub(crate) fn expired() -> Refusal {
    Refusal::new(ErrorCode::Expired, "the token has run out").hint("get a new one from the table").at(clock::date())
}

fn unshared(StoreClaims { sub, channel, .. }: &StoreClaims) -> Refusal {
    let message = format!("{sub}'s channel {channel} is not shared any more as the token says");
    Refusal::new(ErrorCode::Revoked, message)
        .hint("get a new token from the table; if that is refused too, log in again")
}

/// Tokens in memory.
const TOKENS_MAX: usize = 64 * 1024;
/// Tokens that tables are asked about again, a round and at a time.
const ASKED_AGAIN_MAX: usize = 1024;
const ASKED_AT_ONCE_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use gigfs_core::token::RevokeUse;
    use gigfs_serve::Networks;
    use gigfs_storage::Memory;

    use super::*;
    use crate::blob::Blobs;
    use crate::feed::Hub;
    use crate::metric::Metrics;
    use crate::quota::Quotas;
    use crate::seal::Seals;

    fn claims(store: StoreId) -> RevokeClaims {
        let (sub, sid) = (UserName::parse("me").unwrap(), SessionId::from_bytes([1; 16]));
        let (iss, channel, before) = ("table".to_owned(), None, None);
        RevokeClaims { iss, aud: store, sub, sid, channel, before, exp: u64::MAX, usage: RevokeUse::Revoke }
    }

    #[test]
    fn a_revocation_that_comes_again_while_it_is_forgotten_stays() {
        let engine: Arc<dyn Engine> = Arc::new(Memory::fresh().unwrap());
        let folder = tempfile::tempdir().unwrap();
        let quotas = Quotas::load(&*engine, None, Arc::new(Blobs::open(folder.path()).unwrap())).unwrap();
        let (hub, metrics, seals) = (Arc::new(Hub::default()), Metrics::new(), Seals::default());
        let (commits, _thread) = Commits::start(engine.clone(), hub, metrics, seals, quotas, None);
        let networks = Networks::of(None, std::net::Ipv4Addr::LOCALHOST.into(), None);
        let tables = TableClient::new(Vec::new(), networks).unwrap();
        let access = Access::load(engine.store_id(), tables, &*engine).unwrap();
        let (ended, _) = revocation::of(claims(engine.store_id()));
        for round in 0..200 {
            access.revoked.lock().insert(ended.clone(), Term { until: 0, before: 0 });
            std::thread::scope(|scope| {
                scope.spawn(|| access.forget_revocations(&commits).unwrap());
                scope.spawn(|| access.revoke(claims(engine.store_id()), &commits).unwrap());
            });
            assert!(access.revoked.lock().get(&ended).is_some_and(|term| term.until > 0), "round {round}");
            assert!(engine.note(&ended.key()).unwrap().is_some(), "round {round}");
        }
        access.revoked.lock().insert(ended.clone(), Term { until: 0, before: 0 });
        access.forget_revocations(&commits).unwrap();
        assert!(access.revoked.lock().is_empty() && engine.note(&ended.key()).unwrap().is_none());
    }
}
