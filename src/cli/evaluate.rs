//! `inspectd evaluate`: how right the answers are on a labelled set.

use std::path::PathBuf;
use std::sync::Arc;

use comfy_table::{Cell, CellAlignment, Table, presets};

use super::demo::BuiltinSite;
use super::{Exit, simulate};
use crate::clock::{Clock, SystemClock};
use crate::daemon::{self, DaemonError};
use crate::evaluate::{self, Miss, Report};
use crate::inspector::{Clerk, EngineModel, Inspector};
use crate::{config, telemetry};

pub const EXAMPLES: &str = "\
Examples:
  inspectd simulate pictures --count 1000 --seed 7 --out set
  inspectd evaluate --set set
  inspectd evaluate --set set --json report.json --misses misses.jsonl
  inspectd evaluate --set set --config /etc/inspectd/inspectd.toml --station press-3

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
    /// Ask this model folder instead of the configured one.
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
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
    let (loaded, _site) = load(arguments)?;
    let station = match &arguments.station {
        Some(name) => super::inspect::pick(&loaded.stations, name)?,
        None => &loaded.stations[0],
    };
    let station = Arc::new(evaluate::whole_picture_station(station));
    let mut settings = loaded.settings;
    if let Some(model) = &arguments.model {
        settings.model.path.clone_from(model);
    }
    let engine = daemon::load_engine(&settings).map_err(super::run::exit_of)?;
    let model = EngineModel::new(Arc::clone(&engine), std::slice::from_ref(&station))
        .map_err(|error| super::run::exit_of(DaemonError::from(error)))?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let digest = engine.digest().to_string();
    let clerk =
        Clerk::new(Arc::clone(&clock), &settings.device, &digest, &daemon::program_digest());
    let mut inspector = Inspector::new(model, clerk);

    let bar = simulate::bar(truths.len() as u64, "pictures");
    let (report, misses) =
        evaluate::run(&arguments.set, &truths, &station, &mut inspector, &*clock, |done| {
            bar.set_position(done);
        })?;
    bar.finish_and_clear();
    print(&report);
    write(arguments, &report, &misses)
}

/// The configuration, and the built-in site's files if it is that one.
fn load(arguments: &Arguments) -> anyhow::Result<(config::Loaded, Option<BuiltinSite>)> {
    match &arguments.config {
        Some(path) => Ok((super::run::load(&super::ConfigFile { path: path.clone() })?, None)),
        None => {
            let (loaded, site) = super::demo::embedded(arguments.model.as_deref())?;
            Ok((loaded, Some(site)))
        }
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
