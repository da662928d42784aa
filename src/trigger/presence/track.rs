//! One part on its way through the window. Positions are strip cells along the line of travel.

use std::sync::Arc;

use super::View;
use super::background::Run;
use super::strip::ALONG;
use crate::frame::Frame;
use crate::trigger::burst::Burst;
use crate::trigger::{Finding, Shot};

/// The window's length in cells.
pub(super) const LENGTH: f32 = ALONG as f32;

/// A run that ends so near to the window's border may go on beyond it.
const BORDER: f32 = 1.5;

/// A part that comes off its best position by so much will not come nearer.
const RECEDING: f32 = 3.0;

/// Less than this from the centre of where it was is standing still.
pub(super) const STILL: f32 = 1.0;

const TOO_LONG: &str =
    "it is longer than a part (part_max_share): two may lie too close to be told apart";

/// What a track needs to know of the options; cells.
#[derive(Clone, Debug)]
pub(super) struct Measures {
    pub(super) part_min: f32,
    pub(super) part_max: f32,
    pub(super) tolerance: f32,
    pub(super) settle_frames: u32,
    pub(super) burst_frames: usize,
    pub(super) view: View,
}

/// An end of the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Border {
    Low,
    High,
}

/// A part that is followed.
#[derive(Debug)]
pub(super) struct Track {
    pub(super) run: Run,
    /// Where it was seen nearest to the centre line, and how far from it.
    best: (f32, Arc<Frame>),
    /// Frames of it near the centre line, where there is a choice.
    burst: Burst,
    /// It is to be inspected, and a frame after this one may be sharper.
    is_due: bool,
    /// From the centre line, signed, when last seen.
    offset: f32,
    /// Its longest run so far: what touches the border is not yet all of it.
    longest: f32,
    sightings: u32,
    /// Inspected or missed: nothing more is said about it.
    pub(super) is_settled: bool,
    /// It lay there when the trigger first looked.
    was_first: bool,
    /// The border that it came in by, if it did.
    came_by: Option<Border>,
    /// When last seen it was on its way out by this border.
    leaves_by: Option<Border>,
    /// It came nearer to the centre line since it was first seen.
    has_approached: bool,
    pub(super) has_moved: bool,
    /// Frames were lost while it was followed, or just before.
    pub(super) has_gaps: bool,
    pub(super) born_at: f32,
    still_at: f32,
    pub(super) still_frames: u32,
    /// How far the belt had travelled when it came to stand.
    pub(super) still_since: f32,
    /// Looks in a row in which nothing was seen of it.
    pub(super) absent: u32,
    /// Looks in a row in which it was taken to be within another part's run.
    pub(super) hidden: u32,
}

impl Track {
    pub(super) fn new(
        frame: &Arc<Frame>,
        run: Run,
        was_first: bool,
        travelled: f32,
        measures: &Measures,
    ) -> Track {
        let offset = centre(run) - LENGTH / 2.0;
        let mut track = Track {
            run,
            best: (offset.abs(), Arc::clone(frame)),
            burst: Burst::new(measures.burst_frames),
            is_due: false,
            offset,
            longest: length(run),
            sightings: 1,
            is_settled: false,
            was_first,
            came_by: match (touches_low(run), touches_high(run)) {
                (true, false) => Some(Border::Low),
                (false, true) => Some(Border::High),
                _ => None,
            },
            leaves_by: None,
            has_approached: false,
            has_moved: false,
            has_gaps: false,
            born_at: centre(run),
            still_at: centre(run),
            still_frames: 0,
            still_since: travelled,
            absent: 0,
            hidden: 0,
        };
        track.keep(frame, measures);
        track
    }

    /// It is seen at `run`. Answers when that decides about it.
    pub(super) fn seen(
        &mut self,
        frame: &Arc<Frame>,
        run: Run,
        travelled: f32,
        measures: &Measures,
    ) -> Option<Finding> {
        let before = std::mem::replace(&mut self.offset, centre(run) - LENGTH / 2.0);
        self.note_leaving(run);
        self.run = run;
        self.absent = 0;
        self.sightings += 1;
        self.longest = self.longest.max(length(run));
        self.note_motion(travelled);
        if self.offset.abs() <= self.best.0 {
            self.best = (self.offset.abs(), Arc::clone(frame));
            self.has_approached |= self.offset.abs() < before.abs();
        }
        let is_kept = self.keep(frame, measures);
        self.decide(before, is_kept, measures)
    }

    /// Keeps a frame that it may be inspected in, where there is a choice. `false`: this one is none,
    /// and there are better ones.
    fn keep(&mut self, frame: &Arc<Frame>, measures: &Measures) -> bool {
        let (off, run) = (self.offset.abs(), self.run);
        let is_whole = !touches_low(run) && !touches_high(run);
        let is_choice = measures.burst_frames > 1 && !self.is_settled;
        is_choice
            && is_whole
            && off <= measures.tolerance
            && self.burst.offer(f64::from(off), frame, || measures.view.rect_of(run, frame))
    }

