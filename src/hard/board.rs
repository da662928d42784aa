//! What one station shows: the part that was triggered last, and what is known of it.
//!
//! | what happened                                      | the verdict shown                       |
//! |----------------------------------------------------|-----------------------------------------|
//! | a part is triggered, or refused, or passed over    | none                                    |
//! | the first record of the newest part is committed   | its own; a pass only if in time and full |
//! | an update of it is committed                       | unchanged                               |
//! | a record of an older part is committed             | unchanged; it joins the list of results |
//! | the station is not prepared (fault, recipe, stop)  | none, and the list is empty             |
//! | nobody has beaten for [`ALIVE_NS`]                 | none, and the list is empty             |

use std::collections::VecDeque;

use crate::inspection::{ForeignId, Inspection};
use crate::plc::message::Fault;
use crate::plc::{Code, State, StateMessage};
use crate::verdict::Outcome;

/// How long a beat proves that the station is alive, in nanoseconds.
pub const ALIVE_NS: u64 = 2_000_000_000;

/// Results that stay in the list, whatever part they are of.
pub const RESULTS: usize = 4;

/// A part that was triggered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// The number of the look; counts up in each station.
    pub job_id: u64,
    /// What the controller called its trigger.
    pub trigger_id: Option<ForeignId>,
    /// The part; empty while it has no name.
    pub part_id: String,
    /// From the trigger to the verdict, in milliseconds.
    pub deadline_ms: u64,
    /// The same as a moment of the monotonic clock, in nanoseconds.
    pub deadline_ns: u64,
}

/// A verdict as outputs show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The number of the look.
    pub job_id: u64,
    /// What the controller called its trigger.
    pub trigger_id: Option<ForeignId>,
    /// What to do with the part. `Pass` only if it was told in time, whole, and for the first time.
    pub outcome: Outcome,
    /// The deadline had passed before it could be shown.
    pub is_late: bool,
    /// From the trigger to the verdict, in milliseconds.
    pub latency_ms: u32,
    /// When it could be shown, by the monotonic clock in nanoseconds.
    pub at_ns: u64,
}

/// The station's state, as far as outputs show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// The state of OPC 40100-1.
    pub state: State,
    /// A part would be taken now.
    pub ready: bool,
    /// At least one part is in hand.
    pub busy: bool,
    /// What is broken.
    pub fault: Option<Fault>,
    /// Why no part would be taken.
    pub not_ready: Option<Code>,
    /// The camera delivers nothing.
    pub camera_lost: bool,
    /// The active recipe.
    pub recipe_index: u32,
    /// Parts in hand.
    pub in_hand: usize,
}

impl Default for Status {
    fn default() -> Status {
        Status {
            state: State::Preoperational,
            ready: false,
            busy: false,
            fault: None,
            not_ready: Some(Code::NotReady),
            camera_lost: false,
            recipe_index: 0,
            in_hand: 0,
        }
    }
}

impl From<&StateMessage> for Status {
    fn from(message: &StateMessage) -> Status {
        Status {
            state: message.state,
            ready: message.ready,
            busy: message.busy,
            fault: message.fault_reason,
            not_ready: message.not_ready_reason,
            camera_lost: message.camera_lost,
            recipe_index: message.recipe_index,
            in_hand: message.queue,
        }
    }
}

/// One station's board. Moments are nanoseconds of the monotonic clock, handed in.
#[derive(Clone, Debug, Default)]
pub struct Board {
    status: Status,
    /// `None`: none yet, or the newest part was one that nobody looks at.
    newest: Option<Part>,
    /// A record of it was committed: there is no second first word.
    is_told: bool,
    verdict: Option<Shown>,
    /// The newest first.
    results: VecDeque<Shown>,
    /// The newest number that was seen. Numbers are given in order and told by several threads.
    last_job: u64,
    sequence: u16,
    beat: u16,
    beaten_ns: Option<u64>,
}

impl Board {
    /// The station's state as it is now.
    pub fn set_status(&mut self, status: Status) {
        if self.status == status {
            return;
        }
        self.status = status;
        if !status.state.is_prepared() {
            self.take_back();
        }
        self.touch();
    }

    /// The part number `job_id` is before the camera: what was said of the one before it is over.
    pub fn trigger(&mut self, job_id: u64) {
        if job_id > self.last_job {
            self.set_newest(Part { job_id, ..Part::default() });
        }
    }

    /// `part`, perhaps one that was told of as triggered, will be looked at.
    pub fn begin(&mut self, part: Part) {
        let is_known = self.newest.as_ref().is_some_and(|newest| newest.job_id == part.job_id);
        if is_known && !self.is_told {
            self.newest = Some(part);
            self.touch();
        } else if part.job_id > self.last_job {
            self.set_newest(part);
        }
    }

