//! Which files of a model the engine reads, without reading the large ones: what a manifest, a
//! download and the digest in the records are about.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::error::LoadError;
use super::json_fields::parse_object;

/// Read always.
pub const REQUIRED: [&str; 2] = ["config.json", "tokenizer.json"];
/// Read where they are present.
pub const OPTIONAL: [&str; 2] = ["generation_config.json", "preprocessor_config.json"];
/// The weights in one file.
pub const SINGLE: &str = "model.safetensors";
/// The list of tensors and files where there are several.
pub const INDEX: &str = "model.safetensors.index.json";

/// Largest index that is read, in bytes. The published one has 69 kB.
const INDEX_MAX_BYTES: u64 = 64 << 20;

/// The names of the files in `dir` that loading it reads, ascending; of a model in one file, its
/// own. Whether the weights files are
/// there is not looked at: an absent one is for the caller to miss.
///
/// # Errors
/// The index file, if it is there and is not what it should be.
pub fn read_for_loading(dir: &Path) -> Result<BTreeSet<String>, LoadError> {
    if let (true, Some(name)) = (dir.is_file(), dir.file_name()) {
        return Ok([name.to_string_lossy().into_owned()].into());
    }
    let mut names: BTreeSet<String> = REQUIRED.map(str::to_owned).into();
    names.extend(OPTIONAL.iter().filter(|name| dir.join(name).exists()).map(|n| (*n).to_owned()));
    let path = dir.join(INDEX);
    if dir.join(SINGLE).exists() || !path.exists() {
        names.insert(SINGLE.to_owned());
        return Ok(names);
    }
    let refuse = |source| LoadError::Read { path: path.clone(), source };
    let mut bytes = Vec::new();
    let file = File::open(&path).map_err(refuse)?;
    file.take(INDEX_MAX_BYTES).read_to_end(&mut bytes).map_err(refuse)?;
    names.extend(weights_of_index(&path, &bytes)?);
    names.insert(INDEX.to_owned());
    Ok(names)
}

/// The weights files that an index names; `path` is for the error's words.
///
/// # Errors
/// If it is no index, or names something that is not a file of the same folder.
pub fn weights_of_index(path: &Path, bytes: &[u8]) -> Result<BTreeSet<String>, LoadError> {
    let index = parse_object(path, bytes)?;
    let map = index.get("weight_map").and_then(|map| map.as_object());
    let Some(map) = map.filter(|map| !map.is_empty()) else {
        let problem = "expected an object of tensor names and file names";
        return Err(LoadError::field(path, "weight_map", problem));
    };
    let name = |(tensor, file): (&String, &serde_json::Value)| {
        let plain = file.as_str().filter(|name| is_plain_name(name)).map(str::to_owned);
        plain.ok_or_else(|| {
            let problem = format!("{file} is not the name of a file in this folder");
            LoadError::tensor(path, tensor, problem)
        })
    };
    map.iter().map(name).collect()
}

pub use super::weights::is_plain_name;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_names_its_files_and_nothing_outside() {
        let path = Path::new(INDEX);
        let index = br#"{"weight_map":{"a":"m-2.safetensors","b":"m-1.safetensors","c":"m-2.safetensors"}}"#;
        let names: Vec<String> = weights_of_index(path, index).unwrap().into_iter().collect();
        assert_eq!(names, ["m-1.safetensors", "m-2.safetensors"]);
        for bad in [
            &br#"{"weight_map":{"a":"../m"}}"#[..],
            br#"{"weight_map":{"a":7}}"#,
            br#"{"weight_map":{}}"#,
            b"{}",
            b"[",
        ] {
            assert!(weights_of_index(path, bad).is_err());
        }
    }
}
