//! The two files of an adapter, read and checked whole: what comes out of here has no surprise left
//! for the decoder.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors};

use super::super::config::DecoderConfig;
use super::super::digest::Digest;
use super::super::error::LoadError;
use super::super::json_fields::parse_object;
use super::config::AdapterConfig;
use super::{Target, module};

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";

/// Largest configuration accepted, in bytes. PEFT writes about a thousand.
pub(super) const CONFIG_MAX_BYTES: u64 = 1 << 20;

/// Largest weights file accepted, in bytes: rank 64 on every layer of the published model in f32
/// takes 0.4 GB.
const WEIGHTS_MAX_BYTES: u64 = 512 << 20;

/// What PEFT writes before a module's name.
const PREFIX: &str = "base_model.model.";

/// An adapter folder, read and checked as far as that can be done without a model.
pub struct AdapterFiles {
    dir: PathBuf,
    config: AdapterConfig,
    pairs: BTreeMap<Place, Pair>,
    digests: [(String, Digest); 2],
}

/// The matrices beside one layer, row by row.
pub(super) struct Pair {
    pub(super) rank: usize,
    pub(super) inputs: usize,
    pub(super) out: usize,
    pub(super) scale: f64,
    /// (rank, in)
    pub(super) a: Vec<f32>,
    /// (out, rank)
    pub(super) b: Vec<f32>,
}

/// A layer's number and which of its parts.
type Place = (usize, Target);

/// One of a layer's two matrices.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Half {
    A,
    B,
}

/// A matrix as it was found.
struct Matrix {
    rows: usize,
    columns: usize,
    numbers: Vec<f32>,
}

impl AdapterFiles {
    /// Reads `adapter_config.json` and `adapter_model.safetensors` of the folder `dir`.
    ///
    /// # Errors
    /// [`LoadError`], which names the file and the field or tensor: a field that asks for something
    /// else than LoRA, a tensor of a layer that this engine does not adapt, a matrix without its
    /// other half, of another rank than the configuration says, or with a number that is not
    /// finite.
    pub fn open(dir: &Path) -> Result<AdapterFiles, LoadError> {
        let config_path = dir.join(CONFIG);
        let config_bytes = read_bounded(&config_path, CONFIG_MAX_BYTES)?;
        let config =
            AdapterConfig::read(&config_path, &parse_object(&config_path, &config_bytes)?)?;
        let path = dir.join(WEIGHTS);
        let bytes = read_bounded(&path, WEIGHTS_MAX_BYTES)?;
        let digests = [
            (CONFIG.to_owned(), Digest::of(&config_bytes)),
            (WEIGHTS.to_owned(), Digest::of(&bytes)),
        ];
        let mut matrices = read_matrices(&path, &bytes)?;
        drop(bytes);
        let mut pairs = BTreeMap::new();
        let layers: Vec<Place> = matrices.keys().map(|(place, _)| *place).collect();
        for place in layers {
            let (a, b) = (matrices.remove(&(place, Half::A)), matrices.remove(&(place, Half::B)));
            match (a, b) {
                (None, None) => {} // the second key of a pair that is done
                (Some(a), Some(b)) => {
                    let pair = join(&config_path, &path, &config, place, a, b)?;
                    pairs.insert(place, pair);
                }
                (a, _) => {
                    let (here, there) =
                        if a.is_some() { (Half::A, Half::B) } else { (Half::B, Half::A) };
                    let problem = format!("has no {}", tensor_name(place, there));
                    return Err(LoadError::tensor(&path, &tensor_name(place, here), problem));
                }
            }
        }
        if pairs.is_empty() {
            return Err(LoadError::WeightsFile { path, problem: "holds no tensor".to_owned() });
        }
        Ok(AdapterFiles { dir: dir.to_path_buf(), config, pairs, digests })
    }

    /// Checks that every layer that the configuration names is there, no other, and all of the
    /// decoder's shapes.
    ///
    /// # Errors
    /// [`LoadError`], which names the file and the tensor.
    pub fn fit(&self, decoder: &DecoderConfig) -> Result<(), LoadError> {
        let (path, config_path) = (self.dir.join(WEIGHTS), self.dir.join(CONFIG));
        if let Some(place) = self.pairs.keys().find(|(layer, _)| *layer >= decoder.layers) {
            let problem = format!("the model's decoder has {} layers", decoder.layers);
            return Err(LoadError::tensor(&path, &tensor_name(*place, Half::A), problem));
        }
        for place in (0..decoder.layers).flat_map(|layer| Target::ALL.map(|t| (layer, t))) {
            match self.pairs.get(&place) {
                Some(pair) => fit_pair(&path, place, pair, decoder)?,
                None if self.config.is_adapted(&config_path, place.0, place.1)? => {
                    let problem = format!("is missing, though {CONFIG} names its layer");
                    return Err(LoadError::tensor(&path, &tensor_name(place, Half::A), problem));
                }
                None => {}
            }
        }
        Ok(())
    }

