//! What a host may ask of a station, by writing to its metrics.

use srad_types::payload::metric::Value;

use super::metrics::{Tag, cut};
use super::payload::Written;

/// What a host asks of a station.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Look at a part.
    Trigger {
        /// What the host calls this trigger. A copy of the message carries the same number.
        trigger_id: u64,
        /// The part's name, if the host has one.
        part_id: Option<String>,
        /// Milliseconds that the verdict may take, if not the station's.
        deadline_ms: Option<u64>,
    },
    /// Look for the product of this index.
    SelectRecipe {
        /// The index.
        index: u32,
    },
    /// Forget a fault.
    Reset,
}

/// Takes what hosts ask. Called by the task that talks to the broker, so it must not wait: it puts
/// the command into a bounded queue, or says in a sentence why it will not.
pub trait Commands: Send + Sync + 'static {
    /// Takes one command to `station`. The same may come twice.
    fn take(&self, station: &str, command: Command) -> Result<(), String>;
}

/// Refuses everything: for a program whose stations are not asked from outside.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoCommands;

impl Commands for NoCommands {
    fn take(&self, _: &str, _: Command) -> Result<(), String> {
        Err("this station takes no commands".to_owned())
    }
}

/// What one message asks of station number `station`. A metric that is none of its writable ones,
/// or has a value of another type, spoils the whole message: it would else be obeyed by half.
pub fn read(station: usize, written: &[Written]) -> Result<Vec<Command>, String> {
    let mut commands = Vec::new();
    let (mut trigger_id, mut part_id, mut deadline_ms) = (None, None, None);
    for metric in written {
        let tag = Tag::of(station, metric.name.as_deref(), metric.alias);
        let bad = |what: &str| {
            let name = tag.map_or_else(|| called(metric), |tag| tag.name().to_owned());
            Err(format!("{name}: {what}"))
        };
        match tag {
            Some(Tag::Trigger) => match metric.whole() {
                Some(number) => trigger_id = Some(number),
                None => return bad("not a whole number"),
            },
            Some(Tag::CommandPartId) => match &metric.value {
                Some(Value::StringValue(text)) if is_name(text) => part_id = Some(text.clone()),
                _ => return bad("not a text of 1 to 64 printable characters"),
            },
            Some(Tag::CommandDeadlineMs) => match metric.whole() {
                Some(number) => deadline_ms = Some(number),
                None => return bad("not a whole number"),
            },
            Some(Tag::RecipeSelect) => match metric.whole().and_then(|n| u32::try_from(n).ok()) {
                Some(index) => commands.push(Command::SelectRecipe { index }),
                None => return bad("not the index of a recipe"),
            },
            Some(Tag::Reset) => match metric.value {
                Some(Value::BooleanValue(true)) => commands.push(Command::Reset),
                Some(Value::BooleanValue(false)) => {}
                _ => return bad("neither true nor false"),
            },
            Some(_) => return bad("it is not writable"),
            None => return bad("there is no such metric"),
        }
    }
    match trigger_id {
        Some(trigger_id) => commands.push(Command::Trigger { trigger_id, part_id, deadline_ms }),
        None if part_id.is_some() || deadline_ms.is_some() => {
            return Err(format!("{} is missing beside what belongs to it", Tag::Trigger.name()));
        }
        None => {}
    }
    Ok(commands)
}

fn called(metric: &Written) -> String {
    match (&metric.name, metric.alias) {
        (_, Some(alias)) => format!("alias {alias}"),
        (Some(name), None) => cut(&name.escape_debug().to_string()),
        (None, None) => "a metric without name and alias".to_owned(),
    }
}

fn is_name(text: &str) -> bool {
    let blank = text.trim().is_empty();
    !blank && text.chars().count() <= 64 && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str, value: Value) -> Written {
        Written { name: Some(name.to_owned()), alias: None, value: Some(value) }
    }

    fn text(text: &str) -> Value {
        Value::StringValue(text.to_owned())
    }

    #[test]
    fn a_trigger_comes_with_what_belongs_to_it() {
        let by_alias =
            |tag: Tag, value| Written { name: None, alias: Some(tag.alias(1)), value: Some(value) };
        let written = [
            by_alias(Tag::CommandPartId, text("A-1")),
            by_alias(Tag::Trigger, Value::LongValue(7)),
            by_alias(Tag::CommandDeadlineMs, Value::IntValue(800)),
        ];
        let trigger =
            Command::Trigger { trigger_id: 7, part_id: Some("A-1".into()), deadline_ms: Some(800) };
        assert_eq!(read(1, &written), Ok(vec![trigger]));
        assert!(read(0, &written).is_err(), "aliases of another station");
        let both =
            [named("Recipe/Select", Value::IntValue(2)), named("Reset", Value::BooleanValue(true))];
        let commands = vec![Command::SelectRecipe { index: 2 }, Command::Reset];
        assert_eq!(read(0, &both), Ok(commands));
        assert_eq!(read(0, &[named("Reset", Value::BooleanValue(false))]), Ok(vec![]));
    }

    #[test]
    fn what_is_off_by_a_little_is_refused_whole() {
        let trigger = named("Trigger", Value::LongValue(7));
        for bad in [
            named("Trigger", text("7")),
            named("trigger", Value::LongValue(7)),
            named("Result/Verdict", text("pass")),
            named("Reset", Value::IntValue(1)),
            named("Recipe/Select", Value::LongValue(1 << 32)),
            named("Command/PartId", text("a\nb")),
            named("Command/PartId", text(" ")),
            named(&"x\u{7}".repeat(4000), Value::IntValue(1)),
            Written { name: None, alias: Some(3), value: None },
            Written { name: None, alias: None, value: None },
        ] {
            let told = read(0, &[trigger.clone(), bad.clone()]).expect_err("refused");
            assert!(told.chars().count() < 200 && !told.contains('\u{7}'), "{told}");
        }
        assert!(read(0, &[named("Command/PartId", text("A"))]).is_err(), "a part, no trigger");
    }
}
