//! The kernels for x86-64 with AVX2, and with AVX-512 and its 8-bit products (VNNI).

use std::arch::x86_64::*;

use half::f16;

use super::activations::Activations;
use super::kernels::{Kind, Output, Rows, few, many};
use super::simd::{RowSimd, Simd};

/// AVX2 and FMA: every x86-64 processor since 2013, the small ones since 2021.
#[derive(Clone, Copy)]
pub(in crate::vlm) struct Avx2;

impl Simd for Avx2 {
    type Int = __m256i;
    type Num = __m256;
    const LANES: usize = 8;
    const OFFSET_BY_SUMS: bool = false;

    #[inline(always)]
    unsafe fn int(value: i32) -> __m256i {
        // SAFETY: the caller has found AVX2; so in all functions below.
        unsafe { _mm256_set1_epi32(value) }
    }

    #[inline(always)]
    unsafe fn num(value: f32) -> __m256 {
        // SAFETY: AVX2.
        unsafe { _mm256_set1_ps(value) }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> __m256 {
        // SAFETY: AVX2, and the caller's pointer.
        unsafe { _mm256_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn load_half(from: *const f16) -> __m256 {
        // SAFETY: F16C, and the caller's pointer.
        unsafe { _mm256_cvtph_ps(_mm_loadu_si128(from.cast())) }
    }

    #[inline(always)]
    unsafe fn load_bytes(from: *const i8) -> __m256 {
        // SAFETY: AVX2, and the caller's pointer is good for 8 bytes.
        unsafe { _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(from.cast()))) }
    }

    #[inline(always)]
    unsafe fn load_nibbles(from: *const u8) -> [__m256; 2] {
        // SAFETY: AVX2, and the caller's pointer is good for 8 bytes.
        unsafe {
            let bytes = _mm256_cvtepu8_epi32(_mm_loadl_epi64(from.cast()));
            let low = _mm256_and_si256(bytes, _mm256_set1_epi32(15));
            [_mm256_cvtepi32_ps(low), _mm256_cvtepi32_ps(_mm256_srli_epi32::<4>(bytes))]
        }
    }

    #[inline(always)]
    unsafe fn store(value: __m256, to: *mut f32) {
        // SAFETY: AVX2, and the caller's pointer.
        unsafe { _mm256_storeu_ps(to, value) }
    }

    #[inline(always)]
    unsafe fn transpose(from: *const u32, from_stride: usize, to: *mut u32, to_stride: usize) {
        // SAFETY: AVX2, and the caller's pointers.
        unsafe {
            // Pairs of rows, then fours, then the halves of the vectors. No closures: they would not
            // be compiled for these instructions.
            let mut pairs = [_mm256_setzero_ps(); 8];
            for i in (0..8).step_by(2) {
                let a = _mm256_loadu_ps(from.add(i * from_stride).cast());
                let b = _mm256_loadu_ps(from.add((i + 1) * from_stride).cast());
                pairs[i] = _mm256_unpacklo_ps(a, b);
                pairs[i + 1] = _mm256_unpackhi_ps(a, b);
            }
            let mut fours = [_mm256_setzero_ps(); 8];
            for i in [0, 4] {
                for j in 0..2 {
                    let (a, b) = (pairs[i + j], pairs[i + j + 2]);
                    fours[i + 2 * j] = _mm256_shuffle_ps::<0x44>(a, b);
                    fours[i + 2 * j + 1] = _mm256_shuffle_ps::<0xee>(a, b);
                }
            }
            for i in 0..4 {
                let (a, b) = (fours[i], fours[i + 4]);
                _mm256_storeu_ps(
                    to.add(i * to_stride).cast(),
                    _mm256_permute2f128_ps::<0x20>(a, b),
                );
                let lower = to.add((i + 4) * to_stride).cast();
                _mm256_storeu_ps(lower, _mm256_permute2f128_ps::<0x31>(a, b));
            }
        }
    }

    #[inline(always)]
    unsafe fn mul(a: __m256, b: __m256) -> __m256 {
        // SAFETY: AVX2.
        unsafe { _mm256_mul_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn mul_add(a: __m256, b: __m256, c: __m256) -> __m256 {
        // SAFETY: FMA.
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    unsafe fn to_num(value: __m256i) -> __m256 {
        // SAFETY: AVX2.
        unsafe { _mm256_cvtepi32_ps(value) }
    }

    #[inline(always)]
    unsafe fn sum(value: __m256) -> f32 {
        // SAFETY: AVX2.
        unsafe {
            let four = _mm_add_ps(_mm256_castps256_ps128(value), _mm256_extractf128_ps(value, 1));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
        }
    }

    #[inline(always)]
    unsafe fn dot<const OFFSET: u8>(sum: __m256i, levels: *const u8, activations: i32) -> __m256i {
        // SAFETY: AVX2, and the caller's pointer.
        unsafe {
            let levels = _mm256_loadu_si256(levels.cast());
            _mm256_add_epi32(sum, products::<OFFSET>(levels, _mm256_set1_epi32(activations)))
        }
    }
}

impl RowSimd for Avx2 {
    #[inline(always)]
    unsafe fn dot32<const OFFSET: u8>(
        sum: __m256,
        levels: *const u8,
        activations: *const i8,
        scales: [f32; 2],
    ) -> __m256 {
        // SAFETY: AVX2, and the caller's pointers.
        unsafe {
            let levels = _mm256_loadu_si256(levels.cast());
            let products = products::<OFFSET>(levels, _mm256_loadu_si256(activations.cast()));
            let scales = _mm256_set_m128(_mm_set1_ps(scales[1]), _mm_set1_ps(scales[0]));
            _mm256_fmadd_ps(_mm256_cvtepi32_ps(products), scales, sum)
        }
    }
}

/// The sums of four products each, as the processor knows only unsigned times signed.
#[inline(always)]
unsafe fn products<const OFFSET: u8>(levels: __m256i, activations: __m256i) -> __m256i {
    // SAFETY: the caller has found AVX2.
    unsafe {
        let pairs = if OFFSET == 128 {
            // Two products of 255 and 127 would not fit into 16 bits; of 128 and 127 they do.
            let signed = _mm256_xor_si256(levels, _mm256_set1_epi8(-128));
            _mm256_maddubs_epi16(_mm256_abs_epi8(signed), _mm256_sign_epi8(activations, signed))
        } else if OFFSET > 0 {
            let signed = _mm256_sub_epi8(levels, _mm256_set1_epi8(OFFSET as i8));
            _mm256_maddubs_epi16(_mm256_abs_epi8(signed), _mm256_sign_epi8(activations, signed))
        } else {
            _mm256_maddubs_epi16(levels, activations)
        };
        _mm256_madd_epi16(pairs, _mm256_set1_epi16(1))
    }
}

/// Weight rows of a tile with AVX2.
pub(super) const AVX2_TILE: usize = 8;
/// Weight rows of a tile with AVX-512.
pub(super) const AVX512_TILE: usize = 32;

/// AVX-512 with VNNI: four products and their sum in one instruction.
#[derive(Clone, Copy)]
pub(in crate::vlm) struct Avx512;

impl Simd for Avx512 {
    type Int = __m512i;
    type Num = __m512;
    const LANES: usize = 16;
    const OFFSET_BY_SUMS: bool = true;

    #[inline(always)]
    unsafe fn int(value: i32) -> __m512i {
        // SAFETY: the caller has found AVX-512; so in all functions below.
        unsafe { _mm512_set1_epi32(value) }
    }

    #[inline(always)]
    unsafe fn num(value: f32) -> __m512 {
        // SAFETY: AVX-512.
        unsafe { _mm512_set1_ps(value) }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> __m512 {
        // SAFETY: AVX-512, and the caller's pointer.
        unsafe { _mm512_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn load_half(from: *const f16) -> __m512 {
        // SAFETY: AVX-512, and the caller's pointer.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(from.cast())) }
    }

    #[inline(always)]
    unsafe fn load_bytes(from: *const i8) -> __m512 {
        // SAFETY: AVX-512, and the caller's pointer is good for 16 bytes.
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(from.cast()))) }
    }

    #[inline(always)]
    unsafe fn load_nibbles(from: *const u8) -> [__m512; 2] {
        // SAFETY: AVX-512, and the caller's pointer is good for 16 bytes.
        unsafe {
            let bytes = _mm512_cvtepu8_epi32(_mm_loadu_si128(from.cast()));
            let low = _mm512_and_si512(bytes, _mm512_set1_epi32(15));
            [_mm512_cvtepi32_ps(low), _mm512_cvtepi32_ps(_mm512_srli_epi32::<4>(bytes))]
        }
    }

    #[inline(always)]
    unsafe fn store(value: __m512, to: *mut f32) {
        // SAFETY: AVX-512, and the caller's pointer.
        unsafe { _mm512_storeu_ps(to, value) }
    }

    #[inline(always)]
    unsafe fn transpose(from: *const u32, from_stride: usize, to: *mut u32, to_stride: usize) {
        // SAFETY: AVX-512, and the caller's pointers.
        unsafe {
            // Pairs of rows, then fours, then the quarters of the vectors, twice.
            let mut pairs = [_mm512_setzero_ps(); 16];
            for i in (0..16).step_by(2) {
                let a = _mm512_loadu_ps(from.add(i * from_stride).cast());
                let b = _mm512_loadu_ps(from.add((i + 1) * from_stride).cast());
                pairs[i] = _mm512_unpacklo_ps(a, b);
                pairs[i + 1] = _mm512_unpackhi_ps(a, b);
            }
            let mut fours = [_mm512_setzero_ps(); 16];
            for i in [0, 4, 8, 12] {
                for j in 0..2 {
                    let (a, b) = (pairs[i + j], pairs[i + j + 2]);
                    fours[i + 2 * j] = _mm512_shuffle_ps::<0x44>(a, b);
                    fours[i + 2 * j + 1] = _mm512_shuffle_ps::<0xee>(a, b);
                }
            }
            for i in 0..4 {
                let [a, b, c, d] = [fours[i], fours[i + 4], fours[i + 8], fours[i + 12]];
                let (ab, cd) =
                    (_mm512_shuffle_f32x4::<0x88>(a, b), _mm512_shuffle_f32x4::<0x88>(c, d));
                let (ab2, cd2) =
                    (_mm512_shuffle_f32x4::<0xdd>(a, b), _mm512_shuffle_f32x4::<0xdd>(c, d));
                let to = to.add(i * to_stride).cast::<f32>();
                _mm512_storeu_ps(to, _mm512_shuffle_f32x4::<0x88>(ab, cd));
                _mm512_storeu_ps(to.add(4 * to_stride), _mm512_shuffle_f32x4::<0x88>(ab2, cd2));
                _mm512_storeu_ps(to.add(8 * to_stride), _mm512_shuffle_f32x4::<0xdd>(ab, cd));
                _mm512_storeu_ps(to.add(12 * to_stride), _mm512_shuffle_f32x4::<0xdd>(ab2, cd2));
            }
        }
    }

    #[inline(always)]
    unsafe fn mul(a: __m512, b: __m512) -> __m512 {
        // SAFETY: AVX-512.
        unsafe { _mm512_mul_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn mul_add(a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: AVX-512.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    unsafe fn to_num(value: __m512i) -> __m512 {
        // SAFETY: AVX-512.
        unsafe { _mm512_cvtepi32_ps(value) }
    }

    #[inline(always)]
    unsafe fn sum(value: __m512) -> f32 {
        // SAFETY: AVX-512.
        unsafe { _mm512_reduce_add_ps(value) }
    }

    #[inline(always)]
    unsafe fn dot<const OFFSET: u8>(sum: __m512i, levels: *const u8, activations: i32) -> __m512i {
        // SAFETY: AVX-512 VNNI, and the caller's pointer.
        unsafe {
            let levels = _mm512_loadu_si512(levels.cast());
            _mm512_dpbusd_epi32(sum, levels, _mm512_set1_epi32(activations))
        }
    }
}

/// [`few`] with AVX2.
///
/// # Safety
/// AVX2 and FMA must have been found; else as [`few`].
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn few_avx2<K: Kind>(rows: Rows<'_>, x: &Activations, out: Output) {
    // SAFETY: the caller's.
    unsafe { few::<Avx2, K>(rows, x, out) }
}

/// [`many`] with AVX2: 8 weight rows by 4 rows of activations.
///
/// # Safety
/// As [`few_avx2`].
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn many_avx2<K: Kind>(rows: Rows<'_>, x: &Activations, out: Output) {
    // SAFETY: the caller's.
    unsafe { many::<Avx2, K, 1, 4>(rows, x, out) }
}

/// [`many`] with AVX-512: 32 weight rows by 6 rows of activations, 24 sums in registers.
///
/// # Safety
/// As [`few_avx512`].
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(super) unsafe fn many_avx512<K: Kind>(rows: Rows<'_>, x: &Activations, out: Output) {
    // SAFETY: the caller's.
    unsafe { many::<Avx512, K, 2, 6>(rows, x, out) }
}
