//! The one table of a model's tensors: published name, name in a GGUF file, shape and role.
//!
//! The published names of the tower are longer than the 64 bytes that GGUF allows, so the file
//! bears llama.cpp's names. A line of the table stands for one tensor, or for one in each layer
//! where it has a `{}`.

use crate::vlm::config::ModelConfig;
use crate::vlm::vision::PATCHES;

/// What a tensor does, as far as its storage depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The table of token embeddings.
    Embedding,
    /// The output head.
    Head,
    /// Queries, keys and values in one.
    Qkv,
    /// The attention's output.
    AttentionOut,
    /// Gate and up projection in one.
    FeedUp,
    /// The way down from the wide part of the feed-forward block.
    FeedDown,
    /// A matrix of the vision tower or the projector.
    Eye,
    /// The convolution that cuts a picture into patches.
    Convolution,
    /// Norms, biases, positions and separators: small, and kept exact.
    Exact,
}

/// One tensor of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Named {
    /// The name in the publisher's files.
    pub published: String,
    /// The name in a GGUF file.
    pub gguf: String,
    /// The sides, the row's length last.
    pub shape: Vec<usize>,
    /// What it does.
    pub role: Role,
    /// The decoder layer it belongs to.
    pub layer: Option<usize>,
}

/// How often a line of the table stands for a tensor.
#[derive(Clone, Copy, PartialEq)]
enum Times {
    Once,
    /// Once in each decoder layer.
    Layers,
    /// Once in each tower layer that a picture passes through.
    TowerLayers,
    /// Once, unless the head is the embedding table.
    Untied,
}

type Shape = fn(&ModelConfig) -> Vec<usize>;

struct Line {
    published: &'static str,
    gguf: &'static str,
    times: Times,
    role: Role,
    shape: Shape,
}

const fn line(
    published: &'static str,
    gguf: &'static str,
    times: Times,
    role: Role,
    shape: Shape,
) -> Line {
    Line { published, gguf, times, role, shape }
}

/// The width of the decoder.
const HIDDEN: Shape = |c| vec![c.decoder.hidden];
/// The width of the tower.
const WIDTH: Shape = |c| vec![c.vision.hidden];
/// The table of tokens.
const VOCAB: Shape = |c| vec![c.decoder.vocab, c.decoder.hidden];
/// A square of the tower.
const TOWER_SQUARE: Shape = |c| vec![c.vision.hidden, c.vision.hidden];

/// Defines the table with the tower's prefixes spelled once.
macro_rules! tower {
    ($rest:literal) => {
        concat!("model.vision_embed_tokens.img_processor.vision_model.", $rest)
    };
}
macro_rules! tower_layer {
    ($rest:literal) => {
        concat!("model.vision_embed_tokens.img_processor.vision_model.encoder.layers.{}.", $rest)
    };
}
macro_rules! projector {
    ($rest:literal) => {
        concat!("model.vision_embed_tokens.", $rest)
    };
}

