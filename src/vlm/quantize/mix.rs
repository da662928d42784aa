//! Which format each tensor gets: the mixes that llama.cpp makes under the same names.
//!
//! Where this differs from llama.cpp: a matrix whose rows are not whole blocks of 256 becomes Q8_0
//! (there Q5_0 or Q5_1 for the smaller formats), and one whose rows are not whole blocks of 32 F16.
//! Tower and projector are Q8_0 in every mix: they are a fourteenth of the model, and every word
//! that it says rests on them.

use std::str::FromStr;

use crate::vlm::gguf::Kind;
use crate::vlm::gguf::names::{Named, Role};
use crate::vlm::quant::Format;

/// A mix of formats, by its usual name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Mix {
    /// Every matrix in 8 bits: as exact as 16 bits for all that is known, at half the size.
    Q8_0,
    /// Every decoder matrix in 6 bits.
    Q6K,
    /// Mostly 5 bits; 6 where it counts most.
    Q5KM,
    /// Mostly 4 bits; 5 and 6 where it counts most.
    Q4KM,
}

/// All mixes, the largest first.
pub const MIXES: [Mix; 4] = [Mix::Q8_0, Mix::Q6K, Mix::Q5KM, Mix::Q4KM];

impl Mix {
    /// The name that people write.
    pub const fn name(self) -> &'static str {
        match self {
            Mix::Q8_0 => "q8_0",
            Mix::Q6K => "q6_k",
            Mix::Q5KM => "q5_k_m",
            Mix::Q4KM => "q4_k_m",
        }
    }

    /// The number for `general.file_type`.
    pub(super) const fn file_type(self) -> u32 {
        match self {
            Mix::Q8_0 => 7,
            Mix::Q6K => 18,
            Mix::Q5KM => 17,
            Mix::Q4KM => 15,
        }
    }

    /// How `tensor` is stored, in a decoder of `layers` layers; `tied` if the embedding table is
    /// the head, too.
    pub fn kind(self, tensor: &Named, layers: usize, tied: bool) -> Kind {
        let Some(format) = self.format(tensor, layers, tied) else {
            return if tensor.role == Role::Convolution { Kind::F16 } else { Kind::F32 };
        };
        let columns = tensor.shape.last().copied().unwrap_or_default();
        [format, Format::Q8_0]
            .into_iter()
            .find(|format| columns.is_multiple_of(format.block_len()))
            .map_or(Kind::F16, Kind::Blocks)
    }

    /// The block format that `tensor` is to have, whatever the length of its rows; `None` if it
    /// stays as numbers.
    pub fn format(self, tensor: &Named, layers: usize, tied: bool) -> Option<Format> {
        let (most, more) = match self {
            Mix::Q8_0 => (Format::Q8_0, Format::Q8_0),
            Mix::Q6K => (Format::Q6K, Format::Q6K),
            Mix::Q5KM => (Format::Q5K, Format::Q6K),
            Mix::Q4KM => (Format::Q4K, Format::Q6K),
        };
        Some(match tensor.role {
            Role::Exact | Role::Convolution => return None,
            Role::Eye => Format::Q8_0,
            Role::Head => more,
            Role::Embedding if tied => more,
            Role::Qkv if self == Mix::Q4KM => Format::Q5K,
            Role::Qkv => more,
            Role::FeedDown if tensor.layer.is_some_and(|layer| gets_more_bits(layer, layers)) => {
                more
            }
            Role::Embedding | Role::AttentionOut | Role::FeedUp | Role::FeedDown => most,
        })
    }
}

/// The first and the last eighth of the layers, and every third between.
fn gets_more_bits(layer: usize, layers: usize) -> bool {
    layer < layers / 8 || layer >= 7 * layers / 8 || (layer - layers / 8) % 3 == 2
}

impl FromStr for Mix {
    type Err = String;

    /// Reads a name, in capitals or not.
    fn from_str(text: &str) -> Result<Mix, String> {
        MIXES.into_iter().find(|mix| mix.name().eq_ignore_ascii_case(text)).ok_or_else(|| {
            let names = MIXES.map(Mix::name).join(", ");
            format!("{text:?} is no format this program makes; it makes {names}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vlm::gguf::names::{published_sizes, tensors};

    #[test]
    fn half_of_the_layers_get_more_bits() {
        let more: Vec<usize> = (0..32).filter(|layer| gets_more_bits(*layer, 32)).collect();
        assert_eq!(more, [0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31]);
        assert!(gets_more_bits(2, 3) && gets_more_bits(0, 0));
    }

    #[test]
    fn the_mix_of_the_published_model_is_llama_cpp_s() {
        let config = published_sizes();
        let all = tensors(&config);
        let kind = |mix: Mix, name: &str| {
            let tensor = all.iter().find(|tensor| tensor.gguf == name).unwrap();
            mix.kind(tensor, 32, false).name()
        };
        let rows = [
            ("token_embd.weight", ["q8_0", "q6_k", "q5_k", "q4_k"]),
            ("output.weight", ["q8_0", "q6_k", "q6_k", "q6_k"]),
            ("blk.7.attn_qkv.weight", ["q8_0", "q6_k", "q6_k", "q5_k"]),
            ("blk.7.attn_output.weight", ["q8_0", "q6_k", "q5_k", "q4_k"]),
            ("blk.7.ffn_up.weight", ["q8_0", "q6_k", "q5_k", "q4_k"]),
            ("blk.7.ffn_down.weight", ["q8_0", "q6_k", "q5_k", "q4_k"]),
            ("blk.6.ffn_down.weight", ["q8_0", "q6_k", "q6_k", "q6_k"]),
            ("blk.7.attn_norm.weight", ["f32"; 4]),
            ("v.blk.7.ffn_down.weight", ["q8_0"; 4]),
            ("v.patch_embd.weight", ["f16"; 4]),
            ("mm.0.weight", ["q8_0"; 4]),
            ("mm.sub_GN", ["f32"; 4]),
        ];
        for (name, kinds) in rows {
            assert_eq!(MIXES.map(|mix| kind(mix, name)), kinds, "{name}");
        }
    }

    #[test]
    fn a_tied_table_is_stored_as_the_head_it_is() {
        let mut config = published_sizes();
        config.decoder.tied = true;
        let table = &tensors(&config)[0];
        assert_eq!(Mix::Q4KM.kind(table, 32, true).name(), "q6_k");
        assert_eq!(Mix::Q4KM.kind(table, 32, false).name(), "q4_k");
    }

    #[test]
    fn rows_that_are_not_whole_blocks_take_what_fits() {
        let mut config = published_sizes();
        config.decoder.intermediate = 96;
        let all = tensors(&config);
        let down = all.iter().find(|tensor| tensor.gguf == "blk.0.ffn_down.weight").unwrap();
        assert_eq!(Mix::Q4KM.kind(down, 32, false).name(), "q8_0");
        config.decoder.intermediate = 100;
        let all = tensors(&config);
        let down = all.iter().find(|tensor| tensor.gguf == "blk.0.ffn_down.weight").unwrap();
        assert_eq!(Mix::Q8_0.kind(down, 32, false).name(), "f16");
    }

    #[test]
    fn names_are_read_in_any_case() {
        assert_eq!("Q4_K_M".parse(), Ok(Mix::Q4KM));
        assert!("q3_k".parse::<Mix>().unwrap_err().contains("q8_0, q6_k, q5_k_m, q4_k_m"));
    }
}
