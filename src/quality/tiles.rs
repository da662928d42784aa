//! Pieces of a region as the sensor saw them: no scaling, as that hides blur, and not too many.

use super::luma;
use super::sketch::Sketch;
use crate::frame::Rgb8;
use crate::roi::RectPx;

/// Most pixels that are looked at one by one: a region of 336x336 is, and of a larger one so much.
const PIXELS_MAX: usize = 1 << 17;

/// Side of a piece of a larger region, in pixels: three times the longest blur that can be told.
const SIDE_PX: usize = 64;

/// Side of the blocks in which noise is looked for, in pixels.
const NOISE_SIDE_PX: usize = 16;

/// The noise that rounding to whole levels makes by itself: 1/√12.
const ROUNDING_LEVELS: f64 = 0.288_675;

/// A rectangle of luma.
pub(super) struct Tile {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) luma: Vec<u8>,
}

/// The whole region if it is small, else the pieces in which most is to be seen: blur shows at edges
/// alone.
pub(super) fn choose(picture: &Rgb8, rect: RectPx, sketch: &Sketch) -> Vec<Tile> {
    let (across, down) = (rect.width as usize, rect.height as usize);
    if across * down <= PIXELS_MAX {
        return vec![Tile::cut(picture, rect, (0, 0), (across, down))];
    }
    // At least some samples a cell, or there is nothing to choose by.
    let cell = SIDE_PX.max(4 * sketch.step);
    let (columns, rows) = ((across / cell).max(1), (down / cell).max(1));
    let mut cells: Vec<(u8, usize, usize)> = Vec::with_capacity(columns * rows);
    for row in 0..rows {
        for column in 0..columns {
            let (x, y) = (column * across / columns, row * down / rows);
            let range = sketch.range_in(x, y, across / columns, down / rows);
            cells.push((range, x, y));
        }
    }
    // Where two are alike the first stays first: the same picture gives the same pieces.
    cells.sort_by_key(|(range, ..)| std::cmp::Reverse(*range));
    let size = (SIDE_PX.min(across), SIDE_PX.min(down));
    let most = PIXELS_MAX / (size.0 * size.1);
    let middle = |from: usize, span: usize, side: usize| from + span.saturating_sub(side) / 2;
    cells
        .into_iter()
        .take(most)
        .map(|(_, x, y)| {
            let at = (middle(x, across / columns, size.0), middle(y, down / rows, size.1));
            Tile::cut(picture, rect, at, size)
        })
        .collect()
}

impl Tile {
    fn cut(
        picture: &Rgb8,
        rect: RectPx,
        (x, y): (usize, usize),
        (width, height): (usize, usize),
    ) -> Tile {
        let mut pixels = Vec::with_capacity(width * height);
        for row in y..y + height {
            let start = (rect.y as usize + row) * picture.width as usize + rect.x as usize + x;
            let line = &picture.data[start * 3..(start + width) * 3];
            pixels.extend(line.chunks_exact(3).map(luma));
        }
        Tile { width, height, luma: pixels }
    }

    /// Mean deviation that white noise alone would have in the block at (x, y), in levels; `None` if
    /// something is clipped there, as clipping cuts noise off.
    /// Source: J. Immerkær, Fast Noise Variance Estimation, 1996.
    fn noise_in(&self, x: usize, y: usize) -> Option<f64> {
        let rows = |dy: usize| &self.luma[(y + dy) * self.width + x..][..NOISE_SIDE_PX];
        let clipped = |level: &u8| *level <= 1 || *level >= 254;
        if (0..NOISE_SIDE_PX).any(|dy| rows(dy).iter().any(clipped)) {
            return None;
        }
        let mut sum = 0u32;
        for dy in 1..NOISE_SIDE_PX - 1 {
            let (above, here, below) = (rows(dy - 1), rows(dy), rows(dy + 1));
            for dx in 1..NOISE_SIDE_PX - 1 {
                let bent = |row: &[u8]| {
                    i32::from(row[dx - 1]) - 2 * i32::from(row[dx]) + i32::from(row[dx + 1])
                };
                sum += (bent(above) - 2 * bent(here) + bent(below)).unsigned_abs();
            }
        }
        // The mask's weights have the norm 6, and a normal deviation the mean size √(2/π).
        let count = ((NOISE_SIDE_PX - 2) * (NOISE_SIDE_PX - 2)) as f64;
        Some(f64::from(sum) / count / 6.0 * (std::f64::consts::PI / 2.0).sqrt())
    }
}

/// The sensor's noise, as a standard deviation in levels: that of the calmest quarter of all blocks, as
/// everything that is to be seen adds to it.
pub(super) fn noise_levels(tiles: &[Tile]) -> f64 {
    let mut blocks = Vec::new();
    for tile in tiles {
        for y in (0..=tile.height.saturating_sub(NOISE_SIDE_PX)).step_by(NOISE_SIDE_PX) {
            for x in (0..=tile.width.saturating_sub(NOISE_SIDE_PX)).step_by(NOISE_SIDE_PX) {
                if tile.width >= NOISE_SIDE_PX && tile.height >= NOISE_SIDE_PX {
                    blocks.extend(tile.noise_in(x, y));
                }
            }
        }
    }
    blocks.sort_by(f64::total_cmp);
    blocks.get(blocks.len() / 4).copied().unwrap_or(0.0).max(ROUNDING_LEVELS)
}
