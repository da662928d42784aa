//! Decoding's kernel for AVX-512: one row of activations against weight rows, straight from the
//! stored blocks.
//!
//! At one row the taking apart is all the work, so here it happens in registers: 64 levels a
//! vector, in the order in which the block stores them, which is why the activations are laid out
//! anew first ([`Laid`]).

use std::arch::x86_64::*;

use super::activations::{Activations, Rows as Row};
use super::format::Format;
use super::kernels::{Output, Rows};

/// Rows of activations in the order in which a format's vectors hold their numbers.
pub(super) struct Laid {
    levels: Vec<i8>,
}

impl Laid {
    /// For Q4_K and Q5_K a vector holds groups 0 and 2, 1 and 3, 4 and 6, 5 and 7 of a block; for
    /// the others the numbers stand in their order.
    pub(super) fn new(x: &Activations, format: Format) -> Laid {
        let levels = match format {
            Format::Q4K | Format::Q5K => x
                .levels()
                .chunks_exact(256)
                .flat_map(|block| [0, 2, 1, 3, 4, 6, 5, 7].map(|g| &block[32 * g..32 * g + 32]))
                .flatten()
                .copied()
                .collect(),
            _ => x.levels().to_vec(),
        };
        Laid { levels }
    }
}

/// A row or two of activations, `x` laid out as `laid`, against `rows`; the first weight row is
/// column 0 of `out`.
///
/// # Safety
/// AVX-512 F, BW, DQ, VL and VNNI must have been found; `out` must have room for all.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(super) unsafe fn one_row(rows: Rows<'_>, x: &Activations, laid: &Laid, out: Output) {
    for (n, bytes) in rows.bytes.chunks_exact(rows.row_bytes).enumerate() {
        for m in 0..x.rows {
            let (row, laid) = (x.piece(m, 1, 0, x.len), &laid.levels[m * x.len..(m + 1) * x.len]);
            // SAFETY: the instructions are the caller's promise; a row is whole blocks, and `x` has
            // as many numbers; the caller has made the room.
            unsafe {
                *out.to.add(m * out.stride + n) = match rows.format {
                    Format::Q8_0 => eight(bytes, row, laid),
                    Format::Q6K => six(bytes, row, laid),
                    Format::Q5K => four_five::<true>(bytes, row, laid),
                    Format::Q4K => four_five::<false>(bytes, row, laid),
                };
            }
        }
    }
}

/// Lanes 0..8 from `a`, lanes 8..16 from `b`.
#[inline(always)]
unsafe fn lanes(a: i32, b: i32) -> __m512i {
    // SAFETY: the caller's AVX-512; so in all functions below.
    unsafe { _mm512_inserti64x4(_mm512_set1_epi32(a), _mm256_set1_epi32(b), 1) }
}

/// Two f16 at `at` and `at + 2`, as the first two lanes.
#[inline(always)]
unsafe fn two_halves(first: *const u8, second: *const u8) -> __m128 {
    // SAFETY: F16C, and the caller's pointers are good for two bytes each.
    unsafe {
        let (a, b) = (first.cast::<u16>().read_unaligned(), second.cast::<u16>().read_unaligned());
        _mm_cvtph_ps(_mm_cvtsi32_si128(i32::from(a) | i32::from(b) << 16))
    }
}

#[inline(always)]
unsafe fn half(at: *const u8) -> f32 {
    // SAFETY: F16C, and the caller's pointer is good for two bytes.
    unsafe { _mm_cvtss_f32(two_halves(at, at)) }
}

/// The 6-bit scales and minimums, as [`super::format::six_bits`] reads them, of a block that begins
/// with `head`.
#[inline(always)]
unsafe fn six_bits(head: __m128i) -> __m128i {
    // SAFETY: AVX2.
    unsafe {
        let low = _mm_shuffle_epi32::<0b11_10_11_01>(head); // a, c, b, c
        let low = _mm_srlv_epi32(low, _mm_setr_epi32(0, 0, 0, 4));
        let (six, four, two) = (0x3f3f_3f3f, 0x0f0f_0f0f, 0x3030_3030);
        let low = _mm_and_si128(low, _mm_setr_epi32(six, four, six, four));
        let high = _mm_srli_epi32(_mm_shuffle_epi32::<0b10_00_01_00>(head), 2); // -, a, -, b
        _mm_or_si128(low, _mm_and_si128(high, _mm_setr_epi32(0, two, 0, two)))
    }
}

