//! The softmax's parts over a row of scores, in plain loops that the compiler turns into vectors of
//! whatever instructions the caller is compiled for.

/// Numbers that are worked on side by side.
const SIDE: usize = 16;

/// 1.5 * 2^23: added to a small number, it leaves the nearest whole number in the low bits.
const ROUNDER: f32 = 12_582_912.0;

/// Below this e^x is no ordinary number any more, and is taken as 0.
const LEAST: f32 = -87.0;

/// The largest score. A NaN is never larger; it makes the sum of [`exps`] NaN.
#[inline(always)]
pub(super) fn largest(scores: &[f32]) -> f32 {
    let (sides, rest) = scores.as_chunks::<SIDE>();
    let mut most = [f32::NEG_INFINITY; SIDE];
    for side in sides {
        for lane in 0..SIDE {
            most[lane] = if side[lane] > most[lane] { side[lane] } else { most[lane] };
        }
    }
    let mut all = f32::NEG_INFINITY;
    for score in most.iter().chain(rest) {
        all = if *score > all { *score } else { all };
    }
    all
}

/// Replaces each score by e^(score - largest) and returns their sum. What is not finite stays so.
#[inline(always)]
pub(super) fn exps(scores: &mut [f32], largest: f32) -> f32 {
    let (sides, rest) = scores.as_chunks_mut::<SIDE>();
    let mut sums = [0f32; SIDE];
    for side in sides {
        for lane in 0..SIDE {
            side[lane] = exp(side[lane] - largest);
            sums[lane] += side[lane];
        }
    }
    let mut sum = 0.0;
    for part in sums {
        sum += part;
    }
    for score in rest {
        *score = exp(*score - largest);
        sum += *score;
    }
    sum
}

/// e^x for x up to 0, within two units of the last place. 2^n times a polynomial over the rest, whose
/// coefficients are those of Moshier's Cephes library (`expf`).
#[inline(always)]
#[allow(clippy::excessive_precision, reason = "as they are published")]
fn exp(x: f32) -> f32 {
    let shifted = x * std::f32::consts::LOG2_E + ROUNDER;
    let whole = shifted - ROUNDER;
    // The logarithm of 2 in two parts, the first of few bits: the product with it is exact.
    let x_less = x - whole * 0.693_359_375 - whole * -2.121_944_4e-4;
    let mut sum = 1.987_569_15e-4;
    for coefficient in
        [1.398_199_950_7e-3, 8.333_451_907_3e-3, 4.166_579_589_4e-2, 1.666_666_545_9e-1, 0.5]
    {
        sum = sum * x_less + coefficient;
    }
    let near_one = sum * x_less * x_less + x_less + 1.0;
    let power = f32::from_bits(shifted.to_bits().wrapping_add(127) << 23);
    // NaN is not below.
    if x < LEAST { 0.0 } else { near_one * power }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exponential_is_that_of_f64() {
        let mut worst = 0f64;
        for i in 0..=870_000 {
            let x = -(i as f32) * 1e-4;
            let exact = f64::from(x).exp();
            worst = worst.max((f64::from(exp(x)) - exact).abs() / exact);
        }
        assert!(worst < 2.0 * f64::from(f32::EPSILON), "{worst:e}");
        assert_eq!((exp(0.0), exp(-88.0), exp(f32::NEG_INFINITY)), (1.0, 0.0, 0.0));
    }

    #[test]
    fn ragged_rows_are_summed_whole() {
        for count in [1, 15, 16, 17, 40] {
            let mut scores: Vec<f32> = (0..count).map(|i| (i as f32 * 0.7).sin() * 9.0).collect();
            let most = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            assert_eq!(largest(&scores), most);
            let exact: f64 = scores.iter().map(|s| f64::from(s - most).exp()).sum();
            let sum = exps(&mut scores, most);
            assert!((f64::from(sum) - exact).abs() < 1e-6 * exact, "{count}");
        }
    }

    #[test]
    fn what_is_not_finite_is_not_hidden() {
        for bad in [f32::NAN, -f32::NAN, f32::INFINITY, f32::from_bits(0x7fc0_01ff)] {
            for at in [3, 18] {
                let mut scores = [0.5f32; 20];
                scores[at] = bad;
                let most = largest(&scores);
                assert!(exps(&mut scores, most).is_nan(), "{bad} at {at}");
            }
        }
        let mut none = [f32::NEG_INFINITY; 20];
        let most = largest(&none);
        assert!(exps(&mut none, most).is_nan(), "no score is a number");
    }
}
