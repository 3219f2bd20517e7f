//! The claims of signed tokens, before and without a look at the signature (`docs/wire.md`).

use std::fmt::Debug;

use bytes::Bytes;
use gigfs_core::token::{AckClaims, CertificateClaims, ConfirmClaims, RevokeClaims, SealClaims, StoreClaims};
use gigfs_core::wire::WireBase;
use gigfs_core::{Sha, base64_text};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub(crate) fn law(bytes: &[u8]) {
    let kinds = [
        same::<StoreClaims>(bytes),
        same::<RevokeClaims>(bytes),
        same::<ConfirmClaims>(bytes),
        same::<AckClaims>(bytes),
        same::<CertificateClaims>(bytes),
        same::<SealClaims>(bytes),
    ];
    assert!(kinds.into_iter().filter(|is| *is).count() <= 1, "a token of one use is never taken for one of another");

    // As they stand in a token, and the bytes as a whole token.
    let token = format!("eyJhbGciOiJFZERTQSJ9.{}.", base64_text::encode(bytes));
    assert_eq!(
        CertificateClaims::unverified(&token).ok(),
        serde_json::from_slice(bytes).ok(),
        "a certificate's claims are those in its middle"
    );
    if let Ok(certificate) = str::from_utf8(bytes) {
        _ = CertificateClaims::unverified(certificate);
        let base = WireBase { sha: Sha::of(b""), record: Bytes::new(), certificate: certificate.to_owned() };
        assert!(base.open(&crate::log()).is_err(), "there is no checkpoint in it");
    }
}

fn same<T: Serialize + DeserializeOwned + PartialEq + Debug>(bytes: &[u8]) -> bool {
    let Ok(claims) = serde_json::from_slice::<T>(bytes) else { return false };
    let again = serde_json::to_vec(&claims).expect("claims have a JSON form");
    assert_eq!(serde_json::from_slice::<T>(&again).ok().as_ref(), Some(&claims));
    true
}
