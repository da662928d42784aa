//! `[rules]`: what makes a part bad and what makes it doubtful.
//!
//! What is not written is judged strictly: each class without a rule of its own fails the part at
//! every severity, each field must be told, and what cannot be told goes to a person.

use std::ops::Range;

use serde_json::Value;
use toml::Spanned;

use super::super::reader::Reader;
use super::super::report::Problem;
use super::super::words::choices;
use super::question::Asked;
use super::serial;
use crate::station::Task;
use crate::verdict::rules::FieldRule;
use crate::verdict::{DefectRule, Rules, SerialRule};
use crate::vlm::grammar::answer::{ABSTAIN, FieldKind, MAX_ITEMS, MAX_NAME_CHARS};

/// Most rules of one kind.
const RULES_MAX: usize = 64;

/// Reads the table, and completes it for what is asked.
pub fn read(mut table: Reader<'_>, asked: &[Asked]) -> Rules {
    let confidence_min = table.number("confidence_min", 0.0..=1.0).map_or(0.0, |n| n.into_inner());
    let accepts_unrated = table.flag("accept_without_confidence");
    if let Some(flag) = accepts_unrated.as_ref().filter(|_| confidence_min <= 0.0) {
        let title = "`accept_without_confidence` has no effect without `confidence_min`";
        table.warn(flag.span(), title, "add  confidence_min = 0.8, or remove it");
    }
    let accepts_unrated = accepts_unrated.is_some_and(|flag| flag.into_inner());
    let defects = read_defects(&mut table, &classes(asked));
    let fields = read_fields(&mut table, asked);
    let serial = serial_rule(&table, asked);
    let serial = serial::read(table.table("serial"), serial);
    let defects_required =
        asked.iter().any(|asked| matches!(asked.question.task, Task::Defects(_)));
    table.finish();
    Rules { defects, serial, defects_required, confidence_min, accepts_unrated, fields }
}

/// One class of defect that is asked about, and the severities it may have.
struct Class<'q> {
    name: &'q str,
    severities: Vec<&'q str>,
}

/// Every class of every question, once, with the severities of all questions that name it.
fn classes(asked: &[Asked]) -> Vec<Class<'_>> {
    let mut all: Vec<Class<'_>> = Vec::new();
    for asked in asked {
        let Task::Defects(spec) = &asked.question.task else { continue };
        for name in &spec.classes {
            let at = all.iter().position(|class| class.name == name).unwrap_or_else(|| {
                all.push(Class { name, severities: Vec::new() });
                all.len() - 1
            });
            for severity in &spec.severities {
                if severity != ABSTAIN && !all[at].severities.contains(&severity.as_str()) {
                    all[at].severities.push(severity);
                }
            }
        }
    }
    all
}

fn read_defects(table: &mut Reader<'_>, classes: &[Class<'_>]) -> Vec<DefectRule> {
    let mut rules: Vec<DefectRule> = Vec::new();
    for mut rule in table.tables("defect", "rules.defect", RULES_MAX) {
        let name = rule.text("class", MAX_NAME_CHARS);
        let name = rule.required("class", name, "class = \"scratch\"");
        let class = name.as_ref().and_then(|name| find_class(&mut rule, name, classes));
        let lists = ["fail", "review", "pass"].map(|key| read_severities(&mut rule, key, class));
        note_overlap(&rule, &lists);
        if let Some(class) = class {
            note_gaps(&rule, class, &lists);
            if rules.iter().any(|known| known.class == class.name) {
                let title = format!("two rules are about \"{}\"", class.name);
                rule.error(rule.span(), title, "put them together");
            }
            let [fail, review, pass] = lists.map(|list| {
                list.into_iter().map(|severity| severity.into_inner()).collect::<Vec<_>>()
            });
            rules.push(DefectRule { class: class.name.to_owned(), fail, review, pass });
        }
        rule.finish();
    }
    for class in classes {
        if rules.iter().all(|rule| rule.class != class.name) {
            rules.push(DefectRule {
                class: class.name.to_owned(),
                fail: class.severities.iter().map(|severity| (*severity).to_owned()).collect(),
                review: vec![ABSTAIN.to_owned()],
                pass: vec![],
            });
        }
    }
    rules
}

