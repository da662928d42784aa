//! The CLIP tower: one view of 336 x 336 pixels to 576 patch features.
//!
//! The features are those after all layers but the last (`layer_idx` -2 of a list that begins with
//! the embeddings), without the final LayerNorm; the class token takes part in the attention and is
//! then dropped. Layers that are not used are not loaded. Source: `CLIPVisionModel` as used by
//! `Phi3ImageEmbedding.get_img_features`.

use candle_core::{DType, Result, Tensor};
use candle_nn::ops::{layer_norm, softmax_last_dim};

use super::activation::quick_gelu;
use super::config::VisionConfig;
use super::error::LoadError;
use super::linear::{Linear, Loader};
use super::pixels::{TILE, TILE_LEN};
use super::progress;
use super::weight_bytes::WeightBytes;

/// Side of a patch in pixels.
const PATCH: usize = 14;
/// Patches along one side of a view.
pub const GRID: usize = TILE / PATCH;
/// Patches of a view.
pub const PATCHES: usize = GRID * GRID;

const PREFIX: &str = "model.vision_embed_tokens.img_processor.vision_model";

/// The vision tower.
pub struct Tower {
    /// The convolution as a matrix product: (width, 588).
    patches: Linear,
    /// (1, width)
    class: Tensor,
    /// (577, width), row 0 for the class token
    positions: Tensor,
    pre_norm: LayerNorm,
    layers: Vec<Layer>,
}

struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    eps: f32,
}

struct Layer {
    norm1: LayerNorm,
    query: Linear,
    key: Linear,
    value: Linear,
    out: Linear,
    norm2: LayerNorm,
    fc1: Linear,
    fc2: Linear,
    heads: usize,
}

impl Tower {
    pub(crate) fn load(
        loader: &Loader<'_>,
        config: &VisionConfig,
    ) -> std::result::Result<Tower, LoadError> {
        let width = config.hidden;
        let tensor =
            |name: &str, shape: &[usize]| loader.tensor(&format!("{PREFIX}.{name}"), shape);
        let convolution = tensor("embeddings.patch_embedding.weight", &[width, 3, PATCH, PATCH])?;
        let weight = convolution.reshape((width, 3 * PATCH * PATCH))?; // (width, 588)
        let layers = (0..config.used_layers).map(|number| Layer::load(loader, config, number));
        Ok(Tower {
            patches: Linear::Dense { weight, bias: None },
            class: tensor("embeddings.class_embedding", &[width])?.reshape((1, width))?,
            positions: tensor("embeddings.position_embedding.weight", &[PATCHES + 1, width])?,
            pre_norm: LayerNorm::load(loader, &format!("{PREFIX}.pre_layrnorm"), config)?, // the spelling is theirs
            layers: layers.collect::<std::result::Result<_, _>>()?,
        })
    }

    /// `view`: (3, 336, 336), normalised. Returns (576, width), row-major over the 24 x 24 grid.
    ///
    /// A layer whose weights are mapped leaves memory once it is passed, so that tower and decoder
    /// never stand in memory together. Its pages stay in the system's cache while there is room, and
    /// are back at the next view in a hundredth of its time (benches/RESULTS.md).
    pub fn forward(&self, view: &Tensor) -> Result<Tensor> {
        let mut x = self.enter(view)?; // (577, width)
        for layer in &self.layers {
            x = layer.forward(&x)?; // (577, width)
            progress::step();
            layer.products().into_iter().for_each(Linear::release);
        }
        x.narrow(0, 1, PATCHES) // (576, width)
    }

    /// Bytes of the weights, which each view reads.
    pub fn weight_bytes(&self) -> WeightBytes {
        let layers = self.layers.iter().flat_map(Layer::products);
        WeightBytes::of(std::iter::once(&self.patches).chain(layers))
    }

    /// The same without a tower in memory: each layer is loaded, passed and let go.
    pub(crate) fn pass_layer_by_layer(
        loader: &Loader<'_>,
        config: &VisionConfig,
        view: &Tensor,
    ) -> std::result::Result<Tensor, LoadError> {
        let entrance = Tower::load(loader, &VisionConfig { used_layers: 0, ..config.clone() })?;
        let mut x = entrance.enter(view)?; // (577, width)
        for number in 0..config.used_layers {
            x = Layer::load(loader, config, number)?.forward(&x)?; // (577, width)
            loader.folder.release();
        }
        Ok(x.narrow(0, 1, PATCHES)?) // (576, width)
    }

