//! Answer types as a person wrote them → the checked shape, or which field is wrong and what to do.

use std::collections::BTreeSet;

use super::answer::{
    ABSTAIN, AnswerError, DefectsSpec, FieldKind, FieldSpec, MAX_FIELDS, MAX_ITEMS, MAX_NAME_CHARS,
    MAX_TEXT_CHARS,
};
use super::form::Form;
use super::pattern;

impl DefectsSpec {
    /// The list alone; `path` is where it stands, for messages.
    pub(super) fn form(&self, path: &str) -> Result<Form, AnswerError> {
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

/// An object with these members, which need no check.
pub(super) fn record<const N: usize>(members: [(&str, Form); N]) -> Form {
    Form::Record(members.into_iter().map(|(name, form)| (name.to_owned(), form)).collect())
}

/// An object with these fields, each of which may be `null`.
pub(super) fn record_of(
    fields: &[FieldSpec],
    path: &str,
    in_list: bool,
) -> Result<Form, AnswerError> {
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
    use super::super::answer::{AnswerSpec, SerialSpec};
    use super::super::template::Template;
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
