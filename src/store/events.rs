//! What happens beside inspections, as records of the same chain.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::anchor::Anchor;

/// Longest body of an event, in bytes. Whoever has more to say, such as a list of removed files,
/// appends several.
pub const EVENT_MAX_BYTES: usize = 256 * 1024;

/// The format of a chain's records, in its genesis.
pub const CHAIN_FORMAT: u32 = 1;

/// What kind of event a record tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// The first record of a chain: [`Genesis`].
    Genesis,
    /// The daemon starts to inspect: [`Start`].
    Start,
    /// It stopped in good order: [`Stop`].
    Stop,
    /// A station's configuration is another than at the start before: [`Change`].
    Configuration,
    /// The model is another than at the start before: [`Change`].
    Model,
    /// A station looks for another product: [`Recipe`].
    Recipe,
    /// The configuration was read again while the daemon ran: [`Run`].
    Reload,
    /// The wall clock was stepped: [`ClockStep`].
    ClockStep,
    /// A measure of a station's pictures has come near to its limit, or has gone back:
    /// [`PictureDrift`].
    PictureDrift,
    /// A person decided about a result: [`super::Disposition`].
    Disposition,
    /// Evidence files are removed: `{"files": [{"sha256": …}, …], …}`, written before they go. The
    /// verifier does not miss them.
    Retention,
    /// A damaged database was moved aside: [`Recovered`].
    Recovered,
    /// A newer program changed the schema: [`Migrated`].
    Migrated,
}

impl EventKind {
    /// The word in the table.
    pub fn as_str(self) -> &'static str {
        match self {
            EventKind::Genesis => "genesis",
            EventKind::Start => "start",
            EventKind::Stop => "stop",
            EventKind::Configuration => "configuration",
            EventKind::Model => "model",
            EventKind::Recipe => "recipe",
            EventKind::Reload => "reload",
            EventKind::ClockStep => "clock_step",
            EventKind::PictureDrift => "picture_drift",
            EventKind::Disposition => "disposition",
            EventKind::Retention => "retention",
            EventKind::Recovered => "recovered",
            EventKind::Migrated => "migrated",
        }
    }
}

/// The body of a `genesis`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Genesis {
    /// Names this chain for ever.
    pub chain_id: Uuid,
    /// The device that writes it.
    pub device: String,
    /// [`CHAIN_FORMAT`].
    pub format: u32,
    /// The version of the program that began it.
    pub program_version: String,
    /// The chain before this one, if there was one that could not go on.
    pub previous: Option<Previous>,
}

/// A chain that ended because its file was lost or damaged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Previous {
    /// Its last known head, from the file of heads; `None` if there is no such file.
    pub head: Option<Anchor>,
    /// Where its file was moved; `None` if there was none any more.
    pub moved_to: Option<String>,
    /// What was wrong.
    pub cause: String,
}

/// The body of a `start`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// What runs.
    #[serde(flatten)]
    pub run: Run,
    /// The run before did not say that it stopped: power cut, crash or kill.
    pub unclean: bool,
    /// How the file of heads contradicts the chain; `None` if it does not.
    pub heads_differ: Option<String>,
}

/// What inspects from a start on: enough to see at the next one what has changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// The device's name.
    pub device: String,
    /// The program's version.
    pub program_version: String,
    /// SHA-256 of the program's file.
    pub program_sha256: String,
    /// The model's digest.
    pub model_sha256: String,
    /// What the model computes on, and in what.
    pub computes_on: String,
    /// The digest of each station's configuration, by its name.
    pub stations: BTreeMap<String, String>,
}

/// The body of a `stop`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stop {
    /// Inspections recorded by this run.
    pub records: u64,
    /// Messages that the broker has not acknowledged.
    pub unsent: u64,
}

/// The body of a `recipe`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipe {
    /// The station.
    pub station: String,
    /// The recipe's index, by which its controller asked for it.
    pub index: u32,
    /// Its name.
    pub recipe: String,
    /// The digest of the configuration that judges by it.
    pub config_sha256: String,
}

/// The body of a `configuration` or `model` event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The station; `None` for the model.
    pub station: Option<String>,
    /// The digest before; `None` if there was no such station.
    pub before: Option<String>,
    /// The digest now; `None` if there is no such station any more.
    pub after: Option<String>,
}