    /// Patches with class token and positions, after the first norm: (577, width).
    fn enter(&self, view: &Tensor) -> Result<Tensor> {
        assert_eq!(view.elem_count(), TILE_LEN, "a view is one tile");
        let rows = view
            .reshape((3, GRID, PATCH, GRID, PATCH))?
            .permute((1, 3, 0, 2, 4))? // (24, 24, 3, 14, 14)
            .reshape((PATCHES, 3 * PATCH * PATCH))?; // (576, 588)
        let patches = self.patches.forward(&rows)?; // (576, width)
        let x = Tensor::cat(&[&self.class, &patches], 0)?; // (577, width)
        self.pre_norm.forward(&(x + &self.positions)?)
    }
}

impl LayerNorm {
    fn load(
        loader: &Loader<'_>,
        name: &str,
        config: &VisionConfig,
    ) -> std::result::Result<LayerNorm, LoadError> {
        let weight = loader.tensor(&format!("{name}.weight"), &[config.hidden])?;
        let bias = loader.tensor(&format!("{name}.bias"), &[config.hidden])?;
        Ok(LayerNorm { weight, bias, eps: config.layer_norm_eps as f32 })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        layer_norm(x, &self.weight, &self.bias, self.eps)
    }
}

impl Layer {
    fn load(
        loader: &Loader<'_>,
        config: &VisionConfig,
        number: usize,
    ) -> std::result::Result<Layer, LoadError> {
        let (width, inner) = (config.hidden, config.intermediate);
        let name = |part: &str| format!("{PREFIX}.encoder.layers.{number}.{part}");
        Ok(Layer {
            norm1: LayerNorm::load(loader, &name("layer_norm1"), config)?,
            query: loader.biased(&name("self_attn.q_proj"), width, width)?,
            key: loader.biased(&name("self_attn.k_proj"), width, width)?,
            value: loader.biased(&name("self_attn.v_proj"), width, width)?,
            out: loader.biased(&name("self_attn.out_proj"), width, width)?,
            norm2: LayerNorm::load(loader, &name("layer_norm2"), config)?,
            fc1: loader.biased(&name("mlp.fc1"), inner, width)?,
            fc2: loader.biased(&name("mlp.fc2"), width, inner)?,
            heads: config.heads,
        })
    }

    fn products(&self) -> [&Linear; 6] {
        [&self.query, &self.key, &self.value, &self.out, &self.fc1, &self.fc2]
    }

    /// `x`: (577, width). Returns the same shape.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = (x + self.attention(&self.norm1.forward(x)?)?)?; // (577, width)
        let inner = quick_gelu(&self.fc1.forward(&self.norm2.forward(&x)?)?)?; // (577, intermediate)
        x + self.fc2.forward(&inner)?
    }

    /// Every patch sees every patch. Plain products and softmax: candle's fused CPU attention is
    /// slower at this size.
    fn attention(&self, x: &Tensor) -> Result<Tensor> {
        let (rows, width) = x.dims2()?;
        let head_dim = width / self.heads;
        let heads =
            |y: Tensor| y.reshape((rows, self.heads, head_dim))?.transpose(0, 1)?.contiguous();
        let scale = (head_dim as f64).powf(-0.5);
        let q = heads((self.query.forward(x)? * scale)?)?; // (heads, 577, head_dim)
        let k = heads(self.key.forward(x)?)?; // (heads, 577, head_dim)
        let v = heads(self.value.forward(x)?)?; // (heads, 577, head_dim)
        // In f32: 16-bit sums over 577 patches lose more than all else of the tower together.
        let scores = q.matmul(&k.t()?)?.to_dtype(DType::F32)?; // (heads, 577, 577)
        let weights = softmax_last_dim(&scores)?.to_dtype(x.dtype())?; // (heads, 577, 577)
        let mixed = weights.matmul(&v)?.transpose(0, 1)?.reshape((rows, width))?; // (577, width)
        self.out.forward(&mixed)
    }
}
