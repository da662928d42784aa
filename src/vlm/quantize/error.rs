//! Why a model was not quantised.

use std::io;
use std::path::{Path, PathBuf};

use crate::vlm::calibrate::ImatrixError;
use crate::vlm::error::{EngineError, LoadError};

/// Why a model was not quantised. What was written so far stays beside the target, and the same
/// command goes on from there, unless the message says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum QuantizeError {
    /// The source is not a model folder that this engine reads.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The source is a GGUF file.
    #[error(
        "{} is already one GGUF file; quantise from the publisher's folder, as a second rounding \
         adds its errors to the first", path.display()
    )]
    AlreadyOneFile {
        /// The file.
        path: PathBuf,
    },
    /// The target is there already.
    #[error("{} is there already; --force replaces it", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The target cannot be written.
    #[error("cannot write {}: {problem}", path.display())]
    Target {
        /// The file.
        path: PathBuf,
        /// Why.
        problem: String,
    },
    /// Another process writes the same target.
    #[error("another process is writing {}", path.display())]
    Busy {
        /// The unfinished file.
        path: PathBuf,
    },
    /// The disk does not hold the result.
    #[error(
        "{} needs {:.2} GB more, and {:.2} GB are free there; make room or choose another folder",
        path.display(), *needed_bytes as f64 / 1e9, *free_bytes as f64 / 1e9
    )]
    NoRoom {
        /// The target.
        path: PathBuf,
        /// Bytes that are still to be written.
        needed_bytes: u64,
        /// Bytes that are free.
        free_bytes: u64,
    },
    /// A file could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A file could not be written.
    #[error(
        "cannot write {}: {source}; what is written stays, and the same command goes on from there",
        path.display()
    )]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A signal ended the work.
    #[error("stopped after {done} of {of} tensors; the same command goes on from there")]
    Stopped {
        /// Tensors that are written.
        done: usize,
        /// Tensors in all.
        of: usize,
    },
    /// The source holds a number that no format can store.
    #[error("{}: tensor `{tensor}` holds a number that is not finite: the source is damaged", path.display())]
    NotFinite {
        /// The folder.
        path: PathBuf,
        /// The tensor's published name.
        tensor: String,
    },
    /// What was written is not what should have been.
    #[error("{}: tensor `{tensor}` {problem}; the next run starts anew", path.display())]
    Unfaithful {
        /// The unfinished file.
        path: PathBuf,
        /// The tensor's name in the file.
        tensor: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The importance matrix cannot be used for this model.
    #[error(transparent)]
    Imatrix(#[from] ImatrixError),
    /// The comparison of embeddings failed.
    #[error("the embeddings of the test picture: {0}")]
    Picture(#[from] EngineError),
    /// The tensor library failed, for example because memory ran out.
    #[error("compute: {0}")]
    Compute(#[from] candle_core::Error),
}

impl QuantizeError {
    pub(super) fn read(path: &Path, source: io::Error) -> QuantizeError {
        QuantizeError::Read { path: path.to_path_buf(), source }
    }

    pub(super) fn write(path: &Path, source: io::Error) -> QuantizeError {
        QuantizeError::Write { path: path.to_path_buf(), source }
    }
}
