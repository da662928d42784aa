//! The fused attention against the tensor library's products over the same numbers.

use candle_core::{DType, Device, Tensor};
use half::f16;

use super::form::{Compact, Floats, Form};
use super::rows::{Stored, Task, Work, with};
use super::*;
use crate::vlm::quant::simd::Simd;

const FORMS: [CacheForm; 3] =
    [CacheForm::Numbers(DType::F32), CacheForm::Numbers(DType::F16), CacheForm::Compact];

/// Smooth numbers; those of different heads, rows and seeds differ.
fn waves(shape: (usize, usize, usize), seed: f32) -> Tensor {
    let count = shape.0 * shape.1 * shape.2;
    let wave = |i: usize| (i as f32 * 0.731 + seed).sin() * (1.0 + (i % 7) as f32 * 0.3);
    Tensor::from_vec((0..count).map(wave).collect::<Vec<f32>>(), shape, &Device::Cpu).unwrap()
}

/// The numbers that the compact rows `stored`, (heads, rows, bytes), stand for.
fn expanded(stored: &Tensor, dim: usize, is_key: bool) -> Tensor {
    let (heads, rows, row_bytes) = stored.dims3().unwrap();
    let bytes = stored.flatten_all().unwrap().to_vec1::<u8>().unwrap();
    let mut all = Vec::new();
    for row in bytes.chunks_exact(row_bytes) {
        let mut numbers = vec![0f32; dim.next_multiple_of(compact::BLOCK)];
        let to = numbers.as_mut_ptr();
        // SAFETY: plain Rust; `numbers` has room for whole blocks.
        unsafe {
            use crate::vlm::quant::simd::Portable;
            match is_key {
                true => Compact::key::<Portable>(row.as_ptr(), to, dim),
                false => Compact::value::<Portable>(row.as_ptr(), to, dim),
            }
        }
        all.extend_from_slice(&numbers[..dim]);
    }
    Tensor::from_vec(all, (heads, rows, dim), &Device::Cpu).unwrap()
}

#[derive(Clone, Copy, Debug)]
struct Case {
    kv_heads: usize,
    group: usize,
    held: usize,
    rows: usize,
    dim: usize,
    window: Option<usize>,
}

impl Case {
    /// The largest difference from the plain way over the same numbers, relative to the largest of
    /// them.
    fn difference(self, form: CacheForm) -> f32 {
        let Case { kv_heads, group, held, rows, dim, window } = self;
        let q = waves((kv_heads * group, rows, dim), 1.0);
        let room = (kv_heads, held + rows + 3, dim); // heads lie further apart than their rows
        let (keys, values) = form.store(&waves(room, 2.0), &waves(room, 3.0)).unwrap();
        let view = |t: &Tensor| t.narrow(1, 0, held + rows).unwrap();
        let sight = Sight { first_row: held, window };
        let found = attend(&q, &view(&keys), &view(&values), sight).unwrap();
        let number = |t: &Tensor, is_key| match form {
            CacheForm::Compact => expanded(t, dim, is_key),
            CacheForm::Numbers(_) => t.to_dtype(DType::F32).unwrap(),
        };
        let full = |t: &Tensor, is_key| view(&number(t, is_key)).contiguous().unwrap();
        let keys = full(&keys, true);
        let mask = match window {
            // The plain way sees every key with a single row; here older ones are given, too.
            Some(window) if rows == 1 => {
                let keys = held + 1;
                let hidden = held.saturating_sub(window);
                let line = (0..keys).map(|i| if i < hidden { f32::NEG_INFINITY } else { 0.0 });
                Some(Tensor::from_vec(line.collect(), (1, keys), &Device::Cpu).unwrap())
            }
            _ => plain::mask(sight, rows, DType::F32, &Device::Cpu).unwrap(),
        };
        let expected = plain::attend(&q, &keys, &full(&values, false), mask.as_ref()).unwrap();
        assert_eq!(found.dims(), [rows, kv_heads * group * dim]);
        let most = |t: Tensor| t.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
        most((found - &expected).unwrap()) / most(expected)
    }
}

