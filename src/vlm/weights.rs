//! A model on disk: its small JSON files, its memory-mapped weights, and the digest of all of them.
//!
//! It is a folder as the publisher lays it out (JSON files and safetensors), or one GGUF file that
//! this program made of such a folder. Callers ask both by the same names: the folder's file names
//! and the published names of the tensors.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::quantized::{QStorage, QTensor};
use candle_core::{DType, Device, Tensor};
use serde_json::{Map, Value};

use super::digest::Digest;
use super::error::LoadError;
use super::gguf::{GgufModel, Kind, TensorInfo};
use super::json_fields::parse_object;
use super::mapped::MappedBytes;
use super::model_files::{INDEX, SINGLE};
use super::pending_digest::{Hashed, PendingDigest};
use super::quant::Format;
use super::safetensors::Shard;

/// Largest JSON file accepted. The published tokenizer has 1.8 MB.
const MAX_JSON: u64 = 256 * 1024 * 1024;

/// A model whose weights are mapped into memory and whose headers have been checked.
pub struct ModelFolder {
    /// The folder, or the GGUF file.
    path: PathBuf,
    store: Store,
    /// Small files that were read, with their digests.
    read: Vec<(String, Digest)>,
}

enum Store {
    Folder(Shards),
    Gguf(GgufModel),
}

/// The safetensors files of a folder.
struct Shards {
    /// The file that lists the tensors: the index, or the only weights file.
    listing: &'static str,
    shards: Vec<Shard>,
    /// Tensor name -> shard. With an index file only what the index lists.
    places: HashMap<String, usize>,
}

/// A tensor as it lies in its file.
#[derive(Clone)]
pub enum Stored {
    /// Floating-point numbers, one by one, little endian.
    Dense {
        /// F32, F16 or BF16.
        dtype: DType,
        /// The numbers, row by row.
        bytes: MappedBytes,
    },
    /// Blocks of small integers.
    Quantised {
        /// How a block becomes numbers.
        format: Format,
        /// The blocks, row by row.
        bytes: MappedBytes,
    },
}

/// How much of a model one tensor is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSize {
    /// Its published name.
    pub name: String,
    /// How it is stored: `BF16`, `q4_k`.
    pub kind: String,
    /// Numbers in it.
    pub numbers: u64,
    /// Bytes of a tensor in blocks, which is computed with where it lies; `None` for one that becomes
    /// floating-point numbers when it is loaded.
    pub in_place_bytes: Option<u64>,
}

/// Where a dense tensor's bytes lie, for those who read the file instead of the mapping.
#[derive(Clone, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) file: &'a Path,
    pub(crate) offset_bytes: u64,
    pub(crate) dtype: DType,
}

impl ModelFolder {
    /// Opens `path`: a folder with `model.safetensors`, or with `model.safetensors.index.json` and
    /// the files it names; or a GGUF file made by this program.
    ///
    /// # Errors
    /// The file that is missing, truncated, of another format or model, or outside the folder.
    pub fn open(path: &Path) -> Result<ModelFolder, LoadError> {
        let mut folder = ModelFolder {
            path: path.to_path_buf(),
            store: Store::Folder(Shards {
                listing: SINGLE,
                shards: Vec::new(),
                places: HashMap::new(),
            }),
            read: Vec::new(),
        };
        if path.is_file() {
            folder.store = Store::Gguf(GgufModel::open(path)?);
        } else if !path.join(SINGLE).exists() && path.join(INDEX).exists() {
            let index = folder.json(INDEX)?;
            folder.store = Store::Folder(Shards::open_index(path, &index)?);
        } else {
            folder.store = Store::Folder(Shards::open_single(path)?);
        }
        Ok(folder)
    }

