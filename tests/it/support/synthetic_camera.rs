//! A camera of which everything is known: lens, distortion, vignetting, noise, and where the target is.
//!
//! It shares no line with what it tests: the lens is bent by its own formula, rays are straightened by
//! repetition instead of Newton's steps, and each pixel is the mean of 9 rays.

use std::sync::OnceLock;

use inspectd::frame::Rgb8;
use rand::Rng;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

/// Rays along each side of a pixel.
const RAYS: usize = 3;
/// Light of the ground, the white and the black of the target.
const LEVELS: [f64; 3] = [95.0, 205.0, 25.0];
/// White around the squares, in millimetres.
const RIM_MM: f64 = 15.0;

/// What is true of the camera.
#[derive(Clone, Debug)]
pub struct Truth {
    pub size: [usize; 2],
    pub focal: [f64; 2],
    pub centre: [f64; 2],
    /// k1, k2, p1, p2.
    pub distortion: [f64; 4],
    /// Share of the light that is missing in the farthest corner, for red, green and blue.
    pub falloff: [f64; 3],
    /// Added to each value.
    pub dark: f64,
    /// Standard deviation of the noise, in values of 255.
    pub noise: f64,
}

/// A pose of a plane: rotation and place, in millimetres.
#[derive(Clone, Copy, Debug)]
pub struct Pose {
    pub rotation: [[f64; 3]; 3],
    pub place: [f64; 3],
}

impl Pose {
    /// Tilted around x, then y, then turned in its plane, by degrees; the plane's point `mm` lies on the
    /// axis at this distance.
    pub fn tilted(degrees: [f64; 3], mm: [f64; 2], distance_mm: f64) -> Pose {
        let [a, b, c] = degrees.map(f64::to_radians);
        let x = [[1.0, 0.0, 0.0], [0.0, a.cos(), -a.sin()], [0.0, a.sin(), a.cos()]];
        let y = [[b.cos(), 0.0, b.sin()], [0.0, 1.0, 0.0], [-b.sin(), 0.0, b.cos()]];
        let z = [[c.cos(), -c.sin(), 0.0], [c.sin(), c.cos(), 0.0], [0.0, 0.0, 1.0]];
        let rotation = product(&product(&x, &y), &z);
        let at = |row: usize| rotation[row][0] * mm[0] + rotation[row][1] * mm[1];
        Pose { rotation, place: [-at(0), -at(1), distance_mm - at(2)] }
    }

    /// The plane's point, in millimetres, that a ray through (x, y, 1) meets.
    fn meet(&self, [x, y]: [f64; 2]) -> Option<[f64; 2]> {
        // normal · (s ray - place) = 0
        let normal = self.rotation.map(|row| row[2]);
        let ray = [x, y, 1.0];
        let dot = |a: [f64; 3], b: [f64; 3]| a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
        let along = dot(normal, self.place) / dot(normal, ray);
        if !(along.is_finite() && along > 0.0) {
            return None;
        }
        let from: [f64; 3] = std::array::from_fn(|i| along * ray[i] - self.place[i]);
        let on = |axis: usize| (0..3).map(|row| self.rotation[row][axis] * from[row]).sum::<f64>();
        Some([on(0), on(1)])
    }
}

fn product(a: &[[f64; 3]; 3], b: &[[f64; 3]; 3]) -> [[f64; 3]; 3] {
    std::array::from_fn(|i| std::array::from_fn(|j| (0..3).map(|k| a[i][k] * b[k][j]).sum()))
}

/// A camera that can take pictures.
pub struct SyntheticCamera {
    pub truth: Truth,
    /// The straightened ray of each part of a pixel, row by row; made when they are first needed.
    rays: OnceLock<Vec<[f32; 2]>>,
}

impl SyntheticCamera {
    pub fn new(truth: Truth) -> SyntheticCamera {
        SyntheticCamera { truth, rays: OnceLock::new() }
    }

    fn rays(&self) -> &[[f32; 2]] {
        let [width, height] = self.truth.size;
        let across = width * RAYS;
        // The centre of pixel 0 is 0, its left edge -0.5.
        let at = |ray: usize| (ray as f64 + 0.5) / RAYS as f64 - 0.5;
        let line = |row: usize| {
            let ray = move |column| self.truth.ray([at(column), at(row)]).map(|x| x as f32);
            (0..across).map(ray)
        };
        self.rays.get_or_init(|| (0..height * RAYS).into_par_iter().flat_map_iter(line).collect())
    }

