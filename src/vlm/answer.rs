//! An answer as it goes into the permanent record: the JSON, how sure the model was, and what it cost. Plain data.

use serde::{Deserialize, Serialize};

/// What came back: part of the permanent record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The answer; valid JSON of the question's form if `stop` is [`StopReason::Complete`], else as far as it went.
    pub text: String,
    /// How sure the model was of each value, in the order of the answer.
    pub fields: Vec<FieldConfidence>,
    /// Why no more was written.
    pub stop: StopReason,
    /// What was read and written.
    pub tokens: TokenCounts,
    /// Where the time went.
    pub timings: Timings,
}

/// How sure the model was of one value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FieldConfidence {
    /// The value's place: `serial`, `defects`, `defects[0].class`. A list's own path is about how many items it has.
    pub path: String,
    /// Product over the value's tokens of each one's probability among the tokens the grammar allowed there.
    pub probability: f64,
    /// The smallest of these probabilities.
    pub min_token_probability: f64,
    /// The smallest share the model gave to all allowed tokens together. Low: it wanted to write something that the
    /// grammar forbids, however sure it then was among what is left.
    pub min_allowed_mass: f64,
    /// Tokens that carry the value, forced ones included.
    pub tokens: usize,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// It is complete.
    Complete,
    /// The deadline came first.
    Deadline,
    /// It was cancelled.
    Cancelled,
    /// `max_tokens` were written. Cannot happen to a question that passed [`Question::check`](super::ask::Question::check).
    Budget,
}

/// Tokens read and written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenCounts {
    /// The whole prompt, pictures included.
    pub prompt: usize,
    /// Of the prompt, those of pictures.
    pub image: usize,
    /// Of the prompt, those still known from the last question.
    pub reused: usize,
    /// The answer.
    pub generated: usize,
    /// Of the answer, those the grammar left no choice about.
    pub forced: usize,
}

/// Milliseconds of each stage of one answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Timings {
    /// Scaling and cutting pictures into tiles.
    pub preprocess_ms: f64,
    /// Vision tower and projector.
    pub tower_ms: f64,
    /// Reading the prompt.
    pub prefill_ms: f64,
    /// Writing the answer.
    pub decode_ms: f64,
}

impl Answer {
    /// Whether the text is the whole answer. Only then may it be parsed.
    pub fn is_complete(&self) -> bool {
        self.stop == StopReason::Complete
    }

    /// How sure the model was of the value at `path`.
    pub fn confidence(&self, path: &str) -> Option<&FieldConfidence> {
        self.fields.iter().find(|field| field.path == path)
    }
}