    /// The digest of both files.
    pub fn digest(&self) -> Digest {
        Digest::of_files(&self.digests)
    }

    /// The name and the digest of each of the two.
    pub fn digests(&self) -> &[(String, Digest); 2] {
        &self.digests
    }

    /// Memory of all matrices in f32.
    pub fn bytes(&self) -> usize {
        self.pairs.values().map(|pair| 4 * (pair.a.len() + pair.b.len())).sum()
    }

    pub(super) fn pair(&self, layer: usize, target: Target) -> Option<&Pair> {
        self.pairs.get(&(layer, target))
    }
}

/// Puts the halves together and holds them against the configuration.
fn join(
    config_path: &Path,
    path: &Path,
    config: &AdapterConfig,
    place: Place,
    a: Matrix,
    b: Matrix,
) -> Result<Pair, LoadError> {
    let refuse =
        |half, problem: String| Err(LoadError::tensor(path, &tensor_name(place, half), problem));
    if !config.is_adapted(config_path, place.0, place.1)? {
        return refuse(Half::A, format!("{CONFIG} does not name its layer in `target_modules`"));
    }
    let strength = config.strength(config_path, place.0, place.1)?;
    if a.rows != strength.rank {
        let shape = [a.rows, a.columns];
        let problem = format!("has shape {shape:?}, but {CONFIG} says rank {}", strength.rank);
        return refuse(Half::A, problem);
    }
    if b.columns != strength.rank {
        let shape = [b.rows, b.columns];
        let problem = format!("has shape {shape:?}, but {CONFIG} says rank {}", strength.rank);
        return refuse(Half::B, problem);
    }
    Ok(Pair {
        rank: strength.rank,
        inputs: a.columns,
        out: b.rows,
        scale: strength.scale,
        a: a.numbers,
        b: b.numbers,
    })
}

fn fit_pair(
    path: &Path,
    place: Place,
    pair: &Pair,
    decoder: &DecoderConfig,
) -> Result<(), LoadError> {
    let (inputs, out) = place.1.sides(decoder);
    let found = [
        (Half::A, [pair.rank, pair.inputs], [pair.rank, inputs]),
        (Half::B, [pair.out, pair.rank], [out, pair.rank]),
    ];
    for (half, shape, needed) in found {
        if shape != needed {
            let problem = format!("has shape {shape:?}, this model needs {needed:?}");
            return Err(LoadError::tensor(path, &tensor_name(place, half), problem));
        }
    }
    Ok(())
}

/// Reads a whole file of at most `max_bytes`; anything but a file is refused before it is opened,
/// as opening a pipe would wait for a writer.
pub(super) fn read_bounded(path: &Path, max_bytes: u64) -> Result<Vec<u8>, LoadError> {
    let refuse = |source| LoadError::Read { path: path.to_path_buf(), source };
    let wrong = |text: String| refuse(std::io::Error::new(ErrorKind::InvalidData, text));
    let about = std::fs::metadata(path).map_err(refuse)?;
    if !about.is_file() {
        return Err(wrong("it is not a file".to_owned()));
    }
    let mut bytes = Vec::new();
    if about.len() <= max_bytes {
        let file = File::open(path).map_err(refuse)?;
        file.take(max_bytes + 1).read_to_end(&mut bytes).map_err(refuse)?; // it may grow meanwhile
    }
    if about.len().max(bytes.len() as u64) > max_bytes {
        return Err(wrong(format!("it has more than {max_bytes} bytes")));
    }
    Ok(bytes)
}

