//! Whether a model fits into a GPU's memory: reckoned from its numbers before a byte is copied, so
//! that a refusal comes at the start and with figures, not as a failure in the middle of a shift.

use candle_core::Device;

use super::config::DecoderConfig;
use super::device;
use super::engine::EngineOptions;
use super::error::LoadError;

/// What a model takes on a device, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Needs {
    weights_bytes: u64,
    cache_bytes: u64,
    working_bytes: u64,
    /// Positions that `cache_bytes` holds.
    positions: usize,
}

/// Positions of the cache that are reckoned with where the configuration sets no bound: one
/// ordinary question. The cache grows beyond them only as questions do.
const ORDINARY_POSITIONS: usize = 4096;

/// What the libraries take beside the tensors of a pass.
const LIBRARIES_BYTES: u64 = 256 << 20;

impl Needs {
    /// Weights of `weights_bytes`; a cache of the options' positions; the scores of a pass of
    /// `prefill_chunk` rows, which are its largest tensors: as they are, masked, and in f32.
    pub(crate) fn of(
        decoder: &DecoderConfig,
        weights_bytes: u64,
        options: &EngineOptions,
    ) -> Needs {
        let EngineOptions { dtype, max_context, prefill_chunk: chunk, .. } = *options;
        let positions = max_context.unwrap_or(ORDINARY_POSITIONS).min(decoder.max_positions);
        // On a GPU the weights' form does not change the cache's.
        let head_bytes = options.cache.form(dtype, false).head_bytes(decoder.head_dim);
        let row = (decoder.layers * decoder.kv_heads * head_bytes) as u64;
        let rows = chunk.min(positions) as u64;
        let scores = rows.saturating_mul(positions as u64) * decoder.heads as u64 * 4;
        Needs {
            weights_bytes,
            cache_bytes: row.saturating_mul(positions as u64),
            working_bytes: scores.saturating_mul(3).saturating_add(LIBRARIES_BYTES),
            positions,
        }
    }

    fn total_bytes(&self) -> u64 {
        self.weights_bytes.saturating_add(self.cache_bytes).saturating_add(self.working_bytes)
    }

    /// Refuses what does not fit into `free_bytes` of a device's memory.
    fn check(&self, free_bytes: u64, total_bytes: u64) -> Result<(), LoadError> {
        if self.total_bytes() <= free_bytes {
            return Ok(());
        }
        let problem = format!(
            "the model needs {} GB (weights {}, cache of {} positions {}, working memory {}), of the GPU's {} GB are {} free; \
             choose a smaller max_context or a quantised model, end what else uses the GPU, or choose \"cpu\"",
            gb(self.total_bytes()),
            gb(self.weights_bytes),
            self.positions,
            gb(self.cache_bytes),
            gb(self.working_bytes),
            gb(total_bytes),
            gb(free_bytes),
        );
        Err(LoadError::Option { option: "device", problem })
    }
}

fn gb(bytes: u64) -> String {
    format!("{:.2}", bytes as f64 / 1e9)
}

/// Refuses a model that does not fit into the device's free memory. The CPU is not asked.
pub(crate) fn check_memory(device: &Device, needs: &Needs) -> Result<(), LoadError> {
    match device::memory(device)? {
        Some((free, total)) => needs.check(free, total),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vlm::weights::ModelFolder;
    use candle_core::DType;

    #[test]
    fn what_does_not_fit_is_refused_with_the_figures() {
        let published = DecoderConfig::phi3_vision_128k();
        let weights_bytes = 2 * 4_146_621_440;
        let bf16 = EngineOptions { dtype: DType::BF16, ..EngineOptions::default() };
        let needs = Needs::of(&published, weights_bytes, &bf16);
        assert_eq!(needs.cache_bytes, 4096 * 393_216); // 32 layers, keys and values of 3072 numbers of 2 bytes
        assert!(needs.check(16_000_000_000, 16_000_000_000).is_ok());
        assert!(needs.check(needs.total_bytes(), u64::MAX).is_ok());
        let message = needs.check(7_100_000_000, 8_000_000_000).unwrap_err().to_string();
        assert!(message.contains("weights 8.29, cache of 4096 positions 1.61"), "{message}");
        assert!(message.contains("of the GPU's 8.00 GB are 7.10 free"), "{message}");
        let bounded = EngineOptions { max_context: Some(1024), ..bf16 };
        let short = Needs::of(&published, weights_bytes, &bounded);
        assert_eq!(short.cache_bytes, 1024 * 393_216);
        assert!(short.working_bytes < needs.working_bytes);
    }

    #[test]
    fn the_weights_of_a_folder_are_counted_in_the_type_they_become() {
        let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny_gqa");
        let folder = ModelFolder::open(&dir).unwrap();
        let file = std::fs::metadata(dir.join("model.safetensors")).unwrap().len();
        let (half, whole) = (folder.device_bytes(DType::BF16), folder.device_bytes(DType::F32));
        assert!(half < file && half > file - 65_536, "{half} of a file of {file} bytes"); // stored in bf16
        assert_eq!(whole, 2 * half);
    }
}
