//! The permanent record of one look at one part: plain data, written once, never changed.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use uuid::Uuid;

use crate::clock::Stamp;
use crate::quality::{CODE_PREFIX, FixedMeasures, RegionMeasures};
use crate::remote::AnsweredBy;
use crate::roi::RectPx;
use crate::verdict::{Finding, Outcome, Reason, Seen, SerialFacts, Verdict};
use crate::vlm::ask::Answer;

/// The version of the record's form; a change that a reader must know of raises it.
pub const SCHEMA_VERSION: u32 = 1;

/// Everything about one inspection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Inspection {
    /// [`SCHEMA_VERSION`] when it was written.
    pub schema_version: u32,
    /// Names this result for ever; messages that are sent twice carry the same one.
    pub result_id: Uuid,
    /// The device's name.
    pub device: String,
    /// The station's name.
    pub station: String,
    /// The recipe: which product was looked for.
    pub recipe: String,
    /// Which trigger asked for the look: counts up for each station since it was set up.
    pub job_id: u64,
    /// The part, as far as it is known.
    pub part_id: String,
    /// What the controller called its trigger; `None` if no controller asked for the look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trigger_id: Option<ForeignId>,
    /// Whether and when the controller was answered.
    #[serde(flatten)]
    pub timeliness: Timeliness,
    /// The frame's number at its camera; `None` if the frame was lost.
    pub frame_sequence: Option<u64>,
    /// When the trigger fired, when the frame was taken, when the verdict stood.
    pub times: Times,
    /// What was looked at.
    pub evidence: Vec<Evidence>,
    /// What was measured on the pictures of the regions. Left out where nothing was, as in records
    /// from before this was kept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub picture_quality: Vec<RegionMeasures>,
    /// Where the fixed areas of the machine were seen. Left out where there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fixed_areas: Vec<FixedMeasures>,
    /// What was asked and answered.
    pub questions: Vec<Asked>,
    /// What the answers say.
    pub findings: Vec<Finding>,
    /// What was looked up about the serials before they were judged. Left out where there was
    /// nothing to look up, so that such a record is what it was before serials were looked up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub serial_facts: Vec<SerialFacts>,
    /// The decision.
    pub verdict: Verdict,
    /// Where the time went.
    pub timings: Timings,
    /// What decided: enough to repeat it.
    pub digests: Digests,
    /// Where the model computes in this run. `None` in records from before this was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub computed_on: Option<ComputedOn>,
    /// The picture came from a simulator or a file, not from the line.
    pub is_simulated: bool,
}

/// Whether an answer came in time, and which answers there are about one part. Each member is left
/// out where it says nothing, so that a record without them is what it was before there were any.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeliness {
    /// From the trigger to the moment by which a verdict had to stand, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
    /// Whether the first verdict about the part stood by then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_met: Option<bool>,
    /// The earlier result about the same part that this one completes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updates: Option<Uuid>,
    /// The verdict stands, though not every question has been answered: an update follows.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_partial: bool,
    /// What the verdict would have been, had it come in time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub late_outcome: Option<Outcome>,
}

/// A name that another machine gave: a whole number, or 1 to [`ForeignId::MAX_CHARS`] printable
/// characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(untagged)]
pub enum ForeignId {
    /// A number, from 0.
    Number(u64),
    /// A text.
    Text(String),
}

impl ForeignId {
    /// Longest text, in characters.
    pub const MAX_CHARS: usize = 64;

    /// Whether `text` can be a name: it comes from outside, and stands in logs and messages.
    pub fn is_name(text: &str) -> bool {
        (1..=ForeignId::MAX_CHARS).contains(&text.chars().count())
            && !text.chars().any(char::is_control)
            && !text.trim().is_empty()
    }
}

impl fmt::Display for ForeignId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ForeignId::Number(number) => write!(f, "{number}"),
            ForeignId::Text(text) => f.write_str(text),
        }
    }
}

/// Refuses what is no name, in words for whoever wrote the message.
impl<'de> Deserialize<'de> for ForeignId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ForeignId, D::Error> {
        struct Id;
        impl Visitor<'_> for Id {
            type Value = ForeignId;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number from 0, or a text of 1 to 64 printable characters")
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<ForeignId, E> {
                Ok(ForeignId::Number(number))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<ForeignId, E> {
                let unfit = |_| E::invalid_value(de::Unexpected::Signed(number), &self);
                u64::try_from(number).map(ForeignId::Number).map_err(unfit)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<ForeignId, E> {
                match ForeignId::is_name(text) {
                    true => Ok(ForeignId::Text(text.to_owned())),
                    false => Err(E::custom(
                        "an id is a whole number from 0, or a text of 1 to 64 printable characters",
                    )),
                }
            }
        }
        deserializer.deserialize_any(Id)
    }
}

/// The moments of one inspection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Times {
    /// The trigger fired.
    pub triggered: Stamp,
    /// The frame reached us; `None` if it was lost.
    pub captured: Option<Stamp>,
    /// The verdict stood.
    pub decided: Stamp,
    /// Which boot of the machine `monotonic_ns` belongs to.
    pub boot_id: String,
    /// The wall clock followed a time source.
    pub clock_synchronized: bool,
}

