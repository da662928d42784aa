//! What a photo eye is, and how far it stands before the camera.

use std::path::PathBuf;
use std::time::Duration;

use crate::trigger::OptionsError;
use crate::trigger::burst::BURST_MAX;

/// Most parts that may be between eye and camera.
pub const PARTS_MAX: usize = 256;

/// What the board's own resistor does at the lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pull {
    /// What the board was set up for.
    #[default]
    AsIs,
    /// To the supply: for an eye with an open collector.
    Up,
    /// To ground.
    Down,
    /// It is off.
    None,
}

/// A light barrier upstream of the camera, on a line of a GPIO chip.
#[derive(Clone, Debug, PartialEq)]
pub struct PhotoEyeOptions {
    /// The chip's device, such as `/dev/gpiochip0`.
    pub chip: PathBuf,
    /// The eye's line, by its offset on the chip.
    pub line: u32,
    /// A part's front makes the line rise; else it falls.
    pub is_rising: bool,
    /// The resistor at both lines.
    pub pull: Pull,
    /// A level counts when it has held so long, and then from its first moment on. Too short counts
    /// bounces; too long misses short parts.
    pub debounce: Duration,
    /// From the eye to the camera.
    pub way: Way,
    /// Most parts between them; one more is a record that it could not be followed.
    pub parts_max: usize,
    /// Farthest from its due moment that a part's frame may be. Too short loses parts to dropped frames;
    /// too long shows parts that are not wholly in view.
    pub frame_within: Duration,
    /// From the exposure of a frame to its arrival here.
    pub camera_latency: Duration,
    /// Of so many frames nearest to the due moment the sharpest is inspected; 1: the nearest.
    pub burst_frames: usize,
}

/// The way from the eye to the camera.
#[derive(Clone, Debug, PartialEq)]
pub enum Way {
    /// The belt runs at one speed: it takes always as long.
    Time {
        /// So long.
        delay: Duration,
        /// A front that comes sooner after a part's front is of the same part.
        apart: Duration,
    },
    /// The belt's way is counted.
    Encoder(EncoderOptions),
}

/// An encoder that gives pulses as the belt moves. One line tells no direction: a belt that moves back
/// counts as one that moves on.
#[derive(Clone, Debug, PartialEq)]
pub struct EncoderOptions {
    /// Its line, on the eye's chip. Rising edges count.
    pub line: u32,
    /// The belt's way from one pulse to the next.
    pub mm_per_pulse: f64,
    /// From the eye to where a part is to be seen.
    pub distance_mm: f64,
    /// A front that comes sooner after a part's front is of the same part.
    pub apart_mm: f64,
    /// Longest time without a pulse while a part is on its way; then the encoder is not believed.
    pub still: Duration,
}

impl EncoderOptions {
    /// Pulses on a way of `mm`; at least as far.
    pub(super) fn pulses(&self, mm: f64) -> u64 {
        // A product that is a whole number but for rounding is that number.
        (mm / self.mm_per_pulse - 1e-9).ceil().max(0.0) as u64
    }
}

impl PhotoEyeOptions {
    /// The encoder's line, if there is one.
    pub fn encoder_line(&self) -> Option<u32> {
        match &self.way {
            Way::Time { .. } => None,
            Way::Encoder(encoder) => Some(encoder.line),
        }
    }

    /// The lines that are used.
    pub fn lines(&self) -> impl Iterator<Item = u32> {
        std::iter::once(self.line).chain(self.encoder_line())
    }

    pub(in crate::trigger) fn check(&self) -> Result<(), OptionsError> {
        let refuse = |name, value, expected| Err(OptionsError { name, value, expected });
        if self.parts_max == 0 || self.parts_max > PARTS_MAX {
            return refuse("parts_on_way", self.parts_max as f64, "1 to 256");
        }
        if self.burst_frames == 0 || self.burst_frames > BURST_MAX {
            return refuse("burst_frames", self.burst_frames as f64, "1 to 16");
        }
        if self.frame_within.is_zero() {
            return refuse("frame_within", 0.0, "above 0; frames come one at a time");
        }
        let Way::Encoder(encoder) = &self.way else { return Ok(()) };
        if encoder.line == self.line {
            let value = f64::from(encoder.line);
            return refuse("encoder_line", value, "another line than the eye's");
        }
        let step = encoder.mm_per_pulse;
        if !(step.is_finite() && step > 0.0) {
            return refuse("mm_per_pulse", step, "above 0");
        }
        for (name, mm) in [("distance_mm", encoder.distance_mm), ("apart_mm", encoder.apart_mm)] {
            if !(mm >= 0.0 && mm / step <= f64::from(u32::MAX)) {
                return refuse(name, mm, "0 to as many pulses as 32 bits count");
            }
        }
        if encoder.still.is_zero() {
            return refuse("encoder_still", 0.0, "above 0; a belt may stand for a while");
        }
        Ok(())
    }
}
