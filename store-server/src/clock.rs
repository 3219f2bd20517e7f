//! The wall clock, read here only. What must be measured rather than dated uses `tokio::time`.

use std::time::{SystemTime, UNIX_EPOCH};

use gigfs_core::Date;

/// Returns the date of now; a clock before 1970 reads as that.
pub(crate) fn date() -> Date {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Date::saturating(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}

/// Returns the whole seconds since 1970.
pub(crate) fn seconds() -> u64 {
    date().micros() / 1_000_000
}
