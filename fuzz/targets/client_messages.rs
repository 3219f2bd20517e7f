//! Holds the law `client_messages` of `fuzz/laws`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| gigfs_laws::hold("client_messages", bytes));
