//! `inspectd evaluate`: how right the answers are on a labelled set.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use comfy_table::{Cell, CellAlignment, Table, presets};

use super::demo::BuiltinSite;
use super::{Exit, simulate};
use crate::clock::{Clock, SystemClock};
use crate::daemon::{self, DaemonError};
use crate::evaluate::{self, Miss, Report, Truth};
use crate::inspection::Inspection;
use crate::inspector::{Clerk, Decider, EngineModel, Inspector, Model};
use crate::station::Station;
use crate::vlm::Engine;
use crate::{config, telemetry};

pub const EXAMPLES: &str = "\
Examples:
  inspectd simulate pictures --count 1000 --seed 7 --out set
  inspectd evaluate --set set
  inspectd evaluate --set set --json report.json --misses misses.jsonl
  inspectd evaluate --set set --config /etc/inspectd/inspectd.toml --station press-3
  inspectd evaluate --set set --config /etc/inspectd/inspectd.toml --adapter adapters/rust
  inspectd evaluate --set set --config /etc/inspectd/inspectd.toml --no-adapter

The pictures of a set show what a region sees. Without --config the built-in station is asked.";

#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// The folder with truth.jsonl and its pictures.
    #[arg(long, value_name = "DIR")]
    set: PathBuf,
    /// The configuration whose station is asked; the built-in demo's without it.
    #[arg(long, short = 'c', value_name = "FILE")]
    config: Option<PathBuf>,
    /// The station to ask; the first one without it.
    #[arg(long)]
    station: Option<String>,
    /// Ask this model (folder or GGUF file) instead of the configured one.
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    #[command(flatten)]
    adapter: super::adapter::Options,
    /// Write the figures to this file as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write every picture that was answered wrongly to this file, one JSON object a line.
    #[arg(long, value_name = "FILE")]
    misses: Option<PathBuf>,
}

/// Asks about every picture and prints the figures.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    telemetry::start("warn", telemetry::Format::Auto);
    let truths = evaluate::read_set(&arguments.set).map_err(|error| Exit::Usage.because(error))?;
    let Arguments { config, station, model, .. } = arguments;
    let mut asked = Asked::load(config.as_deref(), station.as_deref(), model.as_deref())?;
    asked.station = Arc::new(arguments.adapter.apply(Station::clone(&asked.station))?);
    if arguments.model.is_some() {
        // Who names a model wants to know about that one.
        asked.station = Arc::new(Station { engine: None, ..Station::clone(&asked.station) });
    }
    let stations = std::slice::from_ref(&asked.station);
    let (model, decider) = super::inspect::model(&asked.loaded.settings, stations)?;
    let bar = simulate::bar(truths.len() as u64, "pictures");
    let (report, misses) = asked
        .run_with(model, decider, &arguments.set, &truths, |done, _| bar.set_position(done))?;
    bar.finish_and_clear();
    print(&report);
    write(arguments, &report, &misses)
}

/// A station whose questions a set is asked.
pub(super) struct Asked {
    loaded: config::Loaded,
    station: Arc<Station>,
    /// The built-in site's files, as long as they are needed.
    _site: Option<BuiltinSite>,
}

impl Asked {
    /// The station `station` (the first without a name) of `config` (the built-in demo's without
    /// one); `model` takes the place of the configured one.
    pub(super) fn load(
        config: Option<&Path>,
        station: Option<&str>,
        model: Option<&Path>,
    ) -> anyhow::Result<Asked> {
        let (loaded, site) = super::demo::configured(config, model)?;
        let station = match station {
            Some(name) => super::inspect::pick(&loaded.stations, name)?,
            None => &loaded.stations[0],
        };
        let station = Arc::new(evaluate::whole_picture_station(station));
        Ok(Asked { loaded, station, _site: site })
    }

    /// Asks `engine` about every picture of the set.
    pub(super) fn run(
        &self,
        engine: &Arc<Engine>,
        set: &Path,
        truths: &[Truth],
        seen: impl FnMut(u64, &Inspection),
    ) -> anyhow::Result<(Report, Vec<Miss>)> {
        let model = EngineModel::new(Arc::clone(engine), std::slice::from_ref(&self.station))
            .map_err(|error| super::run::exit_of(DaemonError::from(error)))?;
        self.run_with(model, Decider::of(engine, None), set, truths, seen)
    }

    /// The same, asking any `model`.
    pub(super) fn run_with(
        &self,
        model: impl Model,
        decider: Decider,
        set: &Path,
        truths: &[Truth],
        seen: impl FnMut(u64, &Inspection),
    ) -> anyhow::Result<(Report, Vec<Miss>)> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let (device, program) = (&self.loaded.settings.device, daemon::program_digest());
        let clerk = Clerk::new(Arc::clone(&clock), device, decider, &program);
        let mut inspector = Inspector::new(model, clerk);
        let found = evaluate::run(set, truths, &self.station, &mut inspector, &*clock, seen)?;
        super::run::check_named(inspector.clerk())?;
        Ok(found)
    }
}

fn print(report: &Report) {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_BORDERS_ONLY);
    table.set_header(["figure", "share", "of", "95 % interval"]);
    for (name, share) in &report.intervals {
        table.add_row([
            Cell::new(name),
            Cell::new(format!("{:.2} %", share.share * 100.0)).set_alignment(CellAlignment::Right),
            Cell::new(format!("{}/{}", share.hits, share.of)).set_alignment(CellAlignment::Right),
            Cell::new(format!("{:.2} .. {:.2} %", share.low * 100.0, share.high * 100.0)),
        ]);
    }
    println!("{table}");
    println!("defect F1, mean of the classes: {:.4}", report.defect_f1_macro);
    for (class, f1) in &report.defect_f1 {
        println!("  {class:<16} {f1:.4}");
    }
    println!(
        "latency on this machine: p50 {:.0} ms, p99 {:.0} ms",
        report.latency_p50_ms, report.latency_p99_ms
    );
}

fn write(arguments: &Arguments, report: &Report, misses: &[Miss]) -> anyhow::Result<()> {
    let save = |path: &PathBuf, text: String| {
        std::fs::write(path, text)
            .map_err(|error| anyhow::anyhow!("cannot write {}: {error}", path.display()))
    };
    if let Some(path) = &arguments.json {
        save(path, serde_json::to_string_pretty(report)? + "\n")?;
    }
    if let Some(path) = &arguments.misses {
        let lines: Result<Vec<String>, _> = misses.iter().map(serde_json::to_string).collect();
        save(path, lines?.into_iter().map(|line| line + "\n").collect())?;
    }
    Ok(())
}
