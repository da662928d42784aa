//! Watches the deadlines of all parts in hand, apart from the model: it may be in the middle of a
//! long prompt when one passes.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::recorder::Recorder;
use super::vitals::Pulse;
use crate::clock::Clock;
use crate::inspector::{Clerk, Part};
use crate::plc::Turn;
use crate::plc::deadline::{Deadlines, Key};
use crate::telemetry;
use crate::verdict::Reason;

/// The reason's code for a part whose deadline passed before there was an answer.
pub const DEADLINE_MISSED: &str = "deadline_missed";

/// Longest sleep: a safeguard only, as each change wakes the watcher.
const SLEEP_MAX: Duration = Duration::from_secs(60);

/// The parts that are watched. As many as are in hand.
pub struct Watcher {
    clock: Arc<dyn Clock>,
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Default)]
struct Inner {
    deadlines: Deadlines<Watched>,
    is_closed: bool,
}

/// What is needed to tell of a part that it is late.
struct Watched {
    part: Part,
    turn: Arc<Turn>,
}

impl Watcher {
    /// Watches nothing yet. `clock` must be that of the parts' triggers.
    pub fn new(clock: Arc<dyn Clock>) -> Watcher {
        Watcher { clock, inner: Mutex::default(), changed: Condvar::new() }
    }

    /// Watches over `part` from now on.
    pub fn watch(&self, part: &Part, turn: &Arc<Turn>) -> Key {
        let ms = part.deadline.as_millis();
        let text = format!("No verdict stood {ms} ms after the trigger; an update follows.");
        let watched = Part {
            trigger_id: part.trigger_id.clone(),
            deadline: part.deadline,
            missed: Some(Reason::new(DEADLINE_MISSED, text)),
            ..Part::new(&part.station, part.job_id, part.part_id.clone(), part.triggered)
        };
        let length = u64::try_from(part.deadline.as_nanos()).unwrap_or(u64::MAX);
        let at_ns = part.triggered.monotonic_ns.saturating_add(length);
        let watched = Watched { part: watched, turn: Arc::clone(turn) };
        let key = self.lock().deadlines.add(at_ns, watched);
        self.changed.notify_one();
        key
    }

    /// The part of `key` is no longer in hand.
    pub fn forget(&self, key: &Key) {
        self.lock().deadlines.remove(key);
    }

    /// Ends [`Watcher::run`].
    pub fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_one();
    }

    /// Records each part whose deadline passes as `review`, at once, unless it was answered. The
    /// record has no picture: the line waits for it, and the update brings one.
    pub fn run(&self, clerk: &Clerk, recorder: &Recorder, pulse: &Pulse) {
        while let Some(due) = self.wait() {
            pulse.beat();
            for Watched { part, turn } in due {
                turn.late(|| {
                    let inspection = clerk.missed(&part, recorder);
                    telemetry::deadline_missed(&part.station.name, &part.part_id);
                    recorder.record(&inspection);
                    inspection.result_id
                });
            }
            pulse.rest();
        }
    }

    /// Waits until something is due; `None`: closed.
    fn wait(&self) -> Option<Vec<Watched>> {
        let mut inner = self.lock();
        loop {
            if inner.is_closed {
                return None;
            }
            let now_ns = self.clock.now().monotonic_ns;
            let due = inner.deadlines.take_due(now_ns);
            if !due.is_empty() {
                return Some(due);
            }
            let next = inner.deadlines.next_ns();
            // One more: at the deadline itself a verdict is still in time.
            let sleep = next.map(|at_ns| Duration::from_nanos((at_ns - now_ns).saturating_add(1)));
            let sleep = sleep.unwrap_or(SLEEP_MAX).min(SLEEP_MAX);
            let woken = self.changed.wait_timeout(inner, sleep);
            inner = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
