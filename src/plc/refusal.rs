//! Why a command is refused: a fixed word for the program, a sentence for the person.

use serde::Serialize;

/// The words. They are part of the contract: none is ever renamed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The station's state admits no trigger; the text names the state.
    NotReady,
    /// Something of the same kind is under way.
    Busy,
    /// As many parts as may wait are waiting.
    QueueFull,
    /// There is no recipe with this index.
    UnknownRecipe,
    /// There is no result with this name that waits to be acknowledged.
    UnknownResult,
    /// There is no command of this name.
    UnknownCommand,
    /// The station's configuration does not offer this command.
    NotOffered,
    /// Not the JSON that the command asks for.
    BadPayload,
    /// The payload is too long to be looked at.
    TooLarge,
    /// Too many commands in too short a time.
    RateLimited,
    /// The broker had kept it: it is older than the connection and may have been carried out.
    Retained,
    /// The same trigger_id was accepted for another part.
    Duplicate,
    /// The ring is full.
    ResultsNotAcknowledged,
    /// It was sent longer ago than its deadline.
    Stale,
}

impl Code {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Code::NotReady => "not_ready",
            Code::Busy => "busy",
            Code::QueueFull => "queue_full",
            Code::UnknownRecipe => "unknown_recipe",
            Code::UnknownResult => "unknown_result",
            Code::UnknownCommand => "unknown_command",
            Code::NotOffered => "not_offered",
            Code::BadPayload => "bad_payload",
            Code::TooLarge => "too_large",
            Code::RateLimited => "rate_limited",
            Code::Retained => "retained",
            Code::Duplicate => "duplicate",
            Code::ResultsNotAcknowledged => "results_not_acknowledged",
            Code::Stale => "stale",
        }
    }
}

/// A command was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {text}", .code.as_str())]
pub struct Refusal {
    /// The word.
    pub code: Code,
    /// The sentence, bounded: it may quote what was sent.
    pub text: String,
}

impl Refusal {
    /// Longest text, in characters.
    const TEXT_MAX: usize = 200;

    /// A refusal with a bounded text without control characters.
    pub fn new(code: Code, text: impl AsRef<str>) -> Refusal {
        let printable = text.as_ref().chars().filter(|c| !c.is_control());
        Refusal { code, text: printable.take(Refusal::TEXT_MAX).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_is_the_one_that_is_serialised() {
        let all = [
            Code::NotReady,
            Code::Busy,
            Code::QueueFull,
            Code::UnknownRecipe,
            Code::UnknownResult,
            Code::UnknownCommand,
            Code::NotOffered,
            Code::BadPayload,
            Code::TooLarge,
            Code::RateLimited,
            Code::Retained,
            Code::Duplicate,
            Code::ResultsNotAcknowledged,
            Code::Stale,
        ];
        for code in all {
            let word = serde_json::to_value(code).expect("a word");
            assert_eq!(word, code.as_str());
        }
    }

    #[test]
    fn what_was_sent_cannot_make_a_refusal_long_or_unprintable() {
        let refusal = Refusal::new(Code::BadPayload, "\u{7}x".repeat(5000));
        assert_eq!(refusal.text, "x".repeat(200));
    }
}
