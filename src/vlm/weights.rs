//! A model folder on disk: its small JSON files, its memory-mapped weights, and the digest of all
//! of them.
//!
//! Tensors keep their published names letter for letter, so there is no table of renames. The
//! safetensors header is read here, because a refusal must name the tensor, and a header that lies
//! about sizes must not make us allocate.

use std::collections::HashMap;
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use memmap2::Mmap;
use serde_json::{Map, Value};

use super::digest::Digest;
use super::error::LoadError;
use super::json_fields::parse_object;

/// The weights in one file.
const SINGLE: &str = "model.safetensors";
/// The list of tensors and files where there are several.
const INDEX: &str = "model.safetensors.index.json";
/// Largest header accepted, as in the safetensors format's own reader.
const MAX_HEADER: usize = 100_000_000;
/// Largest JSON file accepted. The published tokenizer has 1.8 MB.
const MAX_JSON: u64 = 256 * 1024 * 1024;

/// A model folder whose weights are mapped into memory and whose headers have been checked.
pub struct ModelFolder {
    dir: PathBuf,
    /// The file that lists the tensors: the index, or the only weights file.
    listing: &'static str,
    shards: Vec<Shard>,
    /// Tensor name -> shard. With an index file only what the index lists.
    places: HashMap<String, usize>,
    /// Small files that were read, with their digests.
    read: Vec<(String, Digest)>,
}

/// One mapped safetensors file.
struct Shard {
    name: String,
    path: PathBuf,
    bytes: Mmap,
    /// Where the tensors' bytes begin.
    data_start: usize,
    tensors: HashMap<String, TensorEntry>,
}

/// A checked line of the header: the bytes lie within the file and are as many as shape and type
/// say.
struct TensorEntry {
    dtype: String,
    shape: Vec<usize>,
    begin: usize,
    end: usize,
}

impl ModelFolder {
    /// Opens `dir`, which holds `model.safetensors`, or `model.safetensors.index.json` and the
    /// files it names.
    ///
    /// # Errors
    /// The file that is missing, truncated, not safetensors, or outside the folder.
    pub fn open(dir: &Path) -> Result<ModelFolder, LoadError> {
        let sharded = !dir.join(SINGLE).exists() && dir.join(INDEX).exists();
        let mut folder = ModelFolder {
            dir: dir.to_path_buf(),
            listing: if sharded { INDEX } else { SINGLE },
            shards: Vec::new(),
            places: HashMap::new(),
            read: Vec::new(),
        };
        if sharded {
            folder.open_index()?;
        } else {
            let shard = Shard::open(dir, SINGLE)?;
            folder.places = shard.tensors.keys().map(|name| (name.clone(), 0)).collect();
            folder.shards.push(shard);
        }
        Ok(folder)
    }

    fn open_index(&mut self) -> Result<(), LoadError> {
        let path = self.path(INDEX);
        let index = self.json(INDEX)?;
        let Some(Value::Object(map)) = index.get("weight_map") else {
            return Err(LoadError::field(
                &path,
                "weight_map",
                "expected an object of tensor names and file names",
            ));
        };
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
                    self.shards.push(Shard::open(&self.dir, file)?);
                    numbers.insert(file, self.shards.len() - 1);
                    self.shards.len() - 1
                }
            };
            self.places.insert(tensor.clone(), number);
        }
        Ok(())
    }

    /// Reads a file whole and remembers its digest.
    pub fn bytes(&mut self, name: &str) -> Result<Vec<u8>, LoadError> {
        let path = self.dir.join(name);
        let refuse = |source| LoadError::Read { path: path.clone(), source };
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

    /// The path of a file of this folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The digest of every file that was read, weights included: two folders with one digest are
    /// one model. Takes the time of reading the weights once; call it after the small files have
    /// been read.
    pub fn digest(&self) -> Digest {
        let mut files = self.read.clone();
        files
            .extend(self.shards.iter().map(|shard| (shard.name.clone(), Digest::of(&shard.bytes))));
        Digest::of_files(&files)
    }

    /// The tensor `name` as `dtype` on `device`.
    ///
    /// # Errors
    /// [`LoadError::Tensor`] if it is missing, is not of `shape`, or is stored in a type other than
    /// f32, f16 or bf16.
    pub fn tensor(
        &self,
        name: &str,
        shape: &[usize],
        dtype: DType,
        device: &Device,
    ) -> Result<Tensor, LoadError> {
        let Some(shard) = self.places.get(name).map(|number| &self.shards[*number]) else {
            return Err(LoadError::tensor(&self.path(self.listing), name, "is missing"));
        };
        let Some(entry) = shard.tensors.get(name) else {
            return Err(LoadError::tensor(
                &shard.path,
                name,
                "is missing, though the index says it is here",
            ));
        };
        if entry.shape != shape {
            let problem =
                format!("has shape {:?}, this configuration needs {shape:?}", entry.shape);
            return Err(LoadError::tensor(&shard.path, name, problem));
        }
        let stored = match entry.dtype.as_str() {
            "BF16" => DType::BF16,
            "F16" => DType::F16,
            "F32" => DType::F32,
            other => {
                let problem = format!("is stored as {other}; this engine reads F32, F16 and BF16");
                return Err(LoadError::tensor(&shard.path, name, problem));
            }
        };
        let bytes = &shard.bytes[shard.data_start + entry.begin..shard.data_start + entry.end];
        Ok(Tensor::from_raw_buffer(bytes, stored, shape, device)?.to_dtype(dtype)?)
    }
}