fn find_class<'c, 'q>(
    rule: &mut Reader<'_>,
    name: &Spanned<String>,
    classes: &'c [Class<'q>],
) -> Option<&'c Class<'q>> {
    rule.call(name.get_ref());
    let found = classes.iter().find(|class| class.name == name.get_ref());
    if found.is_none() {
        let known: Vec<&str> = classes.iter().map(|class| class.name).collect();
        let title = format!("no question asks for the defect \"{}\"", name.get_ref());
        rule.error(name.span(), title, choices(name.get_ref(), &known, '"'));
    }
    found
}

fn read_severities(
    rule: &mut Reader<'_>,
    key: &'static str,
    class: Option<&Class<'_>>,
) -> Vec<Spanned<String>> {
    let Some(words) = rule.texts(key, MAX_ITEMS, MAX_NAME_CHARS) else { return vec![] };
    let Some(class) = class else { return vec![] };
    let known: Vec<&str> = class.severities.iter().copied().chain([ABSTAIN]).collect();
    for word in words.get_ref() {
        if !known.contains(&word.get_ref().as_str()) {
            let title = format!("\"{}\" has no severity \"{}\"", class.name, word.get_ref());
            rule.error(word.span(), title, choices(word.get_ref(), &known, '"'));
        }
    }
    words.into_inner()
}

fn note_overlap(rule: &Reader<'_>, lists: &[Vec<Spanned<String>>; 3]) {
    let all: Vec<&Spanned<String>> = lists.iter().flatten().collect();
    for (at, word) in all.iter().enumerate() {
        let Some(first) = all[..at].iter().find(|known| known.get_ref() == word.get_ref()) else {
            continue;
        };
        let title = format!("{} decides twice on \"{}\"", rule.name(), word.get_ref());
        let problem = Problem::error(title)
            .at(rule.place(word.span()))
            .earlier(rule.place(first.span()), "decided here")
            .remedy("name each severity in one list only");
        rule.add(problem);
    }
}

/// A severity in no list goes to review. That is safe, but a person may not have meant it.
fn note_gaps(rule: &Reader<'_>, class: &Class<'_>, lists: &[Vec<Spanned<String>>; 3]) {
    let is_named = |severity: &str| lists.iter().flatten().any(|word| word.get_ref() == severity);
    let missing: Vec<&str> =
        class.severities.iter().copied().filter(|severity| !is_named(severity)).collect();
    if !missing.is_empty() {
        let title = format!("{} does not decide on \"{}\"", rule.name(), missing.join("\", \""));
        let remedy = "add it to `fail`, `review` or `pass`; until then such a part goes to review";
        rule.warn(rule.span(), title, remedy);
    }
}

fn serial_rule(table: &Reader<'_>, asked: &[Asked]) -> Option<SerialRule> {
    let mut first: Option<SerialRule> = None;
    for asked in asked {
        let Task::Serial(spec) = &asked.question.task else { continue };
        let rule = SerialRule::new(spec.template.clone(), asked.check_digit.clone());
        match &first {
            None => first = Some(rule),
            Some(known) if *known == rule => {}
            Some(_) => {
                let title = format!(
                    "question \"{}\" asks for a serial of another form",
                    asked.question.name
                );
                let remedy = "a part has one serial: use the same `template`, `alphabet` and \
                              `check_digit`, or ask for the other mark as a field";
                table.error(asked.span.clone(), title, remedy);
            }
        }
    }
    first
}

/// A field that is asked for.
struct Asking<'q> {
    name: &'q str,
    kind: &'q FieldKind,
    is_optional: bool,
}

fn fields<'q>(table: &Reader<'_>, asked: &'q [Asked]) -> Vec<Asking<'q>> {
    let mut all: Vec<Asking<'q>> = Vec::new();
    for asked in asked {
        let Task::Fields(fields) = &asked.question.task else { continue };
        for field in fields {
            if all.iter().any(|known| known.name == field.name) {
                let title = format!("two questions ask for the field \"{}\"", field.name);
                table.error(asked.span.clone(), title, "rename one: rules know fields by name");
            }
            let is_optional = asked.optional_fields.contains(&field.name);
            all.push(Asking { name: &field.name, kind: &field.kind, is_optional });
        }
    }
    all
}

