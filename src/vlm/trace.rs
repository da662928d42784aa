//! The tensors of one prompt in a file, for comparison with what the published code computed.
//!
//! Written as safetensors: `input_ids` (T) i32 with picture k as -k; `pixel_values` (pictures,
//! num_crops + 1, 3, 336, 336), global view first, unused tiles zero; `image_embeds` (image tokens,
//! hidden); `logits_last` (vocab); `steps_logits` (steps, vocab), whose first row is `logits_last`;
//! `greedy` (steps) i32. All numbers f32. The two picture tensors are left out where there is no
//! picture.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use candle_core::{DType, Tensor};
use safetensors::tensor::{Dtype, View};

use super::config::LongContext;
use super::device::{self, DeviceWish, Precision};
use super::digest::Digest;
use super::encoded::Encoded;
use super::engine::{Engine, EngineOptions};
use super::error::{EngineError, LoadError};
use super::lora::Adapter;
use super::pending_digest::DigestError;
use super::picture::Picture;
use super::pixels::{TILE, TILE_LEN};
use super::session::Session;

/// What to trace.
#[derive(Clone, Debug)]
pub struct TraceOptions {
    /// The model folder.
    pub model: PathBuf,
    /// An adapter's folder; `None`: the model alone.
    pub adapter: Option<PathBuf>,
    /// Where the prompt comes from.
    pub prompt: TracePrompt,
    /// Picture files, in the order of their tags.
    pub images: Vec<PathBuf>,
    /// Most tiles for a picture; `None`: as the model folder says.
    pub num_crops: Option<usize>,
    /// Greedy steps, at least 1.
    pub steps: usize,
    /// Whether to go on after an end token.
    pub ignore_eos: bool,
    /// What happens past the short RoPE factors' length. Use `Keep` to compare with the stored
    /// tensors: they come from the Phi-3-vision revision, which does that; inspection itself uses
    /// `Reprefill`.
    pub long_context: LongContext,
    /// Where to compute.
    pub device: DeviceWish,
    /// What to compute in. The stored tensors are compared tightly with F32 alone.
    pub precision: Precision,
    /// The file to write.
    pub out: PathBuf,
}

/// Where a prompt comes from.
#[derive(Clone, Debug)]
pub enum TracePrompt {
    /// A file with the whole text after the chat template.
    PromptFile(PathBuf),
    /// A file with ids, one a line or as a JSON list; picture k as -k.
    IdsFile(PathBuf),
}

/// What a trace found.
#[derive(Clone, Debug)]
pub struct TraceSummary {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Those of them that are pictures.
    pub image_tokens: usize,
    /// The ids chosen.
    pub greedy: Vec<u32>,
    /// Their text.
    pub text: String,
    /// Digest of the model folder.
    pub model: Digest,
    /// Digest of the adapter, if there was one.
    pub adapter: Option<Digest>,
    /// Device and number type, in words.
    pub computed_on: String,
    /// Why it was not computed on a GPU, if that was hoped for.
    pub fallback: Option<String>,
    /// Time to load the model.
    pub load: Duration,
    /// Time for resizing and normalising.
    pub preprocess: Duration,
    /// Time in tower and projector.
    pub tower: Duration,
    /// Time for the prompt in the decoder.
    pub prefill: Duration,
    /// Time for the steps after the first.
    pub decode: Duration,
}

/// Why a trace could not be made.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The model folder was refused.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The model's files cannot be hashed.
    #[error(transparent)]
    Digest(#[from] DigestError),
    /// The model refused the prompt or a picture.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A file could not be read.
    #[error("cannot read {}: {problem}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The reason.
        problem: String,
    },
    /// The result could not be written.
    #[error("cannot write {}: {problem}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The reason.
        problem: String,
    },
}

impl TraceOptions {
    /// What the engine is loaded with, and why not on a GPU, if that was hoped for.
    ///
    /// # Errors
    /// A device that is not there.
    pub fn engine_options(&self) -> Result<(EngineOptions, Option<String>), LoadError> {
        let placement = device::find(self.device)?;
        let options = EngineOptions {
            long_context: self.long_context,
            dtype: self.precision.dtype(&placement.device),
            device: placement.device,
            ..EngineOptions::default()
        };
        Ok((options, placement.fallback))
    }
}

