//! Damaged model folders: each is refused with one message that names the file and the field or
//! tensor. None panics.

use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use inspectd::vlm::engine::{Engine, EngineOptions};

const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// A copy of the small model that a test may damage.
struct Folder(TempDir);

impl Folder {
    fn new() -> Folder {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny_gqa");
        let folder = Folder(TempDir::new().unwrap());
        for entry in std::fs::read_dir(source).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_file() {
                folder.write(
                    &entry.file_name().into_string().unwrap(),
                    &std::fs::read(entry.path()).unwrap(),
                );
            }
        }
        folder
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.0.path().join(name)).unwrap()
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.0.path().join(name), bytes).unwrap();
    }

    fn remove(&self, name: &str) {
        std::fs::remove_file(self.0.path().join(name)).unwrap();
    }

    fn edit_json(&self, name: &str, edit: impl Fn(&mut Value)) {
        let mut value = serde_json::from_slice(&self.read(name)).unwrap();
        edit(&mut value);
        self.write(name, &serde_json::to_vec(&value).unwrap());
    }

    /// Rewrites the header of the weights; the tensors' bytes stay.
    fn edit_header(&self, edit: impl Fn(&mut Value)) {
        let bytes = self.read(WEIGHTS);
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let mut header = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
        edit(&mut header);
        let header = serde_json::to_vec(&header).unwrap();
        let mut out = (header.len() as u64).to_le_bytes().to_vec();
        out.extend_from_slice(&header);
        out.extend_from_slice(&bytes[8 + length..]);
        self.write(WEIGHTS, &out);
    }

    /// The weights under another name, and an index that sends every tensor there.
    fn shard(&self, file: &str, said: &str) {
        let bytes = self.read(WEIGHTS);
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
        let names = header.as_object().unwrap().keys().filter(|name| *name != "__metadata__");
        let map: serde_json::Map<String, Value> =
            names.map(|name| (name.clone(), json!(said))).collect();
        self.write(INDEX, &serde_json::to_vec(&json!({ "weight_map": map })).unwrap());
        self.write(file, &bytes);
        self.remove(WEIGHTS);
    }

    fn load(&self) -> Result<Engine, String> {
        Engine::load(self.0.path(), &EngineOptions::default()).map_err(|e| e.to_string())
    }

    /// Loading must fail, and the message must hold every one of `words`.
    #[track_caller]
    fn refused(&self, words: &[&str]) {
        let message = self.load().err().expect("this folder must not load");
        for word in words {
            assert!(message.contains(word), "{word:?} is not in: {message}");
        }
    }
}

/// One field of config.json replaced.
#[track_caller]
fn config_refused(pointer: &str, value: Value, words: &[&str]) {
    let folder = Folder::new();
    folder.edit_json("config.json", |config| *config.pointer_mut(pointer).unwrap() = value.clone());
    folder.refused(words);
}

#[test]
fn the_undamaged_folder_loads_and_so_does_a_sharded_one() {
    let folder = Folder::new();
    let whole = folder.load().unwrap();
    assert_eq!(
        (whole.vocab_size(), whole.context_len(), whole.default_num_crops()),
        (512, 1024, 4)
    );
    assert_eq!(whole.stop_ids(), [500, 501, 507]);
    folder.shard("model-00001-of-00001.safetensors", "model-00001-of-00001.safetensors");
    let sharded = folder.load().unwrap();
    assert_ne!(
        whole.digest().unwrap(),
        sharded.digest().unwrap(),
        "other files are another folder"
    );
}

#[test]
fn the_digest_is_that_of_the_files_and_nothing_else() {
    let folder = Folder::new();
    let before = folder.load().unwrap().digest().unwrap();
    folder.write("README.md", b"not read, so not counted");
    assert_eq!(folder.load().unwrap().digest().unwrap(), before);
    let mut weights = folder.read(WEIGHTS);
    *weights.last_mut().unwrap() ^= 1;
    folder.write(WEIGHTS, &weights);
    assert_ne!(folder.load().unwrap().digest().unwrap(), before);
}