fn read_fields(table: &mut Reader<'_>, asked: &[Asked]) -> Vec<FieldRule> {
    let known = fields(table, asked);
    let mut rules: Vec<FieldRule> = Vec::new();
    for mut rule in table.tables("field", "rules.field", RULES_MAX) {
        let name = rule.text("name", MAX_NAME_CHARS);
        let name = rule.required("name", name, "name = \"colour\"");
        let field = name.as_ref().and_then(|name| find_field(&mut rule, name, &known));
        let pass = read_values(&mut rule, "pass", field);
        let fail = read_values(&mut rule, "fail", field);
        if let Some(field) = field {
            if rules.iter().any(|known| known.name == field.name) {
                let title = format!("two rules are about \"{}\"", field.name);
                rule.error(rule.span(), title, "put them together");
            }
            let (name, range) = (field.name.to_owned(), range(field.kind));
            rules.push(FieldRule { name, pass, fail, range });
        }
        rule.finish();
    }
    for field in known.iter().filter(|field| !field.is_optional) {
        if rules.iter().all(|rule| rule.name != field.name) {
            let (name, range) = (field.name.to_owned(), range(field.kind));
            rules.push(FieldRule { name, pass: vec![], fail: vec![], range });
        }
    }
    rules
}

/// The least and the greatest number of a field that is one.
fn range(kind: &FieldKind) -> Option<(f64, f64)> {
    match kind {
        FieldKind::Integer(spec) => Some((spec.min as f64, spec.max as f64)),
        FieldKind::Decimal(spec) => Some((spec.min, spec.max)),
        _ => None,
    }
}

fn find_field<'f, 'q>(
    rule: &mut Reader<'_>,
    name: &Spanned<String>,
    known: &'f [Asking<'q>],
) -> Option<&'f Asking<'q>> {
    rule.call(name.get_ref());
    let found = known.iter().find(|field| field.name == name.get_ref());
    if found.is_none() {
        let words: Vec<&str> = known.iter().map(|field| field.name).collect();
        let title = format!("no question asks for the field \"{}\"", name.get_ref());
        rule.error(name.span(), title, choices(name.get_ref(), &words, '"'));
    }
    found
}

fn read_values(rule: &mut Reader<'_>, key: &'static str, field: Option<&Asking<'_>>) -> Vec<Value> {
    let Some(values) = rule.values(key, RULES_MAX) else { return vec![] };
    if let Some(field) = field {
        for value in &values {
            check_value(rule, field, value.get_ref(), value.span());
        }
    }
    values.into_iter().map(|value| value.into_inner()).collect()
}

/// A value that the field can never have would be a rule that never holds.
fn check_value(rule: &Reader<'_>, field: &Asking<'_>, value: &Value, span: Range<usize>) {
    let wrong = match field.kind {
        FieldKind::Bool => (!value.is_boolean()).then(|| "it is true or false".to_owned()),
        FieldKind::Choice(words) => {
            let known: Vec<&str> = words.iter().map(String::as_str).collect();
            let word = value.as_str().unwrap_or("");
            (!known.contains(&word)).then(|| choices(word, &known, '"'))
        }
        FieldKind::Integer(spec) => value
            .as_i64()
            .is_none_or(|number| !spec.contains(number))
            .then(|| format!("it is a whole number from {} to {}", spec.min, spec.max)),
        FieldKind::Text { .. } | FieldKind::Serial(_) => {
            (!value.is_string()).then(|| "it is a text".to_owned())
        }
        FieldKind::Decimal(_) | FieldKind::Defects(_) | FieldKind::Objects { .. } => Some(
            "a field of this kind cannot be compared with values; leave the list out".to_owned(),
        ),
    };
    if let Some(remedy) = wrong {
        let title = format!("the field \"{}\" can never be {value}", field.name);
        rule.error(span, title, remedy);
    }
}
