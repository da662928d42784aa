//! The compact form of keys and values: keys in 8 bits, values in 4.
//!
//! A row, one head of one position, is cut into blocks of 32 numbers; the last one is filled up with
//! numbers that meet zeros or are not read. A block of a key: its scale, then 32 signed levels. A block of a value:
//! scale and least number, then 16 bytes, level i of the first 16 numbers in the lower half of byte
//! i, level i of the others in the upper half. Keys decide where a row looks and get the bits; the
//! values' errors are averaged by the softmax. Scales are bf16: the range of f32 in two bytes, read
//! with a shift. They are rounded so that no level is cut off, and the levels are those of the
//! rounded scale.

use candle_core::{CpuStorage, CustomOp1, DType, Layout, Result, Shape, Tensor, bail};
use half::bf16;
use rayon::prelude::*;

/// Numbers of a block.
pub(super) const BLOCK: usize = 32;
/// Bytes of a block of a key.
pub(super) const KEY_BLOCK: usize = 2 + BLOCK;
/// Bytes of a block of a value.
pub(super) const VALUE_BLOCK: usize = 4 + BLOCK / 2;

/// Bytes of the key of one head of `head_dim` numbers.
pub(in crate::vlm) fn key_bytes(head_dim: usize) -> usize {
    head_dim.div_ceil(BLOCK) * KEY_BLOCK
}

/// Bytes of the value of one head of `head_dim` numbers.
pub(in crate::vlm) fn value_bytes(head_dim: usize) -> usize {
    head_dim.div_ceil(BLOCK) * VALUE_BLOCK
}

/// `keys`: (heads, rows, head_dim), f32 on the processor. Returns (heads, rows, key_bytes), U8.
pub(in crate::vlm) fn keys(keys: &Tensor) -> Result<Tensor> {
    keys.contiguous()?.apply_op1_no_bwd(&Pack { block_bytes: KEY_BLOCK, pack: pack_key })
}

/// `values`: (heads, rows, head_dim), f32 on the processor. Returns (heads, rows, value_bytes), U8.
pub(in crate::vlm) fn values(values: &Tensor) -> Result<Tensor> {
    values.contiguous()?.apply_op1_no_bwd(&Pack { block_bytes: VALUE_BLOCK, pack: pack_value })
}

struct Pack {
    block_bytes: usize,
    /// Packs up to 32 numbers into a block.
    pack: fn(&[f32], &mut [u8]),
}

impl CustomOp1 for Pack {
    fn name(&self) -> &'static str {
        "compact keys and values"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (heads, rows, dim) = layout.shape().dims3()?;
        let CpuStorage::F32(numbers) = storage else {
            bail!("the compact cache is made of {:?}", DType::F32)
        };
        let Some((from, to)) = layout.contiguous_offsets() else { bail!("the rows have gaps") };
        let row_bytes = dim.div_ceil(BLOCK) * self.block_bytes;
        let mut bytes = vec![0; heads * rows * row_bytes];
        let work = |(numbers, bytes): (&[f32], &mut [u8])| {
            for (numbers, block) in
                numbers.chunks(BLOCK).zip(bytes.chunks_exact_mut(self.block_bytes))
            {
                (self.pack)(numbers, block);
            }
        };
        numbers[from..to]
            .par_chunks(dim)
            .zip(bytes.par_chunks_exact_mut(row_bytes))
            .with_min_len(64)
            .for_each(work);
        Ok((CpuStorage::U8(bytes), (heads, rows, row_bytes).into()))
    }
}

/// The least bf16 that is not below `number`, which is not negative.
fn rounded_up(number: f32) -> bf16 {
    // Among positive numbers the next one has the next bits; NaN and infinity stay what they are.
    match number.is_finite() {
        true => bf16::from_bits((number.to_bits().saturating_add(0xffff) >> 16) as u16),
        false => bf16::from_f32(number),
    }
}

/// The largest bf16 that is not above `number`.
fn rounded_down(number: f32) -> bf16 {
    let cut = bf16::from_bits((number.to_bits() >> 16) as u16);
    match number.is_finite() && number < 0.0 {
        true => bf16::from_bits(rounded_up(-number).to_bits() | 0x8000),
        false if number.is_nan() => bf16::NAN,
        false => cut,
    }
}

/// 1.5 * 2^23: added to a number below 2^22, it leaves the nearest whole number in the low bits.
const ROUNDER: f32 = 12_582_912.0;

/// The reciprocal, or 0 where there is none.
fn inverse(scale: bf16) -> f32 {
    let inverse = 1.0 / scale.to_f32();
    if inverse.is_finite() { inverse } else { 0.0 }
}

/// The block's numbers; where they are fewer than 32, the first one stands in their place.
fn filled(numbers: &[f32]) -> [f32; BLOCK] {
    let mut all = [numbers[0]; BLOCK];
    all[..numbers.len()].copy_from_slice(numbers);
    all
}

fn pack_key(numbers: &[f32], block: &mut [u8]) {
    let all = filled(numbers);
    // As whole numbers sizes compare like the numbers, and NaN is the largest: nothing is lost.
    let largest = all.iter().fold(0, |most, v| (v.to_bits() & 0x7fff_ffff).max(most));
    let largest = f32::from_bits(largest);
    let scale = if largest.is_finite() { rounded_up(largest * (1.0 / 127.0)) } else { bf16::NAN };
    let inverse = inverse(scale);
    block[..2].copy_from_slice(&scale.to_bits().to_le_bytes());
    let mut levels = [0u8; BLOCK];
    for i in 0..BLOCK {
        levels[i] = (all[i] * inverse + ROUNDER).to_bits() as u8; // two's complement
    }
    block[2..].copy_from_slice(&levels);
}

