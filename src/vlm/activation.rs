//! The two activations of the model, each in one pass over the numbers, on all threads.
//!
//! The tensor library computes them on one thread, in three passes each: at the published sizes
//! that is half a second a picture for exponentials alone. On the processor in f32 the
//! formulas here are its own, operation for operation, so the numbers are the same to the last bit;
//! anything else goes to the library.

use candle_core::{CpuStorage, CustomOp1, DType, Layout, Result, Shape, Tensor, bail};
use candle_nn::ops::sigmoid;
use rayon::prelude::*;

/// Numbers that are worth a piece of work of their own.
const PIECE: usize = 4096;

/// `both`: (rows, 2 n), the gate's half first. Returns silu(gate) * up: (rows, n).
pub(super) fn gated_silu(both: &Tensor) -> Result<Tensor> {
    let inner = both.dim(1)? / 2;
    if is_plain(both) {
        return both.contiguous()?.apply_op1_no_bwd(&GatedSilu);
    }
    both.narrow(1, 0, inner)?.silu()? * both.narrow(1, inner, inner)?
}

/// x * sigmoid(1.702 x): not the exact GELU, and the difference shows in the features.
pub(super) fn quick_gelu(x: &Tensor) -> Result<Tensor> {
    if is_plain(x) {
        return x.contiguous()?.apply_op1_no_bwd(&QuickGelu);
    }
    x * sigmoid(&(x * 1.702)?)?
}

fn is_plain(x: &Tensor) -> bool {
    x.device().is_cpu() && x.dtype() == DType::F32
}

/// The numbers of a contiguous f32 tensor.
fn numbers<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F32(all), Some((from, to))) => Ok(&all[from..to]),
        _ => bail!("an activation needs contiguous {:?}", DType::F32),
    }
}

struct GatedSilu;

impl CustomOp1 for GatedSilu {
    fn name(&self) -> &'static str {
        "gated silu"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (rows, both) = layout.shape().dims2()?;
        let inner = both / 2;
        let mut out = vec![0f32; rows * inner];
        let work = |(both, out): (&[f32], &mut [f32])| {
            let (gates, ups) = both.split_at(inner);
            for ((out, gate), up) in out.iter_mut().zip(gates).zip(ups) {
                *out = gate / (1.0 + (-gate).exp()) * up;
            }
        };
        if inner > 0 {
            let lines = numbers(storage, layout)?.par_chunks_exact(both);
            lines.zip(out.par_chunks_exact_mut(inner)).for_each(work);
        }
        Ok((CpuStorage::F32(out), (rows, inner).into()))
    }
}

struct QuickGelu;

impl CustomOp1 for QuickGelu {
    fn name(&self) -> &'static str {
        "quick gelu"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = numbers(storage, layout)?;
        let mut out = vec![0f32; x.len()];
        x.par_chunks(PIECE).zip(out.par_chunks_mut(PIECE)).for_each(|(x, out)| {
            for (out, x) in out.iter_mut().zip(x) {
                *out = x * ((-(x * 1.702)).exp() + 1.0).recip();
            }
        });
        Ok((CpuStorage::F32(out), layout.shape().clone()))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    /// Ordinary numbers, large ones of both signs, zeros, and what is not finite.
    fn all_sorts(rows: usize, columns: usize) -> Tensor {
        let odd = [0.0, -0.0, 1e-30, -1e-30, 90.0, -90.0, 3e38, -3e38, f32::INFINITY, f32::NAN];
        let one = |i: usize| match i % 7 {
            3 => odd[i / 7 % odd.len()],
            _ => (i as f32 * 0.731).sin() * 8.0,
        };
        let numbers: Vec<f32> = (0..rows * columns).map(one).collect();
        Tensor::from_vec(numbers, (rows, columns), &Device::Cpu).unwrap()
    }

    #[track_caller]
    fn same_bits(a: &Tensor, b: &Tensor) {
        assert_eq!(a.dims(), b.dims());
        let bits = |t: &Tensor| -> Vec<u32> {
            let numbers = t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            numbers.iter().map(|n| if n.is_nan() { u32::MAX } else { n.to_bits() }).collect()
        };
        assert_eq!(bits(a), bits(b));
    }

    #[test]
    fn each_is_the_library_s_to_the_last_bit() {
        for (rows, columns) in [(1, 2), (3, 1000), (9, 1026)] {
            let x = all_sorts(rows, columns);
            let library = (&x * sigmoid(&(&x * 1.702).unwrap()).unwrap()).unwrap();
            same_bits(&quick_gelu(&x).unwrap(), &library);
            let half = columns / 2;
            let (gate, up) = (x.narrow(1, 0, half).unwrap(), x.narrow(1, half, half).unwrap());
            same_bits(&gated_silu(&x).unwrap(), &(gate.silu().unwrap() * up).unwrap());
            let view = x.narrow(1, 0, half * 2).unwrap().narrow(0, 0, 1).unwrap();
            assert_eq!(gated_silu(&view).unwrap().dims(), [1, half]);
        }
    }

    #[test]
    fn sixteen_bits_go_to_the_library() {
        let x = all_sorts(2, 8).to_dtype(DType::BF16).unwrap();
        assert_eq!(quick_gelu(&x).unwrap().dtype(), DType::BF16);
        assert_eq!(gated_silu(&x).unwrap().dims(), [2, 4]);
    }
}
