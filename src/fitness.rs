//! Whether the model can see what a question asks about: the size of the smallest text and the smallest
//! defect in the pixels that reach the model's tower, after the cut and the high-definition view.
//!
//! ```text
//! mm ─calibration→ frame px ─cut to 336 px→ cut px ─num_crops: HD tiles of 336 px→ model px
//! ```
//!
//! The sizes come from the functions that make the pictures, [`roi::fit`] and [`Layout`]. The cut holds
//! what there is to be seen: enlarging it helps the tower and adds nothing. So both are asked for, enough
//! pixels of the cut to carry the strokes, and enough pixels of the model.

use std::collections::BTreeSet;

use crate::roi::{self, CROP_SIDE_PX, RoiError};
use crate::station::{Length, Question, Station};
use crate::vlm::pixels::{Layout, TILE};

/// Text must be so high for the model, in pixels of the tower: a patch is 14 px, and a letter that
/// shares its patch with its neighbours cannot be told from them.
pub const TEXT_MIN_PX: f64 = 20.0;
/// A defect must be so long, as a share of the 336 px that the tower sees at once.
pub const DEFECT_MIN_PERCENT: f64 = 5.0;
/// Text must be so high in the cut: an E has three strokes and two gaps, and each needs two pixels.
pub const TEXT_DETAIL_MIN_PX: f64 = 10.0;
/// A defect must be so long in the cut: less cannot be told from noise.
pub const DEFECT_DETAIL_MIN_PX: f64 = 3.0;
/// Most crops that are proposed: what the publisher's preset uses.
const CROPS_PROPOSED_MAX: usize = 16;

/// Most tiles that are proposed: as many as a region may have.
const TILES_PROPOSED_MAX: u32 = 16;

/// What is small.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Text, by the height of its capitals.
    Text,
    /// A defect, by its length.
    Defect,
}

/// What one region of one question makes of the smallest thing.
#[derive(Clone, Debug, PartialEq)]
pub struct Look {
    /// The question.
    pub question: String,
    /// The region.
    pub region: String,
    /// What is to be seen.
    pub kind: Kind,
    /// Crops of the high-definition view.
    pub num_crops: usize,
    /// What is cut, in pixels of the frame.
    pub region_px: [u32; 2],
    /// Model pixels of one frame pixel.
    pub scale: f64,
    /// The sizes; `None`: they cannot be known, see `remedies`.
    pub size: Option<Size>,
    /// It is large enough.
    pub fits: bool,
    /// What can be done, the cheapest first; empty if it fits.
    pub remedies: Vec<String>,
}

/// How large the smallest thing is on its way.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Size {
    /// In the frame, in pixels.
    pub frame_px: f64,
    /// In the cut of 336 px, in pixels that hold something: never more than in the frame.
    pub detail_px: f64,
    /// For the model, in pixels.
    pub model_px: f64,
    /// The same as a share of the 336 px that the tower sees at once, in percent.
    pub share_percent: f64,
}

/// What a number of crops costs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Price {
    /// Tokens of the question's pictures.
    pub tokens: usize,
    /// Seconds a part, all questions together, with the usual answers; `None` without a model.
    pub part_s: Option<f64>,
}

/// Looks at each smallest thing that the station's questions name. `price` says what a question costs
/// with another number of crops.
///
/// # Errors
/// A region that does not lie in a frame of `frame_px`.
pub fn judge(
    station: &Station,
    frame_px: [u32; 2],
    price: &dyn Fn(&Question, usize) -> Option<Price>,
) -> Result<Vec<Look>, RoiError> {
    let mut looks = Vec::new();
    for question in &station.questions {
        let asked =
            [(Kind::Text, question.smallest.text), (Kind::Defect, question.smallest.defect)];
        for (kind, length) in asked {
            let Some(length) = length else { continue };
            let mut known = BTreeSet::new();
            for name in question.looks.iter().flatten() {
                // The tiles of a region are of one size.
                if !known.insert(roi::tiled_region(name)) {
                    continue;
                }
                let Some(region) = station.regions.iter().find(|region| region.name == *name)
                else {
                    continue;
                };
                let rect = region.rect_in(frame_px[0], frame_px[1])?;
                let sides = [rect.width, rect.height];
                let view = View { question, kind, sides, price };
                looks.push(view.look(name, length, px_per_mm(station)));
            }
        }
    }
    Ok(looks)
}

/// Whether any question names a smallest thing.
pub fn is_asked(station: &Station) -> bool {
    let named = |question: &Question| {
        question.smallest.text.is_some() || question.smallest.defect.is_some()
    };
    station.questions.iter().any(named)
}

fn px_per_mm(station: &Station) -> Option<f64> {
    station.calibration.as_ref()?.px_per_mm()
}

/// One region as one question shows it.
struct View<'a> {
    question: &'a Question,
    kind: Kind,
    sides: [u32; 2],
    price: &'a dyn Fn(&Question, usize) -> Option<Price>,
}

