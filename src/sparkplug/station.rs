//! One station: the present value of each metric, and what hosts have yet to be told of it.

use std::collections::{BTreeMap, BTreeSet};

use srad_types::payload::metric::Value;

use super::metrics::{self, Counts, Tag};
use super::node::stamp_millis;
use super::payload::Reading;
use crate::inspection::Inspection;

/// What a station is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StationState {
    /// Its camera delivers. Without it the station is dead to hosts.
    pub alive: bool,
    /// A trigger is awaited, or parts are looked for.
    pub ready: bool,
    /// A part is being looked at.
    pub busy: bool,
    /// Something is broken.
    pub fault: bool,
}

impl StationState {
    /// A station of which only the camera is known.
    pub fn of_camera(delivers: bool) -> StationState {
        StationState { alive: delivers, ready: delivers, busy: false, fault: !delivers }
    }
}

/// A station as hosts know it.
#[derive(Debug)]
pub(super) struct Station {
    pub(super) name: String,
    pub(super) readings: BTreeMap<Tag, Reading>,
    pub(super) counts: Counts,
    pub(super) alive: bool,
    /// The device has it no more: it is dead, and is born only for results that were under way.
    pub(super) gone: bool,
    pub(super) born: bool,
    pub(super) birth_due: bool,
    pub(super) changed: BTreeSet<Tag>,
}

impl Station {
    /// A station that sees, of which nothing was told.
    pub(super) fn new(name: &str, at_ms: u64) -> Station {
        let mut station = Station {
            name: name.to_owned(),
            readings: Tag::all().map(|tag| (tag, Reading { value: None, at_ms })).collect(),
            counts: Counts::default(),
            alive: true,
            gone: false,
            born: false,
            birth_due: false,
            changed: BTreeSet::new(),
        };
        station.set_state(StationState::of_camera(true), at_ms);
        station.set(station.counts.values(), at_ms);
        station.set([(Tag::Reset, Some(Value::BooleanValue(false)))], at_ms);
        station
    }

    /// Sets metrics.
    pub(super) fn set(
        &mut self,
        values: impl IntoIterator<Item = (Tag, Option<Value>)>,
        at_ms: u64,
    ) {
        let readings = values.into_iter().map(|(tag, value)| (tag, Reading { value, at_ms }));
        self.readings.extend(readings);
    }

    /// Sets what it is doing; what differs from before is to be told.
    pub(super) fn set_state(&mut self, state: StationState, at_ms: u64) {
        self.alive = state.alive && !self.gone;
        for (tag, flag) in
            [(Tag::Ready, state.ready), (Tag::Busy, state.busy), (Tag::Fault, state.fault)]
        {
            let value = Some(Value::BooleanValue(flag));
            if self.readings[&tag].value != value {
                self.set([(tag, value)], at_ms);
                self.changed.insert(tag);
            }
        }
    }

    /// Takes a result as its newest.
    pub(super) fn take(&mut self, look: &Inspection) {
        self.set(metrics::of_result(look), stamp_millis(look));
    }
}
