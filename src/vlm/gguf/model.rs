//! A mapped GGUF file that holds a whole model.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::header::{Header, Problem, TensorInfo};
use super::kind::Kind;
use super::{ARCHITECTURE, FILE_PREFIX, MAGIC, SOURCE_DIGESTS, TENSOR_DIGESTS, names};
use crate::vlm::digest::Digest;
use crate::vlm::error::LoadError;
use crate::vlm::mapped::{MappedBytes, MappedFile};
use crate::vlm::weights::{Stored, wrong_shape};

/// A GGUF file whose header has been checked, mapped into memory.
pub struct GgufModel {
    path: PathBuf,
    name: String,
    map: Arc<MappedFile>,
    header: Header,
    /// Name in the file -> number in `header.tensors`.
    places: HashMap<String, usize>,
}

/// A tensor whose bytes are not those that were written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Its name in the file.
    pub tensor: String,
    /// The SHA-256 that the header gives for it, or what stands in its place.
    pub written: String,
    /// The SHA-256 of its bytes.
    pub found: Digest,
}

impl GgufModel {
    /// Opens and checks `path`.
    ///
    /// # Errors
    /// The file is not GGUF, is truncated or damaged, or is another model than this engine's; the
    /// message says what to do.
    pub fn open(path: &Path) -> Result<GgufModel, LoadError> {
        let refuse = |source| LoadError::Read { path: path.to_path_buf(), source };
        let mut file = File::open(path).map_err(refuse)?;
        let mut magic = [0; 4];
        if file.read_exact(&mut magic).is_err() || magic != MAGIC {
            let problem = "is neither a model folder nor a GGUF file".to_string();
            return Err(LoadError::WeightsFile { path: path.to_path_buf(), problem });
        }
        let map = MappedFile::open(path).map_err(refuse)?;
        let header = Header::read(&map, |header| check_architecture(header, &map));
        let header = header.map_err(|problem| match problem {
            Problem::File(problem) => LoadError::WeightsFile { path: path.to_path_buf(), problem },
            Problem::Tensor(name, problem) => LoadError::tensor(path, &name, problem),
        })?;
        let numbered = header.tensors.iter().enumerate();
        let places = numbered.map(|(number, tensor)| (tensor.name.clone(), number)).collect();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(GgufModel { path: path.to_path_buf(), name, map: Arc::new(map), header, places })
    }

    /// The file's name, without its folder.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The whole file.
    pub(crate) fn file(&self) -> &Arc<MappedFile> {
        &self.map
    }

    /// The tensors, in the order of the file.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.header.tensors
    }

    /// A metadata text; `None` if there is none under this name or it is not UTF-8.
    pub fn text(&self, key: &str) -> Option<&str> {
        std::str::from_utf8(self.header.text(&self.map, key)?).ok()
    }

    /// The text of a file of the model folder that this file was made from.
    pub fn small_file(&self, name: &str) -> Option<&[u8]> {
        self.header.text(&self.map, &format!("{FILE_PREFIX}{name}"))
    }

    /// The names of those files.
    pub fn small_files(&self) -> impl Iterator<Item = &str> {
        self.header.keys().filter_map(|key| key.strip_prefix(FILE_PREFIX))
    }

    /// The SHA-256 of every file that this file was made from, as lines `hex  name`.
    pub fn source_digests(&self) -> &str {
        self.text(SOURCE_DIGESTS).unwrap_or_default()
    }

    /// The tensor that is published as `name`, as it lies in the file. See `ModelFolder::stored`.
    pub(crate) fn stored(&self, name: &str, shape: &[usize]) -> Result<Stored, LoadError> {
        let refuse = |problem: String| LoadError::tensor(&self.path, name, problem);
        let own = names::gguf_name(name)
            .ok_or_else(|| refuse("has no name in a GGUF file".to_string()))?;
        let Some(number) = self.places.get(&own) else {
            return Err(refuse(format!("is missing (its name in this file would be `{own}`)")));
        };
        let tensor = &self.header.tensors[*number];
        // Others may write no sides of length 1 before the first longer one.
        let long = |sides: &[usize]| -> Vec<usize> {
            sides.iter().copied().skip_while(|side| *side == 1).collect()
        };
        if long(&tensor.shape) != long(shape) {
            return Err(refuse(wrong_shape(&tensor.shape, shape)));
        }
        let bytes = MappedBytes::new(Arc::clone(&self.map), tensor.bytes.clone());
        Ok(match (tensor.kind, tensor.kind.dtype()) {
            (Kind::Blocks(format), _) => Stored::Quantised { format, bytes },
            (_, Some(dtype)) => Stored::Dense { dtype, bytes },
            (_, None) => return Err(refuse("is stored in a way without a type".to_string())),
        })
    }

    /// Compares every tensor's bytes with the SHA-256 in the header and names those that differ;
    /// `None` if the header has none. `seen` is called with the bytes of each tensor that was read.
    pub fn damaged_tensors(&self, mut seen: impl FnMut(u64)) -> Option<Vec<Damage>> {
        let mut lines = self.text(TENSOR_DIGESTS)?.lines();
        let mut damaged = Vec::new();
        for tensor in &self.header.tensors {
            let found = Digest::of(&self.map[tensor.bytes.clone()]);
            let line = lines.next().unwrap_or("no digest");
            if line != format!("{found}  {}", tensor.name) {
                let written = line.split("  ").next().unwrap_or_default().to_string();
                damaged.push(Damage { tensor: tensor.name.clone(), written, found });
            }
            seen(tensor.bytes.len() as u64);
        }
        Some(damaged)
    }
}

/// Only whole models of this program's own architecture; the others are told apart, so that the
/// message can say what is missing.
fn check_architecture(header: &Header, file: &[u8]) -> Result<(), Problem> {
    const REMEDY: &str = "make the whole model one file with: inspectd model quantize --model DIR --format q4_k_m \
         --out FILE.gguf, where DIR is the publisher's folder";
    let found = header.text(file, "general.architecture").unwrap_or_default();
    let problem = match found {
        b"phi3v" => return Ok(()),
        b"phi3" => format!(
            "is a phi3 decoder without the vision tower; for this model llama.cpp has no published \
             layout of a projector file (mmproj) to go with it: {REMEDY}"
        ),
        b"clip" => format!(
            "is a vision tower without a decoder (mmproj), a layout that is not published for this \
             model: {REMEDY}"
        ),
        other => {
            let other: String = String::from_utf8_lossy(other).chars().take(40).collect();
            format!(
                "holds a model of architecture {other:?}; this engine runs {ARCHITECTURE:?}: {REMEDY}"
            )
        }
    };
    Err(Problem::File(problem))
}
