//! The edge node as a pure state machine: what has happened goes in, and it answers what is to be
//! sent next. It knows no connection, no file and no clock.
//!
//! What is to be sent is never a list that could grow, but flags: births that are due, metrics that
//! have changed. So the newest value goes, however long the way was shut.
//!
//! - Nothing goes before the births; the edge node's own is the first, number 0.
//! - A number is used up when the connection took the message ([`Node::accepted`]), not before.
//! - A station is born before its data goes. One that sees nothing (`alive` is false) dies when its
//!   results are told, and is born again for a result that was under way.
//! - A host that asks for births stops the data at once. The births come at the latest a cooldown
//!   after those before, so that hosts that ask in turn cannot make it say nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use srad_types::payload::metric::Value;

use super::draft::NodeTag;
use super::metrics::Tag;
use super::payload::{self, Reading};
use super::station::{Station, StationState};
use super::topics::{Topics, Verb};
use crate::clock::Stamp;
use crate::inspection::Inspection;
use crate::publish::transport::Packet;

/// What is to be sent next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The edge node's birth.
    NodeBirth,
    /// A station's birth.
    StationBirth(usize),
    /// A station's death.
    StationDeath(usize),
    /// What has changed at a station, beside results.
    StationData(usize),
    /// What has changed at the edge node.
    NodeData,
}

/// The edge node.
#[derive(Debug)]
pub struct Node {
    pub(super) topics: Topics,
    pub(super) stations: Vec<Station>,
    pub(super) own: BTreeMap<NodeTag, Reading>,
    pub(super) own_changed: BTreeSet<NodeTag>,
    pub(super) bd_seq: u8,
    /// The number of the next message.
    seq: u8,
    birth_due: bool,
    born: bool,
    /// When births began last that a host had asked for.
    reborn_at: Option<Stamp>,
    rebirth_asked: bool,
    cooldown: Duration,
    /// Results up to this sequence number are counted in `readings` and `counts`.
    noted: i64,
    /// Results up to this sequence number are told as history.
    pub(super) history: i64,
}

impl Node {
    /// An edge node that is not connected. Results up to the sequence number `noted` are not counted.
    pub fn new(
        topics: Topics,
        stations: &[String],
        cooldown: Duration,
        noted: i64,
        now: &Stamp,
    ) -> Node {
        let at_ms = millis(now);
        let reading = |value| Reading { value: Some(value), at_ms };
        let version = env!("CARGO_PKG_VERSION").to_owned();
        Node {
            topics,
            stations: stations.iter().map(|name| Station::new(name, at_ms)).collect(),
            own: BTreeMap::from([
                (NodeTag::Heartbeat, reading(Value::IntValue(0))),
                (NodeTag::HistorySkipped, reading(Value::LongValue(0))),
                (NodeTag::ProgramVersion, reading(Value::StringValue(version))),
            ]),
            own_changed: BTreeSet::new(),
            bd_seq: 0,
            seq: 0,
            birth_due: false,
            born: false,
            reborn_at: None,
            rebirth_asked: false,
            cooldown,
            noted,
            history: noted,
        }
    }

    /// The topics that hosts write to: the edge node's, and each station's.
    pub fn command_topics(&self) -> Vec<String> {
        let stations = self.stations.iter().filter(|station| !station.gone);
        let stations = stations.map(|station| self.topics.station(Verb::Command, &station.name));
        std::iter::once(self.topics.node(Verb::Command)).chain(stations).collect()
    }

    /// The station that is written to at `topic`, if there is one; `None` inside: the edge node itself.
    pub fn addressee(&self, topic: &str) -> Option<Option<usize>> {
        if topic == self.topics.node(Verb::Command) {
            return Some(None);
        }
        let is_it = |station: &Station| {
            !station.gone && self.topics.station(Verb::Command, &station.name) == topic
        };
        self.stations.iter().position(is_it).map(Some)
    }

    /// The device has these stations from now on: those that are new are born, those that are gone die when their results
    /// are told. Answers whether any is new.
    pub fn set_stations(&mut self, names: &[String], now: &Stamp) -> bool {
        let mut is_any_new = false;
        for station in &mut self.stations {
            let was = std::mem::replace(&mut station.gone, !names.contains(&station.name));
            if station.gone != was {
                station.set_state(StationState::of_camera(!station.gone), millis(now));
                is_any_new |= was;
            }
        }
        for name in names {
            if self.station(name).is_none() {
                // One that is alive and not born has its birth at once.
                self.stations.push(Station::new(name, millis(now)));
                is_any_new = true;
            }
        }
        is_any_new
    }

    /// The station's name.
    pub fn station_name(&self, station: usize) -> &str {
        &self.stations[station].name
    }

