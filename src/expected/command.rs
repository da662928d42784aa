//! The command that changes a list of expected serials: its JSON, with limits, and what may be
//! answered.

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use crate::verdict::serial::{ENTRIES_MAX, ENTRY_MAX_BYTES};

/// Longest payload of a command, in bytes.
pub const PAYLOAD_MAX_BYTES: usize = 1 << 20;

/// Most serials of one command; a longer list comes in several.
pub const SERIALS_MAX: usize = 10_000;

/// A change of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExpectCommand {
    /// `{"add": ["A7K2", …]}`: these, too.
    Add(Vec<String>),
    /// `{"clear": true}`: none.
    Clear,
    /// `{"list": ["A7K2", …]}`: these and no others.
    List(Vec<String>),
}

/// What became of a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reply {
    /// Serials of the command that the list did not have.
    pub added: usize,
    /// Serials that the list has now.
    pub entries: usize,
    /// The list's digest, by which records name it.
    pub digest: String,
}

/// Why a command was refused; the list is as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// More bytes than a command may have.
    #[error("the command has {0} bytes; {PAYLOAD_MAX_BYTES} are allowed: send the list in pieces")]
    TooLong(usize),
    /// Not JSON, an unknown member, or one twice.
    #[error("the command is not of the form {{\"add\": [\"…\"]}}: {0}")]
    NotJson(String),
    /// None of the three, or more than one.
    #[error("the command needs exactly one of `add`, `clear` and `list`")]
    NotOne,
    /// `"clear": false`.
    #[error("`clear` can only be true")]
    ClearFalse,
    /// More serials than one command may have.
    #[error("the command has {0} serials; {SERIALS_MAX} are allowed: send the list in pieces")]
    TooMany(usize),
    /// A serial that no part of this station can have.
    #[error("serial {at} of the command cannot be: {why}")]
    BadSerial {
        /// Counted from 1.
        at: usize,
        /// What is wrong.
        why: String,
    },
    /// The list would grow beyond its bound.
    #[error("the list would have {0} serials; {ENTRIES_MAX} are allowed")]
    Full(usize),
    /// There is no such station.
    #[error("there is no station \"{0}\"")]
    NoStation(String),
    /// The station's file does not allow it.
    #[error(
        "station \"{0}\" takes no list by command: set `expect_commands = true` in [rules.serial]"
    )]
    NotAllowed(String),
    /// The change could not be written to the disk.
    #[error("the list could not be kept: {0}")]
    NotKept(String),
}

impl Refusal {
    /// A fixed word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Refusal::TooLong(_) => "too_long",
            Refusal::NotJson(_) => "not_json",
            Refusal::NotOne => "not_one",
            Refusal::ClearFalse => "clear_false",
            Refusal::TooMany(_) => "too_many",
            Refusal::BadSerial { .. } => "bad_serial",
            Refusal::Full(_) => "full",
            Refusal::NoStation(_) => "no_station",
            Refusal::NotAllowed(_) => "not_allowed",
            Refusal::NotKept(_) => "not_kept",
        }
    }
}

/// As it comes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    add: Option<Vec<String>>,
    clear: Option<bool>,
    list: Option<Vec<String>>,
    /// For the reply, which is not made here.
    #[serde(rename = "request_id")]
    _request_id: Option<IgnoredAny>,
}

impl ExpectCommand {
    /// Reads the payload of a command.
    pub fn parse(payload: &[u8]) -> Result<ExpectCommand, Refusal> {
        if payload.len() > PAYLOAD_MAX_BYTES {
            return Err(Refusal::TooLong(payload.len()));
        }
        let written: Written = serde_json::from_slice(payload)
            .map_err(|why| Refusal::NotJson(why.to_string().chars().take(200).collect()))?;
        let command = match written {
            Written { add: Some(add), clear: None, list: None, .. } => ExpectCommand::Add(add),
            Written { add: None, clear: Some(true), list: None, .. } => ExpectCommand::Clear,
            Written { add: None, clear: Some(false), list: None, .. } => {
                return Err(Refusal::ClearFalse);
            }
            Written { add: None, clear: None, list: Some(list), .. } => ExpectCommand::List(list),
            _ => return Err(Refusal::NotOne),
        };
        let serials = command.serials();
        if serials.len() > SERIALS_MAX {
            return Err(Refusal::TooMany(serials.len()));
        }
        // What cannot stand on a line of its own could not be kept.
        let is_bad = |serial: &String| {
            serial.len() > ENTRY_MAX_BYTES
                || serial.trim() != serial
                || serial.is_empty()
                || serial.chars().any(char::is_control)
        };
        if let Some(at) = serials.iter().position(is_bad) {
            let why = "it is empty, too long, or holds a control character or blanks at its ends";
            return Err(Refusal::BadSerial { at: at + 1, why: why.to_owned() });
        }
        Ok(command)
    }

    /// The serials that it names.
    pub fn serials(&self) -> &[String] {
        match self {
            ExpectCommand::Add(serials) | ExpectCommand::List(serials) => serials,
            ExpectCommand::Clear => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<ExpectCommand, Refusal> {
        ExpectCommand::parse(text.as_bytes())
    }

    #[test]
    fn a_command_is_one_of_three() {
        let words = |list: &[&str]| list.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        assert_eq!(parse(r#"{"add":["A","B"]}"#), Ok(ExpectCommand::Add(words(&["A", "B"]))));
        assert_eq!(parse(r#"{"list":[]}"#), Ok(ExpectCommand::List(vec![])));
        assert_eq!(parse(r#"{"clear":true,"request_id":7}"#), Ok(ExpectCommand::Clear));
    }

    #[test]
    fn whatever_else_is_refused_with_a_word() {
        let many = serde_json::json!({ "add": vec!["A"; SERIALS_MAX + 1] }).to_string();
        let long = format!("{{\"add\":[\"{}\"]}}", "A".repeat(PAYLOAD_MAX_BYTES));
        let wide = format!("{{\"add\":[\"A\",\"{}\"]}}", "A".repeat(ENTRY_MAX_BYTES + 1));
        for (text, code) in [
            ("", "not_json"),
            ("[]", "not_json"),
            ("{}", "not_one"),
            (r#"{"add":["A"],"clear":true}"#, "not_one"),
            (r#"{"add":["A"],"add":["B"]}"#, "not_json"),
            (r#"{"remove":["A"]}"#, "not_json"),
            (r#"{"add":"A"}"#, "not_json"),
            (r#"{"add":[1]}"#, "not_json"),
            (r#"{"clear":false}"#, "clear_false"),
            (r#"{"add":["A",""]}"#, "bad_serial"),
            (r#"{"list":["A\nB"]}"#, "bad_serial"),
            (r#"{"list":[" A"]}"#, "bad_serial"),
            (&many, "too_many"),
            (&long, "too_long"),
            (&wide, "bad_serial"),
        ] {
            let refusal = parse(text).expect_err(code);
            assert_eq!(refusal.code(), code, "{refusal}");
            assert!(refusal.to_string().len() < 400, "{refusal}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = ExpectCommand::parse(&bytes);
        }
    }
}