    /// Reads a small file whole and remembers its digest. In a GGUF file it is a text of the
    /// header.
    pub fn bytes(&mut self, name: &str) -> Result<Vec<u8>, LoadError> {
        let path = self.path(name);
        let refuse = |source| LoadError::Read { path: path.clone(), source };
        if let Store::Gguf(model) = &self.store {
            return model.small_file(name).map(<[u8]>::to_vec).ok_or_else(|| {
                refuse(std::io::Error::new(ErrorKind::NotFound, "the file holds no such text"))
            });
        }
        let size = std::fs::metadata(&path).map_err(refuse)?.len();
        if size > MAX_JSON {
            return Err(refuse(std::io::Error::new(
                ErrorKind::InvalidData,
                format!("{size} bytes are too many"),
            )));
        }
        let bytes = std::fs::read(&path).map_err(refuse)?;
        self.read.push((name.to_string(), Digest::of(&bytes)));
        Ok(bytes)
    }

    /// Reads a JSON object.
    pub fn json(&mut self, name: &str) -> Result<Map<String, Value>, LoadError> {
        let bytes = self.bytes(name)?;
        parse_object(&self.path(name), &bytes)
    }

    /// Reads a JSON object; `None` if there is no such file.
    pub fn json_if_present(&mut self, name: &str) -> Result<Option<Map<String, Value>>, LoadError> {
        match self.json(name) {
            Err(LoadError::Read { source, .. }) if source.kind() == ErrorKind::NotFound => Ok(None),
            other => other.map(Some),
        }
    }

    /// What is stored for each tensor, in no order.
    pub fn tensors(&self) -> Vec<TensorSize> {
        let numbers = |shape: &[usize]| shape.iter().map(|side| *side as u64).product();
        match &self.store {
            Store::Folder(folder) => {
                let entry = |(name, shard): (&String, &usize)| {
                    let entry = folder.shards.get(*shard)?.tensors.get(name)?;
                    let kind = entry.dtype.clone();
                    let (name, numbers) = (name.clone(), numbers(&entry.shape));
                    Some(TensorSize { name, kind, numbers, in_place_bytes: None })
                };
                folder.places.iter().filter_map(entry).collect()
            }
            Store::Gguf(model) => {
                let one = |tensor: &TensorInfo| TensorSize {
                    name: tensor.name.clone(),
                    kind: tensor.kind.name().to_owned(),
                    numbers: numbers(&tensor.shape),
                    in_place_bytes: matches!(tensor.kind, Kind::Blocks(_))
                        .then_some(tensor.bytes.len() as u64),
                };
                model.tensors().iter().map(one).collect()
            }
        }
    }

    /// The path of a small file, for messages: a file of the folder, or `FILE.gguf:name`.
    pub fn path(&self, name: &str) -> PathBuf {
        match &self.store {
            Store::Folder(_) => self.path.join(name),
            Store::Gguf(_) => PathBuf::from(format!("{}:{name}", self.path.display())),
        }
    }

    /// The GGUF file, if the model is one.
    pub fn gguf(&self) -> Option<&GgufModel> {
        match &self.store {
            Store::Folder(_) => None,
            Store::Gguf(model) => Some(model),
        }
    }

    /// Begins to compute the digest of every file that was read, weights included: two folders with
    /// one digest are one model. Of a GGUF file it is the file's own SHA-256, whatever its name. Call
    /// it after the small files have been read. Another digest than `expected` is an error.
    pub(crate) fn start_digest(&self, expected: Option<Digest>) -> PendingDigest {
        let hashed = match &self.store {
            Store::Gguf(model) => Hashed {
                files: vec![(model.name().to_string(), Arc::clone(model.file()))],
                known: None,
            },
            Store::Folder(folder) => {
                let weights = |shard: &Shard| (shard.name.clone(), Arc::clone(&shard.bytes));
                let files = folder.shards.iter().map(weights).collect();
                Hashed { files, known: Some(self.read.clone()) }
            }
        };
        PendingDigest::start(hashed, expected)
    }

