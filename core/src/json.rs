//! Canonical JSON: one text for one value, so that a plain payload can be hashed.
//!
//! The rule is RFC 8785 (JCS): no white space, members sorted by the UTF-16 units of their names, strings with the
//! shortest escapes, numbers as ECMAScript prints them. One addition, for integers beyond 2^53 - 1 that JCS leaves out:
//! what fits a signed or unsigned 64-bit integer is printed with all its digits.

use serde_json::Value;

use crate::limits::{JSON_BODY_DEPTH_MAX, JSON_BODY_MEMBERS_MAX, JSON_DEPTH_MAX, JSON_MEMBERS_MAX};

/// Why a text is not acceptable JSON.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// Not JSON at all.
    #[error("the payload is not JSON: {0}")]
    Syntax(String),
    /// Nested deeper than the limit.
    #[error("the payload nests deeper than {JSON_DEPTH_MAX} levels; flatten it")]
    TooDeep,
    /// More members and elements than the limit.
    #[error("the payload has more than {JSON_MEMBERS_MAX} members and elements; write it in several operations")]
    TooMany,
    /// JSON, but not in its canonical form.
    #[error("the payload is not canonical JSON (RFC 8785); sort the members and drop the white space before hashing")]
    NotCanonical,
}

/// Writes `value` in canonical form.
pub fn canonical(value: &Value) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    write(value, &mut out);
    out
}

/// Parses canonical JSON.
///
/// # Errors
/// [`JsonError`] if the bytes are not JSON, nest too deep, have too many members, or are another spelling of the same value.
pub fn parse_canonical(bytes: &[u8]) -> Result<Value, JsonError> {
    match exceeds(bytes, JSON_DEPTH_MAX, JSON_MEMBERS_MAX) {
        None => {}
        Some(Excess::Depth) => return Err(JsonError::TooDeep),
        Some(Excess::Members) => return Err(JsonError::TooMany),
    }
    let value: Value = serde_json::from_slice(bytes).map_err(|error| JsonError::Syntax(error.to_string()))?;
    match canonical(&value) == bytes {
        true => Ok(value),
        false => Err(JsonError::NotCanonical),
    }
}

/// Checks a JSON body or message before anything is made of it: a byte of JSON may become dozens in memory.
///
/// # Errors
/// A sentence that names the limit. Whether it is JSON is not checked.
pub fn check_body(bytes: &[u8]) -> Result<(), String> {
    match exceeds(bytes, JSON_BODY_DEPTH_MAX, JSON_BODY_MEMBERS_MAX) {
        None => Ok(()),
        Some(Excess::Depth) => Err(format!("it nests deeper than the limit of {JSON_BODY_DEPTH_MAX} levels")),
        Some(Excess::Members) => {
            Err(format!("it has more members and elements than the limit of {JSON_BODY_MEMBERS_MAX}"))
        }
    }
}

/// What a text has too much of.
enum Excess {
    Depth,
    Members,
}

/// Looks at brackets and commas outside of strings. Of what is JSON it counts rightly but for an empty array or object,
/// which counts as one member; of what is not, something.
fn exceeds(bytes: &[u8], depth_max: usize, members_max: usize) -> Option<Excess> {
    let (mut depth, mut members) = (0_usize, 0);
    let (mut in_string, mut is_escaped) = (false, false);
    for byte in bytes {
        if in_string {
            match byte {
                _ if is_escaped => is_escaped = false,
                b'\\' => is_escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'[' | b'{' => (depth, members) = (depth + 1, members + 1),
            b']' | b'}' => depth = depth.saturating_sub(1),
            b',' => members += 1,
            _ => {}
        }
        if depth > depth_max {
            return Some(Excess::Depth);
        }
        if members > members_max {
            return Some(Excess::Members);
        }
    }
    None
}

/// Checks that `value` nests no deeper than [`JSON_DEPTH_MAX`].
///
/// # Errors
/// [`JsonError::TooDeep`].
pub fn check_depth(value: &Value) -> Result<(), JsonError> {
    fn fits(value: &Value, left: usize) -> bool {
        match value {
            Value::Array(items) => left > 0 && items.iter().all(|item| fits(item, left - 1)),
            Value::Object(members) => left > 0 && members.values().all(|item| fits(item, left - 1)),
            _ => true,
        }
    }
    match fits(value, JSON_DEPTH_MAX) {
        true => Ok(()),
        false => Err(JsonError::TooDeep),
    }
}

fn write(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Number(number) => write_number(number, out),
        Value::String(text) => write_string(text, out),
        Value::Array(items) => {
            out.push(b'[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                write(item, out);
            }
            out.push(b']');
        }
        Value::Object(members) => {
            let mut sorted: Vec<_> = members.iter().collect();
            sorted.sort_by(|(a, _), (b, _)| a.encode_utf16().cmp(b.encode_utf16()));
            out.push(b'{');
            for (at, (name, item)) in sorted.into_iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                write_string(name, out);
                out.push(b':');
                write(item, out);
            }
            out.push(b'}');
        }
    }
}

fn write_number(number: &serde_json::Number, out: &mut Vec<u8>) {
    if number.is_i64() || number.is_u64() {
        out.extend_from_slice(number.to_string().as_bytes());
    } else {
        let float = number.as_f64().unwrap_or(0.0);
        out.extend_from_slice(ryu_js::Buffer::new().format(float).as_bytes());
    }
}

