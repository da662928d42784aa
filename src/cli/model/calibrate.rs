//! `inspectd model calibrate`: an importance matrix from a station's pictures.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::cli::demo;
use crate::cli::{Exit, inspect, run, simulate};
use crate::clock::{Clock, SystemClock};
use crate::daemon::{self, DaemonError, plan};
use crate::evaluate;
use crate::frame::{Frame, Rgb8};
use crate::inspector::{Clerk, Decider, EngineModel, EvidenceKeeper, Inspector, Part};
use crate::station::Station;
use crate::vlm::Engine;
use crate::vlm::calibrate::Observer;
use crate::vlm::device;
use crate::{config, telemetry};

pub const EXAMPLES: &str = "\
The model answers the station's questions about every picture of the folder, each as what a
region sees, and the mean square of every decoder matrix's inputs is written. A q8_0 file made
before does as well as the publisher's folder and needs half the memory: here the whole model is
loaded, so that the 2 GB with which `quantize` makes do are not enough.

Examples:
  inspectd model calibrate --model phi3v-q8_0.gguf -c inspectd.toml --station press-3 \\
      --pictures press-3-pictures --out press-3.imatrix
  inspectd model quantize --model DIR --format q4_k_m --imatrix press-3.imatrix --out press-3.gguf";

#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// The model: the publisher's folder, or a GGUF file made of it (best q8_0).
    #[arg(long, value_name = "PATH")]
    model: PathBuf,
    /// The folder with the station's pictures (PNG, JPEG, BMP), each as what a region sees.
    #[arg(long, value_name = "DIR")]
    pictures: PathBuf,
    /// The configuration whose station's questions are asked; the built-in demo's without it.
    #[arg(long, short = 'c', value_name = "FILE")]
    config: Option<PathBuf>,
    /// The station; the first one without it.
    #[arg(long)]
    station: Option<String>,
    /// Use the first N pictures by name; 0 for all. 50 to 100 are enough.
    #[arg(long, value_name = "N", default_value_t = 100)]
    most: usize,
    /// The file to write.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Nothing is kept of these pictures.
struct Nothing;

impl EvidenceKeeper for Nothing {
    fn keep(&self, _: &Rgb8) -> Result<String, String> {
        Ok(String::new())
    }
}

/// Runs the subcommand.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    telemetry::start("warn", telemetry::Format::Auto);
    if arguments.out.exists() {
        let out = arguments.out.display();
        return Err(Exit::Usage.because(anyhow::anyhow!("{out} is there already; remove it first")));
    }
    let pictures = list(&arguments.pictures, arguments.most)?;
    let (loaded, _site) = demo::configured(arguments.config.as_deref(), None)?;
    let station = match &arguments.station {
        Some(name) => inspect::pick(&loaded.stations, name)?,
        None => &loaded.stations[0],
    };
    // No answer is hurried: what counts is what the model sees on the way.
    let patient = Station {
        deadline: Duration::from_secs(86_400),
        ..evaluate::whole_picture_station(station)
    };
    let station = Arc::new(patient);
    let observer = Observer::default();
    let mut inspector = inspector(arguments, &loaded, &station, &observer)?;
    let bar = simulate::bar(pictures.len() as u64, "pictures");
    let mut failed = 0;
    for path in &pictures {
        let inspection = inspector.inspect(&part(&station, path)?, &Nothing);
        failed += usize::from(inspection.questions.iter().any(|asked| asked.error.is_some()));
        bar.inc(1);
    }
    bar.finish_and_clear();
    run::check_named(inspector.clerk())?;
    observer.write(&arguments.out).map_err(|error| Exit::Failed.because(error))?;
    println!(
        "{} pictures, {} tokens, {failed} with an error; importance written to {}",
        pictures.len(),
        observer.rows(),
        arguments.out.display()
    );
    Ok(())
}

fn inspector(
    arguments: &Arguments,
    loaded: &config::Loaded,
    station: &Arc<Station>,
    observer: &Observer,
) -> anyhow::Result<Inspector<EngineModel>> {
    let settings = &loaded.settings;
    daemon::use_threads(settings.model.threads);
    let placement =
        device::find(settings.model.device).map_err(|error| Exit::Model.because(error))?;
    let options = settings.model.engine_options(&placement);
    let (budget_bytes, asked) = (settings.model.memory_budget_bytes, std::slice::from_ref(station));
    plan::fits(&arguments.model, &options, budget_bytes, asked).map_err(run::exit_of)?;
    let engine = Engine::load_observed(&arguments.model, &options, Some(observer))
        .map_err(|error| Exit::Model.because(error))?;
    let engine = Arc::new(engine);
    let decider = Decider::of(&engine, placement.fallback);
    let model =
        EngineModel::new(engine, asked).map_err(|error| run::exit_of(DaemonError::from(error)))?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let clerk = Clerk::new(clock, &settings.device, decider, "calibration");
    Ok(Inspector::new(model, clerk))
}

/// The pictures of a folder by name, at most `most` unless that is 0.
fn list(dir: &Path, most: usize) -> anyhow::Result<Vec<PathBuf>> {
    let refuse = |why: String| {
        Exit::Usage.because(anyhow::anyhow!("no pictures from {}: {why}", dir.display()))
    };
    let entries = std::fs::read_dir(dir).map_err(|error| refuse(error.to_string()))?;
    let is_picture = |path: &PathBuf| {
        let ending = path.extension().unwrap_or_default().to_ascii_lowercase();
        let truth = path.to_string_lossy().ends_with(".truth.png");
        ["png", "jpg", "jpeg", "bmp"].iter().any(|known| ending == *known) && !truth
    };
    let paths = entries.map(|entry| entry.map(|entry| entry.path()));
    let paths: Result<Vec<PathBuf>, _> = paths.collect();
    let mut paths = paths.map_err(|error| refuse(error.to_string()))?;
    paths.retain(is_picture);
    paths.sort();
    if most > 0 {
        paths.truncate(most);
    }
    match paths.is_empty() {
        true => Err(refuse("there are no PNG, JPEG or BMP files".to_string())),
        false => Ok(paths),
    }
}

fn part(station: &Arc<Station>, path: &Path) -> anyhow::Result<Part> {
    let now = SystemClock.now();
    let frame = Frame {
        sequence: 1,
        camera: Arc::from(station.name.as_str()),
        captured: now,
        pipeline_ns: None,
        picture: inspect::read(path)?.into(),
    };
    let mut part = Part::new(station, 0, path.display().to_string(), now);
    part.frame = Some(Arc::new(frame));
    Ok(part)
}
