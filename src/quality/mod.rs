//! Whether a picture is good enough to be judged by: focus, exposure, clipping, glare, motion, and
//! whether the camera still stands where it stood.
//!
//! ```text
//! region of a frame ─measure→ Measures ─judge (Limits, Reference)→ Check* ─those out→ Reason
//! fixed area        ─shift_from→ Shift ─────────────────────────────┘     ─Drift→ told once
//! ```
//!
//! All is measured on the frame's own pixels, as scaling a region for the model hides blur, and on a
//! bounded number of them, so that a large region costs little more than a small one. Nothing here
//! reads a clock or a file; a picture gives the same numbers each time.
//!
//! | measure | unit | how |
//! |---|---|---|
//! | `luma_mean`, `luma_p05`, `luma_p95` | levels, 0 to 255 | of the samples' luma |
//! | `dark_share`, `bright_share` | share | samples of at most 5, of at least 250 |
//! | `glare_share` | share | largest connected bright area that is not bright in the reference |
//! | `noise_levels` | levels | see `tiles.rs` |
//! | `edge_widths_px` | px | see `edges.rs` |
//! | motion | px | √((w² − w₀²) − (v² − v₀²)): the widths along and across a direction, less the reference's |
//! | shift | px, and a correlation | see `shift.rs` |

mod drift;
mod edges;
mod gate;
mod limits;
mod reference;
mod shift;
mod sketch;
mod tiles;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use drift::{Drift, DriftChange};
pub use edges::DIRECTIONS_DEG;
pub use gate::{FixedArea, FixedMeasures, Gate, RegionMeasures};
pub use limits::{CODE_PREFIX, Check, FixedLimits, Limits, What, judge, judge_shift};
pub use reference::{
    GREY_SIDE_MAX, Grey, Reference, SavedReference, SavedReferences, UnfitReference,
};
pub use shift::{SIDE_MIN_CELLS, Shift, shift_from};

use crate::frame::Rgb8;
use crate::roi::RectPx;

/// What was measured on one region of one picture. All numbers are finite.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measures {
    /// Mean luma, in levels.
    pub luma_mean: f64,
    /// The luma that a twentieth of the region does not exceed.
    pub luma_p05: u8,
    /// The luma that a twentieth of the region reaches.
    pub luma_p95: u8,
    /// The share of the region that is too dark to show anything.
    pub dark_share: f64,
    /// The share of the region that is too bright to.
    pub bright_share: f64,
    /// The largest connected area of the latter that is not expected, as a share of the region.
    pub glare_share: f64,
    /// The sensor's noise, as a standard deviation in levels.
    pub noise_levels: f64,
    /// How wide edges are.
    #[serde(default, skip_serializing_if = "EdgeWidths::is_empty")]
    pub edge_widths_px: EdgeWidths,
    /// The region is black, white, or of one level: it shows nothing, whatever stands there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_blank: bool,
}

/// The typical width of edges by the direction of their gradient, [`DIRECTIONS_DEG`], in pixels; `None`
/// where there are too few edges. Written as `{"0": 2.1, "90": 2.3}`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, f64>", into = "BTreeMap<String, f64>")]
pub struct EdgeWidths(pub [Option<f64>; 4]);

/// How far something moved while the picture was taken.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Motion {
    /// How far, in pixels.
    pub px: f64,
    /// In which direction, or the opposite one: one of [`DIRECTIONS_DEG`].
    pub along_deg: u16,
}

/// Measures the rectangle `rect` of `picture`, which it must lie in and have pixels. With a
/// `reference`, what is bright there is no glare.
pub fn measure(picture: &Rgb8, rect: RectPx, reference: Option<&Reference>) -> Measures {
    let sketch = sketch::Sketch::of(picture, rect);
    let tone = sketch.tone();
    let tiles = tiles::choose(picture, rect, &sketch);
    let noise = tiles::noise_levels(&tiles);
    let widths = edges::widths_px(&tiles, noise);
    Measures {
        luma_mean: rounded(tone.mean),
        luma_p05: tone.p05,
        luma_p95: tone.p95,
        dark_share: rounded(tone.dark_share),
        bright_share: rounded(tone.bright_share),
        glare_share: rounded(sketch.glare_share(reference)),
        noise_levels: rounded(noise),
        edge_widths_px: EdgeWidths(widths.map(|width| width.map(rounded))),
        is_blank: tone.is_blank,
    }
}

