//! The parts in view, and how the belt under them moves.
//!
//! Each look matches the runs that are seen with the parts that are expected: all parts move on by
//! the same shift, so where they should be is known within little, even after lost frames.

use std::sync::Arc;

use super::background::Run;
pub(super) use super::track::Measures;
use super::track::{LENGTH, Track, centre, length, shared, touches_high, touches_low};
use crate::frame::Frame;
use crate::trigger::Finding;

/// Most parts that are followed at once; the window is 160 cells long.
const TRACKS_MAX: usize = 16;

/// A part may be this far from where it is expected, plus a share of the way it went unseen.
const GATE: f32 = 0.1 * LENGTH;
const GATE_UNKNOWN: f32 = 0.5 * LENGTH;
const GATE_SHARE: f32 = 0.3;

/// Looks without a part before it is taken to have left within the window.
const ABSENT_MAX: u32 = 3;

/// Looks for which a part may be hidden in another one's run.
const HIDDEN_MAX: u32 = 90;

/// A part that stands while the belt travels this far is none, cells.
const TRAVEL_MAX: f32 = 0.75 * LENGTH;

/// The view is blind when one thing fills it and stands still for so many looks.
const BLIND_LOOKS: u32 = 150;

/// A part that has stood for so many looks says nothing about the belt's speed.
const STANDS: u32 = 5;

const LEFT_EARLY: &str = "it left the view before it reached the centre line";
const SEEN_LATE: &str = "frames were lost, and it was not seen near the centre line";

/// What is known of the belt and of the parts on it.
#[derive(Debug)]
pub(super) struct Belt {
    measures: Measures,
    tracks: Vec<Track>,
    /// Cells a frame, signed; `None` until a part has moved.
    speed: Option<f32>,
    /// The highest speed of late: after a stop the belt may be that fast again.
    top_speed: f32,
    /// The sign of the last speed that was not zero.
    direction: f32,
    /// Cells the belt went so far, by the parts that moved.
    travelled: f32,
    last_sequence: Option<u64>,
    belt_like: Vec<Run>,
    blind_looks: u32,
}

impl Belt {
    pub(super) fn new(measures: Measures) -> Belt {
        Belt {
            measures,
            tracks: Vec::new(),
            speed: None,
            top_speed: 0.0,
            direction: 0.0,
            travelled: 0.0,
            last_sequence: None,
            belt_like: Vec::new(),
            blind_looks: 0,
        }
    }

    /// Follows the parts to where they are now.
    pub(super) fn see(&mut self, frame: &Arc<Frame>, runs: &[Run]) -> Vec<Finding> {
        let is_first = self.last_sequence.is_none();
        let passed = self.frames_since(frame);
        let shift = self.speed.unwrap_or(0.0) * passed;
        if passed > 1.0 {
            self.tracks.iter_mut().for_each(|track| track.has_gaps = true);
        }
        let expected: Vec<Run> = self.tracks.iter().map(|track| track.predict(shift)).collect();
        let pairs = self.pair(&expected, runs, passed);
        self.measure_speed(&pairs, runs, passed);

        let mut findings = Vec::new();
        for &(track, run) in &pairs {
            self.tracks[track].hidden = 0;
            let found = self.tracks[track].seen(frame, runs[run], self.travelled, &self.measures);
            findings.extend(found);
        }
        self.miss(frame, &expected, &pairs, runs, &mut findings);
        self.welcome(frame, &expected, &pairs, runs, is_first, passed > 1.0);
        self.dismiss(&mut findings);
        self.note_blindness(runs);
        findings
    }

    /// Settles everything in view; the next frame is a first one.
    pub(super) fn interrupt(&mut self, reason: &str) -> Vec<Finding> {
        self.last_sequence = None;
        self.blind_looks = 0;
        let measures = &self.measures;
        self.tracks.drain(..).filter_map(|track| track.close(reason, measures)).collect()
    }

    /// Runs that turned out to be belt.
    pub(super) fn take_belt_like(&mut self) -> Vec<Run> {
        std::mem::take(&mut self.belt_like)
    }

    /// Whether one thing has filled the view and stood still for so long that no part could be seen.
    pub(super) fn is_blind(&self) -> bool {
        self.blind_looks >= BLIND_LOOKS
    }

    fn frames_since(&mut self, frame: &Frame) -> f32 {
        let last = self.last_sequence.replace(frame.sequence);
        last.map_or(1, |last| frame.sequence.saturating_sub(last).clamp(1, 10_000)) as f32
    }

    /// Pairs of a track and a run, the surest first; each at most once.
    fn pair(&self, expected: &[Run], runs: &[Run], passed: f32) -> Vec<(usize, usize)> {
        let gate = match self.speed {
            None => GATE_UNKNOWN,
            Some(speed) => {
                let doubt = (GATE_SHARE * speed.abs()).max(self.top_speed - speed.abs());
                GATE + doubt * passed
            }
        };
        let mut offers = Vec::new();
        for (track, &expected) in expected.iter().enumerate() {
            for (run, &seen) in runs.iter().enumerate() {
                let cost = distance(expected, seen, gate);
                if cost <= gate {
                    offers.push((cost, track, run));
                }
            }
        }
        offers.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut pairs: Vec<(usize, usize)> = Vec::new();
        for (_, track, run) in offers {
            if pairs.iter().all(|pair| pair.0 != track && pair.1 != run) {
                pairs.push((track, run));
            }
        }
        pairs
    }

