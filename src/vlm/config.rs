//! The numbers of a model folder: `config.json`, `preprocessor_config.json` and
//! `generation_config.json`, checked once.
//!
//! Every relation that later code leans on (heads divide the width, one factor for each pair of
//! dimensions, ...) is checked here, so that a wrong file is one message with the field's name and
//! never a panic in the middle of a tensor. Source of the fields: the published `config.json` and
//! `configuration_phi3_v.py` of Phi-3-vision-128k-instruct.

use std::path::Path;

use serde_json::{Map, Value};

use super::error::LoadError;
use super::json_fields::Fields;

/// Most tiles a picture may be cut into. The published model uses 16; 64 tiles are already 9,445
/// tokens.
pub const MAX_NUM_CROPS: usize = 64;

/// What happens to the KV cache when a growing text passes the length up to which the short RoPE
/// factors hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LongContext {
    /// Everything is computed again with the long factors, as the Phi-3.5-vision revision does.
    /// Pictures do not pass through the tower a second time. The result is that of a prompt of the
    /// full length.
    #[default]
    Reprefill,
    /// Cached keys keep their short rotation, as in the Phi-3-vision revision. Cheap, and far from
    /// a full computation.
    Keep,
}

/// All numbers of a model folder.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    /// The text decoder.
    pub decoder: DecoderConfig,
    /// Rotary positions.
    pub rope: RopeConfig,
    /// The vision tower.
    pub vision: VisionConfig,
    /// Whether the tiles stand before the global view (`sub_glb`, published) or after it
    /// (`glb_sub`).
    pub tiles_first: bool,
    /// How pictures are prepared.
    pub image: ImageConfig,
    /// End-of-text ids from `generation_config.json`, or else from `config.json`.
    pub eos_ids: Vec<u32>,
}

/// The decoder's sizes.
#[derive(Clone, Debug, PartialEq)]
pub struct DecoderConfig {
    /// Width of the residual stream.
    pub hidden: usize,
    /// Layers.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Width of one head, even: all of it is rotated.
    pub head_dim: usize,
    /// Width inside the gated feed-forward block.
    pub intermediate: usize,
    /// Rows of the embedding and of the logits; the tokenizer may know fewer.
    pub vocab: usize,
    /// Added to the mean square in RMSNorm.
    pub rms_eps: f64,
    /// How far back a position sees: key j is visible to query i if i - j <= window. `None`: no
    /// limit.
    pub sliding_window: Option<usize>,
    /// Whether the output matrix is the embedding matrix.
    pub tied: bool,
    /// Positions the model was made for.
    pub max_positions: usize,
}

/// LongRoPE's numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct RopeConfig {
    /// Base of the frequencies.
    pub theta: f64,
    /// Sequences up to this length use `short`, longer ones `long`.
    pub original_positions: usize,
    /// One divisor for each pair of dimensions, head_dim / 2 of them.
    pub short: Vec<f32>,
    /// The same for long sequences.
    pub long: Vec<f32>,
    /// Multiplied into cosine and sine, at every length.
    pub attention_factor: f64,
}

/// The vision tower's sizes. Picture side and patch size are fixed: 336 and 14, hence 24 x 24
/// patches.
#[derive(Clone, Debug, PartialEq)]
pub struct VisionConfig {
    /// Width.
    pub hidden: usize,
    /// Width inside the feed-forward block.
    pub intermediate: usize,
    /// Layers in the checkpoint.
    pub layers: usize,
    /// Heads; divides `hidden`.
    pub heads: usize,
    /// Added to the variance in LayerNorm.
    pub layer_norm_eps: f64,
    /// Layers that a picture passes through before its features are taken (published: all but the
    /// last).
    pub used_layers: usize,
}

impl DecoderConfig {
    /// Phi-3-vision-128k's sizes (Phi-3-mini), for counting and planning without its files.
    pub fn phi3_vision_128k() -> DecoderConfig {
        DecoderConfig {
            hidden: 3072,
            layers: 32,
            heads: 32,
            kv_heads: 32,
            head_dim: 96,
            intermediate: 8192,
            vocab: 32_064,
            rms_eps: 1e-5,
            sliding_window: Some(131_072),
            tied: false,
            max_positions: 131_072,
        }
    }
}

