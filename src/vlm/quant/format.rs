//! The block formats of quantised weights: how many numbers share a block, and how a block becomes
//! numbers.
//!
//! The layouts are those of the GGUF format (ggml's `block_q8_0`, `block_q4_K`, `block_q5_K`,
//! `block_q6_K`), so that the bytes of a file are used where they lie.

use candle_core::quantized::GgmlDType;
use half::f16;

/// How a row of weights is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Format {
    /// 8 bits, one f16 scale for 32 numbers: 8.5 bits a weight.
    Q8_0,
    /// 6 bits, an 8-bit scale for 16 numbers, one f16 for 256: 6.56 bits a weight.
    Q6K,
    /// 5 bits, 6-bit scale and minimum for 32 numbers, two f16 for 256: 5.5 bits a weight.
    Q5K,
    /// 4 bits, 6-bit scale and minimum for 32 numbers, two f16 for 256: 4.5 bits a weight.
    Q4K,
}

/// All formats, the most exact first.
pub const FORMATS: [Format; 4] = [Format::Q8_0, Format::Q6K, Format::Q5K, Format::Q4K];

impl Format {
    /// Numbers in a block; a row is whole blocks.
    pub const fn block_len(self) -> usize {
        match self {
            Format::Q8_0 => 32,
            _ => 256,
        }
    }

    /// Bytes of a block.
    pub const fn block_bytes(self) -> usize {
        match self {
            Format::Q8_0 => 34,
            Format::Q6K => 210,
            Format::Q5K => 176,
            Format::Q4K => 144,
        }
    }

    /// Bytes of a row of `len` numbers; `None` if that is not whole blocks.
    pub const fn row_bytes(self, len: usize) -> Option<usize> {
        match len % self.block_len() {
            0 => Some(len / self.block_len() * self.block_bytes()),
            _ => None,
        }
    }

    /// What is added to a weight's integer so that it is not negative in [`Unpacked::levels`].
    pub(super) const fn offset(self) -> u8 {
        match self {
            Format::Q8_0 => 128,
            Format::Q6K => 32,
            Format::Q5K | Format::Q4K => 0,
        }
    }

    /// The name that people write.
    pub const fn name(self) -> &'static str {
        match self {
            Format::Q8_0 => "q8_0",
            Format::Q6K => "q6_k",
            Format::Q5K => "q5_k",
            Format::Q4K => "q4_k",
        }
    }

    /// The same format in candle's words.
    pub const fn ggml(self) -> GgmlDType {
        match self {
            Format::Q8_0 => GgmlDType::Q8_0,
            Format::Q6K => GgmlDType::Q6K,
            Format::Q5K => GgmlDType::Q5K,
            Format::Q4K => GgmlDType::Q4K,
        }
    }
}

/// A piece of a weight row, taken apart: small integers, and what makes them numbers.
///
/// Number `i` is `scales[i / 16] * (levels[i] - offset) - mins[i / 32]`.
pub(super) struct Unpacked {
    /// One for each number; 0..=255 for Q8_0, less for the others.
    pub(super) levels: Vec<u8>,
    /// One for each 16 numbers.
    pub(super) scales: Vec<f32>,
    /// One for each 32 numbers; zeros where the format has none.
    pub(super) mins: Vec<f32>,
}

impl Unpacked {
    /// Room for `len` numbers, a multiple of 32.
    pub(super) fn new(len: usize) -> Unpacked {
        Unpacked {
            levels: vec![0; len],
            scales: vec![0.0; len / 16],
            mins: vec![0.0; len / 32],
        }
    }

    /// Takes `bytes`, whole blocks of `format`, apart. There must be room (checked by the slices).
    ///
    /// Always inlined, so that it is compiled anew for each processor's instructions.
    #[inline(always)]
    pub(super) fn fill(&mut self, format: Format, bytes: &[u8]) {
        let blocks = bytes.chunks_exact(format.block_bytes());
        let len = format.block_len();
        let levels = self.levels.chunks_exact_mut(len);
        let scales = self.scales.chunks_exact_mut(len / 16);
        let mins = self.mins.chunks_exact_mut(len / 32);
        for (((block, levels), scales), mins) in blocks.zip(levels).zip(scales).zip(mins) {
            match format {
                Format::Q8_0 => unpack_q8_0(block, levels, scales),
                Format::Q6K => unpack_q6k(block, levels, scales),
                Format::Q5K => unpack_q5k(block, levels, scales, mins),
                Format::Q4K => unpack_q4k(block, levels, scales, mins),
            }
        }
    }

    /// The numbers themselves.
    pub(super) fn numbers(&self, format: Format, into: &mut [f32]) {
        let offset = f32::from(format.offset());
        for (i, number) in into.iter_mut().enumerate() {
            *number = self.scales[i / 16] * (f32::from(self.levels[i]) - offset) - self.mins[i / 32];
        }
    }
}