#[test]
fn attention_is_products_and_softmax() {
    let case = |[kv_heads, group, held, rows, dim]: [usize; 5], window| Case {
        kv_heads,
        group,
        held,
        rows,
        dim,
        window,
    };
    let (piece, block) = (many_rows::PIECE_ROWS, many_rows::BLOCK_KEYS);
    let cases = [
        case([1, 1, 0, 1, 8], None),
        case([2, 1, 299, 1, 96], None),
        case([2, 4, 16, 1, 64], None),
        case([2, 3, 4, 1, 10], None),
        case([2, 2, 39, FEW_ROWS, 3], None),
        case([2, 1, 40, 1, 16], Some(7)),
        case([2, 2, 40, 3, 16], Some(7)),
        case([2, 1, 0, FEW_ROWS + 1, 96], None),
        case([1, 3, 0, 2 * piece + 5, 33], None),
        case([2, 1, block - 3, 9, 64], None),
        case([2, 1, 2 * block, piece, 16], None),
        case([2, 2, 3 * block + 1, piece + 1, 31], None),
        case([2, 2, 10, 3 * piece, 16], Some(5)),
        case([1, 2, 2 * block, 2 * piece + 1, 40], Some(block + 30)),
        case([1, 1, 0, 2 * block, 8], Some(0)),
    ];
    for case in cases {
        for form in FORMS {
            let off = case.difference(form);
            assert!(off < 3e-6, "{case:?} {form}: {off:e}");
        }
    }
}

/// A row's result depends on what it sees, not on how many keys are behind it or with how many rows
/// it came, but for rounding.
#[test]
fn rows_together_are_the_rows_alone() {
    let (heads, held, rows, dim) = (2, 300, 200, 32);
    let q = waves((heads, rows, dim), 1.0);
    let shape = (heads, held + rows, dim);
    for form in FORMS {
        let (keys, values) = form.store(&waves(shape, 2.0), &waves(shape, 3.0)).unwrap();
        let all = attend(&q, &keys, &values, Sight { first_row: held, window: None }).unwrap();
        for row in [0, 1, 127, 128, 199] {
            let count = held + row + 1;
            let seen = |t: &Tensor| t.narrow(1, 0, count).unwrap();
            let sight = Sight { first_row: held + row, window: None };
            let q = q.narrow(1, row, 1).unwrap();
            let alone = attend(&q, &seen(&keys), &seen(&values), sight).unwrap();
            let off = (alone - all.narrow(0, row, 1).unwrap()).unwrap().abs().unwrap();
            let off = off.max_all().unwrap().to_scalar::<f32>().unwrap();
            assert!(off < 1e-5, "{form} {row}: {off:e}");
        }
    }
}

#[test]
fn what_is_not_finite_is_not_hidden() {
    for (rows, form) in FORMS.into_iter().flat_map(|form| [(1, form), (3, form), (9, form)]) {
        for (in_keys, in_values) in [(true, false), (false, true)] {
            let numbers = |seed, is_bad: bool| {
                let numbers = waves((1, 20 + rows, 40), seed);
                let mut all = numbers.flatten_all().unwrap().to_vec1::<f32>().unwrap();
                all[7 * 40 + 3] = if is_bad { f32::NAN } else { all[7 * 40 + 3] };
                Tensor::from_vec(all, (1, 20 + rows, 40), &Device::Cpu).unwrap()
            };
            let (keys, values) =
                form.store(&numbers(1.0, in_keys), &numbers(2.0, in_values)).unwrap();
            let q = waves((1, rows, 40), 3.0);
            let found = attend(&q, &keys, &values, Sight { first_row: 20, window: None }).unwrap();
            for row in found.to_vec2::<f32>().unwrap() {
                assert!(row.iter().any(|number| number.is_nan()), "{form} {rows} rows");
            }
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let q = waves((2, 1, 8), 0.0);
    let half = |count, dim| waves((2, count, dim), 0.0).to_dtype(DType::F16).unwrap();
    let sight = Sight { first_row: 2, window: None };
    assert!(attend(&q, &half(3, 8), &half(3, 8), sight).is_ok());
    assert!(attend(&q, &half(3, 4), &half(3, 4), sight).is_err());
    assert!(attend(&q, &half(4, 8), &half(4, 8), sight).is_err(), "a key too many");
    assert!(attend(&q, &half(3, 8), &half(4, 8), sight).is_err());
    assert!(attend(&q, &waves((2, 3, 8), 0.0), &half(3, 8), sight).is_err());
    assert!(attend(&waves((3, 1, 8), 0.0), &half(3, 8), &half(3, 8), sight).is_err());
    let bytes = Tensor::zeros((2, 3, 8), DType::U8, &Device::Cpu).unwrap();
    assert!(attend(&q, &bytes, &bytes, sight).is_err(), "no whole blocks");
}

/// All four ways to read a row of `F`, one after the other.
struct Read<'a, F> {
    rows: [&'a [u8]; 2],
    q: &'a [f32],
    found: &'a mut Vec<f32>,
    dim: usize,
    form: std::marker::PhantomData<F>,
}

impl<F: Form> Work for Read<'_, F> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let ([key, value], dim) = (self.rows, self.dim);
        let mut numbers = vec![0.5f32; self.q.len()];
        let mut keep = |numbers: &[f32]| self.found.extend_from_slice(&numbers[..dim]);
        // SAFETY: the caller has the instructions; `q` is whole blocks long.
        let dot = unsafe {
            F::mix::<S>(value.as_ptr(), value.len(), &[0.7], numbers.as_mut_ptr(), dim);
            keep(&numbers);
            F::key::<S>(key.as_ptr(), numbers.as_mut_ptr(), dim);
            keep(&numbers);
            F::value::<S>(value.as_ptr(), numbers.as_mut_ptr(), dim);
            keep(&numbers);
            F::dot::<S>(key.as_ptr(), self.q.as_ptr(), dim)
        };
        self.found.push(dot);
    }
}

