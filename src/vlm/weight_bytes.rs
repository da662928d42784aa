//! How many bytes of weights a product reads.

use std::iter::Sum;

use super::linear::Linear;

/// Bytes of weights as they are kept, biases left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WeightBytes {
    /// Of floating-point numbers.
    pub dense: u64,
    /// Of blocks of small integers.
    pub blocks: u64,
}

impl WeightBytes {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.dense + self.blocks
    }

    /// Those of several layers.
    pub fn of<'a>(layers: impl IntoIterator<Item = &'a Linear>) -> WeightBytes {
        layers.into_iter().map(Linear::weight_bytes).sum()
    }
}

impl Sum for WeightBytes {
    fn sum<I: Iterator<Item = WeightBytes>>(parts: I) -> WeightBytes {
        parts.fold(WeightBytes::default(), |all, part| WeightBytes {
            dense: all.dense + part.dense,
            blocks: all.blocks + part.blocks,
        })
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Result, Tensor};

    use super::*;
    use crate::vlm::quant::Format;

    #[test]
    fn bytes_are_those_of_the_form_they_are_kept_in() -> Result<()> {
        let layer = |dtype| -> Result<Linear> {
            let weight = Tensor::zeros((5, 64), dtype, &Device::Cpu)?;
            Ok(Linear::Dense { weight, bias: None })
        };
        let (full, half) = (layer(DType::F32)?, layer(DType::BF16)?);
        assert_eq!(full.weight_bytes(), WeightBytes { dense: 5 * 64 * 4, blocks: 0 });
        assert_eq!(half.weight_bytes().total(), 5 * 64 * 2);
        let blocks = layer(DType::F32)?.quantise(Format::Q8_0)?; // 34 bytes for 32 weights
        assert_eq!(blocks.weight_bytes(), WeightBytes { dense: 0, blocks: 5 * 2 * 34 });
        assert_eq!(WeightBytes::of([&full, &blocks]).total(), 1280 + 340);
        Ok(())
    }
}
