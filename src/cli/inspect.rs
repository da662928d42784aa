//! `inspectd inspect`: one picture, one record.

use std::path::PathBuf;
use std::sync::Arc;

use super::{ConfigFile, Exit};
use crate::clock::{Clock, SystemClock};
use crate::daemon::{self, DaemonError};
use crate::frame::{Frame, Rgb8, file};
use crate::inspection::Digests;
use crate::inspector::{
    Clerk, Decider, EngineModel, EvidenceKeeper, Inspector, Model, Part, RemoteModel,
};
use crate::remote::EngineOptions;
use crate::station::{Station, Vote};
use crate::{config, evaluate, telemetry};

pub const EXAMPLES: &str = "\
Examples:
  inspectd inspect part.png --station demo --config config/inspectd.toml
  inspectd inspect crop.png --station demo --whole     (the picture is what the region sees)
  inspectd inspect crop.png --station demo --whole --adapter adapters/rust";

#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// The picture: PNG, JPEG or BMP.
    image: PathBuf,
    /// The station whose regions, questions and rules apply.
    #[arg(long)]
    station: String,
    #[command(flatten)]
    config: ConfigFile,
    /// Take the picture as what each region sees instead of cutting the regions out of it.
    #[arg(long)]
    whole: bool,
    #[command(flatten)]
    adapter: super::adapter::Options,
}

/// Names the evidence but leaves no file: this command is for trying, not for the log.
struct NamesOnly;

impl EvidenceKeeper for NamesOnly {
    fn keep(&self, picture: &Rgb8) -> Result<String, String> {
        Ok(crate::vlm::Digest::of(&picture.data).to_string())
    }
}

/// Prints the record as JSON; nothing is stored or published.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let loaded = super::run::load(&arguments.config)?;
    telemetry::start("warn", telemetry::Format::Auto);
    let station = pick(&loaded.stations, &arguments.station)?;
    let station =
        if arguments.whole { evaluate::whole_picture_station(station) } else { station.clone() };
    // One picture is all that there is of this part.
    let station = Station { vote: Vote::default(), ..station };
    let station = Arc::new(arguments.adapter.apply(station)?);
    let picture = read(&arguments.image)?;

    let settings = &loaded.settings;
    let asked = std::slice::from_ref(&station);
    let (model, decider) = model(settings, asked)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let program = daemon::program_digest();
    let clerk = Clerk::new(Arc::clone(&clock), &settings.device, decider, &program);
    let now = clock.now();
    let frame = Frame {
        sequence: 1,
        camera: Arc::from(station.name.as_str()),
        captured: now,
        pipeline_ns: None,
        picture: picture.into(),
    };
    let mut part = Part::new(&station, 0, arguments.image.display().to_string(), now);
    part.frame = Some(Arc::new(frame));
    let ledger = super::serial::ledger_beside(settings, &part.station)?;
    let mut inspector = Inspector::new(model, clerk).with_ledger(Arc::new(ledger));
    let inspection = inspector.inspect(&part, &NamesOnly);
    println!("{}", serde_json::to_string_pretty(&inspection)?);
    super::run::check_named(inspector.clerk())
}

/// Who answers: the device's own model, or the engine that the station asks. Nobody takes its place here:
/// whoever tries an engine wants to know how it does.
pub(super) fn model(
    settings: &config::Settings,
    asked: &[Arc<Station>],
) -> anyhow::Result<(Box<dyn Model>, Decider)> {
    let failed = |error: DaemonError| super::run::exit_of(error);
    let used = asked.iter().find_map(|station| station.engine.as_ref());
    if let Some(used) = used {
        let named = |options: &&EngineOptions| options.name == used.name;
        let options = settings.engines.iter().find(named).expect("checked with the configuration");
        let engine = daemon::engines::open(options).map_err(failed)?;
        let model = RemoteModel::new(engine, asked, None);
        let model = model.map_err(|error| failed(DaemonError::from(error)))?;
        return Ok((Box::new(model), Decider::from(Digests::REMOTE)));
    }
    let loaded = daemon::load_within_memory(settings, asked).map_err(failed)?;
    let model = EngineModel::new(loaded.engine, asked);
    let model = model.map_err(|error| failed(DaemonError::from(error)))?;
    Ok((Box::new(model), loaded.decider))
}

/// The station of this name, or an error that lists those there are.
pub(super) fn pick<'s>(stations: &'s [Station], name: &str) -> anyhow::Result<&'s Station> {
    stations.iter().find(|station| station.name == name).ok_or_else(|| {
        let names: Vec<&str> = stations.iter().map(|station| station.name.as_str()).collect();
        let all = names.join(", ");
        Exit::Usage.because(anyhow::anyhow!("no station is called \"{name}\"; there are: {all}"))
    })
}

pub(super) fn read(path: &std::path::Path) -> anyhow::Result<Rgb8> {
    file::read(path).map_err(|why| {
        Exit::Usage.because(anyhow::anyhow!("cannot read the picture {}: {why}", path.display()))
    })
}
