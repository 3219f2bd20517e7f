//! The stock reducers of gigfs: what most apps need a log to mean.
//!
//! All of them are pure, like the core: no clock, no randomness, no IO. Each module says what its operations mean when
//! they are concurrent and when they arrive late.

mod counter;
mod list;
mod map;
mod register;
mod set;
mod state;
mod text;

#[cfg(test)]
mod laws;

pub use counter::{Counter, CounterChange, CounterState};
pub use list::{List, ListChange, ListState};
pub use map::{Map, MapChange, MapState};
pub use register::{Register, RegisterChange, RegisterState};
pub use set::{Set, SetChange, SetState};
pub use state::Stamp;
pub use text::{Splice, Text, TextChange, TextIntent, TextState};