    /// By its edge within the window: where the other one is beyond the border is not known.
    fn note_leaving(&mut self, run: Run) {
        let from = self.run;
        self.leaves_by = match (touches_low(run), touches_high(run)) {
            (true, false) if run.end < from.end => Some(Border::Low),
            (false, true) if run.start > from.start => Some(Border::High),
            // It stands, so it leaves as it did.
            (true, false) if run.end == from.end => self.leaves_by,
            (false, true) if run.start == from.start => self.leaves_by,
            _ => None,
        };
    }

    /// It went out by where it had come in, short of the centre line: it will come again, or was past
    /// and came back a little.
    pub(super) fn went_back(&self) -> bool {
        self.came_by.is_some() && self.came_by == self.leaves_by && !self.has_gaps
    }

    fn note_motion(&mut self, travelled: f32) {
        let at = centre(self.run);
        self.has_moved |= (at - self.born_at).abs() > 2.0 * STILL;
        if (at - self.still_at).abs() > STILL {
            (self.still_at, self.still_frames, self.still_since) = (at, 0, travelled);
        } else {
            self.still_frames += 1;
        }
    }

    fn decide(&mut self, before: f32, is_kept: bool, measures: &Measures) -> Option<Finding> {
        if self.is_settled || self.longest < measures.part_min {
            return None;
        }
        // What lies on the line from the first has not crossed it.
        let is_at_line = self.offset == 0.0 && before != 0.0;
        let has_crossed = before * self.offset < 0.0 || is_at_line;
        let has_passed = self.offset.abs() > self.best.0 + RECEDING;
        let stands = self.still_frames >= measures.settle_frames
            && self.offset.abs() <= measures.tolerance
            && (self.has_moved || !self.was_first);
        let is_near = self.best.0 <= measures.tolerance;
        self.is_due |= has_crossed || stands || (has_passed && is_near && !self.is_known_past());
        // One that was kept beyond the line may be followed by one that is as near as those before it.
        let is_best_to_come = is_kept && !stands && is_near;
        (self.is_due && !is_best_to_come).then(|| self.settle(is_near, measures))
    }

    /// It lay there in the first frame and has only moved away from the centre line since.
    fn is_known_past(&self) -> bool {
        self.was_first && !self.has_approached
    }

    fn settle(&mut self, is_near: bool, measures: &Measures) -> Finding {
        self.is_settled = true;
        let (distance, frame) = (self.best.0, Arc::clone(&self.best.1));
        if self.is_too_long(measures) {
            return Finding::Missed(frame, TOO_LONG.to_owned());
        }
        if is_near {
            // Longer than the window, it is never wholly in view.
            let sharpest = std::mem::replace(&mut self.burst, Burst::new(1)).choose();
            return Finding::Inspect(sharpest.unwrap_or_else(|| Shot::from(&frame)));
        }
        let lost = if self.has_gaps { "frames were lost and " } else { "" };
        let share = distance / LENGTH * 100.0;
        Finding::Missed(
            frame,
            format!(
                "{lost}the nearest view of it is {share:.0} % of the window off the centre line"
            ),
        )
    }

    /// By more than a cell at each end, as a blurred outline is.
    fn is_too_long(&self, measures: &Measures) -> bool {
        self.longest > measures.part_max + 2.0 && measures.part_max < LENGTH
    }

    /// It has left, or is given up. Answers if nothing was said about it yet and it was a part.
    pub(super) fn close(self, reason: &str, measures: &Measures) -> Option<Finding> {
        // One glimpse is a part only if there could have been no more of them.
        let was_glimpse = (self.sightings < 2 || !self.has_moved) && !self.has_gaps;
        let was_speck = self.longest < measures.part_min;
        if self.is_settled || was_glimpse || was_speck || self.is_known_past() {
            return None;
        }
        if self.best.0 <= measures.tolerance && !self.is_too_long(measures) {
            let shot = self.burst.choose();
            return Some(Finding::Inspect(shot.unwrap_or_else(|| Shot::from(&self.best.1))));
        }
        Some(Finding::Missed(self.best.1, reason.to_owned()))
    }

    /// Where it should be after the belt moved on by `shift`. An end beyond the border stays there
    /// while the part comes in: how much of it is still to come is not known.
    pub(super) fn predict(&self, shift: f32) -> Run {
        let is_entering_low = touches_low(self.run) && shift > 0.0;
        let is_entering_high = touches_high(self.run) && shift < 0.0;
        Run {
            start: if is_entering_low { self.run.start } else { self.run.start + shift },
            end: if is_entering_high { self.run.end } else { self.run.end + shift },
        }
    }
}

pub(super) fn centre(run: Run) -> f32 {
    (run.start + run.end) / 2.0
}

pub(super) fn length(run: Run) -> f32 {
    run.end - run.start
}

pub(super) fn touches_low(run: Run) -> bool {
    run.start < BORDER
}

pub(super) fn touches_high(run: Run) -> bool {
    run.end > LENGTH - BORDER
}

/// How many cells two runs share.
pub(super) fn shared(a: Run, b: Run) -> f32 {
    (a.end.min(b.end) - a.start.max(b.start)).max(0.0)
}