fn reads<F: Form>(instructions: Instructions, form: CacheForm, dim: usize) -> Vec<f32> {
    let numbers = |seed| waves((1, 1, dim), seed);
    let (key, value) = form.store(&numbers(1.0), &numbers(2.0)).unwrap();
    let whole = dim.next_multiple_of(compact::BLOCK);
    let mut q = waves((1, 1, dim), 3.0).flatten_all().unwrap().to_vec1::<f32>().unwrap();
    q.resize(whole, 0.0);
    let mut found = Vec::new();
    let mut read = |key: &[u8], value: &[u8]| {
        let form = std::marker::PhantomData::<F>;
        let read = Read { rows: [key, value], q: &q, found: &mut found, dim, form };
        // SAFETY: only instructions of this processor are tried.
        unsafe { with(instructions, read) };
    };
    let bytes = |t: &Tensor| -> Vec<u8> {
        let (storage, layout) = t.storage_and_layout();
        let candle_core::Storage::Cpu(storage) = &*storage else { unreachable!() };
        let stored: Stored<'_> = match storage {
            CpuStorage::F32(numbers) => stored(numbers, layout).unwrap(),
            CpuStorage::F16(numbers) => stored(numbers, layout).unwrap(),
            CpuStorage::U8(numbers) => stored(numbers, layout).unwrap(),
            _ => unreachable!(),
        };
        stored.bytes.to_vec()
    };
    read(&bytes(&key), &bytes(&value));
    found
}

#[test]
fn every_instruction_set_reads_the_same() {
    for dim in [1, 8, 31, 32, 44, 96] {
        for instructions in Instructions::all() {
            let same = |form: CacheForm, reads: fn(Instructions, CacheForm, usize) -> Vec<f32>| {
                let plain = reads(Instructions::Portable, form, dim);
                let found = reads(instructions, form, dim);
                let off = found.iter().zip(&plain).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(off < 2e-5, "{instructions:?} {form} {dim}: {off:e}");
                assert_eq!(found.len(), 3 * dim + 1);
            };
            same(CacheForm::Numbers(DType::F32), reads::<Floats<f32>>);
            same(CacheForm::Numbers(DType::F16), reads::<Floats<f16>>);
            same(CacheForm::Compact, reads::<Compact>);
        }
    }
}

/// Heads of `rows` rows without a gap.
fn whole(bytes: &[u8], row_bytes: usize, rows: usize) -> Stored<'_> {
    Stored { bytes, head_bytes: row_bytes * rows, row_bytes }
}

/// The kernels for many rows and for one, with each set of instructions.
#[test]
fn every_instruction_set_attends_the_same() {
    let (heads, rows, dim) = (2, 140, 40);
    let q = waves((heads, rows, dim), 1.0).flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let (keys, values) = CacheForm::Compact
        .store(&waves((heads, 300 + rows, dim), 2.0), &waves((heads, 300 + rows, dim), 3.0))
        .unwrap();
    let bytes = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<u8>().unwrap();
    let (keys, values) = (bytes(&keys), bytes(&values));
    let found = |instructions, run: fn(Instructions, Task<'_>, Output)| {
        let mut out = vec![0f32; rows * heads * dim];
        let task = Task {
            q: &q,
            keys: whole(&keys, compact::key_bytes(dim), 300 + rows),
            values: whole(&values, compact::value_bytes(dim), 300 + rows),
            kv_heads: heads,
            group: 1,
            rows,
            dim,
            sight: Sight { first_row: 300, window: None },
        };
        run(instructions, task, Output { to: out.as_mut_ptr(), stride: heads * dim });
        out
    };
    let plain = found(Instructions::Portable, one_row::attend::<Compact>);
    for instructions in Instructions::all() {
        for run in [one_row::attend::<Compact>, many_rows::attend::<Compact>] {
            let found = found(instructions, run);
            let off = found.iter().zip(&plain).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(off < 1e-5, "{instructions:?}: {off:e}");
        }
    }
}
