//! Walks one TOML table and notes every problem, where serde would stop at the first.
//!
//! Asking for a key also declares it: what was never asked for is unknown when the reader is
//! [finished](Reader::finish). A bad value is noted and answered as `None`, like an absent one, so
//! the walk goes on with the default; since any note forbids the start, no such default is used.

mod scalars;
mod sink;
mod tables;
mod value;

pub use sink::Sink;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::file::{self, ReadFile, Source};
use super::report::{Place, Problem};
use super::words::{choices, printable};
use crate::vlm::Digest;

/// Longest name, in characters: it becomes a topic level and a file name.
pub const NAME_MAX: usize = 64;

/// One table of one file, and what was asked of it.
#[derive(Debug)]
pub struct Reader<'a> {
    source: &'a Arc<Source>,
    sink: &'a Sink,
    table: Option<&'a DeTable<'a>>,
    /// Where the table begins: a missing key is shown there.
    span: Range<usize>,
    /// What a person calls the table, such as `[camera]`; empty at the top of the file.
    name: String,
    /// The same without a name of its own.
    header: String,
    asked: Vec<&'static str>,
    /// The keys of the table around it: one that stands below the wrong header is common.
    outer: Vec<&'static str>,
}

impl<'a> Reader<'a> {
    /// Opens the top of a file.
    pub fn top(source: &'a Arc<Source>, table: &'a DeTable<'a>, sink: &'a Sink) -> Reader<'a> {
        let (table, name) = (Some(table), String::new());
        Reader {
            source,
            sink,
            table,
            span: 0..0,
            name,
            header: String::new(),
            asked: vec![],
            outer: vec![],
        }
    }

    /// Whether the table is written in the file.
    pub fn is_present(&self) -> bool {
        self.table.is_some()
    }

    /// Whether `key` is written in the table, well or badly.
    pub fn has(&self, key: &str) -> bool {
        self.table.is_some_and(|table| table.contains_key(key))
    }

    /// Whether `key` is written as a table.
    pub fn is_table(&self, key: &str) -> bool {
        let value = self.table.and_then(|table| table.get(key));
        value.is_some_and(|value| matches!(value.get_ref(), DeValue::Table(_)))
    }

    /// Whether `key` is written as a list without entries.
    pub fn is_empty_list(&self, key: &str) -> bool {
        let value = self.table.and_then(|table| table.get(key));
        value.is_some_and(|value| value.get_ref().as_array().is_some_and(|list| list.is_empty()))
    }

    /// How many errors have been noted in this file so far.
    pub fn errors(&self) -> usize {
        self.sink.errors()
    }

    /// Where the table begins.
    pub fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// What a person calls the table.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where a key of the table stands, in words.
    fn within(&self) -> String {
        match self.name.as_str() {
            "" => "at the top of the file".to_owned(),
            name => format!("in {name}"),
        }
    }

    /// Names the table by what it is about, such as `[[question]] "serial"`.
    pub fn call(&mut self, own_name: &str) {
        self.name = format!("{} \"{own_name}\"", self.name);
    }

    /// The bytes `span` of this file.
    pub fn place(&self, span: Range<usize>) -> Place {
        Place::new(self.source, span)
    }

    /// Notes an error at `span`.
    pub fn error(&self, span: Range<usize>, title: impl Into<String>, remedy: impl Into<String>) {
        self.sink.add(Problem::error(title).at(self.place(span)).remedy(remedy));
    }

    /// Notes a warning at `span`.
    pub fn warn(&self, span: Range<usize>, title: impl Into<String>, remedy: impl Into<String>) {
        self.sink.add(Problem::warning(title).at(self.place(span)).remedy(remedy));
    }

    /// Notes a problem made elsewhere.
    pub fn add(&self, problem: Problem) {
        self.sink.add(problem);
    }

    /// Notes a file that the configuration is made of, too.
    pub fn note_file(&self, path: &Path, digest: Digest) {
        self.sink.note_file(ReadFile { path: path.to_owned(), digest });
    }

    /// Reads a file of at most `max_bytes` that belongs to the configuration.
    pub fn read_bytes(&self, path: &Path, max_bytes: u64) -> Result<Vec<u8>, String> {
        let bytes = file::read_limited(path, max_bytes)?;
        self.note_file(path, Digest::of(&bytes));
        Ok(bytes)
    }

    /// Reads a text of at most `max_bytes` that belongs to the configuration, such as a list.
    pub fn read_text(&self, path: &Path, max_bytes: u64) -> Result<String, String> {
        let bytes = self.read_bytes(path, max_bytes)?;
        String::from_utf8(bytes).map_err(|_| "it is not UTF-8 text".to_owned())
    }

    /// Where `key` stands, for a problem with the pair as a whole.
    pub fn key_span(&self, key: &str) -> Range<usize> {
        let entry = self.table.and_then(|table| table.get_key_value(key));
        entry.map_or(self.span(), |(key, _)| key.span())
    }

    /// Notes that `key` is absent, unless it is there and was bad. `example` is a line to add.
    pub fn required<T>(&self, key: &str, found: Option<T>, example: &str) -> Option<T> {
        if found.is_none() && !self.has(key) {
            let title = format!("`{key}` is missing {}", self.within());
            self.error(self.span(), title, format!("add a line such as  {example}"));
        }
        found
    }

    /// `path` as seen from the folder of this file.
    pub fn beside(&self, path: &str) -> PathBuf {
        self.source.path().parent().unwrap_or(Path::new("")).join(path)
    }

    /// Notes every key that nobody asked for, with the known one that looks most like it.
    pub fn finish(self) {
        let Some(table) = self.table else { return };
        for key in table.keys() {
            let word = key.get_ref().as_ref();
            if self.asked.contains(&word) {
                continue;
            }
            let title = format!("unknown key `{}` {}", printable(word), self.within());
            let remedy = if self.outer.contains(&word) {
                format!("`{word}` belongs above the first [table]: move it to the top of the file")
            } else {
                choices(word, &self.asked, '`')
            };
            self.error(key.span(), title, remedy);
        }
    }

    /// Checks that `text` can be a topic level and a file name.
    pub fn check_name(&self, key: &str, text: &Spanned<String>) -> bool {
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        let Some(bad) = text.get_ref().chars().find(|c| !fits(*c)) else { return true };
        let title = format!("`{key}` holds {bad:?}, which a name cannot have");
        self.error(text.span(), title, "use letters a-z, A-Z, digits, `-` and `_` only");
        false
    }

    /// Notes that `name` is one of `known` already; `what` are the things so named.
    pub fn refuse_twin<'n>(
        &self,
        what: &str,
        name: &Spanned<String>,
        known: impl IntoIterator<Item = &'n Spanned<String>>,
    ) {
        let mut known = known.into_iter();
        let Some(first) = known.find(|known| known.get_ref() == name.get_ref()) else { return };
        let problem = Problem::error(format!("two {what} are named \"{}\"", name.get_ref()))
            .at(self.place(name.span()))
            .earlier(self.place(first.span()), "the first")
            .remedy("give one of them another name");
        self.add(problem);
    }

    /// Notes what a key may be, once: who asks first knows best.
    fn note_key(&self, key: &'static str, form: impl FnOnce() -> String) {
        self.sink.note_key(&self.header, key, form);
    }

    fn value(&mut self, key: &'static str) -> Option<&'a Spanned<DeValue<'a>>> {
        if !self.asked.contains(&key) {
            self.asked.push(key);
        }
        self.table?.get(key)
    }

    fn list(
        &mut self,
        key: &'static str,
        max_items: usize,
        what: &str,
    ) -> Option<(Range<usize>, &'a DeArray<'a>)> {
        let value = self.value(key)?;
        let DeValue::Array(list) = value.get_ref() else {
            return self.wrong_type(key, value.span(), what, value.get_ref());
        };
        if list.len() > max_items {
            let title = format!("`{key}` {} has {} entries", self.within(), list.len());
            self.error(value.span(), title, format!("{max_items} at most; remove some"));
            return None;
        }
        Some((value.span(), list))
    }
}
