//! Identifiers: who wrote, which store, which operation. Each is its own type, so two never change places.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

use crate::limits::INTEGER_MAX;

/// A text that is not the expected number of lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} must be {digits} hexadecimal digits in lower case; {found:?} is not")]
pub struct IdError {
    what: &'static str,
    digits: usize,
    found: String,
}

/// Defines an identifier of N bytes, shown as 2N lower-case hexadecimal digits.
macro_rules! byte_id {
    ($(#[$doc:meta])* $name:ident, $bytes:literal, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $bytes]);

        impl $name {
            /// Wraps the bytes.
            pub const fn from_bytes(bytes: [u8; $bytes]) -> Self {
                Self(bytes)
            }

            /// Returns the bytes.
            pub const fn as_bytes(&self) -> &[u8; $bytes] {
                &self.0
            }

            /// Wraps a slice of exactly the right length.
            pub fn from_slice(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0[..4].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                let mut bytes = [0; $bytes];
                match decode_hex(text, &mut bytes) {
                    true => Ok(Self(bytes)),
                    false => Err(IdError {
                        what: $what,
                        digits: 2 * $bytes,
                        found: text.chars().take(80).collect(),
                    }),
                }
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

byte_id!(
    /// One writing replica. A new one is minted for each new local store, after a restore, and whenever a reopened
    /// replica cannot prove that it knows all that it wrote.
    ActorId,
    16,
    "an actor id"
);
byte_id!(
    /// One device of a user: what holds a signing key that the user's identity certifies. Minted with that key.
    DeviceId,
    16,
    "a device id"
);
byte_id!(
    /// One store server or local store, minted when its data folder is created.
    StoreId,
    16,
    "a store id"
);
byte_id!(
    /// One life of a store's data: minted at creation and after a restore. A cursor means nothing under another one.
    Incarnation,
    16,
    "an incarnation"
);
byte_id!(
    /// One process of a store, from its start to its end. What it said of positions holds as long as it runs: after a
    /// restart nobody can tell whether the disk kept all that was said to be on it.
    RunId,
    16,
    "a run"
);
byte_id!(
    /// A session at a table.
    SessionId,
    16,
    "a session id"
);
byte_id!(
    /// The SHA-256 that is an operation's identity.
    Sha,
    32,
    "a sha"
);

byte_id!(
    /// The BLAKE3 hash of a blob's bytes, which is its name.
    BlobName,
    32,
    "a blob's name"
);

impl Sha {
    /// Hashes `bytes` with SHA-256.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

fn decode_hex(text: &str, out: &mut [u8]) -> bool {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let text = text.as_bytes();
    text.len() == 2 * out.len()
        && out.iter_mut().zip(text.chunks_exact(2)).all(|(byte, pair)| match (digit(pair[0]), digit(pair[1])) {
            (Some(high), Some(low)) => {
                *byte = high << 4 | low;
                true
            }
            _ => false,
        })
}

/// The place of an operation among those of its actor in one log: 1, 2, 3… It fits a JSON integer.
///
/// An index, never an identity: two operations with one (actor, seq) and different shas are two operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Seq(u64);

impl Seq {
    /// The first.
    pub const FIRST: Self = Self(1);

    /// Wraps a number from 1 to 2^53 - 1.
    pub fn new(number: u64) -> Option<Self> {
        (1..=INTEGER_MAX).contains(&number).then_some(Self(number))
    }

    /// Returns the number.
    pub fn get(self) -> u64 {
        self.0
    }

    /// Returns the one after this one.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for Seq {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = u64::deserialize(deserializer)?;
        Self::new(number).ok_or_else(|| serde::de::Error::custom("a seq must be from 1 to 2^53 - 1"))
    }
}

/// A hash over a set of operations that does not depend on their order: the exclusive or of their shas, and their number.
///
/// Two replicas whose digests of a log are equal hold the same operations of it. It finds accidents, not attacks: an
/// adversary who chooses operations can make two sets collide, and gains that one replica believes itself in step.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Digest {
    /// How many operations.
    pub count: u64,
    /// The exclusive or of their shas.
    pub xor: [u8; 32],
}

impl Digest {
    /// Adds an operation that is not in the set.
    pub fn add(&mut self, sha: &Sha) {
        self.count += 1;
        self.mix(sha);
    }

    /// Takes out an operation that is in the set.
    pub fn remove(&mut self, sha: &Sha) {
        self.count = self.count.saturating_sub(1);
        self.mix(sha);
    }

    fn mix(&mut self, sha: &Sha) {
        for (into, from) in self.xor.iter_mut().zip(sha.as_bytes()) {
            *into ^= from;
        }
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{:?}", self.count, Sha(self.xor))
    }
}

#[derive(Serialize, Deserialize)]
struct DigestJson {
    count: u64,
    xor: Sha,
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        DigestJson { count: self.count, xor: Sha(self.xor) }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let DigestJson { count, xor } = DigestJson::deserialize(deserializer)?;
        Ok(Self { count, xor: *xor.as_bytes() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_round_trips_and_refuses_what_is_not_exact() {
        let sha = Sha::of(b"gigfs");
        assert_eq!(sha.to_string().parse::<Sha>().unwrap(), sha);
        for bad in ["", "00", &sha.to_string().to_uppercase(), &format!("{sha}0")] {
            assert!(bad.parse::<Sha>().is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn a_digest_does_not_depend_on_order_and_forgets_what_is_removed() {
        let (a, b) = (Sha::of(b"a"), Sha::of(b"b"));
        let mut forward = Digest::default();
        forward.add(&a);
        forward.add(&b);
        let mut backward = Digest::default();
        backward.add(&b);
        backward.add(&a);
        assert_eq!(forward, backward);
        forward.remove(&b);
        backward.remove(&a);
        assert_ne!(forward, backward);
        forward.remove(&a);
        assert_eq!(forward, Digest::default());
    }
}
