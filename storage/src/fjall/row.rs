//! The values of the keyspaces. What cannot be read is damage, never a panic.

use bytes::Bytes;
use gigfs_core::api::LogHeader;
use gigfs_core::{ChannelName, Date, Digest, LogName, Sha, UserName};

use super::{Failure, key, named};
use crate::engine::{LogTail, StoredOp};

/// A channel: its id and the position of its newest arrival.
#[derive(Debug, Clone, Copy)]
pub(super) struct ChannelRow {
    pub(super) id: u64,
    pub(super) position: u64,
}

impl ChannelRow {
    pub(super) fn encode(self) -> Vec<u8> {
        key::pair(self.id, self.position).to_vec()
    }

    pub(super) fn decode(bytes: &[u8], user: &UserName, channel: &ChannelName) -> Result<Self, Failure> {
        let (id, position) = key::two_numbers(bytes)
            .ok_or_else(|| Failure::damaged(format!("the channel {channel} of {user}"), "its row cannot be read"))?;
        Ok(Self { id, position })
    }
}

/// A log: its id, its tail, and the index of the newest record that is still there.
#[derive(Debug, Clone)]
pub(super) struct LogRow {
    pub(super) id: u64,
    pub(super) tip: u64,
    pub(super) tail: LogTail,
}

impl LogRow {
    /// Eight-byte numbers id, tip, last index, bytes, count, greatest date and stamped; the digest; the heads. // persisted
    pub(super) fn encode(&self) -> Vec<u8> {
        let header = &self.tail.header;
        let numbers = [
            self.id,
            self.tip,
            header.last_index,
            header.bytes,
            header.digest.count,
            self.tail.max_date.micros(),
            self.tail.stamped,
        ];
        let mut bytes = Vec::with_capacity(7 * 8 + 32 + 32 * self.tail.heads.len());
        bytes.extend(numbers.iter().flat_map(|number| number.to_be_bytes()));
        bytes.extend(header.digest.xor);
        bytes.extend(self.tail.heads.iter().flat_map(|head| *head.as_bytes()));
        bytes
    }

    pub(super) fn decode(bytes: &[u8], log: &LogName) -> Result<Self, Failure> {
        Self::parse(bytes).ok_or_else(|| Failure::damaged(named(log), "its row cannot be read"))
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let (numbers, rest) = bytes.split_at_checked(7 * 8)?;
        let (xor, heads) = rest.split_first_chunk::<32>()?;
        let number = |at: usize| numbers[at * 8..].first_chunk().copied().map(u64::from_be_bytes);
        let digest = Digest { count: number(4)?, xor: *xor };
        let header = LogHeader { digest, last_index: number(2)?, bytes: number(3)? };
        let heads = heads.chunks(32).map(Sha::from_slice).collect::<Option<_>>()?;
        let tail = LogTail { header, max_date: Date::from_micros(number(5)?)?, heads, stamped: number(6)? };
        Some(Self { id: number(0)?, tip: number(1)?, tail })
    }
}

/// A record with its sha and its position in the channel.
#[derive(Debug, Clone, Copy)]
pub(super) struct OpRow<'b> {
    pub(super) sha: Sha,
    pub(super) position: u64,
    pub(super) record: &'b [u8],
}

impl<'b> OpRow<'b> {
    pub(super) fn encode(&self) -> Vec<u8> {
        [self.sha.as_bytes(), &self.position.to_be_bytes()[..], self.record].concat()
    }

    pub(super) fn decode(bytes: &'b [u8], log: &LogName) -> Result<Self, Failure> {
        let parts = bytes.split_first_chunk::<32>().and_then(|(sha, rest)| Some((sha, rest.split_first_chunk::<8>()?)));
        let (sha, (position, record)) =
            parts.ok_or_else(|| Failure::damaged(named(log), "a record of it cannot be read"))?;
        Ok(Self { sha: Sha::from_bytes(*sha), position: u64::from_be_bytes(*position), record })
    }
}

/// Reads a record under its key.
pub(super) fn stored(key: &[u8], value: &[u8], log: &LogName) -> Result<StoredOp, Failure> {
    let op = OpRow::decode(value, log)?;
    let index = key::last_number(key).ok_or_else(|| Failure::damaged(named(log), "a key of it is too short"))?;
    Ok(StoredOp { index, sha: op.sha, record: Bytes::copy_from_slice(op.record) })
}
