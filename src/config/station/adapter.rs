//! `adapter`: what the model is adapted by, for all questions of a station or for one.

use super::super::reader::Reader;
use crate::vlm::{AdapterRef, LoadError};

/// Reads `adapter = "DIR"` of a station or a question and checks the folder, as far as that can be
/// done without the model.
pub fn read(table: &mut Reader<'_>) -> Option<AdapterRef> {
    let dir = table.path("adapter")?;
    match AdapterRef::check(dir.get_ref()) {
        Ok(adapter) => {
            for (name, digest) in &adapter.files {
                table.note_file(&adapter.dir.join(name), *digest);
            }
            Some(adapter)
        }
        Err(why) => {
            table.error(dir.span(), format!("cannot use this adapter: {why}"), remedy(&why));
            None
        }
    }
}

/// What a person can do about it.
pub fn remedy(why: &LoadError) -> &'static str {
    match why {
        LoadError::Read { .. } => {
            "name the folder that holds adapter_config.json and adapter_model.safetensors"
        }
        LoadError::Field { .. } => "train the adapter as plain LoRA, or take another one",
        _ => "copy the adapter's folder again, or take the one that was trained for this model",
    }
}
