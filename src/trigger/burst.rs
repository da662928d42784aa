//! The sharpest of a few frames of one part.
//!
//! What moves, shakes or hunts for focus is sharp in one frame and blurred in the next. Of the frames
//! that are nearest to where or when a part should be seen a few are kept, and the sharpest of them is
//! inspected. All of them show the same part in the same light, so only their edges' widths are
//! compared, direction by direction: motion takes edges away altogether, and a frame without edges in a
//! direction in which another one has them is the blurred one.

use std::sync::Arc;

use super::Shot;
use crate::frame::{Form, Frame, Rgb8};
use crate::quality::{self, EdgeWidths};
use crate::roi::{RectPx, Region};

/// Most frames of a burst: each holds a picture, 1 MB at 640x480, 25 MB at 4K.
pub const BURST_MAX: usize = 16;

/// The width of edges that are too wide, or too faint, to be found, px.
const LOST_PX: f64 = 48.0;

/// Frames whose edges are at most so much wider than the sharpest frame's are as sharp as it is: of them
/// the nearest is taken.
const ALIKE: f64 = 1.1;

/// Where frames are compared: what is inspected, as what stands beside it is sharp in all of them.
#[derive(Clone, Debug, Default)]
pub struct Focus(Vec<Region>);

impl Focus {
    /// The smallest rectangle around `regions`; without any the whole frame.
    pub fn around(regions: &[Region]) -> Focus {
        Focus(regions.to_vec())
    }

    /// In pixels of `frame`. Regions that do not lie in it are refused elsewhere.
    pub(super) fn rect_in(&self, frame: &Frame) -> RectPx {
        let (width, height) = size(frame);
        let whole = RectPx { x: 0, y: 0, width, height };
        let known = self.0.iter().filter_map(|region| region.rect_in(width, height).ok());
        known.reduce(around).unwrap_or(whole)
    }
}

fn around(a: RectPx, b: RectPx) -> RectPx {
    let (x, y) = (a.x.min(b.x), a.y.min(b.y));
    let right = (a.x + a.width).max(b.x + b.width);
    let bottom = (a.y + a.height).max(b.y + b.height);
    RectPx { x, y, width: right - x, height: bottom - y }
}

/// Columns and rows of a frame.
pub(super) fn size(frame: &Frame) -> (u32, u32) {
    (frame.picture.width(), frame.picture.height())
}

/// The frames of one part that are nearest, at most as many as it was made for.
#[derive(Debug)]
pub(super) struct Burst {
    most: usize,
    /// The nearest first.
    frames: Vec<Shown>,
}

#[derive(Debug)]
struct Shown {
    distance: f64,
    frame: Arc<Frame>,
    /// Where it shows the part.
    rect: RectPx,
}

impl Burst {
    /// None yet, and `most` at most; 1: the nearest, whatever it looks like.
    pub(super) fn new(most: usize) -> Burst {
        Burst { most: most.max(1), frames: Vec::new() }
    }

    /// Keeps `frame` if it is among the nearest; of two that are as near, the later one. `rect`: where
    /// it shows the part. Answers whether it was kept.
    pub(super) fn offer(
        &mut self,
        distance: f64,
        frame: &Arc<Frame>,
        rect: impl FnOnce() -> RectPx,
    ) -> bool {
        let place = self.frames.partition_point(|shown| shown.distance < distance);
        if place >= self.most {
            return false;
        }
        self.frames.insert(place, Shown { distance, frame: Arc::clone(frame), rect: rect() });
        self.frames.truncate(self.most);
        true
    }

    pub(super) fn is_full(&self) -> bool {
        self.frames.len() == self.most
    }

    /// How far the farthest one is that was kept.
    pub(super) fn farthest(&self) -> Option<&Arc<Frame>> {
        self.frames.last().map(|shown| &shown.frame)
    }

    /// The sharpest, of those that are as sharp as it the nearest; then the others, the sharper the
    /// earlier. `None`: none was kept.
    pub(super) fn choose(&self) -> Option<Shot> {
        let blurs = self.blurs_px();
        let least = blurs.iter().copied().reduce(f64::min)?;
        let best = blurs.iter().position(|blur| *blur <= least * ALIKE)?;
        let mut others: Vec<usize> = (0..self.frames.len()).filter(|at| *at != best).collect();
        others.sort_by(|a, b| blurs[*a].total_cmp(&blurs[*b]));
        let frame = |at: usize| Arc::clone(&self.frames[at].frame);
        Some(Shot { frame: frame(best), more: others.into_iter().map(frame).collect() })
    }