/// The f16 at `at`.
#[inline(always)]
pub(super) fn half_at(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// `d: f16, q: [i8; 32]`.
#[inline(always)]
fn unpack_q8_0(block: &[u8], levels: &mut [u8], scales: &mut [f32]) {
    scales.fill(half_at(block, 0));
    for (level, q) in levels.iter_mut().zip(&block[2..34]) {
        *level = q ^ 0x80; // two's complement plus 128
    }
}

/// `low: [u8; 128], high: [u8; 64], scales: [i8; 16], d: f16`. In each half of 128 numbers, 32 bytes
/// of `low` hold numbers l and l + 64, the next 32 hold l + 32 and l + 96; a byte of `high` holds the
/// two upper bits of all four.
#[inline(always)]
fn unpack_q6k(block: &[u8], levels: &mut [u8], scales: &mut [f32]) {
    let d = half_at(block, 208);
    for (scale, byte) in scales.iter_mut().zip(&block[192..208]) {
        *scale = d * f32::from(*byte as i8);
    }
    for (half, levels) in levels.chunks_exact_mut(128).enumerate() {
        let low = &block[half * 64..half * 64 + 64];
        let high = &block[128 + half * 32..128 + half * 32 + 32];
        for l in 0..32 {
            levels[l] = (low[l] & 15) | ((high[l] & 3) << 4);
            levels[l + 32] = (low[l + 32] & 15) | (((high[l] >> 2) & 3) << 4);
            levels[l + 64] = (low[l] >> 4) | (((high[l] >> 4) & 3) << 4);
            levels[l + 96] = (low[l + 32] >> 4) | ((high[l] >> 6) << 4);
        }
    }
}

/// `d: f16, dmin: f16, scales: [u8; 12], high: [u8; 32], low: [u8; 128]`. As Q4_K, with the fifth
/// bit of number l of 32-number group g in bit g of `high[l]`.
#[inline(always)]
fn unpack_q5k(block: &[u8], levels: &mut [u8], scales: &mut [f32], mins: &mut [f32]) {
    scales_and_mins(block, scales, mins);
    let high = &block[16..48];
    for (pair, levels) in levels.chunks_exact_mut(64).enumerate() {
        let low = &block[48 + pair * 32..48 + pair * 32 + 32];
        for l in 0..32 {
            levels[l] = (low[l] & 15) | (((high[l] >> (2 * pair)) & 1) << 4);
            levels[l + 32] = (low[l] >> 4) | (((high[l] >> (2 * pair + 1)) & 1) << 4);
        }
    }
}

/// `d: f16, dmin: f16, scales: [u8; 12], low: [u8; 128]`. 32 bytes of `low` hold two groups of 32
/// numbers: the lower halves the first, the upper halves the second.
#[inline(always)]
fn unpack_q4k(block: &[u8], levels: &mut [u8], scales: &mut [f32], mins: &mut [f32]) {
    scales_and_mins(block, scales, mins);
    for (pair, levels) in levels.chunks_exact_mut(64).enumerate() {
        let low = &block[16 + pair * 32..16 + pair * 32 + 32];
        for l in 0..32 {
            levels[l] = low[l] & 15;
            levels[l + 32] = low[l] >> 4;
        }
    }
}

#[inline(always)]
fn scales_and_mins(block: &[u8], scales: &mut [f32], mins: &mut [f32]) {
    let (d, dmin) = (half_at(block, 0), half_at(block, 2));
    let six = six_bits(block);
    for group in 0..8 {
        let scale = d * f32::from(six[group]);
        scales[2 * group] = scale;
        scales[2 * group + 1] = scale;
        mins[group] = dmin * f32::from(six[8 + group]);
    }
}

/// The 6-bit scales (0..8) and minimums (8..16) of a Q4_K or Q5_K block. The first four of each lie
/// in the low six bits of bytes 0..8; the others have their low four bits in bytes 8..12 and their
/// high two bits on top of the first.
#[inline(always)]
pub(super) fn six_bits(block: &[u8]) -> [u8; 16] {
    let word = |at: usize| u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]]);
    let (a, b, c) = (word(4), word(8), word(12));
    let words = [
        a & 0x3f3f_3f3f,
        (c & 0x0f0f_0f0f) | ((a >> 2) & 0x3030_3030),
        b & 0x3f3f_3f3f,
        ((c >> 4) & 0x0f0f_0f0f) | ((b >> 2) & 0x3030_3030),
    ];
    let mut six = [0; 16];
    for (four, word) in six.chunks_exact_mut(4).zip(words) {
        four.copy_from_slice(&word.to_le_bytes());
    }
    six
}

#[cfg(test)]
mod tests {
    use candle_core::quantized::QTensor;
    use candle_core::{Device, Tensor};

    use super::*;

    #[test]
    fn every_format_reads_as_candle_reads_it() {
        let numbers: Vec<f32> = (0..1024).map(|i| (i as f32 * 0.731).sin() * (i as f32).cos()).collect();
        let tensor = Tensor::from_vec(numbers, (2, 512), &Device::Cpu).unwrap();
        for format in FORMATS {
            let stored = QTensor::quantize(&tensor, format.ggml()).unwrap();
            let expected =
                stored.dequantize(&Device::Cpu).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let bytes = stored.data().unwrap();
            assert_eq!(Some(bytes.len()), format.row_bytes(512).map(|bytes| 2 * bytes));
            let mut unpacked = Unpacked::new(1024);
            unpacked.fill(format, &bytes);
            let mut seen = vec![0.0; 1024];
            unpacked.numbers(format, &mut seen);
            for (a, b) in seen.iter().zip(&expected) {
                assert!((a - b).abs() <= 1e-6, "{format:?}: {a} {b}");
            }
        }
    }
}