/// A decoded picture file.
struct Decoded {
    width: u32,
    height: u32,
    rgb: Vec<u8>,
}

/// Runs a prompt and greedy steps and writes the tensors.
///
/// # Errors
/// [`TraceError`], naming the file or what the model refused.
pub fn trace(options: &TraceOptions) -> Result<TraceSummary, TraceError> {
    let start = Instant::now();
    let (engine_options, fallback) = options.engine_options()?;
    let engine = Engine::load(&options.model, &engine_options)?;
    let load_adapter = |dir: &PathBuf| Adapter::load(dir, &engine).map(Arc::new);
    let adapter = options.adapter.as_ref().map(load_adapter).transpose()?;
    let load = start.elapsed();

    let files = options.images.iter().map(|path| decode(path)).collect::<Result<Vec<_>, _>>()?;
    let pictures = files
        .iter()
        .map(|file| Picture::new(file.width, file.height, &file.rgb))
        .collect::<Result<Vec<_>, _>>()?;
    let num_crops = options.num_crops.unwrap_or(engine.default_num_crops());
    let encoded = read_prompt(&engine, &options.prompt, &pictures, num_crops)?;
    engine.check_room(encoded.len(), options.steps)?;

    let mut tensors = Vec::new();
    tensors.push(Entry::ids("input_ids", &encoded.ids));
    if !pictures.is_empty() {
        tensors.push(pixel_values(&engine, &pictures, num_crops)?);
    }
    let mut session = Session::new(&engine);
    session.adapt(adapter.as_ref())?;
    let pass = session.prompt(&engine, &encoded, &pictures)?;
    if !pictures.is_empty() {
        tensors.push(image_embeds(&session, &encoded)?);
    }
    tensors.push(Entry::floats("logits_last", vec![pass.logits.len()], &pass.logits));

    let start = Instant::now();
    let (greedy, logits) = run_greedy(&engine, &mut session, pass.logits, options)?;
    let decode = start.elapsed();
    tensors.push(Entry::floats("steps_logits", vec![greedy.len(), engine.vocab_size()], &logits));
    let as_i32: Vec<i32> = greedy.iter().map(|id| *id as i32).collect();
    tensors.push(Entry::ids("greedy", &as_i32));
    write(&options.out, tensors)?;

    Ok(TraceSummary {
        prompt_tokens: encoded.len(),
        image_tokens: encoded.total_image_tokens(),
        text: engine.tokenizer().decode(&greedy)?,
        greedy,
        model: engine.digest()?,
        adapter: adapter.map(|adapter| adapter.digest()),
        computed_on: device::describe(&engine.options().device, engine.options().dtype),
        fallback,
        load,
        preprocess: pass.preprocess,
        tower: pass.tower,
        prefill: pass.prefill,
        decode,
    })
}

/// Takes the largest logit `steps` times. Returns the ids and their rows of logits, one after the
/// other.
fn run_greedy(
    engine: &Engine,
    session: &mut Session,
    first: Vec<f32>,
    options: &TraceOptions,
) -> Result<(Vec<u32>, Vec<f32>), TraceError> {
    let (mut ids, mut rows, mut logits) = (Vec::new(), Vec::new(), first);
    loop {
        let id = largest(&logits);
        ids.push(id);
        rows.extend(logits);
        let ended = !options.ignore_eos && engine.stop_ids().contains(&id);
        if ids.len() >= options.steps || ended {
            return Ok((ids, rows));
        }
        logits = session.append_last(engine, &[id])?;
    }
}

/// The first of the largest.
fn largest(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (id, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = id;
        }
    }
    best as u32
}

