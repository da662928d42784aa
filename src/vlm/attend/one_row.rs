//! Attention row by row: what decoding and the verification of a short draft need. Keys and values
//! are read once a row, as they are stored; reading them is the work.

use std::marker::PhantomData;

use rayon::prelude::*;

use super::compact::BLOCK;
use super::form::Form;
use super::rows::{Task, Work, with};
use super::softmax::{exps, largest};
use crate::vlm::quant::{Instructions, Output, simd::Simd};

/// Values that are mixed at a time: each is read block by block, and stays near meanwhile.
const NEAR: usize = 64;

/// Every row of every head; head `h` of row `r` goes to column `h dim` of row `r` of `out`.
pub(super) fn attend<F: Form>(instructions: Instructions, task: Task<'_>, out: Output) {
    let pieces = task.kv_heads * task.group * task.rows;
    (0..pieces).into_par_iter().for_each(|piece| {
        let (head, row) = (piece / task.rows, piece % task.rows);
        // SAFETY: `instructions` are this processor's, and no other piece has this head and row.
        unsafe { with(instructions, OneRow::<F> { task, head, row, out, form: PhantomData }) };
    });
}

/// One query head of one row.
struct OneRow<'a, F> {
    task: Task<'a>,
    head: usize,
    row: usize,
    out: Output,
    form: PhantomData<F>,
}

impl<F: Form> Work for OneRow<'_, F> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let OneRow { task, head, row, out, .. } = self;
        let (dim, seen) = (task.dim, task.sight.keys(row));
        let keys = task.keys.rows(head / task.group, seen.clone());
        let values = task.values.rows(head / task.group, seen.clone());
        let whole = dim.next_multiple_of(BLOCK);
        let (mut q, mut mixed) = (vec![0f32; whole], vec![0f32; whole]);
        q[..dim].copy_from_slice(task.q(head, row..row + 1));
        let mut weights = vec![0f32; seen.len()];
        for (key, weight) in keys.chunks_exact(task.keys.row_bytes).zip(&mut weights) {
            // SAFETY: the instructions are the caller's promise; the slices are as long as needed.
            *weight = unsafe { F::dot::<S>(key.as_ptr(), q.as_ptr(), dim) };
        }
        let most = largest(&weights);
        let share = 1.0 / exps(&mut weights, most);
        let row_bytes = task.values.row_bytes;
        for (values, weights) in values.chunks(NEAR * row_bytes).zip(weights.chunks(NEAR)) {
            // SAFETY: as above.
            unsafe { F::mix::<S>(values.as_ptr(), row_bytes, weights, mixed.as_mut_ptr(), dim) };
        }
        for (i, number) in mixed[..dim].iter().enumerate() {
            // SAFETY: the caller has made the room, and only this piece of work writes here.
            unsafe { *out.to.add(row * out.stride + head * dim + i) = number * share };
        }
    }
}
