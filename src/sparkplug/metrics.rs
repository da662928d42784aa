//! What a station says of itself: the names, types and aliases of its metrics, and how a result
//! becomes their values.
//!
//! | metric | type | |
//! |---|---|---|
//! | `Result/…` | | the newest result; all of them change in one message |
//! | `Recipe/…`, `Model/Digest` | String | what decided it |
//! | `Total`, `Pass`, `Fail`, `Unknown`, `Late` | UInt64 | results since the program started |
//! | `Picture/…` | | the newest picture's figures; `OutOfLimits` counts results like `Total` |
//! | `State/…` | Boolean | what the station is doing |
//! | `Recipe/Select`, `Trigger`, `Reset` | | writable: commands; `Command/…` belong to them |
//!
//! A name is a promise to every host that has seen it: none is ever renamed.

use srad_types::payload::DataType;
use srad_types::payload::metric::Value;

use crate::inspection::Inspection;
use crate::verdict::{Outcome, Seen};

/// Longest text of a metric, in characters; a longer one ends in `…`.
pub const TEXT_MAX_CHARS: usize = 128;

/// Between the first aliases of two stations. The edge node's own lie below the first.
const ALIASES_A_STATION: u64 = 1000;

/// A metric of a station.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tag {
    /// `pass`, `fail` or `review`.
    Verdict,
    /// The result's name: a copy has the same one.
    Id,
    /// Which trigger of the station.
    TriggerId,
    /// The part.
    PartId,
    /// The serial number that was read.
    Serial,
    /// The class of the first defect.
    DefectCode,
    /// Why the verdict is what it is: the code of the first reason.
    Reason,
    /// The model's probability for the least certain finding, 0 to 1.
    Confidence,
    /// From the trigger to the verdict.
    LatencyMs,
    /// The verdict stood in time.
    DeadlineMet,
    /// SHA-256 of the first picture that was looked at.
    EvidenceSha256,
    /// The recipe that decided.
    Recipe,
    /// SHA-256 of the configuration that decided.
    RecipeDigest,
    /// SHA-256 of the model that decided.
    ModelDigest,
    /// A trigger is awaited, or parts are looked for.
    Ready,
    /// A part is being looked at.
    Busy,
    /// Something is broken.
    Fault,
    /// All results.
    Total,
    /// Those that passed.
    Pass,
    /// Those that failed.
    Fail,
    /// Those that a person must look at.
    Unknown,
    /// Those that came late.
    Late,
    /// Writable: the index of the recipe to look for.
    RecipeSelect,
    /// Writable: look at a part; the trigger's number.
    Trigger,
    /// Writable, with `Trigger`: the part's name.
    CommandPartId,
    /// Writable, with `Trigger`: milliseconds that the verdict may take.
    CommandDeadlineMs,
    /// Writable: forget a fault.
    Reset,
    /// The newest command that was not carried out, and why.
    CommandRefused,
    /// Results whose picture was out of its limits.
    PictureOutOfLimits,
    /// Mean luma of the first region, in levels.
    PictureLumaMean,
    /// Width of the sharpest edges, in the region where they are widest, in pixels.
    PictureEdgeWidthPx,
    /// How far the fixed area that moved farthest lies off, in pixels.
    PictureShiftPx,
}

