//! `inspectd bench`: how fast the engine is here, stage by stage, beside what the machine can do.

mod show;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Exit, run as running};
use crate::bench::report::{BENCH_VERSION, Build, Model, ReportError};
use crate::bench::{
    BenchError, Comparison, Host, Kind, Limits, Memory, Plan, Report, Stage, inspections, stages,
};
use crate::config::{self, Settings};
use crate::daemon::{self, DaemonError};
use crate::inspector::EngineModel;
use crate::station::Station;
use crate::vlm::quant::Instructions;
use crate::vlm::weight_bytes::WeightBytes;
use crate::vlm::{CacheWish, Engine, device};
use crate::{evaluate, telemetry};

pub const EXAMPLES: &str = "\
Examples:
  inspectd bench                                            the built-in model, all stages
  inspectd bench --model phi3v-q4_k_m.gguf --prompt-tokens 512,2048 --json before.json
  inspectd bench --model phi3v-q4_k_m.gguf --prompt-tokens 512,2048 --compare before.json
  inspectd bench --config /etc/inspectd/inspectd.toml --station press-3 --stages inspection
  inspectd bench --stages decode --runs 30 --threads 2 --compare before.json --fail-above 5
  inspectd bench --show after.json --compare before.json    two files, nothing is measured
  inspectd bench --stages none                              the machine's limits alone

Stages: tower (one view of 336 px), projector (its 313 tokens), prefill-N (a text of N tokens),
decode-N (8 tokens written one by one after N others), inspection (a simulated part with all
questions of a station, whole pictures in place of its regions).

Operations and bytes are counted from the model's shapes, not measured. The limits are the best of
60 short rounds of each probe. A stage on a machine that does other work at the same time is slower
than it could be: its spread, the distance between the quartiles, tells. To compare two programs or
two models, run them in turn and let --add gather the runs; benches/ab does so.";

#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// The model: a folder or a .gguf file. Without it the configured one, or the built-in model.
    #[arg(long, value_name = "PATH")]
    model: Option<PathBuf>,
    /// The configuration whose model and station are measured; the built-in demo's without it.
    #[arg(long, short = 'c', value_name = "FILE")]
    config: Option<PathBuf>,
    /// The station whose questions an inspection asks; the first one without it.
    #[arg(long)]
    station: Option<String>,
    /// Stages, separated by commas; `none` for the machine's limits alone.
    #[arg(long, value_name = "LIST", default_value = "tower,projector,prefill,decode,inspection")]
    stages: String,
    /// Runs of each stage that count.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=1000))]
    runs: u16,
    /// Runs of each stage before them that do not count.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(0..=100))]
    warm_up: u16,
    /// Tokens of a prefill, and held before a decode; several separated by commas.
    #[arg(long, value_name = "LIST", default_value = "512", value_delimiter = ',')]
    prompt_tokens: Vec<usize>,
    /// Threads to compute with; the configured number, or all of the machine's, without it.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Option<u16>,
    /// What keys and values are kept in: auto, f32, f16 or compact; as configured without it.
    #[arg(long, value_name = "WORD")]
    cache: Option<CacheWish>,
    /// Write the report to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Add the runs to those that the file of --json has already, if it is there.
    #[arg(long, requires = "json")]
    add: bool,
    /// Compare with the report in this file.
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,
    /// End with exit code 6 if a stage is slower by more than so many percent, and by more than the
    /// noise of both.
    #[arg(long, value_name = "PERCENT", requires = "compare", value_parser = percent)]
    fail_above: Option<f64>,
    /// Show the report in this file, and compare it, instead of measuring.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["model", "config", "json", "threads", "cache"])]
    show: Option<PathBuf>,
}

/// Measures, shows, writes and compares.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    telemetry::start("warn", telemetry::Format::Auto);
    // What will be compared with or added to must be usable before anything is measured.
    let usage = |error: ReportError| Exit::Usage.because(error);
    let before = arguments.compare.as_deref().map(Report::read).transpose().map_err(usage)?;
    let report = match &arguments.show {
        Some(path) => Report::read(path).map_err(usage)?,
        None => {
            let earlier = earlier(arguments)?;
            let mut report = measure(arguments)?;
            if let Some(earlier) = earlier {
                report.add(earlier).map_err(usage)?;
            }
            report
        }
    };
    show::report(&report);
    if let Some(path) = &arguments.json {
        report.write(path).map_err(|error| Exit::Failed.because(error))?;
        println!("written to   {}", path.display());
    }
    let Some(before) = before else { return Ok(()) };
    let comparison = Comparison::of(&before, &report);
    show::comparison(&comparison);
    arguments.fail_above.map_or(Ok(()), |percent| gate(&comparison, percent))
}

