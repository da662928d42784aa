//! The published folder as a source of rows and digests.
//!
//! Files are read piece by piece into buffers of their own, not through the mapping: pages of a
//! mapping count as this process's memory, and 8 GB of them are more than the machine may have.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::encode::is_stopped;
use super::error::QuantizeError;
use crate::vlm::config::ModelConfig;
use crate::vlm::engine::read_config;
use crate::vlm::error::LoadError;
use crate::vlm::tokenizer::ChatTokenizer;
use crate::vlm::weights::ModelFolder;

/// The small files that go into the header: what the engine reads, and what provenance wants.
const TEXTS: [&str; 7] = [
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "preprocessor_config.json",
    "generation_config.json",
    "special_tokens_map.json",
    "LICENSE",
];
/// Bytes read at once for a digest.
const PIECE_BYTES: usize = 4 << 20;

/// An opened model folder.
pub(super) struct Source {
    pub(super) folder: ModelFolder,
    pub(super) config: ModelConfig,
    /// Small files: name and text.
    pub(super) texts: Vec<(String, String)>,
    /// Opened weights files, by path.
    files: HashMap<PathBuf, File>,
    dir: PathBuf,
}

/// A file as it was when its digest was taken; a file of the same size and time is not read again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SourceFile {
    pub(super) name: String,
    pub(super) size_bytes: u64,
    pub(super) modified_s: i64,
    pub(super) modified_ns: i64,
    /// Empty until it is known.
    pub(super) sha256: String,
}

impl Source {
    /// Opens the folder `dir` and checks that it is a whole model.
    pub(super) fn open(dir: &Path) -> Result<Source, QuantizeError> {
        let mut folder = ModelFolder::open(dir)?;
        if folder.gguf().is_some() {
            return Err(QuantizeError::AlreadyOneFile { path: dir.to_path_buf() });
        }
        let config = read_config(&mut folder)?;
        let json = folder.bytes("tokenizer.json")?;
        let vocab = config.decoder.vocab;
        ChatTokenizer::load(&folder.path("tokenizer.json"), &json, &config.eos_ids, vocab)?;
        let texts = read_texts(&mut folder)?;
        Ok(Source { folder, config, texts, files: HashMap::new(), dir: dir.to_path_buf() })
    }

    /// Every file that goes into the result, without digests.
    pub(super) fn files(&self) -> Result<Vec<SourceFile>, QuantizeError> {
        let texts = self.texts.iter().map(|(name, _)| name.clone());
        let names = texts.chain(self.folder.weights_files());
        let mut files = names.map(|name| self.stat(name)).collect::<Result<Vec<_>, _>>()?;
        files.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(files)
    }

    fn stat(&self, name: String) -> Result<SourceFile, QuantizeError> {
        let path = self.dir.join(&name);
        let meta = std::fs::metadata(&path).map_err(|e| QuantizeError::read(&path, e))?;
        Ok(SourceFile {
            name,
            size_bytes: meta.len(),
            modified_s: meta.mtime(),
            modified_ns: meta.mtime_nsec(),
            sha256: String::new(),
        })
    }

    /// The SHA-256 of the file `name`; `seen` hears of every piece's bytes.
    pub(super) fn digest(
        &self,
        name: &str,
        stop: &AtomicBool,
        mut seen: impl FnMut(u64),
    ) -> Result<String, QuantizeError> {
        let path = self.dir.join(name);
        let refuse = |e| QuantizeError::read(&path, e);
        let file = File::open(&path).map_err(refuse)?;
        let (mut hasher, mut buffer, mut at) = (Sha256::new(), vec![0; PIECE_BYTES], 0);
        loop {
            if is_stopped(stop) {
                return Err(QuantizeError::Stopped { done: 0, of: 0 });
            }
            let len = file.read_at(&mut buffer, at).map_err(refuse)?;
            if len == 0 {
                return Ok(hex(&hasher.finalize()));
            }
            hasher.update(&buffer[..len]);
            at += len as u64;
            seen(len as u64);
        }
    }

    /// Opens the file of the tensor `name` and says what is read from it.
    pub(super) fn tensor(
        &mut self,
        name: &str,
        shape: &[usize],
    ) -> Result<Rows<'_>, QuantizeError> {
        let place = self.folder.place(name, shape)?.expect("a folder, checked when it was opened");
        let path = place.file.to_path_buf();
        if !self.files.contains_key(&path) {
            let file = File::open(&path).map_err(|e| QuantizeError::read(&path, e))?;
            self.files.insert(path.clone(), file);
        }
        let columns = *shape.last().expect("every tensor has a side");
        Ok(Rows {
            file: &self.files[&path],
            columns,
            offset_bytes: place.offset_bytes,
            dtype: place.dtype,
            path,
        })
    }
}

/// A tensor of the source, to be read row by row.
pub(super) struct Rows<'a> {
    file: &'a File,
    path: PathBuf,
    columns: usize,
    offset_bytes: u64,
    dtype: DType,
}

impl Rows<'_> {
    /// Bytes of one row.
    pub(super) fn row_bytes(&self) -> u64 {
        self.columns as u64 * self.dtype.size_in_bytes() as u64
    }

    /// Rows `first..first + count`: (count, columns), f32.
    pub(super) fn read(&self, first: usize, count: usize) -> Result<Tensor, QuantizeError> {
        let len = self.row_bytes() as usize * count;
        let mut buffer = vec![0; len];
        let at = self.offset_bytes + first as u64 * self.row_bytes();
        self.file.read_exact_at(&mut buffer, at).map_err(|e| QuantizeError::read(&self.path, e))?;
        let rows =
            Tensor::from_raw_buffer(&buffer, self.dtype, &[count, self.columns], &Device::Cpu)?;
        Ok(rows.to_dtype(DType::F32)?)
    }
}

fn read_texts(folder: &mut ModelFolder) -> Result<Vec<(String, String)>, QuantizeError> {
    let mut texts = Vec::new();
    for name in TEXTS {
        let bytes = match folder.bytes(name) {
            Err(LoadError::Read { source, .. })
                if source.kind() == std::io::ErrorKind::NotFound =>
            {
                continue;
            }
            other => other?,
        };
        let text = String::from_utf8(bytes).map_err(|_| {
            let problem = "is not UTF-8, as a text of a GGUF file must be".to_string();
            QuantizeError::Load(LoadError::WeightsFile { path: folder.path(name), problem })
        })?;
        texts.push((name.to_string(), text));
    }
    Ok(texts)
}

/// Lower-case hex digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
