//! What differs between two configurations, and whether a running daemon can take it.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::camera::Source;
use crate::config::Settings;
use crate::publish::PublishOptions;
use crate::station::{EngineUse, Station};
use crate::trigger;

/// What a running daemon is to take.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// What differs in each station that differs at all: its name, and what, in words of its file.
    pub stations: Vec<(String, Vec<&'static str>)>,
    /// The same of each that has to be set up anew, as something differs that it has agreed on with others or holds open.
    pub anew: Vec<(String, Vec<&'static str>)>,
    /// The names of those that are new.
    pub come: Vec<String>,
    /// The names of those that are no more.
    pub gone: Vec<String>,
    /// Pictures go by other rules.
    pub retention: bool,
    /// The log tells more or less.
    pub log: bool,
    /// The broker is reached otherwise.
    pub broker: bool,
    /// The names of engines elsewhere that are new, no more, or asked otherwise.
    pub engines: Vec<String>,
}

impl Changes {
    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        *self == Changes::default()
    }

    /// Whether a camera or a line may be free that is not now.
    pub fn may_free_something(&self) -> bool {
        !(self.stations.is_empty() && self.anew.is_empty() && self.gone.is_empty())
    }

    /// Whether a station that sees `source` may close it. `old`: the stations as they are.
    pub fn may_free(&self, old: &[Arc<Station>], source: &Source) -> bool {
        let is_moved = |name: &String| {
            let mut changed = self.stations.iter().chain(&self.anew);
            self.gone.contains(name) || changed.any(|(changed, _)| changed == name)
        };
        old.iter().any(|station| is_moved(&station.name) && station.camera.source == *source)
    }

    /// Whether any station differs, comes or goes.
    pub fn concern_stations(&self) -> bool {
        self.may_free_something() || !self.come.is_empty()
    }
}

/// What a running daemon has to take to get from `old` to `new`. `Err`: what takes a restart, in words
/// of the files.
pub fn between(
    old: (&Settings, &[Arc<Station>]),
    new: (&Settings, &[Arc<Station>]),
) -> Result<Changes, Vec<String>> {
    let restart = of_settings(old.0, new.0);
    let broker = |settings: &Settings| settings.broker.clone();
    let mut changes = Changes {
        broker: old.0.broker.is_some()
            && reached_as(&broker(old.0), &broker(new.0)) != broker(old.0),
        retention: old.0.store.retention != new.0.store.retention,
        log: old.0.log.level != new.0.log.level,
        engines: other_engines(old.0, new.0),
        ..Changes::default()
    };
    for station in old.1 {
        match new.1.iter().find(|other| other.name == station.name) {
            None => changes.gone.push(station.name.clone()),
            Some(other) => {
                let fixed = fixed_in(station, other);
                let differs = differs_in(station, other, &changes.engines);
                if !fixed.is_empty() {
                    let more = differs.into_iter().filter(|what| *what != "text");
                    let more: Vec<_> = more.filter(|what| !fixed.contains(what)).collect();
                    changes.anew.push((station.name.clone(), [fixed, more].concat()));
                } else if !differs.is_empty() {
                    changes.stations.push((station.name.clone(), differs));
                }
            }
        }
    }
    let is_new = |station: &&Arc<Station>| old.1.iter().all(|known| known.name != station.name);
    changes.come.extend(new.1.iter().filter(is_new).map(|station| station.name.clone()));
    if restart.is_empty() { Ok(changes) } else { Err(restart) }
}