fn read_prompt(
    engine: &Engine,
    prompt: &TracePrompt,
    pictures: &[Picture<'_>],
    num_crops: usize,
) -> Result<Encoded, TraceError> {
    let read = |path: &Path| {
        let refuse = |e: std::io::Error| TraceError::Read {
            path: path.to_path_buf(),
            problem: e.to_string(),
        };
        std::fs::read_to_string(path).map_err(refuse)
    };
    match prompt {
        TracePrompt::PromptFile(path) => Ok(engine.encode(&read(path)?, pictures, num_crops)?),
        TracePrompt::IdsFile(path) => {
            let refuse = |problem: String| TraceError::Read { path: path.clone(), problem };
            let ids = parse_ids(&read(path)?).map_err(refuse)?;
            Ok(Encoded::from_ids(ids, pictures, num_crops, engine.vocab_size())?)
        }
    }
}

/// Ids as a JSON list, or one a line.
fn parse_ids(text: &str) -> Result<Vec<i32>, String> {
    if text.trim_start().starts_with('[') {
        return serde_json::from_str(text).map_err(|e| format!("not a list of ids: {e}"));
    }
    let number = |word: &str| word.parse().map_err(|_| format!("{word:?} is not an id"));
    text.split_whitespace().map(number).collect()
}

/// Decodes a picture file: alpha dropped, grey replicated, palette expanded, no rotation.
fn decode(path: &Path) -> Result<Decoded, TraceError> {
    let refuse = |problem: String| TraceError::Read { path: path.to_path_buf(), problem };
    let reader = image::ImageReader::open(path).map_err(|e| refuse(e.to_string()))?;
    let reader = reader.with_guessed_format().map_err(|e| refuse(e.to_string()))?;
    let rgb = reader.decode().map_err(|e| refuse(e.to_string()))?.to_rgb8();
    Ok(Decoded { width: rgb.width(), height: rgb.height(), rgb: rgb.into_raw() })
}

fn pixel_values(
    engine: &Engine,
    pictures: &[Picture<'_>],
    num_crops: usize,
) -> Result<Entry, TraceError> {
    let mut numbers = Vec::new();
    for picture in pictures {
        let views = engine.views(picture, num_crops)?;
        numbers.extend_from_slice(&views.global);
        views.tiles.iter().for_each(|tile| numbers.extend_from_slice(tile));
        let unused = num_crops - views.tiles.len();
        numbers.resize(numbers.len() + unused * TILE_LEN, 0.0);
    }
    let shape = vec![pictures.len(), num_crops + 1, 3, TILE, TILE];
    Ok(Entry::floats("pixel_values", shape, &numbers))
}

fn image_embeds(session: &Session, encoded: &Encoded) -> Result<Entry, TraceError> {
    let remembered = |digest: &Digest| session.picture_embeddings(*digest, encoded.num_crops);
    let parts: Vec<&Tensor> = encoded.pictures.iter().filter_map(remembered).collect();
    let all = Tensor::cat(&parts, 0)
        .and_then(|all| all.to_dtype(DType::F32))
        .map_err(EngineError::from)?; // (N, hidden)
    let numbers =
        all.flatten_all().and_then(|flat| flat.to_vec1::<f32>()).map_err(EngineError::from)?;
    Ok(Entry::floats("image_embeds", all.dims().to_vec(), &numbers))
}

/// A tensor to write.
struct Entry {
    name: &'static str,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Entry {
    fn floats(name: &'static str, shape: Vec<usize>, numbers: &[f32]) -> Entry {
        let bytes = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        Entry { name, dtype: Dtype::F32, shape, bytes }
    }

    fn ids(name: &'static str, ids: &[i32]) -> Entry {
        let bytes = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
        Entry { name, dtype: Dtype::I32, shape: vec![ids.len()], bytes }
    }
}

impl View for Entry {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> std::borrow::Cow<'_, [u8]> {
        std::borrow::Cow::Borrowed(&self.bytes)
    }

    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

fn write(path: &Path, entries: Vec<Entry>) -> Result<(), TraceError> {
    let named = entries.into_iter().map(|entry| (entry.name, entry));
    let refuse = |e: safetensors::SafeTensorError| TraceError::Write {
        path: path.to_path_buf(),
        problem: e.to_string(),
    };
    safetensors::serialize_to_file(named, None, path).map_err(refuse)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_come_as_lines_or_as_a_list() {
        assert_eq!(parse_ids("1\n-1\n 5 "), Ok(vec![1, -1, 5]));
        assert_eq!(parse_ids(" [1, -1, 5]"), Ok(vec![1, -1, 5]));
        assert_eq!(parse_ids("1 x"), Err("\"x\" is not an id".to_string()));
    }

    #[test]
    fn the_first_of_the_largest_is_taken() {
        assert_eq!(largest(&[1.0, 3.0, 3.0, 2.0]), 1);
    }
}
