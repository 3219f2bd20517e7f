//! Users: their names, how their passwords become masters, and the proof of a master.
//!
//! A table never sees a password and keeps no master, only its hash. Whether a user exists is not told to those who
//! cannot prove it: an unknown user has parameters like any other, and fails the proof like a wrong master.

use std::net::IpAddr;

use gigfs_core::UserName;
use gigfs_core::api::{NewMaster, PasswordParams, ReplaceMaster};
use gigfs_serve::{Attempt, Event, TooManyAttempts};
use rusqlite::{OptionalExtension as _, Transaction, params};
use tokio::time::Instant;

use crate::db::{Change, DatabaseError};
use crate::keyring::{self, PutKeyringError, Revision};
use crate::secret::Verifier;
use crate::table::Table;
use crate::{clock, revocation, session};

/// A user's key in the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct UserKey(pub(crate) i64);

/// A master, or the parameters it was made with, that a table does not take.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MasterError {
    /// The master has the wrong length.
    #[error("a master must have {max} bytes; this one has {bytes}", max = PasswordParams::MASTER_BYTES)]
    Master {
        /// Its length in bytes.
        bytes: usize,
    },
    /// The salt has the wrong length.
    #[error("a salt must have {max} bytes; this one has {bytes}", max = PasswordParams::SALT_BYTES)]
    Salt {
        /// Its length in bytes.
        bytes: usize,
    },
    /// Argon2id would not run with this memory, or no client could afford it.
    #[error("memory_kib must be from {MEMORY_KIB_MIN} to {MEMORY_KIB_MAX}; it is {memory_kib}")]
    Memory {
        /// The memory in KiB.
        memory_kib: u32,
    },
    /// Argon2id would not run with so many passes, or no client could afford it.
    #[error("passes must be from 1 to {PASSES_MAX}; they are {passes}")]
    Passes {
        /// The passes.
        passes: u32,
    },
}

