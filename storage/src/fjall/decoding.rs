//! The decoders of keys and values, for whoever tries them with arbitrary bytes.

use gigfs_core::LogName;

use super::key::{self, Due, DueKind};
use super::row::{self, BaseRow, ChannelRow, LogRow, OpRow, RetainedRow};

/// What some bytes are in fjall's keyspaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FjallValue {
    /// A value in `channels`.
    Channel,
    /// A value in `logs`.
    Log,
    /// A value in `bases`.
    Base,
    /// A value in `retained`.
    Retained,
    /// A value in `ops`.
    Op,
    /// A key in `logs`.
    LogKey,
    /// A key in `since`, of an operation.
    Due,
    /// Any other key.
    Keys,
}

/// Decodes bytes and returns what is written again; nothing if they are damaged.
pub fn fjall(what: FjallValue, bytes: &[u8]) -> Option<Vec<u8>> {
    let log = LogName::parse("me", "home", "counter", "/visits").ok()?;
    match what {
        FjallValue::Channel => ChannelRow::decode(bytes, &log.user, &log.channel).ok().map(ChannelRow::encode),
        FjallValue::Log => LogRow::decode(bytes, &log).ok().map(|row| row.encode()),
        FjallValue::Base => BaseRow::decode(bytes, &log).ok().map(|row| row.encode()),
        FjallValue::Retained => {
            let row = RetainedRow::decode(bytes, &log).ok()?;
            _ = row.stored(bytes);
            Some(row.encode())
        }
        FjallValue::Op => {
            _ = row::stored(bytes, bytes, &log);
            OpRow::decode(bytes, &log).ok().map(|row| row.encode())
        }
        FjallValue::LogKey => key::log_name(bytes).ok().map(|log| key::log(&log)),
        FjallValue::Due => {
            let due = Due::parse(DueKind::Op, bytes).filter(|_| bytes[0] == DueKind::Op as u8)?;
            _ = (due.place(), due.leap());
            Some(due.key())
        }
        FjallValue::Keys => {
            _ = (key::base_id(bytes), key::last_sha(bytes), key::last_number(bytes), key::two_numbers(bytes));
            None
        }
    }
}
