//! How much memory a loaded model takes, before it is loaded.

use candle_core::DType;

use crate::vlm::config::{DecoderConfig, ModelConfig, VisionConfig};
use crate::vlm::{EngineOptions, ModelCard};

/// What the program takes without any model: its own pages, tokenizer, grammars, camera buffers.
const BASE_BYTES: u64 = 160 << 20;

/// Rows of the tower: 576 patches and the class token.
const TOWER_ROWS: u64 = 577;

/// Bytes of memory, by what they are for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Footprint {
    /// The weights, in the form in which they are computed with.
    pub weights_bytes: u64,
    /// Keys and values of every position.
    pub kv_cache_bytes: u64,
    /// The largest intermediate results at one time, and remembered pictures.
    pub working_bytes: u64,
    /// The program itself.
    pub base_bytes: u64,
}

impl Footprint {
    /// All of it.
    pub fn total_bytes(&self) -> u64 {
        let parts = [self.weights_bytes, self.kv_cache_bytes, self.working_bytes, self.base_bytes];
        parts.into_iter().fold(0, u64::saturating_add)
    }

    /// The model of `card`, loaded with `options`, with at most `context` positions in its cache.
    /// Mapped weights that are computed with in place are counted; those that were copied out are
    /// not counted a second time, as the system takes their pages back.
    pub fn of(card: &ModelCard, options: &EngineOptions, context: usize) -> Footprint {
        let weights_bytes = card.loaded_bytes(options.dtype);
        footprint(weights_bytes, &card.config, options, card.cache_dtype(options), context)
    }

    /// The parts in words, for an error.
    pub fn in_words(&self) -> String {
        format!(
            "weights {}, KV cache {}, working memory {}, program {}",
            mib(self.weights_bytes),
            mib(self.kv_cache_bytes),
            mib(self.working_bytes),
            mib(self.base_bytes)
        )
    }
}

/// Memory of `weights_bytes` of weights with these numbers and options, and `context` positions kept
/// in `cache`.
pub fn footprint(
    weights_bytes: u64,
    config: &ModelConfig,
    options: &EngineOptions,
    cache: DType,
    context: usize,
) -> Footprint {
    let width = options.dtype.size_in_bytes() as u64;
    let (decoder, vision) = (&config.decoder, &config.vision);
    let computing = decoder_bytes(decoder, options.prefill_chunk.min(context), context, width)
        .max(tower_bytes(vision, width));
    let logits = 4 * decoder.vocab as u64 * 3;
    Footprint {
        weights_bytes,
        kv_cache_bytes: kv_cache_bytes(decoder, context, cache.size_in_bytes() as u64),
        working_bytes: computing + logits + options.picture_cache_bytes as u64,
        base_bytes: BASE_BYTES,
    }
}

/// Keys and values of `context` positions in numbers of `width` bytes.
pub fn kv_cache_bytes(decoder: &DecoderConfig, context: usize, width: u64) -> u64 {
    [2, decoder.layers, decoder.kv_heads, decoder.head_dim, context]
        .into_iter()
        .fold(width, |bytes, side| bytes.saturating_mul(side as u64))
}

/// One layer's results for `rows` rows that look at `keys` keys: the scores in three copies (as
/// computed, masked, after the softmax), beside the rows of the widest products.
fn decoder_bytes(decoder: &DecoderConfig, rows: usize, keys: usize, width: u64) -> u64 {
    let (rows, keys) = (rows as u64, keys as u64);
    let scores = 3 * decoder.heads as u64 * rows * keys * 4;
    let wide = (3 * decoder.intermediate + 8 * decoder.hidden) as u64 * rows * width;
    scores.max(wide) + 4 * rows * decoder.hidden as u64 * width
}

/// One layer of the tower, and the tower's input.
fn tower_bytes(vision: &VisionConfig, width: u64) -> u64 {
    let scores = 3 * vision.heads as u64 * TOWER_ROWS * TOWER_ROWS * 4;
    let wide = (3 * vision.intermediate + 8 * vision.hidden) as u64 * TOWER_ROWS * width;
    scores.max(wide) + 4 * TOWER_ROWS * vision.hidden as u64 * width
}

/// Bytes as MiB or GiB for people.
pub fn mib(bytes: u64) -> String {
    match bytes >> 20 {
        small @ 0..10_240 => format!("{small} MiB"),
        _ => format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn published() -> DecoderConfig {
        DecoderConfig::phi3_vision_128k()
    }

    #[test]
    fn the_published_model_s_cache() {
        // 2 x 32 layers x 32 heads x 96 numbers: 384 KiB a position in 16 bits.
        assert_eq!(kv_cache_bytes(&published(), 1, 2), 384 << 10);
        assert_eq!(kv_cache_bytes(&published(), 4096, 2), 1536 << 20);
        assert!(kv_cache_bytes(&published(), 1 << 40, 4) > 1 << 50);
    }

    #[test]
    fn more_of_anything_is_never_less_memory() {
        let decoder = published();
        let mut last = 0;
        for keys in [1, 512, 4096, 131_072] {
            let bytes = decoder_bytes(&decoder, 512, keys, 4);
            assert!(bytes >= last);
            last = bytes;
        }
        assert!(decoder_bytes(&decoder, 1024, 4096, 4) > decoder_bytes(&decoder, 512, 4096, 4));
    }
}
