//! The text decoder (Phi-3-mini): embeddings in, hidden states out; logits are a second call on the
//! rows wanted.
//!
//! It takes embeddings, not ids, because a picture's tokens have no ids. Weights are `&self`, state
//! is the `KvCache` that is passed in. Source: modeling_phi3_v.py (`Phi3Attention`,
//! `Phi3MLP`, `Phi3RMSNorm`, eager attention).

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::ops::{rms_norm, rms_norm_slow};

use super::activation::gated_silu;
use super::attend::{self, Sight, attend, plain};
use super::config::{DecoderConfig, ModelConfig};
use super::error::{EngineError, LoadError};
use super::kv_cache::KvCache;
use super::linear::{Linear, Loader};
use super::lora::{Adapter, Target};
use super::progress;
use super::quant::Matrix;
use super::rope::{Regime, Rope, RopeTables};
use super::weight_bytes::WeightBytes;

/// The decoder's weights.
pub struct Decoder {
    embedding: Embedding,
    layers: Vec<Layer>,
    norm: RmsNorm,
    head: Linear,
    rope: Rope,
    config: DecoderConfig,
    dtype: DType,
    device: Device,
}

/// The vectors of the vocabulary: (vocab, hidden).
enum Embedding {
    Dense(Tensor),
    /// Rows become numbers as they are asked for.
    Quantised(Matrix),
}

struct RmsNorm {
    weight: Tensor,
    eps: f32,
}

struct Layer {
    input_norm: RmsNorm,
    attention: Attention,
    inner_norm: RmsNorm,
    gate_up: Linear,
    down: Linear,
}

struct Attention {
    qkv: Linear,
    out: Linear,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
}

/// What all layers of one pass share.
struct Pass<'a> {
    tables: RopeTables,
    /// First cached position that any row of this pass may see.
    first_key: usize,
    /// What each row may see of the positions from `first_key` on.
    sight: Sight,
    /// Whether the attention is [`attend`]'s; if not, it is [`plain`]'s.
    is_fused: bool,
    /// The same as `sight` for [`plain`]: (rows, keys).
    mask: Option<Tensor>,
    /// What stands beside the layers, if anything does.
    adapter: Option<&'a Adapter>,
}

impl Decoder {
    pub(crate) fn load(
        loader: &Loader<'_>,
        model: &ModelConfig,
    ) -> std::result::Result<Decoder, LoadError> {
        let config = model.decoder.clone();
        let tokens = loader.linear("model.embed_tokens", config.vocab, config.hidden)?;
        let (embedding, tied) = match tokens {
            Linear::Dense { weight, .. } => {
                (Embedding::Dense(weight.clone()), Linear::Dense { weight, bias: None })
            }
            Linear::Quantised { weight, .. } => {
                (Embedding::Quantised(weight.clone()), Linear::Quantised { weight, bias: None })
            }
            Linear::Observed { .. } => unreachable!("only `Loader::observed` makes one"),
            // A GPU does not take rows out of blocks.
            blocks @ Linear::OnDevice { .. } => {
                let shape = [config.vocab, config.hidden];
                (Embedding::Dense(loader.tensor("model.embed_tokens.weight", &shape)?), blocks)
            }
        }; // the copies share the storage
        let head = match config.tied {
            true => tied,
            false => loader.observed("lm_head", config.vocab, config.hidden)?,
        };
        let layers = (0..config.layers).map(|number| Layer::load(loader, &config, number));
        Ok(Decoder {
            embedding,
            layers: layers.collect::<std::result::Result<_, _>>()?,
            norm: RmsNorm::load(loader, "model.norm", &config)?,
            head,
            rope: Rope::new(&model.rope),
            config,
            dtype: loader.dtype,
            device: loader.device.clone(),
        })
    }

    /// The embeddings of text ids, each below the vocabulary's size (the tensor library refuses
    /// others). Returns (ids, hidden).
    pub fn embed(&self, ids: &[u32]) -> Result<Tensor> {
        match &self.embedding {
            Embedding::Dense(vectors) => {
                let ids = Tensor::from_slice(ids, ids.len(), &self.device)?; // (ids)
                vectors.index_select(&ids, 0)
            }
            Embedding::Quantised(vectors) => vectors.rows(ids),
        }
    }

