//! One TOML value into one checked Rust value, or a note of what is wrong with it.

use std::fmt::Display;
use std::ops::{Range, RangeInclusive};

use toml::Spanned;
use toml::de::DeValue;

use super::super::words::describe;
use super::Reader;

impl Reader<'_> {
    pub(super) fn as_text(
        &self,
        key: &str,
        value: &Spanned<DeValue<'_>>,
        max_chars: usize,
    ) -> Option<Spanned<String>> {
        let DeValue::String(text) = value.get_ref() else {
            return self.wrong_type(key, value.span(), "a text in quotes", value.get_ref());
        };
        if text.trim().is_empty() {
            self.error(value.span(), format!("`{key}` is empty"), "write a text, or leave it out");
            return None;
        }
        let count = text.chars().count();
        if count > max_chars {
            let title = format!("`{key}` has {count} characters");
            self.error(value.span(), title, format!("shorten it to at most {max_chars}"));
            return None;
        }
        if let Some(bad) = text.chars().find(|c| c.is_control() && !matches!(c, '\n' | '\t')) {
            let title = format!("`{key}` holds the control character {bad:?}");
            self.error(value.span(), title, "remove it");
            return None;
        }
        Some(Spanned::new(value.span(), text.clone().into_owned()))
    }

    pub(super) fn as_whole(
        &self,
        key: &str,
        value: &Spanned<DeValue<'_>>,
        range: &RangeInclusive<i64>,
    ) -> Option<Spanned<i64>> {
        let DeValue::Integer(digits) = value.get_ref() else {
            return self.wrong_type(key, value.span(), "a whole number", value.get_ref());
        };
        let number = i64::from_str_radix(digits.as_str(), digits.radix()).ok();
        match number.filter(|number| range.contains(number)) {
            Some(number) => Some(Spanned::new(value.span(), number)),
            None => self.out_of_range(key, value.span(), digits, range),
        }
    }

    pub(super) fn as_number(
        &self,
        key: &str,
        value: &Spanned<DeValue<'_>>,
        range: &RangeInclusive<f64>,
    ) -> Option<Spanned<f64>> {
        let (number, text) = match value.get_ref() {
            DeValue::Float(digits) => (digits.as_str().parse::<f64>().ok(), digits.to_string()),
            DeValue::Integer(digits) => {
                let whole = i64::from_str_radix(digits.as_str(), digits.radix()).ok();
                (whole.map(|whole| whole as f64), digits.to_string())
            }
            other => return self.wrong_type(key, value.span(), "a number", other),
        };
        // `contains` is false for NaN.
        match number.filter(|number| range.contains(number)) {
            Some(number) => Some(Spanned::new(value.span(), number)),
            None => self.out_of_range(key, value.span(), text, range),
        }
    }

    fn out_of_range<T, N: Display>(
        &self,
        key: &str,
        span: Range<usize>,
        found: impl Display,
        range: &RangeInclusive<N>,
    ) -> Option<T> {
        let title = format!("`{key}` = {found} is out of range");
        self.error(span, title, format!("choose {} to {}", range.start(), range.end()));
        None
    }

    pub(super) fn wrong_type<T>(
        &self,
        key: &str,
        span: Range<usize>,
        expected: &str,
        found: &DeValue<'_>,
    ) -> Option<T> {
        let title = format!("`{key}` {} is {}", self.within(), describe(found));
        self.error(span, title, format!("it must be {expected}"));
        None
    }
}
