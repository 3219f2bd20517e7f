//! The scripts in sealed channels.

const SEALED: bool = true;

#[path = "scripts.rs"]
mod scripts;