    /// The names of all tensors, in no order: published ones of a folder, the file's own of a GGUF
    /// file.
    pub fn tensor_names(&self) -> Vec<String> {
        match &self.store {
            Store::Folder(folder) => folder.places.keys().cloned().collect(),
            Store::Gguf(model) => {
                model.tensors().iter().map(|tensor| tensor.name.clone()).collect()
            }
        }
    }

    /// The names of the weights files in a folder, in the order in which they were opened.
    pub(crate) fn weights_files(&self) -> Vec<String> {
        match &self.store {
            Store::Folder(folder) => {
                let mut names: Vec<String> =
                    folder.shards.iter().map(|shard| shard.name.clone()).collect();
                if folder.listing == INDEX {
                    names.push(INDEX.to_string());
                }
                names
            }
            Store::Gguf(model) => vec![model.name().to_string()],
        }
    }

    /// Tells the system that mapped pages may leave memory; they are read anew when touched again.
    pub(crate) fn release(&self) {
        match &self.store {
            Store::Folder(folder) => folder.shards.iter().for_each(|shard| shard.bytes.release()),
            Store::Gguf(model) => model.file().release(),
        }
    }

    /// Bytes that the weights take on a GPU: blocks as they are stored, numbers as `dtype`.
    pub(crate) fn device_bytes(&self, dtype: DType) -> u64 {
        let numbers = |shape: &[usize]| {
            let count: u64 = shape.iter().map(|side| *side as u64).product();
            count.saturating_mul(dtype.size_in_bytes() as u64)
        };
        match &self.store {
            Store::Folder(folder) => {
                let entry = |(name, at): (&String, &usize)| folder.shards[*at].tensors.get(name);
                let entries = folder.places.iter().filter_map(entry);
                entries.map(|entry| numbers(&entry.shape)).fold(0, u64::saturating_add)
            }
            Store::Gguf(model) => {
                let one = |tensor: &TensorInfo| match tensor.kind {
                    Kind::Blocks(_) => tensor.bytes.len() as u64,
                    _ => numbers(&tensor.shape),
                };
                model.tensors().iter().map(one).fold(0, u64::saturating_add)
            }
        }
    }

    /// The tensor that is published as `name`, as it lies in its file.
    ///
    /// # Errors
    /// [`LoadError::Tensor`] if it is missing, is not of `shape`, or is stored in a type that this
    /// engine does not read.
    pub fn stored(&self, name: &str, shape: &[usize]) -> Result<Stored, LoadError> {
        match &self.store {
            Store::Gguf(model) => model.stored(name, shape),
            Store::Folder(folder) => {
                let (shard, range, dtype) = folder.find(&self.path, name, shape)?;
                let bytes = MappedBytes::new(Arc::clone(&shard.bytes), range);
                Ok(Stored::Dense { dtype, bytes })
            }
        }
    }

    /// Where the tensor `name` of a folder lies; `None` in a GGUF file.
    pub(crate) fn place(
        &self,
        name: &str,
        shape: &[usize],
    ) -> Result<Option<Place<'_>>, LoadError> {
        let Store::Folder(folder) = &self.store else { return Ok(None) };
        let (shard, range, dtype) = folder.find(&self.path, name, shape)?;
        Ok(Some(Place { file: &shard.path, offset_bytes: range.start as u64, dtype }))
    }

    /// The tensor `name` as `dtype` on `device`; one that is stored in blocks becomes numbers.
    ///
    /// # Errors
    /// As [`ModelFolder::stored`].
    pub fn tensor(
        &self,
        name: &str,
        shape: &[usize],
        dtype: DType,
        device: &Device,
    ) -> Result<Tensor, LoadError> {
        let tensor = match self.stored(name, shape)? {
            Stored::Dense { dtype, bytes } => {
                Tensor::from_raw_buffer(&bytes, dtype, shape, device)?
            }
            Stored::Quantised { format, bytes } => {
                let blocks = QStorage::from_data((&*bytes).into(), &Device::Cpu, format.ggml())?;
                QTensor::new(blocks, shape)?.dequantize(device)?
            }
        };
        Ok(tensor.to_dtype(dtype)?)
    }
}