/// Reads every tensor; one that belongs elsewhere than beside a decoder's layer is refused.
fn read_matrices(path: &Path, bytes: &[u8]) -> Result<BTreeMap<(Place, Half), Matrix>, LoadError> {
    let tensors = SafeTensors::deserialize(bytes).map_err(|why| {
        let why: String = why.to_string().chars().take(200).collect();
        let problem = format!("is not a whole safetensors file: {why}");
        LoadError::WeightsFile { path: path.to_path_buf(), problem }
    })?;
    let mut matrices = BTreeMap::new();
    let mut all = tensors.tensors();
    all.sort_by(|a, b| a.0.cmp(&b.0)); // so that the same file is always refused for the same tensor
    for (name, view) in all {
        let shown = || name.chars().take(200).collect::<String>();
        let Some(place) = parse_name(&name) else {
            return Err(LoadError::tensor(path, &shown(), foreign(&name)));
        };
        let refuse = |problem: String| LoadError::tensor(path, &name, problem);
        let [rows, columns] = *view.shape() else {
            return Err(refuse(format!("has shape {:?}, expected two sides", view.shape())));
        };
        let numbers = read_numbers(view.dtype(), view.data()).ok_or_else(|| {
            refuse(format!("is stored as {:?}; this engine reads F32, F16 and BF16", view.dtype()))
        })?;
        if let Some(at) = numbers.iter().position(|number| !number.is_finite()) {
            let (row, column) = (at / columns, at % columns);
            return Err(refuse(format!("holds {} at [{row}, {column}]", numbers[at])));
        }
        matrices.insert(place, Matrix { rows, columns, numbers });
    }
    Ok(matrices)
}

fn read_numbers(dtype: Dtype, data: &[u8]) -> Option<Vec<f32>> {
    let (quads, pairs) = (data.as_chunks::<4>().0, data.as_chunks::<2>().0);
    match dtype {
        Dtype::F32 => Some(quads.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()),
        Dtype::F16 => Some(pairs.iter().map(|bytes| f16::from_le_bytes(*bytes).to_f32()).collect()),
        Dtype::BF16 => {
            Some(pairs.iter().map(|bytes| bf16::from_le_bytes(*bytes).to_f32()).collect())
        }
        _ => None,
    }
}

/// The tensor's name as PEFT writes it.
fn tensor_name((layer, target): Place, half: Half) -> String {
    let letter = if half == Half::A { "A" } else { "B" };
    format!("{PREFIX}{}.lora_{letter}.weight", module(layer, target))
}

/// The place that a tensor's name speaks of; `None` if it is not one of this engine's.
fn parse_name(name: &str) -> Option<(Place, Half)> {
    let rest = name.strip_prefix(PREFIX)?.strip_prefix("model.layers.")?;
    let (number, rest) = rest.split_once('.')?;
    let layer: usize = number.parse().ok()?;
    let target = Target::ALL.into_iter().find(|target| {
        rest.strip_prefix(target.name()).is_some_and(|rest| rest.starts_with(".lora_"))
    })?;
    let half = match rest.strip_prefix(target.name())? {
        ".lora_A.weight" => Half::A,
        ".lora_B.weight" => Half::B,
        _ => return None,
    };
    let place = ((layer, target), half);
    // "+3" and "03" are numbers too, but not names.
    (tensor_name(place.0, half) == name).then_some(place)
}

/// Why a tensor is none of this engine's, as far as its name tells.
fn foreign(name: &str) -> &'static str {
    if name.contains("vision_embed_tokens") || name.contains("img_processor") {
        return "belongs to the vision tower or projector; this engine adapts the decoder only: \
                train with target_modules = [\"qkv_proj\", \"o_proj\", \"gate_up_proj\", \"down_proj\"]";
    }
    if name.contains("lm_head") || name.contains("embed_tokens") {
        return "belongs to the embedding or the output matrix; this engine adapts the layers only";
    }
    if name.contains("lora_magnitude_vector") {
        return "belongs to DoRA, which this engine does not apply";
    }
    if name.contains(".lora_A.") || name.contains(".lora_B.") {
        return "is not beside a layer of this model; expected names such as \
                base_model.model.model.layers.0.self_attn.qkv_proj.lora_A.weight";
    }
    "is not of a LoRA adapter"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_peft_letter_for_letter() {
        let name = "base_model.model.model.layers.12.mlp.gate_up_proj.lora_B.weight";
        let place = parse_name(name).unwrap();
        assert!(place == ((12, Target::GateUp), Half::B));
        assert_eq!(tensor_name(place.0, place.1), name);
        for wrong in [
            "model.layers.12.mlp.gate_up_proj.lora_B.weight",
            "base_model.model.model.layers.+1.mlp.gate_up_proj.lora_B.weight",
            "base_model.model.model.layers.01.mlp.gate_up_proj.lora_B.weight",
            "base_model.model.model.layers.1.mlp.gate_up_proj.lora_B.default.weight",
            "base_model.model.model.layers.1.mlp.gate_up_proj.lora_B.bias",
            "base_model.model.model.layers.1.mlp.up_proj.lora_B.weight",
            "base_model.model.model.layers.99999999999999999999.mlp.down_proj.lora_B.weight",
        ] {
            assert!(parse_name(wrong).is_none(), "{wrong}");
        }
    }
}