#[rustfmt::skip]
static TABLE: [Line; 38] = {
    use Role::{AttentionOut, Convolution, Embedding, Exact, Eye, FeedDown, FeedUp, Head, Qkv};
    use Times::{Layers, Once, TowerLayers, Untied};
    [
        line("model.embed_tokens.weight", "token_embd.weight", Once, Embedding, VOCAB),
        line("model.layers.{}.input_layernorm.weight", "blk.{}.attn_norm.weight", Layers, Exact, HIDDEN),
        line("model.layers.{}.self_attn.qkv_proj.weight", "blk.{}.attn_qkv.weight", Layers, Qkv,
            |c| vec![(c.decoder.heads + 2 * c.decoder.kv_heads) * c.decoder.head_dim, c.decoder.hidden]),
        line("model.layers.{}.self_attn.o_proj.weight", "blk.{}.attn_output.weight", Layers, AttentionOut,
            |c| vec![c.decoder.hidden, c.decoder.heads * c.decoder.head_dim]),
        line("model.layers.{}.post_attention_layernorm.weight", "blk.{}.ffn_norm.weight", Layers, Exact, HIDDEN),
        line("model.layers.{}.mlp.gate_up_proj.weight", "blk.{}.ffn_up.weight", Layers, FeedUp,
            |c| vec![2 * c.decoder.intermediate, c.decoder.hidden]),
        line("model.layers.{}.mlp.down_proj.weight", "blk.{}.ffn_down.weight", Layers, FeedDown,
            |c| vec![c.decoder.hidden, c.decoder.intermediate]),
        line("model.norm.weight", "output_norm.weight", Once, Exact, HIDDEN),
        line("lm_head.weight", "output.weight", Untied, Head, VOCAB),

        line(tower!("embeddings.class_embedding"), "v.class_embd", Once, Exact, WIDTH),
        line(tower!("embeddings.patch_embedding.weight"), "v.patch_embd.weight", Once, Convolution,
            |c| vec![c.vision.hidden, 3, 14, 14]),
        line(tower!("embeddings.position_embedding.weight"), "v.position_embd.weight", Once, Exact,
            |c| vec![PATCHES + 1, c.vision.hidden]),
        line(tower!("pre_layrnorm.weight"), "v.pre_ln.weight", Once, Exact, WIDTH), // the spelling is theirs
        line(tower!("pre_layrnorm.bias"), "v.pre_ln.bias", Once, Exact, WIDTH),
        line(tower_layer!("layer_norm1.weight"), "v.blk.{}.ln1.weight", TowerLayers, Exact, WIDTH),
        line(tower_layer!("layer_norm1.bias"), "v.blk.{}.ln1.bias", TowerLayers, Exact, WIDTH),
        line(tower_layer!("self_attn.q_proj.weight"), "v.blk.{}.attn_q.weight", TowerLayers, Eye, TOWER_SQUARE),
        line(tower_layer!("self_attn.q_proj.bias"), "v.blk.{}.attn_q.bias", TowerLayers, Exact, WIDTH),
        line(tower_layer!("self_attn.k_proj.weight"), "v.blk.{}.attn_k.weight", TowerLayers, Eye, TOWER_SQUARE),
        line(tower_layer!("self_attn.k_proj.bias"), "v.blk.{}.attn_k.bias", TowerLayers, Exact, WIDTH),
        line(tower_layer!("self_attn.v_proj.weight"), "v.blk.{}.attn_v.weight", TowerLayers, Eye, TOWER_SQUARE),
        line(tower_layer!("self_attn.v_proj.bias"), "v.blk.{}.attn_v.bias", TowerLayers, Exact, WIDTH),
        line(tower_layer!("self_attn.out_proj.weight"), "v.blk.{}.attn_out.weight", TowerLayers, Eye, TOWER_SQUARE),
        line(tower_layer!("self_attn.out_proj.bias"), "v.blk.{}.attn_out.bias", TowerLayers, Exact, WIDTH),
        line(tower_layer!("layer_norm2.weight"), "v.blk.{}.ln2.weight", TowerLayers, Exact, WIDTH),
        line(tower_layer!("layer_norm2.bias"), "v.blk.{}.ln2.bias", TowerLayers, Exact, WIDTH),
        line(tower_layer!("mlp.fc1.weight"), "v.blk.{}.ffn_up.weight", TowerLayers, Eye,
            |c| vec![c.vision.intermediate, c.vision.hidden]),
        line(tower_layer!("mlp.fc1.bias"), "v.blk.{}.ffn_up.bias", TowerLayers, Exact, |c| vec![c.vision.intermediate]),
        line(tower_layer!("mlp.fc2.weight"), "v.blk.{}.ffn_down.weight", TowerLayers, Eye,
            |c| vec![c.vision.hidden, c.vision.intermediate]),
        line(tower_layer!("mlp.fc2.bias"), "v.blk.{}.ffn_down.bias", TowerLayers, Exact, WIDTH),

        line(projector!("glb_GN"), "mm.glb_GN", Once, Exact, |c| vec![1, 1, 4 * c.vision.hidden]),
        line(projector!("sub_GN"), "mm.sub_GN", Once, Exact, |c| vec![1, 1, 1, 4 * c.vision.hidden]),
        line(projector!("img_projection.0.weight"), "mm.0.weight", Once, Eye,
            |c| vec![c.decoder.hidden, 4 * c.vision.hidden]),
        line(projector!("img_projection.0.bias"), "mm.0.bias", Once, Exact, HIDDEN),
        line(projector!("img_projection.2.weight"), "mm.2.weight", Once, Eye,
            |c| vec![c.decoder.hidden, c.decoder.hidden]),
        line(projector!("img_projection.2.bias"), "mm.2.bias", Once, Exact, HIDDEN),
        // Published, but no picture passes through them: known by name, never stored.
        line(tower!("post_layernorm.weight"), "v.post_ln.weight", Once, Exact, WIDTH),
        line(tower!("post_layernorm.bias"), "v.post_ln.bias", Once, Exact, WIDTH),
    ]
};

