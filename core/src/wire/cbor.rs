//! The CBOR form of the messages: an array whose first item is the message's number. // persisted in docs/wire.md

use bytes::Bytes;
use minicbor::decode::{Decoder, Error};

use super::{
    ClientMessage, Event, LogRef, Message, ServerMessage, Watched, Welcome, Which, WireBase, WireError, WireOp,
};
use crate::api::{BaseHeader, LogHeader, PushResult};
use crate::checkpoint::BaseId;
use crate::codec::{self, Writer};
use crate::error::Refusal;
use crate::id::{Digest, Incarnation, RunId, Sha, StoreId};
use crate::limits::{
    CERTIFICATE_BYTES_MAX, CHECKPOINT_RECORD_BYTES_MAX, INVENTORY_SHAS_MAX, LIST_LOGS_MAX, OP_RECORD_BYTES_MAX,
    PUSH_OPS_MAX, READ_OPS_MAX, SEALED_NAME_BYTES_MAX, WATCHED_LOGS_MAX,
};
use crate::name::{Path, PathPrefix, TypeName};

type WriteResult = Result<(), minicbor::encode::Error<core::convert::Infallible>>;

impl Message for ClientMessage {
    fn to_cbor(&self) -> Vec<u8> {
        codec::encode(|to| match self {
            Self::Push { tag, log, ops, beyond } => {
                to.array(5)?.u8(1)?.u64(*tag)?;
                write_log(to, log)?;
                write_all(to, ops, write_op)?;
                write_optional_sha(to, beyond.as_ref())
            }
            Self::Get { tag, log, after, base } => {
                to.array(5)?.u8(2)?.u64(*tag)?;
                write_log(to, log)?;
                to.u64(*after)?;
                match base {
                    Some(BaseId { generation, sha }) => to.array(2)?.u64(generation.get())?.bytes(sha.as_bytes())?.ok(),
                    None => to.null()?.ok(),
                }
            }
            Self::Inventory { tag, log, which } => {
                to.array(4)?.u8(3)?.u64(*tag)?;
                write_log(to, log)?;
                to.bool(*which == Which::Covered)?.ok()
            }
            Self::List { tag, prefix, after } => {
                to.array(4)?.u8(4)?.u64(*tag)?.str(prefix.as_str())?;
                match after {
                    Some(log) => write_log(to, log),
                    None => to.null()?.ok(),
                }
            }
            Self::Watch { tag, watched, after } => {
                to.array(4)?.u8(5)?.u64(*tag)?;
                match watched {
                    Watched::Logs(logs) => write_all(to, logs, write_log)?,
                    Watched::Prefix(prefix) => to.str(prefix.as_str())?.ok()?,
                }
                match after {
                    Some(position) => to.u64(*position)?.ok(),
                    None => to.null()?.ok(),
                }
            }
            Self::Unwatch { tag } => to.array(2)?.u8(6)?.u64(*tag)?.ok(),
            Self::Renew { tag, token } => to.array(3)?.u8(7)?.u64(*tag)?.str(token)?.ok(),
            Self::Checkpoint { tag, log, sha, record, epoch } => {
                to.array(6)?.u8(8)?.u64(*tag)?;
                write_log(to, log)?;
                to.bytes(sha.as_bytes())?.bytes(record)?.u64(*epoch)?.ok()
            }
            Self::Install { tag, log, base, instead_of } => {
                to.array(5)?.u8(9)?.u64(*tag)?;
                write_log(to, log)?;
                write_base(to, base)?;
                write_optional_sha(to, instead_of.as_ref())
            }
            Self::Cover { tag, log, base, shas } => {
                to.array(5)?.u8(10)?.u64(*tag)?;
                write_log(to, log)?;
                to.bytes(base.as_bytes())?;
                write_all(to, shas, |to, sha| to.bytes(sha.as_bytes())?.ok())
            }
            Self::Retained { tag, log } => {
                to.array(3)?.u8(11)?.u64(*tag)?;
                write_log(to, log)
            }
            Self::Dispute { tag, log, base } => {
                to.array(4)?.u8(12)?.u64(*tag)?;
                write_log(to, log)?;
                to.bytes(base.as_bytes())?.ok()
            }
            Self::Name { tag, log, sealed } => {
                to.array(4)?.u8(13)?.u64(*tag)?;
                write_log(to, log)?;
                to.bytes(sealed)?.ok()
            }
        })
    }

