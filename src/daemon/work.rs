//! The threads of a run: one a station, one for the model, and those beside them.

use std::sync::{Arc, MutexGuard};
use std::thread;
use std::time::Duration;

use super::DaemonError;
use super::commands::Commands;
use super::desk::InHand;
use super::engines::{self, Engines, Ours, Turns, Work};
use super::line::Line;
use super::outputs::Outputs;
use super::picture_watch::PictureWatch;
use super::recorder::Recorder;
use super::reload::{self, Reloader};
use super::starter::Starter;
use super::stop::{self, Stop};
use super::vitals::{Pulse, Vitals};
use super::watcher::Watcher;
use crate::fault;
use crate::inspection::Inspection;
use crate::inspector::{Clerk, Inspector, Model};
use crate::verdict::Reason;
use crate::vlm::progress;

/// How often the I/O threads show that they are not stuck.
const TICK: Duration = Duration::from_millis(500);

/// What works beside the lines and the model.
pub struct Beside<'b> {
    pub engines: &'b Engines,
    pub watcher: &'b Watcher,
    pub clerk: &'b Clerk,
    pub commands: Option<&'b Commands>,
    pub outputs: &'b Outputs,
    pub vitals: &'b Vitals,
    pub reloader: Option<Arc<Reloader>>,
}

/// Runs the threads of `lines` and of the model to their end, and waits for those of engines; answers the frames delivered and dropped.
pub fn work<M: Model + Send>(
    (starter, lines): (Starter, Vec<Line>),
    (mut inspector, ours): (Inspector<M>, &Ours),
    recorder: &Recorder,
    stop: &Arc<Stop>,
    runtime: &tokio::runtime::Runtime,
    beside: &Beside<'_>,
    keep: impl FnOnce() + Send,
) -> Result<(u64, u64), DaemonError> {
    let (engines, here) = (beside.engines, Here { recorder, stop });
    let signals = runtime.spawn(stop::on_signal(Arc::clone(stop)));
    let hangups = runtime.spawn(reload::on_signal(beside.reloader.clone()));
    let vitals = beside.vitals;
    let messages = runtime.spawn(tick(vitals.pulse("messages")));
    let seen = thread::scope(|scope| {
        scope.spawn(|| recorder.begin());
        scope.spawn(|| beside.watcher.run(beside.clerk, recorder, &vitals.pulse("deadlines")));
        scope.spawn(|| beside.commands.map(|it| it.run(&vitals.pulse("commands"))));
        let outputs = beside.outputs;
        outputs.run(scope);
        let watched = scope.spawn(move || starter.run(scope, lines, engines, (recorder, outputs)));
        scope.spawn(keep);
        let _ends = recorder.keeping();
        let pulse = vitals.pulse_with("model", progress::steps);
        inspect_all(ours, engines.turns(), &mut inspector, here, &pulse);
        engines.join();
        let seen = watched.join().unwrap_or_default();
        beside.watcher.close();
        if let Some(commands) = beside.commands {
            commands.close();
        }
        outputs.close();
        seen
    });
    signals.abort();
    messages.abort();
    hangups.abort();
    match recorder.failure() {
        Some(error) => Err(error),
        None => Ok(seen),
    }
}

/// Where records go, and whether they still are to be.
#[derive(Clone, Copy)]
pub(super) struct Here<'h> {
    /// Where they go.
    pub recorder: &'h Recorder,
    /// What ends the run.
    pub stop: &'h Stop,
}

/// The model's thread: looks at parts, and answers for engines that failed, until every line has ended.
fn inspect_all<M: Model>(
    ours: &Ours,
    turns: &Turns,
    inspector: &mut Inspector<M>,
    here: Here<'_>,
    pulse: &Pulse,
) {
    loop {
        pulse.rest();
        let Some(work) = engines::next_work(&ours.parts, &ours.errands) else { return };
        pulse.beat();
        match work {
            Work::Errand(errand) => errand.run(inspector),
            Work::Part(part) => {
                fault::point(fault::MODEL_ASKED);
                inspect(part, inspector, &|| turns.enter(), here);
            }
        }
    }
}

/// Shows that the I/O threads are not stuck.
async fn tick(pulse: Arc<Pulse>) {
    let mut every = tokio::time::interval(TICK);
    loop {
        every.tick().await;
        pulse.beat();
    }
}

/// Looks at one part and records it. `enter` waits for its turn to be judged and recorded.
pub(super) fn inspect<'t, M: Model>(
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
