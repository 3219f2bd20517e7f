//! Being let in: by the owner, or by an admin with the owner's word, and by nobody else.

use super::*;
use crate::seal::{Invitation, Membership, Role};

const ME: u8 = 20;
const YOU: u8 = 40;
const ANN: u8 = 60;

fn grant_by(granter: u8) -> Grant {
    let you = identity(YOU);
    Grant::seal(&identity(granter), user("me"), channel("home"), (user("you"), you.public()), &keys(), secret(80))
        .unwrap()
}

/// What somebody says of ann.
fn word(granter: u8, of: &str, role: Option<Role>) -> Membership {
    let ann = (user("ann"), *identity(ANN).public());
    identity(granter).grant_membership((&user("me"), &channel(of)), ann, role, crate::Date::EPOCH)
}

fn open(invitation: &Invitation) -> Result<ChannelKeys, GrantError> {
    let (user_, owner) = (user("you"), user("me"));
    invitation.open((&user_, &identity(YOU)), (&owner, identity(ME).public()), &channel("home"))
}

#[test]
fn the_owner_lets_in_with_a_grant_alone() {
    let invitation = Invitation::new(grant_by(ME), None);
    assert_eq!(invitation.to_bytes(), grant_by(ME).to_bytes());
    assert_eq!(open(&Invitation::from_bytes(&invitation.to_bytes()).unwrap()), Ok(keys()));
}

#[test]
fn an_admin_lets_in_with_the_owners_word_and_with_no_other() {
    let invitation = Invitation::new(grant_by(ANN), Some(word(ME, "home", Some(Role::Admin))));
    let read = Invitation::from_bytes(&invitation.to_bytes()).unwrap();
    assert_eq!((open(&read), &read), (Ok(keys()), &invitation));
    let words = [
        None,
        Some(word(ME, "home", Some(Role::Write))),
        Some(word(ME, "home", None)),
        Some(word(ME, "other", Some(Role::Admin))),
        Some(word(ANN, "home", Some(Role::Admin))),
        Some(word(YOU, "home", Some(Role::Admin))),
    ];
    for word in words {
        let refused = open(&Invitation::new(grant_by(ANN), word));
        assert!(matches!(refused, Err(GrantError::Granter(_))), "{refused:?}");
    }
    let by_another = open(&Invitation::new(grant_by(YOU), Some(word(ME, "home", Some(Role::Admin)))));
    assert!(matches!(by_another, Err(GrantError::Granter(_))), "{by_another:?}");
}

#[test]
fn an_invitation_into_another_channel_or_another_owners_is_refused() {
    let invitation = Invitation::new(grant_by(ME), None);
    let (you, me) = (user("you"), identity(ME));
    let open = |owner: &str, of: &str| {
        invitation.open((&you, &identity(YOU)), (&user(owner), me.public()), &channel(of)).unwrap_err()
    };
    assert!(matches!(open("me", "other"), GrantError::Forged { .. }));
    assert!(matches!(open("ann", "home"), GrantError::Forged { .. }));
}

#[test]
fn every_flipped_byte_truncation_or_addition_of_an_admins_is_seen() {
    let bytes = Invitation::new(grant_by(ANN), Some(word(ME, "home", Some(Role::Admin)))).to_bytes();
    let opens = |bytes: &[u8]| Invitation::from_bytes(bytes).is_ok_and(|invitation| open(&invitation).is_ok());
    every_change_is_seen(&bytes, opens);
}

proptest! {
    #[test]
    fn bytes_from_anywhere_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        _ = Invitation::from_bytes(&bytes);
    }
}
