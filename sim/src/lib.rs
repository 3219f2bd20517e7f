//! Seeded worlds of gigfs: clients and stores, and everything that goes wrong between them.
//!
//! The clients run the sync machine of `gigfs-core`, the stores the engines of `gigfs-storage`, and only the network, the
//! clocks and the disks are made up. A world is one thread and one queue of events; its seed replays it exactly. Worlds
//! are played from a [`Script`] that a seed makes up, or step by step as a test tells them.

mod check;
mod client;
mod disk;
mod keys;
mod ledger;
pub mod model;
mod payload;
mod rng;
mod script;
mod store;
mod world;

pub use client::Client;
pub use keys::Keys;
pub use payload::{TYPES, kinds, write_id};
pub use rng::Rng;
pub use script::{Script, Step};
pub use store::{Manners, Store};
pub use world::{Counts, Spec, Violation, World};
