//! How much work a stage is: operations and bytes, from the model's shapes alone.
//!
//! Counted are the matrix products, those of the attention included, a multiply-add as two
//! operations, and only what the result needs: of a triangle of scores that is computed as a square,
//! the triangle. Norms, softmax, activations and the rotary turn are left out: below one percent of
//! the full model. Bytes are those of the weights, once for each pass, and of the keys and values
//! that a pass reads.

use crate::vlm::CacheForm;
use crate::vlm::config::{DecoderConfig, VisionConfig};

/// Patches of a view.
const PATCHES: u64 = 576;
/// Rows of the tower: the patches and the class token.
const TOWER_ROWS: u64 = PATCHES + 1;
/// Numbers of a patch: 14 x 14 pixels of three colours.
const PATCH_LEN: u64 = 3 * 14 * 14;

/// What one run of a stage computes and reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Operations; a multiply-add counts as two.
    pub flop: u64,
    /// Bytes of weights, keys and values; `None` where they are not known.
    pub bytes: Option<u64>,
}

/// Operations of one view of 336 px through the tower.
pub fn view_flop(vision: &VisionConfig) -> u64 {
    let (width, inner) = (vision.hidden as u64, vision.intermediate as u64);
    let products = 2 * TOWER_ROWS * (4 * width * width + 2 * width * inner);
    let attention = 2 * 2 * TOWER_ROWS * TOWER_ROWS * width; // scores, and what they mix
    2 * PATCHES * PATCH_LEN * width + vision.used_layers as u64 * (products + attention)
}

/// Operations of a picture of `tokens` through the projector.
pub fn projector_flop(vision: &VisionConfig, decoder: &DecoderConfig, tokens: usize) -> u64 {
    let (merged, hidden) = (4 * vision.hidden as u64, decoder.hidden as u64);
    2 * tokens as u64 * (merged * hidden + hidden * hidden)
}

/// Operations of `rows` positions after `held` ones through the decoder's layers, without logits.
pub fn layers_flop(decoder: &DecoderConfig, held: usize, rows: usize) -> u64 {
    let heads = (decoder.heads * decoder.head_dim) as u64;
    let attention = 2 * 2 * heads * seen(decoder, held, rows);
    decoder.layers as u64 * (2 * rows as u64 * layer_weights(decoder) + attention)
}

/// Operations of the logits of `rows` positions.
pub fn logits_flop(decoder: &DecoderConfig, rows: usize) -> u64 {
    2 * rows as u64 * (decoder.vocab * decoder.hidden) as u64
}

/// Bytes of keys and values that `rows` positions after `held` ones read in one pass, kept in `form`.
pub fn cache_bytes(decoder: &DecoderConfig, held: usize, rows: usize, form: CacheForm) -> u64 {
    let first = decoder.sliding_window.map_or(0, |window| held.saturating_sub(window));
    let keys = (held + rows - first) as u64;
    let a_position = decoder.layers * decoder.kv_heads * form.head_bytes(decoder.head_dim);
    keys * a_position as u64
}

/// Weights of the products of one layer.
fn layer_weights(decoder: &DecoderConfig) -> u64 {
    let DecoderConfig { hidden, heads, kv_heads, head_dim, intermediate, .. } = *decoder;
    ((2 * heads + 2 * kv_heads) * head_dim * hidden + 3 * hidden * intermediate) as u64
}

/// Pairs of a position and a key that it sees: itself, and what came before within the window.
fn seen(decoder: &DecoderConfig, held: usize, rows: usize) -> u64 {
    let most = decoder.sliding_window.map_or(u64::MAX, |window| window as u64 + 1);
    (held..held + rows).map(|position| (position as u64 + 1).min(most)).sum()
}

#[cfg(test)]
mod tests {
    use candle_core::DType;

    use super::*;

    const F16: CacheForm = CacheForm::Numbers(DType::F16);
    const F32: CacheForm = CacheForm::Numbers(DType::F32);

    fn published() -> DecoderConfig {
        DecoderConfig::phi3_vision_128k()
    }

    /// A figure in units of a thousand million, to three digits.
    fn giga(flop: u64) -> f64 {
        (flop as f64 / 1e6).round() / 1e3
    }

    #[test]
    fn a_view_of_the_published_tower() {
        let published = VisionConfig::clip_vit_large_336();
        // By hand, a layer: 577 x (4 x 1024² + 2 x 1024 x 4096) x 2 and 4 x 577² x 1024.
        assert_eq!(giga(view_flop(&published)), 366.034);
        // Over all 24 layers: what others count.
        let all = VisionConfig { used_layers: 24, ..published };
        assert_eq!((view_flop(&all) as f64 / 1e9).round(), 382.0);
    }

    #[test]
    fn a_token_of_the_published_decoder() {
        let decoder = published();
        // 7.25 GFLOP a token in the layers, at a short distance.
        assert_eq!(giga(layers_flop(&decoder, 0, 1)), 7.248);
        assert_eq!(giga(logits_flop(&decoder, 1)), 0.197);
        // One picture of 313 tokens and 150 of text: 3.4 TFLOP.
        let prompt = layers_flop(&decoder, 0, 463);
        assert_eq!((prompt as f64 / 1e11).round(), 34.0);
        // 384 KiB a position in 16 bits.
        assert_eq!(cache_bytes(&decoder, 0, 1, F16), 384 << 10);
        assert_eq!(cache_bytes(&decoder, 4095, 1, F16), 1536 << 20);
    }

    #[test]
    fn a_picture_of_one_tile_in_the_projector() {
        // 313 x (4096 x 3072 + 3072²) x 2.
        assert_eq!(
            giga(projector_flop(&VisionConfig::clip_vit_large_336(), &published(), 313)),
            13.785
        );
    }

    #[test]
    fn positions_add_up_however_they_are_divided() {
        for window in [None, Some(1), Some(5), Some(100)] {
            let decoder = DecoderConfig { sliding_window: window, ..published() };
            let whole = layers_flop(&decoder, 3, 20);
            for split in 0..=20 {
                let parts =
                    layers_flop(&decoder, 3, split) + layers_flop(&decoder, 3 + split, 20 - split);
                assert_eq!(parts, whole, "{window:?} {split}");
            }
        }
    }

    #[test]
    fn a_window_bounds_what_is_seen_and_read() {
        let decoder = DecoderConfig { sliding_window: Some(2), ..published() };
        assert_eq!(seen(&decoder, 0, 5), 1 + 2 + 3 + 3 + 3);
        assert_eq!(seen(&published(), 0, 5), 15);
        assert_eq!(seen(&published(), 7, 0), 0);
        let one = cache_bytes(&published(), 0, 1, F32);
        assert_eq!(cache_bytes(&decoder, 10, 1, F32), 3 * one, "two before it, and itself");
        assert_eq!(cache_bytes(&published(), 10, 1, F32), 11 * one);
    }

    #[test]
    fn heads_that_share_keys_have_fewer_weights_and_a_smaller_cache() {
        let shared = DecoderConfig { kv_heads: 8, ..published() };
        let saved = layer_weights(&published()) - layer_weights(&shared);
        assert_eq!(saved, 2 * 24 * 96 * 3072);
        assert_eq!(4 * cache_bytes(&shared, 0, 9, F16), cache_bytes(&published(), 0, 9, F16));
    }
}
