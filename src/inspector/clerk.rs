//! Fills in the record: the same form for a part that was looked at and for one that was missed.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::sight::{self, Sight};
use super::{Decider, EvidenceKeeper, Look, Part, conclude, millis};
use crate::clock::{Clock, Stamp};
use crate::inspection::{Digests, Inspection, SCHEMA_VERSION, Timeliness, Times};
use crate::station::{Question, Station};
use crate::verdict::{Reason, Verdict};

/// Knows what every record of this run has in common.
#[derive(Clone)]
pub struct Clerk {
    clock: Arc<dyn Clock>,
    device: String,
    boot_id: String,
    decider: Decider,
    program_digest: String,
}

impl Clerk {
    /// A clerk for the device of this name; the model that decides, and the program's digest.
    pub fn new(
        clock: Arc<dyn Clock>,
        device: &str,
        decider: impl Into<Decider>,
        program_digest: &str,
    ) -> Clerk {
        Clerk {
            boot_id: clock.boot_id(),
            clock,
            device: device.to_owned(),
            decider: decider.into(),
            program_digest: program_digest.to_owned(),
        }
    }

    /// The present moment, by the clock of the records.
    pub fn now(&self) -> Stamp {
        self.clock.now()
    }

    /// The device's name.
    pub fn device(&self) -> &str {
        &self.device
    }

    /// Whether that clock follows a time source.
    pub fn is_synchronized(&self) -> bool {
        self.clock.synchronized()
    }

    /// The record of a part that was not looked at, as its queue was full, its frame lost, or the
    /// daemon stopped: `review`, with the crops of its frame as evidence, if there is one.
    pub fn missed(&self, part: &Part, keeper: &dyn EvidenceKeeper) -> Inspection {
        let mut look = Look::default();
        let unknown = || Reason::new("frame_lost", "There is no picture of this part.");
        look.problems.push(part.missed.clone().unwrap_or_else(unknown));
        if let Some(frame) = &part.frame {
            let mut sight = Sight::cut(&part.station, &sight::pixels(&part.station, frame));
            look.problems.append(&mut sight.problems);
            look.keep_all(&sight.crops, None, keeper);
        }
        self.prove(&mut look);
        let decided = self.now();
        look.timings.latency_ms = millis(decided.since(&part.triggered));
        let verdict = conclude(&part.station, &look);
        self.record(part, look, verdict, decided)
    }

    /// Waits for the model's digest, which every record names. Without it nobody could say what
    /// answered, so what was answered does not count.
    pub(super) fn prove(&self, look: &mut Look) {
        if look.is_remote() {
            return;
        }
        if let Err(why) = self.decider.model() {
            look.withdraw(Reason::new("model_unproven", why.to_string()));
        }
    }

    /// The model's digest, for which this waits, or a word that is no digest.
    pub fn model_or_unknown(&self) -> String {
        self.decider.model_or_unknown()
    }

    /// Why no record can name the model any more, if that is so: the run must end.
    pub fn failure(&self) -> Option<String> {
        self.decider.failure().map(|why| why.to_string())
    }

    pub(super) fn record(
        &self,
        part: &Part,
        look: Look,
        verdict: Verdict,
        decided: Stamp,
    ) -> Inspection {
        let station = &part.station;
        let frame = part.frame.as_deref();
        let (model, computed_on) = match look.is_remote() {
            true => (Digests::REMOTE.to_owned(), None),
            false => (self.decider.model_or_unknown(), self.decider.computed_on.clone()),
        };
        Inspection {
            schema_version: SCHEMA_VERSION,
            result_id: uuid::Uuid::now_v7(),
            device: self.device.clone(),
            station: station.name.clone(),
            recipe: station.recipe.clone(),
            job_id: part.job_id,
            part_id: part.part_id.clone(),
            trigger_id: part.trigger_id.clone(),
            timeliness: Timeliness {
                deadline_ms: u64::try_from(part.deadline.as_millis()).ok(),
                deadline_met: Some(decided.since(&part.triggered) <= part.deadline),
                ..Timeliness::default()
            },
            frame_sequence: frame.map(|frame| frame.sequence),
            times: Times {
                triggered: part.triggered,
                captured: frame.map(|frame| frame.captured),
                decided,
                boot_id: self.boot_id.clone(),
                clock_synchronized: self.clock.synchronized(),
            },
            evidence: look.evidence,
            picture_quality: look.picture_quality,
            fixed_areas: look.fixed_areas,
            questions: look.asked,
            findings: look.findings,
            serial_facts: look.serial_facts,
            verdict,
            timings: look.timings,
            digests: Digests {
                model,
                config: station.config_digest.clone(),
                program: self.program_digest.clone(),
                adapters: adapters(station),
                calibration: station.calibration.as_ref().map(|used| used.digest.clone()),
            },
            computed_on,
            is_simulated: station.is_simulated,
        }
    }
}

/// The digest of each question's adapter, be it asked or not: a part that was missed would have been
/// judged by them.
fn adapters(station: &Station) -> BTreeMap<String, String> {
    let one = |question: &Question| {
        let digest = question.adapter.as_ref()?.digest.to_string();
        Some((question.name.clone(), digest))
    };
    station.questions.iter().filter_map(one).collect()
}