    fn from_cbor(bytes: &[u8]) -> Result<Self, WireError> {
        read_message(bytes, |from, length| {
            let number = from.u8()?;
            let tag = from.u64()?;
            match (number, length) {
                (1, 5) => {
                    let (log, ops) = (read_log(from)?, read_all(from, PUSH_OPS_MAX, read_op)?);
                    Ok(Self::Push { tag, log, ops, beyond: codec::optional(from, codec::sha)? })
                }
                (2, 5) => {
                    let (log, after) = (read_log(from)?, from.u64()?);
                    Ok(Self::Get { tag, log, after, base: codec::optional(from, read_base_id)? })
                }
                (3, 4) => {
                    let log = read_log(from)?;
                    let which = if from.bool()? { Which::Covered } else { Which::Live };
                    Ok(Self::Inventory { tag, log, which })
                }
                (4, 4) => {
                    let prefix = codec::name(from, PathPrefix::parse)?;
                    Ok(Self::List { tag, prefix, after: codec::optional(from, read_log)? })
                }
                (5, 4) => {
                    let watched = match from.datatype()? {
                        minicbor::data::Type::Array => Watched::Logs(read_all(from, WATCHED_LOGS_MAX, read_log)?),
                        _ => Watched::Prefix(codec::name(from, PathPrefix::parse)?),
                    };
                    Ok(Self::Watch { tag, watched, after: codec::optional(from, |from| from.u64())? })
                }
                (6, 2) => Ok(Self::Unwatch { tag }),
                (7, 3) => Ok(Self::Renew { tag, token: from.str()?.to_owned() }),
                (8, 6) => {
                    let (log, sha) = (read_log(from)?, codec::sha(from)?);
                    Ok(Self::Checkpoint { tag, log, sha, record: read_record(from)?, epoch: from.u64()? })
                }
                (9, 5) => {
                    let (log, base) = (read_log(from)?, read_base(from)?);
                    Ok(Self::Install { tag, log, base, instead_of: codec::optional(from, codec::sha)? })
                }
                (10, 5) => {
                    let (log, base) = (read_log(from)?, codec::sha(from)?);
                    Ok(Self::Cover { tag, log, base, shas: read_all(from, INVENTORY_SHAS_MAX, codec::sha)? })
                }
                (11, 3) => Ok(Self::Retained { tag, log: read_log(from)? }),
                (12, 4) => Ok(Self::Dispute { tag, log: read_log(from)?, base: codec::sha(from)? }),
                (13, 4) => Ok(Self::Name { tag, log: read_log(from)?, sealed: read_sealed_name(from)? }),
                (number, length) => Err(unknown(number, length)),
            }
        })
    }
}

impl Message for ServerMessage {
    fn to_cbor(&self) -> Vec<u8> {
        codec::encode(|to| match self {
            Self::Welcome(Welcome { store, incarnation, position, now, run }) => {
                to.array(if run.is_some() { 6 } else { 5 })?.u8(0)?;
                to.bytes(store.as_bytes())?.bytes(incarnation.as_bytes())?;
                to.u64(*position)?.u64(now.micros())?;
                match run {
                    Some(run) => to.bytes(run.as_bytes())?.ok(),
                    None => Ok(()),
                }
            }
            Self::Pushed { tag, results } => {
                to.array(3)?.u8(1)?.u64(*tag)?;
                write_all(to, results, write_result)
            }
            Self::Ops { tag, base, ops, header, more } => {
                to.array(6)?.u8(2)?.u64(*tag)?;
                write_optional_base(to, base.as_ref())?;
                write_all(to, ops, write_indexed)?;
                write_header(to, header)?;
                to.bool(*more)?.ok()
            }
            Self::Shas { tag, shas, header, more } => {
                to.array(5)?.u8(3)?.u64(*tag)?;
                write_all(to, shas, |to, sha| to.bytes(sha.as_bytes())?.ok())?;
                write_header(to, header)?;
                to.bool(*more)?.ok()
            }
            Self::Logs { tag, logs, more } => {
                to.array(4)?.u8(4)?.u64(*tag)?;
                write_all(to, logs, |to, (log, header)| {
                    to.array(2)?;
                    write_log(to, log)?;
                    write_header(to, header)
                })?;
                to.bool(*more)?.ok()
            }
            Self::Event(Event { position, log, ops }) => {
                to.array(4)?.u8(5)?.u64(*position)?;
                write_log(to, log)?;
                write_all(to, ops, write_indexed)
            }
            Self::Watching { tag, position } => to.array(3)?.u8(6)?.u64(*tag)?.u64(*position)?.ok(),
            Self::Unwatched { tag } => to.array(2)?.u8(7)?.u64(*tag)?.ok(),
            Self::Renewed { tag } => to.array(2)?.u8(8)?.u64(*tag)?.ok(),
            Self::Failed { tag, refusal } => {
                to.array(3)?.u8(9)?.u64(*tag)?;
                write_refusal(to, refusal)
            }
            Self::Bye { refusal } => {
                to.array(2)?.u8(10)?;
                write_refusal(to, refusal)
            }
            Self::Pruned { log, header } => {
                to.array(3)?.u8(11)?;
                write_log(to, log)?;
                write_header(to, header)
            }
            Self::Acknowledged { tag, ack } => to.array(3)?.u8(12)?.u64(*tag)?.str(ack)?.ok(),
            Self::Installed { tag, header } => {
                to.array(3)?.u8(13)?.u64(*tag)?;
                write_header(to, header)
            }
            Self::Retained { tag, base, ops, more } => {
                to.array(5)?.u8(14)?.u64(*tag)?;
                write_optional_base(to, base.as_ref())?;
                write_all(to, ops, write_indexed)?;
                to.bool(*more)?.ok()
            }
            Self::Named { tag } => to.array(2)?.u8(15)?.u64(*tag)?.ok(),
        })
    }

