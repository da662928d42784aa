//! Builds the parts, joins them with bounded channels, starts and stops them.
//!
//! One thread a station pulls frames and decides what is to be looked at; one thread owns the model
//! and looks; one keeps the log's disk in order; tokio carries the messages. The threads meet in a
//! bounded queue of parts. Whoever decides about a part, by looking or by missing it, hands the record to the `Recorder`, so that
//! every trigger ends as a committed record: one, or, where the deadline passed or the verdict stood
//! early, one and the update of it. Where the line's controller has a contract with a station, one
//! thread takes its commands, and one watches the deadlines; both meet the others at the `Desk`.

mod admission;
mod camera_watch;
mod commands;
mod commit_times;
mod desk;
mod error;
mod eye;
mod heads;
mod keeper;
mod ledger;
mod line;
mod outputs;
pub mod overheard;
mod picture_watch;
pub mod plan;
mod recorder;
pub mod replay;
mod stop;
mod thumbnail;
mod view;
mod watcher;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::clock::{Clock, SystemClock};
use crate::config::Settings;
use crate::expected::{Access, ExpectedLists};
use crate::footage::clips::{self, Told, Workshop};
use crate::footage::{Bounds, Clips, Film, FilmOptions, Quality, Subject};
use crate::hard::gpio::{Chips, KernelChips};
use crate::inspection::Inspection;
use crate::inspector::{Clerk, Decider, EngineModel, Inspector, Model};
use crate::plc::ExpectHandler;
use crate::publish::topics::Topics;
use crate::publish::{Publisher, PublisherHandle};
use crate::sparkplug::{EdgeHandle, EdgeNode};
use crate::station::Station;
use crate::store::{ReserveState, Store, events};
use crate::telemetry;
use crate::verdict::Reason;
use crate::vlm::{Digest, Engine, device};

pub use commit_times::CommitTimes;
pub use error::DaemonError;
pub use ledger::Ledger;
pub use stop::{Stop, on_signal};

use commands::Commands;
use desk::{Desk, InHand};
use line::{Line, Out};
use outputs::Outputs;
use picture_watch::PictureWatch;
use recorder::{Office, Recorder};
use watcher::Watcher;

/// How long a clean stop waits for the broker; what is unsent then stays in the outbox.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// What the command line adds to the configuration.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Stop by itself after this many triggered parts, over all stations.
    pub parts: Option<u64>,
    /// Print one line a part on standard output.
    pub lines: bool,
    /// Ends the run from outside; then `parts` counts for nothing.
    pub stop: Option<Arc<Stop>>,
    /// Takes `cmd/expect` in place of the lists of expected serials.
    pub expect: Option<Arc<dyn ExpectHandler>>,
    /// Where lines come from, in place of the kernel.
    pub chips: Option<Arc<dyn Chips>>,
    /// Keeps what every station sees.
    pub record: Option<Record>,
    /// Footage in place of cameras; see [`replay::prepare`].
    pub from: Option<replay::From>,
}

/// Where footage of a run goes: a folder for each station in it.
#[derive(Clone, Debug)]
pub struct Record {
    /// The folder.
    pub dir: PathBuf,
    /// How pictures are kept.
    pub quality: Quality,
    /// How much may be written for each station.
    pub bounds: Bounds,
}

impl Record {
    /// Begins the footage of `station`.
    ///
    /// # Errors
    /// A folder that cannot be used or holds footage, an element that is missing.
    pub fn begin(&self, station: &Station, device: &str) -> Result<Film, DaemonError> {
        let patient = !station.camera.realtime;
        let options = FilmOptions { quality: self.quality, bounds: self.bounds, patient };
        Film::begin(&self.dir.join(&station.name), subject(station, device), options)
            .map_err(|why| DaemonError::Other(why.to_string()))
    }
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
    /// How long records took to be written.
    pub commits: CommitTimes,
}

