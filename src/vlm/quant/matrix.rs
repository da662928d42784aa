//! The weight of a layer in a block format: products with it, and rows of it.

use std::fmt;
use std::sync::Arc;

use candle_core::quantized::QTensor;
use candle_core::{CpuStorage, CustomOp1, DType, Device, Layout, Result, Shape, Tensor, bail};

use super::format::{Format, Unpacked};
use super::product::product;
use crate::vlm::mapped::MappedBytes;

/// Bytes that somebody holds: a part of a mapped file, or memory.
pub trait Held: AsRef<[u8]> + Send + Sync {
    /// Lets them leave memory until they are read again, where they lie in a file.
    fn release(&self) {}
}

impl Held for Vec<u8> {}

impl Held for MappedBytes {
    fn release(&self) {
        MappedBytes::release(self);
    }
}

/// Bytes that are shared: cloning copies nothing.
pub type Bytes = Arc<dyn Held>;

/// A weight of shape (out, inputs), each row in whole blocks of one format.
#[derive(Clone)]
pub struct Matrix {
    format: Format,
    out: usize,
    inputs: usize,
    /// Length of a stored row: `inputs`, and zeros up to a whole block.
    stored: usize,
    bytes: Bytes,
}

impl Matrix {
    /// The weight (out, inputs) that `bytes` hold; they are used where they lie.
    ///
    /// # Errors
    /// If a row is not whole blocks, or the bytes are not as many as the shape needs.
    pub fn new(format: Format, out: usize, inputs: usize, bytes: Bytes) -> Result<Matrix> {
        let Some(row_bytes) = format.row_bytes(inputs).filter(|_| inputs > 0) else {
            bail!(
                "rows of {inputs} numbers are not whole blocks of {} ({})",
                format.block_len(),
                format.name()
            );
        };
        let found = (*bytes).as_ref().len();
        if out.checked_mul(row_bytes) != Some(found) {
            bail!("{out} rows of {row_bytes} bytes ({}) are not {found} bytes", format.name());
        }
        Ok(Matrix { format, out, inputs, stored: inputs, bytes })
    }

    /// Quantises `weight`, (out, inputs), in memory. Rows that are not whole blocks get zeros at
    /// their end, which change no product: so each format can be judged on a small model.
    pub fn quantise(weight: &Tensor, format: Format) -> Result<Matrix> {
        let (out, inputs) = weight.dims2()?;
        let stored = inputs.next_multiple_of(format.block_len());
        let weight = weight.to_dtype(DType::F32)?.pad_with_zeros(1, 0, stored - inputs)?;
        let blocks = QTensor::quantize(&weight, format.ggml())?; // (out, stored)
        let matrix = Matrix::new(format, out, stored, Arc::new(blocks.data()?.into_owned()))?;
        Ok(Matrix { inputs, ..matrix })
    }

    /// How it is stored.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Bytes of the blocks, with those that fill up rows.
    pub fn len_bytes(&self) -> usize {
        (*self.bytes).as_ref().len()
    }

    /// Lets the blocks leave memory until the next product, where they lie in a file.
    pub fn release(&self) {
        self.bytes.release();
    }

    /// (out, inputs)
    pub fn shape(&self) -> (usize, usize) {
        (self.out, self.inputs)
    }

    /// `x`: (rows, inputs), f32 on the processor. Returns (rows, out), `x` times the transpose.
    ///
    /// # Errors
    /// If `x` has another shape or type.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = match self.stored - self.inputs {
            0 => x.contiguous()?,
            zeros => x.pad_with_zeros(1, 0, zeros)?, // (rows, stored)
        };
        x.apply_op1_no_bwd(self)
    }

    /// The rows numbered `ids` as f32: (ids, inputs).
    ///
    /// # Errors
    /// If there is no such row.
    pub fn rows(&self, ids: &[u32]) -> Result<Tensor> {
        let bytes = (*self.bytes).as_ref();
        let row_bytes = bytes.len() / self.out;
        let mut unpacked = Unpacked::new(self.stored);
        let mut numbers = vec![0f32; ids.len() * self.inputs];
        for (id, row) in ids.iter().zip(numbers.chunks_exact_mut(self.inputs)) {
            let at = *id as usize;
            if at >= self.out {
                bail!("row {id} of a weight with {} rows", self.out);
            }
            unpacked.fill(self.format, &bytes[at * row_bytes..(at + 1) * row_bytes]);
            unpacked.numbers(self.format, row);
        }
        Tensor::from_vec(numbers, (ids.len(), self.inputs), &Device::Cpu)
    }

    /// All of it as f32: (out, inputs).
    pub fn dequantise(&self) -> Result<Tensor> {
        let all: Vec<u32> = (0..self.out as u32).collect();
        self.rows(&all)
    }
}