    fn from_cbor(bytes: &[u8]) -> Result<Self, WireError> {
        read_message(bytes, |from, length| match (from.u8()?, length) {
            (0, 5 | 6) => Ok(Self::Welcome(Welcome {
                store: StoreId::from_bytes(codec::fixed(from)?),
                incarnation: Incarnation::from_bytes(codec::fixed(from)?),
                position: from.u64()?,
                now: codec::date(from)?,
                run: if length == 6 { Some(RunId::from_bytes(codec::fixed(from)?)) } else { None },
            })),
            (1, 3) => Ok(Self::Pushed { tag: from.u64()?, results: read_all(from, PUSH_OPS_MAX, read_result)? }),
            (2, 6) => Ok(Self::Ops {
                tag: from.u64()?,
                base: codec::optional(from, read_base)?,
                ops: read_all(from, READ_OPS_MAX, read_indexed)?,
                header: read_header(from)?,
                more: from.bool()?,
            }),
            (3, 5) => Ok(Self::Shas {
                tag: from.u64()?,
                shas: read_all(from, INVENTORY_SHAS_MAX, codec::sha)?,
                header: read_header(from)?,
                more: from.bool()?,
            }),
            (4, 4) => Ok(Self::Logs {
                tag: from.u64()?,
                logs: read_all(from, LIST_LOGS_MAX, |from| {
                    codec::array(from, 2)?;
                    Ok((read_log(from)?, read_header(from)?))
                })?,
                more: from.bool()?,
            }),
            (5, 4) => Ok(Self::Event(Event {
                position: from.u64()?,
                log: read_log(from)?,
                ops: read_all(from, READ_OPS_MAX, read_indexed)?,
            })),
            (6, 3) => Ok(Self::Watching { tag: from.u64()?, position: from.u64()? }),
            (7, 2) => Ok(Self::Unwatched { tag: from.u64()? }),
            (8, 2) => Ok(Self::Renewed { tag: from.u64()? }),
            (9, 3) => Ok(Self::Failed { tag: from.u64()?, refusal: read_refusal(from)? }),
            (10, 2) => Ok(Self::Bye { refusal: read_refusal(from)? }),
            (11, 3) => Ok(Self::Pruned { log: read_log(from)?, header: read_header(from)? }),
            (12, 3) => Ok(Self::Acknowledged { tag: from.u64()?, ack: read_certificate(from)? }),
            (13, 3) => Ok(Self::Installed { tag: from.u64()?, header: read_header(from)? }),
            (14, 5) => Ok(Self::Retained {
                tag: from.u64()?,
                base: codec::optional(from, read_base)?,
                ops: read_all(from, READ_OPS_MAX, read_indexed)?,
                more: from.bool()?,
            }),
            (15, 2) => Ok(Self::Named { tag: from.u64()? }),
            (number, length) => Err(unknown(number, length)),
        })
    }
}

