//! The one seam between full and quantised weights, and the loader that fills it.

use std::collections::HashMap;
use std::sync::Arc;

use candle_core::quantized::{QMatMul, QStorage, QTensor};
use candle_core::{DType, Device, Module, Result, Tensor};

use super::calibrate::{Observer, Tap};
use super::error::LoadError;
use super::quant::{Format, Matrix};
use super::weight_bytes::WeightBytes;
use super::weights::{ModelFolder, Stored};

/// `y = x W^T + b`, with the weight as the checkpoint stores it: (out, in).
///
/// Each architecture is written once against this type; how the weight is stored is decided when it
/// is loaded.
pub enum Linear {
    /// The weight as floating-point numbers.
    Dense {
        /// (out, in)
        weight: Tensor,
        /// (out)
        bias: Option<Tensor>,
    },
    /// The weight in blocks of small integers, used where the file is mapped. Computes in f32.
    Quantised {
        /// (out, in)
        weight: Matrix,
        /// (out), f32
        bias: Option<Tensor>,
    },
    /// A layer whose inputs are looked at on their way, for calibration.
    Observed {
        /// The layer itself.
        layer: Box<Linear>,
        /// Where the squares of its inputs go.
        tap: Arc<Tap>,
    },
    /// The same blocks in a GPU's memory, with the tensor library's product. Computes in f32.
    OnDevice {
        /// (out, in)
        weight: QMatMul,
        /// (out)
        bias: Option<Tensor>,
    },
}

impl Linear {
    /// `x`: (rows, in). Returns (rows, out).
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (y, bias) = match self {
            Linear::Dense { weight, bias } => (x.matmul(&weight.t()?)?, bias), // t() turns strides, copies nothing
            Linear::Observed { layer, tap } => {
                tap.see(x)?;
                return layer.forward(x);
            }
            Linear::Quantised { weight, bias } => {
                (weight.forward(&x.to_dtype(DType::F32)?)?.to_dtype(x.dtype())?, bias)
            }
            Linear::OnDevice { weight, bias } => {
                (weight.forward(&x.to_dtype(DType::F32)?)?.to_dtype(x.dtype())?, bias)
            }
        }; // (rows, out)
        match bias {
            Some(bias) => y.broadcast_add(bias),
            None => Ok(y),
        }
    }

    /// Whether its weight is quantised.
    pub fn is_quantised(&self) -> bool {
        match self {
            Linear::Dense { .. } => false,
            Linear::Quantised { .. } | Linear::OnDevice { .. } => true,
            Linear::Observed { layer, .. } => layer.is_quantised(),
        }
    }

    /// What a product with this layer reads.
    pub fn weight_bytes(&self) -> WeightBytes {
        match self {
            Linear::Dense { weight, .. } => {
                let bytes = weight.elem_count() * weight.dtype().size_in_bytes();
                WeightBytes { dense: bytes as u64, blocks: 0 }
            }
            Linear::Quantised { weight, .. } => {
                WeightBytes { dense: 0, blocks: weight.len_bytes() as u64 }
            }
            Linear::OnDevice { weight, .. } => match weight {
                QMatMul::QTensor(blocks) => {
                    WeightBytes { dense: 0, blocks: blocks.storage_size_in_bytes() as u64 }
                }
                QMatMul::Tensor(weight) | QMatMul::TensorF16(weight) => {
                    let bytes = weight.elem_count() * weight.dtype().size_in_bytes();
                    WeightBytes { dense: bytes as u64, blocks: 0 }
                }
            },
            Linear::Observed { layer, .. } => layer.weight_bytes(),
        }
    }

    /// Lets a weight that is used where the file is mapped leave memory until the next product.
    pub fn release(&self) {
        match self {
            Linear::Quantised { weight, .. } => weight.release(),
            Linear::Observed { layer, .. } => layer.release(),
            Linear::Dense { .. } | Linear::OnDevice { .. } => {}
        }
    }

    /// The same layer with its weight quantised in memory; a quantised layer is returned as it is.
    ///
    /// # Errors
    /// If the tensor library runs out of memory.
    pub fn quantise(self, format: Format) -> Result<Linear> {
        let Linear::Dense { weight, bias } = self else { return Ok(self) };
        let weight = Matrix::quantise(&weight, format)?;
        let bias = bias.map(|bias| bias.to_dtype(DType::F32)).transpose()?;
        Ok(Linear::Quantised { weight, bias })
    }
}

/// Takes tensors out of a model folder, by published name, in the type and on the device the engine
/// computes with.
pub(crate) struct Loader<'a> {
    /// Where the tensors are.
    pub(crate) folder: &'a ModelFolder,
    /// What they become.
    pub(crate) dtype: DType,
    /// Where they go.
    pub(crate) device: &'a Device,
    /// Weights to be quantised when they are loaded, by published name.
    pub(crate) formats: HashMap<String, Format>,
    /// Who looks at the inputs of the decoder's matrices, if anybody.
    pub(crate) observer: Option<&'a Observer>,
}