    /// The number of the station of this name.
    pub fn station(&self, name: &str) -> Option<usize> {
        self.stations.iter().position(|station| station.name == name)
    }

    /// The death certificate of the connection `bd_seq`: its last will, and its goodbye.
    pub fn death(&self, bd_seq: u8, now: &Stamp) -> Packet {
        payload::node_death(self.topics.node(Verb::Death), bd_seq, millis(now))
    }

    /// Begins a session on the connection `bd_seq`: the births are due. What is noted by now is told
    /// as history.
    pub fn begin(&mut self, bd_seq: u8) {
        self.bd_seq = bd_seq;
        self.history = self.noted;
        self.all_births_due();
    }

    /// The session is over; nothing is to be sent.
    pub fn end(&mut self) {
        self.birth_due = false;
        self.born = false;
        self.rebirth_asked = false;
        for station in &mut self.stations {
            (station.born, station.birth_due) = (false, false);
        }
    }

    /// Whether the births of this session are out.
    pub fn is_born(&self) -> bool {
        self.born && !self.birth_due && self.stations.iter().all(|station| !station.birth_due)
    }

    /// A host asks for the births. No data goes until they are out.
    pub fn ask_rebirth(&mut self) {
        self.rebirth_asked = self.born;
    }

    /// The end is near: births that a host asked for wait no longer, as data waits for them.
    pub fn hurry(&mut self) {
        self.reborn_at = None;
    }

    /// How long the births that a host asked for must wait yet.
    pub fn rebirth_in(&self, now: &Stamp) -> Option<Duration> {
        let past = self.reborn_at.map_or(Duration::MAX, |last| now.since(&last));
        self.rebirth_asked.then(|| self.cooldown.saturating_sub(past))
    }

    /// Notes the result of sequence number `sequence` as the newest of its station, once.
    pub fn note(&mut self, sequence: i64, look: &Inspection) {
        if sequence <= self.noted {
            return;
        }
        self.noted = sequence;
        let Some(at) = self.station(&look.station) else { return };
        let station = &mut self.stations[at];
        station.counts.add(look);
        station.take(look);
        station.set(station.counts.values(), stamp_millis(look));
    }

    /// Takes a result of before the start as the newest of its station, without counting it.
    pub fn remember(&mut self, look: &Inspection) {
        if let Some(at) = self.station(&look.station) {
            self.stations[at].take(look);
        }
    }

    /// Results up to this sequence number have been noted.
    pub fn noted(&self) -> i64 {
        self.noted
    }

    /// What a station is doing changes.
    pub fn set_state(&mut self, station: usize, state: StationState, now: &Stamp) {
        self.stations[station].set_state(state, millis(now));
    }

    /// A metric of a station changes beside results.
    pub fn set(&mut self, station: usize, tag: Tag, value: Value, now: &Stamp) {
        let station = &mut self.stations[station];
        station.set([(tag, Some(value))], millis(now));
        station.changed.insert(tag);
    }

    /// One more heartbeat.
    pub fn beat(&mut self, now: &Stamp) {
        let beat = match self.own[&NodeTag::Heartbeat].value {
            Some(Value::IntValue(beat)) => beat.wrapping_add(1),
            _ => 0,
        };
        self.set_own(NodeTag::Heartbeat, Value::IntValue(beat), now);
    }

    /// So many results were too many to be told late, since the program started.
    pub fn set_skipped(&mut self, results: u64, now: &Stamp) {
        self.set_own(NodeTag::HistorySkipped, Value::LongValue(results), now);
    }

    fn set_own(&mut self, tag: NodeTag, value: Value, now: &Stamp) {
        self.own.insert(tag, Reading { value: Some(value), at_ms: millis(now) });
        self.own_changed.insert(tag);
    }

    /// What is to be sent next, beside results. `told`: there is no result that waits to be told.
    pub fn next(&mut self, told: bool, now: &Stamp) -> Option<Step> {
        if self.rebirth_in(now) == Some(Duration::ZERO) {
            self.rebirth_asked = false;
            self.reborn_at = Some(*now);
            self.all_births_due();
        }
        if self.birth_due {
            return Some(Step::NodeBirth);
        }
        if let Some(due) = self.stations.iter().position(|station| station.birth_due) {
            return Some(Step::StationBirth(due));
        }
        if !self.may_send_data() {
            return None;
        }
        let has_news = |station: &Station| station.born && !station.changed.is_empty();
        if let Some(changed) = self.stations.iter().position(has_news) {
            return Some(Step::StationData(changed));
        }
        if !self.own_changed.is_empty() {
            return Some(Step::NodeData);
        }
        if let Some(back) = self.stations.iter().position(|one| one.alive && !one.born) {
            return Some(Step::StationBirth(back));
        }
        let blind = self.stations.iter().position(|station| station.born && !station.alive);
        blind.filter(|_| told).map(Step::StationDeath)
    }

