//! A random model with rows of 256 numbers and more, so that every format of blocks fits it.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use inspectd::vlm::config::ModelConfig;
use inspectd::vlm::gguf::names;
use rand::{Rng, SeedableRng};
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};

/// Sizes of the model.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    pub hidden: usize,
    pub inner: usize,
    pub layers: usize,
    pub tied: bool,
}

impl Default for Sizes {
    fn default() -> Sizes {
        Sizes { hidden: 256, inner: 512, layers: 4, tied: false }
    }
}

/// Writes the folder `dir`: configuration and tokenizer of the small fixture with other sizes, and
/// random weights in bf16. The same seed gives the same bytes.
pub fn write(dir: &Path, sizes: Sizes, seed: u64) {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny_gqa");
    fs::create_dir_all(dir).unwrap();
    for name in ["generation_config.json", "preprocessor_config.json", "tokenizer.json"] {
        fs::copy(fixture.join(name), dir.join(name)).unwrap();
    }
    let text = fs::read(fixture.join("config.json")).unwrap();
    let mut config: Value = serde_json::from_slice(&text).unwrap();
    config["hidden_size"] = json!(sizes.hidden);
    config["intermediate_size"] = json!(sizes.inner);
    config["num_hidden_layers"] = json!(sizes.layers);
    config["tie_word_embeddings"] = json!(sizes.tied);
    let factors = vec![1.0; sizes.hidden / 4 / 2];
    config["rope_scaling"]["short_factor"] = json!(factors);
    config["rope_scaling"]["long_factor"] = json!(factors);
    fs::write(dir.join("config.json"), serde_json::to_vec_pretty(&config).unwrap()).unwrap();
    write_weights(dir, &numbers(&config), seed);
}

/// The numbers on which names and shapes of tensors depend.
fn numbers(config: &Value) -> ModelConfig {
    use inspectd::vlm::config::{DecoderConfig, ImageConfig, RopeConfig, VisionConfig};
    let at = |pointer: &str| config.pointer(pointer).and_then(Value::as_u64).unwrap() as usize;
    let tower = "/img_processor/vision_config";
    let layers = at(&format!("{tower}/num_hidden_layers"));
    let heads = at("/num_attention_heads");
    ModelConfig {
        decoder: DecoderConfig {
            hidden: at("/hidden_size"),
            layers: at("/num_hidden_layers"),
            heads,
            kv_heads: at("/num_key_value_heads"),
            head_dim: at("/hidden_size") / heads,
            intermediate: at("/intermediate_size"),
            vocab: at("/vocab_size"),
            rms_eps: 1e-5,
            sliding_window: None,
            tied: config["tie_word_embeddings"].as_bool().unwrap(),
            max_positions: 1024,
        },
        rope: RopeConfig {
            theta: 1e4,
            original_positions: 1024,
            short: Vec::new(),
            long: Vec::new(),
            attention_factor: 1.0,
        },
        vision: VisionConfig {
            hidden: at(&format!("{tower}/hidden_size")),
            intermediate: at(&format!("{tower}/intermediate_size")),
            layers,
            heads: at(&format!("{tower}/num_attention_heads")),
            layer_norm_eps: 1e-5,
            used_layers: layers - 1,
        },
        tiles_first: true,
        image: ImageConfig::default(),
        eos_ids: Vec::new(),
    }
}

fn write_weights(dir: &Path, config: &ModelConfig, seed: u64) {
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    let mut bytes: Vec<(String, Vec<usize>, Vec<u8>)> = Vec::new();
    for tensor in names::tensors(config) {
        let count = tensor.shape.iter().product::<usize>();
        let norm = tensor.gguf.contains("norm") || tensor.gguf.contains("ln");
        let centre = if norm && tensor.gguf.ends_with("weight") { 1.0 } else { 0.0 };
        let mut one = || half::bf16::from_f32(centre + 0.1 * (rng.random::<f32>() - 0.5));
        let data = (0..count).flat_map(|_| one().to_le_bytes()).collect();
        bytes.push((tensor.published, tensor.shape, data));
    }
    let views: HashMap<&str, TensorView<'_>> = bytes
        .iter()
        .map(|(name, shape, data)| {
            (name.as_str(), TensorView::new(Dtype::BF16, shape.clone(), data).unwrap())
        })
        .collect();
    safetensors::serialize_to_file(views, None, &dir.join("model.safetensors")).unwrap();
}