fn read_message<T>(bytes: &[u8], read: impl FnOnce(&mut Decoder<'_>, u64) -> Result<T, Error>) -> Result<T, WireError> {
    codec::decode("a stream message", bytes, |from| {
        let length = from.array()?.ok_or_else(|| Error::message("an array of indefinite length"))?;
        read(from, length)
    })
    .map_err(|error| WireError(error.to_string()))
}

fn unknown(number: u8, length: u64) -> Error {
    Error::message(format!("no message has number {number} and {length} items"))
}

fn write_all<T>(to: &mut Writer, items: &[T], write: impl Fn(&mut Writer, &T) -> WriteResult) -> WriteResult {
    to.array(items.len() as u64)?;
    items.iter().try_for_each(|item| write(to, item))
}

fn read_all<'b, T>(
    from: &mut Decoder<'b>,
    max: usize,
    mut read: impl FnMut(&mut Decoder<'b>) -> Result<T, Error>,
) -> Result<Vec<T>, Error> {
    let count = codec::array_up_to(from, max)?;
    (0..count).map(|_| read(from)).collect()
}

fn write_log(to: &mut Writer, log: &LogRef) -> WriteResult {
    to.array(2)?.str(log.kind.as_str())?.str(log.path.as_str())?.ok()
}

fn read_log(from: &mut Decoder<'_>) -> Result<LogRef, Error> {
    codec::array(from, 2)?;
    Ok(LogRef { kind: codec::name(from, TypeName::parse)?, path: codec::name(from, Path::parse)? })
}

fn write_op(to: &mut Writer, op: &WireOp) -> WriteResult {
    to.array(2)?.bytes(op.sha.as_bytes())?.bytes(&op.record)?.ok()
}

fn read_op(from: &mut Decoder<'_>) -> Result<WireOp, Error> {
    codec::array(from, 2)?;
    let sha = codec::sha(from)?;
    let record = from.bytes()?;
    match record.len() <= OP_RECORD_BYTES_MAX {
        true => Ok(WireOp { sha, record: Bytes::copy_from_slice(record) }),
        false => Err(Error::message(format!("a record of {} bytes; the limit is {OP_RECORD_BYTES_MAX}", record.len()))),
    }
}

fn write_indexed(to: &mut Writer, (index, op): &(u64, WireOp)) -> WriteResult {
    to.array(3)?.u64(*index)?.bytes(op.sha.as_bytes())?.bytes(&op.record)?.ok()
}

fn read_indexed(from: &mut Decoder<'_>) -> Result<(u64, WireOp), Error> {
    codec::array(from, 3)?;
    let index = from.u64()?;
    let sha = codec::sha(from)?;
    Ok((index, WireOp { sha, record: Bytes::copy_from_slice(from.bytes()?) }))
}

fn write_optional_sha(to: &mut Writer, sha: Option<&Sha>) -> WriteResult {
    match sha {
        Some(sha) => to.bytes(sha.as_bytes())?.ok(),
        None => to.null()?.ok(),
    }
}

fn write_optional_base(to: &mut Writer, base: Option<&WireBase>) -> WriteResult {
    match base {
        Some(base) => write_base(to, base),
        None => to.null()?.ok(),
    }
}

fn write_base(to: &mut Writer, base: &WireBase) -> WriteResult {
    to.array(3)?.bytes(base.sha.as_bytes())?.bytes(&base.record)?.str(&base.certificate)?.ok()
}

fn read_base(from: &mut Decoder<'_>) -> Result<WireBase, Error> {
    codec::array(from, 3)?;
    let (sha, record) = (codec::sha(from)?, read_record(from)?);
    Ok(WireBase { sha, record, certificate: read_certificate(from)? })
}

fn read_base_id(from: &mut Decoder<'_>) -> Result<BaseId, Error> {
    codec::array(from, 2)?;
    Ok(BaseId { generation: codec::seq(from)?, sha: codec::sha(from)? })
}

/// Reads the record of a checkpoint.
fn read_record(from: &mut Decoder<'_>) -> Result<Bytes, Error> {
    let record = from.bytes()?;
    match record.len() <= CHECKPOINT_RECORD_BYTES_MAX {
        true => Ok(Bytes::copy_from_slice(record)),
        false => Err(Error::message(format!("{} bytes; the limit is {CHECKPOINT_RECORD_BYTES_MAX}", record.len()))),
    }
}

fn read_sealed_name(from: &mut Decoder<'_>) -> Result<Bytes, Error> {
    let sealed = from.bytes()?;
    match sealed.len() <= SEALED_NAME_BYTES_MAX {
        true => Ok(Bytes::copy_from_slice(sealed)),
        false => Err(Error::message(format!("{} bytes; the limit is {SEALED_NAME_BYTES_MAX}", sealed.len()))),
    }
}

fn read_certificate(from: &mut Decoder<'_>) -> Result<String, Error> {
    let text = from.str()?;
    match text.len() <= CERTIFICATE_BYTES_MAX {
        true => Ok(text.to_owned()),
        false => Err(Error::message(format!("{} bytes; the limit is {CERTIFICATE_BYTES_MAX}", text.len()))),
    }
}

fn write_digest(to: &mut Writer, digest: &Digest) -> WriteResult {
    to.u64(digest.count)?.bytes(&digest.xor)?.ok()
}

fn read_digest(from: &mut Decoder<'_>) -> Result<Digest, Error> {
    Ok(Digest { count: from.u64()?, xor: codec::fixed(from)? })
}

fn write_header(to: &mut Writer, header: &LogHeader) -> WriteResult {
    to.array(5)?;
    write_digest(to, &header.digest)?;
    to.u64(header.last_index)?.u64(header.bytes)?;
    match &header.base {
        Some(base) => {
            to.array(8)?.u64(base.id.generation.get())?.bytes(base.id.sha.as_bytes())?;
            write_digest(to, &base.covered)?;
            to.bool(base.complete)?.bool(base.disputed)?.u64(base.bytes)?.u64(base.retained_bytes)?.ok()
        }
        None => to.null()?.ok(),
    }
}

fn read_header(from: &mut Decoder<'_>) -> Result<LogHeader, Error> {
    codec::array(from, 5)?;
    let digest = read_digest(from)?;
    let (last_index, bytes) = (from.u64()?, from.u64()?);
    let base = codec::optional(from, |from| {
        codec::array(from, 8)?;
        Ok(BaseHeader {
            id: BaseId { generation: codec::seq(from)?, sha: codec::sha(from)? },
            covered: read_digest(from)?,
            complete: from.bool()?,
            disputed: from.bool()?,
            bytes: from.u64()?,
            retained_bytes: from.u64()?,
        })
    })?;
    Ok(LogHeader { base, digest, last_index, bytes })
}

fn write_result(to: &mut Writer, result: &PushResult) -> WriteResult {
    let done = |to: &mut Writer, number: u8, sha: &Sha| to.array(2)?.u8(number)?.bytes(sha.as_bytes())?.ok();
    match result {
        PushResult::Accepted { sha } => done(to, 0, sha),
        PushResult::Known { sha } => done(to, 1, sha),
        PushResult::Covered { sha } => done(to, 2, sha),
        PushResult::Refused(refusal) => {
            to.array(2)?.u8(3)?;
            write_refusal(to, refusal)
        }
    }
}

fn read_result(from: &mut Decoder<'_>) -> Result<PushResult, Error> {
    codec::array(from, 2)?;
    match from.u8()? {
        0 => Ok(PushResult::Accepted { sha: codec::sha(from)? }),
        1 => Ok(PushResult::Known { sha: codec::sha(from)? }),
        2 => Ok(PushResult::Covered { sha: codec::sha(from)? }),
        3 => Ok(PushResult::Refused(read_refusal(from)?)),
        other => Err(Error::message(format!("no push result has number {other}"))),
    }
}

fn write_refusal(to: &mut Writer, refusal: &Refusal) -> WriteResult {
    to.array(4)?.str(refusal.code.as_str())?.str(&refusal.message)?.str(&refusal.hint)?;
    match refusal.now {
        Some(now) => to.u64(now.micros())?.ok(),
        None => to.null()?.ok(),
    }
}

fn read_refusal(from: &mut Decoder<'_>) -> Result<Refusal, Error> {
    codec::array(from, 4)?;
    let code = serde_json::from_value(from.str()?.into()).map_err(|error| Error::message(error.to_string()))?;
    let message = from.str()?.to_owned();
    let hint = from.str()?.to_owned();
    Ok(Refusal { code, message, hint, now: codec::optional(from, codec::date)?, retry_after: None })
}
