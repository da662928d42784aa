//! A list of expected serials.

use std::collections::BTreeSet;
use std::fmt;

use crate::vlm::Digest;
use crate::vlm::grammar::template::MAX_SERIAL_CHARS;

/// Most serials of one list.
pub const ENTRIES_MAX: usize = 1_000_000;

/// Longest serial of a list, in bytes.
pub const ENTRY_MAX_BYTES: usize = MAX_SERIAL_CHARS * 4;

/// Most bad lines that one file reports.
const PROBLEMS_MAX: usize = 5;

/// Serials without order, each once, with their digest.
#[derive(Clone, PartialEq, Eq)]
pub struct SerialList {
    entries: BTreeSet<Box<str>>,
    digest: String,
}

/// A line of a list that is no serial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadLine {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong.
    pub why: String,
}

impl SerialList {
    /// The list of these serials.
    pub fn new(entries: impl IntoIterator<Item = String>) -> SerialList {
        let entries = entries.into_iter().map(String::into_boxed_str).collect();
        let mut list = SerialList { entries, digest: String::new() };
        list.digest = list.compute_digest();
        list
    }

    /// Reads a text of one serial a line. Empty lines and lines that begin with `#` are passed over,
    /// and so are blanks around a serial. `check` says what is wrong with a serial.
    pub fn parse(
        text: &str,
        check: impl Fn(&str) -> Result<(), String>,
    ) -> Result<SerialList, Vec<BadLine>> {
        let (mut entries, mut bad) = (BTreeSet::new(), Vec::new());
        for (at, line) in text.lines().enumerate() {
            let serial = line.trim();
            if serial.is_empty() || serial.starts_with('#') {
                continue;
            }
            if let Err(why) = check(serial) {
                bad.push(BadLine { line: at + 1, why });
            } else if entries.len() == ENTRIES_MAX && !entries.contains(serial) {
                let why = format!("a list has at most {ENTRIES_MAX} serials");
                bad.push(BadLine { line: at + 1, why });
                break;
            } else {
                entries.insert(serial.into());
            }
            if bad.len() == PROBLEMS_MAX {
                break;
            }
        }
        if !bad.is_empty() {
            return Err(bad);
        }
        let mut list = SerialList { entries, digest: String::new() };
        list.digest = list.compute_digest();
        Ok(list)
    }

    /// Adds serials; answers how many were new. All or, if the list would grow beyond its bound,
    /// none: then the number that would have been.
    pub fn add(&mut self, serials: &[String]) -> Result<usize, usize> {
        let new: BTreeSet<&str> = serials
            .iter()
            .map(String::as_str)
            .filter(|serial| !self.entries.contains(*serial))
            .collect();
        let sum = self.entries.len() + new.len();
        if sum > ENTRIES_MAX {
            return Err(sum);
        }
        let count = new.len();
        self.entries.extend(new.into_iter().map(Box::from));
        if count > 0 {
            self.digest = self.compute_digest();
        }
        Ok(count)
    }

    /// Whether `serial` is one of them.
    pub fn contains(&self, serial: &str) -> bool {
        self.entries.contains(serial)
    }

    /// How many they are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// All of them, ascending by their bytes.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(AsRef::as_ref)
    }

    /// SHA-256, in hexadecimal, of the serials in ascending order, one a line: what
    /// `LC_ALL=C sort -u list.txt | sha256sum` prints for a file without comments and blanks.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    fn compute_digest(&self) -> String {
        let mut parts: Vec<&[u8]> = Vec::with_capacity(self.entries.len() * 2);
        for entry in &self.entries {
            parts.extend([entry.as_bytes(), b"\n"]);
        }
        Digest::of_parts(&parts).to_string()
    }
}

impl Default for SerialList {
    fn default() -> SerialList {
        SerialList::new([])
    }
}

impl fmt::Debug for SerialList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SerialList({} serials, {})", self.len(), self.digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_blanks_are_passed_over_and_the_digest_is_that_of_the_sorted_lines() {
        let text = "# order 17\r\nB2\r\n\n  A1 \nB2\n";
        let list = SerialList::parse(text, |_| Ok(())).expect("good");
        assert_eq!(list.iter().collect::<Vec<_>>(), ["A1", "B2"]);
        assert_eq!(list.digest(), Digest::of(b"A1\nB2\n").to_string());
        assert_eq!(list, SerialList::new(["B2".to_owned(), "A1".to_owned()]));
    }

    #[test]
    fn adding_what_is_there_changes_nothing() {
        let mut list = SerialList::new(["A1".to_owned()]);
        let before = list.digest().to_owned();
        assert_eq!(list.add(&["A1".to_owned()]), Ok(0));
        assert_eq!(list.digest(), before);
        assert_eq!(list.add(&["B2".to_owned(), "B2".to_owned()]), Ok(1));
        assert_ne!(list.digest(), before);
    }

    #[test]
    fn bad_lines_are_numbered_and_few() {
        let text = "A1\n\nbad\n".to_owned() + &"bad\n".repeat(100);
        let check = |serial: &str| if serial == "bad" { Err("no".to_owned()) } else { Ok(()) };
        let bad = SerialList::parse(&text, check).expect_err("bad lines");
        assert_eq!((bad.len(), bad[0].line), (5, 3));
    }

    #[test]
    fn a_list_has_an_end() {
        let text: String = (0..=ENTRIES_MAX).map(|n| format!("{n}\n")).collect();
        let bad = SerialList::parse(&text, |_| Ok(())).expect_err("one too many");
        assert_eq!(bad[0].line, ENTRIES_MAX + 1);
        let mut full = SerialList::new((0..ENTRIES_MAX).map(|n| n.to_string()));
        assert_eq!(full.add(&["x".into(), "y".into()]), Err(ENTRIES_MAX + 2));
        assert_eq!((full.len(), full.add(&["7".into()])), (ENTRIES_MAX, Ok(0)));
    }
}
