//! Surfaces: brushed metal, soft clouds and sensor noise, made once from a fixed seed.
//!
//! All of them repeat seamlessly, so a plate or a belt may begin anywhere in them.

use std::sync::OnceLock;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Side of a tile in pixels: a power of two, so that wrapping is one `&`.
pub(super) const TILE: usize = 512;

/// Half-lengths of the strokes of each brush, px.
pub(super) const BRUSHES: [usize; 4] = [9, 14, 20, 27];

/// A seamless grey tile with mean 0 and standard deviation 1.
pub(super) struct Tile(Vec<f32>);

impl Tile {
    /// The value at (x, y), wrapped.
    pub(super) fn at(&self, x: usize, y: usize) -> f32 {
        self.row(y)[x & (TILE - 1)]
    }

    /// The row `y`, wrapped; index it with `x & (TILE - 1)`.
    pub(super) fn row(&self, y: usize) -> &[f32; TILE] {
        let start = (y & (TILE - 1)) * TILE;
        let row = self.0[start..start + TILE].try_into();
        row.expect("a tile has whole rows")
    }
}

/// The surfaces every picture draws from.
pub(super) struct Surfaces {
    /// Fine lines as a brush leaves them: the first half along x, the second half along y.
    pub(super) brushed: Vec<Tile>,
    /// Soft large spots.
    pub(super) clouds: Vec<Tile>,
    /// Independent values per pixel.
    pub(super) noise: Tile,
}

/// The surfaces, made at the first call (some 50 ms).
pub(super) fn surfaces() -> &'static Surfaces {
    static SURFACES: OnceLock<Surfaces> = OnceLock::new();
    SURFACES.get_or_init(|| {
        let mut rng = ChaCha8Rng::seed_from_u64(0x5eed_0f7e_4700);
        let along_x: Vec<Tile> = BRUSHES.iter().map(|&r| blurred(&mut rng, r, 0)).collect();
        let along_y: Vec<Tile> =
            along_x.iter().map(|t| Tile(blur_rows_transposed(&t.0, 0))).collect();
        Surfaces {
            brushed: along_x.into_iter().chain(along_y).collect(),
            clouds: [12, 20, 30].iter().map(|&r| blurred(&mut rng, r, r)).collect(),
            noise: Tile(white(&mut rng)),
        }
    })
}

/// Nearly normal numbers: the sum of four uniform ones.
fn white(rng: &mut ChaCha8Rng) -> Vec<f32> {
    let spread = 3f32.sqrt();
    (0..TILE * TILE)
        .map(|_| ((0..4).map(|_| rng.random::<f32>()).sum::<f32>() - 2.0) * spread)
        .collect()
}

/// White noise blurred by boxes of the radii given (three passes: nearly Gaussian), normalised.
fn blurred(rng: &mut ChaCha8Rng, radius_x: usize, radius_y: usize) -> Tile {
    let mut tile = white(rng);
    for _ in 0..3 {
        tile = blur_rows_transposed(&tile, radius_x);
        tile = blur_rows_transposed(&tile, radius_y);
    }
    let count = tile.len() as f32;
    let mean = tile.iter().sum::<f32>() / count;
    let deviation = (tile.iter().map(|v| (v - mean) * (v - mean)).sum::<f32>() / count).sqrt();
    tile.iter_mut().for_each(|v| *v = (*v - mean) / deviation);
    Tile(tile)
}

/// A wrapped box blur along x, written transposed, so that two calls give back the orientation.
fn blur_rows_transposed(tile: &[f32], radius: usize) -> Vec<f32> {
    let mut out = vec![0.0; tile.len()];
    for (y, row) in tile.chunks_exact(TILE).enumerate() {
        let width = (2 * radius + 1) as f32;
        let mut sum: f32 = (0..=2 * radius).map(|i| row[(i + TILE - radius) & (TILE - 1)]).sum();
        for x in 0..TILE {
            out[x * TILE + y] = sum / width;
            sum += row[(x + radius + 1) & (TILE - 1)] - row[(x + TILE - radius) & (TILE - 1)];
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_are_normalised_and_seamless() {
        for tile in surfaces().brushed.iter().chain(&surfaces().clouds) {
            let mean = tile.0.iter().sum::<f32>() / tile.0.len() as f32;
            assert!(mean.abs() < 1e-2, "mean {mean}");
        }
        let cloud = &surfaces().clouds[0];
        let seam = (0..TILE).map(|y| (cloud.at(TILE - 1, y) - cloud.at(TILE, y)).abs());
        let largest = seam.fold(0.0, f32::max);
        assert!(largest < 0.5, "a soft cloud jumps by {largest} where the tile repeats");
    }

    #[test]
    fn the_second_half_of_the_brushes_is_the_first_half_turned() {
        let brushed = &surfaces().brushed;
        assert_eq!(brushed.len(), 2 * BRUSHES.len());
        assert_eq!(brushed[0].at(3, 7), brushed[BRUSHES.len()].at(7, 3));
    }
}