/// Every tensor that a model of these numbers needs, in the order in which a file holds them: as a
/// token passes through the decoder, then the tower, then the projector. Tower layers beyond the
/// used ones and the tower's last norm are left out.
pub fn tensors(config: &ModelConfig) -> Vec<Named> {
    let mut all = Vec::new();
    let mut rest = TABLE.iter().filter(|line| !line.gguf.starts_with("v.post_ln.")).peekable();
    while let Some(first) = rest.next() {
        // Lines of one kind of layer stand together, and so do a layer's tensors in the file.
        let mut group = vec![first];
        let layered = matches!(first.times, Times::Layers | Times::TowerLayers);
        while let Some(next) = rest.next_if(|next| layered && next.times == first.times) {
            group.push(next);
        }
        let count = match first.times {
            Times::Once => 1,
            Times::Untied => usize::from(!config.decoder.tied),
            Times::Layers => config.decoder.layers,
            Times::TowerLayers => config.vision.used_layers,
        };
        for number in 0..count {
            all.extend(group.iter().map(|line| line.named(config, number)));
        }
    }
    all
}

impl Line {
    fn named(&self, config: &ModelConfig, number: usize) -> Named {
        let fill = |pattern: &str| pattern.replace("{}", &number.to_string());
        Named {
            published: fill(self.published),
            gguf: fill(self.gguf),
            shape: (self.shape)(config),
            role: self.role,
            layer: (self.times == Times::Layers).then_some(number),
        }
    }
}

/// The name in a GGUF file of the tensor that is published as `name`; `None` if the model has no
/// such tensor.
pub fn gguf_name(name: &str) -> Option<String> {
    TABLE.iter().find_map(|line| {
        let (before, after) = line.published.split_once("{}").unwrap_or((line.published, ""));
        let middle = name.strip_prefix(before)?.strip_suffix(after)?;
        let layered = line.published.contains("{}");
        let fits = if layered {
            !middle.is_empty() && middle.bytes().all(|byte| byte.is_ascii_digit())
        } else {
            middle.is_empty()
        };
        fits.then(|| line.gguf.replace("{}", middle))
    })
}

/// The sizes of Phi-3-vision-128k-instruct; what has no influence on tensors is left plain.
#[cfg(test)]
pub(crate) fn published_sizes() -> ModelConfig {
    use crate::vlm::config::{DecoderConfig, ImageConfig, RopeConfig, VisionConfig};
    ModelConfig {
        decoder: DecoderConfig::phi3_vision_128k(),
        rope: RopeConfig {
            theta: 10_000.0,
            original_positions: 4096,
            short: vec![1.0; 48],
            long: vec![1.0; 48],
            attention_factor: 1.190_238,
        },
        vision: VisionConfig::clip_vit_large_336(),
        tiles_first: true,
        image: ImageConfig::default(),
        eos_ids: vec![32_000, 32_007],
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::path::Path;

    use super::*;
    use crate::vlm::engine::read_config;
    use crate::vlm::weights::ModelFolder;

    #[test]
    fn names_are_short_enough_and_never_the_same() {
        let mut config = published_sizes();
        config.vision.used_layers = 24;
        let all = tensors(&config);
        let mut seen = HashSet::new();
        for tensor in &all {
            assert!(tensor.gguf.len() <= 64, "{}", tensor.gguf);
            assert!(seen.insert(tensor.gguf.clone()), "{}", tensor.gguf);
            assert_eq!(gguf_name(&tensor.published).as_ref(), Some(&tensor.gguf));
        }
        assert_eq!(all.len(), 590, "the 592 published names less the norm that is not used");
    }

    #[test]
    fn strangers_have_no_name() {
        for name in
            ["", "model.layers..mlp.down_proj.weight", "model.layers.x.mlp.down_proj.weight"]
        {
            assert_eq!(gguf_name(name), None, "{name}");
        }
        assert_eq!(gguf_name("model.layers.1.2.mlp.down_proj.weight"), None);
        assert_eq!(gguf_name("model.norm.weights"), None);
    }

    /// Every tensor of the models at hand is in the table, under its shape.
    #[test]
    fn the_table_covers_real_models() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        for model in ["models/builtin", "tests/fixtures/tiny_gqa"] {
            let mut folder = ModelFolder::open(&root.join(model)).unwrap();
            for name in folder.tensor_names() {
                assert!(gguf_name(&name).is_some(), "{model}: {name}");
            }
            let config = read_config(&mut folder).unwrap();
            for tensor in tensors(&config) {
                assert!(folder.stored(&tensor.published, &tensor.shape).is_ok(), "{tensor:?}");
            }
        }
    }
}
