//! What a store decides about an operation before it is written.

use crate::date::Date;
use crate::error::{ErrorCode, Refusal};
use crate::limits::CLOCK_AHEAD_MICROS_MAX;
use crate::name::LogName;
use crate::op::Op;
use crate::wire::WireOp;

/// Opens an operation that a client sent and decides whether the store takes it at `now`.
///
/// # Errors
/// [`Refusal`]: malformed, over a limit, forged (`sha_mismatch`), or dated more than
/// [`CLOCK_AHEAD_MICROS_MAX`] ahead (`clock_ahead`, with the store's clock, so that the author can date it again).
pub fn admit(log: &LogName, op: &WireOp, now: Date) -> Result<Op, Refusal> {
    let op = op.open(log)?;
    check_date(op.date(), now)?;
    Ok(op)
}

pub(crate) fn check_date(date: Date, now: Date) -> Result<(), Refusal> {
    let ahead = date.since(now);
    if ahead <= CLOCK_AHEAD_MICROS_MAX {
        return Ok(());
    }
    let message = format!(
        "this is dated {} s ahead of this store's clock and the limit is {} s",
        ahead / 1_000_000,
        CLOCK_AHEAD_MICROS_MAX / 1_000_000
    );
    Err(Refusal::new(ErrorCode::ClockAhead, message).hint("set the device's clock; it will be dated again").at(now))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{ActorId, Seq};
    use crate::op::{Draft, Payload};
    use serde_json::json;

    fn log() -> LogName {
        LogName::parse("me", "home", "register", "/a").unwrap()
    }

    fn dated(micros: u64) -> WireOp {
        let draft = Draft {
            actor: ActorId::from_bytes([1; 16]),
            seq: Seq::FIRST,
            date: Date::saturating(micros),
            deps: vec![],
            payload: Payload::plain(&json!({"set": 1})),
        };
        WireOp::from(&draft.finish(&log()).unwrap())
    }

    #[test]
    fn an_operation_dated_too_far_ahead_is_refused_with_the_stores_clock() {
        let now = Date::saturating(1_000_000);
        assert!(admit(&log(), &dated(1_000_000 + CLOCK_AHEAD_MICROS_MAX), now).is_ok());
        let refusal = admit(&log(), &dated(1_000_001 + CLOCK_AHEAD_MICROS_MAX), now).unwrap_err();
        assert_eq!((refusal.code, refusal.now), (ErrorCode::ClockAhead, Some(now)));
    }

    #[test]
    fn an_operation_from_long_ago_is_taken() {
        assert!(admit(&log(), &dated(1), Date::saturating(u64::MAX)).is_ok());
    }

    #[test]
    fn an_operation_of_another_log_is_refused_as_forged() {
        let other = LogName::parse("me", "home", "register", "/b").unwrap();
        assert_eq!(admit(&other, &dated(1), Date::EPOCH).unwrap_err().code, ErrorCode::ShaMismatch);
    }
}
