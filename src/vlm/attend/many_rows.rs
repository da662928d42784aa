//! Attention of many rows: what a prompt needs.
//!
//! A piece of work is one key head and some rows of its query heads. It goes through the keys block
//! by block: a block of keys and values becomes f32 in a scratch of its own, the scores of all rows
//! are one product, their softmax is begun, and the values are mixed into sums that are rescaled
//! whenever a larger score is met (Milakov and Gimelshein, "Online normalizer calculation for
//! softmax", 2018). So neither all scores nor all keys are ever there, blocks that no row may see
//! are never computed, and the scratch stays in the processor's cache. What a piece computes depends
//! on its rows' numbers and places alone, not on how many threads there are.

use std::marker::PhantomData;
use std::ops::Range;

use gemm::{Parallelism, gemm};
use rayon::prelude::*;

use super::compact::BLOCK;
use super::form::Form;
use super::rows::{Task, Work, with};
use super::softmax::{exps, largest};
use crate::vlm::quant::{Instructions, Output, simd::Simd};

/// Rows of a query head in a piece of work.
pub(super) const PIECE_ROWS: usize = 128;
/// Keys of a block.
pub(super) const BLOCK_KEYS: usize = 256;

/// Bytes that a thread works in at most, besides what the products take.
pub(in crate::vlm) fn scratch_bytes(group: usize, head_dim: usize) -> usize {
    let whole = head_dim.next_multiple_of(BLOCK);
    let rows = group * PIECE_ROWS * (head_dim + 2);
    4 * (2 * BLOCK_KEYS * whole + PIECE_ROWS * BLOCK_KEYS + rows)
}

/// Every row of every head; head `h` of row `r` goes to column `h dim` of row `r` of `out`.
pub(super) fn attend<F: Form>(instructions: Instructions, task: Task<'_>, out: Output) {
    let pieces = task.rows.div_ceil(PIECE_ROWS);
    // The last rows see the most keys: begun first, they keep no thread waiting in the end.
    let work = (0..task.kv_heads * pieces).into_par_iter();
    work.for_each_init(
        || Scratch::new(&task),
        |scratch, number| {
            let (head, piece) = (number % task.kv_heads, pieces - 1 - number / task.kv_heads);
            let rows = piece * PIECE_ROWS..task.rows.min((piece + 1) * PIECE_ROWS);
            let form = PhantomData::<F>;
            let work = ManyRows { task, head, rows, out, scratch, form };
            // SAFETY: `instructions` are this processor's; no other piece has this head and rows.
            unsafe { with(instructions, work) };
        },
    );
}

/// What a thread works in.
struct Scratch {
    /// (BLOCK_KEYS, dim filled up to whole blocks)
    keys: Vec<f32>,
    /// (BLOCK_KEYS, dim filled up to whole blocks)
    values: Vec<f32>,
    /// (PIECE_ROWS, BLOCK_KEYS)
    scores: Vec<f32>,
    /// (group, PIECE_ROWS, dim): the values mixed so far.
    mixed: Vec<f32>,
    /// (group, PIECE_ROWS)
    state: Vec<State>,
}

/// A row's softmax so far.
#[derive(Clone, Copy)]
struct State {
    /// The largest score.
    largest: f32,
    /// The sum of e^(score - largest).
    total: f32,
}

impl Scratch {
    fn new(task: &Task<'_>) -> Scratch {
        let whole = task.dim.next_multiple_of(BLOCK);
        let rows = task.group * PIECE_ROWS.min(task.rows);
        Scratch {
            keys: vec![0.0; BLOCK_KEYS * whole],
            values: vec![0.0; BLOCK_KEYS * whole],
            scores: vec![0.0; PIECE_ROWS.min(task.rows) * BLOCK_KEYS],
            mixed: vec![0.0; rows * task.dim],
            state: vec![State { largest: 0.0, total: 0.0 }; rows],
        }
    }
}

/// Rows `rows` of the query heads of one key head.
struct ManyRows<'a, 's, F> {
    task: Task<'a>,
    /// The key head.
    head: usize,
    rows: Range<usize>,
    out: Output,
    scratch: &'s mut Scratch,
    form: PhantomData<F>,
}

impl<F: Form> Work for ManyRows<'_, '_, F> {
    #[inline(always)]
    unsafe fn run<S: Simd>(mut self) {
        self.scratch.mixed.fill(0.0);
        self.scratch.state.fill(State { largest: f32::NEG_INFINITY, total: 0.0 });
        let sight = self.task.sight;
        let (first, last) = (sight.keys(self.rows.start), sight.keys(self.rows.end - 1));
        let mut from = first.start / BLOCK_KEYS * BLOCK_KEYS;
        while from < last.end {
            let block = from..last.end.min(from + BLOCK_KEYS);
            // SAFETY: the instructions are the caller's promise.
            unsafe { self.expand::<S>(block.clone()) };
            for member in 0..self.task.group {
                self.mix(member, block.clone());
            }
            from = block.end;
        }
        // SAFETY: the caller has made the room.
        unsafe { self.write() };
    }
}

