//! Walks one TOML table and notes every problem, where serde would stop at the first.
//!
//! Asking for a key also declares it: what was never asked for is unknown when the reader is
//! [finished](Reader::finish). A bad value is noted and answered as `None`, like an absent one, so
//! the walk goes on with the default; since any note forbids the start, no such default is used.

mod value;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::file::{self, ReadFile, Source};
use super::report::{Place, Problem, Severity};
use super::words::{choices, plain_value, printable};
use crate::vlm::Digest;

/// Longest name, in characters: it becomes a topic level and a file name.
pub const NAME_MAX: usize = 64;

/// Longest path, in characters.
const PATH_MAX: usize = 4096;

/// Longest address: an IPv6 address with its scope and port.
const ADDRESS_MAX: usize = 80;

/// Collects problems from readers that are open at the same time, and the files that they read.
#[derive(Debug, Default)]
pub struct Sink {
    problems: RefCell<Vec<Problem>>,
    files: RefCell<Vec<ReadFile>>,
    keys: RefCell<BTreeMap<(String, &'static str), String>>,
}

impl Sink {
    /// Notes one problem.
    pub fn add(&self, problem: Problem) {
        self.problems.borrow_mut().push(problem);
    }

    /// How many of them forbid the start.
    pub fn errors(&self) -> usize {
        self.problems.borrow().iter().filter(|known| known.severity() == Severity::Error).count()
    }

    /// Every key that was asked for: the table's name, the key, and what its value may be.
    pub fn keys(&self) -> Vec<(String, &'static str, String)> {
        let keys = self.keys.borrow();
        keys.iter().map(|((table, key), form)| (table.clone(), *key, form.clone())).collect()
    }

    /// All of them, by their place in the file; and what was read beside it.
    pub fn into_sorted(self) -> (Vec<Problem>, Vec<ReadFile>) {
        let mut all = self.problems.into_inner();
        all.sort_by_key(|problem| (problem.line(), problem.column()));
        (all, self.files.into_inner())
    }
}

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
        self.sink.files.borrow_mut().push(ReadFile { path: path.to_owned(), digest });
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

    /// A text of 1 to `max_chars` characters.
    pub fn text(&mut self, key: &'static str, max_chars: usize) -> Option<Spanned<String>> {
        self.note_key(key, || format!("text, {max_chars} characters at most"));
        let value = self.value(key)?;
        self.as_text(key, value, max_chars)
    }

    /// A name: letters, digits, `-` and `_`.
    pub fn own_name(&mut self, key: &'static str) -> Option<Spanned<String>> {
        self.note_key(key, || format!("name of letters, digits, - and _, {NAME_MAX} at most"));
        let text = self.text(key, NAME_MAX)?;
        self.check_name(key, &text).then_some(text)
    }

    /// An address of this device to listen on, with its port; `example` is one.
    pub fn listen_address(&mut self, key: &'static str, example: SocketAddr) -> Option<SocketAddr> {
        self.note_key(key, || "address and port".to_owned());
        let text = self.text(key, ADDRESS_MAX)?;
        let parsed = text.get_ref().parse().ok();
        if parsed.is_none() {
            let title = format!("`{key}` cannot be \"{}\"", printable(text.get_ref()));
            let remedy = format!(
                "write an address of this device and a port, such as \"{example}\"; \"0.0.0.0:{}\" is \
                 all of its addresses",
                example.port()
            );
            self.error(text.span(), title, remedy);
        }
        parsed
    }

    /// A path; one that is not absolute is taken from the folder of this file.
    pub fn path(&mut self, key: &'static str) -> Option<Spanned<PathBuf>> {
        self.note_key(key, || "path".to_owned());
        let text = self.text(key, PATH_MAX)?;
        Some(Spanned::new(text.span(), self.beside(text.get_ref())))
    }

    /// `path` as seen from the folder of this file.
    pub fn beside(&self, path: &str) -> PathBuf {
        self.source.path().parent().unwrap_or(Path::new("")).join(path)
    }

