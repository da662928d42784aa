//! `[rules.serial]`: look-alikes, parts with the same serial, expected serials.

use std::sync::Arc;

use toml::Spanned;

use super::super::reader::Reader;
use crate::verdict::serial::{
    Confusions, Consequence, ENTRIES_MAX, ENTRY_MAX_BYTES, ExpectedRule, GROUPS_MAX, Scope,
    SerialList, SerialRule, UniqueRule, Window,
};

/// Largest file of expected serials, in bytes.
const LIST_MAX_BYTES: u64 = (ENTRIES_MAX * (ENTRY_MAX_BYTES + 2)) as u64;

/// Longest window, in days and in parts.
const DAYS_MAX: u64 = 36_500;
const PARTS_MAX: u64 = 1_000_000_000;

/// Reads the table and completes `rule`, which the questions about a serial have begun.
pub fn read(mut table: Reader<'_>, rule: Option<SerialRule>) -> Option<SerialRule> {
    if !table.is_present() {
        return rule;
    }
    // Without a good question, what is wrong with it has been noted; the keys are read all the same.
    if rule.is_none() && table.errors() == 0 {
        let remedy = "ask a question with  task = \"serial\", or remove the table";
        table.error(table.span(), "[rules.serial] is about a serial that nobody asks for", remedy);
    }
    let confusions = read_confusions(&mut table, rule.as_ref());
    let accept_repairs = table.flag("accept_repairs");
    let unique_within = table.text("unique_within", 32);
    let duplicate = read_consequence(&mut table, "duplicate");
    let scopes = [("station", Scope::Station), ("device", Scope::Device)];
    let scope = table.one_of("scope", &scopes);
    let path = table.path("expected");
    let by_command = table.flag("expect_commands").is_some_and(Spanned::into_inner);
    let unexpected = read_consequence(&mut table, "unexpected");
    let once = table.flag("expected_once").is_some_and(Spanned::into_inner);
    let is_expecting = table.has("expected") || by_command;
    let scope = scope.map(Spanned::into_inner).unwrap_or_default();
    refuse_idle(&table, is_expecting, once);
    let window = unique_within.and_then(|text| read_window(&table, &text));
    let list = match (&path, &rule) {
        (Some(path), Some(rule)) => read_list(&table, path, rule, &confusions),
        _ => None,
    };
    let Some(mut rule) = rule else {
        table.finish();
        return None;
    };
    if accept_repairs.as_ref().is_some_and(|flag| *flag.get_ref()) {
        check_accepting(&table, &rule, &confusions, is_expecting);
    }
    rule.confusions = confusions;
    rule.accept_repairs = accept_repairs.is_some_and(Spanned::into_inner);
    rule.unique = window.map(|window| UniqueRule { window, scope, otherwise: duplicate });
    rule.expected = is_expecting.then(|| ExpectedRule {
        list: Arc::new(list.unwrap_or_default()),
        by_command,
        once,
        scope,
        otherwise: unexpected,
    });
    table.finish();
    Some(rule)
}

fn read_consequence(table: &mut Reader<'_>, key: &'static str) -> Consequence {
    let words = [("review", Consequence::Review), ("fail", Consequence::Fail)];
    table.one_of(key, &words).map(Spanned::into_inner).unwrap_or_default()
}

/// A key that decides nothing is a slip: somebody thinks that it does.
fn refuse_idle(table: &Reader<'_>, is_expecting: bool, once: bool) {
    let needs = |key: &str, other: &str| {
        if table.has(key) {
            let title = format!("`{key}` decides nothing without {other}");
            table.error(table.key_span(key), title, format!("add {other}, or remove it"));
        }
    };
    if !table.has("unique_within") {
        needs("duplicate", "`unique_within`");
        if !once {
            needs("scope", "`unique_within`");
        }
    }
    if !is_expecting {
        needs("unexpected", "`expected` or `expect_commands = true`");
        if once {
            needs("expected_once", "`expected` or `expect_commands = true`");
        }
    }
}

fn read_confusions(table: &mut Reader<'_>, rule: Option<&SerialRule>) -> Confusions {
    let Some(groups) = table.texts("confusions", GROUPS_MAX, 32) else {
        return Confusions::default();
    };
    let words: Vec<&String> = groups.get_ref().iter().map(Spanned::get_ref).collect();
    let confusions = match Confusions::new(&words) {
        Ok(confusions) => confusions,
        Err(why) => {
            let remedy = "write each group of look-alikes as one text of two characters or more, and \
                          each character in one group: [\"0OQ\", \"1I\"]";
            table.error(groups.span(), format!("`confusions`: {why}"), remedy);
            return Confusions::default();
        }
    };
    let Some(rule) = rule else { return confusions };
    let known = rule.form.characters();
    for group in groups.get_ref() {
        if let Some(foreign) = group.get_ref().chars().find(|c| !known.contains(c)) {
            let title = format!(
                "{foreign:?} of the group \"{}\" can stand in no serial and in no answer",
                group.get_ref()
            );
            let remedy = "the model writes only the characters of `alphabet` and `template`: add it \
                          to `alphabet`, or remove it here";
            table.error(group.span(), title, remedy);
        }
    }
    confusions
}

