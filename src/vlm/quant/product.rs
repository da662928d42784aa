//! `y = x W^T`: which kernel serves, and how the work is divided among threads.

use std::sync::OnceLock;

use rayon::prelude::*;

use super::activations::Activations;
#[cfg(target_arch = "aarch64")]
use super::arm;
use super::format::Format;
use super::kernels::{self, Eight, FiveFour, Kind, Output, Rows, Six};
#[cfg(target_arch = "x86_64")]
use super::one_row::{Laid, one_row};
use super::simd::Portable;
#[cfg(target_arch = "x86_64")]
use super::x86;

/// Weight rows that one piece of work of a few rows has.
const SHARE: usize = 32;

/// The instructions that the kernels use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instructions {
    /// What every processor has.
    Portable,
    /// AVX2 and FMA.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX-512 with 8-bit products.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// NEON.
    #[cfg(target_arch = "aarch64")]
    Neon,
    /// NEON with 8-bit products.
    #[cfg(target_arch = "aarch64")]
    DotProd,
}

impl Instructions {
    /// The best that this processor has; looked up once.
    pub fn found() -> Instructions {
        static FOUND: OnceLock<Instructions> = OnceLock::new();
        *FOUND.get_or_init(|| Instructions::all().pop().unwrap_or(Instructions::Portable))
    }

    /// All that this processor has, the best last.
    pub fn all() -> Vec<Instructions> {
        let mut all = vec![Instructions::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::is_x86_feature_detected as has;
            if has!("avx2") && has!("fma") && has!("f16c") {
                all.push(Instructions::Avx2);
                let vnni = has!("avx512f") && has!("avx512bw") && has!("avx512dq");
                if vnni && has!("avx512vl") && has!("avx512vnni") {
                    all.push(Instructions::Avx512);
                }
            }
        }
        #[cfg(target_arch = "aarch64")]
        {
            all.push(Instructions::Neon);
            if std::arch::is_aarch64_feature_detected!("dotprod") {
                all.push(Instructions::DotProd);
            }
        }
        all
    }
}

/// `x`, (rows, inputs), times the transpose of the weights, (out, inputs), into `y`, (rows, out).
///
/// `weights`: whole rows of `format`.
pub fn product(format: Format, weights: &[u8], inputs: usize, x: &[f32], y: &mut [f32]) {
    product_with(Instructions::found(), format, weights, inputs, x, y);
}

/// The same with `instructions`, which this processor must have.
pub fn product_with(
    instructions: Instructions,
    format: Format,
    weights: &[u8],
    inputs: usize,
    x: &[f32],
    y: &mut [f32],
) {
    assert!(
        Instructions::all().contains(&instructions),
        "{instructions:?} is not this processor's"
    );
    let row_bytes = format.row_bytes(inputs).expect("a row is whole blocks");
    let out = weights.len() / row_bytes;
    assert!(inputs > 0 && weights.len() == out * row_bytes, "whole rows of weights");
    assert!(
        x.len().is_multiple_of(inputs) && y.len() == x.len() / inputs * out,
        "x and y fit the weights"
    );
    if y.is_empty() {
        return;
    }
    let straight = x.len() / inputs <= few_rows(instructions) && takes_whole_rows(instructions);
    let x = Activations::new(x, inputs, if straight { inputs } else { kernels::PIECE });
    let rows = Rows { format, bytes: weights, row_bytes };
    let to = Output { to: y.as_mut_ptr(), stride: out };
    match format {
        Format::Q8_0 => divide::<Eight>(instructions, rows, &x, to),
        Format::Q6K => divide::<Six>(instructions, rows, &x, to),
        Format::Q5K | Format::Q4K => divide::<FiveFour>(instructions, rows, &x, to),
    }
}

