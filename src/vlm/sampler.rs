//! Logits and mask → the next token, and how sure the model was of it.
//!
//! Greedy unless told otherwise: an inspection should not depend on luck. With a temperature, the seed in the record
//! replays the same tokens from the same logits.

use candle_core::{Device, Tensor};
use candle_transformers::utils::apply_repeat_penalty;
use rand::Rng;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::grammar::TokenMask;

/// Names for [`Sampling::preset`].
pub const PRESETS: [&str; 5] = ["ocr", "chart", "scene", "document", "multi_image"];

/// How tokens are drawn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sampling {
    /// Spread of the draw, 0 to 5. 0 (the default) takes the likeliest token; above 1 the model rambles.
    pub temperature: f32,
    /// Share of the likeliest tokens to draw from, above 0 and up to 1 (the default, all). Lower drops the tail.
    pub top_p: f32,
    /// Divides the score of tokens already used in the same free text, 1 (the default, off) to 2. Higher than about
    /// 1.3 begins to avoid words that belong there. Never applied outside free text.
    pub repeat_penalty: f32,
    /// How many of the last tokens of a free text the penalty looks back on, 0 to 4096; 64 by default.
    pub repeat_window: usize,
    /// The most tokens of an answer, 1 to 8192; 512 by default. Must not be below the grammar's budget.
    pub max_tokens: usize,
    /// Where the drawing starts; the same seed gives the same answer. Without a temperature it has no effect.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Sampling {
            temperature: 0.0,
            top_p: 1.0,
            repeat_penalty: 1.0,
            repeat_window: 64,
            max_tokens: 512,
            seed: 0,
        }
    }
}

/// A setting of [`Sampling`] that cannot be used.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("sampling.{setting}: {problem}")]
pub struct SamplingError {
    /// The setting.
    pub setting: &'static str,
    /// What is wrong, and what is allowed.
    pub problem: String,
}

impl Sampling {
    /// Settings that suit a kind of picture: `ocr`, `chart`, `scene`, `document` or `multi_image`.
    pub fn preset(name: &str) -> Result<Sampling, SamplingError> {
        let (temperature, repeat_penalty, max_tokens) = match name {
            "ocr" => (0.3, 1.15, 500),
            "chart" => (0.5, 1.1, 1000),
            "scene" => (0.7, 1.05, 800),
            "document" => (0.4, 1.1, 1500),
            "multi_image" => (0.6, 1.1, 1200),
            _ => {
                let problem = format!("there is no `{name}`; choose one of {}", PRESETS.join(", "));
                return Err(SamplingError { setting: "preset", problem });
            }
        };
        Ok(Sampling { temperature, repeat_penalty, max_tokens, ..Sampling::default() })
    }

    /// Whether every setting is in its range.
    pub fn check(&self) -> Result<(), SamplingError> {
        let wrong = |setting, problem: String| Err(SamplingError { setting, problem });
        if !(0.0..=5.0).contains(&self.temperature) {
            return wrong(
                "temperature",
                format!("{} is not from 0 (likeliest token) to 5", self.temperature),
            );
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return wrong(
                "top_p",
                format!("{} is not above 0 and up to 1 (all tokens)", self.top_p),
            );
        }
        if !(1.0..=2.0).contains(&self.repeat_penalty) {
            return wrong(
                "repeat_penalty",
                format!("{} is not from 1 (off) to 2", self.repeat_penalty),
            );
        }
        if self.repeat_window > 4096 {
            return wrong(
                "repeat_window",
                format!("{} is more than 4096 tokens", self.repeat_window),
            );
        }
        if !(1..=8192).contains(&self.max_tokens) {
            return wrong("max_tokens", format!("{} is not from 1 to 8192", self.max_tokens));
        }
        Ok(())
    }
}

/// A drawn token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Draw {
    /// The token.
    pub token: u32,
    /// Its probability among the allowed tokens, by the model's own logits: no temperature, no penalty.
    pub probability: f64,
    /// The probability the model gave to all allowed tokens together. Near 0, it wanted to write something else.
    pub allowed_mass: f64,
}

