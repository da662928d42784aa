//! How a station's camera is, as the line tells it: on each change, and once a minute while frames
//! come.

use crate::camera::{Counts, LossKind};
use crate::clock::Stamp;
use crate::publish::message::{self, CameraNews};

/// From one telling of the counts to the next, in nanoseconds of the monotonic clock.
const EVERY_NS: u64 = 60 * 1_000_000_000;

/// What is known of one camera.
#[derive(Debug)]
pub struct CameraWatch {
    station: String,
    state: State,
    since: Stamp,
    told_ns: Option<u64>,
    /// Counts from before the camera was opened again.
    before: Option<Counts>,
}

/// What a frame is the occasion to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// That the camera delivers.
    Change,
    /// The counts of the last minute.
    Counts,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Opening,
    Delivers,
    Lost(LossKind, String),
    Ended,
}

impl CameraWatch {
    /// A camera that was opened at `now` and has brought nothing.
    pub fn new(station: &str, now: Stamp) -> CameraWatch {
        let station = station.to_owned();
        CameraWatch { station, state: State::Opening, since: now, told_ns: None, before: None }
    }

    /// A frame came; what is to be told of that, if anything.
    pub fn frame(&mut self, now: &Stamp) -> Option<Told> {
        if self.state != State::Delivers {
            self.enter(State::Delivers, now);
            return Some(Told::Change);
        }
        let is_due =
            self.told_ns.is_none_or(|told| now.monotonic_ns.saturating_sub(told) >= EVERY_NS);
        is_due.then_some(Told::Counts)
    }

    /// It was lost.
    pub fn lost(&mut self, kind: LossKind, reason: &str, now: &Stamp) {
        self.enter(State::Lost(kind, reason.to_owned()), now);
    }

    /// No frame will come any more.
    pub fn ended(&mut self, now: &Stamp) {
        self.enter(State::Ended, now);
    }

    fn enter(&mut self, state: State, now: &Stamp) {
        self.state = state;
        self.since = *now;
    }

    /// Whether frames come.
    pub fn delivers(&self) -> bool {
        self.state == State::Delivers
    }

    /// It was opened again: what it had brought before counts on.
    pub fn opened_again(&mut self, counts: Counts) {
        self.before = Some(self.total(counts));
    }

    /// What it has brought since the program started.
    pub fn total(&self, counts: Counts) -> Counts {
        let Some(before) = self.before else { return counts };
        Counts {
            brought: before.brought + counts.brought,
            delivered: before.delivered + counts.delivered,
            dropped: before.dropped + counts.dropped,
            damaged: before.damaged + counts.damaged,
            partial: before.partial + counts.partial,
            losses: LossKind::ALL.map(|kind| {
                let of = |counts: &Counts| counts.losses[kind as usize].1;
                (kind, of(&before) + of(&counts))
            }),
        }
    }

    /// The message that tells of it, where `counts` is what it has brought since it was opened.
    pub fn message(&mut self, counts: Counts, now: &Stamp) -> Vec<u8> {
        self.told_ns = Some(now.monotonic_ns);
        let counts = self.total(counts);
        let losses = counts.losses.map(|(kind, count)| (kind.as_str(), count));
        let news = CameraNews {
            station: &self.station,
            state: match self.state {
                State::Opening => "opening",
                State::Delivers => "delivers",
                State::Lost(..) => "lost",
                State::Ended => "ended",
            },
            loss: match &self.state {
                State::Lost(kind, reason) => Some((kind.as_str(), reason)),
                _ => None,
            },
            since: self.since,
            frames: [counts.brought, counts.dropped, counts.damaged, counts.partial],
            losses: &losses,
        };
        message::camera(&news, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: u64) -> Stamp {
        Stamp { wall: jiff::Timestamp::UNIX_EPOCH, monotonic_ns: s * 1_000_000_000 }
    }

    fn counts(brought: u64, stalls: u64) -> Counts {
        let losses =
            LossKind::ALL.map(|kind| (kind, if kind == LossKind::Stalled { stalls } else { 0 }));
        Counts { brought, delivered: brought, dropped: 0, damaged: 0, partial: 0, losses }
    }

    fn told(watch: &mut CameraWatch, brought: u64, stalls: u64, s: u64) -> serde_json::Value {
        serde_json::from_slice(&watch.message(counts(brought, stalls), &at(s))).expect("JSON")
    }

    #[test]
    fn changes_are_told_at_once_and_counts_once_a_minute() {
        let mut watch = CameraWatch::new("press", at(0));
        assert_eq!(told(&mut watch, 0, 0, 0)["state"], "opening");
        assert_eq!(watch.frame(&at(1)), Some(Told::Change));
        assert_eq!(told(&mut watch, 1, 0, 1)["state"], "delivers");
        assert_eq!(watch.frame(&at(60)), None);
        assert_eq!(watch.frame(&at(61)), Some(Told::Counts));
        watch.lost(LossKind::Stalled, "no frame for 10.0 s", &at(70));
        let lost = told(&mut watch, 900, 1, 70);
        assert_eq!((&lost["state"], &lost["kind"]), (&"lost".into(), &"stalled".into()));
        assert_eq!(lost["losses"], serde_json::json!({ "stalled": 1 }));
        assert_eq!(watch.frame(&at(71)), Some(Told::Change));
        assert!(told(&mut watch, 901, 1, 71).get("kind").is_none());
    }

    #[test]
    fn footage_that_is_played_again_counts_on() {
        let mut watch = CameraWatch::new("press", at(0));
        watch.ended(&at(1));
        watch.opened_again(counts(100, 2));
        assert_eq!(told(&mut watch, 5, 1, 2)["frames"], 105);
        assert_eq!(told(&mut watch, 5, 1, 2)["losses"]["stalled"], 3);
    }
}
