//! Rows of activations as 8-bit integers, one scale for 32 numbers.
//!
//! ggml shares one scale among 256 for the K formats; 32 cost the kernels nothing, as they scale
//! every 16 or 32 products anyway, and keep an outlier from flattening its 255 neighbours.

use rayon::prelude::*;

/// Numbers that share a scale.
pub(super) const GROUP: usize = 32;

/// Rows of a product's left side, quantised.
///
/// They lie piece by piece: the first `piece` numbers of all rows, then the next of all rows, and so
/// on. A tile of weights meets one piece of all rows at a time, which so come from one place in
/// memory.
pub(super) struct Activations {
    pub(super) rows: usize,
    pub(super) len: usize,
    /// A multiple of 32; the last piece may be shorter.
    piece: usize,
    /// -127..=127
    levels: Vec<i8>,
    /// One for 32 numbers.
    scales: Vec<f32>,
    /// Sums of the 32 levels, times the scale.
    sums: Vec<f32>,
    /// Sums of 16 levels.
    sums16: Vec<i32>,
}

/// Some rows of one piece of [`Activations`], one behind the other.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    pub(super) levels: &'a [i8],
    pub(super) scales: &'a [f32],
    pub(super) sums: &'a [f32],
    pub(super) sums16: &'a [i32],
}

impl Activations {
    /// Quantises `x`, (rows, len); `len` and `piece` are multiples of 32. A number that is not
    /// finite makes its group's scale and sum not finite, and so the products: it is not hidden.
    pub(super) fn new(x: &[f32], len: usize, piece: usize) -> Activations {
        let rows = x.len() / len;
        let piece = piece.min(len);
        let mut made = Activations {
            rows,
            len,
            piece,
            levels: vec![0; rows * len],
            scales: vec![0.0; rows * len / GROUP],
            sums: vec![0.0; rows * len / GROUP],
            sums16: vec![0; rows * len / 16],
        };
        let part = rows * piece;
        let work = made
            .levels
            .par_chunks_mut(part)
            .zip(made.scales.par_chunks_mut(part / GROUP))
            .zip(made.sums.par_chunks_mut(part / GROUP))
            .zip(made.sums16.par_chunks_mut(part / 16));
        work.enumerate().for_each(|(number, (((levels, scales), sums), sums16))| {
            let short = levels.len() / rows; // the last piece may be
            for m in 0..rows {
                let from = m * len + number * piece;
                let at = |per: usize| m * short / per..(m + 1) * short / per;
                let (levels, scales) = (&mut levels[at(1)], &mut scales[at(GROUP)]);
                let (sums, sums16) = (&mut sums[at(GROUP)], &mut sums16[at(16)]);
                quantise_row(&x[from..from + short], levels, scales, sums, sums16);
            }
        });
        made
    }

    /// Rows `m .. m + count` of the `len` numbers from `from` on, which are one piece.
    #[inline(always)]
    pub(super) fn piece(&self, m: usize, count: usize, from: usize, len: usize) -> Rows<'_> {
        assert!(from.is_multiple_of(self.piece) && len == self.piece.min(self.len - from));
        let first = from * self.rows + m * len;
        Rows {
            levels: &self.levels[first..first + count * len],
            scales: &self.scales[first / GROUP..(first + count * len) / GROUP],
            sums: &self.sums[first / GROUP..(first + count * len) / GROUP],
            sums16: &self.sums16[first / 16..(first + count * len) / 16],
        }
    }

    /// All levels, as they lie.
    pub(super) fn levels(&self) -> &[i8] {
        &self.levels
    }
}

/// 1.5 * 2^23: added to a number below 2^22, it leaves the nearest whole number in the low bits.
const ROUNDER: f32 = 12_582_912.0;

fn quantise_row(
    x: &[f32],
    levels: &mut [i8],
    scales: &mut [f32],
    sums: &mut [f32],
    sums16: &mut [i32],
) {
    let groups = x.as_chunks::<GROUP>().0.iter().zip(levels.as_chunks_mut::<GROUP>().0);
    for (number, (x, levels)) in groups.enumerate() {
        // As whole numbers sizes compare like the numbers, and NaN is the largest: nothing is lost.
        let largest = x.iter().fold(0, |most, v| (v.to_bits() & 0x7fff_ffff).max(most));
        let largest = f32::from_bits(largest);
        let scale = if largest.is_finite() { largest / 127.0 } else { f32::NAN };
        let inverse = if scale > 0.0 { 127.0 / largest } else { 0.0 };
        for (level, v) in levels.iter_mut().zip(x) {
            *level = (v * inverse + ROUNDER).to_bits() as i8;
        }
        let mut halves = [0i32; 2];
        for (half, levels) in halves.iter_mut().zip(levels.as_chunks::<16>().0) {
            *half = levels.iter().map(|level| i32::from(*level)).sum();
        }
        scales[number] = scale;
        sums[number] = (halves[0] + halves[1]) as f32 * scale;
        sums16[2 * number..2 * number + 2].copy_from_slice(&halves);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_comes_back_within_half_a_step() {
        let x: Vec<f32> = (0..128).map(|i| (i as f32 * 0.37).sin() * (1 + i / 32) as f32).collect();
        for piece in [32, 64] {
            let made = Activations::new(&x, 64, piece);
            assert_eq!((made.rows, made.levels().len()), (2, 128));
            for (i, v) in x.iter().enumerate() {
                let (m, from, at) = (i / 64, i % 64 / piece * piece, i % 64 % piece);
                let row = made.piece(m, 1, from, piece);
                let back = f32::from(row.levels[at]) * row.scales[at / 32];
                assert!((v - back).abs() <= row.scales[at / 32] * 0.5001, "{i}");
            }
            let row = made.piece(1, 1, 0, piece);
            let sum: i32 = row.levels[..16].iter().map(|l| i32::from(*l)).sum();
            assert_eq!(row.sums16[0], sum);
        }
    }

    #[test]
    fn what_is_not_finite_is_not_hidden() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut x = vec![1.0; 32];
            x[7] = bad;
            assert!(!Activations::new(&x, 32, 32).piece(0, 1, 0, 32).scales[0].is_finite());
        }
        assert_eq!(Activations::new(&[0.0; 32], 32, 32).piece(0, 1, 0, 32).scales[0], 0.0);
    }
}
