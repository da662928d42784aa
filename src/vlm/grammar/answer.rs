//! What a question's answer may be: named, typed, bounded values, each of which the model may decline to give.
//!
//! A declined value is written down as such (`null`, `"unclear"`, `"legible":false`), so that "I cannot see it" never
//! has to be guessed from a low number. The three presets and the free form share one description, `Form`, from
//! which the grammar, the JSON Schema and the size bound are all derived.

use serde_json::Value;

use super::check::{record, record_of, wrong};
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
}
