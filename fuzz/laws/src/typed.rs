//! What a person types: recovery codes and fingerprints (`docs/crypto.md`).

use gigfs_core::seal::{Fingerprint, RecoveryCode};

pub(crate) fn law(bytes: &[u8]) {
    if let Some(bytes) = bytes.first_chunk() {
        let written = Fingerprint::from_bytes(*bytes).to_string();
        assert!(Fingerprint::from_bytes(*bytes).is_typed_as(&written));
    }
    if let Some(bytes) = bytes.first_chunk() {
        let written = RecoveryCode::from_bytes(*bytes).reveal();
        assert_eq!(*written.parse::<RecoveryCode>().expect("a code is read as it is written").reveal(), *written);
    }
    let Ok(text) = str::from_utf8(bytes) else { return };
    if let Ok(fingerprint) = text.parse::<Fingerprint>() {
        assert_eq!(fingerprint.to_string().parse(), Ok(fingerprint));
        assert!(fingerprint.is_typed_as(text));
    }
    if let Ok(code) = text.parse::<RecoveryCode>() {
        let written = code.reveal();
        assert_eq!(*written.parse::<RecoveryCode>().expect("a code is read as it is written").reveal(), *written);
    }
}
