//! What every decoder of bytes from a peer or a disk keeps, whatever bytes it is given.
//!
//! Each law is a plain function of bytes that panics where the law is broken, so that the fuzzer drives it (`fuzz/`), a
//! test replays what was found once (`tests/findings.rs`), and a person replays an input without a fuzzer
//! (`cargo run -p gigfs-laws -- replay TARGET FILE`). No law panics because of what the bytes are; and what decodes is the
//! same after it was encoded and decoded again, byte for byte where the format has one spelling only.

mod api;
mod certificates;
mod checkpoints;
mod json;
mod keyrings;
mod names;
mod ops;
mod reducers;
mod rows;
mod sealed;
mod seeds;
mod signed;
mod store_notes;
mod text;
mod tokens;
mod typed;
mod wire;

pub use seeds::{Seed, seeds};

/// A law, and the name of the fuzzer's target that drives it.
pub type Law = (&'static str, fn(&[u8]));

/// All laws, by name.
pub const LAWS: &[Law] = &[
    ("api", api::law),
    ("certificates", certificates::law),
    ("checkpoints", checkpoints::law),
    ("client_messages", wire::client_messages),
    ("grants", keyrings::grants),
    ("json", json::law),
    ("keyrings", keyrings::keyrings),
    ("names", names::law),
    ("ops", ops::law),
    ("reducers", reducers::law),
    ("rows", rows::law),
    ("sealed", sealed::law),
    ("server_messages", wire::server_messages),
    ("signed", signed::law),
    ("store_notes", store_notes::law),
    ("text", text::law),
    ("tokens", tokens::law),
    ("typed", typed::law),
];

/// Holds the law of a target against some bytes.
///
/// # Panics
/// If the law is broken, or there is no such target.
pub fn hold(target: &str, bytes: &[u8]) {
    let law = LAWS.iter().find(|(name, _)| *name == target).map(|(_, law)| law);
    law.unwrap_or_else(|| panic!("there is no target {target:?}"))(bytes);
}

/// The log that everything is of which names none itself: that of the golden vectors.
fn log() -> gigfs_core::LogName {
    gigfs_core::LogName::parse("me", "home", "counter", "/visits").expect("it is a good name")
}

/// Takes the first byte, which chooses what the rest is; 0 where there is none.
fn choice(bytes: &[u8]) -> (u8, &[u8]) {
    bytes.split_first().map_or((0, bytes), |(first, rest)| (*first, rest))
}
