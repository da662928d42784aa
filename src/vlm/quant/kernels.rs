//! The two kernels, written once for all processors: a weight row against a few rows of
//! activations, and a tile of weight rows against many.
//!
//! Both take a piece of the weights apart (see [`super::format`]), so the memory is read at its
//! stored size. A few rows are what decoding and a draft's verification bring; there the taking
//! apart is the work, and each row of weights is dotted as it lies. Many rows are a prefill or a
//! tower pass; there the products are the work, and the weights are laid out so that each lane of a
//! vector is another weight row: nothing is summed across lanes.

use super::activations::{self, Activations};
use super::format::{Format, Unpacked, unpack};
use super::simd::{RowSimd, Simd};

/// Numbers taken apart at a time.
pub(super) const PIECE: usize = 256;

/// What distinguishes the formats once they are taken apart.
pub(super) trait Kind {
    /// [`Format::offset`]
    const OFFSET: u8;
    /// Whether the scale changes after 16 numbers already.
    const SCALE_FOR_16: bool;
    /// Whether there are minimums.
    const MINS: bool;
}

/// Q8_0.
pub(super) struct Eight;
/// Q6_K.
pub(super) struct Six;
/// Q5_K and Q4_K.
pub(super) struct FiveFour;

impl Kind for Eight {
    const OFFSET: u8 = 128;
    const SCALE_FOR_16: bool = false;
    const MINS: bool = false;
}

impl Kind for Six {
    const OFFSET: u8 = 32;
    const SCALE_FOR_16: bool = true;
    const MINS: bool = false;
}

impl Kind for FiveFour {
    const OFFSET: u8 = 0;
    const SCALE_FOR_16: bool = false;
    const MINS: bool = true;
}

/// Rows of a weight matrix as they are stored.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    pub(super) format: Format,
    /// Whole rows.
    pub(super) bytes: &'a [u8],
    pub(super) row_bytes: usize,
}

impl<'a> Rows<'a> {
    #[inline(always)]
    fn count(&self) -> usize {
        self.bytes.len() / self.row_bytes
    }

    /// The stored bytes of numbers `from .. from + len` of a row; both at a block's border.
    #[inline(always)]
    fn piece(&self, row: usize, from: usize, len: usize) -> &'a [u8] {
        let at = |number: usize| number / self.format.block_len() * self.format.block_bytes();
        &self.bytes[row * self.row_bytes + at(from)..row * self.row_bytes + at(from + len)]
    }
}

/// Where the results go: column `n` of row `m` at `to + m * stride + n`.
#[derive(Clone, Copy)]
pub(in crate::vlm) struct Output {
    pub(in crate::vlm) to: *mut f32,
    pub(in crate::vlm) stride: usize,
}

impl Output {
    /// The same from column `column` on.
    ///
    /// # Safety
    /// There must be as many columns.
    pub(super) unsafe fn at_column(self, column: usize) -> Output {
        // SAFETY: the caller's.
        Output { to: unsafe { self.to.add(column) }, ..self }
    }
}

// SAFETY: the pieces of work that share an output write different places of it.
unsafe impl Send for Output {}
// SAFETY: as above.
unsafe impl Sync for Output {}

/// A few rows of activations against `rows`; the first weight row is column 0 of `out`.
///
/// # Safety
/// The processor must have what `S` uses; `out` must have room for all.
#[inline(always)]
pub(super) unsafe fn few<S: RowSimd, K: Kind>(rows: Rows<'_>, x: &Activations, out: Output) {
    let mut piece = Unpacked::new(PIECE);
    let mut sums = vec![0f32; x.rows];
    for n in 0..rows.count() {
        sums.fill(0.0);
        for from in (0..x.len).step_by(PIECE) {
            let len = PIECE.min(x.len - from);
            piece.fill(rows.format, rows.piece(n, from, len));
            for (m, sum) in sums.iter_mut().enumerate() {
                // SAFETY: as the caller promises for S.
                *sum += unsafe { dot::<S, K>(&piece, x.piece(m, 1, from, len)) };
            }
        }
        for (m, sum) in sums.iter().enumerate() {
            // SAFETY: the caller has made the room.
            unsafe { *out.to.add(m * out.stride + n) = *sum };
        }
    }
}

