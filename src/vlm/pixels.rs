//! Picture to numbers: the HD transform, the tiles and the global view, each (3, 336, 336).
//!
//! Nothing is cropped. The picture is scaled to a width of whole tiles with its aspect ratio kept,
//! padded with white to whole tiles, normalised, and cut; the global view is the padded picture
//! squeezed to one tile. Source: `HD_transform` and `Phi3VImageProcessor.preprocess`,
//! image_processing_phi3_v.py.

use super::config::ImageConfig;
use super::error::EngineError;
use super::picture::Picture;
use super::resize::{bicubic, bilinear};

/// Side of one tile in pixels.
pub const TILE: usize = 336;
/// Numbers in one normalised tile: 3 channels.
pub const TILE_LEN: usize = 3 * TILE * TILE;

/// How a picture of one size is laid out in tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Tiles down.
    pub rows: usize,
    /// Tiles across.
    pub columns: usize,
    /// The picture's own size inside the tiles, before the padding: across and down.
    scaled: (usize, usize),
}

impl Layout {
    /// The layout of a picture of `width` x `height` pixels in at most `num_crops` tiles.
    ///
    /// # Errors
    /// [`EngineError::Picture`] for a strip so long that nothing of it would be left, such as 500 x
    /// 1 in one tile: the published code fails on it too.
    pub fn of(width: u32, height: u32, num_crops: usize) -> Result<Layout, EngineError> {
        let refuse = |problem: String| Err(EngineError::Picture { width, height, problem });
        if width == 0 || height == 0 || num_crops == 0 {
            return refuse(format!("cannot be laid out in {num_crops} tiles"));
        }
        let (long, short) = (width.max(height), width.min(height));
        let ratio = f64::from(long) / f64::from(short);
        let fits = |scale: &usize| scale * ((*scale as f64 / ratio).ceil() as usize) <= num_crops;
        let scale = (1..).take_while(fits).last().unwrap_or(1); // tiles along the long side; 1 always fits
        let along = scale * TILE;
        let across = (along as f64 / ratio) as usize;
        if across == 0 {
            return refuse(format!(
                "{num_crops} tiles make it {along} pixels long and then less than one pixel wide; \
                 cut a region nearer to a square, or allow more tiles"
            ));
        }
        let tiles_across = across.div_ceil(TILE);
        Ok(if width < height {
            Layout { rows: scale, columns: tiles_across, scaled: (across, along) }
        } else {
            Layout { rows: tiles_across, columns: scale, scaled: (along, across) }
        })
    }

    /// Tiles without the global view.
    pub fn tiles(&self) -> usize {
        self.rows * self.columns
    }

    /// The picture's own size inside the tiles, in pixels: (width, height).
    pub fn scaled(&self) -> (usize, usize) {
        self.scaled
    }

    /// Size of the padded picture in pixels: (height, width), as `image_sizes` of the published
    /// processor.
    pub fn padded(&self) -> (usize, usize) {
        (self.rows * TILE, self.columns * TILE)
    }

    /// Tokens that the picture takes in the prompt: 144 for each tile and for the global view, one
    /// separator between the two, and one line end for each of the 12 rows of a tile row and of the
    /// global view.
    pub fn tokens(&self) -> usize {
        (self.tiles() + 1) * 144 + 1 + (self.rows + 1) * 12
    }
}

/// A prepared picture.
pub struct Views {
    /// The whole picture squeezed to one tile: (3, 336, 336).
    pub global: Vec<f32>,
    /// The tiles, row by row: each (3, 336, 336).
    pub tiles: Vec<Vec<f32>>,
    /// How the tiles lie.
    pub layout: Layout,
}

impl Views {
    /// Whether the global view is, number for number, the only tile: then one pass through the
    /// tower serves both. So it is whenever the padded picture is one tile, because bicubic leaves
    /// an unchanged size alone.
    pub fn global_is_tile(&self) -> bool {
        self.layout.tiles() == 1
    }
}

/// Prepares `picture` in at most `num_crops` tiles.
///
/// # Errors
/// As [`Layout::of`].
pub fn prepare(
    picture: &Picture<'_>,
    num_crops: usize,
    config: &ImageConfig,
) -> Result<Views, EngineError> {
    let layout = Layout::of(picture.width(), picture.height(), num_crops)?;
    let padded = hd_image(picture, &layout); // (rows * 336, columns * 336, 3)
    let planes = normalise(&padded, config); // (3, rows * 336, columns * 336)
    let tiles: Vec<Vec<f32>> =
        (0..layout.tiles()).map(|number| cut_tile(&planes, &layout, number)).collect();
    let global = if layout.tiles() == 1 {
        tiles[0].clone()
    } else {
        let (height, width) = layout.padded();
        planes
            .chunks_exact(height * width)
            .flat_map(|plane| bicubic(plane, width, height, TILE, TILE))
            .collect()
    };
    Ok(Views { global, tiles, layout })
}

