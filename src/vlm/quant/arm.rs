//! The kernels for aarch64: NEON, which all of them have, and its 8-bit products (dotprod), which a
//! Raspberry Pi 5 and every Jetson since Xavier have and a Raspberry Pi 4 has not.

use std::arch::aarch64::*;
use std::arch::asm;

use half::f16;

use super::activations::Activations;
use super::kernels::{Kind, Output, Rows, few, many};
use super::simd::{RowSimd, Simd};

/// Weight rows of a tile.
pub(super) const TILE: usize = 16;

/// NEON; with `DOT`, the 8-bit products too.
#[derive(Clone, Copy)]
pub(in crate::vlm) struct Neon<const DOT: bool>;

/// Adds to each lane four products.
#[inline(always)]
unsafe fn products<const DOT: bool>(sum: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
    // SAFETY: every aarch64 has NEON; the caller has found dotprod where DOT is set. The
    // instruction is written out because the library's function for it is not stable.
    unsafe {
        if DOT {
            let mut sum = sum;
            asm!(
                ".arch_extension dotprod",
                "sdot {sum:v}.4s, {a:v}.16b, {b:v}.16b",
                sum = inout(vreg) sum, a = in(vreg) a, b = in(vreg) b,
                options(pure, nomem, nostack, preserves_flags)
            );
            sum
        } else {
            let low = vmull_s8(vget_low_s8(a), vget_low_s8(b)); // at most 128 * 127
            let high = vmull_high_s8(a, b);
            vaddq_s32(sum, vpaddq_s32(vpaddlq_s16(low), vpaddlq_s16(high)))
        }
    }
}

/// The levels less the offset, as signed numbers.
#[inline(always)]
unsafe fn signed<const OFFSET: u8>(levels: *const u8) -> int8x16_t {
    // SAFETY: NEON, and the caller's pointer is good for 16 bytes.
    unsafe {
        let levels = vld1q_u8(levels);
        vreinterpretq_s8_u8(if OFFSET == 0 { levels } else { vsubq_u8(levels, vdupq_n_u8(OFFSET)) })
    }
}

impl<const DOT: bool> Simd for Neon<DOT> {
    type Int = int32x4_t;
    type Num = float32x4_t;
    const LANES: usize = 4;
    const OFFSET_BY_SUMS: bool = false;

    #[inline(always)]
    unsafe fn int(value: i32) -> int32x4_t {
        // SAFETY: every aarch64 has NEON; so in all functions below.
        unsafe { vdupq_n_s32(value) }
    }

