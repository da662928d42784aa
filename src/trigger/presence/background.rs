//! What the empty belt looks like, and where the strip differs from it.
//!
//! The background is one grey level per cell and one gain for all of them. The gain follows the
//! light (lamps, sun, the camera's own exposure) within one frame; the levels follow slowly, and
//! only where no part lies.
//!
//! The first frame may show a part. A belt looks alike along its line of travel, so each row's
//! median over that line is taken for the belt where the first frame differs from it. That holds
//! while parts cover less than half of the window's length.

use super::strip::{ACROSS, ALONG};

/// Share of a position's cells that must differ for it to count.
const DIFFERING_MIN: usize = ACROSS / 16;

/// How fast the levels follow where no part lies: 1/32 a frame, about a second at 30 frames a second.
const RATE: f32 = 1.0 / 32.0;

/// Positions beside a part that do not learn either: its shadow and its blur.
const MARGIN: usize = 3;

/// A step of the gain by more than this must be borne out by most cells. A large part that
/// appears at once would otherwise be taken for a change of light.
const GAIN_STEP: f32 = 0.06;
const GAIN_FIT_MIN: f32 = 0.8;

/// A gain outside of these is no light but a covered lens.
const GAIN_RANGE: (f32, f32) = (0.25, 4.0);

/// Every so many-th idle cell is asked for gain and noise; fewer than so many say nothing.
const SAMPLE_STEP: usize = 7;
const SAMPLES_MIN: usize = 50;

/// Darker cells say nothing about a factor.
const GAIN_LEVEL_MIN: f32 = 12.0;

/// The thresholds keep this many standard deviations of the camera's noise away from it, but a part
/// that covers most of the view must not pass for noise: the noise counts up to a share of the
/// contrast.
const NOISE_WEAK: f32 = 3.0;
const NOISE_STRONG: f32 = 4.0;
const NOISE_MAX_SHARE: f32 = 1.0 / 3.0;

/// The median of a normal distribution's absolute values, in standard deviations.
const MEDIAN_OF_NORMAL: f32 = 0.6745;

/// A connected stretch of positions that differ from the belt; `start..end` in positions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Run {
    pub(super) start: f32,
    pub(super) end: f32,
}

/// The model of the empty belt.
#[derive(Debug)]
pub(super) struct Background {
    contrast: f32,
    gap: usize,
    levels: Vec<f32>,
    gain: f32,
    /// Standard deviation of a cell from the empty belt, grey levels.
    noise: f32,
    /// Positions that held a part in the last frame.
    busy: Vec<bool>,
    /// Working memory of the medians.
    samples: Vec<f32>,
}

impl Background {
    /// `contrast`: grey levels that make a difference; `gap`: shorter gaps, in positions, are part
    /// of the part.
    pub(super) fn new(contrast: f32, gap: usize) -> Background {
        let (levels, samples) = (Vec::new(), Vec::new());
        let busy = vec![false; ALONG];
        Background { contrast, gap, levels, gain: 1.0, noise: 0.0, busy, samples }
    }

    /// Forgets the belt; the next strip is a first one.
    pub(super) fn forget(&mut self) {
        self.levels.clear();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.levels.is_empty()
    }

    /// Where the strip differs from the belt, in order along the line of travel; learns from it.
    pub(super) fn look(&mut self, strip: &[f32]) -> Vec<Run> {
        if self.levels.is_empty() {
            self.begin(strip);
        }
        self.follow_light(strip);
        self.measure_noise(strip);
        let runs = self.runs(strip);
        self.mark_busy(&runs);
        self.learn(strip);
        runs
    }

    /// Takes what lies in `run` for belt.
    pub(super) fn absorb(&mut self, strip: &[f32], run: Run) {
        let start = (run.start.max(0.0) as usize).saturating_sub(MARGIN);
        let end = (run.end.max(0.0) as usize + MARGIN).min(ALONG);
        let gain = self.gain;
        let cells = start * ACROSS..end.max(start) * ACROSS;
        for (level, &cell) in self.levels[cells.clone()].iter_mut().zip(&strip[cells]) {
            *level = cell / gain;
        }
    }

    fn begin(&mut self, strip: &[f32]) {
        self.gain = 1.0;
        self.busy.fill(false);
        self.levels = strip.to_vec();
        let mut line = vec![0.0; ALONG];
        for across in 0..ACROSS {
            for (along, cell) in line.iter_mut().enumerate() {
                *cell = strip[along * ACROSS + across];
            }
            let belt = median(&mut line);
            for level in self.levels.iter_mut().skip(across).step_by(ACROSS) {
                if (*level - belt).abs() >= self.contrast / 2.0 {
                    *level = belt;
                }
            }
        }
    }

