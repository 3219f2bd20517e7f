//! Sealed payloads, states and names (`docs/crypto.md`), opened with fixed keys.
//!
//! Whoever holds a channel's keys can seal anything, so contents are sealed here, by the document and not by the code
//! that opens them, and reach what reads them once they are open.

use aes_gcm_siv::aead::{AeadInOut as _, KeyInit as _};
use aes_gcm_siv::{Aes256GcmSiv, Nonce};
use gigfs_core::seal::{
    BlindLog, ChannelKeys, Identity, NameKeys, OpenError, OpenNameError, Secret, padded as padded_length,
};
use gigfs_core::{ActorId, Checkpoint, Covers, Date, Digest, Draft, LogName, Path, Payload, Seq, Sha, TypeName, json};
use minicbor::data::Type;
use minicbor::{Decoder, Encoder};
use sha2::{Digest as _, Sha256};

use crate::choice;

/// The secret of the golden vectors that is made of one byte.
pub(crate) fn secret(byte: u8) -> Secret {
    Secret::from_bytes([byte; 32])
}

/// The identity of the golden vectors that is made of a byte and the next.
pub(crate) fn identity(byte: u8) -> Identity {
    Identity::from_secrets(&secret(byte), secret(byte + 1))
}

/// Pads as a holder of the key should.
pub(crate) fn padded(content: &[u8]) -> Vec<u8> {
    let mut bytes = [content, &[0x80]].concat();
    bytes.resize(padded_length(content.len()), 0);
    bytes
}

/// Encrypts what was padded, or was not.
pub(crate) fn encrypt(key: &Secret, associated: &[u8], mut plain: Vec<u8>) -> Vec<u8> {
    let hash: [u8; 32] = Sha256::digest(associated).into();
    let nonce: [u8; 12] = *hash.first_chunk().expect("12 of 32 bytes");
    let cipher = Aes256GcmSiv::new(key.expose().into());
    cipher.encrypt_in_place(&Nonce::from(nonce), associated, &mut plain).expect("it is short");
    plain
}

/// Writes an array of CBOR.
pub(crate) fn array(items: u64, write: impl FnOnce(&mut Encoder<Vec<u8>>)) -> Vec<u8> {
    let mut to = Encoder::new(Vec::new());
    _ = to.array(items);
    write(&mut to);
    to.into_writer()
}

pub(crate) fn law(bytes: &[u8]) {
    let (what, content) = choice(bytes);
    match what % 8 {
        0 => payload(padded(content)),
        1 => payload(content.to_vec()),
        2 => state(padded(content)),
        3 => state(content.to_vec()),
        4 => name(content, padded(content)),
        5 => name(content, content.to_vec()),
        6 => forged(content),
        _ => padding(content.len()),
    }
}

fn keys() -> ChannelKeys {
    let mut keys = ChannelKeys::new(secret(1), secret(2));
    keys.rotate(secret(3)).expect("the second epoch");
    keys
}

fn blind() -> BlindLog {
    keys().names().blind(&crate::log())
}

fn draft(payload: Payload) -> Draft {
    let date = Date::saturating(1_700_000_000_000_000);
    Draft { actor: ActorId::from_bytes([7; 16]), seq: Seq::FIRST, date, deps: vec![Sha::of(b"a")], payload }
}

fn payload(plain: Vec<u8>) {
    let blind = blind();
    let associated = array(10, |to| {
        _ = to.str("gigfs.seal.payload.1");
        write_log(to, blind.as_log());
        _ = to.bytes(&[7; 16]).and_then(|to| to.u64(1)).and_then(|to| to.u64(1_700_000_000_000_000));
        _ = to.array(1).and_then(|to| to.bytes(Sha::of(b"a").as_bytes())).and_then(|to| to.u32(2));
    });
    let sealed = Payload::Sealed {
        epoch: 2,
        bytes: encrypt(&secret(3).derive("gigfs.key.payload.1"), &associated, plain).into(),
    };
    match keys().open_payload(&blind, &draft(sealed.clone())) {
        Ok(opened) => {
            assert!(json::parse_canonical(opened.bytes()).is_ok());
            assert_eq!(keys().seal_payload(&blind, &draft(opened)), Ok(sealed), "a payload has one sealed form");
        }
        Err(OpenError::Padding { .. } | OpenError::Content(_)) => {}
        Err(error) => panic!("what its holder sealed opens: {error}"),
    }
}

