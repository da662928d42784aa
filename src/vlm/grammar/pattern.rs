//! Regular expressions, written piece by piece: the exact language of an answer, byte for byte.
//!
//! The language is regular and finite, so one expression says all of it. Writing it out, instead of handing the JSON
//! Schema to a general compiler, leaves one spelling for every value: compact separators, no `\u0041` beside `A`, no
//! `1e2` beside `100`. `schema.rs` describes the same values for checkers; a test holds the two against each other.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::form::Form;
use super::number;

/// Characters that no answer holds: controls, invisible and direction marks, private use, everything beyond the
/// pictographic planes. Both ends belong to the range. A reader cannot see them, so a person cannot review them.
pub(super) const UNPRINTABLE: [(char, char); 12] = [
    ('\u{0}', '\u{1f}'),
    ('\u{7f}', '\u{9f}'),
    ('\u{ad}', '\u{ad}'),
    ('\u{61c}', '\u{61c}'),
    ('\u{180e}', '\u{180e}'),
    ('\u{200b}', '\u{200f}'),
    ('\u{2028}', '\u{202e}'),
    ('\u{2060}', '\u{206f}'),
    ('\u{e000}', '\u{f8ff}'),
    ('\u{feff}', '\u{feff}'),
    ('\u{fff0}', '\u{ffff}'),
    ('\u{e0000}', '\u{10ffff}'),
];

/// The expression for `form`, every value in its one spelling.
pub(super) fn of(form: &Form) -> String {
    match form {
        Form::Null => "null".to_owned(),
        Form::Fixed(value) => value.to_string(),
        Form::Bool => "(true|false)".to_owned(),
        Form::OneOf(values) => any_of(values.iter().map(|v| literal(&json_string(v)))),
        Form::Integer(spec) => number::integer(spec),
        Form::Decimal(spec) => number::decimal(spec),
        Form::Text { max_chars } => format!("\"{}\"", repeat(&text_char(), 1, *max_chars)),
        Form::Serial(serial) if serial.strict => {
            format!("\"{}\"", serial.template.regex_with(json_class))
        }
        Form::Serial(serial) => {
            format!(
                "\"{}\"",
                repeat(&json_class(&serial.template.characters()), 1, serial.longest())
            )
        }
        Form::List { item, max } => {
            let item = of(item);
            let more =
                if *max > 1 { repeat(&format!("(,{item})"), 0, max - 1) } else { String::new() };
            format!(r"\[({item}{more})?\]")
        }
        Form::Record(fields) => {
            let members: Vec<String> = fields
                .iter()
                .map(|(name, form)| format!("{}:{}", literal(&json_string(name)), of(form)))
                .collect();
            format!(r"\{{{}\}}", members.join(","))
        }
        Form::Either(forms) => any_of(forms.iter().map(of)),
    }
}

/// `text` itself, as an expression.
pub(super) fn literal(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        // Only the characters with a meaning: a backslash before `<` or a letter would give it one.
        if r"\.+*?()|[]{}^$".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// One of `chars`. Only what means something between brackets is escaped: other readers of patterns refuse more.
pub(super) fn class_of(chars: &BTreeSet<char>) -> String {
    let mut out = String::from("[");
    for &c in chars {
        if r"\[]^-".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out.push(']');
    out
}

/// `piece` from `min` to `max` times. `piece` must be a single character, class or group.
pub(super) fn repeat(piece: &str, min: usize, max: usize) -> String {
    match (min, max) {
        (1, 1) => piece.to_owned(),
        (0, 1) => format!("{piece}?"),
        (n, m) if n == m => format!("{piece}{{{n}}}"),
        (n, m) => format!("{piece}{{{n},{m}}}"),
    }
}

/// One character of a text field inside its quotes: as it is, or a quote or backslash escaped.
fn text_char() -> String {
    format!(r#"({}|\\["\\])"#, text_class())
}

/// A printable character that needs no escape inside a JSON string.
pub(super) fn text_class() -> String {
    let mut out = String::from(r#"[^"\\"#);
    for (low, high) in UNPRINTABLE {
        write!(out, r"\u{{{:x}}}-\u{{{:x}}}", low as u32, high as u32)
            .expect("a String takes every write");
    }
    out.push(']');
    out
}

/// One of `chars` as it stands inside a JSON string.
fn json_class(chars: &BTreeSet<char>) -> String {
    let (escaped, plain): (BTreeSet<char>, BTreeSet<char>) =
        chars.iter().partition(|&&c| c == '"' || c == '\\');
    let mut ways = Vec::new();
    if !plain.is_empty() {
        ways.push(class_of(&plain));
    }
    if !escaped.is_empty() {
        ways.push(format!(r"\\{}", class_of(&escaped)));
    }
    any_of(ways.into_iter())
}

fn any_of(ways: impl Iterator<Item = String>) -> String {
    let ways: Vec<String> = ways.collect();
    match ways.as_slice() {
        // A lone class needs no group, and keeps long repetitions cheap.
        [one] => one.clone(),
        _ => format!("({})", ways.join("|")),
    }
}

/// `text` as a compact JSON string, quotes included.
pub(super) fn json_string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
