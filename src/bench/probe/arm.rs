//! The probes' kernels for aarch64.

use std::arch::aarch64::*;
use std::arch::asm;
use std::hint::black_box;

use super::kernels::{Compute, Kernels, Read, SUMS, first_sums, operands, step, sum_words};

/// Adds what this processor has. Each kernel stands here behind the check for its instructions.
pub(super) fn add(all: &mut Vec<Kernels>) {
    let neon = Kernels {
        float: Compute::new("NEON FMA", float_neon, 2 * 4),
        int8: Compute::new("NEON", int8_neon, 2 * 16),
        read: Read::new(read_neon),
    };
    all.push(neon);
    if std::arch::is_aarch64_feature_detected!("dotprod") {
        let int8 = Compute::new("NEON dotprod", int8_dotprod, 2 * 16);
        all.push(Kernels { int8, ..neon });
    }
}

fn read_neon(words: &[u64]) -> u64 {
    // SAFETY: every aarch64 has NEON; two words are 16 bytes.
    unsafe {
        let mut sums = [vdupq_n_u64(0); 8];
        let pieces = words.chunks_exact(16);
        let rest = sum_words(pieces.remainder());
        for piece in pieces {
            for (sum, two) in sums.iter_mut().zip(piece.chunks_exact(2)) {
                *sum = vaddq_u64(*sum, vld1q_u64(two.as_ptr()));
            }
        }
        sums.into_iter().fold(rest, |all, sum| all.wrapping_add(vaddvq_u64(sum)))
    }
}

fn float_neon(rounds: u32) -> f32 {
    let (factor, addend) = step();
    let first = first_sums();
    // SAFETY: every aarch64 has NEON.
    unsafe {
        let (factor, addend) = (vdupq_n_f32(factor), vdupq_n_f32(addend));
        let mut sums = [vdupq_n_f32(0.0); SUMS];
        for (sum, first) in sums.iter_mut().zip(first) {
            *sum = vdupq_n_f32(first);
        }
        for _ in 0..rounds {
            for sum in &mut sums {
                *sum = vfmaq_f32(addend, *sum, factor);
            }
        }
        vgetq_lane_f32::<0>(black_box(sums)[SUMS - 1])
    }
}

/// Products in 16 bits, pairs of those in 32 bits. The factor is read anew for each, as the same
/// product of the same factors would be computed once.
fn int8_neon(rounds: u32) -> f32 {
    let (_, signed) = operands();
    // SAFETY: every aarch64 has NEON; 64 bytes are there, 16 are read.
    unsafe {
        let other = vld1q_s8(signed.as_ptr());
        let mut sums = [vdupq_n_s32(0); SUMS];
        for _ in 0..rounds {
            for sum in &mut sums {
                let factor = vld1q_s8(black_box(&signed).as_ptr());
                let low = vmull_s8(vget_low_s8(factor), vget_low_s8(other));
                let both = vmlal_high_s8(low, factor, other); // 2 * 127 * 127 fit into 16 bits
                *sum = vpadalq_s16(*sum, both);
            }
        }
        // A lane has added four products in each round, as with dotprod.
        vgetq_lane_s32::<0>(black_box(sums)[SUMS - 1]) as f32
    }
}

/// The instruction is written out because the library's function for it is not stable.
fn int8_dotprod(rounds: u32) -> f32 {
    let (_, signed) = operands();
    // SAFETY: NEON, and the caller has found dotprod; 64 bytes are there, 16 are read.
    unsafe {
        let factor = vld1q_s8(signed.as_ptr());
        let mut sums = [vdupq_n_s32(0); SUMS];
        for _ in 0..rounds {
            for sum in &mut sums {
                let mut held = *sum;
                asm!(
                    ".arch_extension dotprod",
                    "sdot {held:v}.4s, {a:v}.16b, {a:v}.16b",
                    held = inout(vreg) held, a = in(vreg) factor,
                    options(pure, nomem, nostack, preserves_flags)
                );
                *sum = held;
            }
        }
        vgetq_lane_s32::<0>(black_box(sums)[SUMS - 1]) as f32
    }
}
