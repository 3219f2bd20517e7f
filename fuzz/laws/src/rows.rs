//! What stands on a disk under keys and in rows (`docs/format.md`): the values of fjall, the rows of SQLite.

use gigfs_storage::decoding::{Cell, FjallValue, SqliteRow, fjall, sqlite};

use crate::choice;

pub(crate) fn law(bytes: &[u8]) {
    let (which, rest) = choice(bytes);
    match which % 16 {
        0 => value(FjallValue::Channel, rest),
        1 => value(FjallValue::Log, rest),
        2 => value(FjallValue::Base, rest),
        3 => value(FjallValue::Retained, rest),
        4 => value(FjallValue::Op, rest),
        5 => value(FjallValue::LogKey, rest),
        6 => value(FjallValue::Due, rest),
        7 => _ = fjall(FjallValue::Keys, rest),
        8..=11 => row(SqliteRow::Named, rest),
        12..=13 => row(SqliteRow::Stored, rest),
        _ => row(SqliteRow::Base, rest),
    }
}

fn value(what: FjallValue, bytes: &[u8]) {
    let Some(again) = fjall(what, bytes) else { return };
    assert_eq!(again.len(), bytes.len(), "nothing of a value is passed over");
    assert_eq!(fjall(what, &again).as_ref(), Some(&again), "a value that is written again is the same");
    if what != FjallValue::Log {
        assert_eq!(again, bytes, "a value has one encoding");
    }
}

fn row(what: SqliteRow, mut bytes: &[u8]) {
    let mut cells = Vec::new();
    while cells.len() < CELLS_MAX
        && let Some(([kind, length], rest)) = bytes.split_first_chunk::<2>()
    {
        let (content, rest) = rest.split_at(usize::from(*length).min(rest.len()));
        bytes = rest;
        let number = content.iter().fold(0_i64, |number, byte| number << 8 | i64::from(*byte));
        cells.push(match kind % 5 {
            0 => Cell::Null,
            1 => Cell::Integer(number),
            2 => Cell::Real(f64::from_bits(number.cast_unsigned())),
            3 => Cell::Text(content.to_vec()),
            _ => Cell::Blob(content.to_vec()),
        });
    }
    let read = sqlite(what, &cells);
    assert_eq!(sqlite(what, &cells), read, "a row is read the same each time");
}

const CELLS_MAX: usize = 20;
