//! What a question's answer may be: named, typed, bounded values, each of which the model may decline to give.
//!
//! A declined value is written down as such (`null`, `"unclear"`, `"legible":false`), so that "I cannot see it" never
//! has to be guessed from a low number. The three presets and the free form share one description, [`Form`], from
//! which the grammar, the JSON Schema and the size bound are all derived.

use std::collections::BTreeSet;

use serde_json::Value;

use super::form::Form;
use super::template::Template;
use super::{budget, pattern, schema};

pub use super::number::{DecimalSpec, IntegerSpec};

/// Written where a severity or a location cannot be told.
pub const ABSTAIN: &str = "unclear";

/// The most items of a list, and of the names a field may choose from.
pub const MAX_ITEMS: usize = 32;
/// The most fields of an answer or of a list item.
pub const MAX_FIELDS: usize = 32;
/// The longest field name or choice, in characters.
pub const MAX_NAME_CHARS: usize = 64;
/// The longest text field, in characters.
pub const MAX_TEXT_CHARS: usize = 1000;
/// The longest answer, in bytes: a part waits on the line while it is written.
pub const MAX_ANSWER_BYTES: usize = 16 * 1024;

/// Why a description of an answer was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("answer field `{field}`: {problem}")]
pub struct AnswerError {
    /// The field, by its path: `note`, `defects.classes`.
    pub field: String,
    /// What is wrong, and what to do.
    pub problem: String,
}

/// A checked description of an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct AnswerSpec {
    kind: AnswerKind,
    form: Form,
}

/// Which of the known answers a spec describes.
#[derive(Clone, Debug, PartialEq)]
pub enum AnswerKind {
    /// `{"legible":true,"serial":"A7K2M9PX"}` or `{"legible":false,"serial":null}`.
    Serial(SerialSpec),
    /// `{"inspectable":true,"defects":[...]}` or `{"inspectable":false,"defects":null}`.
    Defects(DefectsSpec),
    /// One member per field, in this order; `null` where the model declines.
    Fields(Vec<FieldSpec>),
}

/// A serial number to read.
#[derive(Clone, Debug, PartialEq)]
pub struct SerialSpec {
    /// How the serial is written.
    pub template: Template,
    /// Whether the grammar admits only serials that match. Off by default: a model held to the template writes a
    /// matching serial whatever it sees. Left free, within the template's characters and one more than its length, a
    /// misread or foreign mark does not match, and a rule can send the part to a person.
    pub strict: bool,
}

/// Surface defects to list.
#[derive(Clone, Debug, PartialEq)]
pub struct DefectsSpec {
    /// Names of the defects looked for. The model must name one; it cannot decline.
    pub classes: Vec<String>,
    /// Names of the severities; [`ABSTAIN`] is added.
    pub severities: Vec<String>,
    /// Names of the places on the part; [`ABSTAIN`] is added.
    pub locations: Vec<String>,
    /// The most defects listed, 1 to [`MAX_ITEMS`]. Lower is faster; a part with more than this fails either way.
    pub max_count: usize,
}

/// One field of a free answer.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldSpec {
    /// The member's name: letters, digits, `_` and `-`.
    pub name: String,
    /// What it may hold beside `null`.
    pub kind: FieldKind,
}

/// What a field may hold beside `null`.
#[derive(Clone, Debug, PartialEq)]
pub enum FieldKind {
    /// `true` or `false`.
    Bool,
    /// One of these strings.
    Choice(Vec<String>),
    /// A whole number.
    Integer(IntegerSpec),
    /// A number with some places after the point.
    Decimal(DecimalSpec),
    /// Free printable text of 1 to `max_chars` characters.
    Text {
        /// The most characters, at most [`MAX_TEXT_CHARS`]. Each may cost up to four tokens.
        max_chars: usize,
    },
    /// A serial number.
    Serial(SerialSpec),
    /// A list of defects, as in [`AnswerKind::Defects`].
    Defects(DefectsSpec),
    /// A list of objects with these fields, none of which is a list itself.
    Objects {
        /// The fields of each object.
        fields: Vec<FieldSpec>,
        /// The most objects, 1 to [`MAX_ITEMS`].
        max_items: usize,
    },
}