    /// A whole number within `range`.
    pub fn whole(&mut self, key: &'static str, range: RangeInclusive<i64>) -> Option<Spanned<i64>> {
        self.note_key(key, || format!("whole number, {} to {}", range.start(), range.end()));
        let value = self.value(key)?;
        self.as_whole(key, value, &range)
    }

    /// A number, with or without a fraction, within `range`.
    pub fn number(
        &mut self,
        key: &'static str,
        range: RangeInclusive<f64>,
    ) -> Option<Spanned<f64>> {
        self.note_key(key, || format!("number, {} to {}", range.start(), range.end()));
        let value = self.value(key)?;
        self.as_number(key, value, &range)
    }

    /// `true` or `false`.
    pub fn flag(&mut self, key: &'static str) -> Option<Spanned<bool>> {
        self.note_key(key, || "true or false".to_owned());
        let value = self.value(key)?;
        match value.get_ref() {
            DeValue::Boolean(flag) => Some(Spanned::new(value.span(), *flag)),
            other => self.wrong_type(key, value.span(), "true or false", other),
        }
    }

    /// One of a few words, and what it stands for.
    pub fn one_of<T: Clone>(
        &mut self,
        key: &'static str,
        words: &[(&str, T)],
    ) -> Option<Spanned<T>> {
        self.note_key(key, || {
            let words: Vec<String> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
            words.join(", ")
        });
        let text = self.text(key, NAME_MAX)?;
        if let Some((_, meaning)) = words.iter().find(|(word, _)| word == text.get_ref()) {
            return Some(Spanned::new(text.span(), meaning.clone()));
        }
        let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let title = format!("`{key}` cannot be \"{}\"", text.get_ref());
        self.error(text.span(), title, choices(text.get_ref(), &known, '"'));
        None
    }

    /// A list of at most `max_items` texts of 1 to `max_chars` characters.
    pub fn texts(
        &mut self,
        key: &'static str,
        max_items: usize,
        max_chars: usize,
    ) -> Option<Spanned<Vec<Spanned<String>>>> {
        self.note_key(key, || {
            format!("list of {max_items} texts at most, each {max_chars} characters at most")
        });
        let (span, list) = self.list(key, max_items, "a list of texts")?;
        let texts = list.iter().filter_map(|item| self.as_text(key, item, max_chars)).collect();
        Some(Spanned::new(span, texts))
    }

    /// A list of at most `max_items` whole numbers within `range`.
    pub fn wholes(
        &mut self,
        key: &'static str,
        max_items: usize,
        range: RangeInclusive<i64>,
    ) -> Option<Spanned<Vec<i64>>> {
        self.note_key(key, || {
            format!(
                "list of {max_items} whole numbers at most, {} to {}",
                range.start(),
                range.end()
            )
        });
        let (span, list) = self.list(key, max_items, "a list of whole numbers")?;
        let number = |item| self.as_whole(key, item, &range).map(Spanned::into_inner);
        let numbers: Option<Vec<i64>> = list.iter().map(number).collect();
        Some(Spanned::new(span, numbers?))
    }

    /// A list of exactly `N` numbers within `range`.
    pub fn numbers<const N: usize>(
        &mut self,
        key: &'static str,
        range: RangeInclusive<f64>,
    ) -> Option<Spanned<[f64; N]>> {
        self.note_key(key, || {
            format!("list of {N} numbers, each {} to {}", range.start(), range.end())
        });
        let (span, list) = self.list(key, usize::MAX, "a list of numbers")?;
        if list.len() != N {
            let title = format!("`{key}` has {} numbers; it needs {N}", list.len());
            let words = ["x", "y", "width", "height"];
            let words = words.get(..N).unwrap_or_default().join(", ");
            self.error(span, title, format!("write  {key} = [{words}]"));
            return None;
        }
        let found: Vec<f64> = list
            .iter()
            .filter_map(|item| self.as_number(key, item, &range).map(Spanned::into_inner))
            .collect();
        Some(Spanned::new(span, found.try_into().ok()?))
    }

