//! Tables in a table.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::super::words::printable;
use super::Reader;

impl<'a> Reader<'a> {
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
}
