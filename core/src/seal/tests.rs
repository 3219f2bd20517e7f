use super::*;
use crate::{
    ActorId, ChannelName, Checkpoint, Covers, Date, DeviceId, Digest, Draft, LogName, PathPrefix, Payload, Seq, Sha,
    Signature, TypeName, UserName,
};
use proptest::prelude::*;
use serde_json::json;

fn secret(byte: u8) -> Secret {
    Secret::from_bytes([byte; 32])
}

fn keys() -> ChannelKeys {
    let mut keys = ChannelKeys::new(secret(1), secret(2));
    keys.rotate(secret(3)).unwrap();
    keys
}

fn log() -> LogName {
    LogName::parse("me", "home", "counter", "/house/visits").unwrap()
}

fn draft(payload: Payload) -> Draft {
    let mut deps = vec![Sha::of(b"a"), Sha::of(b"b")];
    deps.sort_unstable();
    Draft {
        actor: ActorId::from_bytes([7; 16]),
        seq: Seq::new(5).unwrap(),
        date: Date::saturating(1_700_000_000_000_000),
        deps,
        payload,
    }
}

fn checkpoint(state: Payload) -> Checkpoint {
    Checkpoint {
        generation: Seq::new(2).unwrap(),
        parent: Some(Sha::of(b"parent")),
        covers: Covers::from_entries([(ActorId::from_bytes([7; 16]), vec![(Seq::FIRST, Sha::of(b"a"))])]),
        absent: vec![],
        digest: Digest { count: 9, xor: [0x55; 32] },
        reducer: keys().names().blind_type(&TypeName::parse("counter").unwrap()),
        version: 1,
        state,
        date: Date::saturating(1_700_000_000_000_000),
        author: ActorId::from_bytes([7; 16]),
    }
}

fn user(name: &str) -> UserName {
    UserName::parse(name).unwrap()
}

fn channel(name: &str) -> ChannelName {
    ChannelName::parse(name).unwrap()
}

fn identity(byte: u8) -> Identity {
    Identity::from_secrets(&secret(byte), secret(byte + 1))
}

/// Checks that no byte can be flipped, cut off or added without being seen by whoever `opens`.
fn every_change_is_seen(bytes: &[u8], opens: impl Fn(&[u8]) -> bool) {
    assert!(opens(bytes));
    for at in 0..bytes.len() {
        let mut flipped = bytes.to_vec();
        flipped[at] ^= 1;
        assert!(!opens(&flipped), "byte {at} went unseen");
        assert!(!opens(&bytes[..at]));
    }
    assert!(!opens(&[bytes, &[0]].concat()));
}

mod grant;
mod identity;
mod invitation;
mod keyring;
mod keys;
mod names;
mod payload;
mod roster;
mod vectors;
