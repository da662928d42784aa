//! The wire form: one inspection as flat JSON, with names from OPC 40100-1 where it has one.
//!
//! Scalars stand first and flat, as a PLC's JSON reader is small; arrays come last and are bounded.
//! Every text is bounded, so a packet is: [`PAYLOAD_MAX_BYTES`]. What is cut here stands in full in
//! the record, under the same `result_id`. `schema/result.schema.json` describes the form
//! as it is sent: with the member that [`super::envelope`] puts before these.

use std::collections::BTreeMap;

use base64::prelude::{BASE64_STANDARD, Engine};
use serde::Serialize;

use super::inbox::Reply;
use super::options::PublishOptions;
use super::schema::{self, Schema};
use super::topics::{Kind, NAME_MAX_CHARS, NameError, Topics};
use super::transport::{Packet, Properties};
use crate::clock::Stamp;
use crate::inspection::{ForeignId, Inspection, SCHEMA_VERSION};
use crate::store::{Anchor, OutboxMessage, TopicKind};
use crate::verdict::{Outcome, Seen};

/// The form of every payload.
pub const CONTENT_TYPE: &str = "application/json";

/// No payload without a thumbnail is longer, in bytes: all texts at their bound, every character
/// escaped.
pub const PAYLOAD_MAX_BYTES: usize = 32 * 1024;

/// Longest text in a message, in characters; a longer one ends in `…`.
const TEXT_MAX_CHARS: usize = 128;

/// Longest reason in words, in characters.
const REASON_MAX_CHARS: usize = 300;

/// Longest word (class, severity, location, reason code), in characters.
const WORD_MAX_CHARS: usize = 48;

/// Most defects listed; `defect_count` counts all.
const DEFECTS_MAX: usize = 16;

/// Most reason codes listed.
const REASONS_MAX: usize = 16;

/// One result as it goes out. The order of the fields is the order on the wire.
#[derive(Debug, Serialize)]
struct ResultMessage<'i> {
    schema_version: u32,
    verdict: &'static str,
    verdict_code: u8,
    result_id: String,
    trigger_id: Option<&'i ForeignId>,
    job_id: u64,
    part_id: String,
    is_partial: bool,
    updates: Option<String>,
    deadline_met: Option<bool>,
    deadline_ms: Option<u64>,
    late_outcome: Option<&'static str>,
    recipe_id: String,
    station: String,
    device: String,
    serial: Option<String>,
    /// Left out where nothing is proposed.
    #[serde(skip_serializing_if = "Option::is_none")]
    serial_proposed: Option<String>,
    defect_count: usize,
    creation_time: String,
    latency_ms: Option<f64>,
    is_simulated: bool,
    clock_synchronized: bool,
    evidence_sha256: Option<&'i str>,
    reasons: Vec<String>,
    defects: Vec<DefectMessage>,
    /// The last member, always: [`super::envelope`] cuts it off where it makes a message too long.
    #[serde(skip_serializing_if = "Option::is_none")]
    thumbnail: Option<String>,
}

#[derive(Debug, Serialize)]
struct DefectMessage {
    class: String,
    severity: String,
    location: String,
}

/// The message that tells of `inspection`, to be committed with it.
pub fn result(inspection: &Inspection) -> OutboxMessage {
    result_with_thumbnail(inspection, None)
}

/// As [`result`], with a small picture (JPEG) of what was looked at first.
pub fn result_with_thumbnail(inspection: &Inspection, jpeg: Option<&[u8]>) -> OutboxMessage {
    let look = inspection;
    let timeliness = &look.timeliness;
    let message = ResultMessage {
        schema_version: SCHEMA_VERSION,
        verdict: look.verdict.outcome.as_str(),
        verdict_code: look.verdict.outcome.code(),
        result_id: look.result_id.to_string(),
        trigger_id: look.trigger_id.as_ref(),
        job_id: look.job_id,
        part_id: cut(&look.part_id, TEXT_MAX_CHARS),
        is_partial: timeliness.is_partial,
        updates: timeliness.updates.map(|earlier| earlier.to_string()),
        deadline_met: timeliness.deadline_met,
        deadline_ms: timeliness.deadline_ms,
        late_outcome: timeliness.late_outcome.map(Outcome::as_str),
        recipe_id: cut(&look.recipe, TEXT_MAX_CHARS),
        station: cut(&look.station, NAME_MAX_CHARS),
        device: cut(&look.device, NAME_MAX_CHARS),
        serial: look.serial().map(|serial| cut(serial, TEXT_MAX_CHARS)),
        serial_proposed: look.serial_proposed().map(|serial| cut(serial, TEXT_MAX_CHARS)),
        defect_count: look.defects().count(),
        creation_time: time_text(&look.times.decided),
        latency_ms: rounded(look.timings.latency_ms),
        is_simulated: look.is_simulated,
        clock_synchronized: look.times.clock_synchronized,
        evidence_sha256: look.evidence.first().map(|crop| crop.sha256.as_str()),
        reasons: reasons(look),
        defects: defects(look),
        thumbnail: jpeg.map(|bytes| BASE64_STANDARD.encode(bytes)),
    };
    let payload = serde_json::to_vec(&message).expect("texts, numbers and flags have a JSON form");
    OutboxMessage { kind: TopicKind::Result, payload }
}

