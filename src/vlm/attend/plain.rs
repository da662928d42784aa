//! Attention by the tensor library's products and softmax: for GPUs, and for computing in 16 bits.

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::ops::softmax_last_dim;

use super::rows::Sight;

/// (rows, keys): 0 where a row may look, minus infinity elsewhere. `None` for a single row, which
/// sees every key that it is given.
pub(in crate::vlm) fn mask(
    sight: Sight,
    rows: usize,
    dtype: DType,
    device: &Device,
) -> Result<Option<Tensor>> {
    if rows == 1 {
        return Ok(None);
    }
    let keys = sight.first_row + rows;
    let mut mask = vec![f32::NEG_INFINITY; rows * keys];
    for (row, line) in mask.chunks_exact_mut(keys).enumerate() {
        line[sight.keys(row)].fill(0.0);
    }
    Tensor::from_vec(mask, (rows, keys), device)?.to_dtype(dtype).map(Some) // (rows, keys)
}

/// `q`: (heads, rows, head_dim), scaled; `keys`, `values`: (kv_heads, keys, head_dim) of any
/// floating-point type. Returns (rows, heads head_dim).
pub(in crate::vlm) fn attend(
    q: &Tensor,
    keys: &Tensor,
    values: &Tensor,
    mask: Option<&Tensor>,
) -> Result<Tensor> {
    let (heads, rows, head_dim) = q.dims3()?;
    let kv_heads = keys.dim(0)?;
    // The query heads of one key head lie side by side, so they are more rows of the same product:
    // nothing is repeated.
    let q = q.reshape((kv_heads, heads / kv_heads * rows, head_dim))?; // (kv_heads, group rows, head_dim)
    let (keys, values) = (keys.to_dtype(q.dtype())?, values.to_dtype(q.dtype())?);
    let scores = q.matmul(&keys.t()?)?; // (kv_heads, group rows, keys)
    let weights = masked_softmax(&scores, mask, rows)?; // (kv_heads, group rows, keys)
    let mixed = weights.matmul(&values)?; // (kv_heads, group rows, head_dim)
    let mixed = mixed.reshape((heads, rows, head_dim))?.transpose(0, 1)?; // (rows, heads, head_dim)
    mixed.reshape((rows, heads * head_dim)) // (rows, heads head_dim)
}

/// Softmax over the keys a row may see, in f32. `scores`: (kv_heads, group * rows, keys). Returns
/// the same shape.
fn masked_softmax(scores: &Tensor, mask: Option<&Tensor>, rows: usize) -> Result<Tensor> {
    let dtype = scores.dtype();
    let Some(mask) = mask else {
        return softmax_last_dim(&scores.to_dtype(DType::F32)?)?.to_dtype(dtype);
    };
    let (kv_heads, grouped, keys) = scores.dims3()?;
    let split = scores.reshape((kv_heads, grouped / rows, rows, keys))?; // (kv_heads, group, rows, keys)
    let masked = split.broadcast_add(mask)?.to_dtype(DType::F32)?; // (kv_heads, group, rows, keys)
    softmax_last_dim(&masked)?.to_dtype(dtype)?.reshape((kv_heads, grouped, keys))
}
