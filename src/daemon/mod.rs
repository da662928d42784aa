//! Builds the parts, joins them with bounded channels, starts and stops them.
//!
//! One thread a station pulls frames and decides what is to be looked at; one thread owns the model
//! and looks; one keeps the log's disk in order; tokio carries the messages. The threads meet in a bounded queue of parts. Whoever
//! decides about a part, by looking or by missing it, hands the record to the `Recorder`, so that
//! every trigger ends as exactly one committed record.

mod admission;
mod error;
mod keeper;
mod line;
pub mod plan;
mod recorder;
mod stop;

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::clock::{Clock, SystemClock};
use crate::config::Settings;
use crate::inspector::{Clerk, EngineModel, Inspector, Model, Part};
use crate::publish::{Publisher, PublisherHandle};
use crate::station::Station;
use crate::store::{Store, events};
use crate::telemetry;
use crate::verdict::Reason;
use crate::vlm::{Digest, Engine, device};

pub use error::DaemonError;
pub use stop::Stop;

use line::Line;
use recorder::Recorder;

/// How long a clean stop waits for the broker; what is unsent then stays in the outbox.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// What the command line adds to the configuration.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Stop by itself after this many triggered parts, over all stations.
    pub parts: Option<u64>,
    /// Print one line a part on standard output.
    pub lines: bool,
}

/// What a run did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Records committed.
    pub records: u64,
    /// Results that the broker has not acknowledged.
    pub unsent: u64,
    /// Results that the broker acknowledged during this run.
    pub acknowledged: u64,
    /// Frames that were replaced before anyone looked, over all cameras.
    pub frames_dropped: u64,
    /// Frames delivered, over all cameras.
    pub frames_delivered: u64,
}

/// Runs until a signal, the last part, or the end of all cameras.
pub fn run(
    settings: &Settings,
    stations: &[Station],
    options: &Options,
) -> Result<Summary, DaemonError> {
    let stations: Vec<Arc<Station>> = stations.iter().cloned().map(Arc::new).collect();
    let store = Store::open(&settings.store, Arc::new(SystemClock))?;
    plan::admit(settings, &stations)?;
    let engine = load_engine(settings)?;
    let model = EngineModel::new(Arc::clone(&engine), &stations)?;
    let device = device::describe(&engine.options().device, engine.options().dtype);
    serve(settings, &stations, options, store, model, &engine.digest().to_string(), &device)
}

/// Runs the stations with any `model`, which records name by `model_digest` and which computes on
/// `device`, and records into `store`.
///
/// # Errors
/// What cannot be opened at the start; a record that cannot be written.
pub fn serve<M: Model + Send>(
    settings: &Settings,
    stations: &[Arc<Station>],
    options: &Options,
    store: Store,
    model: M,
    model_digest: &str,
    device: &str,
) -> Result<Summary, DaemonError> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let run = describe_run(settings, stations, model_digest, device);
    let clerk = Clerk::new(Arc::clone(&clock), &settings.device, model_digest, &run.program_sha256);
    // All cameras first: a daemon that cannot see must say so before it says that it is ready.
    let stop = Arc::new(Stop::new(options.parts));
    let lines = open_lines(stations, &clock, &store, &clerk, &stop)?;
    let runtime = runtime()?;
    let publisher = start_publisher(&runtime, settings, &store, &clock)?;
    record_start(&store, &run)?;
    let (caller, calls) = flume::bounded(1);
    let recorder = Recorder::new(store.clone(), publisher.clone(), caller, options.lines);
    let database = settings.store.path.display().to_string();
    let path = settings.model.path.display().to_string();
    telemetry::ready(stations.len(), &path, device, &database);

    let inspector = Inspector::new(model, clerk);
    let keep = || keeper::run(&store, settings.store.retention, &calls);
    let seen = work(lines, inspector, &recorder, &stop, &runtime, keep);
    let drained = publisher.map(|publisher| {
        let acknowledged = publisher.state().borrow().sent;
        let drained = runtime.block_on(publisher.drain_and_stop(DRAIN_TIMEOUT));
        let sent = publisher.state().borrow().sent.max(acknowledged);
        (drained.unsent, sent)
    });
    let (unsent, acknowledged) = drained.unwrap_or_default();
    let records = recorder.records();
    if let Err(error) = store.record_stop(&events::Stop { records, unsent }) {
        // Nothing is lost by it: the next start says that this run did not end in good order.
        telemetry::record_failed(&error.to_string());
    }
    telemetry::stopped(records, unsent);
    let (frames_delivered, frames_dropped) = seen?;
    Ok(Summary { records, unsent, acknowledged, frames_dropped, frames_delivered })
}

/// Loads the model with the settings' device, precision and bounds. The threads it computes in are bounded
/// for the whole process, by the first call.
pub fn load_engine(settings: &Settings) -> Result<Arc<Engine>, DaemonError> {
    use_threads(settings.model.threads);
    let placement = device::find(settings.model.device).map_err(DaemonError::model)?;
    if let Some(why) = &placement.fallback {
        telemetry::computes_on_cpu(why);
    }
    let engine = Engine::load(&settings.model.path, &settings.model.engine_options(&placement))
        .map_err(DaemonError::model)?;
    Ok(Arc::new(engine))
}

