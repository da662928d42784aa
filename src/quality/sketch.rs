//! A region in few samples: how bright it is, what is clipped, and where it glares.

use super::luma;
use super::reference::Reference;
use crate::frame::Rgb8;
use crate::roi::RectPx;

/// Most samples of a region, but for rounding: shares are then right to a fraction of a per mille.
const SAMPLES_MAX: f64 = 65_536.0;

/// A sample this dark has nothing left to show.
const DARK_MAX: u8 = 5;

/// Nor has one this bright.
pub(super) const BRIGHT_MIN: u8 = 250;

/// A share of samples from which on the whole region counts as dark or bright.
const WHOLE_SHARE: f64 = 0.999;

/// All samples within so many levels: no sensor's picture of anything is so even.
const EVEN_LEVELS: u8 = 2;

/// Luma of every `step`-th pixel of every `step`-th row. Pixels are picked and not averaged, as a mean
/// hides what is clipped.
pub(super) struct Sketch {
    pub(super) width: usize,
    pub(super) height: usize,
    /// Frame pixels from one sample to the next.
    pub(super) step: usize,
    luma: Vec<u8>,
}

/// How bright a region is, in levels of luma and shares of its samples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Tone {
    pub(super) mean: f64,
    pub(super) p05: u8,
    pub(super) p95: u8,
    pub(super) dark_share: f64,
    pub(super) bright_share: f64,
    pub(super) is_blank: bool,
}

impl Sketch {
    /// Samples `rect` of `picture`, which it must lie in.
    pub(super) fn of(picture: &Rgb8, rect: RectPx) -> Sketch {
        let (across, down) = (rect.width as usize, rect.height as usize);
        let step = (across as f64 * down as f64 / SAMPLES_MAX).sqrt().ceil().max(1.0) as usize;
        let first = |side: usize| (step / 2).min((side - 1) / 2);
        let (width, height) =
            ((across - first(across)).div_ceil(step), (down - first(down)).div_ceil(step));
        let mut samples = Vec::with_capacity(width * height);
        for row in (first(down)..down).step_by(step) {
            let start = (rect.y as usize + row) * picture.width as usize + rect.x as usize;
            let line = &picture.data[start * 3..(start + across) * 3];
            samples.extend(line[first(across) * 3..].chunks_exact(3).step_by(step).map(luma));
        }
        Sketch { width, height, step, luma: samples }
    }

    /// Mean, percentiles and clipped shares.
    pub(super) fn tone(&self) -> Tone {
        let mut counts = [0u32; 256];
        for sample in &self.luma {
            counts[usize::from(*sample)] += 1;
        }
        let all = self.luma.len() as f64;
        let share = |counts: &[u32]| f64::from(counts.iter().sum::<u32>()) / all;
        let level = |wanted: f64| {
            let mut seen = 0.0;
            let reached = counts.iter().position(|count| {
                seen += f64::from(*count) / all;
                seen >= wanted
            });
            reached.unwrap_or(255) as u8
        };
        let sum: f64 =
            counts.iter().enumerate().map(|(level, n)| level as f64 * f64::from(*n)).sum();
        let dark_share = share(&counts[..=usize::from(DARK_MAX)]);
        let bright_share = share(&counts[usize::from(BRIGHT_MIN)..]);
        let darkest = counts.iter().position(|count| *count > 0).unwrap_or(0);
        let brightest = counts.iter().rposition(|count| *count > 0).unwrap_or(0);
        let is_even = brightest - darkest <= usize::from(EVEN_LEVELS);
        Tone {
            mean: sum / all,
            p05: level(0.05),
            p95: level(0.95),
            dark_share,
            bright_share,
            is_blank: is_even || dark_share.max(bright_share) >= WHOLE_SHARE,
        }
    }

    /// The largest area of bright samples that touch along their sides, as a share of the region. What
    /// is bright in the reference, too, is no glare: a white label, a lamp.
    pub(super) fn glare_share(&self, reference: Option<&Reference>) -> f64 {
        let expected = reference.map(Reference::bright_places);
        let is_new = |at: usize| {
            let (x, y) = (at % self.width, at / self.width);
            expected.as_ref().is_none_or(|bright| !bright.holds(x, y, self.width, self.height))
        };
        let mut open: Vec<bool> = self
            .luma
            .iter()
            .enumerate()
            .map(|(at, sample)| *sample >= BRIGHT_MIN && is_new(at))
            .collect();
        let mut largest = 0;
        let mut edge = Vec::new();
        for start in 0..open.len() {
            if !std::mem::take(&mut open[start]) {
                continue;
            }
            let mut size = 0;
            edge.push(start);
            while let Some(at) = edge.pop() {
                size += 1;
                for next in self.beside(at).into_iter().flatten() {
                    if std::mem::take(&mut open[next]) {
                        edge.push(next);
                    }
                }
            }
            largest = largest.max(size);
        }
        f64::from(largest) / self.luma.len() as f64
    }

    fn beside(&self, at: usize) -> [Option<usize>; 4] {
        let (x, y) = (at % self.width, at / self.width);
        [
            (x > 0).then(|| at - 1),
            (x + 1 < self.width).then(|| at + 1),
            (y > 0).then(|| at - self.width),
            (y + 1 < self.height).then(|| at + self.width),
        ]
    }

    /// Levels between the darkest and the brightest sample of a rectangle of the region, given in
    /// frame pixels from the region's corner.
    pub(super) fn range_in(&self, x: usize, y: usize, width: usize, height: usize) -> u8 {
        let span = |from: usize, size: usize, most: usize| {
            (from / self.step).min(most)..((from + size).div_ceil(self.step)).min(most)
        };
        let columns = span(x, width, self.width);
        let mut range = (255, 0);
        for row in span(y, height, self.height) {
            for sample in &self.luma[row * self.width..][columns.clone()] {
                range = (range.0.min(*sample), range.1.max(*sample));
            }
        }
        u8::saturating_sub(range.1, range.0)
    }
}
