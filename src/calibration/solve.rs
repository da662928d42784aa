//! The lens from several views of a flat target: Zhang's method.
//!
//! A first focal length comes from the homographies of the views (the axis taken through the centre
//! of the frame, pixels taken as square), a first pose of each view from that; then all numbers
//! together are moved until the corners fall where they were seen (Levenberg and Marquardt). The
//! spread of the corners, taken back through the derivatives, says how well each number is known.

use levenberg_marquardt::{LeastSquaresProblem, LevenbergMarquardt, TerminationReason};
use nalgebra::storage::Owned;
use nalgebra::{DMatrix, DVector, Dyn, Matrix3, Rotation3, Vector3};

use super::CalibrationError;
use super::homography::{self, Match};
use super::lens::Lens;
use super::plane;

/// Fewest views: three determine a lens, the others say whether they were right.
pub const VIEWS_MIN: usize = 5;
/// Most views: more cost time and tell nothing new.
pub const VIEWS_MAX: usize = 60;
/// Two views must be tilted against each other by this angle at least: without perspective, a longer
/// lens looks like a target further away.
pub const TILT_MIN_DEGREES: f64 = 10.0;
/// A focal length that is known worse than this is not known: one part in so many.
const FOCAL_DEVIATION_MAX: f64 = 0.02;
/// Numbers of the lens: focal lengths, centre, k1, k2, p1, p2.
const LENS_NUMBERS: usize = 8;
/// Numbers of a pose: rotation vector, place.
const POSE_NUMBERS: usize = 6;

/// One picture's corners.
#[derive(Clone, Debug)]
pub struct View {
    /// The picture's name, for messages.
    pub name: String,
    /// What was seen.
    pub matches: Vec<Match>,
}

/// A lens and how well it is known.
#[derive(Clone, Debug)]
pub struct Solved {
    /// The lens.
    pub lens: Lens,
    /// Standard deviation of the focal lengths, in pixels.
    pub focal_deviation_px: [f64; 2],
    /// Standard deviation of the centre, in pixels.
    pub centre_deviation_px: [f64; 2],
    /// Standard deviation of k1 and k2.
    pub radial_deviation: [f64; 2],
    /// Standard deviation of lengths in the straightened picture, as a share, where it is worst.
    pub scale_deviation: f64,
    /// Root mean square of the distances between corners seen and corners computed, in pixels.
    pub rms_px: f64,
    /// The same for each view, in their order.
    pub view_rms_px: Vec<f64>,
    /// The largest angle between two views.
    pub tilt_degrees: f64,
}

/// Solves for the lens of a camera with frames of `frame_px`.
///
/// # Errors
/// Too few or too many views, views that do not determine a focal length, corners that fit no lens
/// within `rms_max_px`.
pub fn solve(
    views: &[View],
    frame_px: [u32; 2],
    rms_max_px: f64,
) -> Result<Solved, CalibrationError> {
    if !(VIEWS_MIN..=VIEWS_MAX).contains(&views.len()) {
        return Err(CalibrationError::Views { found: views.len() });
    }
    let matrices = views
        .iter()
        .map(|view| homography::fit(&view.matches).map(|found| found.matrix))
        .collect::<Result<Vec<_>, _>>()?;
    let start = Lens::pinhole(first_focal(&matrices, frame_px), frame_px);
    let poses = matrices.iter().map(|matrix| pose(&start, matrix)).collect::<Vec<_>>();
    let problem = Problem { views, numbers: numbers(&start, &poses) };
    let (problem, report) = LevenbergMarquardt::new().with_patience(200).minimize(problem);
    // What cannot be bettered any more is as good as converged: exact corners end so.
    let is_done = matches!(report.termination, TerminationReason::NoImprovementPossible(_));
    if !is_done && !report.termination.was_successful() {
        return Err(CalibrationError::NoSolution { why: format!("{:?}", report.termination) });
    }
    conclude(&problem, frame_px, rms_max_px)
}