/// The nine places of a part seen as a 3×3 grid, from the upper left to the lower right.
pub fn locations() -> Vec<String> {
    let names = [
        "upper left",
        "upper center",
        "upper right",
        "center left",
        "center",
        "center right",
        "lower left",
        "lower center",
        "lower right",
    ];
    names.map(str::to_owned).to_vec()
}

impl AnswerSpec {
    /// A serial number, or that it is not legible.
    pub fn serial(spec: &SerialSpec) -> Result<AnswerSpec, AnswerError> {
        let seen =
            |legible, serial| record([("legible", Form::Fixed(legible)), ("serial", serial)]);
        let form =
            Form::Either(vec![seen(true, Form::Serial(spec.clone())), seen(false, Form::Null)]);
        AnswerSpec::checked(AnswerKind::Serial(spec.clone()), form)
    }

    /// The defects of a surface, or that it cannot be inspected.
    pub fn defects(spec: &DefectsSpec) -> Result<AnswerSpec, AnswerError> {
        let list = spec.form("defects")?;
        let seen = |inspectable, defects| {
            record([("inspectable", Form::Fixed(inspectable)), ("defects", defects)])
        };
        let form = Form::Either(vec![seen(true, list), seen(false, Form::Null)]);
        AnswerSpec::checked(AnswerKind::Defects(spec.clone()), form)
    }

    /// These fields, in this order.
    pub fn fields(fields: Vec<FieldSpec>) -> Result<AnswerSpec, AnswerError> {
        let form = record_of(&fields, "", false)?;
        AnswerSpec::checked(AnswerKind::Fields(fields), form)
    }

    fn checked(kind: AnswerKind, form: Form) -> Result<AnswerSpec, AnswerError> {
        let bytes = budget::max_bytes(&form);
        if bytes > MAX_ANSWER_BYTES {
            let problem = format!(
                "an answer could have {bytes} bytes, and {MAX_ANSWER_BYTES} is the most; allow fewer items or shorter texts"
            );
            return Err(wrong("(whole answer)", &problem));
        }
        Ok(AnswerSpec { kind, form })
    }

    /// Which answer this is.
    pub fn kind(&self) -> &AnswerKind {
        &self.kind
    }

    /// The answer as JSON Schema, draft 2020-12. Member order and spelling are beyond a schema's reach.
    pub fn schema(&self) -> Value {
        schema::document(&self.form)
    }

    /// The answer's language as one regular expression over its bytes, without anchors.
    pub fn regex(&self) -> String {
        pattern::of(&self.form)
    }

    /// The most bytes an answer can have.
    pub fn max_bytes(&self) -> usize {
        budget::max_bytes(&self.form)
    }

    /// The most tokens an answer can take, the stop token included.
    pub fn budget_tokens(&self) -> usize {
        budget::tokens(&self.form)
    }

    pub(super) fn form(&self) -> &Form {
        &self.form
    }
}

impl SerialSpec {
    /// A serial written by this template, with the grammar left free to show a misread one.
    pub fn new(template: Template) -> SerialSpec {
        SerialSpec { template, strict: false }
    }

    /// The most characters the grammar admits. One more than the template when it is not strict: a serial cut off at
    /// the template's own length could match it.
    pub(super) fn longest(&self) -> usize {
        self.template.max_len() + usize::from(!self.strict)
    }
}

impl DefectsSpec {
    /// Defects of these classes: minor, major or critical, on the 3×3 grid, at most four.
    pub fn new(classes: impl IntoIterator<Item = impl Into<String>>) -> DefectsSpec {
        DefectsSpec {
            classes: classes.into_iter().map(Into::into).collect(),
            severities: ["minor", "major", "critical"].map(str::to_owned).to_vec(),
            locations: locations(),
            max_count: 4,
        }
    }