    /// Whether results may be sent: the births are out, and no host waits for new ones.
    pub fn may_send_data(&self) -> bool {
        self.is_born() && !self.rebirth_asked
    }

    /// Before a result of `station` goes: makes its birth due if it is not born. `true`: it is.
    pub fn wake_station(&mut self, station: usize) -> bool {
        let station = &mut self.stations[station];
        station.birth_due |= !station.born;
        station.born
    }

    /// Whether the result of this sequence number is told as history.
    pub fn is_history(&self, sequence: i64) -> bool {
        sequence <= self.history
    }

    /// The number of the next message; the edge node's birth is always 0.
    pub fn seq(&self, step: Option<&Step>) -> u8 {
        if step == Some(&Step::NodeBirth) { 0 } else { self.seq }
    }

    /// The connection took the message of `step`, or of a result (`None`): its number is used up.
    pub fn accepted(&mut self, step: Option<&Step>) {
        self.seq = self.seq(step).wrapping_add(1);
        match step {
            None => {}
            Some(Step::NodeBirth) => {
                (self.born, self.birth_due) = (true, false);
                self.own_changed.clear();
            }
            Some(Step::NodeData) => self.own_changed.clear(),
            Some(Step::StationBirth(at)) => {
                let station = &mut self.stations[*at];
                (station.born, station.birth_due) = (true, false);
                station.changed.clear();
            }
            Some(Step::StationData(at)) => self.stations[*at].changed.clear(),
            Some(Step::StationDeath(at)) => self.stations[*at].born = false,
        }
    }

    fn all_births_due(&mut self) {
        self.birth_due = true;
        for station in &mut self.stations {
            (station.born, station.birth_due) = (false, !station.gone);
        }
    }
}

/// Milliseconds since 1970; a clock before that is at 0.
pub fn millis(moment: &Stamp) -> u64 {
    u64::try_from(moment.wall.as_millisecond()).unwrap_or(0)
}

