//! The contract with the line's controller (PLC): what it may ask, what it is told, and when.
//!
//! ```text
//! payload ─parse→ Command ─Contract→ Reply, and what is to be done (Task)
//!                            ├ Machine   the state of OPC 40100-1
//!                            ├ Bucket    not more than so many commands
//!                            ├ Accepted  which triggers were accepted: each is inspected once
//!                            └ Ring      results that the controller has not acknowledged
//! part ─Turn→ who answers first: the model, or the deadline
//! ```
//!
//! Nothing here knows a wire, a camera, a model or a database, and nothing reads a clock: time is
//! handed in. So each sequence of commands can be tried without any of them.

pub mod command;
pub mod contract;
pub mod deadline;
pub mod message;
pub mod packml;
pub mod rate;
pub mod refusal;
pub mod ring;
pub mod seen;
pub mod state;

use std::time::Duration;

pub use command::{Command, CommandName, Trigger};
pub use contract::{Contract, Job, Outcome, Task};
pub use deadline::{Deadlines, Turn};
pub use message::{Event, Reply, StateMessage};
pub use packml::LineState;
pub use refusal::{Code, Refusal};
pub use ring::{Acknowledged, Ring};
pub use state::{Change, Machine, State};

/// What a station has agreed with its controller.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Results wait, in order, until the controller acknowledges them.
    pub acknowledge: bool,
    /// Results that may wait; with so many, no trigger is accepted. 8 to 1024.
    pub ring: usize,
    /// A verdict that stands before every question is answered is told at once.
    pub partial: bool,
    /// From one heartbeat to the next.
    pub heartbeat: Duration,
    /// Commands accepted a second; twice as many at once.
    pub commands_per_s: u32,
    /// Parts are inspected even while the line does not execute.
    pub inspect_when_stopped: bool,
    /// The recipe that was active is active again after a start.
    pub keep_recipe: bool,
    /// How long the model may go on with a part whose deadline has passed, for the full answer.
    pub finish_late: Duration,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            acknowledge: false,
            ring: 8,
            partial: false,
            heartbeat: Duration::from_secs(1),
            commands_per_s: 20,
            inspect_when_stopped: false,
            keep_recipe: true,
            finish_late: Duration::from_secs(10),
        }
    }
}

/// Knows what the next part of a station should be; the command `expect` is for it.
pub trait ExpectHandler: Send + Sync + std::fmt::Debug {
    /// Takes the payload of `cmd/expect` for `station`: at most [`command::PAYLOAD_MAX_BYTES`], and
    /// hostile until checked. Must not wait.
    fn expect(&self, station: &str, payload: &[u8]) -> Result<(), Refusal>;
}

/// Fewest and most results in a ring.
pub const RING_RANGE: std::ops::RangeInclusive<usize> = 8..=1024;