    #[inline(always)]
    unsafe fn num(value: f32) -> float32x4_t {
        // SAFETY: NEON.
        unsafe { vdupq_n_f32(value) }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> float32x4_t {
        // SAFETY: NEON, and the caller's pointer.
        unsafe { vld1q_f32(from) }
    }

    #[inline(always)]
    unsafe fn load_half(from: *const f16) -> float32x4_t {
        // SAFETY: NEON, and the caller's pointer is good for 8 bytes. The conversion is written out
        // because the library's function for it is not stable.
        unsafe {
            let halves = vld1_u16(from.cast());
            let numbers: float32x4_t;
            asm!(
                "fcvtl {numbers:v}.4s, {halves:v}.4h",
                numbers = lateout(vreg) numbers, halves = in(vreg) halves,
                options(pure, nomem, nostack, preserves_flags)
            );
            numbers
        }
    }

    #[inline(always)]
    unsafe fn load_bytes(from: *const i8) -> float32x4_t {
        // SAFETY: NEON, and the caller's pointer is good for 4 bytes.
        unsafe {
            let bytes = vcreate_s8(u64::from(from.cast::<u32>().read_unaligned()));
            vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(bytes))))
        }
    }

    #[inline(always)]
    unsafe fn load_nibbles(from: *const u8) -> [float32x4_t; 2] {
        // SAFETY: NEON, and the caller's pointer is good for 4 bytes.
        unsafe {
            let bytes = vcreate_u8(u64::from(from.cast::<u32>().read_unaligned()));
            let bytes = vmovl_u16(vget_low_u16(vmovl_u8(bytes)));
            let low = vandq_u32(bytes, vdupq_n_u32(15));
            [vcvtq_f32_u32(low), vcvtq_f32_u32(vshrq_n_u32::<4>(bytes))]
        }
    }

    #[inline(always)]
    unsafe fn store(value: float32x4_t, to: *mut f32) {
        // SAFETY: NEON, and the caller's pointer.
        unsafe { vst1q_f32(to, value) }
    }

    #[inline(always)]
    unsafe fn transpose(from: *const u32, from_stride: usize, to: *mut u32, to_stride: usize) {
        // SAFETY: NEON, and the caller's pointers.
        unsafe {
            let a = vld1q_u32(from);
            let b = vld1q_u32(from.add(from_stride));
            let c = vld1q_u32(from.add(2 * from_stride));
            let d = vld1q_u32(from.add(3 * from_stride));
            let (ac, bd) = (vzip1q_u32(a, c), vzip1q_u32(b, d));
            let (ac2, bd2) = (vzip2q_u32(a, c), vzip2q_u32(b, d));
            vst1q_u32(to, vzip1q_u32(ac, bd));
            vst1q_u32(to.add(to_stride), vzip2q_u32(ac, bd));
            vst1q_u32(to.add(2 * to_stride), vzip1q_u32(ac2, bd2));
            vst1q_u32(to.add(3 * to_stride), vzip2q_u32(ac2, bd2));
        }
    }

    #[inline(always)]
    unsafe fn mul(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: NEON.
        unsafe { vmulq_f32(a, b) }
    }

    #[inline(always)]
    unsafe fn mul_add(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
        // SAFETY: NEON.
        unsafe { vfmaq_f32(c, a, b) }
    }

    #[inline(always)]
    unsafe fn to_num(value: int32x4_t) -> float32x4_t {
        // SAFETY: NEON.
        unsafe { vcvtq_f32_s32(value) }
    }

    #[inline(always)]
    unsafe fn sum(value: float32x4_t) -> f32 {
        // SAFETY: NEON.
        unsafe { vaddvq_f32(value) }
    }

    #[inline(always)]
    unsafe fn dot<const OFFSET: u8>(
        sum: int32x4_t,
        levels: *const u8,
        activations: i32,
    ) -> int32x4_t {
        // SAFETY: NEON, and the caller's pointer.
        unsafe {
            let activations = vreinterpretq_s8_s32(vdupq_n_s32(activations));
            products::<DOT>(sum, signed::<OFFSET>(levels), activations)
        }
    }
}

impl<const DOT: bool> RowSimd for Neon<DOT> {
    #[inline(always)]
    unsafe fn dot32<const OFFSET: u8>(
        sum: float32x4_t,
        levels: *const u8,
        activations: *const i8,
        scales: [f32; 2],
    ) -> float32x4_t {
        // SAFETY: NEON, and the caller's pointers.
        unsafe {
            let zero = vdupq_n_s32(0);
            let (w, w2) = (signed::<OFFSET>(levels), signed::<OFFSET>(levels.add(16)));
            let (a, a2) = (vld1q_s8(activations), vld1q_s8(activations.add(16)));
            let sum = vfmaq_n_f32(sum, vcvtq_f32_s32(products::<DOT>(zero, w, a)), scales[0]);
            vfmaq_n_f32(sum, vcvtq_f32_s32(products::<DOT>(zero, w2, a2)), scales[1])
        }
    }
}

/// [`few`] with NEON.
///
/// # Safety
/// As [`few`]; with DOT, dotprod must have been found.
pub(super) unsafe fn few_neon<K: Kind, const DOT: bool>(
    rows: Rows<'_>,
    x: &Activations,
    out: Output,
) {
    // SAFETY: the caller's.
    unsafe { few::<Neon<DOT>, K>(rows, x, out) }
}

/// [`many`] with NEON: 16 weight rows by 4 rows of activations, 16 sums in registers.
///
/// # Safety
/// As [`few_neon`].
pub(super) unsafe fn many_neon<K: Kind, const DOT: bool>(
    rows: Rows<'_>,
    x: &Activations,
    out: Output,
) {
    // SAFETY: the caller's.
    unsafe { many::<Neon<DOT>, K, 4, 4>(rows, x, out) }
}
