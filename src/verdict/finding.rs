//! What the model's answer says, as typed findings.
//!
//! The grammar already keeps an answer in form. It is read again here all the same, strictly, as
//! an answer may come from a record, from another engine, or be cut off.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::serial::Repair;

/// What kind of answer a question asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// `{"legible":true,"serial":"…"}`.
    Serial,
    /// `{"inspectable":true,"defects":[…]}`.
    Defects,
    /// `{"name":value,…}` with these names.
    Fields(Vec<String>),
}

/// One thing that was seen, or that could not be seen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// The question that brought it.
    pub question: String,
    /// The region that was looked at.
    pub region: String,
    /// What was seen.
    #[serde(flatten)]
    pub seen: Seen,
    /// The model's probability for the text of this finding, 0 to 1.
    pub confidence: f64,
    /// Nobody told a probability: then `confidence` is 0, or the least of those that were told. Left out
    /// where there is one, so that such a finding is what it was before there were others.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_unrated: bool,
}

impl Finding {
    /// The serial that was read, or the repair that was accepted for it.
    pub fn serial(&self) -> Option<&str> {
        match &self.seen {
            Seen::Serial { proposed: Some(repair), .. } if repair.accepted => Some(&repair.serial),
            Seen::Serial { value, .. } => value.as_deref(),
            _ => None,
        }
    }
}

/// What was seen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Seen {
    /// A serial number, or `None` where it is illegible.
    Serial {
        /// The characters read.
        value: Option<String>,
        /// What they may have been, where they cannot be right; see [`super::serial`].
        #[serde(default, skip_serializing_if = "Option::is_none")]
        proposed: Option<Repair>,
    },
    /// The picture shows the part and `count` defects; each has its own finding.
    Inspected {
        /// How many defects were listed.
        count: usize,
    },
    /// The picture does not show what was asked about.
    NotInspectable,
    /// A defect.
    Defect {
        /// Its class, such as `scratch`.
        class: String,
        /// `minor`, `major`, or `unclear`.
        severity: String,
        /// A cell of the location grid, such as `upper left`, or `unclear`.
        location: String,
    },
    /// A field of a free answer; null where the model abstained.
    Field {
        /// Its name.
        name: String,
        /// Its value.
        value: Value,
    },
}

/// The answer is not what was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the answer to \"{question}\" is not of the form that was asked for: {why}")]
pub struct OffSchema {
    /// The question.
    pub question: String,
    /// What is wrong with it.
    pub why: String,
}

/// Most findings that one answer may bring; more is off schema.
const FINDINGS_MAX: usize = 64;

/// Reads the JSON `text` of an answer. `confidence` gives the probability of the value at a path
/// such as `serial` or `defects[0].class`.
pub fn read(
    question: &str,
    region: &str,
    expected: &Expected,
    text: &str,
    confidence: impl Fn(&str) -> f64,
) -> Result<Vec<Finding>, OffSchema> {
    let off = |why: String| OffSchema { question: question.to_owned(), why };
    let value: Value = serde_json::from_str(text).map_err(|error| off(error.to_string()))?;
    let seen = match expected {
        Expected::Serial => read_serial(&value),
        Expected::Defects => read_defects(&value),
        Expected::Fields(names) => read_fields(&value, names),
    };
    let findings = seen.map_err(|why| off(why.to_owned()))?;
    if findings.len() > FINDINGS_MAX {
        return Err(off(format!("{} findings, {FINDINGS_MAX} at most", findings.len())));
    }
    Ok(findings
        .into_iter()
        .map(|(path, seen)| Finding {
            question: question.to_owned(),
            region: region.to_owned(),
            seen,
            confidence: confidence(&path),
            is_unrated: false,
        })
        .collect())
}

type Paths = Result<Vec<(String, Seen)>, &'static str>;

fn keys<'v>(value: &'v Value, names: &[&str]) -> Option<Vec<&'v Value>> {
    let object = value.as_object()?;
    (object.len() == names.len()).then_some(())?;
    names.iter().map(|name| object.get(*name)).collect()
}

