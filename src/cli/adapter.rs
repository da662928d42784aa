//! `--adapter` and `--no-adapter`, for commands that try a station out.

use std::path::PathBuf;

use super::Exit;
use crate::station::Station;
use crate::vlm::AdapterRef;

/// The options.
#[derive(clap::Args, Debug)]
pub(super) struct Options {
    /// Answer every question under the adapter in this folder, whatever is configured.
    #[arg(long, value_name = "DIR")]
    adapter: Option<PathBuf>,
    /// Answer every question by the model alone, whatever is configured.
    #[arg(long, conflicts_with = "adapter")]
    no_adapter: bool,
}

impl Options {
    /// The station as the options want it; without any, as it is configured.
    pub(super) fn apply(&self, station: Station) -> anyhow::Result<Station> {
        match &self.adapter {
            Some(dir) => {
                let adapter = AdapterRef::check(dir).map_err(|error| Exit::Model.because(error))?;
                Ok(station.with_adapter(Some(&adapter)))
            }
            None if self.no_adapter => Ok(station.with_adapter(None)),
            None => Ok(station),
        }
    }
}
