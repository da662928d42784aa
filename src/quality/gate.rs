//! A station's gate: which limits and references its regions and fixed areas have.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{
    Check, FixedLimits, Grey, Limits, Measures, Reference, Shift, What, judge, judge_shift,
    measure, shift_from,
};
use crate::frame::Rgb8;
use crate::roi::{RectPx, Region};

/// What is asked of a station's pictures.
#[derive(Clone, Debug, PartialEq)]
pub struct Gate {
    /// Limits of every region that has none of its own.
    pub limits: Limits,
    /// Those of single regions, by their names.
    pub own_limits: BTreeMap<String, Limits>,
    /// References, by the names of their regions.
    pub references: BTreeMap<String, Arc<Reference>>,
    /// Areas of the frame that show the machine and never the part.
    pub fixed: Vec<FixedArea>,
    /// What these must be.
    pub fixed_limits: FixedLimits,
    /// How far of the way from the reference to a limit is told as drift, 0 to 1.
    pub drift_share: f64,
}

/// An area of the frame that shows the machine and never the part.
#[derive(Clone, Debug, PartialEq)]
pub struct FixedArea {
    /// Its name and place.
    pub region: Region,
    /// What it looked like; `None`: nothing is compared.
    pub reference: Option<Arc<Reference>>,
}

/// What was measured on a region, as the record keeps it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RegionMeasures {
    /// The region.
    pub region: String,
    /// The frame, where that is not the record's own: one of those that vote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frame_sequence: Option<u64>,
    /// Where it lay.
    pub frame_px: RectPx,
    /// The figures.
    #[serde(flatten)]
    pub measures: Measures,
}

/// What was measured on a fixed area, as the record keeps it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FixedMeasures {
    /// The area.
    pub area: String,
    /// Where it lies; `None`: it could not be compared with its reference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shift: Option<Shift>,
}

impl Default for Gate {
    fn default() -> Gate {
        Gate {
            limits: Limits::default(),
            own_limits: BTreeMap::new(),
            references: BTreeMap::new(),
            fixed: Vec::new(),
            fixed_limits: FixedLimits::default(),
            drift_share: 0.5,
        }
    }
}

impl Gate {
    /// Measures the region of this name, which lies at `rect` of `frame`.
    pub fn measure(&self, frame: &Rgb8, name: &str, rect: RectPx) -> RegionMeasures {
        // One of another shape says nothing of where brightness is expected here.
        let reference = self.reference(name).filter(|reference| reference.is_like(rect));
        let measures = measure(frame, rect, reference);
        RegionMeasures { region: name.to_owned(), frame_sequence: None, frame_px: rect, measures }
    }

    /// All checks of a region.
    pub fn check(&self, seen: &RegionMeasures) -> Vec<Check> {
        let name = seen.region.as_str();
        let limits = self.own_limits.get(name).unwrap_or(&self.limits);
        match self.reference(name) {
            Some(reference) if !reference.is_like(seen.frame_px) => {
                let mut checks = vec![Check::new(What::Place, None, 0.0, None)];
                checks.extend(judge(&seen.measures, limits, None));
                checks
            }
            reference => judge(&seen.measures, limits, reference),
        }
    }

    /// Looks where the fixed areas with a reference are in `frame`.
    pub fn measure_fixed(&self, frame: &Rgb8) -> Vec<FixedMeasures> {
        let compared = |area: &FixedArea| {
            let reference = area.reference.as_ref()?;
            let rect = area.region.rect_in(frame.width, frame.height).ok();
            let rect = rect.filter(|rect| *rect == reference.frame_px);
            let shift = rect.and_then(|rect| {
                shift_from(&reference.picture, &Grey::of(frame, rect)).map(Shift::short)
            });
            Some(FixedMeasures { area: area.region.name.clone(), shift })
        };
        self.fixed.iter().filter_map(compared).collect()
    }

    /// All checks of a fixed area.
    pub fn check_fixed(&self, seen: &FixedMeasures) -> Vec<Check> {
        judge_shift(seen.shift.as_ref(), &self.fixed_limits)
    }

    fn reference(&self, name: &str) -> Option<&Reference> {
        self.references.get(name).map(Arc::as_ref)
    }
}