/// The product of a piece of weights with the same piece of one row, `x`.
#[inline(always)]
unsafe fn dot<S: RowSimd, K: Kind>(piece: &Unpacked, x: activations::Rows<'_>) -> f32 {
    let (levels, activations) = (&piece.levels[..x.levels.len()], x.levels);
    let (scales, sums) = (x.scales, x.sums);
    // SAFETY: the slices above are as long as the pointers are good for.
    unsafe {
        let mut total = S::num(0.0);
        let mut below = 0.0;
        for (group, scale) in scales.iter().enumerate() {
            let two = [piece.scales[2 * group] * scale, piece.scales[2 * group + 1] * scale];
            let (w, a) = (levels.as_ptr().add(32 * group), activations.as_ptr().add(32 * group));
            total = match K::OFFSET {
                0 => S::dot32::<0>(total, w, a, two),
                32 => S::dot32::<32>(total, w, a, two),
                _ => S::dot32::<128>(total, w, a, two),
            };
            if K::MINS {
                below += piece.mins[group] * sums[group];
            }
        }
        S::sum(total) - below
    }
}

/// A line of the cache: a vector that lies across two takes twice as long to read.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line(#[allow(dead_code, reason = "read through pointers of other types")] [u8; 64]);

/// A piece of as many weight rows as a tile has, laid out lane by lane.
struct Tile {
    width: usize,
    /// (PIECE / 4, width, 4) levels
    levels: Vec<Line>,
    /// (PIECE / 16, width) numbers
    scales: Vec<Line>,
    /// (PIECE / 32, width) numbers, and as many again that nobody reads
    mins: Vec<Line>,
    /// The rows as they were taken apart: (width, PIECE), (width, PIECE / 16), (width, PIECE / 16),
    /// the last half used.
    apart: (Vec<u8>, Vec<f32>, Vec<f32>),
}

impl Tile {
    #[inline(always)]
    fn new(width: usize) -> Tile {
        let numbers = || vec![0.0; PIECE / 16 * width];
        let lines = |bytes: usize| vec![Line([0; 64]); bytes.div_ceil(64)];
        Tile {
            width,
            levels: lines(PIECE * width),
            scales: lines(PIECE / 4 * width),
            mins: lines(PIECE / 4 * width),
            apart: (vec![0; PIECE * width], numbers(), numbers()),
        }
    }

    /// Takes numbers `from .. from + len` of all `rows` apart. Lanes without a row keep what they
    /// had: nobody reads what they make.
    ///
    /// # Safety
    /// The processor must have what `S` uses; `width` is a multiple of its lanes.
    #[inline(always)]
    unsafe fn fill<S: Simd>(&mut self, rows: Rows<'_>, from: usize, len: usize) {
        let (levels, scales, mins) = &mut self.apart;
        let apart = levels.chunks_exact_mut(PIECE).zip(scales.chunks_exact_mut(PIECE / 16));
        let apart = apart.zip(mins.chunks_exact_mut(PIECE / 16));
        for (row, ((levels, scales), mins)) in apart.enumerate().take(rows.count()) {
            unpack(rows.format, rows.piece(row, from, len), levels, scales, mins);
        }
        // SAFETY: each side has (width, PIECE / 4) or (width, PIECE / 16) numbers of 4 bytes.
        unsafe {
            transpose::<S>(
                levels.as_ptr().cast(),
                self.levels.as_mut_ptr().cast(),
                self.width,
                PIECE / 4,
            );
            transpose::<S>(
                scales.as_ptr().cast(),
                self.scales.as_mut_ptr().cast(),
                self.width,
                PIECE / 16,
            );
            transpose::<S>(
                mins.as_ptr().cast(),
                self.mins.as_mut_ptr().cast(),
                self.width,
                PIECE / 16,
            );
        }
    }
}

/// (rows, columns) to (columns, rows) of 4-byte numbers; both are multiples of the lanes.
#[inline(always)]
unsafe fn transpose<S: Simd>(from: *const u32, to: *mut u32, rows: usize, columns: usize) {
    for row in (0..rows).step_by(S::LANES) {
        for column in (0..columns).step_by(S::LANES) {
            // SAFETY: within (rows, columns), as the caller promises.
            unsafe {
                let (from, to) = (from.add(row * columns + column), to.add(column * rows + row));
                S::transpose(from, columns, to, rows);
            }
        }
    }
}

