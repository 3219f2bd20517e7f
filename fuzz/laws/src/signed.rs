//! Signed tokens as servers verify them (`docs/wire.md`): what is taken was signed with the right key, in the one algorithm
//! of its use, and says what it must.

use std::sync::LazyLock;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use ed25519_dalek::SigningKey;
use gigfs_core::api::Confirm;
use gigfs_core::token::{CertificateClaims, Permission, StoreClaims, StoreUse};
use gigfs_core::{ChannelName, SessionId, Sha, StoreId, UserName, base64_text};
use gigfs_store_server::decoding::TokenReader;
use gigfs_table_server::decoding::{AckReader, session_token};
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::Value;

use crate::choice;

const SEED: [u8; 32] = [7; 32];
const SECRET: &[u8] = &[5; 32];
const STORE: StoreId = StoreId::from_bytes([1; 16]);
const TABLE: &str = "table-1";
const EPOCH: u64 = 3;

/// One key pair, which is the table's and the store's, so that only what is signed tells them apart.
struct Parties {
    store: TokenReader,
    table: AckReader,
    signing: EncodingKey,
    public: String,
    user: UserName,
    channel: ChannelName,
}

static PARTIES: LazyLock<Parties> = LazyLock::new(|| {
    // An Ed25519 key in PKCS #8 and in SPKI (RFC 8410).
    let private = [&b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20"[..], &SEED].concat();
    let key = SigningKey::from_bytes(&SEED).verifying_key();
    let public = [&b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00"[..], key.as_bytes()].concat();
    let public = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", BASE64_STANDARD.encode(public));
    let log = crate::log();
    let introduction = Confirm {
        table_url: "https://table.example".to_owned(),
        code: String::new(),
        table_id: TABLE.to_owned(),
        table_key: public.clone(),
    };
    Parties {
        store: TokenReader::new(introduction, SECRET, STORE, log.user.clone()).expect("it is a key"),
        table: AckReader::new(EPOCH, &[(STORE, &public)]).expect("it is a key"),
        signing: EncodingKey::from_ed_der(&private),
        public,
        user: log.user,
        channel: log.channel,
    }
});

pub(crate) fn law(bytes: &[u8]) {
    let (which, rest) = choice(bytes);
    match which % 6 {
        0 => nobody_signed(&String::from_utf8_lossy(rest)),
        1 => changed(rest),
        2 => signed_claims(rest),
        3 => signed_under_a_head(rest),
        4 => under_secrets(rest),
        _ => session(&String::from_utf8_lossy(rest)),
    }
}

/// How many readers take a token.
fn takers(text: &str) -> usize {
    let Parties { store, table, channel, .. } = &*PARTIES;
    let log = crate::log();
    let certified =
        CertificateClaims::unverified(text).is_ok_and(|claims| store.certifies(text, &log, claims.checkpoint));
    let taken = [
        store.store_token(text).is_some(),
        store.revocation(text).is_some(),
        store.seal(text, channel).is_some(),
        store.code(text).is_some(),
        table.ack(text).is_some(),
        certified,
    ];
    assert!(!store.certifies(text, &log, Sha::of(b"another")), "a certificate is for one checkpoint");
    taken.into_iter().filter(|taken| *taken).count()
}

fn nobody_signed(text: &str) {
    assert_eq!(takers(text), 0, "what nobody signed is not taken");
}

/// A good token with some bytes of it changed: pairs of a place and a byte.
fn changed(changes: &[u8]) {
    let good = sign(Algorithm::EdDSA, &PARTIES.signing, HEAD, &claims());
    assert_eq!(takers(&good), 1, "the token is good as it is");
    let mut token = good.clone().into_bytes();
    for change in changes.chunks_exact(3) {
        let at = usize::from(change[0]) << 8 | usize::from(change[1]);
        let length = token.len();
        token[at % length] = change[2];
    }
    if token != good.as_bytes() {
        nobody_signed(&String::from_utf8_lossy(&token));
    }
}

/// Whatever a table signs is taken for one use at most, and says what it must.
fn signed_claims(claims: &[u8]) {
    let token = sign(Algorithm::EdDSA, &PARTIES.signing, HEAD, claims);
    assert!(takers(&token) <= 1, "a token is for one use");
    assert!(PARTIES.store.code(&token).is_none(), "a code is the store's own");
    if let Some(claims) = PARTIES.store.store_token(&token) {
        assert_eq!((&claims.sub, claims.aud, claims.iss.as_str()), (&PARTIES.user, STORE, TABLE));
        assert!(claims.exp + 1 >= seconds(), "it has not run out");
    }
    if let Some(claims) = PARTIES.store.revocation(&token) {
        assert_eq!((&claims.sub, claims.aud, claims.iss.as_str()), (&PARTIES.user, STORE, TABLE));
    }
    if let Some(claims) = PARTIES.table.ack(&token) {
        assert_eq!((claims.iss, claims.epoch), (STORE, EPOCH));
    }
}

/// Good claims with a good signature are taken under a head that names the one algorithm, and under no other.
fn signed_under_a_head(head: &[u8]) {
    let token = sign(Algorithm::EdDSA, &PARTIES.signing, head, &claims());
    if takers(&token) > 0 {
        let head: Value = serde_json::from_slice(head).expect("a head that is taken is JSON");
        assert_eq!(head["alg"], "EdDSA");
    }
}

/// What is signed with a secret is a code of the store or nothing; what everybody knows is no secret.
fn under_secrets(claims: &[u8]) {
    for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
        let head = format!("{{\"alg\":\"{algorithm:?}\"}}");
        let known = EncodingKey::from_secret(PARTIES.public.as_bytes());
        assert_eq!(takers(&sign(algorithm, &known, head.as_bytes(), claims)), 0);
        let token = sign(algorithm, &EncodingKey::from_secret(SECRET), head.as_bytes(), claims);
        let is_code = PARTIES.store.code(&token).is_some();
        assert_eq!(takers(&token), usize::from(is_code), "a code is nothing else");
        assert!(!is_code || algorithm == Algorithm::HS256);
    }
}

fn session(text: &str) {
    if let Some(again) = session_token(text) {
        assert_eq!(session_token(&again), Some(again.clone()));
        assert_eq!(again, text.to_ascii_lowercase().split('.').next().unwrap_or_default().to_owned() + &again[32..]);
    }
}

fn sign(algorithm: Algorithm, key: &EncodingKey, head: &[u8], claims: &[u8]) -> String {
    let signed = format!("{}.{}", base64_text::encode(head), base64_text::encode(claims));
    let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), key, algorithm).expect("the key is of its algorithm");
    format!("{signed}.{signature}")
}

