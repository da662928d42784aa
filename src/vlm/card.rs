//! What a model is, read without its weights: sizes, files, tokenizer, licence.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use candle_core::DType;

use super::cache_form::CacheForm;
use super::config::ModelConfig;
use super::engine::{EngineOptions, read_config};
use super::error::LoadError;
use super::model_files;
use super::tokenizer::ChatTokenizer;
use super::weights::ModelFolder;

/// Most of a licence or README that is looked at, in bytes.
const LICENCE_MAX_BYTES: u64 = 64 << 10;

/// What a model is, as far as its small files and the headers of its weights tell.
pub struct ModelCard {
    /// Where it is.
    pub path: PathBuf,
    /// Its numbers.
    pub config: ModelConfig,
    /// Its tokenizer; `None` if the folder has none, and then it cannot be loaded.
    pub tokenizer: Option<ChatTokenizer>,
    /// The files that loading it reads, ascending by name.
    pub files: Vec<CardFile>,
    /// Stored type -> numbers stored so. Keys as the files name them: `BF16`, `q4_k`.
    pub stored: BTreeMap<String, u64>,
    /// Numbers that become floating-point ones when the model is loaded.
    dense: u64,
    /// Bytes of the weights that are computed with where they lie.
    in_place_bytes: u64,
    /// Of these, bytes of the tower and the projector, which leave memory once they are passed.
    passing_bytes: u64,
    /// The most of those that are in memory at a time.
    passing_at_once_bytes: u64,
    /// What it says of its licence.
    pub licence: Option<String>,
}

/// One file of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CardFile {
    /// Its name.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// When it was last written, in nanoseconds since 1970; 0 if the system does not say.
    pub modified_ns: u64,
}

impl ModelCard {
    /// Reads the card of the model at `path`. No weights are read, only their headers.
    ///
    /// # Errors
    /// As [`Engine::load`](super::Engine::load), as far as it looks at the same things.
    pub fn open(path: &Path) -> Result<ModelCard, LoadError> {
        let mut folder = ModelFolder::open(path)?;
        let config = read_config(&mut folder)?;
        let tokenizer = match folder.bytes("tokenizer.json") {
            Err(LoadError::Read { source, .. }) if source.kind() == ErrorKind::NotFound => None,
            Err(other) => return Err(other),
            Ok(json) => {
                let (eos, vocab) = (&config.eos_ids, config.decoder.vocab);
                Some(ChatTokenizer::load(&folder.path("tokenizer.json"), &json, eos, vocab)?)
            }
        };
        let mut stored = BTreeMap::new();
        let (mut dense, mut in_place_bytes) = (0, 0);
        let mut passing: BTreeMap<String, u64> = BTreeMap::new();
        for tensor in folder.tensors() {
            match tensor.in_place_bytes {
                Some(bytes) => {
                    in_place_bytes += bytes;
                    if let Some(part) = passed(&tensor.name) {
                        *passing.entry(part.to_owned()).or_default() += bytes;
                    }
                }
                None => dense += tensor.numbers,
            }
            *stored.entry(tensor.kind).or_default() += tensor.numbers;
        }
        let mut names = model_files::read_for_loading(path)?;
        if tokenizer.is_none() && path.is_dir() {
            names.remove("tokenizer.json");
        }
        let files = names.iter().map(|name| about(path, name)).collect::<Result<_, _>>()?;
        let told = folder.gguf().map(|model| model.text("general.license").map(str::to_owned));
        let licence = told.unwrap_or_else(|| licence(path));
        let path = path.to_owned();
        Ok(ModelCard {
            path,
            config,
            tokenizer,
            files,
            stored,
            dense,
            in_place_bytes,
            passing_bytes: passing.values().sum(),
            passing_at_once_bytes: passing.into_values().max().unwrap_or(0),
            licence,
        })
    }

