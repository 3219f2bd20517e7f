//! What must hold when things go wrong one at a time, as scripts.

mod plain;
#[allow(clippy::duplicate_mod, reason = "the same scripts in another world")]
mod sealed;
