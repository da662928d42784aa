//! GGUF files that are damaged, of another model, or lie: each is refused with one message that
//! names the file and what to do. None panics.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;

use inspectd::vlm::gguf::header::Header;
use inspectd::vlm::gguf::write::{Entry, HeaderWriter};
use inspectd::vlm::gguf::{GgufModel, Kind};
use inspectd::vlm::quantize::{Mix, QuantizeOptions, quantize};
use inspectd::vlm::{Engine, EngineOptions};
use proptest::prelude::*;
use tempfile::TempDir;

/// The small fixture as one file, made once.
fn small() -> &'static [u8] {
    static FILE: OnceLock<Vec<u8>> = OnceLock::new();
    FILE.get_or_init(|| {
        let dir = TempDir::new().unwrap();
        let options = QuantizeOptions {
            model: Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny_gqa"),
            mix: Mix::Q8_0,
            out: dir.path().join("m.gguf"),
            force: false,
            imatrix: None,
        };
        quantize(&options, &AtomicBool::new(false), &mut |_| {}).unwrap();
        fs::read(options.out).unwrap()
    })
}

fn written(dir: &TempDir, bytes: &[u8]) -> PathBuf {
    let path = dir.path().join("m.gguf");
    fs::write(&path, bytes).unwrap();
    path
}

fn load(bytes: &[u8]) -> Result<Engine, String> {
    let dir = TempDir::new().unwrap();
    Engine::load(&written(&dir, bytes), &EngineOptions::default()).map_err(|e| e.to_string())
}

#[track_caller]
fn refused(bytes: &[u8], words: &[&str]) {
    let message = load(bytes).err().expect("this file must not load");
    assert!(message.contains("m.gguf"), "{message}");
    for word in words {
        assert!(message.contains(word), "{word:?} is not in: {message}");
    }
}

fn of_architecture(name: &str) -> Vec<u8> {
    let mut header = HeaderWriter::new();
    header.entry("general.architecture", Entry::Text(name));
    header.tensor("token_embd.weight", &[4, 8], Kind::F32);
    let mut file = header.bytes();
    file.resize(header.file_bytes() as usize, 0);
    file
}

#[test]
fn one_file_is_a_model_whatever_it_is_called() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("model without an ending");
    fs::write(&path, small()).unwrap();
    let engine = Engine::load(&path, &EngineOptions::default()).unwrap();
    assert_eq!((engine.vocab_size(), engine.default_num_crops()), (512, 4));
    assert_eq!(engine.stop_ids(), [500, 501, 507]);
}

#[test]
fn the_digest_is_that_of_the_one_file() {
    let before = load(small()).unwrap().digest().unwrap();
    assert_eq!(load(small()).unwrap().digest().unwrap(), before);
    let mut bytes = small().to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    assert_ne!(load(&bytes).unwrap().digest().unwrap(), before);
}

#[test]
fn models_of_others_are_told_apart_with_a_remedy() {
    let remedy = "inspectd model quantize --model DIR";
    refused(&of_architecture("phi3"), &["phi3 decoder without the vision tower", "mmproj", remedy]);
    refused(&of_architecture("clip"), &["vision tower without a decoder", remedy]);
    refused(&of_architecture("llama"), &["architecture \"llama\"", "\"phi3v\"", remedy]);
    refused(&of_architecture(&"x".repeat(5000)), &["architecture", remedy]);
    refused(b"GGUF", &["truncated"]);
    refused(b"", &["is neither a model folder nor a GGUF file"]);
    refused(b"PK\x03\x04 an archive", &["is neither a model folder nor a GGUF file"]);
}

#[test]
fn a_file_without_its_texts_or_tensors_names_what_is_missing() {
    refused(&of_architecture("phi3v"), &["m.gguf:config.json", "holds no such text"]);
    let broken = |from: &str, to: &str| {
        assert_eq!(from.len(), to.len());
        let mut bytes = small().to_vec();
        let at = bytes.windows(from.len()).rposition(|w| w == from.as_bytes()).unwrap();
        bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
        bytes
    };
    refused(
        &broken("inspectd.file.tokenizer.json", "inspectd.file.tokenizer.JSON"),
        &["tokenizer.json"],
    );
    refused(
        &broken("blk.1.attn_output.weight", "blk.1.attn_OUTPUT.weight"),
        &["model.layers.1.self_attn.o_proj.weight", "blk.1.attn_output.weight"],
    );
    refused(
        &broken("\"intermediate_size\": 160", "\"intermediate_size\": 128"),
        &["gate_up_proj", "[256, 64]"],
    );
}

#[test]
fn a_truncated_file_is_refused_wherever_it_ends() {
    let file = small();
    let start = Header::read(file, |_| Ok(())).unwrap().tensors[0].bytes.start;
    for keep in [5, 23, 24, 100, start / 2, start - 1, start, start + 1, file.len() - 1] {
        refused(&file[..keep], &[]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Whatever bytes of the header are changed, the engine loads or says why not.
    #[test]
    fn a_changed_header_gives_an_engine_or_an_error(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
        end in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = small().to_vec();
        let start = Header::read(&bytes, |_| Ok(())).unwrap().tensors[0].bytes.start;
        for (index, byte) in changes {
            // The tokenizer's text fills most of the header: aim at what stands before and after it.
            let at = index.index(start);
            bytes[at] = byte;
        }
        if let Some(end) = end {
            bytes.truncate(end.index(bytes.len()));
        }
        let _ = load(&bytes);
    }

    /// The same for the list of tensors alone, where every byte counts.
    #[test]
    fn a_changed_list_of_tensors_gives_an_answer(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = small().to_vec();
        let first = bytes.windows(25).rposition(|w| w == b"\x11\0\0\0\0\0\0\0token_embd.weight");
        let first = first.unwrap();
        let start = Header::read(&bytes, |_| Ok(())).unwrap().tensors[0].bytes.start;
        for (index, byte) in changes {
            bytes[first + index.index(start - first)] = byte;
        }
        let dir = TempDir::new().unwrap();
        if let Ok(model) = GgufModel::open(&written(&dir, &bytes)) {
            let _ = model.damaged_tensors(|_| {});
        }
        let _ = load(&bytes);
    }
}
