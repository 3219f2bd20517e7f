//! Padding: how long a content is, is told in steps only.
//!
//! The lengths are those of Padmé (Nikitin et al., *Reducing Metadata Leakage from Encrypted Files and Communication with
//! PURBs*, PoPETs 2019, §4), and multiples of 32 bytes at least. They cost at most an eighth beyond the first 256 bytes, and
//! tell O(log log n) bits of a length n. The content ends at a 0x80, after which only zeros follow (ISO/IEC 7816-4).

/// The least step between two lengths, in bytes.
pub const PADDING_STEP_BYTES: usize = 32;
const END: u8 = 0x80;

/// Returns how many bytes a content of `length` bytes takes when it is padded.
pub fn padded(length: usize) -> usize {
    let length = length.saturating_add(1);
    let exponent = length.ilog2();
    let zeros = exponent - exponent.checked_ilog2().map_or(0, |log| log + 1);
    length.next_multiple_of((1 << zeros).max(PADDING_STEP_BYTES))
}

/// Pads a content.
pub(super) fn pad(content: &[u8], room: usize) -> Vec<u8> {
    let length = padded(content.len());
    let mut bytes = Vec::with_capacity(length + room);
    bytes.extend_from_slice(content);
    bytes.push(END);
    bytes.resize(length, 0);
    bytes
}

/// Takes the padding off; tells whether it was exactly what [`pad`] puts there.
#[must_use]
pub(super) fn unpad(bytes: &mut Vec<u8>) -> bool {
    let whole = bytes.len();
    let Some(end) = bytes.iter().rposition(|&byte| byte != 0) else { return false };
    if bytes[end] != END || padded(end) != whole {
        return false;
    }
    bytes.truncate(end);
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{
        CHECKPOINT_SEALED_CONTENT_BYTES_MAX, CHECKPOINT_STATE_BYTES_MAX, OP_PAYLOAD_BYTES_MAX,
        OP_SEALED_CONTENT_BYTES_MAX,
    };
    use proptest::prelude::*;

    #[test]
    fn lengths_are_the_documented_ones() {
        let mut lengths: Vec<usize> = (0..3000).map(padded).collect();
        lengths.dedup();
        let steps: &[(usize, usize)] = &[(512, 32), (1024, 32), (2048, 64), (3100, 128)];
        let mut expected = vec![32];
        for &(end, step) in steps {
            while expected.last().unwrap() + step <= end {
                expected.push(expected.last().unwrap() + step);
            }
        }
        expected.truncate(lengths.len());
        assert_eq!(lengths, expected);
    }

    #[test]
    fn the_greatest_contents_fit_to_the_byte() {
        for (content, limit) in [
            (OP_SEALED_CONTENT_BYTES_MAX, OP_PAYLOAD_BYTES_MAX),
            (CHECKPOINT_SEALED_CONTENT_BYTES_MAX, CHECKPOINT_STATE_BYTES_MAX),
        ] {
            assert!(padded(content) + super::super::aead::TAG_BYTES <= limit);
            assert!(padded(content + 1) + super::super::aead::TAG_BYTES > limit);
        }
    }

    proptest! {
        #[test]
        fn padding_round_trips_and_costs_at_most_an_eighth(content in prop::collection::vec(any::<u8>(), 0..5000)) {
            let mut bytes = pad(&content, 0);
            prop_assert_eq!(bytes.len(), padded(content.len()));
            prop_assert!(content.len() < 256 || bytes.len() * 8 <= (content.len() + 1) * 9);
            prop_assert!(unpad(&mut bytes));
            prop_assert_eq!(bytes, content);
        }

        #[test]
        fn other_paddings_are_refused(content in prop::collection::vec(any::<u8>(), 0..300), more in 1..100usize) {
            let mut longer = pad(&content, more);
            longer.resize(longer.len() + more, 0);
            prop_assert!(!unpad(&mut longer));
            let mut without = vec![0; content.len()];
            prop_assert!(!unpad(&mut without));
        }

        #[test]
        fn lengths_never_shrink(a in 0..1_000_000usize, b in 0..1_000_000usize) {
            prop_assert!(padded(a.min(b)) <= padded(a.max(b)));
        }
    }
}