    /// Computes `embeddings`, (rows, hidden), as the positions that follow those in `cache`, and
    /// adds them to it. Returns the hidden states after the last norm: (rows, hidden).
    ///
    /// # Errors
    /// [`EngineError::ContextFull`] before any computation. After any error the cache holds what it
    /// held.
    pub fn forward(
        &self,
        embeddings: &Tensor,
        cache: &mut KvCache,
        regime: Regime,
    ) -> std::result::Result<Tensor, EngineError> {
        self.run(embeddings, cache, regime, None, &mut |_, _| {})
    }

    /// The same with `adapter` beside the layers.
    ///
    /// # Errors
    /// As [`Decoder::forward`], and [`EngineError::Prompt`] for an adapter with another number of
    /// layers.
    pub fn forward_adapted(
        &self,
        embeddings: &Tensor,
        cache: &mut KvCache,
        regime: Regime,
        adapter: Option<&Adapter>,
    ) -> std::result::Result<Tensor, EngineError> {
        self.run(embeddings, cache, regime, adapter, &mut |_, _| {})
    }

    /// [`Decoder::forward`]; `after_layer` sees each layer's number and output, (rows, hidden). For tests and
    /// diagnosis.
    pub fn forward_observed(
        &self,
        embeddings: &Tensor,
        cache: &mut KvCache,
        regime: Regime,
        after_layer: &mut dyn FnMut(usize, &Tensor),
    ) -> std::result::Result<Tensor, EngineError> {
        self.run(embeddings, cache, regime, None, after_layer)
    }

    fn run(
        &self,
        embeddings: &Tensor,
        cache: &mut KvCache,
        regime: Regime,
        adapter: Option<&Adapter>,
        after_layer: &mut dyn FnMut(usize, &Tensor),
    ) -> std::result::Result<Tensor, EngineError> {
        if adapter.is_some_and(|adapter| adapter.layers() != self.layers.len()) {
            return Err(EngineError::Prompt("the adapter is of another model".to_string()));
        }
        let rows = embeddings.dim(0)?;
        cache.reserve(rows)?;
        let pass = Pass { adapter, ..self.pass(cache, rows, regime)? };
        let mut x = embeddings.clone(); // (rows, hidden)
        for (number, layer) in self.layers.iter().enumerate() {
            x = layer.forward(&x, &pass, cache, number)?; // (rows, hidden)
            progress::step();
            after_layer(number, &x);
        }
        cache.advance(rows);
        Ok(self.norm.forward(&x)?)
    }

    /// The logits of hidden states: (rows, hidden) to (rows, vocab), f32.
    pub fn logits(&self, hidden: &Tensor) -> Result<Tensor> {
        self.head.forward(hidden)?.to_dtype(DType::F32)
    }

    /// The rotary tables' owner, which knows the list for a length.
    pub fn rope(&self) -> &Rope {
        &self.rope
    }

    /// The sizes.
    pub fn config(&self) -> &DecoderConfig {
        &self.config
    }

    /// Whether the layers' weights are quantised.
    pub fn is_quantised(&self) -> bool {
        self.layers.iter().any(|layer| layer.gate_up.is_quantised())
    }

    /// Bytes of the layers' weights, which every pass reads.
    pub fn layer_bytes(&self) -> WeightBytes {
        let products = |layer: &Layer| {
            let Layer { attention, gate_up, down, .. } = layer;
            WeightBytes::of([&attention.qkv, &attention.out, gate_up, down])
        };
        self.layers.iter().map(products).sum()
    }

    /// Bytes of the output matrix, which each reading of logits reads.
    pub fn head_bytes(&self) -> WeightBytes {
        self.head.weight_bytes()
    }

    fn pass(&self, cache: &KvCache, rows: usize, regime: Regime) -> Result<Pass<'static>> {
        let (dtype, device, held) = (self.dtype, &self.device, cache.len());
        let tables = self.rope.tables(regime, held, rows, dtype, device)?;
        let window = self.config.sliding_window;
        let first_key = window.map_or(0, |window| held.saturating_sub(window));
        let sight = Sight { first_row: held - first_key, window };
        let is_fused = attend::serves(dtype, device, cache.form());
        let mask = match is_fused {
            true => None,
            false => plain::mask(sight, rows, dtype, device)?, // (rows, keys)
        };
        Ok(Pass { tables, first_key, sight, is_fused, mask, adapter: None })
    }
}

impl Pass<'_> {
    /// What `layer` makes of `x`, (rows, in), with what the adapter adds: (rows, out).
    fn apply(&self, layer: &Linear, number: usize, target: Target, x: &Tensor) -> Result<Tensor> {
        let y = layer.forward(x)?; // (rows, out)
        match self.adapter {
            Some(adapter) => adapter.add(number, target, x, y),
            None => Ok(y),
        }
    }
}

