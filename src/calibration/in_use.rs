//! A calibration as a running station uses it: made once from the file, then only read.

use std::path::Path;

use super::CalibrationError;
use super::align::{Fiducial, Found, Lost};
use super::file::{self, Calibration};
use super::flat::GainMap;
use super::lens::Lens;
use super::plane::Plane;
use crate::frame::Rgb8;
use crate::roi::corrections::{self, Source};
use crate::roi::{self, Area, Corrections, Region, RoiError, Shift};

/// The name of the area in which the fiducial is looked for.
const SEARCHED: &str = "the fiducial's search";

/// A calibration and what a station's regions need of it.
#[derive(Clone, Debug)]
pub struct InUse {
    /// What the file says.
    pub calibration: Calibration,
    /// SHA-256 of the file, in hexadecimal.
    pub digest: String,
    corrector: Corrector,
    corrections: Corrections,
    alignment: Option<(Fiducial, Region)>,
}

/// How the corrected frame comes about.
#[derive(Clone, Debug)]
struct Corrector {
    lens: Option<Lens>,
    plane: Option<Plane>,
    gain: Option<GainMap>,
    dark: [f32; 3],
}

impl Source for Corrector {
    fn place(&self, x: f64, y: f64) -> Option<[f64; 2]> {
        let straight = match &self.plane {
            None => [x, y],
            Some(plane) => plane.straight([x, y])?,
        };
        match &self.lens {
            None => Some(straight),
            Some(lens) => lens.source(straight),
        }
    }

    fn gain(&self, place: [f64; 2]) -> [f32; 3] {
        self.gain.as_ref().map_or([1.0; 3], |map| map.at(place))
    }
}

impl InUse {
    /// Reads the calibration at `path` and prepares it for `regions`.
    ///
    /// # Errors
    /// As [`file::load`]; a region that does not lie in the calibrated frame.
    pub fn load(path: &Path, regions: &[Region]) -> Result<InUse, CalibrationError> {
        let kept = file::load(path)?;
        let corrector = Corrector {
            lens: kept.calibration.lens.as_ref().map(|lens| lens.lens()),
            plane: kept.calibration.plane.clone(),
            gain: kept.gain,
            dark: kept.calibration.flat.as_ref().map_or([0.0; 3], |flat| flat.dark),
        };
        let frame_px = kept.calibration.frame_px;
        let alignment = kept.fiducial.map(|fiducial| {
            let area = Area::Pixels(fiducial.area(frame_px));
            (fiducial, Region { name: SEARCHED.to_owned(), area })
        });
        let corrections = prepare(frame_px, &corrector, alignment.as_ref(), regions)?;
        Ok(InUse {
            calibration: kept.calibration,
            digest: kept.digest,
            corrector,
            corrections,
            alignment,
        })
    }

    /// The same for other regions: those of another recipe.
    ///
    /// # Errors
    /// A region that does not lie in the calibrated frame.
    pub fn for_regions(&self, regions: &[Region]) -> Result<InUse, CalibrationError> {
        let frame_px = self.calibration.frame_px;
        let corrections = prepare(frame_px, &self.corrector, self.alignment.as_ref(), regions)?;
        Ok(InUse { corrections, ..self.clone() })
    }

    /// What `roi` is to be given. What was not measured is not corrected: without lens, plane and light
    /// the bytes are those of the frame.
    pub fn corrections(&self) -> &Corrections {
        &self.corrections
    }

    /// Pixels of a millimetre, if the plane was measured.
    pub fn px_per_mm(&self) -> Option<f64> {
        self.calibration.plane.as_ref().map(|plane| plane.px_per_mm)
    }

    /// Where the part lies, if that is looked for at all.
    ///
    /// # Errors
    /// Why it is not known: whatever is seen then is not to be judged.
    pub fn align(&self, frame: &Rgb8) -> Option<Result<Found, String>> {
        let (fiducial, region) = self.alignment.as_ref()?;
        let cut = || {
            let searched = roi::part(frame, region, Some(&self.corrections))
                .map_err(|why: RoiError| why.to_string())?;
            let area = fiducial.area(self.calibration.frame_px);
            fiducial.find(&searched, area).map_err(|why: Lost| why.to_string())
        };
        Some(cut())
    }

    /// The whole corrected frame: to draw regions on, and to look at.
    ///
    /// # Errors
    /// A frame of another size.
    pub fn whole(&self, frame: &Rgb8) -> Result<Rgb8, CalibrationError> {
        let frame_px = self.calibration.frame_px;
        corrections::whole(frame, frame_px, self.corrector.dark, &self.corrector).map_err(asked)
    }
}

impl Found {
    /// The whole pixels by which regions move.
    pub fn shift(&self) -> Shift {
        Shift { x: self.x.round() as i32, y: self.y.round() as i32 }
    }
}

/// The tables of the regions, and of the area in which the fiducial is looked for.
fn prepare(
    frame_px: [u32; 2],
    corrector: &Corrector,
    alignment: Option<&(Fiducial, Region)>,
    regions: &[Region],
) -> Result<Corrections, CalibrationError> {
    let margin = alignment.map_or(0, |(fiducial, _)| fiducial.search_px);
    let searched = alignment.map(|(_, region)| region);
    let all: Vec<Region> = regions.iter().chain(searched).cloned().collect();
    Corrections::new(frame_px, &all, margin, corrector.dark, corrector).map_err(asked)
}

fn asked(why: RoiError) -> CalibrationError {
    CalibrationError::Asked(why.to_string())
}