/// The picture scaled and padded with white, 8-bit RGB: (rows * 336, columns * 336, 3).
///
/// The published code transposes a tall picture, works on it lying down and transposes it back.
/// Transposing swaps the two passes of the resizer, and each pass rounds to bytes, so it cannot be
/// left out.
pub fn hd_image(picture: &Picture<'_>, layout: &Layout) -> Vec<u8> {
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let (scaled_w, scaled_h) = layout.scaled;
    let scaled = if width < height {
        let lying = transpose(picture.rgb(), width, height); // (width, height, 3)
        let lying = bilinear(&lying, height, width, scaled_h, scaled_w); // (scaled_w, scaled_h, 3)
        transpose(&lying, scaled_h, scaled_w)
    } else {
        bilinear(picture.rgb(), width, height, scaled_w, scaled_h)
    }; // (scaled_h, scaled_w, 3)
    pad_white(&scaled, scaled_w, scaled_h, layout)
}

/// Mirrors (height, width, 3) on its main diagonal: (width, height, 3).
fn transpose(rgb: &[u8], width: usize, height: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(rgb.len());
    for x in 0..width {
        for y in 0..height {
            let at = (y * width + x) * 3;
            out.extend_from_slice(&rgb[at..at + 3]);
        }
    }
    out
}

/// Centres the picture between white bars; an odd pixel goes to the bottom, or to the right.
fn pad_white(rgb: &[u8], width: usize, height: usize, layout: &Layout) -> Vec<u8> {
    let (out_h, out_w) = layout.padded();
    let (left, top) = ((out_w - width) / 2, (out_h - height) / 2);
    let mut out = vec![255; out_h * out_w * 3];
    for (y, row) in rgb.chunks_exact(width * 3).enumerate() {
        let at = ((top + y) * out_w + left) * 3;
        out[at..at + row.len()].copy_from_slice(row);
    }
    out
}

/// (height, width, 3) bytes to three f32 planes, (3, height, width): (value / 255 - mean) / std.
fn normalise(rgb: &[u8], config: &ImageConfig) -> Vec<f32> {
    let mut out = Vec::with_capacity(rgb.len());
    for channel in 0..3 {
        let number =
            |byte: usize| (byte as f32 / 255.0 - config.mean[channel]) / config.std[channel];
        let table: Vec<f32> = (0..256).map(number).collect();
        out.extend(rgb[channel..].iter().step_by(3).map(|byte| table[usize::from(*byte)]));
    }
    out
}

/// Tile `number`, counted row by row, of planes (3, rows * 336, columns * 336): (3, 336, 336).
fn cut_tile(planes: &[f32], layout: &Layout, number: usize) -> Vec<f32> {
    let (height, width) = layout.padded();
    let (top, left) = (number / layout.columns * TILE, number % layout.columns * TILE);
    let mut tile = Vec::with_capacity(TILE_LEN);
    for plane in planes.chunks_exact(height * width) {
        for y in top..top + TILE {
            let at = y * width + left;
            tile.extend_from_slice(&plane[at..at + TILE]);
        }
    }
    tile
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_token_counts() {
        let tokens = |w, h, crops| Layout::of(w, h, crops).unwrap().tokens();
        assert_eq!(
            [tokens(336, 336, 1), tokens(336, 336, 4), tokens(336, 336, 16)],
            [313, 757, 2509]
        );
        assert_eq!([tokens(672, 336, 4), tokens(336, 672, 4)], [457, 469]); // rows count, columns do not
        assert_eq!([tokens(5376, 336, 16), tokens(336, 5376, 16)], [2473, 2653]);
    }

    #[test]
    fn a_strip_that_would_vanish_is_refused_by_size() {
        let message = Layout::of(1, 500, 1).unwrap_err().to_string();
        assert!(message.starts_with("picture of 1 x 500 pixels: "), "{message}");
        assert!(Layout::of(1, 336, 1).is_ok());
        assert!(Layout::of(5, 5, 0).is_err());
    }

    #[test]
    fn the_odd_white_line_goes_below_and_to_the_right() {
        let layout = Layout { rows: 1, columns: 1, scaled: (TILE, TILE - 3) };
        let out = pad_white(&vec![0; TILE * (TILE - 3) * 3], TILE, TILE - 3, &layout);
        let white_rows: Vec<usize> = (0..TILE).filter(|y| out[y * TILE * 3] == 255).collect();
        assert_eq!(white_rows, [0, TILE - 2, TILE - 1]);
    }

    #[test]
    fn tiles_are_cut_row_by_row() {
        let layout = Layout { rows: 2, columns: 3, scaled: (3 * TILE, 2 * TILE) };
        let (height, width) = layout.padded();
        let number = |i: usize| (i % (height * width) / width / TILE * 3 + i % width / TILE) as f32;
        let planes: Vec<f32> = (0..3 * height * width).map(number).collect();
        for tile in 0..6 {
            assert!(cut_tile(&planes, &layout, tile).iter().all(|v| *v == tile as f32));
        }
    }
}
