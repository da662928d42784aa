//! What is true of a station beside its commands: faults, the line, results that wait.

use super::super::message::{EventName, Fault, Reply, time_text};
use super::super::packml::LineState;
use super::super::refusal::{Code, Refusal};
use super::super::ring::{Ring, Waiting};
use super::super::state::{Conditions, State};
use super::{Contract, MODEL_FAILURES};
use crate::clock::Stamp;
use crate::inspection::Inspection;

/// Longest text of a fault, in characters.
const TEXT_MAX: usize = 200;

impl Contract {
    /// The program is at work.
    pub fn start(&mut self, now: &Stamp) {
        self.started = true;
        self.settle(now);
    }

    /// The program stops, or the station's pictures have come to their end: no trigger is accepted
    /// any more.
    pub fn halt(&mut self, now: &Stamp) {
        self.halted = true;
        self.settle(now);
    }

    /// Whether the machine makes parts, as far as we were told: only then is a missing picture a
    /// fault.
    pub fn is_producing(&self) -> bool {
        self.line.is_none_or(LineState::is_producing)
    }

    /// Whether a part that the station found itself is to be inspected.
    pub fn inspects(&self) -> bool {
        self.is_producing() || self.terms.options.inspect_when_stopped
    }

    /// Whether the recipe is about to change: what is found meanwhile cannot be judged.
    pub fn is_changing(&self) -> bool {
        self.switch.is_some()
    }

    /// The camera delivers nothing. Answers whether that is a fault.
    pub fn camera_lost(&mut self, reason: &str, now: &Stamp) -> bool {
        self.camera_lost = Some(cut(reason));
        let is_fault = self.is_producing();
        if is_fault {
            self.raise(Fault::CameraLost, reason, now);
        } else {
            self.tell(EventName::CameraLostWhileStopped, now, |event| event.text = cut(reason));
        }
        is_fault
    }

    /// The camera delivers.
    pub fn camera_back(&mut self, now: &Stamp) {
        if self.camera_lost.take().is_some() {
            self.clear(Fault::CameraLost, now);
        }
    }

    /// The model has answered about a part, or failed on it.
    pub fn model_answered(&mut self, well: bool, now: &Stamp) {
        self.failures = if well { 0 } else { self.failures.saturating_add(1) };
        if self.failures >= MODEL_FAILURES {
            let text = format!("the model failed on {} parts in a row", self.failures);
            self.raise(Fault::ModelFailing, &text, now);
        } else if well {
            self.clear(Fault::ModelFailing, now);
        }
    }

    /// A record could not be written: nothing may be looked at any more.
    pub fn record_failed(&mut self, why: &str, now: &Stamp) {
        self.raise(Fault::RecordNotWritable, why, now);
    }

    /// A hard output cannot be driven: whoever waits for it would wait in vain.
    pub fn output_failed(&mut self, why: &str, now: &Stamp) {
        self.raise(Fault::OutputFailed, why, now);
    }

    /// It can be driven again.
    pub fn output_back(&mut self, now: &Stamp) {
        self.clear(Fault::OutputFailed, now);
    }

    /// The lines that tell of parts tell nothing: parts go by unseen.
    pub fn trigger_failed(&mut self, why: &str, now: &Stamp) {
        self.raise(Fault::TriggerFailed, why, now);
    }

    /// They tell again.
    pub fn trigger_back(&mut self, now: &Stamp) {
        self.clear(Fault::TriggerFailed, now);
    }

    /// A part went by while the line stood.
    pub fn ignored(&mut self, now: &Stamp) {
        self.tell(EventName::PartIgnoredWhileStopped, now, |_| {});
    }

    /// Something was noticed about the station's pictures: which reason or measure, and in words.
    pub fn picture(&mut self, event: EventName, what: Option<&str>, text: &str, now: &Stamp) {
        self.tell(event, now, |event| {
            event.reason = what.map(str::to_owned);
            event.text = cut(text);
        });
    }

    /// The picture for a job was taken: its part may move.
    pub fn acquired(&mut self, job: &super::Job, now: &Stamp) {
        self.tell(EventName::AcquisitionDone, now, |event| {
            event.trigger_id = Some(job.trigger_id.clone());
            event.part_id = Some(job.part_id.clone());
            event.job_id = Some(job.job_id);
        });
    }