/// Why no token could be drawn.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SamplerError {
    /// The model's output is not a row of numbers.
    #[error(
        "the model's score for token {token} is {value}; its weights or its arithmetic are damaged"
    )]
    NotFinite {
        /// The first such token.
        token: u32,
        /// What stood there instead of a number.
        value: String,
    },
    /// The repeat penalty could not be computed.
    #[error("the repeat penalty could not be computed: {0}")]
    Penalty(String),
    /// The mask allows nothing the logits cover.
    #[error("none of the {allowed} allowed tokens is among the model's {logits}")]
    NothingAllowed {
        /// Tokens in the mask.
        allowed: usize,
        /// Length of the row of logits.
        logits: usize,
    },
}

/// Draws the tokens of one answer.
#[derive(Clone, Debug)]
pub struct Sampler {
    sampling: Sampling,
    random: ChaCha8Rng,
}

impl Sampler {
    /// A sampler at the start of its seed's sequence. Errors as [`Sampling::check`].
    pub fn new(sampling: &Sampling) -> Result<Sampler, SamplingError> {
        sampling.check()?;
        Ok(Sampler { sampling: sampling.clone(), random: ChaCha8Rng::seed_from_u64(sampling.seed) })
    }

    /// The next token out of `mask`, by `logits` over the whole vocabulary. `recent` are the tokens to be penalised:
    /// those of the present free text, or none.
    pub fn draw(
        &mut self,
        logits: &[f32],
        mask: &TokenMask,
        recent: &[u32],
    ) -> Result<Draw, SamplerError> {
        if let Some((token, value)) = (0u32..).zip(logits).find(|(_, value)| !value.is_finite()) {
            return Err(SamplerError::NotFinite { token, value: value.to_string() });
        }
        let raw: Vec<(u32, f64)> = mask
            .iter()
            .filter_map(|id| logits.get(id as usize).map(|&x| (id, f64::from(x))))
            .collect();
        if raw.is_empty() {
            return Err(SamplerError::NothingAllowed {
                allowed: mask.count(),
                logits: logits.len(),
            });
        }
        let scores = self.penalised(logits, &raw, recent)?;
        let chosen =
            if self.sampling.temperature > 0.0 { self.spread(&scores) } else { likeliest(&scores) };

        let allowed = log_sum_exp(raw.iter().map(|&(_, x)| x));
        let everything = log_sum_exp(logits.iter().map(|&x| f64::from(x)));
        Ok(Draw {
            token: raw[chosen].0,
            probability: (raw[chosen].1 - allowed).exp(),
            // Rounding can put the part above the whole by a hair.
            allowed_mass: (allowed - everything).exp().min(1.0),
        })
    }

    /// The allowed scores with the recent tokens' made smaller, by candle-transformers' helper.
    fn penalised(
        &self,
        logits: &[f32],
        raw: &[(u32, f64)],
        recent: &[u32],
    ) -> Result<Vec<(u32, f64)>, SamplerError> {
        let penalty = self.sampling.repeat_penalty;
        let recent = &recent[recent.len().saturating_sub(self.sampling.repeat_window)..];
        if penalty == 1.0 || recent.is_empty() {
            return Ok(raw.to_vec());
        }
        let row = Tensor::new(logits, &Device::Cpu) // (vocab)
            .and_then(|row| apply_repeat_penalty(&row, penalty, recent))
            .and_then(|row| row.to_vec1::<f32>())
            .map_err(|error| SamplerError::Penalty(error.to_string()))?;
        Ok(raw.iter().map(|&(id, _)| (id, f64::from(row[id as usize]))).collect())
    }

