//! The written form of a serial number: which characters may stand at which position.
//!
//! A template is a line of positions:
//!
//! | Written            | Position                                              |
//! |--------------------|-------------------------------------------------------|
//! | `A`                | a letter of the alphabet                              |
//! | `9`                | a digit of the alphabet                               |
//! | `#`                | any character of the alphabet                         |
//! | `[XYZ]`, `[A-F0-9]`| one of these characters, in the alphabet or not       |
//! | `\A`               | the character after the backslash, itself             |
//! | anything else      | itself                                                |
//! | `{8}`, `{6,8}`     | the position before it, so many times                 |
//!
//! `SN-9{6}` is the text `SN-` and six digits; `\A9[XY]#{2,3}` is an `A`, a digit, `X` or `Y`, and two or three
//! characters of the alphabet. The alphabet is the list of characters the marking machine can make; leaving out
//! look-alikes (`0O1I`) keeps a reader from choosing between them.

use std::collections::BTreeSet;
use std::fmt;

use super::pattern;

/// The alphabet of a template that names none: capital letters and digits.
pub const DEFAULT_ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";

/// The longest serial a template may describe, in characters. Longer marks are text, not serials.
pub const MAX_SERIAL_CHARS: usize = 64;

/// What is wrong with a template, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("template `{template}`, character {position}: {problem}")]
pub struct TemplateError {
    /// The template as written.
    pub template: String,
    /// Character of the template, counted from 1; one past its end when something is missing.
    pub position: usize,
    /// What is wrong and what would be right.
    pub problem: String,
}

/// A parsed template together with its alphabet.
#[derive(Clone, PartialEq, Eq)]
pub struct Template {
    text: String,
    alphabet: String,
    slots: Vec<Slot>,
}

/// One position: a set of characters, `min` to `max` times.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Slot {
    chars: BTreeSet<char>,
    min: usize,
    max: usize,
}

impl Template {
    /// Reads `text` over `alphabet`. Errors name the character that is wrong.
    pub fn parse(text: &str, alphabet: &str) -> Result<Template, TemplateError> {
        Parser::new(text, alphabet).parse()
    }

    /// Whether `serial` is written exactly as the template says.
    pub fn matches(&self, serial: &str) -> bool {
        let chars: Vec<char> = serial.chars().collect();
        self.walk(&chars).0
    }

    /// Whether some serial that is written as the template says begins with `chars`.
    pub fn may_begin(&self, chars: &[char]) -> bool {
        self.walk(chars).1
    }

    /// Whether `chars` are a serial, and whether they begin one.
    fn walk(&self, chars: &[char]) -> (bool, bool) {
        // The lengths of `chars` that the slots so far can account for.
        let mut reached: BTreeSet<usize> = BTreeSet::from([0]);
        let mut is_beginning = chars.is_empty();
        for slot in &self.slots {
            let mut next = BTreeSet::new();
            for &start in &reached {
                let fits = chars[start..]
                    .iter()
                    .take(slot.max)
                    .take_while(|c| slot.chars.contains(c))
                    .count();
                // Whatever ends within a slot can be gone on with: no slot is without characters.
                is_beginning |= start + fits == chars.len();
                next.extend((slot.min..=fits).map(|n| start + n));
            }
            reached = next;
        }
        (reached.contains(&chars.len()), is_beginning)
    }

    /// The most characters a matching serial has.
    pub fn max_len(&self) -> usize {
        self.slots.iter().map(|slot| slot.max).sum()
    }

    /// The fewest characters a matching serial has.
    pub fn min_len(&self) -> usize {
        self.slots.iter().map(|slot| slot.min).sum()
    }

    /// Every character that can occur: the alphabet, and what the template itself names.
    pub fn characters(&self) -> BTreeSet<char> {
        self.alphabet
            .chars()
            .chain(self.slots.iter().flat_map(|slot| slot.chars.iter().copied()))
            .collect()
    }

    /// A regular expression for the serials that match, without anchors.
    pub fn regex(&self) -> String {
        self.regex_with(pattern::class_of)
    }

    /// The same with the caller's way to write a set of characters: inside JSON, quotes are written escaped.
    pub(super) fn regex_with(&self, class: impl Fn(&BTreeSet<char>) -> String) -> String {
        self.slots
            .iter()
            .map(|slot| pattern::repeat(&class(&slot.chars), slot.min, slot.max))
            .collect()
    }

    /// The template as written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The alphabet as written.
    pub fn alphabet(&self) -> &str {
        &self.alphabet
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Template({:?} over {:?})", self.text, self.alphabet)
    }
}

