//! A loaded model: weights, tokenizer and numbers, all `&self`. What changes from call to call
//! lives in a `Session`.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use candle_core::{DType, Device, Tensor};

use super::cache_form::{CacheForm, CacheWish};
use super::calibrate::Observer;
use super::config::{self, LongContext, ModelConfig};
use super::decoder::Decoder;
use super::device_memory::{Needs, check_memory};
use super::digest::Digest;
use super::encoded::Encoded;
use super::error::{EngineError, LoadError};
use super::gguf::names::{self, Named};
use super::linear::Loader;
use super::pending_digest::{DigestError, PendingDigest};
use super::picture::Picture;
use super::pixels::{self, TILE, Views};
use super::projector::Projector;
use super::quant::Format;
use super::quantize::Mix;
use super::tokenizer::ChatTokenizer;
use super::vision::Tower;
use super::weights::ModelFolder;

/// How a model is to be loaded and run.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// Where it computes. Default: the CPU.
    pub device: Device,
    /// What it computes in: F32 (default), BF16 or F16. Half precision saves memory and costs
    /// accuracy, and on CPUs speed.
    pub dtype: DType,
    /// What keys and values are kept in. Default [`CacheWish::Auto`].
    pub cache: CacheWish,
    /// Quantise the weights in memory while they are loaded; `None` (default): take them as they
    /// are stored. For comparing formats: a file made by `model quantize` starts faster.
    pub quantise: Option<Mix>,
    /// What happens when a growing text passes the short RoPE factors' length. Default: recompute.
    pub long_context: LongContext,
    /// The digest that the model must have: with another one, no answer of it counts. `None` (default): any.
    pub expected_digest: Option<Digest>,
    /// Most positions a session may hold; `None` (default): as many as the model was made for. A
    /// smaller number bounds the memory of the KV cache.
    pub max_context: Option<usize>,
    /// Rows computed in one pass of the prefill. Default 512: larger ones take more memory for the
    /// scores, smaller ones read all weights more often.
    pub prefill_chunk: usize,
    /// Bytes of picture embeddings a session remembers beyond those in use. Default 64 MiB.
    pub picture_cache_bytes: usize,
    /// Bytes that all adapters together may take. Default 256 MiB; rank 16 on every layer of the
    /// published model takes 100 MB.
    pub adapters_max_bytes: usize,
}

impl Default for EngineOptions {
    fn default() -> EngineOptions {
        EngineOptions {
            device: Device::Cpu,
            dtype: DType::F32,
            cache: CacheWish::Auto,
            quantise: None,
            long_context: LongContext::default(),
            expected_digest: None,
            max_context: None,
            prefill_chunk: 512,
            picture_cache_bytes: 64 << 20,
            adapters_max_bytes: 256 << 20,
        }
    }
}

impl EngineOptions {
    /// Whether an engine can be loaded with them, whatever the model.
    ///
    /// # Errors
    /// [`LoadError::Option`], which names the option.
    pub fn check(&self) -> Result<(), LoadError> {
        let refuse = |option, problem: String| Err(LoadError::Option { option, problem });
        if !matches!(self.dtype, DType::F32 | DType::BF16 | DType::F16) {
            return refuse("dtype", format!("{:?} is none of F32, BF16 and F16", self.dtype));
        }
        if let Some(problem) = self.cache.problem(self.dtype, &self.device) {
            return refuse("cache", problem);
        }
        if self.prefill_chunk == 0 {
            return refuse("prefill_chunk", "must be at least 1 row".to_string());
        }
        if self.max_context == Some(0) {
            return refuse("max_context", "must be at least 1 position".to_string());
        }
        Ok(())
    }
}

/// A loaded model.
pub struct Engine {
    config: ModelConfig,
    options: EngineOptions,
    tokenizer: ChatTokenizer,
    tower: Tower,
    projector: Projector,
    decoder: Decoder,
    digest: PendingDigest,
    id: EngineId,
    context_len: usize,
}

/// Which loaded model something belongs to: each load of a process has its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineId(u64);

impl EngineId {
    fn next() -> EngineId {
        static LOADED: AtomicU64 = AtomicU64::new(0);
        EngineId(LOADED.fetch_add(1, Ordering::Relaxed))
    }
}

