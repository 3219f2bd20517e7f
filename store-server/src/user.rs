//! The users of the store, and the table that speaks for each. On disk as notes of the engine, and all in memory.
//!
//! A user comes by the store's owner, and a table by a confirmation code that the owner gives to the user. A user has one
//! table: a code brings a first one or tells where the same one is now, and never puts another in its place.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use gigfs_core::api::Confirm;
use gigfs_core::token::ConfirmClaims;
use gigfs_core::{ErrorCode, Refusal, UserName};
use gigfs_serve::fetch::server_url;
use gigfs_storage::{Engine, StorageError};
use jsonwebtoken::DecodingKey;
use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};

use crate::clock;
use crate::commit::{Commits, Notes};

/// All users.
pub(crate) struct Users {
    by_name: RwLock<BTreeMap<UserName, Option<Arc<Table>>>>,
    /// Codes that were used, and when each runs out. Held through a change, on a thread that may block.
    codes: Mutex<BTreeMap<String, u64>>,
}

/// A table that a user brought.
pub(crate) struct Table {
    pub(crate) record: TableRecord,
    pub(crate) key: DecodingKey,
}

/// What is kept of a table. // persisted
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TableRecord {
    pub(crate) id: String,
    /// Without a slash at its end.
    pub(crate) url: String,
    /// Ed25519, PEM.
    key: String,
}

/// What is kept of a user. // persisted
#[derive(Serialize, Deserialize)]
struct UserRecord {
    table: Option<TableRecord>,
}

impl Table {
    fn open(record: TableRecord) -> Result<Self, String> {
        let key = DecodingKey::from_ed_pem(record.key.as_bytes());
        let key = key.map_err(|_| "the table's key is not an Ed25519 public key in PEM".to_owned())?;
        Ok(Self { record, key })
    }

    /// Reads what a table says of itself.
    pub(crate) fn introduce(confirm: Confirm) -> Result<Self, Refusal> {
        let bad = |what: String| Refusal::new(ErrorCode::BadRequest, what);
        let url = server_url(&confirm.table_url).map_err(|reason| bad(format!("the table's url {reason}")))?;
        if confirm.table_id.is_empty() || confirm.table_id.len() > TABLE_ID_BYTES_MAX {
            return Err(bad(format!("the table's id must have from 1 to {TABLE_ID_BYTES_MAX} bytes")));
        }
        Self::open(TableRecord { id: confirm.table_id, url, key: confirm.table_key }).map_err(bad)
    }
}

impl Users {
    /// Reads all users.
    pub(crate) fn load(engine: &dyn Engine) -> Result<Self, StorageError> {
        let mut by_name = BTreeMap::new();
        for (key, value) in engine.notes(USER)? {
            let name = str::from_utf8(&key[USER.len()..]).ok().and_then(|name| UserName::parse(name).ok());
            let record = serde_json::from_slice::<UserRecord>(&value).map_err(|error| error.to_string());
            let table = record.and_then(|record| record.table.map(Table::open).transpose());
            match (name, table) {
                (Some(name), Ok(table)) => drop(by_name.insert(name, table.map(Arc::new))),
                (name, table) => {
                    let why = table.err().unwrap_or_else(|| "its name is none".to_owned());
                    tracing::error!(?name, why, "a user cannot be read and is left out");
                }
            }
        }
        let mut codes = BTreeMap::new();
        for (key, value) in engine.notes(CODE)? {
            let until = <[u8; 8]>::try_from(&value[..]).map_or(0, u64::from_be_bytes);
            codes.insert(String::from_utf8_lossy(&key[CODE.len()..]).into_owned(), until);
        }
        Ok(Self { by_name: RwLock::new(by_name), codes: Mutex::new(codes) })
    }

    /// Tells whether there is this user.
    pub(crate) fn exists(&self, user: &UserName) -> bool {
        self.by_name.read().contains_key(user)
    }

    /// Returns the user's table, if one was confirmed.
    pub(crate) fn table(&self, user: &UserName) -> Option<Arc<Table>> {
        self.by_name.read().get(user).cloned().flatten()
    }

    /// Makes a user; one that is there stays as it is. Returns whether there is a new one. Blocks the thread.
    pub(crate) fn create(&self, user: &UserName, commits: &Commits) -> Result<bool, Refusal> {
        let _changing = self.codes.lock();
        if self.exists(user) {
            return Ok(false);
        }
        commits.notes(vec![user_note(user, None)])?;
        self.by_name.write().insert(user.clone(), None);
        Ok(true)
    }

    /// Gives a user a table, by a code whose signature was verified. Blocks the thread.
    pub(crate) fn confirm(&self, code: &ConfirmClaims, table: Table, commits: &Commits) -> Result<(), Refusal> {
        let user = &code.sub;
        let mut codes = self.codes.lock();
        if codes.contains_key(&code.jti) {
            return Err(Refusal::new(ErrorCode::Forbidden, "the confirmation code was used before")
                .hint("ask the store's owner for a new one"));
        }
        if !self.exists(user) {
            return Err(unknown(user));
        }
        if let Some(before) = self.table(user) {
            let conflict = |what: &str| {
                Refusal::new(ErrorCode::Conflict, format!("the user {user} of this store is with {what}"))
                    .hint("use another user name at this store, or the table that it is with")
            };
            if before.record.id != table.record.id {
                return Err(conflict("another table"));
            }
            if before.record.key != table.record.key {
                return Err(conflict("a table of that id and another key"));
            }
        }
        let now = clock::seconds();
        let old = codes.iter().filter(|(_, until)| **until <= now).map(|(jti, _)| (code_key(jti), None));
        let mut notes: Notes = old.collect();
        notes.push((code_key(&code.jti), Some(Bytes::copy_from_slice(&code.exp.to_be_bytes()))));
        notes.push(user_note(user, Some(&table.record)));
        commits.notes(notes)?;
        codes.retain(|_, until| *until > now);
        codes.insert(code.jti.clone(), code.exp);
        self.by_name.write().insert(user.clone(), Some(Arc::new(table)));
        Ok(())
    }
}

/// Says that there is no such user.
pub(crate) fn unknown(user: &UserName) -> Refusal {
    Refusal::new(ErrorCode::UnknownUser, format!("this store has no user {user}"))
        .hint("ask the store's owner for one (PUT /admin/user/:user)")
}

fn user_note(user: &UserName, table: Option<&TableRecord>) -> (Bytes, Option<Bytes>) {
    let record = serde_json::to_vec(&UserRecord { table: table.cloned() }).expect("a record is plain JSON");
    ([USER, user.as_str().as_bytes()].concat().into(), Some(record.into()))
}

fn code_key(jti: &str) -> Bytes {
    [CODE, jti.as_bytes()].concat().into()
}

/// Begins the keys of the users' notes. // persisted
pub(crate) const USER: &[u8] = b"user/";
/// Begins the keys of used codes' notes. // persisted
const CODE: &[u8] = b"code/";
const TABLE_ID_BYTES_MAX: usize = 256;
