//! The plane of the belt: where its millimetres lie in the picture, and how well that is known.
//!
//! The target is laid where the surface lies that is to be inspected: a part that is 10 mm high and
//! 500 mm away shows its top 2 % larger than the belt.

use nalgebra::{Matrix2, Matrix3, Vector2};
use serde::{Deserialize, Serialize};

use super::CalibrationError;
use super::homography::{self, Match};
use super::lens::Lens;

/// Standard deviations of an uncertainty.
const DEVIATIONS: f64 = 3.0;

/// Places across and down at which the scale's uncertainty is computed; the largest counts.
const PLACES: usize = 5;

/// The corrected frame and the plane that it shows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plane {
    /// When it was measured.
    pub measured: jiff::Timestamp,
    /// Takes a pixel of the corrected frame to one of the straightened picture: three rows of three,
    /// homogeneous.
    pub to_straight: [f64; 9],
    /// Pixels of the corrected frame in a millimetre of the plane, everywhere the same.
    pub px_per_mm: f64,
    /// The true figure lies within so much of it, anywhere in the frame: three standard deviations, from
    /// how the corners missed the fits of lens and plane, and what the target's squares may be wrong by.
    pub px_per_mm_uncertainty: f64,
    /// Root mean square of the distances of the target's corners from the plane's grid, in pixels.
    pub rms_px: f64,
    /// How far the camera looks down askew: 0 is squarely.
    pub tilt_percent: f64,
    /// Corners of the target that it is from.
    pub corners: usize,
}

/// Measures the plane from `matches`, which were seen by a camera with `lens` (`None`: it bends
/// nothing), whose lengths have a standard deviation of `lens_deviation` (a share).
/// `target_uncertainty` is the share by which the printed target's squares may be wrong at most.
///
/// # Errors
/// Corners that determine no plane.
pub fn measure(
    matches: &[Match],
    lens: Option<(&Lens, f64)>,
    frame_px: [u32; 2],
    target_uncertainty: f64,
    measured: jiff::Timestamp,
) -> Result<Plane, CalibrationError> {
    let straight = |pixel| match lens {
        None => Some(pixel),
        Some((lens, _)) => lens.straighten(pixel),
    };
    let matches = matches
        .iter()
        .map(|one| straight(one.pixel).map(|pixel| Match { pixel, ..*one }))
        .collect::<Option<Vec<Match>>>()
        .ok_or(CalibrationError::Degenerate)?;
    let found = homography::fit(&matches)?;
    let centre = frame_px.map(|side| (f64::from(side) - 1.0) / 2.0);
    let at = straight(centre).ok_or(CalibrationError::Degenerate)?;
    let (to_straight, px_per_mm) =
        squarely(&found.matrix, at, centre).ok_or(CalibrationError::Degenerate)?;
    let mut worst = 0.0f64;
    let (mut largest, mut smallest) = (f64::MIN, f64::MAX);
    for pixel in places(frame_px) {
        let seen = homography::apply(&to_straight, pixel);
        let deviation = found.scale_deviation(seen).ok_or(CalibrationError::Degenerate)?;
        let scale = homography::log_scale(&found.matrix, seen);
        let scale = scale.ok_or(CalibrationError::Degenerate)?;
        (largest, smallest) = (largest.max(scale), smallest.min(scale));
        worst = worst.max(deviation);
    }
    // Three deviations, as it is to hold everywhere at once, and not all errors are those of chance.
    let random = DEVIATIONS * worst.hypot(lens.map_or(0.0, |(_, deviation)| deviation));
    let share = random.hypot(target_uncertainty);
    let plane = Plane {
        measured,
        to_straight: rows(&to_straight),
        px_per_mm,
        px_per_mm_uncertainty: px_per_mm * share,
        rms_px: found.rms_px,
        tilt_percent: ((largest - smallest).exp() - 1.0) * 100.0,
        corners: matches.len(),
    };
    // A horizon within the frame is no belt.
    let is_seen = plane.is_sane() && places(frame_px).all(|place| plane.straight(place).is_some());
    is_seen.then_some(plane).ok_or(CalibrationError::Degenerate)
}

/// Corrected frame to straightened picture, and pixels in a millimetre. At the centre of the frame the
/// corrected one has the scale and the direction of the camera's, so that what was drawn there stays
/// where it is.
fn squarely(
    board: &Matrix3<f64>,
    straight_centre: [f64; 2],
    centre: [f64; 2],
) -> Option<(Matrix3<f64>, f64)> {
    let origin = homography::apply(&board.try_inverse()?, straight_centre);
    let slopes = homography::derivative(board, origin);
    let px_per_mm = slopes.determinant().abs().sqrt();
    if !(px_per_mm.is_finite() && px_per_mm > 0.0) {
        return None;
    }
    // The nearest turn: of the singular values, only the directions are kept. A board that was
    // numbered as in a mirror is mirrored back by it.
    let parts = slopes.svd(true, true);
    let turn: Matrix2<f64> = parts.u? * parts.v_t?;
    // Corrected pixel p shows the board's point  origin + turnᵀ (p - centre) / px_per_mm.
    let back = turn.transpose() / px_per_mm;
    let offset = Vector2::from(origin) - back * Vector2::from(centre);
    let to_board = Matrix3::new(
        back[(0, 0)],
        back[(0, 1)],
        offset.x,
        back[(1, 0)],
        back[(1, 1)],
        offset.y,
        0.0,
        0.0,
        1.0,
    );
    let to_straight = board * to_board;
    let last = to_straight[(2, 2)];
    (last.abs() > f64::EPSILON).then(|| (to_straight / last, px_per_mm))
}

/// Places all over a frame, its edges among them.
pub(super) fn places(frame_px: [u32; 2]) -> impl Iterator<Item = [f64; 2]> {
    let at = move |axis: usize, step: usize| {
        (f64::from(frame_px[axis]) - 1.0) * step as f64 / (PLACES - 1) as f64
    };
    (0..PLACES).flat_map(move |row| (0..PLACES).map(move |column| [at(0, column), at(1, row)]))
}

fn rows(matrix: &Matrix3<f64>) -> [f64; 9] {
    std::array::from_fn(|at| matrix[(at / 3, at % 3)])
}

impl Plane {
    /// The pixel of the straightened picture that a pixel of the corrected frame shows; `None` at the
    /// plane's horizon and beyond.
    pub fn straight(&self, pixel: [f64; 2]) -> Option<[f64; 2]> {
        let matrix = Matrix3::from_row_slice(&self.to_straight);
        let point = matrix * nalgebra::Vector3::new(pixel[0], pixel[1], 1.0);
        // The last element of the matrix is 1: before the camera is where this is positive.
        let found = [point.x / point.z, point.y / point.z];
        (point.z > 0.0 && found.iter().all(|number| number.is_finite())).then_some(found)
    }

    /// Whether the numbers can be those of a plane.
    pub fn is_sane(&self) -> bool {
        self.to_straight.iter().all(|number| number.is_finite())
            && self.px_per_mm.is_finite()
            && self.px_per_mm > 0.0
            && self.px_per_mm_uncertainty.is_finite()
            && self.px_per_mm_uncertainty >= 0.0
            && Matrix3::from_row_slice(&self.to_straight).determinant().abs() > 0.0
    }
}
