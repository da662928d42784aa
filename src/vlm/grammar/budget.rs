//! The size of the largest answer, counted before the first one is asked for.
//!
//! A token stands for at least one byte (a rare character is spelled byte by byte), so an answer of n bytes takes at
//! most n tokens, and one more to stop. The bound is loose for plain words and exact for the worst case, which is the
//! one that would overrun the context.

use super::form::Form;
use super::pattern::json_string;

/// Bytes of the longest UTF-8 character, and of the longest escape a text field can hold (`\"` has two).
const MAX_CHAR_BYTES: usize = 4;

/// The most bytes a value of `form` can have.
pub(super) fn max_bytes(form: &Form) -> usize {
    match form {
        Form::Null => "null".len(),
        Form::Fixed(value) => value.to_string().len(),
        Form::Bool => "false".len(),
        Form::OneOf(values) => values.iter().map(|v| json_string(v).len()).max().unwrap_or(0),
        // Sign, one digit more than the range needs, and for decimals the point and its places.
        Form::Integer(spec) => 1 + spec.digits() + 1,
        Form::Decimal(spec) => 1 + spec.whole_digits() + 1 + 1 + usize::from(spec.digits),
        Form::Text { max_chars } => 2 + max_chars * MAX_CHAR_BYTES,
        Form::Serial(serial) => {
            let widest = serial
                .template
                .characters()
                .into_iter()
                .map(|c| json_string(&c.to_string()).len() - 2)
                .max();
            2 + serial.longest() * widest.unwrap_or(0)
        }
        Form::List { item, max } => 2 + max * max_bytes(item) + max.saturating_sub(1),
        Form::Record(members) => {
            let inside: usize = members
                .iter()
                .map(|(name, form)| json_string(name).len() + 1 + max_bytes(form))
                .sum();
            2 + inside + members.len().saturating_sub(1)
        }
        Form::Either(forms) => forms.iter().map(max_bytes).max().unwrap_or(0),
    }
}

/// The most tokens a whole answer of `form` can take: the space before it, a token per byte, the stop token.
pub(super) fn tokens(form: &Form) -> usize {
    1 + max_bytes(form) + 1
}
