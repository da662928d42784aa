//! `inspectd demo`: the whole line on one machine, with nothing to set up.
//!
//! Footage of a simulated belt plays through a real pipeline, the built-in model looks at every
//! part, the audit log is written, and a broker inside this process acknowledges every result. All
//! of it is the daemon's own path: the demo only writes its configuration and reads its log.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Exit, simulate};
use crate::builtin;
use crate::daemon::{self, Summary};
use crate::evaluate::score::percentile;
use crate::evaluate::truth::{self, Truth};
use crate::publish::demo_broker::DemoBroker;
use crate::simulate::footage::FootageOptions;
use crate::store::{Filter, Reader, Record};
use crate::{config, telemetry};

pub const EXAMPLES: &str = "\
Examples:
  inspectd demo                  until Ctrl-C
  inspectd demo --parts 20       stop after 20 parts and compare with the footage's truth";

/// Parts of the footage that plays again and again when no number is given.
const ENDLESS_PARTS: u32 = 30;

#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// Stop after this many parts and print a summary against the footage's truth.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    parts: Option<u32>,
    /// The same seed gives the same footage.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Belt speed in millimetres per second.
    #[arg(long, default_value_t = 120.0, value_name = "MM_PER_S")]
    speed: f64,
    /// Where footage, records and evidence go; each run gets a folder of its own.
    #[arg(long, value_name = "DIR", default_value = "demo-data")]
    dir: PathBuf,
}

/// Makes footage, runs the daemon on it, and compares.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    // The demo's broker tells of every connection that ends as an error.
    telemetry::start("warn,rumqttd=off", telemetry::Format::Auto);
    let footage = footage(arguments)?;
    let broker = DemoBroker::start().map_err(|error| Exit::Failed.because(error))?;
    let dir = run_dir(&arguments.dir)?;
    let repeat = arguments.parts.is_none();
    let file = write_config(&dir, &footage, broker.port(), repeat)?;
    let loaded = super::run::load(&super::ConfigFile { path: file.clone() })?;
    println!("footage   {}", footage.display());
    println!("config    {}", file.display());
    println!("broker    127.0.0.1:{} (inside this process)\n", broker.port());
    let options = daemon::Options {
        parts: arguments.parts.map(u64::from),
        lines: true,
        ..daemon::Options::default()
    };
    let summary =
        daemon::run(&loaded.settings, &loaded.stations, &options).map_err(super::run::exit_of)?;
    let reader =
        Reader::open(&loaded.settings.store.path).map_err(|error| Exit::Store.because(error))?;
    let records = reader.list(&Filter::default()).map_err(|error| Exit::Store.because(error))?;
    let truths = truth::read_labels(&truth_file(&footage))?;
    let all = records.len() as u64;
    let records = first_of_each_part(records)?;
    report(&summary, &records, &truths);
    println!("records   inspectd audit list --config {}", file.display());
    verify(arguments.parts.map(u64::from), &summary, records.len() as u64, all)
}

/// One record a part: a part that was late has its full answer as an update of its first record.
fn first_of_each_part(records: Vec<Record>) -> anyhow::Result<Vec<Record>> {
    let mut first = Vec::with_capacity(records.len());
    for record in records {
        let look = record.inspection().map_err(|error| Exit::Store.because(error))?;
        if look.timeliness.updates.is_none() {
            first.push(record);
        }
    }
    Ok(first)
}

/// The files of the built-in model and station, removed with this value.
pub(super) struct BuiltinSite(PathBuf);