impl VisionConfig {
    /// CLIP ViT-L/14-336, whose sizes are constants of the published code and absent from
    /// `config.json`.
    pub fn clip_vit_large_336() -> VisionConfig {
        let (layers, used_layers) = (24, 23);
        VisionConfig {
            hidden: 1024,
            intermediate: 4096,
            layers,
            heads: 16,
            layer_norm_eps: 1e-5,
            used_layers,
        }
    }
}

/// How pictures become numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageConfig {
    /// Most tiles a picture is cut into, where the caller does not say: 16 in Phi-3-vision, 4 in
    /// Phi-3.5-vision.
    pub num_crops: usize,
    /// Subtracted from each channel, on the scale 0 to 1.
    pub mean: [f32; 3],
    /// Each channel is divided by it.
    pub std: [f32; 3],
}

impl Default for ImageConfig {
    /// CLIP's published statistics, and the image processor's own default of one crop.
    fn default() -> ImageConfig {
        let mean = [0.481_454_66, 0.457_827_5, 0.408_210_73];
        ImageConfig { num_crops: 1, mean, std: [0.268_629_54, 0.261_302_6, 0.275_777_1] }
    }
}

/// Reads `config.json`; `eos_ids` and `image` are what that file alone says and may be replaced by
/// the other two.
pub(crate) fn read_model(path: &Path, map: &Map<String, Value>) -> Result<ModelConfig, LoadError> {
    let top = Fields::new(path, map);
    top.choice("model_type", &["phi3_v"])?;
    let decoder = read_decoder(&top)?;
    let rope = read_rope(&top, &decoder)?;
    let vision = read_vision(&top)?;
    let tiles_first = read_embedding_layer(&top)?;
    let eos_ids = top.token_ids("eos_token_id", decoder.vocab)?;
    Ok(ModelConfig { decoder, rope, vision, tiles_first, image: ImageConfig::default(), eos_ids })
}

/// Reads `preprocessor_config.json`.
pub(crate) fn read_image(path: &Path, map: &Map<String, Value>) -> Result<ImageConfig, LoadError> {
    let fields = Fields::new(path, map);
    let published = ImageConfig::default();
    let three = |name: &str, range, absent: [f32; 3]| match fields.get(name) {
        None => Ok(absent),
        Some(_) => fields.numbers(name, 3, range).map(|n| [n[0] as f32, n[1] as f32, n[2] as f32]),
    };
    fields.count_or("num_img_tokens", 144..=144, 144)?;
    Ok(ImageConfig {
        num_crops: fields.count_or("num_crops", 1..=MAX_NUM_CROPS, 1)?,
        mean: three("image_mean", -10.0..=10.0, published.mean)?,
        std: three("image_std", 1e-3..=1e3, published.std)?, // a zero here would make infinite pixels
    })
}

/// Reads the end-of-text ids of `generation_config.json`; empty if the file does not name any.
pub(crate) fn read_eos(
    path: &Path,
    map: &Map<String, Value>,
    vocab: usize,
) -> Result<Vec<u32>, LoadError> {
    Fields::new(path, map).token_ids("eos_token_id", vocab)
}

