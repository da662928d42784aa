//! Attention of one row over a cache of f16 keys and values: the step of decoding.
//!
//! A full cache of the published model takes 3.2 GB in f32; in f16 it takes half of it and half the
//! time to read. The tensor library would turn all of it into f32 at every step, so this reads the
//! f16 numbers once. Sums are f32.

use candle_core::{CpuStorage, CustomOp3, DType, Layout, Result, Shape, Tensor, bail};
use half::f16;
use rayon::prelude::*;

use super::quant::Instructions;
#[cfg(target_arch = "aarch64")]
use super::quant::arm::Neon;
use super::quant::simd::{Portable, Simd};
#[cfg(target_arch = "x86_64")]
use super::quant::x86::{Avx2, Avx512};

/// `q`: (kv_heads, group, head_dim), f32, scaled; `keys`, `values`: (kv_heads, keys, head_dim), f16,
/// rows in one piece. Returns the values mixed by the softmax of the scores: the shape of `q`, f32.
///
/// # Errors
/// If shapes or types are others; there is only an implementation for the processor.
pub(super) fn attend_one(q: &Tensor, keys: &Tensor, values: &Tensor) -> Result<Tensor> {
    q.contiguous()?.apply_op3_no_bwd(keys, values, &AttendOne)
}

struct AttendOne;

/// The f16 numbers of a (kv_heads, keys, head_dim) view, and the distance of its heads.
fn halves<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<(&'a [f16], usize)> {
    let CpuStorage::F16(numbers) = storage else {
        bail!("keys and values must be {:?}", DType::F16)
    };
    match *layout.stride() {
        [head, row, 1] if row == layout.dims()[2] => Ok((&numbers[layout.start_offset()..], head)),
        _ => bail!("the rows of a head must lie one behind the other"),
    }
}

impl CustomOp3 for AttendOne {
    fn name(&self) -> &'static str {
        "attention of one row"
    }

    fn cpu_fwd(
        &self,
        q: &CpuStorage,
        q_layout: &Layout,
        keys: &CpuStorage,
        keys_layout: &Layout,
        values: &CpuStorage,
        values_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (kv_heads, group, head_dim) = q_layout.shape().dims3()?;
        let (heads, count, dim) = keys_layout.shape().dims3()?;
        if heads != kv_heads || dim != head_dim || values_layout.dims() != keys_layout.dims() {
            bail!("{:?} does not fit {:?}", q_layout.dims(), keys_layout.dims());
        }
        let CpuStorage::F32(q) = q else { bail!("the row must be {:?}", DType::F32) };
        let Some((from, to)) = q_layout.contiguous_offsets() else { bail!("the row has gaps") };
        let ((keys, key_head), (values, value_head)) =
            (halves(keys, keys_layout)?, halves(values, values_layout)?);
        let mut mixed = vec![0f32; q_layout.shape().elem_count()];
        let rows = q[from..to].par_chunks(head_dim).zip(mixed.par_chunks_mut(head_dim));
        rows.enumerate().for_each(|(number, (q, mixed))| {
            let head = number / group;
            let part = |all, distance| -> &[f16] {
                let all: &[f16] = all;
                &all[head * distance..head * distance + count * head_dim]
            };
            mix(Instructions::found(), q, part(keys, key_head), part(values, value_head), mixed);
        });
        Ok((CpuStorage::F32(mixed), q_layout.shape().clone()))
    }
}

