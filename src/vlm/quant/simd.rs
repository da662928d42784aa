//! What a processor must offer to the kernels, and the offer of a processor of which nothing is
//! known.
//!
//! The kernels in [`super::kernels`] are written once against [`Simd`]. Everything here is always
//! inlined: the instructions that a processor may use are decided where a kernel is entered.

use std::array::from_fn;

use half::f16;

/// Vectors of 32-bit lanes, each lane of an integer vector standing for four 8-bit numbers.
///
/// # Safety
/// An implementation may use instructions that not every processor has; its functions may be called
/// only where those have been found. Pointers must be good for the bytes that a function says.
pub(in crate::vlm) trait Simd: Copy {
    /// [`Simd::LANES`] sums of products.
    type Int: Copy;
    /// [`Simd::LANES`] numbers.
    type Num: Copy;
    /// Lanes of a vector.
    const LANES: usize;
    /// Whether [`Simd::dot`] takes the levels as they are and leaves it to the caller to take the
    /// offset times the sum of the activations away.
    const OFFSET_BY_SUMS: bool;

    unsafe fn int(value: i32) -> Self::Int;
    unsafe fn num(value: f32) -> Self::Num;
    /// Reads LANES numbers.
    unsafe fn load(from: *const f32) -> Self::Num;
    /// Reads LANES numbers stored as f16.
    unsafe fn load_half(from: *const f16) -> Self::Num;
    /// Reads LANES signed bytes as numbers.
    unsafe fn load_bytes(from: *const i8) -> Self::Num;
    /// Reads LANES bytes as two numbers each, 0 to 15: all lower halves, all upper halves.
    unsafe fn load_nibbles(from: *const u8) -> [Self::Num; 2];
    /// Writes LANES numbers.
    unsafe fn store(value: Self::Num, to: *mut f32);
    /// Turns LANES x LANES numbers of 4 bytes: rows `from_stride` apart into rows `to_stride` apart.
    unsafe fn transpose(from: *const u32, from_stride: usize, to: *mut u32, to_stride: usize);
    unsafe fn mul(a: Self::Num, b: Self::Num) -> Self::Num;
    /// `a * b + c`
    unsafe fn mul_add(a: Self::Num, b: Self::Num, c: Self::Num) -> Self::Num;
    unsafe fn to_num(value: Self::Int) -> Self::Num;
    /// The sum of all lanes.
    unsafe fn sum(value: Self::Num) -> f32;
    /// Adds to each lane the products of its four levels (4 LANES bytes from `levels`), less
    /// `OFFSET`, with the same four `activations`.
    unsafe fn dot<const OFFSET: u8>(
        sum: Self::Int,
        levels: *const u8,
        activations: i32,
    ) -> Self::Int;
}

/// What the kernel for a few rows needs besides.
///
/// # Safety
/// As [`Simd`].
pub(in crate::vlm) trait RowSimd: Simd {
    /// Adds to `sum` (whose lanes are added up in the end) the products of 32 levels, less
    /// `OFFSET`, with 32 activations: those of the first 16 times `scales[0]`, the others times
    /// `scales[1]`.
    unsafe fn dot32<const OFFSET: u8>(
        sum: Self::Num,
        levels: *const u8,
        activations: *const i8,
        scales: [f32; 2],
    ) -> Self::Num;
}

/// [`Simd::transpose`] without vectors.
#[inline(always)]
pub(super) unsafe fn turn<const N: usize>(
    from: *const u32,
    from_stride: usize,
    to: *mut u32,
    to_stride: usize,
) {
    for row in 0..N {
        for column in 0..N {
            // SAFETY: the caller's pointers are good for N rows of N.
            unsafe {
                let number = from.add(row * from_stride + column).read_unaligned();
                to.add(column * to_stride + row).write_unaligned(number);
            }
        }
    }
}

/// Plain Rust: right everywhere, and what the others are compared with.
#[derive(Clone, Copy)]
pub(in crate::vlm) struct Portable;

impl Simd for Portable {
    type Int = [i32; 8];
    type Num = [f32; 8];
    const LANES: usize = 8;
    const OFFSET_BY_SUMS: bool = false;

