//! Sparkplug names and topics.

use srad_types::constants::{SPBV01, STATE};

/// Longest id, in characters.
pub const ID_MAX_CHARS: usize = 64;

/// An id that Sparkplug does not allow.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{id}\" cannot be a Sparkplug id: {why}")]
pub struct IdError {
    /// The id, with anything unprintable escaped.
    pub id: String,
    /// What is wrong with it.
    pub why: String,
}

/// Checks a group, edge node or host id: 1 to [`ID_MAX_CHARS`] characters without `+`, `/`, `#` and
/// control characters. `STATE` is no group: the hosts' topics begin so.
pub fn check_id(id: &str) -> Result<(), IdError> {
    let chars = id.chars().count();
    let foreign = id.chars().find(|&c| matches!(c, '+' | '/' | '#' | '\u{fffd}') || c.is_control());
    let why = if id.trim().is_empty() {
        "it is empty".to_owned()
    } else if chars > ID_MAX_CHARS {
        format!("it has {chars} characters, {ID_MAX_CHARS} at most")
    } else if let Some(c) = foreign {
        format!("it has the character {c:?}")
    } else if id == STATE {
        "hosts use this word".to_owned()
    } else {
        return Ok(());
    };
    Err(IdError { id: id.escape_debug().take(2 * ID_MAX_CHARS).collect(), why })
}

/// What a message is: the third level of its topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// The edge node, or a station, is there; all its metrics.
    Birth,
    /// It is gone.
    Death,
    /// Some of its metrics.
    Data,
    /// A host writes.
    Command,
}

impl Verb {
    fn as_str(self) -> &'static str {
        match self {
            Verb::Birth => "BIRTH",
            Verb::Death => "DEATH",
            Verb::Data => "DATA",
            Verb::Command => "CMD",
        }
    }
}

/// The topics of one edge node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topics {
    group: String,
    node: String,
}

impl Topics {
    /// Those of the edge node `node` in `group`; an error if either is no id.
    pub fn new(group: &str, node: &str) -> Result<Topics, IdError> {
        check_id(group)?;
        check_id(node)?;
        Ok(Topics { group: group.to_owned(), node: node.to_owned() })
    }

    /// The topic of the edge node's own messages.
    pub fn node(&self, verb: Verb) -> String {
        format!("{SPBV01}/{}/N{}/{}", self.group, verb.as_str(), self.node)
    }

    /// The topic of the messages of `station`, which must be an id.
    pub fn station(&self, verb: Verb, station: &str) -> String {
        format!("{SPBV01}/{}/D{}/{}/{station}", self.group, verb.as_str(), self.node)
    }
}

/// Where the host `host` says whether it is online.
pub fn host_state(host: &str) -> String {
    format!("{SPBV01}/{STATE}/{host}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_would_open_other_topics_are_refused() {
        for bad in ["", " ", "a/b", "a+", "#", "a\n", "STATE", &"x".repeat(65)] {
            assert!(check_id(bad).is_err(), "{bad:?}");
        }
        for good in ["Plant 1", "Löten-2", "a.b_c", "state", &"x".repeat(64)] {
            assert_eq!(check_id(good), Ok(()), "{good}");
        }
    }
}