/// Why: each code once, the worst first.
fn reasons(look: &Inspection) -> Vec<String> {
    let mut codes: Vec<String> = Vec::new();
    for reason in &look.verdict.reasons {
        let code = cut(&reason.code, WORD_MAX_CHARS);
        if codes.len() < REASONS_MAX && !codes.contains(&code) {
            codes.push(code);
        }
    }
    codes
}

fn defects(look: &Inspection) -> Vec<DefectMessage> {
    let word = |text: &str| cut(text, WORD_MAX_CHARS);
    let seen = look.defects().filter_map(|finding| match &finding.seen {
        Seen::Defect { class, severity, location } => Some(DefectMessage {
            class: word(class),
            severity: word(severity),
            location: word(location),
        }),
        _ => None,
    });
    seen.take(DEFECTS_MAX).collect()
}

/// Whether the device is there.
#[derive(Debug, Serialize)]
struct StatusMessage<'s> {
    schema_version: u32,
    device: &'s str,
    online: bool,
    /// `running`, `stopped` (on purpose), or `connection_lost` (the broker's word, not ours).
    reason: &'static str,
    /// When it was written; null in a last will, which is written before it is true.
    creation_time: Option<String>,
    program_version: &'static str,
    stations: &'s [String],
}

/// What a status message says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Connected and at work, at this moment.
    Online(Stamp),
    /// Stopped on purpose, at this moment.
    Stopped(Stamp),
    /// What the broker says if the connection breaks.
    Lost,
}

/// The payload of the status topic.
pub fn status(device: &str, stations: &[String], status: Status) -> Vec<u8> {
    let (online, reason, moment) = match &status {
        Status::Online(moment) => (true, "running", Some(moment)),
        Status::Stopped(moment) => (false, "stopped", Some(moment)),
        Status::Lost => (false, "connection_lost", None),
    };
    let message = StatusMessage {
        schema_version: SCHEMA_VERSION,
        device,
        online,
        reason,
        creation_time: moment.map(time_text),
        program_version: env!("CARGO_PKG_VERSION"),
        stations,
    };
    serde_json::to_vec(&message).expect("texts, numbers and flags have a JSON form")
}

/// Makes packets: where each kind of message goes, and what it says about itself.
#[derive(Clone, Debug)]
pub struct Packets {
    topics: Topics,
    expiry_s: BTreeMap<Kind, u32>,
}

impl Packets {
    /// For the device of `options`.
    pub fn new(options: &PublishOptions) -> Result<Packets, NameError> {
        let topics = Topics::new(&options.prefix, &options.device)?;
        Ok(Packets { topics, expiry_s: options.expiry_s.clone() })
    }

    /// The topics of the device.
    pub fn topics(&self) -> &Topics {
        &self.topics
    }

    /// The packet that carries `payload` to its topic, at QoS 1.
    pub fn packet(&self, kind: Kind, station: Option<&str>, payload: Vec<u8>) -> Packet {
        Packet {
            topic: self.topics.of(kind, station),
            payload,
            retain: kind.is_retained(),
            properties: self.properties(kind),
            ..Packet::default()
        }
    }

    /// The packet that keeps `schema` at the broker.
    pub fn schema(&self, schema: &Schema) -> Packet {
        let properties = Properties {
            content_type: Some("application/schema+json"),
            schema: None,
            ..Properties::default()
        };
        Packet {
            topic: self.topics.schema(schema.name),
            payload: schema::compact(schema),
            retain: true,
            properties,
            ..Packet::default()
        }
    }