    fn form(&self, path: &str) -> Result<Form, AnswerError> {
        let names = |values: &[String], what| choice(values, &join(path, what));
        let or_abstain = |values: &[String], what| -> Result<Form, AnswerError> {
            let mut values = values.to_vec();
            // Naming it in the settings as well is no mistake.
            values.retain(|v| v != ABSTAIN);
            values.push(ABSTAIN.to_owned());
            names(&values, what)
        };
        let item = record([
            ("class", names(&self.classes, "classes")?),
            ("severity", or_abstain(&self.severities, "severities")?),
            ("location", or_abstain(&self.locations, "locations")?),
        ]);
        list(item, self.max_count, &join(path, "max_count"))
    }
}

impl FieldKind {
    fn form(&self, path: &str, in_list: bool) -> Result<Form, AnswerError> {
        if in_list && matches!(self, FieldKind::Defects(_) | FieldKind::Objects { .. }) {
            return Err(wrong(path, "a list inside a list; ask for it as a field of its own"));
        }
        Ok(match self {
            FieldKind::Bool => Form::Bool,
            FieldKind::Choice(values) => choice(values, path)?,
            FieldKind::Integer(spec) => spec.checked(path)?,
            FieldKind::Decimal(spec) => spec.checked(path)?,
            FieldKind::Text { max_chars } if (1..=MAX_TEXT_CHARS).contains(max_chars) => {
                Form::Text { max_chars: *max_chars }
            }
            FieldKind::Text { .. } => {
                return Err(wrong(path, &format!("max_chars must be 1 to {MAX_TEXT_CHARS}")));
            }
            FieldKind::Serial(spec) => Form::Serial(spec.clone()),
            FieldKind::Defects(spec) => spec.form(path)?,
            FieldKind::Objects { fields, max_items } => {
                list(record_of(fields, path, true)?, *max_items, path)?
            }
        })
    }
}

fn record<const N: usize>(members: [(&str, Form); N]) -> Form {
    Form::Record(members.into_iter().map(|(name, form)| (name.to_owned(), form)).collect())
}

fn record_of(fields: &[FieldSpec], path: &str, in_list: bool) -> Result<Form, AnswerError> {
    let place = if path.is_empty() { "(whole answer)" } else { path };
    if fields.is_empty() || fields.len() > MAX_FIELDS {
        return Err(wrong(place, &format!("{} fields; give 1 to {MAX_FIELDS}", fields.len())));
    }
    let mut seen = BTreeSet::new();
    let mut members = Vec::with_capacity(fields.len());
    for field in fields {
        let name = &field.name;
        let path = join(path, name);
        let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
        if name.is_empty() || name.len() > MAX_NAME_CHARS || !plain {
            let problem = format!("a name is 1 to {MAX_NAME_CHARS} letters, digits, `_` or `-`");
            return Err(wrong(&path, &problem));
        }
        if !seen.insert(name) {
            return Err(wrong(&path, "two fields have this name; rename one"));
        }
        members
            .push((name.clone(), Form::Either(vec![field.kind.form(&path, in_list)?, Form::Null])));
    }
    Ok(Form::Record(members))
}

fn list(item: Form, max: usize, path: &str) -> Result<Form, AnswerError> {
    if !(1..=MAX_ITEMS).contains(&max) {
        return Err(wrong(path, &format!("{max} items at most; give 1 to {MAX_ITEMS}")));
    }
    Ok(Form::List { item: Box::new(item), max })
}