    /// Numbers in all tensors.
    pub fn parameters(&self) -> u64 {
        self.stored.values().sum()
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// Bytes that the weights take in memory when the engine computes in `dtype`. Those in blocks are
    /// used where they are mapped, and are wanted in memory all the same.
    pub fn loaded_bytes(&self, dtype: DType) -> u64 {
        self.in_place_bytes + self.dense * dtype.size_in_bytes() as u64
    }

    /// The most of [`ModelCard::loaded_bytes`] that is wanted in memory at a time: of the tower and
    /// the projector, where they are mapped, one part.
    pub fn resident_bytes(&self, dtype: DType) -> u64 {
        self.loaded_bytes(dtype) - self.passing_bytes + self.passing_at_once_bytes
    }

    /// What keys and values are kept in with these options, as
    /// [`Engine::cache_form`](super::Engine::cache_form) says of the loaded model.
    pub fn cache_form(&self, options: &EngineOptions) -> CacheForm {
        options.cache.form(options.dtype, self.in_place_bytes > 0 || options.quantise.is_some())
    }

    /// What tells this installation from another without reading it through: each file's name,
    /// length and time. For finding again what was measured here, not for trust.
    pub fn stamp(&self) -> String {
        let lines =
            self.files.iter().map(|f| format!("{} {} {}\n", f.name, f.bytes, f.modified_ns));
        super::Digest::of(lines.collect::<String>().as_bytes()).to_string()
    }
}

/// The part of the tower or the projector that the tensor `name` belongs to: a layer, or all of the
/// projector. What lies in neither stays in memory.
fn passed(name: &str) -> Option<&str> {
    let rest = name.strip_prefix("model.vision_embed_tokens.")?;
    match rest.split_once(".layers.") {
        Some((_, layer)) => layer.split('.').next(),
        None => rest.starts_with("img_projection.").then_some("projector"),
    }
}

fn about(dir: &Path, name: &str) -> Result<CardFile, LoadError> {
    let path = if dir.is_file() { dir.to_owned() } else { dir.join(name) };
    let about = std::fs::metadata(&path).map_err(|source| LoadError::Read { path, source })?;
    let modified = about.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    Ok(CardFile {
        name: name.to_owned(),
        bytes: about.len(),
        modified_ns: modified.map_or(0, |since| since.as_nanos() as u64),
    })
}

/// The first words of a LICENSE file, or the `license:` of a README's head.
fn licence(dir: &Path) -> Option<String> {
    let text = |name: &str| {
        let mut text = Vec::new();
        let file = std::fs::File::open(dir.join(name)).ok()?;
        file.take(LICENCE_MAX_BYTES).read_to_end(&mut text).ok()?;
        Some(String::from_utf8_lossy(&text).into_owned())
    };
    let short = |words: &str| {
        let words: String = words.trim().chars().filter(|c| !c.is_control()).take(80).collect();
        (!words.is_empty()).then_some(words)
    };
    let file =
        ["LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE"].iter().find_map(|name| text(name));
    let first = file.and_then(|text| text.lines().find_map(short));
    first.or_else(|| {
        let head = text("README.md")?;
        let body = head.strip_prefix("---")?;
        body.split("---").next()?.lines().find_map(|line| short(line.strip_prefix("license:")?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leaves_memory_is_told_by_layers() {
        let tower = "model.vision_embed_tokens.img_processor.vision_model";
        let layer = format!("{tower}.encoder.layers.11.mlp.fc1.weight");
        assert_eq!(passed(&layer), Some("11"));
        assert_eq!(passed("model.vision_embed_tokens.img_projection.0.weight"), Some("projector"));
        assert_eq!(passed(&format!("{tower}.embeddings.class_embedding")), None);
        assert_eq!(passed("model.layers.11.mlp.down_proj.weight"), None);
    }

    #[test]
    fn the_small_model_s_card() -> Result<(), LoadError> {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/builtin");
        let card = ModelCard::open(&dir)?;
        assert!(card.tokenizer.is_some());
        assert_eq!(card.stored.len(), 1);
        assert!(card.parameters() > 1_000_000);
        assert_eq!(card.loaded_bytes(DType::F32), 4 * card.parameters());
        assert_eq!(
            card.resident_bytes(DType::F32),
            card.loaded_bytes(DType::F32),
            "none is mapped"
        );
        let names: Vec<&str> = card.files.iter().map(|file| file.name.as_str()).collect();
        assert!(names.contains(&"model.safetensors") && names.contains(&"config.json"));
        Ok(())
    }
}
