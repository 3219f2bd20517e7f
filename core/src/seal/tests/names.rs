//! Names: the tree stays a tree, and nothing else is told.

use super::*;
use crate::Path;
use crate::limits::{PATH_SEGMENTS_MAX, SEALED_NAME_BYTES_MAX};
use crate::seal::names::associated;

fn path(text: &str) -> Path {
    Path::parse(text).unwrap()
}

#[test]
fn a_blinded_name_is_a_name_and_keeps_user_and_channel() {
    let blind = keys().names().blind(&log());
    assert_eq!(blind.as_log().user, user("me"));
    assert_eq!(blind.as_log().channel, channel("home"));
    assert_eq!(blind.as_log().kind.as_str().len(), 26);
    assert_eq!(blind.as_log().path.as_str().len(), 2 * 27);
    assert_eq!(BlindLog::parse(blind.as_log().clone()).unwrap(), blind);
    assert_eq!(BlindLog::parse(log()), Err(NotBlind { log: log() }));
}

#[test]
fn a_prefix_lists_the_same_logs_blinded() {
    let keys = keys();
    let names = keys.names();
    let all = ["/a", "/a/b", "/a/b/c", "/ab", "/b/a", "/b/b"].map(path);
    for prefix in ["/", "/a", "/a/b", "/b", "/c"].map(|text| PathPrefix::parse(text).unwrap()) {
        let blind = names.blind_prefix(&prefix);
        for path in &all {
            assert_eq!(blind.covers(&names.blind_path(path)), prefix.covers(path), "{prefix} {path}");
        }
    }
}

#[test]
fn the_same_segment_elsewhere_and_the_same_text_as_a_type_are_blinded_otherwise() {
    let keys = keys();
    let last = |text: &str| keys.names().blind_path(&path(text)).as_str().rsplit('/').next().unwrap().to_owned();
    assert_ne!(last("/a/x"), last("/b/x"));
    assert_ne!(last("/x"), last("/x/x"));
    assert_ne!(last("/x"), keys.names().blind_type(&TypeName::parse("x").unwrap()).as_str());
    let others = ChannelKeys::new(secret(9), secret(2));
    assert_ne!(others.names().blind(&log()), keys.names().blind(&log()));
}

#[test]
fn a_sealed_name_opens_for_its_own_log_only() {
    let keys = keys();
    let names = keys.names();
    let (blind, sealed) = (names.blind(&log()), names.seal(&log()));
    assert_eq!(names.open(&blind, &sealed).unwrap(), log());
    let other = names.blind(&LogName::parse("me", "home", "counter", "/other").unwrap());
    assert_eq!(names.open(&other, &sealed), Err(OpenNameError::Forged { log: other }));
    let theirs = ChannelKeys::new(secret(9), secret(2));
    assert!(matches!(theirs.names().open(&blind, &sealed), Err(OpenNameError::Forged { .. })));
}

#[test]
fn a_sealed_name_has_one_spelling() {
    let (kind, path) = (log().kind, log().path);
    // The lengths take a byte more than they need.
    let long = |text: &str| [&[0x78, text.len() as u8], text.as_bytes()].concat();
    let content = [vec![0x82], long(kind.as_str()), long(path.as_str())].concat();
    let blind = keys().names().blind(&log());
    let sealed = aead::seal(&secret(1).derive("gigfs.key.name.seal.1"), &associated(&blind), &content);
    assert!(matches!(keys().names().open(&blind, &sealed), Err(OpenNameError::Decode(_))));
}

#[test]
fn the_longest_names_fit() {
    let long = format!("{}/{}", "/s".repeat(PATH_SEGMENTS_MAX - 1), "s".repeat(255));
    let longest = format!("/{}", vec!["s".repeat(255); 4].join("/"));
    for path in [long, longest] {
        let log = LogName::parse(&"u".repeat(64), &"c".repeat(64), &"t".repeat(64), &path).unwrap();
        let sealed = keys().names().seal(&log);
        assert!(sealed.len() <= SEALED_NAME_BYTES_MAX, "{}", sealed.len());
        assert_eq!(keys().names().open(&keys().names().blind(&log), &sealed).unwrap(), log);
    }
}

proptest! {
    #[test]
    fn names_round_trip_and_any_flipped_bit_is_seen(
        segments in prop::collection::vec("[a-zäß☃]{1,9}", 1..6), kind in "[a-z]{1,20}",
        at in any::<prop::sample::Index>(), bit in 0..8u32,
    ) {
        let log = LogName::parse("me", "home", &kind, &format!("/{}", segments.join("/"))).unwrap();
        let keys = keys();
        let (blind, mut sealed) = (keys.names().blind(&log), keys.names().seal(&log));
        prop_assert_eq!(keys.names().open(&blind, &sealed).unwrap(), log.clone());
        prop_assert_eq!(&sealed, &keys.names().seal(&log));
        let at = at.index(sealed.len());
        sealed[at] ^= 1 << bit;
        prop_assert!(keys.names().open(&blind, &sealed).is_err());
        prop_assert!(keys.names().open(&blind, &sealed[..at]).is_err());
    }
}