impl RmsNorm {
    fn load(
        loader: &Loader<'_>,
        name: &str,
        config: &DecoderConfig,
    ) -> std::result::Result<RmsNorm, LoadError> {
        let weight = loader.tensor(&format!("{name}.weight"), &[config.hidden])?;
        Ok(RmsNorm { weight, eps: config.rms_eps as f32 })
    }

    /// `x`: (rows, hidden). Normalised in f32, brought back to x's type, and only then multiplied
    /// by the weight.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match x.dtype() {
            DType::F32 => rms_norm(x, &self.weight, self.eps), // one fused pass, the same order
            _ => rms_norm_slow(x, &self.weight, self.eps),
        }
    }
}

impl Layer {
    fn load(
        loader: &Loader<'_>,
        config: &DecoderConfig,
        number: usize,
    ) -> std::result::Result<Layer, LoadError> {
        let DecoderConfig { hidden, intermediate, heads, kv_heads, head_dim, .. } = *config;
        let name = |part: &str| format!("model.layers.{number}.{part}");
        let attention = Attention {
            qkv: loader.observed(
                &name("self_attn.qkv_proj"),
                (heads + 2 * kv_heads) * head_dim,
                hidden,
            )?,
            out: loader.observed(&name("self_attn.o_proj"), hidden, heads * head_dim)?,
            heads,
            kv_heads,
            head_dim,
        };
        Ok(Layer {
            input_norm: RmsNorm::load(loader, &name("input_layernorm"), config)?,
            attention,
            inner_norm: RmsNorm::load(loader, &name("post_attention_layernorm"), config)?,
            gate_up: loader.observed(&name("mlp.gate_up_proj"), 2 * intermediate, hidden)?,
            down: loader.observed(&name("mlp.down_proj"), hidden, intermediate)?,
        })
    }

    /// `x`: (rows, hidden). Returns the same shape.
    fn forward(
        &self,
        x: &Tensor,
        pass: &Pass<'_>,
        cache: &KvCache,
        number: usize,
    ) -> Result<Tensor> {
        let x = (x + self.attention.forward(&self.input_norm.forward(x)?, pass, cache, number)?)?; // (rows, hidden)
        let inner = self.inner_norm.forward(&x)?; // (rows, hidden)
        let both = pass.apply(&self.gate_up, number, Target::GateUp, &inner)?; // (rows, 2 intermediate)
        drop(inner); // what follows are the largest results of a pass
        let gated = gated_silu(&both)?; // (rows, intermediate)
        drop(both);
        x + pass.apply(&self.down, number, Target::Down, &gated)?
    }
}

impl Attention {
    /// `x`: (rows, hidden), normalised. Returns (rows, hidden).
    fn forward(
        &self,
        x: &Tensor,
        pass: &Pass<'_>,
        cache: &KvCache,
        number: usize,
    ) -> Result<Tensor> {
        let Attention { heads, kv_heads, head_dim, .. } = *self;
        let rows = x.dim(0)?;
        let qkv = pass.apply(&self.qkv, number, Target::Qkv, x)?; // (rows, (heads + 2 kv_heads) head_dim): q, then k, then v, head by head
        let part = |from: usize, count: usize| {
            let part = qkv.narrow(1, from * head_dim, count * head_dim)?; // (rows, count head_dim)
            part.reshape((rows, count, head_dim))?.transpose(0, 1) // (count, rows, head_dim)
        };
        let q = pass.tables.rotate(&part(0, heads)?)?; // (heads, rows, head_dim)
        let k = pass.tables.rotate(&part(heads, kv_heads)?)?; // (kv_heads, rows, head_dim)
        let v = part(heads + kv_heads, kv_heads)?.contiguous()?; // (kv_heads, rows, head_dim)
        let (keys, values) = cache.write(number, &k, &v, pass.first_key)?; // (kv_heads, keys, length of a stored row)

        let q = (q * (head_dim as f64).powf(-0.5))?; // (heads, rows, head_dim)
        let mixed = match pass.is_fused {
            true => attend(&q, &keys, &values, pass.sight)?,
            false => plain::attend(&q, &keys, &values, pass.mask.as_ref())?,
        }; // (rows, heads head_dim)
        pass.apply(&self.out, number, Target::Out, &mixed)
    }
}