impl<'a> Loader<'a> {
    /// Takes tensors as they are stored.
    pub(crate) fn new(folder: &'a ModelFolder, dtype: DType, device: &'a Device) -> Loader<'a> {
        Loader { folder, dtype, device, formats: HashMap::new(), observer: None }
    }

    /// The tensor `name`, which must have `shape`.
    pub(crate) fn tensor(
        &self,
        name: &str,
        shape: &[usize],
    ) -> std::result::Result<Tensor, LoadError> {
        self.folder.tensor(name, shape, self.dtype, self.device)
    }

    /// The layer `name`.weight, (out, in), without a bias.
    pub(crate) fn linear(
        &self,
        name: &str,
        out: usize,
        inputs: usize,
    ) -> std::result::Result<Linear, LoadError> {
        self.layer(name, out, inputs, None)
    }

    /// The same, with its inputs looked at if anybody wants to.
    pub(crate) fn observed(
        &self,
        name: &str,
        out: usize,
        inputs: usize,
    ) -> std::result::Result<Linear, LoadError> {
        let layer = self.linear(name, out, inputs)?;
        let Some(observer) = self.observer else { return Ok(layer) };
        let tap = observer.tap(&format!("{name}.weight"), inputs);
        Ok(Linear::Observed { layer: Box::new(layer), tap })
    }

    /// The layer `name`.weight, (out, in), with `name`.bias, (out).
    pub(crate) fn biased(
        &self,
        name: &str,
        out: usize,
        inputs: usize,
    ) -> std::result::Result<Linear, LoadError> {
        let bias = self.tensor(&format!("{name}.bias"), &[out])?;
        self.layer(name, out, inputs, Some(bias))
    }

    /// A weight that is stored in blocks stays where it is mapped, or is copied as it is to the
    /// GPU; another becomes `dtype`, or the blocks that were asked for.
    fn layer(
        &self,
        name: &str,
        out: usize,
        inputs: usize,
        bias: Option<Tensor>,
    ) -> std::result::Result<Linear, LoadError> {
        let name = format!("{name}.weight");
        match self.folder.stored(&name, &[out, inputs])? {
            Stored::Quantised { format, bytes } if self.device.is_cpu() => {
                let weight = Matrix::new(format, out, inputs, Arc::new(bytes))?;
                Ok(Linear::Quantised { weight, bias })
            }
            Stored::Quantised { format, bytes } => {
                let weight = on_device(format, &bytes, (out, inputs), self.device)?;
                Ok(Linear::OnDevice { weight, bias })
            }
            Stored::Dense { .. } => {
                let dense = Linear::Dense { weight: self.tensor(&name, &[out, inputs])?, bias };
                match self.formats.get(&name) {
                    Some(format) => Ok(dense.quantise(*format)?),
                    None => Ok(dense),
                }
            }
        }
    }
}

/// Copies the blocks of a weight, (out, in), to `device`.
fn on_device(
    format: Format,
    blocks: &[u8],
    shape: (usize, usize),
    device: &Device,
) -> Result<QMatMul> {
    let storage = QStorage::from_data(blocks.into(), device, format.ggml())?;
    QMatMul::from_qtensor(QTensor::new(storage, shape)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vlm::quant::FORMATS;

    #[test]
    fn eight_bits_stay_close_to_the_full_weight() -> Result<()> {
        let numbers = |n: usize| (0..n).map(|i| (i as f32 * 0.37).sin()).collect::<Vec<f32>>();
        let weight = Tensor::from_vec(numbers(5 * 64), (5, 64), &Device::Cpu)?;
        let bias = Some(Tensor::from_vec(numbers(5), 5, &Device::Cpu)?);
        let x = Tensor::from_vec(numbers(2 * 64), (2, 64), &Device::Cpu)?;
        let dense = Linear::Dense { weight, bias };
        let exact = dense.forward(&x)?; // (2, 5)
        let close = dense.quantise(Format::Q8_0)?.forward(&x)?; // (2, 5)
        let worst = (exact - close)?.abs()?.max_all()?.to_scalar::<f32>()?;
        assert!(worst < 0.1, "{worst}"); // 64 products of order 0.5, each off by up to 1/127 of its block's largest
        Ok(())
    }

    /// The path of a GPU, taken on the processor: the same blocks through the tensor library.
    #[test]
    fn blocks_on_a_device_give_the_product_of_their_numbers() -> Result<()> {
        let numbers = |n: usize| (0..n).map(|i| (i as f32 * 0.37).sin()).collect::<Vec<f32>>();
        let weight = Tensor::from_vec(numbers(4 * 256), (4, 256), &Device::Cpu)?;
        let x = Tensor::from_vec(numbers(2 * 256), (2, 256), &Device::Cpu)?;
        let bias = Tensor::from_vec(numbers(4), 4, &Device::Cpu)?;
        for format in FORMATS {
            let blocks = QTensor::quantize(&weight, format.ggml())?;
            let exact = x.matmul(&blocks.dequantize(&Device::Cpu)?.t()?)?.broadcast_add(&bias)?; // (2, 4)
            for dtype in [DType::F32, DType::BF16] {
                let weight = on_device(format, &blocks.data()?, (4, 256), &Device::Cpu)?;
                let layer = Linear::OnDevice { weight, bias: Some(bias.to_dtype(dtype)?) };
                let seen = layer.forward(&x.to_dtype(dtype)?)?; // (2, 4)
                assert_eq!((seen.dtype(), seen.dims()), (dtype, [2, 4].as_slice()));
                let off = (exact.clone() - seen.to_dtype(DType::F32)?)?.abs()?.max_all()?;
                let (off, scale) = (off.to_scalar::<f32>()?, exact.abs()?.max_all()?);
                assert!(off < 0.03 * scale.to_scalar::<f32>()?, "{format:?} {dtype:?}: {off}");
            }
        }
        Ok(())
    }
}
