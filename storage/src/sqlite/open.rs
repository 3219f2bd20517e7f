//! Opening: who made the file, in which format, and whether it was copied here.

use std::path::Path;

use gigfs_core::{Incarnation, StoreId};
use parking_lot::Mutex;
use rusqlite::{Connection, Error, ErrorCode, OptionalExtension as _, Transaction, TransactionBehavior, params};

use super::{BUSY_TIMEOUT, Sqlite};
use crate::engine::StorageError;
use crate::home;

/// Marks our files, "gigs" in ASCII. // persisted
const APPLICATION_ID: i64 = 0x6769_6773;
/// The schema: each part takes data of the format before to its own, which is its place in the row. // persisted
const SCHEMA: [&str; 2] = [include_str!("schema.sql"), include_str!("bases.sql")];
/// The format of the schema. // persisted
const FORMAT: i64 = SCHEMA.len() as i64;

pub(super) fn open(file: &Path) -> Result<Sqlite, StorageError> {
    let folder = home::parent(file);
    home::create_folder(folder)?;
    home::create_file(file)?;
    home::sync_folder(folder)?;
    let identity = home::identity(file)?;
    let failed = |error: Error| storage_error("open", file, &error);

    let mut connection = connect(file).map_err(failed)?;
    check(&connection, file)?;
    use_wal(&connection).map_err(failed)?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
    // Looked at again under the lock: another process may have made the file meanwhile.
    let format = check(&transaction, file)?;
    for part in SCHEMA.iter().skip(format) {
        transaction.execute_batch(part).map_err(failed)?;
    }
    if format < SCHEMA.len() {
        transaction.pragma_update(None, "user_version", FORMAT).map_err(failed)?;
    }
    if format == 0 {
        transaction.pragma_update(None, "application_id", APPLICATION_ID).map_err(failed)?;
        set(&transaction, "store", &crate::mint::<16>()?).map_err(failed)?;
        set(&transaction, "incarnation", &crate::mint::<16>()?).map_err(failed)?;
        set(&transaction, "home", &identity).map_err(failed)?;
    }
    let restored = meta(&transaction, file, "home")? != identity;
    if restored {
        tracing::warn!(file = %file.display(), "the database was copied or restored; it begins a new incarnation");
        set(&transaction, "incarnation", &crate::mint::<16>()?).map_err(failed)?;
        set(&transaction, "home", &identity).map_err(failed)?;
    }
    let store = StoreId::from_slice(&meta(&transaction, file, "store")?);
    let incarnation = Incarnation::from_slice(&meta(&transaction, file, "incarnation")?);
    transaction.commit().map_err(failed)?;
    let (Some(store), Some(incarnation)) = (store, incarnation) else {
        return Err(damaged(file, "the identity", "it has not 16 bytes"));
    };
    Ok(Sqlite {
        file: file.to_owned(),
        store,
        incarnation,
        restored,
        writer: Mutex::new(connection),
        readers: Mutex::default(),
    })
}

/// Looks at who made the file, and changes nothing. Returns its format; 0 of an empty file.
fn check(connection: &Connection, file: &Path) -> Result<usize, StorageError> {
    let read = |what: &str| {
        let value = connection.query_row(what, [], |row| row.get::<_, i64>(0));
        value.map_err(|error| storage_error("open", file, &error))
    };
    let application = read("PRAGMA application_id")?;
    let format = read("PRAGMA user_version")?;
    let tables = read("SELECT count(*) FROM sqlite_master")?;
    match (application, format) {
        (0, 0) if tables == 0 => Ok(0),
        (APPLICATION_ID, format @ 1..=FORMAT) => Ok(format as usize),
        (APPLICATION_ID, found) => Err(StorageError::UnknownFormat {
            place: file.display().to_string(),
            found: found.cast_unsigned(),
            known: FORMAT.cast_unsigned(),
        }),
        _ => Err(damaged(file, "the database", "another program made it")),
    }
}

/// Opens one connection with what every connection needs.
pub(super) fn connect(file: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(file)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

/// Turns the write-ahead log on. SQLite does not wait for other processes here, so this does.
fn use_wal(connection: &Connection) -> rusqlite::Result<()> {
    let step = std::time::Duration::from_millis(10);
    let mut waited = std::time::Duration::ZERO;
    loop {
        match connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get::<_, String>(0)) {
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) && waited < BUSY_TIMEOUT => {
                std::thread::sleep(step);
                waited += step;
            }
            result => return result.map(|_| ()),
        }
    }
}

fn meta(connection: &Connection, file: &Path, key: &str) -> Result<Vec<u8>, StorageError> {
    let value = connection.query_row("SELECT value FROM meta WHERE key = ?1", [key], |row| row.get(0)).optional();
    let value = value.map_err(|error| storage_error("open", file, &error))?;
    value.ok_or_else(|| damaged(file, "the database", "its identity is missing"))
}

fn set(transaction: &Transaction<'_>, key: &str, value: &[u8]) -> rusqlite::Result<()> {
    transaction.execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?1, ?2)", params![key, value])?;
    Ok(())
}

fn damaged(file: &Path, what: &str, why: &str) -> StorageError {
    StorageError::Damaged { place: file.display().to_string(), what: what.to_owned(), why: why.to_owned() }
}

/// Turns a failure of SQLite into ours.
pub(super) fn storage_error(action: &'static str, file: &Path, error: &Error) -> StorageError {
    let place = file.display().to_string();
    match error {
        Error::SqliteFailure(failure, _) => match failure.code {
            ErrorCode::DiskFull => StorageError::Full { place },
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => damaged(file, "the database", &error.to_string()),
            ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => StorageError::Locked { place },
            _ => StorageError::Io { action, place, why: error.to_string() },
        },
        Error::FromSqlConversionFailure(..) | Error::InvalidColumnType(..) => {
            damaged(file, "a row", &error.to_string())
        }
        // A table or column that is not there.
        Error::SqlInputError { .. } => damaged(file, "the schema", &error.to_string()),
        _ => StorageError::Io { action, place, why: error.to_string() },
    }
}