/// Why a user was not created.
#[derive(Debug, thiserror::Error)]
pub enum CreateUserError {
    /// There is one of this name.
    #[error("the user {user} is there already")]
    Exists {
        /// The name.
        user: UserName,
    },
    /// The master cannot be taken.
    #[error(transparent)]
    Master(#[from] MasterError),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

/// Why a master was not replaced.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReplaceMasterError {
    /// The old master is not this user's.
    #[error("{WRONG_MASTER}")]
    Unauthorized,
    /// Too many have failed to prove that they are this user, or from this address.
    #[error(transparent)]
    TooManyAttempts(#[from] TooManyAttempts),
    /// The new master cannot be taken.
    #[error(transparent)]
    Master(#[from] MasterError),
    /// The keyring that came with it cannot be taken.
    #[error(transparent)]
    Keyring(#[from] PutKeyringError),
    /// No keyring came with it, and the one that is kept would not open with the new password.
    #[error("the keyring of {user} is at revision {kept}, and the next one did not come with the new master")]
    KeyringMissing {
        /// The user.
        user: UserName,
        /// The revision that is kept.
        kept: u64,
    },
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

/// Why the admin did not give a user another master.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ResetMasterError {
    /// There is no such user.
    #[error("this table has no user {user}")]
    UnknownUser {
        /// The name.
        user: UserName,
    },
    /// The new master cannot be taken.
    #[error(transparent)]
    Master(#[from] MasterError),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

impl Table {
    /// Creates a user.
    ///
    /// # Errors
    /// [`CreateUserError::Exists`] if the name is taken; nothing is changed then.
    pub async fn create_user(&self, user: &UserName, new: NewMaster) -> Result<(), CreateUserError> {
        check(&new)?;
        let name = user.clone();
        let insert = move |change: &mut Change<'_>| match insert(&change.tx, &name, &new)? {
            true => Ok(()),
            false => Err(CreateUserError::Exists { user: name }),
        };
        self.inner.db.write(insert).await?;
        self.inner.audit.note(Event::UserCreated { user });
        Ok(())
    }

    /// Tells how a user's password becomes the master. Unknown users have parameters too.
    pub(crate) async fn password_params(&self, user: &UserName) -> Result<PasswordParams, DatabaseError> {
        let began = Instant::now();
        let name = user.clone();
        let decoy = PasswordParams {
            salt: self.inner.identity.decoy_salt(user),
            memory_kib: PasswordParams::MEMORY_KIB_DEFAULT,
            passes: PasswordParams::PASSES_DEFAULT,
        };
        let params = self.inner.db.read(move |tx| Ok(stored_params(tx, &name)?.unwrap_or(decoy))).await;
        clock::even(began).await;
        params
    }

    /// Refuses whoever does not prove a user's master. Where it is proved, the attempt is still under way.
    pub(crate) async fn check_master(
        &self,
        user: &UserName,
        master: &[u8],
        address: IpAddr,
    ) -> Result<Attempt, ReplaceMasterError> {
        let began = Instant::now();
        let attempts = &self.inner.attempts;
        let attempt = attempts.begin(Some(user), address, attempts.now())?;
        let (name, master) = (user.clone(), master.to_vec());
        match self.inner.db.read(move |tx| prove(tx, &name, &master)).await {
            Ok(Some(_)) => Ok(attempt),
            Ok(None) => {
                drop(attempt);
                self.note_failed(user, address).await;
                clock::even(began).await;
                Err(ReplaceMasterError::Unauthorized)
            }
            Err(error) => {
                attempt.take_back();
                Err(error.into())
            }
        }
    }

    /// Replaces the master and the keyring that goes with it, and ends every session of the user. `attempt` is the one of
    /// [`Table::check_master`]; the master is proved once more in the transaction that replaces it.
    pub(crate) async fn replace_master(
        &self,
        user: &UserName,
        old: Vec<u8>,
        new: ReplaceMaster,
        address: IpAddr,
        attempt: Attempt,
    ) -> Result<(), ReplaceMasterError> {
        let (replaced, revision) = self.try_replace_master(user, old, new).await;
        let attempts = &self.inner.attempts;
        match &replaced {
            Ok(()) => {
                attempt.was_right(attempts.now());
                self.inner.audit.note(Event::MasterReplaced { user, revision, from: address });
            }
            Err(ReplaceMasterError::Unauthorized) => {
                drop(attempt);
                self.note_failed(user, address).await;
            }
            Err(_) => attempt.take_back(),
        }
        replaced
    }

    /// Returns what became of it, and the revision of the keyring that came with it.
    async fn try_replace_master(
        &self,
        user: &UserName,
        old: Vec<u8>,
        new: ReplaceMaster,
    ) -> (Result<(), ReplaceMasterError>, Option<u64>) {
        let ReplaceMaster { new, keyring } = new;
        let next = check(&new).map_err(ReplaceMasterError::from).and_then(|()| {
            let next = keyring.map(Revision::try_from).transpose();
            next.map_err(|error| PutKeyringError::from(error).into())
        });
        let next = match next {
            Ok(next) => next,
            Err(error) => return (Err(error), None),
        };
        let revision = next.as_ref().map(|next| next.number);
        let user = user.clone();
        let token_seconds_max = self.inner.identity.token_seconds_max;
        let replaced = self.inner.db.write(move |change| {
            let key = prove(&change.tx, &user, &old)?.ok_or(ReplaceMasterError::Unauthorized)?;
            match (next, keyring::kept(&change.tx, key)?) {
                (Some(next), _) => keyring::replace(&change.tx, &user, key, &next)?,
                (None, 0) => {}
                (None, kept) => return Err(ReplaceMasterError::KeyringMissing { user, kept }),
            }
            Ok(put_master(change, &user, key, &new, token_seconds_max)?)
        });
        (replaced.await, revision)
    }

    /// Gives a user another master without the old one, and ends every session. The keyring stays as it is.
    pub(crate) async fn reset_master(
        &self,
        user: &UserName,
        new: NewMaster,
        address: IpAddr,
    ) -> Result<(), ResetMasterError> {
        check(&new)?;
        let name = user.clone();
        let token_seconds_max = self.inner.identity.token_seconds_max;
        self.inner
            .db
            .write(move |change| match find(&change.tx, &name)? {
                Some(key) => Ok(put_master(change, &name, key, &new, token_seconds_max)?),
                None => Err(ResetMasterError::UnknownUser { user: name }),
            })
            .await?;
        self.inner.audit.note(Event::MasterReset { user, from: address });
        Ok(())
    }
}

impl Table {
    /// Writes down that somebody did not prove a master.
    pub(crate) async fn note_failed(&self, user: &UserName, from: IpAddr) {
        let name = user.clone();
        // A name that nobody has may be a password in the wrong place.
        let is_one = self.inner.db.read::<_, DatabaseError>(move |tx| Ok(find(tx, &name)?.is_some())).await;
        let user = is_one.unwrap_or(false).then_some(user);
        self.inner.audit.note(Event::LoginFailed { user, from });
    }
}

/// Finds a user.
pub(crate) fn find(tx: &Transaction<'_>, user: &UserName) -> Result<Option<UserKey>, DatabaseError> {
    Ok(tx
        .prepare_cached("SELECT id FROM users WHERE name = ?1")?
        .query_row([user.as_str()], |row| row.get(0).map(UserKey))
        .optional()?)
}

/// Checks a master, with the same work whether or not there is such a user.
///
/// Every proof of a master passes here, inside the transaction of what it allows, and has been let through by
/// `gigfs_serve::Attempts` before.
pub(crate) fn prove(tx: &Transaction<'_>, user: &UserName, master: &[u8]) -> Result<Option<UserKey>, DatabaseError> {
    let found = tx
        .prepare_cached("SELECT id, verifier FROM users WHERE name = ?1")?
        .query_row([user.as_str()], |row| Ok((UserKey(row.get(0)?), Verifier::from_bytes(row.get(1)?))))
        .optional()?;
    let (key, verifier) = match found {
        Some((key, verifier)) => (Some(key), verifier),
        None => (None, Verifier::from_bytes([0; 32])),
    };
    Ok(if verifier.matches(master) { key } else { None })
}

/// Returns the epoch of the user's mount table.
pub(crate) fn epoch(tx: &Transaction<'_>, user: UserKey) -> Result<u64, DatabaseError> {
    Ok(tx.prepare_cached("SELECT epoch FROM users WHERE id = ?1")?.query_row([user.0], |row| row.get(0))?)
}

/// Moves the epoch of the user's mount table on by one and returns the new one.
pub(crate) fn next_epoch(tx: &Transaction<'_>, user: UserKey) -> Result<u64, DatabaseError> {
    let sql = "UPDATE users SET epoch = epoch + 1 WHERE id = ?1 RETURNING epoch";
    Ok(tx.prepare_cached(sql)?.query_row([user.0], |row| row.get(0))?)
}

fn check(new: &NewMaster) -> Result<(), MasterError> {
    let PasswordParams { salt, memory_kib, passes } = &new.password;
    if new.master.len() != PasswordParams::MASTER_BYTES {
        return Err(MasterError::Master { bytes: new.master.len() });
    }
    if salt.len() != PasswordParams::SALT_BYTES {
        return Err(MasterError::Salt { bytes: salt.len() });
    }
    if !(MEMORY_KIB_MIN..=MEMORY_KIB_MAX).contains(memory_kib) {
        return Err(MasterError::Memory { memory_kib: *memory_kib });
    }
    if !(1..=PASSES_MAX).contains(passes) {
        return Err(MasterError::Passes { passes: *passes });
    }
    Ok(())
}

fn insert(tx: &Transaction<'_>, user: &UserName, new: &NewMaster) -> Result<bool, DatabaseError> {
    let PasswordParams { salt, memory_kib, passes } = &new.password;
    let sql = "INSERT INTO users (name, salt, memory_kib, passes, verifier) VALUES (?1, ?2, ?3, ?4, ?5)
               ON CONFLICT (name) DO NOTHING";
    let verifier = Verifier::of(&new.master);
    Ok(tx.execute(sql, params![user.as_str(), salt, memory_kib, passes, verifier.as_bytes()])? == 1)
}

/// Puts a master in the place of the old one, and ends what the old one opened.
fn put_master(
    change: &mut Change<'_>,
    user: &UserName,
    key: UserKey,
    new: &NewMaster,
    token_seconds_max: u64,
) -> Result<(), DatabaseError> {
    let now = clock::now();
    update(&change.tx, key, new)?;
    revocation::enqueue(change, key, revocation::Scope::User, now + token_seconds_max, now)?;
    session::revoke_all(&change.tx, key, now)?;
    change.changed(user);
    Ok(())
}

fn update(tx: &Transaction<'_>, user: UserKey, new: &NewMaster) -> Result<(), DatabaseError> {
    let PasswordParams { salt, memory_kib, passes } = &new.password;
    let sql = "UPDATE users SET salt = ?2, memory_kib = ?3, passes = ?4, verifier = ?5 WHERE id = ?1";
    tx.execute(sql, params![user.0, salt, memory_kib, passes, Verifier::of(&new.master).as_bytes()])?;
    Ok(())
}

fn stored_params(tx: &Transaction<'_>, user: &UserName) -> Result<Option<PasswordParams>, DatabaseError> {
    Ok(tx
        .prepare_cached("SELECT salt, memory_kib, passes FROM users WHERE name = ?1")?
        .query_row([user.as_str()], |row| {
            Ok(PasswordParams { salt: row.get(0)?, memory_kib: row.get(1)?, passes: row.get(2)? })
        })
        .optional()?)
}

/// What is said when a master does not prove its user, whatever the reason.
pub(crate) const WRONG_MASTER: &str = "the user name or the password is wrong";

/// The least memory that Argon2id takes, in KiB.
const MEMORY_KIB_MIN: u32 = 8;
/// The most memory that a client may ask of the user's other devices, in KiB.
const MEMORY_KIB_MAX: u32 = 4 * 1024 * 1024;
/// The most passes.
const PASSES_MAX: u32 = 100;

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use rusqlite::Connection;

    use super::*;

    /// The master is long here, so that its hash takes most of the time: whoever left it out for a name that nobody has
    /// would be many times faster.
    #[test]
    fn proving_an_unknown_user_takes_as_long_as_a_wrong_master() {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(include_str!("schema/1.sql")).unwrap();
        let tx = connection.transaction().unwrap();
        let password = PasswordParams { salt: vec![7; 16], memory_kib: 64 * 1024, passes: 3 };
        let [ann, nobody] = ["ann", "nobody"].map(|name| UserName::parse(name).unwrap());
        assert!(insert(&tx, &ann, &NewMaster { password, master: vec![1; 32] }).unwrap());
        let wrong = vec![9; 256 * 1024];
        let mut took = [Vec::new(), Vec::new()];
        for _ in 0..51 {
            for (name, took) in [&ann, &nobody].into_iter().zip(&mut took) {
                let began = Instant::now();
                assert_eq!(prove(&tx, name, &wrong).unwrap(), None);
                took.push(began.elapsed());
            }
        }
        let [of_ann, of_nobody] = took.map(|mut took| {
            took.sort_unstable();
            took[took.len() / 2].as_secs_f64()
        });
        let ratio = of_ann / of_nobody;
        assert!((0.5..2.0).contains(&ratio), "{of_ann} s for a user, {of_nobody} s for nobody");
        assert_eq!(prove(&tx, &ann, &[1; 32]).unwrap(), Some(UserKey(1)));
    }
}