fn check_accepting(
    table: &Reader<'_>,
    rule: &SerialRule,
    confusions: &Confusions,
    is_expecting: bool,
) {
    let span = table.key_span("accept_repairs");
    if confusions.is_empty() && !table.has("confusions") {
        let remedy = "add  confusions = [\"0O\", \"1I\"], or remove it";
        table.error(span, "`accept_repairs` without `confusions` repairs nothing", remedy);
    } else if rule.check_digit.is_none() && !is_expecting {
        let title =
            "`accept_repairs` without a check digit or expected serials would accept guesses";
        table.error(
            span,
            title,
            "add `check_digit` to the question or `expected` here, or remove it",
        );
    } else if !is_expecting {
        let title = "a check digit alone is little proof of a repair";
        let remedy = "a serial that was misread otherwise can be repaired into a wrong one: by luck \
                      one look-alike in ten has the check digit of a scheme modulo 10; add `expected`, \
                      or leave repairs to people";
        table.warn(span, title, remedy);
    }
}

/// `30d`, `12h`, `90m`, or `5000 parts`.
fn read_window(table: &Reader<'_>, text: &Spanned<String>) -> Option<Window> {
    let word = text.get_ref().trim();
    let digits = word.trim_start_matches(|c: char| c.is_ascii_digit());
    let (number, unit) = (&word[..word.len() - digits.len()], digits.trim());
    let number = number.parse::<u64>().ok().filter(|number| *number > 0);
    let minutes = |each: u64| {
        let minutes = number?.checked_mul(each).filter(|all| *all <= DAYS_MAX * 24 * 60)?;
        Some(Window::Time { ms: minutes as i64 * 60_000 })
    };
    let window = match unit {
        "m" => minutes(1),
        "h" => minutes(60),
        "d" => minutes(24 * 60),
        "parts" | "part" => {
            number.filter(|count| *count <= PARTS_MAX).map(|count| Window::Parts { count })
        }
        _ => None,
    };
    if window.is_none() {
        let title = format!("`unique_within` cannot be \"{word}\"");
        let remedy = format!(
            "write a time such as \"30d\", \"12h\" or \"90m\", {DAYS_MAX} days at most, or a number \
             of parts such as \"5000 parts\""
        );
        table.error(text.span(), title, remedy);
    }
    window
}

fn read_list(
    table: &Reader<'_>,
    path: &Spanned<std::path::PathBuf>,
    rule: &SerialRule,
    confusions: &Confusions,
) -> Option<SerialList> {
    let shown = path.get_ref().display();
    let text = match table.read_text(path.get_ref(), LIST_MAX_BYTES) {
        Ok(text) => text,
        Err(why) => {
            let remedy =
                "name a text file of one serial a line that the user of the service can read";
            table.error(path.span(), format!("cannot read the serials of {shown}: {why}"), remedy);
            return None;
        }
    };
    let list = match SerialList::parse(&text, |serial| rule.check_formed(serial)) {
        Ok(list) => list,
        Err(bad) => {
            let remedy = "correct the line: no part could have this serial";
            for bad in bad {
                let title = format!("{shown}, line {}: {}", bad.line, bad.why);
                table.error(path.span(), title, remedy);
            }
            return None;
        }
    };
    if list.is_empty() {
        let remedy = "until serials are added, every part goes to review";
        table.warn(path.span(), format!("{shown} holds no serial"), remedy);
    }
    warn_of_look_alikes(table, path, &list, confusions);
    Some(list)
}

/// Two expected serials that look alike send both their parts to review.
fn warn_of_look_alikes(
    table: &Reader<'_>,
    path: &Spanned<std::path::PathBuf>,
    list: &SerialList,
    confusions: &Confusions,
) {
    if confusions.is_empty() {
        return;
    }
    let mut known = std::collections::HashMap::new();
    for serial in list.iter() {
        if let Some(other) = known.insert(confusions.skeleton(serial), serial) {
            let title = format!("the expected serials {other} and {serial} look alike");
            let remedy =
                "both go to review, and so may others; a check digit would tell them apart";
            table.warn(path.span(), title, remedy);
            return;
        }
    }
}
