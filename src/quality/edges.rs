//! How wide edges are: what a lens out of focus and a part in motion do to a picture, in pixels.
//!
//! A line of pixels goes up and down; each way from one turn to the next is a *swing*. Its width is the
//! way on which it rises from 20 % to 80 %, divided by 0.6: that of a ramp which is as steep. A step
//! from one pixel to the next has the width 1, an edge that was moved by L pixels about L, one blurred
//! by a normal curve of deviation σ about 2.8 σ. Neither brightness nor contrast changes it: both scale
//! the whole swing. Noise makes turns of its own, so a turn counts from some deviations of it on, and a
//! swing from many.
//! Source: the edge width of P. Marziliano et al., A No-reference Perceptual Blur Metric, 2002; its
//! ends are moved from the extremes to 20 % and 80 %, which noise moves less.
//!
//! Motion blurs edges that lie across it and leaves those along it. So an edge counts for the
//! direction of its own gradient, which the structure tensor around it tells.

use super::tiles::Tile;

/// A swing may turn back by so many deviations of noise, and by so many levels, without ending.
const TURN_DEVIATIONS: f64 = 4.5;
const TURN_LEVELS: f64 = 3.0;

/// Only swings of so many deviations, and so many levels, are looked at.
const STRONG_DEVIATIONS: f64 = 12.0;
const STRONG_LEVELS: f64 = 6.0;

/// Of these the largest, down to this share of the level that a tenth of them reaches.
const LARGE_SHARE: f64 = 0.5;

/// Fewer edges in a direction say nothing of it.
const EDGES_MIN: usize = 12;

/// What rises more slowly is shading, and no edge.
const WIDTH_MAX: f32 = 48.0;

/// Most edges whose gradient is looked at, in one direction: more say no more.
const LOOKS_MAX: usize = 1024;

/// Of a tile with more lines than this, every second one is looked at: an edge crosses many.
const LINES_ALL: usize = 32;

/// The gradient is taken from a square that reaches so many pixels to each side.
const REACH_PX: usize = 2;

/// How much of the gradient around an edge must point one way, 0 to 1: at corners none does.
const COHERENCE_MIN: f64 = 0.3;

/// The directions of widths, in degrees: to the right, right and down, down, left and down.
pub const DIRECTIONS_DEG: [u16; 4] = [0, 45, 90, 135];

/// One swing of a line.
struct Swing {
    /// Between its turns, in levels.
    rise: u8,
    /// In steps of the line.
    width: f32,
    /// The pixel at its middle, in its tile.
    middle: usize,
    tile: usize,
}

/// A line of pixels through a tile.
struct Line<'t> {
    luma: &'t [u8],
    start: usize,
    stride: usize,
    count: usize,
}

/// The median width of the large edges whose gradient points in each of [`DIRECTIONS_DEG`], in pixels;
/// `None` where there are too few. `noise` is a standard deviation in levels.
pub(super) fn widths_px(tiles: &[Tile], noise: f64) -> [Option<f64>; 4] {
    std::array::from_fn(|direction| {
        let mut swings = Vec::new();
        for (number, tile) in tiles.iter().enumerate() {
            let every = if tile.width.min(tile.height) > LINES_ALL { 2 } else { 1 };
            for line in lines(tile, direction).step_by(every) {
                line.swings(noise, |rise, width, middle| {
                    if width <= WIDTH_MAX {
                        swings.push(Swing { rise, width, middle, tile: number });
                    }
                });
            }
        }
        let step_px = if direction % 2 == 0 { 1.0 } else { std::f64::consts::SQRT_2 };
        typical(&swings, tiles, direction).map(|steps| f64::from(steps) * step_px)
    })
}

/// All lines of `tile` in this direction.
fn lines(tile: &Tile, direction: usize) -> impl Iterator<Item = Line<'_>> {
    let (width, height) = (tile.width, tile.height);
    let line = move |x: usize, y: usize| {
        let (stride, count) = match direction {
            0 => (1, width),
            1 => (width + 1, (width - x).min(height - y)),
            2 => (width, height),
            _ => (width - 1, (x + 1).min(height - y)),
        };
        Line { luma: &tile.luma, start: y * width + x, stride, count }
    };
    let (top, left, right) = (direction != 0, direction < 2, direction == 3);
    // The corner belongs to the top, where there is one.
    let from = usize::from(top);
    let tops = (0..if top { width } else { 0 }).map(move |x| line(x, 0));
    let lefts = (from..if left { height } else { from }).map(move |y| line(0, y));
    let rights = (1..if right { height } else { 1 }).map(move |y| line(width - 1, y));
    tops.chain(lefts).chain(rights)
}