/// One head: `q` and `mixed` have as many numbers as a key or a value.
fn mix(instructions: Instructions, q: &[f32], keys: &[f16], values: &[f16], mixed: &mut [f32]) {
    // SAFETY: `instructions` were found on this processor.
    unsafe {
        match instructions {
            Instructions::Portable => mix_with::<Portable>(q, keys, values, mixed),
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx2 => mix_avx2(q, keys, values, mixed),
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx512 => mix_avx512(q, keys, values, mixed),
            #[cfg(target_arch = "aarch64")]
            Instructions::Neon | Instructions::DotProd => {
                mix_with::<Neon<false>>(q, keys, values, mixed);
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn mix_avx2(q: &[f32], keys: &[f16], values: &[f16], mixed: &mut [f32]) {
    // SAFETY: the caller's.
    unsafe { mix_with::<Avx2>(q, keys, values, mixed) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn mix_avx512(q: &[f32], keys: &[f16], values: &[f16], mixed: &mut [f32]) {
    // SAFETY: the caller's.
    unsafe { mix_with::<Avx512>(q, keys, values, mixed) }
}

/// # Safety
/// The processor must have what `S` uses.
#[inline(always)]
unsafe fn mix_with<S: Simd>(q: &[f32], keys: &[f16], values: &[f16], mixed: &mut [f32]) {
    let dim = q.len();
    let whole = dim / S::LANES * S::LANES;
    let mut weights = vec![0f32; keys.len() / dim];
    let mut largest = f32::NEG_INFINITY;
    for (key, weight) in keys.chunks_exact(dim).zip(&mut weights) {
        // SAFETY: the instructions are the caller's promise; `whole` is within `dim`.
        let mut score = unsafe {
            let mut sum = S::num(0.0);
            for i in (0..whole).step_by(S::LANES) {
                sum =
                    S::mul_add(S::load_half(key.as_ptr().add(i)), S::load(q.as_ptr().add(i)), sum);
            }
            S::sum(sum)
        };
        for i in whole..dim {
            score += key[i].to_f32() * q[i];
        }
        *weight = score;
        // A NaN is never larger, but makes the total below NaN.
        largest = if score > largest { score } else { largest };
    }
    let mut total = 0.0;
    for weight in &mut weights {
        *weight = (*weight - largest).exp();
        total += *weight;
    }
    mixed.fill(0.0);
    for (value, weight) in values.chunks_exact(dim).zip(&weights) {
        let share = weight / total;
        // SAFETY: as above.
        unsafe {
            for i in (0..whole).step_by(S::LANES) {
                let to = mixed.as_mut_ptr().add(i);
                let value = S::load_half(value.as_ptr().add(i));
                S::store(S::mul_add(value, S::num(share), S::load(to)), to);
            }
        }
        for i in whole..dim {
            mixed[i] += value[i].to_f32() * share;
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use candle_nn::ops::softmax_last_dim;

    use super::*;

    fn waves(shape: (usize, usize, usize), seed: f32) -> Tensor {
        let count = shape.0 * shape.1 * shape.2;
        let wave = |i: usize| (i as f32 * 0.731 + seed).sin() * 2.0;
        Tensor::from_vec((0..count).map(wave).collect::<Vec<f32>>(), shape, &Device::Cpu).unwrap()
    }

    /// The largest difference from the tensor library's products and softmax over the same numbers.
    fn difference(group: usize, count: usize, dim: usize) -> f32 {
        let q = waves((2, group, dim), 1.0);
        let room = |seed| waves((2, count + 3, dim), seed).to_dtype(DType::F16).unwrap();
        let (keys, values) = (room(2.0), room(3.0));
        let view = |t: &Tensor| t.narrow(1, 0, count).unwrap(); // heads lie further apart than rows
        let mixed = attend_one(&q, &view(&keys), &view(&values)).unwrap();
        let full = |t: &Tensor| view(t).to_dtype(DType::F32).unwrap().contiguous().unwrap();
        let weights = softmax_last_dim(&q.matmul(&full(&keys).t().unwrap()).unwrap()).unwrap();
        let expected = weights.matmul(&full(&values)).unwrap();
        assert_eq!(mixed.dims(), [2, group, dim]);
        (mixed - expected).unwrap().abs().unwrap().max_all().unwrap().to_scalar().unwrap()
    }

    #[test]
    fn one_row_attends_as_products_and_softmax_do() {
        for (group, count, dim) in [(1, 1, 8), (1, 300, 96), (4, 17, 64), (3, 5, 10), (2, 40, 3)] {
            let off = difference(group, count, dim);
            assert!(off < 1e-5, "{group} {count} {dim}: {off}");
        }
    }

    #[test]
    fn every_instruction_set_says_the_same() {
        let q: Vec<f32> = (0..44).map(|i| (i as f32 * 0.3).cos()).collect();
        let half = |i: usize| f16::from_f32((i as f32 * 0.17).sin());
        let (keys, values): (Vec<f16>, Vec<f16>) =
            (0..44 * 9).map(|i| (half(i), half(i + 7))).unzip();
        let mut plain = vec![0.0; 44];
        mix(Instructions::Portable, &q, &keys, &values, &mut plain);
        for instructions in Instructions::all() {
            let mut mixed = vec![7.0; 44];
            mix(instructions, &q, &keys, &values, &mut mixed);
            let off = mixed.iter().zip(&plain).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(off < 1e-6, "{instructions:?}: {off}");
        }
    }

    #[test]
    fn what_is_not_finite_is_not_hidden() {
        let (q, mut keys) = (vec![1.0; 8], vec![f16::ONE; 24]);
        keys[9] = f16::NAN;
        let mut mixed = vec![0.0; 8];
        mix(Instructions::found(), &q, &keys, &[f16::ONE; 24], &mut mixed);
        assert!(mixed.iter().all(|v| v.is_nan()));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let q = waves((2, 1, 8), 0.0);
        let half = |dim| waves((2, 3, dim), 0.0).to_dtype(DType::F16).unwrap();
        assert!(attend_one(&q, &half(4), &half(4)).is_err());
        assert!(attend_one(&q, &waves((2, 3, 8), 0.0), &half(8)).is_err());
    }
}