/// Good claims of a store token, as of now.
fn claims() -> Vec<u8> {
    let claims = StoreClaims {
        iss: TABLE.to_owned(),
        aud: STORE,
        sub: PARTIES.user.clone(),
        channel: PARTIES.channel.clone(),
        permission: Permission::Write,
        sid: SessionId::from_bytes([2; 16]),
        share: None,
        iat: seconds(),
        exp: seconds() + 3600,
        usage: StoreUse::Store,
    };
    serde_json::to_vec(&claims).expect("claims have a JSON form")
}

fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

const HEAD: &[u8] = br#"{"typ":"JWT","alg":"EdDSA"}"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seeds_are_tokens_that_are_taken_each_by_its_own_reader() {
        let seeds = crate::seeds();
        let claims = |which: u8| {
            let seeds = seeds.iter().filter(move |seed| seed.target == "signed" && seed.bytes[0] == which);
            seeds.map(|seed| &seed.bytes[1..])
        };
        let taken = |claims: &[u8]| takers(&sign(Algorithm::EdDSA, &PARTIES.signing, HEAD, claims));
        // Of the store token alone the time is to be near.
        assert_eq!(claims(2).map(taken).sum::<usize>(), 5);
        let code = claims(4).next().unwrap();
        let head = br#"{"alg":"HS256"}"#;
        assert_eq!(takers(&sign(Algorithm::HS256, &EncodingKey::from_secret(SECRET), head, code)), 1);
        let heads = claims(3).map(|head| takers(&sign(Algorithm::EdDSA, &PARTIES.signing, head, &super::claims())));
        assert_eq!(heads.collect::<Vec<_>>()[..2], [1, 0]);
    }
}