impl Line<'_> {
    fn at(&self, step: usize) -> u8 {
        self.luma[self.start + step * self.stride]
    }

    /// Tells `found` the rise, the width in steps, and the middle pixel of each strong swing.
    fn swings(&self, noise: f64, mut found: impl FnMut(u8, f32, usize)) {
        if self.count < 2 {
            return;
        }
        let turn = (TURN_DEVIATIONS * noise).clamp(TURN_LEVELS, 255.0) as u8;
        let strong = (STRONG_DEVIATIONS * noise).clamp(STRONG_LEVELS, 255.0) as u8;
        let mut tell = |from: usize, to: usize| {
            let rise = self.at(from).abs_diff(self.at(to));
            if rise >= strong {
                let (width, middle) = self.width(from, to);
                found(rise, width, self.start + middle * self.stride);
            }
        };
        // The turn that the swing began at, its farthest point so far, and whether it goes up.
        let (mut low, mut high) = (0, 0);
        let mut is_rising = None;
        for step in 1..self.count {
            let level = self.at(step);
            match is_rising {
                None => {
                    if level > self.at(high) {
                        high = step;
                    } else if level < self.at(low) {
                        low = step;
                    }
                    if self.at(high) - self.at(low) >= turn {
                        is_rising = Some(high > low);
                    }
                }
                Some(true) => {
                    if level >= self.at(high) {
                        high = step;
                    } else if self.at(high) - level >= turn {
                        tell(low, high);
                        (low, is_rising) = (step, Some(false));
                    }
                }
                Some(false) => {
                    if level <= self.at(low) {
                        low = step;
                    } else if level - self.at(low) >= turn {
                        tell(high, low);
                        (high, is_rising) = (step, Some(true));
                    }
                }
            }
        }
        match is_rising {
            Some(true) => tell(low, high),
            Some(false) => tell(high, low),
            None => {}
        }
    }

    /// The width of the swing between two turns, and the step at its middle. Both ends are sought from
    /// the middle on: noise on what lies level beside an edge does not count to it.
    fn width(&self, from: usize, to: usize) -> (f32, usize) {
        let (first, last) = (f32::from(self.at(from)), f32::from(self.at(to)));
        let share = |step: usize| (f32::from(self.at(step)) - first) / (last - first);
        // The share is 0 at `from` and 1 at `to`, so each of the three is found.
        let middle = (from + 1..=to).find(|step| share(*step) >= 0.5).unwrap_or(to);
        let before = (from..middle).rev().find(|step| share(*step) <= 0.2).unwrap_or(from);
        let after = (middle..=to).find(|step| share(*step) >= 0.8).unwrap_or(to);
        let between = |low: usize, wanted: f32| {
            let (a, b) = (share(low), share(low + 1));
            low as f32 + ((wanted - a) / (b - a)).clamp(0.0, 1.0)
        };
        (((between(after - 1, 0.8) - between(before, 0.2)) / 0.6).max(0.0), middle)
    }
}

/// The median width of the large swings whose gradient points in `direction`.
fn typical(swings: &[Swing], tiles: &[Tile], direction: usize) -> Option<f32> {
    if swings.len() < EDGES_MIN {
        return None;
    }
    let mut rises: Vec<u8> = swings.iter().map(|swing| swing.rise).collect();
    let tenth = rises.len() * 9 / 10;
    let large = (f64::from(*rises.select_nth_unstable(tenth).1) * LARGE_SHARE).ceil() as u8;
    let large: Vec<&Swing> = swings.iter().filter(|swing| swing.rise >= large).collect();
    // Spread over all of them, so that no corner of the region decides alone.
    let every = large.len().div_ceil(LOOKS_MAX).max(1);
    let points = |swing: &&&Swing| points_to(&tiles[swing.tile], swing.middle, direction);
    let mut widths: Vec<f32> =
        large.iter().step_by(every).filter(points).map(|swing| swing.width).collect();
    if widths.len() < EDGES_MIN {
        return None;
    }
    let middle = widths.len() / 2;
    Some(*widths.select_nth_unstable_by(middle, f32::total_cmp).1)
}

/// Whether the gradient around a pixel points in `direction`, or against it, within 22.5 degrees.
/// Source: the structure tensor of W. Förstner and E. Gülch, 1987.
fn points_to(tile: &Tile, at: usize, direction: usize) -> bool {
    let (x, y) = (at % tile.width, at / tile.width);
    let room = REACH_PX + 1;
    if x < room || y < room || x + room >= tile.width || y + room >= tile.height {
        return false;
    }
    let (mut xx, mut yy, mut xy) = (0i32, 0i32, 0i32);
    for row in y - REACH_PX..=y + REACH_PX {
        for column in x - REACH_PX..=x + REACH_PX {
            let pixel = |x: usize, y: usize| i32::from(tile.luma[y * tile.width + x]);
            let across = pixel(column + 1, row) - pixel(column - 1, row);
            let down = pixel(column, row + 1) - pixel(column, row - 1);
            xx += across * across;
            yy += down * down;
            xy += across * down;
        }
    }
    let (difference, twice) = (f64::from(xx - yy), f64::from(2 * xy));
    if difference.hypot(twice) < COHERENCE_MIN * f64::from(xx + yy) || xx + yy == 0 {
        return false;
    }
    // Twice the angle, so that a gradient and its opposite are one direction.
    let doubled = twice.atan2(difference).to_degrees();
    let off = (doubled - 2.0 * f64::from(DIRECTIONS_DEG[direction])).rem_euclid(360.0);
    off.min(360.0 - off) <= 45.0
}