/// Runs until a signal, the last part, or the end of all cameras.
pub fn run(
    settings: &Settings,
    stations: &[Station],
    options: &Options,
) -> Result<Summary, DaemonError> {
    let stations: Vec<Arc<Station>> = stations.iter().cloned().map(Arc::new).collect();
    let store = Store::open(&settings.store, Arc::new(SystemClock))?;
    let spare = plan::admit(settings, &stations)?.spare(&stations);
    let Loaded { engine, decider } = load_engine(settings)?;
    let model = EngineModel::new(Arc::clone(&engine), &stations)?;
    // A record names the model by its digest, and hashing goes on since loading began. The cameras
    // are opened, and it is said that all is ready, once the first part that may come would be
    // recorded within its deadline: the rest is hashed while that part is looked at.
    engine.pending_digest().wait_until_within(spare).map_err(DaemonError::model)?;
    serve(settings, &stations, options, store, model, decider)
}

/// Runs the stations with any `model`, which records name as `decider` says, and records into
/// `store`, whose clock is the clock of all.
///
/// # Errors
/// What cannot be opened at the start; a record that cannot be written.
pub fn serve<M: Model + Send>(
    settings: &Settings,
    stations: &[Arc<Station>],
    options: &Options,
    store: Store,
    model: M,
    decider: Decider,
) -> Result<Summary, DaemonError> {
    let clock = store.clock();
    let run = describe_run(settings, stations, &decider);
    let device = run.computes_on.clone();
    let clerk = Clerk::new(Arc::clone(&clock), &settings.device, decider, &run.program_sha256);
    let lists = open_lists(settings, stations)?;
    // All cameras first: a daemon that cannot see must say so before it says that it is ready.
    let stop = options.stop.clone().unwrap_or_else(|| Arc::new(Stop::new(options.parts)));
    let watcher = Arc::new(Watcher::new(Arc::clone(&clock)));
    let desks = set_up_desks(stations, &clock, &store, &watcher)?;
    let expect = options.expect.clone().unwrap_or_else(|| Arc::new(lists.clone()));
    desks.iter().for_each(|desk| desk.expect_with(Arc::clone(&expect)));
    let clips = begin_clips(settings, stations, &store)?;
    let chips = options.chips.clone().unwrap_or_else(|| Arc::new(KernelChips));
    let open = |desk| {
        let (clerk, stop) = (clerk.clone(), Arc::clone(&stop));
        Line::open(desk, &clock, &chips, clerk, stop, options, &clips)
    };
    let lines = desks.iter().map(open).collect::<Result<Vec<_>, _>>()?;
    let outputs = Outputs::open(settings.modbus.as_ref(), &desks, chips, &clock)?;
    let runtime = runtime()?;
    let commands = take_commands(settings, &desks, &clock)?;
    let publisher = start_publisher(&runtime, settings, &store, &clock, commands.as_ref())?;
    let edge = start_edge_node(&runtime, settings, &store, &clock)?;
    for (desk, publisher) in desks.iter().flat_map(|desk| Some((desk, publisher.clone()?))) {
        desk.connect(publisher);
    }
    let (caller, calls) = flume::bounded(1);
    let recorder = Recorder::new(Office {
        store: store.clone(),
        publisher: publisher.clone(),
        edge: edge.clone(),
        keeper: caller,
        desks: &desks,
        clips: clips.clone(),
        clerk: clerk.clone(),
        stop: Arc::clone(&stop),
        run,
        lines: options.lines,
    });
    let database = settings.store.path.display().to_string();
    let path = settings.model.path.display().to_string();
    telemetry::ready(stations.len(), &path, &device, &database);

    for desk in &desks {
        desk.record_cut_off(&clerk, &recorder)?;
        desk.change(|contract, now| contract.start(now));
    }
    let ledger = Ledger::new(store.clone(), lists);
    let inspector = Inspector::new(model, clerk.clone()).with_ledger(Arc::new(ledger));
    let keep = || keeper::run(&store, settings.store.retention, &calls);
    let commands = commands.as_deref();
    let beside = Beside { watcher: &watcher, clerk: &clerk, commands, outputs: &outputs };
    let seen = work(lines, inspector, &recorder, &stop, &runtime, &beside, keep);
    for (station, clips) in &clips {
        clips.finish();
        telemetry::clips_stopped(station, &clips.counts());
    }
    recorder.tell_head();
    let (unsent, acknowledged) = runtime.block_on(say_goodbye(publisher, edge));
    let records = recorder.records();
    if let Err(error) = store.record_stop(&events::Stop { records, unsent }) {
        // Nothing is lost by it: the next start says that this run did not end in good order.
        telemetry::record_failed(&error.to_string());
    }
    let commits = recorder.commit_times();
    telemetry::stopped(records, unsent, commits.p50_us, commits.p99_us, commits.max_us);
    let (frames_delivered, frames_dropped) = seen?;
    Ok(Summary { records, unsent, acknowledged, frames_dropped, frames_delivered, commits })
}

