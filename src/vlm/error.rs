//! What can go wrong in this room, in two enums: while a model folder is read ([`LoadError`]) and
//! while a loaded model works ([`EngineError`]). A message says what was tried, on what, and why it
//! failed.

use std::path::{Path, PathBuf};

/// Why a model folder was refused.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A file could not be opened or read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A file is not the JSON it should be.
    #[error("{} is not valid JSON: {source}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// The parser's reason, with line and column.
        source: serde_json::Error,
    },
    /// A field of a JSON file is missing or has a value this engine cannot work with.
    #[error("{}: field `{field}`: {problem}", path.display())]
    Field {
        /// The file.
        path: PathBuf,
        /// The field, with dots between the levels.
        field: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A weights file as a whole is damaged.
    #[error("{}: {problem}", path.display())]
    WeightsFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// One tensor is missing, has the wrong shape or type, or lies outside its file.
    #[error("{}: tensor `{tensor}`: {problem}", path.display())]
    Tensor {
        /// The file in which the tensor was looked for.
        path: PathBuf,
        /// The tensor's published name.
        tensor: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The tokenizer file does not make a usable tokenizer.
    #[error("{}: {problem}", path.display())]
    Tokenizer {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// An option given by the caller does not fit this model.
    #[error("engine option `{option}`: {problem}")]
    Option {
        /// The option's name in `EngineOptions`.
        option: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The tensor library failed, for example because memory ran out on the device.
    #[error("cannot place the weights: {0}")]
    Compute(#[from] candle_core::Error),
}

impl LoadError {
    /// A [`LoadError::Field`] of `path`.
    pub(crate) fn field(path: &Path, field: &str, problem: impl Into<String>) -> LoadError {
        LoadError::Field {
            path: path.to_path_buf(),
            field: field.to_string(),
            problem: problem.into(),
        }
    }

    /// A [`LoadError::Tensor`] of `path`.
    pub(crate) fn tensor(path: &Path, tensor: &str, problem: impl Into<String>) -> LoadError {
        LoadError::Tensor {
            path: path.to_path_buf(),
            tensor: tensor.to_string(),
            problem: problem.into(),
        }
    }
}

/// Why a loaded model refused a prompt, a picture or a step.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// A picture that the model cannot be shown.
    #[error("picture of {width} x {height} pixels: {problem}")]
    Picture {
        /// Pixels across.
        width: u32,
        /// Pixels down.
        height: u32,
        /// What is wrong with it.
        problem: String,
    },
    /// A prompt whose picture tags, ids or pictures do not fit together.
    #[error("prompt: {0}")]
    Prompt(String),
    /// More tokens were asked for than the context holds.
    #[error("{needed} tokens do not fit into the context of {limit} tokens")]
    ContextFull {
        /// Tokens that the prompt, or prompt and answer together, would take.
        needed: usize,
        /// Tokens that the context holds.
        limit: usize,
    },
    /// The tokenizer failed on a text.
    #[error("tokenizer: {0}")]
    Tokenizer(String),
    /// The model answered with a number that is not finite: weights or dtype are unfit.
    #[error(
        "the model's output for position {position} is not finite (damaged weights, or a dtype too small for them)"
    )]
    NotFinite {
        /// Position in the sequence, from 0.
        position: usize,
    },
    /// The tensor library failed, for example because memory ran out on the device.
    #[error("compute: {0}")]
    Compute(#[from] candle_core::Error),
}
