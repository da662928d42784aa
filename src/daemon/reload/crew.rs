//! Stations that come, go and change, all of them or none.
//!
//! New ones are set up beside those that run. One that wants the camera of another, or cannot be set up for another
//! reason, is set up when the others have gone or changed. A station that goes takes no more parts, and leaves when those in hand
//! are recorded. One that changes does so on its own thread, between two frames; where something changes that it has
//! agreed on with others or holds open, such as an output line, it goes and comes. Where anything fails, everything becomes
//! again what it was.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::changes::Changes;
use crate::config::Settings;
use crate::daemon::connect::News;
use crate::daemon::desk::Desk;
use crate::daemon::engines::{Engines, Ways};
use crate::daemon::floor::Floor;
use crate::daemon::line::Line;
use crate::daemon::recorder::Recorder;
use crate::daemon::roster::{Member, Roster};
use crate::daemon::starter::Joining;
use crate::station::Station;
use crate::telemetry;

/// How often it is looked whether a station has left.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Longest wait for what a station that goes gives back when its parts are recorded.
const PATIENCE: Duration = Duration::from_secs(30);

/// The stations that run, and all that it takes to have others.
pub struct Crew {
    /// Those that run.
    pub roster: Arc<Roster>,
    /// Sets up new ones.
    pub floor: Floor,
    /// Lets them run.
    pub joining: Joining,
    /// Tells others of them.
    pub news: News,
    /// Where records go.
    pub recorder: Arc<Recorder>,
    /// The ways of their parts.
    pub engines: Arc<Engines>,
}

/// Stations, and the ways of their parts.
struct Side<'s> {
    stations: &'s [Arc<Station>],
    ways: Ways,
}

/// What was done, to be undone.
#[derive(Default)]
struct Done {
    changed: Vec<String>,
    gone: Vec<String>,
}

/// A station that is set up, and does not run yet.
type Ready = (Arc<Member>, Line);

impl Crew {
    /// Lets the stations of `old` be those of `new`, which differ by `changes`, with the engines of its settings.
    ///
    /// # Errors
    /// Why they cannot; then they are what they were.
    pub fn rearrange(
        &self,
        changes: &Changes,
        old: &[Arc<Station>],
        (settings, new): (&Settings, &[Arc<Station>]),
    ) -> Result<(), String> {
        // The last station may go before the first new one comes.
        let _goes_on = self.joining.hold();
        let (ways, renewed) = self.engines.renewed(settings, new).map_err(|why| why.to_string())?;
        let (old, new) = (Side { stations: old, ways }, Side { stations: new, ways: renewed });
        let mut done = Done::default();
        match self.make_room(changes, (&old, &new), &mut done) {
            Ok(ready) => {
                self.engines.take(new.ways);
                if !(ready.is_empty() && changes.gone.is_empty()) {
                    let names: Vec<&str> =
                        new.stations.iter().map(|one| one.name.as_str()).collect();
                    self.begin(&names, ready);
                }
                Ok(())
            }
            Err(why) => {
                self.undo(&done, &old);
                Err(why)
            }
        }
    }

    /// Does all that can fail; answers the stations that are to run.
    fn make_room(
        &self,
        changes: &Changes,
        (old, new): (&Side<'_>, &Side<'_>),
        done: &mut Done,
    ) -> Result<Vec<Ready>, String> {
        let of_name = |name: &String| new.stations.iter().find(|station| station.name == *name);
        let changed: Vec<&Arc<Station>> =
            changes.stations.iter().filter_map(|(name, _)| of_name(name)).collect();
        for station in &changed {
            self.floor.check_list(station).map_err(|why| why.to_string())?;
        }
        let (mut ready, mut not_yet) = (Vec::new(), Vec::new());
        for station in changes.come.iter().filter_map(of_name) {
            self.check(station)?;
            if changes.may_free(old.stations, &station.camera.source) {
                not_yet.push(station);
                continue;
            }
            match self.floor.set_up(station, &new.ways) {
                Ok(one) => ready.push(one),
                Err(_) if changes.may_free_something() => not_yet.push(station),
                Err(why) => return Err(why.to_string()),
            }
        }
        let anew = || changes.anew.iter().map(|(name, _)| name);
        for name in changes.gone.iter().chain(anew()) {
            self.dismiss(name)?;
            done.gone.push(name.clone());
        }
        for station in &changed {
            let name = &station.name;
            self.change(station, &new.ways).map_err(|why| format!("station \"{name}\": {why}"))?;
            done.changed.push(name.clone());
        }
        for station in anew().filter_map(of_name) {
            // Its jobs count on where they ended, so all of them must be recorded.
            self.wait_while(|| self.roster.find(&station.name).is_some());
            ready.push(self.set_up_after(&changes.gone, station, &new.ways)?);
        }
        for station in not_yet {
            ready.push(self.set_up_after(&changes.gone, station, &new.ways)?);
        }
        // Last, as what commands made of a list is gone when its file is another.
        for station in &changed {
            self.floor.take_up_list(station).map_err(|why| why.to_string())?;
        }
        Ok(ready)
    }

