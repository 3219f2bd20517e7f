//! Keyrings and grants (`docs/crypto.md`): as a server gives them, and what is in them once they are open.

use std::convert::Infallible;
use std::sync::LazyLock;

use ed25519_dalek::{Signer as _, SigningKey};
use gigfs_core::UserName;
use gigfs_core::seal::{
    Grant, GrantError, Invitation, Keyring, KeyringError, KeyringKey, PublicIdentity, RecoveryCode, RootKey, Scope,
    SealedKeyring,
};
use hpke::aead::AesGcm256;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::rand_core::{TryCryptoRng, TryRng};
use hpke::{Deserializable as _, Kem, OpModeS, Serializable as _};
use minicbor::Decoder;

use crate::choice;
use crate::sealed::{array, encrypt, identity, padded, secret};

pub(crate) fn keyrings(bytes: &[u8]) {
    if let Ok(sealed) = SealedKeyring::from_bytes(bytes) {
        assert_eq!(sealed.to_bytes(), bytes, "a sealed keyring has one spelling");
        opened(&sealed);
    }
    let (what, content) = choice(bytes);
    let revision = revision(content).unwrap_or(1);
    let plain = if what % 2 == 0 { padded(content) } else { content.to_vec() };
    let associated = array(3, |to| {
        _ = to.str("gigfs.seal.keyring.1").and_then(|to| to.str("me")).and_then(|to| to.u64(revision));
    });
    let body = encrypt(&secret(50), &associated, plain);
    let (password, recovery) = &*WRAPPED;
    let whole = array(5, |to| {
        _ = to.u64(1).and_then(|to| to.u64(revision));
        _ = to.bytes(password).and_then(|to| to.bytes(recovery)).and_then(|to| to.bytes(&body));
    });
    opened(&SealedKeyring::from_bytes(&whole).expect("it is a sealed keyring"));
}

fn opened(sealed: &SealedKeyring) {
    let user = user("me");
    let by_password = sealed.open(&user, &root(), 0);
    if let Ok((keyring, key)) = &by_password {
        let again = sealed.updated(&user, keyring, key).expect("what fitted fits again");
        assert_eq!(again, *sealed, "a keyring has one sealed form");
        assert!(
            keyring
                .channels()
                .filter_map(|(_, _, sealing)| sealing.keys())
                .all(|keys| keys.epochs().is_sorted() && keys.epochs().len() > 0)
        );
        assert!(matches!(sealed.open(&user, &root(), u64::MAX), Err(KeyringError::Older { .. })));
    }
    match sealed.open_with_recovery(&user, &code(), 0) {
        Ok((keyring, _)) => assert_eq!(keyring.revision(), sealed.revision()),
        Err(error) => assert!(
            by_password.is_err() || matches!(error, KeyringError::NoRecovery { .. } | KeyringError::Recovery { .. })
        ),
    }
}

/// The two wrapped keys of a keyring whose key is that of the golden vectors.
static WRAPPED: LazyLock<([u8; 48], [u8; 48])> = LazyLock::new(|| {
    let (keyring, key) = (Keyring::new(identity(20)), KeyringKey::from_secret(secret(50)));
    let sealed = SealedKeyring::seal(&user("me"), &keyring, &key, &root(), Some(&code())).expect("it is small");
    let bytes = sealed.to_bytes();
    (wrapped_at(&bytes, 2), wrapped_at(&bytes, 3))
});

/// Reads an item of a sealed keyring that is a wrapped key.
fn wrapped_at(bytes: &[u8], item: usize) -> [u8; 48] {
    let mut from = Decoder::new(bytes);
    let read = from.array().and_then(|_| (0..item).try_for_each(|_| from.skip())).and_then(|()| from.bytes());
    read.ok().and_then(|bytes| bytes.try_into().ok()).expect("a wrapped key")
}

fn revision(content: &[u8]) -> Option<u64> {
    let mut from = Decoder::new(content);
    from.array().and_then(|_| from.u64()).and_then(|_| from.u64()).ok()
}

fn user(name: &str) -> UserName {
    UserName::parse(name).expect("it is a good name")
}

fn root() -> RootKey {
    RootKey::from_secret(secret(60))
}

fn code() -> RecoveryCode {
    RecoveryCode::from_bytes([70; 20])
}

