//! What is inside the program itself: the small model that the project trains, and the demo station.
//!
//! They make the demo and the evaluation run from the one file, wherever it is installed. The model
//! knows only the simulator's parts.

use std::fs;
use std::io;
use std::path::Path;

/// The files of `models/builtin`, in the published folder layout.
const MODEL: [(&str, &[u8]); 7] = [
    ("config.json", include_bytes!("../models/builtin/config.json")),
    ("generation_config.json", include_bytes!("../models/builtin/generation_config.json")),
    ("model.safetensors", include_bytes!("../models/builtin/model.safetensors")),
    ("preprocessor_config.json", include_bytes!("../models/builtin/preprocessor_config.json")),
    ("special_tokens_map.json", include_bytes!("../models/builtin/special_tokens_map.json")),
    ("tokenizer.json", include_bytes!("../models/builtin/tokenizer.json")),
    ("tokenizer_config.json", include_bytes!("../models/builtin/tokenizer_config.json")),
];

/// The example station, which the demo runs with its own footage.
const STATION: &str = include_str!("../config/stations/demo.toml");

/// Writes the built-in model to the folder `dir`, which is made if it is not there.
pub fn write_model(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    for (name, bytes) in MODEL {
        fs::write(dir.join(name), bytes)?;
    }
    Ok(())
}

/// The demo station's file with `footage` as its camera, played again and again if `repeat`.
pub fn demo_station(footage: &Path, repeat: bool) -> String {
    let uri = toml::Value::String(format!("file://{}", footage.display()));
    let mut text = String::new();
    for line in STATION.lines() {
        if line.starts_with("uri =") {
            text += &format!("uri = {uri}\nrepeat = {repeat}\n");
        } else {
            text += line;
            text.push('\n');
        }
    }
    text
}
