//! The lens: a pinhole with two radial and two tangential terms, after Brown and Conrady.
//!
//! Pixels are counted as everywhere in computer vision: the centre of the upper left one is (0, 0).
//! A point (x, y) of the plane one focal length before the camera is bent to
//!
//! ```text
//! r² = x² + y²          radial = 1 + k1 r² + k2 r⁴
//! x' = x radial + 2 p1 x y + p2 (r² + 2 x²)
//! y' = y radial + p1 (r² + 2 y²) + 2 p2 x y
//! pixel = (fx x' + cx, fy y' + cy)
//! ```
//!
//! A third radial term is left out: pictures of a flat target in a factory determine it badly, and a
//! term that is determined badly bends the corners of the frame.

use serde::{Deserialize, Serialize};

/// Steps of the inversion; each gains several digits.
const NEWTON_STEPS: usize = 30;
/// The inversion has succeeded below this distance, in focal lengths: a millionth of a pixel.
const NEWTON_GOAL: f64 = 1e-10;

/// What a lens does to a picture.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lens {
    /// Focal length across and down, in pixels.
    pub focal_px: [f64; 2],
    /// Where the optical axis meets the picture, in pixels.
    pub centre_px: [f64; 2],
    /// k1 and k2: negative ones make a barrel.
    pub radial: [f64; 2],
    /// p1 and p2: a lens that is not parallel to the sensor.
    pub tangential: [f64; 2],
}

impl Lens {
    /// A pinhole without distortion, its axis through the centre of the frame.
    pub fn pinhole(focal_px: f64, frame_px: [u32; 2]) -> Lens {
        Lens {
            focal_px: [focal_px; 2],
            centre_px: frame_px.map(|side| (f64::from(side) - 1.0) / 2.0),
            radial: [0.0; 2],
            tangential: [0.0; 2],
        }
    }

    /// Bends a point of the plane one focal length away.
    pub fn bend(&self, [x, y]: [f64; 2]) -> [f64; 2] {
        let ([k1, k2], [p1, p2]) = (self.radial, self.tangential);
        let r2 = x * x + y * y;
        let radial = 1.0 + r2 * (k1 + r2 * k2);
        [
            x * radial + 2.0 * p1 * x * y + p2 * (r2 + 2.0 * x * x),
            y * radial + p1 * (r2 + 2.0 * y * y) + 2.0 * p2 * x * y,
        ]
    }

    /// The derivative of [`Lens::bend`], row by row.
    pub fn bend_derivative(&self, [x, y]: [f64; 2]) -> [[f64; 2]; 2] {
        let ([k1, k2], [p1, p2]) = (self.radial, self.tangential);
        let r2 = x * x + y * y;
        let radial = 1.0 + r2 * (k1 + r2 * k2);
        let slope = 2.0 * (k1 + 2.0 * k2 * r2);
        let mixed = x * y * slope + 2.0 * (p1 * x + p2 * y);
        [
            [radial + x * x * slope + 2.0 * p1 * y + 6.0 * p2 * x, mixed],
            [mixed, radial + y * y * slope + 6.0 * p1 * y + 2.0 * p2 * x],
        ]
    }

    /// The pixel at which the camera sees a point of the plane one focal length away.
    pub fn project(&self, point: [f64; 2]) -> [f64; 2] {
        self.to_pixels(self.bend(point))
    }

    /// The pixel at which a pinhole of the same focal length would see it.
    pub fn to_pixels(&self, [x, y]: [f64; 2]) -> [f64; 2] {
        [self.focal_px[0] * x + self.centre_px[0], self.focal_px[1] * y + self.centre_px[1]]
    }

    /// The point that a pinhole of the same focal length sees at a pixel.
    pub fn from_pixels(&self, [u, v]: [f64; 2]) -> [f64; 2] {
        [(u - self.centre_px[0]) / self.focal_px[0], (v - self.centre_px[1]) / self.focal_px[1]]
    }

    /// Logarithm of the camera's pixels in one of the straightened picture, as a geometric mean over the
    /// directions, at a pixel of the camera's; `None` as [`Lens::straighten`].
    pub fn log_scale(&self, pixel: [f64; 2]) -> Option<f64> {
        let point = self.from_pixels(self.straighten(pixel)?);
        let [[a, b], [c, d]] = self.bend_derivative(point);
        let determinant = (a * d - b * c).abs();
        (determinant > 0.0).then(|| 0.5 * determinant.ln())
    }