fn read_decoder(top: &Fields<'_>) -> Result<DecoderConfig, LoadError> {
    top.choice("hidden_act", &["silu"])?;
    if top.get("partial_rotary_factor").is_some_and(|value| value.as_f64() != Some(1.0)) {
        return Err(top.refuse("partial_rotary_factor", "this engine rotates the whole head"));
    }
    let hidden = top.count("hidden_size", 1..=65_536)?;
    let heads = top.count("num_attention_heads", 1..=1_024)?;
    let kv_heads = top.count_or("num_key_value_heads", 1..=1_024, heads)?;
    if !hidden.is_multiple_of(heads) || !(hidden / heads).is_multiple_of(2) {
        let problem =
            format!("hidden_size {hidden} over {heads} heads does not give heads of an even width");
        return Err(top.refuse("num_attention_heads", problem));
    }
    if !heads.is_multiple_of(kv_heads) {
        return Err(top.refuse(
            "num_key_value_heads",
            format!("{kv_heads} does not divide {heads} query heads"),
        ));
    }
    let window = top.count_or("sliding_window", 1..=usize::MAX, usize::MAX)?;
    Ok(DecoderConfig {
        hidden,
        layers: top.count("num_hidden_layers", 1..=512)?,
        heads,
        kv_heads,
        head_dim: hidden / heads,
        intermediate: top.count("intermediate_size", 1..=1 << 20)?,
        vocab: top.count("vocab_size", 1..=1 << 20)?,
        rms_eps: top.number("rms_norm_eps", 1e-12..=1e-1)?,
        sliding_window: (window != usize::MAX).then_some(window),
        tied: top.flag("tie_word_embeddings", false)?,
        max_positions: top.count("max_position_embeddings", 1..=1 << 24)?, // f32 counts exactly up to 2^24
    })
}

fn read_rope(top: &Fields<'_>, decoder: &DecoderConfig) -> Result<RopeConfig, LoadError> {
    let theta = top.number("rope_theta", 1.0..=1e12)?;
    let pairs = decoder.head_dim / 2;
    let max = decoder.max_positions;
    let Some(scaling) = top.object("rope_scaling")? else {
        let plain = vec![1.0; pairs];
        return Ok(RopeConfig {
            theta,
            original_positions: max,
            short: plain.clone(),
            long: plain,
            attention_factor: 1.0,
        });
    };
    const KNOWN: [&str; 5] =
        ["type", "rope_type", "short_factor", "long_factor", "original_max_position_embeddings"];
    if let Some(name) = scaling.names().find(|name| !KNOWN.contains(name)) {
        return Err(scaling
            .refuse(name, "this engine does not know this setting, and would compute without it"));
    }
    let name = if scaling.get("type").is_some() { "type" } else { "rope_type" };
    if scaling.get(name).is_none() {
        return Err(scaling.refuse("type", "is missing"));
    }
    scaling.choice(name, &["su", "longrope"])?; // two names of one thing: newer forks renamed it
    let holder = if top.get("original_max_position_embeddings").is_some() { top } else { &scaling };
    let original = holder.count("original_max_position_embeddings", 1..=1 << 24)?;
    if original == 1 && max > 1 {
        return Err(holder.refuse(
            "original_max_position_embeddings",
            "1 leaves the attention factor undefined",
        ));
    }
    let factors = |name: &str| -> Result<Vec<f32>, LoadError> {
        Ok(scaling
            .numbers(name, pairs, 1e-3..=1e6)?
            .into_iter()
            .map(|factor| factor as f32)
            .collect())
    };
    Ok(RopeConfig {
        theta,
        original_positions: original,
        short: factors("short_factor")?,
        long: factors("long_factor")?,
        attention_factor: attention_factor(max, original),
    })
}

/// sqrt(1 + ln(max / original) / ln(original)): 1.190238 for 131072 over 4096.
/// Source: `Phi3SuScaledRotaryEmbedding`, modeling_phi3_v.py.
fn attention_factor(max: usize, original: usize) -> f64 {
    if max <= original {
        return 1.0;
    }
    (1.0 + (max as f64 / original as f64).ln() / (original as f64).ln()).sqrt()
}

fn read_vision(top: &Fields<'_>) -> Result<VisionConfig, LoadError> {
    let Some(processor) = top.object("img_processor")? else {
        return Err(top.refuse("img_processor", "is missing: this is not a vision model"));
    };
    processor.choice("name", &["clip_vision_model"])?;
    processor.choice("type_feature", &["patch"])?;
    processor.count_or("num_img_tokens", 144..=144, 144)?;
    let mut vision = match processor.object("vision_config")? {
        None => VisionConfig::clip_vit_large_336(),
        Some(fields) => read_tower(&fields)?,
    };
    let out = processor.count_or("image_dim_out", 1..=1 << 20, vision.hidden)?;
    if out != vision.hidden {
        let problem = format!("{out} differs from the tower's width of {}", vision.hidden);
        return Err(processor.refuse("image_dim_out", problem));
    }
    vision.used_layers = read_layer_idx(&processor, vision.layers)?;
    Ok(vision)
}

