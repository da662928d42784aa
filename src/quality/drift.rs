//! Whether a measure wanders towards its limit, before any picture is beyond it.
//!
//! Each measure of each region has a control chart: an exponentially weighted mean and deviation of
//! what was measured. It has drifted when the mean has gone a share of the way from the reference to
//! the limit, and by more than chance; it is back when less than two thirds of that share is left, so
//! that it is told once each way. Without a reference the first pictures stand for one. Nothing of it
//! outlives the program.
//! Source: the EWMA chart, S. W. Roberts, 1959; NIST/SEMATECH e-Handbook of Statistical Methods, 6.3.2.4.

use std::collections::BTreeMap;

use super::{Check, What};

/// Weight of the newest picture: the mean is of about the last 40.
const NEWEST_WEIGHT: f64 = 0.05;

/// Pictures before anything is said.
const WARM_UP: u32 = 20;

/// The mean of pictures that do not drift stays within so many of its deviations.
const DEVIATIONS: f64 = 3.0;

/// Back is what has less than this of the share left.
const BACK_SHARE: f64 = 2.0 / 3.0;

/// Most measures that are followed. A station has no more, so beyond it is a mistake.
const TRACKS_MAX: usize = 1024;

/// Follows the measures of one station and recipe.
#[derive(Clone, Debug, Default)]
pub struct Drift {
    tracks: BTreeMap<(String, What), Track>,
}

/// A measure has drifted, or is back.
#[derive(Clone, Debug, PartialEq)]
pub struct DriftChange {
    /// The region or fixed area.
    pub name: String,
    /// What was measured.
    pub what: What,
    /// Whether it has drifted; else it is back.
    pub has_drifted: bool,
    /// Its mean over the last pictures.
    pub mean: f64,
    /// Where it began.
    pub reference: f64,
    /// Where it must not come.
    pub limit: f64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Track {
    count: u32,
    mean: f64,
    variance: f64,
    began_at: f64,
    has_drifted: bool,
}

impl Drift {
    /// Takes the checks of one picture of the region or fixed area `name`, and answers what has
    /// changed. `share` is how much of the way to a limit counts, above 0 and at most 1.
    pub fn see(&mut self, name: &str, checks: &[Check], share: f64) -> Vec<DriftChange> {
        checks.iter().filter_map(|check| self.see_one(name, check, share)).collect()
    }

    fn see_one(&mut self, name: &str, check: &Check, share: f64) -> Option<DriftChange> {
        let value = check.value.filter(|value| value.is_finite() && check.limit.is_finite())?;
        let key = (name.to_owned(), check.what);
        if self.tracks.len() >= TRACKS_MAX && !self.tracks.contains_key(&key) {
            return None;
        }
        // One picture far out is no drift: it is told by itself.
        let value = match check.what.has_most() {
            true => value.min(check.limit),
            false => value.max(check.limit),
        };
        let track = self.tracks.entry(key).or_default();
        let reference = track.take(value, check.reference)?;
        let has_drifted = track.judge(reference, check, share)?;
        let (mean, limit) = (track.mean, check.limit);
        Some(DriftChange {
            name: name.to_owned(),
            what: check.what,
            has_drifted,
            mean,
            reference,
            limit,
        })
    }
}

impl Track {
    /// Takes one more value, and answers where the measure began; `None` while there are too few.
    fn take(&mut self, value: f64, reference: Option<f64>) -> Option<f64> {
        self.count = self.count.saturating_add(1);
        // The first ones weigh the same, so that none of them decides for long.
        let weight = NEWEST_WEIGHT.max(1.0 / f64::from(self.count));
        let off = value - self.mean;
        self.mean += weight * off;
        self.variance = (1.0 - weight) * (self.variance + weight * off * off);
        if self.count == WARM_UP {
            self.began_at = self.mean;
        }
        (self.count >= WARM_UP).then(|| reference.unwrap_or(self.began_at))
    }

    /// Whether it has drifted now, if that has changed.
    fn judge(&mut self, reference: f64, check: &Check, share: f64) -> Option<bool> {
        let way = check.limit - reference;
        // One that began beyond its limit has nowhere to go.
        if way == 0.0 || (way > 0.0) != check.what.has_most() {
            return None;
        }
        let gone = (self.mean - reference) / way;
        let chance = DEVIATIONS * (self.variance * NEWEST_WEIGHT / (2.0 - NEWEST_WEIGHT)).sqrt();
        let is_clear = (self.mean - reference).abs() > chance;
        let has_drifted = match self.has_drifted {
            false => gone >= share && is_clear,
            true => gone >= share * BACK_SHARE,
        };
        let has_changed = std::mem::replace(&mut self.has_drifted, has_drifted) != has_drifted;
        has_changed.then_some(has_drifted)
    }
}