#[test]
fn missing_files_are_named() {
    for name in ["config.json", "tokenizer.json", WEIGHTS] {
        let folder = Folder::new();
        folder.remove(name);
        folder.refused(&["cannot read", name]);
    }
    assert!(Engine::load(Path::new("/nonexistent"), &EngineOptions::default()).is_err());
}

#[test]
fn optional_files_may_be_missing() {
    let folder = Folder::new();
    folder.remove("preprocessor_config.json");
    folder.remove("generation_config.json");
    let engine = folder.load().unwrap();
    assert_eq!(engine.default_num_crops(), 1);
    assert_eq!(engine.stop_ids(), [2, 500, 501, 507]); // config.json says 2; the names say the rest
}

#[test]
fn broken_json_is_named_with_its_line() {
    for name in ["config.json", "preprocessor_config.json", "generation_config.json"] {
        for text in ["{", "", "[1]", "nonsense", "{\"a\": NaN}", "\u{feff}{}", "{\"x\": 1e999}"] {
            let folder = Folder::new();
            folder.write(name, text.as_bytes());
            folder.refused(&[name]);
        }
    }
    let folder = Folder::new();
    folder.write("config.json", "[".repeat(100_000).as_bytes());
    folder.refused(&["config.json", "recursion"]);
    let folder = Folder::new();
    folder.write("tokenizer.json", b"{}");
    folder.refused(&["tokenizer.json"]);
}

#[test]
fn numbers_of_the_configuration_that_cannot_be_are_refused_by_field() {
    config_refused("/hidden_size", json!(0), &["config.json", "hidden_size"]);
    config_refused("/hidden_size", json!(-64), &["hidden_size", "-64"]);
    config_refused("/hidden_size", json!(1e300), &["hidden_size"]);
    config_refused("/hidden_size", json!("64"), &["hidden_size"]);
    config_refused("/hidden_size", json!(66), &["num_attention_heads", "66"]);
    config_refused("/hidden_size", Value::Null, &["hidden_size", "is missing"]);
    config_refused("/num_attention_heads", json!(64), &["num_attention_heads", "even"]);
    config_refused("/num_key_value_heads", json!(3), &["num_key_value_heads", "does not divide"]);
    config_refused("/num_hidden_layers", json!(u64::MAX), &["num_hidden_layers"]);
    config_refused("/rms_norm_eps", json!(-1.0), &["rms_norm_eps"]);
    config_refused("/rope_theta", json!(0), &["rope_theta"]);
    config_refused("/hidden_act", json!("gelu"), &["hidden_act", "silu"]);
    config_refused("/model_type", json!("llama"), &["model_type", "phi3_v"]);
    config_refused("/max_position_embeddings", json!(1u64 << 40), &["max_position_embeddings"]);
    config_refused("/sliding_window", json!(0), &["sliding_window"]);
    config_refused("/eos_token_id", json!(512), &["eos_token_id", "below 512"]);
}

#[test]
fn rope_settings_that_this_engine_does_not_know_are_refused() {
    config_refused(
        "/rope_scaling/type",
        json!("yarn"),
        &["config.json", "rope_scaling.type", "su and longrope", "yarn"],
    );
    config_refused("/rope_scaling/type", Value::Null, &["rope_scaling.type", "is missing"]);
    config_refused("/rope_scaling", json!([]), &["rope_scaling", "expected an object"]);
    config_refused(
        "/rope_scaling/long_factor",
        json!([1.0]),
        &["rope_scaling.long_factor", "expected 8 numbers, found 1"],
    );
    config_refused("/rope_scaling/short_factor/3", json!(0.0), &["rope_scaling.short_factor"]);
    config_refused("/rope_scaling/short_factor/3", json!("1"), &["rope_scaling.short_factor"]);
    config_refused(
        "/original_max_position_embeddings",
        json!(1),
        &["original_max_position_embeddings"],
    );
    config_refused(
        "/original_max_position_embeddings",
        Value::Null,
        &["original_max_position_embeddings", "missing"],
    );
    let folder = Folder::new();
    folder.edit_json("config.json", |config| config["rope_scaling"]["short_mscale"] = json!(1.2));
    folder.refused(&["rope_scaling.short_mscale"]);
}

