//! The part of a question that says what its answer may be: `task` and the keys that go with it.

use super::super::reader::Reader;
use super::check_digit;
use crate::station::Task;
use crate::verdict::CheckDigit;
use crate::vlm::grammar::answer::{
    DecimalSpec, DefectsSpec, FieldKind, FieldSpec, IntegerSpec, MAX_FIELDS, MAX_ITEMS,
    MAX_NAME_CHARS, MAX_TEXT_CHARS, SerialSpec, locations,
};
use crate::vlm::grammar::template::{DEFAULT_ALPHABET, Template};

/// Longest template, in characters: a serial has 64 at most, and a position may be spelt out.
const TEMPLATE_MAX: usize = 512;

/// Longest alphabet, in characters.
const ALPHABET_MAX: usize = 256;

/// Largest whole number that a field may hold, either way.
const INTEGER_MAX: i64 = 1_000_000_000_000;

/// Largest number with a fraction, either way: all smaller ones keep their places in binary.
const DECIMAL_MAX: f64 = 1e9;

/// A task as far as it could be read.
#[derive(Debug)]
pub struct Read {
    /// The task, if its keys are good.
    pub task: Option<Task>,
    /// How a serial's last character is computed.
    pub check_digit: Option<CheckDigit>,
    /// The fields that may be left unanswered.
    pub optional_fields: Vec<String>,
    /// What is asked if the question has no words of its own.
    pub default_prompt: &'static str,
}

#[derive(Clone, Copy)]
enum Kind {
    Serial,
    Defects,
    Fields,
}

/// Reads `task` and its keys. `None` if the task is not known.
pub fn read(table: &mut Reader<'_>) -> Option<Read> {
    let kinds = [("serial", Kind::Serial), ("defects", Kind::Defects), ("fields", Kind::Fields)];
    let kind = table.one_of("task", &kinds);
    let kind = table.required("task", kind, "task = \"serial\", \"defects\" or \"fields\"")?;
    Some(match kind.get_ref() {
        Kind::Serial => {
            let (spec, check_digit) = read_serial(table);
            Read {
                task: spec.map(Task::Serial),
                check_digit,
                optional_fields: vec![],
                default_prompt: "Read the serial number on the label. Answer in JSON.",
            }
        }
        Kind::Defects => Read {
            task: read_defects(table).map(Task::Defects),
            check_digit: None,
            optional_fields: vec![],
            default_prompt: "List the visible defects. Answer in JSON.",
        },
        Kind::Fields => {
            let (fields, optional_fields) = read_fields(table, 0);
            Read {
                task: fields.map(Task::Fields),
                check_digit: None,
                optional_fields,
                default_prompt: "Fill in the fields from what you see. Answer in JSON.",
            }
        }
    })
}

fn read_serial(table: &mut Reader<'_>) -> (Option<SerialSpec>, Option<CheckDigit>) {
    let text = table.text("template", TEMPLATE_MAX);
    let text = table.required("template", text, "template = \"#{8}\"");
    let alphabet = table.text("alphabet", ALPHABET_MAX);
    let strict = table.flag("strict").is_some_and(|flag| flag.into_inner());
    let check_digit = check_digit::read(table);
    let Some(text) = text else { return (None, None) };
    let letters = alphabet.as_ref().map_or(DEFAULT_ALPHABET, |alphabet| alphabet.get_ref());
    let template = match Template::parse(text.get_ref(), letters) {
        Ok(template) => template,
        Err(why) => {
            let remedy = "A is a letter, 9 a digit, # either, [XYZ] one of these, {8} repeats; \
                          a backslash takes the next character as it is";
            table.error(text.span(), why.to_string(), remedy);
            return (None, None);
        }
    };
    if let Some(scheme) = &check_digit {
        let is_served = |c: &char| scheme.get_ref().serves(*c);
        if let Some(foreign) = template.characters().iter().find(|c| !is_served(c)) {
            let title = format!("this check digit cannot be computed over {foreign:?}");
            let remedy = "narrow `template` or `alphabet`, leave what is not counted out by \
                          { scheme = \"…\", prefix = \"…\", skip = \"…\" }, or choose another";
            table.error(scheme.span(), title, remedy);
        }
    }
    (Some(SerialSpec { template, strict }), check_digit.map(|scheme| scheme.into_inner()))
}

fn read_defects(table: &mut Reader<'_>) -> Option<DefectsSpec> {
    let classes = read_words(table, "classes");
    let classes = table.required("classes", classes, "classes = [\"scratch\", \"dent\"]");
    let severities = read_words(table, "severities");
    let places = read_words(table, "locations");
    let max_count = table.whole("max_count", 1..=MAX_ITEMS as i64);
    Some(DefectsSpec {
        classes: classes?,
        severities: severities.unwrap_or_else(|| vec!["minor".to_owned(), "major".to_owned()]),
        locations: places.unwrap_or_else(locations),
        max_count: max_count.map_or(4, |count| count.into_inner() as usize),
    })
}

