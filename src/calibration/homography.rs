//! Plane to plane: fitted to matched points, and what its errors do to lengths.

use nalgebra::{DMatrix, DVector, Matrix2, Matrix3, Vector3};

use super::CalibrationError;

/// A point of one plane and where it was seen in another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Match {
    /// On the target, in millimetres.
    pub board_mm: [f64; 2],
    /// In the picture, in pixels; the centre of the upper left pixel is (0, 0).
    pub pixel: [f64; 2],
}

/// Fewest matches: four determine a homography, more say how good it is.
pub const MATCHES_MIN: usize = 12;
/// Refinements of the fit. It is nearly right before the first.
const REFINEMENTS: usize = 8;

/// A homography with what is known of its errors.
#[derive(Clone, Debug, PartialEq)]
pub struct Homography {
    /// Target to picture; the last element is 1.
    pub matrix: Matrix3<f64>,
    /// Covariance of the first eight elements, row by row.
    pub covariance: DMatrix<f64>,
    /// Root mean square of the distances between what was seen and what the fit says, in pixels.
    pub rms_px: f64,
}

/// Where a homography takes a point.
pub fn apply(matrix: &Matrix3<f64>, [x, y]: [f64; 2]) -> [f64; 2] {
    let point = matrix * Vector3::new(x, y, 1.0);
    [point.x / point.z, point.y / point.z]
}

/// The derivative of [`apply`] at a point.
pub fn derivative(matrix: &Matrix3<f64>, at: [f64; 2]) -> Matrix2<f64> {
    let point = matrix * Vector3::new(at[0], at[1], 1.0);
    let (u, v, w) = (point.x / point.z, point.y / point.z, point.z);
    let m = matrix;
    Matrix2::new(
        (m[(0, 0)] - u * m[(2, 0)]) / w,
        (m[(0, 1)] - u * m[(2, 1)]) / w,
        (m[(1, 0)] - v * m[(2, 0)]) / w,
        (m[(1, 1)] - v * m[(2, 1)]) / w,
    )
}

/// The homography that takes the matches' points of the target nearest to their pixels.
///
/// # Errors
/// [`CalibrationError::Degenerate`] for fewer than [`MATCHES_MIN`], or points on one line.
pub fn fit(matches: &[Match]) -> Result<Homography, CalibrationError> {
    if matches.len() < MATCHES_MIN {
        return Err(CalibrationError::Degenerate);
    }
    let mut matrix = direct(matches).ok_or(CalibrationError::Degenerate)?;
    for _ in 0..REFINEMENTS {
        let (jacobian, misses) = linearised(&matrix, matches);
        let normal = jacobian.tr_mul(&jacobian);
        let step = normal.cholesky().ok_or(CalibrationError::Degenerate)?;
        let step = step.solve(&jacobian.tr_mul(&misses));
        (0..8).for_each(|at| matrix[(at / 3, at % 3)] -= step[at]);
    }
    let (jacobian, misses) = linearised(&matrix, matches);
    let freedom = (2 * matches.len() - 8) as f64;
    let variance = misses.norm_squared() / freedom;
    let inverse = jacobian.tr_mul(&jacobian).try_inverse().ok_or(CalibrationError::Degenerate)?;
    let rms_px = (misses.norm_squared() / matches.len() as f64).sqrt();
    let is_good = matrix.iter().all(|number| number.is_finite()) && rms_px.is_finite();
    let found = Homography { matrix, covariance: inverse * variance, rms_px };
    is_good.then_some(found).ok_or(CalibrationError::Degenerate)
}