fn conclude(
    problem: &Problem<'_>,
    frame_px: [u32; 2],
    rms_max_px: f64,
) -> Result<Solved, CalibrationError> {
    let lens = problem.lens();
    let tilt_degrees = largest_tilt(problem);
    if !lens.is_sane() {
        let why = "the numbers that fit best are those of no lens".to_owned();
        return Err(CalibrationError::NoSolution { why });
    }
    let misses = problem.misses();
    let corners = misses.len() / 2;
    let rms_px = (misses.norm_squared() / corners as f64).sqrt();
    let view_rms_px = view_rms(problem, &misses);
    // Before what the views can tell: a wrong corner spoils that, too.
    if rms_px.is_nan() || rms_px > rms_max_px {
        let worst =
            (0..view_rms_px.len()).max_by(|a, b| view_rms_px[*a].total_cmp(&view_rms_px[*b]));
        let worst = worst.unwrap_or_default();
        return Err(CalibrationError::Residual {
            rms_px,
            limit_px: rms_max_px,
            worst: problem.views[worst].name.clone(),
            worst_px: view_rms_px[worst],
        });
    }
    if tilt_degrees < TILT_MIN_DEGREES {
        return Err(CalibrationError::Poses { tilt_degrees });
    }
    let jacobian = problem.derivatives();
    let freedom = misses.len().saturating_sub(problem.numbers.len()).max(1);
    let variance = misses.norm_squared() / freedom as f64;
    let inverse = jacobian.tr_mul(&jacobian).try_inverse();
    let inverse = inverse.ok_or(CalibrationError::Poses { tilt_degrees })?;
    let deviation = |at: usize| (inverse[(at, at)] * variance).max(0.0).sqrt();
    let solved = Solved {
        lens,
        focal_deviation_px: [deviation(0), deviation(1)],
        centre_deviation_px: [deviation(2), deviation(3)],
        radial_deviation: [deviation(4), deviation(5)],
        scale_deviation: scale_deviation(problem, &(&inverse * variance), frame_px)
            .ok_or(CalibrationError::Poses { tilt_degrees })?,
        rms_px,
        view_rms_px,
        tilt_degrees,
    };
    let share = solved.focal_deviation_px[0] / lens.focal_px[0];
    match share.is_finite() && share <= FOCAL_DEVIATION_MAX {
        true => Ok(solved),
        false => Err(CalibrationError::Focal { percent: share * 100.0 }),
    }
}

/// Each view's two columns of rotation are square and of one length; with the centre known, that is
/// two linear equations for 1/f².
fn first_focal(matrices: &[Matrix3<f64>], frame_px: [u32; 2]) -> f64 {
    let [cx, cy] = frame_px.map(|side| (f64::from(side) - 1.0) / 2.0);
    let longest = f64::from(frame_px[0].max(frame_px[1]));
    let centred = Matrix3::new(
        1.0 / longest,
        0.0,
        -cx / longest,
        0.0,
        1.0 / longest,
        -cy / longest,
        0.0,
        0.0,
        1.0,
    );
    let (mut top, mut bottom) = (0.0, 0.0);
    for matrix in matrices {
        let h = centred * matrix;
        let (a, b) = (h.column(0).into_owned(), h.column(1).into_owned());
        let size = a.norm() * b.norm();
        let flat = |p: &Vector3<f64>, q: &Vector3<f64>| (p.x * q.x + p.y * q.y) / size;
        let equations = [
            (flat(&a, &b), a.z * b.z / size),
            (flat(&a, &a) - flat(&b, &b), (a.z * a.z - b.z * b.z) / size),
        ];
        for (factor, rest) in equations {
            top -= factor * rest;
            bottom += factor * factor;
        }
    }
    let inverse = top / bottom;
    // Views that tell nothing, or nonsense: a common lens to begin with.
    let focal = if inverse.is_finite() && inverse > 0.0 { inverse.sqrt().recip() } else { 1.2 };
    focal.clamp(0.2, 50.0) * longest
}