/// The clips of each station that keeps some, by its name.
type ClipsOf = HashMap<String, Arc<Clips>>;

/// Begins to keep the last seconds of the stations that want that.
fn begin_clips(
    settings: &Settings,
    stations: &[Arc<Station>],
    store: &Store,
) -> Result<ClipsOf, DaemonError> {
    let mut all = ClipsOf::new();
    for station in stations {
        let Some(options) = station.clips.clone() else { continue };
        let (name, reserve) = (station.name.clone(), store.clone());
        let workshop = Workshop {
            subject: subject(station, &settings.device),
            dir: clips::folder(store.evidence_dir(), &station.name),
            latest: station.deadline,
            clock: store.clock(),
            has_room: Box::new(move || reserve.reserve() == ReserveState::Whole),
            tell: Box::new(move |told| match told {
                Told::Written { path, frames } => {
                    telemetry::clip_written(&name, &path.display().to_string(), frames);
                }
                Told::Failed(why) => telemetry::clip_failed(&name, &why),
            }),
        };
        let begun = Clips::begin(options, workshop).map_err(|why| {
            DaemonError::Other(format!("station \"{}\": [footage]: {why}", station.name))
        })?;
        all.insert(station.name.clone(), Arc::new(begun));
    }
    Ok(all)
}

/// Whose footage it is.
fn subject(station: &Station, device: &str) -> Subject {
    Subject {
        device: device.to_owned(),
        station: station.name.clone(),
        config_sha256: station.config_digest.clone(),
    }
}

/// A loaded model, and what records say of it.
pub struct Loaded {
    /// The model.
    pub engine: Arc<Engine>,
    /// Which it is, and where it computes.
    pub decider: Decider,
}

/// As [`load_engine`], after a look at whether the model fits into memory with the questions of
/// `stations`.
///
/// # Errors
/// As [`plan::fits`] and [`load_engine`].
pub fn load_within_memory(
    settings: &Settings,
    stations: &[Arc<Station>],
) -> Result<Loaded, DaemonError> {
    let model = &settings.model;
    let placement = device::find(model.device).map_err(DaemonError::model)?;
    let options = model.engine_options(&placement);
    plan::fits(&model.path, &options, model.memory_budget_bytes, stations)?;
    load_engine(settings)
}

/// Loads the model with the settings' device, precision and bounds. The threads it computes in are bounded
/// for the whole process, by the first call.
pub fn load_engine(settings: &Settings) -> Result<Loaded, DaemonError> {
    use_threads(settings.model.threads);
    let placement = device::find(settings.model.device).map_err(DaemonError::model)?;
    if let Some(why) = &placement.fallback {
        telemetry::computes_on_cpu(why);
    }
    let engine = Engine::load(&settings.model.path, &settings.model.engine_options(&placement))
        .map_err(DaemonError::model)?;
    let decider = Decider::of(&engine, placement.fallback);
    Ok(Loaded { engine: Arc::new(engine), decider })
}

/// Bounds the threads that any model of this process computes in. The first call counts.
pub fn use_threads(threads: usize) {
    // The one error is that the pool stands already, as in a second load: then its size holds.
    let _ = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
}