    /// Sets up `station`; where it wants lines or registers of those that are `gone`, when these have left.
    fn set_up_after(
        &self,
        gone: &[String],
        station: &Arc<Station>,
        ways: &Ways,
    ) -> Result<Ready, String> {
        if let Ok(ready) = self.floor.set_up(station, ways) {
            return Ok(ready);
        }
        let until = Instant::now() + PATIENCE;
        let leaves = |name: &String| self.roster.find(name).is_some();
        self.wait_while(|| gone.iter().any(leaves) && Instant::now() < until);
        self.floor.set_up(station, ways).map_err(|why| why.to_string())
    }

    /// Whether `station` can come at all.
    fn check(&self, station: &Station) -> Result<(), String> {
        let name = &station.name;
        if self.roster.find(name).is_some() {
            let text = "its last parts are not recorded yet; reload again in a moment";
            return Err(format!("station \"{name}\": {text}"));
        }
        Ok(())
    }

    fn change(&self, station: &Arc<Station>, ways: &Ways) -> Result<(), String> {
        let Some(member) = self.roster.find(&station.name) else { return Ok(()) };
        if !member.changer.change(station, ways)? {
            // Its pictures have ended, and nothing of it runs but the desk.
            member.desk.adopt(station);
        }
        Ok(())
    }

    /// The station `name` takes no parts any more, and its camera is free.
    fn dismiss(&self, name: &str) -> Result<(), String> {
        let Some(member) = self.roster.find(name) else { return Ok(()) };
        let dismissed = member.changer.dismiss();
        if !dismissed.map_err(|why| format!("station \"{name}\": {why}"))? {
            // Its pictures had ended: nobody else takes it off.
            self.wait_while(|| member.desk.in_hand() > 0);
            self.roster.remove(name);
        }
        Ok(())
    }

    /// Lets those that are `ready` run, and others know that the stations are those of these `names`.
    fn begin(&self, names: &[&str], ready: Vec<Ready>) {
        ready.iter().for_each(|(member, _)| self.roster.add(Arc::clone(member)));
        // Those that have not left yet finish their parts, and are named no more.
        let desks = names.iter().filter_map(|name| self.roster.find(name));
        let desks: Vec<Arc<Desk>> = desks.map(|member| Arc::clone(&member.desk)).collect();
        self.news.stations(&desks);
        for (member, line) in ready {
            if let Err(why) = member.desk.begin_work(&self.floor.clerk, &self.recorder) {
                // Whatever was accepted before is still known, and is told after the next start.
                telemetry::record_failed(&why.to_string());
            }
            if !self.joining.start(line) {
                // The run has ended meanwhile.
                self.roster.remove(member.desk.name());
            }
        }
    }

    /// Everything becomes again what it was in `old`.
    fn undo(&self, done: &Done, old: &Side<'_>) {
        let of_name = |name: &String| old.stations.iter().find(|station| station.name == *name);
        for station in done.changed.iter().filter_map(of_name) {
            let back = self.change(station, &old.ways);
            let list = || self.floor.take_up_list(station).map_err(|why| why.to_string());
            if let Err(why) = back.and_then(|()| list()) {
                let name = &station.name;
                telemetry::reload_refused(&format!("station \"{name}\" cannot go back: {why}"));
            }
        }
        let mut ready = Vec::new();
        for station in done.gone.iter().filter_map(of_name) {
            // Its jobs count on where they ended, so all of them must be recorded.
            self.wait_while(|| self.roster.find(&station.name).is_some());
            match self.floor.set_up(station, &old.ways) {
                Ok(one) => ready.push(one),
                Err(why) => {
                    let text = format!("station \"{}\" cannot come back: {why}", station.name);
                    telemetry::reload_refused(&text);
                    // Blind for good: the service manager starts the program anew.
                    self.floor.stop.set("a station cannot be opened any more");
                }
            }
        }
        if !ready.is_empty() {
            let names: Vec<&str> = old.stations.iter().map(|one| one.name.as_str()).collect();
            self.begin(&names, ready);
        }
    }

    fn wait_while(&self, is_so: impl Fn() -> bool) {
        while is_so() && !self.floor.stop.is_set() {
            thread::sleep(LOOK_AGAIN);
        }
    }
}
