//! The keyring: sealed, opened by password and by recovery code, and by nothing else.

use super::*;
use crate::DecodeError;

fn keyring() -> Keyring {
    let mut keyring = Keyring::new(identity(20));
    keyring.add_keys(user("me"), channel("home"), keys()).unwrap();
    keyring.add_keys(user("you"), channel("home"), ChannelKeys::new(secret(8), secret(9))).unwrap();
    keyring.mark_plain(user("me"), channel("open")).unwrap();
    keyring.pin(user("you"), identity(40).public().fingerprint()).unwrap();
    keyring.advance();
    keyring
}

fn root(byte: u8) -> RootKey {
    RootKey::from_secret(secret(byte))
}

fn code(byte: u8) -> RecoveryCode {
    RecoveryCode::from_bytes([byte; 20])
}

fn key() -> KeyringKey {
    KeyringKey::from_secret(secret(50))
}

fn sealed() -> SealedKeyring {
    SealedKeyring::seal(&user("me"), &keyring(), &key(), &root(60), Some(&code(70))).unwrap()
}

/// Returns all that a keyring holds, for comparing: its form is canonical.
fn contents(keyring: &Keyring) -> Vec<u8> {
    keyring.to_bytes().to_vec()
}

#[test]
fn password_and_recovery_code_open_the_same_keyring() {
    let sealed = SealedKeyring::from_bytes(&sealed().to_bytes()).unwrap();
    let (by_password, one) = sealed.open(&user("me"), &root(60), 2).unwrap();
    let (by_code, two) = sealed.open_with_recovery(&user("me"), &code(70), 0).unwrap();
    assert_eq!(contents(&by_password), contents(&keyring()));
    assert_eq!(contents(&by_code), contents(&keyring()));
    assert_eq!((one, two), (key(), key()));
    assert_eq!(sealed, self::sealed(), "equal keyrings seal alike");
}

#[test]
fn a_wrong_password_code_or_user_is_told_from_damage_and_from_age() {
    let sealed = sealed();
    let open = |sealed: &SealedKeyring, root: &RootKey, seen| sealed.open(&user("me"), root, seen).unwrap_err();
    assert!(matches!(open(&sealed, &root(61), 0), KeyringError::Password { .. }));
    let as_another = sealed.open(&user("you"), &root(60), 0).unwrap_err();
    assert!(matches!(as_another, KeyringError::Password { .. }));
    let wrong = sealed.open_with_recovery(&user("me"), &code(71), 0).unwrap_err();
    assert!(matches!(wrong, KeyringError::Recovery { .. }));
    let without = sealed.with_recovery(&user("me"), &key(), None);
    let none = without.open_with_recovery(&user("me"), &code(70), 0).unwrap_err();
    assert_eq!(none, KeyringError::NoRecovery { user: user("me") });
    assert_eq!(open(&sealed, &root(60), 3), KeyringError::Older { user: user("me"), revision: 2, seen: 3 });
}

#[test]
fn a_new_password_wraps_the_key_anew_and_leaves_the_rest() {
    let changed = sealed().with_password(&user("me"), &key(), &root(61));
    assert!(changed.open(&user("me"), &root(60), 0).is_err());
    changed.open(&user("me"), &root(61), 0).unwrap();
    changed.open_with_recovery(&user("me"), &code(70), 0).unwrap();
    let (old, new) = (sealed().to_bytes(), changed.to_bytes());
    let differ: Vec<usize> = (0..old.len()).filter(|&at| old[at] != new[at]).collect();
    assert_eq!(old.len(), new.len());
    assert!(differ.last().unwrap() - differ[0] < 48, "the wrapped key and nothing else");
}

#[test]
fn an_update_keeps_what_opens_it_and_a_new_key_shuts_out_the_old_one() {
    let mut next = keyring();
    next.advance();
    next.unpin(&user("you"));
    let updated = sealed().updated(&user("me"), &next, &key()).unwrap();
    let (opened, _) = updated.open(&user("me"), &root(60), 2).unwrap();
    assert_eq!(contents(&opened), contents(&next));
    updated.open_with_recovery(&user("me"), &code(70), 2).unwrap();
    let renewed = KeyringKey::from_secret(secret(51));
    let replaced = SealedKeyring::seal(&user("me"), &next, &renewed, &root(60), Some(&code(70))).unwrap();
    let (old, new) = (updated.to_bytes(), replaced.to_bytes());
    let body = old.len() - padded(next.to_bytes().len()) - 16;
    let mixed = SealedKeyring::from_bytes(&[&old[..body], &new[body..]].concat()).unwrap();
    let forged = KeyringError::Forged { user: user("me"), revision: 3 };
    assert_eq!(mixed.open(&user("me"), &root(60), 0).unwrap_err(), forged);
}

