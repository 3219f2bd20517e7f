//! Users: their names, how their passwords become masters, and the proof of a master.
//!
//! A table never sees a password and keeps no master, only its hash. Whether a user exists is not told to those who
//! cannot prove it: an unknown user has parameters like any other, and fails the proof like a wrong master.

use std::net::IpAddr;

use gigfs_core::UserName;
use gigfs_core::api::{NewMaster, PasswordParams};
use gigfs_serve::{Event, TooManyAttempts};
use rusqlite::{OptionalExtension as _, Transaction, params};

use crate::db::{Change, DatabaseError};
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
        let name = user.clone();
        let decoy = PasswordParams {
            salt: self.inner.identity.decoy_salt(user),
            memory_kib: PasswordParams::MEMORY_KIB_DEFAULT,
            passes: PasswordParams::PASSES_DEFAULT,
        };
        self.inner.db.read(move |tx| Ok(stored_params(tx, &name)?.unwrap_or(decoy))).await
    }

    /// Replaces the master and ends every session of the user.
    pub(crate) async fn replace_master(
        &self,
        user: &UserName,
        old: Vec<u8>,
        new: NewMaster,
        address: IpAddr,
    ) -> Result<(), ReplaceMasterError> {
        check(&new)?;
        let attempts = &self.inner.attempts;
        let attempt = attempts.begin(Some(user), address, attempts.now())?;
        let name = user;
        let user = user.clone();
        let token_seconds_max = self.inner.identity.token_seconds_max;
        let replaced = self
            .inner
            .db
            .write(move |change| {
                let key = prove(&change.tx, &user, &old)?.ok_or(ReplaceMasterError::Unauthorized)?;
                let now = clock::now();
                update(&change.tx, key, &new)?;
                revocation::enqueue(change, key, revocation::Scope::User, now + token_seconds_max, now)?;
                session::revoke_all(&change.tx, key, now)?;
                change.changed(&user);
                Ok(())
            })
            .await;
        match &replaced {
            Ok(()) => {
                attempt.was_right(attempts.now());
                self.inner.audit.note(Event::MasterReplaced { user: name, from: address });
            }
            Err(ReplaceMasterError::Unauthorized) => {
                drop(attempt);
                self.note_failed(name, address).await;
            }
            Err(_) => attempt.take_back(),
        }
        replaced
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
