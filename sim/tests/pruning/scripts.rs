//! The scripts, by subject. Whoever takes them in says whether channels are sealed.

use super::SEALED;

mod histories;
mod order;
mod script;
mod states;
mod stores;
mod writes;