/// Gives each thread weight rows of its own, and so columns of the output.
fn divide<K: Kind>(instructions: Instructions, rows: Rows<'_>, x: &Activations, to: Output) {
    let few = x.rows <= few_rows(instructions);
    #[cfg(target_arch = "x86_64")]
    let laid = (few && instructions == Instructions::Avx512).then(|| Laid::new(x, rows.format));
    let share = match few {
        true => SHARE,
        false => tile_width(instructions),
    };
    let work = |(number, bytes): (usize, &[u8])| {
        let rows = Rows { bytes, ..rows };
        // SAFETY: within the row, as `bytes` is within the weights.
        let to = unsafe { to.at_column(number * share) };
        // SAFETY: `product_with` has seen to the instructions and to the room.
        unsafe {
            #[cfg(target_arch = "x86_64")]
            if let Some(laid) = &laid {
                return one_row(rows, x, laid, to);
            }
            match instructions {
                Instructions::Portable if few => kernels::few::<Portable, K>(rows, x, to),
                Instructions::Portable => kernels::many::<Portable, K, 1, 1>(rows, x, to),
                #[cfg(target_arch = "x86_64")]
                Instructions::Avx2 if few => x86::few_avx2::<K>(rows, x, to),
                #[cfg(target_arch = "x86_64")]
                Instructions::Avx2 => x86::many_avx2::<K>(rows, x, to),
                #[cfg(target_arch = "x86_64")]
                Instructions::Avx512 => x86::many_avx512::<K>(rows, x, to),
                #[cfg(target_arch = "aarch64")]
                Instructions::Neon if few => arm::few_neon::<K, false>(rows, x, to),
                #[cfg(target_arch = "aarch64")]
                Instructions::Neon => arm::many_neon::<K, false>(rows, x, to),
                #[cfg(target_arch = "aarch64")]
                Instructions::DotProd if few => arm::few_neon::<K, true>(rows, x, to),
                #[cfg(target_arch = "aarch64")]
                Instructions::DotProd => arm::many_neon::<K, true>(rows, x, to),
            }
        }
    };
    rows.bytes.par_chunks(share * rows.row_bytes).enumerate().for_each(work);
}

/// Whether a few rows of activations are taken whole, not piece by piece.
fn takes_whole_rows(instructions: Instructions) -> bool {
    match instructions {
        #[cfg(target_arch = "x86_64")]
        Instructions::Avx512 => true,
        _ => false,
    }
}

/// Up to this many rows of activations each weight row is dotted as it lies; above, tiles pay.
fn few_rows(instructions: Instructions) -> usize {
    match instructions {
        #[cfg(target_arch = "x86_64")]
        Instructions::Avx512 => 3, // straight from the stored blocks
        _ => 1,
    }
}

