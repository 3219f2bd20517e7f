//! Canonical JSON: one text for one value, so that a plain payload can be hashed.
//!
//! The rule is RFC 8785 (JCS): no white space, members sorted by the UTF-16 units of their names, strings with the
//! shortest escapes, numbers as ECMAScript prints them. One addition, for integers beyond 2^53 - 1 that JCS leaves out:
//! what fits a signed or unsigned 64-bit integer is printed with all its digits.

use serde_json::Value;

use crate::limits::JSON_DEPTH_MAX;

/// Why a text is not acceptable JSON.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// Not JSON at all.
    #[error("the payload is not JSON: {0}")]
    Syntax(String),
    /// Nested deeper than the limit.
    #[error("the payload nests deeper than {JSON_DEPTH_MAX} levels; flatten it")]
    TooDeep,
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
/// [`JsonError`] if the bytes are not JSON, nest too deep, or are another spelling of the same value.
pub fn parse_canonical(bytes: &[u8]) -> Result<Value, JsonError> {
    let value: Value = serde_json::from_slice(bytes).map_err(|error| JsonError::Syntax(error.to_string()))?;
    check_depth(&value)?;
    match canonical(&value) == bytes {
        true => Ok(value),
        false => Err(JsonError::NotCanonical),
    }
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
        fn canonical_text_parses_back_to_itself(value in any_json()) {
            let text = canonical(&value);
            let again = parse_canonical(&text).unwrap();
            prop_assert_eq!(canonical(&again), text);
        }
    }
}
