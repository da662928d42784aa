//! The files of a model and of its adapters.

use std::fs;
use std::path::Path;

use inspectd::vlm::config::{MAX_NUM_CROPS, ModelConfig};
use inspectd::vlm::gguf::header::Header;
use inspectd::vlm::lora::AdapterFiles;
use inspectd::vlm::model_files::{self, INDEX, SINGLE};
use inspectd::vlm::weights::{ModelFolder, is_plain_name};
use inspectd::vlm::{ChatTokenizer, Engine, EngineOptions, LoadError, ModelCard};

const CONFIG: &[u8] = include_bytes!("../../tests/fixtures/tiny_gqa/config.json");
const TOKENIZER: &[u8] = include_bytes!("../../tests/fixtures/tiny_gqa/tokenizer.json");
const WEIGHTS: &[u8] = include_bytes!("../../tests/fixtures/tiny_gqa/model.safetensors");

/// A safetensors file without a tensor.
const NO_WEIGHTS: &[u8] = b"\x02\0\0\0\0\0\0\0{}";

/// The bytes of one number, for the types that the engine reads.
const WIDTHS: [(&str, u64); 3] = [("F32", 4), ("F16", 2), ("BF16", 2)];

/// What is refused says why.
fn told<T>(result: Result<T, LoadError>) -> Option<T> {
    result.map_err(|why| super::check_message(&why.to_string())).ok()
}

/// A safetensors file.
pub fn safetensors(bytes: &[u8]) {
    super::in_folder(|dir| {
        fs::write(dir.join(SINGLE), bytes).expect("written");
        let Some(folder) = told(ModelFolder::open(dir)) else { return };
        check_sizes(&folder, bytes.len() as u64);
        for name in folder.tensor_names() {
            assert!(told(folder.stored(&name, &[usize::MAX, 3])).is_none());
        }
    });
}

fn check_sizes(folder: &ModelFolder, file_bytes: u64) {
    for tensor in folder.tensors() {
        let width = WIDTHS.iter().find(|(kind, _)| tensor.kind.eq_ignore_ascii_case(kind));
        if let Some((_, width)) = width {
            assert!(tensor.numbers.saturating_mul(*width) <= file_bytes, "{tensor:?}");
        }
        assert!(tensor.in_place_bytes.is_none_or(|bytes| bytes <= file_bytes), "{tensor:?}");
    }
}

/// A GGUF file.
pub fn gguf(bytes: &[u8]) {
    if let Ok(header) = Header::read(bytes, |_| Ok(())) {
        let mut placed: Vec<_> = header.tensors.iter().map(|tensor| tensor.bytes.clone()).collect();
        for tensor in &header.tensors {
            assert!(tensor.bytes.end <= bytes.len(), "{tensor:?}");
            assert_eq!(tensor.kind.tensor_bytes(&tensor.shape), Some(tensor.bytes.len()));
        }
        placed.sort_by_key(|range| range.start);
        assert!(placed.windows(2).all(|pair| pair[0].end <= pair[1].start));
        for key in header.keys() {
            let _ = (header.text(bytes, key), header.number(key));
        }
    }
    super::in_folder(|dir| {
        let file = dir.join("model.gguf");
        fs::write(&file, bytes).expect("written");
        let Some(folder) = told(ModelFolder::open(&file)) else { return };
        check_sizes(&folder, bytes.len() as u64);
        let model = folder.gguf().expect("it is one");
        let _ = model.damaged_tensors(|_| {});
        if let Some(card) = told(ModelCard::open(&file)) {
            check_config(&card.config);
        }
    });
}

/// `config.json`, `preprocessor_config.json` and `generation_config.json`, a zero byte between them, beside
/// the weights of a small model: what they say must never be believed before the weights agree.
pub fn model_config(bytes: &[u8]) {
    let [config, image, generation] = super::parts(bytes);
    super::in_folder(|dir| {
        fs::write(dir.join("config.json"), config).expect("written");
        for (name, bytes) in
            [("preprocessor_config.json", image), ("generation_config.json", generation)]
        {
            if !bytes.is_empty() {
                fs::write(dir.join(name), bytes).expect("written");
            }
        }
        fs::write(dir.join(SINGLE), NO_WEIGHTS).expect("written");
        let Some(card) = told(ModelCard::open(dir)) else { return };
        check_config(&card.config);
        let again = ModelCard::open(dir).expect("it loads the same once more");
        assert_eq!(again.config, card.config);
        fs::write(dir.join("tokenizer.json"), TOKENIZER).expect("written");
        fs::write(dir.join(SINGLE), WEIGHTS).expect("written");
        told(Engine::load(dir, &EngineOptions::default()));
    });
}

