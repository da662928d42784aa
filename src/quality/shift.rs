//! How far a fixed part of the machine lies from where it lay in the reference.
//!
//! The middle of the reference is laid over the picture at every place within reach, and the place
//! counts at which their gradients agree best. Gradients and not levels, as light changes these; the
//! score is normalised, as light changes contrast as well; and places are searched in half size first.
//! It was preferred to phase correlation, which gives noise and the edges of the picture the same
//! weight as the machine, and to a library's template matching, which would bring a linear algebra.
//! Source: normalised cross-correlation, J. P. Lewis, Fast Template Matching, 1995, on gradients.

use serde::{Deserialize, Serialize};

use super::reference::Grey;
use super::rounded;

/// Farthest shift that is looked for, in cells.
const REACH_MAX: usize = 24;

/// An area needs so many cells a side: less has no room to look for anything.
pub const SIDE_MIN_CELLS: usize = 24;

/// Where a fixed area lies, by its reference.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Shift {
    /// To the right, in frame pixels.
    pub right_px: f64,
    /// Down, in frame pixels.
    pub down_px: f64,
    /// How alike the two are at that place: 1 the same, 0 no more than by chance.
    pub correlation: f64,
}

impl Shift {
    /// How far it moved, in frame pixels.
    pub fn px(&self) -> f64 {
        self.right_px.hypot(self.down_px)
    }

    /// The same in figures as short as they are known.
    pub(super) fn short(self) -> Shift {
        let [right_px, down_px, correlation] =
            [self.right_px, self.down_px, self.correlation].map(rounded);
        Shift { right_px, down_px, correlation }
    }
}

/// Gradients of a picture, two numbers a cell.
struct Gradients {
    width: usize,
    height: usize,
    across: Vec<i16>,
    down: Vec<i16>,
}

/// How far `picture` is shifted from `reference`; `None` if they cannot be compared: another size, or
/// less than [`SIDE_MIN_CELLS`] a side. Up to a fifth of the shorter side, and 24 cells at most, is
/// found; what moved farther shows by its correlation.
pub fn shift_from(reference: &Grey, picture: &Grey) -> Option<Shift> {
    let size = |grey: &Grey| (grey.width, grey.height, grey.step_px);
    let shorter = reference.width.min(reference.height);
    if size(reference) != size(picture) || shorter < SIDE_MIN_CELLS {
        return None;
    }
    let reach = (shorter / 5).min(REACH_MAX) as isize / 2 * 2;
    let halves = [reference, picture].map(|grey| gradients(&halved(grey)));
    let coarse = best(&halves, (0, 0), reach / 2, reach as usize / 2 + 1);
    let wholes = [reference, picture].map(gradients);
    let around = (2 * coarse.at.0, 2 * coarse.at.1);
    let fine = best(&wholes, around, 2, reach as usize + 3);
    let step = f64::from(reference.step_px);
    let place = |at: isize, beyond: [f64; 3]| (at as f64 + peak(beyond)) * step;
    let (x, y) = fine.at;
    let score = |dx: isize, dy: isize| score(&wholes, (x + dx, y + dy), reach as usize + 3);
    Some(Shift {
        right_px: place(x, [score(-1, 0), fine.score, score(1, 0)]),
        down_px: place(y, [score(0, -1), fine.score, score(0, 1)]),
        // In half size, where noise counts less.
        correlation: coarse.score.clamp(0.0, 1.0),
    })
}

struct Best {
    at: (isize, isize),
    score: f64,
}

/// The place within `reach` of `around` with the highest score. Nearer ones win where two are alike.
fn best(pair: &[Gradients; 2], around: (isize, isize), reach: isize, margin: usize) -> Best {
    let mut places: Vec<(isize, isize)> = (-reach..=reach)
        .flat_map(|dy| (-reach..=reach).map(move |dx| (around.0 + dx, around.1 + dy)))
        .collect();
    places.sort_by_key(|(x, y)| x * x + y * y);
    let mut best = Best { at: (0, 0), score: f64::MIN };
    for at in places {
        let score = score(pair, at, margin);
        if score > best.score {
            best = Best { at, score };
        }
    }
    best
}

/// How well the reference, less a `margin` on each side, agrees with the picture `at` so many cells to
/// the right and down: −1 to 1. A place that reaches past the picture has none, and the lowest score.
fn score([reference, picture]: &[Gradients; 2], at: (isize, isize), margin: usize) -> f64 {
    let (width, height) = (reference.width, reference.height);
    let far = at.0.unsigned_abs().max(at.1.unsigned_abs());
    if far > margin || width <= 2 * margin || height <= 2 * margin {
        return -1.0;
    }
    // Whole numbers, whose sums do not depend on the order in which they are added.
    let (mut both, mut first, mut second) = (0i64, 0i64, 0i64);
    let columns = width - 2 * margin;
    for row in margin..height - margin {
        let here = row * width + margin;
        let there = (here as isize + at.1 * width as isize + at.0) as usize;
        for (a, b) in [(&reference.across, &picture.across), (&reference.down, &picture.down)] {
            let (a, b) = (&a[here..here + columns], &b[there..there + columns]);
            both += product(a, b);
            first += product(a, a);
            second += product(b, b);
        }
    }
    let size = (first as f64 * second as f64).sqrt();
    if size > 0.0 { both as f64 / size } else { 0.0 }
}

/// The sum of all products. At most 128 of 16 bits each: they fit.
fn product(a: &[i16], b: &[i16]) -> i64 {
    let products = a.iter().zip(b).map(|(a, b)| i32::from(*a) * i32::from(*b));
    i64::from(products.sum::<i32>())
}

/// Between −0.5 and 0.5: where a parabola through three scores is highest.
fn peak([before, here, after]: [f64; 3]) -> f64 {
    let bent = before - 2.0 * here + after;
    if bent < 0.0 { ((before - after) / (2.0 * bent)).clamp(-0.5, 0.5) } else { 0.0 }
}

/// Half as many cells each way.
fn halved(grey: &Grey) -> Grey {
    let (width, height) = (grey.width / 2, grey.height / 2);
    let level = |x: usize, y: usize| u32::from(grey.levels[y * grey.width + x]);
    let mean = |at: usize| {
        let (x, y) = (at % width * 2, at / width * 2);
        ((level(x, y) + level(x + 1, y) + level(x, y + 1) + level(x + 1, y + 1) + 2) / 4) as u8
    };
    let levels = (0..width * height).map(mean).collect();
    Grey { width, height, step_px: grey.step_px * 2, levels }
}

/// Differences of the cells on both sides; 0 at the border.
fn gradients(grey: &Grey) -> Gradients {
    let (width, height) = (grey.width, grey.height);
    let mut all =
        Gradients { width, height, across: vec![0; width * height], down: vec![0; width * height] };
    for y in 1..height.saturating_sub(1) {
        for x in 1..width.saturating_sub(1) {
            let at = y * width + x;
            let level = |at: usize| i16::from(grey.levels[at]);
            all.across[at] = level(at + 1) - level(at - 1);
            all.down[at] = level(at + width) - level(at - width);
        }
    }
    all
}
