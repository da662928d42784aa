//! Builds the parts, joins them with bounded channels, starts and stops them.
//!
//! One thread a station pulls frames and decides what is to be looked at; one thread owns the model
//! and looks, and a few ask each engine elsewhere; one keeps the log's disk in order; tokio carries the messages. The threads meet in a
//! bounded queue of parts. Whoever decides about a part, by looking or by missing it, hands the record to the `Recorder`, so that
//! every trigger ends as a committed record: one, or, where the deadline passed or the verdict stood
//! early, one and the update of it. Where the line's controller has a contract with a station, one
//! thread takes its commands, and one watches the deadlines; both meet the others at the `Desk`.

mod admission;
mod camera_watch;
mod commands;
mod commit_times;
mod connect;
mod desk;
pub mod engines;
mod error;
mod eye;
mod filming;
mod floor;
mod heads;
mod inspecting;
mod keeper;
mod ledger;
mod line;
mod loading;
mod outputs;
pub mod overheard;
mod picture_watch;
pub mod plan;
mod recorder;
pub mod reload;
pub mod replay;
mod roster;
mod starter;
mod state;
mod stop;
mod tally;
mod thumbnail;
mod view;
mod vitals;
mod watchdog;
mod watcher;
mod work;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use crate::clock::SystemClock;
use crate::config::{Settings, Signer};
use crate::expected::ExpectedLists;
use crate::hard::gpio::{Chips, KernelChips};
use crate::inspector::{
    Clerk, Decider, EngineModel, Inspector, Model, NoModel, Questions, SerialLedger,
};
use crate::plc::ExpectHandler;
use crate::service;
use crate::station::Station;
use crate::store::{Store, events};
use crate::telemetry;
use crate::vlm::Digest;
use crate::web::{self, Server};

pub use commit_times::CommitTimes;
pub use error::DaemonError;
pub use filming::Recording;
pub use ledger::Ledger;
pub use loading::{Loaded, load_engine, load_within_memory, use_threads};
pub use stop::{Stop, on_signal};

use connect::{Wires, runtime};
use engines::{Asking, Opened};
use floor::Floor;
use outputs::Outputs;
use recorder::{Office, Recorder};
use reload::{Crew, FromFiles, Reloader, Renewal};
use roster::Roster;
use starter::Starter;
use state::State;
use vitals::Vitals;
use watchdog::Watchdog;
use watcher::Watcher;
use work::{Beside, work};