/// What inspects from now on, as the audit log's `start` tells it.
fn describe_run(settings: &Settings, stations: &[Arc<Station>], decider: &Decider) -> events::Run {
    let computed_on = decider.computed_on.as_ref();
    let digest = |station: &Arc<Station>| (station.name.clone(), station.config_digest.clone());
    events::Run {
        device: settings.device.clone(),
        program_version: env!("CARGO_PKG_VERSION").to_owned(),
        program_sha256: program_digest(),
        // Filled in when it is known.
        model_sha256: String::new(),
        computes_on: computed_on
            .map_or_else(String::new, |on| format!("{}, {}", on.processor, on.precision)),
        stations: stations.iter().map(digest).collect(),
    }
}

/// SHA-256 of the running program's file, or `unknown` where the system hides it.
pub fn program_digest() -> String {
    let file = std::env::current_exe().and_then(std::fs::File::open);
    // In pieces: the whole program would be the largest thing in memory at the start.
    let digest = file.and_then(|mut file| Digest::of_reader(&mut file, |_| ()));
    digest.map_or_else(|_| "unknown".to_owned(), |(digest, _)| digest.to_string())
}

/// Takes up the lists of expected serials where they were.
fn open_lists(
    settings: &Settings,
    stations: &[Arc<Station>],
) -> Result<ExpectedLists, DaemonError> {
    let rules = stations.iter().filter_map(|station| {
        let rule = station.rules.serial.as_ref()?;
        Some((station.name.as_str(), rule))
    });
    let (lists, outdated) = ExpectedLists::open(&settings.store.path, rules, Access::Write)
        .map_err(|error| DaemonError::Other(error.to_string()))?;
    outdated.iter().for_each(|station| telemetry::expected_list_outdated(station));
    Ok(lists)
}

fn set_up_desks(
    stations: &[Arc<Station>],
    clock: &Arc<dyn Clock>,
    store: &Store,
    watcher: &Arc<Watcher>,
) -> Result<Vec<Arc<Desk>>, DaemonError> {
    let set_up = |station: &Arc<Station>| {
        let (watcher, clock) = (Arc::clone(watcher), Arc::clone(clock));
        Ok(Arc::new(Desk::open(station, store.clone(), watcher, clock)?))
    };
    stations.iter().map(set_up).collect()
}

/// The commands that the broker may bring, if a station takes any.
fn take_commands(
    settings: &Settings,
    desks: &[Arc<Desk>],
    clock: &Arc<dyn Clock>,
) -> Result<Option<Arc<Commands>>, DaemonError> {
    let Some(broker) = &settings.broker else { return Ok(None) };
    let topics = Topics::new(&broker.prefix, &broker.device)
        .map_err(|error| DaemonError::Other(error.to_string()))?;
    Ok(Commands::new(&topics, desks.iter(), Arc::clone(clock)).map(Arc::new))
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
    commands: Option<&Arc<Commands>>,
) -> Result<Option<PublisherHandle>, DaemonError> {
    let Some(options) = settings.broker.clone() else { return Ok(None) };
    let _inside = runtime.enter();
    let (store, clock) = (store.clone(), Arc::clone(clock));
    let started = match commands {
        Some(commands) => Publisher::spawn_with_inbox(options, store, clock, commands.clone()),
        None => Publisher::spawn(options, store, clock),
    };
    started.map(Some).map_err(|error| DaemonError::Other(error.to_string()))
}

/// What works beside the lines and the model.
struct Beside<'b> {
    watcher: &'b Watcher,
    clerk: &'b Clerk,
    commands: Option<&'b Commands>,
    outputs: &'b Outputs,
}

fn start_edge_node(
    runtime: &tokio::runtime::Runtime,
    settings: &Settings,
    store: &Store,
    clock: &Arc<dyn Clock>,
) -> Result<Option<EdgeHandle>, DaemonError> {
    let (Some(options), Some(broker)) = (settings.sparkplug.clone(), settings.broker.clone())
    else {
        return Ok(None);
    };
    let _inside = runtime.enter();
    // Commands from hosts are refused until stations take any.
    EdgeNode::spawn(options, broker, store, Arc::clone(clock), None)
        .map(Some)
        .map_err(|error| DaemonError::Other(error.to_string()))
}

