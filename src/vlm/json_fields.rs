//! Reads numbers out of a JSON file so that every refusal names the file and the field.
//!
//! Deriving `Deserialize` would be shorter, but its messages name a line, not a field, and bounds
//! would be checked elsewhere. Here a field, its bounds and its message are one call.

use std::path::Path;

use serde_json::{Map, Value};

use super::error::LoadError;

/// A JSON object, the file it comes from and the path that leads to it.
pub(crate) struct Fields<'a> {
    path: &'a Path,
    prefix: String,
    map: &'a Map<String, Value>,
}

/// Parses `bytes`, read from `path`, as a JSON object. A nesting bomb is refused by the parser's
/// own depth limit.
pub(crate) fn parse_object(path: &Path, bytes: &[u8]) -> Result<Map<String, Value>, LoadError> {
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err(LoadError::field(path, "(whole file)", "expected a JSON object")),
        Err(source) => Err(LoadError::Json { path: path.to_path_buf(), source }),
    }
}

impl<'a> Fields<'a> {
    /// The top level of a file.
    pub(crate) fn new(path: &'a Path, map: &'a Map<String, Value>) -> Fields<'a> {
        Fields { path, prefix: String::new(), map }
    }

    /// The error for one field.
    pub(crate) fn refuse(&self, name: &str, problem: impl Into<String>) -> LoadError {
        LoadError::field(self.path, &format!("{}{name}", self.prefix), problem)
    }

    /// The names of the fields that are present.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'a str> {
        self.map.keys().map(String::as_str)
    }

    /// The raw value; `None` if the field is absent or null.
    pub(crate) fn get(&self, name: &str) -> Option<&'a Value> {
        self.map.get(name).filter(|value| !value.is_null())
    }

    fn required(&self, name: &str) -> Result<&'a Value, LoadError> {
        self.get(name).ok_or_else(|| self.refuse(name, "is missing"))
    }

    /// A nested object; `None` if absent or null.
    pub(crate) fn object(&self, name: &str) -> Result<Option<Fields<'a>>, LoadError> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Object(map)) => {
                Ok(Some(Fields { path: self.path, prefix: format!("{}{name}.", self.prefix), map }))
            }
            Some(other) => {
                Err(self.refuse(name, format!("expected an object, found {}", shown(other))))
            }
        }
    }

    /// A whole number within `range`.
    pub(crate) fn count(
        &self,
        name: &str,
        range: std::ops::RangeInclusive<usize>,
    ) -> Result<usize, LoadError> {
        let value = self.required(name)?;
        let number =
            value.as_u64().and_then(|n| usize::try_from(n).ok()).filter(|n| range.contains(n));
        number.ok_or_else(|| {
            let (low, high) = (range.start(), range.end());
            self.refuse(
                name,
                format!("expected a whole number from {low} to {high}, found {}", shown(value)),
            )
        })
    }

    /// The same with a value for an absent field.
    pub(crate) fn count_or(
        &self,
        name: &str,
        range: std::ops::RangeInclusive<usize>,
        absent: usize,
    ) -> Result<usize, LoadError> {
        if self.get(name).is_none() { Ok(absent) } else { self.count(name, range) }
    }

    /// A finite number within `range`.
    pub(crate) fn number(
        &self,
        name: &str,
        range: std::ops::RangeInclusive<f64>,
    ) -> Result<f64, LoadError> {
        let value = self.required(name)?;
        value.as_f64().filter(|number| range.contains(number)).ok_or_else(|| {
            let (low, high) = (range.start(), range.end());
            self.refuse(
                name,
                format!("expected a number from {low} to {high}, found {}", shown(value)),
            )
        })
    }

    /// A list of `len` finite numbers within `range`.
    pub(crate) fn numbers(
        &self,
        name: &str,
        len: usize,
        range: std::ops::RangeInclusive<f64>,
    ) -> Result<Vec<f64>, LoadError> {
        let value = self.required(name)?;
        let Value::Array(items) = value else {
            return Err(
                self.refuse(name, format!("expected a list of numbers, found {}", shown(value)))
            );
        };
        if items.len() != len {
            return Err(self.refuse(name, format!("expected {len} numbers, found {}", items.len())));
        }
        let fits = |item: &Value| item.as_f64().filter(|number| range.contains(number));
        items
            .iter()
            .map(|item| {
                fits(item).ok_or_else(|| {
                    let (low, high) = (range.start(), range.end());
                    self.refuse(
                        name,
                        format!("expected numbers from {low} to {high}, found {}", shown(item)),
                    )
                })
            })
            .collect()
    }

    /// Text that must be one of `allowed`; an absent field counts as the first of them.
    pub(crate) fn choice(
        &self,
        name: &str,
        allowed: &[&'static str],
    ) -> Result<&'static str, LoadError> {
        let Some(value) = self.get(name) else { return Ok(allowed[0]) };
        let found = allowed.iter().find(|choice| value.as_str() == Some(choice));
        found.copied().ok_or_else(|| {
            self.refuse(
                name,
                format!("this engine knows {}, found {}", allowed.join(" and "), shown(value)),
            )
        })
    }

    /// A yes or no; `absent` if the field is not there.
    pub(crate) fn flag(&self, name: &str, absent: bool) -> Result<bool, LoadError> {
        match self.get(name) {
            None => Ok(absent),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(other) => {
                Err(self.refuse(name, format!("expected true or false, found {}", shown(other))))
            }
        }
    }

    /// Token ids, written as one number or as a list; empty if the field is absent.
    pub(crate) fn token_ids(&self, name: &str, vocab: usize) -> Result<Vec<u32>, LoadError> {
        let items = match self.get(name) {
            None => return Ok(Vec::new()),
            Some(Value::Array(items)) => items.as_slice(),
            Some(one) => std::slice::from_ref(one),
        };
        let fits = |item: &Value| item.as_u64().filter(|id| *id < vocab as u64).map(|id| id as u32);
        items
            .iter()
            .map(|item| {
                fits(item).ok_or_else(|| {
                    self.refuse(
                        name,
                        format!("expected token ids below {vocab}, found {}", shown(item)),
                    )
                })
            })
            .collect()
    }
}

/// A value as it may stand in a message: short, whatever was in the file.
pub(crate) fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}
