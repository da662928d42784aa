//! `inspectd run`: the daemon.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use super::{ConfigFile, Exit};
use crate::config::{self, Signer};
use crate::daemon::{self, replay};
use crate::inspector::Clerk;
use crate::service::{self, Starts};
use crate::telemetry;

pub const EXAMPLES: &str = "\
Examples:
  inspectd run --config /etc/inspectd/inspectd.toml
  inspectd run --config config/inspectd.toml --parts 20
  inspectd run --signed-by /etc/inspectd-engineering.pub
  inspectd run --record shift-7 --max-gb 200         (inspects, and keeps what it sees)
  inspectd run --from shift-7                        (plays it again, as fast as the model takes it)
  inspectd run --from shift-7 --realtime --into /tmp/again";

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
    /// Keep what every station sees as footage in this folder.
    #[arg(long, value_name = "DIR", conflicts_with = "from")]
    record: Option<PathBuf>,
    #[command(flatten)]
    footage: super::record::Form,
    /// Play this footage in place of the cameras. Only its stations run, no broker is told and no output
    /// is driven.
    #[arg(long, value_name = "DIR")]
    from: Option<PathBuf>,
    /// The folder for the records of a replay; without it DIR.replay, or DIR.replay-2 and so on.
    #[arg(long, value_name = "DIR", requires = "from")]
    into: Option<PathBuf>,
    /// Play in real time, with deadlines and full queues as at the line. Without it nothing is dropped:
    /// each thing comes when the model has finished with what was before it.
    #[arg(long, requires = "from")]
    realtime: bool,
    /// Run only a configuration and a model that were signed with this key: a public key of minisign, or the
    /// file that holds it. See `inspectd config --help`.
    #[arg(long, value_name = "FILE|KEY", env = "INSPECTD_SIGNED_BY")]
    signed_by: Option<String>,
}

/// Loads the configuration and runs until a signal, the last part, or the end of all cameras.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let signer = arguments.signed_by.clone().map(Signer::new);
    let mut loaded = load_signed(&arguments.config, signer.as_ref())?;
    telemetry::start(loaded.settings.log.level.as_str(), loaded.settings.log.format);
    let record = arguments.record.as_ref().map(|dir| arguments.footage.record(dir));
    let from = match &arguments.from {
        None => None,
        Some(path) => Some(prepare(arguments, &mut loaded, path)?),
    };
    let options = daemon::Options {
        parts: arguments.parts,
        lines: arguments.lines || std::io::stdout().is_terminal(),
        record,
        from,
        signer,
        config: arguments.from.is_none().then(|| arguments.config.path.clone()),
        ..daemon::Options::default()
    };
    let starts = pause_after_failures();
    daemon::run(&loaded.settings, &loaded.stations, &options).map_err(exit_of)?;
    if let Some(starts) = starts {
        starts.forget();
    }
    Ok(())
}

/// Waits, if starts before this one failed: the longer, the more of them.
fn pause_after_failures() -> Option<Starts> {
    let starts = Starts::count()?;
    let pause = starts.pause();
    if !pause.is_zero() {
        telemetry::start_waits(starts.failed(), pause.as_secs());
        service::status(&format!("Failed to start {} times; waiting.", starts.failed()));
        std::thread::sleep(pause);
    }
    Some(starts)
}

/// Turns the configuration into that of a replay, and says where its records go.
fn prepare(
    arguments: &Arguments,
    loaded: &mut config::Loaded,
    path: &Path,
) -> anyhow::Result<replay::Playback> {
    let into = arguments.into.clone().unwrap_or_else(|| free_folder(path));
    let stations = std::mem::take(&mut loaded.stations);
    let realtime = arguments.realtime;
    let (stations, from) = replay::prepare(&mut loaded.settings, stations, path, &into, realtime)
        .map_err(|why| Exit::Usage.because(why))?;
    loaded.stations = stations;
    eprintln!("Replay: records go into {}", loaded.settings.store.path.display());
    Ok(from)
}

/// A folder beside the footage at `path` that is not there yet: a second replay would find the jobs of
/// the first one done.
fn free_folder(path: &Path) -> PathBuf {
    let beside = |number: u32| {
        let mut name = path.components().collect::<PathBuf>().into_os_string();
        name.push(if number == 1 { ".replay".to_owned() } else { format!(".replay-{number}") });
        PathBuf::from(name)
    };
    (1..).map(beside).find(|folder| !folder.exists()).unwrap_or_else(|| beside(1))
}

/// Loads the configuration; its problems are printed as `check` prints them.
pub(super) fn load(file: &ConfigFile) -> anyhow::Result<config::Loaded> {
    load_signed(file, None)
}

/// As [`load`]; with a `signer`, only what that one signed.
pub(super) fn load_signed(
    file: &ConfigFile,
    signer: Option<&Signer>,
) -> anyhow::Result<config::Loaded> {
    let colour = std::io::stderr().is_terminal();
    match config::load_signed(&file.path, signer) {
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
