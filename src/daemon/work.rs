//! The threads of a run: one a station, one for the model, and those beside them.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::DaemonError;
use super::commands::Commands;
use super::engines::{self, Engines, Ours, Turns, Work};
use super::inspecting::{Here, inspect};
use super::line::Line;
use super::outputs::Outputs;
use super::recorder::Recorder;
use super::reload::{self, Reloader};
use super::starter::Starter;
use super::stop::{self, Stop};
use super::vitals::{Pulse, Vitals};
use super::watcher::Watcher;
use crate::fault;
use crate::inspector::{Clerk, Inspector, Model};
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