/// Q4_K, and with `FIFTH` Q5_K.
#[inline(always)]
unsafe fn four_five<const FIFTH: bool>(bytes: &[u8], x: Row<'_>, laid: &[i8]) -> f32 {
    let (block_bytes, low_at) = if FIFTH { (176, 48) } else { (144, 16) };
    // SAFETY: AVX-512; each block has `block_bytes`, `x` 256 numbers for it.
    unsafe {
        let mask = _mm512_set1_epi8(15);
        let pick = [lanes(0, 2), lanes(1, 3), lanes(4, 6), lanes(5, 7)];
        let bits = [(0, 2), (1, 3), (4, 6), (5, 7)].map(|(a, b)| {
            _mm512_inserti64x4(
                _mm512_set1_epi8((1u8 << a) as i8),
                _mm256_set1_epi8((1u8 << b) as i8),
                1,
            )
        });
        let mut totals = [_mm512_setzero_ps(); 4];
        let mut below = _mm256_setzero_ps();
        for (number, block) in bytes.chunks_exact(block_bytes).enumerate() {
            let at = block.as_ptr();
            let head = _mm_loadu_si128(at.cast()); // d, dmin, and the twelve bytes of 6-bit numbers
            let six = six_bits(head);
            let scales = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(six));
            let mins = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_srli_si128(six, 8)));
            let activation_scales = _mm256_loadu_ps(x.scales.as_ptr().add(8 * number));
            let sums = _mm256_loadu_ps(x.sums.as_ptr().add(8 * number));
            let two = _mm_cvtph_ps(head);
            let d = _mm256_broadcastss_ps(two);
            let dmin = _mm256_broadcastss_ps(_mm_movehdup_ps(two));
            below = _mm256_fmadd_ps(_mm256_mul_ps(mins, dmin), sums, below);
            let scales =
                _mm512_castps256_ps512(_mm256_mul_ps(_mm256_mul_ps(scales, d), activation_scales));
            let first = _mm512_loadu_si512(at.add(low_at).cast());
            let second = _mm512_loadu_si512(at.add(low_at + 64).cast());
            let mut levels = [
                _mm512_and_si512(first, mask),
                _mm512_and_si512(_mm512_srli_epi16(first, 4), mask),
                _mm512_and_si512(second, mask),
                _mm512_and_si512(_mm512_srli_epi16(second, 4), mask),
            ];
            if FIFTH {
                let high = _mm512_broadcast_i64x4(_mm256_loadu_si256(at.add(16).cast()));
                for (levels, bits) in levels.iter_mut().zip(bits) {
                    let set = _mm512_test_epi8_mask(high, bits);
                    *levels = _mm512_mask_add_epi8(*levels, set, *levels, _mm512_set1_epi8(16));
                }
            }
            for j in 0..4 {
                let a = _mm512_loadu_si512(laid.as_ptr().add(256 * number + 64 * j).cast());
                let products = _mm512_dpbusd_epi32(_mm512_setzero_si512(), levels[j], a);
                let scale = _mm512_permutexvar_ps(pick[j], scales);
                totals[j] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(products), scale, totals[j]);
            }
        }
        let total =
            _mm512_add_ps(_mm512_add_ps(totals[0], totals[1]), _mm512_add_ps(totals[2], totals[3]));
        _mm512_reduce_add_ps(total) - _mm512_reduce_add_ps(_mm512_zextps256_ps512(below))
    }
}

