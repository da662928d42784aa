//! The shape of an answer, stripped of what it is for: the one tree that grammar, schema and budget are read from.

use super::answer::{DecimalSpec, IntegerSpec, SerialSpec};

/// A set of JSON values, each with exactly one spelling.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Form {
    /// `null`.
    Null,
    /// This truth value only.
    Fixed(bool),
    /// `true` or `false`.
    Bool,
    /// One of these strings.
    OneOf(Vec<String>),
    /// A whole number.
    Integer(IntegerSpec),
    /// A number with bounded places.
    Decimal(DecimalSpec),
    /// A string of 1 to `max_chars` printable characters.
    Text {
        /// The most characters.
        max_chars: usize,
    },
    /// A string of the serial's characters.
    Serial(SerialSpec),
    /// An array of 0 to `max` items.
    List {
        /// What each item is.
        item: Box<Form>,
        /// The most items.
        max: usize,
    },
    /// An object with exactly these members in this order.
    Record(Vec<(String, Form)>),
    /// Any of these; no two share a value.
    Either(Vec<Form>),
}

impl Form {
    /// Paths of the free text fields, list indices left out: `note`, `parts[].note`.
    pub(super) fn text_paths(&self) -> Vec<String> {
        let mut found = Vec::new();
        self.collect_text(String::new(), &mut found);
        found
    }

    fn collect_text(&self, path: String, found: &mut Vec<String>) {
        match self {
            Form::Text { .. } => found.push(path),
            Form::List { item, .. } => item.collect_text(format!("{path}[]"), found),
            Form::Either(forms) => {
                forms.iter().for_each(|form| form.collect_text(path.clone(), found))
            }
            Form::Record(members) => {
                for (name, form) in members {
                    let path =
                        if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                    form.collect_text(path, found);
                }
            }
            _ => {}
        }
    }
}
