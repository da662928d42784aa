//! A frame's window as a small grey strip: what the presence trigger looks at.
//!
//! Cells lie along the line of travel first: cell `along * across + i`, so that everything about one
//! position on the belt stands together.

use super::{Axis, Window};
use crate::frame::Picture;

/// Cells along the line of travel.
pub(super) const ALONG: usize = 160;

/// Cells across it.
pub(super) const ACROSS: usize = 60;

/// Samples of one cell, on a 2x2 grid: enough to halve the noise, and the cost stays the same for
/// a large frame.
const SAMPLES: usize = 4;

/// Turns frames into strips.
#[derive(Debug)]
pub(super) struct Sampler {
    axis: Axis,
    window: Window,
    /// The size that `places` was made for.
    size: (u32, u32),
    /// Column and row of each sample of each cell.
    places: Vec<[(u32, u32); SAMPLES]>,
}

impl Sampler {
    pub(super) fn new(axis: Axis, window: Window) -> Sampler {
        Sampler { axis, window, size: (0, 0), places: Vec::new() }
    }

    /// Grey levels, 0 to 255, of the window's cells: [`ALONG`] x [`ACROSS`]. True if the frame has
    /// another size than the one before.
    pub(super) fn sample(&mut self, picture: &Picture, strip: &mut Vec<f32>) -> bool {
        let size = (picture.width(), picture.height());
        let is_new = size != self.size;
        if is_new {
            self.size = size;
            self.plan();
        }
        let grey = picture.grey();
        strip.clear();
        strip.extend(self.places.iter().map(|samples| {
            let sum: u32 = samples.iter().map(|&(x, y)| grey.four_times(x, y)).sum();
            sum as f32 / (4 * SAMPLES) as f32
        }));
        is_new
    }

    fn plan(&mut self) {
        let (width, height) = (f64::from(self.size.0), f64::from(self.size.1));
        let window = &self.window;
        // The pixel at a share of the window, kept inside the frame whatever the rounding does.
        let column = |share: f64| {
            let x = (window.x + window.width * share) * width;
            (x as u32).min(self.size.0.saturating_sub(1))
        };
        let row = |share: f64| {
            let y = (window.y + window.height * share) * height;
            (y as u32).min(self.size.1.saturating_sub(1))
        };
        let share = |cell: usize, half: f64, cells: usize| (cell as f64 + half) / cells as f64;
        self.places.clear();
        if self.size.0 == 0 || self.size.1 == 0 {
            return;
        }
        for along in 0..ALONG {
            for across in 0..ACROSS {
                self.places.push([(0.25, 0.25), (0.75, 0.25), (0.25, 0.75), (0.75, 0.75)].map(
                    |(a, b)| {
                        let (a, b) = (share(along, a, ALONG), share(across, b, ACROSS));
                        match self.axis {
                            Axis::Horizontal => (column(a), row(b)),
                            Axis::Vertical => (column(b), row(a)),
                        }
                    },
                ));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Rgb8;

    #[test]
    fn a_strip_lies_along_the_line_of_travel() {
        let mut rgb = Rgb8::new(64, 48);
        for (i, pixel) in rgb.data.chunks_exact_mut(3).enumerate() {
            pixel.fill(if i % 64 < 32 { 0 } else { 200 });
        }
        let picture = rgb.into();
        let mut strip = Vec::new();
        let mut sampler = Sampler::new(Axis::Horizontal, Window::default());
        assert!(sampler.sample(&picture, &mut strip));
        assert_eq!(strip.len(), ALONG * ACROSS);
        assert!(strip[..ALONG / 2 * ACROSS].iter().all(|&cell| cell == 0.0));
        assert!(strip[ALONG / 2 * ACROSS..].iter().all(|&cell| cell == 200.0));
        assert!(!sampler.sample(&picture, &mut strip));

        let mut sampler = Sampler::new(Axis::Vertical, Window::default());
        sampler.sample(&picture, &mut strip);
        assert!((strip[0], strip[ACROSS - 1]) == (0.0, 200.0));
    }

    #[test]
    fn a_tiny_frame_and_a_narrow_window_stay_inside() {
        let window = Window { x: 0.99, y: 0.99, width: 0.01, height: 0.01 };
        let mut strip = Vec::new();
        Sampler::new(Axis::Vertical, window).sample(&Rgb8::new(1, 1).into(), &mut strip);
        assert_eq!(strip.len(), ALONG * ACROSS);
    }
}