fn read_words(table: &mut Reader<'_>, key: &'static str) -> Option<Vec<String>> {
    let words = table.texts(key, MAX_ITEMS, MAX_NAME_CHARS)?;
    if words.get_ref().is_empty() {
        table.error(words.span(), format!("`{key}` is empty"), "name at least one");
        return None;
    }
    for (at, word) in words.get_ref().iter().enumerate() {
        if words.get_ref()[..at].iter().any(|known| known.get_ref() == word.get_ref()) {
            let title = format!("`{key}` names \"{}\" twice", word.get_ref());
            table.error(word.span(), title, "remove one");
        }
    }
    Some(words.into_inner().into_iter().map(|word| word.into_inner()).collect())
}

/// Reads the `[[…field]]` tables. `depth` is 0 for a question's own fields and 1 for those of a
/// list's items, which hold no further list.
fn read_fields(table: &mut Reader<'_>, depth: usize) -> (Option<Vec<FieldSpec>>, Vec<String>) {
    let header = ["question.field", "question.field.field"][depth.min(1)];
    let tables = table.tables("field", header, MAX_FIELDS);
    if !table.has("field") {
        let title = format!("{} has no fields", table.name());
        table.error(table.span(), title, format!("add a [[{header}]] with `name` and `kind`"));
        return (None, vec![]);
    }
    let count = tables.len();
    let (mut fields, mut optional, mut names) = (Vec::new(), Vec::new(), Vec::new());
    for mut field in tables {
        let name = field.own_name("name");
        let name = field.required("name", name, "name = \"colour\"");
        if let Some(name) = &name {
            field.call(name.get_ref());
            field.refuse_twin("fields", name, &names);
            names.push(name.clone());
        }
        // Only a question's own fields can have rules.
        let is_optional =
            depth == 0 && field.flag("optional").is_some_and(|flag| flag.into_inner());
        let kind = read_kind(field, depth);
        if let (Some(name), Some(kind)) = (name, kind) {
            let name = name.into_inner();
            if is_optional {
                optional.push(name.clone());
            }
            fields.push(FieldSpec { name, kind });
        }
    }
    ((fields.len() == count && count > 0).then_some(fields), optional)
}

fn read_kind(mut field: Reader<'_>, depth: usize) -> Option<FieldKind> {
    let mut words = vec!["bool", "choice", "integer", "decimal", "text", "serial"];
    if depth == 0 {
        words.extend(["defects", "objects"]);
    }
    let pairs: Vec<(&str, &str)> = words.iter().map(|word| (*word, *word)).collect();
    let word = field.one_of("kind", &pairs);
    // Which other keys are right depends on the kind.
    let word = field.required("kind", word, "kind = \"choice\"")?;
    let kind = match *word.get_ref() {
        "bool" => Some(FieldKind::Bool),
        "choice" => {
            let values = read_words(&mut field, "values");
            field.required("values", values, "values = [\"red\", \"blue\"]").map(FieldKind::Choice)
        }
        "integer" => read_integer(&mut field).map(FieldKind::Integer),
        "decimal" => read_decimal(&mut field).map(FieldKind::Decimal),
        "text" => {
            let max = field.whole("max_chars", 1..=MAX_TEXT_CHARS as i64);
            let max = field.required("max_chars", max, "max_chars = 40");
            max.map(|max| FieldKind::Text { max_chars: max.into_inner() as usize })
        }
        // A check digit is a rule of the station's serial; a field has none.
        "serial" => read_serial_field(&mut field).map(FieldKind::Serial),
        "defects" => read_defects(&mut field).map(FieldKind::Defects),
        _ => {
            let max = field.whole("max_items", 1..=MAX_ITEMS as i64);
            let max_items = max.map_or(4, |max| max.into_inner() as usize);
            let (fields, _) = read_fields(&mut field, depth + 1);
            fields.map(|fields| FieldKind::Objects { fields, max_items })
        }
    };
    field.finish();
    kind
}

fn read_serial_field(field: &mut Reader<'_>) -> Option<SerialSpec> {
    let (spec, check_digit) = read_serial(field);
    if check_digit.is_some() {
        let remedy = "ask for it with task = \"serial\", whose rule can check it";
        field.error(field.key_span("check_digit"), "a field has no check digit", remedy);
    }
    spec
}

fn read_integer(field: &mut Reader<'_>) -> Option<IntegerSpec> {
    let range = -INTEGER_MAX..=INTEGER_MAX;
    let min = field.whole("min", range.clone());
    let min = field.required("min", min, "min = 0");
    let max = field.whole("max", range);
    let max = field.required("max", max, "max = 100");
    let strict = field.flag("strict").is_some_and(|flag| flag.into_inner());
    Some(IntegerSpec { min: min?.into_inner(), max: max?.into_inner(), strict })
}

fn read_decimal(field: &mut Reader<'_>) -> Option<DecimalSpec> {
    let range = -DECIMAL_MAX..=DECIMAL_MAX;
    let min = field.number("min", range.clone());
    let min = field.required("min", min, "min = 0.0");
    let max = field.number("max", range);
    let max = field.required("max", max, "max = 10.0");
    let digits = field.whole("digits", 0..=6).map_or(2, |digits| digits.into_inner() as u8);
    let strict = field.flag("strict").is_some_and(|flag| flag.into_inner());
    Some(DecimalSpec { min: min?.into_inner(), max: max?.into_inner(), digits, strict })
}
