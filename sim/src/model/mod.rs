//! The pruning rule alone, small enough to look at every world that it can come into.

mod act;
mod config;
mod heal;
mod rule;
mod search;
mod set;
mod step;
mod world;

pub use config::{Config, Size};
pub use rule::Rule;
pub use search::{Counterexample, Outcome, Watch, search};
