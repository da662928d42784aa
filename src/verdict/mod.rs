//! From an answer's text to a verdict: rules decide, not the model.
//!
//! [`finding`] reads what the model said into [`Finding`]s; [`rules`] judges them, [`serial`] those
//! about a serial number. Nothing here reads a clock or a file, so a verdict can be replayed from its
//! record.

pub mod agree;
pub mod check_digit;
pub mod finding;
pub mod rules;
pub mod serial;

use serde::{Deserialize, Serialize};

pub use check_digit::CheckDigit;
pub use finding::{Expected, Finding, OffSchema, Seen};
pub use rules::{DefectRule, Rules, decided, judge};
pub use serial::{SerialFacts, SerialRule};

/// The reason's code for a part between those that are inspected.
pub const NOT_SAMPLED: &str = "not_sampled";

/// What is to happen with the part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Every rule holds.
    Pass,
    /// A rule says that the part is bad.
    Fail,
    /// A person must look: unreadable, contradictory, late, or something went wrong.
    Review,
}

impl Outcome {
    /// The word that stands in records and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Pass => "pass",
            Outcome::Fail => "fail",
            Outcome::Review => "review",
        }
    }

    /// The number that a PLC reads: 1 pass, 2 fail, 3 review. 0 is never sent, so that a register
    /// that was never written cannot be taken for a verdict.
    pub fn code(self) -> u8 {
        match self {
            Outcome::Pass => 1,
            Outcome::Fail => 2,
            Outcome::Review => 3,
        }
    }
}

/// Why a verdict is what it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// A fixed word for programs, such as `defect` or `serial_illegible`.
    pub code: String,
    /// A sentence for people.
    pub text: String,
}

impl Reason {
    /// Longest text kept, in characters; the rest is cut, as it may hold what a model wrote.
    const TEXT_MAX: usize = 300;

    /// A reason with a bounded text.
    pub fn new(code: &str, text: impl Into<String>) -> Reason {
        let mut text = text.into();
        if let Some((cut, _)) = text.char_indices().nth(Self::TEXT_MAX) {
            text.truncate(cut);
            text.push('…');
        }
        Reason { code: code.to_owned(), text }
    }
}

/// The decision on one part, with its reasons. A pass has none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// What is to happen with the part.
    pub outcome: Outcome,
    /// Why; the worst first.
    pub reasons: Vec<Reason>,
}

impl Verdict {
    /// A verdict that asks for a person, for one reason.
    pub fn review(reason: Reason) -> Verdict {
        Verdict { outcome: Outcome::Review, reasons: vec![reason] }
    }
}