fn of_settings(old: &Settings, new: &Settings) -> Vec<String> {
    let mut database = old.store.clone();
    database.retention = new.store.retention;
    // Which stations there are is told by their names.
    let mut broker = reached_as(&old.broker, &new.broker);
    if let (Some(broker), Some(new)) = (&mut broker, &new.broker) {
        broker.stations.clone_from(&new.stations);
    }
    let mut sparkplug = old.sparkplug.clone();
    if let (Some(sparkplug), Some(new)) = (&mut sparkplug, &new.sparkplug) {
        sparkplug.stations.clone_from(&new.stations);
    }
    let tables = [
        ("[device] name", old.device != new.device),
        ("[model]", old.model != new.model),
        ("[database]", database != new.store),
        ("[broker], but for how it is reached", broker != new.broker),
        ("[sparkplug]", sparkplug != new.sparkplug),
        ("[postgres]", old.postgres != new.postgres),
        ("[modbus]", old.modbus != new.modbus),
        ("[web]", old.web != new.web),
        ("[traces]", old.traces != new.traces),
        ("[log] format", old.log.format != new.log.format),
    ];
    tables.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name.to_owned()).collect()
}

/// The broker `old`, reached as `new` says.
fn reached_as(
    old: &Option<PublishOptions>,
    new: &Option<PublishOptions>,
) -> Option<PublishOptions> {
    match (old, new) {
        (Some(old), Some(new)) => Some(old.reaching_as(new)),
        _ => old.clone(),
    }
}

/// The names of engines that are not in both, or not alike.
fn other_engines(old: &Settings, new: &Settings) -> Vec<String> {
    let of = |settings: &Settings, name: &str| {
        settings.engines.iter().find(|one| one.name == name).cloned()
    };
    let all = old.engines.iter().chain(&new.engines).map(|one| one.name.clone());
    let names: BTreeSet<String> = all.collect();
    names.into_iter().filter(|name| of(old, name) != of(new, name)).collect()
}

/// What differs, and can only be taken where the station is set up: what is agreed on with others, and what is open.
fn fixed_in(old: &Station, new: &Station) -> Vec<&'static str> {
    let facts = [
        ("[plc]", old.plc != new.plc),
        ("[gpio] or [modbus]", old.outputs != new.outputs),
        ("[footage]", old.clips != new.clips),
        ("trigger", kind(&old.trigger) != kind(&new.trigger) || has_other_eye(old, new)),
    ];
    facts.into_iter().filter(|(_, differs)| *differs).map(|(what, _)| what).collect()
}

/// What differs, and can be taken between two frames. `engines`: those that are others now.
fn differs_in(old: &Station, new: &Station, engines: &[String]) -> Vec<&'static str> {
    let is_other = |used: &EngineUse| engines.contains(&used.name);
    let digest = |station: &Station| {
        station.recipes().map(|recipe| recipe.config_digest.clone()).collect::<Vec<_>>()
    };
    let list =
        |station: &Station| station.rules.serial.as_ref().and_then(|rule| rule.expected.clone());
    let facts = [
        ("engine", old.engine != new.engine || new.engine.as_ref().is_some_and(is_other)),
        ("camera", old.camera != new.camera),
        ("calibration", calibration(old) != calibration(new)),
        ("trigger", old.trigger != new.trigger),
        ("regions", old.regions != new.regions),
        ("deadline", old.deadline != new.deadline),
        ("inspect_every", old.inspect_every != new.inspect_every),
        ("queue_parts", old.queue_parts != new.queue_parts),
        ("expected serials", list(old) != list(new)),
        ("recipes", old.other_recipes.len() != new.other_recipes.len()),
    ];
    let mut differs: Vec<&'static str> =
        facts.into_iter().filter(|(_, differs)| *differs).map(|(what, _)| what).collect();
    // Everything else goes with the text: questions, rules, limits, names.
    if digest(old) != digest(new) && differs.is_empty() {
        differs.push("text");
    }
    differs
}

fn calibration(station: &Station) -> Option<&str> {
    station.calibration.as_ref().map(|in_use| in_use.digest.as_str())
}

fn has_other_eye(old: &Station, new: &Station) -> bool {
    matches!(new.trigger, trigger::Options::PhotoEye(_)) && old.trigger != new.trigger
}

/// Who says when a part is there: the line's controller, a photo eye, or the station itself.
fn kind(trigger: &trigger::Options) -> u8 {
    match trigger {
        trigger::Options::Command(_) => 0,
        trigger::Options::PhotoEye(_) => 1,
        _ => 2,
    }
}