    /// The result of record `sequence` has been written; `payload` tells of it. Results come in the
    /// order of their records.
    pub fn result(&mut self, look: &Inspection, sequence: i64, payload: &[u8], now: &Stamp) {
        if let Some(ring) = &mut self.ring {
            let result_id = look.result_id.to_string();
            let (trigger_id, payload) = (look.trigger_id.clone(), payload.to_vec());
            ring.push(sequence, Waiting { result_id, trigger_id, payload });
        }
        self.tell(EventName::ResultReady, now, |event| {
            event.trigger_id = look.trigger_id.clone();
            event.part_id = Some(cut(&look.part_id));
            event.job_id = Some(look.job_id);
            event.result_id = Some(look.result_id.to_string());
        });
        self.settle(now);
    }

    /// The result that has waited longest; the outer `None`: there is no ring.
    pub fn oldest_pending(&self) -> Option<Option<&Waiting>> {
        self.ring.as_ref().map(Ring::oldest)
    }

    /// Why no part would be taken now.
    pub(super) fn not_ready(&self) -> Option<Refusal> {
        let state = self.machine.state();
        if self.switch.is_some() {
            return Some(Refusal::new(Code::NotReady, "the recipe is being changed"));
        }
        if !state.is_prepared() {
            let text = match self.faults.iter().next() {
                Some((fault, text)) => format!("{}: {text}", fault.as_str()),
                None if state == State::Halted => "the station has stopped".to_owned(),
                None => "the station is starting".to_owned(),
            };
            return Some(Refusal::new(Code::NotReady, text));
        }
        if !self.terms.triggered_by_command && !self.inspects() {
            return Some(Refusal::new(Code::NotReady, "the line stands still"));
        }
        if self.ring.as_ref().is_some_and(|ring| !ring.has_place(self.in_hand)) {
            let text = "acknowledge results first: as many as the ring holds wait or are to come";
            return Some(Refusal::new(Code::ResultsNotAcknowledged, text));
        }
        if self.in_hand >= self.terms.places {
            let text = format!("{} parts are in hand already", self.in_hand);
            return Some(Refusal::new(Code::QueueFull, text));
        }
        None
    }

    pub(super) fn reset(&mut self, now: &Stamp) {
        // What is still broken is raised again by whoever notices it; a lost camera still is.
        self.failures = 0;
        self.clear(Fault::ModelFailing, now);
    }

    pub(super) fn line_state(&mut self, state: LineState, now: &Stamp) {
        if self.line == Some(state) {
            return;
        }
        self.line = Some(state);
        self.tell(EventName::LineStateChanged, now, |event| {
            event.reason = Some(format!("{state:?}"));
        });
        match (&self.camera_lost, state.is_producing()) {
            // It stood still with a dead camera, and is to run with it.
            (Some(reason), true) => {
                let reason = reason.clone();
                self.raise(Fault::CameraLost, &reason, now);
            }
            (_, false) => self.clear(Fault::CameraLost, now),
            (None, true) => {}
        }
    }

    fn raise(&mut self, fault: Fault, text: &str, now: &Stamp) {
        let is_new = self.faults.insert(fault, cut(text)).is_none();
        if is_new {
            self.tell(EventName::FaultRaised, now, |event| {
                event.reason = Some(fault.as_str().to_owned());
                event.text = cut(text);
            });
        }
        self.settle(now);
    }

    fn clear(&mut self, fault: Fault, now: &Stamp) {
        if self.faults.remove(&fault).is_some() {
            self.tell(EventName::FaultCleared, now, |event| {
                event.reason = Some(fault.as_str().to_owned());
            });
        }
        self.settle(now);
    }

    /// Walks to the state that the conditions ask for, and changes the recipe on the way.
    pub(super) fn settle(&mut self, now: &Stamp) {
        let before = self.machine.state();
        let conditions = |contract: &Contract| Conditions {
            started: contract.started,
            halted: contract.halted,
            faulted: !contract.faults.is_empty(),
            changing: contract.switch.is_some(),
            continuous: !contract.terms.triggered_by_command && contract.inspects(),
            in_hand: contract.in_hand,
        };
        self.machine.settle(&conditions(self));
        if self.in_hand == 0
            && let Some(switch) = self.switch.take()
        {
            self.active = switch.to;
            let (index, name) = self.terms.recipes[switch.to].clone();
            let mut reply = Reply::accept(super::CommandName::Recipe, switch.ids);
            reply.recipe_index = Some(index);
            self.switched = Some(reply);
            self.tell(EventName::RecipeChanged, now, |event| {
                event.reason = Some(index.to_string());
                event.text = cut(&name);
            });
            self.machine.settle(&conditions(self));
        }
        if self.machine.state() != before {
            self.since = time_text(now);
        }
    }
}

fn cut(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(TEXT_MAX).collect()
}
