//! `inspectd man`: the manual pages, one a command.

use std::fs;
use std::path::PathBuf;

use anyhow::Context as _;

pub const EXAMPLES: &str = "\
Examples:
  inspectd man /usr/share/man/man1
  inspectd man /tmp/man && man /tmp/man/inspectd-run.1";

#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// The folder; it is made if it is not there.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

/// Writes the pages of `command` and of all below it.
pub fn run(arguments: &Arguments, mut command: clap::Command) -> anyhow::Result<()> {
    let dir = &arguments.dir;
    let cannot = || format!("cannot write into {}", dir.display());
    fs::create_dir_all(dir).with_context(cannot)?;
    // The help pages of the help command say nothing.
    command = command.disable_help_subcommand(true);
    clap_mangen::generate_to(command, dir).with_context(cannot)
}
