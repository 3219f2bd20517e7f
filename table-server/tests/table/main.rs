//! The table over loopback: real servers, real sockets, and a store's side that writes down what it hears.

#![allow(clippy::unwrap_used, reason = "a test that meets what it does not expect has failed")]

mod audits;
mod checkpoints;
mod connections;
mod credentials;
mod edges;
mod fixtures;
mod guessing;
mod guests;
mod keyrings;
mod mounts;
mod restart;
mod revocations;
mod seals;
mod sessions;
mod streams;
mod tls;
mod tokens;
mod world;
