//! What comes from outside, one function each: it gives hostile bytes to the program's own loader and checks
//! more than that nothing panics: what is accepted keeps its bounds, lies inside its file, and loads the same
//! once more; what is refused says why, in words of bounded length.
//!
//! The long run (`scripts/fuzz`) and the short one (`tests/it/fuzz.rs`) share this file, so that the program
//! itself carries nothing of it.

mod calibration;
mod configuration;
mod engine;
mod line;
mod model;
mod record;

pub use calibration::calibration;
pub use configuration::{main_toml, station_toml};
pub use engine::engine_reply;
pub use line::{answer, command, expect, picture, sparkplug_command};
pub use model::{adapter, gguf, model_config, model_index, safetensors, tokenizer};
pub use record::{anchors, manifest, serial_list};

/// A target: its name, that of its binary and of its folder of seeds, and its function.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: [Target; 18] = [
    ("adapter", adapter),
    ("anchors", anchors),
    ("answer", answer),
    ("calibration", calibration),
    ("command", command),
    ("engine_reply", engine_reply),
    ("expect", expect),
    ("gguf", gguf),
    ("main_toml", main_toml),
    ("manifest", manifest),
    ("model_config", model_config),
    ("model_index", model_index),
    ("picture", picture),
    ("safetensors", safetensors),
    ("serial_list", serial_list),
    ("sparkplug_command", sparkplug_command),
    ("station_toml", station_toml),
    ("tokenizer", tokenizer),
];

/// Most characters of a message about bytes that were refused: it goes into logs and onto screens.
const MESSAGE_MAX_CHARS: usize = 20_000;

/// An empty folder of its own for `look`.
fn in_folder(look: impl FnOnce(&std::path::Path)) {
    let dir = tempfile::tempdir().expect("a folder");
    look(dir.path());
}

/// Splits at the first `count - 1` zero bytes, which no text of ours holds; what is missing is empty.
fn parts<const N: usize>(bytes: &[u8]) -> [&[u8]; N] {
    let mut split = bytes.splitn(N, |byte| *byte == 0);
    std::array::from_fn(|_| split.next().unwrap_or_default())
}

fn check_message(text: &str) {
    assert!(!text.trim().is_empty(), "a refusal says why");
    let chars = text.chars().count();
    assert!(chars <= MESSAGE_MAX_CHARS, "{chars} characters of message");
}
