//! What the writes of a world say: each carries a number of its own, so that it can be counted wherever it arrives.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use gigfs_core::{
    Author, Function, IntentError, Kind, Logged, Meta, Op, PayloadError, Reduced, Reducer, StateError, TypeName,
};
use gigfs_reducers::{Counter, List, Map, Register, Set, Text};
use serde_json::{Value, json};

use crate::rng::Rng;

/// The types that worlds write to, in the order of [`kinds`]' names.
pub const TYPES: [&str; 8] = ["concat", "counter", "list", "map", "raw", "register", "set", "text"];

/// Returns what reads each type.
pub fn kinds() -> BTreeMap<TypeName, Arc<dyn Kind>> {
    let raw = |ops: &[Logged]| Value::Array(ops.iter().map(|op| op.payload.clone()).collect());
    let kinds: [Arc<dyn Kind>; 8] = [
        Arc::new(Reduced::new(Concat)),
        Arc::new(Reduced::new(Counter)),
        Arc::new(Reduced::new(List)),
        Arc::new(Reduced::new(Map)),
        Arc::new(Function::new(raw)),
        Arc::new(Reduced::new(Register)),
        Arc::new(Reduced::new(Set)),
        Arc::new(Reduced::new(Text)),
    ];
    let name = |name| TypeName::parse(name).expect("the names are well formed");
    TYPES.into_iter().map(name).zip(kinds).collect()
}

/// Makes the intent of write number `id` to a log of a type whose value is `value`. Some take out what stands there, and
/// carry no number.
pub(crate) fn intent(kind: &str, id: u64, value: &Value, rng: &mut Rng) -> Value {
    let text = format!("w{id}");
    let len = value.as_array().map_or(0, Vec::len);
    match kind {
        "register" => json!({ "set": text }),
        "counter" => json!({ "add": id }),
        "set" if len > 0 && rng.chance(25) => json!({ "remove": value[rng.index(len)] }),
        "set" => json!({ "add": text }),
        "map" => json!({ "set": { format!("k{}", rng.below(4)): text } }),
        "list" if len > 0 && rng.chance(20) => json!({ "remove": rng.index(len) }),
        "list" if rng.chance(40) => json!({ "insert": [rng.index(len + 1), text] }),
        "list" => json!({ "append": text }),
        "text" => {
            let len = value.as_str().map_or(0, |text| text.chars().count()) as u64;
            let at = rng.below(len + 1);
            json!({ "splice": [at, rng.below(3).min(len - at), format!("{text};")] })
        }
        "raw" => json!(text),
        _ => json!({ "append": text }),
    }
}

/// Returns the number of the write that an operation carries, if it carries one.
pub fn write_id(op: &Op) -> Option<u64> {
    let payload: Value = serde_json::from_slice(op.content().ok()?).ok()?;
    if let Some(update) = payload.get("yrs").and_then(Value::as_str) {
        return numbered(&BASE64_STANDARD.decode(update).ok()?);
    }
    if payload.get("remove").is_some() {
        return None;
    }
    match payload.get("add").and_then(Value::as_u64) {
        Some(id) => Some(id),
        None => numbered(payload.to_string().as_bytes()),
    }
}

/// Finds `w` and a number behind it, ended by `;` or `"`.
fn numbered(bytes: &[u8]) -> Option<u64> {
    let starts = (0..bytes.len()).filter(|at| bytes[*at] == b'w');
    starts.map(|at| &bytes[at + 1..]).find_map(|rest| {
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let ends = rest.get(digits).is_some_and(|byte| matches!(byte, b';' | b'"'));
        (digits > 0 && ends).then(|| std::str::from_utf8(&rest[..digits]).ok()?.parse().ok())?
    })
}

/// Strings one behind the other: the value shows the order of replay.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Concat;

/// A change of a [`Concat`].
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(crate) struct Append {
    append: String,
}

impl Reducer for Concat {
    type Intent = Append;
    type Payload = Append;
    type State = String;

    fn name(&self) -> &str {
        "concat"
    }

    fn version(&self) -> u32 {
        1
    }

    fn initial(&self) -> String {
        String::new()
    }

    fn prepare(&self, _: &String, intent: Append, _: &Author) -> Result<Append, IntentError> {
        Ok(intent)
    }

    fn apply(&self, state: &mut String, payload: Append, _: &Meta) -> Result<(), PayloadError> {
        state.push_str(&payload.append);
        state.push(' ');
        Ok(())
    }

    fn view(&self, state: &String) -> Value {
        json!(state)
    }

    fn encode_state(&self, state: &String) -> Vec<u8> {
        state.clone().into_bytes()
    }

    fn decode_state(&self, bytes: &[u8]) -> Result<String, StateError> {
        String::from_utf8(bytes.to_vec()).map_err(|error| StateError(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_found_in_plain_and_in_binary_payloads() {
        assert_eq!(numbered(br#"{"set":"w17"}"#), Some(17));
        assert_eq!(numbered(b"\x01w\x02w9w231;\x00"), Some(231));
        assert_eq!(numbered(b"w;"), None);
    }
}
