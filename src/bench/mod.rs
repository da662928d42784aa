//! A stopwatch for the engine, and what the machine could do at most.
//!
//! | file | what |
//! |---|---|
//! | `count` | operations and bytes of a stage, from the model's shapes; pure |
//! | [`probe`] | the machine's limits: memory, f32 and 8-bit products |
//! | `host` | what the system says of itself |
//! | [`stage`] | runs to medians, rates and shares of the limits; pure |
//! | [`stages`], [`inspections`] | the runs themselves |
//! | [`report`] | all of it as a file, written and read back |
//! | [`compare`] | two reports: what is slower by more than the noise; pure |

pub mod compare;
mod count;
mod host;
pub mod inspections;
pub mod probe;
pub mod report;
pub mod stage;
pub mod stages;

use std::str::FromStr;

pub use compare::Comparison;
pub use host::{Host, Memory};
pub use probe::Limits;
pub use report::Report;
pub use stage::Stage;

use crate::vlm::EngineError;

/// A stage that can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One view of a picture through the vision tower.
    Tower,
    /// The tower's features of a picture of one tile to embeddings.
    Projector,
    /// Reading a text of a given length.
    Prefill,
    /// Writing tokens after a text of a given length.
    Decode,
    /// A part with all questions of a station, from its picture to the verdict.
    Inspection,
}

impl Kind {
    /// All of them, in the order of an inspection.
    pub const ALL: [Kind; 5] =
        [Kind::Tower, Kind::Projector, Kind::Prefill, Kind::Decode, Kind::Inspection];

    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Tower => "tower",
            Kind::Projector => "projector",
            Kind::Prefill => "prefill",
            Kind::Decode => "decode",
            Kind::Inspection => "inspection",
        }
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(word: &str) -> Result<Kind, String> {
        Kind::ALL.into_iter().find(|kind| kind.name() == word).ok_or_else(|| {
            let words = Kind::ALL.map(Kind::name).join(", ");
            format!("there is no stage \"{word}\"; there are {words}")
        })
    }
}

/// What is to be measured.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The stages, in order.
    pub stages: Vec<Kind>,
    /// Runs of each that count; at least one.
    pub runs: usize,
    /// Runs before them that do not.
    pub warm_up: usize,
    /// Tokens of a prefill, and held by the cache in a decode.
    pub lengths: Vec<usize>,
}

impl Plan {
    /// Runs in all, those that warm up included.
    pub fn all_runs(&self) -> usize {
        let stages = |kind: &Kind| match kind {
            Kind::Prefill | Kind::Decode => self.lengths.len(),
            _ => 1,
        };
        self.stages.iter().map(stages).sum::<usize>() * (self.runs + self.warm_up)
    }
}

/// Why a measurement stopped.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// A length that the model's context does not hold.
    #[error("a text of {tokens} tokens cannot be measured with this model; choose 1 to {most}")]
    Length {
        /// The length asked for.
        tokens: usize,
        /// The longest one.
        most: usize,
    },
    /// A length at which the tokens written would pass the length of the short position factors.
    #[error(
        "tokens written after {tokens} others pass the {border} of the model's short position factors, and would be measured with a recomputation; choose {} or less, or {border} or more",
        border.saturating_sub(stages::DECODE_TOKENS)
    )]
    Border {
        /// The length asked for.
        tokens: usize,
        /// The short factors' length.
        border: usize,
    },
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A question of the station could not be asked.
    #[error("question \"{question}\" of station \"{station}\": {why}")]
    Question {
        /// The station.
        station: String,
        /// The question.
        question: String,
        /// What went wrong.
        why: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_have_words() {
        for kind in Kind::ALL {
            assert_eq!(kind.name().parse(), Ok(kind));
        }
        let why = "towr".parse::<Kind>().unwrap_err();
        assert!(why.contains("towr") && why.contains("tower, projector"), "{why}");
    }

    #[test]
    fn runs_are_counted_for_each_length() {
        let plan = Plan { stages: Kind::ALL.to_vec(), runs: 4, warm_up: 1, lengths: vec![1, 2, 3] };
        assert_eq!(plan.all_runs(), (3 + 3 + 3) * 5);
    }
}
