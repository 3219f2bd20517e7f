//! Random bytes, what is kept of a secret in place of it, and the comparison that does not tell how far it came.

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// Returns bytes that nobody can guess.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system always has random bytes");
    bytes
}

/// Writes bytes as lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The SHA-256 of a secret of full entropy: enough to recognise it, useless to whoever reads the database.
#[derive(Clone)]
pub(crate) struct Verifier([u8; 32]);

impl Verifier {
    /// Hashes a secret.
    pub(crate) fn of(secret: &[u8]) -> Self {
        Self(Sha256::digest(secret).into())
    }

    /// Wraps what [`Self::as_bytes`] gave.
    pub(crate) fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the hash.
    pub(crate) fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Tells whether `secret` is the one that was hashed, in time that does not depend on the answer.
    pub(crate) fn matches(&self, secret: &[u8]) -> bool {
        self.0.ct_eq(&Self::of(secret).0).into()
    }
}
