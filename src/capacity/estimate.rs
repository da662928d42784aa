//! From tokens to seconds: with a measured speed, or with one that is estimated from the model's
//! size by a rule that everybody can follow.

use std::fmt;

use candle_core::DType;
use serde::{Deserialize, Serialize};

use super::cost::{QuestionCost, StationCost};
use crate::vlm::ModelCard;

/// What a core is taken to compute, without a measurement: 30 GFLOP/s.
pub const ASSUMED_FLOP_PER_S_A_CORE: f64 = 30e9;
/// What the machine is taken to read from memory, without a measurement: 10 GB/s.
pub const ASSUMED_READ_BYTES_PER_S: f64 = 10e9;

/// Where a speed comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// This model was timed on this machine with as many threads.
    Measured,
    /// From the model's size: right within a factor of a few.
    Estimated,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Origin::Measured => "measured",
            Origin::Estimated => "estimated",
        })
    }
}

/// How fast a model computes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Speed {
    /// Where the figures come from.
    pub origin: Origin,
    /// Seconds for one view of a picture: preprocessing, tower, projector.
    pub view_s: f64,
    /// Tokens of a prompt read in a second.
    pub prefill_tokens_per_s: f64,
    /// Tokens of an answer written in a second.
    pub decode_tokens_per_s: f64,
}

/// Seconds for one thing, with the answer about a good part and with the longest one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Seconds {
    /// With the answer about a good part.
    pub usual_s: f64,
    /// With the longest answer.
    pub longest_s: f64,
}

impl Speed {
    /// The rule: a token of a prompt takes two operations for each weight of the decoder, a view two
    /// for each weight of the tower and each of its 577 rows, at [`ASSUMED_FLOP_PER_S_A_CORE`]; a
    /// token of an answer takes one reading of the decoder's weights at
    /// [`ASSUMED_READ_BYTES_PER_S`].
    pub fn estimated(card: &ModelCard, dtype: DType, threads: usize) -> Speed {
        let decoder = decoder_weights(card) as f64;
        let tower = card.parameters().saturating_sub(decoder_weights(card)) as f64;
        let flop_per_s = ASSUMED_FLOP_PER_S_A_CORE * threads.max(1) as f64;
        let bytes_a_weight = card.loaded_bytes(dtype) as f64 / (card.parameters().max(1)) as f64;
        Speed {
            origin: Origin::Estimated,
            view_s: 2.0 * tower * 577.0 / flop_per_s,
            prefill_tokens_per_s: flop_per_s / (2.0 * decoder).max(1.0),
            decode_tokens_per_s: ASSUMED_READ_BYTES_PER_S / (decoder * bytes_a_weight).max(1.0),
        }
    }

    /// Whether the figures are usable: positive and finite.
    pub fn is_sane(&self) -> bool {
        let positive = |figure: f64| figure.is_finite() && figure > 0.0;
        positive(self.view_s)
            && positive(self.prefill_tokens_per_s)
            && positive(self.decode_tokens_per_s)
    }

    /// Seconds for one question about a part, once the line runs.
    pub fn question(&self, cost: &QuestionCost) -> Seconds {
        let read = |tokens: usize| tokens as f64 / self.prefill_tokens_per_s;
        let written = |tokens: usize| tokens as f64 / self.decode_tokens_per_s;
        let prompt = cost.views as f64 * self.view_s
            + read(cost.prompt_tokens().saturating_sub(cost.reused_tokens));
        Seconds {
            usual_s: prompt + written(cost.usual_chosen_tokens) + read(cost.usual_fixed_tokens),
            longest_s: prompt + written(cost.longest_tokens),
        }
    }

    /// Seconds for all questions about a part.
    pub fn part(&self, cost: &StationCost) -> Seconds {
        let all = cost.questions.iter().map(|question| self.question(question));
        all.fold(Seconds::default(), |sum, one| Seconds {
            usual_s: sum.usual_s + one.usual_s,
            longest_s: sum.longest_s + one.longest_s,
        })
    }
}

/// Weights that a token of text passes: all layers and the output matrix.
fn decoder_weights(card: &ModelCard) -> u64 {
    let decoder = &card.config.decoder;
    let attention = (2 * decoder.heads + 2 * decoder.kv_heads) * decoder.head_dim * decoder.hidden;
    let layer = attention + 3 * decoder.hidden * decoder.intermediate;
    (decoder.layers * layer + decoder.vocab * decoder.hidden) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_add_up() {
        let speed = Speed {
            origin: Origin::Measured,
            view_s: 0.5,
            prefill_tokens_per_s: 100.0,
            decode_tokens_per_s: 10.0,
        };
        let cost = QuestionCost {
            text_tokens: 150,
            picture_tokens: 300,
            reused_tokens: 50,
            views: 2,
            usual_chosen_tokens: 5,
            usual_fixed_tokens: 10,
            longest_tokens: 100,
            ..QuestionCost::default()
        };
        let one = speed.question(&cost);
        assert!((one.usual_s - (1.0 + 4.0 + 0.5 + 0.1)).abs() < 1e-9, "{one:?}");
        assert!((one.longest_s - (1.0 + 4.0 + 10.0)).abs() < 1e-9, "{one:?}");
        let station = StationCost { station: "s".into(), questions: vec![cost.clone(), cost] };
        assert!((speed.part(&station).usual_s - 2.0 * one.usual_s).abs() < 1e-9);
    }

    #[test]
    fn the_rule_gives_the_small_model_a_sane_speed() {
        let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("models/builtin");
        let card = ModelCard::open(&dir).unwrap();
        let one = Speed::estimated(&card, DType::F32, 1);
        let two = Speed::estimated(&card, DType::F32, 2);
        assert!(one.is_sane());
        assert!((two.prefill_tokens_per_s / one.prefill_tokens_per_s - 2.0).abs() < 1e-9);
        assert!(
            Speed::estimated(&card, DType::BF16, 1).decode_tokens_per_s > one.decode_tokens_per_s
        );
    }
}