    #[inline(always)]
    unsafe fn int(value: i32) -> [i32; 8] {
        [value; 8]
    }

    #[inline(always)]
    unsafe fn num(value: f32) -> [f32; 8] {
        [value; 8]
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> [f32; 8] {
        // SAFETY: the caller's pointer is good for 8 numbers.
        unsafe { from.cast::<[f32; 8]>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn load_half(from: *const f16) -> [f32; 8] {
        // SAFETY: the caller's pointer is good for 8 numbers.
        let halves = unsafe { from.cast::<[f16; 8]>().read_unaligned() };
        let mut numbers = [0.0; 8];
        for i in 0..8 {
            numbers[i] = halves[i].to_f32();
        }
        numbers
    }

    #[inline(always)]
    unsafe fn load_bytes(from: *const i8) -> [f32; 8] {
        // SAFETY: the caller's pointer is good for 8 bytes.
        let bytes = unsafe { from.cast::<[i8; 8]>().read_unaligned() };
        bytes.map(f32::from)
    }

    #[inline(always)]
    unsafe fn load_nibbles(from: *const u8) -> [[f32; 8]; 2] {
        // SAFETY: as above.
        let bytes = unsafe { from.cast::<[u8; 8]>().read_unaligned() };
        [bytes.map(|byte| f32::from(byte & 15)), bytes.map(|byte| f32::from(byte >> 4))]
    }

    #[inline(always)]
    unsafe fn store(value: [f32; 8], to: *mut f32) {
        // SAFETY: as above.
        unsafe { to.cast::<[f32; 8]>().write_unaligned(value) }
    }

    #[inline(always)]
    unsafe fn transpose(from: *const u32, from_stride: usize, to: *mut u32, to_stride: usize) {
        // SAFETY: the caller's pointers are good for 8 rows of 8.
        unsafe { turn::<8>(from, from_stride, to, to_stride) }
    }

    #[inline(always)]
    unsafe fn mul(a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        from_fn(|i| a[i] * b[i])
    }

    #[inline(always)]
    unsafe fn mul_add(a: [f32; 8], b: [f32; 8], c: [f32; 8]) -> [f32; 8] {
        from_fn(|i| a[i] * b[i] + c[i]) // f32::mul_add is a call where the instruction is missing
    }

    #[inline(always)]
    unsafe fn to_num(value: [i32; 8]) -> [f32; 8] {
        value.map(|v| v as f32)
    }

    #[inline(always)]
    unsafe fn sum(value: [f32; 8]) -> f32 {
        value.iter().sum()
    }

    #[inline(always)]
    unsafe fn dot<const OFFSET: u8>(
        sum: [i32; 8],
        levels: *const u8,
        activations: i32,
    ) -> [i32; 8] {
        // SAFETY: the caller's pointer is good for 32 levels.
        let levels = unsafe { levels.cast::<[[u8; 4]; 8]>().read_unaligned() };
        let four = activations.to_le_bytes();
        from_fn(|lane| {
            (0..4).fold(sum[lane], |sum, i| {
                sum + (i32::from(levels[lane][i]) - i32::from(OFFSET)) * i32::from(four[i] as i8)
            })
        })
    }
}

impl RowSimd for Portable {
    #[inline(always)]
    unsafe fn dot32<const OFFSET: u8>(
        mut sum: [f32; 8],
        levels: *const u8,
        activations: *const i8,
        scales: [f32; 2],
    ) -> [f32; 8] {
        // SAFETY: the caller's pointers are good for 32 each.
        let (levels, activations) = unsafe {
            (
                levels.cast::<[u8; 32]>().read_unaligned(),
                activations.cast::<[i8; 32]>().read_unaligned(),
            )
        };
        for lane in 0..8 {
            let four = 4 * lane..4 * lane + 4;
            let products = four
                .map(|i| (i32::from(levels[i]) - i32::from(OFFSET)) * i32::from(activations[i]));
            sum[lane] += products.sum::<i32>() as f32 * scales[lane / 4];
        }
        sum
    }
}