impl fmt::Debug for Matrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Matrix({}, {} x {})", self.format.name(), self.out, self.inputs)
    }
}

impl CustomOp1 for Matrix {
    fn name(&self) -> &'static str {
        "quantised product"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (rows, inputs) = layout.shape().dims2()?;
        let CpuStorage::F32(x) = storage else {
            bail!("a quantised product needs {:?}", DType::F32)
        };
        let Some((from, to)) = layout.contiguous_offsets().filter(|_| inputs == self.stored) else {
            bail!("({rows}, {inputs}) does not fit a weight of {} inputs", self.stored)
        };
        let mut y = vec![0f32; rows * self.out];
        product(self.format, (*self.bytes).as_ref(), inputs, &x[from..to], &mut y);
        Ok((CpuStorage::F32(y), (rows, self.out).into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vlm::quant::FORMATS;

    fn numbers(rows: usize, columns: usize, seed: usize) -> Tensor {
        let wave = |i: usize| ((i + seed) as f32 * 0.731).sin() * (1.0 + (i % 37) as f32 * 0.1);
        let all: Vec<f32> = (0..rows * columns).map(wave).collect();
        Tensor::from_vec(all, (rows, columns), &Device::Cpu).unwrap()
    }

    #[test]
    fn a_product_is_that_of_the_numbers_within_the_activations_step() {
        for format in FORMATS {
            let matrix = Matrix::quantise(&numbers(37, 512, 1), format).unwrap();
            let x = numbers(5, 512, 2);
            let exact = x.matmul(&matrix.dequantise().unwrap().t().unwrap()).unwrap();
            let seen = matrix.forward(&x).unwrap();
            assert_eq!(seen.dims(), [5, 37]);
            let scale = exact.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
            let off = (exact - seen).unwrap().abs().unwrap().max_all().unwrap();
            let off = off.to_scalar::<f32>().unwrap();
            assert!(off < 0.01 * scale, "{format:?}: {off} of {scale}");
        }
    }

    #[test]
    fn a_view_of_activations_serves_as_well_as_a_copy() {
        let matrix = Matrix::quantise(&numbers(3, 64, 1), Format::Q8_0).unwrap();
        let wide = numbers(4, 128, 5);
        let view = wide.narrow(1, 32, 64).unwrap();
        let (a, b) =
            (matrix.forward(&view).unwrap(), matrix.forward(&view.copy().unwrap()).unwrap());
        assert_eq!(a.to_vec2::<f32>().unwrap(), b.to_vec2::<f32>().unwrap());
        let tail = wide.narrow(0, 1, 2).unwrap().narrow(1, 0, 64).unwrap();
        assert_eq!(matrix.forward(&tail).unwrap().dims(), [2, 3]);
    }

    #[test]
    fn rows_that_are_not_whole_blocks_are_filled_up() {
        for format in FORMATS {
            let weight = numbers(7, 200, 1);
            let matrix = Matrix::quantise(&weight, format).unwrap();
            assert_eq!(matrix.shape(), (7, 200));
            let near = matrix.dequantise().unwrap();
            assert_eq!(near.dims(), [7, 200]);
            let x = numbers(5, 200, 2);
            let exact = x.matmul(&near.t().unwrap()).unwrap();
            let off = (exact - matrix.forward(&x).unwrap()).unwrap().abs().unwrap();
            assert!(off.max_all().unwrap().to_scalar::<f32>().unwrap() < 3.0, "{format:?}");
            assert!(matrix.forward(&numbers(1, 256, 0)).is_err(), "the zeros are not the caller's");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let bytes = |n: usize| -> Bytes { Arc::new(vec![0u8; n]) };
        assert!(Matrix::new(Format::Q4K, 2, 128, bytes(144)).is_err(), "half a block a row");
        assert!(Matrix::new(Format::Q8_0, 2, 32, bytes(67)).is_err(), "a byte is missing");
        assert!(Matrix::new(Format::Q8_0, usize::MAX, 32, bytes(34)).is_err(), "overflow");
        let matrix = Matrix::new(Format::Q8_0, 2, 32, bytes(68)).unwrap();
        assert!(matrix.forward(&numbers(1, 64, 0)).is_err());
        assert!(matrix.forward(&numbers(1, 32, 0).to_dtype(DType::F16).unwrap()).is_err());
        assert!(matrix.rows(&[2]).is_err());
        assert_eq!(matrix.rows(&[1, 0, 1]).unwrap().dims(), [3, 32]);
    }
}
