//! How a key and a value are read in each form of the cache, with whatever instructions there are.

use std::marker::PhantomData;

use half::f16;

use super::compact::{BLOCK, KEY_BLOCK, VALUE_BLOCK};
use crate::vlm::quant::simd::Simd;

/// A form of keys and values. `dim` is always the numbers of a row.
///
/// # Safety
/// The processor must have what `S` uses. `key` and `value` are good for a row of the form, `values`
/// for as many as there are weights, each `row_bytes` from the next; `q`, `to` and `mixed` for `dim`
/// numbers filled up to whole blocks of 32, and what stands behind `dim` in `q` is zero.
pub(super) trait Form: Sync {
    /// The product of a key with `q`.
    unsafe fn dot<S: Simd>(key: *const u8, q: *const f32, dim: usize) -> f32;
    /// Adds the sum of the values times their weights to `mixed`. Called for some values at a time,
    /// it rounds less than one long sum.
    unsafe fn mix<S: Simd>(
        values: *const u8,
        row_bytes: usize,
        weights: &[f32],
        mixed: *mut f32,
        dim: usize,
    );
    /// A key as numbers.
    unsafe fn key<S: Simd>(key: *const u8, to: *mut f32, dim: usize);
    /// A value as numbers.
    unsafe fn value<S: Simd>(value: *const u8, to: *mut f32, dim: usize);
}

/// A floating-point number that rows may be made of.
pub(super) trait Float: Copy + Sync {
    unsafe fn load<S: Simd>(from: *const Self) -> S::Num;
    fn number(self) -> f32;
}

impl Float for f32 {
    #[inline(always)]
    unsafe fn load<S: Simd>(from: *const f32) -> S::Num {
        // SAFETY: the caller's.
        unsafe { S::load(from) }
    }

    #[inline(always)]
    fn number(self) -> f32 {
        self
    }
}

impl Float for f16 {
    #[inline(always)]
    unsafe fn load<S: Simd>(from: *const f16) -> S::Num {
        // SAFETY: the caller's.
        unsafe { S::load_half(from) }
    }

    #[inline(always)]
    fn number(self) -> f32 {
        self.to_f32()
    }
}

/// A block of sums in registers: as many vectors as 32 numbers are, and more that are not used.
struct Panel<S: Simd>([S::Num; 8]);

impl<S: Simd> Panel<S> {
    #[inline(always)]
    unsafe fn zeros() -> Panel<S> {
        // SAFETY: the caller has the instructions.
        Panel([unsafe { S::num(0.0) }; 8])
    }

    #[inline(always)]
    unsafe fn add_to(&self, to: *mut f32) {
        for i in 0..BLOCK / S::LANES {
            // SAFETY: the caller's pointer is good for 32 numbers.
            unsafe {
                let to = to.add(i * S::LANES);
                S::store(S::mul_add(S::num(1.0), self.0[i], S::load(to)), to);
            }
        }
    }
}

/// Rows of floating-point numbers: keys and values alike.
pub(super) struct Floats<T>(PhantomData<T>);

impl<T: Float> Form for Floats<T> {
    #[inline(always)]
    unsafe fn dot<S: Simd>(key: *const u8, q: *const f32, dim: usize) -> f32 {
        let key = key.cast::<T>();
        let whole = dim / S::LANES * S::LANES;
        // SAFETY: the caller's pointers are good for `dim` numbers.
        unsafe {
            let mut sum = S::num(0.0);
            for i in (0..whole).step_by(S::LANES) {
                sum = S::mul_add(T::load::<S>(key.add(i)), S::load(q.add(i)), sum);
            }
            let mut sum = S::sum(sum);
            for i in whole..dim {
                sum += (*key.add(i)).number() * *q.add(i);
            }
            sum
        }
    }

