//! `inspectd run`: the daemon.

use std::io::IsTerminal;

use super::{ConfigFile, Exit};
use crate::daemon;
use crate::inspector::Clerk;
use crate::{config, telemetry};

pub const EXAMPLES: &str = "\
Examples:
  inspectd run --config /etc/inspectd/inspectd.toml
  inspectd run --config config/inspectd.toml --parts 20";

#[derive(clap::Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    config: ConfigFile,
    /// Stop by itself after this many parts.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    parts: Option<u64>,
    /// Print one line a part on standard output, terminal or not.
    #[arg(long)]
    lines: bool,
}

/// Loads the configuration and runs until a signal, the last part, or the end of all cameras.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let loaded = load(&arguments.config)?;
    telemetry::start(loaded.settings.log.level.as_str(), loaded.settings.log.format);
    let options = daemon::Options {
        parts: arguments.parts,
        lines: arguments.lines || std::io::stdout().is_terminal(),
        ..daemon::Options::default()
    };
    daemon::run(&loaded.settings, &loaded.stations, &options).map_err(exit_of)?;
    Ok(())
}

/// Loads the configuration; its problems are printed as `check` prints them.
pub(super) fn load(file: &ConfigFile) -> anyhow::Result<config::Loaded> {
    let colour = std::io::stderr().is_terminal();
    match config::load(&file.path) {
        Ok(loaded) => {
            if !loaded.warnings.is_empty() {
                eprint!("{}", loaded.warnings.render(colour));
            }
            Ok(loaded)
        }
        Err(problems) => {
            eprint!("{}", problems.render(colour));
            let count = problems.len();
            Err(Exit::Usage.because(anyhow::anyhow!("{count} problem(s) in the configuration")))
        }
    }
}

/// Refuses what was found out with a model that turned out to have no digest: its files changed, or
/// cannot be read.
pub(super) fn check_named(clerk: &Clerk) -> anyhow::Result<()> {
    let why = clerk.failure().map(|why| Exit::Model.because(anyhow::anyhow!(why)));
    why.map_or(Ok(()), Err)
}

/// Which exit code a daemon's error has.
pub(super) fn exit_of(error: daemon::DaemonError) -> anyhow::Error {
    let exit = match &error {
        daemon::DaemonError::Model(_) => Exit::Model,
        daemon::DaemonError::Capacity(_) | daemon::DaemonError::Output(_) => Exit::Usage,
        daemon::DaemonError::Store(_) => Exit::Store,
        daemon::DaemonError::Camera { .. } => Exit::Camera,
        daemon::DaemonError::Other(_) => Exit::Failed,
    };
    exit.because(error)
}