/// When the result's verdict stood, in milliseconds since 1970.
pub(super) fn stamp_millis(look: &Inspection) -> u64 {
    millis(&look.times.decided)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The third one comes later, if it does.
    const STATIONS: usize = 3;

    fn node() -> Node {
        let topics = Topics::new("g", "n").expect("ids");
        let stations = ["a".to_owned(), "b".to_owned()];
        Node::new(topics, &stations, Duration::from_millis(100), 0, &at(0))
    }

    fn at(ms: u64) -> Stamp {
        Stamp { wall: jiff::Timestamp::UNIX_EPOCH, monotonic_ns: ms * 1_000_000 }
    }

    /// What may happen to an edge node, and a chance to send.
    #[derive(Clone, Copy, Debug)]
    enum Happens {
        Begins,
        Ends,
        RebirthAsked,
        Camera(usize, bool),
        Beat,
        Passes(u64),
        Sends,
        SendsResult(usize),
        Has([bool; STATIONS]),
    }

    fn happens() -> impl Strategy<Value = Happens> {
        prop_oneof![
            1 => Just(Happens::Begins),
            1 => Just(Happens::Ends),
            2 => Just(Happens::RebirthAsked),
            3 => (0..STATIONS, any::<bool>()).prop_map(|(at, up)| Happens::Camera(at, up)),
            2 => Just(Happens::Beat),
            3 => (0..150u64).prop_map(Happens::Passes),
            20 => Just(Happens::Sends),
            8 => (0..STATIONS).prop_map(Happens::SendsResult),
            2 => any::<[bool; STATIONS]>().prop_map(Happens::Has),
        ]
    }

    /// What a host knows from the messages alone.
    #[derive(Default)]
    struct Host {
        next: Option<u8>,
        born: [bool; STATIONS],
    }

    impl Host {
        fn hear(&mut self, topic: &str, seq: u8) {
            let levels: Vec<&str> = topic.split('/').collect();
            let station = levels.get(4).map(|name| usize::from(name.as_bytes()[0] - b'a'));
            if levels[2] == "NBIRTH" {
                assert_eq!(seq, 0);
                self.born = [false; STATIONS];
            } else {
                assert_eq!(Some(seq), self.next, "{topic}: no hole, and nothing before the birth");
            }
            self.next = Some(seq.wrapping_add(1));
            match (levels[2], station) {
                ("DBIRTH", Some(at)) => self.born[at] = true,
                ("DDATA", Some(at)) => assert!(self.born[at], "data of a station not born"),
                ("DDEATH", Some(at)) => {
                    assert!(self.born[at], "a death without a birth");
                    self.born[at] = false;
                }
                _ => {}
            }
        }
    }

    proptest! {
        #[test]
        fn a_host_never_sees_a_hole_or_data_before_a_birth(
            all in prop::collection::vec(happens(), 0..400),
        ) {
            let (mut node, mut host, mut ms, mut open) = (node(), Host::default(), 0, false);
            for one in all {
                let now = at(ms);
                match one {
                    Happens::Begins => {
                        node.end();
                        node.begin(0);
                        (open, host) = (true, Host::default());
                    }
                    Happens::Ends => {
                        node.end();
                        open = false;
                    }
                    Happens::RebirthAsked => node.ask_rebirth(),
                    Happens::Camera(at, up) if at < node.stations.len() => {
                        node.set_state(at, StationState::of_camera(up), &now);
                    }
                    Happens::Has(which) => {
                        let names = ["a", "b", "c"].iter().zip(which).filter(|(_, is)| *is);
                        let names: Vec<String> = names.map(|(name, _)| name.to_string()).collect();
                        node.set_stations(&names, &now);
                    }
                    Happens::Beat => node.beat(&now),
                    Happens::Passes(more) => ms += more,
                    Happens::Sends => {
                        let step = node.next(true, &now);
                        prop_assert!(open || step.is_none(), "{:?} without a session", step);
                        let Some(step) = step else { continue };
                        host.hear(&node.draft(&step, &now).topic, node.seq(Some(&step)));
                        node.accepted(Some(&step));
                    }
                    Happens::SendsResult(at) if at < node.stations.len() => {
                        if node.may_send_data() && node.wake_station(at) {
                            host.hear(&node.station_topic(Verb::Data, at), node.seq(None));
                            node.accepted(None);
                        }
                    }
                    // Of a station that is not there yet.
                    Happens::Camera(..) | Happens::SendsResult(_) => {}
                }
            }
        }
    }

    #[test]
    fn stations_that_come_are_born_and_those_that_go_die_and_stay_dead() {
        let mut node = node();
        node.begin(7);
        let sent = |node: &mut Node| {
            let mut steps = Vec::new();
            while let Some(step) = node.next(true, &at(0)) {
                node.accepted(Some(&step));
                steps.push(step);
            }
            steps
        };
        sent(&mut node);
        let names =
            |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert!(node.set_stations(&names(&["b", "c"]), &at(1)), "one is new");
        let first = [Step::StationData(0), Step::StationBirth(2), Step::StationDeath(0)];
        assert_eq!(sent(&mut node), first);
        assert_eq!(node.addressee("spBv1.0/g/DCMD/n/a"), None, "nobody is there");
        assert_eq!(node.addressee("spBv1.0/g/DCMD/n/c"), Some(Some(2)));

        node.end();
        node.begin(8);
        let births = [Step::NodeBirth, Step::StationBirth(1), Step::StationBirth(2)];
        assert_eq!(sent(&mut node), births, "the one that is gone is not told of");
        assert!(!node.wake_station(0), "its result was under way");
        assert_eq!(sent(&mut node), [Step::StationBirth(0), Step::StationDeath(0)]);

        assert!(!node.set_stations(&names(&["b", "c"]), &at(2)), "nothing differs");
        assert!(node.set_stations(&names(&["a", "b", "c"]), &at(3)), "it is back");
        assert_eq!(sent(&mut node), [Step::StationBirth(0)]);
    }

    #[test]
    fn what_changed_often_is_sent_once_and_the_births_of_a_host_wait() {
        let mut node = node();
        node.begin(7);
        let sent = |node: &mut Node, ms: u64| {
            let mut steps = Vec::new();
            while let Some(step) = node.next(true, &at(ms)) {
                node.accepted(Some(&step));
                steps.push(step);
            }
            steps
        };
        let births = [Step::NodeBirth, Step::StationBirth(0), Step::StationBirth(1)];
        assert_eq!(sent(&mut node, 0), births);
        (0..5).for_each(|_| node.beat(&at(1)));
        node.set_state(0, StationState { busy: true, ..StationState::of_camera(true) }, &at(1));
        assert_eq!(sent(&mut node, 1), [Step::StationData(0), Step::NodeData]);
        node.ask_rebirth();
        assert!(!node.may_send_data());
        assert_eq!(sent(&mut node, 2), births, "the first at once");
        node.ask_rebirth();
        node.beat(&at(3));
        assert_eq!(sent(&mut node, 3), [], "no data meanwhile");
        assert_eq!(node.rebirth_in(&at(3)), Some(Duration::from_millis(99)));
        assert_eq!(sent(&mut node, 102), births);
        assert!(node.may_send_data());
    }
}
