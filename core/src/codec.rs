//! Deterministic CBOR (RFC 8949 §4.2.1): what the formats of `docs/format.md` and `docs/wire.md` share.
//!
//! Everything is an array of fixed meaning by position; integers and lengths take their shortest form; nothing has an
//! indefinite length. What is hashed is encoded again before it is hashed, so no second spelling has a second identity.

use minicbor::data::Type;
use minicbor::decode::{Decoder, Error};
use minicbor::encode::Encoder;

use crate::date::Date;
use crate::id::{ActorId, Seq, Sha};

/// An encoder into memory, which cannot fail.
pub(crate) type Writer = Encoder<Vec<u8>>;

/// Why bytes from a peer or a disk are not what they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not the expected CBOR.
    #[error("the bytes of {what} cannot be read: {why}")]
    Malformed {
        /// What they should have been.
        what: &'static str,
        /// What the decoder met.
        why: String,
    },
    /// Bytes after the end.
    #[error("{extra} bytes follow the end of {what}")]
    Trailing {
        /// What they should have been.
        what: &'static str,
        /// How many bytes follow.
        extra: usize,
    },
    /// The same content, but not in its one canonical form.
    #[error("the bytes of {what} are not in their canonical form")]
    NotCanonical {
        /// What they should have been.
        what: &'static str,
    },
    /// A format version that this program does not know.
    #[error("{what} has format version {found} and this program reads up to {known}; update it")]
    UnknownVersion {
        /// What they should have been.
        what: &'static str,
        /// The version met.
        found: u64,
        /// The newest known.
        known: u64,
    },
}

/// Encodes with `write` into fresh bytes.
pub(crate) fn encode(
    write: impl FnOnce(&mut Writer) -> Result<(), minicbor::encode::Error<core::convert::Infallible>>,
) -> Vec<u8> {
    let mut writer = Encoder::new(Vec::with_capacity(128));
    write(&mut writer).expect("writing CBOR to memory cannot fail");
    writer.into_writer()
}

/// Decodes all of `bytes` with `read`; `what` names them in errors.
pub(crate) fn decode<'b, T>(
    what: &'static str,
    bytes: &'b [u8],
    read: impl FnOnce(&mut Decoder<'b>) -> Result<T, Error>,
) -> Result<T, DecodeError> {
    let mut decoder = Decoder::new(bytes);
    let value = read(&mut decoder).map_err(|error| DecodeError::Malformed { what, why: error.to_string() })?;
    match bytes.len() - decoder.position() {
        0 => Ok(value),
        extra => Err(DecodeError::Trailing { what, extra }),
    }
}

/// Decodes a record: an array of `items`, the first of them its version, that `write` encodes to the same bytes again.
pub(crate) fn record<T, B: AsRef<[u8]>>(
    what: &'static str,
    bytes: &[u8],
    items: u64,
    known: u64,
    read: impl FnOnce(&mut Decoder<'_>) -> Result<T, Error>,
    write: impl FnOnce(&T) -> B,
) -> Result<T, DecodeError> {
    let mut head = Decoder::new(bytes);
    let found = head.array().and_then(|_| head.u64());
    if let Ok(found) = found
        && found != known
    {
        return Err(DecodeError::UnknownVersion { what, found, known });
    }
    let value = decode(what, bytes, |decoder| {
        array(decoder, items)?;
        decoder.u64()?;
        read(decoder)
    })?;
    match write(&value).as_ref() == bytes {
        true => Ok(value),
        false => Err(DecodeError::NotCanonical { what }),
    }
}

/// Reads the head of an array of exactly `expected` items.
pub(crate) fn array(decoder: &mut Decoder<'_>, expected: u64) -> Result<(), Error> {
    match decoder.array()? {
        Some(found) if found == expected => Ok(()),
        _ => Err(Error::message(format!("an array that has not {expected} items"))),
    }
}

/// Reads the head of an array of at most `max` items.
pub(crate) fn array_up_to(decoder: &mut Decoder<'_>, max: usize) -> Result<usize, Error> {
    match decoder.array()? {
        Some(found) if found <= max as u64 => Ok(found as usize),
        Some(found) => Err(Error::message(format!("{found} items and the limit is {max}"))),
        None => Err(Error::message("an array of indefinite length")),
    }
}

/// Reads `null` as nothing, anything else with `read`.
pub(crate) fn optional<'b, T>(
    decoder: &mut Decoder<'b>,
    read: impl FnOnce(&mut Decoder<'b>) -> Result<T, Error>,
) -> Result<Option<T>, Error> {
    if decoder.datatype()? == Type::Null {
        decoder.null()?;
        return Ok(None);
    }
    read(decoder).map(Some)
}

/// Reads a byte string of exactly N bytes.
pub(crate) fn fixed<const N: usize>(decoder: &mut Decoder<'_>) -> Result<[u8; N], Error> {
    decoder.bytes()?.try_into().map_err(|_| Error::message(format!("a byte string that is not {N} bytes")))
}

pub(crate) fn sha(decoder: &mut Decoder<'_>) -> Result<Sha, Error> {
    fixed(decoder).map(Sha::from_bytes)
}

pub(crate) fn actor(decoder: &mut Decoder<'_>) -> Result<ActorId, Error> {
    fixed(decoder).map(ActorId::from_bytes)
}

pub(crate) fn seq(decoder: &mut Decoder<'_>) -> Result<Seq, Error> {
    Seq::new(decoder.u64()?).ok_or_else(|| Error::message("a seq that is not from 1 to 2^53 - 1"))
}

pub(crate) fn date(decoder: &mut Decoder<'_>) -> Result<Date, Error> {
    Date::from_micros(decoder.u64()?).ok_or_else(|| Error::message("a date beyond 2^53 - 1"))
}

/// Reads text and parses it as a name.
pub(crate) fn name<T>(
    decoder: &mut Decoder<'_>,
    parse: impl FnOnce(&str) -> Result<T, crate::name::NameError>,
) -> Result<T, Error> {
    parse(decoder.str()?).map_err(|error| Error::message(error.to_string()))
}