/// Sends what waits and ends both connections; answers the results unsent, and those acknowledged.
async fn say_goodbye(publisher: Option<PublisherHandle>, edge: Option<EdgeHandle>) -> (u64, u64) {
    let edge = async {
        if let Some(edge) = edge {
            edge.stop(DRAIN_TIMEOUT).await;
        }
    };
    let publisher = async {
        let Some(publisher) = publisher else { return (0, 0) };
        let acknowledged = publisher.state().borrow().sent;
        let drained = publisher.drain_and_stop(DRAIN_TIMEOUT).await;
        (drained.unsent, publisher.state().borrow().sent.max(acknowledged))
    };
    tokio::join!(publisher, edge).0
}

/// Runs the threads to their end and answers the frames delivered and dropped.
fn work<M: Model + Send>(
    lines: Vec<Line>,
    mut inspector: Inspector<M>,
    recorder: &Recorder,
    stop: &Arc<Stop>,
    runtime: &tokio::runtime::Runtime,
    beside: &Beside<'_>,
    keep: impl FnOnce() + Send,
) -> Result<(u64, u64), DaemonError> {
    let room = lines.iter().map(Line::queue_parts).sum();
    let (sender, parts) = flume::bounded::<InHand>(room);
    let signals = runtime.spawn(stop::on_signal(Arc::clone(stop)));
    let seen = thread::scope(|scope| {
        scope.spawn(|| recorder.begin());
        scope.spawn(|| beside.watcher.run(beside.clerk, recorder));
        scope.spawn(|| beside.commands.map(Commands::run));
        beside.outputs.run(scope);
        let watched: Vec<_> = lines
            .into_iter()
            .map(|line| {
                let sender = sender.clone();
                scope.spawn(move || line.run(&Out { parts: &sender, recorder }))
            })
            .collect();
        drop(sender);
        scope.spawn(keep);
        let _ends = recorder.keeping();
        inspect_all(&parts, &mut inspector, recorder, stop);
        let seen = watched.into_iter().fold((0, 0), |sum, line| {
            let (delivered, dropped) = line.join().unwrap_or((0, 0));
            (sum.0 + delivered, sum.1 + dropped)
        });
        beside.watcher.close();
        if let Some(commands) = beside.commands {
            commands.close();
        }
        beside.outputs.close();
        seen
    });
    signals.abort();
    match recorder.failure() {
        Some(error) => Err(error),
        None => Ok(seen),
    }
}

/// The model's thread: looks at parts until every line has ended.
fn inspect_all<M: Model>(
    parts: &flume::Receiver<InHand>,
    inspector: &mut Inspector<M>,
    recorder: &Recorder,
    stop: &Stop,
) {
    let mut pictures = PictureWatch::default();
    while let Ok(InHand { mut part, hand }) = parts.recv() {
        if stop.is_set() && !stop.all_triggered() {
            // The part in hand was finished; those that still wait are recorded, not dropped.
            let stopped = Reason::new("stopped", "The daemon was stopped before it looked.");
            part.missed = Some(stopped);
        }
        let mut early = |partial: Inspection| hand.record_partial(&partial, recorder);
        let inspection = inspector.inspect_telling(&part, recorder, &mut early);
        if let Some(well) = model_did_well(&inspection) {
            hand.desk().change(|contract, now| contract.model_answered(well, now));
        }
        let station = Arc::clone(&part.station);
        let seen = inspection.clone();
        hand.record(inspection, recorder);
        pictures.see(&station, &seen, hand.desk(), recorder);
        // The ticket before the place: who is told that there is a place finds one.
        drop(part);
        drop(hand);
    }
}

/// Whether the model answered anything; `None` if it had no chance to.
fn model_did_well(inspection: &Inspection) -> Option<bool> {
    let is_late = inspection.timeliness.deadline_met == Some(false);
    let was_asked = !inspection.questions.is_empty() && !is_late;
    was_asked.then(|| inspection.questions.iter().any(|asked| asked.answer.is_some()))
}
