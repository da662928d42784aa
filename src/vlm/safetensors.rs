//! One safetensors file: mapped, with its header read and checked.
//!
//! The header is read here, because a refusal must name the tensor, and a header that lies about
//! sizes must not make us allocate.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use super::error::LoadError;
use super::json_fields::parse_object;
use super::mapped::MappedFile;

/// Largest header accepted, as in the safetensors format's own reader.
const MAX_HEADER: usize = 100_000_000;

/// One mapped safetensors file.
pub(crate) struct Shard {
    /// Its name in the folder.
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    pub(crate) bytes: Arc<MappedFile>,
    /// Where the tensors' bytes begin.
    pub(crate) data_start: usize,
    pub(crate) tensors: HashMap<String, TensorEntry>,
}

/// A checked line of the header: the bytes lie within the file and are as many as shape and type
/// say.
pub(crate) struct TensorEntry {
    pub(crate) dtype: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) begin: usize,
    pub(crate) end: usize,
}

impl Shard {
    /// Maps the file `name` of `dir` and checks its header.
    pub(crate) fn open(dir: &Path, name: &str) -> Result<Shard, LoadError> {
        let path = dir.join(name);
        let refuse = |source| LoadError::Read { path: path.clone(), source };
        let bytes = MappedFile::open(&path).map_err(refuse)?;
        let (data_start, tensors) = read_header(&path, &bytes)?;
        let bytes = Arc::new(bytes);
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
    let refuse = || format!("shape {shape:?} of {dtype} does not make {} bytes", end - begin);
    // Whatever they are stored as, somebody will want to count them.
    let numbers = shape.iter().try_fold(1, |count: usize, side| count.checked_mul(*side));
    let numbers = numbers.ok_or_else(refuse)?;
    let width = match dtype.as_str() {
        "F64" | "I64" | "U64" => 8,
        "F32" | "I32" | "U32" => 4,
        "F16" | "BF16" | "I16" | "U16" => 2,
        "I8" | "U8" | "BOOL" => 1,
        _ => return Ok(TensorEntry { dtype, shape, begin, end }), // refused, by name, when somebody asks for it
    };
    if numbers.checked_mul(width) != Some(end - begin) {
        return Err(refuse());
    }
    Ok(TensorEntry { dtype, shape, begin, end })
}

#[cfg(test)]
mod tests {
    use super::*;

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