    /// A picture of a target of `columns` x `rows` squares of `square_mm`, its first corner at (0, 0).
    pub fn target(&self, pose: &Pose, columns: u32, rows: u32, square_mm: f64, seed: u64) -> Rgb8 {
        let (w, h) = (f64::from(columns) * square_mm, f64::from(rows) * square_mm);
        self.picture(seed, |ray| {
            let Some([x, y]) = pose.meet(ray) else { return LEVELS[0] };
            let within = |rim: f64| (-rim..w + rim).contains(&x) && (-rim..h + rim).contains(&y);
            let odd = ((x / square_mm).floor() + (y / square_mm).floor()).rem_euclid(2.0) > 0.5;
            match (within(0.0), within(RIM_MM)) {
                (true, _) if !odd => LEVELS[2],
                (_, true) => LEVELS[1],
                _ => LEVELS[0],
            }
        })
    }

    /// A picture of light that is `level` everywhere.
    pub fn even(&self, level: f64, seed: u64) -> Rgb8 {
        self.shaded(seed, |_, _| level)
    }

    /// A picture of what `light` says of each straightened ray.
    pub fn picture(&self, seed: u64, light: impl Fn([f64; 2]) -> f64 + Sync) -> Rgb8 {
        let (across, rays) = (self.truth.size[0] * RAYS, self.rays());
        self.shaded(seed, |x, y| {
            let ray = |i: usize| {
                let at = (y * RAYS + i / RAYS) * across + x * RAYS + i % RAYS;
                light(rays[at].map(f64::from))
            };
            // Where all corners of a pixel are alike, so is what lies between: that saves most rays.
            let corners = [0, RAYS - 1, RAYS * (RAYS - 1), RAYS * RAYS - 1].map(ray);
            match corners.iter().all(|light| *light == corners[0]) {
                true => corners[0],
                false => (0..RAYS * RAYS).map(ray).sum::<f64>() / (RAYS * RAYS) as f64,
            }
        })
    }

    /// A picture of the light that falls on each pixel, without vignetting, darkness and noise.
    pub fn shaded(&self, seed: u64, light_of: impl Fn(usize, usize) -> f64 + Sync) -> Rgb8 {
        let [width, height] = self.truth.size;
        let mut picture = Rgb8::new(width as u32, height as u32);
        picture.data.par_chunks_exact_mut(width * 3).enumerate().for_each(|(y, line)| {
            let mut random = ChaCha8Rng::seed_from_u64(seed ^ ((y as u64) << 32));
            for (x, pixel) in line.chunks_exact_mut(3).enumerate() {
                let clean = light_of(x, y);
                for (channel, value) in pixel.iter_mut().enumerate() {
                    // Three even draws make nearly a bell, with a deviation of 1.
                    let bell = (0..3).map(|_| random.random::<f64>()).sum::<f64>() * 2.0 - 3.0;
                    let lit = clean * self.truth.light([x as f64, y as f64], channel);
                    *value = (lit + self.truth.dark + bell * self.truth.noise).round() as u8;
                }
            }
        });
        picture
    }
}

impl Truth {
    /// Where the camera sees a straight ray, in pixels.
    pub fn pixel(&self, [x, y]: [f64; 2]) -> [f64; 2] {
        let [k1, k2, p1, p2] = self.distortion;
        let r2 = x * x + y * y;
        let factor = 1.0 + k1 * r2 + k2 * r2 * r2;
        let bent = [
            factor * x + 2.0 * p1 * x * y + p2 * (r2 + 2.0 * x * x),
            factor * y + 2.0 * p2 * x * y + p1 * (r2 + 2.0 * y * y),
        ];
        std::array::from_fn(|i| self.focal[i] * bent[i] + self.centre[i])
    }

    /// The straight ray of a pixel: what is missing is added until nothing is.
    pub fn ray(&self, pixel: [f64; 2]) -> [f64; 2] {
        let mut ray: [f64; 2] =
            std::array::from_fn(|i| (pixel[i] - self.centre[i]) / self.focal[i]);
        for _ in 0..40 {
            let seen = self.pixel(ray);
            let missing: [f64; 2] = std::array::from_fn(|i| (pixel[i] - seen[i]) / self.focal[i]);
            (0..2).for_each(|i| ray[i] += missing[i]);
            if missing[0].abs() + missing[1].abs() < 1e-9 {
                break;
            }
        }
        ray
    }

    /// The plane's point, in millimetres, that a pixel shows.
    pub fn on_plane(&self, pose: &Pose, pixel: [f64; 2]) -> Option<[f64; 2]> {
        pose.meet(self.ray(pixel))
    }

    /// The share of the light that reaches a pixel: less with the square of the distance.
    pub fn light(&self, pixel: [f64; 2], channel: usize) -> f64 {
        let middle = self.size.map(|side| (side as f64 - 1.0) / 2.0);
        let far2 = middle[0].powi(2) + middle[1].powi(2);
        let own2 = (pixel[0] - middle[0]).powi(2) + (pixel[1] - middle[1]).powi(2);
        1.0 - self.falloff[channel] * own2 / far2
    }
}
