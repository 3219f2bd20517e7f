//! Bytes as a person reads them aloud, compares them and types them in.
//!
//! Crockford's base32 (<https://www.crockford.com/base32.html>) in groups of four: no letter looks like a digit, and what
//! is typed may be in either case, with any spaces and hyphens, with O for 0 and I or L for 1.

use std::sync::LazyLock;

use data_encoding::{Encoding, Specification};
use zeroize::Zeroizing;

const GROUP_CHARS: usize = 4;
const SYMBOLS: &str = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
static BASE32: LazyLock<Encoding> = LazyLock::new(|| {
    let mut specification = Specification::new();
    specification.symbols.push_str(SYMBOLS);
    specification.encoding().expect("32 distinct symbols are an encoding")
});

/// Why a text that a person typed is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TypedError {
    /// Too short or too long.
    #[error("{what} has {expected} letters and digits, and this one has {found}; see whether a group is missing")]
    Length {
        /// What it should have been.
        what: &'static str,
        /// How many were typed.
        found: usize,
        /// How many there must be.
        expected: usize,
    },
    /// A character that does not occur.
    #[error("{what} has no {found:?}, which stands at place {place} of this one; look at that place again")]
    Character {
        /// What it should have been.
        what: &'static str,
        /// The character.
        found: char,
        /// Where it stands, counted from 1, without spaces and hyphens.
        place: usize,
    },
    /// The right characters, and one of them is another.
    #[error("the checksum of {what} does not match: a letter or digit is mistyped, or two changed places")]
    Checksum {
        /// What it should have been.
        what: &'static str,
    },
}

/// Writes bytes as symbols, without groups.
pub(super) fn encode(bytes: &[u8]) -> String {
    BASE32.encode(bytes)
}

/// Divides symbols into groups.
pub(super) fn grouped(symbols: &str) -> String {
    let mut text = String::with_capacity(symbols.len() * 5 / 4);
    for (at, symbol) in symbols.chars().enumerate() {
        if at > 0 && at % GROUP_CHARS == 0 {
            text.push('-');
        }
        text.push(symbol);
    }
    text
}

/// Reads the symbols that a person typed: as many as expected, each as it is written here.
pub(super) fn symbols(what: &'static str, typed: &str, expected: usize) -> Result<String, TypedError> {
    let separates = |c: char| c.is_whitespace() || matches!(c, '-' | '\u{2010}'..='\u{2015}' | '\u{2212}');
    let meant = |c: char| match c.to_ascii_uppercase() {
        'O' => '0',
        'I' | 'L' => '1',
        other => other,
    };
    let symbols: String = typed.chars().filter(|&c| !separates(c)).map(meant).collect();
    if let Some((at, found)) = symbols.chars().enumerate().find(|&(_, c)| !SYMBOLS.contains(c)) {
        return Err(TypedError::Character { what, found, place: at + 1 });
    }
    match symbols.len() {
        found if found == expected => Ok(symbols),
        found => Err(TypedError::Length { what, found, expected }),
    }
}

/// Decodes symbols to exactly N bytes; nothing if what is left over is not zero.
pub(super) fn decode<const N: usize>(symbols: &str) -> Option<[u8; N]> {
    let bytes = Zeroizing::new(BASE32.decode(symbols.as_bytes()).ok()?);
    bytes.as_slice().try_into().ok()
}
