//! An answer that another engine wrote, held against the same language as our own.
//!
//! Engines that build their grammar from the schema may put spaces between members and spell characters as
//! escapes. That is not a matter of what was answered, so the text is first brought into our one spelling. What
//! then is not in the language, byte for byte, is off schema: other or doubled members, another order, text
//! around it, a number of another form.

use std::ops::Range;

use super::answer::AnswerSpec;
use super::mask::Grammar;
use super::vocabulary::Vocabulary;
use super::{GrammarError, cursor::FieldTokens};

/// Longest piece of a refused answer that is told, in characters.
const TOLD_CHARS: usize = 40;

/// Checks answers of one question.
#[derive(Debug)]
pub struct Reader {
    grammar: Grammar,
}

/// A value of an answer, and the bytes of the text it was written with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldBytes {
    /// The value's place: `serial`, `defects[0].class`. A list's own path stands for how many items it has.
    pub path: String,
    /// Its bytes: ranges of the text as it came, ascending, none of them empty.
    pub bytes: Vec<Range<usize>>,
}

/// The text is not in the language.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct OffForm(String);

impl Reader {
    /// A reader for the answers of `spec`. Takes milliseconds.
    ///
    /// # Errors
    /// The automaton refused the language.
    pub fn new(spec: &AnswerSpec) -> Result<Reader, GrammarError> {
        Ok(Reader { grammar: Grammar::compile(spec, &Vocabulary::bytewise())? })
    }

    /// Where the values of `text` stand.
    ///
    /// # Errors
    /// It is not in the language; up to where it is stands in the error.
    pub fn read(&self, text: &str) -> Result<Vec<FieldBytes>, OffForm> {
        let (spelled, from) = spell(text);
        if spelled.len() > self.grammar.spec().max_bytes() {
            let most = self.grammar.spec().max_bytes();
            return Err(OffForm(format!("it has {} bytes, {most} at most", spelled.len())));
        }
        let mut matcher = self.grammar.start();
        for byte in &spelled {
            if matcher.accept(u32::from(*byte)).is_err() {
                return Err(off(&matcher.text(), "is not followed by what was asked for"));
            }
        }
        if !matcher.is_done() {
            return Err(off(&matcher.text(), "is not the end of it"));
        }
        let place = |field: FieldTokens| FieldBytes {
            path: field.path,
            bytes: field.tokens.iter().map(|&at| from[at].clone()).collect(),
        };
        Ok(matcher.fields().into_iter().map(place).collect())
    }
}

/// The end of what was good, and what is wrong behind it.
fn off(good: &str, what: &str) -> OffForm {
    let skipped = good.chars().count().saturating_sub(TOLD_CHARS);
    let tail: String = good.chars().skip(skipped).collect();
    let dots = if skipped > 0 { "…" } else { "" };
    match tail.is_empty() {
        true => OffForm("it does not begin as what was asked for".to_owned()),
        false => OffForm(format!("`{dots}{tail}` {what}")),
    }
}

/// `text` without spaces between its values and with no escapes but `\"` and `\\`, and where each byte of it
/// came from. What is no JSON stays as it is, for the automaton to refuse.
fn spell(text: &str) -> (Vec<u8>, Vec<Range<usize>>) {
    let bytes = text.as_bytes();
    let (mut out, mut from) = (Vec::with_capacity(bytes.len()), Vec::with_capacity(bytes.len()));
    let mut put = |piece: &[u8], range: Range<usize>| {
        out.extend_from_slice(piece);
        from.extend(piece.iter().map(|_| range.clone()));
    };
    let (mut at, mut is_string) = (0, false);
    while let Some(&byte) = bytes.get(at) {
        match (is_string, byte) {
            (false, b' ' | b'\t' | b'\n' | b'\r') => {}
            (true, b'\\') => {
                let (spelled, length) = escape(&text[at..]);
                put(&spelled, at..at + length);
                at += length;
                continue;
            }
            _ => {
                is_string ^= byte == b'"';
                put(&[byte], at..at + 1);
            }
        }
        at += 1;
    }
    (out, from)
}