fn choice(values: &[String], path: &str) -> Result<Form, AnswerError> {
    if values.is_empty() || values.len() > MAX_ITEMS {
        return Err(wrong(
            path,
            &format!("{} names to choose from; give 1 to {MAX_ITEMS}", values.len()),
        ));
    }
    let mut seen = BTreeSet::new();
    for value in values {
        let unseen =
            |c: char| pattern::UNPRINTABLE.iter().any(|&(low, high)| (low..=high).contains(&c));
        if value.trim().is_empty()
            || value.chars().count() > MAX_NAME_CHARS
            || value.chars().any(unseen)
        {
            let problem =
                format!("{value:?} is not a name of 1 to {MAX_NAME_CHARS} printable characters");
            return Err(wrong(path, &problem));
        }
        if value.contains("<|") {
            return Err(wrong(
                path,
                &format!("`{value}` looks like a control tag of the model; rename it"),
            ));
        }
        if !seen.insert(value) {
            return Err(wrong(path, &format!("`{value}` is listed twice; remove one")));
        }
    }
    Ok(Form::OneOf(values.to_vec()))
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

pub(super) fn wrong(field: &str, problem: &str) -> AnswerError {
    AnswerError { field: field.to_owned(), problem: problem.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(name: &str) -> FieldSpec {
        FieldSpec { name: name.to_owned(), kind: FieldKind::Text { max_chars: 10 } }
    }

    fn of(kind: FieldKind) -> Result<AnswerSpec, AnswerError> {
        AnswerSpec::fields(vec![FieldSpec { name: "it".to_owned(), kind }])
    }

    fn said(result: Result<AnswerSpec, AnswerError>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn fields_have_plain_unique_names() {
        assert!(AnswerSpec::fields(vec![text("a-1"), text("b_2")]).is_ok());
        assert_eq!(
            said(AnswerSpec::fields(vec![])),
            "answer field `(whole answer)`: 0 fields; give 1 to 32"
        );
        let twice = said(AnswerSpec::fields(vec![text("a"), text("a")]));
        assert_eq!(twice, "answer field `a`: two fields have this name; rename one");
        for name in ["", "a b", "a.b", "\"", "é", &"x".repeat(65)] {
            assert!(
                said(AnswerSpec::fields(vec![text(name)])).contains("a name is 1 to 64 letters"),
                "{name}"
            );
        }
    }

    #[test]
    fn choices_and_lists_are_bounded() {
        let classes =
            |names: &[&str]| AnswerSpec::defects(&DefectsSpec::new(names.iter().copied()));
        assert!(
            said(classes(&[]))
                .starts_with("answer field `defects.classes`: 0 names to choose from")
        );
        assert!(said(classes(&["a", "a"])).ends_with("`a` is listed twice; remove one"));
        assert!(said(classes(&[" "])).contains("is not a name"));
        assert!(said(classes(&["a\u{200b}"])).contains("printable"));
        assert!(said(classes(&["<|end|>"])).contains("control tag"));
        let count =
            |max_count| AnswerSpec::defects(&DefectsSpec { max_count, ..DefectsSpec::new(["a"]) });
        assert!(count(1).is_ok() && count(32).is_ok());
        assert!(
            said(count(0))
                .starts_with("answer field `defects.max_count`: 0 items at most; give 1 to 32")
        );
        assert!(count(33).is_err());
        let nested = FieldKind::Objects {
            fields: vec![FieldSpec {
                name: "d".to_owned(),
                kind: FieldKind::Defects(DefectsSpec::new(["a"])),
            }],
            max_items: 2,
        };
        assert!(said(of(nested)).starts_with("answer field `it.d`: a list inside a list"));
        let long = FieldKind::Objects {
            fields: vec![FieldSpec {
                name: "t".to_owned(),
                kind: FieldKind::Text { max_chars: 1000 },
            }],
            max_items: 32,
        };
        assert!(said(of(long)).contains("an answer could have 128"));
    }

    #[test]
    fn texts_are_bounded() {
        let text = |max_chars| of(FieldKind::Text { max_chars });
        assert!(text(1).is_ok() && text(1000).is_ok() && text(0).is_err() && text(1001).is_err());
    }

    #[test]
    fn unclear_is_always_a_severity_and_never_listed_twice() {
        let spec = DefectsSpec {
            severities: vec!["major".to_owned(), ABSTAIN.to_owned()],
            ..DefectsSpec::new(["a"])
        };
        let schema = AnswerSpec::defects(&spec).unwrap().schema().to_string();
        assert!(schema.contains(r#"{"enum":["major","unclear"]}"#), "{schema}");
    }

    #[test]
    fn the_budget_is_reached_by_the_longest_answer() {
        let spec =
            AnswerSpec::serial(&SerialSpec::new(Template::parse("#{4}", "AB").unwrap())).unwrap();
        assert_eq!(spec.max_bytes(), r#"{"legible":true,"serial":"ABABA"}"#.len());
        assert_eq!(spec.budget_tokens(), spec.max_bytes() + 2);
        let spec = of(FieldKind::Text { max_chars: 2 }).unwrap();
        assert_eq!(spec.max_bytes(), r#"{"it":"🔩🔩"}"#.len());
    }
}