impl Shards {
    fn open_single(dir: &Path) -> Result<Shards, LoadError> {
        let shard = Shard::open(dir, SINGLE)?;
        let places = shard.tensors.keys().map(|name| (name.clone(), 0)).collect();
        Ok(Shards { listing: SINGLE, shards: vec![shard], places })
    }

    fn open_index(dir: &Path, index: &Map<String, Value>) -> Result<Shards, LoadError> {
        let path = dir.join(INDEX);
        let Some(Value::Object(map)) = index.get("weight_map") else {
            return Err(LoadError::field(
                &path,
                "weight_map",
                "expected an object of tensor names and file names",
            ));
        };
        let mut opened = Shards { listing: INDEX, shards: Vec::new(), places: HashMap::new() };
        let mut numbers: HashMap<&str, usize> = HashMap::new();
        for (tensor, file) in map {
            let file = file.as_str().filter(|name| is_plain_name(name)).ok_or_else(|| {
                LoadError::tensor(
                    &path,
                    tensor,
                    format!("{file} is not the name of a file in this folder"),
                )
            })?;
            let number = match numbers.get(file) {
                Some(number) => *number,
                None => {
                    opened.shards.push(Shard::open(dir, file)?);
                    numbers.insert(file, opened.shards.len() - 1);
                    opened.shards.len() - 1
                }
            };
            opened.places.insert(tensor.clone(), number);
        }
        Ok(opened)
    }

    /// The file that holds the tensor `name`, where in it, and as what.
    fn find(
        &self,
        dir: &Path,
        name: &str,
        shape: &[usize],
    ) -> Result<(&Shard, Range<usize>, DType), LoadError> {
        let Some(shard) = self.places.get(name).map(|number| &self.shards[*number]) else {
            return Err(LoadError::tensor(&dir.join(self.listing), name, "is missing"));
        };
        let refuse = |problem: String| LoadError::tensor(&shard.path, name, problem);
        let Some(entry) = shard.tensors.get(name) else {
            return Err(refuse("is missing, though the index says it is here".to_string()));
        };
        if entry.shape != shape {
            return Err(refuse(wrong_shape(&entry.shape, shape)));
        }
        let dtype = match entry.dtype.as_str() {
            "BF16" => DType::BF16,
            "F16" => DType::F16,
            "F32" => DType::F32,
            other => {
                return Err(refuse(format!(
                    "is stored as {other}; this engine reads F32, F16 and BF16"
                )));
            }
        };
        let range = shard.data_start + entry.begin..shard.data_start + entry.end;
        Ok((shard, range, dtype))
    }
}

impl Stored {
    /// How the numbers are stored.
    pub fn kind(&self) -> Kind {
        match self {
            Stored::Dense { dtype: DType::F32, .. } => Kind::F32,
            Stored::Dense { dtype: DType::F16, .. } => Kind::F16,
            Stored::Dense { .. } => Kind::Bf16,
            Stored::Quantised { format, .. } => Kind::Blocks(*format),
        }
    }
}

/// The message for a tensor whose sides are not those of the configuration.
pub(crate) fn wrong_shape(found: &[usize], needed: &[usize]) -> String {
    format!("has shape {found:?}, this configuration needs {needed:?}")
}

/// Whether `name` can only be a file directly in the folder: no separator, no parent, no drive.
pub fn is_plain_name(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    matches!((parts.next(), parts.next()), (Some(std::path::Component::Normal(_)), None))
        && !name.contains(['/', '\\'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_leave_the_folder_are_not_plain() {
        for name in ["../a", "/etc/passwd", "a/b", "a\\b", "..", ".", "", "a/"] {
            assert!(!is_plain_name(name), "{name}");
        }
        assert!(is_plain_name("model-00001-of-00002.safetensors"));
    }
}
