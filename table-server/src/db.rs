//! The table's SQLite database: one connection on one thread of its own, so that no async worker waits for the disk.
//!
//! What a call decides and what it writes is one transaction, and its answer leaves only after the commit is on disk.
//! Nothing outside this file opens the database; the SQL stands with the nouns it is about.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use gigfs_core::UserName;
use gigfs_serve::files;
use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};

use crate::signal::Signals;

/// A call to the database that failed.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// SQLite or the disk below it said no.
    #[error("the table's database failed: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// The server is stopping and has closed its database.
    #[error("the table is stopping and takes no more requests")]
    Closed,
}

/// Why a database was not opened. It is left as it was.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another server has it open.
    #[error("another table server is using {path}; stop it, or give this one a data folder of its own")]
    InUse {
        /// The lock file.
        path: PathBuf,
    },
    /// It was written by a newer program.
    #[error(
        "the table database {path} has format {found} and this program knows formats up to {FORMAT}; \
         run the newer gigfs that wrote it"
    )]
    Newer {
        /// The database.
        path: PathBuf,
        /// Its format.
        found: i64,
    },
    /// It is some other program's.
    #[error("{path} is a database, but not one of a gigfs table; choose another data folder")]
    Foreign {
        /// The database.
        path: PathBuf,
    },
    /// SQLite could not open or read it.
    #[error(
        "the table database {path} cannot be opened: {source}; check the disk, or bring the file back from a backup"
    )]
    Sqlite {
        /// The database.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// The file system said no.
    #[error("{path} cannot be opened: {source}; check that its folder is there and belongs to this user")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
}

/// A handle on the database's thread.
#[derive(Clone)]
pub(crate) struct Db {
    jobs: mpsc::Sender<Job>,
}

/// The thread of a database, to be awaited after [`Db::close`].
pub(crate) struct DbThread(thread::JoinHandle<()>);

/// A transaction that may write, and who is to be woken once it is on disk.
pub(crate) struct Change<'c> {
    /// The transaction.
    pub(crate) tx: Transaction<'c>,
    changed: BTreeSet<UserName>,
    queued: bool,
}

enum Job {
    Work(Box<Work>),
    Close,
}

type Work = dyn FnOnce(&mut Connection, &Signals) + Send;

impl Db {
    /// Opens or creates the database and starts its thread. Blocks.
    pub(crate) fn open(path: &Path, signals: Arc<Signals>) -> Result<(Self, DbThread), OpenError> {
        let (mut connection, lock) = open(path)?;
        let (jobs, mut inbox) = mpsc::channel(JOBS_MAX);
        let work = move || {
            let _lock = lock;
            while let Some(Job::Work(job)) = inbox.blocking_recv() {
                job(&mut connection, &signals);
            }
        };
        let thread = thread::Builder::new().name("gigfs-table-db".to_owned()).spawn(work);
        let thread = thread.map_err(|source| OpenError::Io { path: path.to_owned(), source })?;
        Ok((Self { jobs }, DbThread(thread)))
    }

    /// Runs `work` on one consistent state of the database.
    pub(crate) async fn read<T, E>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<DatabaseError> + Send + 'static,
    {
        self.run(move |connection, _| {
            let tx = connection.transaction().map_err(DatabaseError::from)?;
            work(&tx)
        })
        .await
    }

    /// Runs `work`, commits what it wrote if it succeeded, and wakes whom it named. The commit is on disk when this
    /// returns, and happens even if the caller stops waiting.
    pub(crate) async fn write<T, E>(
        &self,
        work: impl FnOnce(&mut Change<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<DatabaseError> + Send + 'static,
    {
        self.run(move |connection, signals| {
            let tx =
                connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(DatabaseError::from)?;
            let mut change = Change { tx, changed: BTreeSet::new(), queued: false };
            let value = work(&mut change)?;
            let Change { tx, changed, queued } = change;
            tx.commit().map_err(DatabaseError::from)?;
            changed.iter().for_each(|user| signals.changed(user));
            if queued {
                signals.queued();
            }
            Ok(value)
        })
        .await
    }

    /// Closes the database after the calls that are already waiting; later ones fail with [`DatabaseError::Closed`].
    pub(crate) async fn close(&self, thread: DbThread) {
        // A thread that is gone already needs no telling.
        let _gone = self.jobs.send(Job::Close).await;
        let joined = tokio::task::spawn_blocking(move || thread.0.join()).await;
        if !matches!(joined, Ok(Ok(()))) {
            tracing::error!("the database thread ended with a panic");
        }
    }

    async fn run<T, E>(
        &self,
        work: impl FnOnce(&mut Connection, &Signals) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<DatabaseError> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let job = Job::Work(Box::new(move |connection, signals| {
            // A caller that stopped waiting does not undo the work.
            let _unheard = reply.send(work(connection, signals));
        }));
        self.jobs.send(job).await.map_err(|_| DatabaseError::Closed)?;
        answer.await.map_err(|_| DatabaseError::Closed)?
    }
}

impl Change<'_> {
    /// Wakes the user's streams after the commit.
    pub(crate) fn changed(&mut self, user: &UserName) {
        self.changed.insert(user.clone());
    }

    /// Wakes the revoker after the commit.
    pub(crate) fn queued(&mut self) {
        self.queued = true;
    }
}

/// Locks the folder's database, opens it, and brings it to the present format.
fn open(path: &Path) -> Result<(Connection, File), OpenError> {
    let lock_path = path.with_extension("lock");
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| OpenError::Io { path, source }
    };
    let lock = files::open_private(&lock_path).map_err(io(&lock_path))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(std::fs::TryLockError::WouldBlock) => return Err(OpenError::InUse { path: lock_path }),
        Err(std::fs::TryLockError::Error(source)) => return Err(OpenError::Io { path: lock_path, source }),
    }
    // SQLite gives its journal the permissions that the database has.
    files::open_private(path).map_err(io(path))?;
    let sqlite = |source| OpenError::Sqlite { path: path.to_owned(), source };
    let mut connection = Connection::open(path).map_err(sqlite)?;
    check_format(path, &connection)?;
    connection
        .execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;")
        .map_err(sqlite)?;
    bring_to_format(&mut connection).map_err(sqlite)?;
    Ok((connection, lock))
}