struct Parser<'a> {
    text: &'a str,
    chars: Vec<char>,
    alphabet: &'a str,
    at: usize,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str, alphabet: &'a str) -> Self {
        Parser { text, chars: text.chars().collect(), alphabet, at: 0 }
    }

    fn parse(mut self) -> Result<Template, TemplateError> {
        self.check_alphabet()?;
        let mut slots = Vec::new();
        while self.at < self.chars.len() {
            let chars = self.class()?;
            let (min, max) = self.repetition()?;
            slots.push(Slot { chars, min, max });
        }
        let template =
            Template { text: self.text.to_owned(), alphabet: self.alphabet.to_owned(), slots };
        if template.min_len() == 0 {
            return Err(self.wrong("no serial has no characters; give at least one position"));
        }
        if template.max_len() > MAX_SERIAL_CHARS {
            let problem = format!(
                "up to {} characters; a serial has at most {MAX_SERIAL_CHARS}",
                template.max_len()
            );
            return Err(self.wrong(&problem));
        }
        Ok(template)
    }

    fn check_alphabet(&self) -> Result<(), TemplateError> {
        let mut seen = BTreeSet::new();
        for c in self.alphabet.chars() {
            if !printable(c) {
                return Err(self.wrong(&format!(
                    "the alphabet has {c:?}, which cannot be printed; remove it"
                )));
            }
            if !seen.insert(c) {
                return Err(self.wrong(&format!("the alphabet has `{c}` twice; remove one")));
            }
        }
        if seen.is_empty() {
            return Err(self.wrong("the alphabet is empty; list the characters that can be marked"));
        }
        Ok(())
    }

    /// The set of characters of the position that begins here.
    fn class(&mut self) -> Result<BTreeSet<char>, TemplateError> {
        let c = self.chars[self.at];
        let set = match c {
            'A' => self.of_alphabet(char::is_alphabetic, "letters")?,
            '9' => self.of_alphabet(|c| c.is_ascii_digit(), "digits")?,
            '#' => self.alphabet.chars().collect(),
            '[' => return self.bracket(),
            '\\' => {
                self.at += 1;
                match self.chars.get(self.at) {
                    Some(&literal) => self.literal(literal)?,
                    None => {
                        return Err(self
                            .wrong("nothing follows the backslash; write `\\\\` for a backslash"));
                    }
                }
            }
            '{' => {
                return Err(self
                    .wrong("nothing stands before `{` to repeat; write `\\{` for the character"));
            }
            ']' | '}' => {
                return Err(
                    self.wrong(&format!("`{c}` closes nothing; write `\\{c}` for the character"))
                );
            }
            literal => self.literal(literal)?,
        };
        self.at += 1;
        Ok(set)
    }

    fn of_alphabet(
        &self,
        kind: fn(char) -> bool,
        name: &str,
    ) -> Result<BTreeSet<char>, TemplateError> {
        let set: BTreeSet<char> = self.alphabet.chars().filter(|&c| kind(c)).collect();
        if set.is_empty() {
            let c = self.chars[self.at];
            return Err(self.wrong(&format!(
                "the alphabet has no {name}; write `\\{c}` for the character `{c}`"
            )));
        }
        Ok(set)
    }

    fn literal(&self, c: char) -> Result<BTreeSet<char>, TemplateError> {
        if printable(c) {
            Ok(BTreeSet::from([c]))
        } else {
            Err(self.wrong(&format!("{c:?} cannot be printed")))
        }
    }

    /// `[` ... `]`: characters and ranges; a backslash takes the next one as it is.
    fn bracket(&mut self) -> Result<BTreeSet<char>, TemplateError> {
        let mut set = BTreeSet::new();
        self.at += 1;
        while let Some(low) = self.bracket_char()? {
            let range =
                self.chars.get(self.at) == Some(&'-') && self.chars.get(self.at + 1) != Some(&']');
            if !range {
                set.extend(self.literal(low)?);
                continue;
            }
            self.at += 1;
            let high = self.bracket_char()?.unwrap_or(low);
            if high < low {
                return Err(self.wrong(&format!("the range {low}-{high} runs backwards")));
            }
            for c in low..=high {
                set.extend(self.literal(c)?);
            }
        }
        if set.is_empty() {
            return Err(self.wrong("`[]` holds no character"));
        }
        Ok(set)
    }

    /// The next character inside brackets, or none at the closing one, which is passed.
    fn bracket_char(&mut self) -> Result<Option<char>, TemplateError> {
        let next = match (self.chars.get(self.at), self.chars.get(self.at + 1)) {
            (Some(']'), _) => {
                self.at += 1;
                return Ok(None);
            }
            (Some('\\'), Some(&c)) => {
                self.at += 1;
                c
            }
            (Some(&c), _) if c != '\\' => c,
            _ => return Err(self.wrong("`[` is not closed; add `]`")),
        };
        self.at += 1;
        Ok(Some(next))
    }

    /// `{n}` or `{m,n}` if one stands here, else once.
    fn repetition(&mut self) -> Result<(usize, usize), TemplateError> {
        if self.chars.get(self.at) != Some(&'{') {
            return Ok((1, 1));
        }
        let close = self.chars[self.at..].iter().position(|&c| c == '}');
        let Some(close) = close.map(|n| self.at + n) else {
            return Err(self.wrong("`{` is not closed; add `}`"));
        };
        let inside: String = self.chars[self.at + 1..close].iter().collect();
        let (low, high) = inside.split_once(',').unwrap_or((&inside, &inside));
        let bounds = (low.trim().parse::<usize>(), high.trim().parse::<usize>());
        match bounds {
            (Ok(min), Ok(max)) if min <= max && (1..=MAX_SERIAL_CHARS).contains(&max) => {
                self.at = close + 1;
                Ok((min, max))
            }
            _ => Err(self.wrong(&format!(
                "`{{{inside}}}` is not a repetition; write `{{8}}` or `{{6,8}}`, at most {MAX_SERIAL_CHARS}"
            ))),
        }
    }

    fn wrong(&self, problem: &str) -> TemplateError {
        TemplateError {
            template: self.text.to_owned(),
            position: self.at + 1,
            problem: problem.to_owned(),
        }
    }
}