impl Drop for BuiltinSite {
    fn drop(&mut self) {
        // What cannot be removed from the temporary folder, the system removes some day.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The configuration in `config`, or the built-in demo's with its files; `model` takes the place of
/// the configured one.
pub(super) fn configured(
    config: Option<&Path>,
    model: Option<&Path>,
) -> anyhow::Result<(config::Loaded, Option<BuiltinSite>)> {
    let Some(path) = config else {
        let (loaded, site) = embedded(model)?;
        return Ok((loaded, Some(site)));
    };
    let mut loaded = super::run::load(&super::ConfigFile { path: path.to_owned() })?;
    if let Some(model) = model {
        loaded.settings.model.path = model.to_owned();
    }
    Ok((loaded, None))
}

/// The built-in station with its model, or with `model`: what `evaluate` asks by default.
pub(super) fn embedded(model: Option<&Path>) -> anyhow::Result<(config::Loaded, BuiltinSite)> {
    let name = format!("inspectd-builtin-{}", uuid::Uuid::now_v7());
    let site = BuiltinSite(std::env::temp_dir().join(name));
    fs::create_dir_all(&site.0)?;
    let file = write_config(&site.0, &site.0.join("none.mkv"), 1, false)?;
    let mut loaded = super::run::load(&super::ConfigFile { path: file })?;
    if let Some(model) = model {
        loaded.settings.model.path = model.to_owned();
    }
    Ok((loaded, site))
}

fn footage(arguments: &Arguments) -> anyhow::Result<PathBuf> {
    let parts = arguments.parts.unwrap_or(ENDLESS_PARTS);
    let name = format!("line-{parts}-parts-seed-{}-{}-mm-s.mkv", arguments.seed, arguments.speed);
    fs::create_dir_all(&arguments.dir).map_err(|error| {
        anyhow::anyhow!("cannot make the folder {}: {error}", arguments.dir.display())
    })?;
    let out = arguments.dir.canonicalize()?.join(name);
    if !(out.exists() && truth_file(&out).exists()) {
        let (seed, speed_mm_per_s) = (arguments.seed, arguments.speed);
        simulate::write_footage(&FootageOptions { parts, seed, speed_mm_per_s, out: out.clone() })?;
    }
    Ok(out)
}

fn truth_file(footage: &Path) -> PathBuf {
    let mut name = footage.as_os_str().to_owned();
    name.push(".truth.jsonl");
    PathBuf::from(name)
}

/// A fresh folder for this run, named by the time, so that no run touches another's records.
fn run_dir(parent: &Path) -> anyhow::Result<PathBuf> {
    let stamp = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%S");
    let dir = parent.join(format!("run-{stamp}-{}", std::process::id()));
    fs::create_dir_all(&dir)
        .map_err(|error| anyhow::anyhow!("cannot make the folder {}: {error}", dir.display()))?;
    Ok(dir.canonicalize()?)
}

/// Writes the demo's configuration: the example station as it stands, with this run's paths.
fn write_config(dir: &Path, footage: &Path, port: u16, repeat: bool) -> anyhow::Result<PathBuf> {
    let model = dir.join("model");
    builtin::write_model(&model)
        .map_err(|error| anyhow::anyhow!("cannot write {}: {error}", model.display()))?;
    let quote = |path: &Path| toml::Value::String(path.display().to_string()).to_string();
    let main = format!(
        "[device]\nname = \"demo-box\"\n\n[model]\npath = {}\n\n[database]\npath = {}\n\
         evidence = {}\nreserve_mib = 0\n\n[broker]\nhost = \"127.0.0.1\"\nport = {port}\n\
         protocol = \"3.1.1\"\n\n[log]\nlevel = \"warn\"\n",
        quote(&model),
        quote(&dir.join("audit.db")),
        quote(&dir.join("evidence")),
    );
    let station = builtin::demo_station(footage, repeat);
    let stations = dir.join("stations");
    fs::create_dir_all(&stations)?;
    fs::write(stations.join("demo.toml"), station)?;
    let file = dir.join("inspectd.toml");
    fs::write(&file, main)?;
    Ok(file)
}

fn report(summary: &Summary, records: &[Record], truths: &[Truth]) {
    let pairs = || records.iter().zip(truths.iter().cycle());
    let right = pairs().filter(|(record, truth)| record.verdict == truth.verdict).count();
    let legible = pairs().filter(|(_, truth)| truth.serial.is_some()).count();
    let read =
        pairs().filter(|(record, truth)| truth.serial.is_some() && record.serial == truth.serial);
    let mut latencies: Vec<f64> = records.iter().filter_map(|record| record.latency_ms).collect();
    latencies.sort_by(f64::total_cmp);
    println!(
        "\nparts     {} records, {} acknowledged by the broker",
        records.len(),
        summary.acknowledged
    );
    println!("verdicts  {right} of {} right", records.len());
    println!("serials   {} of {legible} right", read.count());
    println!(
        "latency   p50 {:.0} ms, p99 {:.0} ms, from the frame to the verdict",
        percentile(&latencies, 50.0),
        percentile(&latencies, 99.0)
    );
    println!(
        "frames    {} seen, {} dropped (replaced by a newer one before anyone looked)",
        summary.frames_delivered, summary.frames_dropped
    );
}

/// The demo's promise: a record of each part, and `all` results acknowledged.
fn verify(parts: Option<u64>, summary: &Summary, records: u64, all: u64) -> anyhow::Result<()> {
    let Some(parts) = parts else { return Ok(()) };
    if records == parts && summary.acknowledged == all && summary.unsent == 0 {
        return Ok(());
    }
    Err(Exit::Check.because(anyhow::anyhow!(
        "{parts} parts were asked for; {records} are in the audit log, {} were acknowledged, {} are unsent",
        summary.acknowledged,
        summary.unsent
    )))
}