#[test]
fn the_newer_name_of_longrope_means_the_same() {
    let folder = Folder::new();
    folder.edit_json("config.json", |config| config["rope_scaling"]["type"] = json!("longrope"));
    assert!(folder.load().is_ok());
}

#[test]
fn vision_settings_that_this_engine_does_not_know_are_refused() {
    let tower = "/img_processor/vision_config";
    config_refused("/img_processor", Value::Null, &["img_processor", "not a vision model"]);
    config_refused(
        "/img_processor/image_dim_out",
        json!(64),
        &["img_processor.image_dim_out", "48"],
    );
    config_refused(&format!("{tower}/patch_size"), json!(16), &["vision_config.patch_size", "14"]);
    config_refused(
        &format!("{tower}/num_attention_heads"),
        json!(5),
        &["vision_config.num_attention_heads"],
    );
    config_refused(
        &format!("{tower}/hidden_act"),
        json!("gelu"),
        &["vision_config.hidden_act", "quick_gelu"],
    );
    config_refused(
        "/embd_layer/hd_transform_order",
        json!("zigzag"),
        &["embd_layer.hd_transform_order"],
    );
    config_refused("/embd_layer/use_hd_transform", json!(false), &["embd_layer.use_hd_transform"]);
    let folder = Folder::new();
    folder.edit_json("config.json", |config| config["img_processor"]["layer_idx"] = json!(-9));
    folder.refused(&["img_processor.layer_idx"]);
    for crops in [json!(0), json!(65), json!(-1), json!("16")] {
        let folder = Folder::new();
        folder.edit_json("preprocessor_config.json", |config| config["num_crops"] = crops.clone());
        folder.refused(&["preprocessor_config.json", "num_crops"]);
    }
    let folder = Folder::new();
    folder.edit_json("preprocessor_config.json", |config| {
        config["image_std"] = json!([1.0, 0.0, 1.0])
    });
    folder.refused(&["preprocessor_config.json", "image_std"]);
}

#[test]
fn a_tokenizer_that_breaks_off_at_the_first_text_is_refused() {
    let refused = |change: fn(&mut Value), words: &str| {
        let folder = Folder::new();
        folder.edit_json("tokenizer.json", |tokenizer| change(&mut tokenizer["post_processor"]));
        folder.refused(&["tokenizer.json", words]);
    };
    let other_name = |template: &mut Value| {
        template["single"][0]["SpecialToken"]["id"] = json!("<x>");
    };
    refused(other_name, "breaks off");
    refused(|template| template["single"][1]["Sequence"]["id"] = json!("B"), "breaks off");
    refused(|template| template["special_tokens"]["<s>"]["ids"] = json!([512]), "the id 512");
}

#[test]
fn a_missing_tensor_is_named() {
    for name in ["model.norm.weight", "lm_head.weight", "model.vision_embed_tokens.glb_GN"] {
        let folder = Folder::new();
        folder.edit_header(|header| {
            header.as_object_mut().unwrap().remove(name);
        });
        folder.refused(&[WEIGHTS, name, "is missing"]);
    }
}

#[test]
fn a_wrong_shape_is_named_with_both_shapes() {
    let folder = Folder::new();
    folder.edit_header(|header| header["model.embed_tokens.weight"]["shape"] = json!([64, 512]));
    folder.refused(&[WEIGHTS, "model.embed_tokens.weight", "[64, 512]", "[512, 64]"]);
    // a configuration that asks for more than the file has must not allocate it first
    config_refused("/vocab_size", json!(1 << 20), &["model.embed_tokens.weight", "[1048576, 64]"]);
    config_refused("/num_hidden_layers", json!(4), &["model.layers.3.", "is missing"]);
}

