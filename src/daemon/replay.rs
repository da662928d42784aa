//! Footage in the place of a camera: what was recorded comes again, in its order and with its times.
//!
//! Times are shifted so that the first one is now. In real time each thing then comes when it is due.
//! Else each comes as soon as the model has finished with what came before it: nothing is dropped, and
//! time, as triggers see it, is what the footage says.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::DaemonError;
use crate::camera::{Counts, Delivery, LossKind};
use crate::clock::{Clock, Stamp};
use crate::config::Settings;
use crate::footage::{self, FootageError, Heard, Item, Order, Reel};
use crate::frame::Frame;
use crate::hard::Outputs;
use crate::station::Station;
use crate::store::StoreOptions;
use crate::telemetry;
use crate::trigger::photo_eye::{Edge, Signal};

/// Footage to be played, by the station that it is of.
#[derive(Clone, Debug, Default)]
pub struct Playback {
    /// The folder of each station's footage.
    pub folders: HashMap<String, PathBuf>,
    /// In real time; else as fast as the model takes it.
    pub realtime: bool,
}

/// Prepares a run of the footage at `path`: only its stations, and nobody outside learns of it. Records
/// and pictures go into `into`, where each is marked as simulated; no broker is told, no output driven.
///
/// # Errors
/// Footage that cannot be read, or is of no station of these.
pub fn prepare(
    settings: &mut Settings,
    stations: Vec<Station>,
    path: &Path,
    into: &Path,
    realtime: bool,
) -> Result<(Vec<Station>, Playback), DaemonError> {
    let mut from = Playback { folders: HashMap::new(), realtime };
    let mut played = Vec::new();
    for dir in footage::find(path).map_err(unusable)? {
        let header = footage::Summary::read(&dir).map_err(unusable)?.header;
        let Some(station) = stations.iter().find(|station| station.name == header.station) else {
            let (name, dir) = (&header.station, dir.display());
            let why = format!("{dir} is footage of station \"{name}\", which is not configured");
            return Err(DaemonError::Other(why));
        };
        if station.config_digest != header.config_sha256 {
            telemetry::footage_of_other_configuration(&station.name);
        }
        if from.folders.insert(header.station, dir).is_some() {
            let name = &station.name;
            let why = format!("{} holds footage of \"{name}\" twice: name one", path.display());
            return Err(DaemonError::Other(why));
        }
        played.push(alone(station.clone(), realtime));
    }
    settings.broker = None;
    settings.sparkplug = None;
    settings.postgres = None;
    settings.modbus = None;
    settings.traces = None;
    settings.store = StoreOptions {
        device: settings.store.device.clone(),
        sign_key: settings.store.sign_key.clone(),
        reserve_bytes: settings.store.reserve_bytes,
        ..StoreOptions::in_dir(into)
    };
    Ok((played, from))
}

fn unusable(why: FootageError) -> DaemonError {
    DaemonError::Other(why.to_string())
}

/// The station without anybody beside it.
fn alone(mut station: Station, realtime: bool) -> Station {
    station.is_simulated = true;
    station.camera.realtime = realtime;
    station.camera.repeat = false;
    station.outputs = Outputs::default();
    station.clips = None;
    for recipe in &mut station.other_recipes {
        recipe.is_simulated = true;
    }
    if let Some(plc) = &mut station.plc {
        // Nobody is there to acknowledge, and commands come as fast as the model answers.
        plc.acknowledge = false;
        plc.commands_per_s = 1_000_000_000;
    }
    station
}

/// What comes next.
pub enum Played {
    /// What a camera would have told.
    Delivery(Delivery),
    /// A part is asked for.
    Order(Order),
    /// The lines of a photo eye tell something.
    Eye(Heard),
}

/// One station's footage while it plays.
pub struct Replay {
    reel: Reel,
    station: String,
    clock: Arc<dyn Clock>,
    realtime: bool,
    /// The first recorded moment, and the one that it is shifted to.
    shift: Option<(Stamp, Stamp)>,
    /// The newest moment that was told, shifted.
    now: Option<Stamp>,
    /// Read, and not yet due.
    next: Option<Item>,
    delivered: u64,
    missing: u64,
    told_why: String,
}

impl Replay {
    /// Opens the footage in `dir`.
    ///
    /// # Errors
    /// Footage that cannot be read.
    pub fn open(
        dir: &Path,
        station: &str,
        clock: Arc<dyn Clock>,
        realtime: bool,
    ) -> Result<Replay, DaemonError> {
        let (reel, summary) = Reel::open(dir).map_err(unusable)?;
        if summary.ended.is_none() {
            telemetry::footage_cut_off(station, &dir.display().to_string());
        }
        Ok(Replay {
            reel,
            station: station.to_owned(),
            clock,
            realtime,
            shift: None,
            now: None,
            next: None,
            delivered: 0,
            missing: 0,
            told_why: String::new(),
        })
    }

