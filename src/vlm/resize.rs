//! Two resizers that give the same numbers as the programs the model was trained with.
//!
//! * [`bilinear`] is Pillow's `BILINEAR` on 8-bit RGB, bit for bit: a triangle filter whose support
//!   grows with the reduction, in fixed point, horizontally first, rounded to bytes in between.
//! * [`bicubic`] is torch's `interpolate(mode="bicubic", align_corners=False, antialias=False)` on
//!   f32 planes.
//!
//! A resizer that is merely good would do for a picture, not for this model: see `mutations` in the
//! reference kit.

/// Fraction bits of a weight: 32 bits, less 8 for the pixel and 2 for sums above one.
const WEIGHT_BITS: u32 = 22;

/// Which input samples make one output sample, and with what weight.
struct Window {
    first: usize,
    /// Fixed point with [`WEIGHT_BITS`] fraction bits; together about one.
    weights: Vec<i32>,
}

/// Pillow's triangle filter for one axis: `out` windows over `from` samples.
fn windows(from: usize, out: usize) -> Vec<Window> {
    let scale = from as f64 / out as f64;
    let filter_scale = scale.max(1.0); // enlarging keeps the filter at one input sample
    let inverse = 1.0 / filter_scale; // Pillow multiplies by the inverse: dividing rounds otherwise
    (0..out)
        .map(|i| {
            let centre = (i as f64 + 0.5) * scale;
            let first = (centre - filter_scale + 0.5).max(0.0) as usize;
            let last = ((centre + filter_scale + 0.5) as usize).min(from);
            let weight = |j: usize| (1.0 - ((j as f64 - centre + 0.5) * inverse).abs()).max(0.0);
            let exact: Vec<f64> = (first..last).map(weight).collect();
            let sum: f64 = exact.iter().sum();
            let fixed = |w: &f64| (w / sum * f64::from(1 << WEIGHT_BITS) + 0.5) as i32;
            Window { first, weights: exact.iter().map(fixed).collect() }
        })
        .collect()
}

/// From the accumulator to a byte. The accumulator starts at one half (see [`HALF`]), so this
/// rounds.
fn to_byte(sum: i32) -> u8 {
    (sum >> WEIGHT_BITS).clamp(0, 255) as u8
}

/// One half in the accumulator's fixed point.
const HALF: i32 = 1 << (WEIGHT_BITS - 1);

/// Resizes `rgb`, (height, width, 3), to `out_height` rows of `out_width` pixels as Pillow's
/// `BILINEAR` does. A pass is left out when its size does not change. No side may be 0 (asserted:
/// the callers have checked).
pub fn bilinear(
    rgb: &[u8],
    width: usize,
    height: usize,
    out_width: usize,
    out_height: usize,
) -> Vec<u8> {
    assert!(
        width > 0 && height > 0 && out_width > 0 && out_height > 0,
        "an empty picture was not refused earlier"
    );
    assert_eq!(rgb.len(), width * height * 3, "the pixels are those of another size");
    let wide = if out_width == width { rgb.to_vec() } else { horizontal(rgb, width, out_width) };
    if out_height == height { wide } else { vertical(&wide, out_width, height, out_height) }
}

fn horizontal(rgb: &[u8], width: usize, out_width: usize) -> Vec<u8> {
    let windows = windows(width, out_width);
    let mut out = Vec::with_capacity(rgb.len() / width * out_width); // (height, out_width, 3)
    for row in rgb.chunks_exact(width * 3) {
        for window in &windows {
            let mut sums = [HALF; 3];
            let pixels = row[window.first * 3..].chunks_exact(3);
            for (weight, pixel) in window.weights.iter().zip(pixels) {
                for (sum, value) in sums.iter_mut().zip(pixel) {
                    *sum += weight * i32::from(*value);
                }
            }
            out.extend(sums.map(to_byte));
        }
    }
    out
}

fn vertical(rgb: &[u8], width: usize, height: usize, out_height: usize) -> Vec<u8> {
    let row_len = width * 3;
    let mut out = Vec::with_capacity(out_height * row_len); // (out_height, width, 3)
    let mut sums = vec![HALF; row_len];
    for window in windows(height, out_height) {
        sums.fill(HALF);
        let rows = rgb[window.first * row_len..].chunks_exact(row_len);
        for (weight, row) in window.weights.iter().zip(rows) {
            for (sum, value) in sums.iter_mut().zip(row) {
                *sum += weight * i32::from(*value);
            }
        }
        out.extend(sums.iter().map(|sum| to_byte(*sum)));
    }
    out
}