/// Rotation vector and place of the target, whose homography is `matrix`.
fn pose(lens: &Lens, matrix: &Matrix3<f64>) -> [f64; POSE_NUMBERS] {
    let [fx, fy] = lens.focal_px;
    let [cx, cy] = lens.centre_px;
    let inverse = Matrix3::new(1.0 / fx, 0.0, -cx / fx, 0.0, 1.0 / fy, -cy / fy, 0.0, 0.0, 1.0);
    let h = inverse * matrix;
    let size = (h.column(0).norm() * h.column(1).norm()).sqrt();
    // The target lies before the camera.
    let h = h / if h[(2, 2)] < 0.0 { -size } else { size };
    let (a, b) = (h.column(0).into_owned(), h.column(1).into_owned());
    let rough = Matrix3::from_columns(&[a, b, a.cross(&b)]);
    let vector = Rotation3::from_matrix(&rough).scaled_axis();
    [vector.x, vector.y, vector.z, h[(0, 2)], h[(1, 2)], h[(2, 2)]]
}

fn numbers(lens: &Lens, poses: &[[f64; POSE_NUMBERS]]) -> DVector<f64> {
    let lens = [lens.focal_px, lens.centre_px, lens.radial, lens.tangential];
    let all = lens.iter().flatten().chain(poses.iter().flatten());
    DVector::from_iterator(LENS_NUMBERS + poses.len() * POSE_NUMBERS, all.copied())
}

/// What is minimised: the numbers of lens and poses, and all corners.
struct Problem<'v> {
    views: &'v [View],
    numbers: DVector<f64>,
}

impl Problem<'_> {
    fn lens(&self) -> Lens {
        let n = &self.numbers;
        Lens {
            focal_px: [n[0], n[1]],
            centre_px: [n[2], n[3]],
            radial: [n[4], n[5]],
            tangential: [n[6], n[7]],
        }
    }

    fn pose(&self, view: usize) -> (Rotation3<f64>, Vector3<f64>, Vector3<f64>) {
        let at = LENS_NUMBERS + view * POSE_NUMBERS;
        let n = &self.numbers;
        let axis = Vector3::new(n[at], n[at + 1], n[at + 2]);
        let place = Vector3::new(n[at + 3], n[at + 4], n[at + 5]);
        (Rotation3::from_scaled_axis(axis), axis, place)
    }

    fn rows(&self) -> usize {
        2 * self.views.iter().map(|view| view.matches.len()).sum::<usize>()
    }

    /// Computed minus seen, across and down for each corner.
    fn misses(&self) -> DVector<f64> {
        let lens = self.lens();
        let mut misses = Vec::with_capacity(self.rows());
        for (at, view) in self.views.iter().enumerate() {
            let (rotation, _, place) = self.pose(at);
            for one in &view.matches {
                let [x, y] = one.board_mm;
                let p = rotation * Vector3::new(x, y, 0.0) + place;
                let pixel = lens.project([p.x / p.z, p.y / p.z]);
                misses.extend([pixel[0] - one.pixel[0], pixel[1] - one.pixel[1]]);
            }
        }
        DVector::from_vec(misses)
    }

    fn derivatives(&self) -> DMatrix<f64> {
        let lens = self.lens();
        let mut out = DMatrix::zeros(self.rows(), self.numbers.len());
        let mut row = 0;
        for (at, view) in self.views.iter().enumerate() {
            let (rotation, axis, place) = self.pose(at);
            let turning = left_jacobian(&axis);
            let column = LENS_NUMBERS + at * POSE_NUMBERS;
            for one in &view.matches {
                let [x, y] = one.board_mm;
                let turned = rotation * Vector3::new(x, y, 0.0);
                let p = turned + place;
                let point = [p.x / p.z, p.y / p.z];
                lens_derivatives(&lens, point, &mut out, row);
                let bend = lens.bend_derivative(point);
                let by_turning = -turned.cross_matrix() * turning;
                for (line, slopes) in bend.iter().enumerate() {
                    let focal = lens.focal_px[line];
                    // By the point's place: through the division by its distance.
                    let by_place = Vector3::new(
                        slopes[0],
                        slopes[1],
                        -(slopes[0] * point[0] + slopes[1] * point[1]),
                    ) * (focal / p.z);
                    let by_axis = by_turning.tr_mul(&by_place);
                    for k in 0..3 {
                        out[(row + line, column + k)] = by_axis[k];
                        out[(row + line, column + 3 + k)] = by_place[k];
                    }
                }
                row += 2;
            }
        }
        out
    }
}

