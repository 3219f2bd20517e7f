//! Rows to values and back. What a row should not hold becomes an error, never a panic.

use bytes::Bytes;
use gigfs_core::api::{BaseHeader, LogHeader};
use gigfs_core::{Base, BaseId, ChannelName, Date, Digest, LogName, Path, Seq, Sha, TypeName, UserName};
use rusqlite::types::{Type, ValueRef};
use rusqlite::{Connection, Error, OptionalExtension as _, Row, params};

use crate::engine::{LogTail, StoredOp};

/// The columns that [`tail`] reads.
macro_rules! tail_columns {
    () => {
        "last_index, bytes, count, xor, max_date, stamped, heads, base_generation, base_sha, base_bytes, \
         covered_count, covered_xor, complete, disputed, retained_bytes"
    };
}

/// The logs of a channel from a bound on; its columns are those that [`named`] reads.
pub(super) const LIST: &str = concat!(
    "SELECT type, path, ",
    tail_columns!(),
    " FROM logs WHERE channel = ?1 AND (type, path) >= (?2, ?3) ORDER BY type, path"
);

/// Converts to what SQLite holds; nothing here comes near 2^63.
pub(super) fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub(super) fn unsigned(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    u64::try_from(row.get::<_, i64>(column)?).map_err(|_| unfit(column, Type::Integer, "a negative number"))
}

pub(super) fn sha(row: &Row<'_>, column: usize) -> rusqlite::Result<Sha> {
    Sha::from_slice(row.get_ref(column)?.as_blob()?).ok_or_else(|| unfit(column, Type::Blob, "not a sha"))
}

/// Reads index, sha and record from `column` on.
pub(super) fn stored(row: &Row<'_>, column: usize) -> rusqlite::Result<StoredOp> {
    let record = Bytes::copy_from_slice(row.get_ref(column + 2)?.as_blob()?);
    Ok(StoredOp { index: unsigned(row, column)?, sha: sha(row, column + 1)?, record })
}

/// Reads type and path from `column` on.
pub(super) fn log_name(
    row: &Row<'_>,
    column: usize,
    user: &UserName,
    channel: &ChannelName,
) -> rusqlite::Result<LogName> {
    let kind = TypeName::parse(row.get_ref(column)?.as_str()?).map_err(|_| unfit(column, Type::Text, "not a type"))?;
    let path = row.get_ref(column + 1)?.as_str()?;
    let path = Path::parse(path).map_err(|_| unfit(column + 1, Type::Text, "not a path"))?;
    Ok(LogName { user: user.clone(), channel: channel.clone(), kind, path })
}

/// Reads a row of [`LIST`].
pub(super) fn named(row: &Row<'_>, user: &UserName, channel: &ChannelName) -> rusqlite::Result<(LogName, LogTail)> {
    Ok((log_name(row, 0, user, channel)?, tail(row, 2)?))
}

fn tail(row: &Row<'_>, column: usize) -> rusqlite::Result<LogTail> {
    let digest = Digest { count: unsigned(row, column + 2)?, xor: *sha(row, column + 3)?.as_bytes() };
    let base = base_header(row, column + 7)?;
    let header = LogHeader { base, digest, last_index: unsigned(row, column)?, bytes: unsigned(row, column + 1)? };
    let max_date =
        Date::from_micros(unsigned(row, column + 4)?).ok_or_else(|| unfit(column + 4, Type::Integer, "not a date"))?;
    let heads = row.get_ref(column + 6)?.as_blob()?.chunks(32).map(Sha::from_slice).collect::<Option<_>>();
    let heads = heads.ok_or_else(|| unfit(column + 6, Type::Blob, "not shas"))?;
    Ok(LogTail { header, max_date, heads, stamped: unsigned(row, column + 5)? })
}

fn base_header(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<BaseHeader>> {
    if row.get_ref(column)? == ValueRef::Null {
        return Ok(None);
    }
    let generation =
        Seq::new(unsigned(row, column)?).ok_or_else(|| unfit(column, Type::Integer, "not a generation"))?;
    let covered = Digest { count: unsigned(row, column + 3)?, xor: *sha(row, column + 4)?.as_bytes() };
    Ok(Some(BaseHeader {
        id: BaseId { generation, sha: sha(row, column + 1)? },
        covered,
        complete: row.get(column + 5)?,
        disputed: row.get(column + 6)?,
        bytes: unsigned(row, column + 2)?,
        retained_bytes: unsigned(row, column + 7)?,
    }))
}

/// Reads sha, certificate and record.
pub(super) fn base(row: &Row<'_>) -> rusqlite::Result<Base> {
    let record = Bytes::copy_from_slice(row.get_ref(2)?.as_blob()?);
    Ok(Base { sha: sha(row, 0)?, certificate: row.get(1)?, record })
}

/// Returns the base that a log stands on, whose tail says that there is one.
pub(super) fn own_base(view: &Connection, log: i64, id: &BaseId) -> rusqlite::Result<Base> {
    let mut query = view
        .prepare_cached("SELECT sha, certificate, record FROM bases WHERE log = ?1 AND generation = ?2 AND sha = ?3")?;
    let found = query.query_row(params![log, number(id.generation.get()), id.sha.as_bytes()], base).optional()?;
    found.ok_or_else(|| damaged(2, "the base of a log is missing"))
}

/// Tells whether an operation is known to be covered.
pub(super) fn is_covered(view: &Connection, log: i64, sha: &Sha) -> rusqlite::Result<bool> {
    view.prepare_cached("SELECT 1 FROM covered WHERE log = ?1 AND sha = ?2")?.exists(params![log, sha.as_bytes()])
}

/// Returns a channel's row and its position.
pub(super) fn channel(
    view: &Connection,
    user: &UserName,
    channel: &ChannelName,
) -> rusqlite::Result<Option<(i64, u64)>> {
    let mut query = view.prepare_cached("SELECT id, position FROM channels WHERE user = ?1 AND channel = ?2")?;
    query.query_row(params![user.as_str(), channel.as_str()], |row| Ok((row.get(0)?, unsigned(row, 1)?))).optional()
}

/// Returns a log's row and its tail.
pub(super) fn log(view: &Connection, log: &LogName) -> rusqlite::Result<Option<(i64, LogTail)>> {
    let Some((channel, _)) = channel(view, &log.user, &log.channel)? else { return Ok(None) };
    let mut query = view.prepare_cached(concat!(
        "SELECT id, ",
        tail_columns!(),
        " FROM logs WHERE channel = ?1 AND type = ?2 AND path = ?3"
    ))?;
    query
        .query_row(params![channel, log.kind.as_str(), log.path.as_str()], |row| Ok((row.get(0)?, tail(row, 1)?)))
        .optional()
}

/// Returns the bytes that a user has here.
pub(super) fn usage(view: &Connection, user: &UserName) -> rusqlite::Result<u64> {
    let mut query = view.prepare_cached("SELECT bytes FROM users WHERE user = ?1")?;
    Ok(query.query_row([user.as_str()], |row| unsigned(row, 0)).optional()?.unwrap_or(0))
}

/// Reports a blob that is not what it should be.
pub(super) fn damaged(column: usize, why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::FromSqlConversionFailure(column, Type::Blob, why.into())
}

fn unfit(column: usize, kind: Type, why: &str) -> Error {
    Error::FromSqlConversionFailure(column, kind, why.into())
}