#[inline(always)]
unsafe fn six(bytes: &[u8], x: Row<'_>, laid: &[i8]) -> f32 {
    // SAFETY: AVX-512; each block has 210 bytes, `x` 256 numbers for it.
    unsafe {
        let low_mask = _mm512_set1_epi8(15);
        let high_mask = _mm512_set1_epi8(0x30);
        let sixteen = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
        let pick: [__m512i; 4] =
            std::array::from_fn(|j| _mm512_add_epi32(sixteen, _mm512_set1_epi32(4 * j as i32)));
        let twice = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
        let up = _mm512_inserti64x4(_mm512_set1_epi16(4), _mm256_set1_epi16(2), 1);
        let down = _mm512_inserti64x4(_mm512_set1_epi16(0), _mm256_set1_epi16(2), 1);
        let mut totals = [_mm512_setzero_ps(); 4];
        let mut below = _mm512_setzero_ps();
        for (number, block) in bytes.chunks_exact(210).enumerate() {
            let at = block.as_ptr();
            let scales =
                _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(at.add(192).cast())));
            let activation_scales = _mm512_permutexvar_ps(
                twice,
                _mm512_castps256_ps512(_mm256_loadu_ps(x.scales.as_ptr().add(8 * number))),
            );
            let scales = _mm512_mul_ps(
                _mm512_mul_ps(scales, _mm512_set1_ps(half(at.add(208)))),
                activation_scales,
            );
            let sums =
                _mm512_cvtepi32_ps(_mm512_loadu_si512(x.sums16.as_ptr().add(16 * number).cast()));
            below = _mm512_fmadd_ps(scales, sums, below);
            for side in 0..2 {
                let low = _mm512_loadu_si512(at.add(64 * side).cast());
                let high =
                    _mm512_broadcast_i64x4(_mm256_loadu_si256(at.add(128 + 32 * side).cast()));
                let first = _mm512_or_si512(
                    _mm512_and_si512(low, low_mask),
                    _mm512_and_si512(_mm512_sllv_epi16(high, up), high_mask),
                );
                let second = _mm512_or_si512(
                    _mm512_and_si512(_mm512_srli_epi16(low, 4), low_mask),
                    _mm512_and_si512(_mm512_srlv_epi16(high, down), high_mask),
                );
                for (j, levels) in [(2 * side, first), (2 * side + 1, second)] {
                    let a = _mm512_loadu_si512(laid.as_ptr().add(256 * number + 64 * j).cast());
                    let products = _mm512_dpbusd_epi32(_mm512_setzero_si512(), levels, a);
                    let scale = _mm512_permutexvar_ps(pick[j], scales);
                    totals[j] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(products), scale, totals[j]);
                }
            }
        }
        let total =
            _mm512_add_ps(_mm512_add_ps(totals[0], totals[1]), _mm512_add_ps(totals[2], totals[3]));
        _mm512_reduce_add_ps(_mm512_fmadd_ps(below, _mm512_set1_ps(-32.0), total))
    }
}

#[inline(always)]
unsafe fn eight(bytes: &[u8], x: Row<'_>, laid: &[i8]) -> f32 {
    // SAFETY: AVX-512; each block has 34 bytes, `x` 32 numbers for it.
    unsafe {
        let flip = _mm512_set1_epi8(-128);
        let pick = lanes(0, 1);
        let mut totals = [_mm512_setzero_ps(); 2];
        let mut below = _mm_setzero_ps();
        let blocks = bytes.len() / 34;
        for pair in 0..blocks / 2 {
            let at = bytes.as_ptr().add(68 * pair);
            let levels = _mm512_inserti64x4(
                _mm512_castsi256_si512(_mm256_loadu_si256(at.add(2).cast())),
                _mm256_loadu_si256(at.add(36).cast()),
                1,
            );
            let a = _mm512_loadu_si512(laid.as_ptr().add(64 * pair).cast());
            let products =
                _mm512_dpbusd_epi32(_mm512_setzero_si512(), _mm512_xor_si512(levels, flip), a);
            let d = two_halves(at, at.add(34));
            let two = |from: &[f32]| {
                _mm_castsi128_ps(_mm_loadl_epi64(from.as_ptr().add(2 * pair).cast()))
            };
            below = _mm_fmadd_ps(d, two(x.sums), below);
            let scales =
                _mm512_permutexvar_ps(pick, _mm512_castps128_ps512(_mm_mul_ps(d, two(x.scales))));
            let total = &mut totals[pair % 2];
            *total = _mm512_fmadd_ps(_mm512_cvtepi32_ps(products), scales, *total);
        }
        let mut sum = _mm512_reduce_add_ps(_mm512_add_ps(totals[0], totals[1]))
            - 128.0 * _mm512_reduce_add_ps(_mm512_zextps128_ps512(below));
        if blocks % 2 == 1 {
            let at = bytes.as_ptr().add(34 * (blocks - 1));
            let levels = _mm256_xor_si256(
                _mm256_loadu_si256(at.add(2).cast()),
                _mm512_castsi512_si256(flip),
            );
            let a = _mm256_loadu_si256(laid.as_ptr().add(32 * (blocks - 1)).cast());
            let products =
                _mm256_cvtepi32_ps(_mm256_dpbusd_epi32(_mm256_setzero_si256(), levels, a));
            let d = half(at);
            sum +=
                d * x.scales[blocks - 1] * _mm512_reduce_add_ps(_mm512_zextps256_ps512(products));
            sum -= 128.0 * d * x.sums[blocks - 1];
        }
        sum
    }
}