    /// Draws by softmax at the temperature, among the likeliest that make up `top_p`. Returns an index into `scores`.
    fn spread(&mut self, scores: &[(u32, f64)]) -> usize {
        let top = scores[likeliest(scores)].1;
        let temperature = f64::from(self.sampling.temperature);
        // Above the largest score first, so that no temperature can overflow.
        let mut weights: Vec<(usize, f64)> = scores
            .iter()
            .enumerate()
            .map(|(i, &(_, x))| (i, ((x - top) / temperature).exp()))
            .collect();
        let total: f64 = weights.iter().map(|w| w.1).sum();
        let mut kept = total;
        if self.sampling.top_p < 1.0 {
            // Stable, so equals stay in order of their ids.
            weights.sort_by(|a, b| b.1.total_cmp(&a.1));
            let goal = total * f64::from(self.sampling.top_p);
            kept = 0.0;
            let needed = weights.iter().position(|w| {
                kept += w.1;
                kept >= goal
            });
            weights.truncate(needed.map_or(weights.len(), |last| last + 1));
        }
        let mut point = self.random.random::<f64>() * kept;
        for &(index, weight) in &weights {
            if point < weight {
                return index;
            }
            point -= weight;
        }
        // Rounding left a crumb: the first is always among the kept, and the likeliest when they are sorted.
        weights.iter().rev().find(|w| w.1 > 0.0).map_or(0, |w| w.0)
    }
}

/// Index of the highest score; of the lowest id among equals.
fn likeliest(scores: &[(u32, f64)]) -> usize {
    let mut best = 0;
    for (index, &(_, score)) in scores.iter().enumerate() {
        if score > scores[best].1 {
            best = index;
        }
    }
    best
}