/// Many rows of activations against at most V * LANES weight `rows`, R rows of activations at a
/// time.
///
/// # Safety
/// The processor must have what `S` uses; `out` must have room for all.
#[inline(always)]
pub(super) unsafe fn many<S: Simd, K: Kind, const V: usize, const R: usize>(
    rows: Rows<'_>,
    x: &Activations,
    out: Output,
) {
    let width = V * S::LANES;
    let mut tile = Tile::new(width);
    let mut sums = vec![0f32; x.rows * width]; // (rows, width)
    for from in (0..x.len).step_by(PIECE) {
        let len = PIECE.min(x.len - from);
        // SAFETY: the width is a multiple of the lanes, the instructions are the caller's promise.
        unsafe { tile.fill::<S>(rows, from, len) };
        let mut m = 0;
        // SAFETY: `sums` has `width` numbers for each row of `x`; the slices of `x` and the tile
        // are as long as the loops in `block` run.
        unsafe {
            while m + R <= x.rows {
                block::<S, K, V, R>(&tile, x, m, from, len, sums.as_mut_ptr().add(m * width));
                m += R;
            }
            while m < x.rows {
                block::<S, K, V, 1>(&tile, x, m, from, len, sums.as_mut_ptr().add(m * width));
                m += 1;
            }
        }
    }
    let count = rows.count().min(width);
    for (m, line) in sums.chunks_exact(width).enumerate() {
        // SAFETY: the caller has made the room; nobody else writes these columns.
        unsafe {
            std::ptr::copy_nonoverlapping(line.as_ptr(), out.to.add(m * out.stride), count);
        }
    }
}

/// Adds the products of a tile with R rows of activations from row `m` on to `sums`, (R, width).
// Loops by number: an iterator's closure would not be compiled for the instructions of `S`.
#[allow(clippy::needless_range_loop)]
#[inline(always)]
unsafe fn block<S: Simd, K: Kind, const V: usize, const R: usize>(
    tile: &Tile,
    x: &Activations,
    m: usize,
    from: usize,
    len: usize,
    sums: *mut f32,
) {
    let width = V * S::LANES;
    let x = x.piece(m, R, from, len);
    let (levels_of, groups) = (x.levels.as_ptr(), len / 32);
    let parts = if K::SCALE_FOR_16 { 2 } else { 1 };
    let steps = 8 / parts;
    // SAFETY: the caller has `sums`; the tile holds `len` numbers for each of `width` rows; the rows
    // of `x` reach beyond `from + len`.
    unsafe {
        let mut total = [[S::num(0.0); V]; R];
        for r in 0..R {
            for v in 0..V {
                total[r][v] = S::load(sums.add(r * width + v * S::LANES));
            }
        }
        for group in 0..groups {
            for part in 0..parts {
                let mut products = [[S::int(0); V]; R];
                if S::OFFSET_BY_SUMS && K::OFFSET > 0 {
                    for r in 0..R {
                        let sums = x.sums16.as_ptr().add(2 * (r * groups + group));
                        let before =
                            if K::SCALE_FOR_16 { *sums.add(part) } else { *sums + *sums.add(1) };
                        products[r] = [S::int(-i32::from(K::OFFSET) * before); V];
                    }
                }
                for step in 0..steps {
                    let four = group * 8 + part * steps + step;
                    let levels = tile.levels.as_ptr().cast::<u8>().add(four * 4 * width);
                    for r in 0..R {
                        let a = levels_of.add(r * len + 4 * four).cast::<i32>().read_unaligned();
                        for v in 0..V {
                            let w = levels.add(v * 4 * S::LANES);
                            products[r][v] = match K::OFFSET {
                                0 => S::dot::<0>(products[r][v], w, a),
                                32 => S::dot::<32>(products[r][v], w, a),
                                _ => S::dot::<128>(products[r][v], w, a),
                            };
                        }
                    }
                }
                let scales = tile.scales.as_ptr().cast::<f32>().add((2 * group + part) * width);
                for v in 0..V {
                    let scale = S::load(scales.add(v * S::LANES));
                    for r in 0..R {
                        let both =
                            S::mul(scale, S::num(*x.scales.get_unchecked(r * groups + group)));
                        total[r][v] = S::mul_add(S::to_num(products[r][v]), both, total[r][v]);
                    }
                }
            }
            if K::MINS {
                let mins = tile.mins.as_ptr().cast::<f32>().add(group * width);
                for v in 0..V {
                    let min = S::load(mins.add(v * S::LANES));
                    for r in 0..R {
                        let sum = S::num(-*x.sums.get_unchecked(r * groups + group));
                        total[r][v] = S::mul_add(min, sum, total[r][v]);
                    }
                }
            }
        }
        for r in 0..R {
            for v in 0..V {
                S::store(total[r][v], sums.add(r * width + v * S::LANES));
            }
        }
    }
}