#[test]
fn headers_that_lie_are_refused() {
    let name = "model.norm.weight";
    let cases: [(&str, Value, &str); 7] = [
        ("dtype", json!("X9"), "is stored as X9"),
        ("dtype", json!("I64"), "does not make"),
        ("dtype", json!(7), "has no dtype"),
        ("shape", json!([u64::MAX, 2]), "does not make"),
        ("shape", json!([-1]), "has no shape"),
        ("data_offsets", json!([0, u64::MAX]), "truncated"),
        ("data_offsets", json!([9, 3]), "data_offsets"),
    ];
    for (key, value, words) in cases {
        let folder = Folder::new();
        folder.edit_header(|header| header[name][key] = value.clone());
        folder.refused(&[WEIGHTS, name, words]);
    }
}

#[test]
fn truncated_weights_are_refused_wherever_they_end() {
    let whole = Folder::new().read(WEIGHTS);
    let header = u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    for keep in [0, 7, 8, 100, 8 + header, 8 + header + 1000, whole.len() - 1] {
        let folder = Folder::new();
        folder.write(WEIGHTS, &whole[..keep]);
        folder.refused(&[WEIGHTS]);
    }
}

#[test]
fn a_header_length_beyond_all_files_is_refused() {
    for length in [u64::MAX, 1 << 40, 100_000_001] {
        let folder = Folder::new();
        let mut bytes = folder.read(WEIGHTS);
        bytes[..8].copy_from_slice(&length.to_le_bytes());
        folder.write(WEIGHTS, &bytes);
        folder.refused(&[WEIGHTS, "the header claims"]);
    }
}

#[test]
fn an_index_may_only_name_files_of_its_folder() {
    for said in ["../weights.safetensors", "/etc/passwd", "a/b.safetensors", "..", ""] {
        let folder = Folder::new();
        folder.shard("weights.safetensors", said);
        folder.refused(&[INDEX, "is not the name of a file in this folder"]);
    }
    let folder = Folder::new();
    folder.shard("weights.safetensors", "elsewhere.safetensors");
    folder.refused(&["cannot read", "elsewhere.safetensors"]);
    let folder = Folder::new();
    folder.shard("weights.safetensors", "weights.safetensors");
    folder.edit_json(INDEX, |index| {
        index["weight_map"].as_object_mut().unwrap().remove("lm_head.weight");
    });
    folder.refused(&[INDEX, "lm_head.weight", "is missing"]);
    let folder = Folder::new();
    folder.shard("weights.safetensors", "weights.safetensors");
    folder.edit_json(INDEX, |index| index["weight_map"] = json!(["x"]));
    folder.refused(&[INDEX, "weight_map"]);
}

#[test]
fn a_tokenizer_with_more_ids_than_embeddings_is_refused() {
    let folder = Folder::new();
    folder.edit_json("tokenizer.json", |tokenizer| {
        tokenizer["model"]["vocab"]["beyond"] = json!(512);
    });
    folder.refused(&["tokenizer.json", "512"]);
}

/// The tokenizer library has panicked on some of these.
#[test]
fn a_tokenizer_that_breaks_off_anywhere_is_refused() {
    let whole = Folder::new().read("tokenizer.json");
    for keep in (0..whole.len()).step_by(whole.len() / 60) {
        let folder = Folder::new();
        folder.write("tokenizer.json", &whole[..keep]);
        folder.refused(&["tokenizer.json"]);
        let mut bytes = whole.clone();
        bytes[keep] = 0;
        folder.write("tokenizer.json", &bytes);
        folder.refused(&["tokenizer.json"]);
    }
}

#[test]
fn options_that_cannot_work_are_refused() {
    let folder = Folder::new();
    let load = |options: EngineOptions| {
        Engine::load(folder.0.path(), &options).err().map(|e| e.to_string())
    };
    let chunk = load(EngineOptions { prefill_chunk: 0, ..EngineOptions::default() });
    assert!(chunk.unwrap().contains("prefill_chunk"));
    let dtype = load(EngineOptions { dtype: candle_core::DType::U8, ..EngineOptions::default() });
    assert!(dtype.unwrap().contains("dtype"));
}
