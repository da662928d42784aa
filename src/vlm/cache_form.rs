//! What keys and values are kept in: as numbers, or in fewer bits.

use std::fmt;
use std::str::FromStr;

use candle_core::{DType, Device, Result, Tensor};

use super::attend::{self, compact};
use super::config::DecoderConfig;
use super::engine::EngineOptions;

/// What somebody wants keys and values to be kept in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CacheWish {
    /// In the type that is computed in, but in f16 beside quantised weights: a full cache in f32 is
    /// larger than such weights.
    #[default]
    Auto,
    /// 32 bits a number.
    F32,
    /// 16 bits a number.
    F16,
    /// Keys in 8 bits and values in 4: a third of F16 and a little less. For the processor and f32.
    Compact,
}

/// What keys and values are kept in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheForm {
    /// Floating-point numbers.
    Numbers(DType),
    /// Keys in 8 bits, values in 4, in blocks of 32 with a scale.
    Compact,
}

impl CacheWish {
    /// The words that are written for them, in this order.
    pub const ALL: [CacheWish; 4] =
        [CacheWish::Auto, CacheWish::F32, CacheWish::F16, CacheWish::Compact];

    /// The word that is written for it.
    pub fn as_str(self) -> &'static str {
        match self {
            CacheWish::Auto => "auto",
            CacheWish::F32 => "f32",
            CacheWish::F16 => "f16",
            CacheWish::Compact => "compact",
        }
    }

    /// What is taken for a model that computes in `dtype`, with quantised weights or without.
    pub fn form(self, dtype: DType, is_quantised: bool) -> CacheForm {
        match self {
            CacheWish::Auto if is_quantised && dtype == DType::F32 => {
                CacheForm::Numbers(DType::F16)
            }
            CacheWish::Auto => CacheForm::Numbers(dtype),
            CacheWish::F32 => CacheForm::Numbers(DType::F32),
            CacheWish::F16 => CacheForm::Numbers(DType::F16),
            CacheWish::Compact => CacheForm::Compact,
        }
    }

    /// What is wrong with it for a model that computes in `dtype` on `device`, if anything is.
    pub(crate) fn problem(self, dtype: DType, device: &Device) -> Option<String> {
        let serves = device.is_cpu() && dtype == DType::F32;
        (self == CacheWish::Compact && !serves).then(|| {
            "\"compact\" is for the processor and precision f32; choose \"auto\"".to_owned()
        })
    }
}

impl FromStr for CacheWish {
    type Err = String;

    fn from_str(word: &str) -> std::result::Result<CacheWish, String> {
        let known = CacheWish::ALL.into_iter().find(|wish| wish.as_str() == word);
        known.ok_or_else(|| format!("\"{word}\" is none of auto, f32, f16 and compact"))
    }
}

impl CacheForm {
    /// Bytes of the key and of the value of one position, one head and one layer.
    pub fn head_bytes(self, head_dim: usize) -> usize {
        match self {
            CacheForm::Numbers(dtype) => 2 * head_dim * dtype.size_in_bytes(),
            CacheForm::Compact => compact::key_bytes(head_dim) + compact::value_bytes(head_dim),
        }
    }

    /// The type of a buffer, and the lengths of a key and of a value in it.
    pub(super) fn buffer(self, head_dim: usize) -> (DType, [usize; 2]) {
        match self {
            CacheForm::Numbers(dtype) => (dtype, [head_dim; 2]),
            CacheForm::Compact => {
                (DType::U8, [compact::key_bytes(head_dim), compact::value_bytes(head_dim)])
            }
        }
    }

    /// Keys and values, each (kv_heads, rows, head_dim), as the buffers hold them. A row's bytes
    /// depend on no other row.
    pub(super) fn store(self, keys: &Tensor, values: &Tensor) -> Result<(Tensor, Tensor)> {
        match self {
            CacheForm::Numbers(dtype) => Ok((keys.to_dtype(dtype)?, values.to_dtype(dtype)?)),
            CacheForm::Compact => Ok((compact::keys(keys)?, compact::values(values)?)),
        }
    }
}

/// Bytes that each thread works in for the attention of a prompt of any length; `None` where the
/// tensor library computes it, which keeps all scores.
pub fn attend_scratch_bytes(
    decoder: &DecoderConfig,
    options: &EngineOptions,
    cache: CacheForm,
) -> Option<usize> {
    let group = decoder.heads / decoder.kv_heads.max(1);
    attend::serves(options.dtype, &options.device, cache)
        .then(|| attend::scratch_bytes(group, decoder.head_dim))
}

impl fmt::Display for CacheForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CacheForm::Numbers(dtype) => f.write_str(dtype.as_str()),
            CacheForm::Compact => f.write_str("compact"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_and_written() {
        for wish in CacheWish::ALL {
            assert_eq!(wish.as_str().parse(), Ok(wish));
        }
        let words = "q8".parse::<CacheWish>().unwrap_err();
        assert_eq!(words, "\"q8\" is none of auto, f32, f16 and compact");
    }

    #[test]
    fn auto_is_what_is_computed_in_but_halves_beside_quantised_weights() {
        let form = |dtype, is_quantised| CacheWish::Auto.form(dtype, is_quantised).to_string();
        assert_eq!(form(DType::F32, false), "f32");
        assert_eq!(form(DType::F32, true), "f16");
        assert_eq!(form(DType::BF16, true), "bf16");
    }

    #[test]
    fn a_position_of_the_published_model() {
        // 32 layers of 32 heads of 96 numbers.
        let bytes = |form: CacheForm| 32 * 32 * form.head_bytes(96);
        assert_eq!(bytes(CacheForm::Numbers(DType::F16)), 384 << 10);
        assert_eq!(bytes(CacheForm::Compact), 1024 * 3 * (34 + 20));
    }

    #[test]
    fn compact_is_for_the_processor_and_f32() {
        assert!(CacheWish::Compact.problem(DType::F32, &Device::Cpu).is_none());
        assert!(CacheWish::Compact.problem(DType::BF16, &Device::Cpu).is_some());
        assert!(CacheWish::F16.problem(DType::BF16, &Device::Cpu).is_none());
    }
}
