//! What a region looked like when all was well: its measures, and a small grey picture.
//!
//! Whoever calibrates a station makes one of each region and fixed area by [`Reference::of`], and
//! keeps them as [`SavedReferences`], with each picture in a file of its own beside.

use serde::{Deserialize, Serialize};

use super::{Measures, luma, measure};
use crate::frame::Rgb8;
use crate::roi::RectPx;

/// Longer side of a reference's picture, in cells.
pub const GREY_SIDE_MAX: usize = 128;

/// A cell of a reference from which on its place may be bright without glare: less than a clipped
/// pixel, as a cell is a mean.
const EXPECTED_BRIGHT_MIN: u8 = 200;

/// A part, and the bright label on it, may lie elsewhere by this share of the region's longer side.
const PLACE_SHARE: f64 = 1.0 / 16.0;

/// A grey picture in cells, each the mean luma of `step_px` by `step_px` pixels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grey {
    /// Cells across.
    pub width: usize,
    /// Cells down.
    pub height: usize,
    /// Side of a cell in frame pixels.
    pub step_px: u32,
    /// `width * height` levels, row by row.
    pub levels: Vec<u8>,
}

/// A region when all was well.
#[derive(Clone, Debug, PartialEq)]
pub struct Reference {
    /// Where it lay in the frame: a region of another size, and a fixed area of another place, cannot be
    /// compared.
    pub frame_px: RectPx,
    /// Its measures.
    pub measures: Measures,
    /// Its small picture.
    pub picture: Grey,
}

/// References as they stand in a calibration file, below `quality`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedReferences {
    /// Those of regions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub region: Vec<SavedReference>,
    /// Those of fixed areas.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fixed: Vec<SavedReference>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedReference {
    /// The region's or the fixed area's name.
    pub name: String,
    /// The small picture's file, beside the calibration file: 8 bits grey, without loss.
    pub picture: String,
    /// SHA-256 of that file, in hexadecimal: who proves the calibration file proves the picture.
    pub picture_sha256: String,
    /// [`Grey::step_px`].
    pub step_px: u32,
    /// [`Reference::frame_px`].
    pub frame_px: RectPx,
    /// [`Reference::measures`].
    pub measures: Measures,
}

/// Why a saved reference is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the reference of \"{name}\" cannot be used: {why}")]
pub struct UnfitReference {
    /// Whose it is.
    pub name: String,
    /// What is wrong.
    pub why: String,
}

impl Grey {
    /// `rect` of `picture` in small.
    pub fn of(picture: &Rgb8, rect: RectPx) -> Grey {
        let (across, down) = (rect.width as usize, rect.height as usize);
        let step = across.max(down).div_ceil(GREY_SIDE_MAX);
        let (width, height) = ((across / step).max(1), (down / step).max(1));
        // At most 16 pixels a cell: a large area costs no more than a small one.
        let every = step.div_ceil(4);
        let mut levels = Vec::with_capacity(width * height);
        for y in 0..height {
            let rows = y * step..((y + 1) * step).min(down);
            for x in 0..width {
                let columns = x * step..((x + 1) * step).min(across);
                let (mut sum, mut count) = (0, 0);
                for row in rows.clone().step_by(every) {
                    let line = (rect.y as usize + row) * picture.width as usize + rect.x as usize;
                    for column in columns.clone().step_by(every) {
                        sum += u32::from(luma(&picture.data[(line + column) * 3..]));
                        count += 1;
                    }
                }
                levels.push(((sum + count / 2) / count) as u8);
            }
        }
        Grey { width, height, step_px: step as u32, levels }
    }

    /// The same as a picture to be kept in a file.
    pub fn to_rgb(&self) -> Rgb8 {
        let data = self.levels.iter().flat_map(|level| [*level; 3]).collect();
        Rgb8 { width: self.width as u32, height: self.height as u32, data }
    }

    /// Back from [`Grey::to_rgb`].
    pub fn from_rgb(picture: &Rgb8, step_px: u32) -> Grey {
        let levels = picture.data.chunks_exact(3).map(luma).collect();
        Grey { width: picture.width as usize, height: picture.height as usize, step_px, levels }
    }
}

