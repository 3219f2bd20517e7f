//! How long to wait before trying again: twice as long each time, up to a limit, with jitter.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(30);

/// Counts failures in a row.
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    pub(crate) fn new() -> Self {
        Self { failures: 0 }
    }

    /// Begins again, because something went well.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    /// Returns how long to wait now: between half of the step and all of it.
    pub(crate) fn next(&mut self) -> Duration {
        let step = FIRST.saturating_mul(1 << self.failures.min(16)).min(LONGEST);
        self.failures += 1;
        // Without random bytes every client waits the full step, which is only less polite.
        let jitter = crate::random::bytes::<1>().map_or(255, |[byte]| byte);
        step / 2 + step / 2 * u32::from(jitter) / 255
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_grows_to_a_limit_and_begins_again_after_a_success() {
        let mut backoff = Backoff::new();
        assert!(backoff.next() <= FIRST);
        for _ in 0..40 {
            assert!(backoff.next() <= LONGEST);
        }
        assert!(backoff.next() >= LONGEST / 2);
        backoff.reset();
        assert!(backoff.next() <= FIRST);
    }
}