/// Derivatives of one corner's pixel by the numbers of the lens.
fn lens_derivatives(lens: &Lens, point: [f64; 2], out: &mut DMatrix<f64>, row: usize) {
    let [x, y] = point;
    let [fx, fy] = lens.focal_px;
    let r2 = x * x + y * y;
    let bent = lens.bend(point);
    out[(row, 0)] = bent[0];
    out[(row + 1, 1)] = bent[1];
    out[(row, 2)] = 1.0;
    out[(row + 1, 3)] = 1.0;
    out[(row, 4)] = fx * x * r2;
    out[(row + 1, 4)] = fy * y * r2;
    out[(row, 5)] = fx * x * r2 * r2;
    out[(row + 1, 5)] = fy * y * r2 * r2;
    out[(row, 6)] = fx * 2.0 * x * y;
    out[(row + 1, 6)] = fy * (r2 + 2.0 * y * y);
    out[(row, 7)] = fx * (r2 + 2.0 * x * x);
    out[(row + 1, 7)] = fy * 2.0 * x * y;
}

/// What a change of the rotation vector turns by: the left Jacobian of the rotations.
fn left_jacobian(axis: &Vector3<f64>) -> Matrix3<f64> {
    let angle = axis.norm();
    let cross = axis.cross_matrix();
    if angle < 1e-8 {
        return Matrix3::identity() + cross * 0.5;
    }
    let square = angle * angle;
    Matrix3::identity()
        + cross * ((1.0 - angle.cos()) / square)
        + cross * cross * ((angle - angle.sin()) / (square * angle))
}

impl LeastSquaresProblem<f64, Dyn, Dyn> for Problem<'_> {
    type ParameterStorage = Owned<f64, Dyn>;
    type ResidualStorage = Owned<f64, Dyn>;
    type JacobianStorage = Owned<f64, Dyn, Dyn>;

    fn set_params(&mut self, numbers: &DVector<f64>) {
        self.numbers.copy_from(numbers);
    }

    fn params(&self) -> DVector<f64> {
        self.numbers.clone()
    }

    fn residuals(&self) -> Option<DVector<f64>> {
        Some(self.misses())
    }

    fn jacobian(&self) -> Option<DMatrix<f64>> {
        Some(self.derivatives())
    }
}

/// What the errors of the lens do to lengths, over the whole frame: their covariance through the
/// derivatives of the local scale.
fn scale_deviation(
    problem: &Problem<'_>,
    covariance: &DMatrix<f64>,
    frame_px: [u32; 2],
) -> Option<f64> {
    let at = |pixel: [f64; 2]| {
        let mut gradient = [0.0; LENS_NUMBERS];
        for (number, slope) in gradient.iter_mut().enumerate() {
            // Small against a deviation, and large against rounding.
            let step = 1e-2 * covariance[(number, number)].sqrt().max(1e-12);
            let moved = |by: f64| {
                let mut numbers = problem.numbers.clone();
                numbers[number] += by;
                Problem { views: &[], numbers }.lens().log_scale(pixel)
            };
            *slope = (moved(step)? - moved(-step)?) / (2.0 * step);
        }
        let terms = (0..LENS_NUMBERS).flat_map(|i| (0..LENS_NUMBERS).map(move |j| (i, j)));
        let variance: f64 =
            terms.map(|(i, j)| gradient[i] * covariance[(i, j)] * gradient[j]).sum();
        variance.is_finite().then(|| variance.max(0.0).sqrt())
    };
    plane::places(frame_px).map(at).try_fold(0.0f64, |worst, one| Some(worst.max(one?)))
}

fn view_rms(problem: &Problem<'_>, misses: &DVector<f64>) -> Vec<f64> {
    let mut from = 0;
    let mut all = Vec::new();
    for view in problem.views {
        let part = misses.rows(from, 2 * view.matches.len());
        all.push((part.norm_squared() / view.matches.len() as f64).sqrt());
        from += part.len();
    }
    all
}

