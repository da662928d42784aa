//! Parts that a photo eye has seen.

use std::sync::Arc;

use super::Line;
use crate::clock::Stamp;
use crate::daemon::eye::{Arrival, EyeWatch};
use crate::daemon::recorder::Recorder;
use crate::footage::Heard;
use crate::inspector::Part;
use crate::trigger::Shot;
use crate::trigger::photo_eye::{Seen, Signal};
use crate::verdict::Reason;

impl Line {
    /// Takes what the photo eye has told, and gives up what can no longer be seen.
    pub(super) fn take_arrivals(&mut self, recorder: &Recorder) {
        let now = self.view.now(&self.clock);
        let film = self.film.as_ref();
        let mut keep = |signal: &Signal| {
            if let Some(film) = film {
                film.heard(Heard { at: now, signal: signal.clone() });
            }
        };
        let seen = self.eye.as_mut().map_or_else(Vec::new, |eye| eye.hear(&now, &mut keep));
        self.pass_on(seen, recorder);
    }

    /// What became of parts that the photo eye has seen.
    pub(super) fn pass_on(&mut self, seen: Vec<Seen<Arrival>>, recorder: &Recorder) {
        let now = self.clock.now();
        for seen in seen {
            match seen {
                Seen::Part { part, shot, due_ns } => {
                    self.take_part(part, now.at(due_ns), Ok(shot), recorder);
                }
                Seen::Missed { part, at_ns, code, text } => {
                    self.take_part(part, now.at(at_ns), Err(Reason::new(code, text)), recorder);
                }
                Seen::Unknown { code, text } => self.record_unknown(code, &text, recorder),
            }
        }
    }

    /// A part is where it is to be seen, or will not be seen there.
    fn take_part(
        &mut self,
        arrival: Arrival,
        triggered: Stamp,
        shown: Result<Shot, Reason>,
        recorder: &Recorder,
    ) {
        if !self.desk.inspects() {
            return self.desk.ignore();
        }
        if !self.stop.may_trigger() {
            return;
        }
        let Arrival { job_id, station } = arrival;
        let (active, mut changing) = self.desk.active();
        if !Arc::ptr_eq(&active, &station) {
            let text = "The recipe changed while the part was on its way to the camera.";
            changing = Err(Reason::new("recipe_change", text));
        }
        // Deadlines are the clock's, whatever time it is in the footage.
        let triggered = if self.view.sets_time() { self.clock.now() } else { triggered };
        let mut part = Part::new(&station, job_id, format!("{job_id:06}"), triggered);
        part.missed = match shown {
            Ok(shot) => {
                part.show(shot.frame, shot.more);
                changing.err()
            }
            Err(reason) => Some(reason),
        };
        match part.missed {
            None => self.send(part, None, recorder),
            Some(_) => self.miss(&part, None, recorder),
        }
    }

    /// No picture will be taken any more of what is on its way.
    pub(super) fn give_up_arrivals(&mut self, recorder: &Recorder) {
        let left = self.eye.as_mut().map_or_else(Vec::new, EyeWatch::give_up);
        let now = self.clock.now();
        for arrival in left {
            let text = "The station stopped before the part was before the camera.";
            self.take_part(arrival, now, Err(Reason::new("stopped", text)), recorder);
        }
    }
}
