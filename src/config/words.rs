//! Words for problems: what a TOML value is called, and which known word was probably meant.

use toml::de::DeValue;

/// Longest word for which a likeness is looked for: the search costs the square of the length.
const LIKENESS_MAX_CHARS: usize = 64;

/// Most words that a remedy lists.
const LISTED_MAX: usize = 24;

/// "did you mean …?" if `word` looks like one of `known`, else the list of them. `quote` goes
/// around each word.
pub fn choices(word: &str, known: &[&str], quote: char) -> String {
    if let Some(near) = nearest(word, known) {
        return format!("did you mean {quote}{near}{quote}?");
    }
    let listed: Vec<String> =
        known.iter().take(LISTED_MAX).map(|word| format!("{quote}{word}{quote}")).collect();
    match listed.len() {
        0 => "there is none to choose from".to_owned(),
        1 => format!("the only one known is {}", listed[0]),
        _ => format!("known are {}", listed.join(", ")),
    }
}

/// The word of `known` that looks most like `word`, if one is near.
pub fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let length = word.chars().count();
    if length > LIKENESS_MAX_CHARS {
        return None;
    }
    let word = word.to_lowercase();
    let distance = |other: &str| strsim::damerau_levenshtein(&word, &other.to_lowercase());
    let (near, away) = known.iter().map(|other| (*other, distance(other))).min_by_key(|x| x.1)?;
    // A third of the letters may differ: `temprature` is near, `colour` is not near `contour`.
    (away <= (length / 3).max(1) && away < near.chars().count()).then_some(near)
}

/// `word` without control characters and not too long for a title.
pub fn printable(word: &str) -> String {
    word.chars().filter(|c| !c.is_control()).take(80).collect()
}

/// What a person calls a value of this type.
pub fn describe(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// `value` as JSON if it is a text, a finite number, true or false.
pub fn plain_value(value: &DeValue<'_>) -> Option<serde_json::Value> {
    match value {
        DeValue::String(text) => Some(serde_json::Value::String(text.clone().into_owned())),
        DeValue::Integer(digits) => {
            let whole = i64::from_str_radix(digits.as_str(), digits.radix()).ok()?;
            Some(serde_json::Value::from(whole))
        }
        DeValue::Float(digits) => {
            let number: f64 = digits.as_str().parse().ok()?;
            serde_json::Number::from_f64(number).map(serde_json::Value::Number)
        }
        DeValue::Boolean(flag) => Some(serde_json::Value::Bool(*flag)),
        DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_recognised_and_a_different_word_is_not() {
        let known = ["temperature", "top_p", "prompt"];
        assert_eq!(nearest("temprature", &known), Some("temperature"));
        assert_eq!(nearest("Temperature", &known), Some("temperature"));
        assert_eq!(nearest("promt", &known), Some("prompt"));
        assert_eq!(nearest("colour", &known), None);
        assert_eq!(nearest(&"t".repeat(1_000_000), &known), None);
        assert_eq!(nearest("", &known), None);
        assert_eq!(nearest("x", &[]), None);
    }

    #[test]
    fn without_likeness_the_choices_are_listed() {
        assert_eq!(choices("zzz", &["a", "b"], '`'), "known are `a`, `b`");
        assert_eq!(choices("zzz", &["only"], '"'), "the only one known is \"only\"");
    }
}
