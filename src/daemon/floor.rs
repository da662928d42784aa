//! Sets stations up: those of the start, and those that a reload brings.

use std::path::PathBuf;
use std::sync::Arc;

use super::desk::Desk;
use super::engines::Ways;
use super::filming;
use super::line::Line;
use super::outputs::Outputs;
use super::roster::Member;
use super::vitals::Vitals;
use super::watcher::Watcher;
use super::{DaemonError, Options, Stop};
use crate::clock::Clock;
use crate::expected::{Access, ExpectedLists};
use crate::hard::gpio::Chips;
use crate::inspector::Clerk;
use crate::plc::ExpectHandler;
use crate::station::Station;
use crate::store::Store;
use crate::telemetry;

/// What all stations of a run have in common.
pub struct Floor {
    /// The clock of all.
    pub clock: Arc<dyn Clock>,
    /// Where the lines of photo eyes come from.
    pub chips: Arc<dyn Chips>,
    /// Who writes records.
    pub clerk: Clerk,
    /// What ends the run.
    pub stop: Arc<Stop>,
    /// What the command line says of cameras, footage and lists.
    pub options: Options,
    /// Who sees to it that all make progress.
    pub vitals: Arc<Vitals>,
    /// Where records are.
    pub store: Store,
    /// Its file.
    pub database: PathBuf,
    /// Who watches deadlines.
    pub watcher: Arc<Watcher>,
    /// The hard outputs of all.
    pub outputs: Arc<Outputs>,
    /// The lists of expected serials.
    pub lists: ExpectedLists,
}

impl Floor {
    /// Sets up `station`: its list, its desk as it was left, its footage, its outputs, its camera. Nothing runs yet.
    ///
    /// # Errors
    /// What cannot be opened; then nothing of it stays open.
    pub fn set_up(
        &self,
        station: &Arc<Station>,
        ways: &Ways,
    ) -> Result<(Arc<Member>, Line), DaemonError> {
        self.take_up_list(station)?;
        let (watcher, clock) = (Arc::clone(&self.watcher), Arc::clone(&self.clock));
        let desk = Arc::new(Desk::open(station, self.store.clone(), watcher, clock)?);
        desk.expect_with(self.expect_handler());
        let clips = filming::begin_clips(station, self.clerk.device(), &self.store)?;
        let outputs = self.outputs.open_for(&desk)?;
        let line = Line::open(&desk, clips.clone(), (self, ways))?;
        let changer = line.changer();
        Ok((Arc::new(Member::new(desk, changer, clips, outputs)), line))
    }

    fn expect_handler(&self) -> Arc<dyn ExpectHandler> {
        self.options.expect.clone().unwrap_or_else(|| Arc::new(self.lists.clone()))
    }

    /// Takes up its list of expected serials, where it was unless its file is another now.
    ///
    /// # Errors
    /// What commands made of the list cannot be read.
    pub fn take_up_list(&self, station: &Station) -> Result<(), DaemonError> {
        let Some(rule) = &station.rules.serial else {
            self.lists.give_up(&station.name);
            return Ok(());
        };
        let taken = self.lists.take_up(&self.database, &station.name, rule, Access::Write);
        if taken.map_err(|why| DaemonError::Other(why.to_string()))? {
            telemetry::expected_list_outdated(&station.name);
        }
        Ok(())
    }

    /// Whether [`Floor::take_up_list`] can do that; nothing is changed.
    ///
    /// # Errors
    /// As there.
    pub fn check_list(&self, station: &Station) -> Result<(), DaemonError> {
        let rules = station.rules.serial.iter().map(|rule| (station.name.as_str(), rule));
        ExpectedLists::open(&self.database, rules, Access::Read)
            .map(drop)
            .map_err(|why| DaemonError::Other(why.to_string()))
    }
}
