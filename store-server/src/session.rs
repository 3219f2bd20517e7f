//! What one session may use of the store: operations a second, and streams at a time.
//!
//! Whoever pushes faster than that waits, and loses nothing. A session is remembered for as long as it is used, and a
//! little longer, so that whoever comes anew each time gains nothing by it.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use gigfs_core::limits::PUSH_OPS_MAX;
use gigfs_core::token::StoreClaims;
use gigfs_core::{ErrorCode, Refusal, SessionId, UserName};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use parking_lot::Mutex;

/// The sessions that use the store now.
pub(crate) struct Sessions {
    rate: Quota,
    streams_max: usize,
    by_id: Mutex<BTreeMap<(UserName, SessionId), Entry>>,
}

/// What a session uses, and when it last did.
type Entry = (Arc<Used>, Instant);

/// What one session uses.
pub(crate) struct Used {
    ops: DefaultDirectRateLimiter,
    streams: AtomicUsize,
}

/// A stream's place among those of its session.
pub(crate) struct StreamPlace(Arc<Used>);

impl Sessions {
    /// Allows so many operations a second to each session, and twice as many at once, and so many streams.
    pub(crate) fn new(ops_per_second: NonZeroU32, streams_max: usize) -> Self {
        // A push of the greatest size has to fit.
        let burst = ops_per_second.saturating_mul(TWO).max(PUSH_OPS);
        Self { rate: Quota::per_second(ops_per_second).allow_burst(burst), streams_max, by_id: Mutex::default() }
    }

    /// Returns what a session uses.
    pub(crate) fn of(&self, claims: &StoreClaims) -> Arc<Used> {
        let now = Instant::now();
        let mut by_id = self.by_id.lock();
        if by_id.len() >= SESSIONS_MAX {
            by_id.retain(|_, (used, last)| Arc::strong_count(used) > 1 || now.duration_since(*last) < REMEMBERED);
        }
        let new = || Arc::new(Used { ops: RateLimiter::direct(self.rate), streams: AtomicUsize::new(0) });
        let (used, last) = by_id.entry((claims.sub.clone(), claims.sid)).or_insert_with(|| (new(), now));
        *last = now;
        used.clone()
    }

    /// Gives a stream a place.
    ///
    /// # Errors
    /// `too_many` if the session has as many as it may.
    pub(crate) fn stream(&self, claims: &StoreClaims) -> Result<StreamPlace, Refusal> {
        let used = self.of(claims);
        let max = self.streams_max;
        let more = |open: usize| (open < max).then_some(open + 1);
        match used.streams.fetch_update(Ordering::AcqRel, Ordering::Acquire, more) {
            Ok(_) => Ok(StreamPlace(used)),
            Err(open) => {
                let message = format!("the session has {open} streams at this store, and the limit is {max}");
                Err(Refusal::new(ErrorCode::TooMany, message).hint("close some; one stream serves a whole channel"))
            }
        }
    }
}

impl Used {
    /// Waits until the session may push so many operations more; of more than fit in a push it does not wait for all.
    pub(crate) async fn wait_for(&self, ops: usize) {
        let ops = u32::try_from(ops).ok().and_then(NonZeroU32::new).map(|ops| ops.min(PUSH_OPS));
        if let Some(ops) = ops {
            // It fits in a burst, so there is a time at which it goes.
            _ = self.ops.until_n_ready(ops).await;
        }
    }
}

impl Drop for StreamPlace {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::AcqRel);
    }
}

const TWO: NonZeroU32 = NonZeroU32::new(2).expect("2 is not 0");
#[expect(clippy::cast_possible_truncation, reason = "it is a constant, and small")]
const PUSH_OPS: NonZeroU32 = NonZeroU32::new(PUSH_OPS_MAX as u32).expect("a push may have operations");
/// Sessions after which those are forgotten that are not used.
const SESSIONS_MAX: usize = 4096;
/// Longer than a session needs to have its whole burst again.
const REMEMBERED: Duration = Duration::from_secs(10);