/// A picture's way through tower and projector.
pub struct Shown {
    /// (tokens, hidden)
    pub embeddings: Tensor,
    /// Time for resizing, padding and normalising.
    pub preprocess: Duration,
    /// Time in the tower and the projector.
    pub tower: Duration,
}

impl Engine {
    /// Loads the model `dir`, a folder or a GGUF file made of one: `config.json`,
    /// `tokenizer.json`, the weights, and, where they are present, `preprocessor_config.json` and `generation_config.json`.
    ///
    /// # Errors
    /// [`LoadError`], which names the file and the field or tensor.
    pub fn load(dir: &Path, options: &EngineOptions) -> Result<Engine, LoadError> {
        Engine::load_observed(dir, options, None)
    }

    /// The same; `observer` sees the inputs of the decoder's matrices whenever the engine works.
    pub fn load_observed(
        dir: &Path,
        options: &EngineOptions,
        observer: Option<&Observer>,
    ) -> Result<Engine, LoadError> {
        options.check()?;
        let mut folder = ModelFolder::open(dir)?;
        let config = read_config(&mut folder)?;
        let tokenizer_json = folder.bytes("tokenizer.json")?;
        let tokenizer_path = folder.path("tokenizer.json");
        let vocab = config.decoder.vocab;
        let tokenizer =
            ChatTokenizer::load(&tokenizer_path, &tokenizer_json, &config.eos_ids, vocab)?;
        let weights_bytes = folder.device_bytes(options.dtype);
        check_memory(&options.device, &Needs::of(&config.decoder, weights_bytes, options))?;
        // The digest reads every byte of the weights, and so do loading and the first answer: side
        // by side they share the reading.
        let digest = folder.start_digest(options.expected_digest);
        let mut loader = Loader::new(&folder, options.dtype, &options.device);
        loader.formats = formats(&config, options.quantise);
        loader.observer = observer;
        let (tower, projector, decoder) = load_parts(&loader, &config)?;
        // A GPU copies in the order of one thread, and another one may compute.
        options.device.synchronize()?;
        let made_for = config.decoder.max_positions;
        let context_len = options.max_context.map_or(made_for, |most| most.min(made_for));
        Ok(Engine {
            config,
            options: options.clone(),
            tokenizer,
            tower,
            projector,
            decoder,
            digest,
            id: EngineId::next(),
            context_len,
        })
    }

    /// The digest of the model folder: every file that was read, by name and content. Waits until it
    /// is known; a model of some gigabytes takes seconds from its loading on.
    ///
    /// # Errors
    /// [`DigestError`] if a file could not be read to its end, or changed while it was read.
    pub fn digest(&self) -> Result<Digest, DigestError> {
        self.digest.wait()
    }

    /// The same, for those who need it later.
    pub fn pending_digest(&self) -> &PendingDigest {
        &self.digest
    }

    /// Which loaded model this is, for sessions and adapters: needs no digest.
    pub fn id(&self) -> EngineId {
        self.id
    }

    /// The model's numbers.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// How it was loaded.
    pub fn options(&self) -> &EngineOptions {
        &self.options
    }

    /// Most tiles for a picture where the caller has no wish, from `preprocessor_config.json`.
    pub fn default_num_crops(&self) -> usize {
        self.config.image.num_crops
    }

    /// Length of a row of logits. The tokenizer may know fewer ids.
    pub fn vocab_size(&self) -> usize {
        self.config.decoder.vocab
    }

    /// Most positions a session may hold.
    pub fn context_len(&self) -> usize {
        self.context_len
    }

