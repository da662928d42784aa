//! What one frame shows of a part: its regions cut, and whether they can be judged by.

use std::borrow::Cow;
use std::collections::BTreeSet;

use super::Reason;
use crate::frame::{Frame, Rgb8};
use crate::inspection::Evidence;
use crate::quality::{Check, RegionMeasures, What};
use crate::roi::{self, Area, Crop, Region, RoiError, Shift};
use crate::station::{Golden, Question, Station};

/// One frame of a part.
#[derive(Default)]
pub(super) struct Sight {
    /// The frame's number; `None`: it is the record's own.
    pub frame_sequence: Option<u64>,
    /// What was cut.
    pub crops: Vec<Crop>,
    /// Good parts to be shown beside, each under its question's name.
    pub golden: Vec<(String, Crop)>,
    /// What was measured.
    pub measures: Vec<RegionMeasures>,
    /// The regions that show nothing.
    pub blank: BTreeSet<String>,
    /// What is wrong with this frame.
    pub problems: Vec<Reason>,
    /// The part lies where the regions are, as far as somebody looks.
    is_aligned: bool,
    /// Questions are put about it.
    pub is_asked: bool,
}

impl Sight {
    /// Cuts every region, moved with the part. Where the part was not found they are cut unmoved, as
    /// evidence of what was there instead.
    pub fn cut(station: &Station, picture: &Rgb8) -> Sight {
        let mut sight = Sight::default();
        let calibration = station.calibration.as_deref();
        let found = calibration.and_then(|calibration| calibration.align(picture));
        let (shift, is_aligned) = match found {
            None => (Shift::default(), true),
            Some(Ok(found)) => (found.shift(), true),
            Some(Err(why)) => {
                sight.problems.push(Reason::new("alignment_lost", why));
                (Shift::default(), false)
            }
        };
        let corrections = calibration.map(|calibration| calibration.corrections());
        for region in &station.regions {
            match roi::cut_corrected(picture, region, corrections, shift) {
                Ok(crop) => sight.crops.push(crop),
                Err(error) => sight.problems.push(Reason::new("region", error.to_string())),
            }
        }
        // Where the part is not known to be, nothing is asked: the answer would be about another place.
        (sight.is_aligned, sight.is_asked) = (is_aligned, is_aligned);
        sight
    }

    /// Cuts the good parts that questions show.
    pub fn add_golden(&mut self, station: &Station) {
        for question in &station.questions {
            let Some(golden) = &question.golden else { continue };
            for name in question.looks.iter().flatten() {
                match golden_crop(station, golden, name) {
                    Ok(crop) => self.golden.push((question.name.clone(), crop)),
                    Err(error) => self.problems.push(Reason::new("golden", error.to_string())),
                }
            }
        }
    }

    /// Measures what can be seen, on the frame's own pixels; what is out of limits is a problem.
    pub fn measure(&mut self, station: &Station, picture: &Rgb8) {
        let gate = &station.quality;
        for crop in &self.crops {
            let mut seen = gate.measure(picture, &crop.region, crop.frame_px);
            seen.frame_sequence = self.frame_sequence;
            for check in gate.check(&seen) {
                if check.is_out() && check.what == What::Blank {
                    self.blank.insert(crop.region.clone());
                }
                self.problems.extend(problem(&check, &crop.region));
            }
            self.measures.push(seen);
        }
    }

    /// What `question` shows of these regions, the good part first; `None`: something of it could not
    /// be cut.
    pub fn shown(&self, question: &Question, names: &[String]) -> Option<Vec<&Crop>> {
        let golden = question.golden.as_ref().map(|_| {
            let wanted =
                format!("{}{}", names.first().map_or("", String::as_str), Evidence::GOLDEN);
            let own =
                |(asked, crop): &&(String, Crop)| *asked == question.name && crop.region == wanted;
            self.golden.iter().find(own).map(|(_, crop)| crop)
        });
        let find = |name: &String| self.crops.iter().find(|crop| crop.region == *name);
        golden.into_iter().chain(names.iter().map(find)).collect()
    }
}

/// What of `frame` the station looks at, in RGB: the rows of its regions and fixed areas. A calibrated
/// one may look anywhere.
pub(super) fn pixels<'f>(station: &Station, frame: &'f Frame) -> Cow<'f, Rgb8> {
    let (width, height) = (frame.picture.width(), frame.picture.height());
    let fixed = station.quality.fixed.iter().map(|area| &area.region);
    let rows = |region: &Region| {
        // What does not lie in the frame is refused where it is cut.
        let rect = region.rect_in(width, height).ok();
        rect.map_or(0..height, |rect| rect.y..rect.y + rect.height)
    };
    let joined = station.regions.iter().chain(fixed).map(rows);
    let joined = joined.reduce(|a, b| a.start.min(b.start)..a.end.max(b.end));
    match joined.filter(|_| station.calibration.is_none()) {
        Some(rows) => frame.picture.rgb_of_rows(rows),
        None => Cow::Borrowed(frame.picture.rgb()),
    }
}

/// A check that is out of its limits, as a reason.
pub(super) fn problem(check: &Check, name: &str) -> Option<Reason> {
    check.is_out().then(|| Reason::new(check.what.code(), check.text(name)))
}

/// The region of this name as a good part shows it.
///
/// # Errors
/// The good part's frame does not hold the region.
pub fn golden_crop(station: &Station, golden: &Golden, name: &str) -> Result<Crop, RoiError> {
    let region = station.regions.iter().find(|region| region.name == name).cloned();
    let mut region = region.ok_or_else(|| RoiError::NotPrepared { region: name.to_owned() })?;
    let calibration = station.calibration.as_deref().filter(|_| !golden.is_crop);
    if golden.is_crop {
        region.area = Area::Whole;
    }
    let corrections = calibration.map(|calibration| calibration.corrections());
    let crop = roi::cut_corrected(&golden.picture, &region, corrections, Shift::default())?;
    Ok(Crop { region: format!("{name}{}", Evidence::GOLDEN), ..crop })
}