/// One crop, kept as a lossless file that is named by its digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// The region, a tile of it (`board.2`), or the good part that it was compared with
    /// (`board.golden`).
    pub region: String,
    /// The frame that it was cut from, where that is not the record's own: one of those that vote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frame_sequence: Option<u64>,
    /// What was cut, in pixels of the frame, or of the corrected frame where `digests` names a
    /// calibration; moved with the part, if regions move.
    pub frame_px: RectPx,
    /// SHA-256 of the file, in hexadecimal; the file is `evidence/ab/abcd….png`.
    pub sha256: String,
}

impl Evidence {
    /// What stands behind the region's name where a good part is shown for comparison.
    pub const GOLDEN: &str = ".golden";

    /// Whether it shows a good part and not the one that was inspected.
    pub fn is_golden(&self) -> bool {
        self.region.ends_with(Evidence::GOLDEN)
    }
}

/// One question with its answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Asked {
    /// The question's name.
    pub question: String,
    /// What was shown, in order, under the names of the evidence.
    pub regions: Vec<String>,
    /// The frame that was shown, where that is not the record's own: one of those that vote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frame_sequence: Option<u64>,
    /// The full prompt after the chat template.
    pub prompt: String,
    /// What came back; `None` if the question failed before an answer.
    pub answer: Option<Answer>,
    /// What went wrong.
    pub error: Option<String>,
    /// The engine elsewhere that was asked. Left out where the device's own model was the one to ask, so
    /// that such a record is what it was before there were others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered_by: Option<AnsweredBy>,
}

impl Asked {
    /// Whether the device's own model was asked: first, or in place of an engine that failed.
    pub fn is_local(&self) -> bool {
        self.answered_by.as_ref().is_none_or(|by| by.fallen_back.is_some())
    }
}

/// Milliseconds of each stage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Timings {
    /// From the trigger until the model's thread took the part.
    pub queued_ms: f64,
    /// Cutting and scaling the regions.
    pub crop_ms: f64,
    /// Measuring whether the picture can be judged by; 0 in records from before that was done.
    #[serde(default)]
    pub quality_ms: f64,
    /// All questions together.
    pub model_ms: f64,
    /// Encoding and writing the evidence files.
    pub evidence_ms: f64,
    /// From the trigger until the verdict stood: what the line waits for.
    pub latency_ms: f64,
}

/// SHA-256 digests, in hexadecimal, of what decided.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digests {
    /// The model's files; [`Digests::REMOTE`] where engines elsewhere answered everything.
    pub model: String,
    /// The station's configuration as it was read.
    pub config: String,
    /// The program's own file.
    pub program: String,
    /// The adapter of each question that has one, by the question's name. Left out where there is
    /// none, so that such a record is what it was before there were adapters.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub adapters: BTreeMap<String, String>,
    /// The camera's calibration. Left out where there is none, so that such a record is what it was
    /// before there were any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<String>,
}

impl Digests {
    /// Stands for the model's digest where no model of the device answered: what is known of the one that
    /// did stands in [`Asked::answered_by`].
    pub const REMOTE: &str = "remote";
}

/// What a model computes on. Two processors, or two precisions, may round an answer differently.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComputedOn {
    /// The processor: `cpu`, `cuda:0 (NVIDIA H100)`.
    pub processor: String,
    /// The form of the numbers: `f32`, `bf16`, `f16`.
    pub precision: String,
    /// Why it is no GPU, where one was hoped for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<String>,
}

impl Inspection {
    /// The verdict came after its deadline: whatever it is, a person must look, as the line has gone
    /// on without it. What it would have been is kept. A second call changes nothing.
    pub fn into_late(mut self, reason: Reason) -> Inspection {
        if self.timeliness.late_outcome.is_none() {
            self.timeliness.deadline_met = Some(false);
            self.timeliness.late_outcome = Some(self.verdict.outcome);
            self.verdict.outcome = Outcome::Review;
            self.verdict.reasons.insert(0, reason);
        }
        self
    }

    /// The record completes an `earlier` one about the same part.
    pub fn into_update(mut self, earlier: Uuid) -> Inspection {
        self.timeliness.updates = Some(earlier);
        self
    }

    /// The first serial number that was read, or its accepted repair, if any.
    pub fn serial(&self) -> Option<&str> {
        self.findings.iter().find_map(Finding::serial)
    }

    /// The first serial number that is proposed to a person in place of what was read.
    pub fn serial_proposed(&self) -> Option<&str> {
        self.findings.iter().find_map(|finding| match &finding.seen {
            Seen::Serial { proposed: Some(repair), .. } if !repair.accepted => {
                Some(repair.serial.as_str())
            }
            _ => None,
        })
    }

    /// Whether the picture was out of the limits of its station.
    pub fn is_picture_out(&self) -> bool {
        self.verdict.reasons.iter().any(|reason| reason.code.starts_with(CODE_PREFIX))
    }

    /// The defects that were listed.
    pub fn defects(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| matches!(finding.seen, Seen::Defect { .. }))
    }
}