impl Reference {
    /// The reference that a picture of the region alone gives, at the corner of its frame.
    pub fn of(region: &Rgb8) -> Reference {
        let whole = RectPx { x: 0, y: 0, width: region.width, height: region.height };
        Reference::of_rect(region, whole)
    }

    /// The reference of `rect` of a frame.
    pub fn of_rect(frame: &Rgb8, rect: RectPx) -> Reference {
        let measures = measure(frame, rect, None);
        Reference { frame_px: rect, measures, picture: Grey::of(frame, rect) }
    }

    /// Whether a region at `rect` can be compared with it: of the same size, wherever a part has taken
    /// it.
    pub(super) fn is_like(&self, rect: RectPx) -> bool {
        (rect.width, rect.height) == (self.frame_px.width, self.frame_px.height)
    }

    /// As it is to be saved, with the small picture in the file `picture`.
    pub fn saved(&self, name: &str, picture: &str, picture_sha256: &str) -> SavedReference {
        SavedReference {
            name: name.to_owned(),
            picture: picture.to_owned(),
            picture_sha256: picture_sha256.to_owned(),
            step_px: self.picture.step_px,
            frame_px: self.frame_px,
            measures: self.measures.clone(),
        }
    }

    /// Where the reference is bright.
    pub(super) fn bright_places(&self) -> Places {
        let (width, height) = (self.picture.width, self.picture.height);
        let reach = (width.max(height) as f64 * PLACE_SHARE).ceil() as usize;
        let bright: Vec<bool> =
            self.picture.levels.iter().map(|level| *level >= EXPECTED_BRIGHT_MIN).collect();
        Places { width, height, bright: widened(&bright, width, height, reach) }
    }
}

impl SavedReference {
    /// The reference, with the picture that was read from its file.
    pub fn with_picture(&self, picture: &Rgb8) -> Result<Reference, UnfitReference> {
        let unfit = |why: &str| UnfitReference { name: self.name.clone(), why: why.to_owned() };
        let numbers = &self.measures;
        let shares = [numbers.dark_share, numbers.bright_share, numbers.glare_share];
        let levels = [numbers.luma_mean, numbers.noise_levels];
        if !shares.iter().all(|share| (0.0..=1.0).contains(share))
            || !levels.iter().all(|level| (0.0..=255.0).contains(level))
        {
            return Err(unfit("a measure is out of its range"));
        }
        let rect = self.frame_px;
        let side = rect.width.max(rect.height).max(1);
        if self.step_px != side.div_ceil(GREY_SIDE_MAX as u32) {
            return Err(unfit("`step_px` does not belong to `frame_px`"));
        }
        let cells = [rect.width, rect.height].map(|side| (side / self.step_px).max(1));
        if [picture.width, picture.height] != cells {
            return Err(unfit("its picture has another size"));
        }
        let picture = Grey::from_rgb(picture, self.step_px);
        Ok(Reference { frame_px: rect, measures: self.measures.clone(), picture })
    }
}

/// Places of a region.
pub(super) struct Places {
    width: usize,
    height: usize,
    bright: Vec<bool>,
}

impl Places {
    /// Whether the place of sample (x, y), of so many across and down, is among them.
    pub(super) fn holds(&self, x: usize, y: usize, across: usize, down: usize) -> bool {
        self.bright[y * self.height / down * self.width + x * self.width / across]
    }
}

/// Every place that is at most `reach` cells to the side of and above or below one of `places`.
fn widened(places: &[bool], width: usize, height: usize, reach: usize) -> Vec<bool> {
    let spread = |places: &[bool], count: usize, length: usize, stride: usize, next: usize| {
        let mut wide = vec![false; places.len()];
        for line in 0..count {
            for at in (0..length).filter(|at| places[line * next + at * stride]) {
                for reached in at.saturating_sub(reach)..=(at + reach).min(length - 1) {
                    wide[line * next + reached * stride] = true;
                }
            }
        }
        wide
    };
    let across = spread(places, height, width, 1, width);
    spread(&across, width, height, width, 1)
}