pub(crate) fn grants(bytes: &[u8]) {
    if let Ok(identity) = PublicIdentity::from_bytes(bytes) {
        assert_eq!(identity.to_bytes(), bytes, "an identity has one spelling");
    }
    if let Ok(grant) = Grant::from_bytes(bytes) {
        assert_eq!(grant.to_bytes(), bytes, "a grant has one spelling");
        _ = grant.open(&user("you"), &identity(40), grant.granter().fingerprint());
    }
    if let Ok(invitation) = Invitation::from_bytes(bytes) {
        assert_eq!(invitation.to_bytes(), bytes, "an invitation has one spelling");
        let Scope { owner, channel, .. } = invitation.grant().scope();
        _ = invitation.open((&user("you"), &identity(40)), (owner, invitation.grant().granter()), channel);
    }
    let (what, content) = choice(bytes);
    let plain = if what % 2 == 0 { padded(content) } else { content.to_vec() };
    let epoch = newest(content).unwrap_or(1);
    let whole = granted(epoch, &plain);
    let Ok(grant) = Grant::from_bytes(&whole) else { panic!("it is a grant") };
    match grant.open(&user("you"), &identity(40), identity(20).public().fingerprint()) {
        Ok(keys) => {
            assert_eq!(keys.newest(), epoch);
            let to = (user("you"), identity(40));
            let scope = grant.scope().clone();
            let again =
                Grant::seal(&identity(20), scope.owner, scope.channel, (to.0, to.1.public()), &keys, secret(80));
            let again = again.expect("what fitted fits again");
            assert_eq!(again.open(&user("you"), &identity(40), identity(20).public().fingerprint()), Ok(keys));
            assert_eq!(again.to_bytes().len(), whole.len(), "what is wrapped is padded in one way");
            assert!(what % 2 != 0 || is_shortest(content), "the keys of a grant have one spelling");
        }
        Err(GrantError::Decode(_) | GrantError::Forged { .. }) => {}
        Err(error) => panic!("what its granter sealed opens: {error}"),
    }
}

/// Tells whether every number and length of what is CBOR takes its shortest form.
fn is_shortest(mut rest: &[u8]) -> bool {
    while let Some((head, behind)) = rest.split_first() {
        let room = match head & 0x1f {
            24 => 1,
            25 => 2,
            26 => 4,
            27 => 8,
            _ => 0,
        };
        let Some((wide, behind)) = behind.split_at_checked(room) else { return false };
        let number = wide.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
        let least = [24, 0x100, 0x1_0000, 0x1_0000_0000];
        if least.iter().zip([1, 2, 4, 8]).any(|(least, of)| of == room && number < *least) {
            return false;
        }
        let content = if room == 0 { u64::from(head & 0x1f) } else { number };
        let skipped = if matches!(head >> 5, 2 | 3) { usize::try_from(content).unwrap_or(usize::MAX) } else { 0 };
        let Some((_, behind)) = behind.split_at_checked(skipped) else { return false };
        rest = behind;
    }
    true
}

/// The last epoch among a channel's keys.
fn newest(content: &[u8]) -> Option<u32> {
    let mut from = Decoder::new(content);
    from.array().and_then(|_| from.skip()).ok()?;
    let mut last = None;
    for _ in 0..from.array().ok()?? {
        last = from.array().and_then(|_| from.u32()).ok();
        from.skip().ok()?;
    }
    last
}

/// A grant by its document: sealed to the grantee and signed by the granter.
fn granted(epoch: u32, plain: &[u8]) -> Vec<u8> {
    let (granter, grantee) = (identity(20), identity(40));
    let recipient = grantee.public().fingerprint();
    let scope = |to: &mut minicbor::Encoder<Vec<u8>>| {
        _ = to.str("me").and_then(|to| to.str("home")).and_then(|to| to.str("you")).and_then(|to| to.u32(epoch));
    };
    let associated = array(7, |to| {
        _ = to.str("gigfs.seal.grant.1");
        scope(to);
        _ = to.bytes(granter.public().fingerprint().as_bytes()).and_then(|to| to.bytes(recipient.as_bytes()));
    });
    let key = <X25519HkdfSha256 as Kem>::PublicKey::from_bytes(&grantee.public().exchange).expect("any 32 bytes");
    let (encapsulated, sealed) = hpke::single_shot_seal_with_rng::<AesGcm256, HkdfSha256, X25519HkdfSha256>(
        &OpModeS::Base,
        &key,
        b"gigfs.grant.1",
        plain,
        &associated,
        &mut Fixed,
    )
    .expect("the key is a good one");
    let fields = |to: &mut minicbor::Encoder<Vec<u8>>| {
        scope(to);
        let public = granter.public();
        _ = to.array(2).and_then(|to| to.bytes(&public.signing)).and_then(|to| to.bytes(&public.exchange));
        _ = to.bytes(recipient.as_bytes()).and_then(|to| to.bytes(&encapsulated.to_bytes()));
        _ = to.bytes(&sealed);
    };
    let message = array(9, |to| {
        _ = to.str("gigfs.grant.signature.1");
        fields(to);
    });
    let signature = SigningKey::from_bytes(secret(20).expose()).sign(&message).to_bytes();
    array(10, |to| {
        _ = to.u64(1);
        fields(to);
        _ = to.bytes(&signature);
    })
}

/// What draws the same each time.
struct Fixed;

impl TryRng for Fixed {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(7)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(7)
    }

    fn try_fill_bytes(&mut self, to: &mut [u8]) -> Result<(), Infallible> {
        to.fill(7);
        Ok(())
    }
}

impl TryCryptoRng for Fixed {}
