//! Hybrid logical dates: microseconds since 1970 that never run backwards along causality.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

use crate::limits::INTEGER_MAX;

/// A hybrid logical date in microseconds since 1970-01-01T00:00:00Z. It fits a JSON integer (RFC 7493).
///
/// An operation's date is max(wall clock, 1 + the greatest date among what its author had seen in the log), so the order
/// of dates extends causality however wrong the clocks are. See Kulkarni et al., *Logical Physical Clocks*, 2014.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize)]
#[serde(transparent)]
pub struct Date(u64);

impl Date {
    /// 1970-01-01T00:00:00Z.
    pub const EPOCH: Self = Self(0);
    /// The last date that there is.
    pub const MAX: Self = Self(INTEGER_MAX);

    /// Wraps microseconds, at most 2^53 - 1 (the year 2255).
    pub fn from_micros(micros: u64) -> Option<Self> {
        (micros <= INTEGER_MAX).then_some(Self(micros))
    }

    /// Wraps microseconds; what is beyond 2^53 - 1 becomes that.
    pub fn saturating(micros: u64) -> Self {
        Self(micros.min(INTEGER_MAX))
    }

    /// Returns the microseconds.
    pub fn micros(self) -> u64 {
        self.0
    }

    /// Returns the date of an operation written at `wall` by an author who had seen `seen`.
    pub fn after(wall: Self, seen: Option<Self>) -> Self {
        match seen {
            Some(seen) => wall.max(Self::saturating(seen.0 + 1)),
            None => wall,
        }
    }

    /// Returns this date moved by `micros`, within the range that a date can hold.
    pub fn plus(self, micros: i64) -> Self {
        Self::saturating(self.0.saturating_add_signed(micros))
    }

    /// Returns how many microseconds this date is after `other`; 0 if it is not.
    pub fn since(self, other: Self) -> u64 {
        self.0.saturating_sub(other.0)
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for Date {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let micros = u64::deserialize(deserializer)?;
        Self::from_micros(micros)
            .ok_or_else(|| serde::de::Error::custom("a date must be at most 2^53 - 1 microseconds"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_passes_what_its_author_saw_even_when_the_clock_went_back() {
        let wall = Date::saturating(1_000);
        assert_eq!(Date::after(wall, None), wall);
        assert_eq!(Date::after(wall, Some(Date::saturating(5_000))).micros(), 5_001);
        assert_eq!(Date::after(wall, Some(Date::saturating(999))), wall);
    }

    #[test]
    fn a_date_beyond_json_integers_is_refused() {
        assert!(serde_json::from_str::<Date>("9007199254740991").is_ok());
        assert!(serde_json::from_str::<Date>("9007199254740992").is_err());
    }
}
