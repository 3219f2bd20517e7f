//! A secret of 32 bytes, and the keys that are derived from one.
//!
//! It is wiped when it is dropped, compared in constant time, and never shown.

use std::fmt;

use hkdf::Hkdf;
use minicbor::encode::Encoder;
use sha2::Sha256;
use subtle::ConstantTimeEq as _;
use zeroize::{Zeroize as _, Zeroizing};

use crate::codec::Writer;
use crate::op::WriteResult;

/// 32 bytes that only their holders know: a key, a seed, or what keys are derived from.
#[derive(Clone)]
pub struct Secret([u8; 32]);

impl Secret {
    /// Its size.
    pub const BYTES: usize = 32;

    /// Wraps bytes that came from the system's randomness, or from another key.
    pub fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    /// Returns the bytes, for whoever has to store or to use them.
    pub fn expose(&self) -> &[u8; Self::BYTES] {
        &self.0
    }

    /// Derives another key with HKDF-SHA-256 (RFC 5869), without a salt and with `label` as its info.
    #[must_use]
    pub fn derive(&self, label: &str) -> Self {
        Self::stretch(&self.0, label)
    }

    /// Derives a key from a secret of any length that is already uniform.
    pub(super) fn stretch(material: &[u8], label: &str) -> Self {
        let mut derived = Self([0; Self::BYTES]);
        Hkdf::<Sha256>::new(None, material)
            .expand(label.as_bytes(), &mut derived.0)
            .expect("32 bytes are within what HKDF-SHA-256 gives");
        derived
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Encodes something secret into bytes that are wiped. `room` is at least their number, so that no copy stays behind where
/// memory had to grow.
pub(super) fn encode(room: usize, write: impl FnOnce(&mut Writer) -> WriteResult) -> Zeroizing<Vec<u8>> {
    let mut writer = Encoder::new(Vec::with_capacity(room));
    write(&mut writer).expect("writing CBOR to memory cannot fail");
    let bytes = Zeroizing::new(writer.into_writer());
    debug_assert!(bytes.len() <= room, "{} bytes and room for {room}", bytes.len());
    bytes
}
