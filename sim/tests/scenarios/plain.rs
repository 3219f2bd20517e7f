//! The scripts in channels in the clear.

const SEALED: bool = false;

#[path = "scripts.rs"]
mod scripts;
