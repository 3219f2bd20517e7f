//! The values of the keyspaces. What cannot be read is damage, never a panic.

use bytes::Bytes;
use gigfs_core::api::{BaseHeader, LogHeader};
use gigfs_core::{Base, BaseId, ChannelName, Date, Digest, LogName, Seq, Sha, UserName};

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
    /// Eight-byte numbers id, tip, last index, bytes, count, greatest date and stamped; the digest; the base, if there is
    /// one; the heads. The base has one byte more than three shas, so the length tells whether it is there. // persisted
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
        let mut bytes = Vec::with_capacity(7 * 8 + 32 + BASE_BYTES + 32 * self.tail.heads.len());
        bytes.extend(numbers.iter().flat_map(|number| number.to_be_bytes()));
        bytes.extend(header.digest.xor);
        bytes.extend(header.base.iter().flat_map(encode_base));
        bytes.extend(self.tail.heads.iter().flat_map(|head| *head.as_bytes()));
        bytes
    }

    pub(super) fn decode(bytes: &[u8], log: &LogName) -> Result<Self, Failure> {
        Self::parse(bytes).ok_or_else(|| Failure::damaged(named(log), "its row cannot be read"))
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let (numbers, rest) = bytes.split_at_checked(7 * 8)?;
        let (xor, rest) = rest.split_first_chunk::<32>()?;
        let (base, heads) = match rest.len() % 32 == BASE_BYTES % 32 {
            true => rest.split_first_chunk().map(|(base, heads)| Some((Some(parse_base(base)?), heads)))??,
            false => (None, rest),
        };
        let number = |at: usize| numbers[at * 8..].first_chunk().copied().map(u64::from_be_bytes);
        let digest = Digest { count: number(4)?, xor: *xor };
        let header = LogHeader { base, digest, last_index: number(2)?, bytes: number(3)? };
        let heads = heads.chunks(32).map(Sha::from_slice).collect::<Option<_>>()?;
        let tail = LogTail { header, max_date: Date::from_micros(number(5)?)?, heads, stamped: number(6)? };
        Some(Self { id: number(0)?, tip: number(1)?, tail })
    }
}

/// Bytes of a base in a log's row.
const BASE_BYTES: usize = 4 * 8 + 2 * 32 + 1;
/// Bits of the flags of a base. // persisted
const COMPLETE: u8 = 1;
const DISPUTED: u8 = 2;

/// Eight-byte numbers generation, bytes, retained bytes and count of covered shas; the digest of these; the sha; the
/// flags. // persisted
fn encode_base(base: &BaseHeader) -> Vec<u8> {
    let numbers = [base.id.generation.get(), base.bytes, base.retained_bytes, base.covered.count];
    let flags = u8::from(base.complete) * COMPLETE + u8::from(base.disputed) * DISPUTED;
    let mut bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_be_bytes()).collect();
    bytes.extend(base.covered.xor);
    bytes.extend(base.id.sha.as_bytes());
    bytes.push(flags);
    bytes
}

fn parse_base(bytes: &[u8; BASE_BYTES]) -> Option<BaseHeader> {
    let number = |at: usize| bytes[at * 8..].first_chunk().copied().map(u64::from_be_bytes);
    let [flags] = bytes[4 * 8 + 64..] else { return None };
    Some(BaseHeader {
        id: BaseId { generation: Seq::new(number(0)?)?, sha: Sha::from_slice(&bytes[4 * 8 + 32..4 * 8 + 64])? },
        covered: Digest { count: number(3)?, xor: *bytes[4 * 8..].first_chunk()? },
        complete: flags & COMPLETE != 0,
        disputed: flags & DISPUTED != 0,
        bytes: number(1)?,
        retained_bytes: number(2)?,
    })
}

/// A base, the log's own or one that was superseded.
#[derive(Debug, Clone, Copy)]
pub(super) struct BaseRow<'b> {
    /// When it was superseded; 0 in the log's own.
    pub(super) since: u64,
    pub(super) certificate: &'b str,
    pub(super) record: &'b [u8],
}

impl<'b> BaseRow<'b> {
    /// Eight-byte numbers since and length of the certificate; the certificate; the record. // persisted
    pub(super) fn encode(&self) -> Vec<u8> {
        let numbers = key::pair(self.since, self.certificate.len() as u64);
        [&numbers[..], self.certificate.as_bytes(), self.record].concat()
    }

    pub(super) fn decode(bytes: &'b [u8], log: &LogName) -> Result<Self, Failure> {
        Self::parse(bytes).ok_or_else(|| Failure::damaged(named(log), "a base of it cannot be read"))
    }

    fn parse(bytes: &'b [u8]) -> Option<Self> {
        let (numbers, rest) = bytes.split_at_checked(16)?;
        let (since, length) = key::two_numbers(numbers)?;
        let (certificate, record) = rest.split_at_checked(usize::try_from(length).ok()?)?;
        Some(Self { since, certificate: str::from_utf8(certificate).ok()?, record })
    }

    pub(super) fn base(&self, sha: Sha) -> Base {
        Base { sha, record: Bytes::copy_from_slice(self.record), certificate: self.certificate.to_owned() }
    }
}

/// A covered operation that is kept for a while.
#[derive(Debug, Clone, Copy)]
pub(super) struct RetainedRow<'b> {
    /// Of the base that covered it first.
    pub(super) generation: u64,
    /// When that was.
    pub(super) since: u64,
    pub(super) sha: Sha,
    pub(super) record: &'b [u8],
}

impl<'b> RetainedRow<'b> {
    /// Eight-byte numbers generation and since; the sha; the record. // persisted
    pub(super) fn encode(&self) -> Vec<u8> {
        [&key::pair(self.generation, self.since)[..], self.sha.as_bytes(), self.record].concat()
    }

    pub(super) fn decode(bytes: &'b [u8], log: &LogName) -> Result<Self, Failure> {
        let parse = || {
            let (numbers, rest) = bytes.split_at_checked(16)?;
            let ((generation, since), (sha, record)) = (key::two_numbers(numbers)?, rest.split_first_chunk()?);
            Some(Self { generation, since, sha: Sha::from_bytes(*sha), record })
        };
        parse().ok_or_else(|| Failure::damaged(named(log), "a covered operation of it cannot be read"))
    }

    pub(super) fn stored(&self, key: &[u8]) -> StoredOp {
        let index = key::last_number(key).unwrap_or(0);
        StoredOp { index, sha: self.sha, record: Bytes::copy_from_slice(self.record) }
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