/// Whether `name` can only be a file directly in the folder: no separator, no parent, no drive.
fn is_plain_name(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    matches!((parts.next(), parts.next()), (Some(std::path::Component::Normal(_)), None))
        && !name.contains(['/', '\\'])
}

impl Shard {
    fn open(dir: &Path, name: &str) -> Result<Shard, LoadError> {
        let path = dir.join(name);
        let refuse = |source| LoadError::Read { path: path.clone(), source };
        let file = File::open(&path).map_err(refuse)?;
        // SAFETY: the mapping is read-only and lives as long as the file handle's pages. A file
        // that another program shortens while we read is outside what a mapping can survive; a
        // model folder is installed, not edited.
        let bytes = unsafe { Mmap::map(&file) }.map_err(refuse)?;
        let (data_start, tensors) = read_header(&path, &bytes)?;
        Ok(Shard { name: name.to_string(), path, bytes, data_start, tensors })
    }
}

/// Reads and checks a safetensors header: 8 bytes of length, then JSON `{"name": {"dtype": "BF16",
/// "shape": [2, 3], "data_offsets": [0, 12]}, ...}`, then the tensors' bytes.
fn read_header(
    path: &Path,
    bytes: &[u8],
) -> Result<(usize, HashMap<String, TensorEntry>), LoadError> {
    let refuse = |problem: String| LoadError::WeightsFile { path: path.to_path_buf(), problem };
    let Some(length) = bytes.first_chunk::<8>() else {
        return Err(refuse(format!("{} bytes are too few for a safetensors file", bytes.len())));
    };
    let length = u64::from_le_bytes(*length);
    let header = usize::try_from(length)
        .ok()
        .filter(|length| *length <= MAX_HEADER)
        .and_then(|length| bytes[8..].get(..length))
        .ok_or_else(|| {
            refuse(format!(
                "the header claims {length} bytes, the file has {} (truncated?)",
                bytes.len()
            ))
        })?;
    let map = parse_object(path, header)?;
    let data = bytes.len() - 8 - header.len();
    let entries = map.iter().filter(|(name, _)| *name != "__metadata__");
    let tensors = entries
        .map(|(name, value)| {
            let entry = read_entry(value, data)
                .map_err(|problem| LoadError::tensor(path, name, problem))?;
            Ok((name.clone(), entry))
        })
        .collect::<Result<_, LoadError>>()?;
    Ok((8 + header.len(), tensors))
}

/// Checks one line of the header against the `data` bytes that follow it.
fn read_entry(value: &Value, data: usize) -> Result<TensorEntry, String> {
    let numbers = |name: &str| -> Option<Vec<usize>> {
        value
            .get(name)?
            .as_array()?
            .iter()
            .map(|n| n.as_u64().and_then(|n| usize::try_from(n).ok()))
            .collect()
    };
    let dtype =
        value.get("dtype").and_then(Value::as_str).ok_or("has no dtype in the header")?.to_string();
    let shape = numbers("shape").ok_or("has no shape in the header")?;
    let (begin, end) = match numbers("data_offsets").as_deref() {
        Some([begin, end]) if begin <= end => (*begin, *end),
        _ => return Err("has no valid data_offsets in the header".to_string()),
    };
    if end > data {
        return Err(format!("ends at byte {end} of the data, the file has {data} (truncated?)"));
    }
    let width = match dtype.as_str() {
        "F64" | "I64" | "U64" => 8,
        "F32" | "I32" | "U32" => 4,
        "F16" | "BF16" | "I16" | "U16" => 2,
        "I8" | "U8" | "BOOL" => 1,
        _ => return Ok(TensorEntry { dtype, shape, begin, end }), // refused, by name, when somebody asks for it
    };
    let expected = shape.iter().try_fold(width, |bytes: usize, side| bytes.checked_mul(*side));
    if expected != Some(end - begin) {
        return Err(format!("shape {shape:?} of {dtype} does not make {} bytes", end - begin));
    }
    Ok(TensorEntry { dtype, shape, begin, end })
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

    #[test]
    fn a_header_longer_than_the_file_is_refused_before_it_is_read() {
        let mut bytes = u64::MAX.to_le_bytes().to_vec();
        bytes.extend_from_slice(b"{}");
        let message =
            read_header(Path::new("w"), &bytes).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(message.contains("the header claims 18446744073709551615 bytes"), "{message}");
    }

    #[test]
    fn an_entry_must_lie_within_the_data_and_match_its_shape() {
        let entry = |json: &str| read_entry(&serde_json::from_str(json).unwrap(), 12).err();
        assert_eq!(entry(r#"{"dtype":"BF16","shape":[2,3],"data_offsets":[0,12]}"#), None);
        assert!(
            entry(r#"{"dtype":"BF16","shape":[2,3],"data_offsets":[2,14]}"#)
                .unwrap()
                .contains("truncated")
        );
        assert!(
            entry(r#"{"dtype":"BF16","shape":[2,2],"data_offsets":[0,12]}"#)
                .unwrap()
                .contains("does not make")
        );
        let huge = r#"{"dtype":"F32","shape":[9999999999999,9999999999999],"data_offsets":[0,12]}"#;
        assert!(entry(huge).unwrap().contains("does not make"));
    }
}
