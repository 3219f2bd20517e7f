//! The wall clock, read here only. What must be measured rather than dated uses `tokio::time`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// Returns the milliseconds since 1970; a clock before that reads as 0.
pub(crate) fn now_millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Returns the whole seconds since 1970.
pub(crate) fn now() -> u64 {
    now_millis() / 1000
}

/// Waits until a whole number of [`STEP`]s after `began`, so that what was done meanwhile does not show in how long it took.
pub(crate) async fn even(began: Instant) {
    let steps = began.elapsed().as_nanos() / STEP.as_nanos() + 1;
    tokio::time::sleep_until(began + STEP * u32::try_from(steps).unwrap_or(u32::MAX)).await;
}

/// Many times what a look into the database takes.
const STEP: Duration = Duration::from_millis(5);
