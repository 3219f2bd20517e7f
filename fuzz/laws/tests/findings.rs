//! Holds the laws without a fuzzer: against all that was found once, against the seeds, and against damaged seeds.

#![allow(clippy::print_stdout)] // the input that is replayed stands above what it breaks

use std::fs;
use std::path::Path;

use gigfs_laws::{LAWS, hold, seeds};

/// `findings/TARGET/NAME`: what broke a law once. Files are added and never changed.
#[test]
fn what_was_found_once_is_found_no_more() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("findings");
    for target in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()) {
        let name = target.file_name().unwrap().to_str().unwrap();
        for finding in fs::read_dir(&target).unwrap() {
            let finding = finding.unwrap().path();
            println!("{}", finding.display());
            hold(name, &fs::read(finding).unwrap());
        }
    }
}

#[test]
fn laws_hold_for_every_seed_and_every_target_has_one() {
    let seeds = seeds();
    for (target, law) in LAWS {
        law(b"");
        let of_target = || seeds.iter().filter(|seed| seed.target == *target);
        assert!(of_target().next().is_some(), "{target} begins with nothing");
        of_target().for_each(|seed| law(&seed.bytes));
    }
}

#[test]
fn laws_hold_for_seeds_that_were_cut_flipped_and_lengthened() {
    for seed in seeds() {
        let length = seed.bytes.len();
        let step = length.div_ceil(DAMAGES).max(1);
        for at in (0..length).step_by(step) {
            hold(seed.target, &seed.bytes[..at]);
            for flip in [0x01, 0x20, 0x80, 0xff] {
                let mut bytes = seed.bytes.clone();
                bytes[at] ^= flip;
                hold(seed.target, &bytes);
            }
        }
        hold(seed.target, &[&seed.bytes[..], &[0]].concat());
        hold(seed.target, &[&seed.bytes[..], &seed.bytes[..]].concat());
    }
}

/// Places of each seed that are damaged.
const DAMAGES: usize = 24;
