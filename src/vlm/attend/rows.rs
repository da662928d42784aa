//! What the kernels are given: keys, values and rows as they lie in memory, and what a row may see.

use std::ops::Range;

use crate::vlm::quant::Instructions;
#[cfg(target_arch = "aarch64")]
use crate::vlm::quant::arm::Neon;
use crate::vlm::quant::simd::{Portable, Simd};
#[cfg(target_arch = "x86_64")]
use crate::vlm::quant::x86::{Avx2, Avx512};

/// Which keys the rows of a pass may see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::vlm) struct Sight {
    /// Place of the first row's own key among the keys that are given.
    pub(in crate::vlm) first_row: usize,
    /// A row sees itself and so many keys before it; `None`: all (i - j <= window, as transformers'
    /// eager mask has it).
    pub(in crate::vlm) window: Option<usize>,
}

impl Sight {
    /// The keys that row `row` of the pass sees. Never empty: a row sees itself.
    #[inline(always)]
    pub(in crate::vlm) fn keys(&self, row: usize) -> Range<usize> {
        let own = self.first_row + row;
        let oldest = match self.window {
            Some(window) => own.saturating_sub(window),
            None => 0,
        };
        oldest..own + 1
    }
}

/// Rows of all heads as a cache stores them.
#[derive(Clone, Copy)]
pub(super) struct Stored<'a> {
    pub(super) bytes: &'a [u8],
    /// Bytes from a head's first row to that of the next head.
    pub(super) head_bytes: usize,
    pub(super) row_bytes: usize,
}

impl<'a> Stored<'a> {
    /// Rows `rows` of a head.
    #[inline(always)]
    pub(super) fn rows(&self, head: usize, rows: Range<usize>) -> &'a [u8] {
        let head = head * self.head_bytes;
        &self.bytes[head + rows.start * self.row_bytes..head + rows.end * self.row_bytes]
    }
}

/// All that the attention of a pass needs.
#[derive(Clone, Copy)]
pub(super) struct Task<'a> {
    /// (kv_heads group, rows, dim), scaled
    pub(super) q: &'a [f32],
    pub(super) keys: Stored<'a>,
    pub(super) values: Stored<'a>,
    pub(super) kv_heads: usize,
    /// Query heads of a key head.
    pub(super) group: usize,
    pub(super) rows: usize,
    pub(super) dim: usize,
    pub(super) sight: Sight,
}

impl<'a> Task<'a> {
    /// Rows `rows` of a query head.
    #[inline(always)]
    pub(super) fn q(&self, head: usize, rows: Range<usize>) -> &'a [f32] {
        let first = head * self.rows;
        &self.q[(first + rows.start) * self.dim..(first + rows.end) * self.dim]
    }
}

/// Work that is compiled once for each set of instructions.
pub(super) trait Work {
    /// # Safety
    /// The processor must have what `S` uses.
    unsafe fn run<S: Simd>(self);
}

/// Does `work` with `instructions`.
///
/// # Safety
/// The processor must have them.
pub(super) unsafe fn with(instructions: Instructions, work: impl Work) {
    // SAFETY: the caller's.
    unsafe {
        match instructions {
            Instructions::Portable => work.run::<Portable>(),
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx2 => with_avx2(work),
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx512 => with_avx512(work),
            #[cfg(target_arch = "aarch64")]
            Instructions::Neon | Instructions::DotProd => work.run::<Neon<false>>(),
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn with_avx2(work: impl Work) {
    // SAFETY: the caller's.
    unsafe { work.run::<Avx2>() }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn with_avx512(work: impl Work) {
    // SAFETY: the caller's.
    unsafe { work.run::<Avx512>() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_sees_itself_and_its_past() {
        let seen = |first_row, window, row| Sight { first_row, window }.keys(row);
        assert_eq!(seen(0, None, 0), 0..1);
        assert_eq!(seen(2, None, 1), 0..4);
        assert_eq!(seen(1, Some(1), 0), 0..2);
        assert_eq!(seen(1, Some(1), 1), 1..3);
        assert_eq!(seen(0, Some(0), 3), 3..4);
    }
}
