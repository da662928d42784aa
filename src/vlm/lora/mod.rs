//! Adapters (LoRA): small matrices beside the decoder's layers that teach a model something new
//! while its own weights stay as they are.
//!
//! A folder as PEFT writes it holds `adapter_config.json` (`config`) and
//! `adapter_model.safetensors` (`files`). Where a layer computes `W x`, an adapted one computes
//! `W x + scale * B (A x)`. Nothing is merged: the base may be dense or quantised, and one base
//! serves as many adapters as questions name. Source: `LoraLayer` and `Linear.forward` of PEFT.
//!
//! What a prompt leaves in the KV cache depends on the adapter, so `Session` knows under which one
//! it computed. Pictures' embeddings do not: tower and projector are never adapted.

mod config;
mod files;

use std::fmt;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Result, Tensor};

use super::config::DecoderConfig;
use super::digest::Digest;
use super::engine::{Engine, EngineId};
use super::error::LoadError;
use super::json_fields::parse_object;

pub use files::AdapterFiles;

/// A layer of a decoder block that may be adapted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Target {
    Qkv,
    Out,
    GateUp,
    Down,
}

impl Target {
    const ALL: [Target; 4] = [Target::Qkv, Target::Out, Target::GateUp, Target::Down];

    /// The published name within a block.
    fn name(self) -> &'static str {
        match self {
            Target::Qkv => "self_attn.qkv_proj",
            Target::Out => "self_attn.o_proj",
            Target::GateUp => "mlp.gate_up_proj",
            Target::Down => "mlp.down_proj",
        }
    }

    /// Inputs and outputs of the layer.
    fn sides(self, config: &DecoderConfig) -> (usize, usize) {
        let DecoderConfig { hidden, intermediate, heads, kv_heads, head_dim, .. } = *config;
        match self {
            Target::Qkv => (hidden, (heads + 2 * kv_heads) * head_dim),
            Target::Out => (heads * head_dim, hidden),
            Target::GateUp => (hidden, 2 * intermediate),
            Target::Down => (intermediate, hidden),
        }
    }
}

/// The published name of a layer, such as `model.layers.3.mlp.down_proj`.
fn module(layer: usize, target: Target) -> String {
    format!("model.layers.{layer}.{}", target.name())
}

/// A folder with an adapter, and the digest that it had when it was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdapterRef {
    /// The folder.
    pub dir: PathBuf,
    /// The digest of its two files, as `sha256sum adapter_* | sha256sum` says it.
    pub digest: Digest,
    /// The name and the digest of each of the two.
    pub files: [(String, Digest); 2],
}

impl AdapterRef {
    /// Reads and checks the folder `dir` as far as that can be done without a model.
    ///
    /// # Errors
    /// As [`AdapterFiles::open`].
    pub fn check(dir: &Path) -> std::result::Result<AdapterRef, LoadError> {
        let read = AdapterFiles::open(dir)?;
        let (digest, files) = (read.digest(), read.digests().clone());
        Ok(AdapterRef { dir: dir.to_path_buf(), digest, files })
    }

    /// Checks whether the adapter fits the decoder of the model folder `model`, from that folder's
    /// `config.json` alone. Where there is no such file, nothing is said.
    ///
    /// # Errors
    /// [`LoadError`], which names the file and the field or tensor, of either folder.
    pub fn check_fit(&self, model: &Path) -> std::result::Result<(), LoadError> {
        let path = model.join("config.json");
        if !path.is_file() {
            return Ok(());
        }
        let bytes = files::read_bounded(&path, files::CONFIG_MAX_BYTES)?;
        let config = super::config::read_model(&path, &parse_object(&path, &bytes)?)?;
        AdapterFiles::open(&self.dir)?.fit(&config.decoder)
    }
}

/// An adapter in memory, made for one model. Its numbers are f32 whatever the base computes in.
pub struct Adapter {
    layers: Vec<[Option<Pair>; 4]>,
    digest: Digest,
    engine: EngineId,
    bytes: usize,
}

impl fmt::Debug for Adapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Adapter({})", self.digest)
    }
}

/// The two matrices beside one layer.
struct Pair {
    /// (rank, in)
    a: Tensor,
    /// (out, rank)
    b: Tensor,
    scale: f64,
}