    /// A list of plain values: texts, numbers, true or false.
    pub fn values(
        &mut self,
        key: &'static str,
        max_items: usize,
    ) -> Option<Vec<Spanned<serde_json::Value>>> {
        self.note_key(key, || format!("list of {max_items} texts, numbers, true or false at most"));
        let (_, list) = self.list(key, max_items, "a list of values")?;
        let plain = |item: &Spanned<DeValue<'_>>| {
            let value = plain_value(item.get_ref());
            if value.is_none() {
                let what = "a text, a number, true or false";
                self.wrong_type::<()>(key, item.span(), what, item.get_ref());
            }
            value.map(|value| Spanned::new(item.span(), value))
        };
        Some(list.iter().filter_map(plain).collect())
    }

    /// The table `[key]`; one that is absent reads as empty.
    pub fn table(&mut self, key: &'static str) -> Reader<'a> {
        let found = self.value(key);
        let span = found.map_or(self.span(), Spanned::span);
        let table = match found.map(Spanned::get_ref) {
            Some(DeValue::Table(table)) => Some(table),
            Some(other) => self.wrong_type(key, span.clone(), "a table", other),
            None => None,
        };
        let mut inside = self.inside(table, span, format!("[{key}]"));
        let around = self.header.trim_matches(['[', ']']);
        if !around.is_empty() {
            inside.header = format!("[{around}.{key}]");
        }
        inside
    }

    /// The tables `[[key]]`, at most `max_items` of them. `header` is what stands between the
    /// brackets.
    pub fn tables(&mut self, key: &'static str, header: &str, max_items: usize) -> Vec<Reader<'a>> {
        let what = format!("one or more tables below [[{header}]], with two brackets");
        let Some((_, list)) = self.list(key, max_items, &what) else { return vec![] };
        let mut readers = Vec::new();
        for item in list.iter() {
            match item.get_ref() {
                DeValue::Table(table) => {
                    readers.push(self.inside(Some(table), item.span(), format!("[[{header}]]")));
                }
                other => {
                    self.wrong_type::<()>(key, item.span(), &what, other);
                }
            }
        }
        readers
    }

    /// The tables `[key.NAME]`, at most `max_items` of them, each with its name.
    pub fn named_tables(
        &mut self,
        key: &'static str,
        max_items: usize,
    ) -> Vec<(Spanned<String>, Reader<'a>)> {
        let around = self.table(key);
        let Some(tables) = around.table else { return vec![] };
        if tables.len() > max_items {
            let title = format!("`{key}` has {} tables", tables.len());
            self.error(around.span(), title, format!("{max_items} at most; remove some"));
            return vec![];
        }
        let mut readers = Vec::new();
        for (name, value) in tables {
            let spoken = printable(name.get_ref());
            match value.get_ref() {
                DeValue::Table(table) => {
                    let header = format!("[{key}.{spoken}]");
                    let mut reader = self.inside(Some(table), value.span(), header);
                    reader.header = format!("[{key}.NAME]");
                    readers.push((Spanned::new(name.span(), name.get_ref().to_string()), reader));
                }
                other => {
                    let what = format!("a table below [{key}.NAME]");
                    self.wrong_type::<()>(&spoken, value.span(), &what, other);
                }
            }
        }
        readers
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

    fn inside(
        &self,
        table: Option<&'a DeTable<'a>>,
        span: Range<usize>,
        name: String,
    ) -> Reader<'a> {
        let outer = self.asked.clone();
        let (header, asked) = (name.clone(), vec![]);
        Reader { source: self.source, sink: self.sink, table, span, name, header, asked, outer }
    }

    /// Notes what a key may be, once: who asks first knows best.
    fn note_key(&self, key: &'static str, form: impl FnOnce() -> String) {
        let mut keys = self.sink.keys.borrow_mut();
        keys.entry((self.header.clone(), key)).or_insert_with(form);
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
