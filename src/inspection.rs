//! The permanent record of one look at one part: plain data, written once, never changed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::clock::Stamp;
use crate::roi::RectPx;
use crate::verdict::{Finding, Seen, SerialFacts, Verdict};
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
    /// The frame's number at its camera; `None` if the frame was lost.
    pub frame_sequence: Option<u64>,
    /// When the trigger fired, when the frame was taken, when the verdict stood.
    pub times: Times,
    /// What was looked at.
    pub evidence: Vec<Evidence>,
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
    /// The picture came from a simulator or a file, not from the line.
    pub is_simulated: bool,
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
    /// The region.
    pub region: String,
    /// What was cut, in frame pixels.
    pub frame_px: RectPx,
    /// SHA-256 of the file, in hexadecimal; the file is `evidence/ab/abcd….png`.
    pub sha256: String,
}

/// One question with its answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Asked {
    /// The question's name.
    pub question: String,
    /// The regions shown, in order.
    pub regions: Vec<String>,
    /// The full prompt after the chat template.
    pub prompt: String,
    /// What came back; `None` if the question failed before an answer.
    pub answer: Option<Answer>,
    /// What went wrong.
    pub error: Option<String>,
}

/// Milliseconds of each stage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Timings {
    /// From the trigger until the model's thread took the part.
    pub queued_ms: f64,
    /// Cutting and scaling the regions.
    pub crop_ms: f64,
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
    /// The model's files.
    pub model: String,
    /// The station's configuration as it was read.
    pub config: String,
    /// The program's own file.
    pub program: String,
    /// The adapter of each question that has one, by the question's name. Left out where there is
    /// none, so that such a record is what it was before there were adapters.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub adapters: BTreeMap<String, String>,
}

impl Inspection {
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

    /// The defects that were listed.
    pub fn defects(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| matches!(finding.seen, Seen::Defect { .. }))
    }
}