fn pack_value(numbers: &[f32], block: &mut [u8]) {
    let all = filled(numbers);
    // Side by side, as the order of comparisons is not the compiler's to change.
    let (mut least, mut most, mut zero) = ([f32::INFINITY; 8], [f32::NEG_INFINITY; 8], [0f32; 8]);
    for eight in all.as_chunks::<8>().0 {
        for i in 0..8 {
            least[i] = if eight[i] < least[i] { eight[i] } else { least[i] };
            most[i] = if eight[i] > most[i] { eight[i] } else { most[i] };
            zero[i] += eight[i] * 0.0; // NaN if one of them is not finite
        }
    }
    let most = most.into_iter().fold(f32::NEG_INFINITY, f32::max);
    let least = match zero.iter().sum::<f32>() == 0.0 {
        true => rounded_down(least.into_iter().fold(f32::INFINITY, f32::min)),
        false => bf16::NAN,
    };
    let scale = rounded_up((most - least.to_f32()) * (1.0 / 15.0));
    let (below, inverse) = (least.to_f32(), inverse(scale));
    let mut levels = [0u8; BLOCK];
    for i in 0..BLOCK {
        let place = (all[i] - below) * inverse;
        let place = if place < 15.0 { place } else { 15.0 };
        levels[i] = (place + ROUNDER).to_bits() as u8;
    }
    block[..2].copy_from_slice(&scale.to_bits().to_le_bytes());
    block[2..4].copy_from_slice(&least.to_bits().to_le_bytes());
    for i in 0..BLOCK / 2 {
        block[4 + i] = levels[i] | levels[i + BLOCK / 2] << 4;
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use proptest::prelude::*;

    use super::*;

    fn scale_of(block: &[u8], at: usize) -> f32 {
        bf16::from_bits(u16::from_le_bytes([block[at], block[at + 1]])).to_f32()
    }

    fn key_back(block: &[u8]) -> Vec<f32> {
        block[2..].iter().map(|level| scale_of(block, 0) * f32::from(*level as i8)).collect()
    }

    fn value_back(block: &[u8]) -> Vec<f32> {
        let level = |i: usize| block[4 + i % 16] >> (i / 16 * 4) & 15;
        (0..32).map(|i| scale_of(block, 0) * f32::from(level(i)) + scale_of(block, 2)).collect()
    }

    proptest! {
        #[test]
        fn numbers_come_back_within_half_a_step(
            numbers in prop::collection::vec(-1e3f32..1e3, 1..=32), exponent in -30..30,
        ) {
            let numbers: Vec<f32> = numbers.iter().map(|v| v * 2f32.powi(exponent)).collect();
            let largest = numbers.iter().fold(0f32, |most, v| most.max(v.abs()));
            let (mut key, mut value) = ([0; KEY_BLOCK], [0; VALUE_BLOCK]);
            pack_key(&numbers, &mut key);
            pack_value(&numbers, &mut value);
            for (number, back) in numbers.iter().zip(key_back(&key)) {
                // A scale is at most one part in 128 larger than it must be.
                prop_assert!((number - back).abs() <= 1.01 * largest / 254.0, "{number} {back}");
            }
            let least = numbers.iter().copied().fold(f32::INFINITY, f32::min);
            let most = numbers.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let step = 1.01 * (most - least + largest / 128.0) / 15.0;
            for (number, back) in numbers.iter().zip(value_back(&value)) {
                prop_assert!((number - back).abs() <= 0.501 * step, "{number} {back}");
            }
        }
    }

    #[test]
    fn equal_numbers_and_zeros_are_exact() {
        for number in [0.0, 0.5, -3.0] {
            let (mut key, mut value) = ([7; KEY_BLOCK], [7; VALUE_BLOCK]);
            pack_key(&[number; 32], &mut key);
            pack_value(&[number; 32], &mut value);
            assert!(key_back(&key).iter().all(|v| (v - number).abs() <= number.abs() / 200.0));
            assert_eq!(value_back(&value), [number; 32]);
        }
    }

    #[test]
    fn what_is_not_finite_is_not_hidden() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut numbers = [1.0; 32];
            numbers[9] = bad;
            let (mut key, mut value) = ([0; KEY_BLOCK], [0; VALUE_BLOCK]);
            pack_key(&numbers, &mut key);
            pack_value(&numbers, &mut value);
            assert!(key_back(&key).iter().chain(&value_back(&value)).all(|v| v.is_nan()));
        }
    }

    #[test]
    fn the_ends_of_the_range_are_kept() {
        let mut numbers = [0.0; 32];
        (numbers[0], numbers[1]) = (f32::MAX, f32::MAX / 3.0);
        let mut key = [0; KEY_BLOCK];
        pack_key(&numbers, &mut key);
        let back = key_back(&key);
        assert!((back[1] / numbers[1] - 1.0).abs() < 0.02 && back[2] == 0.0);
    }

    #[test]
    fn a_row_depends_on_no_other_row() {
        let wave = |i: usize| (i as f32 * 0.731).sin() * (1.0 + (i % 5) as f32);
        let all: Vec<f32> = (0..2 * 7 * 40).map(wave).collect();
        let all = Tensor::from_vec(all, (2, 7, 40), &Device::Cpu).unwrap();
        for pack in [keys, values] {
            let together = pack(&all).unwrap();
            for row in 0..7 {
                let alone = pack(&all.narrow(1, row, 1).unwrap()).unwrap();
                let same = together.narrow(1, row, 1).unwrap();
                let bytes = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<u8>().unwrap();
                assert_eq!(bytes(&alone), bytes(&same));
            }
        }
        assert_eq!(keys(&all).unwrap().dims(), [2, 7, 2 * KEY_BLOCK]);
    }
}
