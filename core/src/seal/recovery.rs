//! The recovery code: what a person writes down, and what opens the keyring when the password is forgotten.
//!
//! 160 random bits and 20 bits of checksum, in nine groups of four. It is a key, not a password, so it is not stretched.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest as _, Sha256};
use zeroize::{Zeroize as _, Zeroizing};

use super::secret::Secret;
use super::typed::{self, TypedError};

const LABEL: &str = "gigfs.key.wrap.recovery.1";
const CHECK_TAG: &[u8] = b"gigfs.recovery.1";
const WHAT: &str = "a recovery code";
const CODE_SYMBOLS: usize = 32;
const CHECK_SYMBOLS: usize = 4;

/// A recovery code.
#[derive(Clone)]
pub struct RecoveryCode([u8; Self::BYTES]);

impl RecoveryCode {
    /// Bytes of randomness in a code.
    pub const BYTES: usize = 20;

    /// Makes a code of fresh random bytes.
    pub fn from_bytes(random: [u8; Self::BYTES]) -> Self {
        Self(random)
    }

    /// Returns the code as it is written down: `XXXX-XXXX-…`, nine groups of four letters and digits.
    pub fn reveal(&self) -> Zeroizing<String> {
        let symbols = Zeroizing::new(typed::encode(&self.0) + &check(&self.0));
        Zeroizing::new(typed::grouped(&symbols))
    }

    /// Returns the key that wraps the keyring's.
    pub(super) fn wrapping_key(&self) -> Secret {
        Secret::stretch(&self.0, LABEL)
    }
}

/// Reads a code as a person types it: in either case, with any spaces and hyphens, O for 0, I and L for 1.
impl FromStr for RecoveryCode {
    type Err = TypedError;

    fn from_str(typed: &str) -> Result<Self, TypedError> {
        let symbols = Zeroizing::new(typed::symbols(WHAT, typed, CODE_SYMBOLS + CHECK_SYMBOLS)?);
        let (code, found) = symbols.split_at(CODE_SYMBOLS);
        match typed::decode(code) {
            Some(bytes) if check(&bytes) == found => Ok(Self(bytes)),
            _ => Err(TypedError::Checksum { what: WHAT }),
        }
    }
}

impl fmt::Debug for RecoveryCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecoveryCode(…)")
    }
}

impl Drop for RecoveryCode {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// Returns the first 20 bits of the SHA-256 of a tag and the bytes, as symbols.
fn check(bytes: &[u8]) -> String {
    let hash = Sha256::new().chain_update(CHECK_TAG).chain_update(bytes).finalize();
    let mut symbols = typed::encode(&hash[..5]);
    symbols.truncate(CHECK_SYMBOLS);
    symbols
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn mistyped(text: &str) -> TypedError {
        text.parse::<RecoveryCode>().unwrap_err()
    }

    #[test]
    fn a_code_reads_as_people_type_it() {
        let code = RecoveryCode::from_bytes(std::array::from_fn(|at| at as u8));
        let written = code.reveal();
        assert_eq!(written.len(), 9 * 5 - 1);
        let sloppy = written.to_lowercase().replace('0', "o").replace('1', "l").replace('-', " – ");
        for typed in [written.to_string(), sloppy, written.replace('-', ""), written.replace('1', "i")] {
            assert_eq!(typed.parse::<RecoveryCode>().unwrap().0, code.0, "{typed}");
        }
        assert_eq!(format!("{code:?}"), "RecoveryCode(…)");
    }

    #[test]
    fn each_way_to_mistype_a_code_has_its_own_sentence() {
        let written = RecoveryCode::from_bytes([0x5a; 20]).reveal();
        assert!(matches!(mistyped(&written[..39]), TypedError::Length { found: 32, expected: 36, .. }));
        assert!(matches!(mistyped(&format!("{}U", &*written)), TypedError::Character { found: 'U', place: 37, .. }));
        assert!(matches!(mistyped(""), TypedError::Length { found: 0, .. }));
        let swapped = format!("{}{}", &written[5..], &written[..5]);
        assert!(mistyped(&swapped.replace('-', "")).to_string().contains("checksum"));
    }

    proptest! {
        #[test]
        fn one_wrong_symbol_is_seen(bytes in any::<[u8; 20]>(), at in 0..36usize, by in 1..32usize) {
            const SYMBOLS: &[u8] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
            let written = RecoveryCode::from_bytes(bytes).reveal();
            prop_assert_eq!(written.parse::<RecoveryCode>().unwrap().0, bytes);
            let mut symbols = written.replace('-', "").into_bytes();
            let old = SYMBOLS.iter().position(|symbol| *symbol == symbols[at]).unwrap();
            symbols[at] = SYMBOLS[(old + by) % 32];
            // 20 bits of checksum: a symbol of the code slips through one time in a million.
            let error = mistyped(&String::from_utf8(symbols).unwrap());
            prop_assert_eq!(error, TypedError::Checksum { what: WHAT });
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,60}") {
            _ = text.parse::<RecoveryCode>();
        }
    }
}
