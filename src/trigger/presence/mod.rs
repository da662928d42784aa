//! The presence trigger: each part on a belt once, when it is nearest to the centre line.
//!
//! ```text
//! frame ─strip─► 160x60 grey cells ─background─► runs that differ from the belt
//!   ─belt─► parts followed from entering to leaving ─► Inspect | Missed
//! ```
//!
//! A part is looked at once: it is armed by entering and never again until it has left. A part
//! that was seen and never near enough to the centre line, because frames were lost or because it
//! was taken off the belt, is missed and says so.
//!
//! * The first frame may show an empty belt or a part, as long as parts cover less than half of the
//!   window's length in it. A part in the first frame is inspected if it still moves to the
//!   centre line; if it stands still or is already past it, it is taken for one that was inspected
//!   before.
//! * Frames may be lost. Where one stands alone between two losses nobody knows how fast its parts go: one that was
//!   inspected may then be told of once more, as missed.
//! * Light may change, slowly or at once: the background follows it.
//! * Parts that touch, or lie closer than `gap_min_share` and some cells for their tilt, are one part; with
//!   `part_max_share` it is missed and not inspected. A part longer than the
//!   window is inspected when it fills the window.
//! * A belt may stop anywhere, and go back a little: what goes out by the border that it came in by, short
//!   of the centre line, has not passed, and is not counted. A part that goes back over the line after it
//!   was decided about is not counted again while it stays in view.
//! * Something that stands still while the rest of the belt moves on is taken for belt.

mod background;
mod belt;
mod strip;
mod track;

use std::sync::Arc;

use super::burst::{self, BURST_MAX};
use super::{Finding, OptionsError};
use crate::frame::Frame;
use crate::roi::RectPx;
use background::Background;
use belt::{Belt, Measures};
use strip::{ALONG, Sampler};

/// The line of travel in the frame. The direction is learnt from the parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Axis {
    /// Left to right or right to left.
    Horizontal,
    /// Top to bottom or bottom to top.
    Vertical,
}

/// The part of the frame that is watched, in shares of the frame's width and height. What moves
/// beside the belt should lie outside of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    /// Left edge.
    pub x: f64,
    /// Top edge.
    pub y: f64,
    /// Share of the frame's width.
    pub width: f64,
    /// Share of the frame's height.
    pub height: f64,
}

/// The whole frame.
impl Default for Window {
    fn default() -> Window {
        Window { x: 0.0, y: 0.0, width: 1.0, height: 1.0 }
    }
}

/// How parts are told from the belt and from one another. Lengths are shares of the window's
/// length along the line of travel.
#[derive(Clone, Debug, PartialEq)]
pub struct PresenceOptions {
    /// The line of travel.
    pub axis: Axis,
    /// What is watched; its middle is the centre line.
    pub window: Window,
    /// Grey levels, of 255, by which a part differs from the belt. Too low takes the belt's own
    /// pattern for a part; too high misses parts that look like the belt.
    pub contrast_levels: u8,
    /// The shortest part. Too low takes a speck for a part; too high misses small parts.
    pub part_min_share: f64,
    /// The longest part; what is longer is two that lie too close to be told apart, and is missed. 1: a part
    /// may be longer than the window. Too low misses long parts; too high inspects two in one picture.
    pub part_max_share: f64,
    /// The shortest gap between two parts. Too low takes one part with a hole for two; too high
    /// takes two parts for one.
    pub gap_min_share: f64,
    /// Farthest from the centre line that a part may be inspected. Too low calls parts missed when
    /// frames are lost; too high inspects parts that are not wholly in view.
    pub centre_tolerance_share: f64,
    /// A part that stands within the tolerance for so many frames is inspected where it stands, for
    /// lines that stop for it.
    pub settle_frames: u32,
    /// Of so many frames nearest to the centre line, within the tolerance and with the part wholly in
    /// view, the sharpest is inspected; 1: the nearest.
    pub burst_frames: usize,
}

impl Default for PresenceOptions {
    fn default() -> PresenceOptions {
        PresenceOptions {
            axis: Axis::Horizontal,
            window: Window::default(),
            contrast_levels: 24,
            part_min_share: 0.05,
            part_max_share: 1.0,
            gap_min_share: 0.025,
            centre_tolerance_share: 0.12,
            settle_frames: 10,
            burst_frames: 1,
        }
    }
}