/// The body of a `clock_step`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockStep {
    /// By how much, in milliseconds; negative: it was set back.
    pub step_ms: i64,
    /// The wall time of the record before.
    pub before_wall_ms: i64,
    /// The wall time when the step was noticed.
    pub after_wall_ms: i64,
}

/// The body of a `picture_drift`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PictureDrift {
    /// The station.
    pub station: String,
    /// The recipe that was active.
    pub recipe: String,
    /// The region, or the fixed area.
    pub area: String,
    /// What was measured.
    pub measure: String,
    /// Whether it has come near to its limit; else it has gone back.
    pub has_drifted: bool,
    /// Its mean over the last pictures.
    pub mean: f64,
    /// Where it began.
    pub reference: f64,
    /// Its limit.
    pub limit: f64,
}

/// The body of a `recovered` event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recovered {
    /// What was wrong, and where the file went.
    #[serde(flatten)]
    pub previous: Previous,
    /// Inspections copied from the damaged file: those of unsent messages, and the newest of each
    /// station. They stand before this event, as records of this chain.
    pub inspections: u64,
    /// Messages copied from the damaged file, unsent or put aside.
    pub messages: u64,
    /// How many of those tell of an inspection that could not be read.
    pub messages_without_inspection: u64,
    /// Parts of the damaged file could not be read: messages may be missing.
    pub incomplete: bool,
}

/// The body of a `migrated` event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Migrated {
    /// The schema before.
    pub from_schema: i64,
    /// The schema now.
    pub to_schema: i64,
    /// Inspections that were written before there was a chain, and were chained now: the chain
    /// proves them from here on, not from when they were written.
    pub chained_later: u64,
}

/// The newest event of this kind: its sequence number and body.
pub(super) fn newest(
    connection: &Connection,
    kind: EventKind,
) -> rusqlite::Result<Option<(i64, String)>> {
    connection
        .prepare_cached(
            "SELECT sequence, body FROM chain
             WHERE kind = ?1 AND inspection IS NULL ORDER BY sequence DESC LIMIT 1",
        )?
        .query_row([kind.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()
}

/// What is another in `now` than in `before`, as events.
pub(super) fn changes(before: &Run, now: &Run) -> Vec<(EventKind, Change)> {
    let mut changes = Vec::new();
    if before.model_sha256 != now.model_sha256 {
        let (before, after) = (before.model_sha256.clone(), now.model_sha256.clone());
        let change = Change { station: None, before: Some(before), after: Some(after) };
        changes.push((EventKind::Model, change));
    }
    let names: std::collections::BTreeSet<&String> =
        before.stations.keys().chain(now.stations.keys()).collect();
    for name in names {
        let (old, new) = (before.stations.get(name), now.stations.get(name));
        if old != new {
            let (before, after) = (old.cloned(), new.cloned());
            let change = Change { station: Some(name.clone()), before, after };
            changes.push((EventKind::Configuration, change));
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(model: &str, stations: &[(&str, &str)]) -> Run {
        let stations = stations.iter().map(|(name, digest)| ((*name).into(), (*digest).into()));
        Run { model_sha256: model.into(), stations: stations.collect(), ..Run::default() }
    }

    #[test]
    fn only_what_changed_between_two_starts_is_an_event() {
        let before = run("m", &[("left", "1"), ("right", "2")]);
        assert_eq!(changes(&before, &before), []);
        let now = run("n", &[("left", "1"), ("right", "3"), ("top", "4")]);
        let told: Vec<String> = changes(&before, &now)
            .into_iter()
            .map(|(kind, change)| {
                let text = |digest: Option<String>| digest.unwrap_or_else(|| "-".into());
                let station = change.station.unwrap_or_default();
                format!(
                    "{} {station} {}>{}",
                    kind.as_str(),
                    text(change.before),
                    text(change.after)
                )
            })
            .collect();
        assert_eq!(told, ["model  m>n", "configuration right 2>3", "configuration top ->4"]);
        let gone = changes(&now, &run("n", &[("left", "1"), ("right", "3")]));
        assert_eq!(gone.len(), 1);
        assert_eq!(gone[0].1.after, None);
    }
}
