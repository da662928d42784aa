//! Keys with plain values, or lists of them.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use toml::Spanned;
use toml::de::DeValue;

use super::super::words::{choices, plain_value, printable};
use super::{NAME_MAX, Reader};

/// Longest path, in characters.
const PATH_MAX: usize = 4096;

/// Longest address: an IPv6 address with its scope and port.
const ADDRESS_MAX: usize = 80;

impl Reader<'_> {
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
}