/// The report that --add adds to; also sees to it that --json can be written later.
fn earlier(arguments: &Arguments) -> anyhow::Result<Option<Report>> {
    let Some(path) = &arguments.json else { return Ok(None) };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    if path.is_dir() || !folder.is_none_or(Path::is_dir) {
        let words = anyhow::anyhow!("--json: {} cannot be a file; name one", path.display());
        return Err(Exit::Usage.because(words));
    }
    if !(arguments.add && path.exists()) {
        return Ok(None);
    }
    Report::read(path).map(Some).map_err(|error| Exit::Usage.because(error))
}

fn gate(comparison: &Comparison, percent: f64) -> anyhow::Result<()> {
    if comparison.lines.is_empty() {
        let words =
            anyhow::anyhow!("no stage could be compared, so none is known to be fast enough");
        return Err(Exit::Check.because(words));
    }
    let slower: Vec<String> = comparison
        .slower_than(percent)
        .map(|line| format!("{} by {:.1} %", line.id, (line.ratio - 1.0) * 100.0))
        .collect();
    if slower.is_empty() {
        return Ok(());
    }
    let words = format!("slower by more than {percent} % and the noise: {}", slower.join(", "));
    Err(Exit::Check.because(anyhow::anyhow!(words)))
}

fn measure(arguments: &Arguments) -> anyhow::Result<Report> {
    let plan = plan(arguments)?;
    if cfg!(debug_assertions) {
        eprintln!(
            "inspectd: this is a debug build: figures and limits are a fraction of a release's, \
             and shares mean nothing"
        );
    }
    let (loaded, site) = load(arguments)?;
    let settings = &loaded.settings;
    let station = station(arguments, &loaded)?;
    let mut progress = show::Progress::new(plan.all_runs());
    let (mut model, mut stages) = (Model::default(), Vec::new());
    let mut memory = Memory::now();
    if plan.stages.is_empty() {
        daemon::use_threads(settings.model.threads);
    } else {
        progress.step("loading");
        (model, stages, memory) = measure_engine(settings, &station, &plan, &mut progress)?;
    }
    if site.is_some() {
        // Its folder and its station's digest are others at every start.
        name_built_in(&mut model, arguments);
    }
    progress.last("limits");
    // After the stages: the probe's memory is not the engine's.
    let machine = Host::here();
    let threads = rayon::current_num_threads();
    let limits = Limits::measure(threads, machine.cache_bytes, machine.memory_bytes);
    progress.end();
    let measured_at = jiff::Timestamp::now();
    let bench_version = BENCH_VERSION;
    let build = build();
    let mut report =
        Report { bench_version, measured_at, machine, build, model, limits, memory, stages };
    report.figure();
    Ok(report)
}

/// Loads the model and runs the stages of `plan`; says what memory that took.
fn measure_engine(
    settings: &Settings,
    station: &Arc<Station>,
    plan: &Plan,
    progress: &mut show::Progress,
) -> anyhow::Result<(Model, Vec<Stage>, Memory)> {
    let loaded = daemon::load_within_memory(settings, std::slice::from_ref(station));
    let engine = loaded.map_err(running::exit_of)?.engine;
    // Waits for the digest, so that no stage shares the processor with it.
    let mut model = describe(&engine, settings)?;
    let mut seen = |id: &str| progress.step(id);
    let mut stages = stages::measure(&engine, plan, &mut seen).map_err(exit_of)?;
    if plan.stages.contains(&Kind::Inspection) {
        model.station.clone_from(&station.config_digest);
        let stage = inspect(&engine, station, plan, &mut seen)?;
        put_in_place(&mut stages, stage, plan);
    }
    Ok((model, stages, Memory::now())) // while the model is there
}

fn name_built_in(model: &mut Model, arguments: &Arguments) {
    if arguments.model.is_none() {
        BUILT_IN.clone_into(&mut model.name);
    }
    if !model.station.is_empty() {
        BUILT_IN.clone_into(&mut model.station);
    }
}

fn plan(arguments: &Arguments) -> anyhow::Result<Plan> {
    let mut stages: Vec<Kind> = Vec::new();
    if arguments.stages.trim() != "none" {
        for word in arguments.stages.split(',') {
            let kind = word.trim().parse::<Kind>().map_err(|why| {
                Exit::Usage.because(anyhow::anyhow!("--stages: {why}, or `none`"))
            })?;
            if !stages.contains(&kind) {
                stages.push(kind);
            }
        }
    }
    let mut lengths: Vec<usize> = Vec::new();
    for length in &arguments.prompt_tokens {
        if !lengths.contains(length) {
            lengths.push(*length);
        }
    }
    if lengths.len() > LENGTHS_MAX {
        let words = anyhow::anyhow!("--prompt-tokens: at most {LENGTHS_MAX} lengths at a time");
        return Err(Exit::Usage.because(words));
    }
    let (runs, warm_up) = (usize::from(arguments.runs), usize::from(arguments.warm_up));
    Ok(Plan { stages, runs, warm_up, lengths })
}