/// The optional sizes of a tower that is not ViT-L/14-336.
fn read_tower(fields: &Fields<'_>) -> Result<VisionConfig, LoadError> {
    fields.choice("hidden_act", &["quick_gelu"])?;
    fields.count_or("image_size", 336..=336, 336)?;
    fields.count_or("patch_size", 14..=14, 14)?;
    fields.count_or("num_channels", 3..=3, 3)?;
    let hidden = fields.count("hidden_size", 1..=16_384)?;
    let heads = fields.count("num_attention_heads", 1..=1_024)?;
    if !hidden.is_multiple_of(heads) {
        return Err(fields.refuse(
            "num_attention_heads",
            format!("{heads} does not divide hidden_size {hidden}"),
        ));
    }
    let layer_norm_eps = if fields.get("layer_norm_eps").is_some() {
        fields.number("layer_norm_eps", 1e-12..=1e-1)?
    } else {
        1e-5
    };
    let layers = fields.count("num_hidden_layers", 1..=512)?;
    let intermediate = fields.count("intermediate_size", 1..=1 << 20)?;
    Ok(VisionConfig { hidden, intermediate, layers, heads, layer_norm_eps, used_layers: layers })
}

/// `layer_idx` picks from the list [embeddings, after layer 0, ..., after the last]; -2, the
/// default, is one layer before the last. What counts here is how many layers that makes.
fn read_layer_idx(processor: &Fields<'_>, layers: usize) -> Result<usize, LoadError> {
    let entries = layers as i64 + 1;
    let index = match processor.get("layer_idx") {
        None => -2,
        Some(value) => value.as_i64().unwrap_or(i64::MAX),
    };
    if !(-entries..entries).contains(&index) {
        let problem = format!("expected a whole number from {} to {}", -entries, entries - 1);
        return Err(processor.refuse("layer_idx", problem));
    }
    Ok(index.rem_euclid(entries) as usize)
}

/// Checks `embd_layer` and says whether the tiles come first.
fn read_embedding_layer(top: &Fields<'_>) -> Result<bool, LoadError> {
    let Some(layer) = top.object("embd_layer")? else {
        return Err(top.refuse("embd_layer", "is missing: this is not a vision model"));
    };
    layer.choice("embedding_cls", &["image"])?;
    layer.choice("projection_cls", &["mlp"])?;
    for name in ["use_hd_transform", "with_learnable_separator"] {
        if !layer.flag(name, false)? {
            return Err(layer.refuse(name, "this engine knows only the published form, true"));
        }
    }
    if layer.get("hd_transform_order").is_none() {
        return Ok(false); // the published code's default is glb_sub
    }
    Ok(layer.choice("hd_transform_order", &["sub_glb", "glb_sub"])? == "sub_glb")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_attention_factor() {
        assert!((attention_factor(131_072, 4_096) - 1.190_238).abs() < 1e-6);
        assert_eq!(attention_factor(4_096, 4_096), 1.0);
    }

    #[test]
    fn layer_idx_counts_the_embeddings_as_entry_zero() {
        let path = Path::new("config.json");
        let used = |json: &str| {
            let map = crate::vlm::json_fields::parse_object(path, json.as_bytes()).unwrap();
            read_layer_idx(&Fields::new(path, &map), 24).ok()
        };
        assert_eq!(used("{}"), Some(23));
        assert_eq!(used(r#"{"layer_idx": -1}"#), Some(24));
        assert_eq!(used(r#"{"layer_idx": 0}"#), Some(0));
        assert_eq!(used(r#"{"layer_idx": 25}"#), None);
        assert_eq!(used(r#"{"layer_idx": 1.5}"#), None);
    }
}
