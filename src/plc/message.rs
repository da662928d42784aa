//! What the controller is told beside results: replies, the state, events, the heartbeat. Flat
//! scalars, every text bounded. `publish/schema/*.json` describe the forms.

use serde::Serialize;

use super::command::{CommandName, Ids};
use super::packml::LineState;
use super::refusal::{Code, Refusal};
use super::state::State;
use crate::clock::Stamp;
use crate::inspection::ForeignId;

/// The version of these forms; rises when a member changes its meaning.
pub const VERSION: u32 = 1;

/// The answer to one command.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Reply {
    schema_version: u32,
    /// Whether it is carried out.
    pub accepted: bool,
    /// Why not.
    pub reason: Option<Code>,
    /// The same in a sentence.
    pub text: String,
    command: String,
    request_id: Option<ForeignId>,
    trigger_id: Option<ForeignId>,
    part_id: Option<String>,
    /// Of a trigger that was accepted: the number under which its results come.
    pub job_id: Option<u64>,
    /// It was accepted before: nothing is done again.
    pub duplicate: bool,
    /// Of a change of recipe: the one that is active now.
    pub recipe_index: Option<u32>,
}

impl Reply {
    /// The command is carried out.
    pub fn accept(name: CommandName, ids: Ids) -> Reply {
        Reply {
            schema_version: VERSION,
            accepted: true,
            reason: None,
            text: String::new(),
            command: name.as_str().to_owned(),
            request_id: ids.request_id,
            trigger_id: ids.trigger_id,
            part_id: ids.part_id,
            job_id: None,
            duplicate: false,
            recipe_index: None,
        }
    }

    /// The command called `name` is not carried out.
    pub fn refuse(name: &str, ids: Ids, refusal: Refusal) -> Reply {
        Reply {
            accepted: false,
            reason: Some(refusal.code),
            text: refusal.text,
            command: name.chars().filter(|c| !c.is_control()).take(32).collect(),
            ..Reply::accept(CommandName::Reset, ids)
        }
    }

    /// The same reply, if the command cannot be carried out after all.
    pub fn refused(self, refusal: Refusal) -> Reply {
        Reply { accepted: false, reason: Some(refusal.code), text: refusal.text, ..self }
    }

    /// The bytes to send.
    pub fn payload(&self) -> Vec<u8> {
        payload(self)
    }
}

/// What the station is doing, kept for whoever asks.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StateMessage {
    pub(super) schema_version: u32,
    /// The state of OPC 40100-1.
    pub state: State,
    /// A part would be taken now: asked for, or found.
    pub ready: bool,
    /// At least one part is in hand.
    pub busy: bool,
    /// Something is broken.
    pub fault: bool,
    /// What, as a fixed word.
    pub fault_reason: Option<Fault>,
    /// The same in a sentence.
    pub fault_text: Option<String>,
    /// Why none would be taken, as a fixed word.
    pub not_ready_reason: Option<Code>,
    /// The active recipe's name.
    pub recipe: String,
    /// Its index.
    pub recipe_index: u32,
    /// `single`: parts are asked for; `continuous`: the station finds them.
    pub mode: &'static str,
    /// Parts in hand.
    pub queue: usize,
    /// Parts that may be in hand.
    pub queue_places: usize,
    /// Results that wait to be acknowledged.
    pub pending_acks: usize,
    /// What the machine is doing, as far as it was told.
    pub line_state: Option<LineState>,
    /// The camera delivers no pictures. While the line does not execute, that is no fault.
    pub camera_lost: bool,
    /// Since when `state` is what it is, UTC.
    pub since: String,
    /// The station.
    pub station: String,
}

impl StateMessage {
    /// The bytes to send.
    pub fn payload(&self) -> Vec<u8> {
        payload(self)
    }
}

/// What may be broken. The gravest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// The record cannot be written: the program stops.
    RecordNotWritable,
    /// A hard output cannot be driven, or no longer answers.
    OutputFailed,
    /// The camera delivers no pictures.
    CameraLost,
    /// The photo eye or its encoder tells nothing: no part is seen.
    TriggerFailed,
    /// The model failed on several parts in a row.
    ModelFailing,
}

impl Fault {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Fault::RecordNotWritable => "record_not_writable",
            Fault::OutputFailed => "output_failed",
            Fault::CameraLost => "camera_lost",
            Fault::TriggerFailed => "trigger_failed",
            Fault::ModelFailing => "model_failing",
        }
    }
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum EventName {
    /// A trigger was accepted.
    JobStarted,
    /// The picture of a part was taken: the part may move.
    AcquisitionDone,
    /// A result is in the record, and will be sent.
    ResultReady,
    /// A result was acknowledged.
    ResultAcknowledged,
    /// A command was refused.
    CommandRefused,
    /// Another recipe is active.
    RecipeChanged,
    /// The machine does something else.
    LineStateChanged,
    /// Something broke.
    FaultRaised,
    /// It is whole again.
    FaultCleared,
    /// The camera delivers no pictures while the line stands: no fault.
    CameraLostWhileStopped,
    /// A part went by while the line stood, and was not looked at.
    PartIgnoredWhileStopped,
    /// The first picture that cannot be judged by, after one that could: parts go to review.
    PictureOutOfLimits,
    /// A picture can be judged by again.
    PictureWithinLimits,
    /// A measure of the pictures has come near to its limit.
    PictureDrifted,
    /// It has gone back.
    PictureDriftEnded,
}

/// One event.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Event {
    schema_version: u32,
    /// What happened.
    pub event: EventName,
    pub(super) station: String,
    pub(super) creation_time: String,
    /// What the controller called the trigger.
    pub trigger_id: Option<ForeignId>,
    /// The part.
    pub part_id: Option<String>,
    /// The number of the look.
    pub job_id: Option<u64>,
    /// The result.
    pub result_id: Option<String>,
    /// A fixed word: a refusal's, a fault's, the line's state.
    pub reason: Option<String>,
    /// A sentence.
    pub text: String,
}

impl Event {
    /// `event` of `station`, at `now`.
    pub fn new(event: EventName, station: &str, now: &Stamp) -> Event {
        Event {
            schema_version: VERSION,
            event,
            station: station.to_owned(),
            creation_time: time_text(now),
            trigger_id: None,
            part_id: None,
            job_id: None,
            result_id: None,
            reason: None,
            text: String::new(),
        }
    }

    /// The bytes to send.
    pub fn payload(&self) -> Vec<u8> {
        payload(self)
    }
}

/// The program runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Heartbeat<'s> {
    schema_version: u32,
    counter: u64,
    station: &'s str,
    creation_time: String,
}

/// The bytes of the heartbeat with this number.
pub fn heartbeat(station: &str, counter: u64, now: &Stamp) -> Vec<u8> {
    let creation_time = time_text(now);
    payload(&Heartbeat { schema_version: VERSION, counter, station, creation_time })
}

/// What stands in the place of the oldest unacknowledged result when there is none.
pub fn nothing_pending() -> Vec<u8> {
    format!("{{\"schema_version\":{VERSION},\"result_id\":null}}").into_bytes()
}

/// RFC 3339, UTC, to the millisecond.
pub(super) fn time_text(moment: &Stamp) -> String {
    moment.wall.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

fn payload(message: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(message).expect("texts, numbers and flags have a JSON form")
}
