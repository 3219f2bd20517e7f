//! Canonical JSON, and the count that comes before any JSON is read (`docs/format.md` §1).

use gigfs_core::json;
use serde_json::Value;

pub(crate) fn law(bytes: &[u8]) {
    if let Ok(value) = json::parse_canonical(bytes) {
        assert_eq!(json::canonical(&value), bytes, "canonical JSON has one spelling");
        assert_eq!(json::check_depth(&value), Ok(()));
        assert_eq!(json::check_body(bytes), Ok(()), "a payload fits into a body");
    }
    let Ok(value) = serde_json::from_slice::<Value>(bytes) else { return };
    let canonical = json::canonical(&value);
    let again: Value = serde_json::from_slice(&canonical).expect("canonical JSON is JSON");
    assert_eq!(json::canonical(&again), canonical, "the canonical form of the canonical form is itself");
    if json::check_depth(&value).is_ok() && json::check_body(bytes).is_ok() {
        assert!(json::parse_canonical(&canonical).is_ok(), "what is canonical is taken");
    }
}
