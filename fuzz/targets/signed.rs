//! Holds the law `signed` of `fuzz/laws`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| gigfs_laws::hold("signed", bytes));
