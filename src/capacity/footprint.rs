//! How much memory a loaded model takes, before it is loaded.

use crate::vlm::cache_form::attend_scratch_bytes;
use crate::vlm::config::{DecoderConfig, ModelConfig, VisionConfig};
use crate::vlm::{CacheForm, EngineOptions, ModelCard};

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
    /// Mapped weights that are computed with in place are counted, of the tower one layer, as each
    /// leaves once it is passed; those that were copied out are not counted a second time, as the
    /// system takes their pages back.
    pub fn of(card: &ModelCard, options: &EngineOptions, context: usize) -> Footprint {
        let weights_bytes = card.resident_bytes(options.dtype);
        footprint(weights_bytes, &card.config, options, card.cache_form(options), context)
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
    cache: CacheForm,
    context: usize,
) -> Footprint {
    let width = options.dtype.size_in_bytes() as u64;
    let (decoder, vision) = (&config.decoder, &config.vision);
    let rows = options.prefill_chunk.min(context);
    let computing = (attention_bytes(decoder, rows, context, cache, options)
        + layer_bytes(decoder, rows, width))
    .max(tower_bytes(vision, width));
    let logits = 4 * decoder.vocab as u64 * 3;
    Footprint {
        weights_bytes,
        kv_cache_bytes: kv_cache_bytes(decoder, context, cache),
        working_bytes: computing + logits + options.picture_cache_bytes as u64,
        base_bytes: BASE_BYTES,
    }
}

/// Keys and values of `context` positions kept in `cache`.
pub fn kv_cache_bytes(decoder: &DecoderConfig, context: usize, cache: CacheForm) -> u64 {
    [decoder.layers, decoder.kv_heads, context]
        .into_iter()
        .fold(cache.head_bytes(decoder.head_dim) as u64, |bytes, side| {
            bytes.saturating_mul(side as u64)
        })
}

/// What the attention of `rows` rows to `keys` keys works in: a scratch for each thread, or, where
/// the tensor library computes, the scores in three copies (as computed, masked, after the softmax).
fn attention_bytes(
    decoder: &DecoderConfig,
    rows: usize,
    keys: usize,
    cache: CacheForm,
    options: &EngineOptions,
) -> u64 {
    match attend_scratch_bytes(decoder, options, cache) {
        Some(scratch) => {
            let threads = std::thread::available_parallelism().map_or(1, usize::from);
            (scratch * threads) as u64
        }
        None => 3 * decoder.heads as u64 * rows as u64 * keys as u64 * 4,
    }
}

/// One layer's results for `rows` rows: those of the attention's products or those of the other
/// ones, whichever are more, beside the rows that go in and come out.
fn layer_bytes(decoder: &DecoderConfig, rows: usize, width: u64) -> u64 {
    let DecoderConfig { hidden, heads, kv_heads, head_dim, intermediate, .. } = *decoder;
    // Queries are there as a product's part, rotated, and scaled; keys and values twice; the mixed
    // values once.
    let attention = (4 * heads + 4 * kv_heads) * head_dim;
    let inner = 3 * intermediate;
    (attention.max(inner) + 4 * hidden) as u64 * rows as u64 * width
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
    use candle_core::DType;

    use super::*;

    fn published() -> DecoderConfig {
        DecoderConfig::phi3_vision_128k()
    }

    #[test]
    fn the_published_model_s_cache() {
        // 2 x 32 layers x 32 heads x 96 numbers: 384 KiB a position in 16 bits.
        let halves = CacheForm::Numbers(DType::F16);
        assert_eq!(kv_cache_bytes(&published(), 1, halves), 384 << 10);
        assert_eq!(kv_cache_bytes(&published(), 4096, halves), 1536 << 20);
        assert_eq!(kv_cache_bytes(&published(), 4096, CacheForm::Compact), 648 << 20);
        assert!(kv_cache_bytes(&published(), 1 << 40, halves) > 1 << 50);
    }

    #[test]
    fn more_of_anything_is_never_less_memory() {
        let (decoder, options) = (published(), EngineOptions::default());
        let bf16 = EngineOptions { dtype: DType::BF16, ..EngineOptions::default() };
        let (half, full) = (CacheForm::Numbers(DType::BF16), CacheForm::Numbers(DType::F16));
        let mut last = 0;
        for keys in [1, 512, 4096, 131_072] {
            let bytes = attention_bytes(&decoder, 512, keys, half, &bf16);
            assert!(bytes >= last);
            last = bytes;
            // The processor's own attention works in as much whatever there is to see.
            assert!(attention_bytes(&decoder, 512, keys, full, &options) < 64 << 20);
        }
        assert!(layer_bytes(&decoder, 1024, 4) > layer_bytes(&decoder, 512, 4));
        assert_eq!(layer_bytes(&decoder, 512, 4), 512 * 4 * (8 + 4) * 3072);
    }
}
