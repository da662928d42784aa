//! `inspectd check`.

use std::io::{self, IsTerminal};

use super::{ConfigFile, Exit};
use crate::config;

pub const EXAMPLES: &str = "\
Examples:
  inspectd check
  inspectd check --config config/inspectd.toml";

#[derive(clap::Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    config: ConfigFile,
}

/// Prints every problem, or what would run.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let colour = io::stdout().is_terminal();
    match config::check::run(&arguments.config.path, &mut io::stdout().lock(), colour)? {
        config::check::Checked::Good => Ok(()),
        config::check::Checked::Bad => {
            Err(Exit::Usage
                .because(anyhow::anyhow!("the configuration has problems, listed above")))
        }
    }
}