    /// What a session keeps keys and values in.
    pub fn cache_form(&self) -> CacheForm {
        self.options.cache.form(self.options.dtype, self.decoder.is_quantised())
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &ChatTokenizer {
        &self.tokenizer
    }

    /// The vision tower.
    pub fn tower(&self) -> &Tower {
        &self.tower
    }

    /// The projector.
    pub fn projector(&self) -> &Projector {
        &self.projector
    }

    /// The decoder.
    pub fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    /// The bytes that token `id` adds to a text; `None` for control tokens and ids without a token.
    pub fn token_bytes(&self, id: u32) -> Option<&[u8]> {
        self.tokenizer.token_bytes(id)
    }

    /// Ids that end an answer, ascending.
    pub fn stop_ids(&self) -> &[u32] {
        self.tokenizer.stop_ids()
    }

    /// Encodes a prompt (the whole text after the chat template) with its pictures. Computes
    /// nothing but digests.
    ///
    /// # Errors
    /// As [`Encoded::from_prompt`], and [`EngineError::ContextFull`] if the prompt alone is too
    /// long.
    pub fn encode(
        &self,
        prompt: &str,
        pictures: &[Picture<'_>],
        num_crops: usize,
    ) -> Result<Encoded, EngineError> {
        let encoded = Encoded::from_prompt(&self.tokenizer, prompt, pictures, num_crops)?;
        self.check_room(encoded.len(), 0)?;
        Ok(encoded)
    }

    /// Whether a prompt of `prompt_tokens` and an answer of at most `budget` tokens fit together,
    /// before any computation.
    ///
    /// # Errors
    /// [`EngineError::ContextFull`].
    pub fn check_room(&self, prompt_tokens: usize, budget: usize) -> Result<(), EngineError> {
        let needed = prompt_tokens.saturating_add(budget);
        if needed > self.context_len {
            return Err(EngineError::ContextFull { needed, limit: self.context_len });
        }
        Ok(())
    }

    /// The tiles and the global view of a picture.
    pub fn views(&self, picture: &Picture<'_>, num_crops: usize) -> Result<Views, EngineError> {
        pixels::prepare(picture, num_crops, &self.config.image)
    }

    /// Takes a picture through preprocessing, tower and projector.
    pub fn show(&self, picture: &Picture<'_>, num_crops: usize) -> Result<Shown, EngineError> {
        let start = Instant::now();
        let views = self.views(picture, num_crops)?;
        let preprocess = start.elapsed();
        let (global, tiles) = self.features(&views)?;
        let embeddings = self.projector.forward(&global, &tiles, &views.layout)?; // (tokens, hidden)
        Ok(Shown { embeddings, preprocess, tower: start.elapsed() - preprocess })
    }

    /// The tower's features of the global view and of each tile, each (576, width). A picture of
    /// one tile passes once: its global view is that tile, number for number.
    pub fn features(&self, views: &Views) -> Result<(Tensor, Vec<Tensor>), EngineError> {
        let pass = |view: &Vec<f32>| -> Result<Tensor, EngineError> {
            let view = Tensor::from_slice(view, (3, TILE, TILE), &self.options.device)?; // (3, 336, 336)
            Ok(self.tower.forward(&view.to_dtype(self.options.dtype)?)?) // (576, width)
        };
        let tiles = views.tiles.iter().map(pass).collect::<Result<Vec<_>, _>>()?;
        let global = if views.global_is_tile() { tiles[0].clone() } else { pass(&views.global)? };
        Ok((global, tiles))
    }
}

fn load_parts(
    loader: &Loader<'_>,
    config: &ModelConfig,
) -> Result<(Tower, Projector, Decoder), LoadError> {
    let tower = Tower::load(loader, &config.vision)?;
    let projector = Projector::load(loader, config)?;
    Ok((tower, projector, Decoder::load(loader, config)?))
}

/// The block format of each weight that `mix` quantises, by published name.
fn formats(config: &ModelConfig, mix: Option<Mix>) -> HashMap<String, Format> {
    let Some(mix) = mix else { return HashMap::new() };
    let decoder = &config.decoder;
    let of = |tensor: &Named| mix.format(tensor, decoder.layers, decoder.tied);
    names::tensors(config)
        .into_iter()
        .filter_map(|tensor| Some((tensor.published.clone(), of(&tensor)?)))
        .collect()
}

/// Reads the JSON files with the numbers. Only `config.json` must be there.
pub(crate) fn read_config(folder: &mut ModelFolder) -> Result<ModelConfig, LoadError> {
    let map = folder.json("config.json")?;
    let mut config = config::read_model(&folder.path("config.json"), &map)?;
    if let Some(map) = folder.json_if_present("preprocessor_config.json")? {
        config.image = config::read_image(&folder.path("preprocessor_config.json"), &map)?;
    }
    if let Some(map) = folder.json_if_present("generation_config.json")? {
        let ids =
            config::read_eos(&folder.path("generation_config.json"), &map, config.decoder.vocab)?;
        if !ids.is_empty() {
            config.eos_ids = ids;
        }
    }
    Ok(config)
}