/// The direct linear solution, with both point sets brought to a common size first (Hartley).
fn direct(matches: &[Match]) -> Option<Matrix3<f64>> {
    let from = normaliser(matches.iter().map(|one| one.board_mm))?;
    let to = normaliser(matches.iter().map(|one| one.pixel))?;
    let mut squared = DMatrix::<f64>::zeros(9, 9);
    for one in matches {
        let [x, y] = apply(&from, one.board_mm);
        let [u, v] = apply(&to, one.pixel);
        let rows = [
            [-x, -y, -1.0, 0.0, 0.0, 0.0, u * x, u * y, u],
            [0.0, 0.0, 0.0, -x, -y, -1.0, v * x, v * y, v],
        ];
        for row in rows {
            let row = DVector::from_row_slice(&row);
            squared += &row * row.transpose();
        }
    }
    let eigen = squared.symmetric_eigen();
    let mut order: Vec<usize> = (0..9).collect();
    order.sort_by(|a, b| eigen.eigenvalues[*a].total_cmp(&eigen.eigenvalues[*b]));
    // A second direction without error: the points lie on one line.
    if eigen.eigenvalues[order[1]] < 1e-9 * eigen.eigenvalues[order[8]] {
        return None;
    }
    let least = eigen.eigenvectors.column(order[0]);
    let found = Matrix3::from_row_iterator(least.iter().copied());
    let matrix = to.try_inverse()? * found * from;
    let last = matrix[(2, 2)];
    (last.abs() > f64::EPSILON).then(|| matrix / last)
}

/// Moves points to their centre and scales them to a mean distance of √2.
fn normaliser(points: impl Iterator<Item = [f64; 2]> + Clone) -> Option<Matrix3<f64>> {
    let count = points.clone().count() as f64;
    let sum = points.clone().fold([0.0, 0.0], |sum, p| [sum[0] + p[0], sum[1] + p[1]]);
    let centre = [sum[0] / count, sum[1] / count];
    let spread: f64 =
        points.map(|p| (p[0] - centre[0]).hypot(p[1] - centre[1])).sum::<f64>() / count;
    if !(spread.is_finite() && spread > 0.0) {
        return None;
    }
    let s = std::f64::consts::SQRT_2 / spread;
    Some(Matrix3::new(s, 0.0, -s * centre[0], 0.0, s, -s * centre[1], 0.0, 0.0, 1.0))
}

/// Derivatives of the pixels by the first eight elements, and fit minus seen.
fn linearised(matrix: &Matrix3<f64>, matches: &[Match]) -> (DMatrix<f64>, DVector<f64>) {
    let mut jacobian = DMatrix::zeros(2 * matches.len(), 8);
    let mut misses = DVector::zeros(2 * matches.len());
    for (at, one) in matches.iter().enumerate() {
        let [x, y] = one.board_mm;
        let w = matrix[(2, 0)] * x + matrix[(2, 1)] * y + matrix[(2, 2)];
        let [u, v] = apply(matrix, one.board_mm);
        let across = [x / w, y / w, 1.0 / w, 0.0, 0.0, 0.0, -u * x / w, -u * y / w];
        let down = [0.0, 0.0, 0.0, x / w, y / w, 1.0 / w, -v * x / w, -v * y / w];
        for element in 0..8 {
            jacobian[(2 * at, element)] = across[element];
            jacobian[(2 * at + 1, element)] = down[element];
        }
        misses[2 * at] = u - one.pixel[0];
        misses[2 * at + 1] = v - one.pixel[1];
    }
    (jacobian, misses)
}

impl Homography {
    /// The share by which lengths at `pixel` may be wrong (one standard deviation), from the errors
    /// of the fit alone.
    pub fn scale_deviation(&self, pixel: [f64; 2]) -> Option<f64> {
        let mut gradient = DVector::zeros(8);
        for element in 0..8 {
            let place = (element / 3, element % 3);
            // A thousandth of a standard deviation: small against what bends, large against rounding.
            let step = 1e-3 * self.covariance[(element, element)].sqrt().max(1e-12);
            let at = |by: f64| {
                let mut moved = self.matrix;
                moved[place] += by;
                log_scale(&moved, pixel)
            };
            gradient[element] = (at(step)? - at(-step)?) / (2.0 * step);
        }
        let variance = (gradient.transpose() * &self.covariance * &gradient)[(0, 0)];
        variance.is_finite().then(|| variance.max(0.0).sqrt())
    }
}

/// Logarithm of pixels in a millimetre at a pixel, as a geometric mean over the directions.
pub fn log_scale(matrix: &Matrix3<f64>, pixel: [f64; 2]) -> Option<f64> {
    let board = apply(&matrix.try_inverse()?, pixel);
    let determinant = derivative(matrix, board).determinant().abs();
    (determinant.is_finite() && determinant > 0.0).then(|| 0.5 * determinant.ln())
}