#[test]
fn a_keyring_of_one_revision_does_not_pass_for_another() {
    let mut bytes = sealed().to_bytes();
    assert_eq!(bytes[2], 2, "the revision");
    bytes[2] = 9;
    let later = SealedKeyring::from_bytes(&bytes).unwrap();
    assert_eq!(later.revision(), 9);
    let error = later.open(&user("me"), &root(60), 0).unwrap_err();
    assert_eq!(error, KeyringError::Forged { user: user("me"), revision: 9 });
}

#[test]
fn a_changed_fingerprint_is_not_pinned_over_the_old_one() {
    let mut keyring = keyring();
    let found = identity(41).public().fingerprint();
    let pinned = keyring.pinned(&user("you")).unwrap();
    let changed = PinError::Changed { user: user("you"), pinned, found };
    assert_eq!(keyring.pin(user("you"), found), Err(changed));
    keyring.pin(user("you"), pinned).unwrap();
    keyring.unpin(&user("you"));
    keyring.pin(user("you"), found).unwrap();
}

#[test]
fn keys_are_added_and_never_overwritten() {
    let mut keyring = keyring();
    let mut more = keys();
    more.rotate(secret(5)).unwrap();
    keyring.add_keys(user("me"), channel("home"), more.clone()).unwrap();
    assert_eq!(keyring.channel(&user("me"), &channel("home")).and_then(Sealing::keys), Some(&more));
    let other = ChannelKeys::new(secret(99), secret(98));
    let refused = keyring.add_keys(user("me"), channel("home"), other.clone());
    assert_eq!(refused, Err(AddKeysError::Epoch(EpochError::OtherChannel)));
    keyring.forget_channel(&user("me"), &channel("home")).unwrap();
    keyring.add_keys(user("me"), channel("home"), other).unwrap();
}

#[test]
fn a_channel_is_sealed_plain_or_not_known_and_does_not_change_from_one_to_the_other() {
    let sealed = SealedKeyring::from_bytes(&sealed().to_bytes()).unwrap();
    let (mut keyring, _) = sealed.open(&user("me"), &root(60), 0).unwrap();
    let before = contents(&keyring);
    let (me, home, open) = (user("me"), channel("home"), channel("open"));
    assert_eq!(keyring.channel(&me, &home).unwrap().keys(), Some(&keys()));
    assert_eq!(keyring.channel(&me, &open), Some(&Sealing::Plain));
    assert_eq!(keyring.channel(&user("you"), &open), None, "another owner's channel of that name is not known");

    let to_plain = keyring.mark_plain(me.clone(), home.clone());
    assert_eq!(to_plain, Err(MarkPlainError::Sealed { owner: me.clone(), channel: home }));
    let to_sealed = keyring.add_keys(me.clone(), open.clone(), keys());
    assert_eq!(to_sealed, Err(AddKeysError::Plain { owner: me.clone(), channel: open.clone() }));
    keyring.mark_plain(me.clone(), open.clone()).unwrap();
    assert_eq!(contents(&keyring), before);

    assert_eq!(keyring.forget_channel(&me, &open), Some(Sealing::Plain));
    keyring.add_keys(me, open, keys()).unwrap();
}

#[test]
fn a_keyring_that_is_full_takes_no_channel_more_of_either_kind() {
    let mut keyring = Keyring::new(identity(20));
    for number in 0..crate::limits::KEYRING_CHANNELS_MAX {
        keyring.mark_plain(user("me"), channel(&format!("c{number}"))).unwrap();
    }
    assert_eq!(keyring.mark_plain(user("me"), channel("more")), Err(MarkPlainError::TooMany));
    assert_eq!(keyring.add_keys(user("me"), channel("more"), keys()), Err(AddKeysError::TooMany));
    keyring.mark_plain(user("me"), channel("c0")).unwrap();
    let bytes = keyring.to_bytes();
    let read = super::super::keyring::Keyring::from_bytes(&bytes).unwrap();
    assert_eq!(read.channels().count(), crate::limits::KEYRING_CHANNELS_MAX);
}

