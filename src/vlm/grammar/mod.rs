//! The answer is always valid JSON: answer types → one finite language → which tokens may come next.
//!
//! ```text
//! AnswerSpec ─form─┬─ pattern ─ regular expression ─┐
//!                  ├─ schema  ─ JSON Schema         ├─ Grammar ─start→ Matcher ─forced, allowed, accept→ text
//!                  └─ budget  ─ most tokens         │
//! token bytes ──────── Vocabulary ──────────────────┘
//! ```
//!
//! This room knows bytes and tokens and no tensors. The matching itself is the `llguidance` crate's; `mask.rs` and
//! `vocabulary.rs` alone spell its name. Everything in an answer is bounded, so every answer ends, and
//! [`AnswerSpec::budget_tokens`] says when at the latest.

pub mod answer;
mod budget;
mod check;
mod cursor;
mod form;
mod mask;
mod number;
mod pattern;
pub mod reread;
mod schema;
pub mod template;
mod vocabulary;

pub use answer::{
    ABSTAIN, AnswerError, AnswerKind, AnswerSpec, DecimalSpec, DefectsSpec, FieldKind, FieldSpec,
    IntegerSpec, MAX_ANSWER_BYTES, MAX_FIELDS, MAX_ITEMS, MAX_NAME_CHARS, MAX_TEXT_CHARS,
    SerialSpec, locations,
};
pub use cursor::FieldTokens;
pub use mask::{Grammar, Matcher, TokenMask};
pub use template::{DEFAULT_ALPHABET, MAX_SERIAL_CHARS, Template, TemplateError};
pub use vocabulary::Vocabulary;

/// Why tokens could not be constrained. Answers stop on any of these; none is a panic.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrammarError {
    /// The token list cannot be used to constrain an answer.
    #[error("vocabulary: {0}")]
    Vocabulary(String),
    /// The answer's language could not be turned into an automaton.
    #[error("answer grammar not compiled: {0}")]
    Compile(String),
    /// A token was accepted that the mask had not allowed.
    #[error("token {token} does not continue the answer `{text}`")]
    Refused {
        /// The token.
        token: u32,
        /// The answer so far.
        text: String,
    },
    /// The automaton failed. The answer is lost; the next one starts from a clean copy.
    #[error("answer grammar failed after `{text}`: {problem}")]
    Failed {
        /// The answer so far.
        text: String,
        /// What the automaton reported.
        problem: String,
    },
}
