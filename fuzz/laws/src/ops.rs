//! Operations: records, and the bodies of pushes (`docs/format.md` §2, `docs/wire.md`).

use gigfs_core::api::{OpJson, PushBody};
use gigfs_core::wire::WireOp;
use gigfs_core::{Date, Draft, Op, Sha, admit};

pub(crate) fn law(bytes: &[u8]) {
    record(bytes);
    let Ok(ops) = PushBody::parse(bytes) else { return };
    for op in ops {
        _ = (op.is_unstamped(), op.payload());
        let Ok((draft, _, signature)) = op.stamped() else { continue };
        if let Ok(op) = draft.finish(&crate::log()) {
            let op = op.signed(signature);
            is_in_json(&op);
            record(&op.to_record());
        }
    }
}

fn record(bytes: &[u8]) {
    if let Ok((draft, signature)) = Draft::from_record(bytes) {
        let again = draft.to_record(signature.as_ref());
        assert!(again.len() <= bytes.len(), "the encoding is the shortest");
        assert_eq!(Draft::from_record(&again), Ok((draft, signature)));
    }
    let log = crate::log();
    let Ok(op) = Op::from_record(&log, bytes, None) else { return };
    assert_eq!(op.to_record(), bytes, "an operation has one record");
    assert_eq!(op.sha(), Sha::of(&op.draft().identity_bytes(&log)));
    assert_eq!(Op::from_record(&log, bytes, Some(op.sha())).as_ref(), Ok(&op));
    assert!(Op::from_record(&log, bytes, Some(Sha::of(bytes))).is_err(), "another sha is refused");
    let sent = WireOp { sha: op.sha(), record: bytes.to_vec().into() };
    if let Ok(admitted) = admit(&log, &sent, Date::saturating(1_700_000_000_000_000)) {
        assert_eq!(admitted, op);
    }
    is_in_json(&op);
}

/// The JSON form tells the same operation.
fn is_in_json(op: &Op) {
    let text = serde_json::to_vec(&OpJson::from(op)).expect("an operation has a JSON form");
    let read: OpJson = serde_json::from_slice(&text).expect("the JSON form is read");
    let (draft, sha, signature) = read.stamped().expect("it is stamped");
    assert_eq!(sha, op.sha());
    assert_eq!(draft.finish(&crate::log()).map(|read| read.signed(signature)).as_ref(), Ok(op), "the same sha");
}