impl<F: Form> ManyRows<'_, '_, F> {
    /// Makes numbers of the keys and values of `block`.
    #[inline(always)]
    unsafe fn expand<S: Simd>(&mut self, block: Range<usize>) {
        let (task, dim) = (&self.task, self.task.dim);
        let whole = dim.next_multiple_of(BLOCK);
        let keys = task.keys.rows(self.head, block.clone()).chunks_exact(task.keys.row_bytes);
        for (key, to) in keys.zip(self.scratch.keys.chunks_exact_mut(whole)) {
            // SAFETY: the instructions are the caller's promise; the slices are as long as needed.
            unsafe { F::key::<S>(key.as_ptr(), to.as_mut_ptr(), dim) };
        }
        let values = task.values.rows(self.head, block).chunks_exact(task.values.row_bytes);
        for (value, to) in values.zip(self.scratch.values.chunks_exact_mut(whole)) {
            // SAFETY: as above.
            unsafe { F::value::<S>(value.as_ptr(), to.as_mut_ptr(), dim) };
        }
    }

    /// The rows of this piece that see any key of `block`.
    #[inline(always)]
    fn seeing(&self, block: &Range<usize>) -> Range<usize> {
        let sight = self.task.sight;
        let first = block.start.saturating_sub(sight.first_row);
        let behind = match sight.window {
            // The last key of the block is seen by the row that is `window` behind it.
            Some(window) => (block.end + window).saturating_sub(sight.first_row),
            None => usize::MAX,
        };
        let first = first.max(self.rows.start);
        first..behind.min(self.rows.end).max(first)
    }

    /// Mixes the values of `block` into the rows of the group's `member`.
    #[inline(always)]
    fn mix(&mut self, member: usize, block: Range<usize>) {
        let (task, dim) = (&self.task, self.task.dim);
        let rows = self.seeing(&block);
        if rows.is_empty() {
            return;
        }
        let whole = dim.next_multiple_of(BLOCK) as isize;
        let Scratch { keys, values, scores, mixed, state } = &mut *self.scratch;
        let q = task.q(self.head * task.group + member, rows.clone());
        let at = member * PIECE_ROWS.min(task.rows) + rows.start - self.rows.start;
        let state = &mut state[at..at + rows.len()];
        let mixed = &mut mixed[at * dim..(at + rows.len()) * dim];
        let (count, seen, stride) = (rows.len(), block.len(), BLOCK_KEYS as isize);
        let scores = &mut scores[..count * BLOCK_KEYS];
        // SAFETY: `scores` is (count, seen) in rows of BLOCK_KEYS, `q` (count, dim), `keys` (seen,
        // dim) in rows of `whole`.
        unsafe {
            product(
                count,
                seen,
                dim,
                false,
                scores.as_mut_ptr(),
                stride,
                q.as_ptr(),
                dim as isize,
                keys.as_ptr(),
                [1, whole],
            );
        }
        for (number, line) in scores.chunks_exact_mut(BLOCK_KEYS).enumerate() {
            let line = &mut line[..seen];
            let keys = task.sight.keys(rows.start + number);
            let from = keys.start.saturating_sub(block.start).min(seen);
            let to = (keys.end - block.start).min(seen);
            line[..from].fill(0.0);
            line[to..].fill(0.0);
            take_in(&mut line[from..to], &mut state[number], &mut mixed[number * dim..][..dim]);
        }
        // SAFETY: `mixed` is (count, dim), `scores` as above, `values` (seen, dim) in rows of
        // `whole`.
        unsafe {
            product(
                count,
                dim,
                seen,
                true,
                mixed.as_mut_ptr(),
                dim as isize,
                scores.as_ptr(),
                stride,
                values.as_ptr(),
                [whole, 1],
            );
        }
    }

    /// Writes the finished rows.
    #[inline(always)]
    unsafe fn write(&self) {
        let (task, dim) = (&self.task, self.task.dim);
        let piece = PIECE_ROWS.min(task.rows);
        for member in 0..task.group {
            let column = (self.head * task.group + member) * dim;
            for row in self.rows.clone() {
                let at = member * piece + row - self.rows.start;
                let share = 1.0 / self.scratch.state[at].total;
                for i in 0..dim {
                    let number = self.scratch.mixed[at * dim + i] * share;
                    // SAFETY: the caller has made the room, and only this piece writes here.
                    unsafe { *self.out.to.add(row * self.out.stride + column + i) = number };
                }
            }
        }
    }
}

/// Turns a row's scores of one block into weights, and brings what was mixed before to the same
/// scale. A NaN is never the largest, but makes the total and the weights NaN.
#[inline(always)]
fn take_in(scores: &mut [f32], state: &mut State, mixed: &mut [f32]) {
    if scores.is_empty() {
        return;
    }
    let most = largest(scores);
    let most = if most > state.largest { most } else { state.largest };
    if most != state.largest {
        let shrink = (state.largest - most).exp();
        state.total *= shrink;
        for number in mixed {
            *number *= shrink;
        }
        state.largest = most;
    }
    state.total += exps(scores, most);
}

/// `to`, (rows, columns) in rows of `to_stride`, becomes or (`add`) grows by the product of `left`,
/// (rows, inner) in rows of `left_stride`, and `right`, (inner, columns), whose strides from one
/// row and from one column to the next are given. On this thread.
///
/// # Safety
/// The pointers must be good for these shapes.
#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "shapes and strides of three matrices")]
unsafe fn product(
    rows: usize,
    columns: usize,
    inner: usize,
    add: bool,
    to: *mut f32,
    to_stride: isize,
    left: *const f32,
    left_stride: isize,
    right: *const f32,
    [right_row, right_column]: [isize; 2],
) {
    let old = if add { 1.0 } else { 0.0 };
    let none = Parallelism::None;
    // SAFETY: the caller's.
    unsafe {
        gemm(
            rows,
            columns,
            inner,
            to,
            1,
            to_stride,
            add,
            left,
            1,
            left_stride,
            right,
            right_column,
            right_row,
            old,
            1.0,
            false,
            false,
            false,
            none,
        );
    }
}
