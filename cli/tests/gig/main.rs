//! `gig` end to end: real processes over loopback, each test with folders and ports of its own.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that cannot go on fails, and says its seed")]

mod apart;
mod bench;
mod coming_back;
mod connections;
mod curl;
mod cuts;
mod damage;
mod device;
mod disks;
mod first_steps;
mod forged;
mod full;
mod gig_faults;
mod keyring;
mod kills;
mod mistakes;
mod pruning;
mod quota;
mod sealed;
mod secrets;
mod sharing;
mod smuggling;
mod stolen;
mod threats;
mod traffic;
mod two_stores;
mod upkeep;
mod user_keys;
mod world;