    /// Whether time is what the footage says, and not the clock.
    pub fn sets_time(&self) -> bool {
        !self.realtime
    }

    /// The time, as triggers are to see it.
    pub fn now(&self) -> Stamp {
        self.now.filter(|_| self.sets_time()).unwrap_or_else(|| self.clock.now())
    }

    /// The next thing that is due; waits for `timeout` at most.
    pub fn next(&mut self, timeout: Duration) -> Played {
        let Some(item) = self.peek() else { return Played::Delivery(Delivery::Ended) };
        let at = moment(item).map(|at| self.shifted(at));
        if let Some(at) = at.filter(|_| self.realtime) {
            let left = at.since(&self.clock.now());
            if !left.is_zero() {
                thread::sleep(left.min(timeout));
            }
            if !at.since(&self.clock.now()).is_zero() {
                return Played::Delivery(Delivery::NoFrame);
            }
        }
        self.now = at.or(self.now);
        let Some(item) = self.next.take() else { return Played::Delivery(Delivery::Ended) };
        Played::Delivery(match item {
            Item::Frame(frame) => {
                self.delivered += 1;
                let captured = self.shifted(frame.captured);
                Delivery::Frame(Arc::new(Frame { captured, ..Arc::unwrap_or_clone(frame) }))
            }
            Item::Lost { kind, reason, .. } => Delivery::Lost { kind, reason },
            Item::Back { .. } => Delivery::Back,
            Item::Ended { .. } => Delivery::Ended,
            Item::Order(order) => {
                let asked = self.shifted(order.asked);
                return Played::Order(Order { asked, ..order });
            }
            Item::Eye(heard) => return Played::Eye(self.heard_again(heard)),
            Item::Gap { frames, why } => {
                self.missing += frames;
                if self.told_why != why {
                    telemetry::footage_gap(&self.station, &why);
                    self.told_why = why;
                }
                Delivery::NoFrame
            }
        })
    }

    /// Whether anything follows.
    pub fn has_more(&mut self) -> bool {
        self.peek().is_some()
    }

    /// What came so far; frames that the footage does not hold count as dropped.
    pub fn counts(&self) -> Counts {
        Counts {
            brought: self.delivered + self.missing,
            delivered: self.delivered,
            dropped: self.missing,
            damaged: 0,
            partial: 0,
            losses: LossKind::ALL.map(|kind| (kind, 0)),
        }
    }

    fn peek(&mut self) -> Option<&Item> {
        if self.next.is_none() {
            self.next = match self.reel.next_item() {
                Ok(item) => item,
                Err(why) => {
                    // What came before it was good, and nothing after it can be trusted.
                    telemetry::footage_gap(&self.station, &why.to_string());
                    None
                }
            };
        }
        self.next.as_ref()
    }

    fn heard_again(&mut self, heard: Heard) -> Heard {
        let Heard { at, signal } = heard;
        let signal = match signal {
            Signal::Edge(edge) => {
                let taken = Stamp { monotonic_ns: edge.at_ns, ..at };
                Signal::Edge(Edge { at_ns: self.shifted(taken).monotonic_ns, ..edge })
            }
            other => other,
        };
        Heard { at: self.shifted(at), signal }
    }

    fn shifted(&mut self, at: Stamp) -> Stamp {
        let (first, begun) = *self.shift.get_or_insert_with(|| (at, self.clock.now()));
        let since_ns = i128::from(at.monotonic_ns) - i128::from(first.monotonic_ns);
        let monotonic_ns = i128::from(begun.monotonic_ns) + since_ns;
        let wall = begun.wall.checked_add(at.wall.duration_since(first.wall));
        Stamp {
            wall: wall.unwrap_or(begun.wall),
            monotonic_ns: u64::try_from(monotonic_ns.max(0)).unwrap_or(u64::MAX),
        }
    }
}

/// When an item was recorded, if it says.
fn moment(item: &Item) -> Option<Stamp> {
    match item {
        Item::Frame(frame) => Some(frame.captured),
        Item::Lost { at, .. } | Item::Back { at } | Item::Ended { at } => Some(*at),
        Item::Order(order) => Some(order.asked),
        Item::Eye(heard) => Some(heard.at),
        Item::Gap { .. } => None,
    }
}
