//! What a controller may ask, and the reading of it: bounded, strict, and refused in words.
//!
//! A member that is not known is refused and not passed over: a misspelt `deadline_ms` would else be
//! a silent default.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::packml::LineState;
use super::refusal::{Code, Refusal};
use crate::inspection::ForeignId;

/// Longest payload that is looked at, in bytes.
pub const PAYLOAD_MAX_BYTES: usize = 4096;

/// Shortest and longest deadline of a trigger, in milliseconds.
pub const DEADLINE_RANGE_MS: std::ops::RangeInclusive<u64> = 1..=600_000;

/// The commands, by the last level of their topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CommandName {
    /// Look at a part.
    Trigger,
    /// Look for another product.
    Recipe,
    /// A result has been taken.
    Ack,
    /// Forget a fault.
    Reset,
    /// What the machine is doing.
    Line,
    /// What the next part should be.
    Expect,
}

impl CommandName {
    /// Every command.
    pub const ALL: [CommandName; 6] = [
        CommandName::Trigger,
        CommandName::Recipe,
        CommandName::Ack,
        CommandName::Reset,
        CommandName::Line,
        CommandName::Expect,
    ];

    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            CommandName::Trigger => "trigger",
            CommandName::Recipe => "recipe",
            CommandName::Ack => "ack",
            CommandName::Reset => "reset",
            CommandName::Line => "line",
            CommandName::Expect => "expect",
        }
    }

    /// The command of this word.
    pub fn of(word: &str) -> Option<CommandName> {
        CommandName::ALL.into_iter().find(|name| name.as_str() == word)
    }
}

/// A command whose form is good.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Look at a part.
    Trigger(Trigger),
    /// Look for the product of this index.
    Recipe(u32),
    /// The result of this name, or all of this trigger, has been taken.
    Ack(Ack),
    /// Forget faults.
    Reset,
    /// What the machine is doing.
    Line(LineState),
    /// For whoever knows what to expect: not read here.
    Expect,
}

/// Look at a part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trigger {
    /// What the controller calls this trigger. It must not call another one so for a while.
    pub trigger_id: ForeignId,
    /// The part's name, if the controller has one.
    pub part_id: Option<String>,
    /// From its arrival to the verdict; without it the station's.
    pub deadline_ms: Option<u64>,
    /// When it was sent, if the controller's clock is to be trusted.
    pub sent_at: Option<jiff::Timestamp>,
}

/// Which result has been taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ack {
    /// The one of this name.
    Result(String),
    /// Every one of this trigger.
    Trigger(ForeignId),
}

/// What a payload says about itself, good or bad: so that a refusal, too, names what it refuses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ids {
    /// What the controller called its request.
    pub request_id: Option<ForeignId>,
    /// What it called its trigger.
    pub trigger_id: Option<ForeignId>,
    /// The part.
    pub part_id: Option<String>,
}

impl Ids {
    /// Reads what can be read.
    pub fn of(payload: &[u8]) -> Ids {
        let empty = || Ids::default();
        if payload.len() > PAYLOAD_MAX_BYTES {
            return empty();
        }
        let Ok(value) = serde_json::from_slice::<serde_json::Value>(payload) else {
            return empty();
        };
        let id = |name: &str| value.get(name).and_then(|value| ForeignId::deserialize(value).ok());
        let part = value.get("part_id").and_then(|part| part.as_str());
        Ids {
            request_id: id("request_id"),
            trigger_id: id("trigger_id"),
            part_id: part.filter(|part| ForeignId::is_name(part)).map(str::to_owned),
        }
    }
}

