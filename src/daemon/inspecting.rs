//! One part: looked at, judged in its turn, recorded.

use std::sync::{Arc, MutexGuard};

use super::Stop;
use super::desk::InHand;
use super::picture_watch::PictureWatch;
use super::recorder::Recorder;
use crate::inspection::Inspection;
use crate::inspector::{Inspector, Model};
use crate::verdict::Reason;

/// Where records go, and whether they still are to be.
#[derive(Clone, Copy)]
pub struct Here<'h> {
    /// Where they go.
    pub recorder: &'h Recorder,
    /// What ends the run.
    pub stop: &'h Stop,
}

/// Looks at one part and records it. `enter` waits for its turn to be judged and recorded.
pub fn inspect<'t, M: Model>(
    in_hand: InHand,
    inspector: &mut Inspector<M>,
    enter: &dyn Fn() -> MutexGuard<'t, PictureWatch>,
    here: Here<'_>,
) {
    let (InHand { mut part, hand, on_way }, Here { recorder, stop }) = (in_hand, here);
    if stop.is_set() && !stop.all_triggered() {
        // The part in hand was finished; those that still wait are recorded, not dropped.
        let stopped = Reason::new("stopped", "The daemon was stopped before it looked.");
        part.missed = Some(stopped);
    }
    let mut early = |partial: Inspection| hand.record_partial(&partial, recorder);
    let mut turn = None;
    let inspection =
        inspector.inspect_in_turn(&part, recorder, &mut early, &mut || turn = Some(enter()));
    if let Some(well) = model_did_well(&inspection) {
        hand.desk().change(|contract, now| contract.model_answered(well, now));
    }
    let station = Arc::clone(&part.station);
    let seen = inspection.clone();
    hand.record(inspection, recorder);
    if let Some(pictures) = &mut turn {
        pictures.see(&station, &seen, hand.desk(), recorder);
    }
    drop(turn);
    // The ticket before the place: who is told that there is a place finds one.
    drop(part);
    drop(hand);
    drop(on_way);
}

/// Whether the model answered anything; `None` if it had no chance to.
fn model_did_well(inspection: &Inspection) -> Option<bool> {
    let is_late = inspection.timeliness.deadline_met == Some(false);
    let was_asked = !inspection.questions.is_empty() && !is_late;
    was_asked.then(|| inspection.questions.iter().any(|asked| asked.answer.is_some()))
}
