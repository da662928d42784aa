//! The page of configuration keys: made from what the program asks for and from the manuals' own words.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;

use inspectd::config::{self, Key};

use super::root;

const PAGE: &str = "docs/handbook/configuration.md";

const HEAD: &str = "\
# Every configuration key

Made by a test from what the program reads (`inspectd config keys` prints the same) and from the manuals
[inspectd.toml](../../config/inspectd.toml) and
[stations/manual.toml.example](../../config/stations/manual.toml.example); do not edit it here:
`UPDATE_GOLDEN=1 cargo nextest run --features demo-broker,fault-points -E 'test(handbook)'` makes it anew.
`inspectd check` tells everything that is wrong in yours at once. A recipe's file has the keys of a station but camera,
trigger and what belongs to the place.
";

/// A paragraph of a manual: its words, and the tables under which it stands.
struct Paragraph {
    section: String,
    text: String,
    lines: Vec<String>,
}

fn paragraphs(manual: &str) -> Vec<Paragraph> {
    let mut section = String::new();
    let mut found = Vec::new();
    for block in manual.split("\n\n") {
        let (mut text, mut lines) = (String::new(), Vec::new());
        for line in block.lines() {
            let bare = line.strip_prefix('#').unwrap_or(line);
            if bare.starts_with('[') {
                section = bare.split_whitespace().next().unwrap_or_default().to_owned();
            } else if line.starts_with("# ") {
                writeln!(text, "{}", line.trim_start_matches("# ").trim_start_matches("---- "))
                    .expect("text");
            } else if !bare.trim().is_empty() {
                lines.push(bare.trim().to_owned());
            }
        }
        found.push(Paragraph { section: section.clone(), text: text.trim().to_owned(), lines });
    }
    found
}

/// Whether `key` stands in `text` as a word.
fn names(text: &str, key: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.match_indices(key).any(|(at, _)| {
        !text[..at].ends_with(is_part) && !text[at + key.len()..].starts_with(is_part)
    })
}

/// The paragraph that explains `key`: one that sets it in its own table, else one that sets it, else one that names it.
fn explains<'p>(all: &'p [Paragraph], key: &Key) -> Option<&'p Paragraph> {
    let sets = |paragraph: &&Paragraph| {
        let mut lines = paragraph.lines.iter();
        lines.any(|line| {
            line.starts_with(&format!("{} =", key.key)) || line.contains(&format!(".{} =", key.key))
        })
    };
    let own = |paragraph: &&Paragraph| paragraph.section == key.table;
    let names = |paragraph: &&Paragraph| {
        names(&paragraph.text, key.key) || paragraph.lines.iter().any(|line| names(line, key.key))
    };
    let first = all.iter().find(|paragraph| own(paragraph) && sets(paragraph));
    first
        .or_else(|| all.iter().find(|paragraph| own(paragraph) && names(paragraph)))
        .or_else(|| all.iter().find(sets))
        .or_else(|| all.iter().find(names))
}

/// Words as they are, and what is set in from them in a block of its own.
fn as_markdown(text: &str) -> String {
    let mut out = String::new();
    let mut is_inside = None;
    for line in text.lines() {
        let is_set_in = line.starts_with("  ");
        if is_inside != Some(is_set_in) {
            out += match (is_inside, is_set_in) {
                (Some(true), _) => "```\n\n",
                (_, true) => "\n```text\n",
                (_, false) => "\n",
            };
            is_inside = Some(is_set_in);
        }
        match is_set_in {
            true => writeln!(out, "{}", &line[2..]).expect("text"),
            false => writeln!(out, "{}", line.replace('<', "&lt;")).expect("text"),
        }
    }
    if is_inside == Some(true) {
        out += "```\n";
    }
    out
}

fn render() -> String {
    let mut page = HEAD.to_owned();
    let keys = config::keys();
    let manuals = [
        ("inspectd.toml", "config/inspectd.toml"),
        ("stations/*.toml", "config/stations/manual.toml.example"),
    ];
    for (file, manual) in manuals {
        let manual = fs::read_to_string(root().join(manual)).expect("a manual");
        let all = paragraphs(&manual);
        let mut tables: BTreeMap<&str, Vec<&Key>> = BTreeMap::new();
        for key in keys.iter().filter(|key| key.file == file) {
            tables.entry(&key.table).or_default().push(key);
        }
        for (table, keys) in tables {
            let table = if table.is_empty() { "the top of the file" } else { table };
            write!(page, "\n## `{file}`: {}\n", table).expect("text");
            let mut groups: Vec<(&Paragraph, Vec<&Key>)> = Vec::new();
            for key in keys {
                let paragraph =
                    explains(&all, key).unwrap_or_else(|| panic!("no manual explains {key:?}"));
                let same = |group: &&mut (&Paragraph, Vec<&Key>)| std::ptr::eq(group.0, paragraph);
                match groups.iter_mut().find(same) {
                    Some(group) => group.1.push(key),
                    None => groups.push((paragraph, vec![key])),
                }
            }
            for (paragraph, keys) in groups {
                page.push('\n');
                for key in keys {
                    writeln!(page, "- `{}`: {}", key.key, key.form).expect("text");
                }
                page += &as_markdown(&paragraph.text);
            }
        }
    }
    page
}

#[test]
fn the_page_of_keys_is_what_the_program_reads() {
    let made = render();
    let path = root().join(PAGE);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, &made).expect("written");
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(found == made, "{PAGE} is old; UPDATE_GOLDEN=1 makes it anew");
}

/// What the manuals set, the program reads: the list of keys is whole.
#[test]
fn every_key_of_the_manuals_is_in_the_list() {
    let keys = config::keys();
    for (file, manual) in
        [("inspectd.toml", "inspectd.toml"), ("stations/*.toml", "stations/manual.toml.example")]
    {
        let text = fs::read_to_string(root().join("config").join(manual)).expect("a manual");
        let known: BTreeSet<&str> = keys
            .iter()
            .filter(|key| key.file == file)
            .flat_map(|key| key.table.split(['[', ']', '.']).chain([key.key]))
            .collect();
        for line in text.lines() {
            let bare = line.strip_prefix('#').unwrap_or(line).trim_start();
            let Some((name, _)) = bare.split_once(" = ") else { continue };
            let is_key = !name.is_empty()
                && name
                    .chars()
                    .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "_.".contains(c));
            for part in name.split('.').filter(|_| is_key) {
                assert!(
                    known.contains(part),
                    "{manual}: `{part}` of \"{line}\" is in no list of keys"
                );
            }
        }
    }
}
