//! Parts in hand: from their acceptance until their answer.

use std::sync::Arc;

use super::Desk;
use crate::daemon::recorder::Recorder;
use crate::hard::board;
use crate::inspection::Inspection;
use crate::inspector::Part;
use crate::plc::Turn;
use crate::plc::deadline::{Key, Told};
use crate::verdict::Reason;

/// A part's place in hand: given back when it is dropped.
pub struct Hand {
    desk: Arc<Desk>,
    turn: Arc<Turn>,
    key: Key,
}

/// A part on its way to the model. The part, with its ticket, goes before its place in hand does.
pub struct InHand {
    /// The part.
    pub part: Part,
    /// Its place.
    pub hand: Hand,
    /// Others see by it that the part is on its way.
    pub on_way: Arc<()>,
}

impl Desk {
    /// A part that the station found is in hand from now on.
    pub fn begin(self: &Arc<Desk>, part: &Part) -> Hand {
        self.change(|contract, now| contract.begin(now));
        self.hand(part)
    }

    /// A place in hand for a part that the contract counts already.
    pub(super) fn hand(self: &Arc<Desk>, part: &Part) -> Hand {
        let turn = Arc::new(Turn::default());
        let key = self.watcher.watch(part, &turn);
        self.show(|board| board.begin(shown(part)));
        Hand { desk: Arc::clone(self), turn, key }
    }
}

impl Hand {
    /// Tells of the part early, unless it was told of before; answers whether it did.
    pub fn record_partial(&self, inspection: &Inspection, recorder: &Recorder) -> bool {
        self.turn.partial(|| {
            recorder.record(inspection);
            inspection.result_id
        })
    }

    /// Records the full answer, as an update of what was told before. `false`: it could not be
    /// written, and the daemon must stop.
    pub fn record(&self, inspection: Inspection, recorder: &Recorder) -> bool {
        self.turn.full(|told| {
            let inspection = match told {
                Told::Nothing | Told::Full => inspection,
                Told::Partial(earlier) => inspection.into_update(earlier),
                Told::Late(earlier) => {
                    let text = "The verdict came after the deadline had been told as missed.";
                    inspection.into_late(Reason::new("late", text)).into_update(earlier)
                }
            };
            recorder.record(&inspection)
        })
    }

    /// The desk that the place belongs to.
    pub fn desk(&self) -> &Arc<Desk> {
        &self.desk
    }
}

impl Drop for Hand {
    fn drop(&mut self) {
        self.desk.watcher.forget(&self.key);
        self.desk.change(|contract, now| contract.finish(now));
    }
}

/// `part` as hard outputs show it.
fn shown(part: &Part) -> board::Part {
    let length_ns = u64::try_from(part.deadline.as_nanos()).unwrap_or(u64::MAX);
    board::Part {
        job_id: part.job_id,
        trigger_id: part.trigger_id.clone(),
        part_id: part.part_id.clone(),
        deadline_ms: u64::try_from(part.deadline.as_millis()).unwrap_or(u64::MAX),
        deadline_ns: part.triggered.monotonic_ns.saturating_add(length_ns),
    }
}
