//! The store over loopback, with the test as its table.

#![allow(clippy::unwrap_used)]

mod admission;
mod bases;
mod blobs;
mod connections;
mod damage;
mod frames;
mod guests;
mod http;
mod names;
mod pressure;
mod pruning;
mod quota;
mod revocation;
mod seal;
mod stream;
mod tls;
mod tokens;
mod watch;
mod world;
