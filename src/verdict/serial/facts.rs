//! What was looked up about a reading before it was judged: plain data, kept in the record, so that
//! a rule needs neither the record nor a file and the verdict can be repeated.

use serde::{Deserialize, Serialize};

/// What is known of one reading.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SerialFacts {
    /// The characters as they were read.
    pub reading: String,
    /// What the list of expected serials says, if the station has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub list: Option<Listed>,
    /// Another part with this serial, or with one that looks like it, within the window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub earlier: Option<Earlier>,
    /// Another part with this very serial at any time, where each is expected once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<Earlier>,
    /// Why something could not be looked up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unchecked: Option<String>,
}

/// What a list of expected serials says about a reading.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// SHA-256 of the list by which it was judged, see `SerialList::digest`.
    pub digest: String,
    /// How many serials it had.
    pub entries: usize,
    /// Whether the reading is one of them.
    pub has_reading: bool,
    /// Other serials of the list that look like the reading and are well formed, at most
    /// [`Listed::LOOK_ALIKES_MAX`] of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub look_alikes: Vec<String>,
}

impl Listed {
    /// More than one is as good as many: there is no single repair then.
    pub const LOOK_ALIKES_MAX: usize = 3;
}

/// An earlier record about another part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Earlier {
    /// Its number in the record.
    pub sequence: i64,
    /// Its result's name.
    pub result_id: String,
    /// Its station.
    pub station: String,
    /// The part that it is about.
    pub part_id: String,
    /// The serial that it has.
    pub serial: String,
}

/// How far back another part with the same serial counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// Milliseconds.
    Time {
        /// How many.
        ms: i64,
    },
    /// The latest parts.
    Parts {
        /// How many.
        count: u64,
    },
    /// The whole record.
    Always,
}

/// Whose records count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// Those of the same station.
    #[default]
    Station,
    /// Those of all stations of the device.
    Device,
}

/// A question to the record: has another part one of these serials?
#[derive(Clone, Debug)]
pub struct EarlierQuery<'q> {
    /// The station that asks.
    pub station: &'q str,
    /// The part that was looked at: its own earlier records do not count.
    pub part_id: &'q str,
    /// Its job number, from which a window of parts counts back; `None`: the station's next.
    pub job_id: Option<u64>,
    /// The serial; a record with it comes before one with a look-alike.
    pub serial: &'q str,
    /// The serial and its look-alikes.
    pub texts: &'q [String],
    /// How far back.
    pub window: Window,
    /// Whose records.
    pub scope: Scope,
    /// The present moment in milliseconds since 1970; `None` if the clock follows no time source.
    pub now_ms: Option<i64>,
    /// Simulated records count for simulated parts alone, and the others for the others.
    pub is_simulated: bool,
}
