//! `inspectd engine`: engines elsewhere that stations may ask.

use std::io::{self, Write};

use clap::Subcommand;

use super::{ConfigFile, Exit};
use crate::config;
use crate::frame::{Rgb8, file};
use crate::remote::EngineOptions;
use crate::remote::probe::{self, Step, Went};

pub const EXAMPLES: &str = "\
Examples:
  inspectd engine list
  inspectd engine check gpu
  inspectd engine check gpu --config config/inspectd.toml";

const CHECK_EXAMPLES: &str = "\
Each step that went badly says what to do. Exit code 6: stations cannot use the engine as it is.

Examples:
  inspectd engine check gpu";

/// Side of the picture that is shown: that of a region.
const SIDE_PX: u32 = 336;

#[derive(clap::Args, Debug)]
pub struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// Print the engines of the configuration.
    List {
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Ask an engine one small question and say what works: address, TLS, key, model, pictures, schema,
    /// probabilities.
    #[command(after_help = CHECK_EXAMPLES)]
    Check {
        /// Its name: [engines.NAME] in the configuration.
        name: String,
        #[command(flatten)]
        config: ConfigFile,
    },
}

pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    match &arguments.what {
        What::List { config } => list(&super::run::load(config)?),
        What::Check { name, config } => check(pick(&super::run::load(config)?, name)?),
    }
}

fn list(loaded: &config::Loaded) -> anyhow::Result<()> {
    let out = &mut io::stdout().lock();
    for engine in &loaded.settings.engines {
        let asks = |station: &&crate::station::Station| {
            station.engine.as_ref().is_some_and(|used| used.name == engine.name)
        };
        let stations: Vec<&str> =
            loaded.stations.iter().filter(asks).map(|station| station.name.as_str()).collect();
        let stations =
            if stations.is_empty() { "no station".to_owned() } else { stations.join(", ") };
        let (kind, url) = (engine.kind.as_str(), engine.endpoint.url());
        writeln!(out, "{}  {kind}  {url}  asked by {stations}", engine.name)?;
    }
    if loaded.settings.engines.is_empty() {
        writeln!(out, "No engines: the device's own model answers everything.")?;
    }
    Ok(())
}

fn pick<'l>(loaded: &'l config::Loaded, name: &str) -> anyhow::Result<&'l EngineOptions> {
    let engines = &loaded.settings.engines;
    engines.iter().find(|engine| engine.name == name).ok_or_else(|| {
        let names: Vec<&str> = engines.iter().map(|engine| engine.name.as_str()).collect();
        let all = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        Exit::Usage.because(anyhow::anyhow!("no engine is called \"{name}\"; there are: {all}"))
    })
}

fn check(options: &EngineOptions) -> anyhow::Result<()> {
    let mut picture = Rgb8::new(SIDE_PX, SIDE_PX);
    picture.data.chunks_exact_mut(3).for_each(|pixel| pixel.copy_from_slice(&[220, 20, 20]));
    let steps = probe::check(options, &file::png(&picture)?);
    let out = &mut io::stdout().lock();
    writeln!(out, "{}: {} at {}", options.name, options.kind.as_str(), options.endpoint.url())?;
    steps.iter().try_for_each(|step| print(step, out))?;
    match steps.iter().any(|step| step.went == Went::Badly) {
        false => Ok(()),
        true => {
            let why =
                anyhow::anyhow!("stations cannot use the engine \"{}\" as it is", options.name);
            Err(Exit::Check.because(why))
        }
    }
}

fn print(step: &Step, out: &mut dyn Write) -> io::Result<()> {
    let word = match step.went {
        Went::Well => "ok",
        Went::Without => "note",
        Went::Badly => "BAD",
    };
    writeln!(out, "  {word:<5} {:<10} {}", step.what, step.seen)?;
    step.remedy.iter().try_for_each(|remedy| writeln!(out, "  {:<16} {remedy}", ""))
}
