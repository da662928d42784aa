//! Why an engine gave no answer that counts: what stands in the record, what the breaker learns from it,
//! and whether asking again may help.

use std::time::Duration;

/// No answer, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What kind of failure it is.
    pub why: Why,
    /// A clause for people, about the engine.
    pub text: String,
    /// How long the server wants to be left alone, if it said so.
    pub rest: Option<Duration>,
}

/// Kinds of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// No connection, or one that broke.
    Unreachable,
    /// Its certificate or the handshake is not good.
    Tls,
    /// There is no key to send.
    NoKey,
    /// The answer did not come in time.
    Timeout,
    /// There was no time left to ask.
    NoTime,
    /// It said that it has too much to do.
    Busy,
    /// It failed: a status of 5xx.
    ServerError,
    /// It does not accept the key.
    Forbidden,
    /// It does not accept the question: another status, such as 400 or 404.
    Rejected,
    /// It sent us elsewhere, where pictures do not go.
    Redirected,
    /// What came back is nothing that this interface sends.
    NotOfInterface,
    /// More came back than is read.
    TooLarge,
    /// The model, or a filter, did not want to answer.
    Refused,
    /// The answer was cut off.
    CutOff,
    /// The answer is not of the question's form.
    OffSchema,
    /// It is left alone, as it failed before.
    Resting,
}

impl Failure {
    /// A failure.
    pub fn new(why: Why, text: impl Into<String>) -> Failure {
        Failure { why, text: text.into(), rest: None }
    }
}

impl Why {
    /// The reason's code in records and messages.
    pub fn code(self) -> &'static str {
        match self {
            Why::Unreachable | Why::Tls => "engine_unreachable",
            Why::NoKey | Why::Forbidden => "engine_forbidden",
            Why::Timeout | Why::NoTime => "engine_timeout",
            Why::Busy => "engine_busy",
            Why::ServerError => "engine_error",
            Why::Rejected | Why::Redirected => "engine_rejected",
            Why::NotOfInterface | Why::TooLarge => "engine_unreadable",
            Why::Resting => "engine_resting",
            Why::Refused => "answer_refused",
            Why::CutOff => "answer_incomplete",
            Why::OffSchema => "answer_off_schema",
        }
    }

    /// Whether the engine is at fault, so that the next question is likely to fail as well. One that
    /// does not like a question, or whose model writes rubbish, works.
    pub fn counts(self) -> bool {
        match self {
            Why::Unreachable
            | Why::Tls
            | Why::NoKey
            | Why::Timeout
            | Why::Busy
            | Why::ServerError
            | Why::Forbidden
            | Why::Redirected
            | Why::NotOfInterface => true,
            Why::NoTime
            | Why::Rejected
            | Why::TooLarge
            | Why::Refused
            | Why::CutOff
            | Why::OffSchema
            | Why::Resting => false,
        }
    }

    /// Whether the same question may be answered a moment later.
    pub fn may_pass(self) -> bool {
        matches!(self, Why::Unreachable | Why::Busy | Why::ServerError)
    }
}