fn read_serial(value: &Value) -> Paths {
    let found = keys(value, &["legible", "serial"]).ok_or("it needs `legible` and `serial`")?;
    match (found[0], found[1]) {
        (Value::Bool(true), Value::String(text)) if !text.is_empty() => {
            let seen = Seen::Serial { value: Some(text.clone()), proposed: None };
            Ok(vec![("serial".to_owned(), seen)])
        }
        (Value::Bool(false), Value::Null) => {
            Ok(vec![("legible".to_owned(), Seen::Serial { value: None, proposed: None })])
        }
        _ => Err("`legible` and `serial` contradict each other"),
    }
}

fn read_defects(value: &Value) -> Paths {
    let found =
        keys(value, &["inspectable", "defects"]).ok_or("it needs `inspectable` and `defects`")?;
    match (found[0], found[1]) {
        (Value::Bool(false), Value::Null) => {
            Ok(vec![("inspectable".to_owned(), Seen::NotInspectable)])
        }
        (Value::Bool(true), Value::Array(list)) => {
            let inspected = Seen::Inspected { count: list.len() };
            let mut all = vec![("inspectable".to_owned(), inspected)];
            for (at, item) in list.iter().enumerate() {
                all.push((format!("defects[{at}].class"), read_defect(item)?));
            }
            Ok(all)
        }
        _ => Err("`inspectable` and `defects` contradict each other"),
    }
}

fn read_defect(item: &Value) -> Result<Seen, &'static str> {
    let bad = "a defect needs the texts `class`, `severity` and `location`";
    let found = keys(item, &["class", "severity", "location"]).ok_or(bad)?;
    let text = |at: usize| found[at].as_str().map(str::to_owned).ok_or(bad);
    Ok(Seen::Defect { class: text(0)?, severity: text(1)?, location: text(2)? })
}

fn read_fields(value: &Value, names: &[String]) -> Paths {
    let borrowed: Vec<&str> = names.iter().map(String::as_str).collect();
    let found = keys(value, &borrowed).ok_or("its keys are not those that were asked for")?;
    let field = |(name, value): (&String, &Value)| {
        (name.clone(), Seen::Field { name: name.clone(), value: value.clone() })
    };
    Ok(names.iter().zip(found).map(field).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(expected: &Expected, text: &str) -> Result<Vec<Seen>, OffSchema> {
        let all = read("q", "whole", expected, text, |_| 0.5)?;
        Ok(all.into_iter().map(|finding| finding.seen).collect())
    }

    #[test]
    fn a_serial_is_read_or_illegible_and_nothing_between() {
        let read = |text| seen(&Expected::Serial, text);
        let serial = read(r#"{"legible":true,"serial":"A7K2"}"#).expect("well formed");
        assert_eq!(serial, [Seen::Serial { value: Some("A7K2".into()), proposed: None }]);
        let none = read(r#"{"legible":false,"serial":null}"#).expect("well formed");
        assert_eq!(none, [Seen::Serial { value: None, proposed: None }]);
        for bad in [
            r#"{"legible":true,"serial":null}"#,
            r#"{"legible":false,"serial":"A7K2"}"#,
            r#"{"legible":true,"serial":""}"#,
            r#"{"legible":true}"#,
            r#"{"legible":true,"serial":"A7K2","note":"x"}"#,
            r#"{"legible":true,"ser"#,
            "",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn defects_are_counted_and_listed() {
        let text = r#"{"inspectable":true,"defects":[{"class":"dent","severity":"minor","location":"center"}]}"#;
        let all = seen(&Expected::Defects, text).expect("well formed");
        assert_eq!(all[0], Seen::Inspected { count: 1 });
        assert!(matches!(&all[1], Seen::Defect { class, .. } if class == "dent"));
        let gone = seen(&Expected::Defects, r#"{"inspectable":false,"defects":null}"#);
        assert_eq!(gone.expect("well formed"), [Seen::NotInspectable]);
        assert!(seen(&Expected::Defects, r#"{"inspectable":true,"defects":null}"#).is_err());
        assert!(seen(&Expected::Defects, r#"{"inspectable":true,"defects":[{}]}"#).is_err());
    }

    #[test]
    fn fields_must_be_the_ones_asked_for() {
        let expected = Expected::Fields(vec!["colour".into()]);
        let all = seen(&expected, r#"{"colour":null}"#).expect("well formed");
        assert_eq!(all, [Seen::Field { name: "colour".into(), value: Value::Null }]);
        assert!(seen(&expected, r#"{"color":"red"}"#).is_err());
    }
}
