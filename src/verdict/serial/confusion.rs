//! Characters that are easily read for one another, and the serials that come of it.

use std::collections::BTreeSet;

/// Most look-alikes of one text that are tried: twelve places of two characters each.
pub const LOOK_ALIKES_MAX: usize = 4096;

/// Most groups.
pub const GROUPS_MAX: usize = 32;

/// Groups of characters, such as `0O` and `1I`. No character stands in two of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Confusions(Vec<Vec<char>>);

/// What is wrong with a list of groups.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfusionError {
    /// A group of one character confuses nothing.
    #[error("the group \"{0}\" has fewer than two characters")]
    TooShort(String),
    /// One character twice: what is confused with the same is confused with each other.
    #[error("{0:?} stands there twice")]
    Twice(char),
}

impl Confusions {
    /// These groups; one word each.
    pub fn new<S: AsRef<str>>(groups: &[S]) -> Result<Confusions, ConfusionError> {
        let mut seen = BTreeSet::new();
        let mut all = Vec::new();
        for group in groups {
            let characters: Vec<char> = group.as_ref().chars().collect();
            if characters.len() < 2 {
                return Err(ConfusionError::TooShort(group.as_ref().to_owned()));
            }
            if let Some(twice) = characters.iter().find(|c| !seen.insert(**c)) {
                return Err(ConfusionError::Twice(*twice));
            }
            all.push(characters);
        }
        Ok(Confusions(all))
    }

    /// Whether nothing is confused with anything.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Every character that stands in a group.
    pub fn characters(&self) -> impl Iterator<Item = char> + '_ {
        self.0.iter().flatten().copied()
    }

    /// The same text for all that look alike: each character replaced by the first of its group.
    pub fn skeleton(&self, text: &str) -> String {
        text.chars().map(|c| self.group(c).map_or(c, |group| group[0])).collect()
    }

    /// All texts that look like `text`, itself among them, whose every beginning `fits`. `None` if
    /// they are more than [`LOOK_ALIKES_MAX`].
    pub fn look_alikes(&self, text: &str, fits: impl Fn(&[char]) -> bool) -> Option<Vec<String>> {
        let mut open: Vec<Vec<char>> = vec![vec![]];
        for c in text.chars() {
            let own = [c];
            let choices = self.group(c).unwrap_or(&own);
            let mut longer = Vec::new();
            for beginning in open {
                for choice in choices {
                    let mut next = beginning.clone();
                    next.push(*choice);
                    if fits(&next) {
                        longer.push(next);
                    }
                }
                if longer.len() > LOOK_ALIKES_MAX {
                    return None;
                }
            }
            open = longer;
        }
        Some(open.into_iter().map(String::from_iter).collect())
    }

    fn group(&self, c: char) -> Option<&[char]> {
        self.0.iter().find(|group| group.contains(&c)).map(Vec::as_slice)
    }
}

/// What changed from `read` to `proposed`, such as `O for 0 at 3`, counted from 1.
pub fn changes(read: &str, proposed: &str) -> String {
    let pairs = read.chars().zip(proposed.chars()).enumerate().filter(|(_, (a, b))| a != b);
    let words: Vec<String> =
        pairs.map(|(at, (from, to))| format!("{to} for {from} at {}", at + 1)).collect();
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn map() -> Confusions {
        Confusions::new(&["0OQ", "1I"]).expect("good groups")
    }

    #[test]
    fn groups_must_be_apart() {
        assert_eq!(Confusions::new(&["0O", "OQ"]), Err(ConfusionError::Twice('O')));
        assert_eq!(Confusions::new(&["00"]), Err(ConfusionError::Twice('0')));
        assert_eq!(Confusions::new(&["8"]), Err(ConfusionError::TooShort("8".into())));
    }

    #[test]
    fn look_alikes_are_all_and_only_those() {
        let any = map().look_alikes("A0I", |_| true).expect("few");
        assert_eq!(any, ["A01", "A0I", "AO1", "AOI", "AQ1", "AQI"]);
        let digits = map().look_alikes("00", |text| text.iter().all(char::is_ascii_digit));
        assert_eq!(digits.expect("one"), ["00"]);
        assert_eq!(map().look_alikes(&"1".repeat(12), |_| true).map(|all| all.len()), Some(4096));
        assert_eq!(map().look_alikes(&"1".repeat(13), |_| true), None);
    }

    #[test]
    fn changes_are_placed() {
        assert_eq!(changes("A0I", "AO1"), "O for 0 at 2, 1 for I at 3");
    }

    proptest! {
        #[test]
        fn two_texts_look_alike_if_their_skeletons_are_the_same(
            a in "[01IOQA]{0,6}",
            b in "[01IOQA]{0,6}",
        ) {
            let all = map().look_alikes(&a, |_| true).expect("few");
            prop_assert_eq!(all.contains(&b), map().skeleton(&a) == map().skeleton(&b));
            prop_assert!(all.contains(&a));
        }
    }
}