    fn follow_light(&mut self, strip: &[f32]) {
        self.samples.clear();
        for at in (0..strip.len()).step_by(SAMPLE_STEP) {
            if !self.busy[at / ACROSS] && self.levels[at] >= GAIN_LEVEL_MIN {
                self.samples.push(strip[at] / self.levels[at]);
            }
        }
        if self.samples.len() < SAMPLES_MIN {
            return;
        }
        let gain = median(&mut self.samples).clamp(GAIN_RANGE.0, GAIN_RANGE.1);
        if (gain / self.gain - 1.0).abs() > GAIN_STEP && !self.is_borne_out(strip, gain) {
            return;
        }
        self.gain = gain;
    }

    /// Whether nearly all idle cells agree with a gain.
    fn is_borne_out(&self, strip: &[f32], gain: f32) -> bool {
        let (mut fit, mut asked) = (0, 0);
        for at in (0..strip.len()).step_by(SAMPLE_STEP) {
            if !self.busy[at / ACROSS] {
                asked += 1;
                let difference = (strip[at] - self.levels[at] * gain).abs();
                fit += usize::from(difference < self.weak_min());
            }
        }
        fit as f32 >= GAIN_FIT_MIN * asked as f32
    }

    fn measure_noise(&mut self, strip: &[f32]) {
        self.samples.clear();
        for at in (0..strip.len()).step_by(SAMPLE_STEP) {
            if !self.busy[at / ACROSS] {
                self.samples.push((strip[at] - self.levels[at] * self.gain).abs());
            }
        }
        if self.samples.len() >= SAMPLES_MIN {
            let noise = median(&mut self.samples) / MEDIAN_OF_NORMAL;
            self.noise = noise.min(self.contrast * NOISE_MAX_SHARE);
        }
    }

    /// Stretches of weakly differing positions that hold strongly differing ones: the two
    /// thresholds keep a part whole whose edges are faint, and noise from being a part.
    fn runs(&self, strip: &[f32]) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::new();
        let mut open: Option<(usize, usize, usize)> = None;
        for along in 0..=ALONG {
            let (is_weak, is_strong) = match along {
                ALONG => (false, false),
                _ => self.differs(strip, along),
            };
            open = match (open, is_weak) {
                (None, false) => None,
                (None, true) => Some((along, along, usize::from(is_strong))),
                (Some((start, _, strong)), true) => {
                    Some((start, along, strong + usize::from(is_strong)))
                }
                (Some((start, last, strong)), false) => {
                    if along < ALONG && along - last <= self.gap {
                        Some((start, last, strong))
                    } else {
                        if strong >= 2 {
                            runs.push(Run { start: start as f32, end: last as f32 + 1.0 });
                        }
                        None
                    }
                }
            };
        }
        runs
    }

    /// Whether a position differs from the belt: weakly, strongly.
    fn differs(&self, strip: &[f32], along: usize) -> (bool, bool) {
        let cells = along * ACROSS..(along + 1) * ACROSS;
        let weak_min = self.weak_min();
        let strong_min = self.contrast.max(self.noise * NOISE_STRONG);
        let (mut weak, mut strong) = (0, 0);
        for (cell, level) in strip[cells.clone()].iter().zip(&self.levels[cells]) {
            let difference = (cell - level * self.gain).abs();
            weak += usize::from(difference >= weak_min);
            strong += usize::from(difference >= strong_min);
        }
        (weak >= DIFFERING_MIN, strong >= DIFFERING_MIN)
    }

    /// Grey levels from which a cell differs weakly.
    fn weak_min(&self) -> f32 {
        (self.contrast / 2.0).max(self.noise * NOISE_WEAK)
    }

    fn mark_busy(&mut self, runs: &[Run]) {
        self.busy.fill(false);
        for run in runs {
            let start = (run.start as usize).saturating_sub(MARGIN);
            let end = (run.end as usize + MARGIN).min(ALONG);
            self.busy[start..end].fill(true);
        }
    }

    fn learn(&mut self, strip: &[f32]) {
        let gain = self.gain;
        let positions = self.levels.chunks_exact_mut(ACROSS).zip(strip.chunks_exact(ACROSS));
        for ((levels, cells), _) in positions.zip(&self.busy).filter(|(_, is_busy)| !**is_busy) {
            for (level, &cell) in levels.iter_mut().zip(cells) {
                *level += (cell / gain - *level) * RATE;
            }
        }
    }
}

/// The middle value; the order of `values` is lost.
fn median(values: &mut [f32]) -> f32 {
    let middle = values.len() / 2;
    *values.select_nth_unstable_by(middle, f32::total_cmp).1
}