fn log_sum_exp(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let top = values.clone().fold(f64::NEG_INFINITY, f64::max);
    top + values.map(|x| (x - top).exp()).sum::<f64>().ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampler(temperature: f32, top_p: f32) -> Sampler {
        Sampler::new(&Sampling { temperature, top_p, ..Sampling::default() }).unwrap()
    }

    #[test]
    fn greedy_takes_the_likeliest_allowed_and_the_lowest_id_of_equals() {
        let logits = [9.0, 1.0, 3.0, 3.0, 2.0];
        let draw = sampler(0.0, 1.0).draw(&logits, &TokenMask::of(5, &[1, 2, 3]), &[]).unwrap();
        assert_eq!(draw.token, 2);
        let allowed = 1f64.exp() + 2.0 * 3f64.exp();
        let everything = allowed + 9f64.exp() + 2f64.exp();
        assert!((draw.probability - 3f64.exp() / allowed).abs() < 1e-12);
        assert!((draw.allowed_mass - allowed / everything).abs() < 1e-12);
    }

    #[test]
    fn the_same_seed_draws_the_same_tokens_with_the_same_bits() {
        let mask = TokenMask::of(64, &(0..64).collect::<Vec<_>>());
        let logits: Vec<f32> = (0..64).map(|i| ((i * 37) % 64) as f32 / 9.0).collect();
        let run = |seed| {
            let sampling = Sampling { temperature: 1.3, top_p: 0.9, seed, ..Sampling::default() };
            let mut sampler = Sampler::new(&sampling).unwrap();
            (0..200).map(|_| sampler.draw(&logits, &mask, &[]).unwrap()).collect::<Vec<_>>()
        };
        let bits = |draws: Vec<Draw>| {
            draws
                .into_iter()
                .map(|d| (d.token, d.probability.to_bits(), d.allowed_mass.to_bits()))
                .collect::<Vec<_>>()
        };
        assert_eq!(bits(run(7)), bits(run(7)));
        assert_ne!(bits(run(7)), bits(run(8)));
    }

    #[test]
    fn draws_follow_temperature_and_top_p() {
        let mask = TokenMask::of(3, &[0, 1, 2]);
        let logits = [0.6_f32.ln(), 0.3_f32.ln(), 0.1_f32.ln()];
        let shares = |temperature, top_p| {
            let mut sampler = sampler(temperature, top_p);
            let mut seen = [0.0; 3];
            (0..20_000).for_each(|_| {
                seen[sampler.draw(&logits, &mask, &[]).unwrap().token as usize] += 1.0 / 20_000.0
            });
            seen
        };
        let near = |seen: [f64; 3], wanted: [f64; 3]| {
            seen.iter().zip(wanted).all(|(s, w)| (s - w).abs() < 0.015)
        };
        assert!(near(shares(1.0, 1.0), [0.6, 0.3, 0.1]));
        // 0.5 needs only the first, 0.8 the first two.
        assert!(near(shares(1.0, 0.5), [1.0, 0.0, 0.0]));
        assert!(near(shares(1.0, 0.8), [2.0 / 3.0, 1.0 / 3.0, 0.0]));
        assert!(near(shares(1e-6, 1.0), [1.0, 0.0, 0.0]));
    }

    #[test]
    fn the_penalty_moves_the_choice_but_not_the_probability() {
        let sampling = Sampling { repeat_penalty: 2.0, repeat_window: 2, ..Sampling::default() };
        let mut sampler = Sampler::new(&sampling).unwrap();
        let mask = TokenMask::of(3, &[0, 1, 2]);
        let logits = [3.0, 2.0, -1.0];
        assert_eq!(sampler.draw(&logits, &mask, &[]).unwrap().token, 0);
        let draw = sampler.draw(&logits, &mask, &[0]).unwrap();
        assert_eq!(draw.token, 1);
        assert!(
            (draw.probability - 2f64.exp() / (3f64.exp() + 2f64.exp() + (-1f64).exp())).abs()
                < 1e-12
        );
        // Out of the window again.
        assert_eq!(sampler.draw(&logits, &mask, &[0, 2, 2]).unwrap().token, 0);
    }

    #[test]
    fn damaged_logits_are_an_error_and_extreme_ones_are_not() {
        let mask = TokenMask::of(3, &[0, 2]);
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let error = sampler(1.0, 0.5).draw(&[0.0, bad, 0.0], &mask, &[]).unwrap_err();
            assert!(matches!(error, SamplerError::NotFinite { token: 1, .. }));
        }
        for temperature in [0.0, 1e-30, 5.0] {
            let draw =
                sampler(temperature, 0.9).draw(&[f32::MIN, 0.0, f32::MAX], &mask, &[0]).unwrap();
            assert_eq!((draw.token, draw.probability, draw.allowed_mass), (2, 1.0, 1.0));
        }
        let none = sampler(0.0, 1.0).draw(&[1.0], &TokenMask::of(3, &[2]), &[]).unwrap_err();
        assert_eq!(none, SamplerError::NothingAllowed { allowed: 1, logits: 1 });
    }

    #[test]
    fn presets_and_limits() {
        for name in PRESETS {
            Sampling::preset(name).unwrap().check().unwrap();
        }
        let ocr = Sampling::preset("ocr").unwrap();
        assert_eq!((ocr.temperature, ocr.repeat_penalty, ocr.max_tokens), (0.3, 1.15, 500));
        let message = Sampling::preset("text").unwrap_err().to_string();
        assert_eq!(
            message,
            "sampling.preset: there is no `text`; choose one of ocr, chart, scene, document, multi_image"
        );
        let refused = |sampling: Sampling| sampling.check().unwrap_err().setting;
        let base = Sampling::default;
        assert_eq!(refused(Sampling { temperature: f32::NAN, ..base() }), "temperature");
        assert_eq!(refused(Sampling { temperature: -0.1, ..base() }), "temperature");
        assert_eq!(refused(Sampling { top_p: 0.0, ..base() }), "top_p");
        assert_eq!(refused(Sampling { top_p: f32::NAN, ..base() }), "top_p");
        assert_eq!(refused(Sampling { repeat_penalty: 0.9, ..base() }), "repeat_penalty");
        assert_eq!(refused(Sampling { repeat_window: 5000, ..base() }), "repeat_window");
        assert_eq!(refused(Sampling { max_tokens: 0, ..base() }), "max_tokens");
    }
}