/// Weight rows of a tile.
fn tile_width(instructions: Instructions) -> usize {
    match instructions {
        Instructions::Portable => 8,
        #[cfg(target_arch = "x86_64")]
        Instructions::Avx2 => x86::AVX2_TILE,
        #[cfg(target_arch = "x86_64")]
        Instructions::Avx512 => x86::AVX512_TILE,
        #[cfg(target_arch = "aarch64")]
        Instructions::Neon | Instructions::DotProd => arm::TILE,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::format::{FORMATS, Unpacked};
    use super::*;

    /// Whole rows of random blocks, whose scales are ordinary numbers.
    fn weights(format: Format, out: usize, inputs: usize, seed: u64) -> Vec<u8> {
        let mut state = seed | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        let row_bytes = format.row_bytes(inputs).unwrap();
        let mut bytes: Vec<u8> = (0..out * row_bytes).map(|_| next() as u8).collect();
        let scales: &[usize] = match format {
            Format::Q8_0 => &[0],
            Format::Q6K => &[208],
            Format::Q5K | Format::Q4K => &[0, 2],
        };
        for block in bytes.chunks_exact_mut(format.block_bytes()) {
            for at in scales {
                let scale = half::f16::from_f32((next() % 1000) as f32 * 1e-5);
                block[*at..at + 2].copy_from_slice(&scale.to_le_bytes());
            }
        }
        bytes
    }

    fn activations(len: usize, seed: u64) -> Vec<f32> {
        let wave = |i: usize| ((i as u64 * 37 + seed) % 1009) as f32 / 500.0 - 1.0;
        (0..len).map(|i| wave(i) * if i % 97 == 0 { 20.0 } else { 1.0 }).collect()
    }

    /// The product in f64 with the activations as the kernels see them, and the sum of the
    /// products' sizes, by which rounding is judged.
    fn exact(format: Format, weights: &[u8], inputs: usize, x: &[f32]) -> Vec<(f64, f64)> {
        let row_bytes = format.row_bytes(inputs).unwrap();
        let seen = Activations::new(x, inputs, inputs);
        let (mut unpacked, mut row) = (Unpacked::new(inputs), vec![0.0; inputs]);
        let mut all = vec![(0.0, 0.0); x.len() / inputs * (weights.len() / row_bytes)];
        let out = weights.len() / row_bytes;
        for (n, bytes) in weights.chunks_exact(row_bytes).enumerate() {
            unpacked.fill(format, bytes);
            unpacked.numbers(format, &mut row);
            for m in 0..seen.rows {
                let x = seen.piece(m, 1, 0, inputs);
                let product = |i: usize| {
                    f64::from(row[i]) * f64::from(x.levels[i]) * f64::from(x.scales[i / 32])
                };
                // Minimums are taken away from numbers that may be far larger than the difference.
                let size = |i: usize| {
                    product(i).abs()
                        + f64::from(unpacked.mins[i / 32] * x.sums[i / 32] / 32.0).abs()
                };
                all[m * out + n] = ((0..inputs).map(product).sum(), (0..inputs).map(size).sum());
            }
        }
        all
    }

    fn check(format: Format, rows: usize, out: usize, blocks: usize, seed: u64) {
        let inputs = blocks * format.block_len();
        let (weights, x) = (weights(format, out, inputs, seed), activations(rows * inputs, seed));
        let expected = exact(format, &weights, inputs, &x);
        for instructions in Instructions::all() {
            let mut y = vec![f32::NAN; rows * out];
            product_with(instructions, format, &weights, inputs, &x, &mut y);
            for (at, (seen, (expected, size))) in y.iter().zip(&expected).enumerate() {
                let off = (f64::from(*seen) - expected).abs();
                assert!(
                    off <= 1e-5 * size + 1e-6,
                    "{format:?} {instructions:?} {rows} x {out} x {inputs} at {at}: {seen} {expected}"
                );
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Any number of rows of both sides, whole tiles or not, on all that this processor has.
        #[test]
        fn every_kernel_makes_the_exact_product(
            format in prop::sample::select(FORMATS.to_vec()),
            rows in 1usize..20,
            out in 1usize..70,
            blocks in 1usize..5,
            seed in any::<u64>(),
        ) {
            check(format, rows, out, blocks, seed);
        }
    }

    #[test]
    fn a_row_s_result_does_not_depend_on_its_neighbours() {
        for format in FORMATS {
            let weights = weights(format, 40, 512, 3);
            let x = activations(9 * 512, 4);
            let mut all = vec![0.0; 9 * 40];
            product(format, &weights, 512, &x, &mut all);
            let mut some = vec![0.0; 5 * 40];
            product(format, &weights, 512, &x[2 * 512..7 * 512], &mut some);
            assert_eq!(all[2 * 40..7 * 40], some, "{format:?}");
        }
    }

    #[test]
    fn what_is_not_finite_comes_out_as_not_finite() {
        for format in FORMATS {
            let weights = weights(format, 3, 512, 3);
            for rows in [1, 7] {
                for instructions in Instructions::all() {
                    let mut x = activations(rows * 512, 4);
                    x[300] = f32::NAN;
                    let mut y = vec![0.0; rows * 3];
                    product_with(instructions, format, &weights, 512, &x, &mut y);
                    assert!(y[..3].iter().all(|v| v.is_nan()), "{format:?} {instructions:?}");
                    assert!(y[3..].iter().all(|v| v.is_finite()), "{format:?} {instructions:?}");
                }
            }
        }
    }
}
