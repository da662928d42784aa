//! What arrives while the line runs: commands, pictures, and what a model writes.

use inspectd::expected::command::{self as expected, ExpectCommand};
use inspectd::frame::file::{self, SIDE_MAX_PX};
use inspectd::inspection::ForeignId;
use inspectd::plc::command::{
    Ack, Command, CommandName, DEADLINE_RANGE_MS, Ids, PAYLOAD_MAX_BYTES,
};
use inspectd::sparkplug::{command as sparkplug, payload};
use inspectd::verdict::rules::FieldRule;
use inspectd::verdict::{self, Expected, Outcome, Rules, Seen};

/// The first byte says which command, the others are its payload.
pub fn command(bytes: &[u8]) {
    let Some((which, payload)) = bytes.split_first() else { return };
    let name = CommandName::ALL[usize::from(*which) % CommandName::ALL.len()];
    let ids = Ids::of(payload);
    ids.request_id.iter().chain(&ids.trigger_id).for_each(check_id);
    assert!(ids.part_id.iter().all(|part| ForeignId::is_name(part)));
    let read = inspectd::plc::command::parse(name, payload);
    assert_eq!(read, inspectd::plc::command::parse(name, payload));
    match read {
        Err(refusal) => super::check_message(&refusal.text),
        Ok(command) => {
            assert!(payload.len() <= PAYLOAD_MAX_BYTES);
            check_command(&command, &ids);
        }
    }
}

fn check_command(command: &Command, ids: &Ids) {
    match command {
        Command::Trigger(trigger) => {
            check_id(&trigger.trigger_id);
            // What an answer calls a trigger is what the trigger was accepted as.
            assert_eq!(ids.trigger_id.as_ref(), Some(&trigger.trigger_id));
            assert_eq!(ids.part_id, trigger.part_id);
            assert!(trigger.deadline_ms.is_none_or(|ms| DEADLINE_RANGE_MS.contains(&ms)));
        }
        Command::Ack(Ack::Result(name)) => assert!(ForeignId::is_name(name)),
        Command::Ack(Ack::Trigger(id)) => check_id(id),
        Command::Recipe(_) | Command::Reset | Command::Line(_) | Command::Expect => {}
    }
}

fn check_id(id: &ForeignId) {
    if let ForeignId::Text(text) = id {
        assert!(ForeignId::is_name(text), "{text:?}");
    }
}

/// The payload of `expect`.
pub fn expect(bytes: &[u8]) {
    match ExpectCommand::parse(bytes) {
        Err(refusal) => super::check_message(&refusal.to_string()),
        Ok(command) => {
            let serials = command.serials();
            assert!(serials.len() <= expected::SERIALS_MAX);
            // Each can stand on a line of its own, and says the same when it is read from there.
            let alone = |serial: &String| serial.lines().eq([serial.trim()]) && !serial.is_empty();
            assert!(serials.iter().all(alone), "{serials:?}");
            let again = match &command {
                ExpectCommand::Add(list) => serde_json::json!({ "add": list }),
                ExpectCommand::List(list) => serde_json::json!({ "list": list }),
                ExpectCommand::Clear => serde_json::json!({ "clear": true }),
            };
            assert_eq!(ExpectCommand::parse(again.to_string().as_bytes()), Ok(command));
        }
    }
}

/// A Sparkplug payload that a host wrote.
pub fn sparkplug_command(bytes: &[u8]) {
    let written = match payload::written(bytes) {
        Err(why) => return super::check_message(&why),
        Ok(written) => written,
    };
    let _ = written.iter().any(|metric| metric.asks_rebirth());
    match sparkplug::read(0, &written) {
        Err(why) => super::check_message(&why),
        Ok(commands) => {
            assert!(commands.len() <= written.len());
            for command in commands {
                if let sparkplug::Command::Trigger { part_id: Some(part), .. } = command {
                    assert!(ForeignId::is_name(&part), "{part:?}");
                }
            }
        }
    }
}

/// A picture's file.
pub fn picture(bytes: &[u8]) {
    match file::decode(bytes.to_vec()) {
        Err(why) => super::check_message(&why),
        Ok(picture) => {
            let (width, height) = (picture.width, picture.height);
            assert!((1..=SIDE_MAX_PX).contains(&width) && (1..=SIDE_MAX_PX).contains(&height));
            assert_eq!(picture.data.len() as u64, u64::from(width) * u64::from(height) * 3);
        }
    }
}

/// A model's answer: the first byte says what was asked, the rest is what it wrote. The engine's grammar
/// keeps an answer in its form; nothing behind it may rely on that.
pub fn answer(bytes: &[u8]) {
    let Some((which, text)) = bytes.split_first() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let names = ["colour", "holes"];
    let mut rules = Rules::default();
    let expected = match which % 3 {
        0 => Expected::Serial,
        1 => Expected::Defects,
        _ => {
            // As the configuration makes them of fields that are not optional.
            let rule = |name: &str| FieldRule {
                name: name.to_owned(),
                pass: vec![],
                fail: vec![],
                range: None,
            };
            rules.fields = names.map(rule).to_vec();
            Expected::Fields(names.map(str::to_owned).to_vec())
        }
    };
    let findings = match verdict::finding::read("q", "whole", &expected, text, |_| 0.9) {
        Err(off) => return super::check_message(&off.why),
        Ok(findings) => findings,
    };
    assert!(!findings.is_empty(), "an answer that is read has said something");
    let judged = verdict::judge(&findings, &rules, &[]);
    assert_eq!(judged, verdict::judge(&findings, &rules, &[]));
    assert_eq!(judged.outcome == Outcome::Pass, judged.reasons.is_empty());
    let doubtful = |seen: &Seen| match seen {
        Seen::Serial { value, .. } => value.is_none(),
        Seen::Inspected { count } => *count > 0,
        Seen::NotInspectable | Seen::Defect { .. } => true,
        Seen::Field { value, .. } => value.is_null(),
    };
    if findings.iter().any(|finding| doubtful(&finding.seen)) {
        assert_ne!(judged.outcome, Outcome::Pass, "{findings:?}");
    }
}