/// Bounds the threads that any model of this process computes in. The first call counts.
pub fn use_threads(threads: usize) {
    // The one error is that the pool stands already, as in a second load: then its size holds.
    let _ = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
}

/// What inspects from now on, as the audit log's `start` tells it.
fn describe_run(
    settings: &Settings,
    stations: &[Arc<Station>],
    model_digest: &str,
    device: &str,
) -> events::Run {
    let digest = |station: &Arc<Station>| (station.name.clone(), station.config_digest.clone());
    events::Run {
        device: settings.device.clone(),
        program_version: env!("CARGO_PKG_VERSION").to_owned(),
        program_sha256: program_digest(),
        model_sha256: model_digest.to_owned(),
        computes_on: device.to_owned(),
        stations: stations.iter().map(digest).collect(),
    }
}

/// Records the start, and tells the operator what is wrong with the end before it.
fn record_start(store: &Store, run: &events::Run) -> Result<(), DaemonError> {
    let start = store.record_start(run)?;
    if start.unclean {
        telemetry::unclean_start();
    }
    if let Some(how) = &start.heads_differ {
        telemetry::heads_differ(how);
    }
    Ok(())
}

/// SHA-256 of the running program's file, or `unknown` where the system hides it.
pub fn program_digest() -> String {
    let path = std::env::current_exe();
    let bytes = path.and_then(std::fs::read);
    bytes.map_or_else(|_| "unknown".to_owned(), |bytes| Digest::of(&bytes).to_string())
}

fn open_lines(
    stations: &[Arc<Station>],
    clock: &Arc<dyn Clock>,
    store: &Store,
    clerk: &Clerk,
    stop: &Arc<Stop>,
) -> Result<Vec<Line>, DaemonError> {
    let open = |station: &Arc<Station>| {
        let next_job = store.last_job_id(&station.name)?.map_or(1, |last| last + 1);
        Line::open(station, clock, clerk.clone(), next_job, Arc::clone(stop))
    };
    stations.iter().map(open).collect()
}

fn runtime() -> Result<tokio::runtime::Runtime, DaemonError> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| DaemonError::Other(format!("cannot start the I/O threads: {error}")))
}

fn start_publisher(
    runtime: &tokio::runtime::Runtime,
    settings: &Settings,
    store: &Store,
    clock: &Arc<dyn Clock>,
) -> Result<Option<PublisherHandle>, DaemonError> {
    let Some(options) = settings.broker.clone() else { return Ok(None) };
    let _inside = runtime.enter();
    Publisher::spawn(options, store.clone(), Arc::clone(clock))
        .map(Some)
        .map_err(|error| DaemonError::Other(error.to_string()))
}

/// Runs the threads to their end and answers the frames delivered and dropped.
fn work<M: Model + Send>(
    lines: Vec<Line>,
    mut inspector: Inspector<M>,
    recorder: &Recorder,
    stop: &Arc<Stop>,
    runtime: &tokio::runtime::Runtime,
    keep: impl FnOnce() + Send,
) -> Result<(u64, u64), DaemonError> {
    let room = lines.iter().map(Line::queue_parts).sum();
    let (sender, parts) = flume::bounded::<Part>(room);
    let signals = runtime.spawn(stop::on_signal(Arc::clone(stop)));
    let seen = thread::scope(|scope| {
        let watched: Vec<_> = lines
            .into_iter()
            .map(|line| {
                let sender = sender.clone();
                scope.spawn(move || line.run(&sender, recorder))
            })
            .collect();
        drop(sender);
        scope.spawn(keep);
        let _ends = recorder.keeping();
        inspect_all(&parts, &mut inspector, recorder, stop);
        watched.into_iter().fold((0, 0), |sum, line| {
            let (delivered, dropped) = line.join().unwrap_or((0, 0));
            (sum.0 + delivered, sum.1 + dropped)
        })
    });
    signals.abort();
    match recorder.failure() {
        Some(error) => Err(error),
        None => Ok(seen),
    }
}

/// The model's thread: looks at parts until every line has ended.
fn inspect_all<M: Model>(
    parts: &flume::Receiver<Part>,
    inspector: &mut Inspector<M>,
    recorder: &Recorder,
    stop: &Stop,
) {
    while let Ok(mut part) = parts.recv() {
        if stop.is_set() && !stop.all_triggered() {
            // The part in hand was finished; those that still wait are recorded, not dropped.
            let stopped = Reason::new("stopped", "The daemon was stopped before it looked.");
            part.missed = Some(stopped);
        }
        let inspection = inspector.inspect(&part, recorder);
        if !recorder.record(&inspection) {
            stop.set("the record cannot be written");
        }
    }
}
