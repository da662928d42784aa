//! The answer as JSON Schema (draft 2020-12), for whoever checks or produces it elsewhere.
//!
//! The schema says which values there are; that members come in order, without spaces and in one spelling is the
//! grammar's part. Engines that build their own grammar from a schema find the compact separators in `x-guidance`.

use serde_json::{Map, Value, json};

use super::form::Form;
use super::pattern::UNPRINTABLE;

/// The schema of a whole answer.
pub(super) fn document(form: &Form) -> Value {
    let mut document = Map::new();
    document.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
    let compact =
        json!({ "whitespace_flexible": false, "item_separator": ",", "key_separator": ":" });
    document.insert("x-guidance".to_owned(), compact);
    if let Value::Object(rest) = of(form) {
        document.extend(rest);
    }
    Value::Object(document)
}

fn of(form: &Form) -> Value {
    match form {
        Form::Null => json!({ "type": "null" }),
        Form::Fixed(value) => json!({ "const": value }),
        Form::Bool => json!({ "type": "boolean" }),
        Form::OneOf(values) => json!({ "enum": values }),
        Form::Integer(spec) if spec.strict => {
            json!({ "type": "integer", "minimum": spec.min, "maximum": spec.max })
        }
        Form::Integer(spec) => {
            let end = 10i64.pow(spec.digits() as u32 + 1) - 1;
            json!({ "type": "integer", "minimum": -end, "maximum": end })
        }
        Form::Decimal(spec) if spec.strict => number(spec.digits, spec.min, spec.max),
        Form::Decimal(spec) => {
            let unit = 10f64.powi(spec.digits.into());
            let end = (10f64.powi(spec.whole_digits() as i32 + 1) * unit - 1.0) / unit;
            number(spec.digits, -end, end)
        }
        Form::Text { max_chars } => {
            json!({ "type": "string", "minLength": 1, "maxLength": max_chars, "pattern": printable(*max_chars) })
        }
        Form::Serial(serial) if serial.strict => {
            json!({ "type": "string", "pattern": format!("^{}$", serial.template.regex()) })
        }
        Form::Serial(serial) => {
            let class = super::pattern::class_of(&serial.template.characters());
            json!({ "type": "string", "minLength": 1, "maxLength": serial.longest(), "pattern": format!("^{class}{{1,{}}}$", serial.longest()) })
        }
        Form::List { item, max } => json!({ "type": "array", "items": of(item), "maxItems": max }),
        Form::Record(members) => {
            let names: Vec<&String> = members.iter().map(|(name, _)| name).collect();
            let properties: Map<String, Value> =
                members.iter().map(|(name, form)| (name.clone(), of(form))).collect();
            json!({ "type": "object", "properties": properties, "required": names, "additionalProperties": false })
        }
        Form::Either(forms) => json!({ "anyOf": forms.iter().map(of).collect::<Vec<_>>() }),
    }
}

fn number(places: u8, min: f64, max: f64) -> Value {
    let step: f64 = format!("1e-{places}").parse().unwrap_or(1.0);
    json!({ "type": "number", "minimum": min, "maximum": max, "multipleOf": step })
}

/// A string without characters that cannot be seen. The bound stands in the pattern, too: llama.cpp's server
/// takes no notice of a length beside a pattern.
fn printable(max_chars: usize) -> String {
    let ranges: String = UNPRINTABLE
        .iter()
        .map(|(low, high)| format!("{}-{}", escape(*low), escape(*high)))
        .collect();
    format!("^[^{ranges}]{{1,{max_chars}}}$")
}

/// `\uXXXX` where that suffices; the few above are written as they are, which every reader of patterns takes.
fn escape(c: char) -> String {
    if (c as u32) <= 0xffff { format!("\\u{:04x}", c as u32) } else { c.to_string() }
}