    /// How blurred each frame is. Measured only now: a part that comes nearer is offered frame by frame,
    /// and few of them stay.
    fn blurs_px(&self) -> Vec<f64> {
        if let [_] = self.frames[..] {
            return vec![0.0];
        }
        let measured = |shown: &Shown| widths(&shown.frame, shown.rect);
        let all: Vec<EdgeWidths> = self.frames.iter().map(measured).collect();
        all.iter().map(|own| blur_px(own, &all)).collect()
    }
}

/// The root of the mean square of edges' widths, across and down; along the diagonals only where no frame
/// has edges in either, as blur makes slanted edges of corners.
fn blur_px(own: &EdgeWidths, all: &[EdgeWidths]) -> f64 {
    let is_known = |direction: &&usize| all.iter().any(|other| other.0[**direction].is_some());
    let squares = |directions: [usize; 2]| {
        let known: Vec<f64> = directions
            .iter()
            .filter(is_known)
            .map(|direction| own.0[*direction].unwrap_or(LOST_PX).powi(2))
            .collect();
        let mean = known.iter().sum::<f64>() / known.len().max(1) as f64;
        (!known.is_empty()).then(|| mean.sqrt())
    };
    squares([0, 2]).or_else(|| squares([1, 3])).unwrap_or(0.0)
}

fn widths(frame: &Frame, rect: RectPx) -> EdgeWidths {
    if rect.width == 0 || rect.height == 0 {
        return EdgeWidths::default();
    }
    if frame.picture.form() == Form::Rgb {
        return quality::edge_widths(frame.picture.rgb(), rect);
    }
    // Most of these frames are never made RGB, and edges are told by brightness.
    let grey = frame.picture.grey();
    let mut seen = Rgb8::new(rect.width, rect.height);
    for (at, pixel) in seen.data.chunks_exact_mut(3).enumerate() {
        let (x, y) = (at as u32 % rect.width, at as u32 / rect.width);
        pixel.fill((grey.four_times(rect.x + x, rect.y + y) / 4) as u8);
    }
    quality::edge_widths(&seen, RectPx { x: 0, y: 0, ..rect })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Stamp;

    /// Upright and level stripes; each pixel is the mean of `blur` ones along its row.
    fn frame(sequence: u64, blur: u32) -> Arc<Frame> {
        let mut picture = Rgb8::new(96, 96);
        let stripes = |x: u32, y: u32| if (x / 12 + y / 12).is_multiple_of(2) { 60 } else { 180 };
        for (at, pixel) in picture.data.chunks_exact_mut(3).enumerate() {
            let (x, y) = (at as u32 % 96, at as u32 / 96);
            let sum: u32 = (x..x + blur).map(|x| stripes(x, y)).sum();
            pixel.fill((sum / blur) as u8);
        }
        let captured = Stamp { wall: jiff::Timestamp::UNIX_EPOCH, monotonic_ns: sequence };
        let picture = picture.into();
        Arc::new(Frame { sequence, camera: "s".into(), captured, pipeline_ns: None, picture })
    }

    fn whole() -> RectPx {
        RectPx { x: 0, y: 0, width: 96, height: 96 }
    }

    #[test]
    fn the_sharpest_is_chosen_and_of_equals_the_nearest() {
        let mut burst = Burst::new(3);
        assert!(burst.choose().is_none());
        for (distance, sequence, blur) in [(9.0, 1, 1), (2.0, 2, 7), (1.0, 3, 10), (4.0, 4, 1)] {
            assert!(burst.offer(distance, &frame(sequence, blur), whole));
        }
        // The farthest went; the sharp one that is left is taken, though two are nearer.
        assert_eq!(burst.choose().map(|shot| shot.frame.sequence), Some(4));
        assert!(!burst.offer(5.0, &frame(5, 1), whole), "not among the nearest");
        assert!(burst.is_full() && burst.offer(0.5, &frame(6, 1), whole));
        assert_eq!(burst.choose().map(|shot| shot.frame.sequence), Some(6));
    }

    #[test]
    fn one_frame_is_the_nearest_whatever_it_looks_like() {
        let mut burst = Burst::new(1);
        burst.offer(2.0, &frame(1, 1), whole);
        burst.offer(1.0, &frame(2, 10), whole);
        burst.offer(1.0, &frame(3, 10), whole);
        assert_eq!(burst.choose().map(|shot| shot.frame.sequence), Some(3), "the later of two");
    }
}
