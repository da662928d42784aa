//! Where in the answer a byte stands: the value it belongs to, and whether that value is free text.
//!
//! The grammar lets only well formed compact JSON through, so this reads it byte by byte without checking it.

use std::collections::BTreeSet;
use std::ops::Range;

/// A value of the answer and the tokens it was written with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldTokens {
    /// The value's place: `serial`, `defects`, `defects[0].class`. A list's own path stands for how many items it has.
    pub path: String,
    /// Positions of its tokens among the accepted ones, ascending. A token that ends one value and begins another
    /// counts for both.
    pub tokens: Vec<usize>,
}

/// Reads an answer as it is written.
#[derive(Clone, Debug)]
pub(super) struct Cursor {
    expects: Expects,
    stack: Vec<Inside>,
    /// Paths of free text, list indices left out.
    text_paths: Vec<String>,
    in_text: bool,
    paths: Vec<String>,
    owners: Vec<Owners>,
}

/// What comes next.
#[derive(Clone, Copy, Debug)]
enum Expects {
    /// A value, or the end of a list just opened.
    Value,
    /// A member's name, or the end of the object.
    Name,
    /// More of a member's name.
    NameChar,
    Colon,
    /// More of a string value; after a backslash, whatever follows it.
    StringChar {
        path: usize,
        escaped: bool,
    },
    /// More of a number or word.
    Scalar {
        path: usize,
    },
    /// A comma or an end.
    Next,
}

#[derive(Clone, Debug)]
enum Inside {
    Object { name: Vec<u8> },
    List { index: usize, path: usize },
}

/// The values one byte belongs to, as indices into the paths: a scalar, a list whose length it helps decide, or both.
#[derive(Clone, Copy, Debug, Default)]
struct Owners {
    scalar: Option<usize>,
    list: Option<usize>,
}

impl Cursor {
    pub(super) fn new(text_paths: Vec<String>) -> Cursor {
        Cursor {
            expects: Expects::Value,
            stack: Vec::new(),
            text_paths,
            in_text: false,
            paths: Vec::new(),
            owners: Vec::new(),
        }
    }

    /// Reads on.
    pub(super) fn read(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            let owners = self.step(byte);
            self.owners.push(owners);
        }
    }

    /// Whether the next byte stands inside a free text value.
    pub(super) fn in_free_text(&self) -> bool {
        self.in_text && matches!(self.expects, Expects::StringChar { .. })
    }

    /// Which of `tokens` (byte ranges, ascending) carry which value. Names, colons and braces follow from what was
    /// decided before them; a token of such bytes alone counts for nothing.
    pub(super) fn fields(&self, tokens: &[Range<usize>]) -> Vec<FieldTokens> {
        let mut fields: Vec<FieldTokens> = self
            .paths
            .iter()
            .map(|path| FieldTokens { path: path.clone(), tokens: Vec::new() })
            .collect();
        for (position, range) in tokens.iter().enumerate() {
            let own: BTreeSet<usize> =
                self.owners[range.clone()].iter().flat_map(Owners::all).collect();
            own.into_iter().for_each(|path| fields[path].tokens.push(position));
        }
        fields
    }

    fn step(&mut self, byte: u8) -> Owners {
        match (self.expects, byte) {
            (Expects::Value, b'{') => {
                let owners = Owners { scalar: None, list: self.parent_list() };
                self.stack.push(Inside::Object { name: Vec::new() });
                self.expects = Expects::Name;
                owners
            }
            (Expects::Value, b'[') => {
                let path = self.intern();
                self.stack.push(Inside::List { index: 0, path });
                Owners { scalar: None, list: Some(path) }
            }
            (Expects::Value | Expects::Next, b']') => self.close(),
            (Expects::Name | Expects::Next, b'}') => self.close(),
            // The prefix space of the first token.
            (Expects::Value, b' ') => Owners::default(),
            (Expects::Value, byte) => self.begin_scalar(byte == b'"'),
            (Expects::Name, _) => {
                if let Some(Inside::Object { name }) = self.stack.last_mut() {
                    name.clear();
                }
                self.expects = Expects::NameChar;
                Owners::default()
            }
            (Expects::NameChar, b'"') => {
                self.expects = Expects::Colon;
                Owners::default()
            }
            (Expects::NameChar, byte) => {
                if let Some(Inside::Object { name }) = self.stack.last_mut() {
                    name.push(byte);
                }
                Owners::default()
            }
            (Expects::Colon, _) => {
                self.expects = Expects::Value;
                Owners::default()
            }
            (Expects::StringChar { path, escaped }, byte) => {
                self.expects = match byte {
                    b'"' if !escaped => Expects::Next,
                    _ => Expects::StringChar { path, escaped: byte == b'\\' && !escaped },
                };
                Owners { scalar: Some(path), list: None }
            }
            (Expects::Scalar { .. }, b',' | b'}' | b']') => {
                self.expects = Expects::Next;
                self.step(byte)
            }
            (Expects::Scalar { path }, _) => Owners { scalar: Some(path), list: None },
            (Expects::Next, _) => self.next_member(),
        }
    }

    fn begin_scalar(&mut self, quoted: bool) -> Owners {
        let list = self.parent_list();
        let path = self.intern();
        self.in_text = self.text_paths.contains(&self.path(false));
        self.expects = if quoted {
            Expects::StringChar { path, escaped: false }
        } else {
            Expects::Scalar { path }
        };
        Owners { scalar: Some(path), list }
    }

    /// A comma.
    fn next_member(&mut self) -> Owners {
        let list = self.parent_list();
        self.expects = match self.stack.last_mut() {
            Some(Inside::List { index, .. }) => {
                *index += 1;
                Expects::Value
            }
            _ => Expects::Name,
        };
        Owners { scalar: None, list }
    }

    fn close(&mut self) -> Owners {
        let list = self.parent_list();
        self.stack.pop();
        self.expects = Expects::Next;
        Owners { scalar: None, list }
    }

    fn parent_list(&self) -> Option<usize> {
        match self.stack.last() {
            Some(Inside::List { path, .. }) => Some(*path),
            _ => None,
        }
    }

    fn intern(&mut self) -> usize {
        let path = self.path(true);
        match self.paths.iter().position(|known| *known == path) {
            Some(known) => known,
            None => {
                self.paths.push(path);
                self.paths.len() - 1
            }
        }
    }

    fn path(&self, indices: bool) -> String {
        let mut path = String::new();
        for level in &self.stack {
            match level {
                Inside::Object { name } if path.is_empty() => {
                    path.push_str(&String::from_utf8_lossy(name))
                }
                Inside::Object { name } => {
                    path.push('.');
                    path.push_str(&String::from_utf8_lossy(name));
                }
                Inside::List { index, .. } if indices => path.push_str(&format!("[{index}]")),
                Inside::List { .. } => path.push_str("[]"),
            }
        }
        path
    }
}

