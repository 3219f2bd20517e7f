//! Certificates of devices and actors (`docs/crypto.md`).

use gigfs_core::UserName;
use gigfs_core::seal::{ActorCertificate, DeviceCertificate, DeviceKey};

use crate::sealed::{identity, secret};

pub(crate) fn law(bytes: &[u8]) {
    let user = UserName::parse("me").expect("it is a good name");
    let (identity, key) = (identity(20), DeviceKey::from_secret(&secret(30)));
    if let Ok(certificate) = DeviceCertificate::from_bytes(bytes) {
        assert_eq!(certificate.to_bytes(), bytes, "a certificate has one spelling");
        if certificate.verify(&user, identity.public()).is_ok() {
            assert_eq!(certificate.user, user);
        }
        // With a good signature, what it says is believed, and its own bytes only.
        let DeviceCertificate { user, device, key, issued, .. } = certificate.clone();
        let signed = identity.certify_device(user.clone(), device, key, issued);
        let trusted = signed.verify(&user, identity.public()).expect("it is well signed");
        assert_eq!(DeviceCertificate::from_bytes(&signed.to_bytes()).as_ref(), Ok(&signed));
        if certificate != signed {
            assert!(certificate.verify(&user, identity.public()).is_err(), "a signature has one spelling");
        }
        _ = trusted;
    }
    if let Ok(certificate) = ActorCertificate::from_bytes(bytes) {
        assert_eq!(certificate.to_bytes(), bytes, "a certificate has one spelling");
        let ActorCertificate { device, actor, issued, .. } = certificate;
        let device_certificate = identity.certify_device(user.clone(), device, key.public(), issued);
        let trusted = device_certificate.verify(&user, identity.public()).expect("it is well signed");
        let signed = key.certify_actor(&user, device, actor, issued);
        assert_eq!(trusted.trust(&signed).expect("it is well signed").actor(), actor);
        assert_eq!(ActorCertificate::from_bytes(&signed.to_bytes()).as_ref(), Ok(&signed));
        assert_eq!(trusted.trust(&certificate).is_ok(), certificate == signed, "a signature has one spelling");
    }
}
