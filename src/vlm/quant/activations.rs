//! Rows of activations as 8-bit integers, one scale for 32 numbers.
//!
//! ggml shares one scale among 256 for the K formats; 32 cost the kernels nothing, as they scale
//! every 16 or 32 products anyway, and keep an outlier from flattening its 255 neighbours.

use rayon::prelude::*;

/// Numbers that share a scale.
pub(super) const GROUP: usize = 32;

/// Rows of a product's left side, quantised.
pub(super) struct Activations {
    pub(super) rows: usize,
    pub(super) len: usize,
    /// (rows, len), -127..=127
    pub(super) levels: Vec<i8>,
    /// (rows, len / 32)
    pub(super) scales: Vec<f32>,
    /// Sums of the 32 levels, times the scale: (rows, len / 32).
    pub(super) sums: Vec<f32>,
    /// Sums of 16 levels: (rows, len / 16).
    pub(super) sums16: Vec<i32>,
}

/// One row of [`Activations`].
#[derive(Clone, Copy)]
pub(super) struct Row<'a> {
    pub(super) levels: &'a [i8],
    pub(super) scales: &'a [f32],
    pub(super) sums: &'a [f32],
    pub(super) sums16: &'a [i32],
}

impl Activations {
    /// Quantises `x`, (rows, len); `len` is a multiple of 32. A number that is not finite makes its
    /// group's scale and sum not finite, and so the products: it is not hidden.
    pub(super) fn new(x: &[f32], len: usize) -> Activations {
        let rows = x.len() / len;
        let mut made = Activations {
            rows,
            len,
            levels: vec![0; rows * len],
            scales: vec![0.0; rows * len / GROUP],
            sums: vec![0.0; rows * len / GROUP],
            sums16: vec![0; rows * len / 16],
        };
        if rows == 1 {
            // A few microseconds: not worth waking the other threads for.
            let Activations { levels, scales, sums, sums16, .. } = &mut made;
            quantise_row(x, levels, scales, sums, sums16);
            return made;
        }
        let groups = len / GROUP;
        let work = x
            .par_chunks(len)
            .zip(made.levels.par_chunks_mut(len))
            .zip(made.scales.par_chunks_mut(groups))
            .zip(made.sums.par_chunks_mut(groups))
            .zip(made.sums16.par_chunks_mut(2 * groups));
        work.for_each(|((((x, levels), scales), sums), sums16)| {
            quantise_row(x, levels, scales, sums, sums16);
        });
        made
    }

    #[inline(always)]
    pub(super) fn row(&self, row: usize) -> Row<'_> {
        let part = |per: usize| row * (self.len / per)..(row + 1) * (self.len / per);
        Row {
            levels: &self.levels[part(1)],
            scales: &self.scales[part(GROUP)],
            sums: &self.sums[part(GROUP)],
            sums16: &self.sums16[part(16)],
        }
    }
}

fn quantise_row(
    x: &[f32],
    levels: &mut [i8],
    scales: &mut [f32],
    sums: &mut [f32],
    sums16: &mut [i32],
) {
    let groups = x.chunks_exact(GROUP).zip(levels.chunks_exact_mut(GROUP));
    for (number, (x, levels)) in groups.enumerate() {
        let largest =
            x.iter().fold(0.0, |most: f32, v| if v.abs() > most { v.abs() } else { most });
        // A NaN is never larger, and would be lost without this sum.
        let poison = x.iter().map(|v| v * 0.0).sum::<f32>();
        let scale = largest / 127.0;
        let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
        for (level, v) in levels.iter_mut().zip(x) {
            *level = (v * inverse).round_ties_even() as i8;
        }
        let half = |part: &[i8]| part.iter().map(|level| i32::from(*level)).sum::<i32>();
        let (first, second) = (half(&levels[..16]), half(&levels[16..]));
        scales[number] = scale + poison;
        sums[number] = (first + second) as f32 * (scale + poison);
        sums16[2 * number] = first;
        sums16[2 * number + 1] = second;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_comes_back_within_half_a_step() {
        let x: Vec<f32> = (0..128).map(|i| (i as f32 * 0.37).sin() * (1 + i / 32) as f32).collect();
        let made = Activations::new(&x, 64);
        assert_eq!(made.rows, 2);
        for (i, v) in x.iter().enumerate() {
            let back = f32::from(made.levels[i]) * made.scales[i / 32];
            assert!((v - back).abs() <= made.scales[i / 32] * 0.5001, "{i}");
        }
        let row = made.row(1);
        let sum: i32 = row.levels[..16].iter().map(|l| i32::from(*l)).sum();
        assert_eq!(row.sums16[0], sum);
    }

    #[test]
    fn what_is_not_finite_is_not_hidden() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut x = vec![1.0; 32];
            x[7] = bad;
            assert!(!Activations::new(&x, 32).scales[0].is_finite());
        }
        assert_eq!(Activations::new(&[0.0; 32], 32).scales[0], 0.0);
    }
}
