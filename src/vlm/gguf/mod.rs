//! One GGUF file as a whole model: the texts of the model folder in its header, every tensor under
//! the name that llama.cpp would give it, aligned so that it is used where it lies.
//!
//! | file | what |
//! |---|---|
//! | `kind` | how a tensor's numbers are stored |
//! | `names` | the one table of published names, names in the file, shapes and roles |
//! | `header` | bytes to a checked header; the file is hostile until this has passed |
//! | `write` | metadata and tensors to the bytes of a header |
//! | `model` | a mapped file with its tensors by published name |
//!
//! Format: version 3, little endian, `general.architecture = "phi3v"`. That architecture is this
//! program's own: llama.cpp has no layout for this model, neither as one file nor as a decoder with
//! a projector beside it (its attempts were never merged: pull requests 7705, 9209, 17687).

pub mod header;
mod kind;
mod model;
pub mod names;
pub mod write;

pub use header::TensorInfo;
pub use kind::Kind;
pub use model::{Damage, GgufModel};

/// The architecture of a file with a whole model.
pub const ARCHITECTURE: &str = "phi3v";
/// Before each text of the model folder: `inspectd.file.config.json`.
pub const FILE_PREFIX: &str = "inspectd.file.";
/// Lines `hex  name` with the SHA-256 of every file that the model was made from.
pub const SOURCE_DIGESTS: &str = "inspectd.source.digests";
/// Lines `hex  name` with the SHA-256 of every tensor's bytes, in the order of the file.
pub const TENSOR_DIGESTS: &str = "inspectd.tensor.digests";
/// The name of the mix of formats.
pub const MIX: &str = "inspectd.mix";
/// The SHA-256 of the importance matrix, where one was used.
pub const IMATRIX: &str = "inspectd.imatrix";

/// The first four bytes of a GGUF file.
pub const MAGIC: [u8; 4] = *b"GGUF";
/// Where tensors begin in files of this program.
pub const ALIGNMENT: usize = 32;