/// A character a person can see on a part: no control characters, no invisible ones.
fn printable(c: char) -> bool {
    !pattern::UNPRINTABLE.iter().any(|&(low, high)| (low..=high).contains(&c))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(text: &str) -> Template {
        Template::parse(text, DEFAULT_ALPHABET).unwrap()
    }

    #[test]
    fn positions_repeat_and_escape() {
        let t = template(r"SN-9{6}");
        assert!(t.matches("SN-204816"));
        for wrong in ["SN-20481", "SN-2048160", "SN204816", "sn-204816", "SN-20481A", ""] {
            assert!(!t.matches(wrong), "{wrong}");
        }
        let t = template(r"\A9[X-Z7]#{2,3}");
        assert!(t.matches("A5X00") && t.matches("A57QQQ"));
        assert!(!t.matches("B5X00") && !t.matches("A5W00") && !t.matches("A5X0"));
        assert_eq!((t.min_len(), t.max_len()), (5, 6));
    }

    #[test]
    fn variable_slots_share_characters_without_getting_stuck() {
        let t = template("#{1,3}9{2}#{0,2}");
        for good in ["A12", "111", "AB12", "AAA12ZZ", "1111111"] {
            assert!(t.matches(good), "{good}");
        }
        assert!(!t.matches("AAAA12") && !t.matches("11"));
    }

    #[test]
    fn every_beginning_of_a_serial_is_known_as_one() {
        let t = template(r"\A9[XY]#{2,3}-9{2}");
        let good: Vec<char> = "A5XQQ-17".chars().collect();
        for length in 0..=good.len() {
            assert!(t.may_begin(&good[..length]), "{length}");
        }
        for wrong in ["B", "AX", "A5Z", "A5XQQQQ", "A5XQ-", "A5XQQ-170"] {
            assert!(!t.may_begin(&wrong.chars().collect::<Vec<_>>()), "{wrong}");
        }
    }

    #[test]
    fn the_regex_describes_the_same_serials() {
        let t = template(r"\A9[X-Z\]]-#{2,3}\\");
        let schema = serde_json::json!({ "pattern": format!("^{}$", t.regex()) });
        let validator = jsonschema::validator_for(&schema).unwrap();
        for text in ["A5X-00\\", "A5]-QQQ\\", "A5X-0\\", "B5X-00\\", "A5X_00\\", "A5X-00"] {
            assert_eq!(validator.is_valid(&serde_json::json!(text)), t.matches(text), "{text}");
        }
    }

    #[test]
    fn mistakes_are_placed() {
        let at = |text: &str| Template::parse(text, DEFAULT_ALPHABET).unwrap_err();
        assert_eq!(at("").position, 1);
        assert_eq!(at("AB{").position, 3);
        assert_eq!(at("{3}").position, 1);
        assert_eq!(at("A{9,3}").position, 2);
        assert_eq!(at("A{65}").position, 2);
        assert_eq!(at("9]").position, 2);
        assert_eq!(at("[A").position, 3);
        assert!(at("[Z-A]").problem.contains("backwards"));
        assert!(at("#{60}#{5}").problem.contains("65 characters"));
        assert!(at("A\\").to_string().starts_with("template `A\\`, character 3: nothing follows"));
        assert!(Template::parse("9", "ABC").unwrap_err().problem.contains("no digits"));
        assert!(Template::parse("A", "AA").unwrap_err().problem.contains("twice"));
        assert!(Template::parse("A", "A\n").is_err() && Template::parse("A", "").is_err());
    }
}
