//! Attention over the keys and values of a cache.
//!
//! | file | what |
//! |---|---|
//! | `rows` | what a row may see; rows as they lie in memory; one entry for each set of instructions |
//! | `form` | reading a key or value in f32, f16 or the compact form |
//! | [`compact`] | the compact form: keys in 8 bits, values in 4 |
//! | `one_row` | decoding: the cache is read as it lies, once a row |
//! | `many_rows` | a prompt: blocks of keys become f32, and nothing larger is ever there |
//! | `softmax` | the parts of a softmax in vectors |
//! | [`plain`] | the tensor library's operations, for GPUs and 16 bits |
//!
//! A full cache of the published model takes 3.2 GB in f32, 1.6 GB in f16 and 0.7 GB in the compact
//! form. The library would turn a layer of it into f32 at every step, and keep the scores of all
//! rows and heads three times. Sums are f32 everywhere.

pub(super) mod compact;
mod form;
mod many_rows;
mod one_row;
pub(super) mod plain;
mod rows;
mod softmax;

use candle_core::{CpuStorage, CustomOp3, DType, Device, Layout, Result, Shape, Tensor, bail};
use half::f16;

pub(super) use many_rows::scratch_bytes;
pub(super) use rows::Sight;

use super::cache_form::CacheForm;
use super::quant::{Instructions, Output};
use form::{Compact, Floats, Form};
use rows::{Stored, Task};

/// Up to so many rows each reads the cache by itself; more share blocks of it in f32.
const FEW_ROWS: usize = 3;

/// Whether [`attend`] serves; if not, [`plain`] does.
pub(super) fn serves(compute: DType, device: &Device, cache: CacheForm) -> bool {
    let reads = match cache {
        CacheForm::Compact => true,
        CacheForm::Numbers(dtype) => matches!(dtype, DType::F32 | DType::F16),
    };
    reads && device.is_cpu() && compute == DType::F32
}

/// `q`: (heads, rows, head_dim), f32, scaled; `keys`, `values`: (kv_heads, keys, length of a row),
/// rows in one piece: f32, f16, or U8 in the compact form. Returns the values mixed by the softmax
/// of the scores of the keys that each row may see: (rows, heads head_dim), f32.
///
/// # Errors
/// If shapes or types are others; there is only an implementation for the processor.
pub(super) fn attend(q: &Tensor, keys: &Tensor, values: &Tensor, sight: Sight) -> Result<Tensor> {
    q.contiguous()?.apply_op3_no_bwd(keys, values, &Attend { sight })
}

struct Attend {
    sight: Sight,
}

/// The rows of a (kv_heads, keys, length) view.
fn stored<'a, T>(numbers: &'a [T], layout: &Layout) -> Result<Stored<'a>> {
    let width = size_of::<T>();
    let [head, row, 1] = *layout.stride() else { bail!("rows must be in one piece") };
    if row != layout.dims()[2] {
        bail!("the rows of a head must lie one behind the other")
    }
    let numbers = &numbers[layout.start_offset()..];
    // SAFETY: floating-point numbers and bytes alike are bytes without gaps.
    let bytes =
        unsafe { std::slice::from_raw_parts(numbers.as_ptr().cast(), size_of_val(numbers)) };
    Ok(Stored { bytes, head_bytes: width * head, row_bytes: width * row })
}

impl CustomOp3 for Attend {
    fn name(&self) -> &'static str {
        "attention over a cache"
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
        let (heads, rows, dim) = q_layout.shape().dims3()?;
        let (kv_heads, count, key_len) = keys_layout.shape().dims3()?;
        let (value_heads, value_count, value_len) = values_layout.shape().dims3()?;
        let lengths = match keys {
            CpuStorage::U8(_) => [compact::key_bytes(dim), compact::value_bytes(dim)],
            _ => [dim; 2],
        };
        let fits =
            [key_len, value_len] == lengths && [value_heads, value_count] == [kv_heads, count];
        if !fits || !heads.is_multiple_of(kv_heads) || count != self.sight.first_row + rows {
            bail!("{:?} does not fit {:?}", q_layout.dims(), keys_layout.dims());
        }
        let CpuStorage::F32(q) = q else { bail!("the rows must be {:?}", DType::F32) };
        let Some((from, to)) = q_layout.contiguous_offsets() else { bail!("the rows have gaps") };
        let mut out = vec![0f32; rows * heads * dim];
        let (q, group, sight) = (&q[from..to], heads / kv_heads, self.sight);
        let mut work = |keys, values, run: fn(Instructions, Task<'_>, Output)| {
            let task = Task { q, keys, values, kv_heads, group, rows, dim, sight };
            run(Instructions::found(), task, Output { to: out.as_mut_ptr(), stride: heads * dim });
        };
        match (keys, values) {
            (CpuStorage::F32(keys), CpuStorage::F32(values)) => {
                work(stored(keys, keys_layout)?, stored(values, values_layout)?, run::<Floats<f32>>)
            }
            (CpuStorage::F16(keys), CpuStorage::F16(values)) => {
                work(stored(keys, keys_layout)?, stored(values, values_layout)?, run::<Floats<f16>>)
            }
            (CpuStorage::U8(keys), CpuStorage::U8(values)) => {
                work(stored(keys, keys_layout)?, stored(values, values_layout)?, run::<Compact>);
            }
            _ => bail!("keys and values must be both f32, f16 or compact"),
        }
        Ok((CpuStorage::F32(out), (rows, heads * dim).into()))
    }
}

fn run<F: Form>(instructions: Instructions, task: Task<'_>, out: Output) {
    match task.rows {
        0..=FEW_ROWS => one_row::attend::<F>(instructions, task, out),
        _ => many_rows::attend::<F>(instructions, task, out),
    }
}

#[cfg(test)]
mod tests;
