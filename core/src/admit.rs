//! What a store decides about an operation before it is written.

use std::collections::BTreeSet;

use crate::date::Date;
use crate::error::{ErrorCode, Refusal};
use crate::id::Sha;
use crate::limits::CLOCK_AHEAD_MICROS_MAX;
use crate::name::LogName;
use crate::op::{Op, Payload};
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

/// Returns which operations a store is not to take of a push of which it refuses others: those in the order of the push that
/// are sealed and for which nothing that is taken vouches by a signature any more. What vouched for them may never come, and
/// then nobody would believe them.
pub fn unsigned<'a>(taken: impl DoubleEndedIterator<Item = &'a Op>) -> BTreeSet<Sha> {
    let mut signed = BTreeSet::new();
    let unsigned = |op: &&Op| {
        let vouched = op.signature().is_some() && signed.insert(op.actor()) || signed.contains(&op.actor());
        matches!(op.payload(), Payload::Sealed { .. }) && !vouched
    };
    taken.rev().filter(unsigned).map(Op::sha).collect()
}

/// Says that an operation is to be signed and sent again.
pub fn refuse_unsigned() -> Refusal {
    let message = "another operation of the same push was refused, and with it the signature that vouches for this one";
    Refusal::new(ErrorCode::Unsigned, message).hint("sign this one too and send it again")
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