/// Writes a string with the escapes of RFC 8785 §3.2.2.2, which are those that serde_json writes.
fn write_string(text: &str, out: &mut Vec<u8>) {
    serde_json::to_writer(&mut *out, text).expect("writing a string to memory cannot fail");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn the_example_of_rfc_8785_comes_out_as_printed_there() {
        let value: Value = serde_json::from_str(
            r#"{"numbers":[333333333.33333329,1E30,4.50,2e-3,0.000000000000000000000000001],
                "string":"\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/","literals":[null,true,false]}"#,
        )
        .unwrap();
        let expected = "{\"literals\":[null,true,false],\"numbers\":[333333333.3333333,1e+30,4.5,0.002,1e-27],\
                        \"string\":\"€$\\u000f\\nA'B\\\"\\\\\\\\\\\"/\"}";
        assert_eq!(String::from_utf8(canonical(&value)).unwrap(), expected);
    }

    #[test]
    fn members_sort_by_utf_16_units_not_by_bytes() {
        let value = json!({"\u{ff61}": 1, "\u{10000}": 2});
        assert_eq!(canonical(&value), "{\"\u{10000}\":2,\"\u{ff61}\":1}".as_bytes());
    }

    #[test]
    fn falsy_values_and_large_integers_keep_their_spelling() {
        for text in ["0", "\"\"", "false", "null", "-1", "9007199254740993", "18446744073709551615"] {
            assert_eq!(parse_canonical(text.as_bytes()).map(|value| canonical(&value)).unwrap(), text.as_bytes());
        }
    }

    #[test]
    fn another_spelling_of_the_same_value_is_refused() {
        for text in [" 1", "1.0", "{\"b\":1,\"a\":2}", "\"\\u0041\"", "1e2", "-0.0"] {
            assert_eq!(parse_canonical(text.as_bytes()), Err(JsonError::NotCanonical), "{text}");
        }
        assert!(matches!(parse_canonical(b"{"), Err(JsonError::Syntax(_))));
    }

    #[test]
    fn nesting_beyond_the_limit_is_refused_and_not_recursed_into() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(parse_canonical(nested(JSON_DEPTH_MAX).as_bytes()).is_ok());
        assert_eq!(parse_canonical(nested(JSON_DEPTH_MAX + 1).as_bytes()), Err(JsonError::TooDeep));
        assert!(parse_canonical(nested(1_000_000).as_bytes()).is_err());
    }

    #[test]
    fn members_beyond_the_limit_are_refused_before_anything_is_made_of_them() {
        let many = |count: usize| format!("[{}]", vec!["0"; count].join(","));
        assert!(parse_canonical(many(JSON_MEMBERS_MAX).as_bytes()).is_ok());
        assert_eq!(parse_canonical(many(JSON_MEMBERS_MAX + 1).as_bytes()), Err(JsonError::TooMany));
        let spread = format!("[{}]", vec!["[[],{}]"; JSON_MEMBERS_MAX / 4].join(","));
        assert_eq!(parse_canonical(spread.as_bytes()), Err(JsonError::TooMany));
        // What stands in strings counts for nothing, whatever it looks like.
        let text = format!(r#"["{}","\\\"{}"]"#, "[,{".repeat(JSON_MEMBERS_MAX), ",".repeat(JSON_MEMBERS_MAX));
        assert_eq!(
            parse_canonical(text.as_bytes()).map(|value| value[1].as_str().unwrap().len()),
            Ok(JSON_MEMBERS_MAX + 2)
        );
    }

    #[test]
    fn a_body_may_hold_the_largest_payload_and_no_more_than_its_own_limits() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(check_body(format!(r#"{{"ops":[{{"payload":{}}}]}}"#, nested(JSON_DEPTH_MAX)).as_bytes()).is_ok());
        assert!(check_body(nested(JSON_BODY_DEPTH_MAX + 1).as_bytes()).unwrap_err().contains("80 levels"));
        let many = ",".repeat(JSON_BODY_MEMBERS_MAX + 1);
        assert!(check_body(many.as_bytes()).unwrap_err().contains("524288"));
        assert_eq!(check_body(b"\"unclosed [[["), Ok(()));
        assert_eq!(check_body(b"]]]}}}"), Ok(()));
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 64, 8, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
                prop::collection::btree_map(any::<String>(), inner, 0..8)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn the_count_is_that_of_the_value(value in any_json()) {
            fn count(value: &Value) -> usize {
                match value {
                    Value::Array(items) => items.len().max(1) + items.iter().map(count).sum::<usize>(),
                    Value::Object(members) => members.len().max(1) + members.values().map(count).sum::<usize>(),
                    _ => 0,
                }
            }
            let (text, members) = (canonical(&value), count(&value));
            prop_assert!(exceeds(&text, usize::MAX, members).is_none());
            prop_assert!(members == 0 || exceeds(&text, usize::MAX, members - 1).is_some());
        }

        #[test]
        fn canonical_text_parses_back_to_itself(value in any_json()) {
            let text = canonical(&value);
            let again = parse_canonical(&text).unwrap();
            prop_assert_eq!(canonical(&again), text);
        }
    }
}