    /// The pixel of the straightened picture that belongs to a pixel of the camera's; `None` where the
    /// model has no answer, far outside of what it was measured for.
    pub fn straighten(&self, pixel: [f64; 2]) -> Option<[f64; 2]> {
        let goal = self.from_pixels(pixel);
        let mut point = goal;
        for _ in 0..NEWTON_STEPS {
            let bent = self.bend(point);
            let miss = [bent[0] - goal[0], bent[1] - goal[1]];
            if miss[0].hypot(miss[1]) < NEWTON_GOAL {
                return self.is_faithful(point).then(|| self.to_pixels(point));
            }
            let [[a, b], [c, d]] = self.bend_derivative(point);
            let determinant = a * d - b * c;
            point[0] -= (d * miss[0] - b * miss[1]) / determinant;
            point[1] -= (a * miss[1] - c * miss[0]) / determinant;
        }
        None
    }

    /// The camera's pixel that a pixel of the straightened picture shows; `None` beyond the circle in
    /// which the model is faithful: there it would show parts of the picture a second time.
    pub fn source(&self, pixel: [f64; 2]) -> Option<[f64; 2]> {
        let point = self.from_pixels(pixel);
        self.is_faithful(point).then(|| self.project(point))
    }

    /// Whether moving outwards still moves outwards in the picture, from the axis to this point.
    fn is_faithful(&self, [x, y]: [f64; 2]) -> bool {
        let [k1, k2] = self.radial;
        let r2 = x * x + y * y;
        // d/dr of r (1 + k1 r² + k2 r⁴), at the end and where it is least between.
        let slope = |r2: f64| 1.0 + 3.0 * k1 * r2 + 5.0 * k2 * r2 * r2;
        let least = if k2 == 0.0 { r2 } else { (-0.3 * k1 / k2).clamp(0.0, r2) };
        r2.is_finite() && slope(r2) > 0.0 && slope(least) > 0.0
    }

    /// Whether the numbers can be those of a lens: finite, and a focal length above nothing.
    pub fn is_sane(&self) -> bool {
        let all = [self.focal_px, self.centre_px, self.radial, self.tangential];
        all.iter().flatten().all(|number| number.is_finite())
            && self.focal_px.iter().all(|f| *f > 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENS: Lens = Lens {
        focal_px: [800.0, 805.0],
        centre_px: [410.0, 290.0],
        radial: [-0.25, 0.08],
        tangential: [0.001, -0.0007],
    };

    #[test]
    fn what_is_bent_is_straightened() {
        for pixel in [[0.0, 0.0], [410.0, 290.0], [799.0, 599.0], [100.0, 590.0]] {
            let straight = LENS.straighten(pixel).expect("within the frame");
            let back = LENS.source(straight).expect("within the frame");
            let miss = (back[0] - pixel[0]).hypot(back[1] - pixel[1]);
            assert!(miss < 1e-6, "{pixel:?} {back:?}");
        }
    }

    #[test]
    fn the_derivative_is_that_of_the_function() {
        let (at, step) = ([0.31, -0.22], 1e-6);
        let derivative = LENS.bend_derivative(at);
        for (axis, moved) in [[at[0] + step, at[1]], [at[0], at[1] + step]].iter().enumerate() {
            let (far, near) = (LENS.bend(*moved), LENS.bend(at));
            for row in 0..2 {
                let slope = (far[row] - near[row]) / step;
                assert!((slope - derivative[row][axis]).abs() < 1e-5, "{row} {axis}");
            }
        }
    }

    #[test]
    fn where_the_picture_would_fold_there_is_none() {
        let folding = Lens { radial: [-0.4, 0.0], tangential: [0.0; 2], ..LENS };
        assert!(folding.source(folding.to_pixels([0.5, 0.0])).is_some());
        assert!(folding.source(folding.to_pixels([1.5, 0.0])).is_none(), "beyond the fold");
        assert!(folding.source([f64::NAN, 0.0]).is_none());
    }
}