impl View<'_> {
    fn look(&self, region: &str, length: Length, px_per_mm: Option<f64>) -> Look {
        let frame_px = match length {
            Length::Px(px) => Some(px),
            Length::Mm(mm) => px_per_mm.map(|scale| mm * scale),
        };
        let size = frame_px.map(|px| self.size(px, self.question.num_crops));
        let fits = size.is_some_and(|size| self.lack(&size) <= 1.0);
        let remedies = match size {
            None => vec![
                "its size in pixels is not known: calibrate the plane (inspectd calibrate plane), or give \
                 the size in pixels"
                    .to_owned(),
            ],
            Some(_) if fits => vec![],
            Some(size) => self.remedies(&size),
        };
        Look {
            question: self.question.name.clone(),
            region: region.to_owned(),
            kind: self.kind,
            num_crops: self.question.num_crops,
            region_px: self.sides,
            scale: self.cut_scale() * view_scale(self.question.num_crops),
            size,
            fits,
            remedies,
        }
    }

    fn longest(&self) -> u32 {
        self.sides[0].max(self.sides[1])
    }

    /// Pixels of the cut for one of the frame.
    fn cut_scale(&self) -> f64 {
        let [width, height] = self.sides;
        let inner = roi::fit(roi::RectPx { x: 0, y: 0, width, height });
        f64::from(inner.width.max(inner.height)) / f64::from(self.longest())
    }

    fn size(&self, frame_px: f64, num_crops: usize) -> Size {
        let cut = self.cut_scale();
        let model_px = frame_px * cut * view_scale(num_crops);
        Size {
            frame_px,
            detail_px: frame_px * cut.min(1.0),
            model_px,
            share_percent: model_px / TILE as f64 * 100.0,
        }
    }

    /// The limits, in pixels of the cut and of the model.
    fn limits(&self) -> (f64, f64) {
        match self.kind {
            Kind::Text => (TEXT_DETAIL_MIN_PX, TEXT_MIN_PX),
            Kind::Defect => (DEFECT_DETAIL_MIN_PX, DEFECT_MIN_PERCENT / 100.0 * TILE as f64),
        }
    }

    /// By what factor it is too small; 1 or less: it is not.
    fn lack(&self, size: &Size) -> f64 {
        let (detail, model) = self.limits();
        (detail / size.detail_px).max(model / size.model_px)
    }

    fn remedies(&self, size: &Size) -> Vec<String> {
        let (detail_min, _) = self.limits();
        let mut remedies = Vec::new();
        remedies.extend(self.more_crops(size));
        let lack = self.lack(size);
        // A smaller region is enlarged more, but holds no more than the frame.
        if size.frame_px >= detail_min {
            let side = (f64::from(self.longest()) / lack).floor().max(1.0);
            remedies.push(format!(
                "zoom the region {lack:.2} times: {side:.0} px on its longer side instead of {}",
                self.longest()
            ));
            remedies.extend(self.tiles(side, size.frame_px));
        } else {
            remedies.push(format!(
                "a smaller region does not help: the frame itself has {:.1} px of it, {detail_min:.0} are \
                 needed",
                size.frame_px
            ));
        }
        let nearer = lack.max(detail_min / size.frame_px);
        remedies.push(format!(
            "or move the camera nearer, or take a longer lens: {nearer:.2} times as large in the frame"
        ));
        remedies
    }

    /// Tiles of at most `side` px that hold what is `length` px long in one of them, wherever it lies;
    /// `None`: it is as long as a tile.
    fn tiles(&self, side: f64, length: f64) -> Option<String> {
        let overlap = (length / side * 100.0).ceil() / 100.0;
        let count = |whole: u32| {
            let is_enough = |count: &u32| {
                let count = f64::from(*count);
                f64::from(whole) / (count * (1.0 - overlap) + overlap) <= side
            };
            (1..=TILES_PROPOSED_MAX).find(is_enough)
        };
        let [columns, rows] = self.sides.map(count);
        let (columns, rows) = (columns?, rows?);
        (overlap <= 0.5 && columns * rows <= TILES_PROPOSED_MAX).then(|| {
            format!(
                "or tile it: tiles = [{columns}, {rows}], overlap = {overlap:.2}, each at most {side:.0} px \
                 and each a question more"
            )
        })
    }

    /// The next number of crops that is enough, and what it costs.
    fn more_crops(&self, size: &Size) -> Option<String> {
        let now = self.question.num_crops;
        let enough = |crops: &usize| self.lack(&self.size(size.frame_px, *crops)) <= 1.0;
        let Some(crops) = (now + 1..=CROPS_PROPOSED_MAX).find(enough) else {
            let (detail, _) = self.limits();
            let why = match size.detail_px < detail {
                true => format!(
                    "more num_crops do not help: the cut of {CROP_SIDE_PX} px has {:.1} px of it, \
                     {detail:.0} are needed",
                    size.detail_px
                ),
                false => format!("num_crops up to {CROPS_PROPOSED_MAX} are not enough"),
            };
            return Some(why);
        };
        let model_px = self.size(size.frame_px, crops).model_px;
        let mut text = format!("num_crops = {crops} instead of {now}: {model_px:.1} model px");
        if let Some((before, after)) =
            (self.price)(self.question, now).zip((self.price)(self.question, crops))
        {
            text += &format!(", {} tokens instead of {}", after.tokens, before.tokens);
            match before.part_s.zip(after.part_s) {
                Some((before, after)) => {
                    text += &format!(", {after:.2} s a part instead of {before:.2}");
                }
                None => text += " (the time is told where the model is)",
            }
        }
        Some(text)
    }
}

/// Model pixels of one pixel of the cut, which is square.
fn view_scale(num_crops: usize) -> f64 {
    let layout = Layout::of(CROP_SIDE_PX, CROP_SIDE_PX, num_crops.max(1));
    layout.map_or(1.0, |layout| layout.scaled().0 as f64 / f64::from(CROP_SIDE_PX))
}

/// Tokens of the pictures of a question with `num_crops`.
pub fn picture_tokens(question: &Question, num_crops: usize) -> usize {
    let layout = Layout::of(CROP_SIDE_PX, CROP_SIDE_PX, num_crops.max(1));
    layout.map_or(0, |layout| layout.tokens()) * question.pictures() * question.looks.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_in_sixteen_crops_is_four_times_as_large() {
        assert_eq!([1, 3, 4, 8, 9, 16].map(view_scale), [1.0, 1.0, 2.0, 2.0, 3.0, 4.0]);
    }
}