impl Adapter {
    /// Loads the folder `dir` for `engine`, onto its device.
    ///
    /// # Errors
    /// [`LoadError`], which names the file and the field or tensor.
    pub fn load(dir: &Path, engine: &Engine) -> std::result::Result<Adapter, LoadError> {
        let config = &engine.config().decoder;
        let files = AdapterFiles::open(dir)?;
        files.fit(config)?;
        let layers = (0..config.layers).map(|layer| -> Result<_> {
            let mut pairs = [const { None }; 4];
            for target in Target::ALL {
                if let Some(found) = files.pair(layer, target) {
                    pairs[target as usize] = Some(Pair::place(found, &engine.options().device)?);
                }
            }
            Ok(pairs)
        });
        Ok(Adapter {
            layers: layers.collect::<Result<_>>()?,
            digest: files.digest(),
            engine: engine.id(),
            bytes: files.bytes(),
        })
    }

    /// The digest of the adapter's two files.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The loaded model that it was made for.
    pub fn engine(&self) -> EngineId {
        self.engine
    }

    /// Decoder layers of that model.
    pub fn layers(&self) -> usize {
        self.layers.len()
    }

    /// Memory of its matrices.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds what the adapter makes of `x`, (rows, in), to what the layer made of it: `y`, (rows,
    /// out). Computed in f32; returns the shape and type of `y`.
    pub(crate) fn add(
        &self,
        layer: usize,
        target: Target,
        x: &Tensor,
        y: Tensor,
    ) -> Result<Tensor> {
        match &self.layers[layer][target as usize] {
            Some(pair) => pair.add(x, y),
            None => Ok(y),
        }
    }
}

impl Pair {
    fn place(found: &files::Pair, device: &Device) -> Result<Pair> {
        let (rank, inputs, out) = (found.rank, found.inputs, found.out);
        Ok(Pair {
            a: Tensor::from_slice(&found.a, (rank, inputs), device)?,
            b: Tensor::from_slice(&found.b, (out, rank), device)?,
            scale: found.scale,
        })
    }

    fn add(&self, x: &Tensor, y: Tensor) -> Result<Tensor> {
        let low = x.to_dtype(DType::F32)?.matmul(&self.a.t()?)?; // (rows, rank)
        let more = (low * self.scale)?.matmul(&self.b.t()?)?; // (rows, out)
        match y.dtype() {
            DType::F32 => y + more,
            other => (y.to_dtype(DType::F32)? + more)?.to_dtype(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_adds_its_product_in_the_type_of_the_layer() -> Result<()> {
        let device = Device::Cpu;
        let pair = Pair {
            a: Tensor::new(&[[1f32, 2.0, 3.0]], &device)?,
            b: Tensor::new(&[[1f32], [-1.0]], &device)?,
            scale: 0.5,
        };
        let x = Tensor::new(&[[1f32, 1.0, 1.0], [0.0, 2.0, 0.0]], &device)?; // A x: 6 and 4
        let y = Tensor::new(&[[10f32, 10.0], [20.0, 20.0]], &device)?;
        let sum = pair.add(&x, y.clone())?;
        assert_eq!(sum.to_vec2::<f32>()?, [[13.0, 7.0], [22.0, 18.0]]);
        let half = pair.add(&x.to_dtype(DType::F16)?, y.to_dtype(DType::F16)?)?;
        assert_eq!(half.dtype(), DType::F16);
        assert_eq!(half.to_dtype(DType::F32)?.to_vec2::<f32>()?, [[13.0, 7.0], [22.0, 18.0]]);
        Ok(())
    }

    /// The base's numbers are rounded to eight bits, the adapter's are not: it adds the same.
    #[test]
    fn a_quantised_layer_is_adapted_like_a_dense_one() -> Result<()> {
        use super::super::linear::Linear;
        let numbers = |rows: usize, columns: usize, step: f32| {
            let list: Vec<f32> = (0..rows * columns).map(|i| (i as f32 * step).sin()).collect();
            Tensor::from_vec(list, (rows, columns), &Device::Cpu)
        };
        let pair = Pair { a: numbers(2, 64, 0.3)?, b: numbers(5, 2, 0.7)?, scale: 2.0 };
        let (x, weight) = (numbers(3, 64, 0.11)?, numbers(5, 64, 0.37)?);
        let dense = Linear::Dense { weight: weight.clone(), bias: None };
        let format = super::super::quant::Format::Q8_0;
        let quantised = Linear::Dense { weight, bias: None }.quantise(format)?;
        for layer in [dense, quantised] {
            let y = layer.forward(&x)?;
            let more = (pair.add(&x, y.clone())? - y)?;
            let exact = (x.matmul(&pair.a.t()?)?.matmul(&pair.b.t()?)? * 2.0)?;
            let worst = (more - exact)?.abs()?.max_all()?.to_scalar::<f32>()?;
            assert!(worst < 1e-4, "{worst}"); // sums of order 100, rounded twice in f32
        }
        Ok(())
    }
}
