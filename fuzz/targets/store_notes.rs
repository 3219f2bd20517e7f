//! Holds the law `store_notes` of `fuzz/laws`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| gigfs_laws::hold("store_notes", bytes));