/// The escape that `text` begins with, in our spelling, and its length in bytes.
fn escape(text: &str) -> (Vec<u8>, usize) {
    let unit = |at: usize| {
        let digits = text.get(at..at + 6)?.strip_prefix("\\u")?;
        let is_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        u16::from_str_radix(digits, 16).ok().filter(|_| is_hex)
    };
    let found = match text.as_bytes().get(1) {
        Some(b'/') => Some(('/', 2)),
        Some(b'u') => unit(0).and_then(|first| match char::from_u32(first.into()) {
            Some(c) => Some((c, 6)),
            None => {
                let pair = char::decode_utf16([first, unit(6)?]).next()?.ok()?;
                Some((pair, 12))
            }
        }),
        _ => None,
    };
    match found {
        Some((c @ ('"' | '\\'), length)) => (vec![b'\\', c as u8], length),
        Some((c, length)) => (c.to_string().into_bytes(), length),
        // One of two characters, or the beginning of what is none; never a part of a character.
        None => {
            let length = 1 + text[1..].chars().next().map_or(0, char::len_utf8);
            (text.as_bytes()[..length].to_vec(), length)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{DefectsSpec, FieldKind, FieldSpec, SerialSpec, Template};
    use super::*;
    use proptest::prelude::*;

    fn serial() -> Reader {
        let template = Template::parse("####", "ABC123").unwrap();
        Reader::new(&AnswerSpec::serial(&SerialSpec::new(template)).unwrap()).unwrap()
    }

    fn note() -> Reader {
        let kind = FieldKind::Text { max_chars: 8 };
        let field = FieldSpec { name: "note".to_owned(), kind };
        Reader::new(&AnswerSpec::fields(vec![field]).unwrap()).unwrap()
    }

    fn pieces<'t>(reader: &Reader, text: &'t str, path: &str) -> Vec<&'t str> {
        let fields = reader.read(text).unwrap_or_else(|why| panic!("{text}: {why}"));
        let field = fields.into_iter().find(|field| field.path == path).unwrap();
        field.bytes.into_iter().map(|range| &text[range]).collect()
    }

    #[test]
    fn spaces_between_values_are_nobodys_answer() {
        for text in [
            r#"{"legible":true,"serial":"A1B2"}"#,
            "{\n  \"legible\": true,\n  \"serial\": \"A1B2\"\n}\n",
            " {\"legible\" :true , \"serial\":\t\"A1B2\" } ",
        ] {
            assert_eq!(pieces(&serial(), text, "serial").concat(), r#""A1B2""#, "{text}");
            assert_eq!(pieces(&serial(), text, "legible").concat(), "true", "{text}");
        }
    }

    #[test]
    fn escapes_are_read_as_what_they_stand_for() {
        let told = |text: &str| note().read(text).is_ok();
        assert!(told(r#"{"note":"a \u00df \/"}"#));
        assert!(told(r#"{"note":"\ud83d\ude00 \" \\"}"#), "a pair is one character");
        assert_eq!(
            pieces(&note(), r#"{"note":"\u0022"}"#, "note").join("|"),
            r#""|\u0022|\u0022|""#
        );
        for bad in [r"\n", r"\u0007", r"\ud83d", r"\u00", r"\x", r"\ué", r"\"] {
            assert!(!told(&format!(r#"{{"note":"{bad}"}}"#)), "{bad}");
        }
    }

    #[test]
    fn what_is_not_of_the_language_says_how_far_it_was() {
        let told = |text: &str| serial().read(text).expect_err(text).to_string();
        let good = r#"{"legible":true,"serial":"A1B2"}"#;
        for (text, words) in [
            ("", "does not begin"),
            ("```json\n{}", "does not begin"),
            ("Sure! {}", "does not begin"),
            (&good[..20], "is not the end of it"),
            (&format!("{good}."), "is not followed"),
            (&format!("{good}{good}"), "bytes, "),
            (r#"{"serial":"A1B2","legible":true}"#, "is not followed"),
            (r#"{"legible":true,"legible":true,"serial":"A1B2"}"#, "bytes, "),
            (r#"{"legible":true,"serial":"a1b2"}"#, r#""serial":"` is not followed"#),
            (r#"{"legible":false,"serial":"A1B2"}"#, "is not followed"),
            (r#"{"legible":true,"serial":null}"#, "is not followed"),
        ] {
            assert!(told(text).contains(words), "{text}: {}", told(text));
        }
    }

    proptest! {
        /// Whatever comes: no panic, and ranges that lie in the text and on characters.
        #[test]
        fn any_text_is_read_or_refused(text in r#"[ -~\\"u0-9a-f\{\}\[\]:,é😀\n]{0,60}"#) {
            let _ = note().read(&text);
            let (spelled, from) = spell(&text);
            prop_assert_eq!(spelled.len(), from.len());
            for range in from {
                prop_assert!(!range.is_empty() && range.end <= text.len());
            }
            prop_assert!(String::from_utf8(spelled).is_ok());
        }

        /// An answer that is pretty-printed, with every character of its texts as an escape, is the same.
        #[test]
        fn another_spelling_is_the_same_answer(
            picks in proptest::collection::vec((0..2usize, 0..4usize, 0..10usize), 0..5)
        ) {
            let spec = AnswerSpec::defects(&DefectsSpec::new(["scratch", "dent"])).unwrap();
            let reader = Reader::new(&spec).unwrap();
            let classes = ["scratch", "dent"];
            let (severities, places) = (["minor", "major", "critical", "unclear"], super::super::locations());
            let item = |(class, severity, place): &(usize, usize, usize)| serde_json::json!({
                "class": classes[*class],
                "severity": severities[*severity],
                "location": places.get(*place).map_or("unclear", String::as_str),
            });
            let list: Vec<serde_json::Value> = picks.iter().map(item).collect();
            let value = serde_json::json!({ "inspectable": true, "defects": list });
            let compact = reader.read(&value.to_string());
            let pretty = serde_json::to_string_pretty(&value).unwrap();
            let escaped = pretty.replace("major", r"\u006dajor").replace("dent", r"den\u0074");
            let other = reader.read(&escaped);
            prop_assert_eq!(compact.is_ok(), picks.len() <= 4);
            prop_assert_eq!(compact.is_ok(), other.is_ok());
            if let (Ok(one), Ok(two)) = (compact, other) {
                let paths = |all: &[FieldBytes]| all.iter().map(|f| f.path.clone()).collect::<Vec<_>>();
                prop_assert_eq!(paths(&one), paths(&two));
            }
        }
    }
}