/// The largest angle between the planes of two views.
fn largest_tilt(problem: &Problem<'_>) -> f64 {
    let normals: Vec<Vector3<f64>> =
        (0..problem.views.len()).map(|view| problem.pose(view).0 * Vector3::z()).collect();
    let angle = |a: &Vector3<f64>, b: &Vector3<f64>| a.angle(b).to_degrees();
    let pairs = normals.iter().flat_map(|a| normals.iter().map(move |b| angle(a, b)));
    pairs.fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lens() -> Lens {
        Lens {
            focal_px: [900.0, 905.0],
            centre_px: [400.0, 310.0],
            radial: [-0.2, 0.05],
            tangential: [0.001, -0.002],
        }
    }

    fn view(tilt: [f64; 3]) -> View {
        let rotation = Rotation3::from_scaled_axis(Vector3::from(tilt));
        let place = Vector3::new(-40.0, -30.0, 300.0);
        let corners = (0..9).flat_map(|x| (0..7).map(move |y| [f64::from(x), f64::from(y)]));
        let see = |at: [f64; 2]| {
            let board_mm = [at[0] * 10.0, at[1] * 10.0];
            let p = rotation * Vector3::new(board_mm[0], board_mm[1], 0.0) + place;
            Match { board_mm, pixel: lens().project([p.x / p.z, p.y / p.z]) }
        };
        View { name: format!("{tilt:?}"), matches: corners.map(see).collect() }
    }

    const TILTS: [[f64; 3]; 6] = [
        [0.5, 0.0, 0.1],
        [-0.5, 0.1, 0.0],
        [0.0, 0.5, 0.3],
        [0.1, -0.5, 0.0],
        [0.3, 0.4, 1.2],
        [0.0, 0.0, 0.0],
    ];

    #[test]
    fn without_noise_the_lens_is_found_to_the_last_digits() {
        let views: Vec<View> = TILTS.iter().map(|tilt| view(*tilt)).collect();
        let solved = solve(&views, [800, 600], 1.0).expect("solved");
        assert!(solved.rms_px < 1e-6, "{solved:?}");
        assert!((solved.lens.focal_px[0] - 900.0).abs() < 1e-3, "{solved:?}");
        assert!((solved.lens.radial[1] - 0.05).abs() < 1e-5, "{solved:?}");
        assert!((solved.lens.tangential[1] + 0.002).abs() < 1e-6, "{solved:?}");
    }

    #[test]
    fn the_derivatives_are_those_of_the_misses() {
        let views: Vec<View> = TILTS.iter().map(|tilt| view(*tilt)).collect();
        let poses = [[0.3, -0.2, 0.4, -30.0, -20.0, 250.0]; 6];
        let problem = Problem { views: &views, numbers: numbers(&lens(), &poses) };
        let derivatives = problem.derivatives();
        for number in 0..LENS_NUMBERS + POSE_NUMBERS {
            let step = 1e-6 * problem.numbers[number].abs().max(0.01);
            let moved = |by: f64| {
                let mut numbers = problem.numbers.clone();
                numbers[number] += by;
                Problem { views: &views, numbers }.misses()
            };
            let slope = (moved(step) - moved(-step)) / (2.0 * step);
            let worst = (slope - derivatives.column(number)).amax();
            assert!(worst < 1e-3 * derivatives.column(number).amax(), "{number}: {worst}");
        }
    }

    #[test]
    fn views_that_cannot_tell_a_focal_length_are_refused() {
        let same: Vec<View> = (0..6).map(|_| view([0.3, 0.1, 0.0])).collect();
        let why = solve(&same, [800, 600], 1.0).expect_err("all the same");
        assert!(matches!(why, CalibrationError::Poses { .. }), "{why}");
        let flat: Vec<View> = (0..6).map(|at| view([0.0, 0.0, f64::from(at) * 0.2])).collect();
        let why = solve(&flat, [800, 600], 1.0).expect_err("none is tilted");
        assert!(
            matches!(why, CalibrationError::Poses { .. } | CalibrationError::Focal { .. }),
            "{why}"
        );
        let why = solve(&same[..1], [800, 600], 1.0).expect_err("one picture").to_string();
        assert!(why.contains('1') && why.contains('5'), "{why}");
    }
}
