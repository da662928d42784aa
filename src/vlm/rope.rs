//! LongRoPE: rotary positions whose frequencies are divided by one of two factor lists.
//!
//! Which list serves is a property of the whole forward pass, not of a position: the long one if
//! the sequence is longer than `original_positions`, for all of its tokens. The attention factor
//! multiplies cosine and sine at every length, short ones too. Angles are computed in f32 whatever
//! the model computes in: half precision has no room for positions. Source:
//! `Phi3SuScaledRotaryEmbedding`, modeling_phi3_v.py.

use candle_core::{DType, Device, Result, Tensor};

use super::config::RopeConfig;

/// Which factor list a pass uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Regime {
    /// The sequence fits into the original positions.
    Short,
    /// It is longer.
    Long,
}

/// The frequencies of both lists.
pub struct Rope {
    short: Vec<f32>,
    long: Vec<f32>,
    attention_factor: f32,
    original_positions: usize,
}

/// Cosine and sine for the rows of one pass, each (rows, head_dim / 2), times the attention factor.
pub struct RopeTables {
    cos: Tensor,
    sin: Tensor,
}

impl Rope {
    /// The frequencies 1 / (factor_k * theta^(2k / head_dim)), k = 0 .. head_dim / 2, in f32.
    pub fn new(config: &RopeConfig) -> Rope {
        let frequencies = |factors: &[f32]| -> Vec<f32> {
            let pairs = factors.len() as f32;
            let power = |k: usize| config.theta.powf(f64::from(k as f32 / pairs)) as f32;
            factors.iter().enumerate().map(|(k, factor)| 1.0 / (factor * power(k))).collect()
        };
        Rope {
            short: frequencies(&config.short),
            long: frequencies(&config.long),
            attention_factor: config.attention_factor as f32,
            original_positions: config.original_positions,
        }
    }

    /// The list for a sequence of `len` positions in all, those in the cache included.
    pub fn regime(&self, len: usize) -> Regime {
        if len > self.original_positions { Regime::Long } else { Regime::Short }
    }

    /// Longest sequence that the short list serves.
    pub fn original_positions(&self) -> usize {
        self.original_positions
    }

    /// The tables for positions `start .. start + rows`.
    pub fn tables(
        &self,
        regime: Regime,
        start: usize,
        rows: usize,
        dtype: DType,
        device: &Device,
    ) -> Result<RopeTables> {
        let frequencies = if regime == Regime::Long { &self.long } else { &self.short };
        let len = rows * frequencies.len();
        let (mut cos, mut sin) = (Vec::with_capacity(len), Vec::with_capacity(len));
        for position in start..start + rows {
            for frequency in frequencies {
                let (s, c) = (position as f32 * frequency).sin_cos();
                cos.push(c * self.attention_factor);
                sin.push(s * self.attention_factor);
            }
        }
        let table =
            |numbers| Tensor::from_vec(numbers, (rows, frequencies.len()), device)?.to_dtype(dtype);
        Ok(RopeTables { cos: table(cos)?, sin: table(sin)? })
    }
}

impl RopeTables {
    /// Rotates `x`, (heads, rows, head_dim), first half against second half. Returns the same
    /// shape, contiguous.
    pub fn rotate(&self, x: &Tensor) -> Result<Tensor> {
        let x = x.contiguous()?.unsqueeze(0)?; // (1, heads, rows, head_dim)
        candle_nn::rotary_emb::rope(&x, &self.cos, &self.sin)?.squeeze(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rope() -> Rope {
        Rope::new(&RopeConfig {
            theta: 10_000.0,
            original_positions: 4,
            short: vec![1.0, 2.0],
            long: vec![1.0, 50.0],
            attention_factor: 1.5,
        })
    }

    #[test]
    fn the_list_changes_after_the_original_positions() {
        assert_eq!(rope().regime(4), Regime::Short);
        assert_eq!(rope().regime(5), Regime::Long);
    }

    #[test]
    fn frequencies_are_divided_by_the_factors() -> Result<()> {
        let tables = rope().tables(Regime::Long, 3, 1, DType::F32, &Device::Cpu)?;
        let cos = tables.cos.to_vec2::<f32>()?;
        let expected = [1.5 * 3f32.cos(), 1.5 * (3.0 / (50.0 * 100f32)).cos()]; // theta^(2/4) = 100
        assert!(cos[0].iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{cos:?}");
        Ok(())
    }

    #[test]
    fn the_first_half_turns_against_the_second() -> Result<()> {
        let tables = rope().tables(Regime::Short, 1, 1, DType::F32, &Device::Cpu)?;
        let x = Tensor::new(&[[[1f32, 0.0, 0.0, 0.0]]], &Device::Cpu)?; // (1, 1, 4)
        let y = tables.rotate(&x)?.flatten_all()?.to_vec1::<f32>()?;
        let expected = [1.5 * 1f32.cos(), 0.0, 1.5 * 1f32.sin(), 0.0];
        assert!(y.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{y:?}");
        Ok(())
    }
}