impl Owners {
    fn all(&self) -> impl Iterator<Item = usize> + use<> {
        self.scalar.into_iter().chain(self.list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cuts `text` at `|` into tokens and reads it.
    fn fields(marked: &str, text_paths: &[&str]) -> Vec<(String, Vec<usize>)> {
        let mut cursor = Cursor::new(text_paths.iter().map(|p| (*p).to_owned()).collect());
        let mut tokens = Vec::new();
        let mut at = 0;
        for piece in marked.split('|') {
            cursor.read(piece.as_bytes());
            tokens.push(at..at + piece.len());
            at += piece.len();
        }
        cursor.fields(&tokens).into_iter().map(|f| (f.path, f.tokens)).collect()
    }

    fn own(path: &str, tokens: &[usize]) -> (String, Vec<usize>) {
        (path.to_owned(), tokens.to_vec())
    }

    #[test]
    fn tokens_count_for_the_values_they_touch() {
        let found = fields(r#" {"legible|":tr|ue,"|serial":"A|7K2|M"}"#, &[]);
        assert_eq!(found, [own("legible", &[1, 2]), own("serial", &[3, 4, 5])]);
    }

    #[test]
    fn a_list_owns_the_decisions_about_its_length() {
        let found = fields(r#"{"d":|[{"|class":"a|b"|},|{|"class":"c"|}]|}"#, &[]);
        assert_eq!(found[0], own("d", &[1, 4, 5, 7]));
        assert_eq!(found[1], own("d[0].class", &[2, 3]));
        assert_eq!(found[2], own("d[1].class", &[6]));
        assert_eq!(fields(r#"{"d":[|]}"#, &[]), [own("d", &[0, 1])]);
        assert_eq!(fields(r#"{"d":n|ull}"#, &[]), [own("d", &[0, 1])]);
        assert_eq!(
            fields(r#"{"d":[1|,2]}"#, &[]),
            [own("d", &[0, 1]), own("d[0]", &[0]), own("d[1]", &[1])]
        );
    }

    #[test]
    fn free_text_is_inside_the_quotes_of_its_own_fields() {
        let mut cursor = Cursor::new(vec!["items[].note".to_owned()]);
        let mut inside = String::new();
        for byte in
            br#"{"note":"x","items":[{"note":"a\"}b","no":"c"},{"note":null},{"note":"d\\"}]}"#
        {
            if cursor.in_free_text() {
                inside.push(*byte as char);
            }
            cursor.read(&[*byte]);
        }
        assert_eq!(inside, r#"a\"}b"d\\""#);
    }
}
