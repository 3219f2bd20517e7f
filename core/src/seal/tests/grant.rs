//! Sharing: only the grantee opens a grant, and only one from whom it was expected.

use super::*;
use crate::seal::grant::read_content;

const ME: u8 = 20;
const YOU: u8 = 40;

fn grant() -> Grant {
    let (me, you) = (identity(ME), identity(YOU));
    Grant::seal(&me, user("me"), channel("home"), (user("you"), you.public()), &keys(), secret(80)).unwrap()
}

fn pinned() -> Fingerprint {
    identity(ME).public().fingerprint()
}

fn open(grant: &Grant) -> Result<ChannelKeys, GrantError> {
    grant.open(&user("you"), &identity(YOU), pinned())
}

#[test]
fn a_grant_opens_for_its_grantee() {
    let grant = Grant::from_bytes(&grant().to_bytes()).unwrap();
    assert_eq!(open(&grant).unwrap(), keys());
    let expected = Scope { owner: user("me"), channel: channel("home"), grantee: user("you"), epoch: 2 };
    assert_eq!((grant.scope(), grant.granter()), (&expected, identity(ME).public()));
    assert_eq!(self::grant(), grant, "the same randomness makes the same grant");
}

#[test]
fn a_grant_of_later_epochs_does_not_open_earlier_ones() {
    let later = keys().since(2).unwrap();
    let you = identity(YOU);
    let to = (user("you"), you.public());
    let grant = Grant::seal(&identity(ME), user("me"), channel("home"), to, &later, secret(81)).unwrap();
    assert_eq!(open(&grant).unwrap().epochs().collect::<Vec<_>>(), [2]);
}

#[test]
fn a_grant_from_another_or_for_another_is_refused() {
    let other = identity(60);
    let error = grant().open(&user("you"), &identity(YOU), other.public().fingerprint()).unwrap_err();
    assert!(matches!(error, GrantError::Granter(_)));
    let error = grant().open(&user("you"), &other, pinned()).unwrap_err();
    assert!(matches!(error, GrantError::NotForYou { .. }));
    let error = grant().open(&user("them"), &identity(YOU), pinned()).unwrap_err();
    assert!(matches!(error, GrantError::NotForYou { .. }));
}

#[test]
fn the_keys_of_a_grant_have_one_spelling() {
    let written = |epoch: &[u8]| {
        let names = [&[0x82, 0x58, 32][..], &[1; 32]].concat();
        [&names[..], &[0x81, 0x82], epoch, &[0x58, 32], &[2; 32]].concat()
    };
    let keys = ChannelKeys::new(secret(1), secret(2));
    assert_eq!(read_content(&written(&[0x01])), Ok(keys));
    for long in [&[0x18, 0x01][..], &[0x19, 0x00, 0x01]] {
        let refused = read_content(&written(long));
        assert!(matches!(refused, Err(crate::DecodeError::NotCanonical { .. })), "{refused:?}");
    }
}

#[test]
fn every_flipped_byte_truncation_or_addition_is_seen() {
    let bytes = grant().to_bytes();
    let opens = |bytes: &[u8]| Grant::from_bytes(bytes).is_ok_and(|grant| open(&grant).is_ok());
    every_change_is_seen(&bytes, opens);
}

#[test]
fn nothing_is_wrapped_to_a_weak_key() {
    let weak = PublicIdentity { exchange: [0; 32], ..*identity(YOU).public() };
    let to = (user("you"), &weak);
    let refused = Grant::seal(&identity(ME), user("me"), channel("home"), to, &keys(), secret(80));
    assert_eq!(refused, Err(GrantError::WeakKey { grantee: user("you") }));
}

#[test]
fn the_keys_of_a_channel_with_all_its_epochs_fit() {
    let mut keys = keys();
    while keys.epochs().len() < crate::limits::CHANNEL_EPOCHS_MAX {
        keys.rotate(secret(3)).unwrap();
    }
    let you = identity(YOU);
    let to = (user("you"), you.public());
    let grant = Grant::seal(&identity(ME), user("me"), channel("home"), to, &keys, secret(80)).unwrap();
    assert_eq!(open(&grant).unwrap(), keys);
}

proptest! {
    #[test]
    fn bytes_from_anywhere_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        _ = Grant::from_bytes(&bytes);
    }
}