/// Reads the payload of the command `name`.
pub fn parse(name: CommandName, payload: &[u8]) -> Result<Command, Refusal> {
    if payload.len() > PAYLOAD_MAX_BYTES {
        let text = format!("{} bytes, {PAYLOAD_MAX_BYTES} at most", payload.len());
        return Err(Refusal::new(Code::TooLarge, text));
    }
    match name {
        CommandName::Trigger => trigger(read(payload)?).map(Command::Trigger),
        CommandName::Recipe => {
            let fields: RecipeFields = read(payload)?;
            Ok(Command::Recipe(fields.index))
        }
        CommandName::Ack => ack(read(payload)?).map(Command::Ack),
        CommandName::Reset => {
            // Nothing at all is as good as an empty object.
            if !payload.is_empty() {
                read::<ResetFields>(payload)?;
            }
            Ok(Command::Reset)
        }
        CommandName::Line => {
            let fields: LineFields = read(payload)?;
            Ok(Command::Line(fields.state))
        }
        CommandName::Expect => Ok(Command::Expect),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TriggerFields {
    trigger_id: ForeignId,
    part_id: Option<String>,
    deadline_ms: Option<u64>,
    sent_at: Option<jiff::Timestamp>,
    #[serde(rename = "request_id")]
    _request_id: Option<ForeignId>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RecipeFields {
    index: u32,
    #[serde(rename = "request_id")]
    _request_id: Option<ForeignId>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AckFields {
    result_id: Option<ForeignId>,
    trigger_id: Option<ForeignId>,
    #[serde(rename = "request_id")]
    _request_id: Option<ForeignId>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ResetFields {
    #[serde(rename = "request_id")]
    _request_id: Option<ForeignId>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LineFields {
    state: LineState,
    #[serde(rename = "request_id")]
    _request_id: Option<ForeignId>,
}

fn read<T: DeserializeOwned>(payload: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(payload).map_err(|why| bad(why.to_string()))
}

fn bad(text: impl AsRef<str>) -> Refusal {
    Refusal::new(Code::BadPayload, text)
}

fn trigger(fields: TriggerFields) -> Result<Trigger, Refusal> {
    if fields.part_id.as_ref().is_some_and(|part| !ForeignId::is_name(part)) {
        return Err(bad("part_id must be a text of 1 to 64 printable characters"));
    }
    if let Some(ms) = fields.deadline_ms.filter(|ms| !DEADLINE_RANGE_MS.contains(ms)) {
        let (least, most) = (DEADLINE_RANGE_MS.start(), DEADLINE_RANGE_MS.end());
        return Err(bad(format!("deadline_ms is {ms}, and must be {least} to {most}")));
    }
    let TriggerFields { trigger_id, part_id, deadline_ms, sent_at, .. } = fields;
    Ok(Trigger { trigger_id, part_id, deadline_ms, sent_at })
}

fn ack(fields: AckFields) -> Result<Ack, Refusal> {
    match (fields.result_id, fields.trigger_id) {
        (Some(ForeignId::Text(result_id)), None) => Ok(Ack::Result(result_id)),
        (Some(ForeignId::Number(_)), None) => Err(bad("result_id must be a text")),
        (None, Some(trigger_id)) => Ok(Ack::Trigger(trigger_id)),
        _ => Err(bad("name either result_id or trigger_id")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn code(name: CommandName, payload: &str) -> Option<Code> {
        parse(name, payload.as_bytes()).err().map(|refusal| refusal.code)
    }

    #[test]
    fn a_trigger_is_read() {
        let text = r#"{"trigger_id":7,"part_id":"A-1","deadline_ms":800,"request_id":"r"}"#;
        let trigger = Trigger {
            trigger_id: ForeignId::Number(7),
            part_id: Some("A-1".into()),
            deadline_ms: Some(800),
            sent_at: None,
        };
        assert_eq!(parse(CommandName::Trigger, text.as_bytes()), Ok(Command::Trigger(trigger)));
        let ids = Ids::of(text.as_bytes());
        assert_eq!(ids.request_id, Some(ForeignId::Text("r".into())));
        assert_eq!(ids.part_id.as_deref(), Some("A-1"));
        assert_eq!(code(CommandName::Trigger, r#"{"trigger_id":"T","part_id":null}"#), None);
    }

    #[test]
    fn what_is_off_by_a_little_is_refused() {
        let long = "x".repeat(65);
        for bad in [
            "",
            "[]",
            "7",
            "{}",
            "{\"trigger_id\":7",
            r#"{"trigger_id":null}"#,
            r#"{"trigger_id":-1}"#,
            r#"{"trigger_id":1.5}"#,
            r#"{"trigger_id":18446744073709551616}"#,
            r#"{"trigger_id":""}"#,
            r#"{"trigger_id":" "}"#,
            r#"{"trigger_id":"a\u0000"}"#,
            r#"{"trigger_id":7,"trigger_id":8}"#,
            r#"{"trigger_id":7,"deadlin_ms":100}"#,
            r#"{"trigger_id":7,"deadline_ms":0}"#,
            r#"{"trigger_id":7,"deadline_ms":600001}"#,
            r#"{"trigger_id":7,"deadline_ms":"100"}"#,
            r#"{"trigger_id":7,"part_id":""}"#,
            r#"{"trigger_id":7,"part_id":"a\nb"}"#,
            r#"{"trigger_id":7,"part_id":7}"#,
            r#"{"trigger_id":7,"sent_at":"yesterday"}"#,
            &format!(r#"{{"trigger_id":"{long}"}}"#),
            &format!(r#"{{"trigger_id":1,"part_id":"{long}"}}"#),
            &"[".repeat(4000),
        ] {
            assert_eq!(code(CommandName::Trigger, bad), Some(Code::BadPayload), "{bad}");
        }
        let huge = format!(r#"{{"trigger_id":1,"part_id":"{}"}}"#, "x".repeat(5000));
        assert_eq!(code(CommandName::Trigger, &huge), Some(Code::TooLarge));
        assert_eq!(Ids::of(huge.as_bytes()), Ids::default());
    }

    #[test]
    fn the_other_commands_are_as_strict() {
        assert_eq!(parse(CommandName::Recipe, br#"{"index":2}"#), Ok(Command::Recipe(2)));
        assert_eq!(parse(CommandName::Reset, b""), Ok(Command::Reset));
        assert_eq!(parse(CommandName::Reset, b"{}"), Ok(Command::Reset));
        let held = parse(CommandName::Line, br#"{"state":"Held"}"#);
        assert_eq!(held, Ok(Command::Line(LineState::Held)));
        let ack = parse(CommandName::Ack, br#"{"trigger_id":7}"#);
        assert_eq!(ack, Ok(Command::Ack(Ack::Trigger(ForeignId::Number(7)))));
        for (name, bad) in [
            (CommandName::Recipe, r#"{"index":-1}"#),
            (CommandName::Recipe, r#"{"index":"2"}"#),
            (CommandName::Reset, r#"{"all":true}"#),
            (CommandName::Line, r#"{"state":"Running"}"#),
            (CommandName::Ack, "{}"),
            (CommandName::Ack, r#"{"result_id":"a","trigger_id":7}"#),
            (CommandName::Ack, r#"{"result_id":7}"#),
        ] {
            assert_eq!(code(name, bad), Some(Code::BadPayload), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_payload_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            for name in CommandName::ALL {
                let _ = parse(name, &bytes);
            }
            let _ = Ids::of(&bytes);
        }
    }
}