/// Stands for the model's digest where the device has no model.
const NO_MODEL: &str = "none";

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
    pub record: Option<Recording>,
    /// Where the configuration is from, to be read again.
    pub config: Option<PathBuf>,
    /// Who must have signed it when it is read again; `None`: nobody need have.
    pub signer: Option<Signer>,
    /// Memory that the model was planned with, in bytes: what is told of it.
    pub model_bytes: Option<u64>,
    /// Where a new configuration comes from, for a model that is not loaded here.
    pub renewal: Option<Arc<dyn Renewal>>,
    /// Footage in place of cameras; see [`replay::prepare`].
    pub from: Option<replay::Playback>,
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
    let needing = |station: &&Arc<Station>| station.needs_model();
    let local: Vec<Arc<Station>> = stations.iter().filter(needing).cloned().collect();
    let renewed = |questions: Option<Arc<Questions>>| {
        let files = options.config.clone().map(|path| -> Arc<dyn Renewal> {
            Arc::new(FromFiles { path, signer: options.signer.clone(), questions })
        });
        Options { renewal: options.renewal.clone().or(files), ..options.clone() }
    };
    if local.is_empty() {
        let (model, decider) = (NoModel, Decider::from(NO_MODEL));
        return serve(settings, &stations, &renewed(None), store, model, decider);
    }
    service::status("Loading the model.");
    let plan = plan::admit(settings, &local)?;
    let spare = plan.spare(&local);
    let Loaded { engine, decider } = load_engine(settings)?;
    let model = EngineModel::new(Arc::clone(&engine), &local)?;
    // A record names the model by its digest, and hashing goes on since loading began. The cameras
    // are opened, and it is said that all is ready, once the first part that may come would be
    // recorded within its deadline: the rest is hashed while that part is looked at.
    engine.pending_digest().wait_until_within(spare).map_err(DaemonError::model)?;
    let model_bytes = Some(plan.footprint.total_bytes());
    let options = Options { model_bytes, ..renewed(Some(model.questions())) };
    serve(settings, &stations, &options, store, model, decider)
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
    let (opened, ours) = Opened::new(settings, stations)?;
    // All cameras first: a daemon that cannot see must say so before it says that it is ready.
    let floor = lay_floor(settings, options, &store, &clerk)?;
    let (stop, vitals) = (Arc::clone(&floor.stop), Arc::clone(&floor.vitals));
    let ready = stations.iter().map(|station| floor.set_up(station, opened.ways()));
    let (members, lines): (Vec<_>, Vec<_>) =
        ready.collect::<Result<Vec<_>, _>>()?.into_iter().unzip();
    let roster = Arc::new(Roster::from(members));
    let desks = roster.desks();
    let runtime = runtime()?;
    let wires = Wires::open(settings, &runtime, &store, &clock, &desks)?;
    let (caller, calls) = flume::bounded(1);
    let recorder = Arc::new(open_office(&floor, &wires, &roster, caller.clone(), &run));
    let (watcher, outputs) = (Arc::clone(&floor.watcher), Arc::clone(&floor.outputs));
    let ledger: Arc<dyn SerialLedger> = Arc::new(Ledger::new(store.clone(), floor.lists.clone()));
    let engines = Arc::new(opened.begin(Asking {
        recorder: Arc::clone(&recorder),
        stop: Arc::clone(&stop),
        clerk: clerk.clone(),
        ledger: Arc::clone(&ledger),
        turns: Arc::default(),
    }));
    let (starter, joining) = Starter::new(&roster, &stop);
    let crew = Crew {
        roster: Arc::clone(&roster),
        floor,
        joining,
        news: wires.news(),
        recorder: Arc::clone(&recorder),
        engines: Arc::clone(&engines),
    };
    let reloader = options.renewal.clone().map(|renewal| {
        let current = (settings.clone(), stations.to_vec(), run);
        Arc::new(Reloader::new(renewal, crew, caller, store.clone(), current))
    });
    let model_path = settings.model.path.display().to_string();
    let state = Arc::new(State {
        device: settings.device.clone(),
        model: web::status::Model {
            path: model_path.clone(),
            computes_on: device.clone(),
            planned_bytes: options.model_bytes,
        },
        since: Instant::now(),
        clock: Arc::clone(&clock),
        roster: Arc::clone(&roster),
        publisher: wires.publisher.clone(),
        copy: wires.copy.as_ref().map(|copy| copy.state()),
        store: store.clone(),
        vitals: Arc::clone(&vitals),
        reloader: reloader.clone(),
    });
    let database = settings.store.path.display().to_string();
    let _server = serve_web(settings, &runtime, &state);
    let _watchdog = Watchdog::start(&vitals)?;
    telemetry::ready(&settings.device, stations.len(), &model_path, &device, &database);
    service::ready();

    for desk in &desks {
        desk.begin_work(&clerk, &recorder)?;
    }
    let inspector = Inspector::new(model, clerk.clone()).with_ledger(Arc::clone(&ledger));
    let keep = || keeper::run(&store, settings.store.retention, &calls);
    let beside = Beside {
        engines: &engines,
        watcher: &watcher,
        clerk: &clerk,
        commands: wires.commands.as_deref(),
        outputs: &outputs,
        vitals: &vitals,
        reloader,
    };
    let seen =
        work((starter, lines), (inspector, &ours), &recorder, &stop, &runtime, &beside, keep);
    roster.all().iter().for_each(|member| member.end_clips());
    let summary = conclude(&recorder, wires, &store, &runtime);
    let (frames_delivered, frames_dropped) = seen?;
    Ok(Summary { frames_delivered, frames_dropped, ..summary })
}

