//! inspectd inspects parts on a production line with a vision-language model, on the device at the
//! line.
//!
//! Data moves one way, and each arrow is one function:
//!
//! ```text
//! camera ─Frame→ trigger ─Part→ roi::cut ─Crop→ vlm ─Answer→ verdict::read ─Finding*→ verdict::judge
//!   ─Verdict→ inspector ─Inspection→ store::commit ─Message→ publish ─PUBACK→ mark sent
//! ```
//!
//! The rooms below stand in that order. None knows what stands after it.

pub mod bench;
pub mod builtin;
pub mod calibration;
pub mod camera;
pub mod capacity;
pub mod cli;
pub mod clock;
pub mod config;
pub mod credential;
pub mod daemon;
pub mod evaluate;
pub mod expected;
pub mod fault;
pub mod fitness;
pub mod footage;
pub mod frame;
pub mod hard;
pub mod inspection;
pub mod inspector;
pub mod platform;
pub mod plc;
pub mod provenance;
pub mod publish;
pub mod quality;
pub mod remote;
pub mod roi;
pub mod service;
pub mod simulate;
pub mod sparkplug;
pub mod station;
pub mod store;
pub mod telemetry;
pub mod traces;
pub mod trigger;
pub mod upstream;
pub mod verdict;
pub mod vlm;
pub mod web;