/// Four neighbours of one output sample and their weights.
struct Taps {
    index: [usize; 4],
    weight: [f32; 4],
}

/// torch's bicubic taps for one axis, a = -0.75, in f32 as torch computes them. Neighbours outside
/// are the border.
fn taps(from: usize, out: usize) -> Vec<Taps> {
    const A: f32 = -0.75;
    let near = |x: f32| ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0; // |x| <= 1
    let far = |x: f32| ((A * x - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A; // 1 < |x| < 2
    let scale = from as f32 / out as f32;
    (0..out)
        .map(|i| {
            let source = scale * (i as f32 + 0.5) - 0.5;
            let floor = source.floor();
            let t = source - floor;
            let clamped = |offset: i64| (floor as i64 + offset).clamp(0, from as i64 - 1) as usize;
            let weight = [far(t + 1.0), near(t), near(1.0 - t), far(2.0 - t)];
            Taps { index: [clamped(-1), clamped(0), clamped(1), clamped(2)], weight }
        })
        .collect()
}

/// Resizes one f32 plane, (height, width), to (out_height, out_width) as torch's bicubic does:
/// border repeated, result not clamped, no widening of the filter when shrinking. An unchanged size
/// gives back the same numbers.
pub fn bicubic(
    plane: &[f32],
    width: usize,
    height: usize,
    out_width: usize,
    out_height: usize,
) -> Vec<f32> {
    assert_eq!(plane.len(), width * height, "the plane is of another size");
    let columns = taps(width, out_width);
    let mut out = Vec::with_capacity(out_width * out_height); // (out_height, out_width)
    for row in taps(height, out_height) {
        for column in &columns {
            let along = |y: usize| -> f32 {
                (0..4).map(|k| column.weight[k] * plane[y * width + column.index[k]]).sum()
            };
            out.push((0..4).map(|k| row.weight[k] * along(row.index[k])).sum());
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unchanged_size_changes_nothing() {
        let rgb: Vec<u8> = (0..5 * 4 * 3).map(|i| (i * 37 % 256) as u8).collect();
        assert_eq!(bilinear(&rgb, 5, 4, 5, 4), rgb);
        let plane: Vec<f32> = (0..20).map(|i| (i as f32).sin()).collect();
        assert_eq!(bicubic(&plane, 5, 4, 5, 4), plane);
    }

    #[test]
    fn a_flat_picture_stays_flat() {
        for (w, h) in [(1, 1), (3, 7), (40, 2), (336, 5)] {
            assert!(bilinear(&[200; 9 * 6 * 3], 9, 6, w, h).iter().all(|v| *v == 200), "{w} x {h}");
        }
    }

    #[test]
    fn enlarging_two_pixels_by_hand() {
        // centres of the four outputs lie at 0.25, 0.75, 1.25 and 1.75: 0, a quarter, three
        // quarters, 1 of the way
        let out = bilinear(&[0, 0, 0, 100, 100, 100], 2, 1, 4, 1);
        assert_eq!(out.iter().step_by(3).copied().collect::<Vec<u8>>(), [0, 25, 75, 100]);
    }

    #[test]
    fn halving_four_pixels_by_hand() {
        // support 2: the first output sees samples 0, 1, 2 with 3/4, 3/4 and 1/4 over 7/4
        let out = bilinear(&[0, 0, 0, 70, 70, 70, 140, 140, 140, 210, 210, 210], 4, 1, 2, 1);
        assert_eq!(out[0], 50); // (70 * 3 + 140) / 7
        assert_eq!(out[3], 160); // mirrored: 210 - 50
    }

    #[test]
    fn bicubic_halfway_between_two_samples() {
        // t = 1/2: weights -3/32, 19/32, 19/32, -3/32
        let out = bicubic(&[0.0, 0.0, 32.0, 0.0], 4, 1, 2, 1); // sources 0.5 and 2.5
        assert_eq!(out, [-3.0, 19.0]);
    }
}
