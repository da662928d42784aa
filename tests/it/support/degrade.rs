//! Good pictures made bad, each in one way.

use std::collections::BTreeMap;

use inspectd::frame::Rgb8;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Steps of one pixel in the directions 0, 45, 90 and 135 degrees.
const STEPS: [(i64, i64); 4] = [(1, 0), (1, 1), (0, 1), (-1, 1)];

/// The picture as sums of weighted neighbours, (right, down, weight), between pixels bilinear; what is
/// beyond the border is the border.
fn filtered(picture: &Rgb8, taps: &[(f64, f64, f64)]) -> Rgb8 {
    let mut whole: BTreeMap<(i64, i64), f64> = BTreeMap::new();
    for (right, down, weight) in taps {
        let (left, upper) = (right.floor(), down.floor());
        let (x, y) = (right - left, down - upper);
        for (dx, dy, share) in [
            (0, 0, (1.0 - x) * (1.0 - y)),
            (1, 0, x * (1.0 - y)),
            (0, 1, (1.0 - x) * y),
            (1, 1, x * y),
        ] {
            if share > 0.0 {
                *whole.entry((left as i64 + dx, upper as i64 + dy)).or_default() += share * weight;
            }
        }
    }
    let (width, height) = (picture.width as usize, picture.height as usize);
    let reach = whole.keys().map(|(x, _)| x.unsigned_abs() as usize).max().unwrap_or(0);
    let padded = |row: usize| {
        let line = &picture.data[row * width * 3..][..width * 3];
        let levels = line.iter().map(|level| f32::from(*level));
        let ends = [&line[..3], &line[line.len() - 3..]].map(|end| {
            end.iter().map(|level| f32::from(*level)).cycle().take(reach * 3).collect::<Vec<_>>()
        });
        ends[0].iter().copied().chain(levels).chain(ends[1].iter().copied()).collect::<Vec<f32>>()
    };
    let rows: Vec<Vec<f32>> = (0..height).map(padded).collect();
    let mut out = picture.clone();
    for (row, line) in out.data.chunks_exact_mut(width * 3).enumerate() {
        let mut sums = vec![0.0f32; width * 3];
        for ((right, down), weight) in &whole {
            let from = (row as i64 + down).clamp(0, height as i64 - 1) as usize;
            let first = (reach as i64 + right) as usize * 3;
            for (sum, level) in sums.iter_mut().zip(&rows[from][first..]) {
                *sum += level * *weight as f32;
            }
        }
        line.iter_mut().zip(&sums).for_each(|(level, sum)| *level = sum.round() as u8);
    }
    out
}

/// Out of focus: a normal curve of this deviation, in pixels.
pub fn blurred(picture: &Rgb8, sigma_px: f64) -> Rgb8 {
    let reach = (3.0 * sigma_px).ceil() as i64;
    let weight = |at: i64| (-((at * at) as f64) / (2.0 * sigma_px * sigma_px)).exp();
    let sum: f64 = (-reach..=reach).map(weight).sum();
    let line = |along: bool| -> Vec<(f64, f64, f64)> {
        let tap = |at: i64| {
            let (x, y) = if along { (at, 0) } else { (0, at) };
            (x as f64, y as f64, weight(at) / sum)
        };
        (-reach..=reach).map(tap).collect()
    };
    filtered(&filtered(picture, &line(true)), &line(false))
}

/// Moved by so many pixels while it was taken, in one of four directions.
pub fn moved(picture: &Rgb8, px: u32, direction: usize) -> Rgb8 {
    let (x, y) = STEPS[direction];
    let length = ((x * x + y * y) as f64).sqrt();
    let taps: Vec<(f64, f64, f64)> = (0..px)
        .map(|at| {
            let way = (f64::from(at) - f64::from(px - 1) / 2.0) / length;
            (way * x as f64, way * y as f64, 1.0 / f64::from(px))
        })
        .collect();
    filtered(picture, &taps)
}

/// Exposed so many times as long.
pub fn exposed(picture: &Rgb8, gain: f64) -> Rgb8 {
    let mut out = picture.clone();
    out.data.iter_mut().for_each(|level| *level = (f64::from(*level) * gain).round() as u8);
    out
}

/// With white noise of this deviation, in levels; each pixel's three bytes get the same.
pub fn noisy(picture: &Rgb8, levels: f64, seed: u64) -> Rgb8 {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut out = picture.clone();
    for pixel in out.data.chunks_exact_mut(3) {
        let sum: f64 = (0..12).map(|_| rng.random_range(-0.5..0.5f64)).sum();
        for level in pixel {
            *level = (f64::from(*level) + sum * levels).round() as u8;
        }
    }
    out
}

/// With a lamp's reflection of this radius near the middle, white with a soft edge.
pub fn glared(picture: &Rgb8, radius_px: u32) -> Rgb8 {
    let (cx, cy) = (f64::from(picture.width) * 0.6, f64::from(picture.height) * 0.35);
    let mut out = picture.clone();
    for (at, pixel) in out.data.chunks_exact_mut(3).enumerate() {
        let x = (at % picture.width as usize) as f64 - cx;
        let y = (at / picture.width as usize) as f64 - cy;
        let beyond = (x.hypot(y) - f64::from(radius_px)).max(0.0);
        let light = 300.0 * (-beyond / 6.0).exp();
        for level in pixel {
            *level = (f64::from(*level) + light).round() as u8;
        }
    }
    out
}

/// The scene moved to the right and down, by whole pixels; what comes in is the border.
pub fn shifted(picture: &Rgb8, right_px: i64, down_px: i64) -> Rgb8 {
    filtered(picture, &[(-right_px as f64, -down_px as f64, 1.0)])
}
