//! The wall clock, read here only. What must be measured rather than dated uses `tokio::time`.

use std::time::{SystemTime, UNIX_EPOCH};

/// Returns the milliseconds since 1970; a clock before that reads as 0.
pub(crate) fn now_millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Returns the whole seconds since 1970.
pub(crate) fn now() -> u64 {
    now_millis() / 1000
}
