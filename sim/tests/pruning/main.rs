//! The worlds that break the simpler rules of pruning, as scripts. `docs/pruning.md` tells the rule.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod plain;
#[allow(clippy::duplicate_mod, reason = "the same scripts in another world")]
mod sealed;
