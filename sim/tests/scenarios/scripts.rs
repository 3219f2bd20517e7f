//! The scripts, by subject. Whoever takes them in says whether channels are sealed.

use super::SEALED;

mod clocks;
mod script;
mod stores;
mod writes;