/// Refuses what this program did not write or cannot read. Writes nothing.
fn check_format(path: &Path, connection: &Connection) -> Result<(), OpenError> {
    let sqlite = |source| OpenError::Sqlite { path: path.to_owned(), source };
    let number = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).map_err(sqlite);
    let application = number("PRAGMA application_id")?;
    let format = number("PRAGMA user_version")?;
    let objects = number("SELECT count(*) FROM sqlite_schema")?;
    match (application, format, objects) {
        (0, 0, 0) | (APPLICATION_ID, 1..=FORMAT, _) => Ok(()),
        (APPLICATION_ID, found, _) if found > FORMAT => Err(OpenError::Newer { path: path.to_owned(), found }),
        _ => Err(OpenError::Foreign { path: path.to_owned() }),
    }
}

/// Takes the database through the formats that it has not seen yet, all of them or none.
fn bring_to_format(connection: &mut Connection) -> rusqlite::Result<()> {
    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let format: usize = tx.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    for step in FORMATS.iter().skip(format) {
        tx.execute_batch(step)?;
    }
    if format < FORMATS.len() {
        tx.pragma_update(None, "application_id", APPLICATION_ID)?;
        tx.pragma_update(None, "user_version", FORMAT)?;
    }
    tx.commit()
}

/// "gigT": marks the file as a table's. Persisted.
const APPLICATION_ID: i64 = 0x6769_6754;
/// The steps from each format to the next; the first begins with nothing. Persisted.
const FORMATS: [&str; 4] = [
    include_str!("schema/1.sql"),
    include_str!("schema/2.sql"),
    include_str!("schema/3.sql"),
    include_str!("schema/4.sql"),
];
/// The present format: the number of steps. Persisted.
const FORMAT: i64 = 4;
/// Calls that wait for the thread at a time; more wait at the door.
const JOBS_MAX: usize = 1024;

/// Reads a column that holds a name.
pub(crate) fn name<T>(row: &rusqlite::Row<'_>, column: &str) -> rusqlite::Result<T>
where
    T: std::str::FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    let text = row.get_ref(column)?.as_str()?;
    text.parse()
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn a_change_is_made_and_told_even_if_its_caller_stops_waiting() {
        let dir = tempfile::tempdir().unwrap();
        let signals = Arc::new(Signals::default());
        let (db, thread) = Db::open(&dir.path().join("table.db"), signals.clone()).unwrap();
        let ann = UserName::parse("ann").unwrap();
        let mut watch = signals.watch(&ann).unwrap();
        let change = db.write(move |change| {
            let sql = "INSERT INTO users (name, salt, memory_kib, passes, verifier) VALUES ('ann', x'', 8, 1, x'')";
            change.tx.execute(sql, [])?;
            change.changed(&ann);
            Ok::<_, DatabaseError>(())
        });
        // Handed over at the first poll, and then dropped.
        let _dropped = change.now_or_never();
        tokio::time::timeout(Duration::from_secs(20), watch.changed()).await.unwrap();
        let count = |tx: &Transaction<'_>| Ok(tx.query_row("SELECT count(*) FROM users", [], |row| row.get(0))?);
        let users: i64 = db.read::<_, DatabaseError>(count).await.unwrap();
        assert_eq!(users, 1);
        db.close(thread).await;
        assert!(matches!(db.read::<_, DatabaseError>(count).await, Err(DatabaseError::Closed)));
    }

    #[tokio::test]
    async fn a_change_that_fails_leaves_nothing_behind_and_wakes_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let signals = Arc::new(Signals::default());
        let (db, thread) = Db::open(&dir.path().join("table.db"), signals.clone()).unwrap();
        let ann = UserName::parse("ann").unwrap();
        let mut watch = signals.watch(&ann).unwrap();
        let failed = db.write(move |change| {
            let sql = "INSERT INTO users (name, salt, memory_kib, passes, verifier) VALUES ('ann', x'', 8, 1, x'')";
            change.tx.execute(sql, [])?;
            change.changed(&ann);
            Err::<(), _>(DatabaseError::Closed)
        });
        assert!(failed.await.is_err());
        let count = |tx: &Transaction<'_>| Ok(tx.query_row("SELECT count(*) FROM users", [], |row| row.get(0))?);
        assert_eq!(db.read::<i64, DatabaseError>(count).await.unwrap(), 0);
        assert!(watch.changed().now_or_never().is_none());
        db.close(thread).await;
    }
}