/// How wide edges are in the rectangle `rect` of `picture`, which it must lie in and have pixels: what
/// [`measure`] says of them, alone.
pub fn edge_widths(picture: &Rgb8, rect: RectPx) -> EdgeWidths {
    let tiles = tiles::choose(picture, rect, &sketch::Sketch::of(picture, rect));
    let noise = tiles::noise_levels(&tiles);
    EdgeWidths(edges::widths_px(&tiles, noise).map(|width| width.map(rounded)))
}

impl Measures {
    /// How much brighter the bright parts are than the dark ones, in levels.
    pub fn contrast(&self) -> u8 {
        self.luma_p95.saturating_sub(self.luma_p05)
    }

    /// How sharp the picture is against `reference`, about 0 to 1: the reference's edges' width by this
    /// one's, in the direction in which it is sharpest, so that motion does not count. `None`: no
    /// direction has edges in both.
    pub fn focus_share(&self, reference: &Measures) -> Option<f64> {
        let (here, there) = (&self.edge_widths_px.0, &reference.edge_widths_px.0);
        let shares = here.iter().zip(there).filter_map(|(here, there)| Some((*there)? / (*here)?));
        shares.filter(|share| share.is_finite()).reduce(f64::max)
    }

    /// How far something moved, beyond what `reference` shows. A blur in all directions is none. `None`
    /// where edges of two directions at a right angle are not to be seen, in both pictures.
    pub fn motion(&self, reference: Option<&Measures>) -> Option<Motion> {
        let squares = |direction: usize| {
            let here = self.edge_widths_px.0[direction]?;
            let there = match reference {
                Some(reference) => reference.edge_widths_px.0[direction]?,
                None => 0.0,
            };
            Some(here * here - there * there)
        };
        let along = |direction: usize| {
            let more = squares(direction)? - squares((direction + 2) % 4)?;
            Some(Motion { px: more.max(0.0).sqrt(), along_deg: DIRECTIONS_DEG[direction] })
        };
        (0..4).filter_map(along).reduce(|most, next| if next.px > most.px { next } else { most })
    }
}

impl EdgeWidths {
    /// The width in the direction in which edges are sharpest.
    pub fn sharpest_px(&self) -> Option<f64> {
        self.0.iter().flatten().copied().reduce(f64::min)
    }

    fn is_empty(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }
}

impl From<EdgeWidths> for BTreeMap<String, f64> {
    fn from(widths: EdgeWidths) -> BTreeMap<String, f64> {
        let known = DIRECTIONS_DEG.iter().zip(widths.0);
        known.filter_map(|(deg, width)| Some((deg.to_string(), width?))).collect()
    }
}

impl TryFrom<BTreeMap<String, f64>> for EdgeWidths {
    type Error = String;

    fn try_from(named: BTreeMap<String, f64>) -> Result<EdgeWidths, String> {
        let mut widths = EdgeWidths::default();
        for (name, width) in named {
            let place = DIRECTIONS_DEG.iter().position(|deg| deg.to_string() == name);
            let place = place.ok_or_else(|| format!("{name} is none of {DIRECTIONS_DEG:?}"))?;
            if !(width.is_finite() && width > 0.0) {
                return Err(format!("an edge cannot be {width} px wide"));
            }
            widths.0[place] = Some(width);
        }
        Ok(widths)
    }
}

/// The luma of a pixel of three bytes, as ITU-R BT.601 weighs them.
fn luma(pixel: &[u8]) -> u8 {
    let [red, green, blue] = [0, 1, 2].map(|k| u32::from(pixel[k]));
    ((77 * red + 150 * green + 29 * blue + 128) >> 8) as u8
}

/// To a thousandth: finer than any of it is known, and records stay short.
fn rounded(number: f64) -> f64 {
    (number * 1e3).round() / 1e3
}