/// Name and type of each metric, in the order of a birth.
const TABLE: &[(Tag, &str, DataType)] = &[
    (Tag::Verdict, "Result/Verdict", DataType::String),
    (Tag::Id, "Result/Id", DataType::String),
    (Tag::TriggerId, "Result/TriggerId", DataType::UInt64),
    (Tag::PartId, "Result/PartId", DataType::String),
    (Tag::Serial, "Result/Serial", DataType::String),
    (Tag::DefectCode, "Result/DefectCode", DataType::String),
    (Tag::Reason, "Result/Reason", DataType::String),
    (Tag::Confidence, "Result/Confidence", DataType::Double),
    (Tag::LatencyMs, "Result/LatencyMs", DataType::UInt32),
    (Tag::DeadlineMet, "Result/DeadlineMet", DataType::Boolean),
    (Tag::EvidenceSha256, "Result/EvidenceSha256", DataType::String),
    (Tag::Recipe, "Recipe/Active", DataType::String),
    (Tag::RecipeDigest, "Recipe/Digest", DataType::String),
    (Tag::ModelDigest, "Model/Digest", DataType::String),
    (Tag::Ready, "State/Ready", DataType::Boolean),
    (Tag::Busy, "State/Busy", DataType::Boolean),
    (Tag::Fault, "State/Fault", DataType::Boolean),
    (Tag::Total, "Total", DataType::UInt64),
    (Tag::Pass, "Pass", DataType::UInt64),
    (Tag::Fail, "Fail", DataType::UInt64),
    (Tag::Unknown, "Unknown", DataType::UInt64),
    (Tag::Late, "Late", DataType::UInt64),
    (Tag::RecipeSelect, "Recipe/Select", DataType::UInt32),
    (Tag::Trigger, "Trigger", DataType::UInt64),
    (Tag::CommandPartId, "Command/PartId", DataType::String),
    (Tag::CommandDeadlineMs, "Command/DeadlineMs", DataType::UInt32),
    (Tag::Reset, "Reset", DataType::Boolean),
    (Tag::CommandRefused, "Command/Refused", DataType::String),
    (Tag::PictureOutOfLimits, "Picture/OutOfLimits", DataType::UInt64),
    (Tag::PictureLumaMean, "Picture/LumaMean", DataType::Double),
    (Tag::PictureEdgeWidthPx, "Picture/EdgeWidthPx", DataType::Double),
    (Tag::PictureShiftPx, "Picture/ShiftPx", DataType::Double),
];

impl Tag {
    /// Every metric, in the order of a birth.
    pub fn all() -> impl Iterator<Item = Tag> {
        TABLE.iter().map(|(tag, _, _)| *tag)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// Its type.
    pub fn datatype(self) -> DataType {
        self.row().2
    }

    /// Its number in data, unique over the edge node; `station` counts from 0.
    pub fn alias(self, station: usize) -> u64 {
        (station as u64 + 1) * ALIASES_A_STATION + self as u64
    }

    /// The metric that a host writes to: by its alias, or by its name.
    pub fn of(station: usize, name: Option<&str>, alias: Option<u64>) -> Option<Tag> {
        Tag::all().find(|tag| match alias {
            Some(alias) => tag.alias(station) == alias,
            None => name == Some(tag.name()),
        })
    }

    fn row(self) -> &'static (Tag, &'static str, DataType) {
        // A test holds that every metric is in the table, in the order of the enumeration.
        &TABLE[self as usize]
    }
}

/// The metrics of one result, all of them. A value that it has not is null.
pub fn of_result(look: &Inspection) -> Vec<(Tag, Option<Value>)> {
    let text = |text: &str| Some(Value::StringValue(cut(text)));
    let defect = look.findings.iter().find_map(|finding| match &finding.seen {
        Seen::Defect { class, .. } => Some(class.as_str()),
        _ => None,
    });
    let confidence = look.findings.iter().map(|finding| finding.confidence);
    let confidence = confidence.filter(|share| share.is_finite()).reduce(f64::min);
    let latency = Some(look.timings.latency_ms).filter(|ms| ms.is_finite());
    // Beyond 49 days the type is at its end.
    let latency =
        latency.map(|ms| Value::IntValue(ms.round().clamp(0.0, f64::from(u32::MAX)) as u32));
    vec![
        (Tag::Verdict, text(look.verdict.outcome.as_str())),
        (Tag::Id, text(&look.result_id.to_string())),
        (Tag::TriggerId, Some(Value::LongValue(look.job_id))),
        (Tag::PartId, text(&look.part_id)),
        (Tag::Serial, look.serial().and_then(text)),
        (Tag::DefectCode, defect.and_then(text)),
        (Tag::Reason, look.verdict.reasons.first().and_then(|reason| text(&reason.code))),
        (Tag::Confidence, confidence.map(Value::DoubleValue)),
        (Tag::LatencyMs, latency),
        (Tag::DeadlineMet, Some(Value::BooleanValue(!is_late(look)))),
        (Tag::EvidenceSha256, look.evidence.first().and_then(|crop| text(&crop.sha256))),
        (Tag::Recipe, text(&look.recipe)),
        (Tag::RecipeDigest, text(&look.digests.config)),
        (Tag::ModelDigest, text(&look.digests.model)),
    ]
    .into_iter()
    .chain(of_picture(look))
    .collect()
}

