//! The decoders of rows, for whoever tries them with arbitrary cells.

use std::cell::RefCell;

use gigfs_core::{ChannelName, UserName};
use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use super::row;

/// A cell as SQLite holds it. A text need not be UTF-8.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// Nothing.
    Null,
    /// A number.
    Integer(i64),
    /// A float.
    Real(f64),
    /// A text.
    Text(Vec<u8>),
    /// Bytes.
    Blob(Vec<u8>),
}

/// What a row is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SqliteRow {
    /// A log with its tail.
    Named,
    /// A record with its index and its sha.
    Stored,
    /// A base.
    Base,
}

/// Reads a row of these cells and shows what came out; nothing if it is damaged.
pub fn sqlite(what: SqliteRow, cells: &[Cell]) -> Option<String> {
    thread_local!(static MEMORY: RefCell<Option<Connection>> = const { RefCell::new(None) });
    if cells.is_empty() {
        return None;
    }
    let columns: Vec<_> =
        cells.iter().map(|cell| if matches!(cell, Cell::Text(_)) { "CAST(? AS TEXT)" } else { "?" }).collect();
    let values = cells.iter().map(|cell| match cell {
        Cell::Null => Value::Null,
        Cell::Integer(number) => Value::Integer(*number),
        Cell::Real(number) => Value::Real(*number),
        Cell::Text(bytes) | Cell::Blob(bytes) => Value::Blob(bytes.clone()),
    });
    let (user, channel) = (UserName::parse("me").ok()?, ChannelName::parse("home").ok()?);
    MEMORY.with_borrow_mut(|memory| {
        let connection = match memory {
            Some(connection) => connection,
            None => memory.insert(Connection::open_in_memory().ok()?),
        };
        let mut query = connection.prepare_cached(&format!("SELECT {}", columns.join(", "))).ok()?;
        let read = query.query_row(params_from_iter(values), |cells| match what {
            SqliteRow::Named => row::named(cells, &user, &channel).map(|row| format!("{row:?}")),
            SqliteRow::Stored => row::stored(cells, 0).map(|row| format!("{row:?}")),
            SqliteRow::Base => row::base(cells).map(|row| format!("{row:?}")),
        });
        read.ok()
    })
}