    #[inline(always)]
    unsafe fn mix<S: Simd>(
        values: *const u8,
        row_bytes: usize,
        weights: &[f32],
        mixed: *mut f32,
        dim: usize,
    ) {
        let panels = dim / BLOCK * BLOCK;
        let whole = dim / S::LANES * S::LANES;
        // SAFETY: as above.
        unsafe {
            for from in (0..panels).step_by(BLOCK) {
                let mut sums = Panel::<S>::zeros();
                let mut value = values.cast::<T>().add(from);
                for weight in weights {
                    let weight = S::num(*weight);
                    for i in 0..BLOCK / S::LANES {
                        let numbers = T::load::<S>(value.add(i * S::LANES));
                        sums.0[i] = S::mul_add(numbers, weight, sums.0[i]);
                    }
                    value = value.byte_add(row_bytes);
                }
                sums.add_to(mixed.add(from));
            }
            for from in (panels..whole).step_by(S::LANES) {
                let mut sum = S::load(mixed.add(from));
                let mut value = values.cast::<T>().add(from);
                for weight in weights {
                    sum = S::mul_add(T::load::<S>(value), S::num(*weight), sum);
                    value = value.byte_add(row_bytes);
                }
                S::store(sum, mixed.add(from));
            }
            for from in whole..dim {
                let mut value = values.cast::<T>().add(from);
                for weight in weights {
                    *mixed.add(from) += (*value).number() * weight;
                    value = value.byte_add(row_bytes);
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn key<S: Simd>(key: *const u8, to: *mut f32, dim: usize) {
        let key = key.cast::<T>();
        let whole = dim / S::LANES * S::LANES;
        // SAFETY: as above.
        unsafe {
            for i in (0..whole).step_by(S::LANES) {
                S::store(T::load::<S>(key.add(i)), to.add(i));
            }
            for i in whole..dim {
                *to.add(i) = (*key.add(i)).number();
            }
        }
    }

    #[inline(always)]
    unsafe fn value<S: Simd>(value: *const u8, to: *mut f32, dim: usize) {
        // SAFETY: as above.
        unsafe { Self::key::<S>(value, to, dim) }
    }
}

/// Keys in 8 bits, values in 4: see [`super::compact`].
pub(super) struct Compact;

/// The bf16 at `from` as f32.
#[inline(always)]
unsafe fn scale(from: *const u8) -> f32 {
    // SAFETY: the caller's pointer is good for 2 bytes.
    let bits = u16::from_le(unsafe { from.cast::<u16>().read_unaligned() });
    f32::from_bits(u32::from(bits) << 16)
}

impl Form for Compact {
    #[inline(always)]
    unsafe fn dot<S: Simd>(key: *const u8, q: *const f32, dim: usize) -> f32 {
        // SAFETY: the caller's pointers are good for whole blocks.
        unsafe {
            let mut sum = S::num(0.0);
            for number in 0..dim.div_ceil(BLOCK) {
                let (block, q) = (key.add(number * KEY_BLOCK), q.add(number * BLOCK));
                let levels = block.add(2).cast::<i8>();
                let mut part = S::mul(S::load_bytes(levels), S::load(q));
                for i in (S::LANES..BLOCK).step_by(S::LANES) {
                    part = S::mul_add(S::load_bytes(levels.add(i)), S::load(q.add(i)), part);
                }
                sum = S::mul_add(part, S::num(scale(block)), sum);
            }
            S::sum(sum)
        }
    }

    #[inline(always)]
    unsafe fn mix<S: Simd>(
        values: *const u8,
        row_bytes: usize,
        weights: &[f32],
        mixed: *mut f32,
        dim: usize,
    ) {
        // SAFETY: as above.
        unsafe {
            for number in 0..dim.div_ceil(BLOCK) {
                let to = mixed.add(number * BLOCK);
                let mut sums = Panel::<S>::zeros();
                let mut below = 0.0; // what the least numbers add to all of the block
                let mut block = values.add(number * VALUE_BLOCK);
                for weight in weights {
                    let step = S::num(scale(block) * weight);
                    below += scale(block.add(2)) * weight;
                    for i in 0..BLOCK / 2 / S::LANES {
                        let [low, high] = S::load_nibbles(block.add(4 + i * S::LANES));
                        let upper = i + BLOCK / 2 / S::LANES;
                        sums.0[i] = S::mul_add(low, step, sums.0[i]);
                        sums.0[upper] = S::mul_add(high, step, sums.0[upper]);
                    }
                    block = block.add(row_bytes);
                }
                for i in 0..BLOCK / S::LANES {
                    sums.0[i] = S::mul_add(S::num(1.0), S::num(below), sums.0[i]);
                }
                sums.add_to(to);
            }
        }
    }

    #[inline(always)]
    unsafe fn key<S: Simd>(key: *const u8, to: *mut f32, dim: usize) {
        // SAFETY: as above.
        unsafe {
            for number in 0..dim.div_ceil(BLOCK) {
                let (block, to) = (key.add(number * KEY_BLOCK), to.add(number * BLOCK));
                let scale = S::num(scale(block));
                for i in (0..BLOCK).step_by(S::LANES) {
                    let levels = S::load_bytes(block.add(2 + i).cast());
                    S::store(S::mul(levels, scale), to.add(i));
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn value<S: Simd>(value: *const u8, to: *mut f32, dim: usize) {
        // SAFETY: as above.
        unsafe {
            for number in 0..dim.div_ceil(BLOCK) {
                let (block, to) = (value.add(number * VALUE_BLOCK), to.add(number * BLOCK));
                let (step, least) = (S::num(scale(block)), S::num(scale(block.add(2))));
                for i in (0..BLOCK / 2).step_by(S::LANES) {
                    let [low, high] = S::load_nibbles(block.add(4 + i));
                    S::store(S::mul_add(low, step, least), to.add(i));
                    S::store(S::mul_add(high, step, least), to.add(i + BLOCK / 2));
                }
            }
        }
    }
}