fn checkpoint(state: Payload) -> Checkpoint {
    Checkpoint {
        generation: Seq::FIRST,
        parent: None,
        covers: Covers::default(),
        absent: Vec::new(),
        digest: Digest { count: 9, xor: [0x55; 32] },
        reducer: TypeName::parse("counter").expect("it is a good name"),
        version: 1,
        state,
        date: Date::EPOCH,
        author: ActorId::from_bytes([7; 16]),
    }
}

fn state(plain: Vec<u8>) {
    let blind = blind();
    let associated = array(10, |to| {
        _ = to.str("gigfs.seal.state.1");
        write_log(to, blind.as_log());
        _ = to.u64(1).and_then(|to| to.null());
        _ = to.array(2).and_then(|to| to.u64(9)).and_then(|to| to.bytes(&[0x55; 32]));
        _ = to.array(2).and_then(|to| to.str("counter")).and_then(|to| to.u32(1)).and_then(|to| to.u32(2));
    });
    let sealed =
        Payload::Sealed { epoch: 2, bytes: encrypt(&secret(3).derive("gigfs.key.state.1"), &associated, plain).into() };
    match keys().open_state(&blind, &checkpoint(sealed.clone())) {
        Ok(opened) => {
            assert_eq!(keys().seal_state(&blind, &checkpoint(opened)), Ok(sealed), "a state has one sealed form");
        }
        Err(OpenError::Padding { .. }) => {}
        Err(error) => panic!("what its holder sealed opens: {error}"),
    }
}

/// Under the blinded form of the name that is inside, or of another.
fn name(content: &[u8], plain: Vec<u8>) {
    let keys = NameKeys::new(secret(1));
    let log = name_in(content).unwrap_or_else(crate::log);
    let blind = keys.blind(&log);
    let associated = array(5, |to| {
        _ = to.str("gigfs.seal.name.1");
        write_log(to, blind.as_log());
    });
    let sealed = encrypt(&secret(1).derive("gigfs.key.name.seal.1"), &associated, plain);
    match keys.open(&blind, &sealed) {
        Ok(opened) => {
            assert_eq!(opened, log);
            assert_eq!(keys.seal(&opened), sealed, "a name has one sealed form");
        }
        // The padding is told from a forgery by nobody but a holder of the keys, for whom both are the same.
        Err(OpenNameError::Forged { .. } | OpenNameError::Decode(_) | OpenNameError::Mismatch { .. }) => {}
    }
}

fn name_in(content: &[u8]) -> Option<LogName> {
    let mut from = Decoder::new(content);
    (from.array().ok()?? == 2).then_some(())?;
    let kind = TypeName::parse(text(&mut from)?).ok()?;
    let path = Path::parse(text(&mut from)?).ok()?;
    Some(LogName { kind, path, ..crate::log() })
}

fn text<'b>(from: &mut Decoder<'b>) -> Option<&'b str> {
    (from.datatype().ok()? == Type::String).then(|| from.str().ok()).flatten()
}

/// Bytes that no holder of the keys sealed open as nothing, under epochs that there are and that there are not.
fn forged(bytes: &[u8]) {
    let (epoch, bytes) = choice(bytes);
    let sealed = Payload::Sealed { epoch: epoch.into(), bytes: bytes.to_vec().into() };
    assert!(keys().open_payload(&blind(), &draft(sealed.clone())).is_err());
    assert!(keys().open_state(&blind(), &checkpoint(sealed)).is_err());
    assert!(keys().names().open(&blind(), bytes).is_err());
}

fn padding(length: usize) {
    let whole = padded_length(length);
    assert!(whole > length && whole.is_multiple_of(32) && padded_length(whole - 1) == whole);
}

pub(crate) fn write_log(to: &mut Encoder<Vec<u8>>, log: &LogName) {
    _ = to.str(log.user.as_str()).and_then(|to| to.str(log.channel.as_str()));
    _ = to.str(log.kind.as_str()).and_then(|to| to.str(log.path.as_str()));
}