    /// The belt's speed from the edges that are wholly in view, before the tracks are moved. What
    /// stands while something else moves says nothing about the belt.
    fn measure_speed(&mut self, pairs: &[(usize, usize)], runs: &[Run], passed: f32) {
        let (mut sum, mut count) = (0.0, 0.0);
        let stands = |track: &Track| track.still_frames > STANDS;
        let all_stand = pairs.iter().all(|pair| stands(&self.tracks[pair.0]));
        for &(track, run) in pairs {
            let track = &self.tracks[track];
            if !all_stand && stands(track) {
                continue;
            }
            if let Some(way) = way(track.run, runs[run]) {
                (sum, count) = (sum + way / passed, count + 1.0);
            }
        }
        if count == 0.0 {
            return;
        }
        let now = sum / count;
        let speed = self.speed.map_or(now, |speed| (speed + now) / 2.0);
        self.speed = Some(speed);
        self.top_speed = (self.top_speed * 0.999).max(speed.abs());
        if speed.abs() > 0.2 {
            self.direction = speed.signum();
        }
        if !all_stand {
            self.travelled += now.abs() * passed;
        }
    }

    /// Tracks for which no run was left: gone, hidden in another part's run, or out of sight.
    fn miss(
        &mut self,
        frame: &Arc<Frame>,
        expected: &[Run],
        pairs: &[(usize, usize)],
        runs: &[Run],
        findings: &mut Vec<Finding>,
    ) {
        for (number, &expected) in expected.iter().enumerate() {
            if pairs.iter().any(|pair| pair.0 == number) {
                continue;
            }
            let track = &mut self.tracks[number];
            let is_hidden = runs.iter().any(|&run| shared(run, expected) >= length(expected) / 2.0);
            if is_hidden && track.hidden < HIDDEN_MAX {
                findings.extend(track.seen(frame, expected, self.travelled, &self.measures));
                track.hidden += 1;
            } else {
                track.run = expected;
                track.absent += 1;
            }
        }
    }

    /// Runs that belong to no track: new parts, or fragments of parts that are followed already.
    fn welcome(
        &mut self,
        frame: &Arc<Frame>,
        expected: &[Run],
        pairs: &[(usize, usize)],
        runs: &[Run],
        is_first: bool,
        has_gap: bool,
    ) {
        for (number, &run) in runs.iter().enumerate() {
            if pairs.iter().any(|pair| pair.1 == number) || self.tracks.len() >= TRACKS_MAX {
                continue;
            }
            let is_fragment = expected.iter().any(|&part| shared(part, run) >= length(run) / 2.0);
            if is_fragment && !self.is_entering(run) {
                continue;
            }
            let mut track = Track::new(frame, run, is_first, self.travelled, &self.measures);
            track.has_gaps = has_gap;
            self.tracks.push(track);
        }
    }

    /// Whether a run lies at the border where parts come in; at either while that is not known.
    fn is_entering(&self, run: Run) -> bool {
        (touches_low(run) && self.direction >= 0.0) || (touches_high(run) && self.direction <= 0.0)
    }

    /// Closes the tracks that left, and those that turned out to be belt.
    fn dismiss(&mut self, findings: &mut Vec<Finding>) {
        let mut number = 0;
        while number < self.tracks.len() {
            let track = &self.tracks[number];
            let is_outside = track.run.start >= LENGTH || track.run.end <= 0.0;
            let is_gone = track.absent > ABSENT_MAX || is_outside;
            let is_belt = track.still_frames > STANDS
                && track.absent == 0
                && self.travelled - track.still_since > TRAVEL_MAX;
            if !is_gone && !is_belt {
                number += 1;
                continue;
            }
            let track = self.tracks.swap_remove(number);
            if is_belt {
                self.belt_like.push(track.run);
            }
            if is_gone && track.went_back() {
                continue;
            }
            if is_gone || track.has_moved {
                let reason = if track.has_gaps { SEEN_LATE } else { LEFT_EARLY };
                findings.extend(track.close(reason, &self.measures));
            }
        }
    }

    fn note_blindness(&mut self, runs: &[Run]) {
        let fills = |run: &Run| touches_low(*run) && touches_high(*run);
        let stands = self.tracks.iter().all(|track| track.still_frames > STANDS);
        self.blind_looks = match runs {
            [run] if fills(run) && stands => self.blind_looks + 1,
            _ => 0,
        };
    }
}

/// How far a run is from where a part is expected, by the edges of both that lie within the window.
/// If there is none to compare, it is a weak match wherever the one can be the other.
fn distance(expected: Run, seen: Run, gate: f32) -> f32 {
    let low = (!touches_low(expected) && !touches_low(seen)).then_some(expected.start - seen.start);
    let high = (!touches_high(expected) && !touches_high(seen)).then_some(expected.end - seen.end);
    match (low, high) {
        (Some(low), Some(high)) => (low.abs() + high.abs()) / 2.0,
        (Some(edge), None) | (None, Some(edge)) => edge.abs(),
        (None, None) if shared(expected, seen) > 0.0 => gate / 2.0,
        (None, None) => f32::INFINITY,
    }
}

/// How far a part moved, by its edges that are within the window both times.
fn way(from: Run, to: Run) -> Option<f32> {
    let low = (!touches_low(from) && !touches_low(to)).then_some(to.start - from.start);
    let high = (!touches_high(from) && !touches_high(to)).then_some(to.end - from.end);
    match (low, high) {
        (Some(low), Some(high)) => Some((low + high) / 2.0),
        (Some(edge), None) | (None, Some(edge)) => Some(edge),
        (None, None) => (centre(from) == centre(to)).then_some(0.0),
    }
}