#[test]
fn a_device_that_keeps_the_keyrings_key_opens_later_revisions_of_it_and_nothing_else() {
    let mut next = keyring();
    next.advance();
    let updated = sealed().updated(&user("me"), &next, &key()).unwrap().with_password(&user("me"), &key(), &root(61));
    let opened = updated.open_with_key(&user("me"), &key(), 2).unwrap();
    assert_eq!(contents(&opened), contents(&next));
    let open = |user: &UserName, key: &KeyringKey, seen| updated.open_with_key(user, key, seen).unwrap_err();
    let other = KeyringKey::from_secret(secret(51));
    assert_eq!(open(&user("me"), &other, 0), KeyringError::Key { user: user("me"), revision: 3 });
    assert_eq!(open(&user("you"), &key(), 0), KeyringError::Key { user: user("you"), revision: 3 });
    assert_eq!(open(&user("me"), &key(), 4), KeyringError::Older { user: user("me"), revision: 3, seen: 4 });
}

#[test]
fn a_later_version_is_named() {
    let mut bytes = sealed().to_bytes();
    bytes[1] = 2;
    let error = SealedKeyring::from_bytes(&bytes).unwrap_err();
    assert!(matches!(error, KeyringError::Decode(DecodeError::UnknownVersion { found: 2, known: 1, .. })));
}

#[test]
fn any_flipped_byte_truncation_or_addition_is_seen() {
    let bytes = sealed().to_bytes();
    let opens = |bytes: &[u8]| {
        let Ok(sealed) = SealedKeyring::from_bytes(bytes) else { return false };
        sealed.open(&user("me"), &root(60), 0).is_ok() && sealed.open_with_recovery(&user("me"), &code(70), 0).is_ok()
    };
    every_change_is_seen(&bytes, opens);
}

#[test]
fn a_keyring_over_its_limit_is_refused_with_its_size() {
    let mut keyring = Keyring::new(identity(20));
    let mut many = ChannelKeys::new(secret(1), secret(2));
    while many.epochs().len() < crate::limits::CHANNEL_EPOCHS_MAX {
        many.rotate(secret(3)).unwrap();
    }
    for number in 0..30 {
        keyring.add_keys(user("me"), channel(&format!("c{number}")), many.clone()).unwrap();
    }
    let error = SealedKeyring::seal(&user("me"), &keyring, &key(), &root(60), None).unwrap_err();
    assert!(matches!(error, KeyringError::TooLarge { .. }));
    assert!(!format!("{keyring:?}").contains("[1, 1"));
}

proptest! {
    #[test]
    fn bytes_from_anywhere_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        _ = SealedKeyring::from_bytes(&bytes);
        _ = super::super::keyring::Keyring::from_bytes(&bytes);
    }

    #[test]
    fn any_keyring_round_trips(
        channels in prop::collection::btree_map("[a-z]{1,9}", prop::option::of((any::<[u8; 32]>(), 1..5u8)), 0..5),
        pins in prop::collection::btree_map("[a-z]{1,9}", any::<[u8; 32]>(), 0..5),
        root in any::<[u8; 32]>(),
    ) {
        let mut keyring = Keyring::new(identity(20));
        for (name, keys) in channels {
            let Some((names, epochs)) = keys else {
                keyring.mark_plain(user("me"), channel(&name)).unwrap();
                continue;
            };
            let mut keys = ChannelKeys::new(Secret::from_bytes(names), secret(1));
            (1..epochs).for_each(|byte| _ = keys.rotate(secret(byte)).unwrap());
            keyring.add_keys(user("me"), channel(&name), keys).unwrap();
        }
        for (name, fingerprint) in pins {
            keyring.pin(user(&name), Fingerprint::from_bytes(fingerprint)).unwrap();
        }
        let root = RootKey::from_secret(Secret::from_bytes(root));
        let sealed = SealedKeyring::seal(&user("me"), &keyring, &key(), &root, None).unwrap();
        let (opened, _) = sealed.open(&user("me"), &root, 0).unwrap();
        prop_assert_eq!(contents(&opened), contents(&keyring));
    }
}