    /// A part is before the camera, and nobody will look at it.
    pub fn pass_over(&mut self) {
        self.newest = None;
        self.verdict = None;
        self.touch();
    }

    /// The record of `look` was committed.
    pub fn record(&mut self, look: &Inspection, now_ns: u64) {
        if look.timeliness.updates.is_some() {
            return; // the first word about a part stands
        }
        let shown = Shown::of(look, now_ns);
        if shown.job_id > self.last_job {
            // Nobody began it: it was missed.
            let part_id = look.part_id.clone();
            let trigger_id = look.trigger_id.clone();
            self.set_newest(Part { trigger_id, part_id, ..Part::at(shown.job_id) });
        }
        let is_newest = self.newest.as_ref().is_some_and(|part| part.job_id == shown.job_id);
        let is_first = is_newest && !self.is_told;
        self.is_told |= is_newest;
        if !self.status.state.is_prepared() {
            return;
        }
        if is_first {
            self.verdict = Some(shown.clone());
        }
        self.results.push_front(shown);
        self.results.truncate(RESULTS);
        self.touch();
    }

    /// The station's desk is alive at `now_ns`.
    pub fn beat(&mut self, now_ns: u64) {
        if !self.is_alive(now_ns) {
            self.take_back();
        }
        self.beat = self.beat.wrapping_add(1);
        self.beaten_ns = Some(now_ns);
    }

    /// Whether the desk has beaten lately.
    pub fn is_alive(&self, now_ns: u64) -> bool {
        self.beaten_ns.is_some_and(|beaten| now_ns.saturating_sub(beaten) <= ALIVE_NS)
    }

    /// Whether anything may be said of parts.
    fn may_tell(&self, now_ns: u64) -> bool {
        self.status.state.is_prepared() && self.is_alive(now_ns)
    }

    /// The verdict on the newest part, if there is one to be shown.
    pub fn verdict(&self, now_ns: u64) -> Option<&Shown> {
        self.verdict.as_ref().filter(|_| self.may_tell(now_ns))
    }

    /// The newest results, whatever part they are of, the newest first.
    pub fn results(&self, now_ns: u64) -> impl Iterator<Item = &Shown> {
        let most = if self.may_tell(now_ns) { RESULTS } else { 0 };
        self.results.iter().take(most)
    }

    /// The part that was triggered last.
    pub fn newest(&self) -> Option<&Part> {
        self.newest.as_ref()
    }

    /// The station's state.
    pub fn status(&self) -> &Status {
        &self.status
    }

    /// Counts beats, round and round.
    pub fn beats(&self) -> u16 {
        self.beat
    }

    /// Changes with everything that is shown but the beats and the time that is left.
    pub fn sequence(&self) -> u16 {
        self.sequence
    }

    /// Says nothing of any part: what was said is not shown again when all is well again, as by then
    /// the part is elsewhere.
    fn take_back(&mut self) {
        self.verdict = None;
        self.results.clear();
        self.touch();
    }

    fn set_newest(&mut self, part: Part) {
        self.last_job = part.job_id;
        self.newest = Some(part);
        self.is_told = false;
        self.verdict = None;
        self.touch();
    }

    fn touch(&mut self) {
        self.sequence = self.sequence.wrapping_add(1);
    }
}

impl Part {
    /// A part of which nothing is known but its number.
    fn at(job_id: u64) -> Part {
        Part { job_id, ..Part::default() }
    }
}

impl Shown {
    /// What is shown of `look` at `now_ns`. The record may say pass where this does not: it says when
    /// the verdict stood, and whoever acts on an output needs it to be there in time.
    fn of(look: &Inspection, now_ns: u64) -> Shown {
        let told = &look.timeliness;
        let due_ns = told.deadline_ms.map_or(0, |ms| {
            look.times.triggered.monotonic_ns.saturating_add(ms.saturating_mul(1_000_000))
        });
        let is_late = told.deadline_met != Some(true) || now_ns > due_ns;
        let outcome = match look.verdict.outcome {
            Outcome::Pass | Outcome::Fail if is_late => Outcome::Review,
            Outcome::Pass if told.is_partial || told.late_outcome.is_some() => Outcome::Review,
            outcome => outcome,
        };
        Shown {
            job_id: look.job_id,
            trigger_id: look.trigger_id.clone(),
            outcome,
            is_late,
            latency_ms: look.timings.latency_ms as u32,
            at_ns: now_ns,
        }
    }
}