/// Where every record passes.
fn open_office(
    floor: &Floor,
    wires: &Wires,
    roster: &Arc<Roster>,
    keeper: flume::Sender<keeper::Call>,
    run: &events::Run,
) -> Recorder {
    Recorder::new(Office {
        store: floor.store.clone(),
        publisher: wires.publisher.clone(),
        edge: wires.edge.clone(),
        traces: wires.traces.clone(),
        keeper,
        roster: Arc::clone(roster),
        clerk: floor.clerk.clone(),
        stop: Arc::clone(&floor.stop),
        vitals: Arc::clone(&floor.vitals),
        run: run.clone(),
        lines: floor.options.lines,
    })
}

/// Records the end and tells of it; answers all but the frames.
fn conclude(
    recorder: &Recorder,
    mut wires: Wires,
    store: &Store,
    runtime: &tokio::runtime::Runtime,
) -> Summary {
    recorder.tell_head();
    let (unsent, acknowledged) = wires.say_goodbye(runtime);
    let records = recorder.records();
    if let Err(error) = store.record_stop(&events::Stop { records, unsent }) {
        // Nothing is lost by it: the next start says that this run did not end in good order.
        telemetry::record_failed(&error.to_string());
    }
    wires.end_copy();
    let commits = recorder.commit_times();
    telemetry::stopped(records, unsent, commits.p50_us, commits.p99_us, commits.max_us);
    Summary { records, unsent, acknowledged, commits, ..Summary::default() }
}

/// What all stations of a run have in common.
fn lay_floor(
    settings: &Settings,
    options: &Options,
    store: &Store,
    clerk: &Clerk,
) -> Result<Floor, DaemonError> {
    let clock = store.clock();
    let chips = options.chips.clone().unwrap_or_else(|| Arc::new(KernelChips));
    let outputs = Outputs::open(settings.modbus.as_ref(), Arc::clone(&chips), &clock)?;
    Ok(Floor {
        chips,
        outputs: Arc::new(outputs),
        clerk: clerk.clone(),
        stop: options.stop.clone().unwrap_or_else(|| Arc::new(Stop::new(options.parts))),
        options: options.clone(),
        vitals: Arc::new(Vitals::new(service::watchdog())),
        store: store.clone(),
        database: settings.store.path.clone(),
        watcher: Arc::new(Watcher::new(Arc::clone(&clock))),
        lists: ExpectedLists::default(),
        clock,
    })
}

/// Serves metrics, health and commands. What cannot be served is told: a line does not stop for it.
fn serve_web(settings: &Settings, runtime: &tokio::runtime::Runtime, state: &Arc<State>) -> Server {
    let mut server = Server::new(runtime.handle());
    let control = web::control_path(&settings.store.path);
    if let Err(why) = server.serve_control(&control, state.clone()) {
        telemetry::web_failed(&why.to_string());
    }
    let listener = match (service::take_listener("web"), &settings.web) {
        (Ok(Some(given)), _) => Some(given),
        (Ok(None), None) => None,
        (Ok(None), Some(options)) => {
            web::listen(options).map_err(|why| telemetry::web_failed(&why.to_string())).ok()
        }
        (Err(why), _) => {
            telemetry::web_failed(&why);
            None
        }
    };
    if let Some(listener) = listener {
        let address = listener.local_addr().map(|address| address.to_string());
        match server.serve_open(listener, state.clone()) {
            Ok(()) => telemetry::web_serves(&address.unwrap_or_default()),
            Err(why) => telemetry::web_failed(&why.to_string()),
        }
    }
    server
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