impl PresenceOptions {
    pub(super) fn check(&self) -> Result<(), OptionsError> {
        let refuse = |name, value, expected| Err(OptionsError { name, value, expected });
        let window = &self.window;
        let sides = [
            ("window.x and window.width", window.x, window.width),
            ("window.y and window.height", window.y, window.height),
        ];
        for (name, start, length) in sides {
            if !(start >= 0.0 && length > 0.0 && start + length <= 1.0 + 1e-9) {
                return refuse(name, start + length, "a part of the frame, in shares from 0 to 1");
            }
        }
        if self.contrast_levels < 4 {
            let value = f64::from(self.contrast_levels);
            return refuse("contrast_levels", value, "4 to 255; below is the camera's noise");
        }
        if !(self.part_min_share >= 0.02 && self.part_min_share <= 0.9) {
            return refuse("part_min_share", self.part_min_share, "0.02 to 0.9");
        }
        if !(self.part_max_share > self.part_min_share && self.part_max_share <= 1.0) {
            return refuse("part_max_share", self.part_max_share, "above part_min_share, to 1");
        }
        if !(self.gap_min_share >= 0.0 && self.gap_min_share <= 0.5) {
            return refuse("gap_min_share", self.gap_min_share, "0 to 0.5");
        }
        if !(self.centre_tolerance_share >= 0.01 && self.centre_tolerance_share <= 0.5) {
            let value = self.centre_tolerance_share;
            return refuse("centre_tolerance_share", value, "0.01 to 0.5");
        }
        if self.settle_frames == 0 {
            return refuse("settle_frames", 0.0, "at least 1");
        }
        if self.burst_frames == 0 || self.burst_frames > BURST_MAX {
            return refuse("burst_frames", self.burst_frames as f64, "1 to 16");
        }
        Ok(())
    }
}

/// Cells beside a part that show the blur of its outline.
const OUTLINE: f32 = 4.0;

/// Where the window's cells lie in a frame.
#[derive(Clone, Debug)]
struct View {
    axis: Axis,
    window: Window,
}

impl View {
    /// The pixels of `frame` that show the cells of `run`; at least one.
    fn rect_of(&self, run: background::Run, frame: &Frame) -> RectPx {
        let (width, height) = burst::size(frame);
        let along = |cell: f32| f64::from(cell.clamp(0.0, track::LENGTH) / track::LENGTH);
        // Its outline is blurred as it is.
        let (from, to) = (along(run.start - OUTLINE), along(run.end + OUTLINE));
        let ((left, right), (top, bottom)) = match self.axis {
            Axis::Horizontal => ((from, to), (0.0, 1.0)),
            Axis::Vertical => ((0.0, 1.0), (from, to)),
        };
        let window = &self.window;
        let side = |start: f64, length: f64, (from, to): (f64, f64), pixels: u32| {
            let at = |share: f64| ((start + length * share) * f64::from(pixels)) as u32;
            let first = at(from).min(pixels.saturating_sub(1));
            (first, at(to).clamp(first + 1, pixels.max(first + 1)) - first)
        };
        let (x, width) = side(window.x, window.width, (left, right), width);
        let (y, height) = side(window.y, window.height, (top, bottom), height);
        RectPx { x, y, width, height }
    }
}

/// The trigger's state; bounded by the strip's size and by the most parts that are followed.
#[derive(Debug)]
pub(super) struct Presence {
    sampler: Sampler,
    strip: Vec<f32>,
    background: Background,
    belt: Belt,
}

impl Presence {
    pub(super) fn new(options: PresenceOptions) -> Presence {
        let cells = |share: f64| (share * ALONG as f64) as f32;
        let contrast = f32::from(options.contrast_levels);
        let gap = cells(options.gap_min_share).round() as usize;
        let measures = Measures {
            part_min: cells(options.part_min_share),
            part_max: cells(options.part_max_share),
            tolerance: cells(options.centre_tolerance_share),
            settle_frames: options.settle_frames,
            burst_frames: options.burst_frames,
            view: View { axis: options.axis, window: options.window.clone() },
        };
        Presence {
            sampler: Sampler::new(options.axis, options.window),
            strip: Vec::with_capacity(ALONG * strip::ACROSS),
            background: Background::new(contrast, gap),
            belt: Belt::new(measures),
        }
    }

    pub(super) fn see(&mut self, frame: &Arc<Frame>) -> Vec<Finding> {
        let is_other_size = self.sampler.sample(&frame.picture, &mut self.strip);
        if self.strip.is_empty() {
            return Vec::new();
        }
        let mut findings = Vec::new();
        if is_other_size && !self.background.is_empty() {
            findings = self.interrupt("the camera changed the size of its frames");
            self.background.forget();
        }
        let runs = self.background.look(&self.strip);
        findings.extend(self.belt.see(frame, &runs));
        for run in self.belt.take_belt_like() {
            self.background.absorb(&self.strip, run);
        }
        if self.belt.is_blind() {
            tracing::warn!(
                camera = &*frame.camera,
                "the whole view differs from the empty belt and stands still: the belt is learnt anew"
            );
            findings.extend(self.interrupt("the whole view changed and stands still"));
            self.background.forget();
        }
        findings
    }

    pub(super) fn interrupt(&mut self, reason: &str) -> Vec<Finding> {
        self.belt.interrupt(reason)
    }
}