/// The figures of the picture; null where nothing was measured.
fn of_picture(look: &Inspection) -> [(Tag, Option<Value>); 3] {
    let measured = look.picture_quality.iter().map(|seen| &seen.measures);
    let widths = measured.clone().filter_map(|seen| seen.edge_widths_px.sharpest_px());
    let shifts = look.fixed_areas.iter().filter_map(|seen| Some(seen.shift.as_ref()?.px()));
    let number = |number: Option<f64>| number.filter(|n| n.is_finite()).map(Value::DoubleValue);
    [
        (Tag::PictureLumaMean, number(measured.clone().map(|seen| seen.luma_mean).next())),
        (Tag::PictureEdgeWidthPx, number(widths.reduce(f64::max))),
        (Tag::PictureShiftPx, number(shifts.reduce(f64::max))),
    ]
}

/// Results since the program started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    total: u64,
    pass: u64,
    fail: u64,
    unknown: u64,
    late: u64,
    picture_out: u64,
}

impl Counts {
    /// Counts one more.
    pub fn add(&mut self, look: &Inspection) {
        self.total += 1;
        match look.verdict.outcome {
            Outcome::Pass => self.pass += 1,
            Outcome::Fail => self.fail += 1,
            Outcome::Review => self.unknown += 1,
        }
        self.late += u64::from(is_late(look));
        self.picture_out += u64::from(look.is_picture_out());
    }

    /// The metrics.
    pub fn values(&self) -> [(Tag, Option<Value>); 6] {
        let count = |count| Some(Value::LongValue(count));
        [
            (Tag::Total, count(self.total)),
            (Tag::Pass, count(self.pass)),
            (Tag::Fail, count(self.fail)),
            (Tag::Unknown, count(self.unknown)),
            (Tag::Late, count(self.late)),
            (Tag::PictureOutOfLimits, count(self.picture_out)),
        ]
    }
}

fn is_late(look: &Inspection) -> bool {
    look.verdict.reasons.iter().any(|reason| reason.code == "late")
}

/// `text` within [`TEXT_MAX_CHARS`].
pub fn cut(text: &str) -> String {
    match text.char_indices().nth(TEXT_MAX_CHARS) {
        None => text.to_owned(),
        Some(_) => text.chars().take(TEXT_MAX_CHARS - 1).chain(['…']).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_metric_stands_in_the_table_once() {
        for (at, tag) in Tag::all().enumerate() {
            assert_eq!(tag as usize, at, "{}", tag.name());
        }
        let names: BTreeSet<String> = Tag::all().map(|tag| tag.name().to_lowercase()).collect();
        assert_eq!(names.len(), TABLE.len(), "also where case does not count");
        assert!(TABLE.len() < ALIASES_A_STATION as usize);
        let both = Tag::all().flat_map(|tag| [tag.alias(0), tag.alias(1)]);
        assert_eq!(both.collect::<BTreeSet<u64>>().len(), 2 * TABLE.len());
        // Some hosts show `/` as folders: no metric may be a folder as well.
        for folder in Tag::all().filter_map(|tag| tag.name().split_once('/')) {
            assert!(Tag::all().all(|tag| tag.name() != folder.0), "{}", folder.0);
        }
    }

    #[test]
    fn a_metric_is_found_by_alias_or_name() {
        assert_eq!(Tag::of(1, None, Some(Tag::Reset.alias(1))), Some(Tag::Reset));
        assert_eq!(Tag::of(1, None, Some(Tag::Reset.alias(0))), None, "of another station");
        assert_eq!(Tag::of(0, Some("Trigger"), None), Some(Tag::Trigger));
        assert_eq!(Tag::of(0, Some("trigger"), None), None);
        assert_eq!(Tag::of(0, None, None), None);
    }
}
