//! Stations whose results the broker does not take now.
//!
//! Their results wait, longer each time, and then one is tried: all at once would be refused all at
//! once. A block outlives its connection, as some brokers end it over a number of refusals
//! (mosquitto 2.0.11 counts what it declined as under way for ever).

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::backoff::Backoff;

/// How long results wait that the broker did not take: the first time, and at most.
const WAIT_MIN: Duration = Duration::from_secs(1);
const WAIT_MAX: Duration = Duration::from_secs(60);

/// A station whose results the broker does not take now.
#[derive(Debug)]
struct Block {
    until: Instant,
    backoff: Backoff,
    /// The oldest row that was declined: the one to try.
    row: i64,
}

/// All of them, by station.
#[derive(Debug, Default)]
pub(super) struct Blocks(BTreeMap<String, Block>);

impl Blocks {
    /// The broker did not take `row` of `station`. `share` is a random number from 0 to 1.
    pub(super) fn note(&mut self, station: &str, row: i64, now: Instant, share: f64) {
        let block = self.0.entry(station.to_owned()).or_insert_with(|| Block {
            until: now,
            backoff: Backoff::new(WAIT_MIN, WAIT_MAX),
            row,
        });
        block.row = block.row.min(row);
        // Those of a window come back one by one: they are one refusal.
        if block.until <= now {
            block.until = now + block.backoff.next(share);
        }
    }

    /// The broker takes results of `station`. `true`: it did not before.
    pub(super) fn lift(&mut self, station: &str) -> bool {
        self.0.remove(station).is_some()
    }

    /// The stations whose results wait.
    pub(super) fn stations(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    /// The row to be tried of each station whose time has come.
    pub(super) fn due(&self, now: Instant) -> Vec<(String, i64)> {
        let due = self.0.iter().filter(|(_, block)| block.until <= now);
        due.map(|(station, block)| (station.clone(), block.row)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_row_is_tried_when_its_time_has_come_and_then_later_each_time() {
        let (mut blocks, start) = (Blocks::default(), Instant::now());
        for row in [7, 5, 6] {
            blocks.note("left", row, start, 1.0);
        }
        let after = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(blocks.stations(), ["left"]);
        assert!(blocks.due(start).is_empty());
        assert_eq!(blocks.due(after(1)), [("left".to_owned(), 5)], "a window is one refusal");
        blocks.note("left", 5, after(1), 1.0);
        assert!(blocks.due(after(2)).is_empty());
        assert_eq!(blocks.due(after(3)).len(), 1);
        assert!(blocks.lift("left") && !blocks.lift("left"));
        assert!(blocks.due(after(100)).is_empty() && blocks.stations().is_empty());
    }
}
