//! The daemon's state as it is served and as `inspectd top` shows it.
//!
//! A number that is not known is `null`. Members are added over time and not taken away.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Health;

/// Everything at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The program's version.
    pub version: String,
    /// The device's name.
    pub device: String,
    /// The moment.
    pub at: Timestamp,
    /// Since the program was ready, in seconds.
    pub up_s: f64,
    /// What is wrong.
    pub health: Health,
    /// The model.
    pub model: Model,
    /// Each station, in the order of their files.
    pub stations: Vec<Station>,
    /// The broker; `None`: none is configured.
    pub broker: Option<Broker>,
    /// The copy in PostgreSQL; `None`: none is configured.
    #[serde(default)]
    pub postgres: Option<Postgres>,
    /// The disk.
    pub disk: Disk,
    /// The machine.
    pub machine: Machine,
}

/// The model that decides.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Model {
    /// Its folder or file.
    pub path: String,
    /// Processor and form of numbers.
    pub computes_on: String,
    /// Bytes that it was planned with.
    pub planned_bytes: Option<u64>,
}

/// One station.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Station {
    /// Its name.
    pub name: String,
    /// The active recipe.
    pub recipe: String,
    /// The state of OPC 40100-1.
    pub state: String,
    /// A part would be taken now.
    pub ready: bool,
    /// What is broken.
    pub fault: Option<String>,
    /// Parts in hand.
    pub queue: usize,
    /// Parts that may be.
    pub queue_places: usize,
    /// Its camera.
    pub camera: Camera,
    /// Records since the program was ready.
    pub parts: Parts,
    /// The newest of them.
    pub last: Option<Last>,
    /// Median and 95th percentile of the last hundred parts that were looked at, from trigger to verdict.
    pub latency_ms: Option<[f64; 2]>,
}

/// A station's camera.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Camera {
    /// It delivers.
    pub delivers: bool,
    /// Frames that it brought.
    pub frames: u64,
    /// Frames that nobody looked at.
    pub dropped: u64,
    /// Frames that were damaged.
    pub damaged: u64,
}

/// Records by verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parts {
    /// Good.
    pub pass: u64,
    /// Bad.
    pub fail: u64,
    /// For a person to decide.
    pub review: u64,
}

/// A record, in short. Its part's name and serial are not told, as the address has no lock.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Last {
    /// When the verdict stood.
    pub at: Timestamp,
    /// The verdict.
    pub verdict: String,
    /// The first reason's code, if there is one.
    pub reason: Option<String>,
    /// From the trigger to the verdict.
    pub latency_ms: f64,
}

/// The broker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Broker {
    /// It is connected.
    pub connected: bool,
    /// Results that it has not acknowledged.
    pub unsent: u64,
    /// Results that can never be sent.
    pub quarantined: u64,
    /// How long the oldest has waited, in seconds.
    pub oldest_s: Option<f64>,
    /// Why the last connection failed.
    pub last_error: Option<String>,
}

/// The copy of the audit log in PostgreSQL.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Postgres {
    /// It is connected.
    pub connected: bool,
    /// Records of the audit log, events among them, that are not there yet.
    pub waiting: u64,
    /// How long the oldest has waited, in seconds.
    pub oldest_s: Option<f64>,
    /// Records copied since the program was ready.
    pub copied: u64,
    /// How long ago the newest were copied, in seconds.
    pub last_copy_s: Option<f64>,
    /// Records that PostgreSQL had lost, and that are copied again.
    pub lost: u64,
    /// What contradicts the log there, so that nothing is copied until a person has looked.
    pub conflict: Option<String>,
    /// Why the last connection failed.
    pub last_error: Option<String>,
}

/// Where the audit log lies.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Disk {
    /// Free bytes.
    pub free_bytes: Option<u64>,
    /// Bytes of the database.
    pub database_bytes: Option<u64>,
    /// The audit log's reserve is whole.
    pub reserve_whole: bool,
}

/// The machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// Bytes of this process in memory.
    pub memory_bytes: Option<u64>,
    /// Bytes that the machine could still give.
    pub available_bytes: Option<u64>,
    /// Degrees Celsius by sensor.
    pub temperatures_celsius: Vec<(String, f64)>,
    /// It has slowed itself down.
    pub throttled: Option<bool>,
    /// Its supply.
    #[serde(default)]
    pub power: Power,
    /// The clock follows a time source.
    pub clock_synchronized: bool,
}

/// The machine's supply, as far as it tells of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Power {
    /// The mode that the board was set to, or the processor's governor.
    pub mode: Option<String>,
    /// Watts by rail.
    pub rails_watts: Vec<(String, f64)>,
    /// The voltage is too low.
    pub under_voltage: Option<bool>,
    /// A rail draws more than it may.
    pub over_current: Option<bool>,
    /// How fast the processor may run now, as a share of what it could.
    pub clock_limit: Option<f64>,
}
