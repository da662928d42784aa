//! What becomes of the figures of pictures over many parts: told when a station's pictures leave their
//! limits and when they are back, and when a measure drifts towards a limit.
//!
//! Reads records only, so it sees what the verdict saw.

use std::collections::BTreeMap;

use super::desk::Desk;
use super::recorder::Recorder;
use crate::inspection::Inspection;
use crate::plc::message::EventName;
use crate::quality::{CODE_PREFIX, Drift, DriftChange};
use crate::station::Station;
use crate::store::{EventKind, events};
use crate::telemetry;

/// Follows the pictures of all stations.
#[derive(Debug, Default)]
pub struct PictureWatch {
    /// By station and recipe: another product has other references. Bounded by the configuration.
    stations: BTreeMap<(String, u32), Watched>,
}

#[derive(Debug, Default)]
struct Watched {
    drift: Drift,
    is_out: bool,
}

impl PictureWatch {
    /// Takes one record of `station`, and tells what has changed.
    pub fn see(
        &mut self,
        station: &Station,
        inspection: &Inspection,
        desk: &Desk,
        recorder: &Recorder,
    ) {
        if inspection.picture_quality.is_empty() {
            return;
        }
        let watched =
            self.stations.entry((station.name.clone(), station.recipe_index)).or_default();
        let is_out = inspection.is_picture_out();
        if std::mem::replace(&mut watched.is_out, is_out) != is_out {
            tell_limits(station, inspection, desk);
        }
        let gate = &station.quality;
        let mut changes = Vec::new();
        for seen in &inspection.picture_quality {
            let checks = gate.check(seen);
            changes.extend(watched.drift.see(&seen.region, &checks, gate.drift_share));
        }
        for seen in &inspection.fixed_areas {
            let checks = gate.check_fixed(seen);
            changes.extend(watched.drift.see(&seen.area, &checks, gate.drift_share));
        }
        for change in changes {
            tell_drift(station, &change, desk, recorder);
        }
    }
}

fn tell_limits(station: &Station, inspection: &Inspection, desk: &Desk) {
    let reasons = &inspection.verdict.reasons;
    let Some(reason) = reasons.iter().find(|reason| reason.code.starts_with(CODE_PREFIX)) else {
        telemetry::picture_back(&station.name);
        return desk.change(|contract, now| {
            contract.picture(EventName::PictureWithinLimits, None, "", now);
        });
    };
    telemetry::picture_out(&station.name, &inspection.part_id, &reason.code, &reason.text);
    desk.change(|contract, now| {
        contract.picture(EventName::PictureOutOfLimits, Some(&reason.code), &reason.text, now);
    });
}

fn tell_drift(station: &Station, change: &DriftChange, desk: &Desk, recorder: &Recorder) {
    let text = format!(
        "{} of \"{}\": {:.2} on average, {:.2} at first, limit {:.2}",
        change.what.name(),
        change.name,
        change.mean,
        change.reference,
        change.limit
    );
    telemetry::picture_drift(&station.name, change.has_drifted, &text);
    let event = match change.has_drifted {
        true => EventName::PictureDrifted,
        false => EventName::PictureDriftEnded,
    };
    desk.change(|contract, now| contract.picture(event, Some(change.what.name()), &text, now));
    recorder.record_event(
        EventKind::PictureDrift,
        &events::PictureDrift {
            station: station.name.clone(),
            recipe: station.recipe.clone(),
            area: change.name.clone(),
            measure: change.what.name().to_owned(),
            has_drifted: change.has_drifted,
            mean: change.mean,
            reference: change.reference,
            limit: change.limit,
        },
    );
}
