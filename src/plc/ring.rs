//! Results that wait, in the order of their records, until the controller has acknowledged them.
//!
//! What waits is rebuilt after a restart from the record itself: only how far it was acknowledged is
//! kept beside it ([`Acknowledged`]). So a result cannot be in the ring and not in the record.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::command::Ack;
use super::refusal::{Code, Refusal};
use crate::inspection::ForeignId;

/// How far a station's results were acknowledged, by their sequence numbers in the record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledged {
    /// All up to this one.
    pub up_to: i64,
    /// And these beyond it: no more than results may wait.
    pub beyond: BTreeSet<i64>,
}

impl Acknowledged {
    /// Whether this one was.
    pub fn covers(&self, sequence: i64) -> bool {
        sequence <= self.up_to || self.beyond.contains(&sequence)
    }
}

/// A result that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Its name.
    pub result_id: String,
    /// What the controller called its trigger.
    pub trigger_id: Option<ForeignId>,
    /// The message that tells of it.
    pub payload: Vec<u8>,
}

/// Results acknowledged lately, whose acknowledgement may be repeated.
const REPEATABLE: usize = 64;

/// The results of one station that wait.
#[derive(Clone, Debug)]
pub struct Ring {
    places: usize,
    /// By sequence number.
    waiting: BTreeMap<i64, Waiting>,
    acknowledged: Acknowledged,
    /// The newest acknowledgements, so that one that is repeated gets the same answer.
    repeated: Vec<Ack>,
}

impl Ring {
    /// An empty ring of `places`, for what comes after `acknowledged`.
    pub fn new(places: usize, acknowledged: Acknowledged) -> Ring {
        Ring { places, waiting: BTreeMap::new(), acknowledged, repeated: Vec::new() }
    }

    /// Adds the result of record `sequence`, unless it was acknowledged before.
    pub fn push(&mut self, sequence: i64, waiting: Waiting) {
        if !self.acknowledged.covers(sequence) {
            self.waiting.insert(sequence, waiting);
        }
    }

    /// The result that has waited longest.
    pub fn oldest(&self) -> Option<&Waiting> {
        self.waiting.values().next()
    }

    /// How many wait. An update of a result may wait beyond the places: a part's first result never.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether one more part may be begun while `in_hand` are, each of which will want a place.
    pub fn has_place(&self, in_hand: usize) -> bool {
        self.waiting.len() + in_hand < self.places
    }

    /// Takes acknowledged results out; answers how far it goes now, to be kept. The same
    /// acknowledgement may come twice.
    pub fn acknowledge(&mut self, ack: &Ack) -> Result<&Acknowledged, Refusal> {
        let is_meant = |waiting: &Waiting| match ack {
            Ack::Result(result_id) => waiting.result_id == *result_id,
            Ack::Trigger(trigger_id) => waiting.trigger_id.as_ref() == Some(trigger_id),
        };
        let meant = self.waiting.iter().filter(|(_, waiting)| is_meant(waiting));
        let meant: Vec<i64> = meant.map(|(sequence, _)| *sequence).collect();
        if meant.is_empty() && !self.repeated.contains(ack) {
            let text = "no result of this name waits to be acknowledged";
            return Err(Refusal::new(Code::UnknownResult, text));
        }
        for sequence in meant {
            self.waiting.remove(&sequence);
            self.acknowledged.beyond.insert(sequence);
        }
        self.compact();
        if !self.repeated.contains(ack) {
            self.repeated.push(ack.clone());
            let extra = self.repeated.len().saturating_sub(REPEATABLE);
            self.repeated.drain(..extra);
        }
        Ok(&self.acknowledged)
    }

    /// Moves the mark up to what still waits.
    fn compact(&mut self) {
        let marks = &mut self.acknowledged;
        let newest = marks.beyond.last().copied().unwrap_or(marks.up_to);
        let below = self.waiting.keys().next().map_or(newest, |oldest| (oldest - 1).min(newest));
        marks.up_to = marks.up_to.max(below);
        let up_to = marks.up_to;
        marks.beyond.retain(|sequence| *sequence > up_to);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn waiting(sequence: i64, trigger: u64) -> Waiting {
        Waiting {
            result_id: format!("r{sequence}"),
            trigger_id: Some(ForeignId::Number(trigger)),
            payload: vec![],
        }
    }

    fn of(sequence: i64) -> Ack {
        Ack::Result(format!("r{sequence}"))
    }

    #[test]
    fn the_oldest_waits_until_it_is_acknowledged() {
        let mut ring = Ring::new(2, Acknowledged { up_to: 10, ..Acknowledged::default() });
        ring.push(9, waiting(9, 9));
        assert!(ring.is_empty(), "that one was acknowledged before");
        ring.push(12, waiting(12, 1));
        assert!(ring.has_place(0) && !ring.has_place(1), "a part in hand will want its place");
        ring.push(14, waiting(14, 2));
        assert!(!ring.has_place(0));
        assert_eq!(ring.oldest().map(|one| one.result_id.as_str()), Some("r12"));
        let refused = ring.acknowledge(&of(13)).expect_err("nobody knows it");
        assert_eq!(refused.code, Code::UnknownResult);
        assert_eq!(ring.acknowledge(&of(14)).expect("waits").beyond, [14].into());
        assert_eq!(ring.acknowledge(&of(12)).expect("waits").up_to, 14);
        assert_eq!(ring.acknowledge(&of(12)).expect("repeated").up_to, 14);
        assert!(ring.is_empty());
    }

    #[test]
    fn a_trigger_acknowledges_its_late_result_and_the_update() {
        let mut ring = Ring::new(8, Acknowledged::default());
        for (sequence, trigger) in [(1, 7), (2, 8), (3, 7)] {
            ring.push(sequence, waiting(sequence, trigger));
        }
        let mark = ring.acknowledge(&Ack::Trigger(ForeignId::Number(7))).expect("two wait").clone();
        assert_eq!(mark, Acknowledged { up_to: 1, beyond: [3].into() });
        assert_eq!(ring.len(), 1);
    }

    proptest! {
        /// After any acknowledgements, what the kept mark leaves over of all records is what waits.
        #[test]
        fn the_mark_and_the_record_give_the_ring_again(acks in proptest::collection::vec(1..30i64, 0..60)) {
            let mut ring = Ring::new(30, Acknowledged::default());
            let all: Vec<i64> = (1..30).filter(|n| n % 3 != 0).collect();
            for sequence in &all {
                ring.push(*sequence, waiting(*sequence, *sequence as u64));
            }
            let mut mark = Acknowledged::default();
            for ack in acks {
                if let Ok(now) = ring.acknowledge(&of(ack)) {
                    mark = now.clone();
                }
                let mut again = Ring::new(30, mark.clone());
                for sequence in &all {
                    again.push(*sequence, waiting(*sequence, *sequence as u64));
                }
                prop_assert_eq!(&again.waiting, &ring.waiting);
                prop_assert!(mark.beyond.len() <= 30);
            }
        }
    }
}
