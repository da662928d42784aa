//! The threads of a run: one a station, one for the model, and those beside them.

use std::sync::{Arc, MutexGuard};
use std::thread;
use std::time::Duration;

use super::DaemonError;
use super::commands::Commands;
use super::desk::InHand;
use super::engines::{self, Engines, Errand, Intake, Queue, Turns, Work};
use super::line::Line;
use super::outputs::Outputs;
use super::picture_watch::PictureWatch;
use super::recorder::Recorder;
use super::reload::{self, Reloader};
use super::starter::{Starter, Ways};
use super::stop::{self, Stop};
use super::vitals::{Pulse, Vitals};
use super::watcher::Watcher;
use crate::fault;
use crate::inspection::Inspection;
use crate::inspector::{Clerk, Inspector, Model, RemoteModel, SerialLedger};
use crate::verdict::Reason;
use crate::vlm::progress;

/// How often the I/O threads show that they are not stuck.
const TICK: Duration = Duration::from_millis(500);

/// What works beside the lines and the model.
pub struct Beside<'b> {
    pub watcher: &'b Watcher,
    pub clerk: &'b Clerk,
    pub commands: Option<&'b Commands>,
    pub outputs: &'b Outputs,
    pub vitals: &'b Vitals,
    pub reloader: Option<Arc<Reloader>>,
    pub ledger: &'b Arc<dyn SerialLedger>,
}

/// Runs the threads of `lines`, of the engines that they ask and of the model to their end; answers the frames delivered and dropped.
pub fn work<M: Model + Send>(
    (starter, lines, engines): (Starter, Vec<Line>, Engines),
    mut inspector: Inspector<M>,
    recorder: &Recorder,
    stop: &Arc<Stop>,
    runtime: &tokio::runtime::Runtime,
    beside: &Beside<'_>,
    keep: impl FnOnce() + Send,
) -> Result<(u64, u64), DaemonError> {
    let (own, parts) = flume::unbounded::<InHand>();
    let (queues, elsewhere, errands) = engines.into_queues();
    let ways = Ways { own, elsewhere };
    let turns = Turns::default();
    let (turns, here) = (&turns, Here { recorder, stop });
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
        let watched = scope.spawn(move || starter.run(scope, lines, ways, (recorder, outputs)));
        scope.spawn(keep);
        let _ends = recorder.keeping();
        let pulse = vitals.pulse_with("model", progress::steps);
        for Queue { model, intake } in queues {
            let intake = Arc::new(intake);
            for _ in 0..model.engine().options().parallel {
                let (model, intake) = (model.clone(), Arc::clone(&intake));
                let inspector = Inspector::new(model, beside.clerk.clone())
                    .with_ledger(Arc::clone(beside.ledger));
                scope.spawn(move || inspect_elsewhere(&intake, turns, inspector, here));
            }
        }
        inspect_all(&parts, &errands, turns, &mut inspector, here, &pulse);
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
struct Here<'h> {
    recorder: &'h Recorder,
    stop: &'h Stop,
}

/// The model's thread: looks at parts, and answers for engines that failed, until every line has ended.
fn inspect_all<M: Model>(
    parts: &flume::Receiver<InHand>,
    errands: &flume::Receiver<Errand>,
    turns: &Turns,
    inspector: &mut Inspector<M>,
    here: Here<'_>,
    pulse: &Pulse,
) {
    loop {
        pulse.rest();
        let Some(work) = engines::next_work(parts, errands) else { return };
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

/// One of the threads of an engine elsewhere: the same. It has no pulse, as no question waits longer than its
/// time-out.
fn inspect_elsewhere(
    intake: &Intake,
    turns: &Turns,
    mut inspector: Inspector<RemoteModel>,
    here: Here<'_>,
) {
    while let Some((part, place)) = intake.take(turns) {
        inspect(part, &mut inspector, &|| place.enter(), here);
    }
}

/// Looks at one part and records it. `enter` waits for its turn to be judged and recorded.
fn inspect<'t, M: Model>(
    in_hand: InHand,
    inspector: &mut Inspector<M>,
    enter: &dyn Fn() -> MutexGuard<'t, PictureWatch>,
    here: Here<'_>,
) {
    let (InHand { mut part, hand }, Here { recorder, stop }) = (in_hand, here);
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
}

/// Whether the model answered anything; `None` if it had no chance to.
fn model_did_well(inspection: &Inspection) -> Option<bool> {
    let is_late = inspection.timeliness.deadline_met == Some(false);
    let was_asked = !inspection.questions.is_empty() && !is_late;
    was_asked.then(|| inspection.questions.iter().any(|asked| asked.answer.is_some()))
}
