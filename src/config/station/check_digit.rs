//! `check_digit`: a scheme by its name, or by a table: a name with what is left out, or a weighted
//! sum of the plant's own.

use toml::Spanned;

use super::super::reader::Reader;
use crate::verdict::CheckDigit;
use crate::verdict::check_digit::{End, Position, Remainder, Weighted, WeightedError};
use crate::vlm::grammar::template::MAX_SERIAL_CHARS;

/// Most characters that have a value.
const CHARACTERS_MAX: usize = 256;

/// Largest number of a scheme.
const NUMBER_MAX: i64 = 9_999;

/// Reads the key of a question, in either form.
pub fn read(table: &mut Reader<'_>) -> Option<Spanned<CheckDigit>> {
    if !table.is_table("check_digit") {
        let named = CheckDigit::NAMES.map(|name| (name, CheckDigit::named(name)));
        let found = table.one_of("check_digit", &named)?;
        return Some(Spanned::new(found.span(), found.into_inner()?));
    }
    let mut own = table.table("check_digit");
    let span = own.span();
    let prefix = own.text("prefix", MAX_SERIAL_CHARS);
    let skip = own.text("skip", CHARACTERS_MAX);
    let named = CheckDigit::NAMES.map(|name| (name, CheckDigit::named(name)));
    let scheme = own.one_of("scheme", &named).and_then(Spanned::into_inner);
    let has_scheme = own.has("scheme");
    let made = if has_scheme { scheme } else { read_own(&mut own).map(CheckDigit::own) };
    own.finish();
    let text = |found: Option<Spanned<String>>| found.map(Spanned::into_inner).unwrap_or_default();
    let made = made?.without(&text(prefix), &text(skip));
    if let Some((one, other)) = made.blind_pair().filter(|_| !has_scheme) {
        let title = format!("this check digit does not always tell {one:?} from {other:?}");
        let remedy = "a weight should share no factor with `modulus`, and no two characters a value; \
                      leave it if the scheme is a given one";
        table.warn(span.clone(), title, remedy);
    }
    Some(Spanned::new(span, made))
}

fn read_own(own: &mut Reader<'_>) -> Option<Weighted> {
    let weights = own.wholes("weights", MAX_SERIAL_CHARS, 0..=NUMBER_MAX);
    let weights = own.required("weights", weights, "weights = [3, 1]");
    let from = own.one_of("from", &[("right", End::Right), ("left", End::Left)]);
    let modulus = own.whole("modulus", 2..=NUMBER_MAX).map_or(10, |n| n.into_inner() as u32);
    let is_folded = own.flag("add_digits").is_some_and(Spanned::into_inner);
    let kinds = [("complement", Remainder::Complement), ("plain", Remainder::Plain)];
    let remainder = own.one_of("remainder", &kinds);
    let position = own.whole("position", 1..=MAX_SERIAL_CHARS as i64);
    let characters = own.text("characters", CHARACTERS_MAX);
    let values = read_values(own)?;
    let characters = match characters {
        Some(characters) => characters.into_inner(),
        None => default_characters(own, &values, modulus)?,
    };
    let (weights, from) = (weights?, from.map_or(End::Right, Spanned::into_inner));
    let made = make(&values, weights.get_ref(), from, modulus, &characters);
    let mut made = match made {
        Ok(made) => made.remainder(remainder.map_or(Remainder::Complement, Spanned::into_inner)),
        Err(why) => {
            own.error(own.span(), format!("this check digit cannot be: {why}"), "correct its keys");
            return None;
        }
    };
    if is_folded {
        made = made.folded(modulus);
    }
    if let Some(position) = position {
        made = made.position(Position::At(position.into_inner() as usize - 1));
    }
    Some(made)
}

fn make(
    values: &[String],
    weights: &[i64],
    from: End,
    modulus: u32,
    characters: &str,
) -> Result<Weighted, WeightedError> {
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    let weights: Vec<u32> = weights.iter().map(|weight| *weight as u32).collect();
    Weighted::new(&values)?.weights(&weights, from)?.modulo(modulus, characters)
}

/// The characters of value 0, 1, …: one each by `alphabet`, or any number by `values`.
fn read_values(own: &mut Reader<'_>) -> Option<Vec<String>> {
    let alphabet = own.text("alphabet", CHARACTERS_MAX);
    let values = own.values("values", CHARACTERS_MAX);
    match (own.has("alphabet"), own.has("values")) {
        (true, true) => {
            let title = "a check digit has both `alphabet` and `values`";
            own.error(
                own.key_span("values"),
                title,
                "keep `values` where two characters count alike",
            );
            None
        }
        (_, true) => {
            let mut texts = Vec::new();
            for value in values? {
                let Some(text) = value.get_ref().as_str() else {
                    let remedy = "write the characters of value 0, 1, … as texts: [\"0\", \"1AJ\"]";
                    own.error(value.span(), "`values` is a list of texts", remedy);
                    return None;
                };
                texts.push(text.to_owned());
            }
            Some(texts)
        }
        (true, false) => Some(alphabet?.get_ref().chars().map(String::from).collect()),
        (false, false) => Some("0123456789".chars().map(String::from).collect()),
    }
}

/// The first characters by value, where each value has one.
fn default_characters(own: &Reader<'_>, values: &[String], modulus: u32) -> Option<String> {
    if own.has("characters") {
        return None; // it is there and was bad
    }
    let first: Vec<&String> = values.iter().take(modulus as usize).collect();
    if first.len() == modulus as usize && first.iter().all(|text| text.chars().count() == 1) {
        return Some(first.into_iter().cloned().collect());
    }
    let title =
        format!("the check characters for the remainders 0 to {} are not given", modulus - 1);
    own.error(own.span(), title, "add  characters = \"0123456789X\", one for each remainder");
    None
}