/// What the code behind the configuration leans on.
fn check_config(config: &ModelConfig) {
    let ModelConfig { decoder, rope, vision, image, eos_ids, .. } = config;
    assert_eq!(decoder.heads * decoder.head_dim, decoder.hidden);
    assert!(decoder.head_dim.is_multiple_of(2) && decoder.heads.is_multiple_of(decoder.kv_heads));
    assert_eq!((rope.short.len(), rope.long.len()), (decoder.head_dim / 2, decoder.head_dim / 2));
    assert!(rope.short.iter().chain(&rope.long).all(|factor| factor.is_finite() && *factor > 0.0));
    assert!(
        rope.theta.is_finite() && rope.attention_factor.is_finite() && rope.attention_factor > 0.0
    );
    assert!(vision.hidden.is_multiple_of(vision.heads) && vision.used_layers <= vision.layers);
    assert!((1..=MAX_NUM_CROPS).contains(&image.num_crops));
    assert!(image.mean.iter().chain(&image.std).all(|number| number.is_finite()));
    assert!(image.std.iter().all(|number| *number > 0.0));
    assert!(eos_ids.iter().all(|id| (*id as usize) < decoder.vocab));
}

/// `tokenizer.json`.
pub fn tokenizer(bytes: &[u8]) {
    super::in_folder(|dir| {
        fs::write(dir.join("config.json"), CONFIG).expect("written");
        fs::write(dir.join(SINGLE), NO_WEIGHTS).expect("written");
        fs::write(dir.join("tokenizer.json"), bytes).expect("written");
        let Some(card) = told(ModelCard::open(dir)) else { return };
        use_tokenizer(&card.tokenizer.expect("it is there"), card.config.decoder.vocab);
    });
}

fn use_tokenizer(tokenizer: &ChatTokenizer, vocab: usize) {
    let long = "<0x41>a ".repeat(50);
    for text in ["", "Read the serial: A7K2", "<|user|>\n\u{e4}\u{2581}\u{1f600}\0<|end|>\n", &long]
    {
        for ids in [tokenizer.encode(text), tokenizer.encode_plain(text)].into_iter().flatten() {
            let _ = (tokenizer.decode(&ids), tokenizer.decode_all(&ids));
            assert!(ids.iter().all(|id| (*id as usize) < vocab), "{ids:?}");
        }
        let _ = tokenizer.control_tag(text);
    }
    assert!(tokenizer.text_tokens().all(|(id, _)| (id as usize) < vocab));
    assert!(tokenizer.stop_ids().is_sorted());
}

/// `model.safetensors.index.json`, beside two weights files.
pub fn model_index(bytes: &[u8]) {
    super::in_folder(|dir| {
        for name in ["a.safetensors", "b.safetensors"] {
            fs::write(dir.join(name), NO_WEIGHTS).expect("written");
        }
        fs::write(dir.join(INDEX), bytes).expect("written");
        let names = told(model_files::weights_of_index(Path::new(INDEX), bytes));
        assert!(names.iter().flatten().all(|name| is_plain_name(name)));
        if let Some(folder) = told(ModelFolder::open(dir)) {
            for name in folder.tensor_names() {
                assert!(told(folder.stored(&name, &[1])).is_none(), "there is no tensor");
            }
        }
    });
}

/// `adapter_config.json`, a zero byte, `adapter_model.safetensors`.
pub fn adapter(bytes: &[u8]) {
    let [config, weights] = super::parts(bytes);
    super::in_folder(|dir| {
        fs::write(dir.join("adapter_config.json"), config).expect("written");
        fs::write(dir.join("adapter_model.safetensors"), weights).expect("written");
        let Some(files) = told(AdapterFiles::open(dir)) else { return };
        assert!(files.bytes() <= 2 * weights.len(), "a number of 2 bytes takes 4 in memory");
        fs::write(dir.join("config.json"), CONFIG).expect("written");
        fs::write(dir.join(SINGLE), NO_WEIGHTS).expect("written");
        let card = ModelCard::open(dir).expect("the small model");
        told(files.fit(&card.config.decoder));
    });
}