    /// The packet of an answer to a command.
    pub fn reply(&self, reply: Reply) -> Packet {
        let mut properties = self.properties(Kind::Reply);
        properties.schema = Some(reply.schema);
        properties.correlation = reply.correlation;
        Packet { topic: reply.topic, payload: reply.payload, properties, ..Packet::default() }
    }

    fn properties(&self, kind: Kind) -> Properties {
        Properties {
            content_type: Some(CONTENT_TYPE),
            schema: Some(kind.schema()),
            expiry_s: self.expiry_s.get(&kind).copied(),
            correlation: None,
        }
    }
}

/// The head of the audit log as it goes out: the anchor itself, so that what a broker kept can be
/// given to `inspectd audit verify --anchor` as it is.
#[derive(Debug, Serialize)]
struct ChainHeadMessage<'a> {
    schema_version: u32,
    creation_time: String,
    #[serde(flatten)]
    anchor: &'a Anchor,
}

/// The payload of the chain topic. The same head has the same bytes.
pub fn chain_head(anchor: &Anchor) -> Vec<u8> {
    let wall = jiff::Timestamp::from_millisecond(anchor.wall_ms).unwrap_or_default();
    let message = ChainHeadMessage {
        schema_version: SCHEMA_VERSION,
        creation_time: time_text(&Stamp { wall, monotonic_ns: 0 }),
        anchor,
    };
    serde_json::to_vec(&message).expect("texts and numbers have a JSON form")
}

/// How a station's camera is.
#[derive(Clone, Copy, Debug)]
pub struct CameraNews<'a> {
    /// Which.
    pub station: &'a str,
    /// `opening`, `delivers`, `lost` or `ended`.
    pub state: &'static str,
    /// In which way it was lost, and in words.
    pub loss: Option<(&'static str, &'a str)>,
    /// Since when.
    pub since: Stamp,
    /// Frames that came, were replaced before anyone looked, were damaged, were cut short.
    pub frames: [u64; 4],
    /// How often it was lost, in each way.
    pub losses: &'a [(&'static str, u64)],
}

#[derive(Debug, Serialize)]
struct CameraMessage<'a> {
    schema_version: u32,
    creation_time: String,
    station: &'a str,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    since_time: String,
    frames: u64,
    frames_replaced: u64,
    frames_damaged: u64,
    frames_partial: u64,
    losses: BTreeMap<&'static str, u64>,
}

/// The payload of the camera topic.
pub fn camera(news: &CameraNews<'_>, now: &Stamp) -> Vec<u8> {
    let [frames, frames_replaced, frames_damaged, frames_partial] = news.frames;
    let message = CameraMessage {
        schema_version: SCHEMA_VERSION,
        creation_time: time_text(now),
        station: news.station,
        state: news.state,
        kind: news.loss.map(|(kind, _)| kind),
        reason: news.loss.map(|(_, reason)| cut(reason, REASON_MAX_CHARS)),
        since_time: time_text(&news.since),
        frames,
        frames_replaced,
        frames_damaged,
        frames_partial,
        losses: news.losses.iter().copied().filter(|(_, count)| *count > 0).collect(),
    };
    serde_json::to_vec(&message).expect("texts and numbers have a JSON form")
}

/// RFC 3339, UTC, always three digits of milliseconds: a PLC may cut it by position.
fn time_text(moment: &Stamp) -> String {
    moment.wall.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

/// To a tenth of a millisecond; what is not a number is null.
fn rounded(ms: f64) -> Option<f64> {
    ms.is_finite().then(|| (ms * 10.0).round() / 10.0)
}

fn cut(text: &str, max_chars: usize) -> String {
    match text.char_indices().nth(max_chars) {
        None => text.to_owned(),
        Some(_) => text.chars().take(max_chars - 1).chain(['…']).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_to_its_bound_and_says_so() {
        assert_eq!(cut("abc", 3), "abc");
        assert_eq!(cut("abcd", 3), "ab…");
        assert_eq!(cut(&"ä".repeat(200), 128).chars().count(), 128);
    }

    #[test]
    fn a_time_has_three_digits_of_milliseconds() {
        let wall = jiff::Timestamp::from_millisecond(1_784_000_000_000).expect("in range");
        assert_eq!(time_text(&Stamp { wall, monotonic_ns: 0 }), "2026-07-14T03:33:20.000Z");
    }
}
