//! The messages of the edge node, from what it knows.

use srad_types::payload::DataType;

use super::metrics::{self, Tag};
use super::node::{Node, Step, millis, stamp_millis};
use super::payload::{self, Draft, Reading};
use super::topics::Verb;
use crate::clock::Stamp;
use crate::inspection::Inspection;

/// A metric of the edge node itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum NodeTag {
    /// Counts up while the program runs.
    Heartbeat = 1,
    /// Results that were too many to be told late; they stand in the record.
    HistorySkipped,
    /// The program's version.
    ProgramVersion,
}

impl NodeTag {
    /// Tag, name and type, in the order of a birth.
    const ALL: [(NodeTag, &str, DataType); 3] = [
        (NodeTag::Heartbeat, "Heartbeat", DataType::UInt32),
        (NodeTag::HistorySkipped, "History/Skipped", DataType::UInt64),
        (NodeTag::ProgramVersion, "Properties/Program Version", DataType::String),
    ];
}

impl Node {
    /// The message of `step`.
    pub fn draft(&self, step: &Step, now: &Stamp) -> Draft {
        let now_ms = millis(now);
        match step {
            Step::NodeBirth => Draft {
                topic: self.topics.node(Verb::Birth),
                metrics: [
                    payload::bd_seq_metric(self.bd_seq, now_ms),
                    payload::rebirth_metric(now_ms),
                ]
                .into_iter()
                .chain(NodeTag::ALL.iter().map(|(tag, name, datatype)| {
                    payload::declared(name, Some(*tag as u64), *datatype, &self.own[tag])
                }))
                .collect(),
            },
            Step::NodeData => Draft {
                topic: self.topics.node(Verb::Data),
                metrics: self
                    .own_changed
                    .iter()
                    .map(|tag| payload::aliased(*tag as u64, &self.own[tag], false))
                    .collect(),
            },
            Step::StationBirth(at) => {
                let metric = |tag: Tag| {
                    let reading = &self.stations[*at].readings[&tag];
                    payload::declared(tag.name(), Some(tag.alias(*at)), tag.datatype(), reading)
                };
                let metrics = Tag::all().map(metric).collect();
                Draft { topic: self.station_topic(Verb::Birth, *at), metrics }
            }
            Step::StationData(at) => {
                let station = &self.stations[*at];
                let metric =
                    |tag: &Tag| payload::aliased(tag.alias(*at), &station.readings[tag], false);
                let metrics = station.changed.iter().map(metric).collect();
                Draft { topic: self.station_topic(Verb::Data, *at), metrics }
            }
            Step::StationDeath(at) => {
                Draft { topic: self.station_topic(Verb::Death, *at), metrics: Vec::new() }
            }
        }
    }

    /// The message of a result of `station`: all its values in one. Live, the station's counters go
    /// with it.
    pub fn result(&self, station: usize, sequence: i64, look: &Inspection) -> Draft {
        let historical = sequence <= self.history;
        let at_ms = stamp_millis(look);
        let of_result = metrics::of_result(look).into_iter();
        let mut metrics: Vec<_> = of_result
            .map(|(tag, value)| {
                payload::aliased(tag.alias(station), &Reading { value, at_ms }, historical)
            })
            .collect();
        if !historical {
            let one = &self.stations[station];
            metrics.extend(
                one.counts.values().iter().map(|(tag, _)| {
                    payload::aliased(tag.alias(station), &one.readings[tag], false)
                }),
            );
        }
        Draft { topic: self.station_topic(Verb::Data, station), metrics }
    }

    pub(super) fn station_topic(&self, verb: Verb, station: usize) -> String {
        self.topics.station(verb, &self.stations[station].name)
    }
}