/// The name of the model and the station that are inside the program.
const BUILT_IN: &str = "built-in";

/// Most lengths of one measurement, so that a report stays one that can be read back.
const LENGTHS_MAX: usize = 16;

/// The configuration, or the built-in one, with what the arguments replace.
fn load(
    arguments: &Arguments,
) -> anyhow::Result<(config::Loaded, Option<super::demo::BuiltinSite>)> {
    let (config, model) = (arguments.config.as_deref(), arguments.model.as_deref());
    let (mut loaded, site) = super::demo::configured(config, model)?;
    if let Some(threads) = arguments.threads {
        loaded.settings.model.threads = usize::from(threads);
    }
    if let Some(cache) = arguments.cache {
        loaded.settings.model.cache = cache;
    }
    Ok((loaded, site))
}

fn station(arguments: &Arguments, loaded: &config::Loaded) -> anyhow::Result<Arc<Station>> {
    let station = match &arguments.station {
        Some(name) => super::inspect::pick(&loaded.stations, name)?,
        None => loaded.stations.first().ok_or_else(|| {
            Exit::Usage.because(anyhow::anyhow!("the configuration has no station to inspect for"))
        })?,
    };
    Ok(Arc::new(evaluate::whole_picture_station(station)))
}

fn inspect(
    engine: &Arc<Engine>,
    station: &Arc<Station>,
    plan: &Plan,
    seen: &mut dyn FnMut(&str),
) -> anyhow::Result<Stage> {
    let model = EngineModel::new(Arc::clone(engine), std::slice::from_ref(station))
        .map_err(|error| running::exit_of(DaemonError::from(error)))?;
    inspections::measure(engine, model, station, plan, seen).map_err(exit_of)
}

/// Puts the inspection where the order of the stages has it.
fn put_in_place(stages: &mut Vec<Stage>, stage: Stage, plan: &Plan) {
    let before = plan.stages.iter().take_while(|kind| **kind != Kind::Inspection);
    let many = |kind: &Kind| match kind {
        Kind::Prefill | Kind::Decode => plan.lengths.len(),
        _ => 1,
    };
    let at = before.map(many).sum::<usize>().min(stages.len());
    stages.insert(at, stage);
}

fn exit_of(error: BenchError) -> anyhow::Error {
    let exit = match &error {
        BenchError::Length { .. } | BenchError::Border { .. } => Exit::Usage,
        BenchError::Engine(_) | BenchError::Question { .. } => Exit::Model,
    };
    exit.because(error)
}

fn describe(engine: &Engine, settings: &Settings) -> anyhow::Result<Model> {
    let path = settings.model.path.canonicalize().unwrap_or(settings.model.path.clone());
    let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into());
    let name: String = name.chars().filter(|c| !c.is_control()).take(80).collect();
    let decoder = engine.decoder();
    let parts = [
        engine.tower().weight_bytes(),
        engine.projector().weight_bytes(),
        decoder.layer_bytes(),
        decoder.head_bytes(),
    ];
    let weights: WeightBytes = parts.into_iter().sum();
    let options = engine.options();
    let digest = engine.digest().map_err(|error| Exit::Model.because(error))?;
    Ok(Model {
        name,
        digest: digest.to_string(),
        weights_bytes: weights.total(),
        quantised_bytes: weights.blocks,
        device: device::name(&options.device),
        precision: options.dtype.as_str().to_owned(),
        cache: engine.cache_form().to_string(),
        threads: rayon::current_num_threads(),
        station: String::new(),
    })
}

fn build() -> Build {
    Build {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        program: daemon::program_digest(),
        profile: if cfg!(debug_assertions) { "debug" } else { "release" }.to_owned(),
        target: format!("{} {}", std::env::consts::ARCH, std::env::consts::OS),
        kernels: format!("{:?}", Instructions::found()),
    }
}

fn percent(text: &str) -> Result<f64, String> {
    match text.trim_end_matches('%').trim().parse::<f64>() {
        Ok(percent) if percent.is_finite() && percent >= 0.0 => Ok(percent),
        _ => Err("write a number of percent, 0 or more".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percents_are_numbers_from_zero_up() {
        assert_eq!(percent("5"), Ok(5.0));
        assert_eq!(percent("2.5 %"), Ok(2.5));
        for wrong in ["-1", "NaN", "inf", "five", ""] {
            assert!(percent(wrong).is_err(), "{wrong}");
        }
    }
}
