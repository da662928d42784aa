//! The probes' kernels for x86-64.

use std::arch::is_x86_feature_detected as has;
use std::arch::x86_64::*;
use std::hint::black_box;

use super::kernels::{Compute, Kernels, Read, SUMS, first_sums, operands, step, sum_words};

/// Adds what this processor has. Each kernel stands here behind the check for its instructions.
pub(super) fn add(all: &mut Vec<Kernels>) {
    if !(has!("avx2") && has!("fma")) {
        return;
    }
    let avx2 = Kernels {
        float: Compute::new("AVX2 FMA", float_avx2, 2 * 8),
        int8: Compute::new("AVX2", int8_avx2, 2 * 32),
        read: Read::new(read_avx2),
    };
    all.push(avx2);
    if has!("avxvnni") {
        let int8 = Compute::new("AVX-VNNI", int8_avx_vnni, 2 * 32);
        all.push(Kernels { int8, ..avx2 });
    }
    if !has!("avx512f") {
        return;
    }
    let int8 = match has!("avx512vnni") {
        true => Compute::new("AVX-512 VNNI", int8_avx512, 2 * 64),
        false => all.last().map_or(avx2.int8, |kernels| kernels.int8),
    };
    let float = Compute::new("AVX-512", float_avx512, 2 * 16);
    all.push(Kernels { float, int8, ..avx2 });
}

/// Wider vectors read no faster: memory is slower than either.
#[target_feature(enable = "avx2")]
fn read_avx2(words: &[u64]) -> u64 {
    let mut sums = [_mm256_setzero_si256(); 8];
    let pieces = words.chunks_exact(32);
    let rest = sum_words(pieces.remainder());
    for piece in pieces {
        for (sum, four) in sums.iter_mut().zip(piece.chunks_exact(4)) {
            // SAFETY: four words are 32 bytes.
            let four = unsafe { _mm256_loadu_si256(four.as_ptr().cast()) };
            *sum = _mm256_add_epi64(*sum, four);
        }
    }
    let mut lanes = [0u64; 32];
    for (sum, four) in sums.into_iter().zip(lanes.chunks_exact_mut(4)) {
        // SAFETY: as above.
        unsafe { _mm256_storeu_si256(four.as_mut_ptr().cast(), sum) };
    }
    rest.wrapping_add(sum_words(&lanes))
}

#[target_feature(enable = "avx2,fma")]
fn float_avx2(rounds: u32) -> f32 {
    let (factor, addend) = step();
    let (factor, addend) = (_mm256_set1_ps(factor), _mm256_set1_ps(addend));
    let first = first_sums();
    let mut sums = [_mm256_setzero_ps(); SUMS];
    for (sum, first) in sums.iter_mut().zip(first) {
        *sum = _mm256_set1_ps(first);
    }
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = _mm256_fmadd_ps(*sum, factor, addend);
        }
    }
    _mm256_cvtss_f32(black_box(sums)[SUMS - 1])
}

#[target_feature(enable = "avx512f")]
fn float_avx512(rounds: u32) -> f32 {
    let (factor, addend) = step();
    let (factor, addend) = (_mm512_set1_ps(factor), _mm512_set1_ps(addend));
    let first = first_sums();
    let mut sums = [_mm512_setzero_ps(); SUMS];
    for (sum, first) in sums.iter_mut().zip(first) {
        *sum = _mm512_set1_ps(first);
    }
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = _mm512_fmadd_ps(*sum, factor, addend);
        }
    }
    _mm512_cvtss_f32(black_box(sums)[SUMS - 1])
}

/// Products of pairs in 16 bits, pairs of those in 32 bits. The factor is read anew for each, as
/// the same product of the same factors would be computed once.
#[target_feature(enable = "avx2")]
fn int8_avx2(rounds: u32) -> f32 {
    let (unsigned, signed) = operands();
    // SAFETY: 64 bytes are there, 32 are read; so below.
    let signed = unsafe { _mm256_loadu_si256(signed.as_ptr().cast()) };
    let ones = _mm256_set1_epi16(1);
    let mut sums = [_mm256_setzero_si256(); SUMS];
    for _ in 0..rounds {
        for sum in &mut sums {
            // SAFETY: as above.
            let factor = unsafe { _mm256_loadu_si256(black_box(&unsigned).as_ptr().cast()) };
            let pairs = _mm256_maddubs_epi16(factor, signed);
            *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(pairs, ones));
        }
    }
    _mm256_extract_epi32::<0>(black_box(sums)[SUMS - 1]) as f32
}

#[target_feature(enable = "avx2,avxvnni")]
fn int8_avx_vnni(rounds: u32) -> f32 {
    let (unsigned, signed) = operands();
    // SAFETY: 64 bytes are there in each, 32 are read.
    let (unsigned, signed) = unsafe {
        (_mm256_loadu_si256(unsigned.as_ptr().cast()), _mm256_loadu_si256(signed.as_ptr().cast()))
    };
    let mut sums = [_mm256_setzero_si256(); SUMS];
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = _mm256_dpbusd_avx_epi32(*sum, unsigned, signed);
        }
    }
    _mm256_extract_epi32::<0>(black_box(sums)[SUMS - 1]) as f32
}

#[target_feature(enable = "avx512f,avx512vnni")]
fn int8_avx512(rounds: u32) -> f32 {
    let (unsigned, signed) = operands();
    // SAFETY: 64 bytes are there in each.
    let (unsigned, signed) = unsafe {
        (_mm512_loadu_si512(unsigned.as_ptr().cast()), _mm512_loadu_si512(signed.as_ptr().cast()))
    };
    let mut sums = [_mm512_setzero_si512(); SUMS];
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = _mm512_dpbusd_epi32(*sum, unsigned, signed);
        }
    }
    _mm512_cvtsi512_si32(black_box(sums)[SUMS - 1]) as f32
}
