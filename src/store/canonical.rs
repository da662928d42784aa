//! One text for one value: JSON with sorted keys and no spaces, so that a digest over it repeats.
//!
//! Numbers are written as `serde_json` writes them, the shortest text that reads back the same.
//! A number that is not finite becomes null, as JSON has no text for it.

use serde::Serialize;
use serde_json::Value;

/// The canonical JSON of `value`. Fails only for a type that JSON cannot hold, such as a map whose
/// keys are not texts.
pub fn to_canonical_json(value: &impl Serialize) -> Result<String, serde_json::Error> {
    serde_json::to_value(value).map(|tree| sorted(tree).to_string())
}

/// Sorts keys at every level. Order of insertion is kept by the map's type, so inserting in order
/// is enough; recursion is bounded by the depth of our own types and of a model's bounded answer.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<(String, Value)> = map.into_iter().collect();
            entries.sort_by(|left, right| left.0.cmp(&right.0));
            entries.into_iter().map(|(key, value)| (key, sorted(value))).collect()
        }
        Value::Array(items) => items.into_iter().map(sorted).collect(),
        scalar => scalar,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn keys_are_sorted_at_every_level_and_arrays_keep_their_order() {
        let value = json!({"b": [{"z": 1, "a": 2.5}, null], "a": {"d": "ä\n", "c": true}});
        let text = to_canonical_json(&value).expect("plain data");
        assert_eq!(text, r#"{"a":{"c":true,"d":"ä\n"},"b":[{"a":2.5,"z":1},null]}"#);
        let again: Value = serde_json::from_str(&text).expect("valid");
        assert_eq!(to_canonical_json(&again).expect("plain data"), text);
    }

    #[test]
    fn large_numbers_survive() {
        let text = to_canonical_json(&json!([u64::MAX, i64::MIN, 0.1])).expect("plain data");
        assert_eq!(text, "[18446744073709551615,-9223372036854775808,0.1]");
    }
}
